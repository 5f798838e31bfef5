//! The world as the shell would have observed it, in virtual time and without a socket.
//!
//! It holds a scenario's state and says what each question, connection and probe comes to, and after how long. It follows
//! the lab's world of real sockets piece by piece; what is not real there is not real here either.
//!
//! - [`layout`]: labels and addresses; [`zone`]: the authorities; [`resolver`]: resolvers that lie
//! - [`host`]: what becomes of a connection, a handshake, a request; [`observe`]: probes and controls
//! - [`gather`]: evidence, question by question; [`history`]: the week before

pub mod gather;
pub mod history;
pub mod host;
pub mod layout;
pub mod observe;
pub mod resolver;
pub mod zone;

use std::collections::BTreeMap;
use std::sync::Arc;

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use ukai_lab::runner::seen::HostCounts;
use ukai_lab::scenario::{INDEPENDENTS, ResolverMode, ResolverSetup, Scenario, WorldChange, WorldState};

use layout::Layout;
use resolver::Memory;
use zone::Zone;

/// Milliseconds of virtual time since the run began.
pub type Ms = u64;

/// Serial of the zone before the first fault; each edit adds one.
const FIRST_SERIAL: u32 = 100;
/// When every run begins.
const EPOCH_S: i64 = 1_768_014_000;

pub fn timestamp(ms: Ms) -> Timestamp {
    let epoch = Timestamp::from_second(EPOCH_S).unwrap_or(Timestamp::UNIX_EPOCH);
    epoch.checked_add(SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX / 2))).unwrap_or(Timestamp::MAX)
}

/// The other way round; a time before the run is its beginning.
pub fn millis(at: Timestamp) -> Ms {
    let since = at.as_millisecond() - EPOCH_S * 1000;
    Ms::try_from(since).unwrap_or(0)
}

/// One peer and everything around it.
#[derive(Debug)]
pub struct World {
    pub scenario: Scenario,
    pub layout: Layout,
    pub zone: Arc<Zone>,
    /// The zone before its last edit, which a server that missed it still serves.
    pub previous: Arc<Zone>,
    pub memories: [Memory; 4],
    pub hosts: BTreeMap<String, HostCounts>,
    /// Probes of the daemon that a host answered over HTTP.
    pub probed: usize,
    pub rng: Rng,
    place: u8,
    spin: usize,
    /// Since when nothing leaves our network.
    cut_since: Option<Ms>,
}

impl World {
    /// `place` tells peers that are played side by side apart.
    pub fn new(scenario: &Scenario, place: u8, seed: u64) -> World {
        let zone = Zone { state: scenario.initial_state(), serial: FIRST_SERIAL };
        let previous = Arc::new(Zone { serial: FIRST_SERIAL - 1, ..zone.clone() });
        let zone = Arc::new(zone);
        let mut world = World {
            scenario: scenario.clone(),
            layout: Layout::new(scenario, place),
            zone,
            previous,
            memories: Default::default(),
            hosts: BTreeMap::new(),
            probed: 0,
            rng: Rng::with_seed(seed ^ (u64::from(place) << 32)),
            place,
            spin: 0,
            cut_since: None,
        };
        let before = world.zone.clone();
        world.switch_resolvers(&before, &WorldState::default(), 0);
        world
    }

    pub fn state(&self) -> &WorldState {
        &self.zone.state
    }

    /// What people call the peer: the first label of its host, and its place where there are several.
    pub fn peer(&self) -> String {
        let label = self.layout.host.split('.').next().unwrap_or_default();
        if self.place == 0 { label.to_owned() } else { format!("{label}-{}", self.place) }
    }

    pub fn change(&mut self, change: &WorldChange, now: Ms) {
        let before = self.zone.clone();
        let zone = Arc::make_mut(&mut self.zone);
        change.apply_to(&mut zone.state);
        if change.edits_zone() {
            zone.serial += 1;
            self.previous = before.clone();
        }
        self.switch_resolvers(&before, &before.state, now);
        let cut = self.zone.state.egress == ukai_lab::scenario::Egress::Cut;
        self.cut_since = if cut { self.cut_since.or(Some(now)) } else { None };
    }

    /// What belongs to our side and not to one peer is the same for all of them: controls, way out, clock, and our resolver
    /// where it treats all names alike.
    pub fn share(&self) -> WorldChange {
        let state = self.state();
        use ResolverMode::{Refuse, ServfailAll, TimeoutAll};
        let all = matches!(state.resolver.mode, ServfailAll | TimeoutAll | Refuse);
        let mode = if all { state.resolver.mode.clone() } else { ResolverMode::Honest };
        WorldChange {
            controls: Some(state.controls),
            egress: Some(state.egress.clone()),
            clock: Some(state.clock),
            resolver: Some(ResolverSetup { mode, ..state.resolver }),
            ..WorldChange::default()
        }
    }

    fn switch_resolvers(&mut self, before: &Arc<Zone>, was: &WorldState, now: Ms) {
        for number in 0..self.memories.len() {
            let mode = self.setup(number).mode;
            if mode != setup(was, number).mode {
                self.memories[number].switch(before, &mode, now);
            }
        }
    }

    /// Resolver 0 is the application's network's; the others are independent.
    pub fn setup(&self, number: usize) -> ResolverSetup {
        setup(self.state(), number)
    }

    /// A time that is about `ms`, as times in a network are.
    pub fn about(&mut self, ms: Ms) -> Ms {
        ms + self.rng.u64(0..=ms / 2 + 1)
    }
}

fn setup(state: &WorldState, number: usize) -> ResolverSetup {
    match number {
        0 => state.resolver.clone(),
        number => state.independent(INDEPENDENTS.get(number - 1).copied().unwrap_or_default()),
    }
}
