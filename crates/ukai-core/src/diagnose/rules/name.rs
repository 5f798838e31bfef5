//! The peer's name: what it leads to, who says so, and whether that is still true.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Finding, Ruling};
use crate::diagnose::answers::{self, Authority, OurAnswer};
use crate::diagnose::evidence::{Asked, Rcode, Source};
use crate::diagnose::reading::{Continuity, Reading, SteeredBy, list};
use crate::diagnose::verdict::{Action, Party};
use crate::observe::{ErrorClass, Failure};

/// About how long a person takes to approve; a negative answer that ends sooner is waited for.
pub const APPROVAL_TIME_S: u32 = 120;
/// Readings of a TTL closer together than this cannot show that it stands still.
const TTL_GAP_MS: i128 = 1_100;
/// Extended errors that mean a stale answer (RFC 8914: 3 Stale Answer, 19 Stale NXDOMAIN Answer).
const STALE_ERRORS: [u16; 2] = [3, 19];
/// Extended errors of a name that is withheld on purpose (RFC 8914: 15 Blocked, 16 Censored, 17 Filtered, 18 Prohibited).
const BLOCKED_ERRORS: std::ops::RangeInclusive<u16> = 15..=18;
/// Extended errors of failed DNSSEC validation (RFC 8914, 4.7 to 4.13).
const DNSSEC_ERRORS: std::ops::RangeInclusive<u16> = 5..=12;

