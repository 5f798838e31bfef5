//! `ukai status`: what is watched, how it is, what stands, and what nobody hears of.

use std::collections::BTreeMap;
use std::process::ExitCode;

use jiff::Timestamp;
use serde_json::Value;

use crate::socket::Op;

use super::DONE;
use super::control::{ShowArgs, json, shown_verdict};
use super::paint::{Painted, Table, Tone, list, span};

pub async fn status(args: ShowArgs) -> anyhow::Result<ExitCode> {
    let status = args.daemon.call(Op::Status).await?;
    if args.json {
        return json(&status);
    }
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    anstream::println!(
        "ukai {}, process {}, up since {}, {} events in {}",
        text(&status["version"]),
        status["process"],
        whole_seconds(&status["started_at"]),
        status["position"],
        text(&status["data_dir"]),
    );
    match status["dns"].as_array() {
        Some(listen) => anstream::println!("serves DNS on {}", list(listen.iter().map(text))),
        None => match status["zone"].as_str() {
            Some(zone) => anstream::println!("overrides go into {zone}"),
            None => anstream::println!("serves no DNS: overrides have nowhere to take effect"),
        },
    }
    if let Some(trouble) = status["zone_trouble"].as_str() {
        anstream::println!("{}", Painted(Tone::Bad, format_args!("what stands there is not known: {trouble}")));
    }
    if let Some(trouble) = status["trouble"].as_str() {
        anstream::println!("{}", Painted(Tone::Bad, format_args!("nothing can be decided: {trouble}")));
    }
    let metrics = &status["metrics"];
    if metrics["received"] != 0 || metrics["refused"] != 0 {
        anstream::println!("metrics: {} data received, {} refused", metrics["received"], metrics["refused"]);
    }
    if let Some(refusal) = metrics["last_refusal"].as_str() {
        anstream::println!("{}", Painted(Tone::Warning, format_args!("metrics refused last: {refusal}")));
    }
    if !status["frozen"].is_null() {
        let frozen = &status["frozen"];
        let why = frozen["why"].as_str().filter(|why| !why.is_empty()).unwrap_or("no reason was given");
        let by = text(&frozen["by"]["name"]);
        let line =
            format!("frozen by {by} at {}: {why}; no automatic change until `ukai thaw`", whole_seconds(&frozen["at"]));
        anstream::println!("{}", Painted(Tone::Warning, line));
    }
    let mut table = Table::with_header(&["peer", "host", "level", "alarms", "incident", "override", "verdict"]);
    for peer in status["peers"].as_array().into_iter().flatten() {
        let alarms = peer["alarms"].as_array().cloned().unwrap_or_default();
        let in_alarm: Vec<&Value> = alarms.iter().filter(|alarm| alarm["state"] == "ALARM").collect();
        let shown = if alarms.is_empty() {
            "no data".to_owned()
        } else if in_alarm.is_empty() {
            "OK".to_owned()
        } else {
            let muted = |alarm: &Value| if alarm["muted_until"].is_null() { "" } else { " (muted)" };
            list(in_alarm.iter().map(|alarm| text(&alarm["alarm"]) + muted(alarm)))
        };
        let tone = if !in_alarm.is_empty() { Tone::Bad } else { Tone::Plain };
        let verdict = match &peer["verdict"] {
            Value::Null => "-".to_owned(),
            verdict => shown_verdict(&text(&verdict["code"]), &text(&verdict["sure"])),
        };
        let row = [&peer["name"], &peer["host"], &peer["level"]].map(text);
        let mut row = row.to_vec();
        row.extend([shown, text(&peer["incident"]), text(&peer["override"]), verdict]);
        table.row(tone, row);
    }
    anstream::print!("{table}");
    for line in leftovers(&status) {
        anstream::println!("{}", Painted(Tone::Bad, line));
    }
    for line in muted_alarms(&status) {
        anstream::println!("{}", Painted(Tone::Warning, line));
    }
    if let Some(overrides) = status["overrides"].as_array().filter(|overrides| !overrides.is_empty()) {
        anstream::print!("\n{}", live_overrides(overrides, Timestamp::now()));
    }
    Ok(ExitCode::from(DONE))
}

