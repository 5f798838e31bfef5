//! The metrics and expressions of one request or alarm, which refer to one another by id.

use std::collections::BTreeMap;

use super::evaluate::{BandOf, Context, Points, Value};
use super::{Expression, MathError, is_id};

/// Queries of one request (`GetMetricData`); an alarm has its own, smaller limit.
pub const QUERIES_MAX: usize = 500;

/// Where a query's points come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Looked up.
    Metric,
    Expression(Expression),
}

/// Queries whose ids are known and whose references lead nowhere in a circle.
#[derive(Debug, Clone, PartialEq)]
pub struct Validated {
    queries: Vec<(String, Source)>,
    /// Places in `queries`, each after those it refers to.
    order: Vec<usize>,
    metrics: Vec<String>,
}

/// Checks ids, references and cycles, once; evaluating is then cheap.
pub fn validate(queries: Vec<(String, Source)>) -> Result<Validated, MathError> {
    if queries.len() > QUERIES_MAX {
        return Err(MathError::TooManyQueries);
    }
    let mut places = BTreeMap::new();
    for (place, (id, _)) in queries.iter().enumerate() {
        if !is_id(id) {
            return Err(MathError::Id { id: crate::metric::identity::shown(id) });
        }
        if places.insert(id.as_str(), place).is_some() {
            return Err(MathError::DuplicateId { id: id.clone() });
        }
    }
    let references = references(&queries, &places)?;
    let order = order(&queries, &references)?;
    let metrics = queries.iter().filter(|(_, source)| *source == Source::Metric).map(|(id, _)| id.clone()).collect();
    Ok(Validated { order, metrics, queries })
}

impl Validated {
    pub fn queries(&self) -> &[(String, Source)] {
        &self.queries
    }

    /// The points of each query. `lookup` gives the points of a metric, one for each period, oldest first; `band` the bounds
    /// of a metric. An expression that gives an array of series gives the points of its first series here.
    pub fn evaluate_all(
        &self,
        length: usize,
        period_s: i64,
        mut lookup: impl FnMut(&str) -> Points,
        band: Option<BandOf<'_>>,
    ) -> Result<BTreeMap<String, Points>, MathError> {
        let values = self.values(length, period_s, &mut lookup, band)?;
        let points = |value| match value {
            Value::Scalar(value) => vec![Some(value); length],
            Value::Series(points) => points,
            Value::Array(mut all) if !all.is_empty() => all.swap_remove(0),
            Value::Array(_) => vec![None; length],
        };
        Ok(values.into_iter().map(|(id, value)| (id, points(value))).collect())
    }

    /// As [`Validated::evaluate_all`], with scalars and arrays as they are (a band is an array: upper, lower).
    pub fn values(
        &self,
        length: usize,
        period_s: i64,
        lookup: &mut dyn FnMut(&str) -> Points,
        band: Option<BandOf<'_>>,
    ) -> Result<BTreeMap<String, Value>, MathError> {
        let mut values = BTreeMap::new();
        for place in &self.order {
            let (id, source) = &self.queries[*place];
            let value = match source {
                Source::Metric => {
                    let mut points = lookup(id);
                    points.resize(length, None);
                    Value::Series(points)
                }
                Source::Expression(expression) => {
                    let context = Context { values: &values, metrics: &self.metrics, length, period_s, band };
                    expression.evaluate(&context)?
                }
            };
            values.insert(id.clone(), value);
        }
        Ok(values)
    }
}

fn references(queries: &[(String, Source)], places: &BTreeMap<&str, usize>) -> Result<Vec<Vec<usize>>, MathError> {
    let of = |(id, source): &(String, Source)| match source {
        Source::Metric => Ok(Vec::new()),
        Source::Expression(expression) => expression
            .ids()
            .into_iter()
            .map(|named| {
                let unknown = || MathError::UnknownId { of: id.clone(), id: named.to_owned() };
                places.get(named).copied().ok_or_else(unknown)
            })
            .collect(),
    };
    queries.iter().map(of).collect()
}

/// Metrics first, because METRICS() may mean any of them; then, again and again, what refers only to what is placed.
fn order(queries: &[(String, Source)], references: &[Vec<usize>]) -> Result<Vec<usize>, MathError> {
    let is_metric = |place: &usize| queries[*place].1 == Source::Metric;
    let mut placed: Vec<bool> = (0..queries.len()).map(|place| is_metric(&place)).collect();
    let mut order: Vec<usize> = (0..queries.len()).filter(is_metric).collect();
    while order.len() < queries.len() {
        let ready: Vec<usize> = (0..queries.len())
            .filter(|place| !placed[*place] && references[*place].iter().all(|named| placed[*named]))
            .collect();
        if ready.is_empty() {
            return Err(circle(queries, references, &placed));
        }
        ready.iter().for_each(|place| placed[*place] = true);
        order.extend(ready);
    }
    Ok(order)
}

/// Follows references that are not placed until one comes again.
fn circle(queries: &[(String, Source)], references: &[Vec<usize>], placed: &[bool]) -> MathError {
    let mut path: Vec<usize> = placed.iter().position(|placed| !placed).into_iter().collect();
    while let Some(next) = path.last().and_then(|last| references[*last].iter().find(|named| !placed[**named])) {
        if path.contains(next) {
            let through = path.last().copied().unwrap_or(*next);
            return MathError::Cycle { of: queries[*next].0.clone(), through: queries[through].0.clone() };
        }
        path.push(*next);
    }
    MathError::Cycle { of: String::new(), through: String::new() }
}
