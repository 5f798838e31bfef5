//! The addresses themselves, once the name is known to lead to the right ones.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Finding, Ruling};
use crate::diagnose::answers::Authority;
use crate::diagnose::evidence::{Candidate, Reached};
use crate::diagnose::reading::{CONTROLS_NEEDED, Continuity, Reading, list};
use crate::diagnose::verdict::{Action, Party};
use crate::observe::{AddressResult, ErrorClass, Failure, Stage};

/// The addresses that fail now, if all do. What our own way out keeps us from says nothing of the peer, and is left out.
pub fn all_failing(reading: &Reading) -> Option<Vec<(IpAddr, Failure)>> {
    let mut now = reading.failures_now();
    if v6_is_ours_to_blame(reading) {
        now.retain(|address, failure| !failure.as_ref().is_some_and(|failure| is_never_left(*address, failure)));
    }
    let failing: Vec<(IpAddr, Failure)> =
        now.iter().filter_map(|(address, failure)| Some((*address, failure.clone()?))).collect();
    (!failing.is_empty() && failing.len() == now.len()).then_some(failing)
}

/// Not one control is reached over IPv6, and the peer has addresses of the other family to be judged by.
fn v6_is_ours_to_blame(reading: &Reading) -> bool {
    let (reached, lost) = v6_controls(reading);
    reached == 0 && lost > 0 && reading.failures_now().keys().any(IpAddr::is_ipv4)
}

fn is_never_left(address: IpAddr, failure: &Failure) -> bool {
    address.is_ipv6() && failure.stage <= Stage::Connect
}

/// Nothing better is known: the authority gives these same addresses, or none of what it gives proves.
fn nothing_else_serves(reading: &Reading) -> bool {
    !reading.proved.iter().any(|address| {
        reading.authority_set.contains(address)
            || reading.independents.as_ref().is_some_and(|set| set.contains(address))
    })
}

pub fn authority_confirms(reading: &Reading) -> bool {
    matches!(&reading.authority, Authority::Agreed(set) if set.is_superset(&reading.our_set) || *set == reading.our_set)
}

pub fn told(mut finding: Finding, failing: &[(IpAddr, Failure)]) -> Finding {
    const SHOWN: usize = 8;
    for (address, failure) in failing.iter().take(SHOWN) {
        finding = finding.because(format!(
            "{address} fails at {} ({}): {}",
            failure.stage.name(),
            failure.class.name(),
            failure.detail
        ));
    }
    finding
}

pub fn peer_cert(reading: &Reading) -> Ruling {
    let Some(failing) = all_failing(reading) else {
        return Ruling::Beside;
    };
    let is_certificate =
        |failure: &Failure| super::own::is_identity_failure(failure.class) || failure.class == ErrorClass::ExpiresSoon;
    if !failing.iter().all(|(_, failure)| is_certificate(failure)) {
        return Ruling::Excluded("not every address fails on its certificate".to_owned());
    }
    let right_elsewhere: BTreeSet<&str> = failing.iter().flat_map(|(address, _)| reading.passes_at(*address)).collect();
    if !right_elsewhere.is_empty() {
        return Ruling::Excluded(format!("{} is shown a good certificate there", list(&right_elsewhere)));
    }
    if !reading.proves_elsewhere().is_empty() {
        return Ruling::Excluded("clients elsewhere are led to a good certificate".to_owned());
    }
    let known = failing.iter().all(|(address, _)| reading.case.history.knows_address(*address));
    let finding = Finding::new(
        Action::None,
        Party::Peer,
        "Every address of the peer shows a bad certificate; moving to another one never helps.",
    )
    .unless("an address with a good certificate")
    .likely_if(!known || !authority_confirms(reading) || v6_is_ours_to_blame(reading));
    told(finding, &failing).explains()
}

