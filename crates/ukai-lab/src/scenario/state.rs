//! The state of a world, and the changes to it that a scenario names.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// TTL of an answer that is stale on purpose (RFC 8767, 5), in seconds.
pub const STALE_TTL: u32 = 30;

/// TTL of the peer's records when the scenario gives none.
pub const DEFAULT_TTL: u32 = 60;
/// SOA MINIMUM of the peer's zone when the scenario gives none.
pub const DEFAULT_NEGATIVE_TTL: u32 = 60;
/// The name servers that every scenario has and that the delegation names at first.
pub const NAME_SERVERS: [&str; 3] = ["ns-1", "ns-2", "ns-3"];
/// The resolvers outside our network that every scenario has.
pub const INDEPENDENTS: [&str; 3] = ["i-1", "i-2", "i-3"];

/// What `[world]`, a fault or a heal says; what it does not name stays as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorldChange {
    pub authoritative: Option<Records>,
    pub servers: BTreeMap<String, ServerMode>,
    pub parent: Option<Parent>,
    pub names: BTreeMap<String, Records>,
    pub resolver: Option<ResolverSetup>,
    pub independents: BTreeMap<String, ResolverSetup>,
    pub hosts: BTreeMap<String, HostChange>,
    pub controls: Option<Controls>,
    pub egress: Option<Egress>,
    pub clock: Option<ClockShift>,
    pub provider: Option<Provider>,
    /// Something done to the daemon at that moment rather than a state; the runner does it.
    pub daemon: Option<DaemonSignal>,
    pub vantages: Option<u32>,
}

impl WorldChange {
    pub fn apply_to(&self, state: &mut WorldState) {
        if let Some(records) = &self.authoritative {
            state.authoritative.replace(records);
        }
        for (name, records) in &self.names {
            state.names.entry(name.clone()).or_default().replace(records);
        }
        for (label, change) in &self.hosts {
            state.hosts.entry(label.clone()).or_default().change(change);
        }
        state.servers.extend(self.servers.clone());
        state.independents.extend(self.independents.clone());
        replace(&mut state.parent, &self.parent);
        replace(&mut state.resolver, &self.resolver);
        replace(&mut state.controls, &self.controls);
        replace(&mut state.egress, &self.egress);
        replace(&mut state.clock, &self.clock);
        replace(&mut state.provider, &self.provider);
        replace(&mut state.vantages, &self.vantages);
    }

    /// Whether the peer's zone says something else afterwards, which is what raises its serial.
    pub fn edits_zone(&self) -> bool {
        self.authoritative.is_some() || !self.names.is_empty()
    }
}

fn replace<T: Clone>(place: &mut T, value: &Option<T>) {
    if let Some(value) = value {
        *place = value.clone();
    }
}

/// Everything about the world that a scenario can set, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorldState {
    pub authoritative: NameState,
    pub servers: BTreeMap<String, ServerMode>,
    pub parent: Parent,
    pub names: BTreeMap<String, NameState>,
    pub resolver: ResolverSetup,
    pub independents: BTreeMap<String, ResolverSetup>,
    pub hosts: BTreeMap<String, HostSetup>,
    pub controls: Controls,
    pub egress: Egress,
    pub clock: ClockShift,
    pub provider: Provider,
    pub vantages: u32,
}

impl WorldState {
    pub fn server(&self, name: &str) -> &ServerMode {
        self.servers.get(name).unwrap_or(&ServerMode::Serve)
    }

    pub fn independent(&self, name: &str) -> ResolverSetup {
        self.independents.get(name).cloned().unwrap_or_default()
    }

    /// The longest time to live that the peer, or a resolver of ours by itself, gives an answer, in seconds.
    pub fn longest_ttl(&self) -> u32 {
        match self.resolver.mode {
            ResolverMode::TtlClamp(least) => self.authoritative.ttl.max(least),
            ResolverMode::ServeStale => self.authoritative.ttl.max(STALE_TTL),
            _ => self.authoritative.ttl,
        }
    }

    /// The name servers that the parent delegates to.
    pub fn delegation(&self) -> Vec<String> {
        match &self.parent {
            Parent::Serve => NAME_SERVERS.map(str::to_owned).to_vec(),
            Parent::Nxdomain => Vec::new(),
            Parent::Servers(servers) => servers.clone(),
        }
    }
}

/// What one name holds.
#[derive(Debug, Clone, PartialEq)]
pub struct NameState {
    pub records: Records,
    /// Kept when a later record set does not give one.
    pub ttl: u32,
    pub negative_ttl: u32,
}

impl Default for NameState {
    fn default() -> Self {
        Self { records: Records::Nxdomain, ttl: DEFAULT_TTL, negative_ttl: DEFAULT_NEGATIVE_TTL }
    }
}

impl NameState {
    /// What it holds from now on; a TTL that is not given stays.
    pub fn replace(&mut self, records: &Records) {
        if let Records::Table(table) = records {
            self.ttl = table.ttl.unwrap_or(self.ttl);
            self.negative_ttl = table.negative_ttl.unwrap_or(self.negative_ttl);
        }
        self.records = records.clone();
    }

