//! Reads the whole log again from outside and folds it: it must be what was heard, and lead to what the daemon says.

use serde_json::Value;
use ukai_core::event::Recorded;
use ukai_core::state::State;

use super::operator::Cli;
use super::stage::EventLine;
use crate::scenario::Person;

/// What does not fit, in a sentence.
pub async fn replay(cli: &Cli, heard: &[Recorded]) -> Result<(), String> {
    let status = ask(cli, "status").await?;
    let overrides = ask(cli, "overrides").await?;
    let position = status.get("position").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let log = log(cli).await?;
    if (log.len() as u64) < position {
        return Err(format!("the daemon is at position {position}, and the log has {} events", log.len()));
    }
    compare(&log, heard, &overrides)
}

/// The answer to a question that only reads.
async fn ask(cli: &Cli, command: &str) -> Result<Value, String> {
    let words = [command.to_owned(), "--json".to_owned()];
    let said = cli.insist(&words, Person::A).await;
    match serde_json::from_str(&said.output) {
        Ok(value) if said.done() => Ok(value),
        _ => Err(format!("`ukai {command}` does not answer: {}", said.text())),
    }
}

async fn log(cli: &Cli) -> Result<Vec<Recorded>, String> {
    let said = cli.insist(&["events".to_owned(), "--json".to_owned()], Person::A).await;
    if !said.done() {
        return Err(format!("`ukai events` does not answer: {}", said.text()));
    }
    (1..)
        .zip(said.output.lines())
        .map(|(expected, line)| match serde_json::from_str::<EventLine>(line) {
            Ok(event) if event.position == expected => Ok(event.record),
            Ok(event) => Err(format!("event {expected} is missing: {} follows", event.position)),
            Err(error) => Err(format!("event {expected} cannot be read: {error}")),
        })
        .collect()
}

fn compare(log: &[Recorded], heard: &[Recorded], overrides: &Value) -> Result<(), String> {
    if let Some(at) = (0..heard.len()).find(|at| log.get(*at) != heard.get(*at)) {
        return Err(format!("event {} is in the log not what was heard before", at + 1));
    }
    let state = State::fold(log);
    let listed = overrides.get("overrides").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if listed.len() != state.overrides.len() {
        return Err(format!("the log makes {} overrides, the daemon lists {}", state.overrides.len(), listed.len()));
    }
    for over in state.overrides.values() {
        let folded = serde_json::to_value(over).map_err(|error| error.to_string())?;
        if !listed.contains(&folded) {
            return Err(format!("{} is another by the log than by the daemon", over.id));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;
    use ukai_core::event::Event;

    use super::*;

    fn record(what: &str) -> Recorded {
        Recorded { at: Timestamp::UNIX_EPOCH, event: Event::Troubled { what: what.into() } }
    }

    #[test]
    fn what_was_heard_must_stand_in_the_log() {
        let nothing = json!({ "overrides": [] });
        let log = [record("one"), record("two")];
        assert_eq!(compare(&log, &log[..1], &nothing), Ok(()));
        assert!(compare(&log[..1], &log, &nothing).is_err());
        assert!(compare(&log, &[record("two")], &nothing).is_err());
    }

    #[test]
    fn the_daemon_must_say_what_its_log_says() {
        assert!(compare(&[], &[], &json!({ "overrides": [{ "id": "ovr-1" }] })).is_err());
    }
}
