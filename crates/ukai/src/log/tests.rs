use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use ukai_core::event::{Actor, Event};

use super::*;

#[test]
fn events_are_read_back_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path()).unwrap();
    assert_eq!((log.position(), log.last_at().unwrap()), (0, None));
    assert_eq!(log.append(0, &[event(1), event(2)]).unwrap(), 2);
    assert_eq!(log.append(2, &[]).unwrap(), 2);
    assert_eq!(log.append(2, &[event(3)]).unwrap(), 3);
    drop(log);
    let log = Log::open(dir.path()).unwrap();
    assert_eq!(positions_and_texts(&log, 0), [(1, text(1)), (2, text(2)), (3, text(3))]);
    assert_eq!(positions_and_texts(&log, 2), [(3, text(3))]);
    assert_eq!(log.read_from(0, 1).unwrap().len(), 1);
    assert_eq!(log.last_at().unwrap(), Some(event(3).at));
}

#[test]
fn two_writers_cannot_both_win() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path()).unwrap();
    log.append(0, &[event(1)]).unwrap();
    let conflict = log.append(0, &[event(2)]).unwrap_err();
    assert!(matches!(conflict, AppendError::Conflict { expected: 0, found: 1 }), "{conflict}");
    assert!(matches!(log.append(7, &[]), Err(AppendError::Conflict { .. })));
    assert_eq!(positions_and_texts(&log, 0), [(1, text(1))]);
}

#[test]
fn the_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = Log::open(dir.path()).unwrap();
    let refused = Log::open(dir.path()).unwrap_err();
    assert!(matches!(refused, LogError::InUse { .. }), "{refused}");
    drop(log);
    Log::open(dir.path()).unwrap();
}

/// A crash while the last append is written can leave any part of it. Whatever is left, what was acknowledged before
/// is there, and the log goes on.
#[test]
fn a_cut_tail_costs_nothing_that_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path()).unwrap();
    for number in 0..5 {
        log.append(number, &[event(number as i64 + 1)]).unwrap();
    }
    let before = fs::read(wal_path(&dir)).unwrap().len();
    log.append(5, &[event(6)]).unwrap();
    let main = fs::read(dir.path().join(LOG_FILE)).unwrap();
    let wal = fs::read(wal_path(&dir)).unwrap();
    assert!(wal.len() > before, "the append went to the write-ahead log");
    let step = 97; // Coprime to the page and frame sizes, so that every kind of cut occurs.
    for length in (before..wal.len()).step_by(step).chain([wal.len() - 1, wal.len()]) {
        let copy = copy_of(&main, &wal[..length]);
        let mut log = Log::open(copy.path()).unwrap_or_else(|error| panic!("cut to {length}: {error}"));
        let kept = if length == wal.len() { 6 } else { 5 };
        assert_eq!(log.position(), kept, "cut to {length} of {}", wal.len());
        assert_eq!(positions_and_texts(&log, 0).len() as u64, kept);
        log.append(kept, &[event(99)]).unwrap();
    }
}

#[test]
fn damage_in_the_write_ahead_log_is_refused_not_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path()).unwrap();
    log.append(0, &[event(1)]).unwrap();
    let first_end = fs::read(wal_path(&dir)).unwrap().len();
    for number in 1..5 {
        log.append(number, &[event(number as i64 + 1)]).unwrap();
    }
    let main = fs::read(dir.path().join(LOG_FILE)).unwrap();
    let wal = fs::read(wal_path(&dir)).unwrap();
    for offset in (32..first_end).step_by(101).chain([40, 44, 32 + 24]) {
        let mut damaged = wal.clone();
        damaged[offset] ^= 0x10;
        let copy = copy_of(&main, &damaged);
        let refused = Log::open(copy.path()).expect_err(&format!("byte {offset} flipped"));
        assert!(matches!(refused, LogError::Damaged { .. }), "byte {offset}: {refused}");
        let exported = export(copy.path(), &mut Vec::new()).unwrap();
        assert!(!exported.is_whole() && exported.damage.is_some(), "byte {offset}: {exported:?}");
        assert_eq!(fs::read(wal_path(&copy)).unwrap(), damaged, "nothing was changed");
    }
}

#[test]
fn damage_in_the_middle_is_refused_with_what_to_do() {
    let (main, _) = closed_log(200);
    let needle = text(100);
    let offset = find(&main, needle.as_bytes());
    let mut damaged = main.clone();
    damaged[offset] ^= 1;
    let copy = copy_of(&damaged, &[]);
    let refused = Log::open(copy.path()).unwrap_err();
    assert!(matches!(refused, LogError::Damaged { position: Some(100), .. }), "{refused}");
    let sentence = refused.to_string();
    assert!(sentence.contains("ukai log export") && sentence.contains("position 100"), "{sentence}");
    assert!(sentence.contains(&copy.path().display().to_string()), "{sentence}");
    assert_eq!(fs::read(copy.path().join(LOG_FILE)).unwrap(), damaged, "nothing was changed");
}

