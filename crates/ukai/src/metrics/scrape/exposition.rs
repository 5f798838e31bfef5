//! The text of an exporter: Prometheus' text format 0.0.4 and OpenMetrics 1.0.
//!
//! Both are lines of `name{label="value"} value [time]` with comments that say what a family is. They differ in what we
//! need only in the unit of the time (milliseconds, seconds) and in that a counter's family has no `_total`. A line that
//! is wrong is told and left out; Prometheus itself would drop the whole scrape, which is not our choice. Exemplars are
//! passed over, and quoted names (a later proposal, sent only when it is asked for) are wrong lines.

use std::collections::BTreeMap;

use jiff::Timestamp;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text,
    OpenMetrics,
}

/// What a sample is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// As it is.
    Gauge,
    /// Grows until its process starts again.
    Counter,
    /// A cumulative bucket of a histogram; its `le` is still among the labels.
    Bucket,
    /// When something was created: no value of the application's.
    Created,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Sample<'a> {
    pub name: &'a str,
    pub family: &'a str,
    pub role: Role,
    /// As an OpenMetrics exporter declares it.
    pub unit: Option<&'a str>,
    pub labels: Vec<(&'a str, String)>,
    pub value: f64,
    pub at: Option<Timestamp>,
}

const SUFFIXES: [&str; 5] = ["_total", "_bucket", "_count", "_sum", "_created"];

/// Hands over each sample; of a line that is wrong, its number (from 1) and why.
pub fn parse<'a>(text: &'a str, format: Format, mut take: impl FnMut(usize, Result<Sample<'a>, &'static str>)) {
    let mut families = Families::default();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_matches([' ', '\t', '\r']);
        if let Some(comment) = line.strip_prefix('#') {
            if !families.learn(comment) {
                return;
            }
        } else if !line.is_empty() {
            take(index + 1, sample(line, format, &families));
        }
    }
}

#[derive(Default)]
struct Families<'a> {
    kinds: BTreeMap<&'a str, &'a str>,
    units: BTreeMap<&'a str, &'a str>,
}

impl<'a> Families<'a> {
    /// False: the text ends here.
    fn learn(&mut self, comment: &'a str) -> bool {
        let mut words = comment.split_ascii_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("TYPE"), Some(family), Some(kind)) => {
                self.kinds.insert(family, kind);
            }
            (Some("UNIT"), Some(family), Some(unit)) => {
                self.units.insert(family, unit);
            }
            (Some("EOF"), None, None) => return false,
            _ => {}
        }
        true
    }

    /// A sample's family and role.
    fn of(&self, name: &'a str) -> (&'a str, Role) {
        if let Some(kind) = self.kinds.get(name) {
            return (name, if *kind == "counter" { Role::Counter } else { Role::Gauge });
        }
        let split = SUFFIXES.iter().find_map(|suffix| Some((name.strip_suffix(suffix)?, *suffix)));
        let known = split.and_then(|(family, suffix)| Some((family, suffix, *self.kinds.get(family)?)));
        let Some((family, suffix, kind)) = known else { return (name, Role::Gauge) };
        let role = match (kind, suffix) {
            ("counter", "_total") | ("histogram" | "summary", "_count" | "_sum") => Role::Counter,
            ("histogram", "_bucket") => Role::Bucket,
            ("counter" | "histogram" | "summary", "_created") => Role::Created,
            _ => return (name, Role::Gauge),
        };
        (family, role)
    }
}

fn sample<'a>(line: &'a str, format: Format, families: &Families<'a>) -> Result<Sample<'a>, &'static str> {
    let end = line.find(['{', ' ', '\t']).ok_or("a sample needs a name and a value")?;
    let (name, rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err("the name is not made of letters, digits, _ and :");
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split_ascii_whitespace();
    let value = words.next().and_then(|word| word.parse::<f64>().ok()).ok_or("the value is not a number")?;
    let at = match words.next() {
        None => None,
        Some("#") if format == Format::OpenMetrics => None,
        Some(word) => Some(time(word, format).ok_or("the time is not a number, or is out of range")?),
    };
    let (family, role) = families.of(name);
    Ok(Sample { name, family, role, unit: families.units.get(family).copied(), labels, value, at })
}

type Labels<'a> = Vec<(&'a str, String)>;

/// After the opening brace.
fn labels(mut rest: &str) -> Result<(Labels<'_>, &str), &'static str> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((labels, rest));
        }
        let (name, after) = rest.split_once('=').ok_or("a label has no value, or the braces are not closed")?;
        let name = name.trim_matches([' ', '\t']);
        if !is_name(name, false) {
            return Err("a label's name is not made of letters, digits and _");
        }
        let after = after.trim_start_matches([' ', '\t']).strip_prefix('"').ok_or("a label's value is not quoted")?;
        let (value, after) = quoted(after)?;
        labels.push((name, value));
        rest = after;
    }
}

fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped)) => value.push(escaped),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err("a label's value is not closed")
}

fn is_name(text: &str, colons: bool) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || (colons && byte == b':');
    text.bytes().all(fits) && text.bytes().next().is_some_and(|first| !first.is_ascii_digit())
}

fn time(word: &str, format: Format) -> Option<Timestamp> {
    let number: f64 = word.parse().ok()?;
    let ms = match format {
        Format::Text => number,
        Format::OpenMetrics => number * 1000.0,
    };
    // Beyond this is no time of ours; NaN is not below it.
    (ms.abs() < 1e15).then(|| Timestamp::from_millisecond(ms.round() as i64).ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Read<'a> = Vec<(usize, Result<Sample<'a>, &'static str>)>;

    fn read(text: &str, format: Format) -> Read<'_> {
        let mut all = Vec::new();
        parse(text, format, |line, sample| all.push((line, sample)));
        all
    }

    #[test]
    fn the_text_format() {
        let text = "# HELP http_requests_total The total.\n# TYPE http_requests_total counter\n\
            http_requests_total{method=\"post\",code=\"200\"} 1027 1395066363000\n\
            http_requests_total{method=\"a\\\\b\\\"c\\nd\", } 3\n\n# a comment\nmetric_without_timestamp 12.47\n\
            # TYPE rpc summary\nrpc{quantile=\"0.5\"} 4773\nrpc_sum 1.7560473e+07\nrpc_count 2693\n\
            # TYPE h histogram\nh_bucket{le=\"+Inf\"} 3\nh_created 5\nweird{problem=\"x\"} +Inf -3982045\n";
        let read: Vec<Sample<'_>> = read(text, Format::Text).into_iter().map(|(_, sample)| sample.unwrap()).collect();
        let roles: Vec<(&str, Role)> = read.iter().map(|sample| (sample.name, sample.role)).collect();
        assert_eq!(
            roles,
            [
                ("http_requests_total", Role::Counter),
                ("http_requests_total", Role::Counter),
                ("metric_without_timestamp", Role::Gauge),
                ("rpc", Role::Gauge),
                ("rpc_sum", Role::Counter),
                ("rpc_count", Role::Counter),
                ("h_bucket", Role::Bucket),
                ("h_created", Role::Created),
                ("weird", Role::Gauge),
            ]
        );
        assert_eq!(read[0].labels, [("method", "post".to_owned()), ("code", "200".to_owned())]);
        assert_eq!(read[0].at, Timestamp::from_millisecond(1_395_066_363_000).ok());
        assert_eq!(read[1].labels[0].1, "a\\b\"c\nd");
        assert_eq!((read[5].family, read[6].family, read[8].value), ("rpc", "h", f64::INFINITY));
    }

    #[test]
    fn open_metrics() {
        let text = "# TYPE foo_seconds counter\n# UNIT foo_seconds seconds\n\
            foo_seconds_total{a=\"b\"} 17.0 1520879607.789 # {trace_id=\"x\"} 1.0 1520879607.7\n\
            foo_seconds_created 1520872607.1\nbar_total 2 # {x=\"y\"} 1\n# EOF\nafter 1\n";
        let read: Vec<Sample<'_>> =
            read(text, Format::OpenMetrics).into_iter().map(|(_, sample)| sample.unwrap()).collect();
        assert_eq!(read.len(), 3);
        assert_eq!((read[0].role, read[0].family, read[0].unit), (Role::Counter, "foo_seconds", Some("seconds")));
        assert_eq!(read[0].at, Timestamp::from_millisecond(1_520_879_607_789).ok());
        assert_eq!((read[1].role, read[2].role, read[2].at), (Role::Created, Role::Gauge, None));
    }

    #[test]
    fn a_wrong_line_spoils_no_other() {
        let text = "good 1\nnovalue\nbad{a=\"b} 1\nbad{a=b} 1\nbad{0=\"b\"} 1\nbad x\n0bad 1\nbad{a} 1\nbad 1 soon\ngood 2\n{\"q\"} 1";
        let read = read(text, Format::Text);
        let good: Vec<usize> = read.iter().filter(|(_, sample)| sample.is_ok()).map(|(line, _)| *line).collect();
        assert_eq!((good, read.len()), (vec![1, 10], 11));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,60}", pieces in proptest::collection::vec("[a{}=\",\\\\ #\n0-9.e+é]{1,8}", 0..20)) {
            for format in [Format::Text, Format::OpenMetrics] {
                parse(&text, format, |_, _| {});
                parse(&pieces.concat(), format, |_, _| {});
            }
        }
    }
}
