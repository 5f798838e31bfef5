//! M out of N with gaps: the reference procedure, checked against both tables that AWS documents
//! (CloudWatch User Guide, "Configuring how CloudWatch alarms treat missing data").

use super::AlarmState;
use super::rule::TreatMissingData;

/// One period of the evaluation range, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    Breaching,
    Fine,
    Missing,
}

/// The state that a range asks for. None: keep the present one.
pub fn judge(range: &[Slot], n: usize, m: usize, treat: TreatMissingData) -> Option<AlarmState> {
    let real: Vec<bool> = range
        .iter()
        .filter_map(|slot| match slot {
            Slot::Breaching => Some(true),
            Slot::Fine => Some(false),
            Slot::Missing => None,
        })
        .collect();
    if real.is_empty() {
        return all_missing(treat);
    }
    if real.len() >= n {
        let breaching = real.iter().rev().take(n).filter(|breaching| **breaching).count();
        return Some(alarm_if(breaching >= m));
    }
    let fill = n - real.len();
    let breaching = real.iter().filter(|breaching| **breaching).count();
    if breaching >= m {
        return Some(AlarmState::Alarm);
    }
    match treat {
        TreatMissingData::Breaching => Some(alarm_if(breaching + fill >= m)),
        TreatMissingData::NotBreaching => Some(AlarmState::Ok),
        TreatMissingData::Missing | TreatMissingData::Ignore if breaching == real.len() => premature(range, m, treat),
        TreatMissingData::Missing | TreatMissingData::Ignore => Some(AlarmState::Ok),
    }
}

fn alarm_if(breaching: bool) -> AlarmState {
    if breaching { AlarmState::Alarm } else { AlarmState::Ok }
}

fn all_missing(treat: TreatMissingData) -> Option<AlarmState> {
    match treat {
        TreatMissingData::Missing => Some(AlarmState::InsufficientData),
        TreatMissingData::Ignore => None,
        TreatMissingData::Breaching => Some(AlarmState::Alarm),
        TreatMissingData::NotBreaching => Some(AlarmState::Ok),
    }
}

/// Only breaching data was seen, but less than M of it: it counts once the oldest is M slots old.
fn premature(range: &[Slot], m: usize, treat: TreatMissingData) -> Option<AlarmState> {
    let oldest = range.iter().position(|slot| *slot == Slot::Breaching)?;
    let age = range.len() - oldest;
    match (treat, age >= m) {
        (TreatMissingData::Missing, true) => Some(AlarmState::Alarm),
        (TreatMissingData::Missing, false) => Some(AlarmState::Ok),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: Option<AlarmState> = None;
    const OK: Option<AlarmState> = Some(AlarmState::Ok);
    const ALARM: Option<AlarmState> = Some(AlarmState::Alarm);
    const INSUFFICIENT: Option<AlarmState> = Some(AlarmState::InsufficientData);

    type Row = (&'static str, [Option<AlarmState>; 4]);

    /// N = 3, M = 3, range 5.
    const TABLE_A: [Row; 5] = [
        ("0 - X - X", [OK, OK, OK, OK]),
        ("0 - - - -", [OK, OK, OK, OK]),
        ("- - - - -", [INSUFFICIENT, KEEP, ALARM, OK]),
        ("0 X X - X", [ALARM, ALARM, ALARM, ALARM]),
        ("- - X - -", [ALARM, KEEP, ALARM, OK]),
    ];

    /// N = 3, M = 2, range 5.
    const TABLE_B: [Row; 5] = [
        ("0 - X - X", [ALARM, ALARM, ALARM, ALARM]),
        ("0 0 X 0 X", [ALARM, ALARM, ALARM, ALARM]),
        ("0 - X - -", [OK, OK, ALARM, OK]),
        ("- - - - 0", [OK, OK, ALARM, OK]),
        ("- - - X -", [ALARM, KEEP, ALARM, OK]),
    ];

    fn slots(row: &str) -> Vec<Slot> {
        row.split(' ')
            .map(|cell| match cell {
                "X" => Slot::Breaching,
                "0" => Slot::Fine,
                _ => Slot::Missing,
            })
            .collect()
    }

    #[test]
    fn every_cell_of_the_documented_tables() {
        let treatments = [
            TreatMissingData::Missing,
            TreatMissingData::Ignore,
            TreatMissingData::Breaching,
            TreatMissingData::NotBreaching,
        ];
        for (m, table) in [(3, TABLE_A), (2, TABLE_B)] {
            for (row, wanted) in table {
                for (treat, wanted) in treatments.into_iter().zip(wanted) {
                    assert_eq!(judge(&slots(row), 3, m, treat), wanted, "M={m} `{row}` {treat:?}");
                }
            }
        }
    }

    #[test]
    fn a_young_breach_alone_does_not_fire() {
        assert_eq!(judge(&slots("- - - - X"), 3, 3, TreatMissingData::Missing), OK);
        assert_eq!(judge(&slots("- - - X -"), 3, 3, TreatMissingData::Missing), OK);
    }
}
