//! What a good answer looks like. Everything is checked when it is built, so that nothing can go wrong while probing.

use std::fmt;
use std::time::Duration;

use hyper::header::{HeaderMap, HeaderName};
use ipnet::IpNet;
use regex::bytes::{Regex, RegexBuilder};
use serde_json::Value;
use serde_json_path::JsonPath;

use crate::escape::{escape, escape_bytes};

/// Longest pattern, path or text of one expectation.
pub const PATTERN_MAX: usize = 1000;
/// Memory of one compiled pattern, and of its lazy automaton.
pub const REGEX_SIZE_MAX: usize = 1 << 20;

/// What the answer of an endpoint must be. The default asks for a status from 200 to 399.
#[derive(Debug, Clone, Default)]
pub struct Expectation {
    pub status: StatusSet,
    pub headers: Vec<HeaderExpectation>,
    pub body_contains: Option<String>,
    pub body_regex: Option<BodyRegex>,
    pub body_json: Option<JsonExpectation>,
    /// For all stages from `connect` to `transfer` together.
    pub max_time: Option<Duration>,
    /// Days for which the certificate must still be valid.
    pub certificate_days: Option<u32>,
    /// Where the peer says that it lives; an address outside is recorded and not contacted. Empty: anywhere.
    pub address_ranges: Vec<IpNet>,
}

/// Why an expectation cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpectationError {
    #[error("{0:?} is not a status code or range: write 200, 204 or 200-399, within 100 to 599")]
    Status(String),
    #[error("no status code is expected at all")]
    NoStatus,
    #[error("{0:?} is not a header name")]
    HeaderName(String),
    #[error("the pattern or text is longer than {PATTERN_MAX} characters")]
    TooLong,
    #[error("the text to look for is empty")]
    Empty,
    #[error("the regular expression is not valid or too large: {0}")]
    Regex(String),
    #[error("the JSON path is not valid (RFC 9535): {0}")]
    JsonPath(String),
}

/// Codes and ranges of codes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSet {
    /// Inclusive, within 100–599.
    ranges: Vec<(u16, u16)>,
}

impl StatusSet {
    /// Reads `200` and `200-399`.
    pub fn parse<S: AsRef<str>>(parts: &[S]) -> Result<Self, ExpectationError> {
        if parts.is_empty() {
            return Err(ExpectationError::NoStatus);
        }
        let ranges = parts.iter().map(|part| status_range(part.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { ranges })
    }

    pub fn contains(&self, status: u16) -> bool {
        self.ranges.iter().any(|(low, high)| (*low..=*high).contains(&status))
    }
}

impl Default for StatusSet {
    fn default() -> Self {
        Self { ranges: vec![(200, 399)] }
    }
}

impl fmt::Display for StatusSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (low, high)) in self.ranges.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            if low == high {
                write!(f, "{low}")?;
            } else {
                write!(f, "{low}–{high}")?;
            }
        }
        Ok(())
    }
}

/// One header of the answer.
#[derive(Debug, Clone)]
pub struct HeaderExpectation {
    name: HeaderName,
    rule: HeaderRule,
}

#[derive(Debug, Clone)]
enum HeaderRule {
    Exact(String),
    Matches(Regex),
}

impl HeaderExpectation {
    /// One value of the header is exactly this.
    pub fn exact(name: &str, value: &str) -> Result<Self, ExpectationError> {
        bounded(value)?;
        Ok(Self { name: header_name(name)?, rule: HeaderRule::Exact(value.to_owned()) })
    }

    /// One value of the header matches this regular expression somewhere.
    pub fn matches(name: &str, pattern: &str) -> Result<Self, ExpectationError> {
        Ok(Self { name: header_name(name)?, rule: HeaderRule::Matches(regex(pattern)?) })
    }

    /// What is wrong with the header, as a clause.
    pub(crate) fn mismatch(&self, headers: &HeaderMap) -> Option<String> {
        let met = headers.get_all(&self.name).iter().any(|value| match &self.rule {
            HeaderRule::Exact(expected) => value.as_bytes() == expected.as_bytes(),
            HeaderRule::Matches(regex) => regex.is_match(value.as_bytes()),
        });
        if met {
            return None;
        }
        let name = &self.name;
        let expected = match &self.rule {
            HeaderRule::Exact(expected) => format!("{:?} was expected", escape(expected)),
            HeaderRule::Matches(regex) => format!("/{}/ was expected", escape(regex.as_str())),
        };
        Some(match headers.get(name) {
            Some(value) => format!("its header {name} is {:?}, and {expected}", escape_bytes(value.as_bytes())),
            None => format!("it has no header {name}, and {expected}"),
        })
    }
}

