//! One life of a guest, from what it needs of this host to its end, for each program that runs one.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use bootcfg::bhyve::{Boot, Console, Virtual};
use bootcfg::nspawn::{self as container, Container, Source};
use bootcfg::qemu::{self, Firmware};
use bootcfg::{Guest, Mac, Root, Serial, View, shell};
use provision::terminal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use store::{EnvironmentName, Point};

use super::notes::{MONITOR, Notes};
use super::{Left, jail};
use crate::cli::boot::{BHYVE_UEFI, uefi};
use crate::cli::child::{Runner as _, Terminal, ThisHost, cannot_run, command};
use crate::cli::guard::{self, Verb};
use crate::cli::guest::{GuestOptions, Host, Subject, expect_kernel, text};
use crate::cli::status::ago;
use crate::cli::virtiofsd::{self, FileServer};
use crate::cli::{Failure, Site, bhyve as on_bhyve};
use crate::control::{Reply as Answer, Request};
use crate::guests::End;
use crate::guests::console::Relay;
use crate::guests::place::now;
use crate::site::machine::{GuestBoot, Machine, MachineName, Runner};

/// The lives of one guest under one keeper.
#[derive(Debug)]
pub(super) struct Life<'a> {
    site: &'a Site,
    name: &'a MachineName,
    notes: Notes,
    console: Relay,
    /// Where the messages of what it runs go, if they do not go where its own do.
    log: Option<PathBuf>,
}

/// A machine as it is written down, and what runs it.
type Known<'m> = (&'m Machine, Runner);

impl<'a> Life<'a> {
    pub(super) fn new(
        site: &'a Site,
        name: &'a MachineName,
        notes: Notes,
        log: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let console = listen(&notes)?;
        Ok(Self { site, name, notes, console, log })
    }

    /// Runs it until it ends. With `refuses` it is not started while its machine, or another one, runs from its
    /// root.
    pub(super) fn live(
        &self,
        known: Known<'_>,
        host: &mut ThisHost,
        refuses: bool,
    ) -> Result<End, Failure> {
        let socket = self.notes.file(virtiofsd::SOCKET);
        let subject = subject(self.site, self.name, known, Some(&socket))?;
        if refuses {
            self.refuse_running(&subject, known.1)?;
        }
        let (machine, run) = known;
        match run {
            Runner::Qemu => {
                let [serial, monitor] = ["serial", MONITOR].map(|name| self.notes.file(name));
                let console = qemu::Console::Sockets {
                    serial: text(&serial)?.to_owned(),
                    monitor: text(&monitor)?.to_owned(),
                };
                let on = on(machine);
                // Before anything is open that is for QEMU alone.
                let root = subject.guest.root.host.as_ref();
                let _served = FileServer::start(root, self.log.as_deref())?;
                let emulation = match machine.boot.unwrap_or(GuestBoot::Bios) {
                    GuestBoot::Bios => subject.pxe(&on, &Firmware::Bios, &console)?,
                    GuestBoot::Uefi => subject.pxe(&on, &uefi()?, &console)?,
                    GuestBoot::Kernel => subject.direct(&on, &console)?,
                };
                self.notes.start(run, &subject)?;
                // The console of the life before may lie there.
                for socket in [&serial, &monitor] {
                    let _ = fs::remove_file(socket);
                }
                self.console.attach_socket(serial).map_err(no_console)?;
                let status = run_on(host, command(&emulation.words), Terminal::Own, "QEMU")?;
                ended(host, self.name.as_str(), "QEMU", status)
            }
            Runner::Nspawn => {
                let mut program = nspawned(&subject, machine, &self.notes)?;
                self.notes.start(run, &subject)?;
                self.on_terminal(&mut program).map_err(no_console)?;
                nspawn(self.name.as_str(), host, program, Terminal::Other)
            }
            Runner::Bhyve => {
                let machine = Virtual {
                    guest: &subject.guest,
                    boot: bhyve_boot(self.site, &subject, machine)?,
                    console: Console::NullModem,
                };
                if !cfg!(target_os = "freebsd") {
                    return Err(Failure::could_not(format_args!(
                        "bhyve runs on FreeBSD hosts only: choose QEMU with `netbe machine set --run qemu {}`",
                        self.name
                    )));
                }
                self.notes.start(run, &subject)?;
                let failures =
                    on_bhyve::run(&machine, &on(known.0).link(), host, &mut terminal::say);
                all_well(failures)
            }
            Runner::Jail => {
                jail::expect_jails()?;
                let definition = jail::definition(&subject, machine)?;
                self.notes.start_jail(&subject)?;
                let file = self.notes.file("jail.conf");
                jail::live(&definition, &file, host, &mut || self.notes.began_jail())
            }
        }
    }

