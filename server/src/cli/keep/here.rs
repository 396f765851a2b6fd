//! The verbs that run a boot environment with this host's kernel, on this terminal.

use std::fs;
use std::net::Ipv4Addr;

use bootcfg::{jail as text_of, shell};
use clap::Args;
use provision::terminal;
use store::EnvironmentName;

use super::life::{clear_lost, container, nspawned};
use super::notes::{MONITOR, Notes};
use super::{claimed, jail};
use crate::cli::child::{Terminal, ThisHost};
use crate::cli::guest::{GuestOptions, Subject, expect_kernel};
use crate::cli::hooks::OfGuest;
use crate::cli::machine::roster;
use crate::cli::{Failure, Reply, Site, guard};
use crate::guests::{End, Place, Stage};
use crate::site::machine::{Bridge, Machine, MachineError, MachineName, Runner};

/// Run a boot environment with Linux in it as a container on this terminal (systemd-nspawn(1)).
///
/// The command ends when the container has shut itself down. SIGTERM asks the container to shut down;
/// pressing Ctrl-] three times within a second kills it. To run a machine's container in the background, use
/// `netbe machine set --run nspawn` and `netbe start`.
#[derive(Args, Debug)]
pub(in crate::cli) struct Nspawn {
    #[command(flatten)]
    here: Here,
}

/// Run a boot environment with FreeBSD in it as a jail (jail(8)).
///
/// The jail runs until this command gets Ctrl-C or SIGTERM; then the jail's `exec.stop` shuts it down. To run
/// a machine's jail in the background, use `netbe machine set --run jail` and `netbe start`.
#[derive(Args, Debug)]
pub(in crate::cli) struct Jail {
    #[command(flatten)]
    here: Here,
}

/// What is run here.
#[derive(Args, Debug)]
struct Here {
    /// Run it as this machine, with the machine's name, Ethernet address and IP address.
    #[arg(long, value_name = "MACHINE")]
    machine: Option<MachineName>,
    /// The bridge of this host that its interface joins [default: the machine's]. Without a bridge only this
    /// host reaches a container, and a jail uses the machine's address if this host has that address.
    #[arg(long, value_name = "INTERFACE")]
    bridge: Option<Bridge>,
    /// Run it even while other systems run from the boot environment: several systems then write to one root.
    #[arg(short, long)]
    force: bool,
    /// Run nothing: print the commands that would run.
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// The boot environment.
    name: EnvironmentName,
}

impl Nspawn {
    pub(in crate::cli) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let (machine, subject) = self.here.known(site, Runner::Nspawn)?;
        expect_kernel(Runner::Nspawn, subject.system()?.as_ref(), &self.here.name)?;
        if self.here.dry_run {
            let words = container(&subject, &machine, None)?;
            let text = shell::lines(&words, "").map_err(Failure::could_not)?;
            return Ok(Reply::text(text + "\n"));
        }
        self.here.keep(site, &subject, Runner::Nspawn, |notes, host| {
            loop {
                let program = nspawned(&subject, &machine, notes)?;
                let end =
                    super::life::nspawn(&subject.guest.name, host, program, Terminal::Shared)?;
                if end != End::Rebooted || host.is_asked() {
                    return Ok(());
                }
            }
        })
    }
}

impl Jail {
    pub(in crate::cli) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let (machine, subject) = self.here.known(site, Runner::Jail)?;
        expect_kernel(Runner::Jail, subject.system()?.as_ref(), &self.here.name)?;
        let definition = jail::definition(&subject, &machine)?;
        if self.here.dry_run {
            return text_of::render(&[definition]).map(Reply::text).map_err(Failure::could_not);
        }
        jail::expect_jails()?;
        self.here.keep(site, &subject, Runner::Jail, |notes, host| {
            let name = &subject.guest.name;
            terminal::say(&format!(
                "{name} runs as a jail until Ctrl-C: `jexec {name} sh` runs a shell in it"
            ));
            let file = notes.file("jail.conf");
            jail::live(&definition, &file, host, &mut || notes.began_jail()).map(drop)
        })
    }
}

impl Here {
    /// The machine, as it is written down and as it was said, and the guest that it is.
    fn known(&self, site: &Site, run: Runner) -> Result<(Machine, Subject), Failure> {
        let mut machine = Machine::default();
        if let Some(name) = &self.machine {
            let roster = roster(&site.open_state()?)?;
            let unknown = || MachineError::Unknown(name.to_string());
            machine = roster.get(name).ok_or_else(unknown)?.machine.clone();
        }
        machine.bridge = self.bridge.clone().or(machine.bridge);
        let needs_network = run == Runner::Jail && machine.bridge.is_some();
        let server = (!needs_network).then_some(Ipv4Addr::LOCALHOST);
        let subject = GuestOptions::of(&self.name, self.machine.as_ref(), server).subject(site)?;
        Ok((machine, subject))
    }

    fn keep(
        &self,
        site: &Site,
        subject: &Subject,
        run: Runner,
        live: impl FnOnce(&Notes, &mut ThisHost) -> Result<(), Failure>,
    ) -> Result<Reply, Failure> {
        keep_noted(site, subject, run, self.force, |notes, host| {
            live(notes, host).map(|()| Reply::done())
        })
    }
}

/// Runs a guest that has its root from this host in its place, so that nobody else runs it, and nobody takes its root
/// away.
pub(in crate::cli) fn keep_here(
    site: &Site,
    subject: &Subject,
    run: Runner,
    force: bool,
    live: impl FnOnce(&mut ThisHost) -> Result<Reply, Failure>,
) -> Result<Reply, Failure> {
    keep_noted(site, subject, run, force, |_notes, host| live(host))
}

fn keep_noted(
    site: &Site,
    subject: &Subject,
    run: Runner,
    force: bool,
    live: impl FnOnce(&Notes, &mut ThisHost) -> Result<Reply, Failure>,
) -> Result<Reply, Failure> {
    let name: MachineName = subject.guest.name.parse().map_err(Failure::could_not)?;
    let place = Place::of(site.state(), name.as_str());
    let _claim = place.claim().map_err(|error| claimed(&name, &error))?;
    let notes = Notes::new(name.as_str(), place, run, OfGuest::new(site, &name))?;
    if let Some(left) = notes.left() {
        return Err(Failure::no(format_args!(
            "{name} runs already, as {left}: `netbe stop {name}` ends it"
        )));
    }
    let only_reads = run.is_virtual() && subject.guest.root.read_only;
    if !force && !only_reads {
        guard::refuse_living(site, &subject.environment.name, guard::Verb::Boot)?;
    }
    let mut host = ThisHost::kept_by(Box::new(notes.clone()))?;
    clear_lost(&name, &notes, &mut host)?;
    notes.claim()?;
    // That of a life in the background: on a terminal there is none.
    let _ = fs::remove_file(notes.file(MONITOR));
    match run {
        Runner::Jail => notes.start_jail(subject)?,
        Runner::Bhyve | Runner::Nspawn | Runner::Qemu => notes.start(run, subject)?,
    }
    let outcome = live(&notes, &mut host);
    let words = match &outcome {
        Ok(_) => format!("{name} has ended"),
        Err(failure) => failure.message.clone(),
    };
    notes.end(if outcome.is_ok() { Stage::Off } else { Stage::Failed }, &words)?;
    outcome
}
