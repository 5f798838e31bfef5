//! What becomes of a connection to one address: TCP, TLS, HTTP, as the real prober would class it.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use ukai_core::observe::{AddressResult, ErrorClass, Failure, HttpFacts, Identity, Stage, Timings};
use ukai_lab::scenario::{Egress, HostBehaviour};

use super::layout::Layout;
use super::{Ms, World, timestamp};

/// The prober's own time-outs.
const CONNECT_MS: Ms = 3_000;
const TLS_MS: Ms = 3_000;
const PROCESSING_MS: Ms = 5_000;
/// Bytes of a handshake's flight and of an answer from the far side, about.
const FLIGHT_BYTES: usize = 1_100;
pub const PORT: u16 = 443;
/// When the world's clock is another, its certificates hold for half an hour each side of its now.
const SHIFTED_HALF_LIFE_S: i64 = 1_800;
const DAY_S: i64 = 86_400;
pub const PEER_ISSUER: &str = "CN=Lab Peer CA";
const OTHER_ISSUER: &str = "CN=Lab Other CA";
pub const WEB_ISSUER: &str = "CN=Lab Web CA";
pub const PROXY_ISSUER: &str = "CN=Corporate Proxy CA";
/// The peer's key in peace.
pub const PEER_KEY: &str = "peer";

/// Where it is looked from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Here,
    /// Another vantage, which meets what the scenario calls `others`.
    Elsewhere,
}

/// Who asks, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Application,
    /// By the normal path, with the peer's secret where it wants one.
    Prober,
    /// A proof: never with a secret.
    Proof,
}

/// How far the far side lets a client come.
#[derive(Debug, Clone)]
pub struct Met {
    pub result: AddressResult,
    /// How long all of it took.
    pub took: Ms,
    /// An HTTP request reached the host.
    pub asked: bool,
}

impl World {
    pub fn behaviour(&self, address: IpAddr, from: From) -> Option<HostBehaviour> {
        let label = self.layout.label_of(address)?;
        let host = self.state().hosts.get(label);
        Some(
            host.map(|host| if from == From::Here { host.us.clone() } else { host.others.clone() }).unwrap_or_default(),
        )
    }

    /// How far the world's clock is from the one there: only ours is wrong.
    fn shift_at(&self, from: From) -> i64 {
        if from == From::Here { self.state().clock.0 } else { 0 }
    }

    /// Nothing answers a SYN.
    fn is_silent(&self, address: IpAddr, from: From) -> bool {
        if from == From::Elsewhere {
            return false;
        }
        match &self.state().egress {
            Egress::Cut => true,
            Egress::NoV6 => address.is_ipv6(),
            Egress::Allow(allowed) => {
                !self.layout.label_of(address).is_some_and(|label| allowed.iter().any(|it| it == label))
            }
            _ => false,
        }
    }

    /// One connection and one request.
    pub fn meet(&mut self, address: IpAddr, who: Who, from: From, now: Ms) -> Met {
        let mut met = Met { result: AddressResult::untried(address, PORT), took: 0, asked: false };
        if !ukai_core::address::is_global(address) {
            let detail = format!(
                "{address} is not a public address and not in a network that may be probed, so it was not contacted"
            );
            met.result.failure = Some(Failure { stage: Stage::Resolve, class: ErrorClass::NotAllowed, detail });
            return met;
        }
        let behaviour = self.behaviour(address, from).unwrap_or(HostBehaviour::Blackhole);
        met.result.failure = self.walk(address, &behaviour, who, from, now, &mut met);
        if met.asked && from == From::Here {
            self.count(address, who);
        }
        met
    }

    fn walk(
        &mut self,
        address: IpAddr,
        behaviour: &HostBehaviour,
        who: Who,
        from: From,
        now: Ms,
        met: &mut Met,
    ) -> Option<Failure> {
        let failed = |stage, class, detail: String| Some(Failure { stage, class, detail });
        if self.is_silent(address, from) || *behaviour == HostBehaviour::Blackhole {
            let limit = if who == Who::Application { 800 } else { CONNECT_MS };
            met.took = limit;
            met.result.timings.connect_us = Some(limit * 1000);
            let detail = format!("{address} port {PORT} did not answer within {} s", limit / 1000);
            return failed(Stage::Connect, ErrorClass::Timeout, detail);
        }
        let connect = self.about(2);
        met.took = connect;
        met.result.timings = Timings { connect_us: Some(connect * 1000), ..Timings::default() };
        if *behaviour == HostBehaviour::Refuse {
            return failed(
                Stage::Connect,
                ErrorClass::Refused,
                format!("{address} refused the connection to port {PORT}"),
            );
        }
        if self.scenario.peer.tls
            && let Some(failure) = self.shake_hands(behaviour, self.shift_at(from), now, met)
        {
            return Some(failure);
        }
        if *behaviour == HostBehaviour::Reset {
            let detail = "it closed the connection without answering the request".to_owned();
            return failed(Stage::Processing, ErrorClass::Reset, detail);
        }
        self.request(behaviour, who, now, met)
    }

