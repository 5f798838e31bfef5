//! The application: it resolves at ukai's server, connects and calls, as the lab's own does.

use std::net::IpAddr;

use ukai_core::diagnose::evidence::{ApplicationCall, Rcode};
use ukai_core::observe::Stage as ProbeStage;
use ukai_lab::app::{CallReport, Pool, Stage};
use ukai_lab::scenario::HostBehaviour;

use super::embedded::Embedded;
use crate::world::host::{From, Who};
use crate::world::zone::Kind;
use crate::world::{Ms, World, timestamp};

/// The longest that one call may take.
const CALL_MS: Ms = 2_000;
/// Both tries at a resolver that is silent.
const RESOLVE_MS: Ms = 1_800;

/// One application, and what it holds on to.
#[derive(Debug, Default)]
pub struct App {
    cache: Option<(Vec<IpAddr>, Ms)>,
    pinned: Option<IpAddr>,
    standing: Option<IpAddr>,
    /// How the last call ended.
    pub last_ok: Option<bool>,
}

/// Where a call failed, and how.
struct Failed {
    stage: Stage,
    address: Option<IpAddr>,
    status: Option<u16>,
    error: String,
}

impl App {
    /// The address of the connection that stands.
    pub fn connected(&self) -> Option<IpAddr> {
        self.standing
    }

    /// One call; how it went and how long it took.
    pub fn call(&mut self, world: &mut World, embedded: &mut Embedded, now: Ms) -> (CallReport, Ms) {
        let (called, took) = self.attempt(world, embedded, now);
        let t = timestamp(now + took);
        let report = match called {
            Ok((address, status)) => {
                CallReport { t, ok: true, address: Some(address), stage: Stage::Ok, status: Some(status), error: None }
            }
            Err(Failed { stage, address, status, error }) => {
                CallReport { t, ok: false, address, stage, status, error: Some(error) }
            }
        };
        self.last_ok = Some(report.ok);
        (report, took)
    }

    fn attempt(&mut self, world: &mut World, embedded: &mut Embedded, now: Ms) -> (Result<(IpAddr, u16), Failed>, Ms) {
        if let Some(address) = self.standing.take() {
            return self.call_again(world, address, now);
        }
        let (addresses, mut took) = match self.resolve(world, embedded, now) {
            Ok(found) => found,
            Err((error, took)) => {
                return (Err(Failed { stage: Stage::Resolve, address: None, status: None, error }), took);
            }
        };
        let mut last = Failed { stage: Stage::Connect, address: None, status: None, error: "no address".to_owned() };
        for address in addresses {
            let met = world.meet(address, Who::Application, From::Here, now + took);
            took += met.took;
            let status = met.result.http.as_ref().map(|http| http.status);
            let failed = met.result.failure.map(|failure| Failed {
                stage: stage(failure.stage),
                address: Some(address),
                status,
                error: failure.detail,
            });
            if took >= CALL_MS {
                let late = Failed { stage: Stage::Http, address: Some(address), status, error: "timeout".to_owned() };
                return (Err(failed.unwrap_or(late)), CALL_MS);
            }
            match failed {
                Some(failed) if failed.stage == Stage::Connect => last = failed,
                Some(failed) => {
                    self.pin(world, address);
                    return (Err(failed), took);
                }
                None => {
                    self.pin(world, address);
                    self.standing = (world.scenario.app.pool == Pool::Pinned).then_some(address);
                    return (Ok((address, status.unwrap_or(200))), took);
                }
            }
        }
        (Err(last), took)
    }

    fn pin(&mut self, world: &World, address: IpAddr) {
        if world.scenario.app.pool == Pool::Pinned {
            self.pinned = Some(address);
        }
    }

    /// On the connection that the last call left open.
    fn call_again(&mut self, world: &mut World, address: IpAddr, now: Ms) -> (Result<(IpAddr, u16), Failed>, Ms) {
        let failed =
            |error: &str| Failed { stage: Stage::Http, address: Some(address), status: None, error: error.to_owned() };
        match world.behaviour(address, From::Here) {
            // Another machine has the address by now, and knows nothing of the connection.
            Some(HostBehaviour::TlsDefaultCert | HostBehaviour::TlsWrongName | HostBehaviour::TlsSelfSigned)
            | Some(HostBehaviour::Parked | HostBehaviour::Goaway | HostBehaviour::Refuse | HostBehaviour::Reset) => {
                return (Err(failed("the connection was reset")), 2);
            }
            Some(HostBehaviour::Blackhole) => return (Err(failed("timeout")), CALL_MS),
            _ => {}
        }
        let met = world.meet(address, Who::Application, From::Here, now);
        let status = met.result.http.as_ref().map(|http| http.status);
        match met.result.failure {
            // A certificate is not looked at again.
            Some(failure) if failure.stage == ProbeStage::Tls => {
                self.standing = Some(address);
                (Ok((address, 200)), met.took)
            }
            Some(failure) => (Err(failed(&failure.detail)), met.took.min(CALL_MS)),
            None if met.took >= CALL_MS => (Err(failed("timeout")), CALL_MS),
            None => {
                self.standing = Some(address);
                (Ok((address, status.unwrap_or(200))), met.took)
            }
        }
    }

    fn resolve(
        &mut self,
        world: &mut World,
        embedded: &mut Embedded,
        now: Ms,
    ) -> Result<(Vec<IpAddr>, Ms), (String, Ms)> {
        if let Some(address) = self.pinned {
            return Ok((vec![address], 0));
        }
        if let Some((addresses, until)) = &self.cache
            && now < *until
        {
            return Ok((addresses.clone(), 0));
        }
        let answers = Kind::FAMILIES.map(|kind| embedded.answer(world, kind, now));
        let ttl = answers.iter().flatten().filter_map(|reply| reply.ttl).min().unwrap_or(0);
        let addresses: Vec<IpAddr> = answers.iter().flatten().flat_map(|reply| reply.addresses.clone()).collect();
        if !addresses.is_empty() {
            self.cache = Some((addresses.clone(), now + u64::from(ttl) * 1000));
            return Ok((addresses, world.about(2)));
        }
        if answers.iter().any(Option::is_none) {
            return Err(("the resolver is silent".to_owned(), RESOLVE_MS));
        }
        let denied = answers.iter().flatten().any(|reply| reply.rcode == Rcode::Nxdomain);
        let error = if denied { "there is no such name" } else { "the resolver gives no address" };
        Err((error.to_owned(), 3))
    }
}

fn stage(stage: ProbeStage) -> Stage {
    match stage {
        ProbeStage::Resolve | ProbeStage::Connect => Stage::Connect,
        ProbeStage::Tls => Stage::Tls,
        ProbeStage::Processing | ProbeStage::Transfer => Stage::Http,
    }
}

/// The call as the application reports it.
pub fn sign(report: &CallReport) -> ApplicationCall {
    ApplicationCall { at: report.t, ok: report.ok, address: report.address, error: report.error.clone() }
}
