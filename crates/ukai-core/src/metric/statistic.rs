//! Statistics: what turns the samples of a period into a datapoint (User Guide, "CloudWatch statistics definitions").
//!
//! Written as CloudWatch writes them: `p99`, `tm99`, `wm99`, `tc99`, `ts99` in lower case with one percentage;
//! `TM(10%:90%)`, `TM(150:1000)`, `TM(:95%)`, `TM(5%:)` in upper case with bounds; `PR(100:2000)` with values only; `IQM`.
//! Of bounds that are values the lower is exclusive and the upper inclusive, also when only one is given.
//!
//! CloudWatch publishes no interpolation. Our choice is the nearest rank, which is what its own words say ("p99 is the
//! maximum of the remaining 99 %"): pN is the smallest value with at least N % of the samples at or below it, so it always
//! is a value that was seen. Trimming n samples to a%:b% drops the ⌊a·n⌋ lowest and the ⌊(1-b)·n⌋ highest, and a winsorized
//! mean sets those to the lowest and highest value that is left. A range that holds no sample has the count 0, the sum 0
//! and the rank 0, and no mean.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::identity::shown;
use super::samples::Samples;

/// Decimals of a percentage.
const DECIMALS: usize = 10;
/// One per cent, in the unit of [`Percent`].
const ONE_PERCENT: u64 = 10_000_000_000;
/// Characters of a statistic's name; `TM(` and two numbers of 3 + 10 digits need 33.
const TEXT_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Statistic {
    SampleCount,
    Sum,
    Average,
    Minimum,
    Maximum,
    Percentile(Percent),
    TrimmedMean(Range),
    InterquartileMean,
    WinsorizedMean(Range),
    /// Always between values.
    PercentileRank(Range),
    TrimmedCount(Range),
    TrimmedSum(Range),
}

/// 0 to 100 with up to ten decimals, exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u64);

/// Which samples count. At least one bound is given, and the lower lies below the upper.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range {
    /// `tm99`, which means `TM(:99%)`.
    Below(Percent),
    Percents(Option<Percent>, Option<Percent>),
    Values(Option<f64>, Option<f64>),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{written:?} is not a statistic: {why} (such as Average, Sum, Minimum, Maximum, SampleCount, p99, tm99, TM(10%:90%), IQM, wm99, PR(:300), tc99, ts99)"
)]
pub struct StatisticError {
    written: String,
    why: &'static str,
}

impl Statistic {
    /// Whether CloudWatch asks for it as `ExtendedStatistic`.
    pub fn is_extended(&self) -> bool {
        use Statistic::{Average, Maximum, Minimum, SampleCount, Sum};
        !matches!(self, SampleCount | Sum | Average | Minimum | Maximum)
    }

    /// `EvaluateLowSampleCountPercentile`: fewer than 10/(1-p) samples for p in [0.5, 1), than 10/p below. Percentiles only.
    pub fn is_low_sample(&self, count: f64) -> bool {
        let Statistic::Percentile(Percent(p)) = *self else { return false };
        let whole = 100 * ONE_PERCENT;
        match p {
            0 => false,
            p if p >= whole => false,
            p => {
                let rarer = if p >= whole / 2 { whole - p } else { p };
                count * (rarer as f64) < 10.0 * whole as f64
            }
        }
    }
}

impl Samples {
    /// None where CloudWatch has no such statistic of these samples.
    pub fn statistic(&self, statistic: &Statistic) -> Option<f64> {
        match statistic {
            Statistic::SampleCount => Some(self.count()),
            Statistic::Sum => Some(self.sum()),
            Statistic::Average => Some(self.sum() / self.count()),
            Statistic::Minimum => Some(self.minimum()),
            Statistic::Maximum => Some(self.maximum()),
            extended => extended.of_values(&self.distribution()?),
        }
    }
}

impl Statistic {
    fn of_values(&self, values: &[(f64, f64)]) -> Option<f64> {
        let quartiles = Range::Percents(Some(Percent(25 * ONE_PERCENT)), Some(Percent(75 * ONE_PERCENT)));
        match self {
            Statistic::Percentile(p) => at_rank(values, p.rank_up(total(values))),
            Statistic::InterquartileMean => mean(trimmed(values, &quartiles)),
            Statistic::TrimmedMean(range) => mean(trimmed(values, range)),
            Statistic::TrimmedCount(range) => Some(trimmed(values, range).0),
            Statistic::TrimmedSum(range) => Some(trimmed(values, range).1),
            Statistic::WinsorizedMean(range) => winsorized(values, range),
            Statistic::PercentileRank(range) => Some(100.0 * trimmed(values, range).0 / total(values)),
            _ => None,
        }
    }
}

