//! The answers of many servers, read together: who agrees, who contradicts, who is silent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;

use super::evidence::{Answer, Asked, Evidence, Rcode, Source};

/// What our own resolver says of the name, its families taken together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OurAnswer {
    /// Nobody was asked.
    NotAsked,
    Addresses(BTreeSet<IpAddr>),
    Nxdomain,
    Nodata,
    Servfail,
    Refused,
    Silent,
}

/// What the delegated authoritative servers say, over TCP and with AA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// No server was found, or none answered anything over any transport.
    Silent,
    /// A majority answered alike, none contradicts, and all have the newest serial.
    Agreed(BTreeSet<IpAddr>),
    /// A majority says alike that there is no address.
    Empty { nxdomain: bool },
    /// They answer differently.
    Contradicting(BTreeMap<String, BTreeSet<IpAddr>>),
    /// Fewer than a majority answered.
    TooFew { answered: usize, delegated: usize },
}

/// One of our resolver's address answers, for reading how its TTL moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TtlReading {
    pub at: Timestamp,
    pub ttl: u32,
    /// The node that answered named itself (NSID, RFC 5001). Without it, several caches may stand behind one address.
    pub is_named: bool,
}

/// Every address that any authority gave.
pub fn authority_addresses(evidence: &Evidence) -> BTreeSet<IpAddr> {
    addresses_of(evidence, Source::Authority)
}

/// Every address that a source gave.
pub fn addresses_of(evidence: &Evidence, source: Source) -> BTreeSet<IpAddr> {
    answers(evidence, source).flat_map(|(_, answer)| answer.addresses.iter().copied()).collect()
}

/// Plain address answers of a source: with validation on, and for us. One that was truncated says nothing of what it left out.
fn answers(evidence: &Evidence, source: Source) -> impl Iterator<Item = (&Asked, &Answer)> {
    evidence
        .asked
        .iter()
        .filter(move |asked| asked.source == source && asked.is_address_question() && !asked.checking_disabled)
        .filter_map(|asked| Some((asked, asked.answer()?)))
        .filter(|(_, answer)| !answer.truncated)
}

/// Reads our resolver: the latest answer of each family counts, without the CD=1 retry. With several, the first that
/// answers counts, as it does for a stub resolver.
pub fn ours(evidence: &Evidence) -> OurAnswer {
    let asked: Vec<&Asked> = evidence
        .asked
        .iter()
        .filter(|asked| asked.source == Source::OurResolver)
        .filter(|asked| asked.is_address_question() && !asked.checking_disabled)
        .collect();
    if asked.is_empty() {
        return OurAnswer::NotAsked;
    }
    let whole: Vec<(&Asked, &Answer)> = asked
        .iter()
        .filter_map(|asked| Some((*asked, asked.answer()?)))
        .filter(|(_, answer)| !answer.truncated)
        .collect();
    let first = whole.first().map(|(asked, _)| asked.identity.as_str());
    let mut latest: BTreeMap<&str, (&Asked, &Answer)> = BTreeMap::new();
    for (question, answer) in whole.iter().filter(|(asked, _)| Some(asked.identity.as_str()) == first) {
        let family = question.record_type.as_str();
        if latest.get(family).is_none_or(|(known, _)| known.at <= question.at) {
            latest.insert(family, (question, answer));
        }
    }
    let addresses: BTreeSet<IpAddr> =
        latest.values().flat_map(|(_, answer)| answer.addresses.iter().copied()).collect();
    if !addresses.is_empty() {
        return OurAnswer::Addresses(addresses);
    }
    let said = |rcode: Rcode| latest.values().any(|(_, answer)| answer.rcode == rcode);
    if said(Rcode::Nxdomain) {
        OurAnswer::Nxdomain
    } else if said(Rcode::Servfail) {
        OurAnswer::Servfail
    } else if said(Rcode::Noerror) && lost_family(evidence).is_none() {
        OurAnswer::Nodata
    } else if said(Rcode::Refused) {
        OurAnswer::Refused
    } else {
        OurAnswer::Silent
    }
}

