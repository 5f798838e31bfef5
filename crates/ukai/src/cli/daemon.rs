//! Finding the daemon, and asking it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde_json::Value;
use ukai_core::input::Command;

use crate::config::{SOCKET_NAME, default_data_dir};
use crate::socket::Op;
use crate::socket::client::{CallError, SocketClient};

use super::ask::read_bounded;
use super::{BROKEN, Failed, NO_DAEMON, REFUSED, USAGE};

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
        SocketClient::connect(&path).await.map_err(|error| Failed::with(NO_DAEMON, error.to_string()))
    }

    pub async fn call(&self, op: Op) -> anyhow::Result<Value> {
        self.connect().await?.call(op).await.map_err(failed)
    }

    /// Hands a command to the daemon; what it says when it is done.
    pub async fn command(&self, command: Command) -> anyhow::Result<String> {
        let value = self.call(Op::Command { command }).await?;
        Ok(value["text"].as_str().unwrap_or("done").to_owned())
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

    /// Only the two keys that are needed: secrets that the daemon reads are not the caller's to have.
    fn written(&self) -> anyhow::Result<Written> {
        let Some(file) = &self.config else { return Ok(Written::default()) };
        let read = || -> anyhow::Result<Written> {
            let text = String::from_utf8(read_bounded(file, CONFIG_MAX)?)?;
            let table: toml::Table = text.parse()?;
            let base = file.parent().unwrap_or(Path::new("."));
            let path = |value: Option<&toml::Value>| value.and_then(toml::Value::as_str).map(|text| base.join(text));
            let socket = table.get("socket").and_then(|socket| socket.get("path"));
            Ok(Written { data_dir: path(table.get("data_dir")), socket: path(socket) })
        };
        read()
            .with_context(|| format!("{} cannot be read", file.display()))
            .map_err(|error| Failed::with(USAGE, format!("{error:#}")))
    }
}

#[derive(Default)]
struct Written {
    data_dir: Option<PathBuf>,
    socket: Option<PathBuf>,
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
    fn a_broken_configuration_is_a_usage_error() {
        let daemon = Daemon { config: Some("/nonexistent/ukai.toml".into()), ..Daemon::default() };
        let error = daemon.socket_path().unwrap_err();
        assert_eq!(error.downcast_ref::<Failed>().unwrap().code, USAGE);
    }
}
