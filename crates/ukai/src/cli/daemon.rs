//! Finding the daemon, and asking it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;
use ukai_core::event::Recorded;
use ukai_core::input::Command;

use crate::config::{SOCKET_NAME, default_data_dir};
use crate::data_dir;
use crate::driver::NOT_FOUND;
use crate::log::{LOG_FILE, export};
use crate::socket::Op;
use crate::socket::client::{CallError, ConnectError, SocketClient};
use crate::socket::credentials::{group_name, user_name};

use super::{BROKEN, Failed, NO_DAEMON, REFUSED, USAGE};
use ukai_dnsd::read_bounded;

const CONFIG_MAX: u64 = 4 * 1024 * 1024;

/// Which daemon is meant. Default: the one of the default data directory.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Daemon {
    /// The daemon's control socket.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// The daemon's data directory.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// The daemon's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl Daemon {
    pub fn data_dir(&self) -> anyhow::Result<PathBuf> {
        if let Some(dir) = &self.data_dir {
            return Ok(dir.clone());
        }
        let written = self.written()?;
        Ok(written.data_dir.unwrap_or_else(default_data_dir))
    }

    pub async fn connect(&self) -> anyhow::Result<SocketClient> {
        let path = self.socket_path()?;
        SocketClient::connect(&path).await.map_err(|error| match error {
            ConnectError::Permission { path, .. } => Failed::with(REFUSED, not_for_you(&path)),
            error @ (ConnectError::NotRunning(_) | ConnectError::Stale(_) | ConnectError::Io { .. }) => {
                Failed::with(NO_DAEMON, error.to_string())
            }
        })
    }

    pub async fn call(&self, op: Op) -> anyhow::Result<Value> {
        let value = self.connect().await?.call(op).await.map_err(failed)?;
        match value[NOT_FOUND].as_str() {
            Some(sentence) => Err(Failed::with(BROKEN, sentence)),
            None => Ok(value),
        }
    }

    /// Hands a command to the daemon; what it says when it is done.
    pub async fn command(&self, command: Command) -> anyhow::Result<String> {
        let value = self.call(Op::Command { command }).await?;
        Ok(value["text"].as_str().unwrap_or("done").to_owned())
    }

    /// Every event of the log: of the daemon while it runs, else of its directory.
    pub async fn records(&self) -> anyhow::Result<Vec<Recorded>> {
        let dir = self.data_dir()?;
        let mut records = Vec::new();
        if self.socket.is_some() || data_dir::holder(&dir).is_some() {
            let mut events = self.connect().await?.events(0, false).await.map_err(failed)?;
            while let Some(event) = events.next().await.map_err(failed)? {
                records.push(event.recorded);
            }
            return Ok(records);
        }
        if !dir.join(LOG_FILE).try_exists().unwrap_or(true) {
            let dir = dir.display();
            let message = format!(
                "there is no event log in {dir}, and no daemon runs there; --data-dir or --config says where it is kept"
            );
            return Err(Failed::with(BROKEN, message));
        }
        let mut lines = Vec::new();
        let exported = export(&dir, &mut lines)?;
        if !exported.is_whole() {
            anstream::eprintln!("the log is damaged: what can be read of it is used; `ukai log export` says more");
        }
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // Written by this program, or by an older one whose events are known.
            records.extend(serde_json::from_slice::<Recorded>(line).ok());
        }
        Ok(records)
    }

    fn socket_path(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.socket {
            return Ok(path.clone());
        }
        if let Some(dir) = &self.data_dir {
            return Ok(dir.join(SOCKET_NAME));
        }
        match self.written()?.socket {
            Some(path) => Ok(path),
            None => Ok(self.data_dir()?.join(SOCKET_NAME)),
        }
    }

    /// Only the few keys that are needed: secrets that the daemon reads are not the caller's to have.
    pub fn written(&self) -> anyhow::Result<Written> {
        let Some(file) = &self.config else { return Ok(Written::default()) };
        let read = || -> anyhow::Result<Written> {
            let text = String::from_utf8(read_bounded(file, CONFIG_MAX)?)?;
            let table: toml::Table = text.parse()?;
            let base = file.parent().unwrap_or(Path::new("."));
            let path = |value: Option<&toml::Value>| value.and_then(toml::Value::as_str).map(|text| base.join(text));
            let socket = table.get("socket").and_then(|socket| socket.get("path"));
            let text = |value: Option<&toml::Value>| value.and_then(toml::Value::as_str).map(str::to_owned);
            Ok(Written {
                data_dir: path(table.get("data_dir")),
                socket: path(socket),
                vantage: text(table.get("vantage")),
                contact: text(table.get("report").and_then(|report| report.get("contact"))),
            })
        };
        read()
            .with_context(|| format!("{} cannot be read", file.display()))
            .map_err(|error| Failed::with(USAGE, format!("{error:#}")))
    }
}

