//! The peer's name: what it leads to, who says so, and whether that is still true.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Finding, Ruling};
use crate::diagnose::answers::{self, Authority, OurAnswer};
use crate::diagnose::evidence::Rcode;
use crate::diagnose::reading::{Continuity, Reading, list};
use crate::diagnose::verdict::{Action, Party};

/// About how long a person takes to approve; a negative answer that ends sooner is waited for.
pub const APPROVAL_TIME_S: u32 = 120;
/// Readings of a TTL closer together than this cannot show that it stands still.
const TTL_GAP_MS: i128 = 1_100;
/// Extended errors that mean a stale answer (RFC 8914: 3 Stale Answer, 19 Stale NXDOMAIN Answer).
const STALE_ERRORS: [u16; 2] = [3, 19];
/// Extended errors of failed DNSSEC validation (RFC 8914, 4.7 to 4.13).
const DNSSEC_ERRORS: std::ops::RangeInclusive<u16> = 5..=12;

pub fn rebinding(reading: &Reading) -> Ruling {
    let bad = reading.not_global();
    if bad.is_empty() {
        return Ruling::Excluded("every address is one that a public service may have".to_owned());
    }
    Finding::new(
        Action::Refuse,
        Party::Unknown,
        format!("The name leads to {}, which no public service may have.", list(&bad)),
    )
    .because(format!("{} is in a special-purpose range and not allowed here", list(&bad)))
    .because("it was recorded and not contacted".to_owned())
    .unless("the operator listing the network in allow_addresses")
    .explains()
}

pub fn parked(reading: &Reading) -> Ruling {
    let parked = reading.parked();
    if parked.is_empty() {
        return Ruling::Beside;
    }
    let delegation = reading.delegation_changed();
    let mut finding = Finding::new(
        Action::Refuse,
        Party::Peer,
        format!("The name leads to a parking page at {}: the domain may have lapsed.", list(&parked)),
    )
    .because(format!("{} answers with a registrar's page; a 200 proves nothing", list(&parked)));
    if let Some(changed) = &delegation {
        finding = finding.because(changed.clone());
    }
    let known: BTreeSet<IpAddr> =
        parked.iter().copied().filter(|address| reading.case.history.knows_address(*address)).collect();
    finding.likely_if(!known.is_empty()).unless("the page being the peer's own after all").explains()
}

pub fn suspect_hijack(reading: &Reading) -> Ruling {
    let foreign = reading.foreign();
    if foreign.is_empty() {
        return Ruling::Excluded("nobody else's certificate was shown at a new address".to_owned());
    }
    let mut finding = Finding::new(
        Action::Refuse,
        Party::Attacker,
        format!("The name leads to {}, where somebody else answers: treat it as a hijack.", list(foreign.keys())),
    )
    .unless("a certificate for this name from a trusted issuer at that address");
    for (address, failure) in &foreign {
        let sayers = sayers(reading, *address);
        finding = finding.because(format!("{address} (from {sayers}): {}", failure.detail));
    }
    let history_known = !reading.case.history.identities.is_empty();
    finding.because("none of these addresses was the peer's before".to_owned()).likely_if(!history_known).explains()
}

fn sayers(reading: &Reading, address: IpAddr) -> String {
    let sayers: BTreeSet<&str> = reading
        .evidence()
        .asked
        .iter()
        .filter(|asked| asked.answer().is_some_and(|answer| answer.addresses.contains(&address)))
        .map(|asked| asked.server.as_str())
        .collect();
    list(sayers)
}

pub fn rotating(reading: &Reading) -> Ruling {
    let Some(why) = &reading.steered else {
        return Ruling::Beside;
    };
    if !reading.works_now() {
        return Ruling::Beside;
    }
    let failing = reading
        .evidence()
        .candidates
        .iter()
        .find_map(|candidate| Some((candidate.address, candidate.first_failure()?)));
    if let Some((address, failure)) = failing {
        return Ruling::Excluded(format!("{address} does not prove itself: {}", failure.detail));
    }
    Finding::new(Action::None, Party::Peer, "The answers differ by design (a steered name), and every address works.")
        .because(why.clone())
        .because(format!("{} addresses proved themselves", reading.proved.len()))
        .told_without_a_page()
        .unless("an address of the rotation failing")
        .explains()
}