/// Any byte of any page: a log either opens with every event as it was, or is refused.
#[test]
fn no_flipped_byte_changes_what_is_read() {
    let (main, whole) = closed_log(200);
    let mut refusals = 0;
    for offset in (0..main.len()).step_by(211) {
        let mut damaged = main.clone();
        damaged[offset] ^= 0x41;
        let copy = copy_of(&damaged, &[]);
        match Log::open(copy.path()) {
            Ok(log) => assert_eq!(positions_and_texts(&log, 0), whole, "byte {offset} flipped"),
            Err(_) => refusals += 1,
        }
    }
    assert!(refusals > 50, "{refusals}");
}

#[test]
fn a_missing_event_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    drop(log_of(&dir, 5));
    let db = Connection::open(dir.path().join(LOG_FILE)).unwrap();
    db.execute("DELETE FROM events WHERE position = 3", []).unwrap();
    drop(db);
    let refused = Log::open(dir.path()).unwrap_err();
    assert!(matches!(refused, LogError::Damaged { position: Some(3), .. }), "{refused}");
}

#[test]
fn what_can_be_read_of_a_damaged_log_is_exported() {
    let dir = tempfile::tempdir().unwrap();
    drop(log_of(&dir, 5));
    let db = Connection::open(dir.path().join(LOG_FILE)).unwrap();
    db.execute("DELETE FROM events WHERE position = 3", []).unwrap();
    drop(db);
    let mut out = Vec::new();
    let exported = export(dir.path(), &mut out).unwrap();
    assert_eq!(exported, Exported { events: 4, missing: 1, ..Exported::default() });
    let lines: Vec<serde_json::Value> =
        String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let positions: Vec<u64> = lines.iter().map(|line| line["position"].as_u64().unwrap()).collect();
    assert_eq!(positions, [1, 2, 4, 5]);
    assert_eq!(lines[0]["event"], "troubled");
}

#[test]
fn a_newer_record_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(log_of(&dir, 2));
    let db = Connection::open(dir.path().join(LOG_FILE)).unwrap();
    let newer = i64::from(EVENT_VERSION) + 1;
    let chain: Chain = db.query_row("SELECT chain FROM events WHERE position = 2", [], |row| row.get(0)).unwrap();
    let (at, kind, json) = (text_of(event(3).at), "transcended", r#"{"event":"transcended"}"#);
    let next = next_chain(&chain, 3, &at, newer, kind, json);
    db.execute("INSERT INTO events VALUES (3, ?1, ?2, ?3, ?4, ?5)", params![at, newer, kind, json, next.as_slice()])
        .unwrap();
    drop(db);
    let refused = Log::open(dir.path()).unwrap_err();
    assert!(matches!(refused, LogError::Newer { .. }), "{refused}");
    assert!(refused.to_string().contains("newer ukai"), "{refused}");
}

#[test]
fn a_newer_layout_and_a_foreign_file_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(log_of(&dir, 1));
    let db = Connection::open(dir.path().join(LOG_FILE)).unwrap();
    db.execute_batch("PRAGMA user_version = 2").unwrap();
    drop(db);
    assert!(matches!(Log::open(dir.path()), Err(LogError::Newer { found: 2, .. })));

    let other = tempfile::tempdir().unwrap();
    let db = Connection::open(other.path().join(LOG_FILE)).unwrap();
    db.execute_batch("CREATE TABLE recipes (name TEXT)").unwrap();
    drop(db);
    assert!(matches!(Log::open(other.path()), Err(LogError::Foreign { .. })));

    let text = tempfile::tempdir().unwrap();
    fs::write(text.path().join(LOG_FILE), "not a database at all, but long enough to look".repeat(100)).unwrap();
    assert!(matches!(Log::open(text.path()), Err(LogError::Damaged { .. })));
}

#[test]
fn a_full_disk_is_told_and_later_appends_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = log_of(&dir, 1);
    let pages: i64 = log.db.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    log.db.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(())).unwrap();
    let large = Event::Troubled { what: "x".repeat(100_000) };
    let full = log.append(1, &[event(2), Recorded { at: event(2).at, event: large }]).unwrap_err();
    assert!(matches!(full, AppendError::Full), "{full}");
    assert_eq!(log.position(), 1);
    assert_eq!(positions_and_texts(&log, 0), [(1, text(1))], "all or nothing");
    log.db.query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(())).unwrap();
    assert_eq!(log.append(1, &[event(2)]).unwrap(), 2);
}

#[test]
fn a_log_that_became_read_only_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = log_of(&dir, 1);
    log.db.execute_batch("PRAGMA query_only = ON").unwrap();
    let refused = log.append(1, &[event(2)]).unwrap_err();
    assert!(matches!(refused, AppendError::ReadOnly(_)), "{refused}");
    assert_eq!(log.position(), 1);
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let refused = Log::open(std::path::Path::new("/sys")).unwrap_err();
    assert!(matches!(refused, LogError::ReadOnly { .. }), "{refused:?}");
    assert!(refused.to_string().contains("/sys/log.sqlite"), "{refused}");
}

