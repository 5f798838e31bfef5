//! People of a drill, acting through the ordinary command line.

use std::path::PathBuf;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::scenario::{Deed, Person};

/// A command that takes longer than this has failed for the person who waits for it.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(15);
/// A person whose command finds no daemon, or one that goes away before it answers, tries again for a while.
const TRIES: u32 = 8;
const PAUSE: Duration = Duration::from_secs(1);
/// The exit codes of `ukai` that say that no daemon answers, or not to the end.
const UNANSWERED: [i32; 2] = [1, 3];
/// `nobody`: the second person's uid, where the drill runs as root.
const SECOND_UID: u32 = 65_534;

/// The command line of the daemon under drill.
#[derive(Debug, Clone)]
pub struct Cli {
    pub ukai: PathBuf,
    pub data_dir: PathBuf,
    /// Where the control socket is, if not in the data directory.
    pub socket: Option<PathBuf>,
}

/// What a command said.
#[derive(Debug, Clone)]
pub struct Said {
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
}

impl Said {
    pub fn done(&self) -> bool {
        self.code == Some(0)
    }

    /// What a person would read: the output, or why there is none.
    pub fn text(&self) -> String {
        let text = if self.done() || self.errors.trim().is_empty() { &self.output } else { &self.errors };
        text.trim().to_owned()
    }
}

impl Cli {
    /// The options by which a command finds the daemon.
    pub fn place(&self) -> Vec<String> {
        let mut place = vec!["--data-dir".to_owned(), self.data_dir.display().to_string()];
        if let Some(socket) = &self.socket {
            place = vec!["--socket".to_owned(), socket.display().to_string()];
        }
        place
    }

    pub async fn run(&self, arguments: &[String], who: Person) -> Said {
        let mut command = Command::new(&self.ukai);
        command.args(arguments).args(self.place()).stdin(std::process::Stdio::null()).kill_on_drop(true);
        if who == Person::B {
            command.uid(SECOND_UID);
        }
        match timeout(COMMAND_TIMEOUT, command.output()).await {
            Ok(Ok(output)) => Said {
                code: output.status.code(),
                output: String::from_utf8_lossy(&output.stdout).into_owned(),
                errors: String::from_utf8_lossy(&output.stderr).into_owned(),
            },
            Ok(Err(error)) => Said { code: None, output: String::new(), errors: error.to_string() },
            Err(_) => Said {
                code: None,
                output: String::new(),
                errors: format!("no answer within {} s", COMMAND_TIMEOUT.as_secs()),
            },
        }
    }

    /// As a person does: again, while there is no daemon to talk to. What was done by then is refused, not done twice.
    pub async fn insist(&self, arguments: &[String], who: Person) -> Said {
        let mut said = self.run(arguments, who).await;
        for _ in 1..TRIES {
            if !said.code.is_some_and(|code| UNANSWERED.contains(&code)) {
                break;
            }
            sleep(PAUSE).await;
            said = self.run(arguments, who).await;
        }
        said
    }
}

/// The command for a deed. None: there is nothing to do, or nothing yet to do it to.
pub fn command(deed: Deed, over: Option<&str>) -> Option<Vec<String>> {
    let words: Vec<&str> = match (deed, over) {
        (Deed::Approve, Some(id)) => vec!["approve", id, "--yes", "--why", "drill"],
        (Deed::Reject, Some(id)) => vec!["reject", id, "--why", "drill"],
        (Deed::Revert, Some(id)) => vec!["revert", id, "--why", "drill"],
        (Deed::Freeze, _) => vec!["freeze", "--why", "drill"],
        (Deed::Nothing, _) | (Deed::Approve | Deed::Reject | Deed::Revert, None) => return None,
    };
    Some(words.into_iter().map(str::to_owned).collect())
}

pub fn may_be_a_second_person() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deeds_become_commands_once_there_is_something_to_do_them_to() {
        let words = |deed, over| command(deed, over).map(|words| words.join(" "));
        assert_eq!(words(Deed::Approve, Some("o-1")).as_deref(), Some("approve o-1 --yes --why drill"));
        assert_eq!(words(Deed::Approve, None), None);
        assert_eq!(words(Deed::Freeze, None).as_deref(), Some("freeze --why drill"));
        assert_eq!(words(Deed::Nothing, Some("o-1")), None);
    }
}
