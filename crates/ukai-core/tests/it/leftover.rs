//! What is over and stands all the same in a zone of somebody else's: people hear of it, once, and can have it tried again.

use std::collections::BTreeSet;

use ukai_core::effect::{Effect, Reply};
use ukai_core::event::{Event, Notification, NotificationKind};
use ukai_core::input::{Command, Input, ServedNow, StuckLease};
use ukai_core::overrides::{EndReason, Phase};

use crate::elsewhere::{listed, served, with_the_zone};
use crate::play::Play;
use crate::world::HOST;

const CHANGED: &str = "the ownership record was changed";

/// An override that a person took back, and how the zone goes on listing it.
fn ended() -> (Play, String, ServedNow) {
    let (mut play, id) = served();
    let standing = listed(play.applied.last().unwrap());
    play.command(Command::Revert { id: id.clone(), why: "enough".into() }, 1);
    play.run_for(10);
    assert_eq!(play.engine.state().overrides[&id].phase, Phase::Ended(EndReason::RevertedByPerson));
    (play, id, standing)
}

/// Withdrawals that were asked for fail; so many were.
fn refuse(play: &mut Play) -> usize {
    let is_withdrawal = |effect: &Effect| matches!(effect, Effect::Withdraw { .. });
    let asked: Vec<Effect> = play.waiting.iter().filter(|effect| is_withdrawal(effect)).cloned().collect();
    play.waiting.retain(|effect| !is_withdrawal(effect));
    for effect in &asked {
        let Effect::Withdraw { id, generation, .. } = effect.clone() else { continue };
        play.input(Input::Withdrawn { id, generation, result: Err(CHANGED.into()) });
    }
    asked.len()
}

/// What was told of what is over and still there.
fn told(play: &Play) -> Vec<&Notification> {
    let queued = play.log.iter().filter_map(|record| match &record.event {
        Event::NotificationQueued { notification, .. } => Some(notification),
        _ => None,
    });
    queued.filter(|notification| notification.subject.ends_with("is over and still there")).collect()
}

fn list_for(play: &mut Play, serving: &[ServedNow], listings: usize) {
    for _ in 0..listings {
        play.input(Input::ProviderListed { serving: serving.to_vec() });
        refuse(play);
        play.run_for(5);
    }
}

#[test]
fn what_leads_the_name_astray_is_paged_once() {
    let (mut play, id, standing) = ended();
    list_for(&mut play, std::slice::from_ref(&standing), 30);
    let pages = told(&play);
    assert_eq!(pages.len(), 1);
    assert_eq!((pages[0].kind, pages[0].page, pages[0].peer.as_str()), (NotificationKind::Trouble, true, "api"));
    assert!(pages[0].text.contains(CHANGED) && pages[0].text.contains(&format!("ukai revert {id}")), "{:?}", pages[0]);
    let residues = play.engine.residues();
    assert_eq!((residues.len(), &residues[0].addresses), (1, &standing.addresses));
    assert_eq!(residues[0].why, CHANGED);
    play.crash();
    with_the_zone(&mut play);
    list_for(&mut play, &[standing], 3);
    assert_eq!(told(&play).len(), 1, "the log knows that it was told");
    list_for(&mut play, &[], 1);
    assert!(play.engine.residues().is_empty(), "it is gone");
}

