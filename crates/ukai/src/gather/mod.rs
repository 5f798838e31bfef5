//! Evidence for one peer: everybody is asked side by side, every candidate proves itself, all within one bound.
//!
//! ```text
//! our resolver  ── at once, UDP and TCP ── again after 1.2 s ──────────────┐
//! delegation    ── walked from the root ── every authority, canary ────────┤
//! independents, the embedded server, controls, a probe past our override ──┤
//! this machine  ── its resolver files, its connections, its clock ─────────┤
//! other vantages ── after 0.6 s, about all that was named by then ─────────┤
//!                                                                          ├─ our resolver a last time ─► evidence
//! candidates    ── proved k times, each as soon as somebody names it ──────┘
//! ```
//!
//! Every question has a time-out of its own below the bound, and what did not come is recorded as silence: a missing
//! answer is evidence too, and it caps what may be concluded. An alias counts only as far as all servers of each zone on
//! its way agree (`alias`). What clients elsewhere are told is asked for too (`elsewhere`). An address family that this machine has no route for is asked about, but not contacted
//! (`families`).

mod alias;
mod authorities;
mod candidates;
mod configured;
mod connections;
pub mod controls;
mod elsewhere;
mod families;
mod limits;
#[cfg(test)]
pub mod name_server;
mod others;
mod own;
mod path;
mod question;
mod resolution;
mod size;
mod sntp;
mod subject;
#[cfg(test)]
pub mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use ukai_core::diagnose::evidence::{Asked, Canary, Delegation, Evidence, Purpose, Source};
use ukai_dns::{RecordType, Upstream};

pub use candidates::prove_once;
pub use configured::{Configured, configure, pem, resolvers};
pub use families::usable;
pub use limits::raise_file_limit;
pub use question::Anchor;
pub use resolution::{OPERATOR, chosen, resolve};
pub use subject::{Subject, Vantage, join_all};

use candidates::Found;
use elsewhere::{ask_unchecked, is_servfail};
use path::Walked;
use question::{Asker, Whom};

/// More than a second, so that a TTL in whole seconds that counts down is lower by one at least, and one that is frozen, or
/// served again at 30 (RFC 8767, 4), is not. The last answer comes at the end, however long that takes.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(1200);
/// Records of the name that an override must not hide, or hides: asked for while one stands, and before one is written into a zone.
const BESIDE: [RecordType; 3] = [RecordType::TXT, RecordType::MX, RecordType::CAA];
const FAMILIES: [RecordType; 2] = [RecordType::A, RecordType::AAAA];

/// What is to be gathered.
#[derive(Debug, Clone)]
pub struct Order {
    pub purpose: Purpose,
    /// Addresses to prove besides those that the sources name.
    pub also: BTreeSet<IpAddr>,
    /// Addresses where the peer was proven before; tried too, on nobody's word.
    pub known: BTreeSet<IpAddr>,
    /// Now, by the engine's time.
    pub now: Timestamp,
}

pub async fn gather(vantage: &Vantage, subject: &Subject, order: &Order) -> Evidence {
    let anchor = Anchor::new(order.now);
    let deadline = Instant::now() + vantage.bound;
    let asker = Asker { dns: vantage.dns.clone(), host: subject.host.clone(), anchor, deadline };
    let (found, finds) = Found::channel();
    let named = found.named();
    // Each on the heap: together they would not fit on the stack of a thread in a build without optimisation.
    let (seen, collected, own, connections, vantages) = tokio::join!(
        Box::pin(look(vantage, subject, &asker, order.purpose, found)),
        Box::pin(candidates::collect(vantage, subject, order, deadline, finds)),
        Box::pin(own::read(vantage, &subject.host)),
        Box::pin(connections::read(&vantage.system)),
        Box::pin(others::ask(vantage, subject, order, &named, deadline)),
    );
    let connections = connections::of_interest(connections, &collected.candidates, order, &seen.asked);
    Evidence {
        finished_at: anchor.now(),
        endpoints: subject.endpoints(),
        asked: seen.asked,
        delegation: seen.delegation,
        canary: seen.canary,
        candidates: collected.candidates,
        controls: seen.controls,
        observations: seen.walked.observations,
        reuse: seen.walked.reuse,
        default_sites: collected.default_sites,
        own,
        connections,
        vantages,
        ..Evidence::about(&subject.peer, &subject.host, order.purpose, order.now)
    }
}

struct Seen {
    asked: Vec<Asked>,
    delegation: Option<Delegation>,
    canary: Canary,
    controls: Vec<ukai_core::diagnose::evidence::ControlResult>,
    walked: Walked,
}

