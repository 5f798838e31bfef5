//! Metric math: expressions over aligned series (User Guide, "Using metric math").
//!
//! Arithmetic, comparisons, AND and OR work on a scalar, a series, or an array of series. Of two series of which only one
//! has a point, the missing point counts as 0; where both have none, or a scalar meets no point, there is none. Division by
//! zero drops the point, and so does every result that is not a number. Functions over one series give a scalar, over an
//! array a series. The result of an alarm's expression must be one series, or a scalar made one (`TIME_SERIES` is implied:
//! our choice, CloudWatch refuses a scalar).
//!
//! Where the guide is silent, this is our choice: `MAX`, `MIN` and `SUM` over an array leave out missing points (a sum with
//! them as 0 is the same); `AVG` counts them as 0, as the guide says; a time at which no series has a point stays missing.
//! `REPEAT` and `LINEAR` fill only after, and between, points that were seen. `DIFF` and `RATE` look back to the last
//! point that exists. NOT is no CloudWatch operator and is refused; so are functions that are not in [`functions`].
//!
//! `ANOMALY_DETECTION_BAND` gives an array of two series, upper then lower; the bands come with the data, because they
//! are learnt from more history than an expression sees ([`super::band`]).

mod evaluate;
mod functions;
mod parse;
mod queries;
#[cfg(test)]
mod tests;

pub use evaluate::{BandOf, Context, Points, Value};
pub use queries::{QUERIES_MAX, Source, Validated, validate};

use functions::Function;

/// Bytes of an expression (API model, `MetricExpression`).
pub const EXPRESSION_MAX: usize = 2048;
/// Nesting that is followed; deeper ones are no human's.
pub const DEPTH_MAX: usize = 32;
/// Operands, operators and calls of one expression.
pub const ELEMENTS_MAX: usize = 500;

/// A parsed expression. It is written and compared as its text.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    text: String,
    root: Node,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Number(f64),
    Id(String),
    Negated(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    Array(Vec<Node>),
    /// All metrics of the request whose id contains the text.
    Metrics(String),
    Call(Function, Vec<Node>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Power,
    Equal,
    NotEqual,
    LessOrEqual,
    GreaterOrEqual,
    Less,
    Greater,
    And,
    Or,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MathError {
    #[error("the expression is longer than {EXPRESSION_MAX} bytes")]
    TooLong,
    #[error("the expression is nested deeper than {DEPTH_MAX}, at character {at}")]
    TooDeep { at: usize },
    #[error("the expression has more than {ELEMENTS_MAX} elements")]
    TooManyElements,
    #[error("at character {at} of the expression: {what}")]
    Syntax { at: usize, what: String },
    #[error(
        "the id {id:?} is invalid: it begins with a lower-case letter and holds letters, digits and underscores, at most 255"
    )]
    Id { id: String },
    #[error("the id {id:?} is given twice")]
    DuplicateId { id: String },
    #[error("the expression {of:?} refers to {id:?}, which is the id of nothing here")]
    UnknownId { of: String, id: String },
    #[error("the expression {of:?} refers to itself, through {through:?}")]
    Cycle { of: String, through: String },
    #[error("there are more than {QUERIES_MAX} metrics and expressions")]
    TooManyQueries,
    #[error("{what}")]
    Type { what: String },
}

impl Expression {
    pub fn parse(text: &str) -> Result<Expression, MathError> {
        Ok(Expression { text: text.to_owned(), root: parse::parse(text)? })
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Ids it names, in order; those that `METRICS()` finds are not among them.
    pub fn ids(&self) -> Vec<&str> {
        let mut ids = Vec::new();
        self.root.each(&mut |node| {
            if let Node::Id(id) = node {
                ids.push(id.as_str());
            }
        });
        ids
    }

    /// What ANOMALY_DETECTION_BAND is asked for: the id, and how many spreads wide.
    pub fn bands(&self) -> Vec<(&str, f64)> {
        let mut bands = Vec::new();
        self.root.each(&mut |node| {
            if let Node::Call(Function::AnomalyDetectionBand, arguments) = node
                && let Some(Node::Id(id)) = arguments.first()
            {
                bands.push((id.as_str(), functions::band_width(arguments)));
            }
        });
        bands
    }

    pub fn evaluate(&self, context: &Context<'_>) -> Result<Value, MathError> {
        evaluate::evaluate(&self.root, context)
    }
}

impl Node {
    fn each<'a>(&'a self, call: &mut impl FnMut(&'a Node)) {
        call(self);
        match self {
            Node::Negated(inner) => inner.each(call),
            Node::Binary(_, left, right) => {
                left.each(call);
                right.each(call);
            }
            Node::Array(inner) | Node::Call(_, inner) => inner.iter().for_each(|node| node.each(call)),
            Node::Number(_) | Node::Id(_) | Node::Metrics(_) => {}
        }
    }
}

/// Whether it may be the id of a query.
pub fn is_id(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    first && text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
