//! What happened and when, as it may leave the house: who decided, and why, stays at home.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use ukai_core::event::{Actor, Event, Origin, Recorded};
use ukai_core::state::override_id;

use super::names::Names;
use super::redact::{Redactor, WITHHELD, watched};
use crate::report::Report;

/// The daemon's usual user; it names nobody.
const OURSELVES: &str = "ukai";

/// One line for each moment, in UTC.
pub fn text(report: &Report, redactor: &mut Redactor, names: &Names) -> String {
    let mut text = String::new();
    for row in &report.timeline {
        // What persons wrote is found only as they wrote it.
        let told = redactor.text(&names.hide(&row.text));
        let _ = writeln!(text, "{} UTC  {told}", row.at.strftime("%Y-%m-%d %H:%M:%S%.3f"));
    }
    if report.timeline_cut > 0 {
        redactor.note(format!("{} later lines of the time line: left out, for it is long", report.timeline_cut));
    }
    text
}

/// The events of one incident that concern whoever reads it, without persons.
pub fn events(records: &[Recorded], incident: &str, peer: &str, redactor: &mut Redactor) -> (Vec<Recorded>, Names) {
    let mut teller = Teller::new(records, incident, peer);
    let kept = records.iter().filter_map(|record| Some(Recorded { at: record.at, event: teller.told(&record.event)? }));
    let kept = kept.collect();
    let Teller { people, alarms, services, is_why_left_out, names, .. } = teller;
    for (count, what) in [
        (people.len(), "people who decided: replaced by person-1 and so on"),
        (services, "other services that are watched: replaced by service-1 and so on in the time line"),
        (alarms, "alarms of our own making: replaced by alarm-1 and so on in the time line"),
    ] {
        if count > 0 {
            redactor.note(format!("{count} {what}"));
        }
    }
    if is_why_left_out {
        redactor.note("the reasons that people gave: left out");
    }
    redactor.note("whom we told, and what troubled ukai itself: left out of the time line");
    (kept, names)
}

struct Teller<'a> {
    incident: &'a str,
    peer: &'a str,
    overrides: BTreeSet<&'a str>,
    people: BTreeMap<&'a Actor, String>,
    services: usize,
    alarms: usize,
    is_why_left_out: bool,
    names: Names,
}

impl<'a> Teller<'a> {
    fn new(records: &'a [Recorded], incident: &'a str, peer: &'a str) -> Teller<'a> {
        let proposed = records.iter().filter_map(|record| match &record.event {
            Event::OverrideProposed { id, incident: of, .. } if of == incident => Some(id.as_str()),
            _ => None,
        });
        let mut names = Names::default();
        let others: BTreeSet<&str> =
            records.iter().filter_map(|record| watched(&record.event)).map(|(name, _)| name).collect();
        let others: Vec<&str> = others.into_iter().filter(|name| *name != peer).collect();
        for (number, name) in (1..).zip(&others) {
            names.add(name, format!("service-{number}"));
        }
        let alarms: BTreeSet<&str> = records.iter().filter_map(|record| own_alarm(&record.event)).collect();
        for (number, name) in (1..).zip(&alarms) {
            names.add(name, format!("alarm-{number}"));
        }
        let persons: BTreeSet<&Actor> =
            records.iter().filter_map(|record| by_person(&record.event)).map(|(by, _)| by).collect();
        let mut people = BTreeMap::new();
        for (number, actor) in (1..).zip(persons) {
            let stand_in = format!("person-{number}");
            if actor.name != OURSELVES {
                names.add(&actor.name, stand_in.clone());
            }
            people.insert(actor, stand_in);
        }
        // Other events repeat them.
        for (_, written) in records.iter().filter_map(|record| by_person(&record.event)) {
            names.add(written, WITHHELD.to_owned());
        }
        Teller {
            incident,
            peer,
            overrides: proposed.collect(),
            people,
            services: others.len(),
            alarms: alarms.len(),
            is_why_left_out: false,
            names,
        }
    }

    fn told(&mut self, event: &Event) -> Option<Event> {
        let belongs = match event {
            Event::PeerWatched { peer, .. }
            | Event::AddressSetChanged { peer, .. }
            | Event::AlarmChanged { peer, .. } => peer == self.peer,
            Event::IncidentOpened { incident, .. }
            | Event::IncidentReopened { incident, .. }
            | Event::IncidentWorsened { incident, .. }
            | Event::FailureBroke { incident }
            | Event::IncidentPaged { incident, .. }
            | Event::IncidentClosed { incident, .. }
            | Event::OverrideRefused { incident, .. }
            | Event::OverrideProposed { incident, .. } => incident == self.incident,
            Event::EvidenceGathered { incident, .. } | Event::Diagnosed { incident, .. } => {
                incident.as_deref() == Some(self.incident)
            }
            // The rest is of overrides, or nobody else's business.
            _ => override_id(event).is_some_and(|id| self.overrides.contains(id)),
        };
        belongs.then(|| self.without_persons(event.clone()))
    }

    fn without_persons(&mut self, mut event: Event) -> Event {
        match &mut event {
            Event::OverrideApproved { by, why, .. }
            | Event::OverrideRejected { by, why, .. }
            | Event::LeaseExtended { by, why, .. }
            | Event::WithdrawStarted { by, why, .. } => {
                if let Some(stand_in) = self.people.get(by) {
                    *by = Actor { uid: None, name: stand_in.clone(), via: by.via.clone() };
                    self.is_why_left_out |= !why.is_empty();
                    why.clear();
                }
            }
            Event::AlarmChanged { by, reason, .. } if by.is_some() => {
                self.is_why_left_out = true;
                *by = None;
                *reason = "it was set by hand".to_owned();
            }
            _ => {}
        }
        event
    }
}

/// Who did it, if it was a person, and what he wrote about it.
fn by_person(event: &Event) -> Option<(&Actor, &str)> {
    let (by, written) = match event {
        Event::HistoryImported { by, .. }
        | Event::AlarmPut { by, .. }
        | Event::AlarmDeleted { by, .. }
        | Event::AlarmActionsSet { by, .. }
        | Event::MuteRulePut { by, .. }
        | Event::MuteRuleDeleted { by, .. } => (by, ""),
        Event::PinRequested { by, why, .. }
        | Event::OverrideApproved { by, why, .. }
        | Event::OverrideRejected { by, why, .. }
        | Event::LeaseExtended { by, why, .. }
        | Event::WithdrawStarted { by, why, .. }
        | Event::Frozen { by, why, .. }
        | Event::Thawed { by, why, .. } => (by, why.as_str()),
        Event::AlarmChanged { by, reason, .. } => (by.as_ref()?, reason.as_str()),
        _ => return None,
    };
    (by.via != "policy").then_some((by, written))
}

fn own_alarm(event: &Event) -> Option<&str> {
    match event {
        Event::AlarmPut { definition, origin: Origin::Operator, .. } => Some(&definition.name),
        _ => None,
    }
}