    /// Refuses a second system with the Ethernet address and the root of one that runs. A server takes a guest
    /// for one that runs for some time after it was killed: what ended here since it was heard of last is over.
    fn refuse_running(&self, subject: &Subject, run: Runner) -> Result<(), Failure> {
        let name = &subject.environment.name;
        let titles = subject.titles();
        let (writes, is_remote) =
            (!subject.guest.root.read_only, subject.guest.root.host.is_none() && run.is_virtual());
        if writes {
            guard::refuse_contained(self.site, name, Verb::Boot)?;
        }
        if writes && subject.guest.root.host.is_some() {
            guard::refuse_writers(self.site, &subject.environment, &titles)?;
        }
        // What the server takes for running is overruled by what this host has seen, and nothing else is.
        let refused = if is_remote || !writes {
            guard::refuse_running(self.site, name, &titles)
        } else {
            guard::refuse_served(self.site, name, Verb::Boot)
        };
        refused.or_else(|refused| {
            let Some(heard) = self.heard_last(&titles) else { return Err(refused) };
            let Some(evidence) = evidence(self.notes.ended_at(), heard, now()) else {
                // Others may use what a virtual machine boots, as far as the first question goes.
                let is_alone = is_remote || guard::is_alone(self.site, name, &titles)?;
                return if is_alone { Ok(()) } else { Err(refused) };
            };
            Err(Failure::no(format_args!("{} ({evidence})", refused.message)))
        })
    }

    /// When the running server last heard of the machine with one of these titles, in seconds since 1970.
    fn heard_last(&self, titles: &[String]) -> Option<u64> {
        let Ok(Answer::Status(status)) = self.site.server().ok()??.ask(&Request::Status) else {
            return None;
        };
        let machine = status.machines.into_iter().find(|machine| titles.contains(&machine.name))?;
        let seconds = std::time::Duration::try_from_secs_f64(machine.seen?).ok()?.as_secs();
        // Both clocks are cut to seconds.
        Some(now().saturating_sub(seconds).saturating_sub(2))
    }

    /// Gives a program a terminal of its own, whose other end is the guest's console.
    fn on_terminal(&self, program: &mut Command) -> io::Result<()> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let path = ptsname(&ours, Vec::new())?;
        let path = path.to_str().map_err(io::Error::other)?;
        let mut open = OpenOptions::new();
        let theirs =
            open.read(true).write(true).custom_flags(libc::O_NOCTTY).open(Path::new(path))?;
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&theirs, size)?;
        program.stdin(theirs.try_clone()?).stdout(theirs);
        let ours = File::from(ours);
        self.console.attach(ours.try_clone()?, ours)
    }
}

/// What speaks for it that a machine runs elsewhere; nothing, if this host saw its guest end after the server had
/// heard of it last.
fn evidence(ended: Option<u64>, heard: u64, now: u64) -> Option<String> {
    // Times of a host fit in it.
    #[expect(clippy::cast_precision_loss)]
    let told = |at: u64| ago(now.saturating_sub(at) as f64);
    let here = match ended {
        Some(ended) if heard <= ended => return None,
        Some(ended) => format!("this host saw its guest end {}", told(ended)),
        None => "this host has not seen a guest of that name end".to_owned(),
    };
    Some(format!("the server heard of it {}, and {here}", told(heard)))
}

/// Waits for the end of a guest whose keeper was killed, and removes what that had made for it. How it ended
/// nobody knows: who switched itself off is not to come back, so that it counts as that.
pub(super) fn take_over(
    name: &MachineName,
    notes: &Notes,
    host: &mut ThisHost,
    left: &Left,
) -> Result<End, Failure> {
    let process = match left {
        Left::Jail(_) => return jail::follow(name.as_str(), &notes.file("jail.conf"), host),
        Left::Process(process) => process,
    };
    let serial = notes.file("serial");
    let run = notes.run();
    let _console = (run == Runner::Qemu)
        .then(|| {
            let relay = listen(notes)?;
            relay.attach_socket(serial).map_err(no_console)?;
            Ok::<_, Failure>(relay)
        })
        .transpose()?;
    host.follow(process).map_err(|error| {
        Failure::could_not(format_args!("cannot wait for the end of {left}: {error}"))
    })?;
    if run == Runner::Bhyve {
        return clear_bhyve(name, notes, host);
    }
    Ok(End::Off)
}

/// Notes of a guest that ended together with its keeper that it is off, and removes what the keeper had made for
/// it. Of one that runs, or was seen to end, there is nothing to be done.
pub(super) fn clear_lost(
    name: &MachineName,
    notes: &Notes,
    host: &mut ThisHost,
) -> Result<(), Failure> {
    if !notes.is_lost() {
        return Ok(());
    }
    if notes.run() == Runner::Bhyve {
        clear_bhyve(name, notes, host)?;
    }
    notes.lose()
}

