//! What a drill says of itself while it runs. The same goes to the terminal and, as JSON lines, to a machine.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Serialize;
use ukai_core::event::Recorded;

use super::DrillOutcome;
use super::seen::Ms;
use crate::app::CallReport;
use crate::scenario::{Controls, DaemonSignal, Egress, Parent, Provider, Records, ServerMode, WorldChange};
use crate::servers::Maker;

/// An event of the drill and when it was, in seconds since the first second that faults are counted from.
#[derive(Debug, Clone, Serialize)]
pub struct Told {
    pub t: f64,
    #[serde(flatten)]
    pub event: DrillEvent,
}

impl Told {
    /// `zero` is when the peer was first seen healthy; until then every time is 0.
    pub(super) fn at(now: Ms, zero: Option<Ms>, event: DrillEvent) -> Told {
        let t = match zero {
            Some(zero) => (now as f64 - zero as f64) / 1000.0,
            None => 0.0,
        };
        Told { t, event }
    }
}

#[derive(Debug, Clone, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DrillEvent {
    Started {
        id: String,
        title: String,
        story: String,
    },
    World {
        lines: Vec<String>,
    },
    /// Programs of somebody else's that the override goes to, in place of the daemon's own server.
    Servers {
        servers: Vec<Maker>,
    },
    /// The daemon probes the peer and the application calls it, both with success: the clock starts.
    Healthy,
    Fault {
        changes: Vec<String>,
    },
    Heal {
        changes: Vec<String>,
    },
    /// What the daemon recorded.
    Event {
        position: u64,
        record: Box<Recorded>,
    },
    /// The controller was killed because the drill was asked to, and is being started again.
    Killed {
        kills: u32,
    },
    /// The application's own calls took a turn.
    Application {
        change: Change,
        call: CallReport,
    },
    /// Somebody acted through the command line.
    Operator {
        who: char,
        command: String,
        done: bool,
        answer: String,
    },
    /// What our DNS server answers the application now.
    Answers {
        addresses: Vec<IpAddr>,
        labels: Vec<String>,
    },
    /// The webhook received a message.
    Notified {
        page: bool,
        subject: String,
    },
    Report {
        paths: Vec<PathBuf>,
    },
    Ended {
        outcome: Box<DrillOutcome>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    FirstGood,
    Fails,
    GoodAgain,
}

/// A change of the world, a line for each thing that it changes.
pub(super) fn changes(change: &WorldChange) -> Vec<String> {
    let mut lines = Vec::new();
    lines.extend(change.authoritative.iter().map(|given| format!("the peer's name servers answer {}", records(given))));
    lines.extend(change.names.iter().map(|(name, given)| format!("{name} holds {}", records(given))));
    lines.extend(change.servers.iter().map(|(name, mode)| format!("name server {name}: {}", server(mode))));
    lines.extend(change.parent.iter().map(|given| match given {
        Parent::Serve => "the parent zone delegates as before".to_owned(),
        Parent::Nxdomain => "the parent zone no longer knows the domain".to_owned(),
        Parent::Servers(servers) => format!("the parent zone delegates to {}", servers.join(", ")),
    }));
    lines.extend(change.hosts.iter().filter_map(|(label, host)| Some(format!("host {label}: {}", host.us.as_ref()?))));
    lines.extend(change.resolver.iter().map(|setup| format!("our resolver: {}", setup.mode)));
    lines
        .extend(change.independents.iter().map(|(name, setup)| format!("independent resolver {name}: {}", setup.mode)));
    lines.extend(change.controls.map(|controls| format!("the controls: {}", control(controls))));
    lines.extend(change.egress.iter().map(|given| format!("our way out: {}", egress(given))));
    lines.extend(change.clock.map(|clock| format!("the world's clock is {} s from ours", clock.0)));
    lines.extend(change.provider.iter().map(|given| format!("our DNS server: {}", provider(given))));
    lines.extend(change.daemon.map(|signal| {
        match signal {
            DaemonSignal::Kill => "the daemon is killed",
            DaemonSignal::Restart => "the daemon is killed and started again",
        }
        .to_owned()
    }));
    lines
}

fn records(records: &Records) -> String {
    let Records::Table(table) = records else {
        return "that it does not exist".to_owned();
    };
    let sets = [("A", &table.a), ("AAAA", &table.aaaa), ("HTTPS", &table.https)];
    let mut parts: Vec<String> = sets
        .into_iter()
        .filter(|(_, labels)| !labels.is_empty())
        .map(|(name, labels)| format!("{name} {}", labels.join(", ")))
        .collect();
    parts.extend(table.cname.iter().map(|name| format!("CNAME {name}")));
    parts.extend(table.rotate.then(|| "another subset at every query".to_owned()));
    parts.extend(table.ttl.map(|ttl| format!("TTL {ttl}")));
    if parts.is_empty() { "no record".to_owned() } else { parts.join(", ") }
}

fn server(mode: &ServerMode) -> String {
    match mode {
        ServerMode::Own(table) => format!("answers {}", records(&Records::Table(table.clone()))),
        other => kebab(&format!("{other:?}")),
    }
}

fn control(controls: Controls) -> &'static str {
    match controls {
        Controls::Ok => "all well",
        Controls::NamesFail => "their names fail",
        Controls::AddressesFail => "their addresses fail",
        Controls::Intercepted => "a proxy answers for them",
        Controls::None => "there are none",
    }
}

fn egress(egress: &Egress) -> String {
    match egress {
        Egress::Ok => "open".to_owned(),
        Egress::Cut => "cut".to_owned(),
        Egress::No53 => "no DNS to the world".to_owned(),
        Egress::Intercept53 => "one box answers all DNS".to_owned(),
        Egress::NoV6 => "nothing over IPv6".to_owned(),
        Egress::Allow(labels) => format!("only to {}", labels.join(", ")),
    }
}

fn provider(provider: &Provider) -> String {
    match provider {
        Provider::Ok => "may come up".to_owned(),
        Provider::Down => "killed, and somebody else holds its address".to_owned(),
        Provider::Slow => "slow".to_owned(),
        Provider::LosesUpdate => "killed, and all that it served is lost".to_owned(),
        Provider::ForeignEdit(labels) => format!("somebody else leads what stands to {}", labels.join(", ")),
    }
}

/// `OldSerial` → `old-serial`, as the scenario format writes it.
fn kebab(word: &str) -> String {
    let mut out = String::new();
    for c in word.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.extend(c.to_lowercase());
    }
    out
}
