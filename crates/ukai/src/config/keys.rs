//! Unknown keys, all of them at once, found by laying the file beside the JSON Schema.

use std::collections::BTreeSet;

use serde_json::Value;
use toml::de::{DeTable, DeValue};

use super::problem::{Problems, suggestion};

/// Takes every key out of the table that the schema does not know, and notes it with the nearest known one.
pub fn take_unknown(table: &mut DeTable<'_>, schema: &Value, problems: &mut Problems<'_>) {
    check_table(table, &[schema], schema, problems);
}

fn check_table(table: &mut DeTable<'_>, schemas: &[&Value], root: &Value, problems: &mut Problems<'_>) {
    let objects: Vec<&Value> = flatten(schemas, root);
    if objects.iter().any(|schema| is_open(schema)) {
        return check_open(table, &objects, root, problems);
    }
    let known: BTreeSet<&str> = objects.iter().flat_map(|schema| properties(schema)).collect();
    if known.is_empty() {
        return;
    }
    let unknown: Vec<String> = table
        .keys()
        .filter(|key| !known.contains(key.get_ref().as_ref()))
        .map(|key| key.get_ref().to_string())
        .collect();
    for key in unknown {
        if let Some((spanned, _)) = table.remove_entry(key.as_str()) {
            let is_of_the_top = properties(root).any(|top| top == key);
            let hint = match is_of_the_top {
                // In TOML a key belongs to the section above it.
                true => "; it is a key of the top: write it above the first [section]".to_owned(),
                false => suggestion(&key, known.iter().copied()),
            };
            problems.push_span(Some(spanned.span()), format!("unknown key {key:?}{hint}"));
        }
    }
    for (key, value) in table.iter_mut() {
        let key = key.get_ref().to_string();
        let schemas: Vec<&Value> = objects.iter().filter_map(|schema| schema.get("properties")?.get(&key)).collect();
        check_value(value.get_mut(), &schemas, root, problems);
    }
}

/// A table whose keys are the operator's own, such as `headers`.
fn check_open(table: &mut DeTable<'_>, objects: &[&Value], root: &Value, problems: &mut Problems<'_>) {
    let schemas: Vec<&Value> = objects.iter().filter_map(|schema| schema.get("additionalProperties")).collect();
    for (_, value) in table.iter_mut() {
        check_value(value.get_mut(), &schemas, root, problems);
    }
}

fn check_value(value: &mut DeValue<'_>, schemas: &[&Value], root: &Value, problems: &mut Problems<'_>) {
    match value {
        DeValue::Table(table) => check_table(table, schemas, root, problems),
        DeValue::Array(array) => {
            let items: Vec<&Value> =
                flatten(schemas, root).into_iter().filter_map(|schema| schema.get("items")).collect();
            for item in array.iter_mut() {
                check_value(item.get_mut(), &items, root, problems);
            }
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}

/// Follows references and alternatives. Our schemas do not recurse, so this ends.
fn flatten<'s>(schemas: &[&'s Value], root: &'s Value) -> Vec<&'s Value> {
    let mut flat = Vec::new();
    for schema in schemas {
        let target = schema
            .get("$ref")
            .and_then(Value::as_str)
            .and_then(|reference| root.pointer(reference.trim_start_matches('#')));
        if let Some(target) = target {
            flat.extend(flatten(&[target], root));
        }
        for alternatives in ["anyOf", "oneOf", "allOf"] {
            if let Some(Value::Array(alternatives)) = schema.get(alternatives) {
                flat.extend(flatten(&alternatives.iter().collect::<Vec<_>>(), root));
            }
        }
        flat.push(*schema);
    }
    flat
}

fn is_open(schema: &Value) -> bool {
    schema.get("additionalProperties").is_some_and(|more| more.is_object() || more == &Value::Bool(true))
}

fn properties(schema: &Value) -> impl Iterator<Item = &str> {
    schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|keys| keys.keys().map(String::as_str))
}
