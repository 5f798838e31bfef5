//! Every option with its effect, risk and time; doing nothing is one of them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::answers;
use super::reading::{Reading, list};
use super::verdict::{Action, Choice, Code, Judgement, Verdict};
use crate::plan::{OVERRIDE_TTL_S, left_in_peace, select};

/// One row of the table: what the option does whatever the case, and how it is judged in one.
struct Row {
    name: &'static str,
    effect: &'static str,
    risk: &'static str,
    reversible: bool,
    weigh: fn(&Reading, &Verdict) -> Weighed,
}

/// How an option stands in one case.
struct Weighed {
    judgement: Judgement,
    /// One sentence that a tired person understands.
    reason: String,
    time: String,
}

fn weighed(judgement: Judgement, reason: impl Into<String>, time: impl Into<String>) -> Weighed {
    Weighed { judgement, reason: reason.into(), time: time.into() }
}

const OPTIONS: &[Row] = &[
    Row {
        name: "wait",
        effect: "nothing changes; ukai goes on watching and tells",
        risk: "the outage lasts as long as its cause",
        reversible: true,
        weigh: wait,
    },
    Row {
        name: "flush_cache",
        effect: "our resolver asks the peer's servers again",
        risk: "none known; a managed resolver offers no way to do it",
        reversible: true,
        weigh: flush_cache,
    },
    Row {
        name: "switch_resolver",
        effect: "every name is resolved elsewhere",
        risk: "private names may stop resolving; clients must be told",
        reversible: true,
        weigh: switch_resolver,
    },
    Row {
        name: "forward",
        effect: "our resolver asks another one for this one name",
        risk: "that resolver is trusted for this name, unproved; somebody must remember to take it out again",
        reversible: true,
        weigh: forward,
    },
    Row {
        name: "override",
        effect: "this one name leads to proven addresses, for a bounded time",
        risk: "the addresses may change again; ukai re-reads and re-proves them, and the lease ends it",
        reversible: true,
        weigh: make_override,
    },
    Row {
        name: "override_healthy_addresses",
        effect: "this one name leads to those of its addresses that work, for a bounded time",
        risk: "the load of the dead addresses falls on the others; the peer may have sent clients away from them on purpose",
        reversible: true,
        weigh: override_healthy,
    },
    Row {
        name: "override_one_family",
        effect: "this one name has addresses of one family only, for a bounded time",
        risk: "hosts that have only the other family lose it altogether",
        reversible: true,
        weigh: override_family,
    },
    Row {
        name: "alternate_endpoint",
        effect: "the application calls another host that the peer documents, by configuration",
        risk: "other data, other limits, other latency; the change of configuration itself",
        reversible: true,
        weigh: alternate_endpoint,
    },
    Row {
        name: "revert",
        effect: "our override is withdrawn, and the name leads where everybody is led",
        risk: "if the world is still wrong, the application fails again until it is overridden anew",
        reversible: true,
        weigh: revert,
    },
    Row {
        name: "recycle_clients",
        effect: "workers start again and resolve afresh",
        risk: "a short dip while they restart",
        reversible: true,
        weigh: recycle_clients,
    },
    Row {
        name: "fix_application",
        effect: "the application calls as the peer wants to be called: rate, credentials, TLS, idle connections",
        risk: "that of any change of the application",
        reversible: true,
        weigh: fix_application,
    },
    Row {
        name: "fix_own_network",
        effect: "everything is reached again, the peer included",
        risk: "that of any network change",
        reversible: true,
        weigh: fix_own_network,
    },
    Row {
        name: "fix_clock",
        effect: "certificates and signatures are valid again",
        risk: "a jump of the clock; slew if you can",
        reversible: true,
        weigh: fix_clock,
    },
    Row { name: "ask_peer", effect: "the peer knows what we see", risk: "none", reversible: true, weigh: ask_peer },
    Row {
        name: "ask_cloud",
        effect: "whoever runs our resolver or our network knows what we see",
        risk: "none",
        reversible: true,
        weigh: ask_cloud,
    },
];

/// Weighs the options for a verdict. Exactly one is recommended, and comes first; what is useless comes last.
pub fn weigh(reading: &Reading, verdict: &Verdict) -> Vec<Choice> {
    let recommended = recommended(verdict);
    let choice = |option: &Row| {
        let Weighed { judgement, reason, time } = (option.weigh)(reading, verdict);
        Choice {
            name: option.name.to_owned(),
            judgement: match judgement {
                Judgement::Possible if option.name == recommended => Judgement::Recommended,
                judgement => judgement,
            },
            reason,
            effect: option.effect.to_owned(),
            risk: option.risk.to_owned(),
            time_to_effect: time,
            reversible: option.reversible,
        }
    };
    let mut choices: Vec<Choice> = OPTIONS.iter().map(choice).collect();
    choices.sort_by_key(|choice| match choice.judgement {
        Judgement::Recommended => 0,
        Judgement::Possible => 1,
        Judgement::Refused => 2,
        Judgement::Useless => 3,
    });
    choices
}

