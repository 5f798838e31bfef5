//! Our own application, where the path to the peer is whole; and our own override, where it is what fails.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::SignedDuration;

use super::{Finding, Ruling};
use crate::diagnose::answers::Authority;
use crate::diagnose::evidence::{Answer, ApplicationCall, Rcode, Reached, Reuse, Source};
use crate::diagnose::reading::{CONTROLS_NEEDED, Overridden, Reading, list};
use crate::diagnose::verdict::{Action, Party};
use crate::observe::Stage;

/// Calls of the application, newest first, that must all have failed, or all have succeeded.
pub const APPLICATION_CALLS: usize = 3;
/// An older call says nothing of what our probe meets now.
const CALL_IS_NEWS: SignedDuration = SignedDuration::from_secs(30);

/// The application's last calls, newest first, if all of them failed.
fn failing_calls<'a>(reading: &'a Reading) -> Option<Vec<&'a ApplicationCall>> {
    let recent: Vec<_> = reading.case.application.iter().rev().take(APPLICATION_CALLS).collect();
    (recent.len() == APPLICATION_CALLS && recent.iter().all(|call| !call.ok)).then_some(recent)
}

pub fn client_pinned(reading: &Reading) -> Ruling {
    if !reading.works_now() {
        return Ruling::Excluded("the normal path itself fails".to_owned());
    }
    let Some(calls) = failing_calls(reading) else {
        return Ruling::Beside;
    };
    let said: BTreeSet<IpAddr> = calls.iter().filter_map(|call| call.address).collect();
    let used = if said.is_empty() { connected_elsewhere(reading) } else { said.clone() };
    let pinned = pinned_by_hosts_file(reading);
    if used.is_empty() && pinned.is_empty() {
        return Ruling::Unknown("the application fails, and does not say which address it uses".to_owned());
    }
    if pinned.is_empty() && !used.is_disjoint(&reading.our_set) {
        return Ruling::Excluded("the application uses an address that is answered now".to_owned());
    }
    let held = if pinned.is_empty() { &used } else { &pinned };
    let mut finding = Finding::new(
        Action::None,
        Party::OurApplication,
        format!("The application holds on to {}, which the name no longer leads to.", list(held)),
    )
    .because(format!("our resolver answers {}, and every one works", list(&reading.our_set)))
    .because(format!("the application's last {APPLICATION_CALLS} calls failed on {}", list(held)))
    .likely_if(reading.our_set != reading.authority_set || said.is_empty() && pinned.is_empty())
    .unless("the application failing on an address that is answered now");
    if !pinned.is_empty() {
        finding = finding.because("the hosts file of this machine says so, and wins over any DNS");
    }
    finding.explains()
}

/// Where this machine has connections to addresses that the peer had, and has no more.
fn connected_elsewhere(reading: &Reading) -> BTreeSet<IpAddr> {
    let live = reading.evidence().connections.iter().filter(|live| live.established > 0 || live.waiting > 0);
    live.map(|live| live.address).filter(|address| !reading.our_set.contains(address)).collect()
}

fn pinned_by_hosts_file(reading: &Reading) -> BTreeSet<IpAddr> {
    reading.evidence().own.hosts_file.difference(&reading.our_set).copied().collect()
}

/// Calls of which some fail: a connection that is cut when it is used again is opened anew, and served once.
const CALLS_LOOKED_AT: usize = 10;
/// A call that fails now and then is no pattern.
const FAILED_CALLS: usize = 3;

pub fn conn_reuse(reading: &Reading) -> Ruling {
    let failed = reading.case.application.iter().rev().take(CALLS_LOOKED_AT).filter(|call| !call.ok).count();
    if !reading.works_now() || failed < FAILED_CALLS {
        return Ruling::Beside;
    }
    let cut = |reuse: &&Reuse| reuse.first == Reached::Yes && matches!(reuse.second, Some(Reached::No(_)));
    let Some(reuse) = reading.evidence().reuse.iter().find(cut) else {
        return match reading.evidence().reuse.is_empty() {
            true => Ruling::Unknown("no connection was used twice".to_owned()),
            false => Ruling::Excluded("a connection that is used twice is served twice".to_owned()),
        };
    };
    let how = match &reuse.second {
        Some(Reached::No(how)) => how.as_str(),
        _ => "",
    };
    Finding::new(
        Action::None,
        Party::OurApplication,
        "Fresh connections are served and reused ones are cut: the application must give up connections sooner.",
    )
    .because(format!("{}: the first request on a connection is served, the second is not: {how}", reuse.address))
    .because(format!("{failed} of the application's last calls failed, while every fresh probe is whole"))
    .told_without_a_page()
    .unless("a reused connection being served")
    .explains()
}

