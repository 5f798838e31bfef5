//! Who is woken: every scenario of the catalogue that pages does so within three rounds, and no other one does.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use ukai_core::diagnose::evidence::{Canary, Rcode};
use ukai_core::event::{Event, NotificationKind};
use ukai_core::input::Command;
use ukai_core::observe::{ErrorClass, Stage};

use crate::play::Play;
use crate::world::*;

/// Three rounds of the default interval.
const THREE_ROUNDS_S: i64 = 30;
const HOUR_S: i64 = 3600;
const DEAD: &str = "192.0.100.2";

/// Times at which a person was woken for this peer; the vantage's own page has no peer. What an override that nobody decided
/// on says is another matter.
fn pages(play: &Play, of: &str) -> Vec<Timestamp> {
    let is_page = |event: &Event| {
        let Event::NotificationQueued { notification, .. } = event else { return false };
        notification.page && notification.peer == of && notification.kind == NotificationKind::Paged
    };
    play.log.iter().filter(|record| is_page(&record.event)).map(|record| record.at).collect()
}

/// A play in peace, then the world as it is changed here, for so long.
fn after(seconds: i64, change: impl FnOnce(&mut World)) -> Play {
    let mut play = Play::new(World::healthy());
    play.run_for(120);
    assert_eq!(pages(&play, "api"), [], "in peace");
    change(&mut play.world);
    play.run_for(seconds);
    play
}

fn fails(stage: Stage, class: ErrorClass) -> impl FnOnce(&mut World) {
    move |world| {
        world.hosts.insert(ip(OLD), Host::Fails(stage, class));
    }
}

fn is(host: Host) -> impl FnOnce(&mut World) {
    move |world| {
        world.hosts.insert(ip(OLD), host);
    }
}

fn resolver(rcode: Rcode) -> impl FnOnce(&mut World) {
    move |world| world.resolver = Err(rcode)
}

/// One page, in time; and an hour later it is still one.
fn pages_once(what: &str, change: impl FnOnce(&mut World)) {
    let mut play = after(THREE_ROUNDS_S, change);
    assert_eq!(pages(&play, "api").len(), 1, "{what}: paged within {THREE_ROUNDS_S} s");
    assert!(play.saw(|event| matches!(event, Event::IncidentPaged { .. })), "{what}");
    play.run_for(HOUR_S);
    assert_eq!(pages(&play, "api").len(), 1, "{what}: paged once");
    assert_eq!(pages(&play, ""), [], "{what}: it is not ours");
}

fn pages_nobody(what: &str, change: impl FnOnce(&mut World)) {
    let play = after(HOUR_S, change);
    assert_eq!(pages(&play, "api"), [], "{what}");
    assert_eq!(pages(&play, ""), [], "{what}");
    assert!(!play.saw(|event| matches!(event, Event::IncidentPaged { .. })), "{what}");
}

#[test]
fn whatever_stops_connections_pages() {
    for class in [ErrorClass::Timeout, ErrorClass::Refused, ErrorClass::Unreachable, ErrorClass::Reset] {
        pages_once(class.name(), fails(Stage::Connect, class));
    }
}

#[test]
fn whatever_stops_the_handshake_pages() {
    use ErrorClass::*;
    for class in [
        UntrustedIssuer,
        SelfSigned,
        NameMismatch,
        Expired,
        NotYetValid,
        TlsVersion,
        TlsAlert,
        Reset,
        Timeout,
        Protocol,
    ] {
        pages_once(class.name(), fails(Stage::Tls, class));
    }
    pages_once("expired, with the known key", is(Host::Expired));
    pages_once("somebody else's certificate", is(Host::Foreign));
}

#[test]
fn an_answer_that_is_not_the_right_one_pages() {
    for status in [500, 502, 503, 504, 401, 403, 404, 301] {
        pages_once(&status.to_string(), is(Host::Status(status)));
    }
    pages_once("parked", is(Host::Parked));
    for class in [ErrorClass::BodyMismatch, ErrorClass::CutOff, ErrorClass::TooSlow, ErrorClass::Timeout] {
        pages_once(class.name(), fails(Stage::Transfer, class));
    }
}

