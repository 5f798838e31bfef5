//! The documented table and examples, then what must hold for any sequence of inputs.

use proptest::prelude::*;

use super::AlarmState::{Alarm, InsufficientData, Ok};
use super::*;

const WAIT_S: i64 = 60;
const EXTENSION_S: i64 = 90;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn suppressor(name: &str) -> Option<Suppressor> {
    Suppressor::new(Some(name), Some(WAIT_S), Some(EXTENSION_S)).unwrap()
}

fn run(state: AlarmState) -> Decision {
    Decision::RunActions { state }
}

#[derive(Debug, Clone, Copy)]
enum Do {
    Composite(AlarmState),
    Suppressor(AlarmState),
    Advance,
}
use Do::{Advance, Composite, Suppressor as Parent};

/// Each step: when, what happens, what is done, and what suppresses after it.
type Step = (i64, Do, Decision, Option<SuppressedBy>);

fn play(name: &str, steps: &[Step]) {
    let mut suppression = Suppression::new(Ok, suppressor("parent"), Some(Ok));
    for (second, what, wanted, by) in steps {
        let decision = match what {
            Composite(to) => suppression.composite_changed(*to, at(*second)),
            Parent(state) => suppression.suppressor_changed(Some(*state), at(*second)),
            Advance => suppression.advance(at(*second)),
        };
        assert_eq!(decision, *wanted, "{name}: at {second}");
        assert_eq!(suppression.suppressed_by(), *by, "{name}: at {second}");
        assert_eq!(suppression.suppressed_reason().is_some(), by.is_some());
    }
    assert!(!suppression.is_pending(), "{name}: nothing is left behind");
}

const NOTHING: Decision = Decision::Nothing;
const BY_WAIT: Option<SuppressedBy> = Some(SuppressedBy::WaitPeriod);
const BY_EXTENSION: Option<SuppressedBy> = Some(SuppressedBy::ExtensionPeriod);
const BY_ALARM: Option<SuppressedBy> = Some(SuppressedBy::Alarm);

#[test]
fn actions_run_when_the_wait_is_over_and_the_suppressor_stayed_quiet() {
    play(
        "wait",
        &[
            (0, Composite(Alarm), NOTHING, BY_WAIT),
            (59, Advance, NOTHING, BY_WAIT),
            (60, Advance, run(Alarm), None),
            (61, Advance, NOTHING, None),
        ],
    );
}

#[test]
fn a_suppressor_that_alarms_during_the_wait_takes_over() {
    play(
        "wait dropped",
        &[
            (0, Composite(Alarm), NOTHING, BY_WAIT),
            (30, Parent(Alarm), NOTHING, BY_ALARM),
            (60, Advance, NOTHING, BY_ALARM),
            (500, Advance, NOTHING, BY_ALARM),
            (500, Parent(Ok), NOTHING, BY_EXTENSION),
            (589, Advance, NOTHING, BY_EXTENSION),
            (590, Advance, run(Alarm), None),
        ],
    );
}

#[test]
fn a_flip_during_the_wait_starts_a_new_one_for_the_new_state() {
    play(
        "flip in the wait",
        &[
            (0, Composite(Alarm), NOTHING, BY_WAIT),
            (40, Composite(Ok), NOTHING, BY_WAIT),
            (60, Advance, NOTHING, BY_WAIT),
            (100, Advance, run(Ok), None),
        ],
    );
}

#[test]
fn with_the_suppressor_in_alarm_there_is_no_wait() {
    play(
        "already in alarm",
        &[
            (0, Parent(Alarm), NOTHING, BY_ALARM),
            (10, Composite(Alarm), NOTHING, BY_ALARM),
            (70, Advance, NOTHING, BY_ALARM),
            (100, Parent(InsufficientData), NOTHING, BY_EXTENSION),
            (190, Advance, run(Alarm), None),
        ],
    );
}

#[test]
fn after_the_extension_the_actions_of_the_then_current_state_run() {
    play(
        "two changes under the suppressor",
        &[
            (0, Composite(Alarm), NOTHING, BY_WAIT),
            (60, Advance, run(Alarm), None),
            (70, Parent(Alarm), NOTHING, BY_ALARM),
            (80, Composite(Ok), NOTHING, BY_ALARM),
            (90, Composite(Alarm), NOTHING, BY_ALARM),
            (95, Composite(Ok), NOTHING, BY_ALARM),
            (100, Parent(Ok), NOTHING, BY_EXTENSION),
            (190, Advance, run(Ok), None),
        ],
    );
}

#[test]
fn a_change_during_the_extension_drops_it_and_waits() {
    play(
        "change in the extension",
        &[
            (0, Parent(Alarm), NOTHING, BY_ALARM),
            (10, Composite(Alarm), NOTHING, BY_ALARM),
            (20, Parent(Ok), NOTHING, BY_EXTENSION),
            (30, Composite(Ok), NOTHING, BY_WAIT),
            (89, Advance, NOTHING, BY_WAIT),
            (90, Advance, run(Ok), None),
            (110, Advance, NOTHING, None),
        ],
    );
}

