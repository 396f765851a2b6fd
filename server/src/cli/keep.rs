//! The verb that keeps one guest of this host: starts it, asks it to end, starts it again.

mod here;
mod jail;
mod life;
mod notes;

use std::fmt;
use std::fs;
use std::time::Duration;

use clap::Args;
use provision::terminal;

pub(super) use self::here::{Jail, Nspawn, keep_here};
pub(super) use self::life::CONSOLE;
use self::life::Life;
use self::notes::Notes;
use super::child::{ANSWER, Ask, Runner as _, ThisHost, ask};
use super::hooks::OfGuest;
use super::machine::roster;
use super::start::LOG;
use super::{Failure, Reply, Site};
use crate::guests::{End, Next, Place, PlaceError, Policy, Process, Record, Stage};
use crate::site::machine::{Machine, MachineError, MachineName, Runner};

/// Run a guest in the foreground, as its keeper: for systemd, rc.d and `netbe start`.
///
/// The keeper prepares what the guest needs on this host, restarts the guest as its machine's `restart` says,
/// and ends when the guest ends for good. SIGTERM asks the guest to shut itself down; after 90 seconds, or at
/// a second SIGTERM, the keeper kills the guest. If the keeper of a virtual machine was killed, the next
/// keeper takes the running virtual machine over.
#[derive(Args, Debug)]
pub(super) struct Run {
    /// Start it even while the machine runs elsewhere: two systems then write to one root.
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
        let notes = Notes::new(self.name.as_str(), place, run, OfGuest::new(site, &self.name))?;
        let mut host = ThisHost::kept_by(Box::new(notes.clone()))?;
        life::clear_lost(&self.name, &notes, &mut host)?;
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
                    terminal::say(&format!("{name} runs: {left} is taken over"));
                    notes.take_over()?;
                    life::take_over(name, notes, host, &left)
                }
                None => {
                    let life = match &mut life {
                        Some(life) => life,
                        None => {
                            let log = self.detached.then(|| notes.file(LOG));
                            life.insert(Life::new(site, name, notes.clone(), log)?)
                        }
                    };
                    life.live((&machine, run), host, refuses)
                }
            };
            if host.is_asked() {
                if let Err(failure) = outcome {
                    let words = format!("{name} was asked to shut down, but {}", failure.message);
                    notes.end(Stage::Failed, &words)?;
                    return Err(Failure::could_not(words));
                }
                let words = if notes.was_killed() {
                    format!("{name} was killed: it did not shut itself down in time")
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
                    let words = format!(
                        "{words}; it ended {times} times in a row, and is not started again"
                    );
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
            "{name} is not a guest of this host: make it one with `netbe machine set --run qemu {name}`, or \
             --run bhyve, nspawn or jail"
        ))
    })?;
    Ok((machine, run))
}

/// Why a guest's place is not to be had.
pub(super) fn claimed(name: &MachineName, error: &PlaceError) -> Failure {
    match error {
        PlaceError::Claimed(keeper) => Failure::no(format_args!(
            "{name} runs already, kept by process {keeper}: `netbe console {name}` connects to it"
        )),
        PlaceError::Io { .. } => Failure::could_not(error),
    }
}

/// The commands that would run a guest.
pub(super) fn would_run(site: &Site, name: &MachineName) -> Result<String, Failure> {
    let (machine, run) = guest(site, name)?;
    life::commands(site, name, (&machine, run))
}

/// Ends a guest whose keeper was killed; says how. What a command ran on its terminal may be no machine.
pub(super) fn end_left(
    site: &Site,
    name: &MachineName,
    place: Place,
    patience: Duration,
) -> Result<Option<String>, Failure> {
    let _claim = place.claim().map_err(|error| claimed(name, &error))?;
    let Some(Record { run, .. }) = place.record() else { return Ok(None) };
    let notes = Notes::new(name.as_str(), place, run, OfGuest::new(site, name))?;
    let mut host = ThisHost::kept_by(Box::new(notes.clone()))?;
    let Some(left) = notes.left() else {
        life::clear_lost(name, &notes, &mut host)?;
        return Ok(None);
    };
    notes.set_patience(patience)?;
    host.ask_for_the_end();
    life::take_over(name, &notes, &mut host, &left)?;
    let how = if notes.was_killed() { "was killed" } else { "has shut itself down" };
    let words = format!("{name} {how}");
    notes.end(Stage::Off, &words)?;
    Ok(Some(words))
}

