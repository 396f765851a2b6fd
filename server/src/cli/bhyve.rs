//! A guest of bhyve(8), from its interface on this host to the last of it.

use std::path::Path;
use std::process::ExitStatus;

use bootcfg::bhyve::{self, Console, Virtual};
use bootcfg::{ConfigError, shell};

use super::Failure;
use super::child::{ANSWER, GRACE, Runner, Terminal, cannot_run, command, not_done};

/// Where a guest is on this host's network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Link {
    /// On an interface that is made for it, in this bridge.
    Bridge(String),
    /// On this interface, which is there and stays.
    Tap(String),
}

/// Runs a guest until it is off, or somebody asks for the end. `say` tells a person what to know.
///
/// Whatever happens, what was made for it is gone afterwards; what could not be removed is among the
/// failures, with the command that removes it.
pub(crate) fn run(
    machine: &Virtual<'_>,
    link: &Link,
    runner: &mut dyn Runner,
    say: &mut dyn FnMut(&str),
) -> Vec<Failure> {
    let mut life = Life { machine, runner, say, made: None, begun: false };
    let outcome = life.whole(link);
    outcome.err().into_iter().chain(life.take_down()).collect()
}

/// Removes all that was made for a guest that was left alone and has ended: its interface, if it has one
/// of its own, and what this host's kernel has of it.
pub(crate) fn clear(
    machine: &Virtual<'_>,
    tap: Option<String>,
    runner: &mut dyn Runner,
    say: &mut dyn FnMut(&str),
) -> Vec<Failure> {
    Life { machine, runner, say, made: tap, begun: true }.take_down()
}

/// The life of a guest.
struct Life<'r> {
    machine: &'r Virtual<'r>,
    runner: &'r mut dyn Runner,
    say: &'r mut dyn FnMut(&str),
    /// The interface that was made for it.
    made: Option<String>,
    /// Whether this host's kernel may have something of it.
    begun: bool,
}

/// What becomes of a guest that bhyve has left.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Next {
    /// It boots again.
    Boot,
    /// It is off.
    Off,
}

