use std::time::Duration;

use super::*;

const HOUR: Duration = Duration::from_secs(3_600);

/// One instant that the tests move about; the two clocks move apart when told to.
#[derive(Clone, Copy)]
struct Clocks(Moment);

impl Clocks {
    fn new() -> Self {
        Self(Moment { wall: "2026-05-04T12:00:00Z".parse().unwrap(), monotonic: Instant::now() })
    }

    fn after(self, elapsed: Duration) -> Self {
        Self(Moment { wall: self.0.wall + elapsed, monotonic: self.0.monotonic + elapsed })
    }

    fn with_wall_back(self, by: Duration) -> Self {
        Self(Moment { wall: self.0.wall - by, ..self.0 })
    }

    fn with_wall_ahead(self, by: Duration) -> Self {
        Self(Moment { wall: self.0.wall + by, ..self.0 })
    }
}

fn record(id: &str, lease: Duration, clocks: Clocks) -> OverrideRecord {
    OverrideRecord {
        id: id.to_owned(),
        name: format!("{id}.peer.test").parse().unwrap(),
        a: vec!["192.0.2.7".parse().unwrap()],
        aaaa: Vec::new(),
        ttl: 10,
        expires_at: clocks.0.wall + lease,
        incident: "inc-1".to_owned(),
        generation: 1,
        set_at: clocks.0.wall,
    }
}

fn load(dir: &Path, clocks: Clocks) -> Store {
    Store::load(dir, clocks.0).unwrap()
}

fn refusal(result: Result<(), StoreError>) -> Refusal {
    match result {
        Err(StoreError::Refused(refusal)) => refusal,
        other => panic!("{other:?} is no refusal"),
    }
}

fn standing(store: &Store) -> Vec<&str> {
    store.leases().iter().map(|lease| lease.record.id.as_str()).collect()
}

#[test]
fn what_was_set_stands_after_a_restart() {
    let (dir, start) = (tempfile::tempdir().unwrap(), Clocks::new());
    let record = record("o-1", HOUR, start);
    load(dir.path(), start).set(record.clone(), None, start.0).unwrap();
    let store = load(dir.path(), start.after(HOUR / 2));
    assert_eq!(store.leases()[0].record, record);
    assert_eq!(store.leases()[0].deadline, start.after(HOUR).0.monotonic);
}

#[test]
fn a_lease_ends_by_either_clock() {
    let (dir, start) = (tempfile::tempdir().unwrap(), Clocks::new());
    let mut store = load(dir.path(), start);
    store.set(record("o-1", HOUR, start), None, start.0).unwrap();
    assert!(store.expire(start.after(HOUR / 2).0).is_empty());
    // The wall clock was set back, and an hour has passed all the same.
    assert_eq!(store.expire(start.after(HOUR).with_wall_back(2 * HOUR).0).len(), 1);
    store.set(record("o-2", HOUR, start), None, start.0).unwrap();
    // The wall clock jumped ahead.
    assert_eq!(store.expire(start.with_wall_ahead(HOUR).0).len(), 1);
    let ended: Vec<_> = store.ended().map(|ended| (ended.id.as_str(), ended.expired)).collect();
    assert_eq!(ended, [("o-1", true), ("o-2", true)]);
}

#[test]
fn a_clock_set_back_between_two_runs_prolongs_nothing() {
    let (dir, start) = (tempfile::tempdir().unwrap(), Clocks::new());
    let mut store = load(dir.path(), start);
    store.set(record("o-1", HOUR, start), None, start.0).unwrap();
    let later = start.after(HOUR * 3 / 4);
    store.store_clock(later.0).unwrap();
    // Three quarters of the lease are used; whatever the clock says now, one quarter is left.
    let restarted = later.with_wall_back(10 * HOUR);
    let mut store = load(dir.path(), restarted);
    assert_eq!(store.leases()[0].deadline, restarted.after(HOUR / 4).0.monotonic);
    // And a second restart does not begin that quarter anew.
    let half_of_it = restarted.after(HOUR / 8);
    store.store_clock(half_of_it.0).unwrap();
    let store = load(dir.path(), half_of_it);
    assert_eq!(store.leases()[0].deadline, half_of_it.after(HOUR / 8).0.monotonic);
}

