//! What the peer's support, or anybody's, need not know: names that have nothing to do with them, who decided, what our own
//! application wrote. What is taken out is listed.

use std::collections::BTreeSet;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ukai_core::address::{is_global, is_within};
use ukai_core::diagnose::evidence::{
    Asked, Canary, ControlResult, Evidence, Outcome, OwnNetwork, Reached, Source, VantageView,
};
use ukai_core::diagnose::history::History;
use ukai_core::diagnose::known::Known;
use ukai_core::diagnose::verdict::Verdict;
use ukai_core::event::{Event, Recorded};
use ukai_core::observe::{AddressResult, Observation, Resolution};
use ukai_dns::Upstream;

use super::Saved;
use super::names::{Names, without_queries};

pub const WITHHELD: &str = "[withheld]";

#[derive(Debug, Default)]
pub struct Redactor {
    /// Names that are taken out of everything.
    everywhere: Names,
    /// What belongs to the peer's own name, and so is no secret from anybody whom its outage concerns.
    related: BTreeSet<String>,
    list: BTreeSet<String>,
}

impl Redactor {
    pub fn of(saved: &[Saved], records: &[Recorded], shows_resolvers: bool) -> Redactor {
        let mut redactor = Redactor { related: saved.iter().flat_map(related).collect(), ..Redactor::default() };
        let controls = saved.iter().flat_map(controls).filter_map(|url| host(&url)).collect();
        redactor.replace(controls, "control", "sites that are probed to tell our own fault from the peer's");
        let others = records.iter().filter_map(|record| watched(&record.event)).map(|(_, host)| host.to_owned());
        redactor.replace(others.collect(), "other-host", "hosts of other services that are watched");
        let search = saved.iter().flat_map(|saved| saved.evidence.own.search.iter().cloned()).collect();
        redactor.replace(search, "search", "search domains of our network");
        let vantages = saved.iter().flat_map(|saved| &saved.evidence.vantages).map(|view| view.vantage.clone());
        redactor.replace(vantages.collect(), "vantage", "names of our other networks");
        if !shows_resolvers {
            redactor.resolvers(saved);
        }
        redactor
    }

    /// The names that have nothing to do with the peer, each with what stands for it from now on.
    fn replace(&mut self, names: BTreeSet<String>, by: &str, what: &str) -> usize {
        let names: Vec<String> = names.into_iter().filter(|name| !self.is_related(name)).collect();
        let count = names.len();
        if count > 0 {
            self.note(format!("{count} {what}: replaced by {by}-1 and so on"));
        }
        for (number, name) in (1..).zip(names) {
            self.everywhere.add(&name, format!("{by}-{number}"));
        }
        count
    }

    fn is_related(&self, name: &str) -> bool {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let is_below = |below: &str, above: &str| {
            below == above || below.strip_suffix(above).is_some_and(|rest| rest.ends_with('.'))
        };
        self.related.iter().any(|related| is_below(related, &name) || is_below(&name, related))
    }

    /// Resolvers of ours that only we can reach: their addresses say how our network is laid out, and nothing of the fault.
    fn resolvers(&mut self, saved: &[Saved]) {
        let public: BTreeSet<IpAddr> = saved.iter().flat_map(|saved| addresses(&saved.evidence)).collect();
        let uris: BTreeSet<&str> = saved.iter().flat_map(|saved| resolver_uris(&saved.evidence)).collect();
        let mut hidden = BTreeSet::new();
        let mut named = BTreeSet::new();
        for uri in uris {
            let (Some(address), name) = resolver(uri) else { continue };
            if is_global(address) || is_the_same_everywhere(address) || public.contains(&address) {
                continue;
            }
            hidden.insert(address.to_string());
            named.extend(name);
        }
        self.replace(hidden, "private-resolver", "private addresses of our own resolvers");
        self.replace(named, "private-resolver-name", "names of our own resolvers");
    }

    /// What was taken out, a line each.
    pub fn list(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(String::as_str)
    }

    pub fn note(&mut self, what: impl Into<String>) {
        self.list.insert(what.into());
    }

    pub fn text(&self, text: &str) -> String {
        self.everywhere.hide(&without_queries(text))
    }

