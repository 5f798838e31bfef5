//! Evidence as a person reads it: who answers what, and which address proves what.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use ukai_core::diagnose::evidence::{
    Answer, Asked, Canary, Candidate, ControlResult, Evidence, Outcome, Silence, Source,
};
use ukai_core::diagnose::verdict::{Code, Judgement, Verdict};

use super::narrate::{judgement_name, judgement_tone};
use super::paint::{Painted, Table, Tone, list};

/// Addresses of one answer that are shown in a cell.
const CELL_ADDRESSES: usize = 4;

pub fn print_evidence(evidence: &Evidence) {
    heading("Who answers what");
    anstream::print!("{}", answers(evidence));
    if let Some(delegation) = &evidence.delegation {
        anstream::println!(
            "  zone {}: the parent names {}; the zone itself names {}",
            delegation.zone,
            list(&delegation.parent_ns),
            list(&delegation.child_ns)
        );
        for problem in &delegation.problems {
            anstream::println!("  {}", Painted(Tone::Warning, problem));
        }
    }
    match &evidence.canary {
        Canary::Clean => {}
        Canary::Intercepted(reason) => {
            anstream::println!("  {}", Painted(Tone::Bad, format_args!("port 53 is intercepted: {reason}")));
        }
        Canary::NoAnswer => anstream::println!("  {}", Painted(Tone::Faint, "no authority answered the canary")),
    }
    heading("Candidates");
    anstream::print!("{}", candidates(evidence));
    heading("Controls");
    anstream::print!("{}", controls(&evidence.controls));
    let sentences = evidence.controls.iter().flat_map(|control| [&control.name_failure, &control.address_failure]);
    for sentence in sentences.flatten() {
        anstream::println!("  {}", Painted(Tone::Faint, sentence));
    }
}

/// The sentence for a host with which all is well. None: something that was tried failed, or a rule found a cause.
pub fn nothing_is_wrong(evidence: &Evidence, verdict: &Verdict) -> Option<String> {
    let results = evidence.observations.iter().flat_map(|observation| &observation.results);
    let addresses: BTreeSet<IpAddr> = results.map(|result| result.address).collect();
    let all_works = verdict.code == Code::Open
        && !addresses.is_empty()
        && evidence.observations.iter().all(|observation| !observation.any_failed())
        && evidence.candidates.iter().all(|candidate| candidate.first_failure().is_none());
    if !all_works {
        return None;
    }
    let mut sentence = format!("nothing is wrong: {} answers as it should at {}", evidence.host, list(addresses));
    let unanswered = evidence.asked.iter().filter(|asked| asked.answer().is_none()).count();
    if unanswered > 0 {
        sentence.push_str(&format!(" ({unanswered} of {} DNS questions got no answer)", evidence.asked.len()));
    }
    let failing = evidence.controls.iter().filter(|control| !control.passed()).count();
    if failing > 0 {
        sentence.push_str(&format!("; {failing} of {} controls fail", evidence.controls.len()));
    }
    Some(sentence)
}

/// The verdict in one line, for above the tables.
pub fn print_summary(evidence: &Evidence, verdict: &Verdict) {
    match nothing_is_wrong(evidence, verdict) {
        Some(sentence) => anstream::println!("{}", Painted(Tone::Good, sentence)),
        None => anstream::println!("{}: {}", Painted(Tone::Strong, head(verdict)), verdict.summary),
    }
}

pub fn print_all_is_well(sentence: &str, verdict: &Verdict) {
    heading("Verdict");
    anstream::println!("  {}", Painted(Tone::Good, sentence));
    for reason in &verdict.evidence_against {
        anstream::println!("  {} {reason}", Painted(Tone::Warning, "-"));
    }
}

fn head(verdict: &Verdict) -> String {
    format!("{} ({}), action {}", verdict.code.name(), verdict.sure.name(), verdict.action.name())
}

