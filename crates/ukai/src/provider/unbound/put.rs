//! Writes an override: a mark, then its records, and looks whether both stand.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::listing::{Local, Mark, address_line, lines, mark_line, mark_name};
use super::{OPEN, SERVING, Unbound};
use crate::provider::claim::Claim;
use crate::provider::place::Fault;

/// Ten commands, each of which takes a second where a large block list is read.
const PUT_TIMEOUT: Duration = Duration::from_secs(15);
/// Writing ends this long before its lease does, so that the keeper, who ends the lease, finds all of it.
const LEASE_MIN: Duration = Duration::from_secs(1);

impl Unbound {
    pub async fn put(&self, claim: &Claim, replaces: Option<u64>) -> Result<(), Fault> {
        let left = claim.expires_at.duration_since(Timestamp::now());
        let left = Duration::try_from(left).unwrap_or(Duration::ZERO);
        let bound = left.saturating_sub(LEASE_MIN).min(PUT_TIMEOUT);
        if bound.is_zero() {
            return Err(Fault::lasting(format!(
                "the lease has run out already, or has less than {} s left to write in; nothing was written",
                LEASE_MIN.as_secs()
            )));
        }
        tokio::time::timeout(bound, self.write(claim, replaces)).await.unwrap_or_else(|_| {
            let why = if bound < PUT_TIMEOUT { ", and the lease ends soon" } else { "" };
            Err(Fault::passing(format!(
                "{self} was not done within {:.1} s{why}: what stands of {} is not known",
                bound.as_secs_f32(),
                claim.told()
            )))
        })
    }

    async fn write(&self, claim: &Claim, replaces: Option<u64>) -> Result<(), Fault> {
        let local = self.read().await?;
        let marks = local.marks(&claim.host);
        self.check(&local, &marks, claim, replaces)?;
        let own = mark_name(claim);
        let is_begun = marks.iter().any(|mark| mark.name == own);
        if !is_begun {
            self.add(&[mark_line(claim)]).await?;
        }
        // Between the first look and the mark somebody may have been at work; from now on our mark is seen.
        let seen = self.read().await?;
        let mut others = seen.marks(&claim.host);
        if !others.iter().any(|mark| mark.name == own) {
            return Err(Fault::lasting(format!(
                "{self} does not have our mark {own} any more; nothing else was written"
            )));
        }
        others.retain(|mark| is_begun || mark.name != own);
        if let Err(fault) = self.check(&seen, &others, claim, replaces) {
            if !is_begun {
                self.remove(&own).await?;
            }
            return Err(fault);
        }
        self.install(&seen, claim).await?;
        let made = self.read().await?;
        if !made.marks(&claim.host).iter().any(|mark| mark.name == own) {
            return Err(self.unmarked(&made, claim).await);
        }
        if made.addresses(&claim.host) != claim.addresses || made.zone(&claim.host) != Some(SERVING) {
            return Err(Fault::lasting(format!(
                "{self} said ok, and what stands at {} is not what was written: {}; somebody else was at work there",
                claim.host,
                lines(made.at(&claim.host))
            )));
        }
        for mark in marks.iter().filter(|mark| mark.name != own) {
            self.remove(&mark.name).await?;
        }
        Ok(())
    }

    /// What stands must be nothing, the generation that is to be replaced, or this one, begun before.
    fn check(&self, local: &Local, marks: &[Mark], claim: &Claim, replaces: Option<u64>) -> Result<(), Fault> {
        if let Some(other) = marks.iter().find(|mark| !mark.is_of(&claim.owner, &claim.id)) {
            return Err(Fault::lasting(format!("{} stands in {self}; nothing was changed", other.told())));
        }
        let ours: Vec<&Claim> = marks.iter().filter_map(|mark| mark.claim.as_ref()).collect();
        let (begun, zone) = (ours.iter().any(|there| there.is_same(claim)), local.zone(&claim.host));
        let below = local.below(&claim.host);
        // Where this very one stands already, what is below came later and is in its zone.
        let is_standing = begun && zone.is_some();
        if !below.is_empty() && !is_standing {
            return Err(Fault::lasting(format!(
                "{} stands in {self} below {}: an override would hide it, or take it away at its end; nothing was changed",
                below.join(", "),
                claim.host
            )));
        }
        let records = local.at(&claim.host);
        if ours.is_empty() {
            return match (records.first(), zone, replaces) {
                (Some(record), ..) => Err(Fault::lasting(format!(
                    "{} stands in {self} and is not ours: take it away by hand if it may go; nothing was changed",
                    record.line
                ))),
                (None, Some(kind), _) => Err(Fault::lasting(format!(
                    "the local zone {} of type {kind} stands in {self} and is not ours (or an override left it when it ended, because \
                     something stood below): remove it by hand if it may go; nothing was changed",
                    claim.host
                ))),
                (None, None, Some(generation)) => Err(Fault::lasting(format!(
                    "generation {generation} was expected for {}, but no such override stands; nothing was changed",
                    claim.host
                ))),
                (None, None, None) => Ok(()),
            };
        }
        let expected = ours.iter().any(|there| Some(there.generation) == replaces);
        if !begun && !expected || ours.iter().any(|there| there.generation > claim.generation) {
            let told: Vec<String> = ours.iter().map(|there| there.told()).collect();
            return Err(Fault::lasting(format!(
                "another generation was expected: {} stands in {self}",
                told.join(", ")
            )));
        }
        let known: BTreeSet<IpAddr> = ours.iter().flat_map(|there| there.addresses.iter().copied()).collect();
        let strangers = records.iter().any(|record| !record.is_of(&known));
        // Fewer than ours: we were cut off, where this generation was begun; else somebody took some away.
        let missing = !begun && ours.iter().all(|there| there.addresses != local.addresses(&claim.host));
        let retyped = zone.is_some_and(|kind| !matches!(kind, SERVING | OPEN));
        if strangers || missing || retyped {
            return Err(Fault::lasting(format!(
                "somebody changed what stands at {} in {self}; put it back or take it away; nothing was changed",
                claim.host
            )));
        }
        Ok(())
    }

    async fn install(&self, seen: &Local, claim: &Claim) -> Result<(), Fault> {
        let host = &claim.host;
        let there = seen.addresses(host);
        if there == claim.addresses && seen.at(host).len() == there.len() {
            return self.zone_is(host, SERVING).await;
        }
        self.zone_is(host, OPEN).await?;
        if !there.is_empty() {
            self.remove(host).await?;
        }
        let lines: Vec<String> =
            claim.addresses.iter().map(|address| address_line(host, claim.ttl_s, *address)).collect();
        self.add(&lines).await?;
        self.zone_is(host, SERVING).await
    }

    /// The mark was taken away under our hands, as by the keeper where the clock jumped: nobody would end what we added.
    async fn unmarked(&self, made: &Local, claim: &Claim) -> Fault {
        let host = &claim.host;
        let gone = format!("our mark for {host} was taken away from {self} while the override was written");
        let is_ours = made.at(host).iter().all(|record| record.is_of(&claim.addresses));
        if !made.marks(host).is_empty() || !is_ours {
            return Fault::lasting(format!(
                "{gone}, and {} stands: {}",
                lines(made.at(host)),
                self.by_hand(made, host, &claim.addresses)
            ));
        }
        match self.end(made, host).await {
            Ok(()) => Fault::lasting(format!("{gone}; what had been added was taken away again")),
            Err(fault) => Fault::passing(format!("{gone}, and what was added cannot be taken away: {fault}")),
        }
    }
}
