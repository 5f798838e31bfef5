//! Causes that show only when the peer is looked at from elsewhere, twice on one connection, or beside our own override.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use ukai_core::diagnose::diagnose;
use ukai_core::diagnose::evidence::*;
use ukai_core::diagnose::reading::{Case, Overridden};
use ukai_core::diagnose::verdict::{Action, Code, Sure, Verdict};
use ukai_core::observe::{AddressResult, ErrorClass, Failure, HttpFacts, Stage};
use ukai_core::peer::{Mode, Peer};

use crate::world::*;

const HERE: &str = "192.0.100.9";
const THERE: &str = "192.0.102.1";

/// A case made by hand, and what else is known of it.
struct Made {
    world: World,
    evidence: Evidence,
    calls: Vec<ApplicationCall>,
    overridden: Option<Overridden>,
}

impl Made {
    fn of(world: World) -> Made {
        let evidence = world.evidence(Purpose::Diagnose, &BTreeSet::new());
        Made { world, evidence, calls: Vec::new(), overridden: None }
    }

    fn broken(host: Host) -> Made {
        let mut world = World::healthy();
        world.hosts.insert(ip(OLD), host);
        Made::of(world)
    }

    /// Another vantage, at which these addresses pass, or fail.
    fn vantage(mut self, name: &str, address: &str, passes: bool) -> Made {
        let failure = Failure { stage: Stage::Connect, class: ErrorClass::Timeout, detail: "as staged".into() };
        let result =
            AddressResult { failure: (!passes).then_some(failure), ..AddressResult::untried(ip(address), 443) };
        self.evidence.vantages.push(VantageView {
            vantage: name.into(),
            silence: None,
            resolved: set(&[address]),
            results: vec![Proof { endpoint: ENDPOINT.into(), result }],
        });
        self
    }

    /// What an authority says to clients of another subnet.
    fn subnet(mut self, addresses: &[&str]) -> Made {
        let mut asked = self.evidence.asked.iter().find(|asked| asked.source == Source::Authority).unwrap().clone();
        asked.subnet = Some("203.0.112.0/24".parse().unwrap());
        if let Outcome::Answered(answer) = &mut asked.outcome {
            answer.addresses = addresses.iter().map(|address| ip(address)).collect();
        }
        self.evidence.asked.push(asked);
        self
    }

    fn candidate(mut self, address: &str) -> Made {
        let result = self.world.result(ip(address));
        let times = if result.is_success() { 3 } else { 1 };
        self.evidence.candidates.push(Candidate {
            address: ip(address),
            learned_from: [Source::Authority].into(),
            by_operator: false,
            proofs: (0..times).map(|_| Proof { endpoint: ENDPOINT.into(), result: result.clone() }).collect(),
        });
        self
    }

    fn calls(mut self, ok: bool, address: Option<&str>) -> Made {
        let at = self.evidence.started_at - SignedDuration::from_secs(2);
        let error = (!ok).then(|| "failed".to_owned());
        self.calls = vec![ApplicationCall { at, ok, address: address.map(ip), error }; 3];
        self
    }

    fn verdict(&self) -> Verdict {
        diagnose(&Case {
            application: &self.calls,
            overridden: self.overridden.as_ref(),
            ..case(&self.world.history, &self.world.peer(), &self.evidence)
        })
    }

    #[track_caller]
    fn says(&self, code: Code, sure: Sure, action: Action, page: bool) {
        let verdict = self.verdict();
        let given = (verdict.code, verdict.sure, verdict.action, verdict.page);
        assert_eq!(given, (code, sure, action, page), "{verdict:#?}");
        assert_eq!(recommended(&verdict).len(), 1, "{verdict:#?}");
    }
}

#[test]
fn a_peer_that_fails_everywhere_is_down_and_that_is_proven() {
    let made = Made::broken(Host::Silent).vantage("osaka", OLD, false);
    made.says(Code::PeerDown, Sure::Proven, Action::None, true);
}

#[test]
fn a_peer_that_serves_another_vantage_is_not_down() {
    let made = Made::broken(Host::Silent).vantage("osaka", OLD, true);
    made.says(Code::PathOrPop, Sure::Proven, Action::None, true);
    let one_of_two = Made::broken(Host::Silent).vantage("osaka", OLD, true).vantage("kobe", OLD, false);
    assert_eq!(one_of_two.verdict().code, Code::PathOrPop);
}