/// A regular expression on the body's bytes, of bounded size.
#[derive(Debug, Clone)]
pub struct BodyRegex(Regex);

impl BodyRegex {
    pub fn new(pattern: &str) -> Result<Self, ExpectationError> {
        regex(pattern).map(Self)
    }
}

/// What an RFC 9535 path must select of a JSON body.
#[derive(Debug, Clone)]
pub struct JsonExpectation {
    path: JsonPath,
    /// None: it is enough that something is selected.
    expected: Option<Value>,
}

impl JsonExpectation {
    /// The path selects at least one node, and each is this value. Numbers are equal by value: 1 is 1.0.
    pub fn equals(path: &str, expected: Value) -> Result<Self, ExpectationError> {
        Ok(Self { path: json_path(path)?, expected: Some(expected) })
    }

    /// The path selects at least one node.
    pub fn exists(path: &str) -> Result<Self, ExpectationError> {
        Ok(Self { path: json_path(path)?, expected: None })
    }

    fn mismatch(&self, body: &[u8]) -> Option<String> {
        let path = escape(&self.path.to_string());
        let Ok(value) = serde_json::from_slice::<Value>(body) else {
            return Some(format!("its body is not JSON, and {path} was expected in it"));
        };
        let nodes = self.path.query(&value);
        if nodes.is_empty() {
            return Some(format!("its JSON body has nothing at {path}"));
        }
        let expected = self.expected.as_ref()?;
        let wrong = nodes.iter().find(|node| !is_equal(node, expected))?;
        Some(format!(
            "its JSON body has {} at {path}, and {} was expected",
            escape(&wrong.to_string()),
            escape(&expected.to_string())
        ))
    }
}

impl Expectation {
    /// Sets the text that the body must contain.
    pub fn body_containing(mut self, text: &str) -> Result<Self, ExpectationError> {
        bounded(text)?;
        if text.is_empty() {
            return Err(ExpectationError::Empty);
        }
        self.body_contains = Some(text.to_owned());
        Ok(self)
    }

    /// Whether anything is expected of the body.
    pub fn looks_at_body(&self) -> bool {
        self.body_contains.is_some() || self.body_regex.is_some() || self.body_json.is_some()
    }

    /// What is wrong with the status, as a clause.
    pub(crate) fn status_mismatch(&self, status: hyper::StatusCode) -> Option<String> {
        if self.status.contains(status.as_u16()) {
            return None;
        }
        let reason = status.canonical_reason().map_or(String::new(), |reason| format!(" {reason}"));
        Some(format!("it answered {}{reason}, and {} was expected", status.as_u16(), self.status))
    }

    /// What is wrong with the headers, as a clause.
    pub(crate) fn header_mismatch(&self, headers: &HeaderMap) -> Option<String> {
        self.headers.iter().find_map(|header| header.mismatch(headers))
    }

    /// What is wrong with the body, as a clause.
    pub(crate) fn body_mismatch(&self, body: &[u8]) -> Option<String> {
        if let Some(text) = &self.body_contains
            && !String::from_utf8_lossy(body).contains(text.as_str())
        {
            return Some(format!("its body does not contain {:?}", escape(text)));
        }
        if let Some(BodyRegex(regex)) = &self.body_regex
            && !regex.is_match(body)
        {
            return Some(format!("its body does not match /{}/", escape(regex.as_str())));
        }
        self.body_json.as_ref().and_then(|json| json.mismatch(body))
    }
}

fn status_range(part: &str) -> Result<(u16, u16), ExpectationError> {
    let wrong = || ExpectationError::Status(escape(part));
    let (low, high) = part.split_once('-').unwrap_or((part, part));
    let code = |text: &str| text.trim().parse::<u16>().map_err(|_| wrong());
    let (low, high) = (code(low)?, code(high)?);
    if low > high || low < 100 || high > 599 {
        return Err(wrong());
    }
    Ok((low, high))
}

fn header_name(name: &str) -> Result<HeaderName, ExpectationError> {
    HeaderName::try_from(name).map_err(|_| ExpectationError::HeaderName(escape(name)))
}

fn bounded(text: &str) -> Result<(), ExpectationError> {
    if text.chars().count() > PATTERN_MAX { Err(ExpectationError::TooLong) } else { Ok(()) }
}

