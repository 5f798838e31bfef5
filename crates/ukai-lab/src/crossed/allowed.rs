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
        self.of.iter().any(names) && modifiers.iter().any(|modifier| self.with.contains(modifier))
    }
}

/// What ends a name's outage by being waited for.
const BRIEF: &[&str] = &["stale_resolver_transient", "S04a"];
/// Diagnoses of a resolver that holds on to an old answer.
const OLD_ANSWER: &[&str] = &["stale_resolver", "stale_resolver_transient", "ttl_violation"];

const fn row(
    of: &'static [&'static str],
    with: &'static [&'static str],
    verdicts: &'static [&'static str],
    why: &'static str,
) -> Allowed {
    Allowed { of, with, verdicts, open: false, gate: None, why }
}

const fn open(of: &'static [&'static str], with: &'static [&'static str], why: &'static str) -> Allowed {
    Allowed { of, with, verdicts: &[], open: true, gate: None, why }
}

/// Every row. One that no combination needs is taken out; a test sees to that.
pub const ALLOWED: &[Allowed] = &[
    row(
        &["*"],
        &["resolver-truncates-tcp-blocked"],
        &["own_resolver"],
        "our resolver gives no whole answer for any name, the controls' included: nothing else can be told apart from that",
    ),
    row(
        &["*"],
        &["clock-2h-behind", "clock-2h-ahead"],
        &["clock_skew"],
        "no certificate can be judged by a clock that is wrong: it comes first in the order of elimination",
    ),
    row(
        &["*"],
        &["and-the-peer-fails"],
        &["peer_http"],
        "the peer answers errors at every address that serves: that is the cause that is left when the other is mended",
    ),
    row(
        &[
            "stale_resolver",
            "ttl_violation",
            "stale_resolver_transient",
            "partial_address",
            "v6_path",
            "lame_delegation",
            "peer_region",
        ],
        &["and-the-peer-fails"],
        &["peer_down"],
        "no address that anybody gives serves: some are dead, and the others answer errors",
    ),
    row(
        &["*"],
        &["and-a-server-lags"],
        &["lame_delegation"],
        "the peer's servers contradict each other, which comes before what follows from it",
    ),
    open(
        &["S28b"],
        &["and-port-53-is-closed"],
        "no server of the peer's is heard from here, so nobody can say that they are lame; that our resolver fails is all that is seen",
    ),
    open(
        &[
            "stale_resolver",
            "ttl_violation",
            "stale_resolver_transient",
            "negative_cache",
            "peer_dns_empty",
            "peer_region",
            "S11b",
            "S11c",
        ],
        &["and-two-servers-are-silent"],
        "one of three servers is no majority: what the peer says now is not known",
    ),
    open(
        &["negative_cache", "peer_dns_empty", "delegation_removed"],
        &["and-port-53-is-closed"],
        "a denial is weighed against the peer's own servers alone, and none of them is heard from here",
    ),
    row(
        &["stale_resolver_transient"],
        &["and-port-53-is-closed"],
        &["peer_down"],
        "the independent resolvers hold the old answer too, so that nobody who can be heard knows another address",
    ),
    row(
        &["lame_delegation", "peer_region"],
        &["and-port-53-is-closed"],
        &["stale_resolver"],
        "without the peer's servers all that is seen is that independent resolvers lead elsewhere, where it serves; it is never called proven",
    ),
    open(
        &["S37", "S12b"],
        &["and-an-independent-is-lost", "and-an-independent-is-stale"],
        "nobody hears the peer's servers, and two are left that disagree: one resolver's word is nobody's, but somebody answers where it leads",
    ),
    open(
        &["S38b"],
        &["and-the-peer-fails"],
        "what was left behind answers errors, and what is new was never reached: our own way there cannot be told from a dead machine",
    ),
    row(
        &["S38b"],
        &["flapping-2s"],
        &["peer_down"],
        "between two faults the new addresses are led to and reached for a moment, and are not new any more",
    ),
    row(
        &["S37"],
        &["200-addresses"],
        &["peer_down"],
        "of so many addresses sixteen are tried that resolvers alone name, and they are the dead ones",
    ),
    row(
        &["peer_down"],
        &["shared-address"],
        &["peer_cert"],
        "every address shows a certificate for another name: that is how it looks when the machines behind it are others'",
    ),
    Allowed {
        gate: Some(Gate::Free),
        ..open(
            BRIEF,
            &["starved-at-once", "starved-later"],
            "the answer runs out by itself before the prober is back at work",
        )
    },
    open(&["S08"], &["200-addresses"], "sixty-four of the two hundred are probed, and those are whole"),
    row(
        OLD_ANSWER,
        &["flapping-30s"],
        &["override_stale"],
        "the override follows the peer back and forth, and each time what it serves dies first",
    ),
    Allowed {
        gate: Some(Gate::Free),
        ..row(
            &["peer_dns_empty", "delegation_removed"],
            &["flapping-30s"],
            &["negative_cache"],
            "while the peer's servers give the name again, our resolver still denies it from its cache: an override is right then",
        )
    },
    row(
        &["override_stale"],
        &[
            "resolver-truncates-tcp-blocked",
            "clears-under-approval",
            "clears-before-apply",
            "clears-at-apply",
            "and-the-peer-fails",
            "and-two-servers-are-silent",
            "and-a-server-lags",
            "and-port-53-is-closed",
            "200-addresses",
            "shared-address",
            "clock-2h-behind",
            "clock-2h-ahead",
            "nobody-approves",
            "provider-down-at-apply",
            "provider-loses-the-update",
        ],
        &["stale_resolver"],
        "what the override was made for; where none stands, or nothing better than what it serves is proved, nothing else is concluded",
    ),
];
