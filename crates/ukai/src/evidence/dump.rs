//! What was asked and answered, for a person: DNS messages, probes, certificates.

use std::collections::BTreeSet;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ukai_core::diagnose::evidence::{Asked, Evidence, Outcome, Source};
use ukai_core::observe::{AddressResult, Identity};

use super::archive::Entry;

/// Messages of one archive; a gathering asks about a hundred questions.
const MESSAGES_MAX: usize = 400;

/// Every message as it came, each with its readable form.
pub fn messages(evidence: &Evidence) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (number, asked) in (1..).zip(&evidence.asked).take(MESSAGES_MAX) {
        let stem = format!("dns/{number:03}-{}-{}-{}", source(asked.source), asked.transport, asked.record_type);
        let bytes = asked.wire.as_ref().and_then(|wire| STANDARD.decode(wire).ok());
        entries.push((format!("{stem}.txt"), readable(evidence, asked, bytes.as_deref()).into_bytes()));
        entries.extend(bytes.map(|bytes| (format!("{stem}.bin"), bytes)));
    }
    entries
}

fn readable(evidence: &Evidence, asked: &Asked, bytes: Option<&[u8]>) -> String {
    let mut text = format!(
        "; {} {} asked of {} over {} at {}\n",
        evidence.host, asked.record_type, asked.server, asked.transport, asked.at
    );
    if let Some(subnet) = asked.subnet {
        let _ = writeln!(text, "; on behalf of clients in {subnet} (RFC 7871)");
    }
    if asked.checking_disabled {
        text.push_str("; with validation switched off (CD=1)\n");
    }
    match &asked.outcome {
        Outcome::Silent { why, detail } => {
            let _ = writeln!(text, "; no answer: {why:?}: {detail}");
        }
        Outcome::Answered(answer) => {
            let _ = writeln!(text, "; answered within {} us", answer.elapsed_us);
        }
    }
    match bytes.map(ukai_dns::dump) {
        Some(Ok(dump)) => text.push_str(&dump),
        Some(Err(why)) => {
            let _ = writeln!(text, "; the message cannot be read: {why}");
        }
        None => text.push_str("; the message itself was not kept\n"),
    }
    text
}

fn source(source: Source) -> &'static str {
    match source {
        Source::OurResolver => "our-resolver",
        Source::Authority => "authority",
        Source::Independent => "independent",
        Source::Embedded => "embedded",
    }
}

/// Each address with every stage that was reached.
pub fn probes(evidence: &Evidence) -> String {
    let mut text = String::new();
    for observation in &evidence.observations {
        let _ = writeln!(text, "{} by the normal path, at {}", observation.endpoint, observation.started_at);
        if let Some(failure) = &observation.resolution.failure {
            let _ = writeln!(text, "  resolve: {}", failure.detail);
        }
        observation.results.iter().for_each(|result| line(&mut text, result));
    }
    for candidate in &evidence.candidates {
        let named: Vec<&str> = candidate.learned_from.iter().map(|from| source(*from)).collect();
        let by = if named.is_empty() { "what was known before".to_owned() } else { named.join(", ") };
        let _ = writeln!(text, "{}, named by {by}", candidate.address);
        candidate.proofs.iter().for_each(|proof| line(&mut text, &proof.result));
    }
    for view in &evidence.vantages {
        let said = view.silence.as_deref().unwrap_or("answered");
        let _ = writeln!(text, "{}: {said}", view.vantage);
        view.results.iter().for_each(|proof| line(&mut text, &proof.result));
    }
    text
}

fn line(text: &mut String, result: &AddressResult) {
    let timings = &result.timings;
    let stages = [
        ("connect", timings.connect_us),
        ("tls", timings.tls_us),
        ("processing", timings.processing_us),
        ("transfer", timings.transfer_us),
    ];
    let times: Vec<String> = stages.into_iter().filter_map(|(stage, us)| Some(format!("{stage} {} us", us?))).collect();
    let outcome = match (&result.failure, &result.http) {
        (Some(failure), _) => {
            format!("fails at {} ({}): {}", failure.stage.name(), failure.class.name(), failure.detail)
        }
        (None, Some(http)) => format!("HTTP {}", http.status),
        (None, None) => "works".to_owned(),
    };
    let _ = writeln!(text, "  {} port {}: {outcome} [{}]", result.address, result.port, times.join(", "));
}

/// Who answered the handshakes, each certificate once.
pub fn certificates(evidence: &Evidence) -> String {
    let observed = evidence.observations.iter().flat_map(|observation| &observation.results);
    let proved = evidence.candidates.iter().flat_map(|candidate| &candidate.proofs).map(|proof| &proof.result);
    let mut seen = BTreeSet::new();
    let mut text = String::new();
    for result in observed.chain(proved) {
        let Some(identity) = &result.identity else { continue };
        if seen.insert((result.address, identity.certificate_sha256.clone())) {
            certificate(&mut text, &result.address.to_string(), identity);
        }
    }
    for site in &evidence.default_sites {
        let _ = writeln!(
            text,
            "{} without a server name:\n  SHA-256 {}\n  names {}\n",
            site.address,
            site.certificate_sha256,
            site.names.join(", ")
        );
    }
    text
}

fn certificate(text: &mut String, at: &str, identity: &Identity) {
    let Identity { certificate_sha256, key_sha256, issuer, names, not_before, not_after, chain_length, .. } = identity;
    let verified = if identity.verified { "verified against our trust store" } else { "NOT verified" };
    let _ = writeln!(
        text,
        "{at}, {verified}:\n  certificate SHA-256 {certificate_sha256}\n  key SHA-256 {key_sha256}\n  issuer {issuer}\n  \
         names {}\n  valid from {not_before} to {not_after}\n  {chain_length} certificates in the chain\n",
        names.join(", ")
    );
}