/// A family that the resolver which counts was asked for, and did not answer: what it would have said is not known.
pub fn lost_family(evidence: &Evidence) -> Option<&'static str> {
    let first = answers(evidence, Source::OurResolver).next().map(|(asked, _)| asked.identity.as_str())?;
    ["A", "AAAA"].into_iter().find(|family| {
        let mut asked = evidence
            .asked
            .iter()
            .filter(|asked| asked.source == Source::OurResolver && asked.identity == first)
            .filter(|asked| asked.record_type == *family && asked.is_address_question() && !asked.checking_disabled)
            .peekable();
        asked.peek().is_some() && asked.all(|asked| asked.answer().is_none_or(|answer| answer.truncated))
    })
}

/// The negative TTL that our resolver's "no" still has.
pub fn negative_ttl(evidence: &Evidence) -> Option<u32> {
    answers(evidence, Source::OurResolver)
        .filter_map(|(_, answer)| answer.soa.as_ref().map(|soa| soa.negative_ttl))
        .max()
}

/// Our resolver's address answers in time order: of one resolver, transport and family, those with the most of them.
/// Readings of different caches cannot be compared.
pub fn ttl_readings(evidence: &Evidence) -> Vec<TtlReading> {
    let mut by_cache: BTreeMap<(&str, &str, &str, Option<&str>), Vec<TtlReading>> = BTreeMap::new();
    let first = answers(evidence, Source::OurResolver).next().map(|(asked, _)| asked.identity.as_str());
    for (asked, answer) in answers(evidence, Source::OurResolver) {
        if let (false, Some(ttl)) = (answer.addresses.is_empty(), answer.ttl)
            && Some(asked.identity.as_str()) == first
        {
            let node = answer.nsid.as_deref();
            let cache = (asked.identity.as_str(), asked.transport.as_str(), asked.record_type.as_str(), node);
            let reading = TtlReading { at: asked.at, ttl, is_named: node.is_some() };
            by_cache.entry(cache).or_default().push(reading);
        }
    }
    let mut readings = by_cache.into_values().max_by_key(|readings| readings.len()).unwrap_or_default();
    readings.sort_by_key(|reading| reading.at);
    readings
}

/// Our resolver answers with authority (AA) every time: it holds the name itself, as a zone or by a rule of whoever runs it,
/// and passes nobody else's answer on. One of the peer's own name servers may.
pub fn ours_is_its_own(evidence: &Evidence) -> bool {
    let mut ours = answers(evidence, Source::OurResolver).peekable();
    let Some(first) = ours.peek().map(|(asked, _)| asked.identity.as_str()) else { return false };
    let delegated = evidence.delegation.iter().flat_map(|delegation| &delegation.servers);
    let mut places = delegated.filter_map(|server| server.rsplit_once('(')?.1.strip_suffix(')'));
    let is_theirs = places.any(|ip| first.contains(&format!("//{ip}:")) || first.contains(&format!("//[{ip}]:")));
    !is_theirs && ours.filter(|(asked, _)| asked.identity == first).all(|(_, answer)| answer.authoritative)
}

/// Extended error codes that our resolver gave.
pub fn our_extended_errors(evidence: &Evidence) -> BTreeSet<u16> {
    answers(evidence, Source::OurResolver)
        .flat_map(|(_, answer)| answer.extended_errors.iter().map(|error| error.code))
        .collect()
}

/// Extended error codes that came with addresses from our resolver.
pub fn errors_of_our_addresses(evidence: &Evidence) -> BTreeSet<u16> {
    answers(evidence, Source::OurResolver)
        .filter(|(_, answer)| !answer.addresses.is_empty())
        .flat_map(|(_, answer)| answer.extended_errors.iter().map(|error| error.code))
        .collect()
}

/// ukai's own server was asked and never answered, while the resolver behind it does.
pub fn own_server_is_silent(evidence: &Evidence) -> bool {
    let mut asked = evidence.asked.iter().filter(|asked| asked.source == Source::Embedded).peekable();
    asked.peek().is_some()
        && asked.all(|asked| asked.answer().is_none())
        && answers(evidence, Source::OurResolver).next().is_some()
}

