//! `expect` and `unauthenticated`: what a good answer looks like.

use ukai_probe::{BodyRegex, Expectation, HeaderExpectation, JsonExpectation, StatusSet};

use super::problem::At;
use super::reader::Reader;
use super::{defaults, v1};

pub fn expectation(at: &At, written: v1::Expect, reader: &mut Reader<'_>) -> Expectation {
    let mut expectation = Expectation {
        max_time: written.max_time.as_deref().map(|text| {
            reader.duration(&at.key("max_time"), Some(text), defaults::EVIDENCE_BOUND, defaults::TIMEOUT_RANGE)
        }),
        certificate_days: written.certificate_days,
        address_ranges: reader.list(&at.key("address_ranges"), written.address_ranges.as_deref()),
        ..Expectation::default()
    };
    if let Some(status) = &written.status {
        expectation.status = self::status(&at.key("status"), status, reader);
    }
    for (name, rule) in written.headers.unwrap_or_default() {
        let header = match &rule {
            v1::HeaderMatch::Exact(value) => HeaderExpectation::exact(&name, value),
            v1::HeaderMatch::Regex(v1::HeaderRegex { regex }) => HeaderExpectation::matches(&name, regex),
        };
        expectation.headers.extend(reader.problems.check(&at.key("headers").key(&name), header));
    }
    if let Some(text) = &written.body_contains {
        let with_text = expectation.clone().body_containing(text);
        expectation = reader.problems.check(&at.key("body_contains"), with_text).unwrap_or(expectation);
    }
    if let Some(pattern) = &written.body_regex {
        expectation.body_regex = reader.problems.check(&at.key("body_regex"), BodyRegex::new(pattern));
    }
    if let Some(json) = written.body_json {
        let json = JsonExpectation::equals(&json.path, json.equals);
        expectation.body_json = reader.problems.check(&at.key("body_json").key("path"), json);
    }
    expectation
}

/// `2xx` is ours; codes and ranges are the prober's.
fn status(at: &At, written: &[v1::Status], reader: &mut Reader<'_>) -> StatusSet {
    let texts: Vec<String> = written.iter().map(status_text).collect();
    for (index, text) in texts.iter().enumerate() {
        reader.problems.check(&at.index(index), StatusSet::parse(&[text]));
    }
    if texts.is_empty() {
        reader.problem(at, "no status is expected at all; list some, or leave the key out");
    }
    StatusSet::parse(&texts).unwrap_or_default()
}

fn status_text(status: &v1::Status) -> String {
    match status {
        v1::Status::Code(code) => code.to_string(),
        v1::Status::Range(text) => match text.to_ascii_lowercase().strip_suffix("xx") {
            Some(class @ ("1" | "2" | "3" | "4" | "5")) => format!("{class}00-{class}99"),
            _ => text.clone(),
        },
    }
}