/// The application succeeds where our own probe gets an answer that it does not like.
pub fn probe_error(reading: &Reading) -> Ruling {
    let Some(failure) = reading.failure().filter(|failure| failure.stage >= Stage::Processing) else {
        return Ruling::Beside;
    };
    let since = reading.evidence().started_at;
    let is_news = |call: &&ApplicationCall| since.duration_since(call.at) <= CALL_IS_NEWS;
    let recent: Vec<_> = reading.case.application.iter().rev().take(APPLICATION_CALLS).filter(is_news).collect();
    if recent.len() < APPLICATION_CALLS || !recent.iter().all(|call| call.ok) {
        return Ruling::Beside;
    }
    let used: BTreeSet<IpAddr> = recent.iter().filter_map(|call| call.address).collect();
    if used.is_empty() || !used.iter().all(|address| reading.is_failing(*address)) {
        return Ruling::Beside;
    }
    Finding::new(
        Action::None,
        Party::OurApplication,
        "The application succeeds at the very addresses where our probe fails: what we expect of the peer is wrong.",
    )
    .likely()
    .told_without_a_page()
    .because(format!("our probe fails at {} ({}): {}", failure.stage.name(), failure.class.name(), failure.detail))
    .because(format!("the application's last {APPLICATION_CALLS} calls succeeded at {}", list(&used)))
    .unless("a call of the application failing")
    .explains()
}

/// What we serve ourselves no longer serves, and the peer is elsewhere (S24).
pub fn override_stale(reading: &Reading) -> Ruling {
    let Some(over) = reading.case.overridden else {
        return Ruling::Beside;
    };
    let fails = |address: &IpAddr| reading.is_tried(*address) && served_fails(reading, *address);
    if over.addresses.is_empty() || !over.addresses.iter().all(fails) {
        return Ruling::Excluded("what our override serves proves itself".to_owned());
    }
    let Some(elsewhere) = serves_elsewhere(reading, over) else {
        return Ruling::Excluded("what our override serves fails, and so does everything else".to_owned());
    };
    Finding::new(
        Action::Revert,
        Party::OurNetwork,
        format!("Our own override is what fails: it serves {}, and the peer serves elsewhere.", list(&over.addresses)),
    )
    .because(elsewhere)
    .because(format!("not one of {} proves itself", list(&over.addresses)))
    .likely_if(reading.by_address.passed < CONTROLS_NEEDED)
    .unless("an address that the override serves proving itself")
    .explains()
}

/// Types that an override answers itself; every other one reaches the world past it.
const OWN_TYPES: [&str; 4] = ["A", "AAAA", "HTTPS", "SVCB"];

/// Records of the peer that are gone since our override stands (S25).
pub fn override_blast(reading: &Reading) -> Ruling {
    if reading.case.overridden.is_none() {
        return Ruling::Beside;
    }
    let asked = || reading.evidence().asked.iter().filter(|asked| !OWN_TYPES.contains(&asked.record_type.as_str()));
    // What the resolver behind us denies too is no doing of the override.
    let gives = |source: Source, record_type: &str| {
        asked().any(|asked| {
            asked.source == source
                && asked.record_type == record_type
                && asked.answer().is_some_and(|answer| answer.records > 0)
        })
    };
    let has = |record_type: &str| gives(Source::Authority, record_type) && gives(Source::OurResolver, record_type);
    let denied = |answer: &Answer| matches!(answer.rcode, Rcode::Noerror | Rcode::Nxdomain) && answer.records == 0;
    let lost: BTreeSet<&str> = asked()
        .filter(|asked| asked.source == Source::Embedded && asked.answer().is_some_and(denied))
        .map(|asked| asked.record_type.as_str())
        .filter(|record_type| has(record_type))
        .collect();
    if lost.is_empty() {
        return Ruling::Excluded("what the override does not decide is answered as the peer answers it".to_owned());
    }
    Finding::new(
        Action::Revert,
        Party::OurNetwork,
        format!("Our own override hides the peer's {} records: it reaches further than its addresses.", list(&lost)),
    )
    .because(format!("the peer's servers and our resolver give {}, and our server denies it", list(&lost)))
    .unless("our server answering those types as the peer does")
    .explains()
}

fn served_fails(reading: &Reading, address: IpAddr) -> bool {
    reading.candidate(address).is_some_and(|candidate| candidate.first_failure().is_some())
}

fn serves_elsewhere(reading: &Reading, over: &Overridden) -> Option<String> {
    if reading.works_now() && reading.our_set.is_disjoint(&over.addresses) {
        return Some(format!("past the override our resolver leads to {}, and it works", list(&reading.our_set)));
    }
    let Authority::Agreed(agreed) = &reading.authority else { return None };
    let proved: Vec<&IpAddr> =
        agreed.iter().filter(|address| reading.proved.contains(address) && !over.addresses.contains(address)).collect();
    (!proved.is_empty())
        .then(|| format!("the authoritative servers give {}, and {} proves itself", list(agreed), list(proved)))
}