    fn shake_hands(&mut self, behaviour: &HostBehaviour, shift_s: i64, now: Ms, met: &mut Met) -> Option<Failure> {
        let failed = |class, detail: &str| Some(Failure { stage: Stage::Tls, class, detail: detail.to_owned() });
        let took = self.about(4);
        met.took += took;
        met.result.timings.tls_us = Some(took * 1000);
        match behaviour {
            HostBehaviour::Reset => {
                return failed(ErrorClass::Reset, "it reset the connection during the TLS handshake");
            }
            HostBehaviour::TlsStall => {
                met.took += TLS_MS;
                return failed(ErrorClass::Timeout, "the TLS handshake did not finish within 3 s");
            }
            HostBehaviour::StallAfter(bytes) if *bytes < FLIGHT_BYTES => {
                met.took += TLS_MS;
                met.result.stalled_after = Some(*bytes as u64);
                return failed(ErrorClass::Timeout, "the TLS handshake did not finish within 3 s");
            }
            HostBehaviour::TlsOldVersion => {
                return failed(
                    ErrorClass::TlsVersion,
                    "it speaks neither TLS 1.2 nor TLS 1.3 (alert protocol_version)",
                );
            }
            _ => {}
        }
        let shown = shown(behaviour, &self.layout, shift_s, timestamp(now));
        let (identity, fault) = (shown.identity, shown.fault);
        met.result.identity = Some(identity);
        fault.map(|(class, detail)| Failure { stage: Stage::Tls, class, detail })
    }

    fn request(&mut self, behaviour: &HostBehaviour, who: Who, now: Ms, met: &mut Met) -> Option<Failure> {
        let failed = |stage, class, detail: String| Some(Failure { stage, class, detail });
        met.asked = true;
        let took = match behaviour {
            HostBehaviour::Slow(time) => Ms::try_from(time.as_millis()).unwrap_or(PROCESSING_MS) + self.about(2),
            _ => self.about(2),
        };
        // The answer is always longer than what the path lets through.
        let stalls = matches!(behaviour, HostBehaviour::StallAfter(_));
        if took >= PROCESSING_MS || stalls {
            if let HostBehaviour::StallAfter(bytes) = behaviour {
                met.result.stalled_after = Some(*bytes as u64);
            }
            met.took += PROCESSING_MS;
            return failed(
                Stage::Processing,
                ErrorClass::Timeout,
                "it did not answer the request within 5 s".to_owned(),
            );
        }
        met.took += took;
        met.result.timings.processing_us = Some(took * 1000);
        if let HostBehaviour::Flaky(probability) = behaviour
            && self.rng.f64() < *probability
        {
            let detail = "it closed the connection without answering the request".to_owned();
            return failed(Stage::Processing, ErrorClass::Reset, detail);
        }
        let (status, body, retry_after_s) = self.answer(behaviour, who);
        met.result.timings.transfer_us = Some(200);
        let date = timestamp(now).checked_add(SignedDuration::from_secs(self.state().clock.0)).ok();
        met.result.http = Some(HttpFacts {
            status,
            version: "HTTP/2.0".to_owned(),
            date,
            retry_after_s,
            body_bytes: 15,
            ..HttpFacts::default()
        });
        self.judge(behaviour, who, status, body)
    }

    /// Status, whether the body is what a healthy peer sends, and `Retry-After`.
    fn answer(&self, behaviour: &HostBehaviour, who: Who) -> (u16, bool, Option<u64>) {
        match behaviour {
            HostBehaviour::Status(code) => return (*code, false, None),
            HostBehaviour::RetryAfter(seconds) => return (429, false, Some(u64::from(*seconds))),
            HostBehaviour::WrongBody | HostBehaviour::Parked => return (200, false, None),
            _ => {}
        }
        if self.scenario.peer.auth && who == Who::Proof {
            return (401, true, None);
        }
        let expected = self.scenario.peer.expect.as_ref().and_then(|expect| expect.status);
        (expected.unwrap_or(200), true, None)
    }

