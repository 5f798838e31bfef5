//! The catalogue's rows, each from evidence made by hand: the right cause, and mostly "no".

use ukai_core::diagnose::diagnose;
use ukai_core::diagnose::evidence::{Canary, Purpose, Rcode};
use ukai_core::diagnose::verdict::{Action, Code, Sure, Verdict};

use crate::world::*;

fn verdict(world: &World) -> Verdict {
    let evidence = world.evidence(Purpose::Diagnose, &Default::default());
    let peer = world.peer();
    diagnose(&case(&world.history, &peer, &evidence))
}

#[track_caller]
fn says(world: &World, code: Code, sure: Sure, action: Action) {
    let verdict = verdict(world);
    assert_eq!((verdict.code, verdict.sure, verdict.action), (code, sure, action), "{verdict:#?}");
    assert_eq!(recommended(&verdict).len(), 1, "{verdict:#?}");
}

fn broken(host: Host) -> World {
    let mut world = World::healthy();
    world.hosts.insert(ip(OLD), host);
    world
}

#[test]
fn a_resolver_that_is_stale() {
    says(&World::stale(), Code::StaleResolver, Sure::Proven, Action::Override);
}

#[test]
fn an_answer_within_its_ttl_is_not_called_stale() {
    let mut world = World::stale();
    world.resolver_ttls = [60, 59, 57];
    says(&world, Code::StaleResolverTransient, Sure::Proven, Action::Override);
}

#[test]
fn a_ttl_that_the_peer_never_gave() {
    let mut world = World::stale();
    world.resolver_ttls = [900, 899, 897];
    says(&world, Code::TtlViolation, Sure::Proven, Action::Override);
}

#[test]
fn a_peer_that_is_down() {
    says(&broken(Host::Silent), Code::PeerDown, Sure::Likely, Action::None);
}

#[test]
fn a_peer_that_moved_and_is_down_is_down() {
    let mut world = World::stale();
    world.hosts.insert(ip(NEW), Host::Silent);
    says(&world, Code::PeerDown, Sure::Likely, Action::None);
}

#[test]
fn a_peer_that_answers_errors() {
    says(&broken(Host::Status(503)), Code::PeerHttp, Sure::Proven, Action::None);
}

#[test]
fn a_rate_limit() {
    says(&broken(Host::Status(429)), Code::RateLimited, Sure::Likely, Action::None);
}

#[test]
fn a_certificate_that_expired_everywhere() {
    says(&broken(Host::Expired), Code::PeerCert, Sure::Proven, Action::None);
}

#[test]
fn a_resolver_that_leads_to_somebody_else() {
    let mut world = World::healthy();
    world.resolver = Ok(set(&[EVIL]));
    says(&world, Code::SuspectHijack, Sure::Proven, Action::Refuse);
}

#[test]
fn one_lying_authority() {
    let mut world = World::healthy();
    world.authority.insert("ns-2.peer.example".into(), set(&[EVIL]));
    world.resolver = Ok(set(&[EVIL]));
    says(&world, Code::SuspectHijack, Sure::Proven, Action::Refuse);
}

#[test]
fn a_parked_domain() {
    let mut world = World::healthy();
    world.authority = servers(&[EVIL]);
    world.resolver = Ok(set(&[EVIL]));
    world.independents = set(&[EVIL]);
    world.hosts.insert(ip(EVIL), Host::Parked);
    says(&world, Code::Parked, Sure::Proven, Action::Refuse);
}

#[test]
fn a_private_address_in_public_dns() {
    let mut world = World::healthy();
    world.authority = servers(&["10.0.0.7"]);
    world.resolver = Ok(set(&["10.0.0.7"]));
    world.independents = set(&["10.0.0.7"]);
    says(&world, Code::Rebinding, Sure::Proven, Action::Refuse);
}

#[test]
fn a_rotating_name_that_works() {
    let mut world = World::healthy();
    let many = [OLD, NEW];
    world.authority = servers(&many);
    world.resolver = Ok(set(&many));
    world.rotates = true;
    let verdict = verdict(&world);
    assert_eq!((verdict.code, verdict.action, verdict.page), (Code::Rotating, Action::None, false));
}

#[test]
fn our_own_way_out() {
    let mut world = broken(Host::Silent);
    world.hosts.insert(ip(NEW), Host::Silent);
    world.controls_reached = false;
    says(&world, Code::OwnEgress, Sure::Proven, Action::None);
}

#[test]
fn our_own_resolver() {
    let mut world = World::healthy();
    world.resolver = Err(Rcode::Servfail);
    world.control_names = false;
    says(&world, Code::OwnResolver, Sure::Proven, Action::None);
}

#[test]
fn an_intercepted_port_53_proves_nothing() {
    let mut world = World::stale();
    world.canary = Canary::Intercepted("it was answered with RA=1".into());
    let verdict = verdict(&world);
    assert_eq!((verdict.code, verdict.action), (Code::DnsIntercepted, Action::None));
}

#[test]
fn without_history_nothing_is_proven() {
    let mut world = World::stale();
    world.history = Default::default();
    assert_eq!(verdict(&world).sure, Sure::Likely);
}

#[test]
fn an_unanswered_canary_caps_the_verdict() {
    let mut world = World::stale();
    world.canary = Canary::NoAnswer;
    assert_eq!(verdict(&world).sure, Sure::Likely);
}

#[test]
fn a_replaced_delegation_caps_the_verdict() {
    let mut world = World::stale();
    world.parent_ns = ["ns-1.evil.example".to_owned()].into();
    world.authority = [("ns-1.evil.example".to_owned(), set(&[NEW]))].into();
    assert_eq!(verdict(&world).sure, Sure::Likely);
}

#[test]
fn exactly_one_option_is_recommended() {
    for world in [World::stale(), broken(Host::Silent), broken(Host::Expired)] {
        let verdict = verdict(&world);
        let recommended = verdict
            .options
            .iter()
            .filter(|option| option.judgement == ukai_core::diagnose::verdict::Judgement::Recommended)
            .count();
        assert_eq!(recommended, 1, "{verdict:#?}");
    }
}
