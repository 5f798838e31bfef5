//! What runs beside the driver: the task that follows files, and one for each target that is scraped.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::otlp::{Options, OtlpReceiver};
use super::scrape::Target;
use super::{Intake, scrape, tail};
use crate::config::Config;
use crate::notify::{HttpsClient, HttpsOptions};

/// A look that has begun hands over its lines before the daemon ends.
const STOP_BOUND: Duration = Duration::from_secs(5);

/// `[metrics]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub emf: Vec<PathBuf>,
    pub scrape: Vec<Target>,
    pub otlp: Options,
}

/// The inputs that run. Dropping it ends them without order; [`Inputs::stop`] in order.
pub struct Inputs {
    pub intake: Intake,
    files: watch::Sender<Vec<PathBuf>>,
    otlp: watch::Sender<Options>,
    tail: JoinHandle<()>,
    ca: Vec<CertificateDer<'static>>,
    client: HttpsClient,
    scrapes: Vec<(Target, JoinHandle<()>)>,
}

impl Inputs {
    pub fn start(config: &Config, intake: Intake) -> anyhow::Result<Inputs> {
        let (files, receiver) = watch::channel(config.metrics.emf.clone());
        let tail = tokio::spawn(tail::run(config.data_dir.clone(), receiver, intake.clone()));
        let mut inputs = Inputs {
            intake,
            files,
            otlp: watch::Sender::new(config.metrics.otlp.clone()),
            tail,
            ca: config.ca.clone(),
            client: client(&config.ca)?,
            scrapes: Vec::new(),
        };
        inputs.scrape(&config.metrics.scrape);
        Ok(inputs)
    }

    pub fn otlp_receiver(&self, now: Timestamp) -> OtlpReceiver {
        OtlpReceiver::new(self.otlp.subscribe(), self.intake.clone(), now)
    }

    /// What is still listed goes on; the rest ends, and what is new begins.
    pub fn reconfigure(&mut self, config: &Config) -> anyhow::Result<()> {
        if self.ca != config.ca {
            self.client = client(&config.ca)?;
            self.ca.clone_from(&config.ca);
            self.scrape(&[]);
        }
        self.scrape(&config.metrics.scrape);
        self.files.send_replace(config.metrics.emf.clone());
        self.otlp.send_replace(config.metrics.otlp.clone());
        Ok(())
    }

    fn scrape(&mut self, targets: &[Target]) {
        self.scrapes.retain(|(target, task)| {
            let stays = targets.contains(target);
            if !stays {
                task.abort();
            }
            stays
        });
        for target in targets {
            if !self.scrapes.iter().any(|(known, _)| known == target) {
                let task = tokio::spawn(scrape::run(target.clone(), self.client.clone(), self.intake.clone()));
                self.scrapes.push((target.clone(), task));
            }
        }
    }

    /// The caller goes on taking puts until this is done.
    pub async fn stop(self) {
        let Inputs { files, tail, scrapes, .. } = self;
        drop(files);
        for (_, task) in scrapes {
            task.abort();
        }
        if tokio::time::timeout(STOP_BOUND, tail).await.is_err() {
            tracing::warn!("the files of metrics were not left in order; some lines may come twice");
        }
    }
}

/// Targets are found as the system finds them: only TLS would make another way safe, and a target is usually beside us.
fn client(ca: &[CertificateDer<'static>]) -> anyhow::Result<HttpsClient> {
    let options = HttpsOptions { ca: ca.to_vec(), ..HttpsOptions::default() };
    HttpsClient::new(options).context("targets cannot be scraped: TLS could not be set up")
}