#[test]
fn pruning_removes_only_what_a_checkpoint_covers() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = log_of(&dir, 4);
    assert_eq!(log.prune(event(100).at).unwrap(), 0, "no checkpoint, nothing to prune");
    log.checkpoint("{\"state\":4}").unwrap();
    log.append(4, &[event(5)]).unwrap();
    assert_eq!(log.prune(event(3).at).unwrap(), 2, "older than the third");
    assert_eq!(log.prune(event(100).at).unwrap(), 2, "the fifth is not covered");
    drop(log);
    let mut log = Log::open(dir.path()).unwrap();
    assert_eq!(positions_and_texts(&log, 0), [(5, text(5))]);
    let checkpoint = log.latest_checkpoint().unwrap().unwrap();
    assert_eq!(checkpoint, Checkpoint { position: 4, state: "{\"state\":4}".to_owned() });
    log.append(5, &[event(6)]).unwrap();
    log.checkpoint("{}").unwrap();
    assert_eq!(log.prune(event(100).at).unwrap(), 2);
    drop(log);
    assert_eq!(Log::open(dir.path()).unwrap().position(), 6, "an empty log keeps its position");
}

#[test]
fn events_of_an_open_incident_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = log_of(&dir, 1);
    log.append(1, &[opened(2, "i-1"), opened(3, "i-2"), closed(4, "i-1"), event(5)]).unwrap();
    log.checkpoint("{}").unwrap();
    assert_eq!(log.prune(event(100).at).unwrap(), 2, "i-2, opened at 3, is still open");
    log.append(5, &[closed(6, "i-2")]).unwrap();
    log.checkpoint("{}").unwrap();
    assert_eq!(log.prune(event(100).at).unwrap(), 4);
}

#[test]
fn a_changed_checkpoint_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = log_of(&dir, 2);
    log.checkpoint("{\"frozen\":true}").unwrap();
    drop(log);
    let db = Connection::open(dir.path().join(LOG_FILE)).unwrap();
    db.execute("UPDATE checkpoint SET json = '{\"frozen\":false}'", []).unwrap();
    drop(db);
    assert!(matches!(Log::open(dir.path()), Err(LogError::Damaged { position: Some(2), .. })));
}

fn log_of(dir: &TempDir, events: u64) -> Log {
    let mut log = Log::open(dir.path()).unwrap();
    for number in 0..events {
        log.append(number, &[event(number as i64 + 1)]).unwrap();
    }
    log
}

/// The main file of a log that was closed in good order, and what is in it.
fn closed_log(events: u64) -> (Vec<u8>, Vec<(Position, String)>) {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path()).unwrap();
    let all: Vec<Recorded> = (1..=events as i64).map(event).collect();
    log.append(0, &all).unwrap();
    let whole = positions_and_texts(&log, 0);
    drop(log);
    assert!(!wal_path(&dir).exists(), "a clean close leaves one file");
    (fs::read(dir.path().join(LOG_FILE)).unwrap(), whole)
}

fn copy_of(main: &[u8], wal: &[u8]) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::write(copy.path().join(LOG_FILE), main).unwrap();
    if !wal.is_empty() {
        fs::write(wal_path(&copy), wal).unwrap();
    }
    copy
}

fn wal_path(dir: &TempDir) -> PathBuf {
    dir.path().join("log.sqlite-wal")
}

fn positions_and_texts(log: &Log, from: Position) -> Vec<(Position, String)> {
    let read = log.read_from(from, READ_LIMIT).unwrap();
    read.into_iter()
        .map(|(position, recorded)| match recorded.event {
            Event::Troubled { what } => (position, what),
            other => (position, format!("{other:?}")),
        })
        .collect()
}

fn find(haystack: &[u8], needle: &[u8]) -> usize {
    haystack.windows(needle.len()).position(|window| window == needle).unwrap()
}

fn text(number: i64) -> String {
    format!("trouble number {number:04}")
}

fn event(number: i64) -> Recorded {
    Recorded { at: at(number), event: Event::Troubled { what: text(number) } }
}

fn closed(number: i64, incident: &str) -> Recorded {
    let event = Event::IncidentClosed { incident: incident.to_owned(), reason: "healthy".to_owned() };
    Recorded { at: at(number), event }
}

fn opened(number: i64, incident: &str) -> Recorded {
    let json = serde_json::json!({
        "at": at(number), "event": "incident_opened", "incident": incident, "peer": "api", "alarm": "api.burst",
        "stage": "connect", "class": "timeout", "summary": "", "page": true, "rests_on": [], "failing_since": at(number),
    });
    serde_json::from_value(json).unwrap()
}

fn at(number: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + number).unwrap()
}

/// The kind that rows carry is the tag that events have.
#[test]
fn the_kind_is_the_events_tag() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = Log::open(dir.path()).unwrap();
    let by = Actor { uid: None, name: "ukai".to_owned(), via: "policy".to_owned() };
    log.append(0, &[Recorded { at: at(1), event: Event::Frozen { by, why: String::new() } }]).unwrap();
    let kind: String = log.db.query_row("SELECT kind FROM events", [], |row| row.get(0)).unwrap();
    assert_eq!(kind, "frozen");
}
