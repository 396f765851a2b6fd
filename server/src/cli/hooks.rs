//! The verbs for hooks: which there are, what they did, and one event of them run by hand. And how the keeper of a
//! guest runs them.

use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use clap::{Args, Subcommand};
use hooks::record::Records;
use hooks::runner::{PATIENCE, UNDOING};
use hooks::transaction::Action;
use hooks::{Event, Occasion, Settings, directory};
use provision::terminal;
use serde::Serialize;
use store::Timestamp;

use super::{Dry, Failure, Format, Reply, Site, Table};
use crate::site::machine::{MachineName, Roster};

/// Show and test the programs that netbe runs when something happens to a machine.
#[derive(Args, Debug)]
pub(crate) struct Hooks {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(List),
    Log(Log),
    Run(Run),
}

impl Hooks {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        match &self.verb {
            Verb::List(verb) => verb.run(site),
            Verb::Log(verb) => verb.run(site),
            Verb::Run(verb) => verb.run(site),
        }
    }
}

/// Runs the hooks of an event of a machine, as one transaction, which `is_over` may cut short.
fn at(site: &Site, event: &Event, is_over: &dyn Fn(Action) -> bool) -> Result<(), Failure> {
    let settings = settings(site)?;
    hooks::run(&settings, site.state(), event, is_over).map_err(Failure::no)
}

/// Hooks that run beside a guest.
#[derive(Debug)]
pub(super) struct Beside {
    thread: JoinHandle<()>,
    /// Since when they are to end.
    ends: Arc<OnceLock<Instant>>,
}

impl Beside {
    /// Waits until they have ended, which they have soon: what runs is killed, and what it did is undone, as at the
    /// server's end (docs/hooks.md).
    pub(super) fn end(self) {
        self.ends.get_or_init(Instant::now);
        // What panicked has said so.
        let _ended = self.thread.join();
    }
}

/// Runs the hooks of what a keeper does with its guest.
#[derive(Clone, Debug)]
pub(super) struct OfGuest {
    site: Site,
    name: MachineName,
}

impl OfGuest {
    pub(super) fn new(site: &Site, name: &MachineName) -> Self {
        Self { site: site.clone(), name: name.clone() }
    }

    /// Runs those of an event that decide whether the guest goes on.
    pub(super) fn decide(&self, occasion: Occasion) -> Result<(), Failure> {
        at(&self.site, &self.event(occasion)?, &|_| false)
    }

    /// Runs those of an event that decide nothing; a failure is said.
    pub(super) fn tell(&self, occasion: Occasion) {
        self.tell_until(occasion, &|_| false);
    }

    fn tell_until(&self, occasion: Occasion, is_over: &dyn Fn(Action) -> bool) {
        let told = self.event(occasion).and_then(|event| at(&self.site, &event, is_over));
        if let Err(failure) = told {
            terminal::say(&format!("{occasion}: {}", failure.message));
        }
    }

    /// The same beside what goes on: a guest that has begun is looked after meanwhile. Whoever runs hooks that come
    /// later in the guest's life has to end them first.
    pub(super) fn tell_beside(&self, occasion: Occasion) -> Option<Beside> {
        let (teller, ends) = (self.clone(), Arc::new(OnceLock::<Instant>::new()));
        let asked = Arc::clone(&ends);
        let is_over = move |action| {
            let patience = match action {
                Action::Do => PATIENCE,
                Action::Undo => PATIENCE + UNDOING,
            };
            asked.get().is_some_and(|since| since.elapsed() > patience)
        };
        let thread = thread::Builder::new().spawn(move || teller.tell_until(occasion, &is_over));
        if let Err(error) = &thread {
            terminal::say(&format!("{occasion}: no hook is run: {error}"));
        }
        thread.ok().map(|thread| Beside { thread, ends })
    }

    /// What runs without a machine's record is called as its environment.
    fn event(&self, occasion: Occasion) -> Result<Event, Failure> {
        let state = self.site.open_state()?;
        let roster = Roster::of_site(&state).map_err(Failure::from)?;
        match roster.get(&self.name) {
            Some(_) => event(&self.site, occasion, &self.name),
            None => Ok(Event::new(occasion, self.name.as_str())),
        }
    }
}

/// An event of a machine with what is written of it.
fn event(site: &Site, occasion: Occasion, machine: &MachineName) -> Result<Event, Failure> {
    let state = site.open_state()?;
    let roster = Roster::of_site(&state).map_err(Failure::from)?;
    let entry = roster.get(machine).ok_or_else(|| {
        Failure::no(format_args!("there is no machine {machine}: `netbe machine list` shows them"))
    })?;
    let mut event = Event::new(occasion, machine.as_str());
    event.mac = entry.machine.macs.first().map(ToString::to_string);
    event.address = entry.machine.address;
    event.environment = entry.machine.wanted().map(str::to_owned);
    Ok(event)
}

fn settings(site: &Site) -> Result<Settings, Failure> {
    Settings::of_state(site.state()).map_err(Failure::could_not)
}