pub fn print_verdict(verdict: &Verdict) {
    heading("Verdict");
    anstream::println!("  {}", Painted(Tone::Strong, head(verdict)));
    anstream::println!("  {}", verdict.summary);
    for (sign, tone, reasons) in [
        ("+", Tone::Good, &verdict.evidence_for),
        ("-", Tone::Warning, &verdict.evidence_against),
        ("excluded:", Tone::Faint, &verdict.eliminated),
        ("would change it:", Tone::Faint, &verdict.would_change),
    ] {
        for reason in reasons {
            anstream::println!("  {} {reason}", Painted(tone, sign));
        }
    }
    heading("Options");
    for choice in &verdict.options {
        let judgement = Painted(judgement_tone(choice.judgement), judgement_name(choice.judgement));
        anstream::println!("  {judgement} {}: {}", choice.name, choice.reason);
        if choice.judgement == Judgement::Useless {
            continue;
        }
        let undone = if choice.reversible { "can be undone" } else { "cannot be undone" };
        let more =
            format!("effect: {}; risk: {}; takes {}; {undone}", choice.effect, choice.risk, choice.time_to_effect);
        anstream::println!("    {}", Painted(Tone::Faint, more));
    }
}

fn heading(text: &str) {
    anstream::println!("\n{}", Painted(Tone::Strong, text));
}

/// Whose answers, from which server, by which transport, whether validation was off, and for clients of which network.
type Row<'a> = (Source, &'a str, &'a str, bool, Option<IpNet>);

/// One row per server and transport. The latest answer of each type is shown; what changed on the way is marked.
fn answers(evidence: &Evidence) -> Table {
    let mut rows: BTreeMap<Row, BTreeMap<&str, Vec<&Asked>>> = BTreeMap::new();
    for asked in &evidence.asked {
        let (server, transport) = (asked.server.as_str(), asked.transport.as_str());
        let row = (asked.source, server, transport, asked.checking_disabled, asked.subnet);
        rows.entry(row).or_default().entry(asked.record_type.as_str()).or_default().push(asked);
    }
    let mut table = Table::with_header(&["source", "server", "by", "A", "AAAA", "SOA", "flags"]);
    for ((source, server, transport, checking_disabled, subnet), types) in rows {
        let cell = |record_type: &str| types.get(record_type).map_or_else(|| "-".to_owned(), |asked| shown(asked));
        let last = types.values().flatten().filter_map(|asked| asked.answer()).next_back();
        let mut flags = last.map(flags).unwrap_or_default();
        if checking_disabled {
            flags.push("CD".to_owned());
        }
        flags.extend(subnet.map(|subnet| format!("for {subnet}")));
        let tone = if last.is_some() { Tone::Plain } else { Tone::Bad };
        let cells = [cell("A"), cell("AAAA"), cell("SOA")];
        let mut row = vec![source_name(source).to_owned(), server.to_owned(), transport.to_owned()];
        row.extend(cells);
        row.push(flags.join(" "));
        table.row(tone, row);
    }
    table
}

fn shown(asked: &[&Asked]) -> String {
    let Some(last) = asked.last() else { return "-".to_owned() };
    match &last.outcome {
        Outcome::Silent { why, .. } => silence_name(*why).to_owned(),
        Outcome::Answered(answer) => {
            let ttls: Vec<String> = asked
                .iter()
                .filter_map(|asked| asked.answer())
                .filter_map(|answer| answer.ttl)
                .map(|ttl| ttl.to_string())
                .collect();
            let what = content(&last.record_type, answer);
            if ttls.is_empty() { what } else { format!("{what} (TTL {})", ttls.join(" → ")) }
        }
    }
}

