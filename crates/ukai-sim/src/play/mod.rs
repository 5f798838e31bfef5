//! One run: the engine, the world around it, the people, and the time line, from nothing to the end.
//!
//! Whatever the engine asks for is answered after the time that it would take. Nothing else moves time: the next thing
//! that is due is the next moment.

mod app;
mod embedded;
mod hands;
mod people;
mod queue;
mod timeline;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use ukai_core::effect::Effect;
use ukai_core::engine::{Engine, Step};
use ukai_core::event::{Event, Recorded};
use ukai_core::input::{Command, Input};
use ukai_core::peer::{Level, Mode, Peer, Settings, Subscriber};
use ukai_lab::crossed::{Served, Staging};
use ukai_lab::runner::seen::Seen;
use ukai_lab::scenario::{self, DaemonSignal, History, Operator, Scenario};

use crate::world::gather::Gathering;
use crate::world::{Ms, World, millis, timestamp};
use app::App;
use embedded::Embedded;
use queue::Queue;

const LEASE: std::time::Duration = std::time::Duration::from_secs(4 * 3600);
/// How often the time line looks whether something is over.
const TICK_MS: Ms = 100;
/// How often the zone provider says what it serves.
const POLL_MS: Ms = 1_000;
/// Steps of one run: many times what any scenario takes. Past it the run is cut off.
const STEPS_MAX: u64 = 2_000_000;

/// When a run is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As a drill on real sockets: as soon as all that the file states holds, or no longer can.
    AsDrill,
    /// When nothing has turned for a while, whatever the file states.
    Settled,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Played {
    pub seen: Seen,
    /// Of the peer beside it.
    pub beside: Option<Seen>,
    /// When the fault went away by itself.
    pub cleared_at: Option<Ms>,
    /// Every answer that an override of the first peer gave, looked at when it was served.
    pub served: Vec<Served>,
    /// The first healthy moment. None: it never came.
    pub zero: Option<Ms>,
    /// The whole log.
    pub log: Vec<Recorded>,
}

/// Plays it to its end. The same staging and seed give the same run.
pub fn play(staging: &Staging, seed: u64, ending: Ending) -> Played {
    let mut play = Play::new(staging, seed, ending);
    play.start_daemon();
    play.teach_history();
    for place in 0..play.worlds.len() {
        play.queue.push(play.now + 50, Due::Call(place));
    }
    play.queue.push(TICK_MS, Due::Tick);
    play.queue.push(POLL_MS, Due::Poll);
    play.run();
    let (cleared_at, zero) = (play.cleared_at, play.zero);
    let mut seen = play.seen.into_iter();
    let first = seen.next().unwrap_or_default();
    Played { seen: first, beside: seen.next(), cleared_at, served: play.served, zero, log: play.log }
}

/// Something that is due at a time.
#[derive(Debug)]
enum Due {
    /// For the engine of that generation: one that was killed does not hear of it.
    Input(u32, Box<Input>),
    GatherAgain(u32, usize, Box<Gathering>),
    GatherLast(u32, usize, Box<Gathering>),
    Gathered(u32, Box<Gathering>),
    Call(usize),
    Called(usize, Box<ukai_lab::app::CallReport>),
    Fault(usize, usize),
    Heal(usize, usize),
    Then,
    Deed {
        place: usize,
        operator: Operator,
        over: Option<String>,
        tries: u32,
    },
    LookAtServed(usize),
    Signal(DaemonSignal),
    Paged(usize),
    Poll,
    Tick,
}

#[derive(Debug)]
struct Play<'a> {
    staging: &'a Staging,
    ending: Ending,
    worlds: Vec<World>,
    apps: Vec<App>,
    seen: Vec<Seen>,
    /// None: it was killed.
    engine: Option<Engine>,
    /// Counts starts, so that results of before are not heard.
    generation: u32,
    settings: Settings,
    log: Vec<Recorded>,
    embedded: Embedded,
    queue: Queue<Due>,
    now: Ms,
    zero: Option<Ms>,
    cleared_at: Option<Ms>,
    /// What the staging says happens then has been set going.
    has_turned: bool,
    served: Vec<Served>,
    /// What the first peer's servers named, until when.
    named: Vec<(Ms, BTreeSet<IpAddr>)>,
    /// Faults and heals that are still to come.
    pending: usize,
    deeds: usize,
    commands: u64,
    looked_at: Ms,
    reported: Vec<bool>,
    /// Whose an incident, an override or a gathering is.
    owners: BTreeMap<String, usize>,
    done: bool,
}

