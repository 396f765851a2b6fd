//! The verb that shows what was done to the store.

use clap::Args;
use serde::Serialize;
use store::{EnvironmentName, History as Kept, Outcome, Record as Done};

use super::{Failure, Format, Reply, Site, Table};

/// Show what was done to the store, when and by whom.
#[derive(Args, Debug)]
pub(crate) struct History {
    #[command(flatten)]
    format: Format,
    /// Only what was about this boot environment.
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
        if let Some(name) = &self.name {
            kept.retain(|record| record.is_about(name.as_str()));
        }
        let records: Vec<_> = kept.into_iter().map(Record::from).collect();
        self.format.reply(&records, |records| {
            let mut table = Table::new(&["TIME", "USER", "VERB", "ARGUMENTS", "OUTCOME"]);
            for record in records {
                table.row([
                    record.at.clone(),
                    record.who(),
                    record.verb.clone(),
                    record.arguments.join(" "),
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
