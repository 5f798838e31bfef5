//! The reference pages say what the code says.

const EVENTS: &str = include_str!("../../src/event.rs");
const EVENTS_PAGE: &str = include_str!("../../../../docs/reference/events.md");

/// Names of the variants of `Event`, as they are in the log.
fn event_names() -> Vec<String> {
    let body = EVENTS.split("pub enum Event {").nth(1).unwrap();
    body.lines()
        .take_while(|line| *line != "}")
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(char::is_uppercase))
        .map(|line| snake(line.split([' ', ',', '{']).next().unwrap()))
        .collect()
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(letter.to_lowercase());
    }
    out
}

#[test]
fn every_event_is_on_its_page() {
    let names = event_names();
    assert!(names.len() > 30, "{names:?}");
    for name in names {
        assert!(EVENTS_PAGE.contains(&format!("`{name}`")), "docs/reference/events.md lacks `{name}`");
    }
}