#[test]
fn a_vantage_that_is_silent_says_nothing() {
    let mut made = Made::broken(Host::Silent);
    made.evidence.vantages.push(VantageView {
        vantage: "osaka".into(),
        silence: Some("timed out".into()),
        resolved: BTreeSet::new(),
        results: Vec::new(),
    });
    made.says(Code::PeerDown, Sure::Likely, Action::None, true);
}

#[test]
fn a_vantage_that_did_not_try_says_nothing() {
    for class in [ErrorClass::NotAllowed, ErrorClass::Local] {
        let mut made = Made::broken(Host::Silent).vantage("osaka", OLD, false);
        let failure = made.evidence.vantages[0].results[0].result.failure.as_mut().unwrap();
        failure.class = class;
        made.says(Code::PeerDown, Sure::Likely, Action::None, true);
    }
}

/// An endpoint that needs a secret, and what a vantage, which has none, is answered.
fn with_a_secret(status: u16, there: u16) -> Made {
    let mut made = Made::broken(Host::Status(status)).vantage("osaka", OLD, true);
    made.world.history.unauthenticated.insert(ENDPOINT.into(), 401);
    let result = &mut made.evidence.vantages[0].results[0];
    result.endpoint = result.endpoint.replace("/health", ":8443/health");
    result.result.http = Some(HttpFacts { status: there, ..HttpFacts::default() });
    let detail = "as staged".to_owned();
    result.result.failure = Some(Failure { stage: Stage::Processing, class: ErrorClass::HttpStatus, detail });
    made
}

impl Made {
    fn verdict_with_a_secret(&self) -> Verdict {
        let peer = Peer { needs_secret: true, ..self.world.peer() };
        diagnose(&case(&self.world.history, &peer, &self.evidence))
    }
}

#[test]
fn a_vantage_without_the_secret_is_served_by_the_answer_of_peace() {
    let as_in_peace = with_a_secret(403, 401).verdict_with_a_secret();
    assert_eq!((as_in_peace.code, as_in_peace.sure), (Code::BlockedUs, Sure::Proven), "{as_in_peace:#?}");
    let no_better = with_a_secret(503, 503).verdict_with_a_secret();
    assert_eq!(no_better.code, Code::PeerHttp, "{no_better:#?}");
    let all_alike = with_a_secret(403, 403).verdict_with_a_secret();
    assert_eq!(all_alike.code, Code::PeerHttp, "{all_alike:#?}");
    let hidden = with_a_secret(403, 401).verdict();
    assert_ne!(hidden.code, Code::BlockedUs, "without a secret 401 is an error like any other");
}

#[test]
fn a_peer_that_answers_where_it_was_is_not_called_down() {
    let left = |old| Made::of(moved_and_shut_in(old)).candidate(OLD);
    let answering = left(Host::Status(503));
    answering.says(Code::Open, Sure::Open, Action::None, false);
    let seen_elsewhere = left(Host::Status(503)).vantage("osaka", NEW, false);
    assert_eq!(seen_elsewhere.verdict().code, Code::PeerDown);
    assert_eq!(left(Host::Silent).verdict().code, Code::PeerDown);
    assert_eq!(left(Host::Foreign).verdict().code, Code::PeerDown, "somebody else has the old address by now");
}

#[test]
fn where_nobody_agrees_a_source_that_leads_to_an_answer_is_heard() {
    let mut world = World::healthy();
    world.hosts.insert(ip(OLD), Host::Silent);
    let made = |said: &str, host| {
        let mut made = Made::of(World { hosts: [(ip(OLD), Host::Silent), (ip(NEW), host)].into(), ..world.clone() });
        made.evidence.asked.retain(|asked| asked.source != Source::Authority);
        let of_one = made.evidence.asked.iter_mut().rfind(|asked| asked.source == Source::Independent).unwrap();
        if let Outcome::Answered(answer) = &mut of_one.outcome {
            answer.addresses = vec![ip(said)];
        }
        made.candidate(NEW)
    };
    assert_eq!(made(NEW, Host::Serves).verdict().code, Code::Open);
    assert_eq!(made(NEW, Host::Parked).verdict().code, Code::Open);
    assert_eq!(made(NEW, Host::Silent).verdict().code, Code::PeerDown);
    assert_eq!(made(OLD, Host::Serves).verdict().code, Code::PeerDown, "nobody leads there");
}

const SIX: &str = "2001:df0:1::1";

