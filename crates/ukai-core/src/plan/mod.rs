//! What would be changed, why it may be, and its exact inverse, all known before anything is done.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::diagnose::answers::{self, Authority};
use crate::diagnose::history::network;
use crate::diagnose::reading::{Continuity, Reading};
use crate::diagnose::verdict::{Code, Verdict};
use crate::observe::Identity;
use crate::peer::{Mode, Peer};

pub mod guard;

/// TTL of an override in the embedded server: what a client holds on to after a revert.
pub const OVERRIDE_TTL_S: u32 = 10;
/// The longest lease that anybody may ask for.
pub const LEASE_MAX_S: u64 = 24 * 3600;
/// The shortest lease for an answer within its TTL: shorter ones end before they are verified, or clients have forgotten them.
pub const TRANSIENT_LEASE_MIN_S: u64 = 10;
/// The longest lease of addresses that only a person names, while the peer's own servers give none.
pub const UNVOUCHED_LEASE_MAX_S: u64 = 15 * 60;
/// The most addresses an override serves; an answer of both families still fits 1,232 bytes.
pub const ADDRESSES_MAX: usize = 16;
/// Proofs of the normal path in a row before an override is taken back.
pub const REVERT_PROOFS: u32 = 6;
/// Diagnoses in which nobody vouches for any address.
const UNVOUCHED: [Code; 2] = [Code::PeerDnsEmpty, Code::DelegationRemoved];
/// The source of addresses that nobody names any more.
const IN_PEACE: &str = "where the peer was before";

/// An override for exactly one name, as a person approves it. The hash covers every field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub peer: String,
    pub incident: String,
    /// The owner name, exactly; siblings and names below it are not touched.
    pub host: String,
    pub mode: Mode,
    /// The first set to serve. A follow override may serve another set within the anchors.
    pub addresses: BTreeSet<IpAddr>,
    pub ttl_s: u32,
    pub lease_s: u64,
    /// Where the addresses come from: the servers that agreed, or the operator.
    pub sources: BTreeSet<String>,
    pub delegation: BTreeSet<String>,
    pub anchors: Anchors,
    /// Proofs of the normal path in a row before it is taken back.
    pub revert_after: u32,
    /// How many different persons must say yes.
    pub approvals: u8,
    /// What stands at the name in our zone now.
    pub existing: String,
    /// What becomes of each record type at the name.
    pub types: String,
    pub inverse: String,
    /// What a person must look at before saying yes: guards that only a person may pass.
    pub shown: Vec<Refusal>,
    /// What the override changes for whom beyond what is meant; nothing of it speaks against it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mind: Vec<String>,
    /// The verdict it rests on, as `code (sure)`.
    pub verdict: String,
}

/// Who the served addresses must prove to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anchors {
    /// Public keys, SHA-256 in hex.
    pub keys: BTreeSet<String>,
    pub issuers: BTreeSet<String>,
    /// Networks that were proven before, /24 and /48, and those that the operator lists.
    pub networks: BTreeSet<IpNet>,
}

impl Plan {
    /// It rests on the peer's servers giving no address at all.
    pub fn is_of_peace(&self) -> bool {
        self.sources.contains(IN_PEACE)
    }

    /// The longest lease that it may have, and be extended to, in seconds.
    pub fn lease_max_s(&self) -> u64 {
        match UNVOUCHED.iter().any(|code| code.name() == self.code()) {
            true => UNVOUCHED_LEASE_MAX_S,
            false => LEASE_MAX_S,
        }
    }

    /// The name of the diagnosis that it rests on.
    pub fn code(&self) -> &str {
        self.verdict.split(' ').next().unwrap_or_default()
    }