fn regex(pattern: &str) -> Result<Regex, ExpectationError> {
    bounded(pattern)?;
    RegexBuilder::new(pattern)
        .size_limit(REGEX_SIZE_MAX)
        .dfa_size_limit(REGEX_SIZE_MAX)
        .build()
        .map_err(|error| ExpectationError::Regex(last_line(&error.to_string())))
}

fn json_path(path: &str) -> Result<JsonPath, ExpectationError> {
    bounded(path)?;
    JsonPath::parse(path).map_err(|error| ExpectationError::JsonPath(last_line(&error.to_string())))
}

/// Parsers draw the place over several lines; the last one says what is wrong.
fn last_line(message: &str) -> String {
    escape(message.lines().last().unwrap_or_default().trim())
}

fn is_equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left == right || (left.is_f64() != right.is_f64() && left.as_f64() == right.as_f64())
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| is_equal(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, value)| right.get(key).is_some_and(|expected| is_equal(value, expected)))
        }
        (left, right) => left == right,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn status_sets() {
        let set = StatusSet::parse(&["204", "300-302"]).unwrap();
        assert!(set.contains(204) && set.contains(300) && set.contains(302));
        assert!(!set.contains(200) && !set.contains(303));
        assert_eq!(set.to_string(), "204, 300–302");
        assert_eq!(StatusSet::default().to_string(), "200–399");
        for wrong in ["", "ok", "200-", "99", "600", "300-200", "-5"] {
            assert!(StatusSet::parse(&[wrong]).is_err(), "{wrong}");
        }
        assert_eq!(StatusSet::parse::<&str>(&[]), Err(ExpectationError::NoStatus));
    }

    #[test]
    fn patterns_are_bounded() {
        assert!(BodyRegex::new(&"x".repeat(PATTERN_MAX + 1)).is_err());
        assert!(BodyRegex::new(r"(\w{200}){200}").is_err());
        assert!(BodyRegex::new("(").is_err());
        assert!(JsonExpectation::exists("$..[").is_err());
        assert!(HeaderExpectation::exact("not a name", "x").is_err());
        assert!(matches!(Expectation::default().body_containing(""), Err(ExpectationError::Empty)));
    }

    #[test]
    fn bodies() {
        let mut expectation = Expectation::default().body_containing("healthy").unwrap();
        assert!(expectation.looks_at_body());
        assert_eq!(expectation.body_mismatch(b"all healthy"), None);
        assert_eq!(expectation.body_mismatch(b"ill").unwrap(), "its body does not contain \"healthy\"");
        expectation.body_regex = Some(BodyRegex::new("^all").unwrap());
        assert!(expectation.body_mismatch(b"not all healthy").unwrap().contains("/^all/"));
    }

    #[test]
    fn json_paths() {
        let expectation = JsonExpectation::equals("$.nodes[*].up", json!(true)).unwrap();
        let mismatch = |body: &str| expectation.mismatch(body.as_bytes());
        assert_eq!(mismatch(r#"{"nodes":[{"up":true},{"up":true}]}"#), None);
        assert!(mismatch(r#"{"nodes":[{"up":true},{"up":false}]}"#).unwrap().contains("has false at"));
        assert!(mismatch(r#"{"nodes":[]}"#).unwrap().contains("has nothing at"));
        assert!(mismatch("<html>").unwrap().contains("is not JSON"));

        let number = JsonExpectation::equals("$.v", json!({"a": [1]})).unwrap();
        assert_eq!(number.mismatch(br#"{"v":{"a":[1.0]}}"#), None);
        assert!(number.mismatch(br#"{"v":{"a":[2]}}"#).is_some());
        assert_eq!(JsonExpectation::exists("$.v").unwrap().mismatch(br#"{"v":null}"#), None);
    }

    #[test]
    fn headers() {
        let mut headers = HeaderMap::new();
        headers.append("x-region", "eu".parse().unwrap());
        headers.append("x-region", "us-east".parse().unwrap());
        let mismatch = |header: Result<HeaderExpectation, _>| header.unwrap().mismatch(&headers);
        assert_eq!(mismatch(HeaderExpectation::exact("X-Region", "us-east")), None);
        assert_eq!(mismatch(HeaderExpectation::matches("x-region", "^us-")), None);
        assert!(mismatch(HeaderExpectation::exact("x-region", "us")).unwrap().contains("\"eu\""));
        assert!(mismatch(HeaderExpectation::exact("x-none", "us")).unwrap().contains("has no header"));
    }
}
