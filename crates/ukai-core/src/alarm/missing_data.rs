//! M out of N with gaps: the reference procedure, checked against both tables that AWS documents
//! (CloudWatch User Guide, "Configuring how CloudWatch alarms treat missing data").
//!
//! Real points come first, reaching back over the whole evaluation range; only what is missing from N is filled in by the
//! treatment. Where the documentation is silent (a young breach alone, treated as *missing*) the state is OK.

use serde::{Deserialize, Serialize};

use super::AlarmState;
use super::definition::TreatMissingData;

/// One period of the evaluation range, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    Breaching,
    Fine,
    Missing,
}

/// What decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// Nothing real in the range: the treatment alone decides.
    AllMissing,
    /// At least N real points: the newest N of them are judged, and the treatment is not asked.
    NewestReal,
    /// Fewer than N, but M of them breach: no filling could change that.
    EnoughBreaching,
    /// What is missing from N was filled in.
    Filled,
    /// Only breaching points were seen, and the oldest is at least M periods old.
    OldBreach,
    /// Only breaching points were seen, all of them young: it is too early to fire.
    YoungBreach,
    /// Something real was fine, and fewer than M breach.
    NotEnoughBreaching,
    /// Too few samples for the percentile, and the alarm ignores that.
    LowSamples,
}

/// The state that a range asks for. None: keep the present one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judgement {
    pub state: Option<AlarmState>,
    pub rule: Rule,
    /// How many points the treatment filled in.
    pub filled: usize,
}

/// What became of one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// A real point that was judged.
    Judged,
    /// A real point older than the newest N.
    LeftOut,
    /// Nothing there.
    Missing,
}

pub fn judge(range: &[Slot], n: usize, m: usize, treat: TreatMissingData) -> Judgement {
    let (mut real, mut breaching, mut newest_breaching) = (0, 0, 0);
    for slot in range.iter().rev() {
        let breaches = match slot {
            Slot::Missing => continue,
            Slot::Breaching => true,
            Slot::Fine => false,
        };
        newest_breaching += usize::from(breaches && real < n);
        breaching += usize::from(breaches);
        real += 1;
    }
    let fill = n.saturating_sub(real);
    let says = |state, rule, filled| Judgement { state, rule, filled };
    if real == 0 {
        return says(all_missing(treat), Rule::AllMissing, n);
    }
    if fill == 0 {
        return says(Some(alarm_if(newest_breaching >= m)), Rule::NewestReal, 0);
    }
    if breaching >= m {
        return says(Some(AlarmState::Alarm), Rule::EnoughBreaching, fill);
    }
    match treat {
        TreatMissingData::Breaching => says(Some(alarm_if(breaching + fill >= m)), Rule::Filled, fill),
        TreatMissingData::NotBreaching => says(Some(AlarmState::Ok), Rule::Filled, fill),
        TreatMissingData::Missing | TreatMissingData::Ignore if breaching == real => premature(range, m, treat, fill),
        TreatMissingData::Missing | TreatMissingData::Ignore => {
            says(Some(AlarmState::Ok), Rule::NotEnoughBreaching, fill)
        }
    }
}

/// What became of each period of the range.
pub fn cells(range: &[Slot], n: usize) -> Vec<Cell> {
    let mut judged = 0;
    let mut cells: Vec<Cell> = range
        .iter()
        .rev()
        .map(|slot| match slot {
            Slot::Missing => Cell::Missing,
            Slot::Breaching | Slot::Fine if judged < n => {
                judged += 1;
                Cell::Judged
            }
            Slot::Breaching | Slot::Fine => Cell::LeftOut,
        })
        .collect();
    cells.reverse();
    cells
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
fn premature(range: &[Slot], m: usize, treat: TreatMissingData, filled: usize) -> Judgement {
    let oldest = range.iter().position(|slot| *slot == Slot::Breaching).unwrap_or(range.len());
    let is_old = range.len() - oldest >= m;
    let rule = if is_old { Rule::OldBreach } else { Rule::YoungBreach };
    let state = match (treat, is_old) {
        (TreatMissingData::Missing, true) => Some(AlarmState::Alarm),
        (TreatMissingData::Missing, false) => Some(AlarmState::Ok),
        (TreatMissingData::Ignore | TreatMissingData::Breaching | TreatMissingData::NotBreaching, _) => None,
    };
    Judgement { state, rule, filled }
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
                    assert_eq!(judge(&slots(row), 3, m, treat).state, wanted, "M={m} `{row}` {treat:?}");
                }
            }
        }
    }

    #[test]
    fn a_young_breach_alone_does_not_fire() {
        assert_eq!(judge(&slots("- - - - X"), 3, 3, TreatMissingData::Missing).state, OK);
        assert_eq!(judge(&slots("- - - X -"), 3, 3, TreatMissingData::Missing).state, OK);
    }

    #[test]
    fn each_period_says_what_became_of_it() {
        use Cell::{Judged, LeftOut, Missing};
        assert_eq!(cells(&slots("0 X - X X"), 3), [LeftOut, Judged, Missing, Judged, Judged]);
        assert_eq!(cells(&slots("- - X - -"), 3), [Missing, Missing, Judged, Missing, Missing]);
        let filled = judge(&slots("0 - - - -"), 3, 3, TreatMissingData::Breaching);
        assert_eq!((filled.rule, filled.filled), (Rule::Filled, 2));
    }
}
