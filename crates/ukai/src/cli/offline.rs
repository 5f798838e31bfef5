//! `ukai revert --all --offline`: every override taken back with the daemon dead.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use jiff::Timestamp;
use serde_json::json;
use ukai_core::event::Actor;
use ukai_dns::server::{ControlClient, OverrideRecord};

use crate::config::{Config, ZoneSettings};
use crate::data_dir::{self, LOCK_FILE};
use crate::dns_process::StateDir;
use crate::driver::offline::{ALL, Deed, begun, record};
use crate::log::LOG_FILE;
use crate::provider::claim::Claim;
use crate::provider::keeper::{KeeperDir, Lease, bound_elsewhere, known, taken_offline};
use crate::provider::{self, Fault, Withdrawn, Zone};
use crate::socket::credentials::user_name;

use super::overrides::WhyArgs;
use super::paint::{Painted, Tone};
use super::{BROKEN, DONE, Failed, REFUSED, USAGE};

pub async fn revert_all(args: &WhyArgs) -> anyhow::Result<ExitCode> {
    let dir = args.daemon.data_dir()?;
    is_a_data_directory(&dir)?;
    if let Some(process) = data_dir::holder(&dir) {
        let message = format!(
            "the daemon of {} runs (process {process}); use `ukai revert --all` without --offline",
            dir.display()
        );
        return Err(Failed::with(REFUSED, message));
    }
    let why = if args.why.is_empty() { "reverted offline".to_owned() } else { args.why.clone() };
    let mut taken = Taken { dir: dir.clone(), ..Taken::default() };
    match begun(&dir) {
        Ok(ids) => taken.dropped = ids,
        // What is served goes all the same: nobody should have to mend a log first.
        Err(error) => taken.problems.push(format!(
            "the log was not read, so what it had begun is not known here; the daemon drops it when it starts: {error:#}"
        )),
    }
    if let Some(settings) = taken.zone_settings(args).await? {
        match provider::known_owner(&dir)
            .map_err(|error| Failed::with(BROKEN, format!("nothing was taken back: {error:#}")))?
        {
            Some(owner) => {
                let zone = Zone::new(settings.place()?, KeeperDir::of(&dir).client(), owner);
                taken.in_zone(&zone, &why).await?;
            }
            None => {
                taken.warnings.push("this data directory has no owner file: it has never written to a zone, so nothing of it can stand there".to_owned());
                taken.write_down(&dir, &why)?;
            }
        }
        taken.tell(args.json);
        return Ok(ExitCode::from(if taken.problems.is_empty() { DONE } else { BROKEN }));
    }
    let state_dir = StateDir::of(&dir);
    match state_dir.control().list().await {
        Ok(status) => {
            taken.warnings.extend(status.damaged);
            taken.at_process(&dir, &state_dir, status.overrides, &why).await?;
        }
        Err(_) if state_dir.path().exists() => taken.on_disk(&dir, &state_dir, &why)?,
        Err(_) => taken.write_down(&dir, &why)?,
    }
    taken.tell(args.json);
    Ok(ExitCode::from(if taken.problems.is_empty() { DONE } else { BROKEN }))
}

/// "No override stood" may only be said of a directory that was looked into, and that is a daemon's.
fn is_a_data_directory(dir: &Path) -> anyhow::Result<()> {
    let failed = |what: String| {
        let message = format!(
            "nothing was taken back: {what}. Name the daemon's directory with --data-dir, or its configuration with \
             --config, and run this as the daemon's user or as root"
        );
        Failed::with(BROKEN, message)
    };
    let unread = |path: &Path, error: io::Error| match error.kind() {
        ErrorKind::NotFound => failed(format!("the data directory {} does not exist", path.display())),
        _ => failed(format!("{} cannot be read: {error}", path.display())),
    };
    fs::read_dir(dir).map_err(|error| unread(dir, error))?;
    let dns = StateDir::of(dir);
    let mut found = false;
    for path in [dir.join(LOG_FILE), dir.join(LOCK_FILE), dns.path().to_owned()] {
        match File::open(&path) {
            Ok(_) => found = true,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(unread(&path, error)),
        }
    }
    if found { Ok(()) } else { Err(failed(format!("{} is not the data directory of a ukai daemon", dir.display()))) }
}

