//! The same addresses from another network: what fails for us alone is not the peer.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::addresses::{all_failing, authority_confirms, common_status, told};
use super::{Finding, Ruling};
use crate::diagnose::reading::{Continuity, Reading, list};
use crate::diagnose::verdict::{Action, Party};
use crate::observe::{ErrorClass, Failure, Stage};

type Failing = Vec<(IpAddr, Failure)>;

/// HTTP status of somebody who is not let in (RFC 9110, 15.5.4).
const FORBIDDEN: u16 = 403;

/// Vantages where an address passes at which we fail.
fn passing_vantages<'a>(reading: &Reading<'a>, failing: &Failing) -> BTreeSet<&'a str> {
    failing.iter().flat_map(|(address, _)| reading.passes_at(*address)).collect()
}

fn never_let_out(failure: &Failure) -> bool {
    failure.stage <= Stage::Connect
        && matches!(
            failure.class,
            ErrorClass::Timeout | ErrorClass::Reset | ErrorClass::Refused | ErrorClass::Unreachable
        )
}

/// Our own outbound rules still name the addresses that the peer has left (S38).
pub fn own_firewall(reading: &Reading) -> Ruling {
    let Some(failing) = all_failing(reading) else {
        return Ruling::Beside;
    };
    let history = reading.case.history;
    let moved = !history.identities.is_empty() && failing.iter().all(|(address, _)| !history.knows_address(*address));
    if !moved {
        return Ruling::Excluded("we have been let out to these addresses before".to_owned());
    }
    if !failing.iter().all(|(_, failure)| never_let_out(failure)) {
        return Ruling::Excluded("a connection to the new addresses is made".to_owned());
    }
    if !authority_confirms(reading) {
        return Ruling::Beside;
    }
    let vantages: BTreeSet<&str> = failing.iter().flat_map(|(address, _)| reading.reached_at(*address)).collect();
    let left = reading.left_behind();
    if vantages.is_empty() && left.is_empty() {
        return Ruling::Beside;
    }
    let mut finding = Finding::new(
        Action::None,
        Party::OurNetwork,
        "We are not let out to the peer's new addresses: an outbound allow-list of ours still names the old ones.",
    )
    .because(format!("the name leads to {} everywhere, and we never reached it", list(&reading.our_set)))
    .because(format!("{} controls are reached all the while", reading.connected.passed))
    .likely_if(vantages.is_empty())
    .unless("a connection to one of the new addresses being made from here");
    if !vantages.is_empty() {
        finding = finding.because(format!("{} reaches them", list(&vantages)));
    }
    if !left.is_empty() {
        finding = finding
            .because(format!("{} still answers us; to go back there would hide the cause until it dies", list(&left)));
    }
    told(finding, &failing).explains()
}

/// The peer, or somebody in front of it, does not let our own address in (S23).
pub fn blocked_us(reading: &Reading) -> Ruling {
    let Some(failing) = all_failing(reading) else {
        return Ruling::Beside;
    };
    let forbidden = common_status(reading) == Some(FORBIDDEN);
    let reset = failing.iter().all(|(_, failure)| failure.class == ErrorClass::Reset && failure.stage <= Stage::Tls);
    if !forbidden && !reset {
        return Ruling::Beside;
    }
    let vantages = passing_vantages(reading, &failing);
    let refused_there: BTreeSet<&str> = failing.iter().flat_map(|(address, _)| reading.fails_at(*address)).collect();
    if vantages.is_empty() && (reset || !refused_there.is_empty()) {
        return Ruling::Beside;
    }
    let mut finding = Finding::new(
        Action::None,
        Party::Unknown,
        "The peer refuses us, and not others: our own address is not on its list.",
    )
    .likely_if(vantages.is_empty())
    .unless("another vantage being refused alike");
    finding = match vantages.is_empty() {
        true => finding.against("no other vantage was asked"),
        false => finding.because(format!("{} is let in at the same addresses", list(&vantages))),
    };
    told(finding, &failing).explains()
}

/// Fine from elsewhere, broken from here: the way there, or the place that anycast leads us to (S16).
pub fn path_or_pop(reading: &Reading) -> Ruling {
    let Some(failing) = all_failing(reading) else {
        return Ruling::Beside;
    };
    if reading.vantages().next().is_none() {
        return Ruling::Beside;
    }
    let vantages = passing_vantages(reading, &failing);
    if vantages.is_empty() {
        return Ruling::Excluded("it fails at the other vantages too".to_owned());
    }
    let by_key = matches!(common_status(reading), Some(401 | 403 | 429));
    if by_key {
        return Ruling::Excluded("it answers us, and does not let our key in".to_owned());
    }
    let finding = Finding::new(
        Action::None,
        Party::Unknown,
        "The peer serves others at the very addresses that fail for us: the way there, or the place it leads us to.",
    )
    .because(format!("{} is served at the same addresses", list(&vantages)))
    .likely_if(!authority_confirms(reading) || failing.iter().any(|(_, failure)| failure.stage > Stage::Tls))
    .unless("the other vantages failing too");
    told(finding, &failing).explains()
}

/// Clients of other subnets are led to another region, which serves; ours does not (S36).
pub fn peer_region(reading: &Reading) -> Ruling {
    let Some(failing) = all_failing(reading) else {
        return Ruling::Beside;
    };
    if !authority_confirms(reading) {
        return Ruling::Beside;
    }
    let elsewhere = reading.proves_elsewhere();
    let is_peer = |address: &IpAddr| matches!(reading.continuity(*address), Continuity::Continuous(_));
    let serving: Vec<IpAddr> = elsewhere.into_iter().filter(is_peer).collect();
    if serving.is_empty() {
        return Ruling::Beside;
    }
    let by_authority = crate::diagnose::answers::by_subnet(reading.evidence())
        .values()
        .any(|set| serving.iter().any(|address| set.contains(address)));
    let finding = Finding::new(
        Action::Escalate,
        Party::Peer,
        "The part of the peer that we are led to fails, and another part serves: a regional outage.",
    )
    .because(format!("the authoritative servers lead us to {}, and every one fails", list(&reading.our_set)))
    .because(format!("others are led to {}, which prove to be the peer", list(&serving)))
    .likely_if(!by_authority)
    .unless("an address that we are led to serving again");
    told(finding, &failing).explains()
}
