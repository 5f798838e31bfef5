//! What was observed of a drill from outside, each with its time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Deserialize;
use ukai_core::diagnose::verdict::{Action, Verdict};
use ukai_core::event::{Event, Recorded};
use ukai_core::overrides::EndReason;
use ukai_core::plan::Plan;

use super::vigil::Poll;
use crate::app::CallReport;
use crate::servers::Maker;

/// Milliseconds since the drill's clock was started.
pub type Ms = u64;

/// Good calls in a row that make "the application recovered" more than luck.
pub const RECOVERED_CALLS: usize = 3;

#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub events: Vec<(Ms, Recorded)>,
    pub calls: Vec<(Ms, CallReport)>,
    /// Programs that the override goes to, where it is not the daemon's own.
    pub servers: Vec<Maker>,
    pub first_fault: Option<Ms>,
    pub last_fault: Option<Ms>,
    pub first_heal: Option<Ms>,
    pub last_heal: Option<Ms>,
    /// What our DNS server answered right after an override was served.
    pub served: Option<BTreeSet<Answered>>,
    /// What our DNS server denied beside an override, while the lab's resolver gives it. None: nothing stood beside it, or it
    /// was not looked at yet.
    pub beside: Option<Vec<String>>,
    /// When the webhook received a notification that pages somebody.
    pub pages: Vec<Ms>,
    pub hosts: BTreeMap<String, HostCounts>,
    pub after_heal: Option<AfterHeal>,
    /// What came in at the webhook, in order.
    pub messages: Vec<Message>,
    /// How often the controller was killed because the drill was asked to.
    pub kills: u32,
    /// Questions to our DNS server, asked where the controller is killed.
    pub polls: Vec<Poll>,
    /// Whether the log, read again from its beginning, leads to what the daemon says.
    pub replay: Option<Result<(), String>>,
}

/// A notification as it arrived.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Message {
    /// The header that tells repetitions.
    #[serde(skip)]
    pub header: Option<String>,
    pub key: String,
    pub kind: String,
    pub incident: Option<String>,
    pub subject: String,
    pub text: String,
    pub repeated: bool,
}

/// An address that was answered, by the label of its host where it has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Answered {
    pub address: IpAddr,
    pub label: Option<String>,
}

impl Answered {
    pub fn name(&self) -> String {
        self.label.clone().unwrap_or_else(|| self.address.to_string())
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostCounts {
    /// HTTP requests by the application.
    pub by_application: u64,
    /// Requests, by anybody, that carried the peer's secret.
    pub secrets: u64,
}

/// How things stood when they were last looked at after the last heal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AfterHeal {
    /// Our DNS server answers what the lab's resolver answers.
    pub answers_agree: bool,
    /// Everything of an override that is left, in a sentence each.
    pub residue: Vec<String>,
}

impl Seen {
    /// Events before the first heal: what was concluded while things were broken.
    pub fn broken(&self) -> impl DoubleEndedIterator<Item = (Ms, &Event)> {
        let end = self.first_heal.unwrap_or(Ms::MAX);
        self.all().filter(move |(at, _)| *at < end)
    }

    pub fn all(&self) -> impl DoubleEndedIterator<Item = (Ms, &Event)> {
        self.events.iter().map(|(at, record)| (*at, &record.event))
    }

    /// The last verdict while things were broken; one without an incident counts where no incident was opened.
    pub fn verdict(&self) -> Option<(Ms, &Verdict)> {
        let opened = self.broken().any(|(_, event)| matches!(event, Event::IncidentOpened { .. }));
        self.broken().rev().find_map(|(at, event)| match event {
            Event::Diagnosed { verdict, incident, .. } if incident.is_some() || !opened => Some((at, &**verdict)),
            _ => None,
        })
    }

    pub fn served_at(&self) -> Option<Ms> {
        self.first(|event| matches!(event, Event::OverrideServed { .. }))
    }

