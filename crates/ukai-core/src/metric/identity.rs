//! What a metric is called: namespace, name and the exact set of dimensions (CloudWatch User Guide, "Metrics concepts").

use std::fmt;

use serde::{Deserialize, Serialize};

use super::datum::DatumError;

/// `MetricName`, `Namespace` and a dimension's name (API model, `Dimension`).
pub const NAME_MAX: usize = 255;
/// A dimension's value.
pub const DIMENSION_VALUE_MAX: usize = 1024;
/// Dimensions of one metric.
pub const DIMENSIONS_MAX: usize = 30;
/// No control character is part of a dimension.
const SEPARATOR: &str = "\0";
/// Characters of hostile text that an error repeats.
const SHOWN_MAX: usize = 64;

/// 1 to 255 characters, not starting with a colon.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Namespace(Box<str>);

/// Namespaces that begin so are ukai's own.
const OWN: &str = "Ukai/";

impl Namespace {
    pub fn new(text: &str) -> Result<Namespace, DatumError> {
        check_name("Namespace", text)?;
        if text.starts_with(':') {
            return Err(DatumError::Invalid {
                what: "Namespace".to_owned(),
                why: "it must not start with a colon".to_owned(),
                written: shown(text),
            });
        }
        Ok(Namespace(text.into()))
    }

    /// One that somebody else fills. Alarms that page judge what ukai itself saw; nobody else may add to that, as nobody may
    /// put what begins with `AWS/` in CloudWatch.
    pub fn of_others(text: &str) -> Result<Namespace, DatumError> {
        match text.get(..OWN.len()) {
            Some(start) if start.eq_ignore_ascii_case(OWN) => Err(DatumError::Invalid {
                what: "Namespace".to_owned(),
                why: format!("what begins with {OWN} is for what ukai itself measures"),
                written: shown(text),
            }),
            _ => Namespace::new(text),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Sorted by name, each name once. Two metrics with the same pairs in another order are the same metric.
///
/// Kept as one text, `name NUL value NUL name NUL value …`, which the rules of both leave unambiguous: a datum is then
/// found, compared and dropped in half the time, and texts sort as the pairs do.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dimensions(Box<str>);

impl Dimensions {
    pub fn new<N: Into<Box<str>>, V: Into<Box<str>>>(
        pairs: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Dimensions, DatumError> {
        let mut sorted: Vec<(Box<str>, Box<str>)> = Vec::new();
        for (name, value) in pairs {
            let (name, value) = (name.into(), value.into());
            check_dimension(&name, &value)?;
            if sorted.len() == DIMENSIONS_MAX {
                return Err(DatumError::TooManyDimensions);
            }
            sorted.push((name, value));
        }
        sorted.sort();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(DatumError::DuplicateDimension { name: shown(&twice[0].0) });
        }
        let parts: Vec<&str> = sorted.iter().flat_map(|(name, value)| [&**name, &**value]).collect();
        Ok(Dimensions(parts.join(SEPARATOR).into()))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut parts = self.0.split(SEPARATOR);
        std::iter::from_fn(move || Some((parts.next()?, parts.next()?)))
    }

    pub fn value(&self, name: &str) -> Option<&str> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub fn len(&self) -> usize {
        self.iter().count()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.0.len()
    }
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct MetricId {
    pub namespace: Namespace,
    #[serde(deserialize_with = "metric_name")]
    pub metric_name: Box<str>,
    #[serde(default)]
    pub dimensions: Dimensions,
}

impl MetricId {
    pub fn new(namespace: &Namespace, metric_name: &str, dimensions: Dimensions) -> Result<MetricId, DatumError> {
        check_name("MetricName", metric_name)?;
        Ok(MetricId { namespace: namespace.clone(), metric_name: metric_name.into(), dimensions })
    }
}

/// `Namespace MetricName {Name=Value, …}`, for people.
impl fmt::Display for MetricId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.namespace.0, self.metric_name)?;
        for (place, (name, value)) in self.dimensions.iter().enumerate() {
            write!(out, "{}{name}={value}", if place == 0 { " {" } else { ", " })?;
        }
        if self.dimensions.is_empty() { Ok(()) } else { out.write_str("}") }
    }
}

/// A name as an error repeats it: cut, and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let mut cut: String = text.chars().take(SHOWN_MAX).map(|c| if c.is_control() { '�' } else { c }).collect();
    if text.chars().nth(SHOWN_MAX).is_some() {
        cut.push('…');
    }
    cut
}

fn check_name(what: &str, text: &str) -> Result<(), DatumError> {
    let why = match text.chars().count() {
        1..=NAME_MAX if text.chars().any(char::is_control) => "it must not hold control characters",
        1..=NAME_MAX if text.trim().is_empty() => "it must hold a character that is not blank",
        1..=NAME_MAX => return Ok(()),
        _ => "it must be 1 to 255 characters long",
    };
    Err(DatumError::Invalid { what: what.to_owned(), why: why.to_owned(), written: shown(text) })
}

