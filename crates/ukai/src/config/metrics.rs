//! `[metrics]`: where the application's own metrics come from.

use std::collections::BTreeSet;

use ukai_core::metric::Namespace;
use ukai_core::metric::identity::DIMENSIONS_MAX;
use url::Url;

use super::problem::At;
use super::reader::Reader;
use super::subscriber::is_loopback;
use super::{defaults, v1};
use crate::metrics::inputs::Settings;
use crate::metrics::otlp::Options;
use crate::metrics::scrape::{Keep, Target};

pub fn metrics(written: v1::Metrics, reader: &mut Reader<'_>) -> Settings {
    let at = At::default().key("metrics");
    let emf = written.emf.unwrap_or_default();
    reader.at_most(&at.key("emf"), emf.len(), defaults::EMF_FILES, "files");
    let mut files = BTreeSet::new();
    for (index, file) in emf.into_iter().enumerate() {
        if file.file.is_empty() || !files.insert(reader.path(&file.file)) {
            let message = format!("{:?} is empty, or listed twice; each file is followed once", file.file);
            reader.problem(&at.key("emf").index(index).key("file"), message);
        }
    }
    let scrapes = written.scrape.unwrap_or_default();
    reader.at_most(&at.key("scrape"), scrapes.len(), defaults::SCRAPES, "targets");
    let mut targets: Vec<Target> = Vec::new();
    for (index, scrape) in scrapes.into_iter().enumerate() {
        let at = at.key("scrape").index(index);
        let Some(target) = target(&at, scrape, reader) else { continue };
        if targets.iter().any(|known| known.url == target.url) {
            reader.problem(&at.key("url"), "this target is listed twice; each is scraped once");
        }
        targets.push(target);
    }
    let otlp = otlp(written.otlp.unwrap_or_default(), reader);
    Settings { emf: files.into_iter().collect(), scrape: targets, otlp }
}

fn target(at: &At, written: v1::Scrape, reader: &mut Reader<'_>) -> Option<Target> {
    let interval = reader.duration(
        &at.key("interval"),
        written.interval.as_deref(),
        defaults::SCRAPE_INTERVAL,
        defaults::INTERVAL_RANGE,
    );
    let namespace =
        namespace_or(&at.key("namespace"), written.namespace.as_deref(), defaults::SCRAPE_NAMESPACE, reader);
    let keep = written.keep.unwrap_or_default();
    reader.at_most(&at.key("keep"), keep.len(), defaults::LIST, "entries");
    for (index, name) in keep.iter().enumerate() {
        if name.is_empty() || name.trim_end_matches('*').contains('*') {
            let message = format!("{name:?} is no name; write one, with * at the end for all that begin so");
            reader.problem(&at.key("keep").index(index), message);
        }
    }
    let token = written.token.as_ref().and_then(|place| reader.secret_place(&at.key("token"), place));
    let url = url(&at.key("url"), &written.url, reader)?;
    if token.is_some() && url.scheme() == "http" && !is_loopback(&url) {
        reader.warn(&at.key("token"), "the token will cross the network in plain HTTP; use https");
    }
    Some(Target { url, interval, namespace, keep: keep.iter().map(|name| Keep::new(name)).collect(), token })
}

/// No message repeats what may be a password.
fn url(at: &At, written: &str, reader: &mut Reader<'_>) -> Option<Url> {
    let Ok(url) = Url::parse(written) else {
        reader.problem(at, "this is not a URL; write one such as http://127.0.0.1:9100/metrics");
        return None;
    };
    if !matches!(url.scheme(), "http" | "https") {
        reader.problem(at, format!("a target is scraped over http or https, not {}", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        reader.problem(at, "a user name or password in the URL is not sent; use token");
    }
    Some(url)
}

fn otlp(written: v1::Otlp, reader: &mut Reader<'_>) -> Options {
    let at = At::default().key("metrics").key("otlp");
    let namespace = namespace_or(&at.key("namespace"), written.namespace.as_deref(), defaults::OTLP_NAMESPACE, reader);
    let count = written.dimensions.as_ref().map_or(0, Vec::len);
    reader.at_most(&at.key("dimensions"), count, DIMENSIONS_MAX, "dimensions");
    Options { namespace, dimensions: written.dimensions }
}

/// A wrong one is noted, and the default stands in its place; the defaults are right, so this ends.
fn namespace_or(at: &At, written: Option<&str>, default: &str, reader: &mut Reader<'_>) -> Namespace {
    match Namespace::of_others(written.unwrap_or(default)) {
        Ok(namespace) => namespace,
        Err(error) => {
            reader.problem(at, error.to_string());
            namespace_or(at, None, default, reader)
        }
    }
}
