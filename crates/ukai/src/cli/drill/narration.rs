//! A drill told live, for somebody who was asleep a minute ago.

use std::fmt::Display;
use std::io::{self, Write};

use ukai_core::diagnose::evidence::{Evidence, Purpose};
use ukai_core::diagnose::verdict::Verdict;
use ukai_core::event::{Event, Recorded};
use ukai_core::observe::Observation;
use ukai_lab::runner::{Change, DrillEvent, DrillOutcome, Told};

use crate::cli::matrix::{print_evidence, print_verdict};
use crate::cli::narrate::{self, Line};
use crate::cli::paint::{Painted, Table, Tone, list};

/// Of the probes that an alarm rests on, those that are shown: the burst.
const PROBES_SHOWN: usize = 4;
/// Width that a story is wrapped at.
const WIDTH: usize = 100;

#[derive(Default)]
pub struct Narration {
    /// The last evidence, printed in full when it leads to another verdict.
    evidence: Option<Box<Evidence>>,
    verdict: Option<(&'static str, &'static str)>,
}

impl Narration {
    /// An error: nobody reads what is told.
    pub fn tell(&mut self, told: &Told) -> io::Result<()> {
        let t = told.t;
        match &told.event {
            DrillEvent::Started { id, title, story } => started(id, title, story),
            DrillEvent::World { lines } => {
                heading("WORLD")?;
                lines.iter().try_for_each(|line| print(format_args!("  {line}")))?;
                print("")
            }
            DrillEvent::Servers { servers } => {
                heading("SERVERS")?;
                servers.iter().try_for_each(|server| print(format_args!("  {server}")))?;
                print("")
            }
            DrillEvent::Healthy => {
                let text = "the daemon and the application both reach the peer; time counts from here";
                say(t, "HEALTHY", Tone::Good, text)
            }
            DrillEvent::Fault { changes } => changes.iter().try_for_each(|change| say(t, "FAULT", Tone::Bad, change)),
            DrillEvent::Heal { changes } => changes.iter().try_for_each(|change| say(t, "HEAL", Tone::Good, change)),
            DrillEvent::Event { record, .. } => self.recorded(t, record),
            DrillEvent::Killed { kills } => {
                say(t, "KILL", Tone::Warning, format!("SIGKILL to the daemon ({kills}); it is started again"))
            }
            DrillEvent::Application { change, call } => {
                let at = call.address.map(|address| format!(" at {address}")).unwrap_or_default();
                let error = call.error.as_deref().unwrap_or("it did not succeed");
                let (tone, text) = match change {
                    Change::FirstGood => (Tone::Good, format!("its calls succeed{at}")),
                    Change::Fails => (Tone::Bad, format!("its calls fail{at}: {error}")),
                    Change::GoodAgain => (Tone::Good, format!("first good call{at}")),
                };
                say(t, "APPLICATION", tone, text)
            }
            DrillEvent::Operator { who, command, done, answer } => {
                let tone = if *done { Tone::Good } else { Tone::Warning };
                let answer = answer.lines().last().unwrap_or_default();
                say(t, "OPERATOR", tone, format!("{who}: {command} → {answer}"))
            }
            DrillEvent::Answers { addresses, labels } => {
                say(t, "DNS", Tone::Strong, format!("our server answers {} ({})", list(addresses), list(labels)))
            }
            DrillEvent::Notified { page, subject } => {
                let (label, tone) = if *page { ("PAGE", Tone::Bad) } else { ("MESSAGE", Tone::Plain) };
                say(t, label, tone, format!("the webhook received: {subject}"))
            }
            DrillEvent::Report { paths } => {
                paths.iter().try_for_each(|path| say(t, "REPORT", Tone::Strong, path.display()))
            }
            DrillEvent::Ended { outcome } => ended(outcome),
        }
    }