fn check_dimension(name: &str, value: &str) -> Result<(), DatumError> {
    let invalid = |what: &str, why: &str, text: &str| {
        Err(DatumError::Invalid { what: what.to_owned(), why: why.to_owned(), written: shown(text) })
    };
    if name.starts_with(':') {
        return invalid("Dimension.Name", "it must not start with a colon", name);
    }
    for (what, text, most) in [("Dimension.Name", name, NAME_MAX), ("Dimension.Value", value, DIMENSION_VALUE_MAX)] {
        if text.is_empty() || text.len() > most {
            return invalid(what, &format!("it must be 1 to {most} characters long"), text);
        }
        if !text.is_ascii() || text.bytes().any(|byte| byte.is_ascii_control()) {
            return invalid(what, "it must be ASCII without control characters", text);
        }
        if text.trim().is_empty() {
            return invalid(what, "it must hold a character that is not blank", text);
        }
    }
    Ok(())
}

fn metric_name<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Box<str>, D::Error> {
    let text = String::deserialize(from)?;
    check_name("MetricName", &text).map_err(serde::de::Error::custom)?;
    Ok(text.into())
}

impl TryFrom<String> for Namespace {
    type Error = DatumError;

    fn try_from(text: String) -> Result<Namespace, DatumError> {
        Namespace::new(&text)
    }
}

impl From<Namespace> for String {
    fn from(namespace: Namespace) -> String {
        namespace.0.into()
    }
}

/// One pair, as the API writes it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Pair {
    name: String,
    value: String,
}

impl Serialize for Dimensions {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(self.iter().map(|(name, value)| Pair { name: name.to_owned(), value: value.to_owned() }))
    }
}

impl<'de> Deserialize<'de> for Dimensions {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Dimensions, D::Error> {
        let pairs = Vec::<Pair>::deserialize(from)?;
        Dimensions::new(pairs.into_iter().map(|pair| (pair.name, pair.value))).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dimensions(pairs: &[(&str, &str)]) -> Result<Dimensions, DatumError> {
        Dimensions::new(pairs.iter().copied())
    }

    #[test]
    fn the_set_counts_and_not_its_order() {
        let one = dimensions(&[("b", "2"), ("a", "1")]).unwrap();
        assert_eq!(one, dimensions(&[("a", "1"), ("b", "2")]).unwrap());
        assert_ne!(one, dimensions(&[("a", "1")]).unwrap());
        assert_eq!(one.value("b"), Some("2"));
        assert_eq!(one.iter().collect::<Vec<_>>(), [("a", "1"), ("b", "2")]);
        assert_eq!((one.len(), one.is_empty()), (2, false));
        assert_eq!((Dimensions::default().len(), Dimensions::default().iter().count()), (0, 0));
        assert!(dimensions(&[("a", "z")]).unwrap() < dimensions(&[("a", "z"), ("b", "1")]).unwrap());
        assert!(dimensions(&[("a", "z")]).unwrap() < dimensions(&[("a!", "a")]).unwrap());
    }

    #[test]
    fn thirty_dimensions_and_no_more() {
        let names: Vec<String> = (0..31).map(|n| format!("d{n}")).collect();
        let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "v")).collect();
        assert!(dimensions(&pairs[..30]).is_ok());
        assert_eq!(dimensions(&pairs).unwrap_err(), DatumError::TooManyDimensions);
    }

    #[test]
    fn what_the_documentation_forbids_is_refused() {
        let long = "x".repeat(1025);
        for pair in [("", "v"), (":a", "v"), ("a", ""), ("a", " "), ("ä", "v"), ("a", "\u{7}"), ("a", &long)] {
            assert!(dimensions(&[pair]).is_err(), "{pair:?}");
        }
        assert!(matches!(dimensions(&[("a", "1"), ("a", "2")]), Err(DatumError::DuplicateDimension { .. })));
        assert!(Namespace::new(":x").is_err() && Namespace::new("").is_err());
        assert!(Namespace::new(&"x".repeat(256)).is_err() && Namespace::new("AWS/SQS").is_ok());
    }

    #[test]
    fn json_is_the_apis() {
        let id = MetricId::new(&Namespace::new("N").unwrap(), "m", dimensions(&[("a", "1")]).unwrap()).unwrap();
        let json =
            serde_json::json!({"Namespace": "N", "MetricName": "m", "Dimensions": [{"Name": "a", "Value": "1"}]});
        assert_eq!(serde_json::to_value(&id).unwrap(), json);
        assert_eq!(serde_json::from_value::<MetricId>(json).unwrap(), id);
        assert_eq!(id.to_string(), "N m {a=1}");
    }
}