#[test]
fn a_name_that_does_not_resolve_pages() {
    for rcode in [Rcode::Nxdomain, Rcode::Servfail, Rcode::Refused] {
        pages_once(&format!("{rcode:?}"), resolver(rcode));
    }
    pages_once("no data", |world| world.resolver = Ok(set(&[])));
    pages_once("gone everywhere", |world| {
        world.resolver = Err(Rcode::Nxdomain);
        world.authority = servers(&[]);
        world.independents = set(&[]);
    });
}

#[test]
fn a_stale_answer_pages() {
    pages_once("the seed story", World::go_stale);
    pages_once("one of our own addresses", |world| {
        world.resolver = Ok(set(&["10.0.0.1"]));
    });
    pages_once("forged", |world| {
        world.resolver = Ok(set(&[EVIL]));
    });
}

#[test]
fn somebody_whom_nobody_knows_pages() {
    let mut play = after(THREE_ROUNDS_S, |world| {
        world.hosts.insert(ip(NEW), Host::ThirdKey);
        world.resolver = Ok(set(&[NEW]));
        world.authority = servers(&[NEW]);
        world.independents = set(&[NEW]);
    });
    assert_eq!(pages(&play, "api").len(), 1, "{:?}", play.verdicts());
    play.run_for(HOUR_S);
    assert_eq!(pages(&play, "api").len(), 1);
}

#[test]
fn a_clock_that_is_wrong_pages_though_the_controls_fail_too() {
    let mut play = after(THREE_ROUNDS_S, |world| {
        world.hosts.insert(ip(OLD), Host::Fails(Stage::Tls, ErrorClass::NotYetValid));
        world.clock_offset_s = 400 * 24 * 3600;
    });
    assert_eq!(pages(&play, "api").len() + pages(&play, "").len(), 1, "{:?}", play.verdicts());
    play.run_for(HOUR_S);
    assert_eq!(pages(&play, "api").len() + pages(&play, "").len(), 1, "{:?}", play.verdicts());
}

#[test]
fn a_dangling_alias_pages() {
    pages_once("its target does not exist (S29)", resolver(Rcode::Nxdomain));
    pages_once("its target was released, and is somebody else's now (S29)", |world| {
        world.hosts.insert(ip(NEW), Host::Fails(Stage::Tls, ErrorClass::NameMismatch));
        world.resolver = Ok(set(&[NEW]));
        world.authority = servers(&[NEW]);
        world.independents = set(&[NEW]);
    });
}

#[test]
fn an_intercepting_proxy_is_one_page() {
    let mut play = after(THREE_ROUNDS_S, |world| {
        world.controls_intercepted = true;
        world.hosts.insert(ip(OLD), Host::Fails(Stage::Tls, ErrorClass::UntrustedIssuer));
    });
    assert_eq!(pages(&play, "api").len() + pages(&play, "").len(), 1, "S30: {:?}", play.verdicts());
    play.run_for(HOUR_S);
    assert_eq!(pages(&play, "api").len() + pages(&play, "").len(), 1, "S30: {:?}", play.verdicts());
}

#[test]
fn an_intercepted_port_53_pages() {
    pages_once("S39", |world| {
        world.canary = Canary::Intercepted("answered with 203.1.2.3".into());
        world.resolver = Ok(set(&[EVIL]));
        world.authority = servers(&[EVIL]);
    });
}

/// Everything is whole, and whoever answers has a valid certificate.
#[test]
fn a_valid_stranger_behind_an_intercepted_port_53_is_told_of() {
    let stranger = |world: &mut World| {
        world.resolver = Ok(set(&[EVIL]));
        world.authority = servers(&[EVIL]);
        world.hosts.insert(ip(EVIL), Host::ThirdKey);
    };
    let changed = |play: &Play| play.saw(|event| matches!(event, Event::IdentityChanged { .. }));
    let mut boxed = after(0, |world| {
        stranger(world);
        world.canary = Canary::Intercepted("answered with 203.1.2.3".into());
    });
    boxed.run_for(HOUR_S);
    assert!(changed(&boxed));
    let same = after(HOUR_S, |world| world.canary = Canary::Intercepted("answered".into()));
    assert!(!changed(&same), "who answers is who answered before");
}

