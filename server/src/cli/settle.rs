//! The verb that undoes or completes what killed commands left, and how that is shown.

use clap::Args;
use serde::Serialize;
use store::{EnvironmentName, Pending, Tries};

use super::{Dry, Failure, Format, Reply, Site, Table};
use crate::site::machine::{has_renaming, settle_renaming};
use crate::site::state::StateDir;

/// Undo or complete the changes of interrupted commands.
///
/// Every command that changes the store does this first, but retries a failing step only a few
/// times. This verb prints what is left, and why.
#[derive(Args, Debug)]
pub(crate) struct Settle {
    #[command(flatten)]
    format: Format,
    #[command(flatten)]
    dry: Dry,
    /// Settle only this boot environment.
    environment: Option<EnvironmentName>,
}

impl Settle {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        let name = self.environment.as_ref();
        if self.dry.is_dry() {
            let mut left = store.pending()?;
            left.extend(renaming(site, Tries::None)?);
            let left: Vec<Left> = left.iter().map(Left::of).collect();
            let left: Vec<Left> = left.into_iter().filter(|left| left.is_about(name)).collect();
            return self.format.reply(&left[..], table);
        }
        let mut left = store.settle(name)?;
        let renaming = renaming(site, Tries::Once);
        site.reload()?;
        left.extend(renaming?);
        let left: Vec<Left> = left.iter().map(Left::of).collect();
        let stays = left.into_iter().filter(|left| left.is_about(name));
        Ok(Reply::done().but(stays.map(|left| Failure::no(left.told()))))
    }
}

/// What is left of commands that gave environments other names.
pub(crate) fn renaming(site: &Site, tries: Tries) -> Result<Vec<Pending>, Failure> {
    if !has_renaming(site.state()) {
        return Ok(Vec::new());
    }
    let state = StateDir::open(site.state()).map_err(Failure::could_not)?;
    settle_renaming(&state, tries).map_err(Failure::could_not)
}

/// What a command left, as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct Left {
    intent: String,
    verb: String,
    environments: Vec<Named>,
    since: Option<String>,
    tries: u32,
    error: Option<String>,
}

/// An environment that it is about.
#[derive(Debug, Serialize)]
struct Named {
    name: String,
    uuid: String,
}

impl Left {
    pub(crate) fn of(pending: &Pending) -> Self {
        let named = pending
            .environments
            .iter()
            .map(|known| Named { name: known.name.clone(), uuid: known.uuid.to_string() });
        Self {
            intent: pending.uuid.to_string(),
            verb: pending.verb.clone(),
            environments: named.collect(),
            since: pending.since.map(|since| since.to_string()),
            tries: pending.tries,
            error: pending.error.clone(),
        }
    }

    fn is_about(&self, name: Option<&EnvironmentName>) -> bool {
        name.is_none_or(|name| self.environments.iter().any(|known| known.name == name.as_str()))
    }

    fn names(&self) -> String {
        let names: Vec<&str> = self.environments.iter().map(|known| known.name.as_str()).collect();
        names.join(", ")
    }

    /// One sentence.
    pub(crate) fn told(&self) -> String {
        let why =
            self.error.as_deref().unwrap_or("the next command that changes something settles it");
        if self.verb.is_empty() {
            return why.to_owned();
        }
        let since = self.since.as_deref().unwrap_or_default();
        let times = if self.tries == 1 { "time" } else { "times" };
        let (verb, names, tries) = (&self.verb, self.names(), self.tries);
        format!("{verb} {names}, begun at {since}, is not complete; tried {tries} {times}: {why}")
    }
}

fn table(left: &[Left]) -> Table {
    let mut table = Table::new(&["VERB", "ENVIRONMENTS", "SINCE", "TRIES", "WHY"]);
    for left in left {
        table.row([
            left.verb.clone(),
            left.names(),
            left.since.clone().unwrap_or_default(),
            left.tries.to_string(),
            left.error.clone().unwrap_or_default(),
        ]);
    }
    table
}
