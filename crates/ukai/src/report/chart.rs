//! Charts as inline SVG: the time line of the incident, and the latency of each stage.
//!
//! Colours are CSS classes of the page, so that they follow light and dark; every chart has a title, a description and
//! a table beside it that says the same.

use std::fmt::Write;

use jiff::Timestamp;

use super::escape::html;
use super::latency::{Latency, STAGES};
use super::model::Report;
use super::story::{Kind, span, utc};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 16.0;
/// Ticks on an axis: more would overlap on a phone.
const TICKS: u32 = 5;

/// A stretch of time laid over the width of a chart.
struct Scale {
    from_ms: i64,
    width_ms: i64,
}

impl Scale {
    fn over(times: impl Iterator<Item = Timestamp>) -> Option<Scale> {
        let (mut from, mut to) = (i64::MAX, i64::MIN);
        for at in times {
            from = from.min(at.as_millisecond());
            to = to.max(at.as_millisecond());
        }
        (from <= to).then(|| Scale { from_ms: from, width_ms: (to - from).max(1) })
    }

    fn x(&self, at: Timestamp) -> f64 {
        let part = (at.as_millisecond() - self.from_ms) as f64 / self.width_ms as f64;
        LEFT + part.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn axis(&self, svg: &mut String, y: f64) {
        for tick in 0..=TICKS {
            let part = f64::from(tick) / f64::from(TICKS);
            let x = LEFT + part * (WIDTH - LEFT - RIGHT);
            let ms = (part * self.width_ms as f64) as i64;
            let anchor = if tick == TICKS { "end" } else { "start" };
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="8" y2="{y:.1}"/><text class="tick" x="{x:.1}" y="{:.1}" text-anchor="{anchor}">+{}</text>"#,
                y + 16.0,
                span(ms)
            );
        }
    }
}

/// Bars for what lasted, marks for what happened.
pub fn timeline(report: &Report) -> String {
    let Some(scale) = Scale::over(report.timeline.iter().map(|row| row.at)) else {
        return String::new();
    };
    let end = Timestamp::from_millisecond(scale.from_ms + scale.width_ms).unwrap_or(report.opened.at);
    let mut bars = vec![(
        "failing",
        "incident".to_owned(),
        report.opened.failing_since,
        report.closed.as_ref().map_or(end, |closed| closed.at),
    )];
    for story in &report.overrides {
        if let Some(served) = story.served_at {
            let until = story.ended.as_ref().map_or(end, |ended| ended.at);
            bars.push(("standing", format!("override {}", story.id), served, until));
        }
    }
    let marks_y = 24.0 + bars.len() as f64 * 28.0;
    let height = marks_y + 64.0;
    let mut svg = open("timeline", "Time line of the incident", &described(report), height);
    scale.axis(&mut svg, height - 24.0);
    for (row, (class, name, from, to)) in bars.iter().enumerate() {
        let (x, y) = (scale.x(*from), 16.0 + row as f64 * 28.0);
        let width = (scale.x(*to) - x).max(2.0);
        let _ = write!(
            svg,
            r#"<rect class="bar {class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="20" rx="3"/><text class="label" x="{:.1}" y="{:.1}">{}</text>"#,
            x + 6.0,
            y + 14.5,
            html(name)
        );
    }
    for row in &report.timeline {
        let (x, y) = (scale.x(row.at), marks_y + lane(row.kind));
        let _ = write!(
            svg,
            r#"<circle class="mark {}" cx="{x:.1}" cy="{y:.1}" r="5"><title>{} {}</title></circle>"#,
            row.kind.name(),
            utc(row.at),
            html(&row.text)
        );
    }
    svg.push_str("</svg>");
    svg
}