    fn hide<'t>(&self, texts: impl IntoIterator<Item = &'t mut String>) {
        texts.into_iter().for_each(|text| *text = self.text(text));
    }

    fn hide_set(&self, texts: &mut BTreeSet<String>) {
        *texts = texts.iter().map(|text| self.text(text)).collect();
    }

    /// The same diagnosis, as it may leave the house.
    pub fn saved(&mut self, mut saved: Saved) -> Saved {
        self.known(&mut saved.known, &saved.evidence);
        self.evidence(&mut saved.evidence);
        saved.verdict = saved.verdict.take().map(|recorded| self.verdict(recorded, saved.judge()));
        saved
    }

    /// As it is derived from what is left, so that it is found again there; as it was recorded, should that be another.
    fn verdict(&mut self, mut recorded: Verdict, derived: Verdict) -> Verdict {
        let gist = |verdict: &Verdict| (verdict.code, verdict.sure, verdict.action);
        if gist(&recorded) == gist(&derived) {
            return derived;
        }
        let (code, sure) = (derived.code.name(), derived.sure.name());
        self.note(format!("the verdict is the recorded one; this version of ukai would say {code} ({sure})"));
        let Verdict { summary, evidence_for, evidence_against, eliminated, would_change, options, .. } = &mut recorded;
        self.hide([summary]);
        self.hide(evidence_for.iter_mut().chain(evidence_against).chain(eliminated).chain(would_change));
        self.hide(options.iter_mut().flat_map(|option| [&mut option.reason, &mut option.effect, &mut option.risk]));
        recorded
    }

    fn known(&mut self, known: &mut Known, evidence: &Evidence) {
        let Known { peer: _, history, application, moved_seen_at: _, overridden: _, allow_addresses } = known;
        let History { identities, controls, control_issuers, .. } = history;
        self.hide_set(controls);
        self.hide_set(control_issuers);
        self.hide(identities.iter_mut().map(|identity| &mut identity.issuer));
        let errors: Vec<&mut String> = application.iter_mut().filter_map(|call| call.error.as_mut()).collect();
        if !errors.is_empty() {
            self.note("what our application wrote about its failed calls: withheld");
        }
        errors.into_iter().for_each(|error| *error = WITHHELD.to_owned());
        let seen = addresses(evidence);
        let before = allow_addresses.len();
        allow_addresses.retain(|network| seen.iter().any(|address| is_within(*address, &[*network])));
        if allow_addresses.len() < before {
            self.note("networks of ours that may be contacted, and that no address here is in: left out");
        }
    }

    /// Every field is named, so that a new one has to be decided upon.
    fn evidence(&mut self, evidence: &mut Evidence) {
        let Evidence {
            peer: _,
            host: _,
            purpose: _,
            started_at: _,
            finished_at: _,
            endpoints: _,
            asked,
            delegation,
            canary,
            candidates,
            controls,
            observations,
            vantages,
            reuse,
            default_sites,
            connections: _,
            own,
        } = evidence;
        asked.iter_mut().for_each(|asked| self.asked(asked));
        self.hide(delegation.iter_mut().flat_map(|delegation| &mut delegation.problems));
        if let Canary::Intercepted(text) = canary {
            self.hide([text]);
        }
        for proof in candidates.iter_mut().flat_map(|candidate| &mut candidate.proofs) {
            self.result(&mut proof.result);
        }
        controls.iter_mut().for_each(|control| self.control(control));
        observations.iter_mut().for_each(|observation| self.observation(observation));
        for VantageView { vantage, silence, resolved: _, results } in vantages {
            self.hide(std::iter::once(vantage).chain(silence));
            for proof in results {
                self.hide([&mut proof.endpoint]);
                self.result(&mut proof.result);
            }
        }
        self.hide(
            reuse
                .iter_mut()
                .flat_map(|reuse| reached(Some(&mut reuse.first)).into_iter().chain(reached(reuse.second.as_mut()))),
        );
        self.hide(default_sites.iter_mut().flat_map(|site| &mut site.names));
        let OwnNetwork { name_servers, search, nsswitch, .. } = own;
        self.hide(name_servers.iter_mut().chain(search).chain(nsswitch));
    }

    fn asked(&mut self, asked: &mut Asked) {
        let Asked { server, identity, outcome, wire, .. } = asked;
        self.hide([server, identity]);
        match outcome {
            Outcome::Silent { detail, .. } => self.hide([detail]),
            Outcome::Answered(answer) => {
                self.hide(answer.chain.iter_mut().chain(&mut answer.nsid));
                self.hide(answer.extended_errors.iter_mut().map(|error| &mut error.text));
            }
        }
        let octets = wire.as_ref().and_then(|wire| STANDARD.decode(wire).ok());
        if octets.is_some_and(|octets| self.everywhere.are_in(&octets)) {
            *wire = None;
            self.note("messages from the wire that hold one of these names: withheld");
        }
    }

    pub fn observation(&self, observation: &mut Observation) {
        let Resolution { resolver, chain, extended_errors, failure, .. } = &mut observation.resolution;
        self.hide(std::iter::once(resolver).chain(chain).chain(extended_errors));
        self.hide(failure.iter_mut().map(|failure| &mut failure.detail));
        observation.results.iter_mut().for_each(|result| self.result(result));
    }

    fn result(&self, result: &mut AddressResult) {
        self.hide(
            result
                .identity
                .iter_mut()
                .flat_map(|identity| std::iter::once(&mut identity.issuer).chain(&mut identity.names)),
        );
        self.hide(
            result
                .http
                .iter_mut()
                .flat_map(|http| http.server.iter_mut().chain(&mut http.proxy).chain(&mut http.location)),
        );
        self.hide(result.failure.iter_mut().map(|failure| &mut failure.detail));
    }

    fn control(&self, result: &mut ControlResult) {
        let ControlResult { control, name_failure, address_failure, issuer, v6, .. } = result;
        self.hide(std::iter::once(control).chain(name_failure).chain(address_failure).chain(issuer));
        self.hide(reached(v6.as_mut()));
    }
}