/// What was taken back.
#[derive(Default)]
struct Taken {
    /// Where it was looked.
    dir: PathBuf,
    /// Served, or on the disk of a DNS process that is down.
    /// Id and name.
    reverted: Vec<(String, String)>,
    /// Approved or begun, and served nowhere.
    dropped: Vec<String>,
    warnings: Vec<String>,
    /// Why more may have stood than is known.
    problems: Vec<String>,
}

impl Taken {
    /// Where the configuration puts overrides into a zone of somebody else's. What stands in any other stays there, and is told.
    async fn zone_settings(&mut self, args: &WhyArgs) -> anyhow::Result<Option<ZoneSettings>> {
        let keeper = KeeperDir::of(&self.dir);
        let Some(file) = &args.daemon.config else {
            return match bound_elsewhere(&keeper, None).await? {
                None => Ok(None),
                Some(elsewhere) => Err(Failed::with(
                    BROKEN,
                    format!(
                        "nothing was taken back: name the daemon's configuration with --config, which says how to reach the zone: {elsewhere}"
                    ),
                )),
            };
        };
        let config = Config::load(file).map_err(|error| Failed::with(USAGE, error.to_string()))?;
        let place = config.zone.as_ref().map(ZoneSettings::place).transpose()?.map(|place| place.to_string());
        match bound_elsewhere(&keeper, place.as_deref()).await {
            Ok(elsewhere) => self.problems.extend(elsewhere),
            // What stands goes all the same: nobody should have to mend a file first.
            Err(error) => self.problems.push(format!("which leases are held is not known: {error:#}")),
        }
        Ok(config.zone)
    }

    /// Everything that bears this data directory's mark, wherever the log stands, and whatever has a lease there.
    async fn in_zone(&mut self, zone: &Zone, why: &str) -> anyhow::Result<()> {
        let look = |error: Fault| anyhow::anyhow!("nothing was taken back: {error}");
        let found = zone.look(&BTreeSet::new()).await.map_err(look)?;
        let claims: Vec<Claim> = found.ours.into_iter().map(|(claim, _)| claim).collect();
        self.dropped.retain(|id| claims.iter().all(|claim| claim.id != *id));
        self.reverted = claims.iter().map(|claim| (claim.id.clone(), claim.host.clone())).collect();
        self.write_down(&self.dir, why)?;
        let keeper = KeeperDir::of(&self.dir);
        let place = zone.place().to_string();
        let mut withdrawn: Vec<Withdrawn> = claims.iter().map(Withdrawn::of).collect();
        // An update may be on its way that has not come yet. A file that is damaged was told of already.
        let kept = known(&keeper).await.unwrap_or_default();
        withdrawn
            .extend(kept.iter().map(|kept| &kept.lease).filter(|lease| lease.place == place).map(Lease::withdrawn));
        let left = self.each(withdrawn, async |withdrawn| zone.withdraw(withdrawn).await).await;
        match taken_offline(&keeper, &place, |lease| left.contains(&lease.id)) {
            Ok(again) => self.warnings.extend(again.map(|again| {
                format!(
                    "no lease keeper runs that would look for what was late on its way: run this again after {again:.0}, or start ukai"
                )
            })),
            Err(error) => self.problems.push(format!("that leases are over was not written down: {error:#}")),
        }
        Ok(())
    }

    async fn at_process(
        &mut self,
        dir: &Path,
        state_dir: &StateDir,
        served: Vec<OverrideRecord>,
        why: &str,
    ) -> anyhow::Result<()> {
        self.found(served);
        self.write_down(dir, why)?;
        let generation = u64::MAX;
        let none = BTreeSet::new;
        let found =
            self.reverted.iter().map(|(id, _)| Withdrawn { id: id.clone(), generation, host: None, addresses: none() });
        let control = state_dir.control();
        self.each(found.collect(), async |withdrawn| control.clear(&withdrawn.id, None, why).await).await;
        Ok(())
    }

    /// One that cannot be taken back does not stop the others; its id is returned, and it does not count as reverted.
    async fn each<E: Display>(
        &mut self,
        withdrawn: Vec<Withdrawn>,
        take: impl AsyncFn(&Withdrawn) -> Result<(), E>,
    ) -> BTreeSet<String> {
        let mut left = BTreeSet::new();
        for withdrawn in withdrawn {
            if left.contains(&withdrawn.id) {
                continue;
            }
            if let Err(error) = take(&withdrawn).await {
                self.problems.push(format!("{} could not be taken back: {error}", withdrawn.id));
                left.insert(withdrawn.id);
            }
        }
        self.reverted.retain(|(id, _)| !left.contains(id));
        left
    }