/// One line per stage over time, on a logarithmic scale: a resolve of 200 µs and a time-out of 3 s are both seen.
pub fn latency(latency: &Latency) -> String {
    let Some(scale) = Scale::over(latency.points.iter().map(|point| point.at)) else {
        return String::new();
    };
    let slowest = latency.points.iter().flat_map(|point| point.stages_us).flatten().max().unwrap_or(1);
    let top = decades(slowest);
    let (height, floor) = (264.0, 232.0);
    let describe = format!(
        "The slowest probe of each stage over time; {} of {} steps held a failed probe.",
        latency.points.iter().filter(|point| point.failed > 0).count(),
        latency.points.len()
    );
    let mut svg = open("latency", "Latency per stage", &describe, height);
    scale.axis(&mut svg, floor);
    for decade in LOWEST_DECADE..=top {
        let y = level(10f64.powi(decade), top, floor);
        let _ = write!(
            svg,
            r#"<line class="grid" x1="{LEFT}" x2="{}" y1="{y:.1}" y2="{y:.1}"/><text class="tick" x="{}" y="{:.1}" text-anchor="end">{}</text>"#,
            WIDTH - RIGHT,
            LEFT - 6.0,
            y + 4.0,
            decade_name(decade)
        );
    }
    for point in latency.points.iter().filter(|point| point.failed > 0) {
        let x = scale.x(point.at);
        let _ = write!(svg, r#"<line class="failed" x1="{x:.1}" x2="{x:.1}" y1="{}" y2="{floor}"/>"#, floor - 10.0);
    }
    for (number, stage) in STAGES.iter().enumerate() {
        let path = stage_path(latency, number, &scale, top, floor);
        if !path.is_empty() {
            let _ =
                write!(svg, r#"<path class="line {}" d="{path}"><title>{}</title></path>"#, stage.name(), stage.name());
        }
    }
    svg.push_str("</svg>");
    svg
}

/// A line is broken where no probe got as far as the stage.
fn stage_path(latency: &Latency, stage: usize, scale: &Scale, top: i32, floor: f64) -> String {
    let mut path = String::new();
    let mut pen_down = false;
    for point in &latency.points {
        let Some(time) = point.stages_us.get(stage).copied().flatten() else {
            pen_down = false;
            continue;
        };
        let (x, y) = (scale.x(point.at), level(time as f64, top, floor));
        // A point alone is drawn as a short dash.
        let _ = match pen_down {
            true => write!(path, "L{x:.1} {y:.1}"),
            false => write!(path, "M{x:.1} {y:.1}h0.5"),
        };
        pen_down = true;
    }
    path
}

/// 100 µs: faster than that is the machine's own noise.
const LOWEST_DECADE: i32 = 2;

fn decades(slowest_us: u64) -> i32 {
    let mut top = LOWEST_DECADE + 1;
    while 10f64.powi(top) < slowest_us as f64 {
        top += 1;
    }
    top
}

fn level(us: f64, top: i32, floor: f64) -> f64 {
    let lowest = f64::from(LOWEST_DECADE);
    let part = (us.max(1.0).log10() - lowest) / (f64::from(top) - lowest);
    floor - part.clamp(0.0, 1.0) * (floor - 12.0)
}

fn decade_name(decade: i32) -> String {
    match decade {
        2 => "100 µs".to_owned(),
        3..=5 => format!("{} ms", 10u64.pow(decade.unsigned_abs() - 3)),
        _ => format!("{} s", 10u64.pow(decade.unsigned_abs().saturating_sub(6))),
    }
}

/// Kinds of moment lie in lanes, so that those of one second do not hide each other.
fn lane(kind: Kind) -> f64 {
    match kind {
        Kind::Failure | Kind::Alarm | Kind::Recovery => 0.0,
        Kind::Evidence | Kind::Diagnosis => 10.0,
        Kind::Decision | Kind::Change => 20.0,
        Kind::Told | Kind::Note => 30.0,
    }
}

fn described(report: &Report) -> String {
    report.summary.join(" ")
}

fn open(id: &str, title: &str, description: &str, height: f64) -> String {
    format!(
        r#"<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{id}-title {id}-desc"><title id="{id}-title">{}</title><desc id="{id}-desc">{}</desc>"#,
        html(title),
        html(description)
    )
}