#[test]
fn what_is_only_worth_knowing_wakes_nobody() {
    pages_nobody("all is fine", |_| ());
    pages_nobody("rate limited", is(Host::Status(429)));
    pages_nobody("one address of two", one_of_two_is_dead);
    pages_nobody("a renewed key from the issuer that is known, at the address that is known", is(Host::NewKey));
    pages_nobody("the peer moves, and we follow", |world| {
        world.resolver = Ok(set(&[NEW]));
        world.authority = servers(&[NEW]);
        world.independents = set(&[NEW]);
    });
}

/// `OLD` serves, `DEAD` does not, and the name leads to both.
fn one_of_two_is_dead(world: &mut World) {
    world.hosts.insert(ip(DEAD), Host::Silent);
    world.resolver = Ok(set(&[OLD, DEAD]));
    world.authority = servers(&[OLD, DEAD]);
    world.independents = set(&[OLD, DEAD]);
}

#[test]
fn a_part_that_failed_and_then_all_of_it_pages() {
    for seconds in [5, 30, HOUR_S] {
        let mut play = after(seconds, one_of_two_is_dead);
        assert_eq!(pages(&play, "api"), [], "a part wakes nobody");
        play.world.hosts.insert(ip(OLD), Host::Silent);
        play.run_for(THREE_ROUNDS_S);
        assert_eq!(pages(&play, "api").len(), 1, "after {seconds} s of a part: paged within {THREE_ROUNDS_S} s");
        play.run_for(HOUR_S);
        assert_eq!(pages(&play, "api").len(), 1, "paged once");
        let incident = play.engine.state().incidents.values().next().unwrap();
        // Within one round nobody knows that there was a part.
        let is_told = incident.summary.contains("nothing gets through any more");
        assert!(is_told || seconds < 10, "after {seconds} s: {}", incident.summary);
    }
}

#[test]
fn a_rate_limit_that_becomes_an_outage_pages() {
    let mut play = after(HOUR_S, is(Host::Status(429)));
    play.world.hosts.insert(ip(OLD), Host::Silent);
    play.run_for(THREE_ROUNDS_S);
    assert_eq!(pages(&play, "api").len(), 1);
}

#[test]
fn a_blip_of_all_of_it_amid_the_failure_of_a_part_wakes_nobody() {
    let mut play = after(300, one_of_two_is_dead);
    for _ in 0..5 {
        play.world.hosts.insert(ip(OLD), Host::Silent);
        play.run_for(4);
        play.world.hosts.insert(ip(OLD), Host::Serves);
        play.run_for(60);
    }
    assert_eq!(pages(&play, "api"), []);
}

fn three_peers() -> Play {
    let mut world = World::healthy();
    world.others = BTreeMap::from([("bill".to_owned(), Host::Serves), ("mail".to_owned(), Host::Serves)]);
    let mut play = Play::new(world);
    for peer in ["bill", "mail"] {
        let history = Box::new(history());
        let import = ukai_core::input::Command::ImportHistory { peer: peer.to_owned(), history };
        play.command(import, 1);
    }
    play.run_for(120);
    play
}

fn cut_off(world: &mut World) {
    world.controls_reached = false;
    world.hosts.insert(ip(OLD), Host::Silent);
    world.others.values_mut().for_each(|host| *host = Host::Silent);
}

fn reach_out(world: &mut World) {
    world.controls_reached = true;
    world.hosts.insert(ip(OLD), Host::Serves);
    world.others.values_mut().for_each(|host| *host = Host::Serves);
}

fn peers_paged(play: &Play) -> Vec<&str> {
    ["api", "bill", "mail"].into_iter().filter(|peer| !pages(play, peer).is_empty()).collect()
}