/// Removes what was made for a guest of bhyve that has ended. Only its name tells it: its environment may be gone, and
/// there may be no machine, where a command ran it on its terminal.
fn clear_bhyve(name: &MachineName, notes: &Notes, host: &mut ThisHost) -> Result<End, Failure> {
    let root = Root {
        server: Ipv4Addr::LOCALHOST,
        path: "/".to_owned(),
        datasets: Vec::new(),
        view: View::Joined,
        read_only: true,
        host: None,
    };
    let guest = Guest {
        name: name.to_string(),
        memory: 0,
        cpus: 0,
        mac: Mac([0; 6]),
        mtu: None,
        root,
        serial: Serial::default(),
        kenv: Vec::new(),
    };
    let boot = Boot::Firmware(BHYVE_UEFI.to_owned());
    let machine = Virtual { guest: &guest, boot, console: Console::NullModem };
    all_well(on_bhyve::clear(&machine, notes.tap(), host, &mut terminal::say))
}

/// The commands that would run a guest, as a person would type them.
pub(super) fn commands(
    site: &Site,
    name: &MachineName,
    known: Known<'_>,
) -> Result<String, Failure> {
    let subject = subject(site, name, known, None)?;
    let (machine, run) = known;
    let (on, terminal) = (on(machine), qemu::Console::Terminal);
    let accelerator = on.accelerator();
    let guest = &subject.guest;
    let pxe = |firmware: &Firmware| {
        on.by_hand(|attachment| qemu::pxe(guest, firmware, attachment, accelerator, &terminal))
    };
    match run {
        Runner::Qemu => match machine.boot.unwrap_or(GuestBoot::Bios) {
            GuestBoot::Bios => pxe(&Firmware::Bios),
            GuestBoot::Uefi => pxe(&uefi()?),
            GuestBoot::Kernel => {
                let (kernel, before) =
                    (subject.kernel()?, virtiofsd::by_hand(guest.root.host.as_ref())?);
                let words = |attachment: &_| {
                    qemu::direct(guest, &kernel, attachment, accelerator, &terminal)
                };
                Ok(before + &on.by_hand(words)?)
            }
        },
        Runner::Nspawn => {
            let words = container(&subject, machine, None)?;
            shell::lines(&words, "").map(|text| text + "\n").map_err(Failure::could_not)
        }
        Runner::Bhyve => {
            let boot = bhyve_boot(site, &subject, machine)?;
            let machine = Virtual { guest, boot, console: Console::NullModem };
            machine.script(on.bhyve_bridge(), None).map_err(Failure::could_not)
        }
        Runner::Jail => {
            let definition = jail::definition(&subject, machine)?;
            bootcfg::jail::render(&[definition]).map_err(Failure::could_not)
        }
    }
}

/// The guest that a machine is, on the environment that it boots. By virtiofs it finds its files at `socket`.
fn subject(
    site: &Site,
    name: &MachineName,
    known: Known<'_>,
    socket: Option<&Path>,
) -> Result<Subject, Failure> {
    let (machine, run) = known;
    let wanted = machine.wanted().ok_or_else(|| {
        Failure::no(format_args!(
            "{name} boots nothing: assign it an environment with `netbe sharepxe --machine {name} BE`"
        ))
    })?;
    let wanted: Point = wanted.parse().map_err(Failure::could_not)?;
    // A container's and a jail's root is here, whatever networks this host has.
    let server = (run == Runner::Nspawn || (run == Runner::Jail && machine.bridge.is_none()))
        .then_some(Ipv4Addr::LOCALHOST);
    let options = GuestOptions::of(&wanted.environment, Some(name), server);
    let on = on(machine);
    let subject = options.subject_on(site, on.joins())?;
    expect_kernel(run, subject.system()?.as_ref(), &subject.environment.name)?;
    match (run, machine.boot) {
        (Runner::Qemu | Runner::Bhyve, None | Some(GuestBoot::Bios | GuestBoot::Uefi)) => {
            subject.expect_pxe().map(|()| subject)
        }
        (Runner::Qemu | Runner::Bhyve, Some(GuestBoot::Kernel)) => subject.reach(None, socket),
        _ => Ok(subject),
    }
}

/// This host, as the machine's record says it.
fn on(machine: &Machine) -> Host {
    Host::with_bridge(machine.bridge.as_ref().map(|bridge| bridge.as_str()))
}

fn bhyve_boot(site: &Site, subject: &Subject, machine: &Machine) -> Result<Boot, Failure> {
    if machine.boot != Some(GuestBoot::Kernel) {
        return Ok(Boot::Firmware(BHYVE_UEFI.to_owned()));
    }
    subject.bhyveload(site, Console::NullModem).map(Boot::Load)
}

