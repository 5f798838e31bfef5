//! `[[other_vantage]]` and `[vantage_service]`: who is asked in other networks, and where such questions are answered.

use std::collections::BTreeSet;

use url::Url;

use super::problem::At;
use super::reader::Reader;
use super::subscriber::is_loopback;
use super::{OtherVantage, VantageService, defaults, v1};

pub fn other_vantages(written: Vec<v1::OtherVantage>, reader: &mut Reader<'_>) -> Vec<OtherVantage> {
    let at = At::default().key("other_vantage");
    reader.at_most(&at, written.len(), defaults::OTHER_VANTAGES, "other vantages");
    let mut names = BTreeSet::new();
    let mut vantages = Vec::new();
    for (index, vantage) in written.into_iter().enumerate() {
        let at = at.index(index);
        if vantage.name.is_empty() {
            reader.problem(&at.key("name"), "a vantage needs a name");
        }
        if !names.insert(vantage.name.clone()) {
            reader.problem(&at.key("name"), format!("the name {:?} is used twice", vantage.name));
        }
        let url = url(&at.key("url"), &vantage.url, reader);
        let token = reader.secret_place(&at.key("token"), &vantage.token);
        vantages.extend(url.zip(token).map(|(url, token)| OtherVantage { name: vantage.name, url, token }));
    }
    vantages
}

/// The token goes there, so nobody may read along on the way.
fn url(at: &At, text: &str, reader: &mut Reader<'_>) -> Option<Url> {
    let Ok(url) = Url::parse(text) else {
        reader.problem(at, format!("{text:?} is not a URL; write https://HOST:PORT"));
        return None;
    };
    let allowed = url.scheme() == "https" || url.scheme() == "http" && is_loopback(&url);
    if !allowed {
        reader
            .problem(at, "a vantage is asked over https, or over http on loopback: its token must not cross a network");
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || !url.username().is_empty() {
        reader.problem(at, "write only https://HOST:PORT; the path is ours, and the token has a key of its own");
    }
    allowed.then_some(url)
}

pub fn service(written: v1::VantageService, reader: &mut Reader<'_>) -> Option<VantageService> {
    let at = At::default().key("vantage_service");
    let listen = reader.listen(&at.key("listen"), written.listen.as_deref().unwrap_or(defaults::VANTAGE_LISTEN));
    if listen.is_some_and(|listen| !listen.ip().is_loopback()) {
        reader.warn(
            &at.key("listen"),
            "the vantage's token will cross the network in plain HTTP; put a proxy with TLS before it",
        );
    }
    let token = reader.token(
        &at,
        written.token.as_ref(),
        written.token_file.as_deref(),
        "the vantage needs a token that its controllers show",
    );
    Some(VantageService { listen: listen?, token: token? })
}
