//! What is wrong with a configuration, and where.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use toml::de::{DeTable, DeValue};

/// Enough to mend a file in one go; more would scroll the first away.
const PROBLEMS: usize = 50;

/// Why a configuration is not taken. Every problem that could be found is in it.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge { path: PathBuf, limit: u64 },
    #[error("{}", lines(.0))]
    Wrong(Vec<Problem>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub place: Option<Place>,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// Line and column count from 1, the column in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    pub line: usize,
    pub column: usize,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { file, line, column }) = &self.place {
            write!(f, "{file}:{line}:{column}: ")?;
        }
        f.write_str(&self.message)
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// A way into the file: `peer`, 0, `urls`, 1.
#[derive(Debug, Clone, Default)]
pub struct At(Vec<Step>);

#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Index(usize),
}

impl At {
    pub fn key(&self, key: &str) -> At {
        let mut at = self.clone();
        at.0.push(Step::Key(key.to_owned()));
        at
    }

    pub fn index(&self, index: usize) -> At {
        let mut at = self.clone();
        at.0.push(Step::Index(index));
        at
    }
}

/// Collects problems and finds their places in the text.
#[derive(Debug)]
pub struct Problems<'a> {
    file: String,
    text: &'a str,
    root: Option<&'a DeTable<'a>>,
    found: Vec<(usize, Problem)>,
}

impl<'a> Problems<'a> {
    /// `root`: the parsed file, to find places in; None where there is no file.
    pub fn new(file: String, text: &'a str, root: Option<&'a DeTable<'a>>) -> Problems<'a> {
        Problems { file, text, root, found: Vec::new() }
    }

    pub fn push(&mut self, at: &At, message: impl Into<String>) {
        let span = self.root.map(|root| span_of(root, &at.0));
        self.push_span(span, message);
    }

    pub fn push_span(&mut self, span: Option<Range<usize>>, message: impl Into<String>) {
        let offset = span.as_ref().map_or(0, |span| span.start);
        let place = span.map(|span| self.place(span.start));
        self.found.push((offset, Problem { place, message: message.into() }));
    }

    /// The value, or None with the problem noted.
    pub fn check<T>(&mut self, at: &At, result: Result<T, impl fmt::Display>) -> Option<T> {
        result.map_err(|error| self.push(at, error.to_string())).ok()
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub fn take(&mut self) -> Vec<(usize, Problem)> {
        std::mem::take(&mut self.found)
    }

    pub fn extend(&mut self, found: Vec<(usize, Problem)>) {
        self.found.extend(found);
    }

    /// In the order of the file.
    pub fn into_error(mut self) -> ConfigError {
        self.found.sort_by_key(|(offset, _)| *offset);
        let total = self.found.len();
        let mut problems: Vec<Problem> = self.found.into_iter().take(PROBLEMS).map(|(_, problem)| problem).collect();
        if total > PROBLEMS {
            let message = format!("… and {} more", total - PROBLEMS);
            problems.push(Problem { place: None, message });
        }
        ConfigError::Wrong(problems)
    }

    fn place(&self, offset: usize) -> Place {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Place {
            file: self.file.clone(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

/// The span of the value there; of the nearest thing above it that exists where it does not.
fn span_of(root: &DeTable<'_>, steps: &[Step]) -> Range<usize> {
    let mut span = 0..0;
    let mut table = Some(root);
    let mut value: Option<&DeValue<'_>> = None;
    for step in steps {
        let next = match step {
            Step::Key(key) => table.and_then(|table| table.get(key.as_str())),
            Step::Index(index) => value.and_then(DeValue::as_array).and_then(|array| array.get(*index)),
        };
        let Some(next) = next else { return span };
        span = next.span();
        value = Some(next.get_ref());
        table = next.get_ref().as_table();
    }
    span
}

/// The known word that is most like `given`, if any is like it at all.
pub fn nearest<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let given = given.to_lowercase();
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&given, word), word))
        .filter(|(distance, word)| *distance <= (word.len().max(given.len()) / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// `; did you mean "x"?`, or the list of what is known.
pub fn suggestion<'k>(given: &str, known: impl IntoIterator<Item = &'k str> + Clone) -> String {
    match nearest(given, known.clone()) {
        Some(word) => format!("; did you mean \"{word}\"?"),
        None => format!("; known here: {}", known.into_iter().collect::<Vec<_>>().join(", ")),
    }
}
