//! Names and what stands for them, the same throughout one archive.

use std::collections::BTreeMap;

/// A shorter name would be found inside unrelated sentences.
const CHARACTERS_MIN: usize = 3;

#[derive(Debug, Clone, Default)]
pub struct Names {
    /// Lower-case host names, addresses and words: each takes the names below it along.
    words: BTreeMap<String, String>,
    /// What is more than one word.
    phrases: Vec<(String, String)>,
}

impl Names {
    pub fn add(&mut self, name: &str, by: String) {
        let name = name.trim_end_matches('.');
        if name.chars().count() < CHARACTERS_MIN {
            return;
        }
        if name.chars().all(is_part) {
            self.words.insert(name.to_ascii_lowercase(), by);
        } else {
            self.phrases.push((name.to_owned(), by));
            // A phrase that holds another is replaced whole.
            self.phrases.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        }
    }

    pub fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (phrase, by) in &self.phrases {
            text = text.replace(phrase, by);
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(start) = rest.find(is_part) {
            let (before, from) = rest.split_at(start);
            let (word, after) = from.split_at(from.find(|c| !is_part(c)).unwrap_or(from.len()));
            out.push_str(before);
            self.hide_word(word, &mut out);
            rest = after;
        }
        out.push_str(rest);
        out
    }

    fn hide_word(&self, word: &str, out: &mut String) {
        let bare = word.trim_end_matches('.');
        let lower = bare.to_ascii_lowercase();
        let below = lower.match_indices('.').map(|(at, _)| at + 1);
        let found = std::iter::once(0).chain(below).find_map(|at| Some((at, self.words.get(lower.get(at..)?)?)));
        match found {
            Some((at, by)) => {
                out.push_str(&bare[..at]);
                out.push_str(by);
                out.push_str(&word[bare.len()..]);
            }
            None => out.push_str(word),
        }
    }

    /// Whether octets that cannot be rewritten, such as a message from the wire, hold one of the names, as text or in labels.
    pub fn are_in(&self, bytes: &[u8]) -> bool {
        let text: String =
            bytes.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' }).collect();
        let lower = text.to_ascii_lowercase();
        self.words.keys().any(|name| lower.contains(name.as_str()))
            || self.phrases.iter().any(|(phrase, _)| lower.contains(&phrase.to_ascii_lowercase()))
    }
}

fn is_part(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '.' | '-' | '_')
}

/// What a URL may carry that is nobody's business: user information and query.
pub fn without_queries(text: &str) -> String {
    let ends_word = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '(' | ')' | ',' | ';');
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.find(ends_word).unwrap_or(rest.len()));
        bare_url(word, &mut out);
        let gap = after.find(|c| !ends_word(c)).unwrap_or(after.len());
        out.push_str(&after[..gap]);
        rest = &after[gap..];
    }
    out
}

fn bare_url(word: &str, out: &mut String) {
    let host = word.find("://").map(|at| at + 3);
    let path = word[host.unwrap_or(0)..].find('/').map(|at| at + host.unwrap_or(0));
    let user_end = host.and_then(|host| Some(host + word[host..path.unwrap_or(word.len())].rfind('@')?));
    let mut shown = word;
    if let (Some(host), Some(end)) = (host, user_end) {
        out.push_str(&word[..host]);
        out.push_str("[withheld]");
        shown = &word[end..];
    }
    // A fragment is kept unless it carries values: a resolver's URI names its certificate in one.
    let carries = |at: usize, mark: char| mark == '?' || shown[at..].contains('=');
    let is_url = host.is_some() || path.is_some();
    let query = shown
        .char_indices()
        .find(|(at, c)| is_url && matches!(c, '?' | '#') && at + 1 < shown.len() && carries(*at, *c));
    match query {
        Some((at, mark)) => {
            out.push_str(&shown[..at]);
            out.push(mark);
            out.push_str("[withheld]");
        }
        None => out.push_str(shown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_user_information_are_taken_out_and_questions_are_not() {
        let shown = |text: &str| without_queries(text);
        assert_eq!(
            shown("it redirects to https://login.test/in?token=abc&x=1, which is not followed. Is it? Yes"),
            "it redirects to https://login.test/in?[withheld], which is not followed. Is it? Yes"
        );
        assert_eq!(shown("https://ann:pw@host.test/x"), "https://[withheld]@host.test/x");
        assert_eq!(shown("(https://ann:p@w@host.test)"), "(https://[withheld]@host.test)");
        assert_eq!(shown("to /in?next=%2Fx now"), "to /in?[withheld] now");
        assert_eq!(shown("https://h.test?a=1"), "https://h.test?[withheld]");
        assert_eq!(shown("https://h.test/#access_token=1"), "https://h.test/#[withheld]");
        assert_eq!(shown("tls://1.1.1.1#one.test and/or?"), "tls://1.1.1.1#one.test and/or?");
    }

    #[test]
    fn whole_names_are_replaced_with_all_that_is_below_them() {
        let mut names = Names::default();
        for (name, by) in
            [("ann", "person-1"), ("corp.test", "search-1"), ("10.0.0.2", "resolver-1"), ("fd00::2", "resolver-2")]
        {
            names.add(name, by.to_owned());
        }
        names.add("a b", "phrase-1".to_owned());
        assert_eq!(names.hide("ann asked joann, Ann's."), "person-1 asked joann, person-1's.");
        assert_eq!(
            names.hide("db.Corp.test. corp.test, xcorp.test corp.test.x"),
            "db.search-1. search-1, xcorp.test corp.test.x"
        );
        assert_eq!(
            names.hide("udp://10.0.0.2:53 110.0.0.2 [fd00::2]:53"),
            "udp://resolver-1:53 110.0.0.2 [resolver-2]:53"
        );
        assert_eq!(names.hide("a b: ü ann"), "phrase-1: ü person-1");
        assert!(names.are_in(b"\x02db\x04CORP\x04test\x00") && names.are_in(b"xx corp.test"));
        assert!(!names.are_in(b"\x04peer\x04test\x00"));
    }
}