#[test]
fn a_lease_that_ended_while_nobody_looked_is_told() {
    let (dir, start) = (tempfile::tempdir().unwrap(), Clocks::new());
    load(dir.path(), start).set(record("o-1", HOUR, start), None, start.0).unwrap();
    let mut store = load(dir.path(), start.after(HOUR));
    assert!(store.leases().is_empty());
    assert_eq!(store.ended().next().unwrap().why, "the lease ran out while the server was not running");
    store.settle(start.after(HOUR).0).unwrap();
    assert_eq!(load(dir.path(), start.after(HOUR)).ended().count(), 1);
}

#[test]
fn a_clock_that_ran_ahead_and_came_back_blocks_nothing_new() {
    let (dir, start) = (tempfile::tempdir().unwrap(), Clocks::new());
    let mut store = load(dir.path(), start);
    store.set(record("o-1", HOUR, start), None, start.0).unwrap();
    store.expire(start.with_wall_ahead(1_000 * HOUR).0);
    store.settle(start.with_wall_ahead(1_000 * HOUR).0).unwrap();
    let mut store = load(dir.path(), start);
    store.set(record("o-2", HOUR, start), None, start.0).unwrap();
    assert_eq!(standing(&load(dir.path(), start.after(HOUR / 2))), ["o-2"]);
}

#[test]
fn compare_and_swap() {
    let (dir, start) = (tempfile::tempdir().unwrap(), Clocks::new());
    let mut store = load(dir.path(), start);
    let first = record("o-1", HOUR, start);
    store.set(first.clone(), None, start.0).unwrap();
    store.set(first.clone(), None, start.0).unwrap();
    let present = Refusal::Conflict { id: "o-1".to_owned(), name: first.name.clone(), generation: 1 };

    let other = OverrideRecord { id: "o-2".to_owned(), ..first.clone() };
    assert_eq!(refusal(store.set(other.clone(), None, start.0)), present);
    assert_eq!(refusal(store.set(other, Some(1), start.0)), present);
    let elsewhere = OverrideRecord { name: "else.test".parse().unwrap(), ..first.clone() };
    assert_eq!(refusal(store.set(elsewhere, Some(1), start.0)), present);
    let second = OverrideRecord { generation: 2, ttl: 20, ..first.clone() };
    assert_eq!(refusal(store.set(second.clone(), None, start.0)), present);
    assert_eq!(refusal(store.set(second.clone(), Some(7), start.0)), present);
    assert_eq!(refusal(store.set(OverrideRecord { ttl: 20, ..first.clone() }, Some(1), start.0)), present);
    store.set(second.clone(), Some(1), start.0).unwrap();
    assert_eq!(store.leases()[0].record, second);
    assert_eq!(refusal(store.set(record("o-3", HOUR, start), Some(4), start.0)), Refusal::NotThere { expected: 4 });

    assert!(matches!(
        store.clear("o-1", Some(1), "late", start.0),
        Err(StoreError::Refused(Refusal::Conflict { generation: 2, .. }))
    ));
    assert_eq!(store.clear("o-1", Some(2), "healed", start.0).unwrap(), Some(second.clone()));
    assert_eq!(store.clear("o-1", Some(2), "healed", start.0).unwrap(), None);
    // A set that comes late does not bring back what has ended; a new generation may.
    assert!(matches!(refusal(store.set(second.clone(), None, start.0)), Refusal::HasEnded { generation: 2, .. }));
    store.set(OverrideRecord { generation: 3, ..second }, None, start.0).unwrap();
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (dir, start) = (tempfile::tempdir().unwrap(), Clocks::new());
    let mut store = load(dir.path(), start);
    let good = record("o-1", HOUR, start);
    let invalid = [
        OverrideRecord { id: String::new(), ..good.clone() },
        OverrideRecord { id: "x".repeat(129), ..good.clone() },
        OverrideRecord { incident: "a\nb".to_owned(), ..good.clone() },
        OverrideRecord { name: crate::name::Name::root(), ..good.clone() },
        OverrideRecord { a: Vec::new(), ..good.clone() },
        OverrideRecord { a: vec!["192.0.2.1".parse().unwrap(); 33], ..good.clone() },
        OverrideRecord { ttl: 0, ..good.clone() },
        OverrideRecord { ttl: 3_601, ..good.clone() },
    ];
    for record in invalid {
        assert!(matches!(refusal(store.set(record, None, start.0)), Refusal::Invalid { .. }));
    }
    let mut lease = |lease| refusal(store.set(record("o-1", lease, start), None, start.0));
    assert_eq!(lease(25 * HOUR), Refusal::LeaseTooLong);
    assert_eq!(lease(Duration::ZERO), Refusal::LeaseOver);
    for n in 0..MAX_OVERRIDES {
        store.set(record(&format!("n-{n}"), HOUR, start), None, start.0).unwrap();
    }
    assert_eq!(refusal(store.set(good, None, start.0)), Refusal::TooMany);
}