#[test]
fn a_suppressor_that_returns_during_the_extension_suppresses_again() {
    play(
        "suppressor flaps",
        &[
            (0, Parent(Alarm), NOTHING, BY_ALARM),
            (10, Composite(Alarm), NOTHING, BY_ALARM),
            (20, Parent(Ok), NOTHING, BY_EXTENSION),
            (30, Parent(Alarm), NOTHING, BY_ALARM),
            (200, Advance, NOTHING, BY_ALARM),
            (200, Parent(Ok), NOTHING, BY_EXTENSION),
            (290, Advance, run(Alarm), None),
        ],
    );
}

#[test]
fn actions_that_have_run_do_not_run_again_after_an_extension() {
    play(
        "nothing pending",
        &[
            (0, Composite(Alarm), NOTHING, BY_WAIT),
            (60, Advance, run(Alarm), None),
            (70, Parent(Alarm), NOTHING, BY_ALARM),
            (80, Parent(Ok), NOTHING, BY_EXTENSION),
            (90, Composite(Alarm), NOTHING, BY_EXTENSION),
            (170, Advance, NOTHING, None),
        ],
    );
}

#[test]
fn another_suppressor_drops_the_running_period_but_not_the_transition() {
    let mut suppression = Suppression::new(Ok, suppressor("one"), Some(Ok));
    assert_eq!(suppression.composite_changed(Alarm, at(0)), NOTHING);
    assert_eq!(suppression.put_suppressor(suppressor("two"), Some(Ok), at(30)), NOTHING);
    assert_eq!(suppression.next_due(), Some(at(90)));
    assert_eq!(suppression.advance(at(60)), NOTHING);
    assert_eq!(suppression.put_suppressor(suppressor("three"), Some(Alarm), at(80)), NOTHING);
    assert_eq!((suppression.suppressed_by(), suppression.next_due()), (BY_ALARM, None));
    assert_eq!(suppression.put_suppressor(suppressor("four"), None, at(85)), NOTHING);
    assert_eq!(suppression.suppressed_by(), BY_WAIT, "no extension for a suppressor that is gone");
    assert_eq!(suppression.put_suppressor(None, None, at(90)), run(Alarm));
    assert_eq!(suppression.suppressed_by(), None);
}

#[test]
fn new_periods_for_the_same_suppressor_leave_a_running_one_as_it_is() {
    let mut suppression = Suppression::new(Ok, suppressor("one"), Some(Ok));
    assert_eq!(suppression.composite_changed(Alarm, at(0)), NOTHING);
    let longer = Suppressor::new(Some("one"), Some(500), Some(500)).unwrap();
    assert_eq!(suppression.put_suppressor(longer, Some(Ok), at(30)), NOTHING);
    assert_eq!(suppression.advance(at(60)), run(Alarm));
    assert_eq!(suppression.composite_changed(Ok, at(70)), NOTHING);
    assert_eq!(suppression.next_due(), Some(at(570)));
}

#[test]
fn without_a_suppressor_or_a_wait_actions_run_at_once() {
    let mut alone = Suppression::new(InsufficientData, None, None);
    assert_eq!(alone.composite_changed(Ok, at(0)), run(Ok));
    assert_eq!(alone.suppressor_changed(Some(Alarm), at(1)), NOTHING);
    assert_eq!(alone.composite_changed(Alarm, at(1)), run(Alarm));
    let no_wait = Suppressor::new(Some("parent"), Some(0), Some(0)).unwrap();
    let mut quick = Suppression::new(Ok, no_wait, Some(Alarm));
    assert_eq!(quick.composite_changed(Alarm, at(0)), NOTHING);
    assert_eq!(quick.suppressor_changed(None, at(1)), run(Alarm));
    assert_eq!(quick.composite_changed(Ok, at(2)), run(Ok));
}

#[test]
fn a_period_that_ended_unseen_is_judged_with_what_came_next() {
    let mut suppression = Suppression::new(Ok, suppressor("parent"), Some(Ok));
    assert_eq!(suppression.composite_changed(Alarm, at(0)), NOTHING);
    let mut other = suppression.clone();
    assert_eq!(suppression.suppressor_changed(Some(Alarm), at(75)), NOTHING);
    assert_eq!(other.composite_changed(Ok, at(75)), NOTHING);
    assert_eq!(other.advance(at(135)), run(Ok));
}

