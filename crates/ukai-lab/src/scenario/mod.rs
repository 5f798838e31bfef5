//! The scenario format: a world, faults on a time line, what people do, and what must be concluded.
//!
//! Exactly the documented grammar is accepted. A key or value it does not know is an error with file, line, column and
//! the nearest one that it does; so is a host that records name and nobody gave a behaviour.

mod expect;
mod names;
mod reader;
mod state;
mod world_keys;

use std::time::Duration;

use toml::de::DeTable;
use url::Url;

pub use expect::{Action, AfterHeal, Expect, Mode, NO_VERDICT, Sure, VERDICTS};
pub use names::{hosts, servers};
pub use reader::ScenarioError;
use reader::{Field, Result, Section, Source};
pub use state::*;

/// How often the application calls when `[app]` does not say.
pub const DEFAULT_APP_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    pub id: String,
    pub title: String,
    pub story: String,
    pub tags: Vec<String>,
    pub peer: Peer,
    pub policy: Policy,
    pub operators: Vec<Operator>,
    pub app: App,
    pub world: WorldChange,
    pub faults: Vec<Timed>,
    pub heals: Vec<Timed>,
    pub expect: Expect,
}

/// The product's own, where a file gives none.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(10);
/// Probes from a fault to the verdict, or from a heal to the end of an override, with some to spare.
const PATIENCE_PROBES: u32 = 12;
/// Nobody sits through a drill for longer than this for a TTL alone.
const TTL_WAITED_FOR: Duration = Duration::from_secs(300);

impl Scenario {
    /// Reads a scenario; `file_name` is what errors call it.
    pub fn parse(text: &str, file_name: &str) -> std::result::Result<Self, ScenarioError> {
        let source = Source::new(file_name, text);
        let document = DeTable::parse(text).map_err(|error| source.syntax(&error))?;
        let root = Section::root(&source, &document);
        let scenario = read_scenario(&root)?;
        names::check(&source, &scenario)?;
        Ok(scenario)
    }

    /// The world before the first fault.
    pub fn initial_state(&self) -> WorldState {
        let mut state = WorldState::default();
        self.world.apply_to(&mut state);
        state
    }

    /// Every change of the scenario, `[world]` first.
    pub fn changes(&self) -> impl Iterator<Item = &WorldChange> {
        std::iter::once(&self.world).chain(self.faults.iter().chain(&self.heals).map(|timed| &timed.change))
    }

    /// How often the peer is looked at.
    pub fn interval(&self) -> Duration {
        self.peer.interval.unwrap_or(DEFAULT_INTERVAL)
    }

    /// What may pass between the world's last change and the end of an override, beyond what any drill waits: a peer that is
    /// looked at slowly is proved slowly, and the last bad answer has its TTL.
    pub fn patience(&self) -> Duration {
        let mut state = self.initial_state();
        let mut ttl = state.longest_ttl();
        for fault in &self.faults {
            fault.change.apply_to(&mut state);
            ttl = ttl.max(state.longest_ttl());
        }
        let reverts = self.expect.after_heal.as_ref().is_some_and(|after| after.reverted == Some(true));
        let ttl = if reverts { Duration::from_secs(ttl.into()).min(TTL_WAITED_FOR) } else { Duration::ZERO };
        self.interval() * PATIENCE_PROBES + ttl
    }

    /// The name servers that the peer's zone itself names: those that it is delegated to before anything breaks.
    pub fn own_servers(&self) -> Vec<String> {
        let servers = self.initial_state().delegation();
        if servers.is_empty() { NAME_SERVERS.map(str::to_owned).to_vec() } else { servers }
    }

