//! What was asked and answered, for a person: DNS messages, probes, certificates.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ukai_core::diagnose::evidence::{Answer, Asked, Evidence, Outcome, Source};
use ukai_core::diagnose::reading::list;
use ukai_core::observe::{AddressResult, Identity};

use super::archive::Entry;

/// Messages of one archive; a gathering asks about a hundred questions.
const MESSAGES_MAX: usize = 400;
/// Of a server's name in a file name: with all around it, it stays below what a tar header holds.
const FILE_NAME_CHARACTERS: usize = 40;

/// Every message as it came, each with its readable form.
pub fn messages(evidence: &Evidence) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (number, asked) in (1..).zip(&evidence.asked).take(MESSAGES_MAX) {
        let (source, server) = (source(asked.source), in_a_file_name(&asked.identity));
        let stem = format!("dns/{number:03}-{source}-{server}-{}-{}", asked.transport, asked.record_type);
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
        Outcome::Answered(answer) => facts(&mut text, answer),
    }
    match bytes.map(ukai_dns::dump) {
        Some(Ok(dump)) => text.push_str(&dump),
        Some(Err(why)) => {
            let _ = writeln!(text, "; the message cannot be read: {why}");
        }
        None => text.push_str("; the message itself is not here: it was not kept, or holds a name that is taken out\n"),
    }
    text
}

/// What was read of an answer, also where the message itself is not here.
fn facts(text: &mut String, answer: &Answer) {
    let bits = [
        ("aa", answer.authoritative),
        ("tc", answer.truncated),
        ("ra", answer.recursion_available),
        ("ad", answer.authentic_data),
    ];
    let flags: Vec<&str> = bits.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    let rcode = format!("{:?}", answer.rcode).to_uppercase();
    let _ = writeln!(text, "; {rcode} within {} us, flags: {}", answer.elapsed_us, flags.join(" "));
    let _ = writeln!(text, "; {} records, addresses: {}", answer.records, list(&answer.addresses));
    if let Some(ttl) = answer.ttl {
        let _ = writeln!(text, "; TTL {ttl}");
    }
    if !answer.chain.is_empty() {
        let _ = writeln!(text, "; by way of {}", list(&answer.chain));
    }
    for error in &answer.extended_errors {
        let _ = writeln!(text, "; extended error {}: {}", error.code, error.text);
    }
    if let Some(nsid) = &answer.nsid {
        let _ = writeln!(text, "; NSID {nsid}");
    }
}

/// Whoever was asked, short and without what a file name must not hold.
fn in_a_file_name(text: &str) -> String {
    let bare = text.split_once("://").map_or(text, |(_, rest)| rest).trim_end_matches('.');
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '-' | '.') { c } else { '_' };
    bare.chars().take(FILE_NAME_CHARACTERS).map(safe).collect()
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

/// Who answered the handshakes: a file for each certificate, with the addresses that showed it.
pub fn certificates(evidence: &Evidence) -> Vec<Entry> {
    let observed = evidence.observations.iter().flat_map(|observation| &observation.results);
    let proved = evidence.candidates.iter().flat_map(|candidate| &candidate.proofs).map(|proof| &proof.result);
    let elsewhere = evidence.vantages.iter().flat_map(|view| &view.results).map(|proof| &proof.result);
    let mut shown: BTreeMap<&str, (&Identity, BTreeSet<IpAddr>)> = BTreeMap::new();
    for result in observed.chain(proved).chain(elsewhere) {
        if let Some(identity) = &result.identity {
            let by = &mut shown.entry(&identity.certificate_sha256).or_insert((identity, BTreeSet::new())).1;
            by.insert(result.address);
        }
    }
    let mut entries: Vec<Entry> = (1..)
        .zip(shown.values())
        .map(|(number, (identity, by))| {
            (format!("certificates/{number:02}.txt"), certificate(identity, by).into_bytes())
        })
        .collect();
    if !evidence.default_sites.is_empty() {
        let mut text = String::from("What is shown to a client that sends no server name:\n");
        for site in &evidence.default_sites {
            let _ =
                writeln!(text, "{}: SHA-256 {}, for {}", site.address, site.certificate_sha256, site.names.join(", "));
        }
        entries.push(("certificates/without-a-name.txt".to_owned(), text.into_bytes()));
    }
    entries
}

fn certificate(identity: &Identity, by: &BTreeSet<IpAddr>) -> String {
    let Identity { certificate_sha256, key_sha256, issuer, names, names_total, not_before, not_after, .. } = identity;
    let verified = if identity.verified { "verified against our trust store" } else { "NOT verified" };
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "not known".to_owned());
    format!(
        "shown by       {}\nverification   {verified}\ncertificate    SHA-256 {certificate_sha256}\n\
         public key     SHA-256 {key_sha256}\nissuer         {issuer}\nnames          {} ({names_total} in all)\n\
         valid          {not_before} to {not_after}\nchain          {} certificates\nTLS            {}, ALPN {}\n",
        list(by),
        names.join(", "),
        identity.chain_length,
        or_unknown(&identity.version),
        or_unknown(&identity.alpn),
    )
}
