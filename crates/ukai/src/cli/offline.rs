//! `ukai revert --all --offline`: every override taken back with the daemon dead.

use std::cell::RefCell;
use std::process::ExitCode;

use anyhow::Context;
use jiff::Timestamp;
use serde_json::json;
use ukai_core::event::Actor;
use ukai_dns::server::{ControlClient, OverrideRecord};

use crate::data_dir;
use crate::dns_process::StateDir;
use crate::driver::offline::{Deed, record};
use crate::socket::credentials::user_name;

use super::overrides::WhyArgs;
use super::paint::{Painted, Tone};
use super::{DONE, Failed, REFUSED};

pub async fn revert_all(args: &WhyArgs) -> anyhow::Result<ExitCode> {
    let dir = args.daemon.data_dir()?;
    if let Some(process) = data_dir::holder(&dir) {
        let message = format!(
            "the daemon of {} runs (process {process}); use `ukai revert --all` without --offline",
            dir.display()
        );
        return Err(Failed::with(REFUSED, message));
    }
    let state_dir = StateDir::of(&dir);
    let why = if args.why.is_empty() { "reverted offline".to_owned() } else { args.why.clone() };
    let control = state_dir.control();
    let (reverted, damaged) = match control.list().await {
        Ok(status) => {
            write_down(&dir, &status.overrides, &why)?;
            for over in &status.overrides {
                control
                    .clear(&over.id, None, &why)
                    .await
                    .with_context(|| format!("{} could not be taken back", over.id))?;
            }
            (status.overrides, None)
        }
        Err(_) if !state_dir.path().exists() => (Vec::new(), None),
        Err(_) => edit(&dir, &state_dir, &why)?,
    };
    if args.json {
        let ids: Vec<&str> = reverted.iter().map(|over| over.id.as_str()).collect();
        println!("{}", json!({ "reverted": ids, "damaged": damaged }));
        return Ok(ExitCode::from(DONE));
    }
    if let Some(damaged) = damaged {
        anstream::println!("{}", Painted(Tone::Warning, damaged));
    }
    if reverted.is_empty() {
        anstream::println!("no override stood");
    }
    for over in &reverted {
        anstream::println!("{} for {} is no longer served", over.id, over.name);
    }
    Ok(ExitCode::from(DONE))
}

/// The DNS process is down too: what it would serve when it comes back is on its disk.
fn edit(
    dir: &std::path::Path,
    state_dir: &StateDir,
    why: &str,
) -> anyhow::Result<(Vec<OverrideRecord>, Option<String>)> {
    let standing = RefCell::new(Vec::new());
    let looked = ControlClient::edit_offline(
        state_dir.path(),
        |record| {
            standing.borrow_mut().push(record.clone());
            false
        },
        why,
    )
    .context("the DNS process does not answer, and its overrides cannot be read from its disk")?;
    write_down(dir, &standing.into_inner(), why)?;
    let withdrawn = ControlClient::edit_offline(state_dir.path(), |_| true, why)
        .context("the overrides on disk cannot be changed")?;
    Ok((withdrawn.overrides, withdrawn.damaged.or(looked.damaged)))
}

/// Who and why, before the deed.
fn write_down(dir: &std::path::Path, overrides: &[OverrideRecord], why: &str) -> anyhow::Result<()> {
    let uid = rustix::process::getuid().as_raw();
    let by = Actor { uid: Some(uid), name: user_name(uid), via: "offline".to_owned() };
    let deeds: Vec<Deed> = overrides
        .iter()
        .map(|over| Deed { at: Timestamp::now(), id: over.id.clone(), by: by.clone(), why: why.to_owned() })
        .collect();
    if deeds.is_empty() {
        return Ok(());
    }
    record(dir, &deeds)
        .with_context(|| format!("who did it cannot be written to {}, so nothing was done", dir.display()))
}
