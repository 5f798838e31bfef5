//! Children before composites, because CloudWatch refuses a rule that names an alarm which does not exist.

use std::collections::BTreeSet;

use crate::alarm::definition::{Definition, Kind};

/// What stands before the parenthesis of a reference.
const STATES: [&str; 3] = ["ALARM", "OK", "INSUFFICIENT_DATA"];

/// Names of the alarms that a rule refers to, each once, in the order of their first mention.
pub fn references(rule: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut rest = rule;
    while let Some(place) = rest.find('(') {
        let before = rest[..place].trim_end();
        let is_state = STATES.iter().any(|state| ends_with_word(before, state));
        rest = &rest[place + 1..];
        if !is_state {
            continue;
        }
        let (written, after) = reference(rest);
        let name = name_of(written);
        if !name.is_empty() && !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
        rest = after;
    }
    names
}

/// The name in an ARN of an alarm; anything else is a name.
pub fn name_of(name_or_arn: &str) -> &str {
    match name_or_arn.split_once(":alarm:") {
        Some((arn, name)) if arn.starts_with("arn:") => name,
        _ => name_or_arn,
    }
}

fn ends_with_word(text: &str, word: &str) -> bool {
    let before = text.strip_suffix(word);
    before.is_some_and(|before| !before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_'))
}

/// What stands between the parentheses, and what follows. A quoted name may hold parentheses.
fn reference(text: &str) -> (&str, &str) {
    let bare = text.trim_start();
    let (end, skip) = match bare.strip_prefix('"') {
        Some(quoted) => return quoted.split_once('"').unwrap_or((quoted, "")),
        None => (bare.find(')').unwrap_or(bare.len()), 1),
    };
    (bare[..end].trim_end(), bare.get(end + skip..).unwrap_or(""))
}

/// The alarms that a definition needs to be there first.
pub fn needs(definition: &Definition) -> Vec<String> {
    let Kind::Composite(composite) = &definition.kind else { return Vec::new() };
    let mut names = references(&composite.rule);
    names.extend(composite.suppressor.iter().map(|suppressor| name_of(&suppressor.alarm).to_owned()));
    names
}

/// Metric alarms first, then each composite after what it needs; as written otherwise. A cycle stays as it was written.
pub fn children_first(definitions: Vec<Definition>) -> Vec<Definition> {
    let (mut waiting, mut ordered): (Vec<Definition>, Vec<Definition>) =
        definitions.into_iter().partition(|definition| matches!(definition.kind, Kind::Composite(_)));
    while !waiting.is_empty() {
        let names: BTreeSet<String> = waiting.iter().map(|composite| composite.name.clone()).collect();
        let is_blocked = |composite: &Definition| {
            needs(composite).iter().any(|name| *name != composite.name && names.contains(name))
        };
        let (blocked, ready): (Vec<Definition>, Vec<Definition>) = waiting.into_iter().partition(is_blocked);
        if ready.is_empty() {
            ordered.extend(blocked);
            break;
        }
        ordered.extend(ready);
        waiting = blocked;
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_however_they_are_written() {
        let rule = r#"ALARM(a) AND NOT (OK("b (old)") OR INSUFFICIENT_DATA( c d )) OR ALARM(a) AND TRUE
            OR ALARM("arn:aws:cloudwatch:eu-west-1:1:alarm:e:f") OR (TRUE)"#;
        assert_eq!(references(rule), ["a", "b (old)", "c d", "e:f"]);
        assert_eq!(references("ALARM("), Vec::<String>::new());
        assert_eq!(references("ALARM(\"open"), ["open"]);
        assert_eq!(references("FALSEALARM(x)"), Vec::<String>::new());
    }

    #[test]
    fn composites_follow_their_children() {
        let composite = |name: &str, rule: &str| -> Definition {
            serde_json::from_value(serde_json::json!({"AlarmName": name, "AlarmRule": rule})).unwrap()
        };
        let mixed = vec![
            composite("top", "ALARM(middle)"),
            composite("middle", "ALARM(bottom) OR ALARM(elsewhere)"),
            composite("bottom", "TRUE"),
            composite("round", "ALARM(about)"),
            composite("about", "ALARM(round)"),
        ];
        let ordered: Vec<String> = children_first(mixed).into_iter().map(|each| each.name).collect();
        assert_eq!(ordered, ["bottom", "middle", "top", "round", "about"]);
    }
}
