//! Our resolver leads to another set than the peer names now: how old its answer is, and who vouches for the other set.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::name::is_heard;
use super::{Finding, Ruling};
use crate::diagnose::answers::{self, Authority};
use crate::diagnose::evidence::Source;
use crate::diagnose::reading::{Continuity, Reading, list};
use crate::diagnose::verdict::{Action, Party};

/// Readings of a TTL closer together than this cannot show that it stands still.
const TTL_GAP_MS: i128 = 1_100;
/// Extended errors that mean a stale answer (RFC 8914: 3 Stale Answer, 19 Stale NXDOMAIN Answer).
const STALE_ERRORS: [u16; 2] = [3, 19];

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
    if reading.our_set.is_empty() || reading.our_set.is_superset(agreed) || reading.works_now() {
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

/// Addresses of a set that proved themselves, and whether each is who the peer was.
pub fn identities<'s>(reading: &Reading, set: impl IntoIterator<Item = &'s IpAddr>) -> Vec<(IpAddr, Continuity)> {
    let proved = set.into_iter().filter(|address| reading.proved.contains(address));
    proved.map(|address| (*address, reading.continuity(*address))).collect()
}

pub fn identity_discontinuity(reading: &Reading) -> Ruling {
    let ours = identities(reading, &reading.our_set);
    let theirs = match &reading.authority {
        Authority::Agreed(set) => identities(reading, set),
        // One that lies leads to somebody valid, and the others do not name it.
        Authority::Contradicting(sets) => identities(reading, sets.values().flatten()),
        Authority::Silent => identities(reading, reading.independents.iter().flatten()),
        _ => Vec::new(),
    };
    // Where we are led decides; where that leads nowhere, what the peer's servers give.
    let led_to = if ours.is_empty() { theirs } else { ours };
    if let Some((address, _)) = led_to.iter().find(|(_, one)| matches!(one, Continuity::Continuous(_))) {
        return Ruling::Excluded(format!("{address} is who the peer was"));
    }
    let broken: Vec<(String, String)> = led_to
        .into_iter()
        .filter_map(|(_, continuity)| match continuity {
            Continuity::Broken { old, new } => Some((old, new)),
            _ => None,
        })
        .collect();
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
        .rfind(|seen| seen.source == Source::Authority && seen.addresses == reading.our_set)
        .map(|seen| seen.ttl)
}

/// How an old answer's TTL stands.
#[derive(Debug, PartialEq, Eq)]
enum Age {
    /// Given past its TTL, and how that is known.
    Past(String),
    /// Still within it; so many seconds are left.
    Within(u32),
    /// It was read once only, or of several caches, so nobody saw whether it falls.
    Unknown,
}

fn age(reading: &Reading) -> Age {
    let readings = answers::ttl_readings(reading.evidence());
    let (Some(first), Some(last)) = (readings.first(), readings.last()) else {
        return Age::Unknown;
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
        // A higher one may come of another cache behind the same address.
        let stands = pair[1].ttl == pair[0].ttl || pair[1].is_named;
        if gap_ms >= TTL_GAP_MS && pair[1].ttl >= pair[0].ttl && stands {
            return Age::Past(format!(
                "its TTL does not fall: {} s, and {} s {:.1} s later",
                pair[0].ttl,
                pair[1].ttl,
                gap_ms as f64 / 1000.0
            ));
        }
    }
    let rises = readings.windows(2).any(|pair| pair[1].ttl > pair[0].ttl);
    if readings.len() < 2 || rises {
        return Age::Unknown;
    }
    let elapsed = last.at.as_second() - first.at.as_second();
    if elapsed > i64::from(first.ttl) + 1 {
        return Age::Past(format!("it was given with {} s left, {elapsed} s ago", first.ttl));
    }
    Age::Within(last.ttl)
}

fn stale(reading: &Reading, differs: &Differs, summary: &str) -> Finding {
    let tried: Vec<&IpAddr> = reading.our_set.iter().filter(|address| reading.is_tried(**address)).collect();
    let fails = match tried.len() == reading.our_set.len() {
        true => "every one of them fails".to_owned(),
        false => format!("every one that was tried fails ({} of {})", tried.len(), reading.our_set.len()),
    };
    let mut finding = Finding::new(Action::Override, Party::OurResolver, summary)
        .because(format!("our resolver answers {}, and {fails}", list(&reading.our_set)))
        .because(format!("{} proved every endpoint, every time", list(&differs.proved)))
        .unless("our resolver giving the authoritative answer");
    let still_given: Vec<&IpAddr> = reading.our_set.intersection(differs.agreed).collect();
    if !still_given.is_empty() {
        let still = format!("{} is still among what the peer's servers give: it may only be dead", list(still_given));
        finding = finding.against(still).likely();
    }
    let history = reading.case.history;
    if !history.identities.is_empty() && !reading.our_set.iter().any(|address| history.knows_address(*address)) {
        let never = format!("{} was never seen to be the peer's: nothing shows that it is old", list(&reading.our_set));
        finding = finding.against(never).likely();
    }
    let lost = answers::lost_family(reading.evidence());
    let is_of = |family: &str, address: &IpAddr| address.is_ipv6() == (family == "AAAA");
    if let Some(family) = lost.filter(|family| differs.agreed.iter().any(|address| is_of(family, address))) {
        finding =
            finding.against(format!("our resolver did not answer for {family}: its answer is half known")).likely();
    }
    finding = own_word(reading, finding);
    if differs.secondhand {
        return vouched(reading, on_second_hand(finding, differs), &differs.proved);
    }
    vouched(reading, first_hand(reading, finding, differs.agreed), &differs.proved)
}

/// What our resolver holds itself is not an old answer of the peer's, or not only: never proven to be one.
pub fn own_word(reading: &Reading, finding: Finding) -> Finding {
    if !answers::ours_is_its_own(reading.evidence()) {
        return finding;
    }
    finding
        .against(
            "our resolver answers with authority (AA): it holds the name itself, as a zone or by a rule; look there first",
        )
        .likely()
}

/// Held to what is known of before: who answers there, and whose word it is.
pub fn vouched(reading: &Reading, mut finding: Finding, proved: &BTreeSet<IpAddr>) -> Finding {
    for address in proved {
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
        None if reading.case.history.delegation.is_none() => {
            finding.against("the delegation was never seen in peace, so it may be another one").likely()
        }
        None => finding,
    }
}

pub fn first_hand(reading: &Reading, finding: Finding, agreed: &BTreeSet<IpAddr>) -> Finding {
    let finding = finding
        .because(format!("the authoritative servers agree on {}", list(agreed)))
        .unless("one of the authoritative servers contradicting the others");
    match &reading.independents {
        Some(set) if set == agreed => finding.because("independent resolvers give the same set"),
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
        (Some(given), Some(ttl)) if given > ttl.saturating_add(1) => {
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
        Age::Past(_) | Age::Unknown => Ruling::Beside,
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
            Authority::Silent if !is_heard(reading) => {
                return Ruling::Unknown("neither our resolver nor an authoritative server was heard".to_owned());
            }
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
        Age::Unknown => stale(reading, &differs, "Our resolver gives an old address, and the peer has moved.")
            .against("whether its time to live has run out was not seen".to_owned())
            .likely()
            .explains(),
        Age::Within(_) => Ruling::Beside,
    }
}
