//! From text to a tree. Precedence, loosest first: OR, AND, comparison, + and -, * and /, unary -, ^ (from the right).
//! CloudWatch does not write its precedence down; this is that of arithmetic everywhere.

use super::functions::Function;
use super::{DEPTH_MAX, ELEMENTS_MAX, EXPRESSION_MAX, MathError, Node, Operator};
use crate::metric::identity::shown;

pub(super) fn parse(text: &str) -> Result<Node, MathError> {
    if text.len() > EXPRESSION_MAX {
        return Err(MathError::TooLong);
    }
    let mut parser = Parser { text, at: 0, depth: 0, elements: 0 };
    let root = parser.level(0)?;
    match parser.peek() {
        None => Ok(root),
        Some(_) => Err(parser.expected("an operator or the end")),
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    elements: usize,
}

/// Operators of each level, longer ones before those they begin with.
const LEVELS: [&[(&str, Operator)]; 5] = [
    &[("||", Operator::Or), ("OR", Operator::Or)],
    &[("&&", Operator::And), ("AND", Operator::And)],
    &[
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<=", Operator::LessOrEqual),
        (">=", Operator::GreaterOrEqual),
        ("<", Operator::Less),
        (">", Operator::Greater),
    ],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[("*", Operator::Multiply), ("/", Operator::Divide)],
];

impl Parser<'_> {
    fn level(&mut self, level: usize) -> Result<Node, MathError> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.level(level + 1)?;
        while let Some(operator) = self.operator(operators) {
            self.element()?;
            let right = self.level(level + 1)?;
            left = Node::Binary(operator, Box::new(left), Box::new(right));
            if level == 2 && self.operator(operators).is_some() {
                return Err(self.wrong("comparisons do not follow one another; use AND or parentheses"));
            }
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<Node, MathError> {
        self.deeper(|parser| {
            if parser.eat("-") {
                parser.element()?;
                return Ok(Node::Negated(Box::new(parser.unary()?)));
            }
            let base = parser.operand()?;
            if parser.eat("^") {
                parser.element()?;
                let exponent = parser.unary()?;
                return Ok(Node::Binary(Operator::Power, Box::new(base), Box::new(exponent)));
            }
            Ok(base)
        })
    }

    fn operand(&mut self) -> Result<Node, MathError> {
        self.element()?;
        match self.peek() {
            Some('(') => {
                self.eat("(");
                let inner = self.level(0)?;
                self.need(")")?;
                Ok(inner)
            }
            Some('[') => {
                self.eat("[");
                Ok(Node::Array(self.list("]")?))
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number(),
            Some(c) if c.is_ascii_lowercase() => Ok(Node::Id(self.word().to_owned())),
            Some(c) if c.is_ascii_uppercase() => self.call(),
            _ => Err(self.expected("a number, an id, a function, \"(\" or \"[\"")),
        }
    }

    fn call(&mut self) -> Result<Node, MathError> {
        let begin = self.at;
        let name = self.word().to_owned();
        if let Some(word) = Function::constant(&name) {
            return Ok(Node::Call(word, Vec::new()));
        }
        if name == "METRICS" {
            self.need("(")?;
            let part = if self.peek() == Some('"') { self.string()? } else { String::new() };
            self.need(")")?;
            return Ok(Node::Metrics(part));
        }
        let Some(function) = Function::named(&name) else {
            self.at = begin;
            return Err(self.wrong(&format!("there is no function {}", shown(&name))));
        };
        self.need("(")?;
        let arguments = self.list(")")?;
        function.check(&arguments).map_err(|what| MathError::Syntax { at: begin + 1, what })?;
        Ok(Node::Call(function, arguments))
    }

    fn list(&mut self, end: &str) -> Result<Vec<Node>, MathError> {
        let mut nodes = vec![self.level(0)?];
        while self.eat(",") {
            nodes.push(self.level(0)?);
        }
        self.need(end)?;
        Ok(nodes)
    }

    fn number(&mut self) -> Result<Node, MathError> {
        let begin = self.at;
        let rest = &self.text[begin..];
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let mut length = digits;
        // 1e3, 1E-3; an "e" that no digit follows is no exponent.
        if let Some(exponent) = rest[digits..].strip_prefix(['e', 'E']) {
            let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let count = unsigned.bytes().take_while(u8::is_ascii_digit).count();
            length += if count > 0 { 1 + exponent.len() - unsigned.len() + count } else { 0 };
        }
        self.at += length;
        match rest[..length].parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Node::Number(number)),
            _ => {
                self.at = begin;
                Err(self.wrong("this is not a number"))
            }
        }
    }

    fn string(&mut self) -> Result<String, MathError> {
        self.eat("\"");
        let rest = &self.text[self.at..];
        let Some(length) = rest.find('"') else { return Err(self.wrong("the quote has no end")) };
        self.at += length + 1;
        Ok(rest[..length].to_owned())
    }

    fn word(&mut self) -> &str {
        let rest = &self.text[self.at..];
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn operator(&mut self, operators: &[(&str, Operator)]) -> Option<Operator> {
        self.peek();
        let rest = &self.text[self.at..];
        let (name, operator) = operators.iter().find(|(name, _)| {
            let after = rest.strip_prefix(name).and_then(|after| after.chars().next());
            // AND and OR are words.
            let whole =
                !name.starts_with(char::is_alphabetic) || after.is_none_or(|c| !c.is_ascii_alphanumeric() && c != '_');
            rest.starts_with(name) && whole
        })?;
        self.at += name.len();
        Some(*operator)
    }

    fn peek(&mut self) -> Option<char> {
        self.at = self.text.len() - self.text[self.at..].trim_start().len();
        self.text[self.at..].chars().next()
    }

    fn eat(&mut self, token: &str) -> bool {
        self.peek();
        let found = self.text[self.at..].starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn need(&mut self, token: &str) -> Result<(), MathError> {
        if self.eat(token) { Ok(()) } else { Err(self.expected(&format!("{token:?}"))) }
    }

    fn deeper<T>(&mut self, inside: impl FnOnce(&mut Self) -> Result<T, MathError>) -> Result<T, MathError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(MathError::TooDeep { at: self.place() });
        }
        let found = inside(self)?;
        self.depth -= 1;
        Ok(found)
    }

    fn element(&mut self) -> Result<(), MathError> {
        self.elements += 1;
        if self.elements > ELEMENTS_MAX { Err(MathError::TooManyElements) } else { Ok(()) }
    }

    fn expected(&mut self, what: &str) -> MathError {
        let found = match self.peek() {
            None => "the end".to_owned(),
            Some(c) => format!("{c:?}"),
        };
        self.wrong(&format!("expected {what}, found {found}"))
    }

    fn wrong(&self, what: &str) -> MathError {
        MathError::Syntax { at: self.place(), what: what.to_owned() }
    }

    /// For people: characters, from 1.
    fn place(&self) -> usize {
        self.text[..self.at].chars().count() + 1
    }
}
