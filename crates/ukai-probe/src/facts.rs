//! What the head of an HTTP answer says of itself.

use std::time::{Duration, SystemTime};

use hyper::Version;
use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::response::Parts;
use jiff::Timestamp;
use ukai_core::observe::HttpFacts;
use url::Url;

use crate::endpoint::Endpoint;
use crate::escape::{escape, escape_bytes};

/// Headers that only an intermediary writes, most telling first. `X-Cache` is not among them: content networks that are
/// the peer's own servers write it too.
const PROXY_HEADERS: [HeaderName; 6] = [
    header::VIA,
    HeaderName::from_static("proxy-agent"),
    HeaderName::from_static("proxy-status"),
    HeaderName::from_static("x-squid-error"),
    HeaderName::from_static("x-bluecoat-via"),
    header::PROXY_AUTHENTICATE,
];

/// Facts of the head; the body's are added once it is read.
pub(crate) fn of_head(parts: &Parts, endpoint: &Endpoint, now: Timestamp) -> HttpFacts {
    let headers = &parts.headers;
    let date = text(headers, &header::DATE).and_then(|text| http_date(&text));
    HttpFacts {
        status: parts.status.as_u16(),
        version: version(parts.version),
        server: text(headers, &header::SERVER),
        date,
        retry_after_s: text(headers, &header::RETRY_AFTER).and_then(|text| retry_after(&text, date.unwrap_or(now))),
        proxy: proxy(parts),
        location: headers
            .get(header::LOCATION)
            .map(|value| location(&String::from_utf8_lossy(value.as_bytes()), endpoint)),
        body_bytes: 0,
        body_sha256: None,
    }
}

fn version(version: Version) -> String {
    match version {
        Version::HTTP_2 => "HTTP/2".to_owned(),
        Version::HTTP_10 => "HTTP/1.0".to_owned(),
        _ => "HTTP/1.1".to_owned(),
    }
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name).map(|value| escape_bytes(value.as_bytes()))
}

fn http_date(text: &str) -> Option<Timestamp> {
    let time = httpdate::parse_http_date(text).ok()?;
    let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Timestamp::from_second(i64::try_from(since.as_secs()).ok()?).ok()
}

/// Seconds, or a date seen from the answer's own clock (RFC 9110, 10.2.3).
fn retry_after(text: &str, now: Timestamp) -> Option<u64> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(seconds);
    }
    let at = http_date(text)?;
    let wait = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    Some(wait.as_secs())
}

fn proxy(parts: &Parts) -> Option<String> {
    let sign = PROXY_HEADERS
        .iter()
        .find_map(|name| text(&parts.headers, name).map(|value| format!("{}: {value}", title_case(name))));
    match (parts.status.as_u16(), sign) {
        (407, Some(sign)) => Some(escape(&format!("407 Proxy Authentication Required, {sign}"))),
        (407, None) => Some("407 Proxy Authentication Required".to_owned()),
        (_, sign) => sign.map(|sign| escape(&sign)),
    }
}

fn title_case(name: &HeaderName) -> String {
    let words = name.as_str().split('-').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_ascii_uppercase() + rest
    });
    words.collect::<Vec<_>>().join("-")
}

/// Where a redirect leads, without what could hold a secret: user information, query and fragment.
fn location(text: &str, endpoint: &Endpoint) -> String {
    let base = Url::parse(&format!("{endpoint}"));
    let joined = base.and_then(|base| base.join(text));
    let Ok(mut url) = joined else {
        return escape(text.split(['?', '#']).next().unwrap_or_default());
    };
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    escape(url.as_str())
}

#[cfg(test)]
mod tests {
    use hyper::Response;

    use super::*;

    const NOW: &str = "2026-03-01T12:00:00Z";

    #[test]
    fn dates_and_waits() {
        let facts =
            facts(200, &[("date", "Sun, 01 Mar 2026 12:00:30 GMT"), ("retry-after", "Sun, 01 Mar 2026 12:01:00 GMT")]);
        assert_eq!(facts.date.unwrap().to_string(), "2026-03-01T12:00:30Z");
        assert_eq!(facts.retry_after_s, Some(30));
        assert_eq!(retry_after_of("120"), Some(120));
        assert_eq!(retry_after_of("Sun, 01 Mar 2026 11:00:00 GMT"), Some(0));
        assert_eq!(retry_after_of("soon"), None);
        assert_eq!(retry_after_of("-5"), None);
    }

    #[test]
    fn only_real_signs_of_a_proxy_count() {
        assert_eq!(facts(200, &[("x-cache", "HIT")]).proxy, None);
        assert_eq!(facts(200, &[("via", "1.1 squid")]).proxy.unwrap(), "Via: 1.1 squid");
        assert_eq!(
            facts(407, &[("proxy-authenticate", "Basic realm=\"x\"")]).proxy.unwrap(),
            "407 Proxy Authentication Required, Proxy-Authenticate: Basic realm=\"x\""
        );
        assert_eq!(facts(407, &[]).proxy.unwrap(), "407 Proxy Authentication Required");
    }

    #[test]
    fn a_location_keeps_no_secret() {
        let location = |text| facts(302, &[("location", text)]).location.unwrap();
        assert_eq!(location("https://u:p@login.test/a?token=1#x"), "https://login.test/a");
        assert_eq!(location("/b?token=1"), "https://peer.test/b");
        assert_eq!(location("http://[?token=1"), "http://[");
    }

    fn retry_after_of(text: &str) -> Option<u64> {
        facts(503, &[("retry-after", text)]).retry_after_s
    }

    fn facts(status: u16, headers: &[(&str, &str)]) -> HttpFacts {
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let (parts, ()) = response.body(()).unwrap().into_parts();
        let endpoint = Endpoint::parse("https://peer.test/status?key=1").unwrap();
        of_head(&parts, &endpoint, NOW.parse().unwrap())
    }
}
