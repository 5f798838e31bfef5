//! What is known of leases, and done about them, whether or not a keeper runs.

use jiff::{SignedDuration, Timestamp};

use super::clock::Moment;
use super::process::KeeperDir;
use super::serve::GRACE;
use super::store::{self, Store};
use super::{Kept, Lease};

/// What the keeper holds, or what is on its disk where none runs.
pub async fn known(dir: &KeeperDir) -> anyhow::Result<Vec<Kept>> {
    match dir.client().list().await {
        Ok(status) => Ok(status.leases),
        Err(_) => kept_on_disk(dir),
    }
}

pub fn kept_on_disk(dir: &KeeperDir) -> anyhow::Result<Vec<Kept>> {
    store::read(dir.path()).map(|(kept, _)| kept)
}

/// As a keeper leaves it that was killed.
#[cfg(test)]
pub fn hold_on_disk(dir: &KeeperDir) {
    let mut store = Store::open(dir.path(), Moment::now()).unwrap().unwrap();
    let lease = Lease::of(&crate::provider::claim::tests::claim(), "there".to_owned());
    store.hold(lease, Moment::now()).unwrap();
    store.page(Moment::now()).write().unwrap();
}

/// Leases that stand elsewhere than in `place`, told as a sentence: they would be ended by nobody. One that is over binds too, as
/// long as something of it may come late.
pub async fn bound_elsewhere(dir: &KeeperDir, place: Option<&str>) -> anyhow::Result<Option<String>> {
    let now = Timestamp::now();
    let mut kept = known(dir).await?;
    kept.retain(|kept| Some(kept.lease.place.as_str()) != place);
    // What still stands says more.
    kept.sort_by_key(|kept| (kept.last_look.is_some(), kept.ends_at <= now));
    Ok(kept.first().map(|kept| told(kept, now)))
}

fn told(Kept { lease, ends_at, last_look }: &Kept, now: Timestamp) -> String {
    let Lease { id, host, place, .. } = lease;
    match last_look {
        Some(until) => format!(
            "{id} for {host} was taken out of {place}, and until {until:.0} the lease keeper looks there for what was late on its way; \
             wait until then, or put that section back"
        ),
        None if *ends_at <= now => format!(
            "{id} for {host} is over, but nobody knows yet that nothing of it stands in {place}: take it back with the old \
             configuration (`ukai revert --all --offline --config FILE`) after {:.0}, or put that section back",
            last_look_at(*ends_at)
        ),
        None => format!(
            "{id} for {host} stands in {place}, where the configuration does not look any more; put that section back, or take it back \
             first with the old configuration (`ukai revert --all --offline --config FILE`)"
        ),
    }
}

fn last_look_at(ended: Timestamp) -> Timestamp {
    let grace = SignedDuration::try_from(GRACE).unwrap_or(SignedDuration::ZERO);
    ended.checked_add(grace).unwrap_or(Timestamp::MAX)
}

/// Everything of `place` was looked for and taken away, except what `may_stand`. Where a keeper runs, it knows; where none does,
/// this is written to its disk: what stood is over, and what was over for long enough is forgotten. Returns when to look again.
pub fn taken_offline(
    dir: &KeeperDir,
    place: &str,
    may_stand: impl Fn(&Lease) -> bool,
) -> anyhow::Result<Option<Timestamp>> {
    let now = Moment::now();
    if !dir.path().exists() {
        return Ok(None);
    }
    let Some(mut store) = Store::open(dir.path(), now)? else { return Ok(None) };
    let time = store.time(now);
    let is_taken = |lease: &Lease| lease.place == place && !may_stand(lease);
    store.kept.retain(|kept| !is_taken(&kept.lease) || last_look_at(kept.ends_at) > time);
    store.end(is_taken, now);
    let again = store.kept.iter().filter(|kept| is_taken(&kept.lease)).map(|kept| last_look_at(kept.ends_at)).max();
    store.page(now).write()?;
    Ok(again)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::claim::tests::claim;

    fn directory(leases: &[Kept]) -> (tempfile::TempDir, KeeperDir) {
        let dir = tempfile::tempdir().unwrap();
        let keeper = KeeperDir::of(dir.path());
        let mut store = Store::open(keeper.path(), Moment::now()).unwrap().unwrap();
        store.kept = leases.to_vec();
        store.page(Moment::now()).write().unwrap();
        (dir, keeper)
    }

    fn kept(place: &str, ends_in_s: i64) -> Kept {
        let ends_at = Timestamp::now() + SignedDuration::from_secs(ends_in_s);
        Kept { lease: Lease::of(&claim(), place.to_owned()), ends_at, last_look: None }
    }

    #[tokio::test]
    async fn a_lease_binds_its_place_until_nothing_of_it_can_come_late() {
        let (_dir, keeper) = directory(&[kept("there", 600)]);
        assert_eq!(bound_elsewhere(&keeper, Some("there")).await.unwrap(), None);
        let told = bound_elsewhere(&keeper, None).await.unwrap().unwrap();
        assert!(told.contains("stands in there"), "{told}");
        let again = taken_offline(&keeper, "there", |_| false).unwrap().unwrap();
        assert!(again > Timestamp::now());
        let told = bound_elsewhere(&keeper, None).await.unwrap().unwrap();
        assert!(told.contains("is over") && told.contains(&format!("{again:.0}")), "{told}");
        assert!(taken_offline(&keeper, "there", |_| false).unwrap().is_some(), "too early to forget it");

        let (_dir, keeper) = directory(&[kept("there", -3600)]);
        assert!(taken_offline(&keeper, "elsewhere", |_| false).unwrap().is_none());
        assert!(bound_elsewhere(&keeper, None).await.unwrap().is_some(), "another place was looked at");
        assert!(taken_offline(&keeper, "there", |_| true).unwrap().is_none());
        assert!(bound_elsewhere(&keeper, None).await.unwrap().is_some(), "it may stand");
        assert!(taken_offline(&keeper, "there", |_| false).unwrap().is_none());
        assert_eq!(bound_elsewhere(&keeper, None).await.unwrap(), None);
    }
}
