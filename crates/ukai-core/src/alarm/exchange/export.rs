//! Writes alarms for CloudWatch.
//!
//! As JSON: a list of inputs, one alarm each, of `aws cloudwatch put-metric-alarm --cli-input-json` and (where there is an
//! `AlarmRule`) of `put-composite-alarm`, in an order in which they can be put one after the other. As CloudFormation: see
//! [`template`](super::template).
//!
//! Two things have no place there. ukai's own actions (`ukai:…`) become the topic that was given; without one they are left
//! out of the JSON and become a parameter of the template. Observed alarms become the metric alarm that comes nearest, or
//! are left out; a composite that needs an alarm which is left out is left out with it.

use std::collections::BTreeSet;

use super::order::{children, children_first, name_of, needs};
use super::{Remark, Runner, runner, template};
use crate::alarm::counterpart;
use crate::alarm::definition::wire::Wire;
use crate::alarm::definition::{Definition, Kind};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    CloudFormation,
}

#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    pub format: Format,
    /// ARN of the topic that takes the place of ukai's own actions.
    pub topic: Option<&'a str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    pub text: String,
    /// What is different there, and what was left out.
    pub notes: Vec<Remark>,
}

/// What stands in a definition for ukai's own actions, until the template puts its parameter there.
pub(super) const TOPIC_PARAMETER: &str = "ukai:topic";

pub fn export(definitions: &[Definition], options: Options<'_>) -> Exported {
    let mut notes = Vec::new();
    let translated = definitions.iter().filter_map(|definition| translated(definition, &mut notes)).collect();
    let complete = without_orphans(translated, definitions, &mut notes);
    let mut ordered = children_first(complete);
    for definition in &mut ordered {
        replace_actions(definition, options, &mut notes);
    }
    let text = match options.format {
        Format::Json => json(ordered),
        Format::CloudFormation => template::template(ordered, &mut notes),
    };
    notes.sort();
    Exported { text, notes }
}

fn json(definitions: Vec<Definition>) -> String {
    let wires: Vec<Wire> = definitions.into_iter().map(Wire::from).collect();
    let mut text = serde_json::to_string_pretty(&wires).unwrap_or_default();
    text.push('\n');
    text
}

/// None where CloudWatch has nothing that comes near.
fn translated(definition: &Definition, notes: &mut Vec<Remark>) -> Option<Definition> {
    let Kind::Observed(observed) = &definition.kind else { return Some(definition.clone()) };
    match counterpart::kind(observed) {
        Some(kind) => {
            let what = match &kind {
                Kind::Composite(_) => {
                    "it is judged at each observation here; there it becomes a composite alarm over the peer's \
                     reachability, whose actions the controls suppress"
                }
                Kind::Metric(_) | Kind::Observed(_) => {
                    "it is judged at each observation here; there it becomes a metric alarm on what ukai publishes under \
                     Ukai/Peer, slower, and only as good as what is published there"
                }
            };
            notes.push(Remark::new(&definition.name, what));
            Some(Definition { kind, ..definition.clone() })
        }
        None => {
            notes.push(Remark::new(&definition.name, "left out: no metric says what this alarm observes"));
            None
        }
    }
}

/// Composites whose rule names what is left out go too, until none is left that does.
fn without_orphans(mut kept: Vec<Definition>, all: &[Definition], notes: &mut Vec<Remark>) -> Vec<Definition> {
    let given: BTreeSet<&str> = all.iter().map(|definition| definition.name.as_str()).collect();
    loop {
        let there: BTreeSet<String> = kept.iter().map(|definition| definition.name.clone()).collect();
        let left_out = |name: &str| given.contains(name) && !there.contains(name);
        let before = kept.len();
        kept.retain_mut(|definition| retain(definition, &left_out, notes));
        if kept.len() == before {
            break;
        }
    }
    let there: BTreeSet<String> = kept.iter().map(|definition| definition.name.clone()).collect();
    for definition in &kept {
        for name in needs(definition).into_iter().filter(|name| !there.contains(name)) {
            let what = format!("it names {name:?}, which is not exported with it and must be there already");
            notes.push(Remark::new(&definition.name, what));
        }
    }
    kept
}

fn retain(definition: &mut Definition, left_out: &dyn Fn(&str) -> bool, notes: &mut Vec<Remark>) -> bool {
    let Kind::Composite(composite) = &mut definition.kind else { return true };
    if let Some(name) = children(composite).into_iter().find(|name| left_out(name)) {
        notes.push(Remark::new(&definition.name, format!("left out: its rule names {name:?}, which is left out")));
        return false;
    }
    if let Some(suppressor) = composite.suppressor.take_if(|suppressor| left_out(&name_of(suppressor.alarm()))) {
        let what = format!("without its suppressor {:?}, which is left out", suppressor.alarm());
        notes.push(Remark::new(&definition.name, what));
    }
    true
}

fn replace_actions(definition: &mut Definition, options: Options<'_>, notes: &mut Vec<Remark>) {
    let topic = match (options.topic, options.format) {
        (Some(topic), _) => Some(topic),
        (None, Format::CloudFormation) => Some(TOPIC_PARAMETER),
        (None, Format::Json) => None,
    };
    let actions = &mut definition.actions;
    for list in [&mut actions.ok, &mut actions.alarm, &mut actions.insufficient_data] {
        let mut replaced: Vec<String> = Vec::new();
        for action in list.drain(..) {
            let action = match (runner(&action), topic) {
                (Runner::Ukai, Some(topic)) => topic.to_owned(),
                (Runner::Ukai, None) => {
                    let what = format!("its action {action} is left out: give a topic that takes its place");
                    notes.push(Remark::new(&definition.name, what));
                    continue;
                }
                (Runner::Both | Runner::Aws, _) => action,
            };
            if !replaced.contains(&action) {
                replaced.push(action);
            }
        }
        *list = replaced;
    }
}
