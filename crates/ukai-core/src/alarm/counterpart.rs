//! What an observed alarm would be in CloudWatch, which has nothing of its kind.
//!
//! *Reachability* is the metric alarm that comes nearest: every period of ten seconds in which a probe of the peer failed
//! breaches, and three in a row are an alarm. *Controls* is one on the controls' own metric. *Outage* is a composite over
//! reachability whose actions the controls suppress, so that peers do not page there either while nothing gets out. An
//! export writes these, and the messages of an observed alarm show the metric as their `Trigger`, so that consumers of
//! CloudWatch's messages take them.

use super::composite::AlarmRef;
use super::defaults::{CONTROLS, reachability};
use super::definition::{
    ComparisonOperator, CompositeAlarm, EvaluationWindow, Kind, MetricAlarm, MetricStat, ObservedAlarm, Signal,
    Threshold, TreatMissingData, Watched,
};
use super::suppress::Suppressor;
use crate::metric::of_probe::{CONTROL_SUCCESS, NAMESPACE, PROBE_SUCCESS};
use crate::metric::statistic::Statistic;
use crate::metric::{Dimensions, MetricId, Namespace};

/// The shortest period that CloudWatch evaluates.
const PERIOD_S: u32 = 10;
const PERIODS: u32 = 3;
/// The controls are tried every minute.
const CONTROLS_PERIOD_S: u32 = 60;
const CONTROLS_PERIODS: u32 = 2;
/// What AWS suggests for both periods of a suppressor.
const SUPPRESSOR_PERIOD_S: i64 = 60;

/// None where nothing in CloudWatch says what the alarm observes.
pub fn kind(observed: &ObservedAlarm) -> Option<Kind> {
    match observed.signal {
        Signal::Outage => outage(observed).map(Kind::Composite),
        Signal::Reachability | Signal::Controls => counterpart(observed).map(Kind::Metric),
        Signal::Application | Signal::Identity => None,
    }
}

/// The metric that comes nearest to what is observed.
pub fn counterpart(observed: &ObservedAlarm) -> Option<MetricAlarm> {
    let (name, period_s, periods, statistic, threshold) = match observed.signal {
        Signal::Reachability | Signal::Outage => (PROBE_SUCCESS, PERIOD_S, PERIODS, Statistic::Minimum, 1.0),
        // Not one of them passed at any time of the period.
        Signal::Controls => (CONTROL_SUCCESS, CONTROLS_PERIOD_S, CONTROLS_PERIODS, Statistic::Maximum, 0.01),
        Signal::Application | Signal::Identity => return None,
    };
    let peer = observed.peer.iter().map(|peer| ("Peer", peer.as_str()));
    let vantage = observed.vantage.iter().map(|vantage| ("Vantage", vantage.as_str()));
    let dimensions = Dimensions::new(peer.chain(vantage)).ok()?;
    Some(MetricAlarm {
        watched: Watched::Metric(MetricStat {
            metric: MetricId::new(&Namespace::new(NAMESPACE).ok()?, name, dimensions).ok()?,
            statistic,
            period_s,
            unit: None,
        }),
        evaluation_periods: periods,
        datapoints_to_alarm: Some(periods),
        comparison_operator: ComparisonOperator::LessThanThreshold,
        threshold: Threshold::Value(threshold),
        treat_missing_data: Some(TreatMissingData::Missing),
        low_samples: None,
        window: EvaluationWindow::default(),
    })
}

fn outage(observed: &ObservedAlarm) -> Option<CompositeAlarm> {
    let child = AlarmRef::new(&reachability(observed.peer.as_deref()?)).ok()?;
    let period = Some(SUPPRESSOR_PERIOD_S);
    let suppressor = Suppressor::new(Some(CONTROLS), period, period).ok()?;
    Some(CompositeAlarm { rule: format!("ALARM({child})"), suppressor })
}
