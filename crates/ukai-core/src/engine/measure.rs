//! What is measured: every round puts metrics, and so does whoever sends data from outside.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::SignedDuration;

use super::{Engine, Turn};
use crate::diagnose::evidence::Source;
use crate::diagnose::history::History;
use crate::event::Event;
use crate::metric::Datum;
use crate::metric::of_probe::{Known, Round, of_round};
use crate::observe::Observation;

/// History shorter than this does not know yet which addresses are normal.
const NORMAL_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// What could not be put is said in the log at most this often; the counts go on.
const REFUSED_TOLD_EVERY: SignedDuration = SignedDuration::from_mins(15);

/// Our own sources: what comes from outside is counted apart.
const PROBES: &str = "probes";
pub(super) const CONTROLS: &str = "controls";

impl Engine {
    /// Before the round is taken in: what it changes is measured against what was known until now.
    pub(super) fn measure(&mut self, turn: &mut Turn, peer: &str, observations: &[Observation]) {
        let overridden = self.state.live_override(peer).is_some_and(|over| over.phase.may_stand());
        let Some(state) = self.state.peers.get(peer) else { return };
        let is_steered = self.live.peers.get(peer).and_then(|live| live.steered) != Some(false);
        let young = state.history.since.is_none_or(|since| turn.now.duration_since(since) < NORMAL_AFTER);
        let seen = if young || is_steered { BTreeSet::new() } else { seen(&state.history) };
        let authority = authority(&state.history).filter(|_| !is_steered);
        let known = Known { before: &state.normal_set, seen: &seen, authority };
        let round = Round {
            peer,
            vantage: &self.settings.vantage,
            at: turn.now,
            observations,
            known: (!overridden).then_some(known),
        };
        self.put_all(turn, PROBES, of_round(&round));
    }

    /// Every datum that can be taken is; the rest is counted, and said now and then.
    pub(super) fn put_all(&mut self, turn: &mut Turn, source: &str, data: Vec<Datum>) {
        let mut refused = None;
        for datum in data {
            match self.metrics.put(turn.now, datum) {
                Ok(()) if source == PROBES || source == CONTROLS => {}
                Ok(()) => self.live.data_received += 1,
                Err(error) => {
                    self.live.data_refused += 1;
                    refused = Some(error);
                }
            }
        }
        let Some(error) = refused else { return };
        let told_lately = self.live.refused_told_at.is_some_and(|at| turn.now.duration_since(at) < REFUSED_TOLD_EVERY);
        if !told_lately {
            self.live.refused_told_at = Some(turn.now);
            let what = format!("data from {source} was refused ({} so far): {error}", self.live.data_refused);
            self.record(turn, Event::Troubled { what });
        }
    }
}

/// Every address that the name was seen to lead to, whoever said so.
fn seen(history: &History) -> BTreeSet<IpAddr> {
    history.answers.iter().flat_map(|answer| answer.addresses.iter().copied()).collect()
}

/// What the peer's name servers last agreed on, where our resolver was once seen to agree with them: elsewhere they may
/// answer by who asks.
fn authority(history: &History) -> Option<&BTreeSet<IpAddr>> {
    let of = |source: Source| history.answers.iter().filter(move |answer| answer.source == source);
    let agreed = of(Source::OurResolver)
        .any(|ours| of(Source::Authority).any(|theirs| !ours.addresses.is_disjoint(&theirs.addresses)));
    history.authority_answer().filter(|_| agreed).map(|answer| &answer.addresses)
}