/// List the hooks, in the order in which they run.
///
/// A hook is an executable file EVENT.d/NN-NAME in the directory that `[hooks]` of netbe.toml names [default:
/// /etc/netbe/hooks, on FreeBSD /usr/local/etc/netbe/hooks]. If a user other than root can write to a hook,
/// netbe runs no hook of that event. `[hooks]` is as it was when the server started last; the files are as they
/// are now.
#[derive(Args, Debug)]
struct List {
    #[command(flatten)]
    format: Format,
    /// Show only hooks of this event: leased, mounted, up, lost, refused, prestart, poststart, prestop or
    /// poststop.
    event: Option<Occasion>,
}

impl List {
    fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let settings = settings(site)?;
        let (mut hooks, mut refused) = (Vec::new(), Vec::new());
        for occasion in
            Occasion::ALL.into_iter().filter(|one| self.event.is_none_or(|only| only == *one))
        {
            match directory::own(&settings, occasion) {
                Ok(steps) => hooks.extend(steps.into_iter().map(|step| Hook {
                    event: occasion,
                    hook: step.name,
                    timeout: step.patience.timeout.as_secs(),
                    retries: step.patience.retries,
                    program: step.program.display().to_string(),
                })),
                Err(error) => refused.push(Failure::no(format_args!("{occasion}: {error}"))),
            }
        }
        let reply = self.format.reply(&hooks, |hooks| {
            let mut table = Table::new(&["EVENT", "HOOK", "TIMEOUT", "RETRIES", "PROGRAM"]);
            for hook in hooks {
                let (timeout, retries) = (hook.timeout.to_string(), hook.retries.to_string());
                let (event, program) = (hook.event.to_string(), hook.program.clone());
                table.row([event, hook.hook.clone(), timeout, retries, program]);
            }
            table
        })?;
        Ok(reply.but(refused))
    }
}

/// A hook, as it is listed.
#[derive(Serialize)]
struct Hook {
    event: Occasion,
    hook: String,
    timeout: u64,
    retries: u32,
    program: String,
}

/// Show which hooks ran, how each ended, and the last line that it printed.
///
/// -j prints all that is recorded.
#[derive(Args, Debug)]
struct Log {
    #[command(flatten)]
    format: Format,
    /// Show only hooks of this machine (name or Ethernet address).
    machine: Option<String>,
}

impl Log {
    fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let mut transcripts = Records::in_state(site.state()).read().map_err(|error| {
            Failure::could_not(format_args!(
                "cannot read the log of hooks in {}: {error}",
                site.state().display()
            ))
        })?;
        if let Some(machine) = &self.machine {
            transcripts.retain(|transcript| transcript.event.machine == *machine);
        }
        self.format.reply(&transcripts, |transcripts| {
            let header =
                ["TIME", "MACHINE", "HOOK", "ACTION", "ATTEMPT", "ENDED", "SECONDS", "SAID"];
            let mut table = Table::new(&header);
            for transcript in transcripts {
                let Event { at, machine, event, .. } = &transcript.event;
                let time = std::time::Duration::try_from_secs_f64(*at).unwrap_or_default();
                let time = std::time::UNIX_EPOCH.checked_add(time).map(Timestamp::from);
                let time = time.map(|time| time.to_string()).unwrap_or_default();
                for run in &transcript.runs {
                    table.row([
                        time.clone(),
                        machine.clone(),
                        run.step.clone(),
                        run.action.as_str().to_owned(),
                        run.attempt.to_string(),
                        run.ended.clone(),
                        format!("{:.1}", run.took),
                        run.said.lines().last().unwrap_or_default().to_owned(),
                    ]);
                }
                if let hooks::transaction::Outcome::Refused { reason } = &transcript.outcome {
                    let empty = String::new;
                    let (machine, event) = (machine.clone(), event.to_string());
                    let row =
                        [time, machine, event, empty(), empty(), reason.clone(), empty(), empty()];
                    table.row(row);
                }
            }
            table
        })
    }
}

/// Run the hooks of an event for a machine now, as netbe would, and wait for them.
///
/// The exit status is 1 if a hook fails; netbe then undoes the hooks before it. `netbe hooks log` shows how
/// each ended. `[hooks]` of netbe.toml is as it was when the server started last; the files are as they are now.
#[derive(Args, Debug)]
struct Run {
    #[command(flatten)]
    dry: Dry,
    /// The event: leased, mounted, up, lost, refused, prestart, poststart, prestop or poststop.
    event: Occasion,
    /// The machine.
    machine: MachineName,
}

impl Run {
    fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let event = event(site, self.event, &self.machine)?;
        let steps = directory::steps(&settings(site)?, &event).map_err(Failure::no)?;
        let deeds = steps.iter().map(|step| format!("run {}", step.program.display()));
        let deeds: Vec<_> = deeds.collect();
        if let Some(reply) = self.dry.instead_of(site, &deeds) {
            return Ok(reply);
        }
        at(site, &event, &|_| false).map(|()| Reply::done())
    }
}