#[test]
fn our_own_fault_is_one_page_and_no_peers() {
    let resolver_down = |world: &mut World| {
        world.control_names = false;
        world.resolver = Err(Rcode::Servfail);
    };
    for (what, fault) in [("egress", cut_off as fn(&mut World)), ("resolver", resolver_down)] {
        let mut play = three_peers();
        fault(&mut play.world);
        play.run_for(THREE_ROUNDS_S);
        assert_eq!(pages(&play, "").len(), 1, "{what}");
        play.run_for(HOUR_S);
        assert_eq!(pages(&play, "").len(), 1, "{what}: one page");
        assert_eq!(peers_paged(&play), [""; 0], "{what}");
        assert!(!play.saw(|event| matches!(event, Event::IncidentPaged { .. })), "{what}");
        let open = |play: &Play| play.engine.state().incidents.values().filter(|one| one.closed_at.is_none()).count();
        assert_eq!(open(&play), 3, "{what}: measuring and diagnosis go on");
        play.world.control_names = true;
        play.world.resolver = Ok(set(&[OLD]));
        reach_out(&mut play.world);
        play.run_for(300);
        assert_eq!(open(&play), 0, "{what}: nothing holds back the end");
        assert_eq!((peers_paged(&play).len(), pages(&play, "").len()), (0, 1), "{what}");
    }
}

#[test]
fn a_peer_that_ends_while_the_controls_still_fail_is_closed_all_the_same() {
    let mut play = three_peers();
    cut_off(&mut play.world);
    play.run_for(120);
    play.world.others.insert("bill".to_owned(), Host::Serves);
    play.run_for(180);
    assert!(play.engine.state().open_incident("bill").is_none(), "suppression never holds back a resolution");
    assert!(play.engine.state().open_incident("mail").is_some());
}

#[test]
fn a_peer_that_fails_when_the_controls_pass_again_pages_by_itself() {
    let mut play = three_peers();
    cut_off(&mut play.world);
    play.run_for(600);
    reach_out(&mut play.world);
    play.world.others.insert("mail".to_owned(), Host::Silent);
    // The controls are tried once a minute; then three rounds.
    play.run_for(60 + THREE_ROUNDS_S);
    assert_eq!(peers_paged(&play), ["mail"]);
    play.run_for(HOUR_S);
    assert_eq!((peers_paged(&play), pages(&play, "mail").len()), (vec!["mail"], 1));
    assert_eq!(pages(&play, "").len(), 1);
}

#[test]
fn one_peer_of_three_pages_alone() {
    let mut play = three_peers();
    play.world.others.insert("bill".to_owned(), Host::Silent);
    play.run_for(THREE_ROUNDS_S);
    assert_eq!(peers_paged(&play), ["bill"]);
    assert_eq!(pages(&play, ""), []);
}

#[test]
fn controls_whose_own_page_is_held_back_hold_no_peer_back() {
    let mut play = three_peers();
    let disable = Command::SetAlarmActions { alarms: vec!["ukai/controls".into()], enabled: false };
    play.command(disable, 1000);
    cut_off(&mut play.world);
    play.run_for(THREE_ROUNDS_S);
    assert_eq!(pages(&play, "").len(), 0);
    assert_eq!(peers_paged(&play), ["api", "bill", "mail"]);
}

#[test]
fn a_state_of_the_controls_from_before_a_restart_holds_no_peer_back() {
    let mut play = three_peers();
    cut_off(&mut play.world);
    play.run_for(THREE_ROUNDS_S);
    play.world.controls_reached = true;
    play.world.hosts.insert(ip(OLD), Host::Serves);
    play.crash();
    play.run_for(HOUR_S);
    assert_eq!(peers_paged(&play), ["bill", "mail"], "what still fails by itself pages, and what is whole does not");
}

#[test]
fn a_daemon_that_is_killed_every_two_seconds_pages_once_all_the_same() {
    let mut play = after(2, is(Host::Silent));
    for _ in 0..20 {
        play.crash();
        play.run_for(2);
    }
    assert_eq!(pages(&play, "api").len(), 1, "{:?}", play.verdicts());
}

