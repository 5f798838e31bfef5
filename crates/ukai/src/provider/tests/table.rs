//! The table: each row holds for every provider.

use std::pin::pin;
use std::task::Poll;

use jiff::{SignedDuration, Timestamp};
use ukai_core::effect::ServedOverride;

use super::bench::{ALL, Bench, next, served, until};

/// More often than any apply is woken.
const STEPS: usize = 60;

/// Each provider in turn, named where it fails.
macro_rules! row {
    ($name:ident, $check:ident) => {
        #[tokio::test]
        async fn $name() {
            for which in ALL {
                println!("{which:?}");
                let mut bench = Bench::start(which).await;
                $check(&mut bench).await;
            }
        }
    };
}

row!(what_is_applied_is_what_stands, apply);
row!(a_change_replaces_what_it_expects, replace);
row!(drift_is_seen_and_not_fought, drift);
row!(a_foreign_record_is_untouched, foreign);
row!(of_two_writers_one_loses_cleanly, two_writers);
row!(a_provider_that_is_down_at_apply_is_left_as_it_was, down_at_apply);
row!(a_provider_that_is_down_at_revert_is_tried_again, down_at_revert);
row!(an_apply_cut_off_anywhere_is_taken_up, cut_off);
row!(a_revert_leaves_no_residue, no_residue);
row!(a_lease_ends_by_itself, expiry);

async fn apply(bench: &mut Bench) {
    let wanted = served("ovr-1", &["192.0.2.7", "2001:db8::7"]);
    bench.apply(&wanted).await.unwrap();
    assert_eq!(bench.standing().await, [("ovr-1".to_owned(), 1, "192.0.2.7 2001:db8::7".to_owned())]);
    let before = bench.residue().await;
    bench.apply(&wanted).await.unwrap();
    assert_eq!(bench.residue().await, before, "the same again changes nothing");
    if let Some(answered) = bench.provider.served_addresses(&wanted.host).await {
        assert_eq!(answered.unwrap(), wanted.addresses);
    }
}

async fn replace(bench: &mut Bench) {
    let first = served("ovr-1", &["192.0.2.7"]);
    bench.apply(&first).await.unwrap();
    let unexpected = ServedOverride { replaces_generation: Some(5), generation: 6, ..first.clone() };
    bench.apply(&unexpected).await.unwrap_err();
    assert_eq!(bench.standing().await, [("ovr-1".to_owned(), 1, "192.0.2.7".to_owned())]);
    let second = next(&first, &["192.0.2.8", "192.0.2.7", "2001:db8::8"]);
    bench.apply(&second).await.unwrap();
    bench.apply(&second).await.unwrap();
    assert_eq!(bench.standing().await, [("ovr-1".to_owned(), 2, "192.0.2.7 192.0.2.8 2001:db8::8".to_owned())]);
    bench.apply(&next(&second, &["2001:db8::8"])).await.unwrap();
    assert_eq!(bench.standing().await, [("ovr-1".to_owned(), 3, "2001:db8::8".to_owned())]);
    bench.withdraw("ovr-1", 1).await.unwrap_err();
    assert_eq!(bench.standing().await.len(), 1, "whoever knows of an earlier generation only takes nothing away");
}

async fn drift(bench: &mut Bench) {
    let first = served("ovr-1", &["192.0.2.7"]);
    bench.apply(&first).await.unwrap();
    bench.change_by_hand("192.0.2.7", "198.51.100.1").await;
    let standing = bench.standing().await;
    assert_eq!(standing[0].2, "198.51.100.1", "the engine compares this with what it had written");
    let before = bench.residue().await;
    let refused = bench.apply(&next(&first, &["192.0.2.9"])).await.unwrap_err();
    assert_eq!(bench.residue().await, before, "{refused}");
}

async fn foreign(bench: &mut Bench) {
    bench.write_by_hand("198.51.100.1").await;
    let before = bench.residue().await;
    let refused = bench.apply(&served("ovr-1", &["192.0.2.7"])).await.unwrap_err();
    assert!(refused.contains("stands"), "{refused}");
    // It was never applied; taking it back touches nothing, and is done.
    bench.withdraw("ovr-1", 1).await.unwrap();
    assert_eq!(bench.residue().await, before);
}

async fn two_writers(bench: &mut Bench) {
    let (one, two) = (served("ovr-1", &["192.0.2.1"]), served("ovr-2", &["192.0.2.2"]));
    let (first, second) = tokio::join!(bench.apply(&one), bench.apply(&two));
    assert!(first.is_err() || second.is_err(), "{first:?} {second:?}");
    if first.is_err() && second.is_err() && !bench.compares_and_swaps() {
        assert!(bench.standing().await.is_empty());
        return;
    }
    assert!(first.is_ok() || second.is_ok(), "{first:?} {second:?}");
    let standing = bench.standing().await;
    let winner = if first.is_ok() { ("ovr-1", "192.0.2.1") } else { ("ovr-2", "192.0.2.2") };
    assert_eq!(standing, [(winner.0.to_owned(), 1, winner.1.to_owned())]);
    let clean = bench.residue().await;
    assert!(!clean.contains(if first.is_ok() { "ovr-2" } else { "ovr-1" }), "{clean}");
}