/// A container's program, with what it reads written down.
pub(super) fn nspawned(
    subject: &Subject,
    machine: &Machine,
    notes: &Notes,
) -> Result<Command, Failure> {
    let mut program = command(&container(subject, machine, Some(notes))?);
    if let Some(mac) = machine.macs.first() {
        let (name, value) = container::variable(Mac(mac.0));
        program.env(name, value);
    }
    Ok(program)
}

/// Runs a container's program to its end.
pub(super) fn nspawn(
    name: &str,
    host: &mut ThisHost,
    program: Command,
    terminal: Terminal,
) -> Result<End, Failure> {
    let status = run_on(host, program, terminal, "systemd-nspawn")?;
    if status.code() == Some(REBOOTED) {
        return Ok(End::Rebooted);
    }
    ended(host, name, "systemd-nspawn", status)
}

/// The command that runs a container. With `notes` the file of its interface is written.
pub(super) fn container(
    subject: &Subject,
    machine: &Machine,
    notes: Option<&Notes>,
) -> Result<Vec<String>, Failure> {
    let name: &EnvironmentName = &subject.environment.name;
    subject.expect_of_host()?;
    if !subject.store.capabilities().in_place {
        return Err(Failure::no(format_args!(
            "netbe does not mount the data sets of {name}: run `netbe mount {name} DIR` when the \
             host starts, and the container by the files of `netbe show nspawn --root DIR`"
        )));
    }
    let mac = machine.macs.first().map(|mac| Mac(mac.0));
    let contained = Container {
        name: subject.guest.name.clone(),
        root: Source::Directory(subject.directory()?),
        read_only: subject.guest.root.read_only,
        bridge: machine.bridge.as_ref().map(|bridge| bridge.as_str().to_owned()),
        mac,
        private_users: false,
    };
    let network = match (mac, notes) {
        (Some(mac), Some(notes)) => {
            let file = notes.file("host0.network");
            let written = container::network(mac).map_err(Failure::could_not)?;
            fs::write(&file, written)
                .map_err(|error| Failure::could_not(format_args!("{}: {error}", file.display())))?;
            Some(text(&file)?.to_owned())
        }
        (Some(_), None) => Some("/etc/systemd/nspawn/host0.network".to_owned()),
        (None, _) => None,
    };
    // Only in a unit of its own: else one that others are in would be the container's.
    let own = format!("/netbe-guest@{}.service", subject.guest.name);
    let units = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let register =
        Path::new("/run/systemd/system").is_dir() && units.lines().any(|line| line.ends_with(&own));
    container::command(&contained, network.as_deref(), register).map_err(Failure::could_not)
}

fn run_on(
    host: &mut ThisHost,
    command: Command,
    terminal: Terminal,
    program: &str,
) -> Result<ExitStatus, Failure> {
    host.run(command, terminal).map_err(|error| cannot_run(program, &error))
}

/// Whoever was asked to end, or was killed then, has done that with any status.
fn ended(host: &ThisHost, name: &str, program: &str, status: ExitStatus) -> Result<End, Failure> {
    if status.success() || host.is_asked() {
        return Ok(End::Off);
    }
    Err(Failure::could_not(format_args!("{program} ended, and {name} with it: {status}")))
}

fn all_well(failures: Vec<Failure>) -> Result<End, Failure> {
    if failures.is_empty() {
        return Ok(End::Off);
    }
    let said: Vec<String> = failures.into_iter().map(|failure| failure.message).collect();
    Err(Failure::could_not(said.join("; ")))
}

fn listen(notes: &Notes) -> Result<Relay, Failure> {
    Relay::listen(&notes.file(CONSOLE)).map_err(no_console)
}

fn no_console(error: impl Into<io::Error>) -> Failure {
    Failure::could_not(format_args!("the guest gets no console: {}", error.into()))
}

/// The socket of the console, in the guest's place.
pub(in crate::cli) const CONSOLE: &str = "console";
/// systemd-nspawn ends so, run with --keep-unit, when its container restarts itself (nspawn.c,
/// `EXIT_FORCE_RESTART`).
const REBOOTED: i32 = 133;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_machine_that_was_heard_of_after_its_guest_ended_here_runs_elsewhere() {
        assert_eq!(evidence(Some(1000), 990, 1060), None);
        let told = "the server heard of it 5s ago, and this host saw its guest end 1m ago";
        assert_eq!(evidence(Some(1000), 1055, 1060).as_deref(), Some(told));
        // One that was lost ended nobody knows when.
        let told =
            "the server heard of it 1m ago, and this host has not seen a guest of that name end";
        assert_eq!(evidence(None, 1000, 1060).as_deref(), Some(told));
    }
}