/// What to do about each cause.
fn recommended(verdict: &Verdict) -> &'static str {
    match verdict.code {
        Code::StaleResolver | Code::StaleResolverTransient | Code::TtlViolation => "override",
        Code::NegativeCache if verdict.action == Action::Override => "override",
        Code::OwnEgress | Code::Intercepted | Code::DnsIntercepted | Code::OwnFirewall | Code::OwnV6 | Code::Mtu => {
            "fix_own_network"
        }
        Code::OwnResolver => "switch_resolver",
        Code::ClockSkew => "fix_clock",
        Code::ClientPinned => "recycle_clients",
        Code::ConnReuse | Code::RateLimited | Code::Auth | Code::TlsPolicy | Code::ProbeError => "fix_application",
        Code::OverrideStale | Code::OverrideBlast => "revert",
        Code::PeerRegion => "alternate_endpoint",
        Code::Parked
        | Code::SuspectHijack
        | Code::IdentityDiscontinuity
        | Code::Rebinding
        | Code::PeerCert
        | Code::DnssecBogus
        | Code::DelegationRemoved
        | Code::PeerDnsEmpty
        | Code::LameDelegation
        | Code::DanglingCname
        | Code::BlockedUs
        | Code::PathOrPop => "ask_peer",
        Code::NegativeCache
        | Code::Rotating
        | Code::GeoSteered
        | Code::PartialAddress
        | Code::V6Path
        | Code::PeerHttp
        | Code::PeerDown
        | Code::Open => "wait",
    }
}

/// The family of causes in which our resolver is behind the peer's own servers.
pub fn is_stale(code: Code) -> bool {
    matches!(code, Code::StaleResolver | Code::StaleResolverTransient | Code::TtlViolation)
}

/// The cause was looked for and excluded by what was seen, not merely not concluded.
fn is_excluded(verdict: &Verdict, code: Code) -> bool {
    verdict.eliminated.iter().any(|reason| reason.starts_with(&format!("{}:", code.name())))
}

/// That something is not the cause can be said only where the cause is known.
fn not_the_cause(verdict: &Verdict, what: &str) -> String {
    match verdict.code {
        Code::Open => format!("Nothing that was seen shows that {what} is the cause."),
        _ => format!("It is not {what}."),
    }
}

fn possible_if(condition: bool) -> Judgement {
    if condition { Judgement::Possible } else { Judgement::Useless }
}

/// Seconds that clients may hold on to what our resolver gives now.
fn held_s(reading: &Reading) -> Option<u32> {
    answers::ttl_readings(reading.evidence()).last().map(|last| last.ttl)
}

fn wait(reading: &Reading, verdict: &Verdict) -> Weighed {
    let reason = match verdict.code {
        Code::PeerDown => "Do nothing: no address serves, so there is nothing to go around to.",
        Code::PeerHttp => "Do nothing: every address answers alike; only the peer can mend it.",
        Code::Rotating | Code::GeoSteered => "Do nothing: this is how the name is meant to work.",
        Code::PartialAddress => {
            "Do nothing: clients that try another address get through; the peer should remove the dead one."
        }
        Code::V6Path => "Do nothing: clients fall back to IPv4; the peer should mend IPv6.",
        Code::NegativeCache if verdict.action == Action::None => "The negative answer runs out by itself.",
        Code::Open => "Nothing is known that would be mended by a change; ukai goes on looking.",
        _ if verdict.action == Action::Override => {
            "Waiting leaves the application failing until our resolver forgets by itself."
        }
        _ => "Waiting changes nothing that is ours, and loses nothing that an override could give.",
    };
    let time = match (verdict.code, held_s(reading), answers::negative_ttl(reading.evidence())) {
        (Code::NegativeCache, _, Some(left)) => format!("{left} s, the negative TTL that is left"),
        (Code::StaleResolverTransient, Some(left), _) => format!("{left} s, the TTL that is left"),
        (Code::StaleResolver | Code::TtlViolation, ..) => {
            "unknown: the answer's TTL has run out, and it is given all the same".to_owned()
        }
        _ => "unknown".to_owned(),
    };
    weighed(Judgement::Possible, reason, time)
}

