//! How a command that failed says so: a sentence for people, or one JSON object where `--json` was given.

use std::process::ExitCode;

use clap::error::ErrorKind;
use serde_json::json;

use super::paint::{Painted, Tone};
use super::{BROKEN, DONE, USAGE};

/// An error that knows its exit code. Its sentence says what is wrong and, behind the first `; `, how to mend it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failed {
    pub code: u8,
    pub message: String,
}

impl Failed {
    pub fn with(code: u8, message: impl Into<String>) -> anyhow::Error {
        Failed { code, message: message.into() }.into()
    }
}

/// Whether JSON was asked for, also by a command line that is wrong otherwise.
pub fn wants_json(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> bool {
    arguments.into_iter().take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

/// Says on the error stream why it was not done, and gives the exit code.
pub fn tell(error: &anyhow::Error, as_json: bool) -> ExitCode {
    let code = error.downcast_ref::<Failed>().map_or(BROKEN, |failed| failed.code);
    match as_json {
        true => anstream::eprintln!("{}", as_object(&format!("{error:#}"), code)),
        false => anstream::eprintln!("{} {error:#}", Painted(Tone::Bad, "ukai:")),
    }
    ExitCode::from(code)
}

/// A command line that is not understood; or one that asks for help, which is no error.
pub fn tell_usage(error: &clap::Error, as_json: bool) -> ExitCode {
    if as_json && error.use_stderr() {
        anstream::eprintln!("{}", usage_object(error));
        return ExitCode::from(USAGE);
    }
    // Whoever reads has had enough.
    let _ = error.print();
    ExitCode::from(if error.use_stderr() { USAGE } else { DONE })
}

fn as_object(sentence: &str, code: u8) -> serde_json::Value {
    // Several problems are several lines, each with its own remedy.
    let (what, mend) = match sentence.split_once("; ") {
        Some((what, mend)) if !sentence.contains('\n') => (what, Some(mend)),
        _ => (sentence, None),
    };
    json!({ "error": { "what": what, "mend": mend, "exit_code": code } })
}

fn usage_object(error: &clap::Error) -> serde_json::Value {
    let rendered = error.render().to_string();
    let mut paragraphs = rendered.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    let what = match error.kind() {
        // The whole help is shown; it says no more than that.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a command is missing".to_owned(),
        _ => paragraphs.next().unwrap_or_default(),
    };
    let what = what.strip_prefix("error: ").unwrap_or(&what);
    let mend: Vec<String> = paragraphs.filter(|part| !part.is_empty()).collect();
    json!({ "error": { "what": what, "mend": mend.join("; "), "exit_code": USAGE } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_what_is_wrong_and_how_to_mend_it() {
        let object = as_object("there is no incident inc-9; `ukai incidents` lists them", BROKEN);
        assert_eq!(
            object["error"],
            json!({ "what": "there is no incident inc-9", "mend": "`ukai incidents` lists them", "exit_code": 1 })
        );
        assert_eq!(as_object("the disk is full", BROKEN)["error"]["mend"], json!(null));
        let two = "ukai.toml:1:1: one; mend it so\nukai.toml:2:1: two";
        assert_eq!(as_object(two, USAGE)["error"]["what"], two);
    }

    #[test]
    fn json_is_asked_for_by_its_option_alone() {
        let wants = |line: &str| wants_json(line.split(' ').map(Into::into));
        assert!(wants("ukai status --json") && wants("ukai --jsn --json"));
        assert!(!wants("ukai status") && !wants("ukai check -- --json"));
    }
}