pub fn delegation_removed(reading: &Reading) -> Ruling {
    let gone = reading
        .evidence()
        .delegation
        .as_ref()
        .is_some_and(|delegation| delegation.parent_rcode == Some(Rcode::Nxdomain));
    if !gone {
        return Ruling::Beside;
    }
    Finding::new(
        Action::Escalate,
        Party::Peer,
        "The parent zone no longer knows the peer's domain: a registry hold, or it lapsed.",
    )
    .because("the parent's servers answer NXDOMAIN".to_owned())
    .likely_if(!fails_to_resolve(reading))
    .unless("the parent delegating the name again")
    .explains()
}

fn fails_to_resolve(reading: &Reading) -> bool {
    !matches!(reading.ours, OurAnswer::Addresses(_))
}

pub fn peer_dns_empty(reading: &Reading) -> Ruling {
    let Authority::Empty { nxdomain } = reading.authority else {
        return Ruling::Beside;
    };
    if reading.works_now() {
        return Ruling::Beside;
    }
    let what = if nxdomain { "that the name does not exist" } else { "that it has no address" };
    Finding::new(Action::Escalate, Party::Peer, format!("The peer's own name servers agree {what}."))
        .because(format!("every authoritative server says {what}"))
        .unless("one of them giving an address")
        .explains()
}

pub fn dnssec_bogus(reading: &Reading) -> Ruling {
    if reading.ours != OurAnswer::Servfail {
        return Ruling::Beside;
    }
    let errors = answers::our_extended_errors(reading.evidence());
    let validation = errors.iter().find(|code| DNSSEC_ERRORS.contains(*code));
    if validation.is_none() && !answers::answers_unvalidated(reading.evidence()) {
        return Ruling::Beside;
    }
    let mut finding = Finding::new(
        Action::Escalate,
        Party::Peer,
        "The name fails DNSSEC validation: broken signatures and a forgery look alike.",
    )
    .unless("the answer validating again");
    if let Some(code) = validation {
        finding = finding.because(format!("our resolver gives extended error {code}"));
    }
    finding
        .because("with validation switched off (CD=1) the name resolves".to_owned())
        .likely_if(validation.is_none())
        .explains()
}

pub fn negative_cache(reading: &Reading) -> Ruling {
    // A probe that did resolve knows better than an answer that came empty.
    if !matches!(reading.ours, OurAnswer::Nxdomain | OurAnswer::Nodata)
        || !reading.current.is_empty()
        || reading.works_now()
    {
        return Ruling::Beside;
    }
    let Authority::Agreed(set) = &reading.authority else {
        return Ruling::Beside;
    };
    let left = answers::negative_ttl(reading.evidence());
    let short = left.is_some_and(|left| left < APPROVAL_TIME_S);
    let action = if short { Action::None } else { Action::Override };
    let mut finding = Finding::new(
        action,
        Party::OurResolver,
        "Our resolver still says that there is no address; the peer's servers have one again.",
    )
    .because(format!("the authoritative servers agree on {}", list(set)));
    if let Some(left) = left {
        finding = finding.because(format!("the negative answer has {left} s left"));
    }
    finding.likely_if(set.is_disjoint(&reading.proved)).unless("our resolver giving an address").explains()
}

pub fn lame_delegation(reading: &Reading) -> Ruling {
    let Authority::Contradicting(sets) = &reading.authority else {
        return Ruling::Excluded("the authoritative servers do not contradict each other".to_owned());
    };
    if reading.works_now() || reading.steered.is_some() {
        return Ruling::Beside;
    }
    let finding = Finding::new(
        Action::Escalate,
        Party::Peer,
        "The peer's name servers contradict each other: one of them lags or is wrong.",
    )
    .unless("all of them answering alike");
    sets.iter()
        .fold(finding, |finding, (server, set)| finding.because(format!("{server} answers {}", list(set))))
        .likely()
        .explains()
}

/// Our resolver's set is another than the agreed one, and fails; something of the agreed one proves.
struct Differs<'a> {
    agreed: &'a BTreeSet<IpAddr>,
    proved: BTreeSet<IpAddr>,
    /// The authoritative servers cannot be reached from here; independent resolvers agree instead (S37).
    secondhand: bool,
}

