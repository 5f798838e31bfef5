//! What is allowed beyond a scenario's own expectation, where a modifier makes something else honest.

use crate::scenario::Scenario;

/// One row: for these outages with these modifiers, these verdicts are right too.
#[derive(Debug, Clone, Copy)]
pub struct Allowed {
    /// `*`, an id or the family of it (`S10`), or a diagnosis code that the file expects. Any of them.
    pub of: &'static [&'static str],
    pub with: &'static [&'static str],
    pub verdicts: &'static [&'static str],
    /// No verdict, or *open*, is honest too.
    pub open: bool,
    /// Why.
    pub why: &'static str,
}

impl Allowed {
    pub fn is_about(&self, scenario: &Scenario, modifiers: &[&str]) -> bool {
        let family = scenario.id.trim_end_matches(|c: char| c.is_ascii_lowercase());
        let names = |of: &&str| *of == "*" || *of == scenario.id || *of == family || scenario.expect.verdict.iter().any(|code| code == of);
        self.of.iter().any(|of| names(of)) && modifiers.iter().any(|modifier| self.with.contains(modifier))
    }
}

/// Every row. One that no combination needs is taken out; a test sees to that.
pub const ALLOWED: &[Allowed] = &[];
