//! Composite alarms: the `AlarmRule` language, its value, and what made it change.
//!
//! A rule combines the states of other alarms: `ALARM(a) AND NOT ALARM("b")`. The composite is in `ALARM` when
//! the rule is true and in `OK` when it is not; `INSUFFICIENT_DATA` it has only between its creation and its first
//! evaluation. `parse` reads the text, `trigger` tells which child brought about a transition, `graph` keeps a set
//! of rules free of cycles.
//!
//! Our choices, where CloudWatch documents nothing:
//! - Precedence is NOT, then AND, then OR.
//! - A child that does not exist (any more) counts as `INSUFFICIENT_DATA`, and is named in the result. So a lost
//!   child never raises an alarm by `ALARM(x)`, and never holds one back by `AND NOT ALARM(x)`.
//! - A bare reference ends at white space, a parenthesis or a double quote. In a quoted one `\"` is a quote and `\\`
//!   a backslash; any other backslash stands for itself.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::AlarmState;

pub mod graph;
pub mod parse;
pub mod reference;
pub mod trigger;

#[cfg(test)]
mod tests;

pub use graph::{PutRuleError, check_put, find_cycle};
pub use parse::{RuleError, parse};
pub use reference::AlarmRef;
pub use trigger::{Change, ChildState, Transition, first_evaluation, transitions};

/// A rule. `parse` keeps it within CloudWatch's limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AlarmExpression {
    /// True when the alarm is in that state: `ALARM(ref)`, `OK(ref)`, `INSUFFICIENT_DATA(ref)`.
    State(AlarmState, AlarmRef),
    Constant(bool),
    Not(Box<AlarmExpression>),
    And(Vec<AlarmExpression>),
    Or(Vec<AlarmExpression>),
}

/// What a rule has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evaluated {
    pub is_true: bool,
    /// Children that do not exist; they counted as `INSUFFICIENT_DATA`.
    pub missing: BTreeSet<String>,
}

impl Evaluated {
    pub fn state(&self) -> AlarmState {
        if self.is_true { AlarmState::Alarm } else { AlarmState::Ok }
    }
}

impl AlarmExpression {
    pub fn parse(text: &str) -> Result<AlarmExpression, RuleError> {
        parse(text)
    }

    /// The names of the alarms it refers to.
    pub fn children(&self) -> BTreeSet<&str> {
        self.leaves().into_iter().map(|(_, reference)| reference.alarm_name()).collect()
    }

    /// The rule's value now; `state_of` is None for an alarm that does not exist.
    pub fn eval(&self, state_of: &dyn Fn(&str) -> Option<AlarmState>) -> Evaluated {
        let missing = self.children().into_iter().filter(|name| state_of(name).is_none()).map(str::to_owned).collect();
        Evaluated { is_true: self.holds(state_of), missing }
    }

    pub(crate) fn holds(&self, state_of: &dyn Fn(&str) -> Option<AlarmState>) -> bool {
        match self {
            AlarmExpression::State(state, reference) => {
                state_of(reference.alarm_name()).unwrap_or(AlarmState::InsufficientData) == *state
            }
            AlarmExpression::Constant(value) => *value,
            AlarmExpression::Not(inner) => !inner.holds(state_of),
            AlarmExpression::And(terms) => terms.iter().all(|term| term.holds(state_of)),
            AlarmExpression::Or(terms) => terms.iter().any(|term| term.holds(state_of)),
        }
    }

    /// Every state function, in the order of the text.
    pub(crate) fn leaves(&self) -> Vec<(AlarmState, &AlarmRef)> {
        let mut leaves = Vec::new();
        self.collect_leaves(&mut leaves);
        leaves
    }

    fn collect_leaves<'a>(&'a self, leaves: &mut Vec<(AlarmState, &'a AlarmRef)>) {
        match self {
            AlarmExpression::State(state, reference) => leaves.push((*state, reference)),
            AlarmExpression::Constant(_) => {}
            AlarmExpression::Not(inner) => inner.collect_leaves(leaves),
            AlarmExpression::And(terms) | AlarmExpression::Or(terms) => {
                terms.iter().for_each(|term| term.collect_leaves(leaves));
            }
        }
    }

    /// How tightly it binds; a term that binds less or equally is put in parentheses.
    fn strength(&self) -> u8 {
        match self {
            AlarmExpression::Or(_) => 0,
            AlarmExpression::And(_) => 1,
            AlarmExpression::Not(_) => 2,
            AlarmExpression::State(..) | AlarmExpression::Constant(_) => 3,
        }
    }
}

/// Writes the rule with the fewest parentheses that read back to the same expression.
impl fmt::Display for AlarmExpression {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AlarmExpression::State(state, reference) => write!(out, "{}({reference})", state.name()),
            AlarmExpression::Constant(true) => out.write_str("TRUE"),
            AlarmExpression::Constant(false) => out.write_str("FALSE"),
            AlarmExpression::Not(inner) => {
                out.write_str("NOT ")?;
                write_term(out, inner, inner.strength() < self.strength())
            }
            AlarmExpression::And(terms) => write_terms(out, self, terms, " AND "),
            AlarmExpression::Or(terms) => write_terms(out, self, terms, " OR "),
        }
    }
}

fn write_terms(
    out: &mut fmt::Formatter<'_>,
    parent: &AlarmExpression,
    terms: &[AlarmExpression],
    operator: &str,
) -> fmt::Result {
    for (place, term) in terms.iter().enumerate() {
        if place > 0 {
            out.write_str(operator)?;
        }
        write_term(out, term, term.strength() <= parent.strength())?;
    }
    Ok(())
}

fn write_term(out: &mut fmt::Formatter<'_>, term: &AlarmExpression, parenthesised: bool) -> fmt::Result {
    if parenthesised { write!(out, "({term})") } else { write!(out, "{term}") }
}

impl TryFrom<String> for AlarmExpression {
    type Error = RuleError;

    fn try_from(text: String) -> Result<AlarmExpression, RuleError> {
        parse::parse_stored(&text)
    }
}

impl From<AlarmExpression> for String {
    fn from(rule: AlarmExpression) -> String {
        rule.to_string()
    }
}