impl Percent {
    pub fn new(percent: f64) -> Option<Percent> {
        let scaled = (percent * ONE_PERCENT as f64).round();
        (0.0..=(100 * ONE_PERCENT) as f64).contains(&scaled).then_some(Percent(scaled as u64))
    }

    pub fn value(self) -> f64 {
        self.0 as f64 / ONE_PERCENT as f64
    }

    /// How many of `count` samples, rounded down.
    fn rank_down(self, count: f64) -> f64 {
        self.rank(count, 0).floor()
    }

    /// How many of `count` samples, rounded up.
    fn rank_up(self, count: f64) -> f64 {
        self.rank(count, 100 * u128::from(ONE_PERCENT) - 1).ceil()
    }

    /// Whole counts in integers: 0.07 × 100 must be 7, not a little more.
    fn rank(self, count: f64, round_by: u128) -> f64 {
        let whole = 100 * u128::from(ONE_PERCENT);
        if count.fract() == 0.0 && count < 9e15 {
            ((u128::from(self.0) * count as u128 + round_by) / whole) as f64
        } else {
            count * (self.0 as f64 / whole as f64)
        }
    }
}

fn total(values: &[(f64, f64)]) -> f64 {
    values.iter().map(|(_, count)| count).sum()
}

/// The value of the sample with this rank, from 1.
fn at_rank(values: &[(f64, f64)], rank: f64) -> Option<f64> {
    let mut seen = 0.0;
    let found = values.iter().find(|(_, count)| {
        seen += count;
        seen >= rank
    });
    found.or(values.last()).map(|(value, _)| *value)
}

/// Count and sum of the samples in the range.
fn trimmed(values: &[(f64, f64)], range: &Range) -> (f64, f64) {
    let (mut count, mut sum) = (0.0, 0.0);
    each_in(values, range, |value, weight| {
        count += weight;
        sum += value * weight;
    });
    (count, sum)
}

fn mean((count, sum): (f64, f64)) -> Option<f64> {
    (count > 0.0).then(|| sum / count).filter(|mean| mean.is_finite())
}

fn winsorized(values: &[(f64, f64)], range: &Range) -> Option<f64> {
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
    if let Range::Values(from, to) = range {
        (low, high) = (from.unwrap_or(low), to.unwrap_or(high));
    } else {
        let mut edges: Option<(f64, f64)> = None;
        each_in(values, range, |value, _| edges = Some((edges.map_or(value, |(first, _)| first), value)));
        (low, high) = edges?;
    }
    let sum: f64 = values.iter().map(|(value, count)| value.clamp(low, high) * count).sum();
    mean((total(values), sum))
}

/// Calls with each value in the range and how many of its samples are in it.
fn each_in(values: &[(f64, f64)], range: &Range, mut call: impl FnMut(f64, f64)) {
    let (from, to) = match *range {
        Range::Values(from, to) => {
            let inside = |value: f64| from.is_none_or(|from| value > from) && to.is_none_or(|to| value <= to);
            values.iter().filter(|(value, _)| inside(*value)).for_each(|(value, count)| call(*value, *count));
            return;
        }
        Range::Below(to) => (None, Some(to)),
        Range::Percents(from, to) => (from, to),
    };
    let all = total(values);
    let first = from.map_or(0.0, |from| from.rank_down(all));
    let last = to.map_or(all, |to| to.rank_up(all));
    let mut seen = 0.0;
    for (value, count) in values {
        let weight = f64::min(seen + count, last) - f64::max(seen, first);
        seen += count;
        if weight > 0.0 {
            call(*value, weight);
        }
    }
}

impl FromStr for Statistic {
    type Err = StatisticError;

    fn from_str(text: &str) -> Result<Statistic, StatisticError> {
        read(text).map_err(|why| StatisticError { written: shown(text), why })
    }
}

fn read(text: &str) -> Result<Statistic, &'static str> {
    if text.len() > TEXT_MAX {
        return Err("it is longer than 64 characters");
    }
    match text {
        "SampleCount" => return Ok(Statistic::SampleCount),
        "Sum" => return Ok(Statistic::Sum),
        "Average" => return Ok(Statistic::Average),
        "Minimum" => return Ok(Statistic::Minimum),
        "Maximum" => return Ok(Statistic::Maximum),
        "IQM" => return Ok(Statistic::InterquartileMean),
        _ => {}
    }
    if let Some((name, bounds)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let range = read_range(bounds)?;
        return match (name, range) {
            ("TM", _) => Ok(Statistic::TrimmedMean(range)),
            ("WM", _) => Ok(Statistic::WinsorizedMean(range)),
            ("TC", _) => Ok(Statistic::TrimmedCount(range)),
            ("TS", _) => Ok(Statistic::TrimmedSum(range)),
            ("PR", Range::Values(..)) => Ok(Statistic::PercentileRank(range)),
            ("PR", _) => Err("PR takes values, not percentages"),
            _ => Err("with bounds it is TM, WM, PR, TC or TS, in upper case"),
        };
    }
    let digits = text.find(|c: char| c.is_ascii_digit()).ok_or("there is no such name")?;
    let (name, number) = text.split_at(digits);
    let percent = read_percent(number)?;
    match name {
        "p" => Ok(Statistic::Percentile(percent)),
        "tm" => Ok(Statistic::TrimmedMean(Range::Below(percent))),
        "wm" => Ok(Statistic::WinsorizedMean(Range::Below(percent))),
        "tc" => Ok(Statistic::TrimmedCount(Range::Below(percent))),
        "ts" => Ok(Statistic::TrimmedSum(Range::Below(percent))),
        _ => Err("with one number it is p, tm, wm, tc or ts, in lower case"),
    }
}

