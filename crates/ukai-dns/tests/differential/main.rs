//! The same questions to this server and to other resolvers, all of them forwarders of one upstream. Every kind of difference
//! stands in [`reviewed`] with its reason; any other fails.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod ask;
mod compare;
mod queries;
mod reviewed;
mod servers;
mod zone;

use std::collections::BTreeMap;

use compare::Difference;
use queries::Sent;
use servers::{Resolver, Upstream};

/// Of the questions; a failure prints what was asked.
const SEED: u64 = 0x0075_6b61_6900_0001;

#[test]
fn every_difference_from_other_resolvers_has_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let Some(upstream) = Upstream::start(dir.path()) else {
        return eprintln!("knotd is not installed: there is nothing to compare with");
    };
    let resolvers = Resolver::start_all(dir.path(), upstream.address);
    if resolvers.is_empty() {
        return eprintln!("no other resolver is installed: there is nothing to compare with");
    }
    let own = servers::Own::start(dir.path(), upstream.address);
    let sent = queries::generate(SEED);
    let (ours, theirs) = std::thread::scope(|scope| {
        let ours = scope.spawn(|| ask::all(own.address, &sent, false));
        let asked: Vec<_> = resolvers
            .iter()
            .map(|resolver| (resolver.name, scope.spawn(|| ask::all(resolver.address, &sent, true))))
            .collect();
        let theirs: Vec<_> = asked.into_iter().map(|(name, answers)| (name, answers.join().unwrap())).collect();
        (ours.join().unwrap(), theirs)
    });
    let mut found: BTreeMap<Difference, Vec<usize>> = BTreeMap::new();
    for (name, answers) in &theirs {
        for (index, (one, other)) in ours.iter().zip(answers).enumerate() {
            for difference in compare::differences(name, &sent[index], one.as_deref(), other.as_deref()) {
                found.entry(difference).or_default().push(index);
            }
        }
    }
    report(&found, &sent, theirs.len());
    let unexplained: Vec<_> = found.keys().filter(|difference| reviewed::reason(difference).is_none()).collect();
    for difference in unexplained.iter().take(20) {
        let index = found[difference][0];
        eprintln!("{difference}\n  asked: {}\n  ours: {}", hex(&sent[index].bytes), shown(ours[index].as_deref()));
        let theirs = theirs.iter().find(|(name, _)| *name == difference.resolver);
        eprintln!("  theirs: {}", shown(theirs.and_then(|(_, answers)| answers[index].as_deref())));
    }
    assert!(unexplained.is_empty(), "{} kinds of difference have no reason", unexplained.len());
}

fn report(found: &BTreeMap<Difference, Vec<usize>>, sent: &[Sent], resolvers: usize) {
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for sent in sent {
        *kinds.entry(sent.kind).or_default() += 1;
    }
    println!("{} questions to {resolvers} other resolvers: {kinds:?}", sent.len());
    for (difference, indices) in found {
        let reason = reviewed::reason(difference).unwrap_or("NOT EXPLAINED");
        println!("{:6} {difference} | {reason}", indices.len());
    }
}

fn shown(answer: Option<&[u8]>) -> String {
    answer.map_or_else(|| "none".to_owned(), hex)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