fn differs<'a>(reading: &'a Reading) -> Option<Differs<'a>> {
    let (agreed, secondhand) = match (&reading.authority, &reading.independents) {
        (Authority::Agreed(agreed), _) => (agreed, false),
        (Authority::Silent, Some(agreed)) => (agreed, true),
        _ => return None,
    };
    if reading.our_set.is_empty() || !reading.our_set.is_disjoint(agreed) || reading.works_now() {
        return None;
    }
    // An address of a family that this machine has no route for is not tried, by us or by the application.
    let tried: Vec<IpAddr> = reading.our_set.iter().copied().filter(|address| reading.is_tried(*address)).collect();
    if tried.is_empty() || !tried.iter().all(|address| reading.is_failing(*address)) {
        return None;
    }
    let proved: BTreeSet<IpAddr> = agreed.intersection(&reading.proved).copied().collect();
    (!proved.is_empty()).then_some(Differs { agreed, proved, secondhand })
}

pub fn identity_discontinuity(reading: &Reading) -> Ruling {
    let set: BTreeSet<IpAddr> = match &reading.authority {
        Authority::Agreed(set) => set.intersection(&reading.proved).copied().collect(),
        _ => BTreeSet::new(),
    };
    let mut broken = Vec::new();
    for address in &set {
        match reading.continuity(*address) {
            Continuity::Broken { old, new } => broken.push((old, new)),
            _ => return Ruling::Excluded(format!("{address} is who the peer was")),
        }
    }
    if broken.is_empty() {
        return Ruling::Beside;
    }
    let finding = Finding::new(
        Action::Escalate,
        Party::Unknown,
        "The name now leads to somebody with a valid certificate who was never the peer before.",
    )
    .unless("the peer confirming the change by another way than this name");
    let finding =
        broken.into_iter().fold(finding, |finding, (old, new)| finding.because(format!("before: {old}; now: {new}")));
    match reading.delegation_changed() {
        Some(changed) => finding.because(changed).likely().explains(),
        None => finding.likely().explains(),
    }
}

/// The TTL that the authority gave with our resolver's set, where that was seen in peace.
fn authority_ttl_of(reading: &Reading) -> Option<u32> {
    reading
        .case
        .history
        .answers
        .iter()
        .rfind(|seen| seen.source == crate::diagnose::evidence::Source::Authority && seen.addresses == reading.our_set)
        .map(|seen| seen.ttl)
}

/// How an old answer's TTL stands.
#[derive(Debug, PartialEq, Eq)]
enum Age {
    /// Given past its TTL, and how that is known.
    Past(String),
    /// Still within it; so many seconds are left.
    Within(u32),
}

fn age(reading: &Reading) -> Age {
    let readings = answers::ttl_readings(reading.evidence());
    let (Some(first), Some(last)) = (readings.first(), readings.last()) else {
        return Age::Within(0);
    };
    if let (Some(moved), Some(ttl)) = (reading.case.moved_seen_at, authority_ttl_of(reading)) {
        let run_out = moved.as_second() + i64::from(ttl) + 1;
        if last.at.as_second() > run_out {
            return Age::Past(format!(
                "the peer gave this answer with a TTL of {ttl} s, which ran out {} s ago",
                last.at.as_second() - run_out
            ));
        }
    }
    for pair in readings.windows(2) {
        let gap_ms = pair[1].at.duration_since(pair[0].at).as_millis();
        if gap_ms >= TTL_GAP_MS && pair[1].ttl >= pair[0].ttl {
            return Age::Past(format!(
                "its TTL does not fall: {} s, and {} s again {:.1} s later",
                pair[0].ttl,
                pair[1].ttl,
                gap_ms as f64 / 1000.0
            ));
        }
    }
    let elapsed = last.at.as_second() - first.at.as_second();
    if elapsed > i64::from(first.ttl) + 1 {
        return Age::Past(format!("it was given with {} s left, {elapsed} s ago", first.ttl));
    }
    Age::Within(last.ttl)
}

