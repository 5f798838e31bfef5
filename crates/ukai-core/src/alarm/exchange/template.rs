//! A CloudFormation template, in JSON: one resource for each alarm.
//!
//! Logical ids are made of the alarms' names and are the same from one export to the next as long as the names and their
//! order are. A composite depends on the alarms that it names, since CloudFormation does not see names in a rule.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Remark;
use super::export::TOPIC_PARAMETER;
use super::order::needs;
use crate::alarm::definition::wire::Wire;
use crate::alarm::definition::{Definition, Kind};

/// CloudFormation allows no more in one template.
const RESOURCES_MAX: usize = 500;
/// Characters of a logical id; CloudFormation's limit is 255, and a number may follow.
const LOGICAL_ID_MAX: usize = 240;
const TOPIC: &str = "AlarmTopic";
const ACTIONS: [&str; 3] = ["AlarmActions", "OKActions", "InsufficientDataActions"];

pub(super) fn template(definitions: Vec<Definition>, notes: &mut Vec<Remark>) -> String {
    if definitions.len() > RESOURCES_MAX {
        let what = format!("{} alarms are more than the {RESOURCES_MAX} that one template may have", definitions.len());
        notes.push(Remark::new("(template)", what));
    }
    let ids = logical_ids(&definitions);
    let has_topic = definitions.iter().any(|definition| {
        let actions = &definition.actions;
        [&actions.ok, &actions.alarm, &actions.insufficient_data]
            .into_iter()
            .any(|list| list.iter().any(|action| action == TOPIC_PARAMETER))
    });
    let resources: Map<String, Value> =
        definitions.into_iter().map(|definition| (ids[&definition.name].clone(), resource(definition, &ids))).collect();
    let mut template = json!({
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Alarms exported by ukai",
        "Resources": resources,
    });
    if has_topic {
        template["Parameters"] = json!({
            TOPIC: {"Type": "String", "Description": "ARN of the SNS topic that takes the place of ukai's own actions"},
        });
    }
    let mut text = serde_json::to_string_pretty(&template).unwrap_or_default();
    text.push('\n');
    text
}

/// By name; letters and digits only, each once.
fn logical_ids(definitions: &[Definition]) -> BTreeMap<String, String> {
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    for definition in definitions {
        let wanted = logical_id(&definition.name);
        let is_free = |id: &String| id != TOPIC && !ids.values().any(|taken| taken == id);
        let numbered = (2..).map(|number: usize| format!("{wanted}N{number}"));
        let id = std::iter::once(wanted.clone()).chain(numbered).find(is_free).unwrap_or(wanted);
        ids.insert(definition.name.clone(), id);
    }
    ids
}

fn logical_id(name: &str) -> String {
    let mut id = String::new();
    for word in name.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        id.push_str(&word[..1].to_ascii_uppercase());
        id.push_str(&word[1..]);
    }
    if !id.starts_with(|letter: char| letter.is_ascii_alphabetic()) {
        id.insert_str(0, "Alarm");
    }
    id.truncate(LOGICAL_ID_MAX);
    id
}

fn resource(definition: Definition, ids: &BTreeMap<String, String>) -> Value {
    let kind = match definition.kind {
        Kind::Composite(_) => "AWS::CloudWatch::CompositeAlarm",
        Kind::Metric(_) | Kind::Observed(_) => "AWS::CloudWatch::Alarm",
    };
    let mut depends_on: Vec<&String> = needs(&definition).iter().filter_map(|name| ids.get(name)).collect();
    depends_on.sort();
    depends_on.dedup();
    let properties = serde_json::to_value(Wire::from(definition)).unwrap_or_default();
    let mut resource = json!({"Type": kind, "Properties": without_empty_lists(properties)});
    for list in ACTIONS {
        let written = resource["Properties"].get_mut(list).and_then(Value::as_array_mut);
        for action in written.into_iter().flatten().filter(|action| *action == TOPIC_PARAMETER) {
            *action = json!({"Ref": TOPIC});
        }
    }
    if !depends_on.is_empty() {
        resource["DependsOn"] = json!(depends_on);
    }
    resource
}

fn without_empty_lists(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let kept = members.into_iter().filter(|(_, value)| value.as_array().is_none_or(|list| !list.is_empty()));
            Value::Object(kept.map(|(name, value)| (name, without_empty_lists(value))).collect())
        }
        Value::Array(items) => items.into_iter().map(without_empty_lists).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logical_ids_are_letters_and_digits_and_each_is_there_once() {
        let named = |name: &str| -> Definition {
            serde_json::from_value(json!({"AlarmName": name, "AlarmRule": "TRUE"})).unwrap()
        };
        let names = ["pay-down", "pay down", "pay_down", "7 things", "東京", "alarm topic", "Übung"];
        let ids = logical_ids(&names.map(named));
        let of = |name: &str| ids[name].as_str();
        assert_eq!(
            names.map(of),
            ["PayDown", "PayDownN2", "PayDownN3", "Alarm7Things", "Alarm", "AlarmTopicN2", "Bung"]
        );
        assert!(logical_id(&"x".repeat(255)).len() <= LOGICAL_ID_MAX);
    }
}
