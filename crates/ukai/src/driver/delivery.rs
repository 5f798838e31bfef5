//! Notifications on their way out: whom the configuration names, and what may have been sent before.

use std::collections::BTreeSet;

use anyhow::Context;
use tokio::sync::mpsc;
use ukai_core::event::Notification;
use ukai_core::input::Input;

use crate::config::Config;
use crate::notify::{Backoff, Delivery, HttpsClient, HttpsOptions, Notifier};

pub struct Subscribers {
    delivery: Delivery,
    /// Keys that an earlier process may have sent already.
    begun: BTreeSet<String>,
}

impl Subscribers {
    pub fn start(config: &Config, begun: BTreeSet<String>, inputs: mpsc::Sender<Input>) -> anyhow::Result<Subscribers> {
        let notifiers = notifiers(config)?;
        Ok(Subscribers { delivery: Delivery::spawn(notifiers, Backoff::default(), inputs), begun })
    }

    pub fn reconfigure(&mut self, config: &Config) -> anyhow::Result<()> {
        let notifiers = notifiers(config)?;
        self.delivery.reconfigure(notifiers);
        Ok(())
    }

    /// Never waits.
    pub fn tell(&self, subscriber: &str, notification: Notification) {
        let repeated = self.begun.contains(&notification.key);
        self.delivery.send(subscriber, notification, repeated);
    }
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
