//! What makes a composite change, and which children brought it about.
//!
//! A composite is evaluated when a child changes state. If the rule's value differs from the composite's state, it
//! transitions, and the child whose change it was is the *triggering* one, into `ALARM` and back into `OK` alike. A
//! change that leaves the value as it is triggers nothing, and what was told before stays.
//!
//! Our choices: changes with one time stamp are one step, and then every child of the step that made a function of the
//! rule change its value is a triggering one, in the order of the rule. At a put nothing has changed, so there the
//! children are told whose present states make the rule what it is.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{AlarmExpression, AlarmState};
use crate::alarm::reason::TriggeringChild;

/// An alarm that is or may be a child, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildState {
    pub arn: String,
    pub state: AlarmState,
    /// Since when.
    pub timestamp: Timestamp,
}

/// A child's change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub alarm_name: String,
    pub arn: String,
    pub to: AlarmState,
    pub at: Timestamp,
}

/// The composite's own change of state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    pub from: AlarmState,
    pub to: AlarmState,
    pub at: Timestamp,
    pub triggering: Vec<TriggeringChild>,
}

/// Every transition of a composite in `state` as its children change from `before`, oldest change first.
pub fn transitions(
    rule: &AlarmExpression,
    state: AlarmState,
    before: &dyn Fn(&str) -> Option<AlarmState>,
    changes: &[Change],
) -> Vec<Transition> {
    let children = rule.children();
    let mut changes: Vec<&Change> = changes.iter().filter(|change| children.contains(&*change.alarm_name)).collect();
    changes.sort_by_key(|change| change.at);
    let mut states: BTreeMap<String, AlarmState> =
        children.into_iter().filter_map(|name| Some((name.to_owned(), before(name)?))).collect();
    let mut composite = state;
    let mut transitions = Vec::new();
    for step in changes.chunk_by(|one, next| one.at == next.at) {
        let old = states.clone();
        states.extend(step.iter().map(|change| (change.alarm_name.clone(), change.to)));
        let to = rule.eval(&|name| states.get(name).copied()).state();
        if to != composite {
            let triggering = triggering(rule, step, &old, &states);
            transitions.push(Transition { from: composite, to, at: step[0].at, triggering });
            composite = to;
        }
    }
    transitions
}

/// The transition that a put brings about, if any: of a new composite from `INSUFFICIENT_DATA`, or of an updated one.
pub fn first_evaluation(
    rule: &AlarmExpression,
    state: AlarmState,
    children: &BTreeMap<String, ChildState>,
    now: Timestamp,
) -> Option<Transition> {
    let state_of = |name: &str| children.get(name).map(|child| child.state);
    let evaluated = rule.eval(&state_of);
    if evaluated.state() == state {
        return None;
    }
    let mut names = Vec::new();
    supporting(rule, evaluated.is_true, &state_of, &mut names);
    let triggering = distinct(names).filter_map(|name| children.get(name)).map(|child| TriggeringChild {
        arn: child.arn.clone(),
        state: child.state,
        at: child.timestamp,
    });
    Some(Transition { from: state, to: evaluated.state(), at: now, triggering: triggering.collect() })
}

fn triggering(
    rule: &AlarmExpression,
    step: &[&Change],
    old: &BTreeMap<String, AlarmState>,
    new: &BTreeMap<String, AlarmState>,
) -> Vec<TriggeringChild> {
    let held = |states: &BTreeMap<String, AlarmState>, name: &str, wanted: AlarmState| {
        states.get(name).copied().unwrap_or(AlarmState::InsufficientData) == wanted
    };
    let changed = rule.leaves().into_iter().filter_map(|(wanted, reference)| {
        let name = reference.alarm_name();
        (held(old, name, wanted) != held(new, name, wanted)).then_some(name)
    });
    let mut children: Vec<&Change> = distinct(changed.collect()).filter_map(|name| last_change(step, name)).collect();
    if children.is_empty() {
        // The composite was set by hand and snaps back: the rule's value had not changed.
        children = distinct(step.iter().map(|change| &*change.alarm_name).collect())
            .filter_map(|name| last_change(step, name))
            .collect();
    }
    let told =
        children.into_iter().map(|change| TriggeringChild { arn: change.arn.clone(), state: change.to, at: change.at });
    told.collect()
}

fn last_change<'a>(step: &[&'a Change], name: &str) -> Option<&'a Change> {
    step.iter().rev().find(|change| change.alarm_name == name).copied()
}

/// The children whose states make the expression have the value it has.
fn supporting<'a>(
    rule: &'a AlarmExpression,
    value: bool,
    state_of: &dyn Fn(&str) -> Option<AlarmState>,
    names: &mut Vec<&'a str>,
) {
    match rule {
        AlarmExpression::State(_, reference) => names.push(reference.alarm_name()),
        AlarmExpression::Constant(_) => {}
        AlarmExpression::Not(inner) => supporting(inner, !value, state_of, names),
        AlarmExpression::And(terms) | AlarmExpression::Or(terms) => {
            for term in terms.iter().filter(|term| term.holds(state_of) == value) {
                supporting(term, value, state_of, names);
            }
        }
    }
}

