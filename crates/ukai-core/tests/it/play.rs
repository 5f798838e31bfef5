//! The engine in that world: played by hand, round by round.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use ukai_core::diagnose::evidence::{ApplicationCall, Purpose};
use ukai_core::effect::Effect;
use ukai_core::engine::{Engine, Step};
use ukai_core::event::{Event, Recorded};
use ukai_core::input::{Command, Input, Verification};
use ukai_core::observe::Path;
use ukai_core::peer::{Level, Settings};

use crate::world::*;

/// The engine with the world around it: carries out effects at once, keeps the log.
pub struct Play {
    pub world: World,
    pub engine: Engine,
    pub log: Vec<Recorded>,
    /// Effects that were released and are not carried out yet.
    pub waiting: Vec<Effect>,
    /// Notifications that left, by key and subscriber.
    pub sent: Vec<String>,
    pub replies: Vec<ukai_core::effect::Reply>,
    pub applied: Vec<ukai_core::effect::ServedOverride>,
}

impl Play {
    pub fn new(world: World) -> Play {
        let mut play = Play {
            world,
            engine: Engine::default(),
            log: Vec::new(),
            waiting: Vec::new(),
            sent: Vec::new(),
            replies: Vec::new(),
            applied: Vec::new(),
        };
        play.start();
        let history = Box::new(play.world.history.clone());
        let import = Command::ImportHistory { peer: "api".into(), history };
        play.input(Input::Command { id: 0, by: person(1), command: import });
        play
    }

    fn start(&mut self) {
        let settings = Box::new(self.world.settings());
        self.input(Input::Started { version: "test".into(), settings });
    }

    pub fn input(&mut self, input: Input) {
        let Step { events, effects } = self.engine.handle(self.world.now, input);
        self.log.extend(events);
        self.waiting.extend(effects);
    }

    /// The process dies: what was not in the log is gone, effects on their way too.
    pub fn crash(&mut self) {
        self.engine = Engine::replay(self.log.clone());
        self.waiting.clear();
        self.start();
    }

    /// Carries out the oldest effect. False: there was none.
    pub fn carry_out(&mut self) -> bool {
        if self.waiting.is_empty() {
            return false;
        }
        let effect = self.waiting.remove(0);
        if let Some(input) = self.outcome(effect) {
            self.input(input);
        }
        true
    }

    fn outcome(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Probe { id, peer, path } => {
                let observations = vec![if peer == "api" {
                    self.world.observation(path)
                } else {
                    self.world.observation_of(&peer, path)
                }];
                Some(Input::Observed { id, peer, observations })
            }
            Effect::ProbeControls { id } => {
                let results = self.world.evidence(Purpose::Baseline, &BTreeSet::new()).controls;
                Some(Input::ControlsObserved { id, results })
            }
            Effect::Gather { id, peer, purpose, also, known } => {
                let evidence = Box::new(self.world.evidence_of(&peer, purpose, &also, &known));
                Some(Input::EvidenceGathered { id, evidence })
            }
            Effect::Apply(served) => {
                self.world.served = Some(served.addresses.clone());
                self.applied.push(served.clone());
                Some(Input::Applied { id: served.id, generation: served.generation, result: Ok(()) })
            }
            Effect::Withdraw { id, generation, .. } => {
                self.world.served = None;
                Some(Input::Withdrawn { id, generation, result: Ok(()) })
            }
            Effect::Verify { id, generation, .. } => {
                let served = self.world.served.clone().unwrap_or_default();
                let verification = Verification {
                    at_server: Ok(served.clone()),
                    by_resolver: Ok(served),
                    observations: vec![self.world.observation(Path::Normal)],
                };
                Some(Input::Verified { id, generation, verification })
            }
            Effect::Notify { notification, subscriber } => {
                self.sent.push(notification.key.clone());
                let key = notification.key;
                Some(Input::NotificationSent { key, subscriber, attempts: 1, result: Ok(()) })
            }
            Effect::WriteReport { incident } => {
                Some(Input::ReportWritten { incident, result: Ok(vec!["report.md".into()]) })
            }
            Effect::Reply { reply, .. } => {
                self.replies.push(reply);
                None
            }
        }
    }

    /// Lets time go on, carrying out everything that comes up.
    pub fn run_for(&mut self, seconds: i64) {
        let end = self.world.now + SignedDuration::from_secs(seconds);
        for _ in 0..100_000 {
            if self.carry_out() {
                continue;
            }
            match self.engine.poll_timeout() {
                Some(at) if at <= end => {
                    self.world.now = self.world.now.max(at);
                    self.input(Input::Tick);
                }
                _ => {
                    self.world.now = end;
                    return;
                }
            }
        }
        panic!("the engine never came to rest");
    }

    pub fn command(&mut self, command: Command, uid: u32) {
        self.input(Input::Command { id: 1, by: person(uid), command });
    }

    /// Approves whatever waits for it, as a person who saw the plan.
    pub fn approve(&mut self) {
        let pending = self.engine.state().overrides.values().find(|over| over.phase.is_pending());
        let (id, hash) = pending.map(|over| (over.id.clone(), over.hash.clone())).unwrap();
        self.command(Command::Approve { id, hash, why: "it is right".into() }, 1000);
    }

    pub fn application_calls(&mut self, ok: bool, address: &str, times: usize) {
        for _ in 0..times {
            let call = ApplicationCall { at: self.world.now, ok, address: Some(ip(address)), error: None };
            self.input(Input::ApplicationCalled { peer: "api".into(), call });
        }
    }

    pub fn saw(&self, wanted: impl Fn(&Event) -> bool) -> bool {
        self.log.iter().any(|record| wanted(&record.event))
    }

    pub fn verdicts(&self) -> Vec<String> {
        self.log
            .iter()
            .filter_map(|record| match &record.event {
                Event::Diagnosed { verdict, .. } => Some(format!("{} {}", verdict.code.name(), verdict.sure.name())),
                _ => None,
            })
            .collect()
    }
}

pub fn world(level: Level) -> World {
    let mut w = World::healthy();
    w.level = level;
    w
}

pub fn served(level: Level) -> Play {
    serve(Play::new(world(level)), level)
}

/// The resolver goes stale, and the override that mends it is served.
pub fn serve(mut play: Play, level: Level) -> Play {
    play.run_for(60);
    play.world.go_stale();
    play.run_for(30);
    if level == Level::Approve {
        play.approve();
    }
    play.run_for(30);
    assert!(play.saw(|e| matches!(e, Event::OverrideServed { .. })));
    play
}

pub fn reconf(play: &mut Play, f: impl FnOnce(&mut Settings)) {
    let mut s = play.world.settings();
    f(&mut s);
    play.input(Input::Reconfigured { settings: Box::new(s) });
}
