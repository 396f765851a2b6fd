//! The verb that tells what happened: to machines, to their boots, to boot environments.

use std::num::NonZero;

use clap::Args;
use store::Timestamp;

use super::{Failure, Format, Reply, Site, Table};
use crate::console::{self, Said};
use crate::site::events::{Event, journal};

/// Show the server's events about machines and boot environments, the newest last.
///
/// `netbe history` shows what commands did, `netbe watch` what happens now.
#[derive(Args, Debug)]
pub(crate) struct Log {
    #[command(flatten)]
    format: Format,
    /// Show the machine's own messages, which came by syslog or netconsole.
    #[arg(long, requires = "name")]
    console: bool,
    /// Show only the last N events or lines.
    #[arg(short, long, value_name = "N")]
    last: Option<NonZero<usize>>,
    /// Show only events about this machine (name or Ethernet address) or this boot environment.
    name: Option<String>,
}

impl Log {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        if let Some(name) = self.name.as_ref().filter(|_| self.console) {
            return self.said(site, name);
        }
        let mut events = journal::read(site.state()).map_err(|error| {
            Failure::could_not(format_args!(
                "cannot read the events in {}: {error}",
                site.state().display()
            ))
        })?;
        if let Some(name) = &self.name {
            events.retain(|event| event.is_about(name));
        }
        self.only_last(&mut events);
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

    /// What a machine said.
    fn said(&self, site: &Site, machine: &str) -> Result<Reply, Failure> {
        let mut said = console::read(site.state(), machine).map_err(|error| {
            Failure::could_not(format_args!(
                "cannot read the messages of {machine} in {}: {error}",
                site.state().display()
            ))
        })?;
        if said.is_empty() && self.format.is_for_people() {
            return Err(Failure::no(format_args!(
                "{machine} has sent no messages: have it send syslog to this server (DHCP option 7 has the \
                 address), or have its Linux kernel send them with `netbe machine set --netconsole \
                 INTERFACE {machine}`"
            )));
        }
        self.only_last(&mut said);
        self.format.reply(&said, |said| {
            let mut table = Table::new(&["TIME", "BOOT", "SEVERITY", "PROGRAM", "TEXT"]);
            for Said { at, boot, severity, program, text, .. } in said {
                let grave = severity.and_then(|grave| SEVERITIES.get(usize::from(grave)));
                table.row([
                    Timestamp::from(*at).to_string(),
                    boot.map_or_else(String::new, |boot| boot.to_string()),
                    grave.copied().unwrap_or_default().to_owned(),
                    program.clone(),
                    text.clone(),
                ]);
            }
            table
        })
    }

    fn only_last<T>(&self, records: &mut Vec<T>) {
        if let Some(last) = self.last {
            let surplus = records.len().saturating_sub(last.get());
            records.drain(..surplus);
        }
    }
}

/// Severities as syslog.conf(5) has them (RFC 5424 §6.2.1).
const SEVERITIES: [&str; 8] =
    ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];