pub fn rebinding(reading: &Reading) -> Ruling {
    let bad = reading.not_global();
    if bad.is_empty() && reading.named().is_empty() && reading.current.is_empty() && !is_heard(reading) {
        return Ruling::Unknown("nobody said which addresses the name has".to_owned());
    }
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

/// Somebody answered a question about the name, or there is no name to ask about.
fn is_heard(reading: &Reading) -> bool {
    let asked = &reading.evidence().asked;
    asked.is_empty() || asked.iter().any(|asked| asked.answer().is_some())
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

/// An alias of the peer's whose target is gone, or belongs to somebody else by now (S29).
pub fn dangling_cname(reading: &Reading) -> Ruling {
    let Some((asked, chain)) = answers::chain(reading.evidence()) else {
        if !is_heard(reading) {
            return Ruling::Unknown("nobody said whether the name is an alias".to_owned());
        }
        return Ruling::Excluded("the name is no alias".to_owned());
    };
    let Some(target) = chain.last() else {
        return Ruling::Beside;
    };
    let by_authority = reading.evidence().asked.iter().any(|asked| {
        asked.source == Source::Authority && asked.answer().is_some_and(|answer| answer.chain.last() == Some(target))
    });
    let apex = reading.evidence().delegation.as_ref().map_or("", |delegation| &delegation.zone);
    let finding = |summary: String| {
        Finding::new(Action::Refuse, Party::Peer, summary)
            .because(format!("{} says that the name is an alias of {}", asked.server, list(chain)))
            .likely_if(!by_authority)
            .unless("the alias leading to a machine that proves to be the peer")
    };
    let gone = reading.authority_set.is_empty()
        && reading.our_set.is_empty()
        && !reading.works_now()
        && does_not_exist(reading);
    if gone {
        return finding(format!(
            "The name is an alias of {target}, which does not exist: whoever registers it is the peer."
        ))
        .because(format!("nobody gives an address for {target}"))
        .likely_if(!is_denied_elsewhere(reading))
        .explains();
    }
    let foreign = reading.foreign();
    // Given by the servers of the alias and its target; what our resolver alone leads to is another matter.
    let by_them = |(address, failure): (&IpAddr, &Failure)| {
        failure.class == ErrorClass::NameMismatch && (reading.authority_set.contains(address) || !by_authority)
    };
    if !foreign.is_empty() && foreign.iter().all(by_them) && !is_within_zone(target, apex, &reading.evidence().host) {
        let who: Vec<String> =
            foreign.iter().map(|(address, failure)| format!("{address}: {}", failure.detail)).collect();
        return finding(format!("The name is an alias of {target}, where somebody else is served now."))
            .because(list(who))
            .explains();
    }
    Ruling::Excluded(format!("the alias leads to an address of {target}"))
}

/// Where the zone is not known, names with the same last two labels count as one's own.
fn is_within_zone(name: &str, apex: &str, host: &str) -> bool {
    let plain = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
    let (name, host) = (plain(name), plain(host));
    let last_two = |name: &str| name.rsplit('.').take(2).map(str::to_owned).collect::<Vec<_>>();
    match plain(apex) {
        apex if apex.is_empty() => last_two(&name) == last_two(&host),
        apex => name == apex || name.ends_with(&format!(".{apex}")),
    }
}

/// Somebody followed the alias, and was told that there is no such name.
fn does_not_exist(reading: &Reading) -> bool {
    let says = |asked: &Asked| {
        asked.answer().is_some_and(|answer| answer.rcode == Rcode::Nxdomain && !answer.chain.is_empty())
    };
    reading.evidence().asked.iter().any(says)
}

/// Somebody besides our own resolver says so too: it may hold on to an answer of before.
fn is_denied_elsewhere(reading: &Reading) -> bool {
    let others = reading.evidence().asked.iter().filter(|asked| asked.source != Source::OurResolver);
    others.filter_map(Asked::answer).any(|answer| answer.rcode == Rcode::Nxdomain)
}

/// Clients elsewhere are led elsewhere, and every address works: by design (S14).
pub fn geo_steered(reading: &Reading) -> Ruling {
    let Some(steering) = reading.steered.as_ref().filter(|steering| steering.how == SteeredBy::Subnet) else {
        return Ruling::Beside;
    };
    if !reading.works_now() {
        return Ruling::Beside;
    }
    if let Some((address, failure)) = failing_candidate(reading) {
        return Ruling::Excluded(format!("{address} does not prove itself: {}", failure.detail));
    }
    if let Some(address) = stranger(reading) {
        return Ruling::Excluded(format!("{address} was never the peer's"));
    }
    Finding::new(
        Action::None,
        Party::Peer,
        "The answer depends on where the client is, by design, and every address works.",
    )
    .because(steering.why.clone())
    .because(format!("{} addresses proved themselves", reading.proved.len()))
    .told_without_a_page()
    .unless("an address that we are led to failing")
    .explains()
}

/// Somebody among those that we are led to was never the peer: then no difference is by design.
fn stranger(reading: &Reading) -> Option<IpAddr> {
    let named = reading.our_set.iter().chain(&reading.authority_set);
    identities(reading, named)
        .into_iter()
        .find_map(|(address, continuity)| matches!(continuity, Continuity::Broken { .. }).then_some(address))
}

/// A machine of before that this gathering was not led to, and that is dead: a rotation comes back to it.
pub fn left_and_dead<'a>(reading: &'a Reading) -> Option<(IpAddr, &'a Failure)> {
    let unnamed = reading.evidence().candidates.iter().filter(|candidate| candidate.learned_from.is_empty());
    let known = unnamed.filter(|candidate| reading.case.history.knows_address(candidate.address));
    known.filter_map(|candidate| Some((candidate.address, candidate.first_failure()?))).next()
}

fn failing_candidate<'a>(reading: &'a Reading) -> Option<(IpAddr, &'a Failure)> {
    let named = reading.evidence().candidates.iter().filter(|candidate| !candidate.learned_from.is_empty());
    named.filter_map(|candidate| Some((candidate.address, candidate.first_failure()?))).next()
}