#[test]
fn a_suppressor_needs_both_periods_and_periods_need_a_suppressor() {
    assert_eq!(Suppressor::new(None, None, None), Result::Ok(None));
    assert_eq!(Suppressor::new(Some("a"), None, Some(1)), Err(SuppressorError::PeriodMissing(WAIT)));
    assert_eq!(Suppressor::new(Some("a"), Some(1), None), Err(SuppressorError::PeriodMissing(EXTENSION)));
    assert_eq!(Suppressor::new(None, None, Some(1)), Err(SuppressorError::SuppressorMissing(EXTENSION)));
    assert_eq!(Suppressor::new(None, Some(1), Some(1)), Err(SuppressorError::SuppressorMissing(WAIT)));
    assert_eq!(Suppressor::new(Some(""), Some(1), Some(1)), Err(SuppressorError::EmptySuppressor));
    for value in [-1, MAX_PERIOD_S + 1, i64::MAX] {
        let wanted = SuppressorError::PeriodOutOfRange { name: WAIT, value };
        assert_eq!(Suppressor::new(Some("a"), Some(value), Some(1)), Err(wanted));
    }
}

#[derive(Debug, Clone)]
enum Input {
    Composite(AlarmState),
    Suppressor(Option<AlarmState>),
    Put(Option<Suppressor>, Option<AlarmState>),
    Wait,
}

fn any_state() -> impl Strategy<Value = AlarmState> {
    prop_oneof![Just(Ok), Just(Alarm), Just(InsufficientData)]
}

fn any_suppressor() -> impl Strategy<Value = Option<Suppressor>> {
    prop::option::of((0..2, 0i64..40, 0i64..40).prop_map(|(name, wait, extension)| {
        Suppressor::new(Some(if name == 0 { "one" } else { "two" }), Some(wait), Some(extension)).unwrap().unwrap()
    }))
}

fn any_input() -> impl Strategy<Value = (i64, Input)> {
    let input = prop_oneof![
        4 => any_state().prop_map(Input::Composite),
        3 => prop::option::of(any_state()).prop_map(Input::Suppressor),
        1 => (any_suppressor(), prop::option::of(any_state())).prop_map(|(one, state)| Input::Put(one, state)),
        3 => Just(Input::Wait),
    ];
    (0i64..50, input)
}

/// Follows a suppression from outside and holds it to its promises.
struct Witness {
    suppression: Suppression,
    state: AlarmState,
    suppressor_in_alarm: bool,
    transitions: usize,
    last_run_transition: usize,
    last_run_state: AlarmState,
}

impl Witness {
    fn apply(&mut self, now: i64, input: &Input) -> Decision {
        match input {
            Input::Composite(to) => {
                self.transitions += usize::from(*to != self.state);
                self.state = *to;
                self.suppression.composite_changed(*to, at(now))
            }
            Input::Suppressor(state) => {
                self.suppressor_in_alarm = self.suppression.suppressor().is_some() && *state == Some(Alarm);
                self.suppression.suppressor_changed(*state, at(now))
            }
            Input::Put(suppressor, state) => {
                self.suppressor_in_alarm = suppressor.is_some() && *state == Some(Alarm);
                self.suppression.put_suppressor(suppressor.clone(), *state, at(now))
            }
            Input::Wait => self.suppression.advance(at(now)),
        }
    }

    fn check(&mut self, decision: Decision) -> Result<(), TestCaseError> {
        let by = self.suppression.suppressed_by();
        prop_assert_eq!(by == Some(SuppressedBy::Alarm), self.suppressor_in_alarm);
        prop_assert_eq!(self.suppression.next_due().is_some(), matches!(by, BY_WAIT | BY_EXTENSION));
        if let Decision::RunActions { state } = decision {
            prop_assert_eq!(state, self.state, "only for the current state");
            prop_assert!(!self.suppressor_in_alarm, "never while the suppressor is in ALARM");
            prop_assert!(self.last_run_transition < self.transitions, "at most once for a transition");
            self.last_run_transition = self.transitions;
            self.last_run_state = state;
        }
        if by.is_none() {
            prop_assert_eq!(self.last_run_transition, self.transitions, "nothing is held back without a reason");
            prop_assert!(self.last_run_state == self.state, "the current state has been told");
        }
        Result::Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn whatever_happens_the_promises_hold(first in any_suppressor(), inputs in prop::collection::vec(any_input(), 0..60)) {
        let mut witness = Witness {
            suppression: Suppression::new(Ok, first, Some(Ok)),
            state: Ok,
            suppressor_in_alarm: false,
            transitions: 0,
            last_run_transition: 0,
            last_run_state: Ok,
        };
        let mut now = 0;
        for (later, input) in &inputs {
            now += later;
            let decision = witness.apply(now, input);
            witness.check(decision)?;
            let json = serde_json::to_string(&witness.suppression).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Suppression>(&json).unwrap(), &witness.suppression);
        }
        // Once the suppressor is quiet, the end of its periods tells the current state.
        let decision = witness.apply(now, &Input::Suppressor(None));
        witness.check(decision)?;
        if let Some(due) = witness.suppression.next_due() {
            let decision = witness.suppression.advance(due);
            witness.check(decision)?;
        }
        prop_assert_eq!(witness.suppression.suppressed_by(), None);
        prop_assert_eq!(witness.last_run_state, witness.state);
    }
}