/// The peer has an address of each family, no control is reached over IPv6, and over IPv4 the peer does that.
fn without_own_v6(host: Host) -> Made {
    let mut world = World::healthy();
    world.hosts.extend([(ip(SIX), Host::Fails(Stage::Connect, ErrorClass::Unreachable)), (ip(OLD), host)]);
    world.resolver = Ok(set(&[OLD, SIX]));
    world.authority = servers(&[OLD, SIX]);
    world.independents = set(&[OLD, SIX]);
    world.history.identities[0].addresses.insert(ip(SIX));
    let mut made = Made::of(world);
    for control in &mut made.evidence.controls {
        control.v6 = Some(Reached::No("unreachable".into()));
    }
    made
}

#[test]
fn what_our_own_ipv6_keeps_us_from_says_nothing_of_the_peer() {
    without_own_v6(Host::Serves).says(Code::OwnV6, Sure::Proven, Action::None, false);
    for (host, code) in [
        (Host::Status(503), Code::PeerHttp),
        (Host::Status(401), Code::Auth),
        (Host::Expired, Code::PeerCert),
        (Host::Silent, Code::PeerDown),
    ] {
        let verdict = without_own_v6(host).verdict();
        assert_eq!((verdict.code, verdict.sure), (code, Sure::Likely), "{verdict:#?}");
    }
    let mut reached = without_own_v6(Host::Status(503));
    reached.evidence.controls[0].v6 = Some(Reached::Yes);
    assert_ne!(reached.verdict().code, Code::PeerHttp, "the peer's IPv6 fails by itself");
}

#[test]
fn lame_servers_explain_a_dead_address_that_our_resolver_still_holds() {
    let lame = |host| {
        let mut made = Made::broken(host);
        for asked in made.evidence.asked.iter_mut().filter(|asked| asked.source == Source::Authority) {
            if let Outcome::Answered(answer) = &mut asked.outcome {
                *answer =
                    Answer { rcode: Rcode::Refused, authoritative: false, addresses: Vec::new(), ..answer.clone() };
            }
        }
        made.evidence.asked.retain(|asked| asked.source != Source::Independent);
        made.verdict()
    };
    let dead = lame(Host::Silent);
    assert_eq!((dead.code, dead.sure), (Code::LameDelegation, Sure::Likely), "{dead:#?}");
    assert_ne!(lame(Host::Serves).code, Code::LameDelegation, "it leads somewhere");
}

/// ukai's own server does not answer.
fn without_our_server(world: World) -> Made {
    let mut made = Made::of(world);
    let asked = made.evidence.asked.iter().find(|asked| asked.source == Source::OurResolver).unwrap();
    let silent = Outcome::Silent { why: Silence::Timeout, detail: "no answer within 2 s".into() };
    let asked = Asked { source: Source::Embedded, outcome: silent, ..asked.clone() };
    made.evidence.asked.push(asked);
    made
}

#[test]
fn our_own_server_is_no_cause_of_what_fails_past_it() {
    without_our_server(World::healthy()).says(Code::OwnResolver, Sure::Proven, Action::None, true);
    without_our_server(World::stale()).says(Code::StaleResolver, Sure::Proven, Action::Override, true);
}

#[test]
fn an_answer_that_was_never_the_peers_is_not_proven_to_be_old() {
    let mut world = World::stale();
    world.resolver = Ok(set(&["203.1.2.4"]));
    Made::of(world).says(Code::StaleResolver, Sure::Likely, Action::Override, true);
}

/// The peer moved, everybody knows it, and only we are not let out to the new address.
fn moved_and_shut_in(old: Host) -> World {
    let mut world = World::healthy();
    world.resolver = Ok(set(&[NEW]));
    world.authority = servers(&[NEW]);
    world.independents = set(&[NEW]);
    world.hosts.insert(ip(NEW), Host::Silent);
    world.hosts.insert(ip(OLD), old);
    world
}

#[test]
fn an_allow_list_of_ours_that_lags_behind_the_peer() {
    let seen_elsewhere = Made::of(moved_and_shut_in(Host::Silent)).vantage("osaka", NEW, true);
    seen_elsewhere.says(Code::OwnFirewall, Sure::Proven, Action::None, true);
    let mut old_one_serves = Made::of(moved_and_shut_in(Host::Serves)).candidate(OLD);
    old_one_serves.evidence.candidates.last_mut().unwrap().learned_from.clear();
    old_one_serves.says(Code::OwnFirewall, Sure::Likely, Action::None, true);
}

