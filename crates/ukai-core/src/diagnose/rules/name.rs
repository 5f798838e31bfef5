//! The peer's name: what it leads to, who says so, and whether that is still true.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::stale::{first_hand, identities, own_word, vouched};
use super::{Finding, Ruling};
use crate::diagnose::answers::{self, Authority, OurAnswer};
use crate::diagnose::evidence::{Asked, Outcome, Rcode, Silence, Source};
use crate::diagnose::reading::{Continuity, Reading, SteeredBy, list};
use crate::diagnose::verdict::{Action, Party};
use crate::observe::{ErrorClass, Failure};

/// About how long a person takes to approve; a negative answer that ends sooner is waited for.
pub const APPROVAL_TIME_S: u32 = 120;
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
pub fn is_heard(reading: &Reading) -> bool {
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
    if let Some(finding) = endless_aliases(reading) {
        return finding.explains();
    }
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
    if reading.authority_set.is_empty() && reading.our_set.is_empty() {
        return Ruling::Unknown(format!("nobody gave an address of {target}, where the alias leads"));
    }
    Ruling::Excluded(format!("the alias leads to an address of {target}"))
}

/// The peer's own servers send whoever asks round in a circle, or on without end.
fn endless_aliases(reading: &Reading) -> Option<Finding> {
    let told = reading.evidence().asked.iter().filter(|asked| asked.source == Source::Authority);
    let circles: BTreeSet<&str> = told
        .filter(|asked| asked.is_address_question())
        .filter_map(|asked| match &asked.outcome {
            Outcome::Silent { why: Silence::Endless, detail } => Some(detail.as_str()),
            _ => None,
        })
        .collect();
    if circles.is_empty() || !reading.authority_set.is_empty() || !reading.our_set.is_empty() || reading.works_now() {
        return None;
    }
    let finding = Finding::new(
        Action::Refuse,
        Party::Peer,
        "The name is an alias that leads nowhere: its CNAMEs never come to an end.",
    );
    let finding =
        circles.into_iter().fold(finding, |finding, circle| finding.because(format!("at the peer's servers {circle}")));
    Some(finding.likely().unless("one of the peer's servers giving an address"))
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

/// Our resolver withholds this name on purpose, or leads it elsewhere (RFC 8914, 4.5 and 4.16 to 4.19): a policy of ours, or of
/// whoever runs it. The code, and what is to be said of it.
pub fn withheld(reading: &Reading) -> Option<(u16, &'static str)> {
    let blocked_of = |codes: &BTreeSet<u16>| codes.iter().copied().find(|code| BLOCKED_ERRORS.contains(code));
    if reading.our_set.is_empty() {
        let blocked = blocked_of(&answers::our_extended_errors(reading.evidence()));
        let summary = "Our own resolver withholds this name on purpose: whoever runs it must allow it.";
        return blocked.map(|code| (code, summary));
    }
    // One that withholds the other family leads nobody elsewhere.
    let codes = answers::errors_of_our_addresses(reading.evidence());
    let is_our_override = reading.case.overridden.is_some() || answers::sees_our_own_override(reading.evidence());
    let forged = codes.contains(&answers::FORGED_ANSWER).then_some(answers::FORGED_ANSWER);
    let code = blocked_of(&codes).or(forged).filter(|_| !is_our_override && !reading.works_now())?;
    Some((code, "Our own resolver leads this name elsewhere on purpose: whoever runs it must allow it."))
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
    finding = match left {
        Some(left) => finding.because(format!("the negative answer has {left} s left")),
        // RFC 2308, 5: a negative answer without SOA is not to be cached; a resolver that makes one up often has none.
        None => finding
            .against("the negative answer has no SOA: it may be a rule of our resolver's, and nothing cached")
            .likely(),
    };
    finding = own_word(reading, finding);
    let proved: BTreeSet<IpAddr> = set.intersection(&reading.proved).copied().collect();
    let finding = first_hand(reading, finding, set).likely_if(proved.is_empty());
    vouched(reading, finding, &proved).explains()
}

/// Our resolver answers for other names, and fails for this one: it holds on to a failure (RFC 9520), or cannot reach the
/// peer's servers as we do.
fn failure_cache(reading: &Reading, set: &BTreeSet<IpAddr>) -> Ruling {
    let proves = !set.is_disjoint(&reading.proved);
    let finding = Finding::new(
        if proves { Action::Override } else { Action::None },
        Party::OurResolver,
        "Our resolver fails for this name alone, while the peer's servers answer it.",
    )
    .because(format!("the authoritative servers agree on {}", list(set)))
    .because(format!("our resolver answers for {} controls", reading.by_name.passed))
    .against("a failure is cached for five minutes at most (RFC 9520, 3.2): it may be over before anything is done")
    .likely()
    .unless("our resolver giving an address");
    let finding = match reading.ours {
        OurAnswer::Refused => finding.against("REFUSED for one name alone may be a rule of our resolver's"),
        _ => finding,
    };
    own_word(reading, finding).explains()
}

/// Servers that the parent names, and that do not answer for the zone: without authority, or with an error (RFC 1912, 2.8). Each
/// with what it does instead.
fn lame_servers<'a>(reading: &'a Reading) -> BTreeMap<&'a str, String> {
    let mut lame: BTreeMap<&str, String> = BTreeMap::new();
    let mut speaking: BTreeSet<&str> = BTreeSet::new();
    for asked in reading.evidence().asked.iter().filter(|asked| asked.source == Source::Authority) {
        let Some(answer) = asked.answer() else { continue };
        let speaks = matches!(answer.rcode, Rcode::Noerror | Rcode::Nxdomain);
        if speaks && answer.authoritative {
            speaking.insert(&asked.identity);
        } else {
            let what =
                if speaks { "without authority".to_owned() } else { format!("{:?}", answer.rcode).to_uppercase() };
            lame.insert(&asked.identity, what);
        }
    }
    lame.retain(|server, _| !speaking.contains(server));
    lame
}

