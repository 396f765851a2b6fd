//! The verb that shows a guest's console, and types there.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::thread;

use clap::Args;
use provision::terminal;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::child::cannot_run;
use super::keep::{self, CONSOLE};
use super::{Failure, Reply, Site};
use crate::guests::Place;
use crate::site::machine::{MachineName, Runner};

/// Connect this terminal to the console of a running guest.
///
/// The guest's latest output is shown first. Several terminals can be connected at once. Ctrl-] leaves the
/// console; the guest continues to run. Without a terminal, netbe sends standard input to the guest, and
/// prints the guest's output until its keeper ends.
#[derive(Args, Debug)]
pub(crate) struct Console {
    /// The machine.
    name: MachineName,
}

impl Console {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let name = &self.name;
        let (_, run) = keep::guest(site, name)?;
        let place = Place::of(site.state(), name.as_str());
        if place.claimed().map_err(Failure::could_not)?.is_none() {
            return Err(Failure::no(match keep::runs(name.as_str(), &place) {
                Some(_) => format!(
                    "the keeper of {name} was killed: take the guest over with `netbe start {name}`"
                ),
                None => format!("{name} does not run: start it with `netbe start {name}`"),
            }));
        }
        match run {
            Runner::Qemu | Runner::Nspawn => {}
            Runner::Bhyve => {
                let line = format!("/dev/nmdm-{name}.1B");
                terminal::say(&format!("`~.` leaves the console of {name}"));
                // Only an error comes back.
                return Err(cannot_run("cu", &Command::new("cu").args(["-l", &line]).exec()));
            }
            Runner::Jail => {
                return Err(Failure::no(format_args!(
                    "a jail has no console: `jexec {name} sh` runs a shell in it, and \
                     /var/log/jail_console_{name}.log has the output of its rc"
                )));
            }
        }
        let socket = place.file(CONSOLE);
        let stream = UnixStream::connect(&socket)
            .map_err(|error| Failure::could_not(format_args!("{}: {error}", socket.display())))?;
        let raw = if io::stdin().is_terminal() {
            terminal::say(&format!("this is the console of {name}: Ctrl-] leaves it"));
            Some(Raw::begin().map_err(Failure::could_not)?)
        } else {
            None
        };
        let shown = show(stream, raw.is_some());
        drop(raw);
        shown
            .map_err(|error| Failure::could_not(format_args!("the console of {name}: {error}")))?;
        Ok(Reply::done())
    }
}

/// Shows what the guest says, until that ends or somebody leaves.
fn show(mut stream: UnixStream, leaves: bool) -> io::Result<()> {
    let typing = stream.try_clone()?;
    thread::Builder::new().spawn(move || type_to(typing, leaves))?;
    let mut bytes = [0; 4096];
    let mut out = io::stdout().lock();
    loop {
        let length = match stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error),
        };
        // A console is what it says, escape sequences and all: whoever asks for it gets it whole.
        out.write_all(bytes.get(..length).unwrap_or_default())?;
        out.flush()?;
    }
}

/// Passes on what is typed. Without a terminal there is no key to leave by.
fn type_to(mut stream: UnixStream, leaves: bool) {
    let mut bytes = [0; 256];
    while let Ok(length @ 1..) = io::stdin().read(&mut bytes) {
        let typed = bytes.get(..length).unwrap_or_default();
        let end = typed.iter().position(|&key| leaves && key == LEAVE);
        if stream.write_all(typed.get(..end.unwrap_or(length)).unwrap_or_default()).is_err() {
            return;
        }
        if end.is_some() {
            // The other thread sees the end of it.
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// A terminal that passes on every key, until this is dropped.
#[derive(Debug)]
struct Raw {
    before: Termios,
}

impl Raw {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Flush, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // Nothing is left to be done about a terminal that is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.before);
        terminal::say("");
    }
}

/// Ctrl-].
const LEAVE: u8 = 0x1d;
