//! What is allowed beyond a scenario's own expectation, where a modifier makes something else honest.

use super::modifiers::Gate;
use crate::scenario::Scenario;

/// One row: for these outages with these modifiers, these verdicts are right too.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    /// `*`, an id or the family of it (`S10`), or a diagnosis code that the file expects. Any of them.
    pub of: &'static [&'static str],
    pub with: &'static [&'static str],
    pub verdicts: &'static [&'static str],
    /// No verdict, or *open*, is honest too.
    pub open: bool,
    /// What becomes of the gate: `Free` where an override may be served that the file does not speak of, or be missed.
    pub gate: Option<Gate>,
    /// Why.
    pub why: &'static str,
}

impl Allowed {
    pub fn is_about(&self, scenario: &Scenario, modifiers: &[&str]) -> bool {
        let family = scenario.id.trim_end_matches(|c: char| c.is_ascii_lowercase());
        let names = |of: &&str| {
            *of == "*" || *of == scenario.id || *of == family || scenario.expect.verdict.iter().any(|code| code == of)
        };
        self.of.iter().any(|of| names(of)) && modifiers.iter().any(|modifier| self.with.contains(modifier))
    }
}

/// Diagnoses that take an answer of the peer's own servers to reach.
const BY_AUTHORITY: &[&str] = &["stale_resolver", "stale_resolver_transient", "ttl_violation", "negative_cache"];

/// Every row. One that no combination needs is taken out; a test sees to that.
pub const ALLOWED: &[Allowed] = &[
    Allowed {
        of: &["*"],
        with: &["resolver-truncates-tcp-blocked"],
        verdicts: &["own_resolver"],
        open: false,
        gate: None,
        why: "our resolver gives no whole answer for any name, the controls' included: nothing else can be told apart from that",
    },
    Allowed {
        of: &["*"],
        with: &["clock-2h-behind", "clock-2h-ahead"],
        verdicts: &["clock_skew"],
        open: false,
        gate: None,
        why: "no certificate can be judged by a clock that is wrong: it comes first in the order of elimination",
    },
    Allowed {
        of: &["*"],
        with: &["and-the-peer-fails"],
        verdicts: &["peer_http"],
        open: false,
        gate: None,
        why: "the peer answers errors at every address that serves: that is the cause that is left when the other is mended",
    },
    Allowed {
        of: BY_AUTHORITY,
        with: &["and-the-peer-fails"],
        verdicts: &["peer_down"],
        open: false,
        gate: None,
        why: "no address that anybody gives serves: the old one is dead, and the new one answers errors",
    },
    Allowed {
        of: BY_AUTHORITY,
        with: &["and-two-servers-are-silent"],
        verdicts: &[],
        open: true,
        gate: None,
        why: "one of three servers is no majority: what the peer says now is not known, and a person is told whom to ask",
    },
    Allowed {
        of: BY_AUTHORITY,
        with: &["and-a-server-lags"],
        verdicts: &["lame_delegation"],
        open: false,
        gate: None,
        why: "the peer's servers contradict each other, which comes before what a resolver makes of it",
    },
    Allowed {
        of: &["peer_down"],
        with: &["shared-address"],
        verdicts: &["peer_cert"],
        open: false,
        gate: None,
        why: "every address shows a certificate for another name: that is how it looks when the machines behind it are others'",
    },
];
