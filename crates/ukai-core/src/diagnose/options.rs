//! Every option with its effect, risk and time; doing nothing is one of them.

use super::reading::{Reading, list};
use super::verdict::{Action, Choice, Code, Judgement, Verdict};

/// Weighs the options for a verdict. Exactly one is recommended.
pub fn weigh(reading: &Reading, verdict: &Verdict) -> Vec<Choice> {
    let recommended = recommended(verdict);
    let mut options = vec![
        wait(verdict),
        flush(reading, verdict),
        switch_resolver(reading, verdict),
        make_override(reading, verdict),
        recycle_clients(verdict),
        fix_own_network(verdict),
        fix_clock(verdict),
        ask_peer(verdict),
    ];
    for option in &mut options {
        if option.name == recommended {
            option.judgement = Judgement::Recommended;
        }
    }
    options
}

fn recommended(verdict: &Verdict) -> &'static str {
    match (verdict.action, verdict.code) {
        (Action::Override, _) => "override",
        (_, Code::OwnEgress | Code::Intercepted | Code::DnsIntercepted | Code::BlockedUs) => "fix_own_network",
        (_, Code::OwnResolver) => "switch_resolver",
        (_, Code::ClockSkew) => "fix_clock",
        (_, Code::ClientPinned) => "recycle_clients",
        (
            _,
            Code::Parked
            | Code::SuspectHijack
            | Code::IdentityDiscontinuity
            | Code::Rebinding
            | Code::PeerCert
            | Code::DnssecBogus
            | Code::DelegationRemoved
            | Code::PeerDnsEmpty
            | Code::LameDelegation
            | Code::Auth
            | Code::TlsPolicy,
        ) => "ask_peer",
        _ => "wait",
    }
}

struct Weighed {
    name: &'static str,
    judgement: Judgement,
    reason: String,
    effect: &'static str,
    risk: &'static str,
    time: &'static str,
    reversible: bool,
}

impl Weighed {
    fn choice(self) -> Choice {
        Choice {
            name: self.name.to_owned(),
            judgement: self.judgement,
            reason: self.reason,
            effect: self.effect.to_owned(),
            risk: self.risk.to_owned(),
            time_to_effect: self.time.to_owned(),
            reversible: self.reversible,
        }
    }
}

/// The cause was looked for and excluded by what was seen, not merely not concluded.
fn is_excluded(verdict: &Verdict, code: Code) -> bool {
    verdict.eliminated.iter().any(|reason| reason.starts_with(&format!("{}:", code.name())))
}

fn possible_if(condition: bool) -> Judgement {
    if condition { Judgement::Possible } else { Judgement::Useless }
}

fn wait(verdict: &Verdict) -> Choice {
    let reason = match verdict.code {
        Code::PeerDown => "Do nothing: no address serves, so there is nothing to go around to.",
        Code::PeerHttp => "Do nothing: every address answers alike; only the peer can mend it.",
        Code::Rotating => "Do nothing: this is how the name is meant to work.",
        Code::PartialAddress => {
            "Do nothing: clients that try another address get through; the peer should remove the dead one."
        }
        Code::NegativeCache => "The negative answer runs out by itself.",
        _ if verdict.action == Action::Override => {
            "Waiting leaves the application failing until our resolver forgets by itself."
        }
        _ => "Waiting changes nothing that is ours, and loses nothing that an override could give.",
    };
    Weighed {
        name: "wait",
        judgement: Judgement::Possible,
        reason: reason.to_owned(),
        effect: "nothing changes; ukai goes on watching and tells",
        risk: "the outage lasts as long as its cause",
        time: "unknown",
        reversible: true,
    }
    .choice()
}

fn flush(reading: &Reading, verdict: &Verdict) -> Choice {
    let stale = is_stale(verdict.code) || verdict.code == Code::NegativeCache;
    let reason = if stale {
        format!("Our resolver holds {}; flushing it there may be enough, if you run it.", list(&reading.our_set))
    } else {
        "What our resolver holds is not the cause.".to_owned()
    };
    Weighed {
        name: "flush_cache",
        judgement: possible_if(stale),
        reason,
        effect: "our resolver asks the peer's servers again",
        risk: "none known; a managed resolver offers no way to do it",
        time: "at once, then the TTL in the clients",
        reversible: true,
    }
    .choice()
}

