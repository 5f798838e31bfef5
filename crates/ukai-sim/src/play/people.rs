//! What people do, as the scenario says.

use ukai_core::event::{Actor, Event};
use ukai_core::input::Command;
use ukai_lab::scenario::{Deed, Moment, Operator, Person};

use super::timeline::ms;
use super::{Due, Play};
use crate::world::Ms;

/// What people do on an occasion; an override that is proposed over and over is not approved for ever.
const DEEDS_MAX: usize = 20;
/// A person who finds no daemon tries again for a while.
const TRIES: u32 = 8;
const PAUSE_MS: Ms = 1_000;

pub fn actor(who: Person) -> Actor {
    let (uid, name) = match who {
        Person::A => (1_000, "a"),
        Person::B => (65_534, "b"),
    };
    Actor { uid: Some(uid), name: name.to_owned(), via: "cli".to_owned() }
}

impl Play<'_> {
    /// Plans what people do on an occasion.
    pub(super) fn on(&mut self, place: usize, moment: Moment, over: Option<&str>) {
        let operators = self.worlds[place].scenario.operators.clone();
        for operator in operators.into_iter().filter(|operator| operator.on == moment) {
            if self.deeds == DEEDS_MAX {
                return;
            }
            self.deeds += 1;
            let due = Due::Deed { place, operator, over: over.map(str::to_owned), tries: 0 };
            self.queue.push(self.now + ms(operator.wait), due);
        }
    }

    pub(super) fn act(&mut self, place: usize, operator: Operator, over: Option<String>, tries: u32) {
        let Some(engine) = &self.engine else {
            if tries < TRIES {
                self.queue.push(self.now + PAUSE_MS, Due::Deed { place, operator, over, tries: tries + 1 });
            }
            return;
        };
        let over = over.or_else(|| self.last_proposed(place));
        let why = "drill".to_owned();
        let command = match (operator.does, over) {
            (Deed::Approve, Some(id)) => {
                let Some(hash) = engine.state().overrides.get(&id).map(|over| over.hash.clone()) else { return };
                Command::Approve { id, hash, why }
            }
            (Deed::Reject, Some(id)) => Command::Reject { id, why },
            (Deed::Revert, Some(id)) => Command::Revert { id, why },
            (Deed::Freeze, _) => Command::Freeze { why },
            (Deed::Nothing, _) | (_, None) => return,
        };
        self.command(command, operator.who);
    }

    fn last_proposed(&self, place: usize) -> Option<String> {
        self.seen[place].all().rev().find_map(|(_, event)| match event {
            Event::OverrideProposed { id, .. } => Some(id.clone()),
            _ => None,
        })
    }
}
