//! What the peer's support, or anybody's, need not know: names that have nothing to do with them, who decided, what our own
//! application wrote. What is taken out is listed.

use std::collections::BTreeSet;

use ukai_core::diagnose::evidence::{ControlResult, Evidence};
use ukai_core::event::{Actor, Event, Recorded};
use ukai_core::observe::{AddressResult, Failure};

use super::Saved;

const WITHHELD: &str = "[withheld]";
/// A shorter name would be found inside unrelated words.
const NAME_CHARACTERS_MIN: usize = 3;

/// Names and what stands for them, the same throughout one archive.
#[derive(Debug, Default)]
pub struct Redactor {
    /// Longest first, so that a name that holds another is replaced whole.
    names: Vec<(String, String)>,
    list: BTreeSet<String>,
}

impl Redactor {
    pub fn of(saved: &[Saved], records: &[Recorded]) -> Redactor {
        let mut redactor = Redactor::default();
        let controls: BTreeSet<String> = saved.iter().flat_map(controls).filter_map(|url| host(&url)).collect();
        redactor.replace(controls, "control", "sites that are probed to tell our own fault from the peer's");
        let people: BTreeSet<String> =
            records.iter().flat_map(|record| people(&record.event)).flat_map(|actor| spellings(&actor)).collect();
        redactor.replace(people, "person", "who decided");
        let vantages =
            saved.iter().flat_map(|saved| &saved.evidence.vantages).map(|view| view.vantage.clone()).collect();
        redactor.replace(vantages, "vantage", "names of our other networks");
        redactor.names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        redactor
    }

    fn replace(&mut self, names: BTreeSet<String>, by: &str, what: &str) {
        let names: Vec<String> = names.into_iter().filter(|name| name.chars().count() >= NAME_CHARACTERS_MIN).collect();
        if names.is_empty() {
            return;
        }
        self.list.insert(format!("{} {what}: replaced by {by}-1 to {by}-{}", names.len(), names.len()));
        self.names.extend((1..).zip(names).map(|(number, name)| (name, format!("{by}-{number}"))));
    }

    /// What was taken out, a line each.
    pub fn list(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(String::as_str)
    }

    pub fn note(&mut self, what: impl Into<String>) {
        self.list.insert(what.into());
    }

    pub fn text(&self, text: &str) -> String {
        let mut text = without_queries(text);
        for (name, by) in &self.names {
            text = replace_word(&text, name, by);
        }
        text
    }

    /// The same diagnosis, as it may leave the house. Its verdict is derived anew, so that its sentences say no more.
    pub fn saved(&mut self, mut saved: Saved) -> Saved {
        self.evidence(&mut saved.evidence);
        let history = &mut saved.known.history;
        history.controls = history.controls.iter().map(|control| self.text(control)).collect();
        history.control_issuers = history.control_issuers.iter().map(|issuer| self.text(issuer)).collect();
        let mut withheld = 0;
        for call in &mut saved.known.application {
            if call.error.is_some() {
                call.error = Some(WITHHELD.to_owned());
                withheld += 1;
            }
        }
        if withheld > 0 {
            self.note("what our application wrote about its failed calls: withheld");
        }
        saved.verdict = saved.verdict.is_some().then(|| saved.judge());
        saved
    }

    fn evidence(&mut self, evidence: &mut Evidence) {
        let domains = std::mem::take(&mut evidence.own.search);
        if !domains.is_empty() {
            self.note(format!("{} search domains of our network: replaced by search-1 and so on", domains.len()));
        }
        evidence.own.search = (1..=domains.len()).map(|number| format!("search-{number}")).collect();
        for ControlResult { control, name_failure, address_failure, .. } in &mut evidence.controls {
            *control = self.text(control);
            *name_failure = name_failure.as_deref().map(|text| self.text(text));
            *address_failure = address_failure.as_deref().map(|text| self.text(text));
        }
        for view in &mut evidence.vantages {
            view.vantage = self.text(&view.vantage);
            view.silence = view.silence.as_deref().map(|text| self.text(text));
        }
        let observed = evidence.observations.iter_mut().flat_map(|observation| &mut observation.results);
        let proofs = evidence.candidates.iter_mut().flat_map(|candidate| &mut candidate.proofs);
        let seen = evidence.vantages.iter_mut().flat_map(|view| &mut view.results);
        let results = observed.chain(proofs.chain(seen).map(|proof| &mut proof.result));
        results.for_each(result);
    }
}

fn controls(saved: &Saved) -> BTreeSet<String> {
    let asked = saved.evidence.controls.iter().map(|result| result.control.clone());
    asked.chain(saved.known.history.controls.iter().cloned()).collect()
}

fn host(url: &str) -> Option<String> {
    url::Url::parse(url).ok()?.host_str().map(str::to_owned)
}

fn people(event: &Event) -> Option<Actor> {
    let text = serde_json::to_value(event).ok()?;
    serde_json::from_value(text.get("by")?.clone()).ok()
}

/// As sentences write a person.
fn spellings(actor: &Actor) -> Vec<String> {
    let uid = actor.uid.map(|uid| format!("uid {uid}"));
    // Policy is nobody.
    let is_somebody = actor.via != "policy";
    let name = is_somebody.then(|| actor.name.clone());
    name.into_iter().chain(uid).collect()
}

/// A query may hold a token; where the peer leads with it is its own matter.
fn result(result: &mut AddressResult) {
    if let Some(location) = result.http.as_mut().and_then(|http| http.location.as_mut()) {
        *location = without_queries(location);
    }
    if let Some(Failure { detail, .. }) = &mut result.failure {
        *detail = without_queries(detail);
    }
}

/// Every `?` of a URL takes what follows it, up to the end of the word.
fn without_queries(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_url = false;
    let mut skipping = false;
    for (at, character) in text.char_indices() {
        if character.is_whitespace() || matches!(character, '"' | '\'' | '<' | '>' | ')' | ',' | ';') {
            (in_url, skipping) = (false, false);
        }
        in_url |= text[at..].starts_with("://");
        if in_url && character == '?' && !skipping {
            out.push_str("?[withheld]");
            skipping = true;
        }
        if !skipping {
            out.push(character);
        }
    }
    out
}

/// Whole words only: a name inside another word is another word.
fn replace_word(text: &str, name: &str, by: &str) -> String {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(name) {
        let (before, found) = rest.split_at(at);
        let after = &found[name.len()..];
        let inside =
            before.chars().next_back().or(out.chars().next_back().filter(|_| before.is_empty())).is_some_and(is_word)
                || after.chars().next().is_some_and(is_word);
        out.push_str(before);
        out.push_str(if inside { name } else { by });
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_of_urls_are_taken_out_and_questions_are_not() {
        let text = "it redirects to https://login.test/in?token=abc&x=1, which is not followed. Is it? Yes";
        assert_eq!(
            without_queries(text),
            "it redirects to https://login.test/in?[withheld], which is not followed. Is it? Yes"
        );
    }

    #[test]
    fn only_whole_names_are_replaced() {
        assert_eq!(replace_word("ann asked joann, ann's", "ann", "person-1"), "person-1 asked joann, person-1's");
        assert_eq!(replace_word("annann", "ann", "x"), "annann");
    }
}
