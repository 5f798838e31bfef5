//! What the engine recorded in one combination: `trace SCENARIO [MODIFIER…]`, where a scenario is an id or a file.

use ukai_core::event::Event;
use ukai_lab::crossed::Combination;
use ukai_lab::crossed::modifiers::MODIFIERS;
use ukai_lab::runner::catalogue;
use ukai_lab::scenario::Scenario;
use ukai_sim::{Ending, play};

fn main() {
    let mut words = std::env::args().skip(1);
    let name = words.next().unwrap_or_else(|| "S01".to_owned());
    let scenario = match std::fs::read_to_string(&name) {
        Ok(text) => Scenario::parse(&text, &name).unwrap_or_else(|error| panic!("{error}")),
        Err(_) => catalogue::find(&name)[0].parse().unwrap_or_else(|error| panic!("{error}")),
    };
    let modifiers: Vec<_> = words
        .map(|word| {
            MODIFIERS.iter().find(|modifier| modifier.id == word).unwrap_or_else(|| panic!("no modifier {word}"))
        })
        .collect();
    let combination = Combination::of(&scenario, &modifiers).expect("it has no meaning for this scenario");
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let played = play(&combination.staging, seed, Ending::Settled);
    let zero = played.zero.unwrap_or(0);
    println!("zero {zero}, cleared at {:?}", played.cleared_at);
    for (at, record) in &played.seen.events {
        let at = (*at as f64 - zero as f64) / 1000.0;
        match &record.event {
            Event::EvidenceGathered { gathering, evidence, .. } if std::env::var("EVIDENCE").is_ok() => {
                println!("{at:8.2} {gathering} {evidence:#?}");
            }
            Event::Diagnosed { verdict, .. } => {
                println!(
                    "{at:8.2} VERDICT {} {} {:?}: {}",
                    verdict.code.name(),
                    verdict.sure.name(),
                    verdict.action,
                    verdict.summary
                );
                for (sign, lines) in [('+', &verdict.evidence_for), ('-', &verdict.evidence_against)] {
                    lines.iter().for_each(|line| println!("           {sign} {line}"));
                }
            }
            Event::OverrideProposed { id, plan, .. } => {
                println!("{at:8.2} proposed {id} {:?} {:?} shown {:?}", plan.mode, plan.addresses, plan.shown);
            }
            Event::NotificationQueued { notification, .. } => {
                println!("{at:8.2} told{} {}", if notification.page { " (page)" } else { "" }, notification.subject);
            }
            Event::AlarmPut { .. }
            | Event::NotificationDelivered { .. }
            | Event::HistoryImported { .. }
            | Event::BaselineLearned { .. }
            | Event::EvidenceGathered { .. } => {}
            event => {
                let text = format!("{event:?}");
                println!("{at:8.2} {}", text.get(..text.len().min(220)).unwrap_or(&text));
            }
        }
    }
    println!("app: {:?}", ukai_lab::crossed::judge::judge(&combination, &played.seen, Default::default()));
}
