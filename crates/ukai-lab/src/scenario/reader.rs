//! Reads a TOML document by position: every value knows where it stands, so every complaint can say so.
//!
//! The grammar is read by hand over the parser's spanned tree rather than derived, because an error has to name the
//! nearest thing that the reader of the file could have meant, whether a key or a value.

use std::cell::RefCell;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A scenario file that cannot be played, and where the fault in it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {what}{}", did_you_mean(.nearest))]
pub struct ScenarioError {
    pub file: String,
    pub line: usize,
    pub column: usize,
    pub what: String,
    /// The known key or value that is closest to what stands in the file.
    pub nearest: Option<String>,
}

fn did_you_mean(nearest: &Option<String>) -> String {
    match nearest {
        Some(known) => format!("; did you mean \"{known}\"?"),
        None => String::new(),
    }
}

pub(super) type Result<T> = std::result::Result<T, ScenarioError>;

/// A name used somewhere, to be looked up once the whole file is read.
#[derive(Debug, Clone)]
pub(super) struct Use {
    pub name: String,
    pub kind: UseKind,
    pub span: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UseKind {
    HostForA,
    HostForAaaa,
    Host,
    Server,
}

#[derive(Debug)]
pub(super) struct Source<'a> {
    file: &'a str,
    text: &'a str,
    uses: RefCell<Vec<Use>>,
    places: RefCell<Vec<(String, Range<usize>)>>,
}

impl<'a> Source<'a> {
    pub fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, uses: RefCell::default(), places: RefCell::default() }
    }

    pub fn error(&self, span: Range<usize>, what: impl Into<String>) -> ScenarioError {
        let start = span.start.min(self.text.len());
        let before = self.text.get(..start).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ScenarioError {
            file: self.file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.get(line_start..).map_or(0, |text| text.chars().count()) + 1,
            what: what.into(),
            nearest: None,
        }
    }

    pub fn syntax(&self, error: &toml::de::Error) -> ScenarioError {
        self.error(error.span().unwrap_or(0..0), error.message().to_owned())
    }

    pub fn record_use(&self, field: &Field<'_>, name: &str, kind: UseKind) {
        self.uses.borrow_mut().push(Use { name: name.to_owned(), kind, span: field.span() });
    }

    /// Remembers where a host or other name is defined, for complaints that come once the whole file is read.
    pub fn record_place(&self, field: &Field<'_>) {
        self.places.borrow_mut().push((field.key.to_owned(), field.key_span.clone()));
    }

    /// The last place where `name` is defined: it is the later one that is at odds with what stood before.
    pub fn find(&self, name: &str) -> Range<usize> {
        let places = self.places.borrow();
        places.iter().rev().find(|(place, _)| place == name).map_or(0..0, |(_, span)| span.clone())
    }

    pub fn uses(&self) -> Vec<Use> {
        self.uses.borrow().clone()
    }
}

/// One table of the file, with its path for messages.
#[derive(Debug, Clone)]
pub(super) struct Section<'a> {
    pub source: &'a Source<'a>,
    path: String,
    table: &'a DeTable<'a>,
    span: Range<usize>,
}

impl<'a> Section<'a> {
    pub fn root(source: &'a Source<'a>, document: &'a Spanned<DeTable<'a>>) -> Self {
        Self { source, path: String::new(), table: document.get_ref(), span: 0..0 }
    }

    /// Refuses every key that is not among `known`.
    pub fn only(&self, known: &[&str]) -> Result<()> {
        for (key, _) in self.table.iter() {
            if known.contains(&key.get_ref().as_ref()) {
                continue;
            }
            let what = match self.path.as_str() {
                "" => format!("unknown key \"{}\"", key.get_ref()),
                path => format!("unknown key \"{}\" in {path}", key.get_ref()),
            };
            let nearest = nearest(key.get_ref(), known.iter().copied());
            return Err(ScenarioError { nearest, ..self.source.error(key.span(), what) });
        }
        Ok(())
    }

    pub fn find(&self, key: &str) -> Option<Field<'a>> {
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(name, value)| self.field(name, value))
    }

    pub fn need(&self, key: &str) -> Result<Field<'a>> {
        self.find(key).ok_or_else(|| {
            let place = if self.path.is_empty() { "the scenario".to_owned() } else { format!("[{}]", self.path) };
            self.error(format!("{place} has no \"{key}\""))
        })
    }

    /// Every key with its value, for tables whose keys are names.
    pub fn fields(&self) -> impl Iterator<Item = Field<'a>> + use<'a, '_> {
        self.table.iter().map(|(name, value)| self.field(name, value))
    }

    pub fn error(&self, what: impl Into<String>) -> ScenarioError {
        self.source.error(self.span.clone(), what)
    }

    fn field(&self, key: &'a Spanned<std::borrow::Cow<'a, str>>, value: &'a Spanned<DeValue<'a>>) -> Field<'a> {
        Field {
            source: self.source,
            key: key.get_ref(),
            key_span: key.span(),
            path: join(&self.path, key.get_ref()),
            value,
        }
    }
}

