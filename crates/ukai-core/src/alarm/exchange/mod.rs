//! Alarms from CloudWatch, and alarms for it.
//!
//! [`import`](import::import) reads what `aws cloudwatch describe-alarms --output json` prints. It takes every alarm that
//! ukai judges the same way, refuses the others by name with the reason, and never fails for one of them.
//! [`export`](export::export) writes what `put-metric-alarm` and `put-composite-alarm` take, or a CloudFormation template.
//! What is different on the other side is told in remarks, one for each alarm and difference; nothing is changed in silence.

pub mod export;
pub mod import;
mod members;
pub mod order;
mod template;

use serde::Serialize;

pub use export::{Exported, Format, Options, export};
pub use import::{ImportError, Imported, import};

/// An alarm, and what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Remark {
    pub alarm: String,
    pub text: String,
}

impl Remark {
    fn new(alarm: &str, text: impl Into<String>) -> Remark {
        Remark { alarm: alarm.to_owned(), text: text.into() }
    }
}

/// Of ukai's own actions.
const OWN_ACTION: &str = "ukai:";

/// Who carries out an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Runner {
    /// Only ukai can.
    Ukai,
    /// ukai and CloudWatch can.
    Both,
    /// Only CloudWatch can.
    Aws,
}

fn runner(action: &str) -> Runner {
    if action.starts_with(OWN_ACTION) {
        return Runner::Ukai;
    }
    match action.split(':').nth(2) {
        Some("sns" | "lambda") => Runner::Both,
        _ => Runner::Aws,
    }
}
