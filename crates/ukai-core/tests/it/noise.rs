//! Thirty days of noise, and nobody is woken: lost probes, blips of deployments, minutes that fail or flap.
//!
//! Every probe is answered by the noise of that virtual moment: what is whole or refused at once, what times out three
//! seconds later, so that probes overlap as they do outside.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use ukai_core::diagnose::evidence::Purpose;
use ukai_core::effect::Effect;
use ukai_core::engine::{Engine, Step};
use ukai_core::event::Event;
use ukai_core::input::{Command, Input};
use ukai_core::observe::{ErrorClass, Observation, Path, Stage};

use crate::world::*;

const DAY_S: i64 = 86_400;
const SLOT_S: i64 = 1800;
const TIME_OUT_S: i64 = 3;

/// Marsaglia's xorshift64: the same noise every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: i64) -> i64 {
        (self.next() >> 11) as i64 % bound
    }

    fn percent(&mut self, share: i64) -> bool {
        self.below(100) < share
    }
}

/// Something that goes wrong for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// One round and a probe or two of its burst fail.
    Round,
    /// 40 % of a minute's probes are lost.
    Minute,
    /// A deployment: refused for so many seconds.
    Blip,
    /// Five seconds down, five seconds up, for a minute.
    Flapping,
    Outage,
}

struct Noise {
    random: Random,
    lost_percent: i64,
    /// By its start: what is wrong, and for how many milliseconds.
    troubles: BTreeMap<Timestamp, (Trouble, i64)>,
}

impl Noise {
    /// Each half hour has at most one trouble; a day has all of them, several times.
    fn new(seed: u64, days: i64) -> Noise {
        let mut random = Random(seed);
        let mut troubles = BTreeMap::new();
        for slot in 1..days * DAY_S / SLOT_S {
            let trouble = match random.below(12) {
                0 => (Trouble::Round, 50 + random.below(350)),
                1 => (Trouble::Minute, 60_000),
                2 | 3 => (Trouble::Blip, 1000 + random.below(7001)),
                4 => (Trouble::Flapping, 60_000),
                _ => continue,
            };
            let at_ms = slot * SLOT_S * 1000 + random.below(SLOT_S * 900);
            troubles.insert(start() + SignedDuration::from_millis(at_ms), trouble);
        }
        Noise { random, lost_percent: 1, troubles }
    }

    fn failure(&mut self, now: Timestamp) -> Option<ErrorClass> {
        let trouble = self.troubles.range(..=now).next_back().and_then(|(at, (trouble, for_ms))| {
            let into_ms = now.duration_since(*at).as_millis() as i64;
            (into_ms < *for_ms).then_some((*trouble, into_ms))
        });
        let lost = |lost: bool| lost.then_some(ErrorClass::Timeout);
        match trouble {
            Some((Trouble::Round | Trouble::Outage, _)) => Some(ErrorClass::Timeout),
            Some((Trouble::Minute, _)) => lost(self.random.percent(40)),
            Some((Trouble::Blip, _)) => Some(ErrorClass::Refused),
            Some((Trouble::Flapping, into_ms)) if into_ms / 5000 % 2 == 0 => Some(ErrorClass::Refused),
            Some((Trouble::Flapping, _)) | None => lost(self.random.percent(self.lost_percent)),
        }
    }
}

/// What came of it.
#[derive(Debug, Default)]
struct Outcome {
    pages: Vec<Timestamp>,
    opened: usize,
    told: usize,
    ended_open: bool,
}

struct Month {
    world: World,
    engine: Engine,
    noise: Noise,
    whole: Observation,
    now: Timestamp,
    numbers: u64,
    coming: BTreeMap<(Timestamp, u64), Input>,
    outcome: Outcome,
}

impl Month {
    fn new(noise: Noise) -> Month {
        let world = World::healthy();
        let whole = world.observation(Path::Normal);
        let (engine, coming, outcome) = (Engine::default(), BTreeMap::new(), Outcome::default());
        let mut month = Month { now: world.now, world, engine, noise, whole, numbers: 0, coming, outcome };
        let settings = Box::new(month.world.settings());
        month.input(Input::Started { version: "test".into(), settings });
        let command = Command::ImportHistory { peer: "api".into(), history: Box::new(history()) };
        month.input(Input::Command { id: 0, by: person(1), command });
        month
    }

