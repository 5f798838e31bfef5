//! The report as Markdown, for a terminal, a ticket or a repository.

use ukai_core::diagnose::verdict::Judgement;

use super::escape::{code, markdown as text};
use super::model::{Finding, NOT_OBSERVED, OverrideStory, Report, Told};
use super::story::{list, utc, who};

pub fn render_markdown(report: &Report) -> String {
    let mut page = Page::default();
    page.line(&format!("# Incident {}: {}", text(&report.incident), text(&report.peer)));
    page.gap();
    for sentence in &report.summary {
        page.item(&text(sentence));
    }
    figures(&mut page, report);
    timeline(&mut page, report);
    if let Some(finding) = &report.finding {
        verdict(&mut page, finding);
        evidence(&mut page, finding);
        options(&mut page, finding);
    }
    refusals(&mut page, report);
    for story in &report.overrides {
        override_life(&mut page, story);
    }
    application(&mut page, report);
    notifications(&mut page, &report.notifications);
    page.heading("Left to do");
    page.items(report.left_to_do.iter().map(|item| text(item)), "Nothing.");
    page.text
}

#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn gap(&mut self) {
        self.text.push('\n');
    }

    fn heading(&mut self, title: &str) {
        self.gap();
        self.line(&format!("## {title}"));
        self.gap();
    }

    fn small_heading(&mut self, title: &str) {
        self.gap();
        self.line(&format!("### {title}"));
        self.gap();
    }

    fn item(&mut self, item: &str) {
        self.line(&format!("- {item}"));
    }

    fn items(&mut self, items: impl Iterator<Item = String>, nothing: &str) {
        let before = self.text.len();
        items.for_each(|item| self.item(&item));
        if self.text.len() == before {
            self.line(nothing);
        }
    }

    fn table(&mut self, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
        self.line(&format!("| {} |", head.join(" | ")));
        self.line(&format!("|{}", " --- |".repeat(head.len())));
        for row in rows {
            self.line(&format!("| {} |", row.join(" | ")));
        }
    }
}

fn figures(page: &mut Page, report: &Report) {
    page.heading("Figures");
    page.line("Measured from the first failed probe of those that the alarm rests on.");
    page.gap();
    page.table(
        &["time", "", "meaning"],
        report.figures.iter().map(|figure| vec![figure.name.to_owned(), text(&figure.text), figure.meaning.to_owned()]),
    );
}

fn timeline(page: &mut Page, report: &Report) {
    page.heading("Time line (UTC)");
    page.table(&["when", "what"], report.timeline.iter().map(|row| vec![utc(row.at), text(&row.text)]));
    if report.timeline_cut > 0 {
        page.gap();
        page.line(&format!("{} later rows are in the log only.", report.timeline_cut));
    }
}

fn verdict(page: &mut Page, finding: &Finding) {
    let verdict = &finding.verdict;
    page.heading("Diagnosis");
    page.line(&format!(
        "{} ({}), action {}: {}",
        code(verdict.code.name()),
        verdict.sure.name(),
        code(verdict.action.name()),
        text(&verdict.summary)
    ));
    for (title, reasons) in [
        ("For it", &verdict.evidence_for),
        ("Against it", &verdict.evidence_against),
        ("Excluded before", &verdict.eliminated),
        ("What would change it", &verdict.would_change),
    ] {
        page.small_heading(title);
        page.items(reasons.iter().map(|reason| text(reason)), "Nothing.");
    }
}

fn evidence(page: &mut Page, finding: &Finding) {
    page.heading("Evidence");
    let gathered = finding.evidence_at.map_or(NOT_OBSERVED.to_owned(), utc);
    page.line(&format!("Gathering {}, finished {gathered}.", code(&finding.gathering)));
    for sentence in finding.delegation.iter().chain(&finding.canary) {
        page.line(&text(sentence));
    }
    page.small_heading("Who answers what");
    page.table(
        &["source", "server", "over", "type", "answer", "TTL", "flags", "ms"],
        finding.matrix.iter().map(|row| {
            vec![
                row.source.to_owned(),
                code(&row.server),
                text(&row.transport),
                text(&row.record_type),
                text(&row.answer),
                optional(row.ttl),
                text(&row.flags),
                optional(row.elapsed_ms),
            ]
        }),
    );
    page.small_heading("Candidates");
    page.table(
        &["address", "learned from", "proofs", "outcome", "issuer", "key"],
        finding.candidates.iter().map(|row| {
            vec![
                row.address.to_string(),
                row.learned_from.clone(),
                format!("{} of {}", row.succeeded, row.proofs),
                row.failure.as_deref().map_or(proved(row.proofs), text),
                row.issuer.as_deref().map_or(NOT_OBSERVED.to_owned(), text),
                row.key_sha256.as_deref().map_or(NOT_OBSERVED.to_owned(), |key| code(short(key))),
            ]
        }),
    );
    page.small_heading("Controls");
    page.table(
        &["control", "name", "address", "issuer", "clock offset"],
        finding.controls.iter().map(|row| {
            vec![
                code(&row.control),
                text(&row.name),
                text(&row.address),
                row.issuer.as_deref().map_or(NOT_OBSERVED.to_owned(), text),
                row.clock_offset_s.map_or(NOT_OBSERVED.to_owned(), |offset| format!("{offset} s")),
            ]
        }),
    );
}

