//! Our own faults first: clock, egress, resolver, an intercepting proxy.

use std::collections::BTreeSet;

use jiff::SignedDuration;

use super::addresses::common_status;
use super::{Finding, Ruling};
use crate::diagnose::answers::{OurAnswer, own_server_is_silent};
use crate::diagnose::evidence::Canary;
use crate::diagnose::reading::{CLOCK_TOLERANCE_S, CONTROLS_NEEDED, Reading, is_before_tls};
use crate::diagnose::verdict::{Action, Party};
use crate::observe::{AddressResult, ErrorClass};

pub fn clock_skew(reading: &Reading) -> Ruling {
    let offsets: Vec<i64> = reading.live.iter().filter_map(|control| control.clock_offset_s).collect();
    let off = offsets.iter().filter(|offset| is_off(**offset)).count();
    let on_time = offsets.len() - off;
    let dates_fail = reading.live.iter().filter(|control| control.dates_failure).count();
    let by_server = reading.evidence().own.time_server_offset_ms.map(|offset_ms| offset_ms / 1000);
    let server_says_off = by_server.is_some_and(is_off);
    if on_time < CONTROLS_NEEDED && (off >= CONTROLS_NEEDED || dates_fail >= CONTROLS_NEEDED) {
        let offset_s = by_server.or_else(|| offsets.iter().copied().max_by_key(|offset| offset.unsigned_abs()));
        if let Some(why) = dates_do_not_matter(reading, offset_s) {
            return Ruling::Excluded(format!("our clock is off, but {why}"));
        }
        let mut finding = Finding::new(
            Action::None,
            Party::OurNetwork,
            "Our clock is wrong: certificates and signatures fail for that, not for the peer.",
        )
        .likely_if(off < CONTROLS_NEEDED && !server_says_off)
        .because(format!("{off} of {} controls tell a time more than {CLOCK_TOLERANCE_S} s from ours", offsets.len()))
        .because(format!("{dates_fail} controls fail on the dates of their certificates"))
        .unless("the controls' clocks agreeing with ours");
        if let Some(offset_s) = by_server {
            finding = finding.because(format!("the time server's clock minus ours is {offset_s} s"));
        }
        return finding.explains();
    }
    if on_time >= CONTROLS_NEEDED {
        return Ruling::Excluded(format!("{on_time} controls tell our time to within {CLOCK_TOLERANCE_S} s"));
    }
    if by_server.is_some() && !server_says_off {
        return Ruling::Excluded(format!("the time server tells our time to within {CLOCK_TOLERANCE_S} s"));
    }
    match reading.failure() {
        Some(failure) if is_before_tls(failure) => {
            Ruling::Excluded(format!("the failure is at {}, before any date is looked at", failure.stage.name()))
        }
        _ => Ruling::Unknown("fewer than two controls told the time".to_owned()),
    }
}

fn is_off(offset_s: i64) -> bool {
    offset_s.unsigned_abs() > CLOCK_TOLERANCE_S.unsigned_abs()
}

/// A wrong clock spoils what has dates: certificates, and signed requests. Where none of these fails, it is not the cause.
fn dates_do_not_matter(reading: &Reading, offset_s: Option<i64>) -> Option<String> {
    let failure = reading.failure()?;
    let signed = matches!(common_status(reading), Some(400 | 401 | 403));
    let observed = reading.evidence().observations.iter().flat_map(|observation| &observation.results);
    let proofs = reading.evidence().candidates.iter().flat_map(|candidate| &candidate.proofs);
    let tried = observed.chain(proofs.map(|proof| &proof.result));
    let dated: Vec<&AddressResult> = tried
        .filter(|result| {
            let class = result.failure.as_ref().map(|failure| failure.class);
            matches!(class, Some(ErrorClass::Expired | ErrorClass::NotYetValid))
        })
        .collect();
    if dated.is_empty() && !signed {
        return Some(format!("the peer fails at {} ({})", failure.stage.name(), failure.class.name()));
    }
    let now = reading.evidence().started_at.checked_add(SignedDuration::from_secs(offset_s?)).ok()?;
    let bad_anyway = |result: &&AddressResult| {
        result.identity.as_ref().is_some_and(|shown| now < shown.not_before || now > shown.not_after)
    };
    let all_bad_anyway = !dated.is_empty() && dated.iter().all(bad_anyway);
    all_bad_anyway.then(|| "the peer's certificate is out of date by the others' clocks too".to_owned())
}

pub fn own_egress(reading: &Reading) -> Ruling {
    let score = reading.connected;
    if score.passed == 0 && score.failed >= CONTROLS_NEEDED {
        if reading.works_now() {
            return Ruling::Excluded("the peer itself is reached".to_owned());
        }
        let failures = reading
            .live
            .iter()
            .filter_map(|control| Some(format!("{}: {}", control.control, control.address_failure.as_ref()?)));
        return failures
            .fold(
                Finding::new(
                    Action::None,
                    Party::OurNetwork,
                    "Our own way out is broken: nothing unrelated can be reached either.",
                ),
                Finding::because,
            )
            .unless("a control that is reached by its address")
            .explains();
    }
    if score.passed >= CONTROLS_NEEDED {
        return Ruling::Excluded(format!("{} controls are reached by address", score.passed));
    }
    Ruling::Unknown(format!(
        "{} of {} live controls are reached by address; two are needed to exclude our own way out",
        score.passed,
        score.passed + score.failed
    ))
}