#[test]
fn nothing_of_a_damaged_file_stands() {
    let start = Clocks::new();
    let long = record("o-1", 25 * HOUR, start);
    let twice = [record("o-1", HOUR, start), record("o-1", HOUR, start)];
    let file = |overrides: &[OverrideRecord], version: u32| {
        serde_json::json!({ "version": version, "highest_wall_ms": start.0.wall_ms(), "overrides": overrides })
            .to_string()
    };
    let whole = file(&[record("o-1", HOUR, start)], 1);
    let damaged =
        [whole[..whole.len() - 9].to_owned(), file(&[long], 1), file(&twice, 1), file(&[], 2), " ".repeat(2_000_000)];
    for text in damaged {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), &text).unwrap();
        let mut store = load(dir.path(), start);
        assert!(store.leases().is_empty());
        assert!(store.damaged().unwrap().contains("overrides.json.damaged-"));
        assert!(!dir.path().join(FILE).exists());
        store.set(record("o-9", HOUR, start), None, start.0).unwrap();
        assert_eq!(standing(&load(dir.path(), start)), ["o-9"]);
    }
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(FILE), whole).unwrap();
    assert_eq!(standing(&load(dir.path(), start)), ["o-1"]);
}

#[test]
fn what_cannot_be_written_is_not_served_and_what_is_cleared_is_gone_all_the_same() {
    let (dir, start) = (tempfile::tempdir().unwrap(), Clocks::new());
    let mut store = load(dir.path(), start);
    store.set(record("o-1", HOUR, start), None, start.0).unwrap();
    // A directory where the new file should go: what a full disk does, reliably.
    let obstacle = dir.path().join(format!("{FILE}.new"));
    fs::create_dir(&obstacle).unwrap();
    let error = store.set(record("o-2", HOUR, start), None, start.0).unwrap_err();
    assert!(error.to_string().starts_with("cannot write "), "{error}");
    assert_eq!(standing(&store), ["o-1"]);
    assert!(store.clear("o-1", None, "healed", start.0).is_err());
    assert!(store.leases().is_empty() && store.is_unwritten());
    fs::remove_dir(&obstacle).unwrap();
    store.settle(start.0).unwrap();
    assert!(load(dir.path(), start).leases().is_empty());
}

#[test]
fn what_has_ended_is_remembered_within_bounds() {
    let (dir, start) = (tempfile::tempdir().unwrap(), Clocks::new());
    let mut store = load(dir.path(), start);
    for n in 0..MAX_ENDED + 10 {
        let record = record(&format!("n-{n}"), HOUR, start);
        store.remember(&record, "healed", false, start.0);
    }
    assert_eq!(store.ended().count(), MAX_ENDED);
    assert_eq!(store.ended().next().unwrap().id, "n-10");
}
