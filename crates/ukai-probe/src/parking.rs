//! Pages of registrars and parking services: an answer that is well and yet not the peer's (catalogue S12).
//!
//! What counts: an HTML or plain-text page that says one of [`PHRASES`], or `HOST is for sale`, in its `title` or first
//! `h1`; or anywhere in its visible text if that is at most [`SHORT_TEXT`] characters long. A long article that merely
//! mentions the words elsewhere does not count, and neither does JSON. A redirect to one of [`SERVICES`] counts too.

use hyper::header::{self, HeaderMap};
use url::Url;

/// Phrases in lower case, with single spaces.
pub const PHRASES: [&str; 27] = [
    "domain is for sale",
    "domain name is for sale",
    "domain may be for sale",
    "domain name may be for sale",
    "domain for sale",
    "buy this domain",
    "purchase this domain",
    "make an offer on this domain",
    "inquire about this domain",
    "interested in this domain?",
    "get this domain",
    "own this domain today",
    "parked free",
    "parked domain",
    "domain is parked",
    "domain has been parked",
    "domain name is parked",
    "domain parking",
    "domain has expired",
    "domain name has expired",
    "domain is expired",
    "domain registration has expired",
    "domain has recently been registered",
    "domain has just been registered",
    "domain is registered at",
    "domain was recently registered",
    "domain is pending renewal",
];

/// Parking and domain-sale services that a parked name redirects to.
pub const SERVICES: [&str; 14] = [
    "above.com",
    "afternic.com",
    "atom.com",
    "bodis.com",
    "dan.com",
    "domainmarket.com",
    "hugedomains.com",
    "parkingcrew.net",
    "parklogic.com",
    "sav.com",
    "sedo.com",
    "sedoparking.com",
    "undeveloped.com",
    "voodoo.com",
];

/// Visible characters of a page that may be judged as a whole; parking pages show little more than a button.
pub const SHORT_TEXT: usize = 1500;
/// Bytes of a page that are looked at; its title lies well within.
pub const PAGE_MAX: usize = 64 * 1024;

/// The phrase that gives a parking page away.
pub fn parked_page(host: &str, headers: &HeaderMap, body: &[u8]) -> Option<String> {
    if !is_page(headers) {
        return None;
    }
    let page = String::from_utf8_lossy(&body[..body.len().min(PAGE_MAX)]).to_lowercase();
    let headline = [element(&page, "title"), element(&page, "h1")]
        .into_iter()
        .flatten()
        .map(visible_text)
        .find_map(|text| phrase_in(&text, host));
    if headline.is_some() {
        return headline;
    }
    let text = visible_text(&page);
    if body.len() > PAGE_MAX || text.chars().count() > SHORT_TEXT {
        return None;
    }
    phrase_in(&text, host)
}

/// The parking service that a redirect leads to.
pub fn parked_redirect(location: &str) -> Option<&'static str> {
    let url = Url::parse(location).ok()?;
    let host = url.host_str()?;
    SERVICES
        .into_iter()
        .find(|service| host.strip_suffix(service).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// HTML or plain text, or no type at all, as such pages often have it.
fn is_page(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else {
        return true;
    };
    let kind = String::from_utf8_lossy(kind.as_bytes()).to_ascii_lowercase();
    ["text/html", "text/plain", "application/xhtml+xml"].iter().any(|page| kind.starts_with(page))
}

fn phrase_in(text: &str, host: &str) -> Option<String> {
    let for_sale = format!("{host} is for sale");
    if text.contains(&for_sale) {
        return Some(for_sale);
    }
    PHRASES.into_iter().find(|phrase| text.contains(phrase)).map(str::to_owned)
}

/// What lies between the first `<name …>` and its end tag, in a page of lower case.
fn element<'a>(page: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = page.split_once(&format!("<{name}"))?;
    let (_, content) = after.split_once('>')?;
    let (content, _) = content.split_once(&format!("</{name}"))?;
    Some(content)
}

/// Text without tags, scripts and styles, with single spaces. Good enough to look for phrases in.
fn visible_text(page: &str) -> String {
    let mut text = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once('<') {
        text.push_str(before);
        text.push(' ');
        rest = past_tag(after);
    }
    text.push_str(rest);
    text.replace("&nbsp;", " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What follows the tag whose `<` was just read; for a script or style, what follows its end.
fn past_tag(after: &str) -> &str {
    for hidden in ["script", "style"] {
        if after.starts_with(hidden) {
            let end = format!("</{hidden}");
            let rest = after.split_once(&end).map_or("", |(_, rest)| rest);
            return rest.split_once('>').map_or("", |(_, rest)| rest);
        }
    }
    after.split_once('>').map_or("", |(_, rest)| rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_page_with_a_phrase_is_parked() {
        for page in [
            "<html><head><title>peer.test</title></head><body><a href='/x'>Buy  this\n<b>domain</b></a>",
            "This domain has expired. Please contact your registrar.",
            "<TITLE>Peer.Test is for sale</TITLE>",
            "<p>This&nbsp;domain&nbsp;is&nbsp;parked</p>",
        ] {
            assert!(parked("text/html; charset=utf-8", page).is_some(), "{page}");
        }
        assert!(parked_page("peer.test", &HeaderMap::new(), b"Parked free, courtesy of X").is_some());
    }

    #[test]
    fn a_headline_counts_on_a_page_of_any_length() {
        let filler = "word ".repeat(2_000);
        let page = format!("<title>This domain is for sale</title><p>{filler}");
        assert_eq!(parked("text/html", &page).unwrap(), "domain is for sale");
        let page = format!("<h1 class=x>Buy this domain</h1><p>{filler}");
        assert!(parked("text/html", &page).is_some());
    }

    #[test]
    fn what_merely_mentions_the_words_is_not_parked() {
        let article = format!("<title>News</title><p>{} buy this domain", "word ".repeat(500));
        assert_eq!(parked("text/html", &article), None);
        let script = "<script>var a = 'buy this domain';</script><p>Welcome";
        assert_eq!(parked("text/html", script), None);
        assert_eq!(parked("application/json", r#"{"text":"this domain is for sale"}"#), None);
        assert_eq!(parked("text/html", "<p>All systems operational"), None);
        assert_eq!(parked("text/html", "<p>other.test is for sale"), None);
    }

    #[test]
    fn redirects_to_parking_services() {
        assert_eq!(parked_redirect("https://www.sedo.com/search/x"), Some("sedo.com"));
        assert_eq!(parked_redirect("https://dan.com/"), Some("dan.com"));
        assert_eq!(parked_redirect("https://jordan.com/"), None);
        assert_eq!(parked_redirect("not a url"), None);
    }

    #[test]
    fn hostile_markup_ends() {
        for page in ["<", "<script", "<title", "<h1><h1><h1", &"<".repeat(PAGE_MAX * 2)] {
            assert_eq!(parked("text/html", page), None);
        }
    }

    fn parked(kind: &str, page: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, kind.parse().unwrap());
        parked_page("peer.test", &headers, page.as_bytes())
    }
}
