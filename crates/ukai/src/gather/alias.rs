//! A host that is an alias: where its CNAMEs lead, who says so, and what the servers there answer.
//!
//! ```text
//! api.peer.test ─CNAME─► edge.cdn.test ─A─► 192.0.2.5
//! ns-1, ns-2 of peer.test  ns-a, ns-b of cdn.test
//! ```
//! What leads out of a zone is believed of nobody but a majority of that zone's delegated servers, asked one by one over TCP
//! with none of them leading elsewhere; and what they say of names outside their own zone is cut off. Then the servers of the
//! target's zone are asked by the same rule, and so on to the end.
//!
//! On record, the answers of the host's own servers are made whole: over TCP each of them has the chain that it leads
//! into and the addresses that are agreed on at its end, because it is the host's own delegation that a majority is
//! counted over and that is compared with the one from before. The servers of the other zones stand beside them under their
//! own names. Where the own servers lead apart, each has the addresses that its own target leads to, so that the
//! contradiction shows; where the end is not agreed on, their address answers over TCP are left out, and `problems`
//! says why.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ukai_core::diagnose::evidence::{Answer, Asked, Outcome, Rcode, Silence};
use ukai_dns::{Name, RecordType};
use ukai_probe::escape::escape;

use super::authorities::{Look, Zone};
use super::subject::join_all;

/// CNAMEs that lead from one zone to the next; resolvers give up at about the same.
const ZONES_MAX: usize = 8;
/// Different targets that are followed where the servers lead apart: enough to see that they do.
const TARGETS_MAX: usize = 4;
const FAMILIES: [RecordType; 2] = [RecordType::A, RecordType::AAAA];

/// What the authorities said, the aliases followed.
pub struct Followed {
    pub asked: Vec<Asked>,
    pub problems: Vec<String>,
    /// Set when a zone above the end of the CNAMEs denied it.
    pub parent_says: Option<Rcode>,
}

/// `asked`: the answers of the own zone's servers about the host.
pub async fn follow(look: &Look<'_>, zone: &Zone, asked: Vec<Asked>) -> Followed {
    let Some(apex) = &zone.apex else { return Followed { asked, problems: Vec::new(), parent_says: None } };
    let leads = leads(&asked, apex);
    let targets: Vec<String> = leads.iter().flatten().take(TARGETS_MAX).cloned().collect();
    if targets.is_empty() {
        return Followed { asked, problems: Vec::new(), parent_says: None };
    }
    let ends = join_all(targets.clone().into_iter().map(|target| end_of(look, target))).await;
    let parent_says = ends.iter().find_map(|end| end.parent_says);
    let mut problems: Vec<String> = ends.iter().filter_map(|end| end.problem.clone()).collect();
    let ends: BTreeMap<&str, End> = targets.iter().map(String::as_str).zip(ends).collect();
    let apart = leads.len() > 1;
    if apart {
        problems.push(sentence(&asked, apex));
    }
    let (counted, mut others): (Vec<Asked>, Vec<Asked>) = asked.into_iter().partition(|asked| counts(asked).is_some());
    let bare = is_bare(&counted);
    let whole: Vec<Asked> = counted.iter().flat_map(|asked| completed(asked, apex, bare, &ends, apart)).collect();
    if apart && are_alike(&whole) {
        problems.push("their address answers over TCP are left out: they lead apart, though to the same".to_owned());
    } else {
        others.extend(whole);
    }
    // One that serves both zones has its say as a server of the host's own; without names, all would count as those.
    let own = &zone.delegation.parent_ns;
    let is_beside = |asked: &Asked| counts(asked).is_none() || !(own.is_empty() || own.contains(&asked.identity));
    others.extend(ends.into_values().flat_map(|end| end.asked).filter(is_beside));
    Followed { asked: others, problems, parent_says }
}

/// What is at the end of the CNAMEs.
#[derive(Default)]
struct End {
    /// By record type, each answer that differs once; None where it is not agreed on who may say.
    said: Option<BTreeMap<String, Vec<Answer>>>,
    asked: Vec<Asked>,
    problem: Option<String>,
    /// There is none: they come back, or are too many.
    endless: bool,
    parent_says: Option<Rcode>,
}

