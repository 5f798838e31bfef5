//! From evidence to a named cause, by elimination.
//!
//! [`evidence`] is what was asked and answered; [`history`] is what normal looked like;
//! [`known`] is all of that in one piece, to be kept;
//! [`reading`] draws the facts from both; [`rules`] is the table, in order; [`verdict`] is what
//! comes out, and [`account`] what every other rule said. Nothing here acts: what may be done about it is decided in `plan`.

use reading::{CONTROLS_NEEDED, Case, Reading};
use rules::{Finding, RULES, Ruling};
use verdict::{Action, Code, Party, Sure, Verdict};

pub mod account;
pub mod answers;
pub mod evidence;
pub mod history;
pub mod known;
pub mod options;
pub mod reading;
pub mod rules;
pub mod verdict;

/// Names the cause. The same case always gives the same verdict.
pub fn diagnose(case: &Case) -> Verdict {
    let reading = Reading::of(case);
    let mut eliminated = Vec::new();
    let mut missing = Vec::new();
    for rule in RULES {
        match (rule.judge)(&reading) {
            Ruling::Explains(finding) => {
                return conclude(&reading, rule.code, *finding, eliminated, &missing);
            }
            Ruling::Excluded(why) => eliminated.push(format!("{}: {why}", rule.code.name())),
            Ruling::Unknown(why) => missing.push(format!("{}: {why}", rule.code.name())),
            Ruling::Beside => {}
        }
    }
    conclude(&reading, Code::Open, open(&reading), eliminated, &missing)
}

fn conclude(reading: &Reading, code: Code, finding: Finding, eliminated: Vec<String>, missing: &[String]) -> Verdict {
    let mut evidence_against = finding.evidence_against;
    let mut sure = finding.sure;
    if !missing.is_empty() {
        sure = sure.min(Sure::Likely);
        evidence_against.extend(missing.iter().map(|why| format!("not excluded: {why}")));
    }
    if reading.live.len() < CONTROLS_NEEDED {
        sure = sure.min(Sure::Likely);
        evidence_against.push(format!("only {} live controls", reading.live.len()));
    }
    if reading.case.history.is_empty() {
        sure = sure.min(Sure::Likely);
        evidence_against.push("there is no history: the peer was never seen healthy".to_owned());
    }
    let mut verdict = Verdict {
        code,
        sure,
        action: finding.action,
        party: finding.party,
        summary: finding.summary,
        evidence_for: finding.evidence_for,
        evidence_against,
        eliminated,
        would_change: finding.would_change,
        options: Vec::new(),
        page: finding.page,
    };
    verdict.options = options::weigh(reading, &verdict);
    verdict
}

fn open(reading: &Reading) -> Finding {
    let works = reading.works_now();
    let summary = if works {
        "Everything that was asked works now; what failed is not there any more."
    } else {
        "No rule explains everything that was seen."
    };
    Finding {
        sure: Sure::Open,
        action: Action::None,
        party: Party::Unknown,
        page: false,
        summary: summary.to_owned(),
        evidence_for: Vec::new(),
        evidence_against: Vec::new(),
        would_change: vec!["more evidence: it is gathered again while the incident is open".to_owned()],
    }
}
