//! The scenarios that are built in.

use crate::scenario::{Scenario, ScenarioError};

/// The drill of `ukai drill` without a word more: the outage that ukai was made for.
pub const FIRST: &str = "S01";

/// A built-in file, and the name that errors call it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    pub id: &'static str,
    pub file: &'static str,
    pub text: &'static str,
}

macro_rules! entry {
    ($id:literal, $file:literal) => {
        Entry { id: $id, file: $file, text: include_str!(concat!("../../scenarios/", $file)) }
    };
}

/// One "yes" and the many that must be "no", in the catalogue's order.
pub const ENTRIES: &[Entry] = &[
    entry!("S01", "s01-stale-resolver.toml"),
    entry!("S05", "s05-client-pinned.toml"),
    entry!("S06", "s06-peer-down.toml"),
    entry!("S07", "s07-peer-http.toml"),
    entry!("S10a", "s10a-resolver-hijacked.toml"),
    entry!("S10b", "s10b-one-server-lies.toml"),
    entry!("S12", "s12-parked.toml"),
    entry!("S13", "s13-rebinding.toml"),
    entry!("S15", "s15-rotating.toml"),
    entry!("S17", "s17-own-egress.toml"),
    entry!("S18", "s18-own-resolver.toml"),
    entry!("S19", "s19-peer-certificate.toml"),
];

impl Entry {
    pub fn parse(&self) -> Result<Scenario, ScenarioError> {
        Scenario::parse(self.text, self.file)
    }
}

/// Every entry of that id, or of the family of it: `s10` finds `S10a` and `S10b`.
pub fn find(id: &str) -> Vec<Entry> {
    let exact = |entry: &&Entry| entry.id.eq_ignore_ascii_case(id);
    if let Some(entry) = ENTRIES.iter().find(exact) {
        return vec![*entry];
    }
    let family = |entry: &&Entry| entry.id.trim_end_matches(|c: char| c.is_ascii_lowercase()).eq_ignore_ascii_case(id);
    ENTRIES.iter().filter(family).copied().collect()
}

/// The built-in id nearest to what was written.
pub fn nearest(id: &str) -> Option<&'static str> {
    ENTRIES
        .iter()
        .map(|entry| (strsim::damerau_levenshtein(&id.to_uppercase(), &entry.id.to_uppercase()), entry.id))
        .filter(|(distance, _)| *distance <= 1)
        .min()
        .map(|(_, id)| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Action, Deed, Level, Moment};

    #[test]
    fn every_scenario_is_read_and_bears_its_own_id() {
        for entry in ENTRIES {
            let scenario = entry.parse().unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(scenario.id, entry.id, "{}", entry.file);
            assert!(scenario.story.len() > 80, "{} has no story for a newcomer", entry.file);
            assert!(!scenario.expect.action.is_empty(), "{} expects no action", entry.file);
            assert!(!scenario.expect.verdict.is_empty(), "{} expects no verdict", entry.file);
        }
    }

    #[test]
    fn somebody_approves_whatever_is_proposed_so_that_a_wrong_proposal_shows() {
        for entry in ENTRIES {
            let scenario = entry.parse().unwrap();
            assert_eq!(scenario.policy.level, Some(Level::Approve), "{}", entry.file);
            let approves = |deed: Deed, on: Moment| deed == Deed::Approve && on == Moment::Proposed;
            assert!(scenario.operators.iter().any(|operator| approves(operator.does, operator.on)), "{}", entry.file);
            assert!(scenario.app.sign, "{}: the application is not seen", entry.file);
        }
    }

    #[test]
    fn there_are_more_noes_than_yeses() {
        let yes =
            ENTRIES.iter().filter(|entry| entry.parse().unwrap().expect.action.contains(&Action::Override)).count();
        assert_eq!(yes, 1);
        assert!(ENTRIES.len() > 2 * yes);
    }

    #[test]
    fn ids_are_found_by_themselves_by_family_and_by_nearness() {
        let ids = |id: &str| find(id).iter().map(|entry| entry.id).collect::<Vec<_>>();
        assert_eq!(ids("s06"), ["S06"]);
        assert_eq!(ids("S10"), ["S10a", "S10b"]);
        assert_eq!(ids("S10B"), ["S10b"]);
        assert!(ids("S99").is_empty());
        assert_eq!(nearest("S16"), Some("S06"));
        assert_eq!(nearest("nothing"), None);
    }
}