#[test]
fn a_blip_that_ends_while_the_daemon_is_down_pages_nobody() {
    let mut play = after(12, is(Host::Silent));
    assert!(play.saw(|event| matches!(event, Event::FailureWatched { .. })));
    play.world.hosts.insert(ip(OLD), Host::Serves);
    play.crash();
    play.run_for(60);
    // Down for an hour, and the next failure is another one: it must last by itself.
    play.world.hosts.insert(ip(OLD), Host::Silent);
    play.run_for(11);
    play.world.now += SignedDuration::from_hours(1);
    play.crash();
    play.run_for(2);
    play.world.hosts.insert(ip(OLD), Host::Serves);
    play.run_for(600);
    assert_eq!(pages(&play, "api"), [], "{:?}", play.verdicts());
}

#[test]
fn an_application_that_fails_now_and_then_is_told_of_and_one_that_fails_for_good_pages() {
    let mut play = after(10, |_| ());
    for _ in 0..10 {
        play.application_calls(true, OLD, 1);
        play.application_calls(false, OLD, 1);
    }
    play.run_for(60);
    let opened = |event: &Event| matches!(event, Event::IncidentOpened { .. });
    assert!(play.saw(opened), "half of the calls fail: somebody is told");
    assert_eq!(pages(&play, "api"), [], "and nobody is woken");
    play.application_calls(false, OLD, 6);
    play.run_for(THREE_ROUNDS_S);
    assert_eq!(pages(&play, "api").len(), 1, "now nothing gets through");
    play.application_calls(true, OLD, 10);
    play.run_for(900);
    assert!(play.engine.state().open_incident("api").is_none());
    assert_eq!(pages(&play, "api").len(), 1);
}

#[test]
fn an_application_that_is_limited_wakes_nobody_though_it_fails_before_a_probe_does() {
    let mut play = after(1, is(Host::Status(429)));
    assert!(!play.saw(|event| matches!(event, Event::IncidentOpened { .. })), "no probe has met it");
    play.application_calls(false, OLD, 8);
    assert!(play.saw(|event| matches!(event, Event::IncidentOpened { .. })));
    play.run_for(HOUR_S);
    assert_eq!(pages(&play, "api"), []);
}

type Change<'a> = &'a dyn Fn(&mut World);

#[test]
fn an_outage_that_follows_a_rate_limit_pages() {
    let moved = |world: &mut World| {
        world.resolver = Ok(set(&[NEW]));
        world.authority = servers(&[NEW]);
        world.independents = set(&[NEW]);
        world.hosts.insert(ip(NEW), Host::Silent);
    };
    let outages: [(&str, Change); 5] = [
        ("down", &|world| is(Host::Silent)(world)),
        ("errors", &|world| is(Host::Status(500))(world)),
        ("no name", &|world| world.resolver = Err(Rcode::Servfail)),
        ("moved, and not reached there", &moved),
        ("nobody says where", &|world| {
            world.resolver = Err(Rcode::Servfail);
            world.authority.clear();
            world.independents.clear();
        }),
    ];
    for (what, change) in outages {
        for by_application in [false, true] {
            let mut play = after(if by_application { 1 } else { 600 }, is(Host::Status(429)));
            if by_application {
                play.application_calls(false, OLD, 8);
                play.run_for(60);
            }
            assert_eq!(pages(&play, "api"), [], "{what}: it is limited");
            change(&mut play.world);
            play.run_for(HOUR_S);
            assert_eq!(pages(&play, "api").len(), 1, "{what}, {by_application}: {:?}", play.verdicts());
        }
    }
}

#[test]
fn an_outage_that_follows_a_wrong_probe_pages() {
    let mut play = after(0, is(Host::Status(404)));
    for _ in 0..60 {
        play.application_calls(true, OLD, 5);
        play.run_for(2);
    }
    assert!(play.verdicts().iter().any(|verdict| verdict.starts_with("probe_error")), "{:?}", play.verdicts());
    assert_eq!(pages(&play, "api"), [], "the application is served");
    play.world.resolver = Ok(set(&[NEW]));
    play.world.authority = servers(&[NEW]);
    play.world.independents = set(&[NEW]);
    play.world.hosts.insert(ip(NEW), Host::Silent);
    for _ in 0..30 {
        play.application_calls(false, NEW, 2);
        play.run_for(10);
    }
    assert_eq!(pages(&play, "api").len(), 1, "{:?}", play.verdicts());
}
