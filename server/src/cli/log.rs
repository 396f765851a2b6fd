//! The verb that tells what happened: to machines, to their boots, to boot environments.

use std::num::NonZero;

use clap::Args;
use store::Timestamp;

use super::{Failure, Format, Reply, Site, Table};
use crate::site::events::{Event, journal};

/// Show what happened to machines and boot environments, as the server saw it: the latest last.
///
/// `netbe history` shows what was done by commands, `netbe watch` what happens now.
#[derive(Args, Debug)]
pub(crate) struct Log {
    #[command(flatten)]
    format: Format,
    /// Only the latest so many.
    #[arg(short, long, value_name = "N")]
    last: Option<NonZero<usize>>,
    /// Only what was about this machine, by name or Ethernet address, or about this boot environment.
    name: Option<String>,
}

impl Log {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let mut events = journal::read(site.state()).map_err(|error| {
            Failure::could_not(format_args!(
                "cannot read what happened in {}: {error}",
                site.state().display()
            ))
        })?;
        if let Some(name) = &self.name {
            events.retain(|event| event.is_about(name));
        }
        if let Some(last) = self.last {
            let surplus = events.len().saturating_sub(last.get());
            events.drain(..surplus);
        }
        self.format.reply(&events, |events| {
            let mut table = Table::new(&["TIME", "KIND", "NAME", "ENVIRONMENT", "WHAT"]);
            for event in events {
                let Event { at, kind, environment, text, .. } = event;
                table.row([
                    Timestamp::from(*at).to_string(),
                    kind.to_string(),
                    event.subject().to_owned(),
                    environment.clone().unwrap_or_default(),
                    text.clone(),
                ]);
            }
            table
        })
    }
}