    /// The host name under watch.
    pub fn host(&self) -> &str {
        self.peer.url.host_str().unwrap_or_default()
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Peer {
    /// Without the lab's port.
    pub url: Url,
    pub also: Vec<Url>,
    pub interval: Option<Duration>,
    pub expect: Option<PeerExpect>,
    /// The endpoint answers 401 without the secret header.
    pub auth: bool,
    pub tls: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerExpect {
    pub status: Option<u16>,
    pub body: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Policy {
    pub level: Option<Level>,
    pub approvals: Option<u32>,
    pub lease: Option<Duration>,
    pub history: History,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Observe,
    Propose,
    Approve,
    Auto,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Propose => "propose",
            Self::Approve => "approve",
            Self::Auto => "auto",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum History {
    /// A week of healthy history.
    #[default]
    Week,
    /// First installed in the middle of the outage.
    None,
}

/// What a person does, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operator {
    pub on: Moment,
    pub wait: Duration,
    pub does: Deed,
    pub who: Person,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    Alarm,
    Proposed,
    Applied,
    Reverting,
    At(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    Approve,
    Reject,
    Revert,
    Freeze,
    Nothing,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Person {
    #[default]
    A,
    B,
}

/// The application that calls the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct App {
    pub every: Duration,
    pub pool: Pool,
    /// Its own success metric reaches ukai.
    pub sign: bool,
}

impl Default for App {
    fn default() -> Self {
        Self { every: DEFAULT_APP_EVERY, pool: Pool::Fresh, sign: false }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// Resolves and connects for every call.
    #[default]
    Fresh,
    /// Keeps the address and the connection that it first had.
    Pinned,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Timed {
    pub at: Duration,
    pub change: WorldChange,
}

fn read_scenario(root: &Section<'_>) -> Result<Scenario> {
    root.only(&[
        "id", "title", "story", "tags", "peer", "policy", "operator", "app", "world", "fault", "heal", "expect",
    ])?;
    let text = |field: Field<'_>| field.text().map(str::to_owned);
    let section = |key: &str| root.find(key).map(|field| field.section()).transpose();
    Ok(Scenario {
        id: text(root.need("id")?)?,
        title: text(root.need("title")?)?,
        story: root.find("story").map(text).transpose()?.unwrap_or_default(),
        tags: root.find("tags").map(|field| field.texts()).transpose()?.unwrap_or_default(),
        peer: read_peer(&root.need("peer")?.section()?)?,
        policy: section("policy")?.map(|policy| read_policy(&policy)).transpose()?.unwrap_or_default(),
        operators: list(root, "operator", read_operator)?,
        app: section("app")?.map(|app| read_app(&app)).transpose()?.unwrap_or_default(),
        world: read_world(&root.need("world")?.section()?)?,
        faults: list(root, "fault", read_timed)?,
        heals: list(root, "heal", read_timed)?,
        expect: section("expect")?.map(|expect| expect::read_expect(&expect)).transpose()?.unwrap_or_default(),
    })
}

fn list<T>(root: &Section<'_>, key: &str, read: impl Fn(&Section<'_>) -> Result<T>) -> Result<Vec<T>> {
    match root.find(key) {
        Some(field) => field.sections()?.iter().map(read).collect(),
        None => Ok(Vec::new()),
    }
}

fn read_peer(section: &Section<'_>) -> Result<Peer> {
    if let Some(field) = section.find("steered") {
        return Err(field.key_error("\"steered\" is never given: ukai must find out"));
    }
    section.only(&["url", "also", "interval", "expect", "auth", "tls"])?;
    let field = section.need("url")?;
    let mut url = read_url(&field)?;
    let tls = match section.find("tls") {
        Some(tls) if tls.flag()? && url.scheme() == "http" => {
            return Err(tls.error("tls = true, but the url is http://"));
        }
        Some(tls) => tls.flag()?,
        None => url.scheme() == "https",
    };
    if !tls && url.set_scheme("http").is_err() {
        return Err(field.error("the url cannot be had without TLS"));
    }
    let also = match section.find("also") {
        Some(also) => also.items()?.iter().map(|item| read_also(item, &url)).collect::<Result<_>>()?,
        None => Vec::new(),
    };
    Ok(Peer {
        url,
        also,
        interval: section.find("interval").map(|field| field.duration()).transpose()?,
        expect: section.find("expect").map(|field| read_peer_expect(&field.section()?)).transpose()?,
        auth: section.find("auth").map(|field| field.flag()).transpose()?.unwrap_or(false),
        tls,
    })
}

fn read_url(field: &Field<'_>) -> Result<Url> {
    let text = field.text()?;
    let url = Url::parse(text).map_err(|error| field.error(format!("\"{text}\" is not a URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(field.error(format!("\"{text}\": the lab speaks http and https")));
    }
    if url.port().is_some() {
        return Err(field.error("the lab fills in the port; leave it out"));
    }
    let host = url.host_str().unwrap_or_default();
    if !host.ends_with(".test") || host.split('.').count() < 2 {
        return Err(field.error(format!("\"{host}\" is not a name under .test")));
    }
    Ok(url)
}

fn read_also(field: &Field<'_>, url: &Url) -> Result<Url> {
    let mut also = read_url(field)?;
    if also.host() != url.host() {
        return Err(field.error(format!("\"also\" holds more endpoints of {}", url.host_str().unwrap_or_default())));
    }
    if url.scheme() == "http" && also.set_scheme("http").is_err() {
        return Err(field.error("the url cannot be had without TLS"));
    }
    if also.scheme() != url.scheme() {
        return Err(field.error(format!("all endpoints of a peer are {}://", url.scheme())));
    }
    Ok(also)
}

fn read_peer_expect(section: &Section<'_>) -> Result<PeerExpect> {
    section.only(&["status", "body"])?;
    Ok(PeerExpect {
        status: match section.find("status") {
            Some(field) => u16::try_from(field.number(200..=599)?).ok(),
            None => None,
        },
        body: section.find("body").map(|field| field.text().map(str::to_owned)).transpose()?,
    })
}

fn read_policy(section: &Section<'_>) -> Result<Policy> {
    section.only(&["level", "approvals", "lease", "history"])?;
    let levels =
        [("observe", Level::Observe), ("propose", Level::Propose), ("approve", Level::Approve), ("auto", Level::Auto)];
    Ok(Policy {
        level: section.find("level").map(|field| field.choice(&levels)).transpose()?,
        approvals: section.find("approvals").map(|field| field.number(1..=2)).transpose()?,
        lease: section.find("lease").map(|field| field.duration()).transpose()?,
        history: section
            .find("history")
            .map(|field| field.choice(&[("none", History::None)]))
            .transpose()?
            .unwrap_or_default(),
    })
}

fn read_operator(section: &Section<'_>) -> Result<Operator> {
    section.only(&["on", "wait", "does", "who"])?;
    let deeds = [
        ("approve", Deed::Approve),
        ("reject", Deed::Reject),
        ("revert", Deed::Revert),
        ("freeze", Deed::Freeze),
        ("nothing", Deed::Nothing),
    ];
    Ok(Operator {
        on: read_moment(&section.need("on")?)?,
        wait: section.find("wait").map(|field| field.duration()).transpose()?.unwrap_or_default(),
        does: section.need("does")?.choice(&deeds)?,
        who: section
            .find("who")
            .map(|field| field.choice(&[("a", Person::A), ("b", Person::B)]))
            .transpose()?
            .unwrap_or_default(),
    })
}

fn read_moment(field: &Field<'_>) -> Result<Moment> {
    let text = field.text()?;
    if let Some(at) = reader::parse_duration(text) {
        return Ok(Moment::At(at));
    }
    match text {
        "alarm" => Ok(Moment::Alarm),
        "proposed" => Ok(Moment::Proposed),
        "applied" => Ok(Moment::Applied),
        "reverting" => Ok(Moment::Reverting),
        other => Err(field.unknown(other, &["alarm", "proposed", "applied", "reverting", "Ns"])),
    }
}

fn read_app(section: &Section<'_>) -> Result<App> {
    section.only(&["every", "pool", "sign"])?;
    let default = App::default();
    let every = match section.find("every") {
        Some(field) if field.duration()?.is_zero() => {
            return Err(field.error("the application calls at intervals, not without pause"));
        }
        Some(field) => field.duration()?,
        None => default.every,
    };
    Ok(App {
        every,
        pool: section
            .find("pool")
            .map(|field| field.choice(&[("fresh", Pool::Fresh), ("pinned", Pool::Pinned)]))
            .transpose()?
            .unwrap_or_default(),
        sign: section.find("sign").map(|field| field.flag()).transpose()?.unwrap_or(default.sign),
    })
}

fn read_world(section: &Section<'_>) -> Result<WorldChange> {
    if let Some(field) = section.find("at") {
        return Err(field
            .key_error("[world] is how things are before anything breaks; \"at\" belongs to [[fault]] and [[heal]]"));
    }
    section.only(&world_keys::WORLD_KEYS)?;
    world_keys::read_change(section)
}

fn read_timed(section: &Section<'_>) -> Result<Timed> {
    let mut known = vec!["at"];
    known.extend(world_keys::WORLD_KEYS);
    section.only(&known)?;
    Ok(Timed { at: section.need("at")?.duration()?, change: world_keys::read_change(section)? })
}

#[cfg(test)]
mod tests;
