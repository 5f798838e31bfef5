//! The report as one HTML page that needs nothing else: no script, no font, no request.

use ukai_core::diagnose::verdict::Judgement;

use super::chart;
use super::escape::html as text;
use super::latency::STAGES;
use super::markdown::{deliveries, joined, judgement, moment, proved, short};
use super::model::{Finding, NOT_OBSERVED, OverrideStory, Report};
use super::story::{list, span, utc, who};

const STYLE: &str = include_str!("page.css");
/// Rows of the latency table; the chart and the JSON have all points.
const LATENCY_ROWS: usize = 24;

pub fn render_html(report: &Report) -> String {
    let title = format!("Incident {}: {}", report.incident, report.peer);
    let mut body = format!("<h1>{}</h1>\n", text(&title));
    body.push_str(&format!("<div class=\"summary\">{}</div>\n", items(&report.summary, "Nothing is known.")));
    body.push_str(&figures(report));
    body.push_str(&timeline(report));
    body.push_str(&latency(report));
    if let Some(finding) = &report.finding {
        body.push_str(&diagnosis(finding));
        body.push_str(&evidence(finding));
        body.push_str(&options(finding));
    }
    body.push_str(&refusals(report));
    for story in &report.overrides {
        body.push_str(&override_life(story));
    }
    body.push_str(&application(report));
    body.push_str(&notifications(report));
    body.push_str(&heading("Left to do"));
    body.push_str(&items(&report.left_to_do, "Nothing."));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n</body>\n</html>\n",
        text(&title)
    )
}

fn figures(report: &Report) -> String {
    let cells: String = report
        .figures
        .iter()
        .map(|figure| {
            format!(
                "<div><dt>{}</dt><dd>{}<small>{}</small></dd></div>",
                figure.name,
                text(&figure.text),
                figure.meaning
            )
        })
        .collect();
    format!(
        "{}<p class=\"quiet\">Measured from the first failed probe of those that the alarm rests on.</p>\n<dl class=\"figures\">{cells}</dl>\n",
        heading("Figures")
    )
}

fn timeline(report: &Report) -> String {
    let rows = report.timeline.iter().map(|row| vec![when(row.at), cell(&row.text)]).collect::<Vec<_>>();
    let cut = match report.timeline_cut {
        0 => String::new(),
        more => format!("<p class=\"quiet\">{more} later rows are in the log only.</p>\n"),
    };
    format!(
        "{}{}\n{}{cut}",
        heading("Time line (UTC)"),
        chart::timeline(report),
        table("What happened, in order", &["when", "what"], &rows)
    )
}

fn latency(report: &Report) -> String {
    let points = &report.latency.points;
    if points.is_empty() {
        return format!("{}<p>{NOT_OBSERVED}</p>\n", heading("Latency per stage"));
    }
    let key: String =
        STAGES.iter().map(|stage| format!("<span class=\"{0}\"><i></i>{0}</span>", stage.name())).collect();
    let step = points.len().div_ceil(LATENCY_ROWS);
    let rows: Vec<Vec<String>> = points
        .iter()
        .step_by(step)
        .map(|point| {
            let mut row = vec![when(point.at)];
            row.extend(point.stages_us.iter().map(|us| cell(&us.map_or(String::new(), micros))));
            row.push(cell(&format!("{} of {}", point.failed, point.probes)));
            row
        })
        .collect();
    let mut head = vec!["from"];
    head.extend(STAGES.iter().map(|stage| stage.name()));
    head.push("failed");
    format!(
        "{}{}\n<p class=\"key\">{key}<span class=\"bad\"><i></i>a probe failed</span></p>\n<details><summary>The same as a table</summary>{}</details>\n",
        heading("Latency per stage"),
        chart::latency(&report.latency),
        table("Slowest probe of each stage", &head, &rows)
    )
}

fn diagnosis(finding: &Finding) -> String {
    let verdict = &finding.verdict;
    let mut out = heading("Diagnosis");
    out.push_str(&format!(
        "<p><code>{}</code> ({}), action <code>{}</code>: {}</p>\n",
        verdict.code.name(),
        verdict.sure.name(),
        verdict.action.name(),
        text(&verdict.summary)
    ));
    for (title, reasons) in [
        ("For it", &verdict.evidence_for),
        ("Against it", &verdict.evidence_against),
        ("Excluded before", &verdict.eliminated),
        ("What would change it", &verdict.would_change),
    ] {
        out.push_str(&format!("<h3>{title}</h3>\n{}", items(reasons, "Nothing.")));
    }
    out
}

