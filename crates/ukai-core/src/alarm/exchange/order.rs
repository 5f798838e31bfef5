//! Children before composites, because CloudWatch refuses a rule that names an alarm which does not exist.

use std::collections::{BTreeMap, BTreeSet};

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

/// Metric alarms first, then each composite after what it needs; as written otherwise. A cycle stays as it was written, at
/// the end. In time linear in the definitions: thousands come at once.
pub fn children_first(definitions: Vec<Definition>) -> Vec<Definition> {
    let (composites, mut ordered): (Vec<Definition>, Vec<Definition>) =
        definitions.into_iter().partition(|definition| matches!(definition.kind, Kind::Composite(_)));
    let places: BTreeMap<&str, usize> =
        composites.iter().enumerate().map(|(place, composite)| (&*composite.name, place)).collect();
    let mut waits_for = vec![0_usize; composites.len()];
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); composites.len()];
    for (place, composite) in composites.iter().enumerate() {
        let names: BTreeSet<String> = needs(composite).into_iter().filter(|name| *name != composite.name).collect();
        for needed in names.iter().filter_map(|name| places.get(name.as_str())) {
            waits_for[place] += 1;
            needed_by[*needed].push(place);
        }
    }
    let mut order: Vec<usize> = Vec::with_capacity(composites.len());
    let mut ready: Vec<usize> = (0..composites.len()).filter(|place| waits_for[*place] == 0).collect();
    while !ready.is_empty() {
        let mut next = Vec::new();
        for waiting in ready.iter().flat_map(|place| &needed_by[*place]) {
            waits_for[*waiting] -= 1;
            if waits_for[*waiting] == 0 {
                next.push(*waiting);
            }
        }
        next.sort_unstable();
        order.append(&mut ready);
        ready = next;
    }
    order.extend((0..composites.len()).filter(|place| waits_for[*place] > 0));
    let mut composites: Vec<Option<Definition>> = composites.into_iter().map(Some).collect();
    ordered.extend(order.into_iter().filter_map(|place| composites[place].take()));
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