pub fn own_resolver(reading: &Reading) -> Ruling {
    // Past it the peer fails as well: that is not explained by it.
    if own_server_is_silent(reading.evidence()) && reading.failure().is_none() {
        return Finding::new(
            Action::None,
            Party::OurResolver,
            "ukai's own DNS server does not answer; it is started again, and the peer is not the cause.",
        )
        .because("the resolver behind it answers all the while")
        .unless("our own server answering")
        .explains();
    }
    if let Some((code, summary)) = super::name::withheld(reading) {
        return Finding::new(Action::None, Party::OurResolver, summary)
            .because(format!("it says so itself: extended error {code} (RFC 8914)"))
            .unless("our resolver giving an address of the peer's")
            .explains();
    }
    let score = reading.by_name;
    if score.passed == 0 && score.failed >= CONTROLS_NEEDED {
        if matches!(reading.ours, OurAnswer::Addresses(_)) && reading.works_now() {
            return Ruling::Excluded("the peer's name is resolved".to_owned());
        }
        let failures = reading
            .live
            .iter()
            .filter_map(|control| Some(format!("{}: {}", control.control, control.name_failure.as_ref()?)));
        return failures
            .fold(
                Finding::new(
                    Action::None,
                    Party::OurResolver,
                    "Our own resolver fails for unrelated names too: the peer is not the cause.",
                ),
                Finding::because,
            )
            .because(format!("{} controls are reached by their address all the while", reading.by_address.passed))
            .unless("our resolver answering for a control's name")
            .explains();
    }
    if score.passed >= CONTROLS_NEEDED {
        return Ruling::Excluded(format!("our resolver answers for {} controls", score.passed));
    }
    Ruling::Unknown(format!(
        "our resolver answers for {} of {} live controls; two are needed to exclude it",
        score.passed,
        score.passed + score.failed
    ))
}

pub fn intercepted(reading: &Reading) -> Ruling {
    let known = &reading.case.history.control_issuers;
    let mut as_before = 0;
    let mut strange: Vec<String> = Vec::new();
    let mut strange_issuers = BTreeSet::new();
    for control in &reading.live {
        let Some(issuer) = &control.issuer else { continue };
        let key = format!("{} {issuer}", control.control);
        if known.contains(&key) || (known.is_empty() && control.tls_verified) {
            as_before += 1;
        } else {
            strange.push(format!("{} shows {issuer}", control.control));
            strange_issuers.insert(issuer);
        }
    }
    if as_before == 0 && strange.len() >= CONTROLS_NEEDED && strange_issuers.len() == 1 {
        return strange
            .into_iter()
            .fold(
                Finding::new(
                    Action::None,
                    Party::OurNetwork,
                    "A proxy on our path answers TLS for everybody: what we see is not the peer.",
                ),
                Finding::because,
            )
            .unless("a control that shows the issuer it had in peace")
            .explains();
    }
    if as_before >= CONTROLS_NEEDED {
        return Ruling::Excluded(format!("{as_before} controls show the issuer they had in peace"));
    }
    match reading.failure() {
        Some(failure) if is_before_tls(failure) => {
            Ruling::Excluded(format!("the failure is at {}, where no proxy answers", failure.stage.name()))
        }
        _ => Ruling::Unknown("fewer than two controls showed a known certificate".to_owned()),
    }
}

pub fn dns_intercepted(reading: &Reading) -> Ruling {
    match &reading.evidence().canary {
        Canary::Clean => Ruling::Excluded("a name that cannot exist is refused as it should be".to_owned()),
        Canary::NoAnswer => Ruling::Unknown("no authoritative server answered the canary".to_owned()),
        Canary::Intercepted(how) if reading.independents.as_ref() == Some(&reading.our_set) => {
            Ruling::Unknown(format!(
                "port 53 is intercepted, so no authority was heard ({how}); but resolvers over other ports lead to the same addresses"
            ))
        }
        Canary::Intercepted(how) => Finding::new(
            Action::None,
            Party::OurNetwork,
            "Port 53 is intercepted on our path: what looks like the peer's servers is one box.",
        )
        .likely_if(reading.independents.is_none())
        .because(format!("the canary: {how}"))
        .unless("the canary being refused by the peer's servers")
        .explains(),
    }
}

/// Whether a failure says that something was answered by the wrong machine.
pub fn is_identity_failure(class: ErrorClass) -> bool {
    class.is_foreign_identity() || matches!(class, ErrorClass::Expired | ErrorClass::NotYetValid)
}