    /// SHA-256 over the plan's canonical JSON: fields in declaration order, sets sorted.
    pub fn hash(&self) -> String {
        // Serialising these types cannot fail: no map has keys other than strings.
        let json = serde_json::to_vec(self).unwrap_or_default();
        Sha256::digest(json).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A guard's word against a plan.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Refusal {
    /// The guard's name.
    pub guard: String,
    pub reason: String,
}

/// Diagnoses after which an override may be right.
pub fn is_overridable(code: Code) -> bool {
    matches!(
        code,
        Code::StaleResolver
            | Code::StaleResolverTransient
            | Code::TtlViolation
            | Code::NegativeCache
            | Code::IdentityDiscontinuity
    )
}

/// The addresses that an override would serve, and who named them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    pub addresses: BTreeSet<IpAddr>,
    pub sources: BTreeSet<String>,
    pub origin: Origin,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Origin {
    Authority,
    /// Authoritative servers cannot be reached from here; independent resolvers agree.
    Independents,
    Operator,
    /// The peer's servers give no address; these were the peer's before, and still prove to be.
    History,
    /// Nobody whose word counts named an address.
    #[default]
    Nobody,
}

/// Chooses the addresses: an operator's pin, else what the authorities agree on and what of it proved
/// itself, else what independent resolvers agree on.
pub fn select(reading: &Reading) -> Selection {
    let peer = reading.case.peer;
    if peer.mode == Mode::Pin && !peer.pin.is_empty() {
        return Selection {
            addresses: peer.pin.iter().copied().collect(),
            sources: BTreeSet::from(["operator".to_owned()]),
            origin: Origin::Operator,
        };
    }
    match (&reading.authority, &reading.independents) {
        (Authority::Agreed(set), _) => Selection {
            addresses: proved_of(reading, set),
            sources: reading
                .evidence()
                .delegation
                .as_ref()
                .map(|delegation| delegation.parent_ns.clone())
                .unwrap_or_default(),
            origin: Origin::Authority,
        },
        (Authority::Silent, Some(set)) => Selection {
            addresses: proved_of(reading, set),
            sources: BTreeSet::from(["independent resolvers in agreement".to_owned()]),
            origin: Origin::Independents,
        },
        _ => Selection::default(),
    }
}

/// Where the peer's own servers give no address any more (S26): what of its last answers still proves to be the peer. Nobody
/// vouches for it now, so a person must confirm it.
pub fn left_in_peace(reading: &Reading) -> Option<Selection> {
    let history = reading.case.history;
    if !matches!(reading.authority, Authority::Empty { .. }) || !reading.case.peer.verified_tls {
        return None;
    }
    let is_peer = |address: &&IpAddr| {
        history.knows_address(**address) && matches!(reading.continuity(**address), Continuity::Continuous(_))
    };
    let known: BTreeSet<IpAddr> = reading.proved.iter().filter(is_peer).copied().collect();
    // Where it had gone from by then is not where it was: the same key may be held there by who served it.
    let addresses = match history.authority_answer() {
        Some(last) => last.addresses.intersection(&known).copied().collect(),
        None => known,
    };
    let addresses: BTreeSet<IpAddr> = addresses.into_iter().take(ADDRESSES_MAX).collect();
    let sources = BTreeSet::from([IN_PEACE.to_owned()]);
    (!addresses.is_empty()).then_some(Selection { addresses, sources, origin: Origin::History })
}

/// What of a set proved itself; with none, the whole set, so that the guard can say what failed.
fn proved_of(reading: &Reading, set: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
    let proved: BTreeSet<IpAddr> = set.intersection(&reading.proved).copied().take(ADDRESSES_MAX).collect();
    if proved.is_empty() { set.iter().copied().take(ADDRESSES_MAX).collect() } else { proved }
}

/// Where an override takes effect.
#[derive(Debug, Clone, Copy, Default)]
pub struct Provided<'a> {
    /// A zone of somebody else's, as people are told of it. None: the embedded server.
    pub zone: Option<&'a str>,
    /// Other types of the name are hidden there.
    pub hides_types: bool,
}

/// Draws up the plan for a selection.
pub fn draw_up(
    reading: &Reading,
    verdict: &Verdict,
    incident: &str,
    selection: &Selection,
    shown: Vec<Refusal>,
    provided: &Provided<'_>,
) -> Plan {
    let zone = provided.zone;
    let peer = reading.case.peer;
    Plan {
        peer: peer.name.clone(),
        incident: incident.to_owned(),
        host: peer.host.clone(),
        mode: if is_fixed(selection.origin) { Mode::Pin } else { Mode::Follow },
        addresses: selection.addresses.clone(),
        ttl_s: OVERRIDE_TTL_S,
        lease_s: lease_s(reading, verdict),
        sources: selection.sources.clone(),
        delegation: reading
            .evidence()
            .delegation
            .as_ref()
            .map(|delegation| delegation.parent_ns.clone())
            .unwrap_or_default(),
        anchors: anchors(reading, peer, &selection.addresses),
        revert_after: REVERT_PROOFS,
        approvals: peer.approvals,
        existing: match zone {
            None => "no override of ours; the name is forwarded to our resolver".to_owned(),
            Some(zone) => format!("nothing of ours in {zone}; it is read again right before it is written"),
        },
        types: types(&selection.addresses, zone),
        inverse: match zone {
            None => format!(
                "remove the override for {}; the embedded server forwards the name again and drops what it cached of it",
                peer.host
            ),
            Some(zone) => format!("take what was written for {} out of {zone}, and nothing else", peer.host),
        },
        shown,
        mind: mind(reading, peer, provided),
        verdict: format!("{} ({})", verdict.code.name(), verdict.sure.name()),
    }
}