fn reached(reached: Option<&mut Reached>) -> Option<&mut String> {
    match reached {
        Some(Reached::No(why)) => Some(why),
        Some(Reached::Yes) | None => None,
    }
}

/// The peer's name, and what the DNS of the world says on the way to it.
fn related(saved: &Saved) -> Vec<String> {
    let Evidence { host, asked, delegation, .. } = &saved.evidence;
    let mut names = vec![host.clone()];
    if let Some(delegation) = delegation {
        names.extend(delegation.parent_ns.iter().chain(&delegation.child_ns).cloned());
    }
    let elsewhere = asked.iter().filter(|asked| asked.source != Source::OurResolver);
    names.extend(elsewhere.filter_map(Asked::answer).flat_map(|answer| answer.chain.iter().cloned()));
    names.iter().map(|name| name.trim_end_matches('.').to_ascii_lowercase()).filter(|name| !name.is_empty()).collect()
}

fn controls(saved: &Saved) -> BTreeSet<String> {
    let asked = saved.evidence.controls.iter().map(|result| result.control.clone());
    asked.chain(saved.known.history.controls.iter().cloned()).collect()
}

fn host(url: &str) -> Option<String> {
    url::Url::parse(url).ok()?.host_str().map(str::to_owned)
}

/// Name and host of a peer that is watched.
pub fn watched(event: &Event) -> Option<(&str, &str)> {
    match event {
        Event::PeerWatched { peer, host, .. } => Some((peer, host)),
        _ => None,
    }
}

fn resolver_uris(evidence: &Evidence) -> impl Iterator<Item = &str> {
    let asked = evidence.asked.iter().filter(|asked| asked.source == Source::OurResolver);
    let observed = evidence.observations.iter().map(|observation| observation.resolution.resolver.as_str());
    asked
        .map(|asked| asked.identity.as_str())
        .chain(observed)
        .chain(evidence.own.name_servers.iter().map(String::as_str))
}

/// The address of a resolver, and the name that its certificate must have.
fn resolver(uri: &str) -> (Option<IpAddr>, Option<String>) {
    match uri.parse::<Upstream>() {
        Ok(Upstream::Udp(address) | Upstream::Tcp(address)) => (Some(address.ip()), None),
        Ok(Upstream::Tls { address, server_name } | Upstream::Https { address, server_name, .. }) => {
            (Some(address.ip()), server_name)
        }
        // With the zone of a link-local address.
        Err(_) => (uri.split('%').next().and_then(|address| address.parse().ok()), None),
    }
}

/// Loopback, and the link-local addresses that clouds give their resolvers: they say nothing of our network.
fn is_the_same_everywhere(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => address.is_loopback() || address.is_unicast_link_local(),
    }
}

/// Every address that anybody gave for the peer, or that was tried for it.
fn addresses(evidence: &Evidence) -> BTreeSet<IpAddr> {
    let answered = evidence.asked.iter().filter_map(Asked::answer).flat_map(|answer| answer.addresses.iter().copied());
    let observed = evidence.observations.iter().flat_map(|observation| {
        let tried = observation.results.iter().map(|result| result.address);
        tried.chain(observation.resolution.addresses.iter().copied())
    });
    let candidates = evidence.candidates.iter().map(|candidate| candidate.address);
    answered.chain(observed).chain(candidates).collect()
}