fn read_range(text: &str) -> Result<Range, &'static str> {
    let (from, to) = text.split_once(':').ok_or("the two bounds have a colon between them")?;
    let percents = [from, to].iter().filter(|bound| bound.ends_with('%')).count();
    let given = [from, to].iter().filter(|bound| !bound.is_empty()).count();
    if given == 0 {
        return Err("one of the two bounds must be given");
    }
    if percents == 0 {
        let bound = |text: &str| if text.is_empty() { Ok(None) } else { read_number(text).map(Some) };
        let (from, to) = (bound(from)?, bound(to)?);
        if let (Some(from), Some(to)) = (from, to)
            && from >= to
        {
            return Err("the lower bound must be less than the upper");
        }
        return Ok(Range::Values(from, to));
    }
    if percents != given {
        return Err("either both bounds are percentages or none is");
    }
    let bound = |text: &str| text.strip_suffix('%').map(read_percent).transpose();
    let (from, to) = (bound(from)?, bound(to)?);
    if let (Some(from), Some(to)) = (from, to)
        && from >= to
    {
        return Err("the lower bound must be less than the upper");
    }
    Ok(Range::Percents(from, to))
}

fn read_number(text: &str) -> Result<f64, &'static str> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(decimals) || text.ends_with('.') {
        return Err("a bound is a number such as 95 or 0.005");
    }
    if decimals.len() > DECIMALS {
        return Err("a number has at most 10 decimals");
    }
    text.parse().map_err(|_| "a bound is a number such as 95 or 0.005")
}

fn read_percent(text: &str) -> Result<Percent, &'static str> {
    read_number(text)?;
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let scaled = format!("{whole}{decimals:0<DECIMALS$}").parse::<u64>().ok();
    scaled.filter(|scaled| *scaled <= 100 * ONE_PERCENT).map(Percent).ok_or("a percentage is 0 to 100")
}

impl fmt::Display for Percent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:010}", self.0 / ONE_PERCENT, self.0 % ONE_PERCENT);
        out.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl fmt::Display for Statistic {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statistic::SampleCount => out.write_str("SampleCount"),
            Statistic::Sum => out.write_str("Sum"),
            Statistic::Average => out.write_str("Average"),
            Statistic::Minimum => out.write_str("Minimum"),
            Statistic::Maximum => out.write_str("Maximum"),
            Statistic::InterquartileMean => out.write_str("IQM"),
            Statistic::Percentile(percent) => write!(out, "p{percent}"),
            Statistic::TrimmedMean(range) => write_range(out, "tm", "TM", range),
            Statistic::WinsorizedMean(range) => write_range(out, "wm", "WM", range),
            Statistic::TrimmedCount(range) => write_range(out, "tc", "TC", range),
            Statistic::TrimmedSum(range) => write_range(out, "ts", "TS", range),
            Statistic::PercentileRank(range) => write_range(out, "pr", "PR", range),
        }
    }
}

fn write_range(out: &mut fmt::Formatter<'_>, lower: &str, upper: &str, range: &Range) -> fmt::Result {
    let shown = |bound: Option<String>| bound.unwrap_or_default();
    let (from, to) = match range {
        Range::Below(percent) => return write!(out, "{lower}{percent}"),
        Range::Percents(from, to) => (from.map(|p| format!("{p}%")), to.map(|p| format!("{p}%"))),
        Range::Values(from, to) => (from.map(|v| v.to_string()), to.map(|v| v.to_string())),
    };
    write!(out, "{upper}({}:{})", shown(from), shown(to))
}

impl TryFrom<String> for Statistic {
    type Error = StatisticError;

    fn try_from(text: String) -> Result<Statistic, StatisticError> {
        text.parse()
    }
}

impl From<Statistic> for String {
    fn from(statistic: Statistic) -> String {
        statistic.to_string()
    }
}

#[cfg(test)]
mod tests;
