//! The verb that keeps one guest of this host: starts it, asks it to end, starts it again.

mod here;
mod jail;
mod life;
mod notes;

use std::time::Duration;

use clap::Args;
use provision::terminal;

pub(super) use self::here::{Jail, Nspawn};
pub(super) use self::life::CONSOLE;
use self::life::Life;
use self::notes::Notes;
use super::child::{Runner as _, ThisHost};
use super::hooks::OfGuest;
use super::machine::roster;
use super::{Failure, Reply, Site};
use crate::guests::{End, Next, Place, PlaceError, Policy, Process, Stage};
use crate::site::machine::{Machine, MachineError, MachineName, Runner};

/// Run a guest in the foreground, as its keeper: for systemd, rc.d and `netbe start`.
///
/// It holds what the guest needs of this host, starts the guest again as its machine's `restart` says,
/// and ends with it. SIGTERM asks the guest to shut itself down; after 90 seconds, or at the second
/// SIGTERM, the guest is killed. A guest whose keeper was killed is taken over as it is.
#[derive(Args, Debug)]
pub(super) struct Run {
    /// Start it also while the machine runs elsewhere: two systems then write to one root.
    #[arg(short, long)]
    force: bool,
    /// Leave the terminal that it is started on.
    #[arg(long, hide = true)]
    detached: bool,
    /// The machine.
    name: MachineName,
}

impl Run {
    pub(super) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        if self.detached {
            // Who leads a group already stays in its session.
            let _ = rustix::process::setsid();
        }
        let (_, run) = guest(site, &self.name)?;
        let place = Place::of(site.state(), self.name.as_str());
        let _claim = place.claim().map_err(|error| claimed(&self.name, &error))?;
        let notes = Notes::new(place, run, OfGuest::new(site, &self.name))?;
        let mut host = ThisHost::kept_by(Box::new(notes.clone()))?;
        notes.claim()?;
        self.keep(site, &notes, &mut host)
    }

    /// Keeps the guest until it is over.
    fn keep(&self, site: &Site, notes: &Notes, host: &mut ThisHost) -> Result<Reply, Failure> {
        let (name, mut policy, mut life) = (&self.name, None, None);
        for refuses in std::iter::once(!self.force).chain(std::iter::repeat(false)) {
            notes.prepare();
            let (machine, run) = guest(site, name)?;
            let policy = policy.get_or_insert_with(|| Policy::new(machine.restart));
            let outcome = match notes.left() {
                Some(left) => {
                    terminal::say(&format!("{name} runs: process {} is taken over", left.pid));
                    notes.take_over()?;
                    life::take_over(site, name, (&machine, run), notes, host, &left)
                }
                None => {
                    let life = match &mut life {
                        Some(life) => life,
                        None => life.insert(Life::new(site, name, notes.clone())?),
                    };
                    life.live((&machine, run), host, refuses)
                }
            };
            if host.is_asked() {
                if let Err(failure) = outcome {
                    let words = format!("{name} was asked to end, but {}", failure.message);
                    notes.end(Stage::Failed, &words)?;
                    return Err(Failure::could_not(words));
                }
                let words = if notes.was_killed() {
                    format!("{name} was killed: it had not shut itself down in its time")
                } else {
                    format!("{name} has shut itself down")
                };
                notes.end(Stage::Off, &words)?;
                terminal::say(&words);
                return Ok(Reply::done());
            }
            let (end, words) = match outcome {
                Ok(end) => (end, told(name, end)),
                Err(failure) => (End::Failed, failure.message),
            };
            match policy.next(end, notes.life()) {
                Next::Stay if end == End::Failed => {
                    notes.end(Stage::Failed, &words)?;
                    return Err(Failure::could_not(words));
                }
                Next::Stay => {
                    notes.end(Stage::Off, &words)?;
                    terminal::say(&words);
                    return Ok(Reply::done());
                }
                Next::GiveUp(times) => {
                    let words =
                        format!("{words}; it ended {times} times in a row, and stays as it is");
                    notes.end(Stage::Failed, &words)?;
                    return Err(Failure::could_not(words));
                }
                Next::Again(wait) => {
                    terminal::say(&format!("{words}; it starts again in {} s", wait.as_secs()));
                    notes.wait(&words)?;
                    host.pause(wait);
                    if host.is_asked() {
                        let words = format!("{name} was off, and is not started again");
                        notes.end(Stage::Off, &words)?;
                        return Ok(Reply::done());
                    }
                }
            }
        }
        Ok(Reply::done())
    }
}

/// A machine that is a guest of this host, and what runs it.
pub(super) fn guest(site: &Site, name: &MachineName) -> Result<(Machine, Runner), Failure> {
    let roster = roster(&site.open_state()?)?;
    let unknown = || MachineError::Unknown(name.to_string());
    let machine = roster.get(name).ok_or_else(unknown)?.machine.clone();
    let run = machine.run.ok_or_else(|| {
        Failure::no(format_args!(
            "{name} is no guest of this host: `netbe machine set --run qemu {name}` makes it one, or \
             --run bhyve, nspawn or jail"
        ))
    })?;
    Ok((machine, run))
}

/// Why a guest's place is not to be had.
pub(super) fn claimed(name: &MachineName, error: &PlaceError) -> Failure {
    match error {
        PlaceError::Claimed(keeper) => Failure::no(format_args!(
            "{name} runs already, kept by process {keeper}: `netbe console {name}` shows it"
        )),
        PlaceError::Io { .. } => Failure::could_not(error),
    }
}

/// The commands that would run a guest.
pub(super) fn would_run(site: &Site, name: &MachineName) -> Result<String, Failure> {
    let (machine, run) = guest(site, name)?;
    life::commands(site, name, (&machine, run))
}

/// Ends a guest whose keeper was killed; says how.
pub(super) fn end_left(
    site: &Site,
    name: &MachineName,
    place: Place,
    patience: Duration,
) -> Result<Option<String>, Failure> {
    let (machine, run) = guest(site, name)?;
    let _claim = place.claim().map_err(|error| claimed(name, &error))?;
    let notes = Notes::new(place, run, OfGuest::new(site, name))?;
    let Some(left) = notes.left() else { return Ok(None) };
    notes.set_patience(patience)?;
    let mut host = ThisHost::kept_by(Box::new(notes.clone()))?;
    host.ask_for_the_end();
    life::take_over(site, name, (&machine, run), &notes, &mut host, &left)?;
    let how = if notes.was_killed() { "was killed" } else { "has shut itself down" };
    let words = format!("{name} {how}");
    notes.end(Stage::Off, &words)?;
    Ok(Some(words))
}

/// The process of a guest that runs, kept or not.
pub(super) fn runs(place: &Place) -> Option<Process> {
    place.record().and_then(|record| record.process).filter(Process::is_alive)
}

fn told(name: &MachineName, end: End) -> String {
    match end {
        End::Failed => format!("{name} has failed"),
        End::Off => format!("{name} has switched itself off"),
        End::Rebooted => format!("{name} restarts itself"),
    }
}