fn evidence(finding: &Finding) -> String {
    let gathered = finding.evidence_at.map_or(NOT_OBSERVED.to_owned(), utc);
    let mut out = heading("Evidence");
    out.push_str(&format!("<p>Gathering <code>{}</code>, finished {gathered}.</p>\n", text(&finding.gathering)));
    for sentence in finding.delegation.iter().chain(&finding.canary) {
        out.push_str(&format!("<p>{}</p>\n", text(sentence)));
    }
    let matrix: Vec<Vec<String>> = finding
        .matrix
        .iter()
        .map(|row| {
            [
                row.source,
                &row.server,
                &row.transport,
                &row.record_type,
                &row.answer,
                &row.ttl.map_or(String::new(), |ttl| ttl.to_string()),
                &row.flags,
                &row.elapsed_ms.map_or(String::new(), |ms| ms.to_string()),
            ]
            .map(cell)
            .to_vec()
        })
        .collect();
    let head = ["source", "server", "over", "type", "answer", "TTL", "flags", "ms"];
    out.push_str(&table("Who answers what", &head, &matrix));
    out.push_str(&candidates(finding));
    out.push_str(&controls(finding));
    out
}

fn candidates(finding: &Finding) -> String {
    let rows: Vec<Vec<String>> = finding
        .candidates
        .iter()
        .map(|row| {
            let outcome = match &row.failure {
                Some(failure) => format!("<td class=\"failed-text\">{}</td>", text(failure)),
                None => format!("<td class=\"proved\">{}</td>", proved(row.proofs)),
            };
            vec![
                cell(&row.address.to_string()),
                cell(&row.learned_from),
                cell(&format!("{} of {}", row.succeeded, row.proofs)),
                outcome,
                cell(row.issuer.as_deref().unwrap_or(NOT_OBSERVED)),
                cell(row.key_sha256.as_deref().map_or(NOT_OBSERVED, short)),
            ]
        })
        .collect();
    let head = ["address", "learned from", "proofs", "outcome", "issuer", "key"];
    table("Candidates", &head, &rows)
}

fn controls(finding: &Finding) -> String {
    let rows: Vec<Vec<String>> = finding
        .controls
        .iter()
        .map(|row| {
            let offset = row.clock_offset_s.map_or(NOT_OBSERVED.to_owned(), |offset| format!("{offset} s"));
            [&row.control, &row.name, &row.address, row.issuer.as_deref().unwrap_or(NOT_OBSERVED), &offset]
                .map(cell)
                .to_vec()
        })
        .collect();
    table("Controls", &["control", "name", "address", "issuer", "clock offset"], &rows)
}

fn options(finding: &Finding) -> String {
    let rows: Vec<Vec<String>> = finding
        .verdict
        .options
        .iter()
        .map(|choice| {
            let class = match choice.judgement {
                Judgement::Recommended | Judgement::Refused | Judgement::Useless => judgement(choice.judgement),
                Judgement::Possible => "",
            };
            let mut row = vec![
                cell(&choice.name.replace('_', " ")),
                format!("<td class=\"{class}\">{}</td>", judgement(choice.judgement)),
            ];
            row.extend([&choice.reason, &choice.effect, &choice.risk, &choice.time_to_effect].map(|part| cell(part)));
            row.push(cell(if choice.reversible { "yes" } else { "no" }));
            row
        })
        .collect();
    let head = ["option", "judgement", "why", "effect", "risk", "takes effect", "can be undone"];
    heading("Options weighed") + &table("Options weighed", &head, &rows)
}

fn refusals(report: &Report) -> String {
    if report.refusals.is_empty() {
        return String::new();
    }
    let rows: Vec<Vec<String>> = report
        .refusals
        .iter()
        .map(|refusal| vec![when(refusal.at), cell(&refusal.guard), cell(&refusal.reason)])
        .collect();
    heading("Guards that refused") + &table("Guards that refused", &["when", "guard", "reason"], &rows)
}