/// Asks everybody. Dropping `found` at the end tells the collector that no address can come any more.
async fn look(vantage: &Vantage, subject: &Subject, asker: &Asker, purpose: Purpose, found: Found) -> Seen {
    let named = !subject.is_literal();
    let resolvers: &[Upstream] = if named { &vantage.resolvers } else { &[] };
    let independent: &[Upstream] = if named { &vantage.independent } else { &[] };
    let embedded = vantage.embedded.filter(|_| named).map(Upstream::Udp);
    let is_wanted = purpose == Purpose::Standing || vantage.hides_types && purpose != Purpose::Baseline;
    let beside: &[RecordType] = if is_wanted { &BESIDE } else { &[] };
    let (ours, authorities, independents, embedded, controls, walked) = tokio::join!(
        Box::pin(ask_our_resolvers(asker, resolvers, &found)),
        Box::pin(authorities::ask(vantage, subject, asker, &found, beside)),
        Box::pin(elsewhere::ask_independents(asker, independent, &vantage.ecs_subnets, &found)),
        // What we serve ourselves is not a source of candidates: `also` names a standing override's set.
        Box::pin(ask_embedded(asker, embedded, beside)),
        Box::pin(controls::probe(vantage)),
        Box::pin(path::walk(vantage, subject, purpose, asker.anchor.now())),
    );
    let last = ask_last(asker, resolvers, &ours, beside, &found).await;
    let mut asked = ours;
    asked.extend(authorities.asked);
    asked.extend(independents);
    asked.extend(embedded);
    asked.extend(last);
    size::fit(&mut asked);
    Seen { asked, delegation: authorities.delegation, canary: authorities.canary, controls, walked }
}

/// UDP and TCP at once, UDP again later; with validation off, where validation may be what fails.
async fn ask_our_resolvers(asker: &Asker, resolvers: &[Upstream], found: &Found) -> Vec<Asked> {
    let all = join_all(resolvers.iter().map(|resolver| ask_our_resolver(asker, resolver, found))).await;
    all.into_iter().flatten().collect()
}

async fn ask_our_resolver(asker: &Asker, resolver: &Upstream, found: &Found) -> Vec<Asked> {
    let whom = Whom::resolver(Source::OurResolver, resolver);
    let started = Instant::now();
    let servers: Vec<Whom> = [Some(whom.clone()), whom.over_tcp()].into_iter().flatten().collect();
    let mut asked = ask_families(asker, &servers, Some(found)).await;
    let failed = |family: &RecordType| {
        let family = family.to_string();
        asked.iter().any(|asked| asked.record_type == family && is_servfail(asked))
    };
    let unchecked = FAMILIES.into_iter().filter(failed).collect::<Vec<_>>();
    asked.extend(join_all(unchecked.into_iter().map(|family| ask_unchecked(asker, &whom, family))).await);
    tokio::time::sleep_until(started + ASK_AGAIN_AFTER).await;
    let again = heard_by(&whom, &asked);
    asked.extend(ask_families(asker, &[again], Some(found)).await);
    asked
}

/// The transport by which a whole answer comes: a TTL is read by asking again in the same way.
fn heard_by(whom: &Whom, asked: &[Asked]) -> Whom {
    let cut = |asked: &Asked| asked.identity == whom.identity && asked.answer().is_some_and(|answer| answer.truncated);
    match whom.over_tcp() {
        Some(over_tcp) if asked.iter().any(cut) => over_tcp,
        _ => whom.clone(),
    }
}

/// Our resolvers a last time; and, while an override stands, for what must reach the world past it.
async fn ask_last(
    asker: &Asker,
    resolvers: &[Upstream],
    before: &[Asked],
    beside: &[RecordType],
    found: &Found,
) -> Vec<Asked> {
    let servers: Vec<Whom> =
        resolvers.iter().map(|resolver| heard_by(&Whom::resolver(Source::OurResolver, resolver), before)).collect();
    let mut asked = ask_families(asker, &servers, Some(found)).await;
    if let Some(first) = servers.first() {
        asked.extend(join_all(beside.iter().map(|record_type| ask_one(asker, first, *record_type, None))).await);
    }
    asked
}

/// The addresses that it serves, and what must be the world's all the same.
async fn ask_embedded(asker: &Asker, embedded: Option<Upstream>, beside: &[RecordType]) -> Vec<Asked> {
    let Some(embedded) = embedded else { return Vec::new() };
    let whom = Whom::resolver(Source::Embedded, &embedded);
    let types = [&FAMILIES, beside].concat();
    join_all(types.into_iter().map(|record_type| ask_one(asker, &whom, record_type, None))).await
}

/// A and AAAA of each, side by side.
async fn ask_families(asker: &Asker, servers: &[Whom], found: Option<&Found>) -> Vec<Asked> {
    let questions = servers.iter().flat_map(|whom| FAMILIES.map(|family| (whom, family)));
    join_all(questions.map(|(whom, family)| ask_one(asker, whom, family, found))).await
}

async fn ask_one(asker: &Asker, whom: &Whom, family: RecordType, found: Option<&Found>) -> Asked {
    let asked = asker.ask(whom, family).await;
    if let Some(found) = found {
        found.report(&asked);
    }
    asked
}
