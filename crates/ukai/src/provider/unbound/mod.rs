//! Unbound as the application's resolver, told by its remote control what one name is.
//!
//! Local data has no transaction, so the order of commands makes every answer the old one, the new one or the world's, wherever
//! it is cut off:
//!
//! ```text
//! first:   local_zone NAME typetransparent   nothing is there: all of it still reaches the world
//!          local_datas …                     a type that has records is answered, any other reaches the world
//!          local_zone NAME transparent       types without records are NODATA; names below still reach the world
//! change:  local_zone NAME typetransparent   records are answered as before
//!          local_data_remove NAME            a query of these few milliseconds reaches the world
//!          local_datas … ; local_zone NAME transparent
//! end:     local_zone_remove NAME ; flush NAME
//! ```
//! A zone goes with everything below it, and a name with all its records: there is no command for less. So nothing is put where
//! something stands below the name; what came there later keeps the zone standing, open, at the end; and where somebody's record
//! stands beside ours, nothing is touched at all and a person is told what to do.
//!
//! There is no compare and swap either. Each override has a mark of its own, a TXT record at `TOKEN.NAME._ukai.invalid`: it is
//! written first, and whoever sees another's mark after that takes his own back. Two at the same moment may both lose; both
//! never win. Unbound forgets all of it when it restarts: an override then ends.

mod control;
mod listing;
mod put;
mod take;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

pub use control::Control;

use super::claim::Claim;
use super::place::{Fault, Found};
use listing::Local;

/// Records at the name are answered; its other types are NODATA; what is below reaches the world.
const SERVING: &str = "transparent";
/// Records at the name are answered; everything else reaches the world.
const OPEN: &str = "typetransparent";
/// Types of zones that do not answer from their records.
const ALWAYS: &str = "always_";
/// A zone that Unbound has by itself (RFC 6761, 6.4).
const ALWAYS_THERE: &str = "invalid";

pub struct Unbound {
    control: Control,
}

impl Unbound {
    pub fn new(control: Control) -> Unbound {
        Unbound { control }
    }

    pub async fn look(&self, owner: &str, hosts: &BTreeSet<String>) -> Result<Found, Fault> {
        let local = self.read().await?;
        let mut found = Found::default();
        let marks = local.all_marks();
        let mut ours: Vec<Claim> =
            marks.iter().filter_map(|mark| mark.claim.clone()).filter(|claim| claim.owner == owner).collect();
        // Where a change was cut off there are two marks; the later one is the one that is taken up.
        ours.sort_by(|a, b| (&a.id, b.generation).cmp(&(&b.id, a.generation)));
        ours.dedup_by(|later, kept| later.id == kept.id);
        for claim in ours {
            let addresses = local.answered(&claim.host);
            found.ours.push((claim, addresses));
        }
        for host in hosts {
            let marks = local.marks(host);
            let known: BTreeSet<IpAddr> = marks
                .iter()
                .filter_map(|mark| mark.claim.as_ref())
                .filter(|claim| claim.owner == owner)
                .flat_map(|claim| claim.addresses.iter().copied())
                .collect();
            let at_host = local.at(host);
            let strangers: Vec<&str> =
                at_host.iter().filter(|record| !record.is_of(&known)).map(|record| record.line.as_str()).collect();
            if !strangers.is_empty() {
                found
                    .foreign
                    .push(format!("{} stands in {self} and is not ours; it is not touched", strangers.join(", ")));
            }
            found.foreign.extend(self.unlike(&local, host, !known.is_empty()));
        }
        Ok(found)
    }

    /// A zone that is not as we leave it where an override stands or ended.
    fn unlike(&self, local: &Local, host: &str, is_ours: bool) -> Option<String> {
        let kind = local.zone(host)?;
        if is_ours {
            return (kind != SERVING).then(|| {
                format!(
                    "the local zone {host} in {self} is of type {kind}, not {SERVING} as an override needs it: if no \
                     change is under way, one was cut off, or somebody changed it"
                )
            });
        }
        (local.at(host).is_empty() && kind == OPEN).then(|| {
            format!(
                "the local zone {host} of type {kind} stands in {self}, as an override leaves it that ended while something \
                 stood below: nothing is overridden before it is gone (`unbound-control local_zone_remove {host}.` removes what \
                 stands below with it)"
            )
        })
    }

    pub async fn answers(&self, host: &str) -> Result<BTreeSet<IpAddr>, Fault> {
        Ok(self.read().await?.answered(host))
    }

    async fn read(&self) -> Result<Local, Fault> {
        let zones = self.control.run("list_local_zones", &[]).await?;
        let records = self.control.run("list_local_data", &[]).await?;
        let local = Local::read(&zones, &records);
        if local.zone(ALWAYS_THERE).is_none() {
            return Err(Fault::lasting(format!(
                "{self} lists no local zone {ALWAYS_THERE}: where that is, everything is listed, so this list is not taken for whole \
                 (has unbound.conf `local-zone: \"{ALWAYS_THERE}.\" nodefault`? Take it out)"
            )));
        }
        Ok(local)
    }

    async fn zone_is(&self, host: &str, kind: &str) -> Result<(), Fault> {
        self.control.run(&format!("local_zone {host}. {kind}"), &[]).await.map(drop)
    }

    async fn add(&self, lines: &[String]) -> Result<(), Fault> {
        let answer = self.control.run("local_datas", lines).await?;
        // A line that it does not take is told in between, and the last line counts the others.
        match answer.contains("error") {
            true => Err(Fault::lasting(format!("{self} did not take all of it: {}", answer.trim()))),
            false => Ok(()),
        }
    }

    async fn remove(&self, name: &str) -> Result<(), Fault> {
        self.control.run(&format!("local_data_remove {name}."), &[]).await.map(drop)
    }
}

/// The same text for the same place.
impl fmt::Display for Unbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.control.fmt(f)
    }
}