fn distinct(names: Vec<&str>) -> impl Iterator<Item = &str> {
    let mut seen = std::collections::BTreeSet::new();
    names.into_iter().filter(move |name| seen.insert(*name))
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_691_153_686 + second).unwrap()
    }

    fn arn(name: &str) -> String {
        format!("arn:aws:cloudwatch:us-east-1:111111111111:alarm:{name}")
    }

    fn change(name: &str, to: AlarmState, second: i64) -> Change {
        Change { alarm_name: name.into(), arn: arn(name), to, at: at(second) }
    }

    /// What the recording asserts after each of its steps: the composite's state, and its triggering child.
    #[test]
    fn the_recorded_transitions() {
        use AlarmState::{Alarm, Ok};
        let rule = parse(&format!("ALARM(\"{}\") OR ALARM(\"{}\")", arn("simple-1"), arn("simple-2"))).unwrap();
        let steps = [
            ("simple-1", Alarm, Alarm, "simple-1"),
            ("simple-1", Ok, Ok, "simple-1"),
            ("simple-2", Alarm, Alarm, "simple-2"),
            ("simple-2", Ok, Ok, "simple-2"),
            ("simple-1", Alarm, Alarm, "simple-1"),
            ("simple-2", Alarm, Alarm, "simple-1"),
        ];
        let mut children = BTreeMap::from([("simple-1", Ok), ("simple-2", Ok)]);
        let (mut state, mut told) = (Ok, Vec::new());
        for (second, (name, to, composite, triggered_by)) in (0..).zip(steps) {
            for transition in
                transitions(&rule, state, &|name| children.get(name).copied(), &[change(name, to, second)])
            {
                assert_eq!(transition.from, state);
                state = transition.to;
                told = transition.triggering;
            }
            children.insert(name, to);
            assert_eq!(state, composite, "step {second}");
            assert_eq!(told.len(), 1, "step {second}");
            assert_eq!((&*told[0].arn, told[0].state), (&*arn(triggered_by), composite), "step {second}");
        }
    }

    #[test]
    fn the_last_child_of_an_and_triggers_it() {
        let rule = parse("ALARM(a) AND ALARM(b)").unwrap();
        let changes = [change("b", AlarmState::Alarm, 5), change("a", AlarmState::Alarm, 1)];
        let found = transitions(&rule, AlarmState::Ok, &|_| Some(AlarmState::Ok), &changes);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].triggering.iter().map(|child| &*child.arn).collect::<Vec<_>>(), [arn("b")]);
        assert_eq!(found[0].at, at(5));
    }

    #[test]
    fn a_flap_within_one_batch_is_two_transitions() {
        let rule = parse("ALARM(a)").unwrap();
        let changes =
            [change("a", AlarmState::Alarm, 1), change("other", AlarmState::Alarm, 1), change("a", AlarmState::Ok, 2)];
        let found = transitions(&rule, AlarmState::Ok, &|_| Some(AlarmState::Ok), &changes);
        assert_eq!(found.iter().map(|one| one.to).collect::<Vec<_>>(), [AlarmState::Alarm, AlarmState::Ok]);
    }

    #[test]
    fn children_that_change_together_trigger_together_in_the_order_of_the_rule() {
        let rule = parse("OK(c) OR ALARM(b) OR ALARM(a)").unwrap();
        let changes = [
            change("a", AlarmState::Alarm, 1),
            change("b", AlarmState::Alarm, 1),
            change("c", AlarmState::InsufficientData, 1),
        ];
        let found = transitions(&rule, AlarmState::Ok, &|_| Some(AlarmState::Alarm).filter(|_| false), &changes);
        assert_eq!(found[0].triggering.iter().map(|child| &*child.arn).collect::<Vec<_>>(), [arn("b"), arn("a")]);
    }

    #[test]
    fn a_composite_set_by_hand_snaps_back_when_a_child_changes() {
        let rule = parse("ALARM(a) OR ALARM(b)").unwrap();
        let found = transitions(
            &rule,
            AlarmState::Alarm,
            &|_| Some(AlarmState::Ok),
            &[change("b", AlarmState::InsufficientData, 3)],
        );
        assert_eq!((found[0].from, found[0].to), (AlarmState::Alarm, AlarmState::Ok));
        assert_eq!(found[0].triggering[0].arn, arn("b"));
    }

    #[test]
    fn a_new_composite_leaves_insufficient_data_at_its_first_evaluation() {
        let child = |name: &str, state| (name.to_owned(), ChildState { arn: arn(name), state, timestamp: at(-9) });
        let children =
            BTreeMap::from([child("a", AlarmState::Alarm), child("b", AlarmState::Ok), child("c", AlarmState::Ok)]);
        let rule = parse("(ALARM(b) OR ALARM(a)) AND NOT ALARM(c)").unwrap();
        let found = first_evaluation(&rule, AlarmState::InsufficientData, &children, at(0)).unwrap();
        assert_eq!((found.from, found.to, found.at), (AlarmState::InsufficientData, AlarmState::Alarm, at(0)));
        assert_eq!(found.triggering.iter().map(|child| &*child.arn).collect::<Vec<_>>(), [arn("a"), arn("c")]);
        assert_eq!(found.triggering[0].at, at(-9));
        assert_eq!(first_evaluation(&rule, AlarmState::Alarm, &children, at(0)), None);
        let neither = parse("NOT (ALARM(c) OR ALARM(b) AND ALARM(a))").unwrap();
        let found = first_evaluation(&neither, AlarmState::Ok, &children, at(0)).unwrap();
        assert_eq!(found.triggering.iter().map(|child| &*child.arn).collect::<Vec<_>>(), [arn("c"), arn("b")]);
        let always = first_evaluation(&parse("TRUE").unwrap(), AlarmState::Ok, &children, at(0)).unwrap();
        assert!(always.triggering.is_empty());
    }
}