fn override_life(story: &OverrideStory) -> String {
    let plan = &story.plan;
    let ended = story.ended.as_ref().map_or(NOT_OBSERVED.to_owned(), |ended| {
        format!("{} ({})", utc(ended.at), ended.reason.name().replace('_', " "))
    });
    let rows: Vec<Vec<String>> = [
        ("name", plan.host.clone()),
        ("mode", plan.mode.name().to_owned()),
        ("addresses", list(&plan.addresses)),
        ("sources", joined(&plan.sources)),
        ("TTL", format!("{} s", plan.ttl_s)),
        ("lease", format!("{} s", plan.lease_s)),
        ("stood before", plan.existing.clone()),
        ("types", plan.types.clone()),
        ("inverse", plan.inverse.clone()),
        ("rests on", plan.verdict.clone()),
        ("level", story.level.name().to_owned()),
        ("approvals needed", plan.approvals.to_string()),
        ("hash", story.hash.clone()),
        ("served", moment(story.served_at)),
        ("confirmed by the application", moment(story.confirmed_at)),
        ("expires", moment(story.expires_at)),
        ("ended", ended),
    ]
    .into_iter()
    .chain((!plan.mind.is_empty()).then(|| ("to mind", plan.mind.join("; "))))
    .map(|(name, value)| vec![cell(name), cell(&value)])
    .collect();
    let decisions: Vec<String> = story
        .decisions
        .iter()
        .map(|decision| {
            let why = if decision.why.is_empty() { String::new() } else { format!(": {}", decision.why) };
            format!("{} {} {} it{why}", utc(decision.at), who(&decision.by), decision.what)
        })
        .collect();
    let shown: Vec<String> = plan.shown.iter().map(|shown| format!("{}: {}", shown.guard, shown.reason)).collect();
    let mut out = heading(&format!("Override {}", story.id));
    out.push_str(&table("The plan and its life", &["", ""], &rows));
    if let Some(reason) = &story.voided {
        out.push_str(&format!("<p>It became void: {}</p>\n", text(reason)));
    }
    out.push_str(&format!("<h3>Who decided</h3>\n{}", items(&decisions, "Nobody.")));
    if !shown.is_empty() {
        out.push_str(&format!("<h3>What the person was shown</h3>\n{}", items(&shown, "Nothing.")));
    }
    out
}

fn application(report: &Report) -> String {
    let application = &report.application;
    let mut lines = Vec::new();
    if application.calls > 0 {
        lines.push(format!("{} calls reported, {} of them failed", application.calls, application.failed));
    }
    for (name, call) in [
        ("first failed", &application.first_failed),
        ("last failed", &application.last_failed),
        ("confirmed the override", &application.confirming),
    ] {
        if let Some(call) = call {
            let address = call.address.map_or(String::new(), |address| format!(" at {address}"));
            let error = call.error.as_deref().map_or(String::new(), |error| format!(": {error}"));
            lines.push(format!("{name}: {}{address}{error}", utc(call.at)));
        }
    }
    heading("The application's own calls") + &items(&lines, "Not observed: the application did not report its calls.")
}

fn notifications(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report
        .notifications
        .iter()
        .map(|told| {
            let page = if told.page { "page" } else { "" };
            vec![when(told.at), cell(&told.subject), cell(page), cell(&deliveries(told))]
        })
        .collect();
    if rows.is_empty() {
        return heading("Who was told") + "<p>Nobody.</p>\n";
    }
    heading("Who was told") + &table("Who was told", &["when", "what", "page", "delivery"], &rows)
}

fn heading(title: &str) -> String {
    format!("<h2>{}</h2>\n", text(title))
}

fn items(items: &[String], nothing: &str) -> String {
    if items.is_empty() {
        return format!("<p>{}</p>\n", text(nothing));
    }
    let items: String = items.iter().map(|item| format!("<li>{}</li>\n", text(item))).collect();
    format!("<ul>\n{items}</ul>\n")
}

/// Cells come as finished `<td>` elements.
fn table(caption: &str, head: &[&str], rows: &[Vec<String>]) -> String {
    let titles: String = match head.iter().all(|title| title.is_empty()) {
        true => String::new(),
        false => head.iter().map(|title| format!("<th scope=\"col\">{}</th>", text(title))).collect(),
    };
    let rows: String = rows.iter().map(|cells| format!("<tr>{}</tr>\n", cells.concat())).collect();
    format!(
        "<div class=\"scroll\"><table><caption>{}</caption>\n<thead><tr>{titles}</tr></thead>\n<tbody>\n{rows}</tbody></table></div>\n",
        text(caption)
    )
}

fn cell(value: &str) -> String {
    format!("<td>{}</td>", text(value))
}

fn when(at: jiff::Timestamp) -> String {
    format!("<td class=\"when\">{}</td>", utc(at))
}

fn micros(us: u64) -> String {
    if us < 1000 { format!("{us} µs") } else { span(i64::try_from(us / 1000).unwrap_or(i64::MAX)) }
}