/// The way past our override leads back to it: the answer carries our own mark (RFC 8914, 4.5).
pub fn sees_our_own_override(evidence: &Evidence) -> bool {
    answers(evidence, Source::OurResolver)
        .flat_map(|(_, answer)| &answer.extended_errors)
        .any(|error| error.code == FORGED_ANSWER && error.text.starts_with("ukai override"))
}

/// With validation switched off, our resolver does answer.
pub fn answers_unvalidated(evidence: &Evidence) -> bool {
    let ours = |asked: &&Asked| asked.source == Source::OurResolver && asked.checking_disabled;
    let mut unchecked = evidence.asked.iter().filter(ours).filter_map(Asked::answer);
    unchecked.any(|answer| !answer.truncated && !answer.addresses.is_empty())
}

/// An independent resolver that validates and vouches for an address (AD, RFC 4035, 3.2.3).
pub fn validated_elsewhere(evidence: &Evidence) -> Option<&str> {
    answers(evidence, Source::Independent)
        .find(|(_, answer)| answer.authentic_data && !answer.addresses.is_empty())
        .map(|(asked, _)| asked.server.as_str())
}

/// What else is at the name, of the types that are asked for where an override would hide them. That there is some is believed from
/// anybody; that there is none only from the name's own servers, and not of an alias, whose target was not asked. None: not known.
pub fn other_types(evidence: &Evidence) -> Option<BTreeSet<&str>> {
    const OTHERS: [&str; 3] = ["MX", "TXT", "CAA"];
    let mut said = BTreeMap::from(OTHERS.map(|name| (name, None)));
    for asked in &evidence.asked {
        let Some(there) = said.get_mut(asked.record_type.as_str()) else { continue };
        let Some(answer) = asked.answer() else { continue };
        let is_whole = asked.source == Source::Authority
            && answer.authoritative
            && !answer.truncated
            && answer.chain.is_empty()
            && matches!(answer.rcode, Rcode::Noerror | Rcode::Nxdomain);
        match answer.records {
            0 if is_whole => *there = Some(there.unwrap_or(false)),
            0 => {}
            _ => *there = Some(true),
        }
    }
    if said.values().any(Option::is_none) {
        return None;
    }
    Some(said.into_iter().filter(|(_, there)| *there == Some(true)).map(|(name, _)| name).collect())
}

/// Any resolver that vouches for the signatures of an address: the name is signed.
pub fn validated_anywhere(evidence: &Evidence) -> Option<&str> {
    let mut validated = evidence.asked.iter().filter_map(|asked| Some((asked, asked.answer()?)));
    validated
        .find(|(asked, answer)| {
            asked.source != Source::Authority && answer.authentic_data && !answer.addresses.is_empty()
        })
        .map(|(asked, _)| asked.server.as_str())
}

/// Extended error of an overridden answer.
pub const FORGED_ANSWER: u16 = 4;
/// A and AAAA.
const FAMILIES: usize = 2;

/// What one authoritative server said over TCP with AA.
#[derive(Debug, Default)]
struct ServerView {
    /// What it answered for each family: it takes both to say what the name leads to, and one to contradict.
    families: BTreeMap<String, BTreeSet<IpAddr>>,
    nxdomain: bool,
    addresses: BTreeSet<IpAddr>,
    /// Its addresses do not give the same set each time.
    varies: bool,
    serial: Option<u32>,
}

/// The servers that the parent names, or where it was not heard those that were asked.
fn delegated(evidence: &Evidence) -> BTreeSet<&str> {
    match &evidence.delegation {
        Some(delegation) if !delegation.parent_ns.is_empty() => {
            delegation.parent_ns.iter().map(String::as_str).collect()
        }
        _ => evidence
            .asked
            .iter()
            .filter(|asked| asked.source == Source::Authority)
            .map(|asked| asked.identity.as_str())
            .collect(),
    }
}

