//! An alarm that toggles is one incident: it is told once, and paged at most once until it was quiet.

use jiff::SignedDuration;
use ukai_core::event::{Event, NotificationKind};
use ukai_core::observe::{ErrorClass, Stage};

use crate::play::Play;
use crate::world::*;

const HOUR_S: i64 = 3600;

fn count(play: &Play, wanted: impl Fn(&Event) -> bool) -> usize {
    play.log.iter().filter(|record| wanted(&record.event)).count()
}

fn opened(play: &Play) -> usize {
    count(play, |event| matches!(event, Event::IncidentOpened { .. }))
}

fn pages(play: &Play) -> usize {
    count(
        play,
        |event| matches!(event, Event::NotificationQueued { notification, .. } if notification.kind == NotificationKind::Paged),
    )
}

/// Down and up in turn, each for so long, for two hours.
fn toggles(down_s: i64, up_s: i64, host: Host) -> Play {
    let mut play = Play::new(World::healthy());
    play.run_for(120);
    let end = play.world.now + SignedDuration::from_hours(2);
    while play.world.now < end {
        play.world.hosts.insert(ip(OLD), host);
        play.run_for(down_s);
        play.world.hosts.insert(ip(OLD), Host::Serves);
        play.run_for(up_s);
    }
    play
}

#[test]
fn an_alarm_that_toggles_is_one_incident_and_ends_after_quiet() {
    for every_s in [20, 60, 180] {
        let mut play = toggles(every_s, every_s, Host::Silent);
        assert_eq!(opened(&play), 1, "every {every_s} s");
        assert_eq!(pages(&play), 1, "every {every_s} s");
        let reopened = count(&play, |event| matches!(event, Event::IncidentReopened { .. }));
        assert!(reopened <= 3, "each reopening needs more quiet than the one before: {reopened}, every {every_s} s");
        assert!(play.engine.state().open_incident("api").is_some() || reopened == 0 || every_s < 60);
        play.run_for(HOUR_S);
        assert!(play.engine.state().open_incident("api").is_none(), "every {every_s} s: it ends after quiet");
        assert_eq!((opened(&play), pages(&play)), (1, 1), "every {every_s} s: nothing follows");
    }
}

#[test]
fn what_closes_in_between_is_reopened_and_then_stays_open() {
    let mut play = toggles(30, 270, Host::Silent);
    let reopened = count(&play, |event| matches!(event, Event::IncidentReopened { .. }));
    assert_eq!((opened(&play), reopened, pages(&play)), (1, 1, 1));
    play.run_for(HOUR_S);
    assert!(play.engine.state().open_incident("api").is_none());
    assert_eq!((opened(&play), pages(&play)), (1, 1));
}

#[test]
fn what_is_not_worth_a_page_does_not_become_so_by_toggling() {
    for every_s in [60, 180] {
        let play = toggles(every_s, every_s, Host::Status(429));
        assert_eq!((opened(&play), pages(&play)), (1, 0), "every {every_s} s");
    }
}

#[test]
fn after_real_quiet_it_is_another_incident_and_another_page() {
    let mut play = toggles(60, 60, Host::Silent);
    play.run_for(2 * HOUR_S);
    play.world.hosts.insert(ip(OLD), Host::Silent);
    play.run_for(60);
    assert_eq!((opened(&play), pages(&play)), (2, 2));
}

#[test]
fn an_incident_that_had_an_override_is_over_for_good() {
    let mut play = Play::new(World::healthy());
    play.run_for(120);
    play.world.go_stale();
    play.run_for(30);
    play.approve();
    play.run_for(60);
    play.world.heal();
    for _ in 0..120 {
        if play.engine.state().open_incident("api").is_none() {
            break;
        }
        play.run_for(10);
    }
    assert!(play.engine.state().open_incident("api").is_none());
    assert!(play.saw(|event| matches!(event, Event::OverrideEnded { .. })));
    play.world.hosts.insert(ip(NEW), Host::Silent);
    play.run_for(30);
    assert_eq!(opened(&play), 2, "its decisions are not carried over");
    assert!(!play.saw(|event| matches!(event, Event::IncidentReopened { .. })));
}

#[test]
fn what_is_open_again_is_told_by_what_fails_now() {
    let mut play = Play::new(World::healthy());
    play.run_for(120);
    play.world.hosts.insert(ip(OLD), Host::Silent);
    play.run_for(40);
    play.world.hosts.insert(ip(OLD), Host::Serves);
    for _ in 0..100 {
        if play.engine.state().open_incident("api").is_some() {
            play.run_for(10);
        }
    }
    play.world.hosts.insert(ip(OLD), Host::Fails(Stage::Tls, ErrorClass::Expired));
    play.run_for(30);
    let again = play.engine.state().open_incident("api").unwrap();
    assert_eq!((again.reopened, again.stage, again.class), (1, Stage::Tls, ErrorClass::Expired));
}

/// Subjects of the pages, in their order.
fn subjects(play: &Play) -> Vec<String> {
    let page = |event: &Event| match event {
        Event::NotificationQueued { notification, .. } if notification.kind == NotificationKind::Paged => {
            Some(notification.subject.clone())
        }
        _ => None,
    };
    play.log.iter().filter_map(|record| page(&record.event)).collect()
}

/// Somebody read "closed" and went to bed.
#[test]
fn what_fails_again_soon_after_the_close_and_lasts_pages_once_more() {
    let mut play = Play::new(World::healthy());
    play.run_for(120);
    play.world.hosts.insert(ip(OLD), Host::Silent);
    play.run_for(40);
    play.world.hosts.insert(ip(OLD), Host::Serves);
    let closed = |play: &Play| count(play, |event| matches!(event, Event::IncidentClosed { .. }));
    for _ in 0..100 {
        if closed(&play) == 0 {
            play.run_for(10);
        }
    }
    assert_eq!((closed(&play), pages(&play)), (1, 1));
    play.run_for(120);
    play.world.hosts.insert(ip(OLD), Host::Silent);
    play.run_for(30);
    assert_eq!((opened(&play), pages(&play)), (1, 1), "not at once");
    let outage = ukai_core::alarm::defaults::outage("api");
    assert_eq!(
        play.engine.state().alarms.state(&outage),
        ukai_core::alarm::AlarmState::Alarm,
        "the alarm tells the truth"
    );
    play.run_for(60);
    assert_eq!(pages(&play), 2, "it lasts");
    assert_eq!(subjects(&play), ["api: outage, connect fails (timeout)", "api: still failing"]);
    play.crash();
    play.run_for(HOUR_S);
    assert_eq!((opened(&play), pages(&play)), (1, 2), "once more, and not again");
}
