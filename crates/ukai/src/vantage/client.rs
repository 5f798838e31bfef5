//! The controller's side: one question to one vantage, and an answer that is not trusted further than it must be.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{self, HeaderValue};
use tokio::time::Instant;
use ukai_core::diagnose::evidence::{Proof, VantageView};
use ukai_core::observe::{AddressResult, Failure, HttpFacts};
use ukai_probe::escape::escape;
use url::Url;

use super::{ADDRESSES_MAX, PATH, Question, RESULTS_MAX, Sight};
use crate::notify::http::HttpsClient;
use crate::secret::Secret;

/// Its resolver and its probes time out within four seconds; this leaves the way there and back.
const VANTAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// Every probe with a sentence of its own.
const ANSWER_BYTES: usize = 256 * 1024;
const DETAIL_CHARACTERS: usize = 300;

/// Another ukai that is asked what it sees.
#[derive(Clone)]
pub struct OtherVantage {
    pub name: String,
    url: Url,
    token: Secret,
    http: HttpsClient,
}

impl OtherVantage {
    pub fn new(name: String, mut url: Url, token: Secret, http: HttpsClient) -> OtherVantage {
        url.set_path(PATH);
        OtherVantage { name, url, token, http }
    }

    /// Silence is an answer too: it is recorded with its reason.
    pub async fn look(&self, peer: &str, addresses: BTreeSet<IpAddr>, deadline: Instant) -> VantageView {
        let within = deadline.saturating_duration_since(Instant::now()).min(VANTAGE_TIMEOUT);
        let seen = self.ask(peer, addresses.into_iter().take(ADDRESSES_MAX).collect(), within).await;
        let (sight, silence) = match seen {
            Ok(sight) => (sight, None),
            Err(why) => (Sight { resolved: BTreeSet::new(), results: Vec::new() }, Some(shortened(&why))),
        };
        VantageView {
            vantage: self.name.clone(),
            silence,
            resolved: sight.resolved.into_iter().take(ADDRESSES_MAX).collect(),
            results: sight.results.into_iter().take(RESULTS_MAX).map(taken_over).collect(),
        }
    }

    async fn ask(&self, peer: &str, addresses: BTreeSet<IpAddr>, within: Duration) -> Result<Sight, String> {
        let question = Question { peer: peer.to_owned(), addresses };
        let body = serde_json::to_vec(&question).map_err(|error| error.to_string())?;
        let bearer = HeaderValue::from_str(&format!("Bearer {}", self.token.expose()));
        let mut bearer = bearer.map_err(|_| "its token has characters that no header may have".to_owned())?;
        bearer.set_sensitive(true);
        let headers = vec![(header::AUTHORIZATION, bearer)];
        let answer = self.http.post_within(&self.url, headers, Bytes::from(body), within, ANSWER_BYTES);
        let answer = answer.await.map_err(|error| error.to_string())?;
        if !answer.status.is_success() {
            return Err(format!("{}: {}", answer.status.as_u16(), answer.excerpt()));
        }
        let body = answer.body.ok_or("its answer was cut, or is too large")?;
        serde_json::from_slice(&body).map_err(|error| format!("its answer cannot be read: {error}"))
    }
}

/// Only what a diagnosis reads, and no text as it came.
fn taken_over(proof: Proof) -> Proof {
    let AddressResult { address, port, http, failure, .. } = proof.result;
    let http = http.map(|http| HttpFacts { status: http.status, ..HttpFacts::default() });
    let failure = failure.map(|failure| Failure { detail: shortened(&failure.detail), ..failure });
    let result = AddressResult { http, failure, ..AddressResult::untried(address, port) };
    Proof { endpoint: shortened(&proof.endpoint), result }
}

fn shortened(text: &str) -> String {
    escape(&text.chars().take(DETAIL_CHARACTERS).collect::<String>())
}