/// Most servers of the delegation do not answer for the zone, and our resolver gives up on it.
fn mostly_lame(reading: &Reading, delegated: usize) -> Ruling {
    let lame = lame_servers(reading);
    // What our resolver still holds leads nowhere either, if it holds anything.
    let leads_nowhere = reading.our_set.iter().all(|address| reading.is_failing(*address));
    if lame.len() * 2 <= delegated || reading.works_now() || !leads_nowhere {
        return Ruling::Excluded("too few authoritative servers were heard to contradict each other".to_owned());
    }
    Finding::new(
        Action::Escalate,
        Party::Peer,
        "Most of the name servers that the parent names do not answer for the peer's zone.",
    )
    .because(format!(
        "{} of {delegated} are lame: {}",
        lame.len(),
        list(lame.iter().map(|(server, how)| format!("{server} ({how})")))
    ))
    .likely()
    .unless("a majority of them answering with authority")
    .explains()
}

/// The parent delegates the zone to names of which none leads to a server.
fn without_servers(reading: &Reading) -> Option<Ruling> {
    let delegation = reading.evidence().delegation.as_ref()?;
    let is_asked = reading.evidence().asked.iter().any(|asked| asked.source == Source::Authority);
    let has_none = !delegation.parent_ns.is_empty() && delegation.servers.is_empty() && !is_asked;
    let is_found = !reading.our_set.is_empty() || reading.independents.is_some() || reading.works_now();
    if !has_none || is_found || !is_heard(reading) {
        return None;
    }
    let finding = Finding::new(
        Action::Escalate,
        Party::Peer,
        "The parent delegates the peer's zone to name servers of which not one has an address that can be found.",
    )
    .because(format!("it names {}", list(&delegation.parent_ns)));
    let finding = delegation.problems.iter().fold(finding, |finding, problem| finding.because(problem.clone()));
    Some(finding.likely().unless("one of the name servers having an address").explains())
}

pub fn lame_delegation(reading: &Reading) -> Ruling {
    if let Authority::TooFew { delegated, .. } = reading.authority {
        return mostly_lame(reading, delegated);
    }
    if reading.authority == Authority::Silent {
        return without_servers(reading)
            .unwrap_or_else(|| Ruling::Unknown("no authoritative server was heard".to_owned()));
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
    let (lagging, newest) = answers::lagging(reading.evidence());
    let answers = |server: &String, set| match (lagging.get(server.as_str()), newest) {
        (Some(serial), Some(newest)) => {
            format!("{server} answers {}, from serial {serial}; the newest is {newest}", list(set))
        }
        _ => format!("{server} answers {}", list(set)),
    };
    sets.iter().fold(finding, |finding, (server, set)| finding.because(answers(server, set))).likely().explains()
}
