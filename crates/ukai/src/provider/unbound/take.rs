//! Takes an override away, and nothing else.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::listing::{Local, Mark, Record, lines};
use super::{OPEN, SERVING, Unbound};
use crate::provider::claim::Claim;
use crate::provider::place::{Fault, Mine, Taken};

impl Unbound {
    pub async fn take(&self, mine: &Mine) -> Result<Taken, Fault> {
        let local = self.read().await?;
        let all = local.all_marks();
        let ours: Vec<&Mark> =
            all.iter().filter(|mark| mark.claim.as_ref().is_some_and(|claim| mine.is(claim))).collect();
        let claims: Vec<&Claim> = ours.iter().filter_map(|mark| mark.claim.as_ref()).collect();
        if let Some(newer) = claims.iter().find(|claim| claim.generation > mine.generation) {
            return Ok(Taken::Newer(format!("{} stands in {self}", newer.told())));
        }
        let Some(first) = claims.first() else { return self.without_mark(&local, mine) };
        let host = &first.host;
        let known: BTreeSet<IpAddr> = claims.iter().flat_map(|claim| claim.addresses.iter().copied()).collect();
        let (known_there, strangers): (Vec<&Record>, Vec<&Record>) =
            local.at(host).into_iter().partition(|record| record.is_of(&known));
        match (known_there.is_empty(), strangers.is_empty()) {
            (_, true) => self.end(&local, host).await?,
            // Somebody exchanged what we had written: only our mark is left.
            (true, false) => {}
            (false, false) => {
                return Err(Fault::lasting(format!(
                    "the override of {host} is over, but OUR ADDRESSES ARE still answered by {self}: beside ours ({}) stands what \
                     is not ours ({}), and Unbound cannot remove one record of a name, so nothing was touched. {}",
                    lines(known_there),
                    lines(strangers),
                    self.by_hand(&local, host, &known)
                )));
            }
        }
        // Last: until then whatever was cut off is done again.
        for mark in ours {
            self.remove(&mark.name).await?;
        }
        Ok(Taken::Gone)
    }

    /// What stands at the host has no mark of ours: it is nobody's of ours, unless one of our addresses is among it.
    fn without_mark(&self, local: &Local, mine: &Mine) -> Result<Taken, Fault> {
        let Some(host) = mine.host.as_deref().filter(|host| local.marks(host).is_empty()) else {
            return Ok(Taken::Gone);
        };
        let at_host = local.at(host);
        if !at_host.iter().any(|record| record.is_of(&mine.addresses)) {
            return Ok(Taken::Gone);
        }
        Err(Fault::lasting(format!(
            "no mark of ours is left, but {} stands in {self}, with an address that we served: it is not touched. {}",
            lines(at_host),
            self.by_hand(local, host, &mine.addresses)
        )))
    }

    /// What a person does, ready for a shell. Between the commands the name reaches the world.
    pub(super) fn by_hand(&self, local: &Local, host: &str, ours: &BTreeSet<IpAddr>) -> String {
        let others: Vec<&Record> = local.at(host).into_iter().filter(|record| !record.is_of(ours)).collect();
        let is_all_ours = others.is_empty() && local.below(host).is_empty() && local.zone(host).is_some();
        let verb = if is_all_ours { "local_zone_remove" } else { "local_data_remove" };
        let mut commands = vec![format!("`unbound-control {verb} {host}.`")];
        commands.extend(others.iter().map(|record| format!("`unbound-control local_data {}`", quoted(&record.line))));
        format!("By hand there, one after the other: {}", commands.join(" "))
    }

    /// Takes all records at the host away, which are ours.
    pub(super) async fn end(&self, local: &Local, host: &str) -> Result<(), Fault> {
        let (kind, below) = (local.zone(host), local.below(host));
        if matches!(kind, Some(SERVING | OPEN)) && below.is_empty() {
            self.control.run(&format!("local_zone_remove {host}."), &[]).await?;
        } else {
            if kind == Some(SERVING) {
                self.zone_is(host, OPEN).await?;
            }
            if !local.at(host).is_empty() {
                self.remove(host).await?;
            }
            if let Some(kind) = kind {
                tracing::warn!(
                    host,
                    kind,
                    below = below.join(", "),
                    "the override is gone, but its local zone stays in {self}: to remove it would take away what is not ours"
                );
            }
        }
        // What it had in its cache from before is as old as the override.
        self.control.run(&format!("flush {host}."), &[]).await.map(drop)
    }
}

/// One word for a shell.
fn quoted(line: &str) -> String {
    format!("'{}'", line.replace('\'', r"'\''"))
}
