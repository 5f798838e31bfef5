//! Every authoritative server asked the same questions, side by side.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Authority;
use crate::client::{AskError, AskOptions, Client};
use crate::message::{Question, Reply};
use crate::name::Name;
use crate::types::{RecordType, Transport};
use crate::upstream::Upstream;

/// Queries under way at once.
const MAX_CONCURRENT: usize = 16;
/// Servers times types times transports: sixteen servers, four types, two transports.
const MAX_QUERIES: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityOptions {
    pub qtypes: Vec<RecordType>,
    /// UDP and TCP; others are not spoken by authorities and are left out.
    pub transports: Vec<Transport>,
    /// For one query.
    pub timeout: Duration,
    /// For all of them; what is not answered by then counts as timed out.
    pub bound: Duration,
    pub client_subnet: Option<IpNet>,
}

impl Default for AuthorityOptions {
    fn default() -> Self {
        Self {
            qtypes: vec![RecordType::A, RecordType::AAAA, RecordType::HTTPS, RecordType::SOA],
            transports: vec![Transport::Udp, Transport::Tcp],
            timeout: Duration::from_secs(2),
            bound: Duration::from_secs(10),
            client_subnet: None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityAnswer {
    pub server: Authority,
    pub transport: Transport,
    pub qtype: RecordType,
    pub result: Result<Reply, AskError>,
}

/// The answers come in the order of servers, types and transports given, one for each, answered or not.
pub async fn ask_authorities(
    client: &Client,
    servers: &[Authority],
    host: &Name,
    options: &AuthorityOptions,
) -> Vec<AuthorityAnswer> {
    let deadline = Instant::now() + options.bound;
    let mut answers = unanswered(servers, options);
    let slots = Arc::new(Semaphore::new(MAX_CONCURRENT));
    let mut tasks = JoinSet::new();
    for (index, answer) in answers.iter().enumerate() {
        let upstream = match answer.transport {
            Transport::Tcp => Upstream::Tcp(answer.server.address),
            _ => Upstream::Udp(answer.server.address),
        };
        let question = Question { name: host.clone(), qtype: answer.qtype };
        let ask_options = AskOptions {
            recursion_desired: false,
            nsid: true,
            client_subnet: options.client_subnet,
            // TCP is asked as well; what UDP alone gives is a finding.
            tcp_on_truncation: false,
            timeout: options.timeout,
            ..AskOptions::default()
        };
        let (client, slots) = (client.clone(), Arc::clone(&slots));
        tasks.spawn(async move {
            let _slot = slots.acquire_owned().await;
            (index, client.ask(&upstream, &question, &ask_options).await)
        });
    }
    while let Ok(Some(finished)) = tokio::time::timeout_at(deadline, tasks.join_next()).await {
        if let Ok((index, result)) = finished {
            answers[index].result = result;
        }
    }
    answers
}

fn unanswered(servers: &[Authority], options: &AuthorityOptions) -> Vec<AuthorityAnswer> {
    let transports: Vec<_> = options
        .transports
        .iter()
        .copied()
        .filter(|transport| matches!(transport, Transport::Udp | Transport::Tcp))
        .collect();
    let mut answers = Vec::new();
    for server in servers {
        for &qtype in &options.qtypes {
            for &transport in &transports {
                let result = Err(AskError::Timeout { after: options.bound });
                answers.push(AuthorityAnswer { server: server.clone(), transport, qtype, result });
            }
        }
    }
    answers.truncate(MAX_QUERIES);
    answers
}
