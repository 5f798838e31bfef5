//! Notifications on their way out: whom the configuration names, and what may have been sent before.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use tokio::sync::mpsc;
use ukai_core::event::Notification;
use ukai_core::input::Input;

use crate::config::Config;
use crate::notify::{Backoff, Delivery, HttpsClient, HttpsOptions, Notifier};

pub struct Subscribers {
    delivery: Delivery,
    /// Kept beside the queues to know who hears of which peer.
    notifiers: BTreeMap<String, Notifier>,
    /// Keys that an earlier process may have sent already.
    begun: BTreeSet<String>,
    inputs: mpsc::Sender<Input>,
}

impl Subscribers {
    pub fn start(config: &Config, begun: BTreeSet<String>, inputs: mpsc::Sender<Input>) -> anyhow::Result<Subscribers> {
        let notifiers = notifiers(config)?;
        let delivery = Delivery::spawn(notifiers.clone(), Backoff::default(), inputs.clone());
        Ok(Subscribers { delivery, notifiers: by_name(notifiers), begun, inputs })
    }

    pub fn reconfigure(&mut self, config: &Config) -> anyhow::Result<()> {
        let notifiers = notifiers(config)?;
        self.delivery.reconfigure(notifiers.clone());
        self.notifiers = by_name(notifiers);
        Ok(())
    }

    /// Never waits.
    pub fn tell(&self, subscriber: &str, notification: Notification) {
        let deaf = self.notifiers.get(subscriber).is_some_and(|notifier| !notifier.hears_of(&notification.peer));
        if deaf {
            let (inputs, subscriber) = (self.inputs.clone(), subscriber.to_owned());
            let result = Err(format!("{subscriber} does not want to hear of {}", notification.peer));
            let input = Input::NotificationSent { key: notification.key, subscriber, attempts: 0, result };
            tokio::spawn(async move {
                let _ = inputs.send(input).await;
            });
            return;
        }
        let repeated = self.begun.contains(&notification.key);
        self.delivery.send(subscriber, notification, repeated);
    }
}

fn by_name(notifiers: Vec<Notifier>) -> BTreeMap<String, Notifier> {
    notifiers.into_iter().map(|notifier| (notifier.name().to_owned(), notifier)).collect()
}

fn notifiers(config: &Config) -> anyhow::Result<Vec<Notifier>> {
    let options = HttpsOptions {
        resolver: config.resolver.clone(),
        independent: config.independent.clone(),
        ca: config.ca.clone(),
    };
    let http = HttpsClient::new(options).context("notifications cannot be sent: TLS could not be set up")?;
    config
        .subscribers
        .iter()
        .map(|subscriber| {
            Notifier::new(subscriber, http.clone())
                .with_context(|| format!("the URL of {:?} cannot be used", subscriber.name))
        })
        .collect()
}