    pub fn signed(&self) -> Signed {
        match &self.records {
            Records::Table(table) => table.signed,
            Records::Nxdomain => Signed::No,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Records {
    Nxdomain,
    /// An empty table is NODATA.
    Table(Box<RecordTable>),
}

/// Record sets of one name; addresses are labels of lab hosts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RecordTable {
    pub a: Vec<String>,
    pub aaaa: Vec<String>,
    pub cname: Option<String>,
    /// Hosts whose addresses stand as hints in one HTTPS record.
    pub https: Vec<String>,
    pub txt: Vec<String>,
    pub mx: Vec<String>,
    pub ttl: Option<u32>,
    pub negative_ttl: Option<u32>,
    /// Another subset at every query.
    pub rotate: bool,
    pub by_subnet: Option<BySubnet>,
    pub signed: Signed,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BySubnet {
    pub us: Vec<String>,
    pub others: Vec<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Signed {
    #[default]
    No,
    Valid,
    Bogus,
}

#[derive(Debug, Clone, PartialEq)]
pub enum ServerMode {
    Serve,
    Lame,
    Timeout,
    Refuse,
    Servfail,
    OldSerial,
    NoTcp,
    NoUdp,
    Truncate,
    /// The peer's name as this server alone has it.
    Own(Box<RecordTable>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Parent {
    #[default]
    Serve,
    Nxdomain,
    Servers(Vec<String>),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolverSetup {
    pub mode: ResolverMode,
    pub truncate_udp: bool,
    pub block_tcp: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ResolverMode {
    #[default]
    Honest,
    Stale,
    TtlClamp(u32),
    ServeStale,
    NegativeCached,
    Nxdomain,
    Servfail,
    ServfailAll,
    TimeoutAll,
    Refuse,
    Hijack(String),
    Private(IpAddr),
    Validating,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostChange {
    pub us: Option<HostBehaviour>,
    pub others: Option<HostBehaviour>,
    pub network: Option<Network>,
    pub v6: Option<bool>,
    pub private: Option<bool>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct HostSetup {
    /// What our vantage meets.
    pub us: HostBehaviour,
    /// What other vantages meet.
    pub others: HostBehaviour,
    pub network: Network,
    pub v6: bool,
    pub private: bool,
}

impl HostSetup {
    pub(crate) fn change(&mut self, change: &HostChange) {
        replace(&mut self.us, &change.us);
        replace(&mut self.others, &change.others);
        replace(&mut self.network, &change.network);
        replace(&mut self.v6, &change.v6);
        replace(&mut self.private, &change.private);
    }
}

/// Two networks (a /24 each), because identity continuity compares them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Network {
    #[default]
    A,
    B,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub enum HostBehaviour {
    #[default]
    Serve,
    Refuse,
    Blackhole,
    Reset,
    TlsStall,
    TlsWrongName,
    TlsExpired,
    TlsNotYetValid,
    TlsSelfSigned,
    TlsNewKey,
    TlsNewIssuer,
    TlsDefaultCert,
    TlsOldVersion,
    Status(u16),
    /// 429 with a `Retry-After` of that many seconds.
    RetryAfter(u32),
    Slow(Duration),
    /// The probability that a request is cut off without an answer.
    Flaky(f64),
    WrongBody,
    Parked,
    CutBody,
    Goaway,
    StallAfter(usize),
}

impl HostBehaviour {
    pub fn needs_tls(&self) -> bool {
        matches!(
            self,
            Self::TlsStall
                | Self::TlsWrongName
                | Self::TlsExpired
                | Self::TlsNotYetValid
                | Self::TlsSelfSigned
                | Self::TlsNewKey
                | Self::TlsNewIssuer
                | Self::TlsDefaultCert
                | Self::TlsOldVersion
        )
    }
}

impl fmt::Display for HostBehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Serve => "serve",
            Self::Refuse => "refuse",
            Self::Blackhole => "blackhole",
            Self::Reset => "reset",
            Self::TlsStall => "tls-stall",
            Self::TlsWrongName => "tls-wrong-name",
            Self::TlsExpired => "tls-expired",
            Self::TlsNotYetValid => "tls-not-yet-valid",
            Self::TlsSelfSigned => "tls-self-signed",
            Self::TlsNewKey => "tls-new-key",
            Self::TlsNewIssuer => "tls-new-issuer",
            Self::TlsDefaultCert => "tls-default-cert",
            Self::TlsOldVersion => "tls-old-version",
            Self::Status(status) => return write!(f, "status-{status}"),
            Self::RetryAfter(seconds) => return write!(f, "retry-after-{seconds}"),
            Self::Slow(time) => return write!(f, "slow-{}s", time.as_secs()),
            Self::Flaky(probability) => return write!(f, "flaky-{probability}"),
            Self::WrongBody => "wrong-body",
            Self::Parked => "parked",
            Self::CutBody => "cut-body",
            Self::Goaway => "goaway",
            Self::StallAfter(bytes) => return write!(f, "stall-after-{bytes}-bytes"),
        };
        f.write_str(word)
    }
}

impl fmt::Display for ResolverMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Honest => "honest",
            Self::Stale => "stale",
            Self::TtlClamp(seconds) => return write!(f, "ttl-clamp-{seconds}"),
            Self::ServeStale => "serve-stale",
            Self::NegativeCached => "negative-cached",
            Self::Nxdomain => "nxdomain",
            Self::Servfail => "servfail",
            Self::ServfailAll => "servfail-all",
            Self::TimeoutAll => "timeout-all",
            Self::Refuse => "refuse",
            Self::Hijack(host) => return write!(f, "hijack:{host}"),
            Self::Private(address) => return write!(f, "private:{address}"),
            Self::Validating => "validating",
        };
        f.write_str(word)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Controls {
    #[default]
    Ok,
    NamesFail,
    AddressesFail,
    Intercepted,
    None,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Egress {
    #[default]
    Ok,
    Cut,
    No53,
    Intercept53,
    /// Nothing leaves our network over IPv6.
    NoV6,
    /// An outbound allow-list: of the peer's hosts only these can be reached.
    Allow(Vec<String>),
}

/// How far the world's clock is from ours, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockShift(pub i64);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Provider {
    #[default]
    Ok,
    Down,
    Slow,
    LosesUpdate,
    ForeignEdit(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonSignal {
    Kill,
    Restart,
}