    fn judge(&self, behaviour: &HostBehaviour, who: Who, status: u16, body: bool) -> Option<Failure> {
        let failed = |stage, class, detail: String| Some(Failure { stage, class, detail });
        let expect = self.scenario.peer.expect.clone().unwrap_or_default();
        if *behaviour == HostBehaviour::Parked && who != Who::Application {
            let detail = "it serves the page of a registrar or parking service: \"this domain is for sale\"".to_owned();
            return failed(Stage::Transfer, ErrorClass::Parked, detail);
        }
        let proof = self.scenario.peer.auth && who == Who::Proof;
        let expected = match (proof, who, expect.status) {
            (true, ..) => (200..=399).contains(&status) || status == 401 || status == 403,
            (false, _, Some(wanted)) => status == wanted,
            (false, Who::Application, None) => status == 200,
            (false, _, None) => (200..=399).contains(&status),
        };
        if !expected {
            let detail = format!("it answered with status {status}, and another was expected");
            return failed(Stage::Processing, ErrorClass::HttpStatus, detail);
        }
        if *behaviour == HostBehaviour::CutBody {
            let detail = "its body ended after 5 bytes, before the body was whole".to_owned();
            return failed(Stage::Transfer, ErrorClass::CutOff, detail);
        }
        let looks_at_body = expect.body.is_some() && !proof;
        if looks_at_body && !body {
            let detail = "its body does not contain what was expected".to_owned();
            return failed(Stage::Transfer, ErrorClass::BodyMismatch, detail);
        }
        None
    }

    fn count(&mut self, address: IpAddr, who: Who) {
        let Some(label) = self.layout.label_of(address).map(str::to_owned) else { return };
        let counts = self.hosts.entry(label).or_default();
        let with_secret = self.scenario.peer.auth && who != Who::Proof;
        counts.by_application += u64::from(who == Who::Application);
        counts.secrets += u64::from(with_secret);
        self.probed += usize::from(who != Who::Application);
    }
}

struct Shown {
    identity: Identity,
    fault: Option<(ErrorClass, String)>,
}

/// The certificate that a host shows, and what is wrong with it by our clock.
fn shown(behaviour: &HostBehaviour, layout: &Layout, shift_s: i64, now: Timestamp) -> Shown {
    let host = layout.host.as_str();
    let (key, issuer, name) = match behaviour {
        HostBehaviour::TlsWrongName => ("wrong-name", PEER_ISSUER, "other.example.test"),
        HostBehaviour::TlsSelfSigned => ("self-signed", "CN=self", host),
        HostBehaviour::TlsNewKey => ("new-key", PEER_ISSUER, host),
        HostBehaviour::TlsNewIssuer => ("new-issuer", OTHER_ISSUER, host),
        HostBehaviour::TlsDefaultCert => ("default", WEB_ISSUER, "default.hosting.test"),
        HostBehaviour::Parked => ("parked", PEER_ISSUER, host),
        _ => (PEER_KEY, PEER_ISSUER, host),
    };
    let at = |seconds: i64| now.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(now);
    let (not_before, not_after) = match behaviour {
        HostBehaviour::TlsExpired => (at(shift_s - 40 * DAY_S), at(shift_s - 10 * DAY_S)),
        HostBehaviour::TlsNotYetValid => (at(shift_s + 10 * DAY_S), at(shift_s + 70 * DAY_S)),
        _ if shift_s != 0 => (at(shift_s - SHIFTED_HALF_LIFE_S), at(shift_s + SHIFTED_HALF_LIFE_S)),
        _ => (at(-30 * DAY_S), at(60 * DAY_S)),
    };
    let fault = if *behaviour == HostBehaviour::TlsSelfSigned {
        Some((ErrorClass::SelfSigned, "the TLS certificate is self-signed and not trusted here".to_owned()))
    } else if now > not_after {
        Some((ErrorClass::Expired, "the TLS certificate has expired".to_owned()))
    } else if now < not_before {
        Some((ErrorClass::NotYetValid, "the TLS certificate is not valid yet".to_owned()))
    } else if name != host {
        Some((ErrorClass::NameMismatch, format!("the TLS certificate is for {name}, not {host}")))
    } else {
        None
    };
    let identity = Identity {
        key_sha256: key.to_owned(),
        certificate_sha256: format!("certificate of {key} by {issuer}"),
        issuer: issuer.to_owned(),
        names: vec![name.to_owned()],
        names_total: 1,
        not_before,
        not_after,
        chain_length: 2,
        version: Some("TLSv1.3".to_owned()),
        alpn: Some("h2".to_owned()),
        verified: fault.is_none(),
    };
    Shown { identity, fault }
}

/// Whether a site whose clock is `shift_s` ahead of ours shows a certificate that holds now, and else why not.
pub fn dates_fault(shift_s: i64) -> Option<&'static str> {
    match shift_s {
        shift if shift > SHIFTED_HALF_LIFE_S => Some("the TLS certificate is not valid yet"),
        shift if shift < -SHIFTED_HALF_LIFE_S => Some("the TLS certificate has expired"),
        _ => None,
    }
}
