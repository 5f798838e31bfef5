//! Is port 53 ours? A question that only an interceptor would answer.
//!
//! `<random>.ukai-canary.invalid` does not exist and is nobody's to answer but the root's. An authoritative server of some
//! other zone refuses it or refers upwards. A resolver in the middle is recognised by being helpful.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::client::{AskOptions, Client};
use crate::message::{Data, Question, Reply};
use crate::name::Name;
use crate::types::{Rcode, RecordType};
use crate::upstream::Upstream;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Canary {
    /// It behaves like an authoritative server.
    Clean,
    /// Somebody answers in its place.
    Intercepted(String),
    /// Nothing can be said.
    NoAnswer(String),
}

/// Asks one authoritative server, which must not be a root server: to those the name is a fair question.
pub async fn canary(client: &Client, server: SocketAddr, timeout: Duration) -> Canary {
    let name = match random_name() {
        Ok(name) => name,
        Err(cause) => return Canary::NoAnswer(cause),
    };
    let options = AskOptions { recursion_desired: true, timeout, ..AskOptions::default() };
    match client.ask(&Upstream::Udp(server), &Question { name, qtype: RecordType::A }, &options).await {
        Ok(reply) => judge(&reply),
        Err(error) => Canary::NoAnswer(error.to_string()),
    }
}

fn judge(reply: &Reply) -> Canary {
    let intercepted =
        |why: String| Canary::Intercepted(format!("asked for a name that does not exist, {} {why}", reply.server));
    if let Some(address) = reply.addresses().first() {
        return intercepted(format!("gave the address {address}"));
    }
    if reply.authoritative && reply.rcode == Rcode::NXDOMAIN && !reply.recursion_available && speaks_for_the_root(reply)
    {
        return Canary::NoAnswer(format!("{} holds the root zone too, so the name is its own to deny", reply.server));
    }
    if reply.authoritative && reply.rcode != Rcode::REFUSED {
        return intercepted(format!("answered {} as if the name were its own", reply.rcode));
    }
    if reply.recursion_available && reply.rcode != Rcode::REFUSED {
        return intercepted(format!(
            "answered {} and offers recursion, which no authoritative server does",
            reply.rcode
        ));
    }
    if reply.rcode == Rcode::NXDOMAIN {
        return intercepted("answered NXDOMAIN without authority, as only a cache does".to_owned());
    }
    Canary::Clean
}

/// Inside a company one server may hold the root and everything below it.
fn speaks_for_the_root(reply: &Reply) -> bool {
    reply.authority.iter().any(|record| matches!(record.data, Data::Soa(_)) && record.name == ".")
}

fn random_name() -> Result<Name, String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| format!("no randomness: {error}"))?;
    let label: String = random.iter().map(|octet| format!("{octet:02x}")).collect();
    format!("{label}.ukai-canary.invalid").parse().map_err(|error: crate::name::NameError| error.to_string())
}
