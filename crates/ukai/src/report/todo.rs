//! What is left to do when the incident is over, or while it lasts.

use ukai_core::diagnose::verdict::{Judgement, Party, Sure};

use super::model::{OverrideStory, Report};
use super::story::utc;

pub fn left(report: &Report) -> Vec<String> {
    let mut left: Vec<String> = report.overrides.iter().filter_map(standing).collect();
    if let Some(finding) = &report.finding {
        let verdict = &finding.verdict;
        left.extend(for_party(verdict.party).map(str::to_owned));
        left.extend(
            verdict
                .options
                .iter()
                .filter(|choice| choice.judgement == Judgement::Recommended && choice.name != "override")
                .map(|choice| format!("Recommended, {}: {}", choice.name.replace('_', " "), choice.reason)),
        );
        if verdict.sure != Sure::Proven {
            left.extend(verdict.would_change.iter().map(|what| format!("The cause is not proven. {what}")));
        }
    } else {
        left.push("Find out by hand what the cause was: none was named.".to_owned());
    }
    for told in &report.notifications {
        for delivery in told.deliveries.iter().filter(|delivery| delivery.failure.is_some()) {
            left.push(format!("Mend the subscriber {}: \"{}\" did not reach it.", delivery.subscriber, told.subject));
        }
    }
    if report.application.calls == 0 {
        left.push(
            "Let the application report its own calls: without them an override can only be served, never confirmed."
                .to_owned(),
        );
    }
    left.dedup();
    left
}

fn standing(story: &OverrideStory) -> Option<String> {
    story.stands().then(|| match story.expires_at {
        Some(expires_at) => {
            format!("Override {} still stands until {}: watch it, extend it or revert it.", story.id, utc(expires_at))
        }
        None => format!("Override {} still stands: watch it or revert it.", story.id),
    })
}

fn for_party(party: Party) -> Option<&'static str> {
    match party {
        Party::Peer => Some("Send this report to the peer: the fault is on their side."),
        Party::OurNetwork => Some("Give this report to whoever runs our network: the way out is what failed."),
        Party::OurResolver => Some("Give this report to whoever runs our resolver, and ask why it answered as it did."),
        Party::OurApplication => Some("Change how the application holds its connections or addresses: DNS was right."),
        Party::Attacker => Some("Tell the security team and the peer: somebody else answered for this name."),
        Party::Unknown => None,
    }
}