pub fn rotating(reading: &Reading) -> Ruling {
    let Some(why) = reading.steered.as_ref().filter(|steering| steering.how != SteeredBy::Subnet) else {
        return Ruling::Beside;
    };
    if !reading.works_now() {
        return Ruling::Beside;
    }
    if let Some((address, failure)) = failing_candidate(reading) {
        return Ruling::Excluded(format!("{address} does not prove itself: {}", failure.detail));
    }
    if let Some((address, _)) = left_and_dead(reading) {
        return Ruling::Excluded(format!("{address} was in the rotation, and does not answer"));
    }
    if let Some(address) = stranger(reading) {
        return Ruling::Excluded(format!("{address} was never the peer's"));
    }
    Finding::new(Action::None, Party::Peer, "The answers differ by design (a steered name), and every address works.")
        .because(why.why.clone())
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
    let finding = Finding::new(
        Action::Escalate,
        Party::Peer,
        "The parent zone no longer knows the peer's domain: a registry hold, or it lapsed.",
    )
    .because("the parent's servers answer NXDOMAIN".to_owned())
    .likely_if(!fails_to_resolve(reading))
    .unless("the parent delegating the name again");
    match &reading.independents {
        Some(set) => finding.against(format!("independent resolvers still agree on {}", list(set))).likely().explains(),
        None => finding.explains(),
    }
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
        .because(format!("every authoritative server that answered says {what}"))
        .unless("one of them giving an address")
        .explains()
}

pub fn dnssec_bogus(reading: &Reading) -> Ruling {
    if reading.ours != OurAnswer::Servfail {
        return Ruling::Beside;
    }
    let errors = answers::our_extended_errors(reading.evidence());
    let validation = errors.iter().find(|code| DNSSEC_ERRORS.contains(*code));
    let unvalidated = answers::answers_unvalidated(reading.evidence());
    if validation.is_none() && !unvalidated {
        return Ruling::Beside;
    }
    let validating = answers::validated_elsewhere(reading.evidence());
    let mut finding = Finding::new(
        Action::Escalate,
        Party::Peer,
        "The name fails DNSSEC validation: broken signatures and a forgery look alike.",
    )
    .likely_if(validation.is_none() || !unvalidated || validating.is_some())
    .unless("the answer validating again");
    if let Some(code) = validation {
        finding = finding.because(format!("our resolver gives extended error {code}"));
    }
    finding = match unvalidated {
        true => finding.because("with validation switched off (CD=1) the name resolves"),
        false => finding.against("it was not seen to resolve with validation switched off (CD=1)"),
    };
    if let Some(server) = validating {
        finding = finding.against(format!("{server} validates the name: it may be our resolver's own validation"));
    }
    finding.explains()
}

/// Our resolver refuses this name on purpose (RFC 8914, 4.16 to 4.19): a policy of ours, or of whoever runs it.
pub fn blocked_name(reading: &Reading) -> Option<u16> {
    answers::our_extended_errors(reading.evidence()).into_iter().find(|code| BLOCKED_ERRORS.contains(code))
}

pub fn negative_cache(reading: &Reading) -> Ruling {
    // A probe that did resolve knows better than an answer that came empty.
    let failed = matches!(reading.ours, OurAnswer::Servfail | OurAnswer::Refused | OurAnswer::Silent);
    let negative = matches!(reading.ours, OurAnswer::Nxdomain | OurAnswer::Nodata);
    if !(failed || negative) || !reading.current.is_empty() || reading.works_now() {
        return Ruling::Beside;
    }
    let Authority::Agreed(set) = &reading.authority else {
        return Ruling::Beside;
    };
    if failed {
        return failure_cache(reading, set);
    }
    let left = answers::negative_ttl(reading.evidence());
    let short = left.is_some_and(|left| left < APPROVAL_TIME_S);
    let action = if short { Action::None } else { Action::Override };
    let mut finding = Finding::new(
        action,
        Party::OurResolver,
        "Our resolver still says that there is no address; the peer's servers have one again.",
    )
    .unless("our resolver giving an address");
    if let Some(left) = left {
        finding = finding.because(format!("the negative answer has {left} s left"));
    }
    let proved: BTreeSet<IpAddr> = set.intersection(&reading.proved).copied().collect();
    let finding = first_hand(reading, finding, set).likely_if(proved.is_empty());
    vouched(reading, finding, &proved).explains()
}

