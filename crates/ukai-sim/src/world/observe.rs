//! Probes of the peer and of the controls.

use std::net::IpAddr;

use ukai_core::diagnose::evidence::{ControlResult, Rcode, Reached};
use ukai_core::observe::{ErrorClass, Failure, Observation, Path, Resolution, Stage};
use ukai_lab::scenario::{Controls, Egress, ResolverMode};

use super::host::{From, PROXY_ISSUER, WEB_ISSUER, Who, dates_fault};
use super::layout::{CONTROLS, control_url};
use super::zone::{Kind, Reply, Subnet};
use super::{Ms, World, timestamp};

pub const OUR_RESOLVER: &str = "udp://10.0.0.53:53";
pub const EMBEDDED: &str = "udp://10.0.0.54:53";
/// One resolver is waited for that long when a name is resolved as an application would.
const RESOLVE_MS: Ms = 3_000;
/// A control is waited for that long at each stage, and for its name.
const CONTROL_MS: Ms = 2_000;
/// Addresses of one answer that are probed.
const ADDRESSES_MAX: usize = 64;
/// How long our resolver holds on to a control's address.
const CONTROL_TTL_MS: Ms = 300_000;

/// How an address question was answered, or that it was not.
pub type Answered = Option<Reply>;

impl World {
    /// Our resolver over one transport, as it is set up.
    pub fn our_resolver(&mut self, kind: Kind, tcp: bool, unchecked: bool, now: Ms) -> Answered {
        self.resolver_over(0, kind, tcp, unchecked, Subnet::Us, now)
    }

    pub fn resolver_over(
        &mut self,
        number: usize,
        kind: Kind,
        tcp: bool,
        unchecked: bool,
        subnet: Subnet,
        now: Ms,
    ) -> Answered {
        let setup = self.setup(number);
        if tcp && setup.block_tcp {
            return None;
        }
        let reply = self.resolver(number, kind, unchecked, subnet, now)?;
        Some(match (tcp, setup.truncate_udp) {
            (true, _) => reply,
            (false, true) => reply.cut(),
            (false, false) => reply.over_udp(),
        })
    }

    /// As a stub resolver does it: over UDP, and again over TCP where the answer did not fit.
    pub fn our_resolver_whole(&mut self, kind: Kind, now: Ms) -> Answered {
        let reply = self.our_resolver(kind, false, false, now)?;
        if !reply.truncated {
            return Some(reply);
        }
        self.our_resolver(kind, true, false, now)
    }

    /// A and AAAA of one resolver make one resolution.
    pub fn resolution(&mut self, resolver: &str, answers: [Answered; 2]) -> (Resolution, Ms) {
        let host = self.layout.host.clone();
        let silent = answers.iter().any(Option::is_none);
        let took = if silent { RESOLVE_MS } else { self.about(2) };
        let mut resolution =
            Resolution { resolver: resolver.to_owned(), elapsed_us: took * 1000, ..Resolution::default() };
        for reply in answers.iter().flatten() {
            resolution.addresses.extend(&reply.addresses);
            if resolution.chain.is_empty() {
                resolution.chain.clone_from(&reply.chain);
            }
            let error = reply.extended_error.map(|code| format!("{code} "));
            resolution.extended_errors.extend(error.filter(|error| !resolution.extended_errors.contains(error)));
            if !reply.addresses.is_empty() {
                resolution.ttl = resolution.ttl.into_iter().chain(reply.ttl).min();
            }
        }
        resolution.addresses_total = resolution.addresses.len();
        if resolution.addresses.is_empty() {
            let class = worst(&answers);
            let detail = format!("{} for {host} from {resolver}", class.name());
            resolution.failure = Some(Failure { stage: Stage::Resolve, class, detail });
        }
        (resolution, took)
    }

    /// One observation for each endpoint.
    pub fn observe(&mut self, path: Path, resolution: &Resolution, took: Ms, now: Ms) -> (Vec<Observation>, Ms) {
        let mut longest = took;
        let observations = self
            .endpoints()
            .into_iter()
            .map(|endpoint| {
                let addresses: Vec<IpAddr> = match resolution.failure {
                    Some(_) => Vec::new(),
                    None => in_turn(&resolution.addresses),
                };
                let results = addresses
                    .into_iter()
                    .map(|address| {
                        let mut met = self.meet(address, Who::Prober, From::Here, now);
                        met.result.timings.resolve_us = Some(resolution.elapsed_us);
                        longest = longest.max(took + met.took);
                        met.result
                    })
                    .collect();
                Observation {
                    peer: self.peer(),
                    endpoint,
                    path,
                    started_at: timestamp(now),
                    resolution: resolution.clone(),
                    results,
                }
            })
            .collect();
        (observations, longest)
    }

    pub fn endpoints(&self) -> Vec<String> {
        std::iter::once(&self.scenario.peer.url).chain(&self.scenario.peer.also).map(ToString::to_string).collect()
    }

