//! What a change of state is told as: the message of an SNS action ([`sns`]), the event that a Lambda action gets and the
//! event on the bus ([`event`]).
//!
//! Field for field and in the recorded order, because consumers were written against what CloudWatch sends and not
//! against its documentation. The traps are in the files that have them.

pub mod event;
pub mod sns;

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::AlarmState;
use super::definition::Definition;
use super::reason::TriggeringChild;
use super::region::alarm_arn;
use super::suppress::SuppressedBy;

/// Everything that the payloads are made of.
#[derive(Debug, Clone, Copy)]
pub struct StateChange<'a> {
    pub definition: &'a Definition,
    pub account_id: &'a str,
    /// The code, such as `ap-northeast-1`.
    pub region: &'a str,
    pub configuration_updated_at: Timestamp,
    pub old: StateThen<'a>,
    pub new: StateThen<'a>,
    /// Of a composite alarm: the children that decided.
    pub triggering_children: &'a [TriggeringChild],
    pub suppression: Option<Suppression<'a>>,
    /// Whether the action waited for the end of a mute window. None leaves the field out, as messages before 2026 do.
    pub after_mute_window: Option<bool>,
}

/// A state as it was entered.
#[derive(Debug, Clone, Copy)]
pub struct StateThen<'a> {
    pub state: AlarmState,
    pub reason: &'a str,
    /// JSON.
    pub reason_data: Option<&'a str>,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suppression<'a> {
    pub by: SuppressedBy,
    pub reason: &'a str,
}

impl StateChange<'_> {
    pub fn arn(&self) -> String {
        alarm_arn(self.region, self.account_id, &self.definition.name)
    }
}

/// A UUID that is always the same for the same text: CloudWatch draws its ids at random, and the core must not. Version 8 is
/// the one for ids of one's own making (RFC 9562, section 5.8).
pub fn uuid_of(text: &str) -> String {
    let hash = Sha256::digest(text.as_bytes());
    let mut hex = String::with_capacity(36);
    for (place, byte) in hash.iter().take(16).enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            hex.push('-');
        }
        let byte = match place {
            6 => (byte & 0x0f) | 0x80,
            8 => (byte & 0x3f) | 0x80,
            _ => *byte,
        };
        hex.push_str(&format!("{byte:02x}"));
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_a_uuid_and_stays_the_same() {
        let id = uuid_of("pay-down");
        assert_eq!(id, uuid_of("pay-down"));
        assert_ne!(id, uuid_of("pay-up"));
        let parts: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12]);
        assert_eq!(&id[14..15], "8");
        assert!("89ab".contains(&id[19..20]));
    }
}