/// Our resolver answers for other names, and fails for this one: it holds on to a failure (RFC 9520), or cannot reach the
/// peer's servers as we do.
fn failure_cache(reading: &Reading, set: &BTreeSet<IpAddr>) -> Ruling {
    let proves = !set.is_disjoint(&reading.proved);
    Finding::new(
        if proves { Action::Override } else { Action::None },
        Party::OurResolver,
        "Our resolver fails for this name alone, while the peer's servers answer it.",
    )
    .because(format!("the authoritative servers agree on {}", list(set)))
    .because(format!("our resolver answers for {} controls", reading.by_name.passed))
    .against("a failure is cached for five minutes at most (RFC 9520, 3.2): it may be over before anything is done")
    .likely()
    .unless("our resolver giving an address")
    .explains()
}

/// Servers that the parent names, and that do not answer for the zone: without authority, or with an error (RFC 1912, 2.8).
fn lame_servers<'a>(reading: &'a Reading) -> BTreeSet<&'a str> {
    let asked = || reading.evidence().asked.iter().filter(|asked| asked.source == Source::Authority);
    let speaks = |asked: &&Asked| {
        asked
            .answer()
            .is_some_and(|answer| answer.authoritative && matches!(answer.rcode, Rcode::Noerror | Rcode::Nxdomain))
    };
    let speaking: BTreeSet<&str> = asked().filter(speaks).map(|asked| asked.identity.as_str()).collect();
    let heard = asked().filter(|asked| asked.answer().is_some()).map(|asked| asked.identity.as_str());
    heard.filter(|server| !speaking.contains(server)).collect()
}

/// Most servers of the delegation do not answer for the zone, and our resolver gives up on it.
fn mostly_lame(reading: &Reading, delegated: usize) -> Ruling {
    let lame = lame_servers(reading);
    if lame.len() * 2 <= delegated || reading.works_now() || !reading.our_set.is_empty() {
        return Ruling::Excluded("too few authoritative servers were heard to contradict each other".to_owned());
    }
    Finding::new(
        Action::Escalate,
        Party::Peer,
        "Most of the name servers that the parent names do not answer for the peer's zone.",
    )
    .because(format!("{} of {delegated} are lame: {}", lame.len(), list(&lame)))
    .likely()
    .unless("a majority of them answering with authority")
    .explains()
}

pub fn lame_delegation(reading: &Reading) -> Ruling {
    if let Authority::TooFew { delegated, .. } = reading.authority {
        return mostly_lame(reading, delegated);
    }
    if reading.authority == Authority::Silent && !is_heard(reading) {
        return Ruling::Unknown("no authoritative server was heard".to_owned());
    }
    let Authority::Contradicting(sets) = &reading.authority else {
        return Ruling::Excluded("the authoritative servers do not contradict each other".to_owned());
    };
    if reading.steered.is_some() {
        return Ruling::Beside;
    }
    let given: BTreeSet<IpAddr> = sets.values().flatten().copied().collect();
    let works = given.iter().any(|address| reading.proved.contains(address));
    let fails = given.iter().any(|address| reading.is_failing(*address));
    let misled =
        reading.our_set.is_empty() || !reading.our_set.is_superset(&given) || sets.values().any(BTreeSet::is_empty);
    let explains = if reading.works_now() { fails } else { works && misled };
    if !explains {
        return Ruling::Excluded(
            "they contradict each other, but what they differ in does not explain the failure".to_owned(),
        );
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
fn identities<'s>(reading: &Reading, set: impl IntoIterator<Item = &'s IpAddr>) -> Vec<(IpAddr, Continuity)> {
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
    let lost = answers::lost_family(reading.evidence());
    let is_of = |family: &str, address: &IpAddr| address.is_ipv6() == (family == "AAAA");
    if let Some(family) = lost.filter(|family| differs.agreed.iter().any(|address| is_of(family, address))) {
        finding =
            finding.against(format!("our resolver did not answer for {family}: its answer is half known")).likely();
    }
    if differs.secondhand {
        return vouched(reading, on_second_hand(finding, differs), &differs.proved);
    }
    vouched(reading, first_hand(reading, finding, differs.agreed), &differs.proved)
}

/// Held to what is known of before: who answers there, and whose word it is.
fn vouched(reading: &Reading, mut finding: Finding, proved: &BTreeSet<IpAddr>) -> Finding {
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

fn first_hand(reading: &Reading, finding: Finding, agreed: &BTreeSet<IpAddr>) -> Finding {
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
