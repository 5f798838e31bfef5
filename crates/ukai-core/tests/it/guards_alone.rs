//! Each guard as the only thing that stands between a plan and harm; and beside it a good plan of the same kind, that it
//! lets through. The verdict is held: whatever the guards are shown, the diagnosis says that an override is right.

use std::collections::BTreeSet;

use ukai_core::diagnose::diagnose;
use ukai_core::diagnose::evidence::*;
use ukai_core::diagnose::history::History;
use ukai_core::diagnose::reading::Reading;
use ukai_core::diagnose::verdict::{Code, Verdict};
use ukai_core::observe::{AddressResult, ErrorClass, Failure, Stage};
use ukai_core::peer::{Mode, Peer};
use ukai_core::plan::guard::{Findings, GUARDS, Proposal, Standing, examine};
use ukai_core::plan::{Origin, Selection};

use crate::world::*;

const PRIVATE: &str = "10.0.0.7";

/// Everything that the guards may look at, each part free to be changed.
struct Proposed {
    world: World,
    evidence: Evidence,
    peer: Peer,
    history: History,
    verdict: Verdict,
    selection: Selection,
    standing: Standing,
}

impl Proposed {
    /// The seed story, in which every guard passes.
    fn good() -> Proposed {
        Proposed::of(World::stale(), NEW)
    }

    fn of(world: World, address: &str) -> Proposed {
        let evidence = world.evidence(Purpose::Diagnose, &BTreeSet::new());
        let (peer, history) = (world.peer(), world.history.clone());
        let good = World::stale();
        let (good_peer, good_evidence) = (good.peer(), good.evidence(Purpose::Diagnose, &BTreeSet::new()));
        let case = case(&good.history, &good_peer, &good_evidence);
        let verdict = diagnose(&case);
        assert_eq!(verdict.code, Code::StaleResolver);
        let selection = Selection {
            addresses: set(&[address]),
            sources: ["ns-1.peer.example".to_owned()].into(),
            origin: Origin::Authority,
        };
        let standing =
            Standing { others: 0, changes_in_the_last_hour: 0, frozen: false, serves_dns: true, hides_types: false };
        Proposed { world, evidence, peer, history, verdict, selection, standing }
    }

    fn findings(&self) -> Findings {
        let case = case(&self.history, &self.peer, &self.evidence);
        let reading = Reading::of(&case);
        let (verdict, selection) = (&self.verdict, &self.selection);
        examine(&Proposal { reading: &reading, verdict, selection, standing: self.standing })
    }

    /// Names of the guards that refuse, and of those that ask for a person.
    fn held_by(&self) -> Vec<String> {
        let Findings { refusals, for_a_person } = self.findings();
        refusals.into_iter().chain(for_a_person).map(|word| word.guard).collect()
    }

    fn candidate(&mut self, address: &str) -> &mut Candidate {
        self.evidence.candidates.iter_mut().find(|candidate| candidate.address == ip(address)).unwrap()
    }

    fn needs_a_secret(mut self, answers: u16) -> Proposed {
        self.peer.needs_secret = true;
        self.history.unauthenticated = [(ENDPOINT.to_owned(), 401)].into();
        for proof in &mut self.candidate(NEW).proofs {
            proof.result.http.as_mut().unwrap().status = answers;
        }
        self
    }

    fn vantage(mut self, passes: bool) -> Proposed {
        let failure = Failure { stage: Stage::Connect, class: ErrorClass::Timeout, detail: "as staged".into() };
        let result = AddressResult { failure: (!passes).then_some(failure), ..AddressResult::untried(ip(NEW), 443) };
        self.evidence.vantages.push(VantageView {
            vantage: "osaka".into(),
            silence: None,
            resolved: set(&[NEW]),
            results: vec![Proof { endpoint: ENDPOINT.into(), result }],
        });
        self
    }
}

fn change(make: impl FnOnce(&mut Proposed)) -> Proposed {
    let mut proposed = Proposed::good();
    make(&mut proposed);
    proposed
}

fn steered(change: impl FnOnce(&mut Proposed)) -> Proposed {
    let mut world = World::stale();
    let two = [NEW, "192.0.101.2"];
    world.rotates = true;
    world.authority = servers(&two);
    world.independents = set(&two);
    world.hosts.insert(ip(two[1]), Host::Serves);
    let mut proposed = Proposed::of(world, NEW);
    proposed.selection.addresses = set(&two);
    change(&mut proposed);
    proposed
}

fn led_to(address: &str, host: Host) -> Proposed {
    let mut world = World::stale();
    world.authority = servers(&[address]);
    world.independents = set(&[address]);
    world.hosts.insert(ip(address), host);
    Proposed::of(world, address)
}