fn stale(reading: &Reading, differs: &Differs, summary: &str) -> Finding {
    let finding = Finding::new(Action::Override, Party::OurResolver, summary)
        .because(format!("our resolver answers {}, and every one of them fails", list(&reading.our_set)))
        .because(format!("{} proved every endpoint, every time", list(&differs.proved)))
        .unless("our resolver giving the authoritative answer");
    let mut finding =
        if differs.secondhand { on_second_hand(finding, differs) } else { first_hand(reading, finding, differs) };
    for address in &differs.proved {
        match reading.continuity(*address) {
            Continuity::Continuous(how) => finding = finding.because(how),
            Continuity::Broken { old, new } => {
                finding = finding.against(format!("{new}; before: {old}")).likely();
            }
            Continuity::NoHistory => {
                finding = finding.against("the peer was never seen healthy from here".to_owned()).likely();
            }
            Continuity::NoIdentity => {
                finding = finding.against(format!("{address} has no verified identity")).likely();
            }
        }
    }
    match reading.delegation_changed() {
        Some(changed) => finding.against(changed).likely(),
        None if !reading.delegation_read() => finding.against("the delegation could not be read").likely(),
        None => finding,
    }
}

fn first_hand(reading: &Reading, finding: Finding, differs: &Differs) -> Finding {
    let finding = finding
        .because(format!("the authoritative servers agree on {}", list(differs.agreed)))
        .unless("one of the authoritative servers contradicting the others");
    match &reading.independents {
        Some(set) if set == differs.agreed => finding.because("independent resolvers give the same set"),
        Some(set) => finding.against(format!("independent resolvers agree on {}", list(set))).likely(),
        None => finding.against("no two independent resolvers agreed").likely(),
    }
}

/// Never proven, and for a person to decide: nobody here heard the peer's own servers (S37).
fn on_second_hand(mut finding: Finding, differs: &Differs) -> Finding {
    finding.action = Action::Escalate;
    finding
        .because(format!("independent resolvers agree on {}", list(differs.agreed)))
        .against("no authoritative server can be reached from here")
        .likely()
}

pub fn ttl_violation(reading: &Reading) -> Ruling {
    let Some(differs) = differs(reading) else {
        return Ruling::Beside;
    };
    let errors = answers::our_extended_errors(reading.evidence());
    if errors.iter().any(|code| STALE_ERRORS.contains(code)) {
        return stale(
            reading,
            &differs,
            "Our resolver serves an expired answer on purpose (serve-stale), and it is wrong.",
        )
        .because("it says so itself: extended error 3, Stale Answer".to_owned())
        .explains();
    }
    let given = answers::ttl_readings(reading.evidence()).iter().map(|reading| reading.ttl).max();
    match (given, authority_ttl_of(reading)) {
        (Some(given), Some(ttl)) if given > ttl + 1 => {
            stale(reading, &differs, "Our resolver keeps an old answer longer than the peer allowed.")
                .because(format!("it gives a TTL of {given} s; the peer gave {ttl} s with that answer"))
                .explains()
        }
        _ => Ruling::Beside,
    }
}

pub fn stale_resolver_transient(reading: &Reading) -> Ruling {
    let Some(differs) = differs(reading) else {
        return Ruling::Beside;
    };
    match age(reading) {
        Age::Past(_) => Ruling::Beside,
        Age::Within(left) => {
            stale(reading, &differs, "Our resolver gives an answer that is no longer true, within its TTL.")
                .because(format!("it has {left} s left and is falling"))
                .explains()
        }
    }
}

pub fn stale_resolver(reading: &Reading) -> Ruling {
    let Some(differs) = differs(reading) else {
        let why = match &reading.authority {
            Authority::Agreed(set) if *set == reading.our_set => {
                "our resolver gives what the authoritative servers give".to_owned()
            }
            Authority::Agreed(_) => "what the authoritative servers give does not prove itself either".to_owned(),
            _ => "the authoritative servers did not agree on an address".to_owned(),
        };
        return Ruling::Excluded(why);
    };
    match age(reading) {
        Age::Past(how) => {
            stale(reading, &differs, "Our resolver goes on giving an old address past its TTL; the peer has moved.")
                .because(how)
                .explains()
        }
        Age::Within(_) => Ruling::Beside,
    }
}