impl<'a> Play<'a> {
    fn new(staging: &'a Staging, seed: u64, ending: Ending) -> Play<'a> {
        let scenarios: Vec<&Scenario> = std::iter::once(&staging.scenario).chain(&staging.beside).collect();
        let worlds: Vec<World> =
            (0_u8..).zip(&scenarios).map(|(place, scenario)| World::new(scenario, place, seed)).collect();
        let settings = settings(&worlds);
        Play {
            staging,
            ending,
            apps: worlds.iter().map(|_| App::default()).collect(),
            seen: worlds.iter().map(|_| Seen::default()).collect(),
            reported: worlds.iter().map(|_| false).collect(),
            worlds,
            engine: None,
            generation: 0,
            settings,
            log: Vec::new(),
            embedded: Embedded::default(),
            queue: Queue::default(),
            now: 0,
            zero: None,
            cleared_at: None,
            has_turned: false,
            served: Vec::new(),
            named: Vec::new(),
            pending: 0,
            deeds: 0,
            commands: 0,
            looked_at: 0,
            owners: BTreeMap::new(),
            done: false,
        }
    }

    fn start_daemon(&mut self) {
        self.generation += 1;
        self.engine = Some(Engine::replay(self.log.iter().cloned()));
        self.handle(Input::Started { version: "simulated".to_owned(), settings: Box::new(self.settings.clone()) });
    }

    fn kill_daemon(&mut self) {
        self.engine = None;
        self.generation += 1;
    }

    fn teach_history(&mut self) {
        for place in 0..self.worlds.len() {
            let world = &self.worlds[place];
            if world.scenario.policy.history == History::None {
                continue;
            }
            let command = Command::ImportHistory { peer: world.peer(), history: Box::new(world.history()) };
            self.command(command, scenario::Person::A);
        }
    }

    fn run(&mut self) {
        for _ in 0..STEPS_MAX {
            if self.done {
                return;
            }
            let engine = self.engine.as_ref().and_then(Engine::poll_timeout).map(ceiling);
            // The engine is never called twice in one moment for nothing.
            let engine = engine.map(|at| at.max(self.now));
            match (self.queue.next_at(), engine) {
                (Some(queued), Some(engine)) if engine < queued => self.tick_engine(engine),
                (Some(queued), _) => {
                    self.now = self.now.max(queued);
                    if let Some(due) = self.queue.pop() {
                        self.make(due);
                    }
                }
                (None, Some(engine)) => self.tick_engine(engine),
                (None, None) => return,
            }
        }
    }

    fn tick_engine(&mut self, at: Ms) {
        self.now = self.now.max(at);
        self.handle(Input::Tick);
        let again = self.engine.as_ref().and_then(Engine::poll_timeout).map(ceiling);
        if again.is_some_and(|again| again <= self.now) {
            self.now += 1;
        }
    }

    fn make(&mut self, due: Due) {
        match due {
            Due::Input(generation, input) if generation == self.generation => self.handle(*input),
            Due::GatherAgain(generation, place, mut gathering) if generation == self.generation => {
                let at = self.worlds[place].gather_again(&mut gathering, self.now);
                self.queue.push(at, Due::GatherLast(generation, place, gathering));
            }
            Due::GatherLast(generation, place, mut gathering) if generation == self.generation => {
                let at = self.worlds[place].gather_last(&mut gathering, self.now);
                self.queue.push(at, Due::Gathered(generation, gathering));
            }
            Due::Gathered(generation, gathering) if generation == self.generation => {
                let id = gathering.order.id.clone();
                let evidence = Box::new(gathering.finish(self.now));
                self.handle(Input::EvidenceGathered { id, evidence });
            }
            Due::Input(..) | Due::GatherAgain(..) | Due::GatherLast(..) | Due::Gathered(..) => {}
            Due::Call(place) => self.call(place),
            Due::Called(place, report) => self.called(place, *report),
            Due::Fault(place, number) => self.fault(place, number),
            Due::Heal(place, number) => self.heal(place, number),
            Due::Then => self.then(),
            Due::Deed { place, operator, over, tries } => self.act(place, operator, over, tries),
            Due::LookAtServed(place) => self.look_at_served(place),
            Due::Signal(signal) => self.signal(signal),
            Due::Paged(place) => self.seen[place].pages.push(self.now),
            Due::Poll => self.poll(),
            Due::Tick => self.tick(),
        }
    }

    /// One step: decided, in the log, and only then carried out.
    fn handle(&mut self, input: Input) {
        let now = timestamp(self.now);
        let Some(engine) = self.engine.as_mut() else { return };
        let Step { events, effects } = engine.handle(now, input);
        for record in &events {
            self.hear(record);
        }
        self.log.extend(events);
        for effect in effects {
            self.carry_out(effect);
        }
    }

    fn hear(&mut self, record: &Recorded) {
        let place = self.place_of(&record.event);
        for (number, seen) in self.seen.iter_mut().enumerate() {
            if place.is_none_or(|place| place == number) {
                seen.events.push((self.now, record.clone()));
            }
        }
        self.turned(place.unwrap_or(0), &record.event);
    }

    /// Which peer an event is about. None: all of them.
    fn place_of(&mut self, event: &Event) -> Option<usize> {
        let by_peer = |worlds: &[World], peer: &str| worlds.iter().position(|world| world.peer() == peer);
        let (id, peer) = match event {
            Event::IncidentOpened { incident, peer, .. } => (Some(incident), Some(peer)),
            Event::EvidenceRequested { gathering, peer, .. } => (Some(gathering), Some(peer)),
            Event::OverrideProposed { id, plan, .. } => (Some(id), Some(&plan.peer)),
            Event::EvidenceGathered { peer, .. }
            | Event::Diagnosed { peer, .. }
            | Event::OverrideRefused { peer, .. }
            | Event::PeerWatched { peer, .. }
            | Event::AddressSetChanged { peer, .. } => (None, Some(peer)),
            Event::NotificationQueued { notification, .. } => (None, Some(&notification.peer)),
            Event::IncidentReopened { incident, .. }
            | Event::IncidentPaged { incident, .. }
            | Event::IncidentClosed { incident, .. }
            | Event::ReportWritten { incident, .. } => (Some(incident), None),
            Event::OverrideApproved { id, .. }
            | Event::OverrideRejected { id, .. }
            | Event::OverrideVoided { id, .. }
            | Event::ApplyStarted { id, .. }
            | Event::Applied { id, .. }
            | Event::ApplyFailed { id, .. }
            | Event::OverrideServed { id, .. }
            | Event::OverrideConfirmed { id, .. }
            | Event::FollowStarted { id, .. }
            | Event::OverrideTroubled { id, .. }
            | Event::WithdrawStarted { id, .. }
            | Event::WithdrawFailed { id, .. }
            | Event::OverrideEnded { id, .. }
            | Event::NormalPathProved { id, .. } => (Some(id), None),
            _ => (None, None),
        };
        let place = match (peer, id) {
            (Some(peer), _) => by_peer(&self.worlds, peer),
            (None, Some(id)) => self.owners.get(id).copied(),
            (None, None) => None,
        };
        if let (Some(id), Some(place)) = (id, place) {
            self.owners.entry(id.clone()).or_insert(place);
        }
        place
    }

    fn command(&mut self, command: Command, who: scenario::Person) {
        self.commands += 1;
        let by = people::actor(who);
        self.handle(Input::Command { id: self.commands, by, command });
    }

    fn carry_out(&mut self, effect: Effect) {
        hands::carry_out(self, effect);
    }

    /// The prober gets nothing done now.
    fn is_starved(&self) -> bool {
        let Some(zero) = self.zero else { return false };
        let since = self.now.saturating_sub(zero);
        self.staging.starved.iter().any(|(from, to)| (timeline::ms(*from)..timeline::ms(*to)).contains(&since))
    }
}

/// The first millisecond that is not before it.
fn ceiling(at: Timestamp) -> Ms {
    let floor = millis(at);
    if timestamp(floor) < at { floor + 1 } else { floor }
}

fn settings(worlds: &[World]) -> Settings {
    let peers = worlds.iter().map(|world| {
        let scenario = &world.scenario;
        let level = match scenario.policy.level {
            None | Some(scenario::Level::Observe) => Level::Observe,
            Some(scenario::Level::Propose) => Level::Propose,
            Some(scenario::Level::Approve) => Level::Approve,
            Some(scenario::Level::Auto) => Level::Auto,
        };
        let peer = Peer {
            name: world.peer(),
            host: world.layout.host.clone(),
            endpoints: world.endpoints(),
            interval: scenario.interval(),
            level,
            approvals: u8::try_from(scenario.policy.approvals.unwrap_or(1)).unwrap_or(2),
            lease: scenario.policy.lease.unwrap_or(LEASE),
            mode: Mode::Follow,
            pin: Vec::new(),
            networks: Vec::new(),
            verified_tls: scenario.peer.tls,
            needs_secret: scenario.peer.auth,
            default_alarms: true,
        };
        (peer.name.clone(), peer)
    });
    Settings {
        peers: peers.collect(),
        controls: worlds.first().map(World::controls).unwrap_or_default(),
        allow_addresses: Vec::new(),
        serves_dns: true,
        zone: None,
        hides_types: false,
        subscribers: vec![Subscriber {
            name: "drill".to_owned(),
            peers: Default::default(),
            topics: Default::default(),
        }],
        application_reports: worlds.iter().any(|world| world.scenario.app.sign),
        vantage: "here".to_owned(),
        region: "us-east-1".to_owned(),
        account_id: "000000000000".to_owned(),
    }
}