/// What is over and still stands: nobody else ends it.
pub(super) fn leftovers(answer: &Value) -> Vec<String> {
    let of = |left: &Value| {
        let text = |key: &str| left[key].as_str().unwrap_or("-").to_owned();
        let addresses: Vec<&str> =
            left["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let stands = if addresses.is_empty() { String::new() } else { format!(" ({})", list(addresses)) };
        format!("{} for {} is over and still there{stands}: {}", text("id"), text("host"), text("why"))
    };
    answer["leftovers"].as_array().into_iter().flatten().map(of).collect()
}

/// Whose actions do not run now, and until when: a line for each rule.
fn muted_alarms(status: &Value) -> Vec<String> {
    let muted = status["muted"].as_array().map_or(&[][..], Vec::as_slice);
    let mut by_rule: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for one in muted {
        let text = |key: &str| one[key].as_str().unwrap_or("-");
        by_rule.entry((text("until"), text("by"))).or_default().push(text("alarm"));
    }
    let mut lines: Vec<String> = by_rule
        .into_iter()
        .map(|((until, by), alarms)| {
            let until = until.parse().map_or_else(|_| until.to_owned(), |at: Timestamp| format!("{at:.0}"));
            format!("muted until {until} by {by}: {}", list(alarms))
        })
        .collect();
    let more = status["muted_total"].as_u64().unwrap_or(0).saturating_sub(muted.len() as u64);
    if more > 0 {
        lines.push(format!("and {more} more alarms are muted; `ukai alarms mute` lists the rules"));
    }
    lines
}

/// What stands, is going or waits for somebody, from the daemon's status.
fn live_overrides(overrides: &[Value], now: Timestamp) -> Table {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let mut table = Table::with_header(&["override", "peer", "state", "addresses", "until", "application"]);
    for over in overrides {
        let until = match moment(&over["expires_at"]) {
            Some(at) => format!("{at:.0} (in {})", span(at.duration_since(now).as_secs())),
            None => "not applied yet".to_owned(),
        };
        let application = match moment(&over["application_seen_at"]) {
            Some(at) => format!("seen to succeed at {at:.0}"),
            None => "not seen".to_owned(),
        };
        let addresses = list(over["addresses"].as_array().into_iter().flatten().map(text));
        table.row(
            Tone::Warning,
            vec![text(&over["id"]), text(&over["peer"]), text(&over["phase"]), addresses, until, application],
        );
    }
    table
}

fn moment(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

fn whole_seconds(value: &Value) -> String {
    moment(value).map_or_else(|| "-".to_owned(), |at| format!("{at:.0}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_over_and_still_there_is_said_with_its_reason() {
        let left =
            json!({ "id": "ovr-1", "host": "api.peer.test", "addresses": ["192.0.2.7"], "why": "it is refused" });
        let mark = json!({ "id": "ovr-2", "host": "two.test", "addresses": [], "why": "the key is gone" });
        assert_eq!(
            leftovers(&json!({ "leftovers": [left, mark] })),
            [
                "ovr-1 for api.peer.test is over and still there (192.0.2.7): it is refused",
                "ovr-2 for two.test is over and still there: the key is gone",
            ]
        );
        assert!(leftovers(&json!({ "leftovers": [] })).is_empty());
    }

    #[test]
    fn muted_alarms_stand_together_by_their_rule() {
        let muted = |alarm: &str, by: &str| json!({ "alarm": alarm, "by": by, "until": "2026-01-01T03:00:00Z" });
        let status =
            json!({ "muted": [muted("a", "night"), muted("b", "deploy"), muted("c", "night")], "muted_total": 5 });
        assert_eq!(
            muted_alarms(&status),
            [
                "muted until 2026-01-01T03:00:00Z by deploy: b",
                "muted until 2026-01-01T03:00:00Z by night: a, c",
                "and 2 more alarms are muted; `ukai alarms mute` lists the rules",
            ]
        );
    }
}
