//! What was done: noted for verbs that take several steps, and shown.
//!
//! The store notes what is done to it. What a verb does in several steps there, or to machines, is noted
//! here as one, in the words that were typed.

use std::collections::HashMap;

use bootcfg::shell;
use clap::Args;
use serde::Serialize;
use store::{EnvironmentName, History as Kept, Outcome, Record as Done};

use super::{Failure, Format, Reply, Site, Table, Typed};

/// Show which commands changed boot environments and machines, when, and who ran them.
#[derive(Args, Debug)]
pub(crate) struct History {
    #[command(flatten)]
    format: Format,
    /// Show the steps inside the store too, such as those of an upgrade.
    #[arg(short, long)]
    all: bool,
    /// Show only this boot environment or machine, with the steps.
    name: Option<EnvironmentName>,
}

impl History {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let mut kept = Kept::in_state(site.state()).read().map_err(|error| {
            Failure::could_not(format_args!(
                "cannot read the history in {}: {error}",
                site.state().display()
            ))
        })?;
        match &self.name {
            Some(name) => retain_about(&mut kept, name.as_str()),
            None if self.all => {}
            None => leave_steps_out(&mut kept),
        }
        let records: Vec<_> = kept.into_iter().map(Record::from).collect();
        self.format.reply(&records, |records| {
            let mut table = Table::new(&["TIME", "USER", "VERB", "ARGUMENTS", "OUTCOME"]);
            for record in records {
                table.row([
                    record.at.clone(),
                    record.who(),
                    record.verb.clone(),
                    quoted(&record.arguments),
                    match &record.error {
                        Some(error) => format!("{}: {error}", record.outcome),
                        None => record.outcome.to_owned(),
                    },
                ]);
            }
            table
        })
    }
}

/// Runs a command, and notes it if [`COMMANDS`] has it.
pub(super) fn noted(
    site: &Site,
    typed: &Typed,
    run: impl FnOnce() -> Result<Reply, Failure>,
) -> Result<Reply, Failure> {
    if typed.dry || !COMMANDS.contains(&typed.verb.as_str()) {
        return run();
    }
    let history = Kept::in_state(site.state());
    let arguments: Vec<&str> = typed.arguments.iter().map(String::as_str).collect();
    let entry = history.begin(&typed.verb, &arguments);
    let outcome = run();
    entry.end(&outcome.as_ref().map_err(|failure| &failure.message));
    outcome
}

/// Leaves what is about a machine or an environment, also by the names that a machine had before.
fn retain_about(records: &mut Vec<Done>, name: &str) {
    let mut names = vec![name.to_owned()];
    let mut about: Vec<bool> = Vec::new();
    for record in records.iter().rev() {
        about.push(names.iter().any(|name| record.is_about(name)));
        let renamed = record.verb == "machine rename" && matches!(record.outcome, Outcome::Done);
        let mut machines = record.arguments.iter().filter(|argument| !argument.starts_with('-'));
        if let (true, Some(old), Some(new)) = (renamed, machines.next(), machines.next())
            && names.last() == Some(new)
        {
            names.push(old.clone());
        }
    }
    let mut about = about.into_iter().rev();
    records.retain(|_| about.next().unwrap_or(false));
}

/// Leaves out the steps of commands that have ended: those of one that was killed tell how far it came.
fn leave_steps_out(records: &mut Vec<Done>) {
    let mut commands = HashMap::new();
    records.retain(|record| {
        if COMMANDS.contains(&record.verb.as_str()) {
            commands.insert(record.pid, record.ended);
            return true;
        }
        let ended = commands.get(&record.pid).copied().flatten();
        ended.is_none_or(|ended| record.at > ended)
    });
}

/// The verbs that take several steps in the store, or none there.
const COMMANDS: [&str; 11] = [
    "activate",
    "install",
    "machine add",
    "machine keep",
    "machine promote",
    "machine remove",
    "machine rename",
    "machine reset",
    "machine set",
    "sharepxe",
    "upgrade",
];

/// Arguments as a shell takes them: a name may have spaces in it.
fn quoted(arguments: &[String]) -> String {
    // No argument has the one character that a shell cannot be given, a NUL.
    shell::line(arguments).unwrap_or_else(|_| arguments.join(" "))
}

/// What was done, as it is shown.
#[derive(Serialize)]
struct Record {
    at: String,
    ended: Option<String>,
    uid: u32,
    user: Option<String>,
    sudo: Option<String>,
    process: u32,
    verb: String,
    arguments: Vec<String>,
    outcome: &'static str,
    error: Option<String>,
}

impl From<Done> for Record {
    fn from(done: Done) -> Self {
        let (outcome, error) = match done.outcome {
            Outcome::Done => ("done", None),
            Outcome::Failed(error) => ("failed", Some(error)),
            Outcome::Running => ("running", None),
            Outcome::Unfinished => ("not finished", None),
        };
        Self {
            at: done.at.to_string(),
            ended: done.ended.map(|at| at.to_string()),
            uid: done.uid,
            user: done.user,
            sudo: done.sudo,
            process: done.pid,
            verb: done.verb,
            arguments: done.arguments,
            outcome,
            error,
        }
    }
}

impl Record {
    /// The user, and who became that user.
    fn who(&self) -> String {
        let user = self.user.clone().unwrap_or_else(|| self.uid.to_string());
        self.sudo.as_ref().map_or_else(|| user.clone(), |sudo| format!("{sudo} as {user}"))
    }
}
