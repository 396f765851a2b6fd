//! The verb about the guests of this host: which there are, and the keeper of one.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::machine::roster;
use super::order::natural;
use super::status::ago;
use super::{Failure, Format, Reply, Site, Table, keep};
use crate::guests::place::now;
use crate::guests::{Place, Record, Stage};
use crate::site::machine::{Machine, MachineName, Runner};

/// Show the guests of this host, or keep one.
#[derive(Args, Debug)]
pub(crate) struct GuestVerb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(List),
    Run(keep::Run),
}

impl GuestVerb {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        match &self.verb {
            Verb::List(verb) => verb.run(site),
            Verb::Run(verb) => verb.run(site),
        }
    }
}

/// List the guests of this host: machines with `run`, in the order in which they are started.
#[derive(Args, Debug)]
struct List {
    #[command(flatten)]
    format: Format,
}

/// A guest, as it is listed.
#[derive(Serialize)]
struct Row {
    name: String,
    run: Runner,
    environment: Option<String>,
    state: &'static str,
    /// Seconds since 1970.
    since: Option<u64>,
    autostart: bool,
    order: Option<u16>,
    restarts: u32,
    pid: Option<i32>,
    /// How it ended, or why it is not there.
    words: Option<String>,
}

impl List {
    fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let mut rows = Vec::new();
        for (name, machine) in ordered(site)? {
            let Some(run) = machine.run else { continue };
            let place = Place::of(site.state(), name.as_str());
            let record = place.record();
            let runs = keep::runs(name.as_str(), &place);
            let state = state(&place, record.as_ref(), runs.is_some())?;
            rows.push(Row {
                name: name.to_string(),
                run,
                environment: machine.wanted().map(str::to_owned),
                state,
                since: record.as_ref().map(|record| record.since),
                autostart: machine.autostart,
                order: machine.order,
                restarts: record.as_ref().map_or(0, |record| record.restarts),
                pid: runs.and_then(|left| left.pid()),
                words: record.and_then(|record| record.words),
            });
        }
        let exact = self.format.is_for_scripts();
        self.format.reply(&rows, |rows| {
            let header =
                ["NAME", "BY", "ENVIRONMENT", "STATE", "SINCE", "AUTOSTART", "ORDER", "RESTARTS"];
            let mut table = Table::new(&header);
            for row in rows {
                let since = |since: u64| match exact {
                    true => since.to_string(),
                    // Times of a host fit in it.
                    #[expect(clippy::cast_precision_loss)]
                    false => ago(now().saturating_sub(since) as f64),
                };
                table.row([
                    row.name.clone(),
                    row.run.to_string(),
                    row.environment.clone().unwrap_or_default(),
                    row.state.to_owned(),
                    row.since.map_or_else(String::new, since),
                    if row.autostart { "yes" } else { "no" }.to_owned(),
                    row.order.map_or_else(String::new, |order| order.to_string()),
                    row.restarts.to_string(),
                ]);
            }
            table
        })
    }
}

/// The word for how a guest stands.
fn state(place: &Place, record: Option<&Record>, runs: bool) -> Result<&'static str, Failure> {
    let Some(record) = record else { return Ok(Stage::Off.as_str()) };
    if record.stage.is_over() || place.claimed().map_err(Failure::could_not)?.is_some() {
        return Ok(record.stage.as_str());
    }
    // Its keeper was killed, or the host was.
    Ok(if runs { "unkept" } else { "lost" })
}

/// Refuses to take a machine's record away under its guest.
pub(super) fn refuse_running(site: &Site, name: &MachineName) -> Result<(), Failure> {
    let place = Place::of(site.state(), name.as_str());
    if place.claimed().map_err(Failure::could_not)?.is_none()
        && keep::runs(name.as_str(), &place).is_none()
    {
        return Ok(());
    }
    Err(Failure::no(format_args!(
        "{name} runs as a guest of this host: stop it first with `netbe stop {name}`"
    )))
}

/// The machines that are guests of this host, in the order in which they are started.
pub(super) fn ordered(site: &Site) -> Result<Vec<(MachineName, Machine)>, Failure> {
    let roster = roster(&site.open_state()?)?;
    let machines = roster.iter().filter(|(_, entry)| entry.machine.run.is_some());
    let mut guests: Vec<_> =
        machines.map(|(name, entry)| (name.clone(), entry.machine.clone())).collect();
    let place = |machine: &Machine| machine.order.unwrap_or(u16::MAX);
    guests.sort_by(|(one, first), (other, second)| {
        place(first).cmp(&place(second)).then_with(|| natural(one.as_str(), other.as_str()))
    });
    Ok(guests)
}