#[test]
fn a_peer_that_moved_and_is_down_is_not_our_allow_list() {
    let made = Made::of(moved_and_shut_in(Host::Silent)).vantage("osaka", NEW, false);
    made.says(Code::PeerDown, Sure::Proven, Action::None, true);
}

#[test]
fn somebody_who_does_not_let_us_in() {
    let made = Made::broken(Host::Status(403)).vantage("osaka", OLD, true);
    made.says(Code::BlockedUs, Sure::Proven, Action::None, true);
    Made::broken(Host::Status(403)).says(Code::BlockedUs, Sure::Likely, Action::None, true);
    let reset = Made::broken(Host::Fails(Stage::Connect, ErrorClass::Reset)).vantage("osaka", OLD, true);
    assert_eq!(reset.verdict().code, Code::BlockedUs);
    let everybody = Made::broken(Host::Status(403)).vantage("osaka", OLD, false);
    assert_eq!(everybody.verdict().code, Code::PeerHttp);
}

#[test]
fn a_region_that_fails_while_another_serves() {
    let mut world = World::healthy();
    world.hosts.insert(ip(OLD), Host::Silent);
    world.hosts.insert(ip(THERE), Host::Serves);
    let made = Made::of(world).subnet(&[THERE]).candidate(THERE);
    made.says(Code::PeerRegion, Sure::Proven, Action::Escalate, true);
}

#[test]
fn another_region_that_nobody_knows_is_no_region_of_the_peer() {
    let mut world = World::healthy();
    world.hosts.insert(ip(OLD), Host::Silent);
    world.hosts.insert(ip(THERE), Host::ThirdKey);
    let made = Made::of(world).subnet(&[THERE]).candidate(THERE);
    assert_ne!(made.verdict().code, Code::PeerRegion);
}

#[test]
fn answers_that_depend_on_the_subnet_are_by_design() {
    let mut world = World::healthy();
    world.hosts.insert(ip(THERE), Host::Serves);
    let made = Made::of(world).subnet(&[THERE]).candidate(THERE);
    made.says(Code::GeoSteered, Sure::Proven, Action::None, false);
}

#[test]
fn ipv6_that_is_broken_for_us_or_for_the_peer() {
    let v6 = "2001:db8:1::1";
    let both = || {
        let mut world = World::healthy();
        world.resolver = Ok(set(&[OLD, v6]));
        world.authority = servers(&[OLD, v6]);
        world.independents = set(&[OLD, v6]);
        world.hosts.insert(ip(v6), Host::Silent);
        let mut made = Made::of(world);
        // What is looked at here is the family, not whether the range is for documentation.
        made.world.history.identities[0].addresses.insert(ip(v6));
        made
    };
    let with = |reached: Reached| {
        let mut made = both();
        made.evidence.controls.iter_mut().for_each(|control| control.v6 = Some(reached.clone()));
        made
    };
    let allowed = |made: &Made| {
        let allow: Vec<ipnet::IpNet> = vec!["2001:db8::/32".parse().unwrap()];
        let verdict = diagnose(&Case {
            allow_addresses: &allow,
            ..case(&made.world.history, &made.world.peer(), &made.evidence)
        });
        (verdict.code, verdict.sure, verdict.page)
    };
    assert_eq!(allowed(&with(Reached::No("unreachable".into()))), (Code::OwnV6, Sure::Proven, false));
    assert_eq!(allowed(&with(Reached::Yes)), (Code::V6Path, Sure::Proven, false));
    assert_eq!(allowed(&both()), (Code::V6Path, Sure::Likely, false));
}

#[test]
fn an_answer_that_begins_and_hangs() {
    let mut made = Made::broken(Host::Fails(Stage::Tls, ErrorClass::Timeout));
    made.evidence.observations[0].results[0].stalled_after = Some(1400);
    made.says(Code::Mtu, Sure::Likely, Action::None, true);
    let mut silent = Made::broken(Host::Fails(Stage::Tls, ErrorClass::Timeout));
    silent.evidence.observations[0].results[0].stalled_after = Some(0);
    assert_ne!(silent.verdict().code, Code::Mtu, "nothing came at all");
}

fn reuse(second: Option<Reached>) -> Reuse {
    Reuse { endpoint: ENDPOINT.into(), address: ip(OLD), first: Reached::Yes, second }
}

