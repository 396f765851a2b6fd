//! The verb that tells what happened: to machines, to their boots, to boot environments.

use std::num::NonZero;

use clap::Args;
use store::Timestamp;

use super::{Failure, Format, Reply, Site, Table};
use crate::site::events::{Event, journal};

/// Show the server's events about machines and boot environments, the newest last.
///
/// `netbe history` shows what commands did, `netbe watch` what happens now.
#[derive(Args, Debug)]
pub(crate) struct Log {
    #[command(flatten)]
    format: Format,
    /// Show only the last N events.
    #[arg(short, long, value_name = "N")]
    last: Option<NonZero<usize>>,
    /// Show only events about this machine (name or Ethernet address) or this boot environment.
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