    pub fn controls(&self) -> Vec<String> {
        match self.scenario.initial_state().controls {
            Controls::None => Vec::new(),
            _ => (1..=CONTROLS).map(control_url).collect(),
        }
    }

    pub fn probe_controls(&mut self, now: Ms) -> (Vec<ControlResult>, Ms) {
        let mut longest = 0;
        let results = self
            .controls()
            .into_iter()
            .map(|control| {
                let (result, took) = self.probe_control(control, now);
                longest = longest.max(took);
                result
            })
            .collect();
        (results, longest)
    }

    fn probe_control(&mut self, control: String, now: Ms) -> (ControlResult, Ms) {
        let state = self.state();
        let (controls, shift, cut) = (state.controls, state.clock.0, state.egress == Egress::Cut);
        let v6 = self.control_v6();
        let (name_failure, name_took) = self.control_name(&control, now);
        let silent = cut || controls == Controls::AddressesFail;
        let mut result = ControlResult { address_tried: true, name_failure, v6, ..ControlResult::of(control) };
        let took = if silent { CONTROL_MS } else { self.about(8) };
        let fail = |result: &mut ControlResult, stage: Stage, why: &str| {
            result.failed_at = Some(stage);
            result.address_failure = Some(why.to_owned());
        };
        if silent {
            fail(&mut result, Stage::Connect, "it did not answer within 2 s");
        } else if controls == Controls::None {
            fail(&mut result, Stage::Connect, "it refused the connection");
        } else {
            result.issuer = Some(if controls == Controls::Intercepted { PROXY_ISSUER } else { WEB_ISSUER }.to_owned());
            match dates_fault(shift) {
                Some(why) => {
                    result.dates_failure = true;
                    fail(&mut result, Stage::Tls, why);
                }
                None => {
                    result.tls_verified = true;
                    result.clock_offset_s = Some(shift);
                }
            }
        }
        (result, took.max(name_took))
    }

    /// Where the scenario has to do with IPv6, controls are looked at by that family too.
    fn control_v6(&self) -> Option<Reached> {
        let state = self.state();
        let lost = matches!(state.egress, Egress::Cut | Egress::NoV6)
            || matches!(state.controls, Controls::AddressesFail | Controls::None);
        let no = || Reached::No("it did not answer within 2 s".to_owned());
        self.layout.hosts.values().any(IpAddr::is_ipv6).then(|| if lost { no() } else { Reached::Yes })
    }

    /// Why our resolver does not give a control's address, and how long that took.
    fn control_name(&mut self, control: &str, now: Ms) -> (Option<String>, Ms) {
        let setup = self.setup(0);
        let state = self.state();
        let expired = self.cut_since.is_some_and(|since| now.saturating_sub(since) > CONTROL_TTL_MS);
        let failure = match setup.mode {
            ResolverMode::TimeoutAll => Some(("no answer within 2 s", CONTROL_MS)),
            ResolverMode::ServfailAll => Some(("SERVFAIL", 0)),
            ResolverMode::Refuse => Some(("REFUSED", 0)),
            // Truncated, and then TCP is blocked.
            _ if setup.truncate_udp && setup.block_tcp => Some(("no answer over TCP within 2 s", CONTROL_MS)),
            _ if state.controls == Controls::NamesFail => Some(("SERVFAIL", 0)),
            _ if state.controls == Controls::None => Some(("NXDOMAIN", 0)),
            _ if expired => Some(("SERVFAIL", 0)),
            _ => None,
        };
        match failure {
            Some((why, took)) => (Some(format!("{why} for {control}")), took),
            None => (None, self.about(2)),
        }
    }
}

/// As many as are probed, both families in turn.
fn in_turn(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|address| address.is_ipv4());
    let longest = v4.len().max(v6.len());
    let turns = (0..longest).flat_map(|turn| [v4.get(turn), v6.get(turn)]).flatten();
    turns.take(ADDRESSES_MAX).copied().collect()
}

/// The failure that explains an empty resolution. NODATA explains it only where both families say so.
fn worst(answers: &[Answered; 2]) -> ErrorClass {
    let classes = answers.each_ref().map(|answered| match answered {
        None => ErrorClass::Timeout,
        Some(reply) => match reply.rcode {
            Rcode::Noerror => ErrorClass::Nodata,
            Rcode::Nxdomain => ErrorClass::Nxdomain,
            Rcode::Servfail => ErrorClass::Servfail,
            Rcode::Refused => ErrorClass::Refused,
            _ => ErrorClass::Protocol,
        },
    });
    if classes.contains(&ErrorClass::Nxdomain) {
        return ErrorClass::Nxdomain;
    }
    classes.into_iter().find(|class| *class != ErrorClass::Nodata).unwrap_or(ErrorClass::Nodata)
}