#[test]
fn a_connection_that_ages() {
    let cut = Some(Reached::No("connection reset".into()));
    let mut made = Made::of(World::healthy()).calls(false, Some(OLD));
    made.evidence.reuse = vec![reuse(cut.clone())];
    made.says(Code::ConnReuse, Sure::Proven, Action::None, false);
    let mut fine = Made::of(World::healthy()).calls(true, Some(OLD));
    fine.evidence.reuse = vec![reuse(cut)];
    assert_eq!(fine.verdict().code, Code::Open, "the application does not fail");
    let mut in_order = Made::of(World::healthy()).calls(false, Some(OLD));
    in_order.evidence.reuse = vec![reuse(None)];
    assert_eq!(in_order.verdict().code, Code::Open, "an orderly close is no fault");
}

#[test]
fn an_application_that_holds_on_and_does_not_say_to_what() {
    let mut made = Made::of(World::healthy()).calls(false, None);
    assert_eq!(made.verdict().code, Code::Open);
    made.evidence.connections = vec![LiveConnection { address: ip(HERE), established: 0, waiting: 2 }];
    made.says(Code::ClientPinned, Sure::Likely, Action::None, true);
    made.evidence.connections.clear();
    made.evidence.own.hosts_file = set(&[HERE]);
    made.says(Code::ClientPinned, Sure::Proven, Action::None, true);
}

#[test]
fn a_probe_that_expects_what_the_application_does_not() {
    let made = Made::broken(Host::Status(404)).calls(true, Some(OLD));
    made.says(Code::ProbeError, Sure::Likely, Action::None, false);
    let elsewhere = Made::broken(Host::Status(404)).calls(true, Some(HERE));
    assert_eq!(elsewhere.verdict().code, Code::PeerHttp, "it is served at another address");
    let unreachable = Made::broken(Host::Silent).calls(true, Some(OLD));
    assert_eq!(unreachable.verdict().code, Code::PeerDown, "old connections may outlive what new ones cannot reach");
}

/// Our resolver and the authorities say that the name is an alias of this.
fn alias(mut evidence: Evidence, target: &str, rcode: Rcode) -> Evidence {
    for asked in evidence.asked.iter_mut().filter(|asked| asked.source != Source::Independent) {
        if let Outcome::Answered(answer) = &mut asked.outcome {
            answer.chain = vec![target.to_owned()];
            answer.rcode = rcode;
        }
    }
    evidence
}

#[test]
fn an_alias_whose_target_is_gone_or_somebody_elses() {
    let mut world = World::healthy();
    world.resolver = Err(Rcode::Nxdomain);
    world.authority = servers(&[]);
    world.independents = BTreeSet::new();
    let mut gone = Made::of(world);
    gone.evidence = alias(gone.evidence, "released.cloud.example", Rcode::Nxdomain);
    gone.says(Code::DanglingCname, Sure::Proven, Action::Refuse, true);
    let mut world = World::healthy();
    world.resolver = Ok(set(&[THERE]));
    world.authority = servers(&[THERE]);
    world.independents = set(&[THERE]);
    world.hosts.insert(ip(THERE), Host::Fails(Stage::Tls, ErrorClass::NameMismatch));
    let mut taken = Made::of(world);
    taken.evidence = alias(taken.evidence, "released.cloud.example", Rcode::Noerror);
    taken.says(Code::DanglingCname, Sure::Proven, Action::Refuse, true);
}

#[test]
fn an_override_of_ours_that_the_peer_has_left() {
    let since: Timestamp = start() - SignedDuration::from_mins(10);
    let over = |address: &str, mode: Mode| Overridden { since, mode, addresses: set(&[address]) };
    let mut world = World::healthy();
    world.hosts.insert(ip(HERE), Host::Silent);
    let mut made = Made::of(world).candidate(HERE);
    made.evidence.candidates.last_mut().unwrap().learned_from.clear();
    made.overridden = Some(over(HERE, Mode::Pin));
    made.says(Code::OverrideStale, Sure::Proven, Action::Revert, true);
    made.overridden = Some(over(OLD, Mode::Pin));
    assert_eq!(made.verdict().code, Code::Open, "what it serves proves itself");
    let mut down = Made::broken(Host::Silent).candidate(HERE);
    down.overridden = Some(over(OLD, Mode::Follow));
    assert_eq!(down.verdict().code, Code::PeerDown, "nothing serves, ours or not");
}

