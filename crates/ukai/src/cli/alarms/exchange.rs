//! Alarms from CloudWatch and for it.
//!
//! An import goes to the daemon as one command, which it takes whole or not at all. What the daemon would refuse for its own
//! reasons is therefore sorted out before: observed alarms, and composites whose children are nowhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Value, json};
use ukai_core::alarm::composite::{AlarmExpression, PutRuleError, find_cycle};
use ukai_core::alarm::definition::Definition;
use ukai_core::alarm::exchange::order::children;
use ukai_core::alarm::exchange::{self, ImportError, Imported, Options, Remark};
use ukai_core::input::Command;

use super::{Common, all, json_of, shown_name, text_of};
use crate::cli::paint::{Painted, Tone};
use crate::cli::{BROKEN, DONE, Failed, NO_DAEMON, USAGE};
use crate::driver::alarms::{ShownAlarm, no_such_alarm};
use crate::socket::LINE_BYTES;

/// What the request has besides the definitions.
const REQUEST_ROOM: usize = 1024;

#[derive(Debug, clap::Args)]
pub struct ImportArgs {
    /// What `aws cloudwatch describe-alarms --output json` printed; - reads standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only say what would be taken.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// Alarms to export. Default: all of them.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Inputs of put-metric-alarm and put-composite-alarm, or a CloudFormation template.
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
    /// The topic that takes the place of ukai's own actions.
    #[arg(long, value_name = "ARN", value_parser = topic)]
    topic: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Anything else is found out by CloudWatch only, alarm by alarm.
fn topic(text: &str) -> Result<String, String> {
    match text.split(':').collect::<Vec<_>>()[..] {
        ["arn", _, "sns", region, account, name] if ![region, account, name].contains(&"") => Ok(text.to_owned()),
        _ => Err("a topic is written as its ARN, such as arn:aws:sns:eu-west-1:111122223333:ops".to_owned()),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Json,
    Cloudformation,
}

#[derive(Debug, Serialize)]
struct Told<'a> {
    taken: Vec<&'a str>,
    refused: &'a [Remark],
    notes: &'a [Remark],
    /// Whether the daemon has them now.
    put: bool,
    text: Option<String>,
}

pub async fn import(args: ImportArgs) -> anyhow::Result<ExitCode> {
    let name = shown_name(&args.file);
    let mut imported = exchange::import(&text_of(&args.file)?).map_err(|error| match error {
        ImportError::Json { line, column, why } => Failed::with(USAGE, format!("{name}:{line}:{column}: {why}")),
        error @ ImportError::Shape { .. } => Failed::with(USAGE, format!("{name}: {error}")),
    })?;
    match all(&args.common.daemon).await {
        Ok(there) => sort_out(&mut imported, Some(&there)),
        Err(error) if args.dry_run && is_no_daemon(&error) => {
            anstream::eprintln!("no daemon answers: only the file was looked at");
            sort_out(&mut imported, None);
        }
        Err(error) => return Err(error),
    }
    let put = !args.dry_run && !imported.taken.is_empty();
    let text = if put { Some(put_all(&args.common, &imported.taken).await?) } else { None };
    let taken = imported.taken.iter().map(|definition| definition.name.as_str()).collect();
    let told = Told { taken, refused: &imported.refused, notes: &imported.notes, put, text };
    if args.common.json {
        json_of(&told)?;
    } else {
        print(&told, args.dry_run);
    }
    let whole = imported.refused.is_empty() && !imported.taken.is_empty();
    Ok(ExitCode::from(if whole { DONE } else { BROKEN }))
}

fn is_no_daemon(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failed>().is_some_and(|failed| failed.code == NO_DAEMON)
}

/// `there`: the daemon's alarms, where it was asked.
fn sort_out(imported: &mut Imported, there: Option<&[ShownAlarm]>) {
    let observed: BTreeSet<&str> = there
        .iter()
        .flat_map(|there| there.iter())
        .filter(|alarm| alarm.definition.is_observed())
        .map(|alarm| alarm.name.as_str())
        .collect();
    let refuse = |imported: &mut Imported, is_refused: &dyn Fn(&Definition) -> Option<String>| {
        let before = imported.taken.len();
        for definition in std::mem::take(&mut imported.taken) {
            match is_refused(&definition) {
                None => imported.taken.push(definition),
                Some(text) => imported.refused.push(Remark { alarm: definition.name, text }),
            }
        }
        before != imported.taken.len()
    };
    refuse(imported, &|definition| {
        let is_own = definition.is_observed() || observed.contains(definition.name.as_str());
        is_own.then(|| "an observed alarm of ukai's own has this name; nothing can be put in its place".to_owned())
    });
    let Some(there) = there else { return };
    // A composite that goes may take others with it.
    loop {
        let rules = rules(&imported.taken, there);
        let ring = |definition: &Definition| {
            let path = find_cycle(&rules, &definition.name, rules.get(&definition.name)?)?;
            Some(PutRuleError::Cycle { path }.to_string())
        };
        let has_ring = refuse(imported, &ring);
        let names: BTreeSet<String> = imported.taken.iter().map(|definition| definition.name.clone()).collect();
        let exists = |name: &String| names.contains(name) || there.iter().any(|alarm| alarm.name == *name);
        let orphan = |definition: &Definition| {
            let missing = children(definition.composite()?).into_iter().find(|child| !exists(child))?;
            Some(format!("it names {missing:?}, which is neither among these alarms nor among the daemon's"))
        };
        if !refuse(imported, &orphan) && !has_ring {
            break;
        }
    }
    let replaced = imported.taken.iter().filter_map(|definition| in_the_place_of(definition, there));
    imported.notes.extend(replaced.collect::<Vec<_>>());
    imported.notes.retain(|note| imported.taken.iter().any(|definition| definition.name == note.alarm));
}

/// The rules of the composites that there would be.
fn rules(taken: &[Definition], there: &[ShownAlarm]) -> BTreeMap<String, AlarmExpression> {
    let stays = there.iter().map(|alarm| &alarm.definition).filter(|old| taken.iter().all(|new| new.name != old.name));
    let rule = |definition: &Definition| AlarmExpression::parse(&definition.composite()?.rule).ok();
    stays.chain(taken).filter_map(|definition| Some((definition.name.clone(), rule(definition)?))).collect()
}

/// Of an alarm that is put in the place of a default: what no longer happens by itself.
fn in_the_place_of(definition: &Definition, there: &[ShownAlarm]) -> Option<Remark> {
    let default = there.iter().find(|alarm| alarm.is_default && alarm.name == definition.name)?;
    let gone: Vec<&str> = default.definition.actions.alarm.iter().map(String::as_str).collect();
    if gone.iter().all(|action| definition.actions.alarm.iter().any(|own| own == action)) {
        return None;
    }
    let text = format!(
        "it takes the place of the default alarm, and {} goes with that; add the action here, or give this alarm \
         another name",
        gone.join(", ")
    );
    Some(Remark { alarm: definition.name.clone(), text })
}

async fn put_all(common: &Common, taken: &[Definition]) -> anyhow::Result<String> {
    let definitions = taken.to_vec();
    let bytes = serde_json::to_string(&definitions)?.len() + REQUEST_ROOM;
    if bytes > LINE_BYTES {
        let message = format!(
            "these alarms take {bytes} bytes, and one command has at most {LINE_BYTES}; nothing was taken: split the file"
        );
        return Err(Failed::with(USAGE, message));
    }
    common.daemon.command(Command::PutAlarms { definitions }).await
}

fn print(told: &Told<'_>, dry_run: bool) {
    for name in &told.taken {
        anstream::println!("{} {name}", Painted(Tone::Good, "taken  "));
    }
    for refused in told.refused {
        anstream::println!("{} {}: {}", Painted(Tone::Bad, "refused"), refused.alarm, refused.text);
    }
    for note in told.notes {
        anstream::println!("{} {}: {}", Painted(Tone::Warning, "note   "), note.alarm, note.text);
    }
    let done = match (told.put, dry_run) {
        (true, _) => "taken",
        (false, true) => "would be taken",
        (false, false) => "taken: there was nothing to put",
    };
    anstream::println!("{} {done}, {} refused", told.taken.len(), told.refused.len());
    if let Some(text) = &told.text {
        anstream::println!("{text}");
    }
}

pub async fn export(args: ExportArgs) -> anyhow::Result<ExitCode> {
    let there = all(&args.common.daemon).await?;
    if let Some(name) = args.names.iter().find(|name| !there.iter().any(|alarm| alarm.name == **name)) {
        return Err(Failed::with(BROKEN, no_such_alarm(name, there.iter().map(|alarm| alarm.name.as_str()))));
    }
    let is_wanted = |alarm: &ShownAlarm| args.names.is_empty() || args.names.contains(&alarm.name);
    let definitions: Vec<Definition> = there.into_iter().filter(is_wanted).map(|alarm| alarm.definition).collect();
    let format = match args.format {
        Format::Json => exchange::Format::Json,
        Format::Cloudformation => exchange::Format::CloudFormation,
    };
    let exported = exchange::export(&definitions, Options { format, topic: args.topic.as_deref() });
    if args.common.json {
        let alarms: Value = serde_json::from_str(&exported.text)?;
        return json_of(&json!({ "exported": alarms, "notes": exported.notes }));
    }
    for note in &exported.notes {
        anstream::eprintln!("{} {}: {}", Painted(Tone::Warning, "note"), note.alarm, note.text);
    }
    anstream::print!("{}", exported.text);
    Ok(ExitCode::from(DONE))
}
