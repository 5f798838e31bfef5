//! What clients elsewhere are told: the same questions again, on behalf of a network that is not ours (RFC 7871). With it, a name
//! that is steered by where the client is can be told from one that somebody lies about.
//!
//! Only the configured networks are ever named, never ours: a plain question carries no client subnet at all. What they
//! lead to is proved as any other candidate, and no rule takes it for an answer to us.

use ipnet::IpNet;
use ukai_core::diagnose::evidence::{Asked, Outcome, Rcode, Source};
use ukai_dns::{RecordType, Upstream};

use super::candidates::Found;
use super::question::{Asker, Twist, Whom};
use super::subject::join_all;
use super::{FAMILIES, ask_one};

/// Each independent resolver, for us and for clients elsewhere; with validation off, where validation may be what fails.
pub async fn ask_independents(asker: &Asker, resolvers: &[Upstream], subnets: &[IpNet], found: &Found) -> Vec<Asked> {
    let servers: Vec<Whom> = resolvers.iter().map(|upstream| Whom::resolver(Source::Independent, upstream)).collect();
    let questions = servers.iter().flat_map(|whom| FAMILIES.map(|family| (whom, family)));
    let asked = join_all(questions.map(async |(whom, family)| {
        let plain = ask_one(asker, whom, family, Some(found)).await;
        let mut asked = match is_servfail(&plain) {
            true => vec![ask_unchecked(asker, whom, family).await],
            false => on_behalf(asker, whom, &plain, family, subnets).await,
        };
        asked.iter().filter(|asked| asked.subnet.is_some()).for_each(|asked| found.report(asked));
        asked.insert(0, plain);
        asked
    }))
    .await;
    asked.into_iter().flatten().collect()
}

/// The question of `plain` again, once for each subnet, where another answer can be hoped for.
pub async fn on_behalf(
    asker: &Asker,
    whom: &Whom,
    plain: &Asked,
    record_type: RecordType,
    subnets: &[IpNet],
) -> Vec<Asked> {
    if !is_worth_asking_for_others(plain) {
        return Vec::new();
    }
    let twists = subnets.iter().map(|subnet| Twist { subnet: Some(*subnet), ..Twist::default() });
    join_all(twists.map(|twist| asker.ask_with(whom, record_type, twist))).await
}

/// Who did not answer us will not answer for others. A family that a name lacks here, it lacks everywhere; A is asked for
/// all the same, so that a name that is withheld from us shows.
fn is_worth_asking_for_others(plain: &Asked) -> bool {
    let Some(answer) = plain.answer() else { return false };
    let has_an_answer = matches!(answer.rcode, Rcode::Noerror | Rcode::Nxdomain);
    has_an_answer && (!answer.addresses.is_empty() || plain.record_type == "A")
}

/// Not reported as candidates: an address that fails validation is nobody's word.
pub async fn ask_unchecked(asker: &Asker, whom: &Whom, record_type: RecordType) -> Asked {
    asker.ask_with(whom, record_type, Twist { checking_disabled: true, ..Twist::default() }).await
}

pub fn is_servfail(asked: &Asked) -> bool {
    matches!(&asked.outcome, Outcome::Answered(answer) if answer.rcode == Rcode::Servfail)
}