async fn end_of(look: &Look<'_>, target: String) -> End {
    let mut end = End::default();
    let mut chain = vec![target];
    for _ in 0..ZONES_MAX {
        let Some(host) = chain.last().cloned() else { break };
        let Ok(name) = host.parse::<Name>() else {
            end.problem = Some(format!("{host} cannot be asked for"));
            return end;
        };
        let zone = look.walk(&name).await;
        end.parent_says = end.parent_says.or(zone.delegation.parent_rcode);
        let asked = look.ask_zone(&zone, &host, &FAMILIES).await;
        let apex = zone.apex.clone().unwrap_or_else(Name::root);
        let leads = leads(&asked, &apex);
        let onward = onward(&asked, &apex);
        let prefixed: Vec<Asked> = asked.into_iter().map(|asked| prefix(asked, &chain)).collect();
        let said = said(&prefixed);
        let too_few = too_few(&prefixed, &zone);
        if leads.len() > 1 {
            end.problem = Some(sentence(&prefixed, &apex));
        } else if too_few.is_some() {
            end.problem = too_few;
        }
        end.asked.extend(prefixed);
        if end.problem.is_some() {
            return end;
        }
        let Some(onward) = onward else {
            end.said = Some(said);
            return end;
        };
        if onward.iter().any(|name| chain.contains(name) || *name == look.asker.host) {
            end.problem = Some(format!("the CNAMEs come back to {}", onward.join(", ")));
            end.endless = true;
            return end;
        }
        chain.extend(onward);
    }
    end.problem = Some(format!("the CNAMEs lead through more than {ZONES_MAX} zones"));
    end.endless = true;
    end
}

/// An address answer that says where a name leads: over TCP, which nobody forges from afar, and with authority.
fn counts(asked: &Asked) -> Option<&Answer> {
    let answer = asked.answer()?;
    let counts = asked.transport == "tcp"
        && asked.is_address_question()
        && answer.authoritative
        && !answer.truncated
        && matches!(answer.rcode, Rcode::Noerror | Rcode::Nxdomain);
    counts.then_some(answer)
}

fn is_bare(asked: &[Asked]) -> bool {
    asked.iter().filter_map(counts).all(|answer| answer.addresses.is_empty())
}

fn is_outside(name: &str, zone: &Name) -> bool {
    !name.parse::<Name>().is_ok_and(|name| name.is_at_or_below(zone))
}

/// Cuts off what a server says of names outside its zone.
pub fn cut(asked: &mut Asked, zone: &Name) {
    let Outcome::Answered(answer) = &mut asked.outcome else { return };
    if let Some(at) = answer.chain.iter().position(|name| is_outside(name, zone)) {
        answer.chain.truncate(at + 1);
        answer.addresses.clear();
    }
}

/// The name that an answer leads to and does not speak of: outside the zone; or inside it, by a server that does not
/// follow its own CNAMEs.
fn lead(answer: &Answer, zone: &Name, bare: bool) -> Option<String> {
    let last = answer.chain.last()?;
    let unfollowed = || bare && answer.rcode == Rcode::Noerror && answer.soa.is_none();
    (is_outside(last, zone) || unfollowed()).then(|| last.clone())
}

/// Every different thing that is said: None is "no further than here".
fn leads(asked: &[Asked], zone: &Name) -> BTreeSet<Option<String>> {
    let bare = is_bare(asked);
    asked.iter().filter_map(counts).map(|answer| lead(answer, zone, bare)).collect()
}

/// The CNAMEs that lead on, as the first who counts tells them.
fn onward(asked: &[Asked], zone: &Name) -> Option<Vec<String>> {
    let bare = is_bare(asked);
    let answer = asked.iter().filter_map(counts).find(|answer| lead(answer, zone, bare).is_some())?;
    Some(answer.chain.clone())
}

