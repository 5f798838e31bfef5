//! The time line of a drill, from an empty stage to the judgement.

mod ending;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use ukai_core::event::{Event, Recorded};

use super::endured::endured;
use super::judge::{self, Check};
use super::kills::Killer;
use super::operator::{Cli, Said};
use super::replay::replay;
use super::seen::{AfterHeal, Answered, HostCounts, Message, Ms, Seen};
use super::stage::{self, Heard, Stage};
use super::tell::{Change, DrillEvent, Told, changes};
use super::vigil::Vigil;
use super::{DrillOptions, DrillOutcome, Expected, Keep, beside, lookup, operator};
use crate::app::CallReport;
use crate::scenario::{DaemonSignal, Deed, History, Moment, Operator, Person, Scenario, WorldChange};
use crate::world::{Caller, Slot, World};

/// The peer must be seen healthy by then, by daemon and application, and by then plus its probes if it is watched slowly.
const HEALTHY_WITHIN: Ms = 15_000;
/// Probes of a healthy peer that show that the daemon is at work.
const HEALTHY_PROBES: usize = 2;
const TICK: Duration = Duration::from_millis(100);
/// What people do on an occasion; an override that is proposed over and over is not approved for ever.
const DEEDS_MAX: usize = 20;

pub async fn play(scenario: &Scenario, options: &DrillOptions, tell: &mut (dyn FnMut(Told) + Send)) -> DrillOutcome {
    let mut seen = Seen::default();
    let mut reports = Vec::new();
    let started = DrillEvent::Started {
        id: scenario.id.clone(),
        title: scenario.title.clone(),
        story: scenario.story.trim().to_owned(),
    };
    tell(Told::at(0, None, started));
    let mut kept = (Vec::new(), None);
    let mut zero = None;
    let mut clock = Instant::now();
    let result: anyhow::Result<()> = async {
        stage::check_people(scenario)?;
        let slot = Slot::claim().context("there is no room for another drill")?;
        let world = World::start(scenario, slot).await?;
        let (stage, heard) = Stage::set_up(scenario, &world, options)?;
        let mut play = Play::new(scenario, world, stage, options, &mut *tell);
        clock = play.clock;
        let result = play.run(heard).await;
        play.look_at_the_world();
        if result.is_ok() {
            play.look_at_the_log().await;
        }
        let result = result.map_err(|error| play.with_log(error));
        let failed = result.is_err() || checks(scenario, options, &play.seen).iter().any(|check| !check.held);
        let keep = if failed { Keep::Everything } else { options.keep };
        play.stage.take_down();
        kept = play.stage.tidy(keep, &play.reports);
        zero = play.zero;
        seen = std::mem::take(&mut play.seen);
        reports = std::mem::take(&mut play.reports);
        result
    }
    .await;
    let outcome = outcome(scenario, options, &seen, result.err(), kept);
    let now = millis(clock);
    if !outcome.reports.is_empty() {
        tell(Told::at(now, zero, DrillEvent::Report { paths: outcome.reports.clone() }));
    }
    tell(Told::at(now, zero, DrillEvent::Ended { outcome: Box::new(outcome.clone()) }));
    outcome
}

/// What the file states, and what a daemon that was killed must hold besides.
fn checks(scenario: &Scenario, options: &DrillOptions, seen: &Seen) -> Vec<Check> {
    let mut checks = judge::judge(scenario, seen);
    checks.extend(options.kill_after.into_iter().flat_map(|kill| endured(kill, seen)));
    checks
}

fn outcome(
    scenario: &Scenario,
    options: &DrillOptions,
    seen: &Seen,
    trouble: Option<anyhow::Error>,
    (reports, directory): (Vec<PathBuf>, Option<PathBuf>),
) -> DrillOutcome {
    let checks = checks(scenario, options, seen);
    let wrong_override = judge::wrong_override(scenario, seen);
    let verdict = seen.verdict().map(|(_, verdict)| verdict);
    DrillOutcome {
        id: scenario.id.clone(),
        title: scenario.title.clone(),
        passed: trouble.is_none() && !wrong_override && checks.iter().all(|check| check.held),
        trouble: trouble.map(|error| format!("{error:#}")),
        wrong_override,
        missed_override: judge::missed_override(scenario, seen),
        expected: Expected::of(scenario),
        verdict: verdict.map(|verdict| verdict.code.name().to_owned()),
        sure: verdict.map(|verdict| verdict.sure.name().to_owned()),
        action: judge::action(scenario, seen).as_str().to_owned(),
        wrongly_proven: judge::wrongly_proven(&scenario.expect, seen).into_iter().map(str::to_owned).collect(),
        times: judge::times(&scenario.expect, seen),
        kills: seen.kills,
        servers: seen.servers.clone(),
        checks,
        reports,
        directory,
    }
}