/// One value of the file.
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    pub source: &'a Source<'a>,
    pub key: &'a str,
    key_span: Range<usize>,
    path: String,
    value: &'a Spanned<DeValue<'a>>,
}

impl<'a> Field<'a> {
    pub fn span(&self) -> Range<usize> {
        self.value.span()
    }

    pub fn error(&self, what: impl Into<String>) -> ScenarioError {
        self.source.error(self.span(), what)
    }

    pub fn key_error(&self, what: impl Into<String>) -> ScenarioError {
        self.source.error(self.key_span.clone(), what)
    }

    /// "this is not a value that the key takes", with the nearest one that it does.
    pub fn unknown(&self, text: &str, known: &[&str]) -> ScenarioError {
        let what = format!("unknown value \"{text}\" for {}", self.path);
        match nearest(text, known.iter().copied()) {
            Some(near) => ScenarioError { nearest: Some(near), ..self.error(what) },
            None => self.error(format!("{what}; one of: {}", known.join(", "))),
        }
    }

    pub fn is_table(&self) -> bool {
        self.value.get_ref().is_table()
    }

    pub fn text(&self) -> Result<&'a str> {
        let value: &'a DeValue<'a> = self.value.get_ref();
        match value {
            DeValue::String(text) => Ok(text.as_ref()),
            _ => Err(self.wrong_type("text in quotes")),
        }
    }

    pub fn flag(&self) -> Result<bool> {
        self.value.get_ref().as_bool().ok_or_else(|| self.wrong_type("true or false"))
    }

    pub fn number(&self, allowed: std::ops::RangeInclusive<u32>) -> Result<u32> {
        let integer = self.value.get_ref().as_integer().ok_or_else(|| self.wrong_type("a number"))?;
        u32::from_str_radix(&integer.as_str().replace('_', ""), integer.radix())
            .ok()
            .filter(|number| allowed.contains(number))
            .ok_or_else(|| {
                self.error(format!("{} must be between {} and {}", self.path, allowed.start(), allowed.end()))
            })
    }

    pub fn duration(&self) -> Result<Duration> {
        let text = self.text()?;
        parse_duration(text).ok_or_else(|| {
            self.error(format!("\"{text}\" is not a duration such as \"500ms\", \"5s\", \"15m\" or \"4h\""))
        })
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Result<T> {
        let text = self.text()?;
        choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.unknown(text, &names)
        })
    }

    pub fn items(&self) -> Result<Vec<Field<'a>>> {
        let array = self.value.get_ref().as_array().ok_or_else(|| self.wrong_type("a list"))?;
        Ok(array.iter().map(|value| Field { value, ..self.clone() }).collect())
    }

    pub fn texts(&self) -> Result<Vec<String>> {
        self.items()?.iter().map(|item| item.text().map(str::to_owned)).collect()
    }

    /// A single value, or a list of them.
    pub fn one_or_many(&self) -> Result<Vec<Field<'a>>> {
        if self.value.get_ref().is_array() { self.items() } else { Ok(vec![self.clone()]) }
    }

    pub fn section(&self) -> Result<Section<'a>> {
        let value: &'a DeValue<'a> = self.value.get_ref();
        let table = value.as_table().ok_or_else(|| self.wrong_type("a table"))?;
        Ok(Section { source: self.source, path: self.path.clone(), table, span: self.key_span.clone() })
    }

    /// `[[key]]`, an array of tables.
    pub fn sections(&self) -> Result<Vec<Section<'a>>> {
        let wrong = || self.key_error(format!("{0} is a list of tables: write [[{0}]]", self.path));
        let items = self.items().map_err(|_| wrong())?;
        items
            .iter()
            .map(|item| {
                let section = item.section().map_err(|_| wrong())?;
                Ok(Section { span: item.span(), path: format!("[{}]", self.path), ..section })
            })
            .collect()
    }

    fn wrong_type(&self, wanted: &str) -> ScenarioError {
        self.error(format!("{} takes {wanted}, not {}", self.path, self.value.get_ref().type_str()))
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The known word within a third of the letters (at least two) of what was written; further away is a guess.
pub(super) fn nearest<'k>(text: &str, known: impl Iterator<Item = &'k str>) -> Option<String> {
    let reach = (text.chars().count() / 3).max(2);
    known
        .map(|word| (strsim::damerau_levenshtein(text, word), word))
        .filter(|(distance, _)| *distance <= reach)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word.to_owned())
}

/// `500ms`, `5s`, `1m30s`, `4h`, `7d`: whole numbers with a unit each.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let millis = match rest.get(..unit_end)? {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(millis)?))?;
        rest = rest.get(unit_end..)?;
    }
    Some(total)
}
