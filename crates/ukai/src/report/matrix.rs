//! Who answered what: the evidence in rows.

use std::net::IpAddr;

use serde::Serialize;
use ukai_core::diagnose::evidence::{Answer, Asked, Canary, Candidate, ControlResult, Evidence, Outcome, Source};

/// Addresses shown of one answer; a peer may send ten thousand.
const SHOWN_MAX: usize = 8;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MatrixRow {
    pub source: &'static str,
    pub server: String,
    pub transport: String,
    pub record_type: String,
    pub answer: String,
    pub ttl: Option<u32>,
    pub flags: String,
    pub elapsed_ms: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CandidateRow {
    pub address: IpAddr,
    pub learned_from: String,
    pub proofs: usize,
    pub succeeded: usize,
    /// What the first failed proof met.
    pub failure: Option<String>,
    pub issuer: Option<String>,
    pub key_sha256: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ControlRow {
    pub control: String,
    pub name: String,
    pub address: String,
    pub issuer: Option<String>,
    pub clock_offset_s: Option<i64>,
}

impl MatrixRow {
    pub fn all(evidence: &Evidence) -> Vec<MatrixRow> {
        let mut asked: Vec<&Asked> = evidence.asked.iter().collect();
        asked.sort_by(|a, b| {
            let key = |asked: &Asked| (asked.source, asked.identity.clone(), asked.at);
            key(a).cmp(&key(b))
        });
        asked.into_iter().map(MatrixRow::of).collect()
    }

    fn of(asked: &Asked) -> MatrixRow {
        let (answer, ttl, mut flags, elapsed_ms) = match &asked.outcome {
            Outcome::Answered(answer) => {
                (said(answer, &asked.record_type), answer.ttl, flags(answer), Some(answer.elapsed_us / 1000))
            }
            Outcome::Silent { why, detail } => {
                let why = format!("{why:?}").to_lowercase();
                let text = if detail.is_empty() { why } else { format!("{why}: {detail}") };
                (format!("no answer ({text})"), None, Vec::new(), None)
            }
        };
        if asked.checking_disabled {
            flags.push("CD asked".to_owned());
        }
        flags.extend(asked.subnet.map(|subnet| format!("for {subnet}")));
        MatrixRow {
            source: source_name(asked.source),
            server: asked.server.clone(),
            transport: asked.transport.clone(),
            record_type: asked.record_type.clone(),
            answer,
            ttl,
            flags: flags.join(" "),
            elapsed_ms,
        }
    }
}

impl CandidateRow {
    pub fn all(evidence: &Evidence) -> Vec<CandidateRow> {
        evidence.candidates.iter().map(CandidateRow::of).collect()
    }

    fn of(candidate: &Candidate) -> CandidateRow {
        let identity = candidate.proofs.iter().find_map(|proof| proof.result.identity.as_ref());
        let mut learned: Vec<&str> = candidate.learned_from.iter().map(|source| source_name(*source)).collect();
        if candidate.by_operator {
            learned.push("operator");
        }
        CandidateRow {
            address: candidate.address,
            learned_from: learned.join(", "),
            proofs: candidate.proofs.len(),
            succeeded: candidate.proofs.iter().filter(|proof| proof.result.is_success()).count(),
            failure: candidate
                .first_failure()
                .map(|failure| format!("{} {}: {}", failure.stage.name(), failure.class.name(), failure.detail)),
            issuer: identity.map(|identity| identity.issuer.clone()),
            key_sha256: identity.map(|identity| identity.key_sha256.clone()),
        }
    }
}

impl ControlRow {
    pub fn all(evidence: &Evidence) -> Vec<ControlRow> {
        evidence.controls.iter().map(ControlRow::of).collect()
    }

    fn of(control: &ControlResult) -> ControlRow {
        let passed = |failure: &Option<String>| failure.clone().unwrap_or_else(|| "passed".to_owned());
        ControlRow {
            control: control.control.clone(),
            name: passed(&control.name_failure),
            address: if control.address_tried { passed(&control.address_failure) } else { "not known".to_owned() },
            issuer: control.issuer.clone(),
            clock_offset_s: control.clock_offset_s,
        }
    }
}

pub fn delegation(evidence: &Evidence) -> Option<String> {
    let delegation = evidence.delegation.as_ref()?;
    let names = |set: &std::collections::BTreeSet<String>| {
        if set.is_empty() { "nobody".to_owned() } else { set.iter().cloned().collect::<Vec<_>>().join(", ") }
    };
    let mut text = format!(
        "Zone {}: the parent names {}; the zone itself names {}.",
        delegation.zone,
        names(&delegation.parent_ns),
        names(&delegation.child_ns)
    );
    for problem in &delegation.problems {
        text.push_str(&format!(" {problem}."));
    }
    Some(text)
}

pub fn canary(evidence: &Evidence) -> String {
    match &evidence.canary {
        Canary::Clean => "A name that cannot exist was denied: port 53 is what it seems.".to_owned(),
        Canary::Intercepted(what) => {
            format!("A name that cannot exist was answered: port 53 is intercepted ({what}).")
        }
        Canary::NoAnswer => "Nobody answered for a name that cannot exist.".to_owned(),
    }
}

pub fn shorten(addresses: impl ExactSizeIterator<Item = IpAddr>) -> String {
    let total = addresses.len();
    let shown: Vec<String> = addresses.take(SHOWN_MAX).map(|address| address.to_string()).collect();
    match total.saturating_sub(SHOWN_MAX) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn said(answer: &Answer, record_type: &str) -> String {
    let rcode = format!("{:?}", answer.rcode).to_uppercase();
    if !answer.addresses.is_empty() {
        let mut text = shorten(answer.addresses.iter().copied());
        if !answer.chain.is_empty() {
            text.push_str(&format!(" by way of {}", answer.chain.join(", ")));
        }
        return text;
    }
    match (&answer.soa, record_type) {
        (Some(soa), "SOA") => format!("serial {}", soa.serial),
        // The evidence keeps addresses only: of another type it is known that something was answered.
        (None, "HTTPS") if rcode == "NOERROR" => "a record".to_owned(),
        _ if rcode == "NOERROR" => "no such record".to_owned(),
        _ => rcode,
    }
}

fn flags(answer: &Answer) -> Vec<String> {
    let bits = [
        (answer.authoritative, "AA"),
        (answer.recursion_available, "RA"),
        (answer.authentic_data, "AD"),
        (answer.truncated, "TC"),
    ];
    let mut flags: Vec<String> = bits.into_iter().filter(|(set, _)| *set).map(|(_, name)| name.to_owned()).collect();
    flags.extend(answer.extended_errors.iter().map(|error| {
        if error.text.is_empty() {
            format!("EDE {}", error.code)
        } else {
            format!("EDE {} ({})", error.code, error.text)
        }
    }));
    flags.extend(answer.nsid.iter().map(|nsid| format!("NSID {nsid}")));
    flags
}

fn source_name(source: Source) -> &'static str {
    match source {
        Source::OurResolver => "our resolver",
        Source::Authority => "authority",
        Source::Independent => "independent",
        Source::Embedded => "ukai's own server",
    }
}
