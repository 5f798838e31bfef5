//! `[[notify]]`: who is told.

use std::collections::BTreeSet;

use url::{Host, Url};

use super::problem::{At, suggestion};
use super::reader::Reader;
use super::{Peer, Subscriber, SubscriberKind, defaults, v1};
use crate::secret::Secret;

pub fn subscribers(written: Vec<v1::Notify>, peers: &[Peer], reader: &mut Reader<'_>) -> Vec<Subscriber> {
    let at = At::default().key("notify");
    reader.at_most(&at, written.len(), defaults::SUBSCRIBERS, "subscribers");
    let mut names = BTreeSet::new();
    let mut subscribers = Vec::new();
    for (index, notify) in written.into_iter().enumerate() {
        let at = at.index(index);
        if notify.name.trim().is_empty() {
            reader.problem(&at.key("name"), "a subscriber needs a name");
        }
        if !names.insert(notify.name.clone()) {
            reader.problem(&at.key("name"), format!("the name {:?} is used twice", notify.name));
        }
        subscribers.extend(subscriber(&at, notify, peers, reader));
    }
    subscribers
}

fn subscriber(at: &At, notify: v1::Notify, peers: &[Peer], reader: &mut Reader<'_>) -> Option<Subscriber> {
    let secret = notify.secret.as_ref().and_then(|place| reader.secret_place(&at.key("secret"), place));
    let kinds = [("webhook", false), ("slack", true)];
    let is_slack = reader.word(&at.key("kind"), Some(&notify.kind), &kinds);
    let url = match &notify.url {
        v1::SecretSource::Literal(text) => Some(Secret::new(text)),
        v1::SecretSource::Place(place) => reader.secret_place(&at.key("url"), place),
    };
    if let Some(url) = &url {
        check_url(&at.key("url"), url, reader);
    }
    if is_slack == Some(true) && notify.secret.is_some() {
        reader.problem(&at.key("secret"), "Slack does not check a signature; secret is for webhooks only");
    }
    for (index, name) in notify.peers.iter().enumerate() {
        if !peers.iter().any(|peer| &peer.name == name) {
            let known: Vec<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
            reader.problem(
                &at.key("peers").index(index),
                format!("there is no peer named {name:?}{}", suggestion(name, known)),
            );
        }
    }
    for (index, topic) in notify.topics.iter().enumerate() {
        if !topic.starts_with("arn:") {
            reader.problem(
                &at.key("topics").index(index),
                "a topic is written as the ARN that alarms name as their action",
            );
        }
    }
    let topics = notify.topics.into_iter().collect();
    let kind = if is_slack? { SubscriberKind::Slack } else { SubscriberKind::Webhook { secret } };
    Some(Subscriber { name: notify.name, kind, url: url?, peers: notify.peers.into_iter().collect(), topics })
}

/// No message repeats the URL, which may hold a token.
fn check_url(at: &At, url: &Secret, reader: &mut Reader<'_>) {
    let Ok(url) = Url::parse(url.expose()) else {
        return reader.problem(at, "this is not a URL; write https://HOST/PATH");
    };
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => reader.warn(at, "notifications will cross the network in plain HTTP; use https"),
        other => reader.problem(at, format!("a subscriber is reached over https, not {other}")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        reader.problem(at, "a user name or password in the URL is not sent; use secret to sign the messages");
    }
}

pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}