fn content(record_type: &str, answer: &Answer) -> String {
    let rcode = format!("{:?}", answer.rcode).to_uppercase();
    // What was cut off says nothing of what there is.
    if answer.truncated && answer.addresses.is_empty() && answer.soa.is_none() {
        return "truncated".to_owned();
    }
    if record_type == "SOA" {
        return answer.soa.as_ref().map_or(rcode, |soa| format!("serial {}", soa.serial));
    }
    if answer.addresses.is_empty() {
        return match (rcode.as_str(), answer.chain.last()) {
            ("NOERROR", Some(alias)) => format!("→ {alias}"),
            ("NOERROR", None) => "NODATA".to_owned(),
            _ => rcode,
        };
    }
    let more = answer.addresses.len().saturating_sub(CELL_ADDRESSES);
    let shown = list(answer.addresses.iter().take(CELL_ADDRESSES));
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}

fn flags(answer: &Answer) -> Vec<String> {
    let mut flags: Vec<String> = [
        (answer.authoritative, "AA"),
        (answer.recursion_available, "RA"),
        (answer.authentic_data, "AD"),
        (answer.truncated, "TC"),
    ]
    .into_iter()
    .filter(|(set, _)| *set)
    .map(|(_, name)| name.to_owned())
    .collect();
    flags.extend(answer.extended_errors.iter().map(|error| format!("EDE {} {}", error.code, error.text)));
    flags
}

fn candidates(evidence: &Evidence) -> Table {
    let mut table = Table::with_header(&["address", "given by", "proofs", "outcome"]);
    for candidate in &evidence.candidates {
        let (tone, outcome) = match candidate.first_failure() {
            None if candidate.proofs.is_empty() => (Tone::Faint, "not proved".to_owned()),
            None => (Tone::Good, "proves itself".to_owned()),
            Some(failure) => (Tone::Bad, format!("{}: {}", failure.stage.name(), failure.detail)),
        };
        table.row(
            tone,
            vec![candidate.address.to_string(), given_by(candidate), candidate.proofs.len().to_string(), outcome],
        );
    }
    table
}

fn given_by(candidate: &Candidate) -> String {
    let mut names: Vec<&str> = candidate.learned_from.iter().map(|source| source_name(*source)).collect();
    if candidate.by_operator {
        names.push("operator");
    }
    list(names)
}

fn controls(controls: &[ControlResult]) -> Table {
    let mut table = Table::with_header(&["control", "name", "address", "clock"]);
    for control in controls {
        let word = |failure: &Option<String>| if failure.is_none() { "ok" } else { "fails" }.to_owned();
        let passed = control.passed();
        let address = if control.address_tried { word(&control.address_failure) } else { "not known".to_owned() };
        let clock = control.clock_offset_s.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:+} s"));
        table.row(
            if passed { Tone::Good } else { Tone::Bad },
            vec![control.control.clone(), word(&control.name_failure), address, clock],
        );
    }
    table
}

fn source_name(source: Source) -> &'static str {
    match source {
        Source::OurResolver => "our resolver",
        Source::Authority => "authority",
        Source::Independent => "independent",
        Source::Embedded => "embedded",
    }
}

fn silence_name(silence: Silence) -> &'static str {
    match silence {
        Silence::Timeout => "silent",
        Silence::Refused => "nothing listens there (connection refused)",
        Silence::Unreachable => "unreachable",
        Silence::Cut => "connection cut",
        Silence::Tls => "TLS failed",
        Silence::Http => "HTTP failed",
        Silence::Malformed => "malformed",
        Silence::Endless => "endless aliases",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ukai_core::diagnose::evidence::Rcode;

    #[test]
    fn what_was_cut_off_is_not_shown_as_nothing() {
        let answer = |truncated| Answer {
            rcode: Rcode::Noerror,
            authoritative: true,
            recursion_available: false,
            authentic_data: false,
            truncated,
            addresses: Vec::new(),
            records: 0,
            chain: Vec::new(),
            ttl: None,
            soa: None,
            extended_errors: Vec::new(),
            nsid: None,
            elapsed_us: 1,
        };
        assert_eq!((content("A", &answer(true)), content("A", &answer(false))), ("truncated".into(), "NODATA".into()));
    }
}