fn options(page: &mut Page, finding: &Finding) {
    page.heading("Options weighed");
    page.table(
        &["option", "judgement", "why", "effect", "risk", "takes effect", "can be undone"],
        finding.verdict.options.iter().map(|choice| {
            vec![
                text(&choice.name.replace('_', " ")),
                judgement(choice.judgement).to_owned(),
                text(&choice.reason),
                text(&choice.effect),
                text(&choice.risk),
                text(&choice.time_to_effect),
                if choice.reversible { "yes" } else { "no" }.to_owned(),
            ]
        }),
    );
}

fn refusals(page: &mut Page, report: &Report) {
    if report.refusals.is_empty() {
        return;
    }
    page.heading("Guards that refused");
    page.table(
        &["when", "guard", "reason"],
        report.refusals.iter().map(|refusal| vec![utc(refusal.at), code(&refusal.guard), text(&refusal.reason)]),
    );
}

fn override_life(page: &mut Page, story: &OverrideStory) {
    let plan = &story.plan;
    page.heading(&format!("Override {}", text(&story.id)));
    let rows = [
        ("name", code(&plan.host)),
        ("mode", plan.mode.name().to_owned()),
        ("addresses", list(&plan.addresses)),
        ("sources", text(&joined(&plan.sources))),
        ("TTL", format!("{} s", plan.ttl_s)),
        ("lease", format!("{} s", plan.lease_s)),
        ("stood before", text(&plan.existing)),
        ("types", text(&plan.types)),
        ("inverse", text(&plan.inverse)),
        ("rests on", text(&plan.verdict)),
        ("level", story.level.name().to_owned()),
        ("approvals needed", plan.approvals.to_string()),
        ("hash", code(&story.hash)),
        ("served", moment(story.served_at)),
        ("confirmed by the application", moment(story.confirmed_at)),
        ("expires", moment(story.expires_at)),
        (
            "ended",
            story.ended.as_ref().map_or(NOT_OBSERVED.to_owned(), |ended| {
                format!("{} ({})", utc(ended.at), ended.reason.name().replace('_', " "))
            }),
        ),
    ];
    let mind = (!plan.mind.is_empty()).then(|| ("to mind", text(&plan.mind.join("; "))));
    page.table(&["", ""], rows.into_iter().chain(mind).map(|(name, value)| vec![name.to_owned(), value]));
    if let Some(reason) = &story.voided {
        page.gap();
        page.line(&format!("It became void: {}", text(reason)));
    }
    page.small_heading("Who decided");
    page.items(
        story.decisions.iter().map(|decision| {
            let why = if decision.why.is_empty() { String::new() } else { format!(": {}", text(&decision.why)) };
            format!("{} {} {} it{why}", utc(decision.at), text(&who(&decision.by)), decision.what)
        }),
        "Nobody.",
    );
    if !plan.shown.is_empty() {
        page.small_heading("What the person was shown");
        page.items(
            plan.shown.iter().map(|shown| format!("{}: {}", code(&shown.guard), text(&shown.reason))),
            "Nothing.",
        );
    }
}

fn application(page: &mut Page, report: &Report) {
    page.heading("The application's own calls");
    let application = &report.application;
    if application.calls == 0 {
        page.line("Not observed: the application did not report its calls.");
        return;
    }
    page.item(&format!("{} calls reported, {} of them failed", application.calls, application.failed));
    for (name, call) in [
        ("first failed", &application.first_failed),
        ("last failed", &application.last_failed),
        ("confirmed the override", &application.confirming),
    ] {
        if let Some(call) = call {
            let address = call.address.map_or(String::new(), |address| format!(" at {address}"));
            let error = call.error.as_deref().map_or(String::new(), |error| format!(": {}", text(error)));
            page.item(&format!("{name}: {}{address}{error}", utc(call.at)));
        }
    }
}

fn notifications(page: &mut Page, notifications: &[Told]) {
    page.heading("Who was told");
    if notifications.is_empty() {
        page.line("Nobody.");
        return;
    }
    page.table(
        &["when", "what", "page", "delivery"],
        notifications.iter().map(|told| {
            let page = if told.page { "page" } else { "" };
            vec![utc(told.at), text(&told.subject), page.to_owned(), text(&deliveries(told))]
        }),
    );
}

pub fn deliveries(told: &Told) -> String {
    let each: Vec<String> = told
        .deliveries
        .iter()
        .map(|delivery| match (&delivery.failure, delivery.at) {
            (Some(failure), _) => {
                format!("{}: failed after {} attempts ({failure})", delivery.subscriber, delivery.attempts)
            }
            (None, Some(at)) => {
                format!("{}: delivered {}, attempt {}", delivery.subscriber, utc(at), delivery.attempts)
            }
            (None, None) => format!("{}: {NOT_OBSERVED}", delivery.subscriber),
        })
        .collect();
    if each.is_empty() { "no subscriber".to_owned() } else { each.join("; ") }
}

pub fn judgement(judgement: Judgement) -> &'static str {
    match judgement {
        Judgement::Recommended => "recommended",
        Judgement::Possible => "possible",
        Judgement::Useless => "useless",
        Judgement::Refused => "refused",
    }
}

/// The first half of a hash tells keys apart for a reader; the JSON form has it whole.
pub fn short(hash: &str) -> &str {
    hash.get(..16).unwrap_or(hash)
}

pub fn proved(proofs: usize) -> String {
    if proofs == 0 { "not tried" } else { "proved" }.to_owned()
}

pub fn joined(set: &std::collections::BTreeSet<String>) -> String {
    set.iter().cloned().collect::<Vec<_>>().join(", ")
}

pub fn moment(at: Option<jiff::Timestamp>) -> String {
    at.map_or(NOT_OBSERVED.to_owned(), utc)
}

fn optional<T: ToString>(value: Option<T>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}