fn flush_cache(reading: &Reading, verdict: &Verdict) -> Weighed {
    let time = match held_s(reading) {
        Some(ttl) => format!("at once there, then up to {ttl} s that clients already hold"),
        None => "at once there, then the TTL that clients already hold".to_owned(),
    };
    if is_stale(verdict.code) {
        let held = list(&reading.our_set);
        return weighed(
            Judgement::Possible,
            format!("Our resolver holds {held}; flushing it there may be enough, if you run it."),
            time,
        );
    }
    if verdict.code == Code::NegativeCache {
        return weighed(Judgement::Possible, "Our resolver holds a \"no\" that is no longer true.", time);
    }
    weighed(Judgement::Useless, not_the_cause(verdict, "what our resolver holds"), time)
}

fn switch_resolver(reading: &Reading, verdict: &Verdict) -> Weighed {
    let helps =
        is_stale(verdict.code) || matches!(verdict.code, Code::OwnResolver | Code::NegativeCache | Code::DnssecBogus);
    let same = reading.independents.as_ref().is_some_and(|set| *set == reading.our_set);
    let is_open = verdict.code == Code::Open && !is_excluded(verdict, Code::OwnResolver);
    let (judgement, reason) = match (verdict.code, helps, same) {
        _ if is_open => (Judgement::Possible, "Whether our resolver is the cause is not known; look at it too."),
        (Code::DnssecBogus, ..) => {
            (Judgement::Refused, "A resolver that does not validate would believe a forgery as well.")
        }
        (Code::OwnResolver, ..) => (Judgement::Possible, "Our resolver is what broke; another one may answer."),
        (_, true, _) => {
            (Judgement::Possible, "Another resolver gives the right answer, but it would answer for every name.")
        }
        (_, false, true) => (Judgement::Useless, "Independent resolvers lead to the same place."),
        (_, false, false) => (Judgement::Useless, "Where another resolver leads is no better for what is broken here."),
    };
    weighed(judgement, reason, "minutes: clients must be told, and keep what they hold until its TTL ends")
}

fn forward(reading: &Reading, verdict: &Verdict) -> Weighed {
    let proves = reading.independents.as_ref().is_some_and(|set| !set.is_disjoint(&reading.proved));
    let time = "at once for new look-ups, then the TTL that clients already hold";
    if is_stale(verdict.code) || verdict.code == Code::NegativeCache {
        return match proves {
            true => weighed(
                Judgement::Possible,
                "Independent resolvers agree, and what they give proves itself; your resolver can ask one of them for this name.",
                time,
            ),
            false => weighed(
                Judgement::Useless,
                "No two independent resolvers agree on an address that proves itself.",
                time,
            ),
        };
    }
    weighed(Judgement::Useless, not_the_cause(verdict, "which resolver is asked for the name"), time)
}

/// A name that was steered is never pinned to where it was.
fn may_be_pinned(reading: &Reading, verdict: &Verdict) -> bool {
    let is_steered = reading.steered.is_some() || reading.case.history.steered.is_some();
    verdict.code == Code::PeerDnsEmpty && !is_steered
}

fn make_override(reading: &Reading, verdict: &Verdict) -> Weighed {
    let held = held_s(reading).map_or("the TTL".to_owned(), |ttl| format!("up to {ttl} s"));
    let time =
        format!("at once for new look-ups, then {held} that clients already hold; a revert takes {OVERRIDE_TTL_S} s");
    let (judgement, reason) = match verdict.action {
        Action::Override => (
            Judgement::Possible,
            format!("{} proves itself, and only the name leads elsewhere.", list(select(reading).addresses)),
        ),
        Action::Refuse => (Judgement::Refused, format!("Refused: {}", verdict.summary)),
        Action::Escalate if is_stale(verdict.code) => (
            Judgement::Possible,
            "Only by a person: the addresses prove themselves, but the peer's own servers could not be heard."
                .to_owned(),
        ),
        Action::Escalate => match left_in_peace(reading).filter(|_| may_be_pinned(reading, verdict)) {
            Some(left) => (
                Judgement::Possible,
                format!(
                    "Only by a person, for 15 minutes at most: {} still proves to be the peer, but its servers do not give it any more.",
                    list(left.addresses)
                ),
            ),
            None => (Judgement::Refused, escalated(verdict.code).to_owned()),
        },
        Action::None | Action::Revert => (Judgement::Useless, format!("It would not help: {}", verdict.summary)),
    };
    weighed(judgement, reason, time)
}

