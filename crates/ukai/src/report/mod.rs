//! The report of an incident: Markdown, one self-contained HTML page, and JSON.
//!
//! [`model`] folds the incident's events into a [`Report`]; the renderers only lay it out. So the three files say the
//! same, and the same log always gives the same files. What was not seen is written as *not observed*.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use ukai_core::event::Recorded;
use ukai_core::observe::Observation;

mod chart;
pub mod escape;
mod html;
mod latency;
mod markdown;
mod matrix;
pub mod model;
mod own;
pub mod story;
mod todo;

pub use html::render_html;
pub use markdown::render_markdown;
pub use model::Report;

/// Writes `INCIDENT.md`, `INCIDENT.html` and `INCIDENT.json` into `dir`, each whole or not at all.
pub fn write(
    records: &[Recorded],
    samples: &[Observation],
    incident: &str,
    dir: &Path,
) -> anyhow::Result<Vec<PathBuf>> {
    let report =
        Report::fold(records, samples, incident).with_context(|| format!("the log holds no incident {incident}"))?;
    fs::create_dir_all(dir).with_context(|| format!("cannot create the report directory {}", dir.display()))?;
    let stem = file_stem(incident);
    let json = serde_json::to_string_pretty(&report).context("cannot write the report as JSON")?;
    let files = [("md", render_markdown(&report)), ("html", render_html(&report)), ("json", json + "\n")];
    files
        .into_iter()
        .map(|(extension, text)| {
            let path = dir.join(format!("{stem}.{extension}"));
            replace(&path, &text).with_context(|| format!("cannot write the report {}", path.display()))?;
            Ok(path)
        })
        .collect()
}

/// An incident's id as a file name: it must not leave the directory, whatever it holds.
pub fn file_stem(incident: &str) -> String {
    let safe: String =
        incident.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' }).collect();
    if safe.is_empty() { "incident".to_owned() } else { safe }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    let mut file = fs::File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}

#[cfg(test)]
mod tests;