    fn run(mut self, seconds: i64) -> Outcome {
        let end = self.now + SignedDuration::from_secs(seconds);
        loop {
            let tick = self.engine.poll_timeout().unwrap_or(end);
            let next = self.coming.keys().next().copied().filter(|(at, _)| *at <= tick);
            let at = next.map_or(tick, |(at, _)| at);
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            let input = next.and_then(|key| self.coming.remove(&key)).unwrap_or(Input::Tick);
            self.input(input);
        }
        self.outcome.ended_open = self.engine.state().open_incident("api").is_some();
        self.outcome
    }

    fn input(&mut self, input: Input) {
        let Step { events, effects } = self.engine.handle(self.now, input);
        for record in events {
            match record.event {
                Event::IncidentPaged { .. } => self.outcome.pages.push(record.at),
                Event::NotificationQueued { notification, .. } if notification.page => {
                    self.outcome.pages.push(record.at);
                }
                Event::NotificationQueued { .. } => self.outcome.told += 1,
                Event::IncidentOpened { .. } => self.outcome.opened += 1,
                _ => {}
            }
        }
        effects.into_iter().for_each(|effect| self.carry_out(effect));
    }

    fn comes(&mut self, after_ms: i64, input: Input) {
        self.numbers += 1;
        self.coming.insert((self.now + SignedDuration::from_millis(after_ms), self.numbers), input);
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Probe { id, peer, .. } => {
                let class = self.noise.failure(self.now);
                let observation = self.seen(class);
                let after_ms = if class == Some(ErrorClass::Timeout) { TIME_OUT_S * 1000 } else { 0 };
                self.comes(after_ms, Input::Observed { id, peer, observations: vec![observation] });
            }
            Effect::ProbeControls { id } => {
                let mut results = self.world.evidence(Purpose::Baseline, &BTreeSet::new()).controls;
                for result in &mut results {
                    result.address_failure = self.noise.random.percent(1).then(|| "timed out".into());
                }
                self.comes(0, Input::ControlsObserved { id, results });
            }
            Effect::Gather { id, purpose, also, .. } => {
                self.world.now = self.now;
                let class = self.noise.failure(self.now);
                let host = class.map_or(Host::Serves, |class| Host::Fails(Stage::Connect, class));
                self.world.hosts.insert(ip(OLD), host);
                let evidence = Box::new(self.world.evidence(purpose, &also));
                self.comes(TIME_OUT_S * 1000, Input::EvidenceGathered { id, evidence });
            }
            Effect::Notify { notification, subscriber } => {
                let sent = Input::NotificationSent { key: notification.key, subscriber, attempts: 1, result: Ok(()) };
                self.comes(0, sent);
            }
            Effect::WriteReport { incident } => {
                self.comes(0, Input::ReportWritten { incident, result: Ok(Vec::new()) });
            }
            Effect::Reply { .. } => {}
            Effect::Apply(_) | Effect::Withdraw { .. } | Effect::Verify { .. } => panic!("nobody approved anything"),
        }
    }

    /// A probe that starts now: its latency has a tail, as they have.
    fn seen(&mut self, class: Option<ErrorClass>) -> Observation {
        let mut seen = Observation { started_at: self.now, ..self.whole.clone() };
        let tail = 1 + 4 * i64::from(self.noise.random.percent(5));
        seen.results[0].timings.processing_us = Some((20_000 + self.noise.random.below(10_000) * tail) as u64);
        if let Some(class) = class {
            self.world.hosts.insert(ip(OLD), Host::Fails(Stage::Connect, class));
            seen.results[0] = self.world.result(ip(OLD));
        }
        seen
    }
}

#[test]
fn thirty_days_of_noise_wake_nobody() {
    wakes_nobody(0x9e37_79b9_7f4a_7c15);
}

#[test]
fn thirty_other_days_of_noise_wake_nobody_either() {
    wakes_nobody(42);
}

fn wakes_nobody(seed: u64) {
    let outcome = Month::new(Noise::new(seed, 30)).run(30 * DAY_S);
    assert_eq!(outcome.pages, [], "{outcome:?}");
    assert!(outcome.opened > 30, "the noise is loud enough to be looked into: {outcome:?}");
    assert!(outcome.told > 60 && !outcome.ended_open, "{outcome:?}");
}

#[test]
fn an_outage_in_the_noise_pages_within_three_rounds() {
    let mut noise = Noise::new(7, 1);
    let at = start() + SignedDuration::from_secs(DAY_S / 2);
    noise.troubles.retain(|trouble, _| *trouble < at);
    noise.troubles.insert(at, (Trouble::Outage, 60_000));
    let outcome = Month::new(noise).run(DAY_S);
    let [first, ..] = outcome.pages[..] else { panic!("nobody was woken: {outcome:?}") };
    assert!(first > at && first.duration_since(at).as_secs() <= 30 + TIME_OUT_S, "{first}");
}
