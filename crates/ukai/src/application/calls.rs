//! `POST /v1/application/calls`: how the application's calls of its peers went.

use std::collections::BTreeMap;
use std::net::IpAddr;

use hyper::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use ukai_core::diagnose::evidence::ApplicationCall;

use super::door::{Refusal, refused};

pub const PATH: &str = "/v1/application/calls";
pub const BODY_BYTES: usize = 16 * 1024;
pub const CALLS_PER_REQUEST: usize = 100;
/// Calls on their way to the engine; a hundred requests of one call each at once are an ordinary burst.
pub const CALLS_QUEUED: usize = 1024;
/// Characters of an error text that are kept.
pub const ERROR_CHARACTERS: usize = 200;

/// One call that the application reported. Its time is this machine's wall clock; whoever hands it to the engine puts
/// engine time there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    pub peer: String,
    pub call: ApplicationCall,
}

#[derive(Debug)]
pub struct Calls {
    pub hosts: watch::Receiver<BTreeMap<String, String>>,
    pub calls: mpsc::Sender<Reported>,
}

/// What the application posts. Unknown fields are refused, so that a misspelt `ok` is not taken for a good call.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Posted {
    peer: String,
    host: String,
    ok: bool,
    #[serde(default)]
    address: Option<IpAddr>,
    #[serde(default)]
    error: Option<String>,
}

impl Calls {
    pub fn take(&self, body: &[u8]) -> Result<(), Refusal> {
        let posted = parse(body)?;
        let calls = posted.into_iter().map(|posted| self.check(posted)).collect::<Result<Vec<_>, _>>()?;
        self.forward(calls)
    }

    fn check(&self, posted: Posted) -> Result<Reported, Refusal> {
        let Posted { peer, host, ok, address, error } = posted;
        let expected = self.hosts.borrow().get(&peer).cloned();
        let Some(expected) = expected else {
            return Err(refused(StatusCode::NOT_FOUND, format!("no peer is named {:?}", escaped(&peer))));
        };
        if !host.trim_end_matches('.').eq_ignore_ascii_case(&expected) {
            let sentence = format!("the peer {peer:?} is {expected}, not {:?}", escaped(&host));
            return Err(refused(StatusCode::BAD_REQUEST, sentence));
        }
        let error = error.as_deref().map(escaped);
        Ok(Reported { peer, call: ApplicationCall { at: Timestamp::now(), ok, address, error } })
    }

    /// All of a request's calls or none, so that a repeated request repeats the same.
    fn forward(&self, calls: Vec<Reported>) -> Result<(), Refusal> {
        if calls.is_empty() {
            return Ok(());
        }
        let Ok(permits) = self.calls.try_reserve_many(calls.len()) else {
            return Err(refused(
                StatusCode::TOO_MANY_REQUESTS,
                "more calls than can be taken now; try again in a second",
            ));
        };
        for (permit, call) in permits.zip(calls) {
            permit.send(call);
        }
        Ok(())
    }
}

fn parse(body: &[u8]) -> Result<Vec<Posted>, Refusal> {
    let is_array = body.trim_ascii_start().first() == Some(&b'[');
    let parsed = if is_array {
        serde_json::from_slice::<Vec<Posted>>(body)
    } else {
        serde_json::from_slice::<Posted>(body).map(|one| vec![one])
    };
    let posted = parsed.map_err(|error| {
        refused(
            StatusCode::BAD_REQUEST,
            format!(
                "send {{\"peer\",\"host\",\"ok\",\"address\",\"error\"}} or an array of these: {}",
                escaped(&error.to_string())
            ),
        )
    })?;
    if posted.len() > CALLS_PER_REQUEST {
        return Err(refused(
            StatusCode::BAD_REQUEST,
            format!("at most {CALLS_PER_REQUEST} calls fit into one request"),
        ));
    }
    Ok(posted)
}

/// Control characters become visible, and the text ends after [`ERROR_CHARACTERS`].
fn escaped(text: &str) -> String {
    let mut characters = text.chars().flat_map(|c| {
        let visible: Vec<char> = if c.is_control() { c.escape_default().collect() } else { vec![c] };
        visible
    });
    let mut kept: String = characters.by_ref().take(ERROR_CHARACTERS).collect();
    if characters.next().is_some() {
        kept.push('…');
    }
    kept
}
