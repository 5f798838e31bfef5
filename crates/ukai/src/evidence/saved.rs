//! One diagnosis on file.

use std::collections::BTreeMap;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use ukai_core::diagnose::diagnose;
use ukai_core::diagnose::evidence::Evidence;
use ukai_core::diagnose::known::Known;
use ukai_core::diagnose::verdict::{Action, Code, Sure, Verdict};
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

/// A diagnosis in the log, with all that it was made from.
#[derive(Debug, Clone, Copy)]
pub struct Concluded<'a> {
    pub gathering: &'a str,
    pub verdict: &'a Verdict,
    known: &'a Known,
    evidence: &'a Evidence,
}

impl Concluded<'_> {
    pub fn saved(&self) -> Saved {
        Saved::new(self.known.clone(), self.evidence.clone(), Some(self.verdict.clone()))
    }

    /// What is told apart: another sentence for the same is no other verdict.
    pub fn gist(&self) -> (Code, Sure, Action) {
        (self.verdict.code, self.verdict.sure, self.verdict.action)
    }
}

/// The diagnoses of an incident, in order. Those of a log from before they were kept whole are left out.
pub fn of_incident<'a>(records: &'a [Recorded], incident: &str) -> Vec<Concluded<'a>> {
    let mut gathered: BTreeMap<&str, &Evidence> = BTreeMap::new();
    let mut concluded = Vec::new();
    for record in records {
        match &record.event {
            Event::EvidenceGathered { gathering, evidence, incident: Some(of), .. } if of == incident => {
                gathered.insert(gathering, evidence);
            }
            Event::Diagnosed { gathering, incident: Some(of), verdict, known: Some(known), .. } if of == incident => {
                let evidence = gathered.get(gathering.as_str());
                concluded.extend(evidence.map(|evidence| Concluded { gathering, verdict, known, evidence }));
            }
            _ => {}
        }
    }
    concluded
}
