//! What must reach somebody in the end: held back or delayed, but never lost.

use serde_json::json;
use ukai_core::effect::Effect;
use ukai_core::event::{Event, NotificationKind};
use ukai_core::input::{Command, Input};

use crate::play::Play;
use crate::world::*;

fn pages(play: &Play) -> usize {
    let is_page = |event: &Event| {
        let Event::NotificationQueued { notification, .. } = event else { return false };
        notification.page && notification.kind == NotificationKind::Paged
    };
    play.log.iter().filter(|record| is_page(&record.event)).count()
}

#[test]
fn a_page_that_is_tried_again_is_tried_again_after_a_restart_too() {
    let mut play = Play::new(World::healthy());
    play.run_for(120);
    play.world.hosts.insert(ip(OLD), Host::Silent);
    let mut page = None;
    for _ in 0..2000 {
        if let Some(Effect::Notify { notification, subscriber }) = play.waiting.first()
            && notification.page
        {
            page = Some((notification.key.clone(), subscriber.clone()));
            play.waiting.remove(0);
            break;
        }
        if !play.carry_out() {
            let at = play.engine.poll_timeout().unwrap();
            play.world.now = play.world.now.max(at);
            play.input(Input::Tick);
        }
    }
    let (key, subscriber) = page.unwrap();
    let detail = "it does not answer; it will be tried again".to_owned();
    let attempts = 1;
    play.input(Input::NotificationDelayed { key: key.clone(), subscriber: subscriber.clone(), attempts, detail });
    play.crash();
    let again = |play: &Play| {
        play.waiting
            .iter()
            .any(|effect| matches!(effect, Effect::Notify { notification, .. } if notification.key == key))
    };
    assert!(again(&play), "a restart tries it again");
    play.input(Input::NotificationSent { key: key.clone(), subscriber, attempts: 3, result: Ok(()) });
    play.crash();
    assert!(!again(&play), "and not once it has arrived");
}

#[test]
fn a_stranger_who_came_while_it_was_muted_pages_when_that_ends() {
    let rule = serde_json::from_value(json!({
        "Name": "m", "Rule": {"Schedule": {"Expression": "at(2026-01-10T03:02)", "Duration": "PT1H"}},
        "MuteTargets": {"AlarmNames": ["api/identity"]}
    }))
    .unwrap();
    let mut play = Play::new(World::healthy());
    play.command(Command::PutMuteRule { rule: Box::new(rule) }, 7);
    play.run_for(300);
    play.world.hosts.insert(ip(NEW), Host::ThirdKey);
    play.world.resolver = Ok(set(&[NEW]));
    play.world.authority = servers(&[NEW]);
    play.world.independents = set(&[NEW]);
    play.run_for(1200);
    assert_eq!(pages(&play), 0, "muted");
    play.run_for(3600);
    assert_eq!(pages(&play), 1, "{:?}", play.verdicts());
}