pub fn v6_path(reading: &Reading) -> Ruling {
    let now = reading.failures_now();
    let family = |v6: bool| {
        let of: Vec<bool> =
            now.iter().filter(|(address, _)| address.is_ipv6() == v6).map(|(_, failure)| failure.is_some()).collect();
        (of.len(), of.iter().filter(|failed| **failed).count())
    };
    let (v4, v4_failed) = family(false);
    let (v6, v6_failed) = family(true);
    if v4 == 0 || v6 == 0 || v6_failed < v6 || v4_failed > 0 {
        return Ruling::Beside;
    }
    let finding = Finding::new(Action::None, Party::Peer, "Only IPv6 is broken: every IPv4 address works.")
        .likely_if(v6_controls(reading).0 == 0 || !authority_confirms(reading))
        .told_without_a_page()
        .unless("an IPv4 address failing, or a control failing over IPv6");
    let failing: Vec<_> = now.into_iter().filter_map(|(address, failure)| Some((address, failure?))).collect();
    told(finding, &failing).explains()
}

/// Live controls that were reached over IPv6, and that were not.
fn v6_controls(reading: &Reading) -> (usize, usize) {
    let tried = reading.live.iter().filter_map(|control| control.v6.as_ref());
    let (reached, lost): (Vec<_>, Vec<_>) = tried.partition(|reached| **reached == Reached::Yes);
    (reached.len(), lost.len())
}

/// Our own way out over IPv6 is broken, and the peer has addresses of that family (S09).
pub fn own_v6(reading: &Reading) -> Ruling {
    let (reached, lost) = v6_controls(reading);
    let now = reading.failures_now();
    let mut v6 = now.iter().filter(|(address, _)| address.is_ipv6()).map(|(_, failure)| failure).peekable();
    let mut v4 = now.iter().filter(|(address, _)| address.is_ipv4()).map(|(_, failure)| failure);
    if v6.peek().is_none() || !v6.all(|failure| failure.as_ref().is_some_and(|one| one.stage <= Stage::Connect)) {
        return Ruling::Beside;
    }
    if reached > 0 {
        return Ruling::Excluded(format!("{reached} controls are reached over IPv6"));
    }
    if lost == 0 {
        return Ruling::Beside;
    }
    if v4.any(Option::is_some) {
        return Ruling::Unknown(format!(
            "not one of {lost} controls is reached over IPv6 either, so what the peer's IPv6 addresses do is not known"
        ));
    }
    Finding::new(Action::None, Party::OurNetwork, "Our own way out over IPv6 is broken; over IPv4 everything works.")
        .because(format!("not one of {lost} controls is reached over IPv6"))
        .likely_if(lost < CONTROLS_NEEDED)
        .told_without_a_page()
        .unless("a control reached over IPv6")
        .explains()
}

/// Something comes, and then nothing: large packets are lost on the way (S31).
pub fn mtu(reading: &Reading) -> Ruling {
    let Some(failing) = all_failing(reading) else {
        return Ruling::Beside;
    };
    let results = reading.evidence().observations.iter().flat_map(|observation| &observation.results);
    let stalled: Vec<u64> = results.filter_map(|result| result.stalled_after).filter(|bytes| *bytes > 0).collect();
    let hangs = |failure: &Failure| failure.class == ErrorClass::Timeout && failure.stage > Stage::Connect;
    if stalled.is_empty() || !failing.iter().all(|(_, failure)| hangs(failure)) {
        return Ruling::Beside;
    }
    let finding = Finding::new(
        Action::None,
        Party::Unknown,
        "Connections are made, begin to answer, and hang: large packets are lost on the way (path MTU).",
    )
    .likely()
    .because(format!("the far side had sent {} bytes when nothing more came", list(&stalled)))
    .unless("a whole large answer");
    told(finding, &failing).explains()
}