fn switch_resolver(reading: &Reading, verdict: &Verdict) -> Choice {
    let helps =
        is_stale(verdict.code) || matches!(verdict.code, Code::OwnResolver | Code::NegativeCache | Code::DnssecBogus);
    let same = reading.independents.as_ref().is_some_and(|set| *set == reading.our_set);
    let reason = if verdict.code == Code::OwnResolver {
        "Our resolver is what broke; another one may answer."
    } else if helps {
        "Another resolver gives the right answer, but it would answer for every name."
    } else if same {
        "Independent resolvers lead to the same place."
    } else {
        "Whether another resolver leads elsewhere is not known."
    };
    let helps = helps || !same;
    Weighed {
        name: "switch_resolver",
        judgement: possible_if(helps),
        reason: reason.to_owned(),
        effect: "every name is resolved elsewhere",
        risk: "private names may stop resolving; clients must be told",
        time: "minutes",
        reversible: true,
    }
    .choice()
}

fn make_override(reading: &Reading, verdict: &Verdict) -> Choice {
    let (judgement, reason) = match verdict.action {
        Action::Override => (
            Judgement::Possible,
            format!("{} proves itself, and only the name leads elsewhere.", list(&reading.proved)),
        ),
        Action::Refuse => (Judgement::Refused, format!("Refused: {}", verdict.summary)),
        Action::Escalate => {
            (Judgement::Refused, "Not without a person who knows more than the evidence does.".to_owned())
        }
        Action::None | Action::Revert => (Judgement::Useless, format!("It would not help: {}", verdict.summary)),
    };
    Weighed {
        name: "override",
        judgement,
        reason,
        effect: "this one name leads to proven addresses, for a bounded time",
        risk: "the addresses may change again; ukai re-reads and re-proves them, and the lease ends it",
        time: "at once for new look-ups, then up to the TTL that clients already hold",
        reversible: true,
    }
    .choice()
}

fn recycle_clients(verdict: &Verdict) -> Choice {
    let pinned = verdict.code == Code::ClientPinned;
    let reason = if pinned {
        "DNS is right; only the application's own pool or cache still holds the old address."
    } else {
        "The application is not what holds on to an old address, as far as is seen."
    };
    Weighed {
        name: "recycle_clients",
        judgement: possible_if(pinned || is_stale(verdict.code)),
        reason: reason.to_owned(),
        effect: "workers start again and resolve afresh",
        risk: "a short dip while they restart",
        time: "minutes",
        reversible: true,
    }
    .choice()
}

fn fix_own_network(verdict: &Verdict) -> Choice {
    let ours = matches!(verdict.code, Code::OwnEgress | Code::Intercepted | Code::DnsIntercepted | Code::BlockedUs);
    let excluded =
        [Code::OwnEgress, Code::Intercepted, Code::DnsIntercepted].iter().all(|code| is_excluded(verdict, *code));
    let reason = if ours {
        "The fault is on our side of the path: route, NAT, security group, proxy or allow list."
    } else if excluded {
        "Our own path is not the cause: unrelated sites are reached through it."
    } else {
        "Whether our own path is the cause is not known; look at it too."
    };
    let ours = ours || !excluded;
    Weighed {
        name: "fix_own_network",
        judgement: possible_if(ours),
        reason: reason.to_owned(),
        effect: "everything is reached again, the peer included",
        risk: "that of any network change",
        time: "minutes",
        reversible: true,
    }
    .choice()
}

fn fix_clock(verdict: &Verdict) -> Choice {
    let ours = verdict.code == Code::ClockSkew;
    let excluded = is_excluded(verdict, Code::ClockSkew);
    let reason = if ours {
        "Our clock is off; set it by NTP."
    } else if excluded {
        "Our clock is not the cause."
    } else {
        "Whether our clock is right is not known; nobody told the time."
    };
    let ours = ours || !excluded;
    Weighed {
        name: "fix_clock",
        judgement: possible_if(ours),
        reason: reason.to_owned(),
        effect: "certificates and signatures are valid again",
        risk: "a jump of the clock; slew if you can",
        time: "seconds",
        reversible: true,
    }
    .choice()
}

fn ask_peer(verdict: &Verdict) -> Choice {
    let theirs = !matches!(
        verdict.code,
        Code::OwnEgress | Code::OwnResolver | Code::ClockSkew | Code::Intercepted | Code::ClientPinned
    );
    let reason = match verdict.code {
        Code::SuspectHijack | Code::IdentityDiscontinuity | Code::Parked | Code::Rebinding => {
            "Reach the peer by another way than this name, and show them the evidence."
        }
        _ if theirs => "The peer can mend or confirm it; the report has what they will ask for.",
        _ => "The peer is not the cause.",
    };
    Weighed {
        name: "ask_peer",
        judgement: possible_if(theirs),
        reason: reason.to_owned(),
        effect: "the peer knows what we see",
        risk: "none",
        time: "hours",
        reversible: true,
    }
    .choice()
}

/// The family of causes in which our resolver is behind the peer's own servers.
pub fn is_stale(code: Code) -> bool {
    matches!(code, Code::StaleResolver | Code::StaleResolverTransient | Code::TtlViolation)
}
