//! The functions of metric math that are known here.

use super::evaluate::{Context, Points, Value};
use super::{MathError, Node};

/// Spreads on either side, if ANOMALY_DETECTION_BAND does not say.
const BAND_WIDTH: f64 = 2.0;

macro_rules! functions {
    ($($variant:ident = $name:literal, $least:literal to $most:literal;)+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Function {
            $($variant,)+
            /// What FILL fills with; words rather than calls.
            Repeat,
            Linear,
        }

        impl Function {
            pub(super) fn named(name: &str) -> Option<Function> {
                match name {
                    $($name => Some(Function::$variant),)+
                    _ => None,
                }
            }

            fn arguments(self) -> (&'static str, usize, usize) {
                match self {
                    $(Function::$variant => ($name, $least, $most),)+
                    Function::Repeat => ("REPEAT", 0, 0),
                    Function::Linear => ("LINEAR", 0, 0),
                }
            }
        }
    };
}

functions! {
    Abs = "ABS", 1 to 1;
    AnomalyDetectionBand = "ANOMALY_DETECTION_BAND", 1 to 2;
    Avg = "AVG", 1 to 1;
    Ceil = "CEIL", 1 to 1;
    DatapointCount = "DATAPOINT_COUNT", 1 to 1;
    Diff = "DIFF", 1 to 1;
    Fill = "FILL", 2 to 2;
    First = "FIRST", 1 to 1;
    Floor = "FLOOR", 1 to 1;
    If = "IF", 2 to 3;
    Last = "LAST", 1 to 1;
    Max = "MAX", 1 to 1;
    MetricCount = "METRIC_COUNT", 1 to 1;
    Min = "MIN", 1 to 1;
    Period = "PERIOD", 1 to 1;
    Rate = "RATE", 1 to 1;
    Sum = "SUM", 1 to 1;
    TimeSeries = "TIME_SERIES", 1 to 1;
}

impl Function {
    pub(super) fn constant(name: &str) -> Option<Function> {
        match name {
            "REPEAT" => Some(Function::Repeat),
            "LINEAR" => Some(Function::Linear),
            _ => None,
        }
    }

    /// What is wrong with the arguments as they are written.
    pub(super) fn check(self, arguments: &[Node]) -> Result<(), String> {
        let (name, least, most) = self.arguments();
        if arguments.len() < least || arguments.len() > most {
            let count = if least == most { least.to_string() } else { format!("{least} or {most}") };
            return Err(format!("{name} takes {count} arguments, not {}", arguments.len()));
        }
        let word = |node: &Node| matches!(node, Node::Call(Function::Repeat | Function::Linear, _));
        let fills_with_word = self == Function::Fill && arguments.get(1).is_some_and(word);
        if arguments.iter().filter(|node| word(node)).count() > usize::from(fills_with_word) {
            return Err("REPEAT and LINEAR are what FILL may fill with".to_owned());
        }
        if self == Function::AnomalyDetectionBand {
            let width = arguments.get(1).is_none_or(|width| matches!(width, Node::Number(width) if *width > 0.0));
            if !matches!(arguments[0], Node::Id(_)) || !width {
                return Err(format!("{name} takes an id and a number greater than 0"));
            }
        }
        Ok(())
    }

    pub(super) fn call(
        self,
        nodes: &[Node],
        mut arguments: Vec<Value>,
        context: &Context<'_>,
    ) -> Result<Value, MathError> {
        let wrong = |what: &str| Err(MathError::Type { what: format!("{} {what}", self.arguments().0) });
        let first = if arguments.is_empty() { Value::Scalar(0.0) } else { arguments.remove(0) };
        match (self, first) {
            (Function::Abs, value) => Ok(value.map(f64::abs)),
            (Function::Ceil, value) => Ok(value.map(f64::ceil)),
            (Function::Floor, value) => Ok(value.map(f64::floor)),
            (Function::Diff, value) => value.each_series(|points| steps(points, |change, _| change)),
            (Function::Rate, value) => {
                let period = context.period_s as f64;
                value.each_series(|points| steps(points, |change, apart| change / (apart as f64 * period)))
            }
            (Function::Avg | Function::Max | Function::Min | Function::Sum | Function::DatapointCount, value) => {
                self.reduce(value, context)
            }
            (Function::Period, Value::Series(_)) => Ok(Value::Scalar(context.period_s as f64)),
            (Function::TimeSeries, Value::Scalar(value)) => Ok(Value::Series(vec![Some(value); context.length])),
            (Function::MetricCount, Value::Array(all)) => Ok(Value::Scalar(all.len() as f64)),
            (Function::First, Value::Array(mut all)) if !all.is_empty() => Ok(Value::Series(all.remove(0))),
            (Function::Last, Value::Array(mut all)) => match all.pop() {
                Some(last) => Ok(Value::Series(last)),
                None => wrong("of no series"),
            },
            (Function::Fill, value) => fill(value, nodes.get(1), arguments.pop()),
            (Function::If, condition) => choose(condition, arguments, context),
            (Function::AnomalyDetectionBand, _) => band(nodes, context),
            (Function::Repeat | Function::Linear, _) => wrong("stands only in FILL"),
            (Function::Period | Function::TimeSeries, _) => wrong("takes another type of argument: see the guide"),
            (Function::MetricCount | Function::First | Function::Last, _) => wrong("takes an array of series"),
        }
    }

