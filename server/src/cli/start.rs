//! The verb that starts guests of this host, each under a keeper of its own.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use provision::terminal;

use super::{Failure, Reply, Site, guests, keep};
use crate::config::DEFAULT_STATE;
use crate::guests::{BEGIN, Place, Stage};
use crate::site::machine::MachineName;

/// Start guests of this host. `netbe machine set --run qemu MACHINE` makes a machine a guest.
///
/// A keeper runs each guest in the background, independent of this command and of the server.
/// `netbe guest list` lists the guests, `netbe console` connects to one, and `netbe stop` ends one. A running
/// guest is not started twice.
#[derive(Args, Debug)]
pub(crate) struct Start {
    /// Start all guests with autostart that do not run, in their order.
    #[arg(long, conflicts_with = "names")]
    all: bool,
    /// Start it even while the machine runs elsewhere: two systems then write to one root.
    #[arg(short, long, conflicts_with = "all")]
    force: bool,
    /// Start nothing: print the commands that would run.
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// The machines.
    #[arg(value_name = "MACHINE", required_unless_present = "all")]
    names: Vec<MachineName>,
}

impl Start {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let mut names = self.names.clone();
        if self.all {
            let guests = guests::ordered(site)?.into_iter();
            names = guests.filter(|(_, known)| known.autostart).map(|(name, _)| name).collect();
            names.retain(|name| {
                let claimed = Place::of(site.state(), name.as_str()).claimed();
                !matches!(claimed, Ok(Some(_)))
            });
        }
        if self.dry_run {
            let texts: Result<Vec<_>, _> =
                names.iter().map(|name| keep::would_run(site, name)).collect();
            return Ok(Reply::text(texts?.concat()));
        }
        // What of several cannot be started keeps no other from it.
        let failures: Vec<Failure> =
            names.iter().filter_map(|name| start(site, name, self.force).err()).collect();
        // Units keep the guests of the usual state directory only; without systemd nobody ends a session so.
        let has_units =
            site.state() == Path::new(DEFAULT_STATE) && Path::new("/run/systemd/system").is_dir();
        if failures.len() < names.len() && has_units {
            let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            advice(&groups).into_iter().for_each(|advice| terminal::say(&advice));
        }
        Ok(Reply::done().but(failures))
    }
}

/// What to know of guests that are started from these control groups (cgroups(7), `/proc/PID/cgroup`): a login
/// session is one group, which systemd ends as a whole.
fn advice(groups: &str) -> Option<String> {
    let mut parts = groups.lines().flat_map(|line| line.split('/'));
    let is_session = parts.any(|part| {
        part == "user.slice" || (part.starts_with("session-") && part.ends_with(".scope"))
    });
    is_session.then(|| {
        "what is started from a shell belongs to its login session, with which systemd ends it when the host \
         shuts down: `systemctl start netbe-guest@MACHINE` starts a guest that is asked to shut itself down then"
            .to_owned()
    })
}

/// Starts one, and waits until it runs.
pub(super) fn start(site: &Site, name: &MachineName, force: bool) -> Result<(), Failure> {
    keep::guest(site, name)?;
    let place = Place::of(site.state(), name.as_str());
    if let Some(keeper) = place.claimed().map_err(Failure::could_not)? {
        return Err(keep::claimed(name, &crate::guests::PlaceError::Claimed(keeper)));
    }
    place.make().map_err(Failure::could_not)?;
    let path = place.file(LOG);
    let failed = |error| Failure::could_not(format_args!("{name} cannot be started: {error}"));
    // It is added to: of two that start at once each says its own. What was said in lives before is over.
    let mut log = OpenOptions::new();
    log.create(true).append(true).mode(0o600);
    let log = log.open(&path).map_err(failed)?;
    let from = log.metadata().map_err(failed)?.len();
    let from = if from > LARGE { log.set_len(0).map(|()| 0).map_err(failed)? } else { from };
    let mut keeper = keeper(site, name, force, log).map_err(failed)?;
    let outcome = wait(&mut keeper, &place);
    match outcome {
        Some(true) => {
            if site.is_verbose() {
                terminal::say(&format!("{name} runs, kept by process {}", keeper.id()));
            }
            Ok(())
        }
        Some(false) => Err(Failure::no(reason(&path, from, name))),
        None => Err(Failure::could_not(format_args!(
            "{name} did not start within {} s: see {}",
            LIMIT.as_secs(),
            path.display()
        ))),
    }
}

/// Starts the keeper, which stays when this process ends.
fn keeper(site: &Site, name: &MachineName, force: bool, log: File) -> std::io::Result<Child> {
    let mut keeper = Command::new(std::env::current_exe()?);
    keeper.arg("--state").arg(site.state());
    if let Some(store) = site.named_store() {
        keeper.arg("--store").arg(store.to_string());
    }
    keeper.args(["guest", "run", "--detached"]);
    if force {
        keeper.arg("--force");
    }
    keeper.arg("--").arg(name.as_str());
    keeper.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()
}

/// Whether the guest runs, or its keeper has ended; nothing, if neither comes.
fn wait(keeper: &mut Child, place: &Place) -> Option<bool> {
    let (limit, mut running) = (Instant::now() + LIMIT, None);
    while Instant::now() < limit {
        match keeper.try_wait() {
            Ok(None) => {}
            // A guest may have done all that it has to do.
            Ok(Some(status)) => return Some(status.success()),
            Err(_) => return Some(false),
        }
        let record = place.record();
        let ours = record.filter(|record| u32::try_from(record.keeper.pid) == Ok(keeper.id()));
        let runs = ours.is_some_and(|record| record.stage == Stage::Running);
        // A program that does not understand its arguments ends at once.
        let since = *running.get_or_insert_with(Instant::now);
        if !runs {
            running = None;
        } else if since.elapsed() > BEGIN {
            return Some(true);
        }
        thread::sleep(BEAT);
    }
    None
}

/// What a keeper and its guest said before they ended, in a sentence.
fn reason(log: &Path, from: u64, name: &MachineName) -> String {
    let said = fs::read(log).unwrap_or_default();
    let said = said.get(usize::try_from(from).unwrap_or(0)..).unwrap_or_default();
    let said = String::from_utf8_lossy(said);
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.last().map(|line| line.strip_prefix("netbe: ").unwrap_or(line));
    let before = lines.iter().rev().skip(1).find(|line| line.starts_with("qemu-system"));
    match (last, before) {
        (None, _) => format!("{name} cannot be started: its keeper ended without a message"),
        (Some(last), None) => (*last).to_owned(),
        (Some(last), Some(before)) => format!("{last}: {before}"),
    }
}

/// What the keeper and what it runs say, in the guest's place.
pub(super) const LOG: &str = "log";
/// A log of so many bytes begins anew.
const LARGE: u64 = 1 << 20;
/// How long a guest may take until it is started: its root may have to be looked at.
const LIMIT: Duration = Duration::from_secs(120);
const BEAT: Duration = Duration::from_millis(30);

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_guest_of_a_login_session_is_told_to_end_with_it() {
        for (groups, is_told) in [
            ("0::/user.slice/user-0.slice/session-4.scope\n", true),
            (
                "12:pids:/x\n1:name=systemd:/user.slice/user-0.slice/user@0.service/app.slice\n",
                true,
            ),
            ("0::/machine.slice/netbe-guest@web1.service\n", false),
            ("0::/system.slice/netbe-guests.service\n", false),
            ("0::/\n", false),
            ("", false),
        ] {
            assert_eq!(advice(groups).is_some(), is_told, "{groups}");
        }
    }
}
