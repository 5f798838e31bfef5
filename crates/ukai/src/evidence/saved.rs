//! One diagnosis on file.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use ukai_core::diagnose::diagnose;
use ukai_core::diagnose::evidence::Evidence;
use ukai_core::diagnose::known::Known;
use ukai_core::diagnose::verdict::Verdict;
use ukai_core::event::{Event, Recorded};
use ukai_core::peer::Peer;

pub const SAVED_VERSION: u32 = 2;

/// Evidence, what was known besides, and the verdict that was given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    pub version: u32,
    pub known: Known,
    pub evidence: Evidence,
    /// None: nobody gave one yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Verdict>,
}

/// As version 1 was written: without history.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SavedV1 {
    #[serde(rename = "version")]
    _version: u32,
    peer: Peer,
    allow_addresses: Vec<IpNet>,
    evidence: Evidence,
}

#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    #[error("it is not evidence that was kept: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("it has version {0}; this ukai reads versions 1 and {SAVED_VERSION}")]
    Version(u64),
}

impl Saved {
    pub fn new(known: Known, evidence: Evidence, verdict: Option<Verdict>) -> Saved {
        Saved { version: SAVED_VERSION, known, evidence, verdict }
    }

    pub fn read(bytes: &[u8]) -> Result<Saved, SavedError> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        match serde_json::from_slice::<Version>(bytes)?.version {
            1 => {
                let SavedV1 { peer, allow_addresses, evidence, .. } = serde_json::from_slice(bytes)?;
                Ok(Saved::new(Known::of(peer, allow_addresses), evidence, None))
            }
            version if version == u64::from(SAVED_VERSION) => Ok(serde_json::from_slice(bytes)?),
            version => Err(SavedError::Version(version)),
        }
    }

    /// The same evidence gives the same verdict, wherever it is judged.
    pub fn judge(&self) -> Verdict {
        diagnose(&self.known.case(&self.evidence))
    }
}

/// The diagnoses of an incident, each with the evidence that it rests on, in order. Those of a log from before they were kept
/// whole are left out.
pub fn of_incident(records: &[Recorded], incident: &str) -> Vec<Saved> {
    let evidence_of = |wanted: &str| {
        records.iter().rev().find_map(|record| match &record.event {
            Event::EvidenceGathered { gathering, evidence, .. } if gathering == wanted => Some((**evidence).clone()),
            _ => None,
        })
    };
    records
        .iter()
        .filter_map(|record| match &record.event {
            Event::Diagnosed { gathering, incident: Some(of), verdict, known: Some(known), .. } if of == incident => {
                Some(Saved::new((**known).clone(), evidence_of(gathering)?, Some((**verdict).clone())))
            }
            _ => None,
        })
        .collect()
}
