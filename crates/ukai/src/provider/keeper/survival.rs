//! Whether the keeper outlives its controller here, as far as that can be known.

use std::time::Duration;

use tokio::process::Command;

/// Asking a service manager that hangs must not hold up a start.
const ASK_BOUND: Duration = Duration::from_secs(2);
/// First processes of containers, which end everything when the one they started has ended.
const CONTAINER_INITS: [&str; 7] =
    ["tini", "docker-init", "podman-init", "catatonit", "dumb-init", "s6-svscan", "pause"];

/// What bears on it.
#[derive(Debug, Default)]
struct Surroundings {
    is_first_process: bool,
    /// The name of process 1.
    first_process: String,
    /// systemd sets it for each start of a unit.
    invocation: bool,
    /// Both of the same control group.
    shared_group: bool,
    /// As systemd says.
    kill_mode: Option<String>,
}

/// Why the keeper would end together with ukai, told as a sentence. None: nothing is known against it.
pub async fn doubt(keeper: u32) -> Option<String> {
    let group = |process: &str| std::fs::read_to_string(format!("/proc/{process}/cgroup")).ok();
    let own = group("self");
    let mut found = Surroundings {
        is_first_process: std::process::id() == 1,
        first_process: std::fs::read_to_string("/proc/1/comm").unwrap_or_default().trim().to_owned(),
        invocation: std::env::var_os("INVOCATION_ID").is_some(),
        shared_group: own.is_some() && own == group(&keeper.to_string()),
        kill_mode: None,
    };
    if found.invocation && found.shared_group {
        found.kill_mode = kill_mode(own.as_deref().unwrap_or_default()).await;
    }
    found.doubt()
}

impl Surroundings {
    fn doubt(&self) -> Option<String> {
        if self.is_first_process || CONTAINER_INITS.contains(&self.first_process.as_str()) {
            return Some(
                "ukai runs in a container and the lease keeper inside it: when the container ends, nobody ends an override in time. Run \
                 `ukai keeper --standby` as a container of its own with the same data volume (docs/operate/providers.md)"
                    .to_owned(),
            );
        }
        let is_safe = self.kill_mode.as_deref().is_some_and(|mode| matches!(mode, "process" | "none"));
        (self.invocation && self.shared_group && !is_safe).then(|| {
            let known = self.kill_mode.as_deref().map_or("not known".to_owned(), |mode| format!("{mode:?}"));
            format!(
                "the lease keeper runs in the same systemd unit, whose KillMode is {known}: when the unit is stopped or ukai fails, it is \
                 killed too, and nobody ends an override in time. Set KillMode=process (docs/operate/providers.md)"
            )
        })
    }
}

/// Of the unit that the control group is named for.
async fn kill_mode(group: &str) -> Option<String> {
    let unit = unit(group)?;
    let mut ask = Command::new("systemctl");
    if group.contains("/user@") {
        ask.arg("--user");
    }
    ask.args(["show", "--property=KillMode", "--value", "--", unit]).kill_on_drop(true);
    let answer = tokio::time::timeout(ASK_BOUND, ask.output()).await.ok()?.ok()?;
    let mode = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
    (answer.status.success() && !mode.is_empty()).then_some(mode)
}

fn unit(group: &str) -> Option<&str> {
    group.lines().next()?.rsplit('/').find(|part| part.ends_with(".service"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_would_die_with_ukai_is_told_of() {
        let systemd = |kill_mode: Option<&str>, shared_group| Surroundings {
            first_process: "systemd".to_owned(),
            invocation: true,
            shared_group,
            kill_mode: kill_mode.map(str::to_owned),
            ..Surroundings::default()
        };
        assert!(systemd(None, true).doubt().unwrap().contains("not known"));
        assert!(systemd(Some("control-group"), true).doubt().unwrap().contains("KillMode=process"));
        assert_eq!(systemd(Some("process"), true).doubt(), None);
        assert_eq!(systemd(None, false).doubt(), None, "a unit of its own");
        assert_eq!(Surroundings { shared_group: true, ..Surroundings::default() }.doubt(), None, "at a terminal");
        let first = Surroundings { is_first_process: true, ..Surroundings::default() };
        assert!(first.doubt().unwrap().contains("container"));
        assert!(Surroundings { first_process: "tini".to_owned(), ..Surroundings::default() }.doubt().is_some());
    }

    #[test]
    fn a_unit_is_found_in_its_control_group() {
        assert_eq!(unit("0::/system.slice/ukai.service\n"), Some("ukai.service"));
        assert_eq!(unit("0::/system.slice/ukai.service/sub\n"), Some("ukai.service"));
        assert_eq!(unit("0::/user.slice/user-1000.slice/session-2.scope\n"), None);
        assert_eq!(unit(""), None);
    }
}