/// Reads the delegated servers together.
pub fn authority(evidence: &Evidence) -> Authority {
    let delegated = delegated(evidence);
    let views: BTreeMap<&str, ServerView> = delegated.iter().map(|server| (*server, view(evidence, server))).collect();
    let answered: Vec<(&&str, &ServerView)> =
        views.iter().filter(|(_, view)| view.families.len() == FAMILIES).collect();
    if answered.is_empty() {
        let heard = evidence.asked.iter().any(|asked| asked.source == Source::Authority && asked.answer().is_some());
        return if heard { Authority::TooFew { answered: 0, delegated: delegated.len() } } else { Authority::Silent };
    }
    let first = answered[0].1;
    // Servers disagree on whether a name without addresses exists, and some deny a name for the family that it lacks: neither
    // leads anybody elsewhere.
    let alike = answered.iter().all(|(_, view)| view.addresses == first.addresses);
    let heard = || views.iter().filter(|(_, view)| !view.families.is_empty());
    let apart = heard().any(|(_, view)| view.varies || view.contradicts(first));
    if !alike || apart {
        let sets = heard().map(|(server, view)| ((*server).to_owned(), view.addresses.clone())).collect();
        return Authority::Contradicting(sets);
    }
    // One that has a newer zone, and was not heard on the addresses, may know better than all who agree.
    let newest = answered.iter().filter_map(|(_, view)| view.serial).reduce(newer);
    let knows_more = |view: &ServerView| {
        view.serial.zip(newest).is_some_and(|(serial, newest)| serial != newest && newer(serial, newest) == serial)
    };
    if views.values().any(knows_more) {
        return Authority::TooFew { answered: 0, delegated: delegated.len() };
    }
    if answered.len() * 2 <= delegated.len() {
        return Authority::TooFew { answered: answered.len(), delegated: delegated.len() };
    }
    if first.addresses.is_empty() {
        return Authority::Empty { nxdomain: answered.iter().all(|(_, view)| view.nxdomain) };
    }
    Authority::Agreed(first.addresses.clone())
}

impl ServerView {
    /// It gives another set for a family that both answered for.
    fn contradicts(&self, other: &ServerView) -> bool {
        self.families.iter().any(|(family, set)| other.families.get(family).is_some_and(|known| known != set))
    }
}

/// Servers that hold an older zone than another of them, each with its serial, and the newest one.
pub fn lagging(evidence: &Evidence) -> (BTreeMap<&str, u32>, Option<u32>) {
    let of_server = |server| Some((server, view(evidence, server).serial?));
    let mut serials: BTreeMap<&str, u32> = delegated(evidence).into_iter().filter_map(of_server).collect();
    let newest = serials.values().copied().reduce(newer);
    serials.retain(|_, serial| Some(*serial) != newest);
    (serials, newest)
}

/// The later of two serials, by serial number arithmetic (RFC 1982, 3.2).
fn newer(one: u32, other: u32) -> u32 {
    if one.wrapping_sub(other).cast_signed() > 0 { one } else { other }
}

fn view(evidence: &Evidence, server: &str) -> ServerView {
    let mut view = ServerView::default();
    let mut sets: BTreeMap<&str, BTreeSet<BTreeSet<IpAddr>>> = BTreeMap::new();
    let said = evidence
        .asked
        .iter()
        .filter(|asked| asked.source == Source::Authority && asked.identity == server && asked.transport == "tcp");
    for (asked, answer) in said.filter_map(|asked| Some((asked, asked.answer()?))) {
        if !answer.authoritative || answer.truncated || !matches!(answer.rcode, Rcode::Noerror | Rcode::Nxdomain) {
            continue;
        }
        if asked.record_type == "SOA" {
            view.serial = answer.soa.as_ref().map(|soa| soa.serial).or(view.serial);
        }
        if asked.is_address_question() {
            view.nxdomain |= answer.rcode == Rcode::Nxdomain;
            let set: BTreeSet<IpAddr> = answer.addresses.iter().copied().collect();
            view.families.entry(asked.record_type.clone()).or_default().extend(&set);
            view.addresses.extend(set.iter().copied());
            sets.entry(asked.record_type.as_str()).or_default().insert(set);
        }
    }
    view.varies = sets.values().any(|sets| sets.len() > 1);
    view
}