/// What there is of a guest that runs, kept or not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Left {
    /// The jail that it is, whose root is this directory.
    Jail(String),
    /// What runs it.
    Process(Process),
}

impl Left {
    /// The process that it is.
    pub(super) const fn pid(&self) -> Option<i32> {
        match self {
            Self::Jail(_) => None,
            Self::Process(process) => Some(process.pid),
        }
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Jail(root) => write!(f, "its jail on {root}"),
            Self::Process(process) => write!(f, "process {}", process.pid),
        }
    }
}

/// What there is of a guest that runs, kept or not.
pub(super) fn runs(name: &str, place: &Place) -> Option<Left> {
    place.record().and_then(|record| left(name, &record))
}

/// What there is of a guest, by what is written down of it.
fn left(name: &str, record: &Record) -> Option<Left> {
    left_by(name, record, &mut |words| ask(words, ANSWER))
}

fn left_by(name: &str, record: &Record, ask: &mut Ask<'_>) -> Option<Left> {
    if let Some(process) = record.process.clone().filter(Process::is_alive) {
        return Some(Left::Process(process));
    }
    // Its name and its root tell it, also where this host's clock was set since.
    let root = record.jail.clone().filter(|_| !record.stage.is_over())?;
    match jail::path_of(name, ask) {
        // Somebody has made another one of that name. jls(8) shows where links led when it was created.
        Ok(Some(other)) if other != root && !same_place(&other, &root) => None,
        Ok(None) => None,
        // What cannot be looked at is not gone for that.
        Ok(Some(_)) | Err(_) => Some(Left::Jail(root)),
    }
}

/// Whether two paths lead to one directory; nothing tells them apart where one leads nowhere.
fn same_place(one: &str, other: &str) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        (Err(_), _) | (_, Err(_)) => false,
    }
}

fn told(name: &MachineName, end: End) -> String {
    match end {
        End::Failed => format!("{name} has failed"),
        End::Off => format!("{name} has switched itself off"),
        End::Rebooted => format!("{name} restarts itself"),
    }
}

#[cfg(test)]
mod test {
    use ::child::Error;

    use super::*;
    use crate::guests::place::now;
    use crate::site::machine::RootBy;

    #[test]
    fn a_jail_without_its_keeper_is_found_by_its_name_and_root() {
        let record = Record {
            run: Runner::Jail,
            environment: "web".to_owned(),
            root_by: RootBy::default(),
            stage: Stage::Running,
            since: now(),
            boot: None,
            keeper: Process::own().unwrap(),
            process: None,
            tap: None,
            jail: Some("/be/web".to_owned()),
            ended: None,
            restarts: 0,
            words: None,
        };
        let found = |record: &Record, jls: &str| {
            left_by("web1", record, &mut |words| {
                assert_eq!(words.join(" "), "jls name path");
                Ok(jls.into())
            })
        };
        let there = Some(Left::Jail("/be/web".to_owned()));
        assert_eq!(found(&record, "db /be/db\nweb1 /be/web\n"), there);
        // Neither one of another name, nor another one of its name.
        assert_eq!(found(&record, "web10 /be/web\nweb1 /be/other\n"), None);
        let over = Record { stage: Stage::Off, ..record.clone() };
        assert_eq!(found(&over, "web1 /be/web\n"), None);
        let error = || Error {
            call: "jls".to_owned(),
            why: ::child::Why::Late,
            said: "no answer".to_owned(),
        };
        assert_eq!(left_by("web1", &record, &mut |_words| Err(error())), there);
    }
}
