//! Reads the text of an `AlarmRule`.
//!
//! ```text
//! or   := and ("OR" and)*        and  := not ("AND" not)*        not := "NOT" not | prim
//! prim := "(" or ")" | "TRUE" | "FALSE" | ("ALARM" | "OK" | "INSUFFICIENT_DATA") "(" ref ")"
//! ```
//! Keywords are upper case. Every error carries the place, as an offset in characters from 0.

use std::collections::BTreeSet;

use thiserror::Error;

use super::reference::{AlarmRef, RefError, ends_bare};
use super::{AlarmExpression, AlarmState};

/// `AlarmRule` of the API: 1 to 10,240 characters.
pub const MAX_RULE_CHARS: usize = 10_240;
/// Distinct alarms that one rule may watch (CloudWatch).
pub const MAX_CHILDREN: usize = 100;
/// State functions, TRUE, FALSE and pairs of parentheses (CloudWatch).
pub const MAX_ELEMENTS: usize = 500;
/// Parentheses and NOTs within each other. Our bound: far more than a person can read, far less than a stack holds.
pub const MAX_DEPTH: usize = 100;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RuleError {
    #[error("it is empty; it needs at least one alarm, TRUE or FALSE")]
    Empty,
    #[error("it has {0} characters; at most {MAX_RULE_CHARS} are allowed")]
    TooLong(usize),
    #[error(
        "character {position}: more than {MAX_CHILDREN} different alarms; combine some in a composite alarm of their own"
    )]
    TooManyChildren { position: usize },
    #[error("character {position}: more than {MAX_ELEMENTS} elements (alarms, TRUE, FALSE and pairs of parentheses)")]
    TooManyElements { position: usize },
    #[error("character {position}: parentheses and NOT are nested more than {MAX_DEPTH} deep")]
    TooDeep { position: usize },
    #[error("character {position}: `{found}` must be written in upper case: {keyword}")]
    LowerCase { position: usize, found: String, keyword: &'static str },
    #[error("character {position}: expected {expected}, found {found}")]
    Unexpected { position: usize, expected: &'static str, found: String },
    #[error("character {position}: the quoted name does not end; close it with \"")]
    OpenQuote { position: usize },
    #[error("character {position}: {source}")]
    Reference { position: usize, source: RefError },
}

pub fn parse(text: &str) -> Result<AlarmExpression, RuleError> {
    parse_within(text, MAX_RULE_CHARS)
}

/// What we wrote ourselves may be up to twice as long as what was read: we put the spaces and escapes that an author
/// may leave out.
pub(super) fn parse_stored(text: &str) -> Result<AlarmExpression, RuleError> {
    parse_within(text, 2 * MAX_RULE_CHARS)
}

fn parse_within(text: &str, max_chars: usize) -> Result<AlarmExpression, RuleError> {
    let length = text.chars().count();
    if length > max_chars {
        return Err(RuleError::TooLong(length));
    }
    if text.trim().is_empty() {
        return Err(RuleError::Empty);
    }
    let mut parser =
        Parser { chars: text.chars().collect(), position: 0, depth: 0, elements: 0, children: BTreeSet::new() };
    let rule = parser.or()?;
    match parser.peek() {
        None => Ok(rule),
        Some(_) => Err(parser.unexpected("AND, OR or the end of the rule")),
    }
}

const KEYWORDS: [&str; 8] = ["ALARM", "OK", "INSUFFICIENT_DATA", "AND", "OR", "NOT", "TRUE", "FALSE"];
const OPERAND: &str = "ALARM(…), OK(…), INSUFFICIENT_DATA(…), NOT, TRUE, FALSE or (";
/// How much of an unknown word an error repeats.
const SHOWN_CHARS: usize = 40;

struct Parser {
    chars: Vec<char>,
    position: usize,
    depth: usize,
    elements: usize,
    children: BTreeSet<String>,
}

impl Parser {
    fn or(&mut self) -> Result<AlarmExpression, RuleError> {
        let mut terms = vec![self.and()?];
        while self.take_word("OR")? {
            terms.push(self.and()?);
        }
        Ok(one_or(terms, AlarmExpression::Or))
    }

    fn and(&mut self) -> Result<AlarmExpression, RuleError> {
        let mut terms = vec![self.not()?];
        while self.take_word("AND")? {
            terms.push(self.not()?);
        }
        Ok(one_or(terms, AlarmExpression::And))
    }

    fn not(&mut self) -> Result<AlarmExpression, RuleError> {
        if !self.take_word("NOT")? {
            return self.primary();
        }
        self.deeper()?;
        let inner = self.not()?;
        self.depth -= 1;
        Ok(AlarmExpression::Not(Box::new(inner)))
    }

    fn primary(&mut self) -> Result<AlarmExpression, RuleError> {
        if self.peek() == Some('(') {
            return self.parenthesised();
        }
        let functions = [AlarmState::Alarm, AlarmState::Ok, AlarmState::InsufficientData];
        for state in functions {
            if self.take_word(state.name())? {
                return self.state_function(state);
            }
        }
        for (word, value) in [("TRUE", true), ("FALSE", false)] {
            if self.take_word(word)? {
                self.element()?;
                return Ok(AlarmExpression::Constant(value));
            }
        }
        Err(self.unexpected(OPERAND))
    }

    fn parenthesised(&mut self) -> Result<AlarmExpression, RuleError> {
        self.element()?;
        self.deeper()?;
        self.position += 1;
        let inner = self.or()?;
        self.expect(')', "AND, OR or )")?;
        self.depth -= 1;
        Ok(inner)
    }

    fn state_function(&mut self, state: AlarmState) -> Result<AlarmExpression, RuleError> {
        self.element()?;
        self.expect('(', "( and the name of an alarm")?;
        let reference = self.reference()?;
        self.expect(')', ") after the alarm; a name with spaces, parentheses or quotes must be in double quotes")?;
        Ok(AlarmExpression::State(state, reference))
    }

    fn reference(&mut self) -> Result<AlarmRef, RuleError> {
        let quoted = self.peek() == Some('"');
        let position = self.position;
        let text = if quoted { self.quoted()? } else { self.bare() };
        let reference = AlarmRef::written(text, quoted).map_err(|source| RuleError::Reference { position, source })?;
        self.children.insert(reference.alarm_name().to_owned());
        if self.children.len() > MAX_CHILDREN {
            return Err(RuleError::TooManyChildren { position });
        }
        Ok(reference)
    }

    fn bare(&mut self) -> String {
        let text: String = self.chars[self.position..].iter().take_while(|c| !ends_bare(**c)).collect();
        self.position += text.chars().count();
        text
    }

    fn quoted(&mut self) -> Result<String, RuleError> {
        let opened_at = self.position;
        let mut text = String::new();
        self.position += 1;
        loop {
            let next = self.chars.get(self.position + 1).copied();
            match self.chars.get(self.position).copied() {
                None => return Err(RuleError::OpenQuote { position: opened_at }),
                Some('"') => break,
                Some('\\') if matches!(next, Some('"' | '\\')) => {
                    text.extend(next);
                    self.position += 1;
                }
                Some(c) => text.push(c),
            }
            self.position += 1;
        }
        self.position += 1;
        Ok(text)
    }

    /// Takes the keyword if it comes next. The same word in another case is an error that says so.
    fn take_word(&mut self, keyword: &'static str) -> Result<bool, RuleError> {
        self.skip_space();
        let word = self.word();
        if word == keyword {
            self.position += keyword.len();
            return Ok(true);
        }
        match KEYWORDS.iter().find(|known| **known != word && known.eq_ignore_ascii_case(&word)) {
            Some(keyword) => Err(RuleError::LowerCase { position: self.position, found: word, keyword }),
            None => Ok(false),
        }
    }

    fn word(&self) -> String {
        let rest = self.chars[self.position..].iter();
        rest.take_while(|c| c.is_alphanumeric() || **c == '_').collect()
    }

    fn expect(&mut self, wanted: char, expected: &'static str) -> Result<(), RuleError> {
        if self.peek() != Some(wanted) {
            return Err(self.unexpected(expected));
        }
        self.position += 1;
        Ok(())
    }

    fn peek(&mut self) -> Option<char> {
        self.skip_space();
        self.chars.get(self.position).copied()
    }

    fn skip_space(&mut self) {
        while self.chars.get(self.position).is_some_and(|c| c.is_whitespace()) {
            self.position += 1;
        }
    }

    fn element(&mut self) -> Result<(), RuleError> {
        self.elements += 1;
        if self.elements > MAX_ELEMENTS {
            return Err(RuleError::TooManyElements { position: self.position });
        }
        Ok(())
    }

    fn deeper(&mut self) -> Result<(), RuleError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(RuleError::TooDeep { position: self.position });
        }
        Ok(())
    }

    fn unexpected(&self, expected: &'static str) -> RuleError {
        let word: String = self.word().chars().take(SHOWN_CHARS).collect();
        let found = match self.chars.get(self.position) {
            None => "the end of the rule".to_owned(),
            Some(c) if word.is_empty() => format!("`{c}`"),
            Some(_) => format!("`{word}`"),
        };
        RuleError::Unexpected { position: self.position, expected, found }
    }
}

fn one_or(mut terms: Vec<AlarmExpression>, many: fn(Vec<AlarmExpression>) -> AlarmExpression) -> AlarmExpression {
    match terms.len() {
        1 => terms.remove(0),
        _ => many(terms),
    }
}
