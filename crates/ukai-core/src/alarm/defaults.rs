//! The alarms that a peer gets without asking for any.
//!
//! They page on a real outage within seconds and stay silent through noise. Each is an ordinary definition that can be
//! looked at, exported, muted and disabled; one that an operator puts under the same name takes its place.
//!
//! | alarm | judges | does |
//! | --- | --- | --- |
//! | `PEER/reachability` | a failed probe, confirmed by a burst | opens the incident: evidence, diagnosis |
//! | `PEER/outage` | not one probe was whole since, over a round | pages |
//! | `PEER/errors` | nothing answered in over 30 % of a minute's rounds, in 3 minutes of 5 | opens and pages |
//! | `PEER/latency` | p90 above a band learned from its own history, 4 minutes of 5 | tells |
//! | `PEER/certificate` | fewer than 14 days left | tells |
//! | `PEER/certificate-last-days` | fewer than 2 days left | opens and pages |
//! | `PEER/addresses` | an address that was never seen before | tells |
//! | `PEER/resolver` | our resolver gives nothing of what the peer's name servers agree on, for 15 minutes | tells |
//! | `ukai/controls` | nothing gets out, whatever the peer | pages, and keeps peers from paging |

use super::definition::{
    Actions, ComparisonOperator, Definition, EvaluationWindow, Kind, MetricAlarm, MetricDataQuery, MetricStat,
    ObservedAlarm, Signal, Source, Threshold, TreatMissingData, Watched,
};
use crate::metric::of_probe::{
    CERTIFICATE_DAYS_LEFT, NAMESPACE, NEW_ADDRESSES, PROBE_SUCCESS, RESOLVER_AGREEMENT, TOTAL_TIME,
};
use crate::metric::{Dimensions, MetricId, Namespace};

/// The alarm of the vantage itself.
pub const CONTROLS: &str = "ukai/controls";
/// Prefix of the actions that are ukai's own.
pub const OPEN_INCIDENT: &str = "ukai:incident:";
pub const PAGE: &str = "ukai:page:";
pub const INFORM: &str = "ukai:inform:";

/// One round of six may be lost to noise; two of them in three minutes of five are not noise: with 1 % of lost rounds that
/// happens once in about a million months.
const ERRORS_BELOW: f64 = 0.7;
/// Renewals are automatic at 30 days and repeated until it works; at 14 somebody should look, at 2 somebody must.
const CERTIFICATE_DAYS: f64 = 14.0;
const CERTIFICATE_LAST_DAYS: f64 = 2.0;
/// Width of the latency band in robust standard deviations: noise that is a bit heavier than normal stays inside.
const LATENCY_BAND: f64 = 8.0;

pub fn reachability(peer: &str) -> String {
    format!("{peer}/reachability")
}

pub fn outage(peer: &str) -> String {
    format!("{peer}/outage")
}

pub fn application(peer: &str) -> String {
    format!("{peer}/application")
}

pub fn identity(peer: &str) -> String {
    format!("{peer}/identity")
}

/// The alarm of the vantage: everything fails that has nothing to do with any peer.
pub fn of_vantage(vantage: &str) -> Definition {
    let description = "Nothing gets out: unrelated names and addresses fail too. Peers do not page meanwhile.";
    observed(CONTROLS.to_owned(), None, vantage, Signal::Controls, description, format!("{PAGE}*"))
}

/// Every alarm of a peer. What cannot be a metric (a peer whose name is not ASCII) has only the observed ones.
pub fn of_peer(peer: &str, vantage: &str) -> Vec<Definition> {
    let of = |name: String, signal, description: &str, action: &str| {
        observed(name, Some(peer), vantage, signal, description, format!("{action}{peer}"))
    };
    let mut all = vec![
        of(
            reachability(peer),
            Signal::Reachability,
            "A failed probe was confirmed by a burst of probes.",
            OPEN_INCIDENT,
        ),
        of(outage(peer), Signal::Outage, "No probe has been whole since reachability was lost.", PAGE),
        of(application(peer), Signal::Application, "The application's own calls fail.", OPEN_INCIDENT),
        of(identity(peer), Signal::Identity, "Somebody answers who never answered before.", OPEN_INCIDENT),
    ];
    let Ok(dimensions) = Dimensions::new([("Peer", peer), ("Vantage", vantage)]) else { return all };
    all.extend(of_metrics(peer, &dimensions));
    all
}