async fn down_at_apply(bench: &mut Bench) {
    let before = bench.residue().await;
    bench.down().await;
    let refused = bench.apply(&served("ovr-1", &["192.0.2.7"])).await.unwrap_err();
    assert!(refused.contains("reached"), "{refused}");
    // Nothing was sent to a zone that cannot be read, so there is nothing to take back.
    if bench.is_a_zone() {
        bench.withdraw("ovr-1", 1).await.unwrap();
    }
    bench.up().await;
    assert_eq!(bench.residue().await, before);
    bench.apply(&served("ovr-1", &["192.0.2.7"])).await.unwrap();
    bench.withdraw("ovr-1", 1).await.unwrap();
    assert_eq!(bench.standing().await, []);
}

async fn down_at_revert(bench: &mut Bench) {
    let before = bench.residue().await;
    bench.apply(&served("ovr-1", &["192.0.2.7"])).await.unwrap();
    bench.down().await;
    bench.withdraw("ovr-1", 1).await.unwrap_err();
    bench.up().await;
    let standing = usize::from(bench.survives_a_restart());
    assert_eq!(bench.standing().await.len(), standing, "it stands through the restart, or fell back to the world");
    bench.withdraw("ovr-1", 1).await.unwrap();
    assert_eq!(bench.residue().await, before);
}

/// The controller ends after each step of an apply; the next one does the same again.
async fn cut_off(bench: &mut Bench) {
    let before = bench.residue().await;
    let mut whole = 0;
    for steps in 1..STEPS {
        let id = format!("ovr-{steps}");
        let wanted = served(&id, &["192.0.2.7", "2001:db8::7"]);
        let finished = cut_after(steps, bench.apply(&wanted)).await;
        bench.apply(&wanted).await.unwrap();
        assert_eq!(bench.standing().await, [(id.clone(), 1, "192.0.2.7 2001:db8::7".to_owned())]);
        cut_after(steps, bench.withdraw(&id, 1)).await;
        bench.withdraw(&id, 1).await.unwrap();
        assert_eq!(bench.residue().await, before, "after {steps} steps");
        whole += usize::from(finished);
        if whole > 2 {
            return;
        }
    }
}

/// Whether it came to its end within so many wakings.
async fn cut_after<T>(steps: usize, future: impl Future<Output = T>) -> bool {
    let mut future = pin!(future);
    let mut left = steps;
    std::future::poll_fn(|context| {
        if future.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        left -= 1;
        if left == 0 { Poll::Ready(false) } else { Poll::Pending }
    })
    .await
}

async fn no_residue(bench: &mut Bench) {
    let before = bench.residue().await;
    let first = served("ovr-1", &["192.0.2.7", "2001:db8::7"]);
    bench.apply(&first).await.unwrap();
    assert_ne!(bench.residue().await, before);
    bench.apply(&next(&first, &["192.0.2.8"])).await.unwrap();
    bench.withdraw("ovr-1", 2).await.unwrap();
    assert_eq!(bench.residue().await, before);
    bench.withdraw("ovr-1", 2).await.unwrap();
    bench.withdraw("ovr-never", 1).await.unwrap();
    assert_eq!(bench.residue().await, before);
    // What is looked for late is not the one that came after it, though it leads to the same place.
    bench.apply(&served("ovr-2", &["192.0.2.8"])).await.unwrap();
    bench.withdraw("ovr-1", 2).await.unwrap();
    assert_eq!(bench.standing().await, [("ovr-2".to_owned(), 1, "192.0.2.8".to_owned())]);
    bench.withdraw("ovr-2", 1).await.unwrap();
    assert_eq!(bench.residue().await, before);
}

async fn expiry(bench: &mut Bench) {
    let before = bench.residue().await;
    let soon = ServedOverride {
        expires_at: Timestamp::now() + SignedDuration::from_secs(8),
        ..served("ovr-1", &["192.0.2.7"])
    };
    // That it stands then is another row; here it may be over before anybody has looked.
    bench.apply(&soon).await.unwrap();
    until("the lease ends", || async { bench.standing().await.is_empty() }).await;
    assert_eq!(bench.residue().await, before);
    let over = ServedOverride {
        expires_at: Timestamp::now() - SignedDuration::from_secs(1),
        ..served("ovr-2", &["192.0.2.7"])
    };
    let refused = bench.apply(&over).await.unwrap_err();
    assert!(refused.contains("run out"), "{refused}");
}