/// Why a person who knows more than the evidence must be asked, and what of.
fn escalated(code: Code) -> &'static str {
    match code {
        Code::PeerDnsEmpty | Code::DelegationRemoved => {
            "Not by itself: only addresses of before are known; a person may pin them (`ukai pin`) for 15 minutes at most."
        }
        Code::DnssecBogus => {
            "Not by itself: broken signatures and a forgery look alike, and who validates behind us would reject it."
        }
        Code::LameDelegation => {
            "Not by itself: the peer's servers contradict each other, so none of them is to be believed."
        }
        Code::IdentityDiscontinuity => "Not by itself: a person must know from the peer that this is still the peer.",
        Code::PeerRegion => {
            "Not by itself: the peer leads clients there on purpose; its documented endpoint is the better way."
        }
        _ => "Not without a person who knows more than the evidence does.",
    }
}

fn working(reading: &Reading) -> BTreeSet<IpAddr> {
    reading.failures_now().into_iter().filter_map(|(address, failure)| failure.is_none().then_some(address)).collect()
}

fn override_healthy(reading: &Reading, verdict: &Verdict) -> Weighed {
    let time = "at once for new look-ups, then the TTL that clients already hold";
    if verdict.code != Code::PartialAddress {
        return weighed(Judgement::Useless, "It is not that some addresses work and others fail.", time);
    }
    if let Some(why) = &reading.steered {
        return weighed(Judgement::Refused, format!("Refused: a steered name may only be followed ({why})."), time);
    }
    let healthy = list(working(reading));
    weighed(
        Judgement::Possible,
        format!("Only by a person (`ukai pin`), if clients do not try {healthy} by themselves."),
        time,
    )
}

fn override_family(reading: &Reading, verdict: &Verdict) -> Weighed {
    let time = "at once for new look-ups, then the TTL that clients already hold";
    if !matches!(verdict.code, Code::V6Path | Code::OwnV6) {
        return weighed(Judgement::Useless, "It is not that one address family fails as a whole.", time);
    }
    if let Some(why) = &reading.steered {
        return weighed(Judgement::Refused, format!("Refused: a steered name may only be followed ({why})."), time);
    }
    let four: Vec<IpAddr> = working(reading).into_iter().filter(IpAddr::is_ipv4).collect();
    weighed(
        Judgement::Possible,
        format!("Only by a person (`ukai pin`), if clients do not fall back to {} by themselves.", list(four)),
        time,
    )
}

fn alternate_endpoint(_: &Reading, verdict: &Verdict) -> Weighed {
    let time = "as long as a change of the application's configuration takes";
    match verdict.code {
        Code::PeerRegion => {
            weighed(Judgement::Possible, "Another part of the peer serves: use its documented endpoint.", time)
        }
        Code::PeerDown | Code::PeerHttp | Code::PathOrPop => {
            weighed(Judgement::Possible, "If the peer documents another region or host, it may be whole.", time)
        }
        _ => weighed(Judgement::Useless, not_the_cause(verdict, "which host is called"), time),
    }
}

fn revert(reading: &Reading, verdict: &Verdict) -> Weighed {
    let time = format!("at once for new look-ups, then up to {OVERRIDE_TTL_S} s");
    match (reading.case.overridden, verdict.action) {
        (None, _) => weighed(Judgement::Useless, "No override of ours stands.", time),
        (Some(_), Action::Revert) => weighed(Judgement::Possible, "Our own override is what fails.", time),
        (Some(_), _) => weighed(Judgement::Possible, "Our override stands, and can be taken back at any time.", time),
    }
}

fn recycle_clients(_: &Reading, verdict: &Verdict) -> Weighed {
    let reason = match verdict.code {
        Code::ClientPinned => "DNS is right; only the application's own pool or cache still holds the old address.",
        Code::ConnReuse => "It helps until the connections have aged again.",
        code if is_stale(code) => {
            "After an override: workers that cache the old address for themselves must resolve afresh."
        }
        Code::Open => "Nothing that was seen shows that the application holds on to an old address.",
        _ => "The application is not what holds on to an old address, as far as is seen.",
    };
    let helps = is_stale(verdict.code) || matches!(verdict.code, Code::ClientPinned | Code::ConnReuse);
    weighed(possible_if(helps), reason, "minutes")
}

fn fix_application(_: &Reading, verdict: &Verdict) -> Weighed {
    let time = "as long as a change of the application takes";
    let reason = match verdict.code {
        Code::RateLimited => "Call less often, and honour Retry-After.",
        Code::Auth => "Renew the key; the peer refuses the one that we send.",
        Code::TlsPolicy => "Offer a TLS version and cipher that the peer takes.",
        Code::ConnReuse => "Give up idle connections sooner than the peer does.",
        Code::ProbeError => "Change what ukai expects of the endpoint to what the application lives by.",
        Code::ClientPinned => "Let the application resolve the name again from time to time.",
        _ => return weighed(Judgement::Useless, not_the_cause(verdict, "how the application calls"), time),
    };
    weighed(Judgement::Possible, reason, time)
}

