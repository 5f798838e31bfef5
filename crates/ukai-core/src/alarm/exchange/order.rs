//! Children before composites, because CloudWatch refuses a rule that names an alarm which does not exist.

use std::collections::BTreeSet;

use crate::alarm::composite::{AlarmExpression, AlarmRef};
use crate::alarm::definition::{CompositeAlarm, Definition, Kind};

/// The name in an ARN of an alarm; anything else is a name.
pub fn name_of(name_or_arn: &str) -> String {
    AlarmRef::new(name_or_arn).map_or_else(|_| name_or_arn.to_owned(), |named| named.alarm_name().to_owned())
}

/// The alarms that a composite's rule names.
pub fn children(composite: &CompositeAlarm) -> Vec<String> {
    // A definition's rule has been parsed before.
    let rule = AlarmExpression::parse(&composite.rule);
    rule.iter().flat_map(AlarmExpression::children).map(str::to_owned).collect()
}

/// The alarms that a definition needs to be there first.
pub fn needs(definition: &Definition) -> Vec<String> {
    let Kind::Composite(composite) = &definition.kind else { return Vec::new() };
    children(composite)
        .into_iter()
        .chain(composite.suppressor.iter().map(|suppressor| name_of(suppressor.alarm())))
        .collect()
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
