//! The life of an override, from proposal to its end.

use serde::{Deserialize, Serialize};

/// Why an override ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The normal path is right again.
    Reverted,
    /// A person took it back.
    RevertedByPerson,
    /// The lease ran out.
    Expired,
    /// It was not served and proven in time.
    RolledBack,
    /// What it served stopped proving itself.
    Withdrawn,
}

impl EndReason {
    pub fn name(self) -> &'static str {
        match self {
            EndReason::Reverted => "reverted",
            EndReason::RevertedByPerson => "reverted_by_person",
            EndReason::Expired => "expired",
            EndReason::RolledBack => "rolled_back",
            EndReason::Withdrawn => "withdrawn",
        }
    }
}
