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

/// Few "yes" and the many that must be "no", in the catalogue's order.
pub const ENTRIES: &[Entry] = &[
    entry!("S01", "s01-stale-resolver.toml"),
    entry!("S02a", "s02-serve-stale.toml"),
    entry!("S02b", "s02-ttl-clamp.toml"),
    entry!("S03", "s03-transient.toml"),
    entry!("S04a", "s04-negative-short.toml"),
    entry!("S04b", "s04-negative-long.toml"),
    entry!("S05", "s05-client-pinned.toml"),
    entry!("S06", "s06-peer-down.toml"),
    entry!("S06b", "s06-seen-from-elsewhere.toml"),
    entry!("S07", "s07-peer-http.toml"),
    entry!("S08", "s08-one-address-dead.toml"),
    entry!("S08b", "s08-steered.toml"),
    entry!("S09", "s09-ipv6-dead.toml"),
    entry!("S09b", "s09-own-ipv6.toml"),
    entry!("S10a", "s10a-resolver-hijacked.toml"),
    entry!("S10b", "s10b-one-server-lies.toml"),
    entry!("S11", "s11-valid-stranger.toml"),
    entry!("S11b", "s11-stranger-rejected.toml"),
    entry!("S11c", "s11-stranger-approved.toml"),
    entry!("S12", "s12-parked.toml"),
    entry!("S12b", "s12-parked-elsewhere.toml"),
    entry!("S13", "s13-rebinding.toml"),
    entry!("S13b", "s13-private-candidate.toml"),
    entry!("S14", "s14-geo-steered.toml"),
    entry!("S15", "s15-rotating.toml"),
    entry!("S16", "s16-pop.toml"),
    entry!("S17", "s17-own-egress.toml"),
    entry!("S18", "s18-own-resolver.toml"),
    entry!("S19", "s19-peer-certificate.toml"),
    entry!("S20", "s20-clock.toml"),
    entry!("S21", "s21-dnssec.toml"),
    entry!("S22", "s22-rate-limited.toml"),
    entry!("S23", "s23-blocked.toml"),
    entry!("S23b", "s23-reset.toml"),
    entry!("S24a", "s24-peer-moves-again.toml"),
    entry!("S24b", "s24-healed-and-left.toml"),
    entry!("S25", "s25-siblings.toml"),
    entry!("S26", "s26-empty.toml"),
    entry!("S27", "s27-delegation-gone.toml"),
    entry!("S28", "s28-lagging-server.toml"),
    entry!("S28b", "s28-lame-servers.toml"),
    entry!("S29a", "s29-alias-gone.toml"),
    entry!("S29b", "s29-alias-taken.toml"),
    entry!("S30", "s30-intercepted.toml"),
    entry!("S31", "s31-mtu.toml"),
    entry!("S32", "s32-tls-policy.toml"),
    entry!("S33", "s33-default-certificate.toml"),
    entry!("S34", "s34-key-refused.toml"),
    entry!("S35", "s35-reused-connections.toml"),
    entry!("S36", "s36-region-down.toml"),
    entry!("S37", "s37-no-port-53.toml"),
    entry!("S38", "s38-own-allow-list.toml"),
    entry!("S38b", "s38-seen-from-here.toml"),
    entry!("S39", "s39-port-53-intercepted.toml"),
    entry!("S40", "s40-delegation-taken.toml"),
    entry!("S40b", "s40-taken-and-rejected.toml"),
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
    use crate::scenario::{Action, Deed, Level, Moment, Operator};

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
            // Where a person must say no, the file is about just that.
            let deed = if ["S11b", "S40b"].contains(&entry.id) { Deed::Reject } else { Deed::Approve };
            let decides = |operator: &Operator| operator.does == deed && operator.on == Moment::Proposed;
            assert!(scenario.operators.iter().any(decides), "{}", entry.file);
            assert!(scenario.app.sign, "{}: the application is not seen", entry.file);
        }
    }

    #[test]
    fn there_are_more_noes_than_yeses() {
        let expects = |entry: &&Entry, action| entry.parse().unwrap().expect.action == [action];
        let yes = ENTRIES.iter().filter(|entry| expects(entry, Action::Override)).count();
        let no = ENTRIES.iter().filter(|entry| expects(entry, Action::None) || expects(entry, Action::Refuse)).count();
        assert!(yes < no, "{yes} yes, {no} no");
    }

    #[test]
    fn every_row_of_the_catalogue_has_its_file() {
        for row in 1..=40 {
            assert!(!find(&format!("S{row:02}")).is_empty(), "S{row:02}");
        }
    }

    #[test]
    fn ids_are_found_by_themselves_by_family_and_by_nearness() {
        let ids = |id: &str| find(id).iter().map(|entry| entry.id).collect::<Vec<_>>();
        assert_eq!(ids("s06"), ["S06"]);
        assert_eq!(ids("S10"), ["S10a", "S10b"]);
        assert_eq!(ids("S10B"), ["S10b"]);
        assert!(ids("S99").is_empty());
        assert_eq!(nearest("SO6"), Some("S06"));
        assert_eq!(nearest("nothing"), None);
    }
}
