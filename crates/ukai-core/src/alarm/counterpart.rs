//! What an observed alarm would be in CloudWatch, which has nothing of its kind.
//!
//! It is the metric alarm that comes nearest: every period of ten seconds in which a probe of the peer failed breaches, and
//! three in a row are an alarm. That is slower than the burst which confirms here, and it is what an export writes and what
//! the messages of an observed alarm show as their `Trigger`, so that consumers of CloudWatch's messages take them.

use super::definition::{
    ComparisonOperator, EvaluationWindow, MetricAlarm, MetricStat, ObservedAlarm, Signal, Threshold, TreatMissingData,
    Watched,
};
use crate::metric::of_probe::{NAMESPACE, PROBE_SUCCESS};
use crate::metric::statistic::Statistic;
use crate::metric::{Dimensions, MetricId, Namespace};

pub const PEER: &str = "Peer";
/// The shortest period that CloudWatch evaluates.
const PERIOD_S: u32 = 10;
const PERIODS: u32 = 3;

/// None where no metric says what the alarm observes.
pub fn counterpart(observed: &ObservedAlarm) -> Option<MetricAlarm> {
    match observed.signal {
        Signal::Reachability | Signal::Outage => {}
        Signal::Application | Signal::Identity | Signal::Controls => return None,
    }
    let peer = observed.peer.iter().map(|peer| (PEER, peer.as_str()));
    let dimensions = Dimensions::new(peer).ok()?;
    Some(MetricAlarm {
        watched: Watched::Metric(MetricStat {
            metric: MetricId::new(&Namespace::new(NAMESPACE).ok()?, PROBE_SUCCESS, dimensions).ok()?,
            statistic: Statistic::Minimum,
            period_s: PERIOD_S,
            unit: None,
        }),
        evaluation_periods: PERIODS,
        datapoints_to_alarm: Some(PERIODS),
        comparison_operator: ComparisonOperator::LessThanThreshold,
        threshold: Threshold::Value(1.0),
        treat_missing_data: Some(TreatMissingData::Missing),
        low_samples: None,
        window: EvaluationWindow::default(),
    })
}