#[derive(Default)]
pub struct Written {
    data_dir: Option<PathBuf>,
    socket: Option<PathBuf>,
    pub vantage: Option<String>,
    pub contact: Option<String>,
}

/// Who may use the socket: what keeps us out is the socket itself or, most often, the directory that it is in.
fn not_for_you(socket: &Path) -> String {
    const GROUP_MAY_WRITE: u32 = 0o020;
    const GROUP_MAY_ENTER: u32 = 0o010;
    let seen = socket.ancestors().find_map(|path| Some((path, std::fs::metadata(path).ok()?)));
    let Some((path, metadata)) = seen else {
        return format!("you may not use the socket {}", socket.display());
    };
    let (owner, group) = (user_name(metadata.uid()), group_name(metadata.gid()));
    let needed = if path == socket { GROUP_MAY_WRITE } else { GROUP_MAY_ENTER };
    let who = if metadata.mode() & needed != 0 {
        format!("its owner {owner} and the group {group} may")
    } else {
        format!("only its owner {owner} may (and root)")
    };
    let how = "run this as one of them, or have `socket.path` and `socket.group` set in the daemon's configuration";
    match path == socket {
        true => format!("you may not use the socket {}: {who}; {how}", socket.display()),
        false => format!("you may not use the socket {}: into {} {who}; {how}", socket.display(), path.display()),
    }
}

pub fn failed(error: CallError) -> anyhow::Error {
    let code = match error {
        CallError::Refused(_) => REFUSED,
        CallError::Closed | CallError::Timeout | CallError::Protocol(_) | CallError::Io(_) => BROKEN,
    };
    Failed::with(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_found_by_what_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ukai.toml");
        std::fs::write(&file, "data_dir = \"state\"\n[socket]\npath = \"/run/u.sock\"\n").unwrap();
        let by_config = Daemon { config: Some(file.clone()), ..Daemon::default() };
        assert_eq!(by_config.socket_path().unwrap(), PathBuf::from("/run/u.sock"));
        assert_eq!(by_config.data_dir().unwrap(), dir.path().join("state"));
        std::fs::write(&file, "data_dir = \"state\"\n").unwrap();
        assert_eq!(by_config.socket_path().unwrap(), dir.path().join("state").join(SOCKET_NAME));
        let by_dir = Daemon { data_dir: Some("/d".into()), ..Daemon::default() };
        assert_eq!(by_dir.socket_path().unwrap(), PathBuf::from("/d").join(SOCKET_NAME));
        let by_socket = Daemon { socket: Some("/s".into()), ..by_dir };
        assert_eq!(by_socket.socket_path().unwrap(), PathBuf::from("/s"));
    }

    #[test]
    fn who_may_use_a_socket_is_named() {
        use std::os::unix::fs::PermissionsExt;

        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("u.sock");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let owner = user_name(std::fs::metadata(dir.path()).unwrap().uid());
        let told = not_for_you(&socket);
        assert!(told.contains(&format!("into {} only its owner {owner} may", dir.path().display())), "{told}");
        std::fs::write(&socket, "").unwrap();
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o660)).unwrap();
        let told = not_for_you(&socket);
        assert!(told.contains("and the group"), "{told}");
    }

    #[test]
    fn a_broken_configuration_is_a_usage_error() {
        let daemon = Daemon { config: Some("/nonexistent/ukai.toml".into()), ..Daemon::default() };
        let error = daemon.socket_path().unwrap_err();
        assert_eq!(error.downcast_ref::<Failed>().unwrap().code, USAGE);
    }
}