fn prefix(mut asked: Asked, chain: &[String]) -> Asked {
    if let Outcome::Answered(answer) = &mut asked.outcome {
        answer.chain.splice(0..0, chain.iter().cloned());
    }
    asked
}

fn said(asked: &[Asked]) -> BTreeMap<String, Vec<Answer>> {
    let mut said: BTreeMap<String, Vec<Answer>> = BTreeMap::new();
    for (asked, answer) in asked.iter().filter_map(|asked| Some((asked, counts(asked)?))) {
        let known = said.entry(asked.record_type.clone()).or_default();
        if !known.iter().any(|other| other.rcode == answer.rcode && set(other) == set(answer)) {
            known.push(answer.clone());
        }
    }
    said
}

fn set(answer: &Answer) -> BTreeSet<IpAddr> {
    answer.addresses.iter().copied().collect()
}

/// The same majority that the host's own servers need.
fn too_few(asked: &[Asked], zone: &Zone) -> Option<String> {
    let names = zone.names();
    let has_answered = |name: &&String| {
        FAMILIES.iter().all(|family| {
            let family = family.to_string();
            asked.iter().any(|asked| asked.identity == **name && asked.record_type == family && counts(asked).is_some())
        })
    };
    let answered = names.iter().filter(has_answered).count();
    (answered * 2 <= names.len()).then(|| {
        let zone = &zone.delegation.zone;
        format!("{answered} of {} name servers of {zone}, where the CNAMEs lead, answered over TCP", names.len())
    })
}

/// The answer with what is at the end of its CNAME, once for each thing that is said there.
fn completed(asked: &Asked, zone: &Name, bare: bool, ends: &BTreeMap<&str, End>, apart: bool) -> Vec<Asked> {
    let Some(own) = counts(asked) else { return Vec::new() };
    let Some(target) = lead(own, zone, bare) else { return vec![asked.clone()] };
    let end = ends.get(target.as_str());
    if let Some(detail) = end.filter(|end| end.endless).and_then(|end| end.problem.clone()) {
        return vec![Asked { outcome: Outcome::Silent { why: Silence::Endless, detail }, ..asked.clone() }];
    }
    let Some(said) = end.and_then(|end| end.said.as_ref()) else {
        // What it leads to is unknown; that it leads elsewhere than the others must not be lost.
        return if apart { vec![asked.clone()] } else { Vec::new() };
    };
    let answers = said.get(&asked.record_type).into_iter().flatten();
    answers.map(|last| Asked { outcome: Outcome::Answered(joined(own, last)), ..asked.clone() }).collect()
}

fn joined(own: &Answer, last: &Answer) -> Answer {
    let before = own.chain.len().saturating_sub(1);
    Answer {
        rcode: last.rcode,
        addresses: last.addresses.clone(),
        chain: own.chain[..before].iter().chain(&last.chain).cloned().collect(),
        ttl: own.ttl.into_iter().chain(last.ttl).min(),
        soa: last.soa.clone(),
        ..own.clone()
    }
}

fn are_alike(whole: &[Asked]) -> bool {
    let mut by_server: BTreeMap<&str, BTreeSet<IpAddr>> = BTreeMap::new();
    for (asked, answer) in whole.iter().filter_map(|asked| Some((asked, asked.answer()?))) {
        by_server.entry(&asked.identity).or_default().extend(&answer.addresses);
    }
    let mut sets = by_server.into_values();
    let first = sets.next();
    sets.all(|set| Some(set) == first)
}

fn sentence(asked: &[Asked], zone: &Name) -> String {
    let bare = is_bare(asked);
    let said: BTreeSet<String> = asked
        .iter()
        .filter_map(|asked| Some((asked, counts(asked)?)))
        .map(|(asked, answer)| match lead(answer, zone, bare) {
            Some(target) => format!("{} to {target}", asked.identity),
            None => format!("{} to no other name", asked.identity),
        })
        .collect();
    let said: Vec<String> = said.into_iter().collect();
    escape(&format!("the name servers of {zone} lead apart: {}", said.join(", ")))
}