fn fix_own_network(_: &Reading, verdict: &Verdict) -> Weighed {
    let own = [Code::OwnEgress, Code::Intercepted, Code::DnsIntercepted];
    let (judgement, reason) = match verdict.code {
        Code::OwnFirewall => {
            (Judgement::Possible, "Our outbound allow-list lags behind the peer: add its new addresses.")
        }
        Code::Mtu => (Judgement::Possible, "Let ICMP \"fragmentation needed\" through, or clamp the MSS on our side."),
        Code::OwnV6 => (Judgement::Possible, "Mend our IPv6 route, or stop announcing it to our hosts."),
        Code::BlockedUs => {
            (Judgement::Possible, "If our outgoing address changed, go back to the one that the peer allows.")
        }
        Code::PathOrPop => {
            (Judgement::Possible, "If there is another way out, try it: the fault is on the way to the peer.")
        }
        code if own.contains(&code) => (
            Judgement::Possible,
            "The fault is on our side of the path: route, NAT, security group, proxy or allow list.",
        ),
        _ if own.iter().all(|code| is_excluded(verdict, *code)) => {
            (Judgement::Useless, "Our own path is not the cause: unrelated sites are reached through it.")
        }
        _ => (Judgement::Possible, "Whether our own path is the cause is not known; look at it too."),
    };
    weighed(judgement, reason, "minutes")
}

fn fix_clock(_: &Reading, verdict: &Verdict) -> Weighed {
    let (judgement, reason) = match verdict.code {
        Code::ClockSkew => (Judgement::Possible, "Our clock is off; set it by NTP."),
        _ if is_excluded(verdict, Code::ClockSkew) => (Judgement::Useless, "Our clock is not the cause."),
        _ => (Judgement::Possible, "Whether our clock is right is not known; nobody told the time."),
    };
    weighed(judgement, reason, "seconds")
}

/// Causes that are ours alone.
fn is_ours(code: Code) -> bool {
    matches!(
        code,
        Code::OwnEgress
            | Code::OwnResolver
            | Code::ClockSkew
            | Code::Intercepted
            | Code::DnsIntercepted
            | Code::OwnFirewall
            | Code::OwnV6
            | Code::ClientPinned
            | Code::ProbeError
            | Code::OverrideStale
            | Code::OverrideBlast
    )
}

fn ask_peer(_: &Reading, verdict: &Verdict) -> Weighed {
    let (judgement, reason) = match verdict.code {
        Code::SuspectHijack | Code::IdentityDiscontinuity | Code::Parked | Code::Rebinding | Code::DanglingCname => {
            (Judgement::Possible, "Reach the peer by another way than this name, and show them the evidence.")
        }
        Code::BlockedUs => (Judgement::Possible, "Ask them to let our outgoing address in; `ukai report` has it all."),
        Code::Rotating | Code::GeoSteered => (Judgement::Useless, "Nothing is wrong."),
        code if is_ours(code) => (Judgement::Useless, "The peer is not the cause."),
        _ => (Judgement::Possible, "The peer can mend or confirm it; `ukai report` writes what they will ask for."),
    };
    weighed(judgement, reason, "hours")
}

fn ask_cloud(_: &Reading, verdict: &Verdict) -> Weighed {
    let resolver = is_stale(verdict.code) || matches!(verdict.code, Code::OwnResolver | Code::NegativeCache);
    let network = matches!(
        verdict.code,
        Code::OwnEgress
            | Code::OwnV6
            | Code::OwnFirewall
            | Code::Intercepted
            | Code::DnsIntercepted
            | Code::Mtu
            | Code::PathOrPop
    );
    let own = [Code::OwnEgress, Code::OwnResolver];
    let is_open = verdict.code == Code::Open && !own.iter().all(|code| is_excluded(verdict, *code));
    let reason = match (resolver, network) {
        _ if is_open => "Whether our resolver or our network is the cause is not known; who runs them may see more.",
        (true, _) => "File a case with whoever runs our resolver; `ukai report` writes what they will ask for.",
        (_, true) => "File a case with whoever runs our network; `ukai report` writes what they will ask for.",
        _ => "Neither our resolver nor our network is the cause.",
    };
    weighed(possible_if(resolver || network || is_open), reason, "hours")
}