impl Life<'_> {
    fn whole(&mut self, link: &Link) -> Result<(), Failure> {
        let guest = self.machine.guest;
        let (Link::Bridge(given) | Link::Tap(given)) = link;
        text(bhyve::check_interface(given))?;
        let node = text(bhyve::node(guest))?;
        if self.runner.exists(Path::new(&node)) {
            let destroy = line(&text(bhyve::destroy(guest))?)?;
            return Err(Failure::no(format_args!(
                "the virtual machine {} exists already ({node}): stop it, or run `{destroy}` if no process runs it",
                guest.name
            )));
        }
        self.done(&self.machine.modules(), "bhyve needs it in this host's kernel")?;
        let tap = match link {
            Link::Tap(name) => name.clone(),
            Link::Bridge(bridge) => self.make(bridge)?,
        };
        if let Some(terminal) = text(self.machine.console.terminal(guest))? {
            (self.say)(&format!("the console of {} is {terminal}: `cu -l {terminal}`", guest.name));
        }
        while self.boot(&tap)? == Next::Boot && !self.runner.is_stopping() {}
        Ok(())
    }

    /// Makes an interface and puts it into the bridge.
    fn make(&mut self, bridge: &str) -> Result<String, Failure> {
        let why = "bhyve needs an interface for the guest";
        let said = self.done(&bhyve::make_tap(), why)?;
        let name = String::from_utf8_lossy(&said).trim().to_owned();
        // Before it is used for anything: a name that cannot be one is not that of an interface.
        let attach = text(bhyve::attach(bridge, &name))?;
        self.runner.made(Some(&name));
        self.made = Some(name);
        self.done(
            &attach,
            &format!(
                "{bridge} is not a bridge: create one with `ifconfig {bridge} create up`, add the interface of the machines' network with `addm`, or give another --bridge"
            ),
        )?;
        Ok(self.made.clone().unwrap_or_default())
    }

    /// Boots it once, and gives what comes next.
    fn boot(&mut self, tap: &str) -> Result<Next, Failure> {
        let terminal = match self.machine.console {
            Console::Stdio => Terminal::Shared,
            Console::NullModem => Terminal::Own,
        };
        self.done(&text(bhyve::switch_on(tap))?, "give another --tap")?;
        let name = &self.machine.guest.name;
        if self.runner.is_stopping() {
            return Ok(Next::Off);
        }
        self.begun = true;
        if let Some(load) = self.machine.load() {
            let status = self.runner.run(command(load), terminal);
            let status = status.map_err(|error| cannot_run("bhyveload", &error))?;
            if self.runner.is_stopping() {
                return Ok(Next::Off);
            }
            if !status.success() {
                return Err(Failure::could_not(format_args!(
                    "bhyveload could not load {name} ({status}): see its messages above"
                )));
            }
        }
        let words = text(self.machine.run(tap))?;
        let status = self.runner.run(command(&words), terminal);
        let status = status.map_err(|error| cannot_run("bhyve", &error))?;
        let next = self.after(status)?;
        if next == Next::Boot {
            // It has to be made anew for every boot.
            self.free()?;
        }
        Ok(next)
    }

    /// What the exit status of bhyve means (bhyve(8), EXIT STATUS).
    fn after(&mut self, status: ExitStatus) -> Result<Next, Failure> {
        let name = &self.machine.guest.name;
        match status.code() {
            Some(0) => {
                let next = if self.runner.is_stopping() { "is over" } else { "boots again" };
                (self.say)(&format!("{name} has restarted itself: it {next}"));
                Ok(Next::Boot)
            }
            Some(1) => {
                (self.say)(&format!("{name} has powered itself off"));
                Ok(Next::Off)
            }
            Some(2) => {
                (self.say)(&format!("{name} has halted, without powering itself off"));
                Ok(Next::Off)
            }
            Some(3) => Err(Failure::could_not(format_args!(
                "{name} crashed by a triple fault: see the last messages on its console"
            ))),
            Some(4) => Err(Failure::could_not(format_args!(
                "bhyve could not run {name}: see its messages above"
            ))),
            None if self.runner.is_stopping() => Err(Failure::could_not(format_args!(
                "{name} was killed: it did not shut itself down within {} s, or netbe was asked twice",
                GRACE.as_secs()
            ))),
            Some(_) | None => Err(Failure::could_not(format_args!(
                "bhyve ended with an unknown status ({status}): see its messages above"
            ))),
        }
    }

    /// Frees what this host's kernel has of the guest.
    fn free(&mut self) -> Result<(), Failure> {
        let guest = self.machine.guest;
        let words = text(bhyve::destroy(guest))?;
        // It fails if there is nothing to free, as when bhyveload could not begin.
        let freed = self.runner.ask(&words, ANSWER);
        let node = text(bhyve::node(guest))?;
        self.begun = self.runner.exists(Path::new(&node));
        if !self.begun {
            return Ok(());
        }
        let shown = line(&words)?;
        let still = format!("the virtual machine {} is still there", guest.name);
        Err(match freed {
            Ok(_) => Failure::could_not(format_args!("{still} after `{shown}`")),
            Err(error) => not_done(&shown, &error, &format!("{still}: free it by `{shown}`")),
        })
    }

    /// Removes all that was made for the guest.
    fn take_down(&mut self) -> Vec<Failure> {
        let mut failures = Vec::new();
        if self.begun {
            failures.extend(self.free().err());
        }
        if let Some(tap) = self.made.take() {
            let remove = text(bhyve::detach(&tap)).and_then(|words| {
                let advice = format!("{tap} still exists: remove it with `{}`", line(&words)?);
                self.done(&words, &advice).map(drop)
            });
            self.runner.made(None);
            failures.extend(remove.err());
        }
        failures
    }

    /// Runs a command that has to succeed; `advice` follows its own words if it does not.
    fn done(&mut self, words: &[String], advice: &str) -> Result<Vec<u8>, Failure> {
        let shown = line(words)?;
        self.runner.ask(words, ANSWER).map_err(|error| not_done(&shown, &error, advice))
    }
}

/// A command as a person would type it.
fn line(words: &[String]) -> Result<String, Failure> {
    text(shell::line(words))
}

fn text<T>(written: Result<T, ConfigError>) -> Result<T, Failure> {
    written.map_err(Failure::could_not)
}

#[cfg(test)]
mod test;