/// There is nobody to follow: a person gave the addresses, or confirms them.
pub fn is_fixed(origin: Origin) -> bool {
    matches!(origin, Origin::Operator | Origin::History)
}

/// The configured lease; for an answer that is wrong only until its TTL runs out, no longer than that; and short where nobody
/// vouches for the addresses any more (S26, S27).
fn lease_s(reading: &Reading, verdict: &Verdict) -> u64 {
    let lease_s = reading.case.peer.lease.as_secs().min(LEASE_MAX_S);
    let left = answers::ttl_readings(reading.evidence()).last().map(|last| u64::from(last.ttl));
    match (verdict.code, left) {
        (code, _) if UNVOUCHED.contains(&code) => lease_s.min(UNVOUCHED_LEASE_MAX_S),
        (Code::StaleResolverTransient, Some(left)) => lease_s.min(left.max(TRANSIENT_LEASE_MIN_S)),
        _ => lease_s,
    }
}

/// RFC 4035 section 3.2.3: AD says that somebody validated the name. An override cannot be signed.
fn mind(reading: &Reading, peer: &Peer, provided: &Provided<'_>) -> Vec<String> {
    let mut mind = Vec::new();
    if let Some(server) = answers::validated_anywhere(reading.evidence()) {
        mind.push(format!(
            "{} is signed (DNSSEC; {server} validated it), and an override is not: a client that validates by itself gets no answer \
             while it stands. One that leaves validation to its resolver sees no difference",
            peer.host
        ));
    }
    if provided.hides_types {
        let whom = if provided.zone.is_some() { "" } else { " for who resolves through a follower of the policy zone" };
        mind.push(format!(
            "MX, TXT, CAA and every other type at exactly {} have no data{whom} while it stands",
            peer.host
        ));
    }
    mind
}

fn types(addresses: &BTreeSet<IpAddr>, zone: Option<&str>) -> String {
    let v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
    let v6 = addresses.len() - v4;
    let family = |name: &str, count: usize| match count {
        0 => format!("{name}: no data"),
        count => format!("{name}: {count} from the plan"),
    };
    let others = match zone {
        None => "HTTPS and SVCB: no data; every other type and every name below is forwarded as before",
        Some(_) => "every other type: no data; every name below is resolved as before",
    };
    format!("{}; {}; {others}", family("A", v4), family("AAAA", v6))
}

/// The keys that the addresses of the plan showed, together with what was proven before.
fn anchors(reading: &Reading, peer: &Peer, addresses: &BTreeSet<IpAddr>) -> Anchors {
    let mut anchors = Anchors::default();
    let history = reading.case.history;
    for identity in &history.identities {
        anchors.keys.insert(identity.key_sha256.clone());
        anchors.issuers.insert(identity.issuer.clone());
        for address in &identity.addresses {
            anchors.networks.insert(network(*address));
        }
    }
    for address in addresses {
        for identity in reading.identities(*address) {
            // Its key alone: a network that was never proven is no anchor for other keys.
            anchors.keys.insert(identity.key_sha256.clone());
        }
    }
    anchors.networks.extend(&peer.networks);
    anchors
}

impl Anchors {
    /// The same key, or the same issuer in a network of the plan.
    pub fn hold(&self, identity: &Identity, address: IpAddr) -> bool {
        self.keys.contains(&identity.key_sha256)
            || (self.issuers.contains(&identity.issuer)
                && self.networks.iter().any(|network| network.contains(&address)))
    }
}

/// A set that a follow override may move to without a new approval.
pub fn within_anchors(plan: &Plan, reading: &Reading, set: &BTreeSet<IpAddr>) -> Result<(), String> {
    if let Some(delegation) = &reading.evidence().delegation
        && plan.mode == Mode::Follow
        && !delegation.parent_ns.is_empty()
        && !plan.delegation.is_empty()
        && delegation.parent_ns != plan.delegation
    {
        return Err("the delegation is another than the approved one".to_owned());
    }
    for address in set {
        let shown = reading.identities(*address);
        if shown.is_empty() {
            return Err(format!("{address} showed no verified identity"));
        }
        if !shown.iter().all(|identity| plan.anchors.hold(identity, *address)) {
            return Err(format!("{address} is outside the approved identity"));
        }
    }
    Ok(())
}
