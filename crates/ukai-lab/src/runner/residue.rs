//! What is left of an override when it should all be gone.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::operator::Cli;
use crate::scenario::Person;

/// The file in which the DNS server keeps what it serves.
const OVERRIDES_FILE: &str = "overrides.json";
/// How deep below the data directory it may lie.
const DEPTH: usize = 3;
/// Words for an override that is over, or never was.
const OVER: [&str; 4] = ["ended", "rejected", "voided", "withheld"];

/// Everything that is left, in a sentence each.
pub async fn residue(cli: &Cli) -> Vec<String> {
    let said = cli.run(&["overrides".to_owned(), "--json".to_owned()], Person::A).await;
    let mut left: Vec<String> = match serde_json::from_str::<Value>(&said.output) {
        Ok(listed) => {
            let held = live(&listed).map(|id| format!("the daemon still holds override {id}"));
            held.chain(served(&listed).map(|id| format!("the DNS server still serves override {id}"))).collect()
        }
        Err(_) => vec![format!("the daemon does not say what it holds: {}", said.text())],
    };
    for file in files(&cli.data_dir, DEPTH) {
        match stored(&file) {
            Ok(0) => {}
            Ok(count) => left.push(format!("{} holds {count} overrides", file.display())),
            Err(error) => left.push(format!("{} cannot be read: {error}", file.display())),
        }
    }
    left
}

/// Ids of the overrides that stand or are pending.
fn live(listed: &Value) -> impl Iterator<Item = &str> {
    entries(listed, "overrides").filter(|over| !OVER.contains(&phase(over))).map(id)
}

/// Ids of what the DNS server itself says that it serves.
fn served(listed: &Value) -> impl Iterator<Item = &str> {
    entries(listed, "serving").map(id)
}

fn entries<'v>(listed: &'v Value, key: &str) -> impl Iterator<Item = &'v Value> {
    listed.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn id(over: &Value) -> &str {
    over.get("id").and_then(Value::as_str).unwrap_or("without an id")
}

fn phase(over: &Value) -> &str {
    let phase = over.get("phase");
    phase.and_then(|phase| phase.as_str().or_else(|| phase.get("phase")?.as_str())).unwrap_or("unknown")
}

fn stored(file: &Path) -> anyhow::Result<usize> {
    let value: Value = serde_json::from_str(&std::fs::read_to_string(file)?)?;
    Ok(value.get("overrides").and_then(Value::as_array).map_or(0, Vec::len))
}

fn files(directory: &Path, depth: usize) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .flat_map(|entry| {
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() && depth > 0 => files(&path, depth - 1),
                Ok(kind) if kind.is_file() && path.ends_with(OVERRIDES_FILE) => vec![path],
                _ => Vec::new(),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_is_over_is_no_residue() {
        let listed = json!({ "overrides": [
            { "id": "o-1", "phase": { "phase": "ended", "reason": "reverted" } },
            { "id": "o-2", "phase": { "phase": "withdrawing", "reason": "reverted" } },
            { "id": "o-3", "phase": "served" },
            { "id": "o-4" },
        ], "serving": [{ "id": "o-3", "generation": 1 }]});
        assert_eq!(live(&listed).collect::<Vec<_>>(), ["o-2", "o-3", "o-4"]);
        assert_eq!(served(&listed).collect::<Vec<_>>(), ["o-3"]);
        let nothing = json!({ "overrides": [], "serving": null, "trouble": null });
        assert_eq!(live(&nothing).chain(served(&nothing)).count(), 0);
    }

    #[test]
    fn the_servers_file_is_found_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("dns")).unwrap();
        let file = directory.path().join("dns").join(OVERRIDES_FILE);
        std::fs::write(&file, r#"{"version":1,"overrides":[{"id":"o-1"}]}"#).unwrap();
        assert_eq!(files(directory.path(), DEPTH), std::slice::from_ref(&file));
        assert_eq!(stored(&file).unwrap(), 1);
        std::fs::write(&file, "{").unwrap();
        assert!(stored(&file).is_err());
    }
}
