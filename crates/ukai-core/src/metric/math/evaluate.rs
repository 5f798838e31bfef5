//! Evaluation over aligned series: all have one point (or none) for each of the same periods, oldest first.

use std::collections::BTreeMap;

use super::{MathError, Node, Operator};

/// One series.
pub type Points = Vec<Option<f64>>;

/// Lower and upper bound of a metric's band, this many spreads wide; none if too little is known of it.
pub type BandOf<'a> = &'a dyn Fn(&str, f64) -> Option<(Points, Points)>;

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Scalar(f64),
    Series(Points),
    Array(Vec<Points>),
}

/// What an expression is evaluated over.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Series of metrics and of expressions that are evaluated already.
    pub values: &'a BTreeMap<String, Value>,
    /// Ids of metrics, in the order of the request: what `METRICS()` means.
    pub metrics: &'a [String],
    pub length: usize,
    pub period_s: i64,
    pub band: Option<BandOf<'a>>,
}

pub(super) fn evaluate(node: &Node, context: &Context<'_>) -> Result<Value, MathError> {
    match node {
        Node::Number(number) => Ok(Value::Scalar(*number)),
        Node::Id(id) => context.value(id),
        Node::Negated(inner) => Ok(evaluate(inner, context)?.map(|value| -value)),
        Node::Binary(operator, left, right) => {
            combine(*operator, evaluate(left, context)?, evaluate(right, context)?, context.length)
        }
        Node::Array(inner) => {
            let mut all = Vec::new();
            for node in inner {
                match evaluate(node, context)? {
                    Value::Scalar(_) => {
                        return Err(MathError::Type { what: "an array holds series, not numbers".to_owned() });
                    }
                    Value::Series(points) => all.push(points),
                    Value::Array(more) => all.extend(more),
                }
            }
            Ok(Value::Array(all))
        }
        Node::Metrics(part) => {
            let ids = context.metrics.iter().filter(|id| id.contains(part.as_str()));
            let series = ids.map(|id| match context.value(id)? {
                Value::Series(points) => Ok(points),
                _ => Err(MathError::Type { what: format!("the metric {id:?} is not one series") }),
            });
            Ok(Value::Array(series.collect::<Result<_, _>>()?))
        }
        Node::Call(function, nodes) => {
            let arguments = nodes.iter().map(|node| match node {
                // The word that FILL fills with.
                Node::Call(_, none) if none.is_empty() => Ok(Value::Scalar(0.0)),
                node => evaluate(node, context),
            });
            function.call(nodes, arguments.collect::<Result<_, _>>()?, context)
        }
    }
}

impl Context<'_> {
    fn value(&self, id: &str) -> Result<Value, MathError> {
        let unknown = || MathError::UnknownId { of: "this".to_owned(), id: id.to_owned() };
        self.values.get(id).cloned().ok_or_else(unknown)
    }
}

impl Value {
    pub(super) fn at(&self, place: usize) -> Option<f64> {
        match self {
            Value::Scalar(value) => Some(*value),
            Value::Series(points) => points.get(place).copied().flatten(),
            Value::Array(_) => None,
        }
    }

    pub(super) fn map(self, change: impl Fn(f64) -> f64) -> Value {
        let points = |points: Points| points.into_iter().map(|point| point.map(&change)).collect();
        match self {
            Value::Scalar(value) => Value::Scalar(change(value)),
            Value::Series(series) => Value::Series(points(series)),
            Value::Array(all) => Value::Array(all.into_iter().map(points).collect()),
        }
    }

    pub(super) fn each_series(self, change: impl Fn(&Points) -> Points) -> Result<Value, MathError> {
        match self {
            Value::Scalar(_) => {
                Err(MathError::Type { what: "FILL, DIFF and RATE take series, not a number".to_owned() })
            }
            Value::Series(points) => Ok(Value::Series(change(&points))),
            Value::Array(all) => Ok(Value::Array(all.iter().map(change).collect())),
        }
    }
}

fn combine(operator: Operator, left: Value, right: Value, length: usize) -> Result<Value, MathError> {
    match (left, right) {
        (Value::Scalar(left), Value::Scalar(right)) => match operator.of(left, right) {
            Some(value) => Ok(Value::Scalar(value)),
            // 1/0 as a whole is known nowhere.
            None => Ok(Value::Series(vec![None; length])),
        },
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            Ok(Value::Array(left.iter().zip(&right).map(|(left, right)| series(operator, left, right)).collect()))
        }
        (Value::Array(_), Value::Array(_)) => {
            Err(MathError::Type { what: "two arrays of series must have equally many".to_owned() })
        }
        (Value::Array(all), other) => all
            .into_iter()
            .map(|points| single(combine(operator, Value::Series(points), other.clone(), length)?))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        (other, Value::Array(all)) => all
            .into_iter()
            .map(|points| single(combine(operator, other.clone(), Value::Series(points), length)?))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        (Value::Series(left), Value::Series(right)) => Ok(Value::Series(series(operator, &left, &right))),
        (Value::Series(left), Value::Scalar(right)) => {
            Ok(Value::Series(left.iter().map(|left| operator.of((*left)?, right)).collect()))
        }
        (Value::Scalar(left), Value::Series(right)) => {
            Ok(Value::Series(right.iter().map(|right| operator.of(left, (*right)?)).collect()))
        }
    }
}

fn single(value: Value) -> Result<Points, MathError> {
    match value {
        Value::Series(points) => Ok(points),
        _ => Err(MathError::Type { what: "an array holds series".to_owned() }),
    }
}

/// A point that only one has meets 0 (User Guide, "Basic arithmetic functions").
fn series(operator: Operator, left: &Points, right: &Points) -> Points {
    left.iter()
        .zip(right)
        .map(|(left, right)| match (left, right) {
            (None, None) => None,
            (left, right) => operator.of(left.unwrap_or(0.0), right.unwrap_or(0.0)),
        })
        .collect()
}

impl Operator {
    /// None where there is no such number: division by zero, and beyond what a double holds.
    fn of(self, left: f64, right: f64) -> Option<f64> {
        let truth = |is: bool| if is { 1.0 } else { 0.0 };
        let value = match self {
            Operator::Add => left + right,
            Operator::Subtract => left - right,
            Operator::Multiply => left * right,
            Operator::Divide => left / right,
            Operator::Power => left.powf(right),
            Operator::Equal => truth(left == right),
            Operator::NotEqual => truth(left != right),
            Operator::LessOrEqual => truth(left <= right),
            Operator::GreaterOrEqual => truth(left >= right),
            Operator::Less => truth(left < right),
            Operator::Greater => truth(left > right),
            Operator::And => truth(left != 0.0 && right != 0.0),
            Operator::Or => truth(left != 0.0 || right != 0.0),
        };
        value.is_finite().then_some(value)
    }
}
