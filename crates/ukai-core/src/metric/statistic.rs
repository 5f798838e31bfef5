//! STUB, replaced by the real one.
use std::fmt;
use std::str::FromStr;

#[derive(Debug, Clone, PartialEq)]
pub enum Statistic {
    SampleCount,
    Sum,
    Average,
    Minimum,
    Maximum,
    Other(String),
}

impl Statistic {
    pub fn is_low_sample(&self, _count: f64) -> bool {
        false
    }
}

impl FromStr for Statistic {
    type Err = String;
    fn from_str(text: &str) -> Result<Statistic, String> {
        Ok(match text {
            "SampleCount" => Statistic::SampleCount,
            "Sum" => Statistic::Sum,
            "Average" => Statistic::Average,
            "Minimum" => Statistic::Minimum,
            "Maximum" => Statistic::Maximum,
            other => Statistic::Other(other.to_owned()),
        })
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statistic::Other(text) => out.write_str(text),
            plain => write!(out, "{plain:?}"),
        }
    }
}