    /// The plan of the override that was served; else of the last one proposed.
    pub fn plan(&self) -> Option<&Plan> {
        let served = self.all().find_map(|(_, event)| match event {
            Event::OverrideServed { id, .. } => Some(id),
            _ => None,
        });
        self.all().rev().find_map(|(_, event)| match event {
            Event::OverrideProposed { id, plan, .. } if served.is_none_or(|served| served == id) => Some(&**plan),
            _ => None,
        })
    }

    pub fn proposed(&self) -> bool {
        self.first(|event| matches!(event, Event::OverrideProposed { .. })).is_some()
    }

    pub fn refused_by(&self) -> BTreeSet<&str> {
        self.broken()
            .filter_map(|(_, event)| match event {
                Event::OverrideRefused { refusals, .. } => Some(refusals),
                _ => None,
            })
            .flatten()
            .map(|refusal| refusal.guard.as_str())
            .collect()
    }

    /// ukai itself took an override back while things were broken.
    pub fn withdrawn_while_broken(&self) -> bool {
        self.broken().any(|(_, event)| match event {
            Event::WithdrawStarted { reason, by, .. } => {
                by.uid.is_none() && matches!(reason, EndReason::Reverted | EndReason::Withdrawn)
            }
            _ => false,
        })
    }

    pub fn override_ended(&self) -> bool {
        self.first(|event| matches!(event, Event::OverrideEnded { .. })).is_some()
    }

    pub fn opened_at(&self) -> Option<Ms> {
        self.first(|event| matches!(event, Event::IncidentOpened { .. }))
    }

    pub fn first(&self, wanted: impl Fn(&Event) -> bool) -> Option<Ms> {
        self.all().find(|(_, event)| wanted(event)).map(|(at, _)| at)
    }

    /// Keys of messages that somebody was to be told and that did not arrive.
    pub fn not_arrived(&self) -> Vec<&str> {
        let arrived: BTreeSet<&str> = self.messages.iter().map(|message| message.key.as_str()).collect();
        self.all()
            .filter_map(|(_, event)| match event {
                Event::NotificationQueued { notification, subscribers } if !subscribers.is_empty() => {
                    Some(notification.key.as_str())
                }
                _ => None,
            })
            .filter(|key| !arrived.contains(key))
            .collect()
    }

    /// When something last happened that could lead to a change of mind: not the passing of time, not a repetition.
    pub fn last_turn(&self) -> Ms {
        let mut last = 0;
        let mut verdict = None;
        for (at, event) in self.all() {
            let turned = match event {
                Event::Diagnosed { verdict: given, .. } => {
                    let said = (given.code, given.sure, given.action);
                    verdict.replace(said) != Some(said)
                }
                Event::IncidentOpened { .. }
                | Event::IncidentClosed { .. }
                | Event::OverrideProposed { .. }
                | Event::OverrideApproved { .. }
                | Event::ApplyStarted { .. }
                | Event::OverrideServed { .. }
                | Event::WithdrawStarted { .. }
                | Event::OverrideEnded { .. } => true,
                _ => false,
            };
            if turned {
                last = at;
            }
        }
        last
    }

    /// When the application had failed after the first fault and then succeeded a few times in a row, from `from` on.
    pub fn recovered_at(&self, from: Ms, until: Ms) -> Option<Ms> {
        let fault = self.first_fault?;
        let failed = self.calls.iter().position(|(at, call)| *at >= fault && !call.ok)?;
        let mut good: Vec<Ms> = Vec::new();
        for (at, call) in self.calls.get(failed..)? {
            if !call.ok {
                good.clear();
            } else if *at >= from && *at < until {
                good.push(*at);
                if good.len() == RECOVERED_CALLS {
                    return good.first().copied();
                }
            }
        }
        None
    }

    pub fn failed_at(&self) -> Option<Ms> {
        let fault = self.first_fault?;
        self.calls.iter().find(|(at, call)| *at >= fault && !call.ok).map(|(at, _)| *at)
    }

    /// The verdict's own idea of what to do, for telling "nothing" from "refused".
    pub fn verdict_action(&self) -> Option<Action> {
        self.verdict().map(|(_, verdict)| verdict.action)
    }
}
