//! The verbs that end guests of this host.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::process::Signal;

use super::child::GRACE;
use super::start::start;
use super::{Dry, Failure, Reply, Site, guests, keep};
use crate::guests::{Place, Stage};
use crate::site::machine::MachineName;

/// Ask guests of this host to shut themselves down, and wait until they have.
///
/// netbe presses the power button of a QEMU or bhyve guest, asks a container's system to shut down, and runs
/// a jail's `exec.stop`. It kills a guest that takes longer than --timeout, and prints which guests it
/// killed.
#[derive(Args, Debug)]
pub(crate) struct Stop {
    #[command(flatten)]
    patience: Patience,
    /// Stop all running guests, in the reverse of their order.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    #[command(flatten)]
    dry: Dry,
    /// The machines.
    #[arg(value_name = "MACHINE", required_unless_present = "all")]
    names: Vec<MachineName>,
}

/// How long a guest may take.
#[derive(Args, Clone, Copy, Debug)]
struct Patience {
    /// Kill a guest that has not shut itself down after this many seconds; 0 kills it at once.
    #[arg(
        long, value_name = "SECONDS", default_value_t = GRACE.as_secs(),
        value_parser = clap::value_parser!(u64).range(..=86_400)
    )]
    timeout: u64,
}

impl Stop {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let mut names = self.names.clone();
        if self.all {
            names = guests::ordered(site)?.into_iter().rev().map(|(name, _)| name).collect();
            names.retain(|name| is_there(name, &Place::of(site.state(), name.as_str())));
        }
        let deeds: Vec<_> = names.iter().map(|name| format!("stop {name}")).collect();
        if let Some(told) = self.dry.instead_of(site, &deeds) {
            return Ok(told);
        }
        Ok(ended(&names, |name| stop(site, name, self.patience)))
    }
}

/// Stop guests of this host, and start them again.
#[derive(Args, Debug)]
pub(crate) struct RestartVerb {
    #[command(flatten)]
    patience: Patience,
    #[command(flatten)]
    dry: Dry,
    /// The machines.
    #[arg(value_name = "MACHINE", required = true)]
    names: Vec<MachineName>,
}

impl RestartVerb {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let deeds = self.names.iter().flat_map(|name| {
            let stops = is_there(name, &Place::of(site.state(), name.as_str()));
            stops.then(|| format!("stop {name}")).into_iter().chain([format!("start {name}")])
        });
        if let Some(told) = self.dry.instead_of(site, &deeds.collect::<Vec<_>>()) {
            return Ok(told);
        }
        Ok(ended(&self.names, |name| {
            keep::guest(site, name)?;
            let said = match is_there(name, &Place::of(site.state(), name.as_str())) {
                true => stop(site, name, self.patience)?,
                false => format!("{name} did not run"),
            };
            start(site, name, false).map(|()| said)
        }))
    }
}

/// Does it to each, whatever comes of another, and gives what was said of them.
fn ended(
    names: &[MachineName],
    mut end: impl FnMut(&MachineName) -> Result<String, Failure>,
) -> Reply {
    let (mut said, mut failures) = (String::new(), Vec::new());
    for name in names {
        match end(name) {
            Ok(words) => said += &(words + "\n"),
            Err(failure) => failures.push(failure),
        }
    }
    Reply::text(said).but(failures)
}

/// Ends one; says how.
fn stop(site: &Site, name: &MachineName, patience: Patience) -> Result<String, Failure> {
    let place = Place::of(site.state(), name.as_str());
    let patience = Duration::from_secs(patience.timeout);
    if !is_there(name, &place) {
        if place.record().is_none() {
            keep::guest(site, name)?;
            return Err(Failure::no(format_args!("{name} does not run")));
        }
        // What a keeper that was killed has made for it may be there yet.
        return end_left(site, name, place, patience);
    }
    if place.claimed().map_err(Failure::could_not)?.is_none() {
        return end_left(site, name, place, patience);
    }
    let record = place.record();
    let keeper = record.as_ref().map(|record| record.keeper.clone());
    let is_asked = record.is_some_and(|record| record.stage == Stage::Stopping);
    // Who was asked is killed when it is asked again.
    if !is_asked || patience.is_zero() {
        place.set_patience(patience).map_err(Failure::could_not)?;
        let asked = keeper.as_ref().map_or(Ok(false), |keeper| keeper.signal(Signal::TERM));
        asked.map_err(|error| {
            Failure::could_not(format_args!("the keeper of {name} cannot be asked: {error}"))
        })?;
    }
    let limit = Instant::now() + patience + SLACK;
    while place.claimed().map_err(Failure::could_not)?.is_some() {
        if Instant::now() > limit {
            return Err(Failure::could_not(format_args!(
                "{name} has not ended: its keeper, process {}, does not answer",
                keeper.map_or(0, |keeper| keeper.pid)
            )));
        }
        thread::sleep(BEAT);
    }
    let record = place.record();
    if keep::runs(name.as_str(), &place).is_some() {
        return end_left(site, name, place, patience);
    }
    let words = record.and_then(|record| record.words);
    Ok(words.unwrap_or_else(|| format!("{name} has ended")))
}

/// Ends one whose keeper was killed; says how.
fn end_left(
    site: &Site,
    name: &MachineName,
    place: Place,
    patience: Duration,
) -> Result<String, Failure> {
    let ended = keep::end_left(site, name, place, patience)?;
    ended.ok_or_else(|| Failure::no(format_args!("{name} does not run")))
}

/// Whether a guest runs, or somebody is to start it again.
fn is_there(name: &MachineName, place: &Place) -> bool {
    matches!(place.claimed(), Ok(Some(_))) || keep::runs(name.as_str(), place).is_some()
}

/// How much longer than its guest a keeper may take.
const SLACK: Duration = Duration::from_secs(30);
const BEAT: Duration = Duration::from_millis(30);