pub fn partial_address(reading: &Reading) -> Ruling {
    let now = reading.failures_now();
    let failing: Vec<_> = now.iter().filter_map(|(address, failure)| Some((*address, failure.clone()?))).collect();
    if failing.is_empty() && reading.works_now() && reading.steered.is_some() {
        return match super::name::left_and_dead(reading) {
            Some((address, failure)) => told(
                Finding::new(Action::None, Party::Peer, "A machine of the rotation is dead; the others work.")
                    .likely()
                    .told_without_a_page()
                    .unless("every machine of the rotation answering"),
                &[(address, failure.clone())],
            )
            .explains(),
            None => Ruling::Beside,
        };
    }
    if failing.is_empty() || failing.len() == now.len() {
        return Ruling::Beside;
    }
    let v4_dead = now.iter().all(|(address, failure)| address.is_ipv4() == failure.is_some());
    let summary = match v4_dead {
        true => "Only IPv4 is broken: every IPv6 address works.".to_owned(),
        false => format!("{} of {} addresses fail; the others work.", failing.len(), now.len()),
    };
    let finding = Finding::new(Action::None, Party::Peer, summary)
        .told_without_a_page()
        .likely_if(!authority_confirms(reading))
        .unless("every address failing");
    told(finding, &failing).explains()
}

pub fn tls_policy(reading: &Reading) -> Ruling {
    let Some(failing) = all_failing(reading) else {
        return Ruling::Beside;
    };
    let refused = |failure: &Failure| matches!(failure.class, ErrorClass::TlsAlert | ErrorClass::TlsVersion);
    if !failing.iter().all(|(_, failure)| refused(failure)) {
        return Ruling::Beside;
    }
    let finding = Finding::new(
        Action::None,
        Party::Peer,
        "Every address refuses our TLS handshake: version, cipher or client certificate.",
    )
    .likely()
    .unless("a handshake that succeeds with other parameters");
    told(finding, &failing).explains()
}

/// The HTTP status that every address answers, if it is one and the same.
pub fn common_status(reading: &Reading) -> Option<u16> {
    let blind_in_v6 = v6_is_ours_to_blame(reading);
    let is_told = |result: &&AddressResult| {
        let failure = result.failure.as_ref();
        !(blind_in_v6 && failure.is_some_and(|failure| is_never_left(result.address, failure)))
    };
    let statuses: Vec<Option<u16>> = reading
        .evidence()
        .observations
        .iter()
        .flat_map(|observation| &observation.results)
        .filter(|result| !result.is_success())
        .filter(is_told)
        .map(|result| result.http.as_ref().map(|http| http.status))
        .collect();
    let first = statuses.first().copied().flatten()?;
    statuses.iter().all(|status| *status == Some(first)).then_some(first)
}

fn by_status(reading: &Reading, status: u16, finding: Finding) -> Ruling {
    match (all_failing(reading), common_status(reading)) {
        (Some(failing), Some(common)) if common == status => told(finding, &failing).explains(),
        _ => Ruling::Beside,
    }
}

pub fn rate_limited(reading: &Reading) -> Ruling {
    let finding = Finding::new(
        Action::None,
        Party::OurApplication,
        "The peer limits our rate (429): calling less is what helps.",
    )
    .told_without_a_page()
    .likely()
    .unless("another key or vantage being limited alike");
    by_status(reading, 429, finding)
}

pub fn auth(reading: &Reading) -> Ruling {
    let finding = |status: u16| {
        let summary = format!("The peer does not accept our credentials ({status}).");
        Finding::new(Action::None, Party::OurApplication, summary).likely().unless("another key being refused alike")
    };
    match by_status(reading, 401, finding(401)) {
        Ruling::Beside if without_a_key_as_in_peace(reading) => by_status(
            reading,
            403,
            finding(403)
                .because("without a key it answers as it did in peace, so it is not our address that it refuses"),
        ),
        ruling => ruling,
    }
}

