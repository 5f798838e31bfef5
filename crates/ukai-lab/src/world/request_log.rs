//! What each host of the lab saw: the ground truth that expectations about the application are checked against.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// Requests kept in detail per host; the counts go on. A drill of ten minutes at ten calls a second fits.
const MAX_CALLS: usize = 10_000;

/// By host label; the controls stand beside the peer's hosts.
pub type RequestLog = BTreeMap<String, HostLog>;

#[derive(Debug, Clone, Default)]
pub struct HostLog {
    /// TCP connections accepted.
    pub accepts: u64,
    /// TLS handshakes that the client completed.
    pub handshakes: u64,
    /// HTTP requests received.
    pub requests: u64,
    /// Of these, how many carried the drill's secret.
    pub secrets: u64,
    pub calls: Vec<Call>,
}

impl HostLog {
    pub(super) fn record(&mut self, call: Call) {
        self.requests += 1;
        self.secrets += u64::from(call.secret);
        if self.calls.len() < MAX_CALLS {
            self.calls.push(call);
        }
    }

    pub fn requests_by(&self, who: Caller) -> usize {
        self.calls.iter().filter(|call| call.who == who).count()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub at: Timestamp,
    pub who: Caller,
    pub path: String,
    /// Whether the request carried the drill's secret.
    pub secret: bool,
    /// What was answered; `None` when the request was cut off.
    pub status: Option<u16>,
}

/// Told apart by `User-Agent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    Prober,
    App,
    Other,
}

impl Caller {
    pub(super) fn of(user_agent: &str) -> Self {
        if user_agent.starts_with("ukai/") {
            Self::Prober
        } else if user_agent.starts_with("drill-app/") {
            Self::App
        } else {
            Self::Other
        }
    }
}

/// One message that the drill's webhook received.
#[derive(Debug, Clone)]
pub struct Notification {
    pub at: Timestamp,
    /// Lower-case names.
    pub headers: BTreeMap<String, String>,
    pub body: String,
}