#[test]
fn a_mark_alone_wakes_nobody_until_something_is_answered() {
    let (mut play, _, standing) = ended();
    let mark = ServedNow { addresses: BTreeSet::new(), ..standing.clone() };
    list_for(&mut play, &[mark], 20);
    assert_eq!(told(&play).iter().map(|told| told.page).collect::<Vec<_>>(), [false]);
    list_for(&mut play, &[standing], 20);
    assert_eq!(told(&play).iter().map(|told| told.page).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn who_has_mended_it_has_it_tried_at_once() {
    let (mut play, id, standing) = ended();
    play.input(Input::ProviderListed { serving: vec![standing.clone()] });
    assert!(play.engine.residues().is_empty(), "it may be on its way");
    assert_eq!(refuse(&mut play), 1);
    assert_eq!(play.engine.residues().len(), 1);
    play.command(Command::Revert { id: id.clone(), why: "mended".into() }, 1);
    assert_eq!(refuse(&mut play), 1, "not a minute later");
    play.command(Command::RevertAll { why: "mended".into() }, 1);
    assert_eq!(refuse(&mut play), 1);
    play.input(Input::ProviderListed { serving: Vec::new() });
    play.command(Command::Revert { id, why: "again".into() }, 1);
    play.run_for(1);
    assert!(matches!(play.replies.last(), Some(Reply::Refused { text }) if text.contains("does not stand")));
}

#[test]
fn a_withdrawal_that_waits_for_its_next_try_is_tried_at_once() {
    let (mut play, id) = served();
    play.command(Command::Revert { id: id.clone(), why: "enough".into() }, 1);
    assert_eq!(refuse(&mut play), 1);
    assert!(matches!(play.engine.state().overrides[&id].phase, Phase::Withdrawing(_)));
    for command in [Command::Revert { id, why: String::new() }, Command::RevertAll { why: String::new() }] {
        play.command(command, 1);
        assert_eq!(refuse(&mut play), 1);
    }
}

#[test]
fn what_the_keeper_cannot_end_is_paged_once() {
    let (mut play, id, _) = ended();
    let stuck = |id: &str| StuckLease { id: id.into(), host: HOST.into(), why: CHANGED.into() };
    for _ in 0..3 {
        play.input(Input::LeasesStuck { leases: vec![stuck(&id), stuck("ovr-99")] });
    }
    let pages: Vec<(&str, bool)> = told(&play).iter().map(|told| (told.peer.as_str(), told.page)).collect();
    assert_eq!(pages, [("api", true), ("api", true)], "one for each, also where the log does not know it");
    assert_eq!(play.engine.residues().len(), 2);
    play.input(Input::LeasesStuck { leases: Vec::new() });
    assert!(play.engine.residues().is_empty());
}

#[test]
fn a_mark_that_was_told_of_hides_no_page_of_the_keepers() {
    let (mut play, id, standing) = ended();
    let mark = ServedNow { addresses: BTreeSet::new(), ..standing };
    list_for(&mut play, &[mark], 20);
    let stuck = StuckLease { id, host: HOST.into(), why: CHANGED.into() };
    for _ in 0..3 {
        play.input(Input::LeasesStuck { leases: vec![stuck.clone()] });
    }
    assert_eq!(told(&play).iter().map(|told| told.page).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn what_the_keeper_was_told_of_is_not_paged_by_the_listing_too() {
    let (mut play, id, standing) = ended();
    play.input(Input::LeasesStuck { leases: vec![StuckLease { id, host: HOST.into(), why: CHANGED.into() }] });
    list_for(&mut play, &[standing], 20);
    assert_eq!(told(&play).len(), 1);
}

#[test]
fn a_listing_that_comes_and_goes_pages_once() {
    let (mut play, _, standing) = ended();
    for number in 0..6 {
        play.input(Input::ProviderListed { serving: vec![standing.clone()] });
        let asked: Vec<Effect> = std::mem::take(&mut play.waiting);
        for effect in asked {
            match effect {
                Effect::Withdraw { id, generation, .. } => {
                    let why = format!("{CHANGED} (try {number})");
                    play.input(Input::Withdrawn { id, generation, result: Err(why) });
                }
                other => play.waiting.push(other),
            }
        }
        play.run_for(5);
        play.input(Input::ProviderListed { serving: Vec::new() });
        play.run_for(5);
    }
    assert_eq!(told(&play).len(), 1);
}

#[test]
fn what_is_being_withdrawn_is_not_told_twice() {
    let (mut play, id) = served();
    play.command(Command::Revert { id: id.clone(), why: "enough".into() }, 1);
    refuse(&mut play);
    let stuck = StuckLease { id, host: HOST.into(), why: CHANGED.into() };
    play.input(Input::LeasesStuck { leases: vec![stuck] });
    assert!(told(&play).is_empty() && play.engine.residues().is_empty());
}