fn millis(clock: Instant) -> Ms {
    Ms::try_from(clock.elapsed().as_millis()).unwrap_or(Ms::MAX)
}

/// What is to happen at a time, counted from the first healthy moment.
#[derive(Debug, Clone)]
enum Step {
    Fault(usize),
    Heal(usize),
    Deed { operator: Operator, over: Option<String> },
}

/// What a task in the background brought.
#[derive(Debug)]
enum Done {
    Acted {
        who: Person,
        words: Vec<String>,
        said: Said,
    },
    Served(BTreeSet<IpAddr>),
    Beside(Vec<String>),
    Looked(AfterHeal),
    /// A question that was not answered; it is asked again.
    Silent,
}

struct Play<'a> {
    scenario: &'a Scenario,
    options: &'a DrillOptions,
    tell: &'a mut (dyn FnMut(Told) + Send),
    clock: Instant,
    zero: Option<Ms>,
    world: World,
    stage: Stage,
    seen: Seen,
    killer: Killer,
    vigil: Option<Vigil>,
    agenda: Vec<(Ms, Step)>,
    background: JoinSet<Done>,
    deeds: usize,
    notified: usize,
    last_call_ok: Option<bool>,
    looked_at: Ms,
    reports: Vec<PathBuf>,
}

impl<'a> Play<'a> {
    fn new(
        scenario: &'a Scenario,
        world: World,
        stage: Stage,
        options: &'a DrillOptions,
        tell: &'a mut (dyn FnMut(Told) + Send),
    ) -> Play<'a> {
        Play {
            scenario,
            options,
            tell,
            clock: Instant::now(),
            zero: None,
            world,
            stage,
            seen: Seen::default(),
            killer: Killer::new(options.kill_after),
            vigil: None,
            agenda: Vec::new(),
            background: JoinSet::new(),
            deeds: 0,
            notified: 0,
            last_call_ok: None,
            looked_at: 0,
            reports: Vec::new(),
        }
    }

    async fn run(&mut self, mut heard: Receiver<Heard>) -> anyhow::Result<()> {
        let lines = self.world.describe();
        self.say(DrillEvent::World { lines });
        self.seen.servers = self.stage.servers();
        if !self.seen.servers.is_empty() {
            self.say(DrillEvent::Servers { servers: self.seen.servers.clone() });
        }
        self.teach_history().await?;
        self.stage.start_vantages(&self.world)?;
        self.stage.start_daemon()?;
        self.stage.follow_events()?;
        self.stage.start_application(self.scenario, &self.world)?;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut stop = self.options.stop.clone();
        loop {
            tokio::select! {
                Some(heard) = heard.recv() => self.hear(heard)?,
                Some(done) = self.background.join_next() => self.take(done.context("a task of the drill failed")?),
                _ = ticks.tick() => if self.tick().await? { return Ok(()) },
                () = stopped(&mut stop) => bail!("interrupted"),
            }
        }
    }

    /// A week of healthy history, imported as an operator would.
    async fn teach_history(&mut self) -> anyhow::Result<()> {
        if self.scenario.policy.history == History::None {
            return Ok(());
        }
        let file = self.stage.path().join("history.json");
        std::fs::write(&file, serde_json::to_vec_pretty(&self.world.history())?)?;
        let words = ["history", "import"].map(str::to_owned).into_iter().chain([file.display().to_string()]);
        // No daemon runs yet: what it will read is written, whatever socket it will have.
        let offline = Cli { socket: None, ..self.stage.cli.clone() };
        let said = offline.run(&words.collect::<Vec<_>>(), Person::A).await;
        if !said.done() {
            bail!("the history could not be imported: {}", said.text());
        }
        Ok(())
    }

    fn now(&self) -> Ms {
        millis(self.clock)
    }

    fn say(&mut self, event: DrillEvent) {
        let told = Told::at(self.now(), self.zero, event);
        (self.tell)(told);
    }

    fn hear(&mut self, heard: Heard) -> anyhow::Result<()> {
        match heard {
            Heard::Event { position, record } => self.hear_event(position, record)?,
            Heard::Call(call) => self.hear_call(call),
            Heard::Strange(what) => bail!("{what}"),
        }
        Ok(())
    }

    fn hear_event(&mut self, position: u64, record: Box<Recorded>) -> anyhow::Result<()> {
        let now = self.now();
        match &record.event {
            Event::IncidentOpened { .. } => self.on(Moment::Alarm, None),
            Event::OverrideProposed { id, .. } => self.on(Moment::Proposed, Some(id)),
            Event::Applied { id, .. } => self.on(Moment::Applied, Some(id)),
            Event::WithdrawStarted { id, .. } => self.on(Moment::Reverting, Some(id)),
            Event::OverrideServed { .. } => {
                self.ask_what_is_served();
                self.ask_what_stands_beside();
            }
            Event::ReportWritten { paths, .. } => self.reports = paths.iter().map(PathBuf::from).collect(),
            _ => {}
        }
        let strikes = self.seen.first_fault.is_some() && self.killer.strikes_at(&record.event);
        if strikes {
            self.kill_and_start()?;
        }
        self.seen.events.push((now, (*record).clone()));
        self.say(DrillEvent::Event { position, record });
        if strikes {
            self.say(DrillEvent::Killed { kills: self.seen.kills });
        }
        Ok(())
    }

    fn kill_and_start(&mut self) -> anyhow::Result<()> {
        self.stage.kill_daemon();
        self.stage.start_daemon()?;
        self.seen.kills = self.killer.kills();
        // What was found before says nothing of the one that runs now.
        self.seen.after_heal = None;
        Ok(())
    }

    fn hear_call(&mut self, call: CallReport) {
        let change = match (self.last_call_ok, call.ok) {
            (None, true) => Some(Change::FirstGood),
            (Some(true), false) => Some(Change::Fails),
            (Some(false), true) => Some(Change::GoodAgain),
            _ => None,
        };
        // Until its resolver is up the application fails; nobody needs to read that.
        if call.ok || self.last_call_ok.is_some() {
            self.last_call_ok = Some(call.ok);
        }
        self.seen.calls.push((self.now(), call.clone()));
        if let Some(change) = change {
            self.say(DrillEvent::Application { change, call });
        }
    }

    /// Plans what people do on an occasion.
    fn on(&mut self, moment: Moment, over: Option<&str>) {
        let now = self.now();
        for operator in self.scenario.operators.iter().filter(|operator| operator.on == moment) {
            if self.deeds == DEEDS_MAX {
                return;
            }
            self.deeds += 1;
            let deed = Step::Deed { operator: *operator, over: over.map(str::to_owned) };
            self.agenda.push((now + ms(operator.wait), deed));
        }
    }

    fn ask_what_is_served(&mut self) {
        let (server, host) = (self.world.embedded_dns(), self.scenario.host().to_owned());
        self.background.spawn(async move {
            match lookup::addresses(server, &host).await {
                Ok(addresses) => Done::Served(addresses),
                Err(_) => Done::Silent,
            }
        });
    }

    fn ask_what_stands_beside(&mut self) {
        let neighbours = beside::neighbours(self.scenario.host(), &self.world.state());
        if neighbours.is_empty() {
            return;
        }
        let (ours, resolver) = (self.world.embedded_dns(), self.world.resolver());
        self.background.spawn(async move { Done::Beside(beside::lost(ours, resolver, &neighbours).await) });
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Acted { who, words, said } => {
                let who = if who == Person::A { 'a' } else { 'b' };
                let command = format!("ukai {}", words.join(" "));
                self.say(DrillEvent::Operator { who, command, done: said.done(), answer: said.text() });
            }
            Done::Served(addresses) => {
                let answered: BTreeSet<Answered> = addresses
                    .into_iter()
                    .map(|address| Answered { address, label: self.world.label_of(address) })
                    .collect();
                let addresses = answered.iter().map(|answered| answered.address).collect();
                let labels = answered.iter().map(Answered::name).collect();
                self.seen.served = Some(answered);
                self.say(DrillEvent::Answers { addresses, labels });
            }
            // What was hidden once was hidden.
            Done::Beside(lost) => self.seen.beside.get_or_insert_default().extend(lost),
            Done::Looked(after) => self.seen.after_heal = Some(after),
            Done::Silent => {}
        }
    }

    /// True: the drill is over.
    async fn tick(&mut self) -> anyhow::Result<bool> {
        self.look_at_the_world();
        if let Some(status) = self.stage.daemon_ended() {
            bail!("the daemon ended by itself ({status})");
        }
        let now = self.now();
        let Some(zero) = self.zero else {
            return self.wait_until_healthy(now).map(|()| false);
        };
        for step in self.due(now) {
            self.make(step).await?;
        }
        self.look_after_heal(now);
        Ok(self.is_over(now, zero))
    }

    fn wait_until_healthy(&mut self, now: Ms) -> anyhow::Result<()> {
        let watched = self.seen.first(|event| matches!(event, Event::PeerWatched { .. })).is_some();
        let probes: usize = self.world.requests().values().map(|host| host.requests_by(Caller::Prober)).sum();
        let called = self.seen.calls.iter().any(|(_, call)| call.ok);
        let begins_broken = self.scenario.policy.history == History::None;
        if watched && (begins_broken && !self.seen.calls.is_empty() || called && probes >= HEALTHY_PROBES) {
            self.zero = Some(now);
            self.plan(now);
            self.say(DrillEvent::Healthy);
        } else if now >= self.healthy_within() {
            bail!(
                "the peer was not seen healthy within {} s (daemon {}, {probes} probes, application {})",
                self.healthy_within() / 1000,
                if watched { "watches" } else { "does not watch" },
                if called { "succeeds" } else { "fails" }
            );
        }
        Ok(())
    }

    fn healthy_within(&self) -> Ms {
        let probes = u32::try_from(HEALTHY_PROBES).unwrap_or(u32::MAX);
        HEALTHY_WITHIN + ms(self.scenario.interval().saturating_mul(probes))
    }

    fn plan(&mut self, zero: Ms) {
        let faults = self.scenario.faults.iter().enumerate().map(|(n, fault)| (fault.at, Step::Fault(n)));
        let heals = self.scenario.heals.iter().enumerate().map(|(n, heal)| (heal.at, Step::Heal(n)));
        let people = self.scenario.operators.iter().filter_map(|operator| match operator.on {
            Moment::At(at) => Some((at + operator.wait, Step::Deed { operator: *operator, over: None })),
            _ => None,
        });
        let planned: Vec<_> = faults.chain(heals).chain(people).collect();
        self.agenda.extend(planned.into_iter().map(|(at, step)| (zero + ms(at), step)));
        if self.scenario.faults.is_empty() {
            self.seen.first_fault = Some(zero);
            self.seen.last_fault = Some(zero);
        }
    }

    /// Takes what is due off the agenda, in the order of its times.
    fn due(&mut self, now: Ms) -> Vec<Step> {
        self.agenda.sort_by_key(|(at, _)| *at);
        let due = self.agenda.partition_point(|(at, _)| *at <= now);
        self.agenda.drain(..due).map(|(_, step)| step).collect()
    }

    async fn make(&mut self, step: Step) -> anyhow::Result<()> {
        match step {
            Step::Fault(number) => {
                let Some(fault) = self.scenario.faults.get(number) else { return Ok(()) };
                let now = self.now();
                self.seen.first_fault.get_or_insert(now);
                self.seen.last_fault = Some(now);
                self.keep_vigil();
                self.say(DrillEvent::Fault { changes: changes(&fault.change) });
                self.change(&fault.change).await
            }
            Step::Heal(number) => {
                let Some(heal) = self.scenario.heals.get(number) else { return Ok(()) };
                let now = self.now();
                self.seen.first_heal.get_or_insert(now);
                self.seen.last_heal = Some(now);
                self.say(DrillEvent::Heal { changes: changes(&heal.change) });
                self.change(&heal.change).await
            }
            Step::Deed { operator, over } => {
                self.act(operator, over);
                Ok(())
            }
        }
    }

    fn keep_vigil(&mut self) {
        if self.options.kill_after.is_some() && self.vigil.is_none() {
            self.vigil = Some(Vigil::start(self.world.embedded_dns(), self.scenario.host().to_owned()));
        }
    }

    /// Only where the daemon was killed: the drill waits for it.
    async fn look_at_the_log(&mut self) {
        if self.options.kill_after.is_none() {
            return;
        }
        let heard: Vec<Recorded> = self.seen.events.iter().map(|(_, record)| record.clone()).collect();
        self.seen.replay = Some(replay(&self.stage.cli, &heard).await);
        self.seen.polls = self.vigil.take().map(|vigil| vigil.polls()).unwrap_or_default();
    }

    async fn change(&mut self, change: &WorldChange) -> anyhow::Result<()> {
        self.world.apply(change).await?;
        if let Some(provider) = &change.provider {
            self.stage.befall(provider, &self.world)?;
        }
        match change.daemon {
            Some(DaemonSignal::Kill) => self.stage.kill_daemon(),
            Some(DaemonSignal::Restart) => {
                self.stage.kill_daemon();
                self.stage.start_daemon()?;
            }
            None => {}
        }
        Ok(())
    }

    fn act(&mut self, operator: Operator, over: Option<String>) {
        let over = over.or_else(|| self.last_proposed());
        let Some(words) = operator::command(operator.does, over.as_deref()) else {
            if operator.does != Deed::Nothing {
                let command = format!("{:?}", operator.does).to_lowercase();
                let answer = "there is nothing yet to do it to".to_owned();
                self.say(DrillEvent::Operator { who: 'a', command, done: false, answer });
            }
            return;
        };
        let cli = self.stage.cli.clone();
        self.background.spawn(async move {
            let said = cli.insist(&words, operator.who).await;
            Done::Acted { who: operator.who, words, said }
        });
    }

    fn last_proposed(&self) -> Option<String> {
        self.seen.all().rev().find_map(|(_, event)| match event {
            Event::OverrideProposed { id, .. } => Some(id.clone()),
            _ => None,
        })
    }

    /// What the lab's own witnesses hold by now: the webhook and the hosts.
    fn look_at_the_world(&mut self) {
        let now = self.now();
        let notifications = self.world.notifications();
        for notification in notifications.get(self.notified..).unwrap_or_default() {
            let body: serde_json::Value = serde_json::from_str(&notification.body).unwrap_or_default();
            if let Ok(message) = serde_json::from_value::<Message>(body.clone()) {
                let header = notification.headers.get("idempotency-key").cloned();
                self.seen.messages.push(Message { header, ..message });
            }
            let page = body.get("page").and_then(serde_json::Value::as_bool).unwrap_or(false);
            let subject = body.get("subject").and_then(serde_json::Value::as_str).unwrap_or("without a subject");
            if page {
                self.seen.pages.push(now);
            }
            let told = Told::at(now, self.zero, DrillEvent::Notified { page, subject: subject.to_owned() });
            (self.tell)(told);
        }
        self.notified = notifications.len();
        self.seen.hosts = self
            .world
            .requests()
            .into_iter()
            .map(|(label, log)| {
                let by_application = log.requests_by(Caller::App) as u64;
                (label, HostCounts { by_application, secrets: log.secrets })
            })
            .collect();
    }

    fn with_log(&self, error: anyhow::Error) -> anyhow::Error {
        let tail = self.stage.log_tail("daemon.log");
        if tail.is_empty() { error } else { anyhow!("{error:#}\nthe daemon's log ends with:\n{tail}") }
    }
}

/// Whoever could stop the drill may be gone; then it is not stopped.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let asked = stop.wait_for(|stop| *stop).await.is_ok();
    if !asked {
        std::future::pending().await
    }
}

fn ms(time: Duration) -> Ms {
    Ms::try_from(time.as_millis()).unwrap_or(Ms::MAX)
}
