//! How a rule refers to an alarm: a bare name, a quoted name, or the alarm's ARN in either form.
//!
//! The way it was written is kept, so that a rule reads back as its author wrote it. A reference that begins with
//! `arn:` must be the ARN of an alarm: our choice, because a mistyped ARN would otherwise be a name that never exists.

use std::fmt;

use thiserror::Error;

/// `AlarmName` of the API: 1 to 255 characters.
pub const MAX_ALARM_NAME_CHARS: usize = 255;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlarmRef {
    /// As written, without quotes and escapes.
    text: String,
    quoted: bool,
    /// Where in `text` the alarm's name begins: 0 unless it is an ARN.
    name_at: usize,
}

/// The parts of `arn:<partition>:cloudwatch:<region>:<account>:alarm:<name>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AlarmArn<'a> {
    pub partition: &'a str,
    pub region: &'a str,
    pub account: &'a str,
    pub name: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RefError {
    #[error("an alarm name is missing; write the name or the ARN of an alarm between the parentheses")]
    Empty,
    #[error("the alarm name has {0} characters; at most {MAX_ALARM_NAME_CHARS} are allowed")]
    TooLong(usize),
    #[error("the alarm name contains a control character")]
    ControlCharacter,
    #[error(
        "`{0}` is not the ARN of an alarm; it must read arn:<partition>:cloudwatch:<region>:<account>:alarm:<name>"
    )]
    NotAnAlarmArn(String),
}

impl AlarmRef {
    /// A reference as a rule would best be written: quoted, so that any name can stand in it.
    pub fn new(name_or_arn: &str) -> Result<AlarmRef, RefError> {
        AlarmRef::written(name_or_arn.to_owned(), true)
    }

    pub(super) fn written(text: String, quoted: bool) -> Result<AlarmRef, RefError> {
        let name_at = if text.starts_with("arn:") {
            let arn = split_arn(&text).ok_or_else(|| RefError::NotAnAlarmArn(text.clone()))?;
            text.len() - arn.name.len()
        } else {
            0
        };
        check_name(&text[name_at..])?;
        Ok(AlarmRef { text, quoted, name_at })
    }

    pub fn alarm_name(&self) -> &str {
        &self.text[self.name_at..]
    }

    /// The name or ARN as written, without quotes.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn arn(&self) -> Option<AlarmArn<'_>> {
        if self.name_at == 0 { None } else { split_arn(&self.text) }
    }
}

fn check_name(name: &str) -> Result<(), RefError> {
    let length = name.chars().count();
    if length == 0 {
        Err(RefError::Empty)
    } else if length > MAX_ALARM_NAME_CHARS {
        Err(RefError::TooLong(length))
    } else if name.chars().any(|c| c.is_ascii_control()) {
        Err(RefError::ControlCharacter)
    } else {
        Ok(())
    }
}

/// The name is the rest: it may hold colons.
fn split_arn(text: &str) -> Option<AlarmArn<'_>> {
    let mut parts = text.splitn(7, ':');
    let (_arn, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (region, account, kind, name) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let whole = service == "cloudwatch" && kind == "alarm" && ![partition, region, account, name].contains(&"");
    whole.then_some(AlarmArn { partition, region, account, name })
}

/// A character that ends a bare reference.
pub(super) fn ends_bare(c: char) -> bool {
    c.is_whitespace() || matches!(c, '(' | ')' | '"')
}

impl fmt::Display for AlarmRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.quoted {
            return out.write_str(&self.text);
        }
        write!(out, "\"{}\"", self.text.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_arn_is_what_follows_alarm() {
        let reference = AlarmRef::new("arn:aws-cn:cloudwatch:cn-north-1:111122223333:alarm:pay: down (v2)").unwrap();
        assert_eq!(reference.alarm_name(), "pay: down (v2)");
        let arn = reference.arn().unwrap();
        assert_eq!((arn.partition, arn.region, arn.account), ("aws-cn", "cn-north-1", "111122223333"));
        assert_eq!(reference.as_str(), "arn:aws-cn:cloudwatch:cn-north-1:111122223333:alarm:pay: down (v2)");
        assert_eq!(AlarmRef::new("pay").unwrap().arn(), None);
    }

    #[test]
    fn an_arn_of_something_else_is_refused() {
        for text in [
            "arn:",
            "arn:aws:sns:us-east-1:111122223333:ops",
            "arn:aws:cloudwatch:us-east-1:111122223333:dashboard:x",
            "arn:aws:cloudwatch:us-east-1:111122223333:alarm:",
            "arn:aws:cloudwatch::111122223333:alarm:x",
        ] {
            assert_eq!(AlarmRef::new(text), Err(RefError::NotAnAlarmArn(text.into())), "{text}");
        }
    }

    #[test]
    fn a_name_has_one_to_255_characters_and_no_control_characters() {
        assert_eq!(AlarmRef::new(""), Err(RefError::Empty));
        assert!(AlarmRef::new(&"é".repeat(255)).is_ok());
        assert_eq!(AlarmRef::new(&"é".repeat(256)), Err(RefError::TooLong(256)));
        assert_eq!(AlarmRef::new("a\tb"), Err(RefError::ControlCharacter));
    }
}
