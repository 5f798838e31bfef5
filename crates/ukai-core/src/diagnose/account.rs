//! What every rule says of a case, also those after the one that explained it: why another verdict was not given.

use serde::Serialize;

use super::reading::{Case, Reading};
use super::rules::{RULES, Ruling};
use super::verdict::{Code, Sure};

/// One rule's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Word {
    pub code: Code,
    /// What the rule looks for.
    pub looks_for: &'static str,
    pub said: Said,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// It explains what was seen. The first rule that does gives the verdict.
    Explains { sure: Sure, summary: String },
    /// It is not that, and by what.
    Excluded(String),
    /// What would decide it was not seen; nothing after it is proven.
    Unknown(String),
    /// What it looks for was not there.
    NotSeen,
}

/// The words of all rules, in the order of elimination.
pub fn account(case: &Case) -> Vec<Word> {
    let reading = Reading::of(case);
    let word = |rule: &super::rules::Rule| Word {
        code: rule.code,
        looks_for: rule.doc,
        said: match (rule.judge)(&reading) {
            Ruling::Explains(finding) => Said::Explains { sure: finding.sure, summary: finding.summary },
            Ruling::Excluded(why) => Said::Excluded(why),
            Ruling::Unknown(why) => Said::Unknown(why),
            Ruling::Beside => Said::NotSeen,
        },
    };
    RULES.iter().map(word).collect()
}