    /// Of a series a scalar, of an array a series.
    fn reduce(self, value: Value, context: &Context<'_>) -> Result<Value, MathError> {
        match value {
            Value::Scalar(_) => {
                Err(MathError::Type { what: format!("{} takes a series or an array of series", self.arguments().0) })
            }
            Value::Series(points) => {
                let found: Vec<f64> = points.iter().flatten().copied().collect();
                match self.of(&found, points.len()) {
                    Some(value) => Ok(Value::Scalar(value)),
                    // Nothing is known of no points: a series of none, rather than a number that is not one.
                    None => Ok(Value::Series(vec![None; context.length])),
                }
            }
            Value::Array(all) => {
                let at = |place: usize| {
                    let found: Vec<f64> =
                        all.iter().filter_map(|points| points.get(place).copied().flatten()).collect();
                    if found.is_empty() && self != Function::DatapointCount { None } else { self.of(&found, all.len()) }
                };
                Ok(Value::Series((0..context.length).map(at).collect()))
            }
        }
    }

    /// `all` counts those that are missing too.
    fn of(self, found: &[f64], all: usize) -> Option<f64> {
        let sum: f64 = found.iter().sum();
        let value = match self {
            Function::DatapointCount => Some(found.len() as f64),
            Function::Sum if found.is_empty() => None,
            Function::Sum => Some(sum),
            // Missing values count as 0 (User Guide).
            Function::Avg if found.is_empty() => None,
            Function::Avg => Some(sum / all as f64),
            Function::Max => found.iter().copied().reduce(f64::max),
            Function::Min => found.iter().copied().reduce(f64::min),
            _ => None,
        };
        value.filter(|value| value.is_finite())
    }
}

pub(super) fn band_width(arguments: &[Node]) -> f64 {
    match arguments.get(1) {
        Some(Node::Number(width)) => *width,
        _ => BAND_WIDTH,
    }
}

/// Upper, then lower.
fn band(nodes: &[Node], context: &Context<'_>) -> Result<Value, MathError> {
    let Some(Node::Id(id)) = nodes.first() else {
        return Err(MathError::Type { what: "ANOMALY_DETECTION_BAND takes an id".to_owned() });
    };
    let bands = context.band.and_then(|band| band(id, band_width(nodes)));
    let (lower, upper) = bands.unwrap_or_else(|| (vec![None; context.length], vec![None; context.length]));
    Ok(Value::Array(vec![upper, lower]))
}

/// From each point to the next that exists: how it changed, and over how many periods.
fn steps(points: &Points, step: impl Fn(f64, usize) -> f64) -> Points {
    let mut last: Option<(usize, f64)> = None;
    let one = |(place, point): (usize, &Option<f64>)| {
        let value = (*point)?;
        let (before, old) = last.replace((place, value))?;
        Some(step(value - old, place - before)).filter(|change| change.is_finite())
    };
    points.iter().enumerate().map(one).collect()
}

fn fill(value: Value, with: Option<&Node>, filler: Option<Value>) -> Result<Value, MathError> {
    match (with, filler) {
        (Some(Node::Call(Function::Repeat, _)), _) => value.each_series(|points| {
            let mut last = None;
            points
                .iter()
                .map(|point| {
                    last = point.or(last);
                    last
                })
                .collect()
        }),
        (Some(Node::Call(Function::Linear, _)), _) => value.each_series(linear),
        (_, Some(Value::Scalar(filler))) => {
            value.each_series(|points| points.iter().map(|point| point.or(Some(filler))).collect())
        }
        (_, Some(Value::Series(filler))) => value.each_series(|points| {
            points.iter().enumerate().map(|(place, point)| point.or(filler.get(place).copied().flatten())).collect()
        }),
        _ => Err(MathError::Type { what: "FILL fills with a number, a series, REPEAT or LINEAR".to_owned() }),
    }
}

fn linear(points: &Points) -> Points {
    let mut filled = points.clone();
    let known: Vec<(usize, f64)> =
        points.iter().enumerate().filter_map(|(place, point)| point.map(|value| (place, value))).collect();
    for pair in known.windows(2) {
        let ((from, low), (to, high)) = (pair[0], pair[1]);
        for (step, point) in filled[from + 1..to].iter_mut().enumerate() {
            let part = (step + 1) as f64 / (to - from) as f64;
            *point = Some(low + (high - low) * part).filter(|value| value.is_finite());
        }
    }
    filled
}

/// IF: a missing condition gives nothing; a true one whose value is missing gives 0 (User Guide).
fn choose(condition: Value, mut branches: Vec<Value>, context: &Context<'_>) -> Result<Value, MathError> {
    let otherwise = if branches.len() > 1 { branches.pop() } else { None };
    let then = branches.pop().unwrap_or(Value::Scalar(0.0));
    let array = |value: &Value| matches!(value, Value::Array(_));
    if array(&condition) || array(&then) || otherwise.as_ref().is_some_and(array) {
        return Err(MathError::Type { what: "IF takes series and numbers, not arrays of series".to_owned() });
    }
    if let Value::Scalar(condition) = condition {
        let nothing = Value::Series(vec![None; context.length]);
        return Ok(if condition != 0.0 { then } else { otherwise.unwrap_or(nothing) });
    }
    let at = |place: usize| {
        if condition.at(place)? == 0.0 {
            return otherwise.as_ref()?.at(place);
        }
        Some(then.at(place).unwrap_or(0.0))
    };
    Ok(Value::Series((0..context.length).map(at).collect()))
}