fn of_metrics(peer: &str, dimensions: &Dimensions) -> Vec<Definition> {
    let stat = |name: &str, statistic: &str, period_s: u32| {
        let metric = MetricId::new(&Namespace::new(NAMESPACE).ok()?, name, dimensions.clone()).ok()?;
        Some(MetricStat { metric, statistic: statistic.parse().ok()?, period_s, unit: None })
    };
    let alarm = |name: &str, description: &str, action: &str, metric: Option<MetricAlarm>| {
        Some(Definition {
            name: format!("{peer}/{name}"),
            description: Some(description.to_owned()),
            actions_enabled: true,
            actions: Actions { alarm: vec![format!("{action}{peer}")], ..Actions::default() },
            kind: Kind::Metric(metric?),
        })
    };
    let below = ComparisonOperator::LessThanThreshold;
    [
        alarm(
            "errors",
            "Nothing answered in over 30 % of the rounds of a minute, in 3 minutes of 5.",
            OPEN_INCIDENT,
            stat(PROBE_SUCCESS, "Average", 60).map(|stat| plain(stat, (3, 5), below, ERRORS_BELOW)),
        ),
        alarm(
            "latency",
            "Slower than its own history, in 4 minutes of 5.",
            INFORM,
            stat(TOTAL_TIME, "p90", 60).map(slow),
        ),
        alarm(
            "certificate",
            "The certificate ends in less than 14 days.",
            INFORM,
            stat(CERTIFICATE_DAYS_LEFT, "Minimum", 300).map(|stat| plain(stat, (3, 3), below, CERTIFICATE_DAYS)),
        ),
        alarm(
            "certificate-last-days",
            "The certificate ends in less than 2 days.",
            OPEN_INCIDENT,
            stat(CERTIFICATE_DAYS_LEFT, "Minimum", 300).map(|stat| plain(stat, (3, 3), below, CERTIFICATE_LAST_DAYS)),
        ),
        alarm(
            "addresses",
            "The name leads to an address that was never seen before.",
            INFORM,
            stat(NEW_ADDRESSES, "Maximum", 60)
                .map(|stat| plain(stat, (1, 1), ComparisonOperator::GreaterThanThreshold, 0.0)),
        ),
        alarm(
            "resolver",
            "Our resolver gives none of the addresses that the peer's name servers agree on.",
            INFORM,
            stat(RESOLVER_AGREEMENT, "Maximum", 300).map(|stat| plain(stat, (3, 3), below, 1.0)),
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn plain(stat: MetricStat, (m, n): (u32, u32), operator: ComparisonOperator, threshold: f64) -> MetricAlarm {
    MetricAlarm {
        watched: Watched::Metric(stat),
        evaluation_periods: n,
        datapoints_to_alarm: Some(m),
        comparison_operator: operator,
        threshold: Threshold::Value(threshold),
        treat_missing_data: Some(TreatMissingData::Ignore),
        low_samples: None,
        window: EvaluationWindow::default(),
    }
}

/// Above a band of its own history, as `ANOMALY_DETECTION_BAND` has it: the same definition works in CloudWatch.
fn slow(stat: MetricStat) -> MetricAlarm {
    let latency =
        MetricDataQuery { id: "latency".to_owned(), label: None, source: Source::Stat(stat), return_data: true };
    let band = MetricDataQuery {
        id: "band".to_owned(),
        label: None,
        source: Source::Expression(format!("ANOMALY_DETECTION_BAND(latency, {LATENCY_BAND})")),
        return_data: true,
    };
    MetricAlarm {
        watched: Watched::Math(vec![latency, band]),
        evaluation_periods: 5,
        datapoints_to_alarm: Some(4),
        comparison_operator: ComparisonOperator::GreaterThanUpperThreshold,
        threshold: Threshold::Band("band".to_owned()),
        treat_missing_data: Some(TreatMissingData::Ignore),
        low_samples: None,
        window: EvaluationWindow::default(),
    }
}

fn observed(
    name: String,
    peer: Option<&str>,
    vantage: &str,
    signal: Signal,
    description: &str,
    action: String,
) -> Definition {
    Definition {
        name,
        description: Some(description.to_owned()),
        actions_enabled: true,
        actions: Actions { alarm: vec![action], ..Actions::default() },
        kind: Kind::Observed(ObservedAlarm {
            signal,
            peer: peer.map(str::to_owned),
            vantage: Some(vantage.to_owned()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alarm::definition::wire::Wire;

    #[test]
    fn the_defaults_pass_every_documented_limit() {
        let all: Vec<Definition> = of_peer("api", "here").into_iter().chain([of_vantage("here")]).collect();
        assert_eq!(all.len(), 11);
        for definition in all {
            let wire = Wire::from(definition.clone());
            assert_eq!(Definition::try_from(wire).unwrap(), definition);
        }
    }

    #[test]
    fn a_peer_that_cannot_be_a_dimension_is_still_watched() {
        assert_eq!(of_peer("日本", "here").len(), 4);
    }
}