/// Somebody without secrets gets from the failing addresses what he got in peace.
fn without_a_key_as_in_peace(reading: &Reading) -> bool {
    let baseline = &reading.case.history.unauthenticated;
    let proofs = reading.evidence().candidates.iter().filter(|candidate| reading.our_set.contains(&candidate.address));
    let mut proofs = proofs.flat_map(|candidate| &candidate.proofs).peekable();
    reading.case.peer.needs_secret
        && proofs.peek().is_some()
        && proofs.all(|proof| {
            let now = proof.result.http.as_ref().map(|http| http.status);
            now.is_some() && now == baseline.get(&proof.endpoint).copied()
        })
}

pub fn peer_http(reading: &Reading) -> Ruling {
    let Some(failing) = all_failing(reading) else {
        return Ruling::Beside;
    };
    if !failing.iter().all(|(_, failure)| failure.stage >= Stage::Processing) {
        return Ruling::Excluded("not every address gets as far as HTTP".to_owned());
    }
    let finding = Finding::new(
        Action::None,
        Party::Peer,
        "The peer is reached and proves who it is, and answers with an error: its own fault.",
    )
    .likely_if(!authority_confirms(reading) || !nothing_else_serves(reading))
    .because("names, connections and certificates are right".to_owned())
    .unless("an address that answers as expected");
    told(finding, &failing).explains()
}

pub fn peer_down(reading: &Reading) -> Ruling {
    let Some(failing) = all_failing(reading) else {
        return Ruling::Beside;
    };
    if !nothing_else_serves(reading) {
        return Ruling::Beside;
    }
    let connect = failing.iter().all(|(_, failure)| failure.stage <= Stage::Connect);
    let elsewhere: BTreeSet<&str> = failing.iter().flat_map(|(address, _)| reading.unreached_at(*address)).collect();
    let reached: BTreeSet<&str> = failing.iter().flat_map(|(address, _)| reading.reached_at(*address)).collect();
    if let Some(why) = speaks_for_a_living_peer(reading, &failing).filter(|_| elsewhere.is_empty()) {
        return Ruling::Excluded(why);
    }
    let mut finding =
        Finding::new(Action::None, Party::Peer, "The peer is down: no address that anybody gives serves it.")
            .likely_if(
                !connect
                    || !authority_confirms(reading)
                    || reading.independents.is_none()
                    || elsewhere.is_empty()
                    || !reached.is_empty(),
            )
            .because("there is no candidate that proves itself".to_owned())
            .unless("any address that proves itself, here or at another vantage");
    finding = match elsewhere.is_empty() {
        true => finding.against("no other vantage was heard, so a fault on the way there cannot be told from it"),
        false => finding.because(format!("it fails at {} too", list(&elsewhere))),
    };
    told(finding, &failing).explains()
}

/// What contradicts that the peer is down, though it names no other cause.
fn speaks_for_a_living_peer(reading: &Reading, failing: &[(IpAddr, Failure)]) -> Option<String> {
    let history = reading.case.history;
    let answers = |address: &IpAddr| reading.candidate(*address).is_some_and(Candidate::is_reached);
    let is_new = |(address, _): &(IpAddr, Failure)| !history.knows_address(*address);
    if !history.identities.is_empty() && failing.iter().all(is_new) {
        let is_peer = |address: &IpAddr| matches!(reading.continuity(*address), Continuity::Continuous(_));
        let tried = reading.evidence().candidates.iter().map(|candidate| candidate.address);
        let left = tried.filter(|address| history.knows_address(*address) && answers(address) && is_peer(address));
        let left: Vec<IpAddr> = left.collect();
        if !left.is_empty() {
            return Some(format!(
                "{} still answers us, and these addresses were never reached from here: it may be our own way there",
                list(left)
            ));
        }
    }
    // Where the peer's own servers are not heard, one who leads elsewhere, to somebody who answers, may be the one who is right.
    let unheard = matches!(reading.authority, Authority::Silent | Authority::TooFew { .. });
    if !unheard || reading.independents.is_some() {
        return None;
    }
    let elsewhere = reading.given_elsewhere().into_iter().find(answers)?;
    Some(format!("no two sources agree, and {elsewhere}, to which one of them leads, answers"))
}