#[test]
fn an_override_of_ours_that_hides_more_than_it_should() {
    let mut made = Made::of(World::healthy());
    made.overridden = Some(Overridden { since: start(), mode: Mode::Follow, addresses: set(&[OLD]) });
    let mut text = made.evidence.asked.iter().find(|asked| asked.source == Source::Authority).unwrap().clone();
    text.record_type = "TXT".into();
    let behind = Asked { source: Source::OurResolver, ..text.clone() };
    let mut ours = Asked { source: Source::Embedded, ..text.clone() };
    let Outcome::Answered(answer) = &mut ours.outcome else { unreachable!() };
    answer.records = 1;
    made.evidence.asked.extend([text, behind, ours.clone()]);
    assert_eq!(made.verdict().code, Code::Open, "it is answered as the peer answers it");
    let Outcome::Answered(answer) = &mut ours.outcome else { unreachable!() };
    answer.records = 0;
    *made.evidence.asked.last_mut().unwrap() = ours;
    made.says(Code::OverrideBlast, Sure::Proven, Action::Revert, true);
    made.evidence.asked.retain(|asked| asked.source != Source::OurResolver || asked.record_type != "TXT");
    assert_eq!(made.verdict().code, Code::Open, "the resolver behind us denies it too");
}

#[test]
fn a_wrong_clock_explains_only_what_has_dates() {
    let mut world = World::stale();
    world.clock_offset_s = 7200;
    Made::of(world).says(Code::StaleResolver, Sure::Proven, Action::Override, true);
    let mut world = World::healthy();
    world.hosts.insert(ip(OLD), Host::Fails(Stage::Tls, ErrorClass::NotYetValid));
    world.clock_offset_s = 400 * 24 * 3600;
    Made::of(world).says(Code::ClockSkew, Sure::Proven, Action::None, true);
}

#[test]
fn a_time_server_decides_where_no_certificate_is_valid() {
    let mut made = Made::broken(Host::Fails(Stage::Tls, ErrorClass::NotYetValid));
    for control in &mut made.evidence.controls {
        control.dates_failure = true;
        control.clock_offset_s = None;
        control.address_failure = Some("not yet valid".into());
        control.failed_at = Some(Stage::Tls);
    }
    made.says(Code::ClockSkew, Sure::Likely, Action::None, true);
    made.evidence.own.time_server_offset_ms = Some(9_000_000);
    made.says(Code::ClockSkew, Sure::Proven, Action::None, true);
}

#[test]
fn a_proxy_that_answers_for_everybody_is_no_broken_way_out() {
    let mut world = World::healthy();
    world.controls_intercepted = true;
    world.hosts.insert(ip(OLD), Host::Fails(Stage::Tls, ErrorClass::UntrustedIssuer));
    Made::of(world).says(Code::Intercepted, Sure::Proven, Action::None, true);
}

#[test]
fn a_resolver_that_fails_for_this_name_alone() {
    let mut world = World::healthy();
    world.resolver = Err(Rcode::Servfail);
    Made::of(world).says(Code::NegativeCache, Sure::Likely, Action::Override, true);
    let mut world = World::healthy();
    world.resolver = Err(Rcode::Refused);
    let mut blocked = Made::of(world);
    for asked in blocked.evidence.asked.iter_mut().filter(|asked| asked.source == Source::OurResolver) {
        if let Outcome::Answered(answer) = &mut asked.outcome {
            answer.extended_errors = vec![ExtendedError { code: 15, text: "policy".into() }];
        }
    }
    blocked.says(Code::OwnResolver, Sure::Proven, Action::None, true);
}

#[test]
fn servers_that_differ_in_what_does_not_matter_are_not_the_cause() {
    let mut world = World::healthy();
    world.authority.insert("ns-2.peer.example".into(), set(&[OLD, HERE]));
    world.hosts.insert(ip(OLD), Host::Status(503));
    world.hosts.insert(ip(HERE), Host::Status(503));
    let verdict = Made::of(world).verdict();
    assert_eq!(verdict.code, Code::PeerHttp, "{verdict:#?}");
}

#[test]
fn a_valid_stranger_at_one_of_the_servers_is_seen_as_one() {
    let mut world = World::healthy();
    world.authority.insert("ns-2.peer.example".into(), set(&[EVIL]));
    world.resolver = Ok(set(&[EVIL]));
    world.hosts.insert(ip(EVIL), Host::ThirdKey);
    Made::of(world).says(Code::IdentityDiscontinuity, Sure::Likely, Action::Escalate, true);
}