    fn recorded(&mut self, t: f64, record: &Recorded) -> io::Result<()> {
        match &record.event {
            Event::IncidentOpened { rests_on, .. } => probes(t, rests_on)?,
            Event::EvidenceGathered { evidence, .. } => self.evidence = Some(evidence.clone()),
            Event::Diagnosed { verdict, .. } => return self.diagnosed(t, verdict),
            // Bookkeeping; and the report is told of once it lies where it stays.
            Event::EvidenceRequested { purpose: Purpose::Baseline | Purpose::Standing, .. }
            | Event::ReportWritten { .. } => return Ok(()),
            _ => {}
        }
        for Line { label, tone, text } in narrate::lines(&record.event) {
            say(t, label, tone, text)?;
        }
        Ok(())
    }

    /// The whole verdict and what it rests on, where it is another than before.
    fn diagnosed(&mut self, t: f64, verdict: &Verdict) -> io::Result<()> {
        let given = (verdict.code.name(), verdict.sure.name());
        if self.verdict.replace(given) == Some(given) {
            return Ok(());
        }
        say(t, "DIAGNOSIS", Tone::Strong, format!("{} ({}): {}", given.0, given.1, verdict.summary))?;
        if let Some(evidence) = &self.evidence {
            print_evidence(evidence);
        }
        print_verdict(verdict);
        print("")
    }
}

fn started(id: &str, title: &str, story: &str) -> io::Result<()> {
    print(Painted(Tone::Strong, format_args!("DRILL {id}: {title}")))?;
    wrapped(story).iter().try_for_each(|line| print(format_args!("  {line}")))
}

/// What the alarm rests on: the failing layer, address by address.
fn probes(t: f64, rests_on: &[Observation]) -> io::Result<()> {
    for observation in rests_on.iter().take(PROBES_SHOWN) {
        if let Some(failure) = &observation.resolution.failure {
            let text = format!("{} ({}): {}", failure.stage.name(), failure.class.name(), failure.detail);
            say(t, "PROBE", Tone::Bad, text)?;
        }
        for result in &observation.results {
            let (tone, text) = match &result.failure {
                Some(failure) => {
                    let (stage, class) = (failure.stage.name(), failure.class.name());
                    (Tone::Bad, format!("{} fails at {stage} ({class}): {}", result.address, failure.detail))
                }
                None => (Tone::Plain, format!("{} works", result.address)),
            };
            say(t, "PROBE", tone, text)?;
        }
    }
    Ok(())
}

fn ended(outcome: &DrillOutcome) -> io::Result<()> {
    heading("EXPECTED AND SEEN")?;
    let mut table = Table::with_header(&["", "expected", "seen", ""]);
    for check in &outcome.checks {
        let (tone, word) = if check.held { (Tone::Plain, "held") } else { (Tone::Bad, "NOT HELD") };
        table.row(tone, vec![check.what.to_owned(), check.expected.clone(), check.seen.clone(), word.to_owned()]);
    }
    print(table.to_string().trim_end_matches('\n'))?;
    if let Some(trouble) = &outcome.trouble {
        print(Painted(Tone::Bad, format_args!("the drill broke off: {trouble}")))?;
    }
    if outcome.wrong_override {
        print(Painted(Tone::Bad, "WRONG OVERRIDE: something was served that must not be served"))?;
    }
    if outcome.missed_override {
        print(Painted(Tone::Bad, "MISSED OVERRIDE: the application was left without its detour"))?;
    }
    print(format_args!("\n{}", super::score::line(outcome)))?;
    match &outcome.directory {
        Some(directory) => print(Painted(Tone::Faint, format_args!("logs and data: {}", directory.display()))),
        None => Ok(()),
    }
}

fn say(t: f64, label: &str, tone: Tone, text: impl Display) -> io::Result<()> {
    let clock = format!("{t:>6.1} s");
    print(format_args!("{} {} {text}", Painted(Tone::Faint, clock), Painted(tone, format_args!("{label:<12}"))))
}

fn heading(text: &str) -> io::Result<()> {
    print(format_args!("\n{}", Painted(Tone::Strong, text)))
}

fn print(line: impl Display) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Lines of at most [`WIDTH`] characters, broken between words.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stories_are_wrapped_between_words() {
        let text = "word ".repeat(60);
        let lines = wrapped(&text);
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH));
        assert_eq!(lines.join(" "), text.trim());
    }
}