    /// The DNS process is down too: what it would serve when it comes back is on its disk.
    fn on_disk(&mut self, dir: &Path, state_dir: &StateDir, why: &str) -> anyhow::Result<()> {
        let standing = RefCell::new(Vec::new());
        let look = |record: &OverrideRecord| {
            standing.borrow_mut().push(record.clone());
            false
        };
        let looked = ControlClient::edit_offline(state_dir.path(), look, why).with_context(|| {
            format!(
                "nothing was taken back: the DNS process of {} does not answer, and its overrides cannot be read \
                     from its disk; end that process if it hangs, or run this as its user",
                dir.display()
            )
        })?;
        self.found(standing.into_inner());
        self.write_down(dir, why)?;
        let withdrawn = ControlClient::edit_offline(state_dir.path(), |_| true, why)
            .context("the overrides on disk cannot be changed")?;
        self.problems.extend(looked.damaged.or(withdrawn.damaged).map(|damage| {
            format!(
                "which overrides stood is not known: {damage}. The DNS server serves none of it when it starts again; \
                 look into that file, and ask the DNS server for the names in it once it runs"
            )
        }));
        Ok(())
    }

    fn found(&mut self, served: Vec<OverrideRecord>) {
        self.dropped.retain(|id| served.iter().all(|over| over.id != *id));
        self.reverted = served.into_iter().map(|over| (over.id, over.name.to_string())).collect();
    }

    /// Who and why, before the deed.
    fn write_down(&self, dir: &Path, why: &str) -> anyhow::Result<()> {
        let uid = rustix::process::getuid().as_raw();
        let by = Actor { uid: Some(uid), name: user_name(uid), via: "offline".to_owned() };
        let ids = self.reverted.iter().map(|(id, _)| id.as_str()).chain(self.dropped.iter().map(String::as_str));
        let deeds: Vec<Deed> = ids
            .chain([ALL])
            .map(|id| Deed { at: Timestamp::now(), id: id.to_owned(), by: by.clone(), why: why.to_owned() })
            .collect();
        record(dir, &deeds)
            .with_context(|| format!("who did it cannot be written to {}, so nothing was done", dir.display()))
    }

    fn tell(&self, json: bool) {
        if json {
            let ids: Vec<&str> = self.reverted.iter().map(|(id, _)| id.as_str()).collect();
            let told = json!({
                "data_dir": self.dir, "reverted": ids, "dropped": self.dropped, "warnings": self.warnings,
                "problems": self.problems,
            });
            anstream::println!("{told}");
            return;
        }
        anstream::println!("{}", Painted(Tone::Faint, format_args!("looked in {}", self.dir.display())));
        for warning in &self.warnings {
            anstream::println!("{}", Painted(Tone::Warning, warning));
        }
        if self.reverted.is_empty() && self.problems.is_empty() {
            anstream::println!("no override stood");
        }
        for (id, name) in &self.reverted {
            anstream::println!("{id} for {name} is no longer served");
        }
        for id in &self.dropped {
            anstream::println!("{id} was not served, and will not be when the daemon starts");
        }
        for problem in &self.problems {
            anstream::eprintln!("{} {problem}", Painted(Tone::Bad, "ukai:"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_stays_does_not_keep_the_others() {
        let ids = ["ovr-1", "ovr-2", "ovr-3"];
        let named = |id: &str| (id.to_owned(), format!("{id}.peer.test"));
        let mut taken = Taken { reverted: ids.map(named).to_vec(), ..Taken::default() };
        let withdrawn =
            ids.map(|id| Withdrawn { id: id.to_owned(), generation: 1, host: None, addresses: BTreeSet::new() });
        let left = taken
            .each(
                withdrawn.to_vec(),
                async |withdrawn| if withdrawn.id == "ovr-1" { Err("it is down") } else { Ok(()) },
            )
            .await;
        assert_eq!(left, BTreeSet::from(["ovr-1".to_owned()]));
        assert_eq!(taken.reverted, [named("ovr-2"), named("ovr-3")]);
        assert_eq!(taken.problems, ["ovr-1 could not be taken back: it is down"]);
    }
}