/// The set that at least two independent resolvers give alike, with none contradicting. One that was asked for a family and
/// did not answer it is half known: it vouches for nothing, and contradicts by what it did say.
pub fn independents(evidence: &Evidence) -> Option<BTreeSet<IpAddr>> {
    let mut known: BTreeMap<&str, BTreeMap<&str, BTreeSet<IpAddr>>> = BTreeMap::new();
    let mut half: BTreeSet<&str> = BTreeSet::new();
    let asked = evidence.asked.iter().filter(|asked| asked.source == Source::Independent);
    for asked in asked.filter(|asked| asked.is_address_question() && !asked.checking_disabled) {
        // Somebody who says that there is no such name contradicts those who give an address.
        let says = |answer: &&Answer| !answer.truncated && matches!(answer.rcode, Rcode::Noerror | Rcode::Nxdomain);
        match asked.answer().filter(says) {
            Some(answer) => {
                let families = known.entry(asked.identity.as_str()).or_default();
                families.entry(asked.record_type.as_str()).or_default().extend(&answer.addresses);
            }
            None => {
                half.insert(asked.identity.as_str());
            }
        }
    }
    let whole: Vec<_> = known.iter().filter(|(identity, _)| !half.contains(*identity)).map(|(_, of)| of).collect();
    let all = |families: &BTreeMap<&str, BTreeSet<IpAddr>>| -> BTreeSet<IpAddr> {
        families.values().flatten().copied().collect()
    };
    let first = *whole.first()?;
    let set = all(first);
    let agree = whole.len() > 1 && !set.is_empty() && whole.iter().all(|families| all(families) == set);
    let apart = known
        .values()
        .any(|families| families.iter().any(|(family, set)| first.get(family).is_some_and(|known| known != set)));
    (agree && !apart).then_some(set)
}

/// An authority gave different sets in this one gathering.
pub fn rotates_within(evidence: &Evidence) -> bool {
    plain_by_server(evidence).values().any(|sets| sets.len() > 1)
}

/// What each authority says to clients of another subnet, by server, subnet and family.
pub fn by_subnet(evidence: &Evidence) -> BTreeMap<(&str, String, &str), BTreeSet<IpAddr>> {
    let mut sets: BTreeMap<(&str, String, &str), BTreeSet<IpAddr>> = BTreeMap::new();
    let asked = evidence.asked.iter().filter(|asked| asked.source == Source::Authority && asked.asks_for_addresses());
    for (asked, answer) in asked.filter_map(|asked| Some((asked, asked.answer()?))) {
        if let (Some(subnet), false, Rcode::Noerror) = (&asked.subnet, answer.truncated, answer.rcode) {
            let key = (asked.identity.as_str(), subnet.to_string(), asked.record_type.as_str());
            sets.entry(key).or_default().extend(&answer.addresses);
        }
    }
    sets
}

/// The sets that each authority gave us, by server and family.
pub fn plain_by_server(evidence: &Evidence) -> BTreeMap<(&str, &str), BTreeSet<BTreeSet<IpAddr>>> {
    let mut sets: BTreeMap<(&str, &str), BTreeSet<BTreeSet<IpAddr>>> = BTreeMap::new();
    for (asked, answer) in answers(evidence, Source::Authority) {
        if !answer.addresses.is_empty() {
            let set = answer.addresses.iter().copied().collect();
            sets.entry((asked.identity.as_str(), asked.record_type.as_str())).or_default().insert(set);
        }
    }
    sets
}

/// The chain of aliases that our resolver or an authority gave, where one did: the longest.
pub fn chain(evidence: &Evidence) -> Option<(&Asked, &[String])> {
    let told_us = |asked: &&Asked| {
        matches!(asked.source, Source::OurResolver | Source::Authority)
            && asked.subnet.is_none()
            && !asked.checking_disabled
    };
    let asked = evidence.asked.iter().filter(told_us);
    let chains = asked.filter_map(|asked| Some((asked, asked.answer()?.chain.as_slice())));
    chains.filter(|(_, chain)| !chain.is_empty()).max_by_key(|(_, chain)| chain.len())
}

/// The largest TTL that an authority gave with an address.
pub fn authority_ttl(evidence: &Evidence) -> Option<u32> {
    answers(evidence, Source::Authority)
        .filter(|(_, answer)| !answer.addresses.is_empty())
        .filter_map(|(_, answer)| answer.ttl)
        .max()
}