/// In a zone, with so many records of other types; `None`: nobody says.
fn others(proposed: &mut Proposed, records: Option<usize>) {
    proposed.standing.hides_types = true;
    let Some(records) = records else { return };
    let first = proposed.evidence.asked.iter().find(|asked| asked.source == Source::Authority).unwrap().clone();
    for (record_type, records) in [("MX", records), ("TXT", 0), ("CAA", 0)] {
        let mut asked = Asked { record_type: record_type.to_owned(), ..first.clone() };
        let Outcome::Answered(answer) = &mut asked.outcome else { panic!("{asked:?}") };
        (answer.addresses, answer.records) = (Vec::new(), records);
        proposed.evidence.asked.push(asked);
    }
}

fn fail_controls(proposed: &mut Proposed, count: usize) {
    for control in proposed.evidence.controls.iter_mut().take(count) {
        control.address_failure = Some("timed out".into());
    }
}

/// The guard, a harmful plan that it alone holds up, and a good one that looks like it.
fn cases() -> Vec<(&'static str, Proposed, Proposed)> {
    vec![
        ("frozen", change(|it| it.standing.frozen = true), Proposed::good()),
        ("provider", change(|it| it.standing.serves_dns = false), Proposed::good()),
        ("other_types", change(|it| others(it, Some(1))), change(|it| others(it, Some(0)))),
        ("other_types", change(|it| others(it, None)), Proposed::good()),
        ("limits", change(|it| it.standing.others = 3), change(|it| it.standing.others = 2)),
        (
            "limits",
            change(|it| it.standing.changes_in_the_last_hour = 6),
            change(|it| it.standing.changes_in_the_last_hour = 5),
        ),
        (
            "lease",
            change(|it| it.peer.lease = std::time::Duration::from_secs(86_401)),
            change(|it| it.peer.lease = std::time::Duration::from_secs(86_400)),
        ),
        (
            "diagnosis",
            change(|it| it.verdict.code = Code::PeerDown),
            change(|it| it.verdict.code = Code::StaleResolverTransient),
        ),
        (
            // It works again: what the plan goes around is not there any more.
            "current_answer_fails",
            change(|it| {
                it.world.hosts.insert(ip(OLD), Host::Serves);
                it.evidence.observations = vec![it.world.observation(ukai_core::observe::Path::Bypass)];
            }),
            Proposed::good(),
        ),
        ("local_fault", change(|it| fail_controls(it, 2)), change(|it| fail_controls(it, 1))),
        (
            "port_53",
            change(|it| it.evidence.canary = Canary::Intercepted("answered".into())),
            change(|it| it.evidence.canary = Canary::Clean),
        ),
        ("trusted_source", change(|it| it.selection.origin = Origin::Nobody), Proposed::good()),
        (
            "delegation",
            change(|it| it.history.delegation.as_mut().unwrap().parent_ns = ["ns-9.evil.example".to_owned()].into()),
            Proposed::good(),
        ),
        ("steered", steered(|it| it.peer.mode = Mode::Pin), steered(|_| ())),
        ("global_unicast", led_to(PRIVATE, Host::Serves), led_to("192.0.101.9", Host::Serves)),
        (
            // Its proofs were good, and one look shows the page of a registrar.
            "parking",
            change(|it| {
                let mut seen = it.world.observation(ukai_core::observe::Path::Bypass);
                it.world.hosts.insert(ip(NEW), Host::Parked);
                seen.results.push(it.world.result(ip(NEW)));
                it.evidence.observations = vec![seen];
            }),
            Proposed::good(),
        ),
        ("proof", change(|it| drop(it.candidate(NEW).proofs.pop())), Proposed::good()),
        ("vantages", Proposed::good().vantage(false), Proposed::good().vantage(true)),
        ("unauthenticated_answer", Proposed::good().needs_a_secret(200), Proposed::good().needs_a_secret(401)),
        ("verified_tls", change(|it| it.peer.verified_tls = false), change(|it| it.peer.verified_tls = true)),
        ("identity_continuity", led_to("192.0.101.9", Host::ThirdKey), led_to("192.0.100.9", Host::NewKey)),
    ]
}

#[test]
fn each_guard_alone_stops_harm_and_lets_good_plans_pass() {
    for (guard, harmful, good) in cases() {
        let mut held = harmful.held_by();
        // Without verified TLS there is nobody to be continuous with: that guard asks for a person besides.
        if guard == "verified_tls" {
            held.retain(|name| name != "identity_continuity");
        }
        assert_eq!(held, [guard], "the harmful one: {:#?}", harmful.findings());
        assert_eq!(good.held_by(), [""; 0], "the good one of {guard}: {:#?}", good.findings());
    }
}

#[test]
fn no_guard_is_left_out() {
    let tested: BTreeSet<&str> = cases().iter().map(|(guard, ..)| *guard).collect();
    let all: BTreeSet<&str> = GUARDS.iter().map(|guard| guard.name).collect();
    assert_eq!(tested, all);
}
