//! The verbs that boot a guest: with its root on NFS, or from its firmware by PXE.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use bootcfg::bhyve::{Boot, Console, Virtual};
use bootcfg::qemu::{self, Attachment, Firmware, Kernel};
use bootcfg::{Root, linux};
use clap::{Args, ValueEnum};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use provision::terminal;

use super::child::{self, Runner as _, Terminal, ThisHost, cannot_run};
use super::guest::{GuestOptions, Host, RootOptions, Subject, text};
use super::virtiofsd::{self, FileServer};
use super::{Failure, Reply, Site, bhyve, guard, keep, machine};
use crate::boot::catalog::System;
use crate::guests;
use crate::site::machine::{MachineName, Runner, SerialPort};

/// Boot a guest with its root over NFS; print the commands with -n.
///
/// FreeBSD boots by bhyveload and bhyve on a FreeBSD host, Linux by QEMU, which loads the kernel
/// itself. The command ends when the guest powers off; if the guest reboots, it boots again. Ctrl-C
/// or SIGTERM presses the power button of a bhyve guest, and kills a QEMU guest. With --root-by, the
/// root of the guest is the store's directory on this host, without NFS.
#[derive(Args, Debug)]
pub(crate) struct Bootnfs {
    #[command(flatten)]
    guest: GuestOptions,
    #[command(flatten)]
    root: RootOptions,
    #[command(flatten)]
    host: Host,
    #[command(flatten)]
    doing: Doing,
}

/// Whether a guest is run, and where its console is.
#[derive(Args, Debug)]
struct Doing {
    /// The console of a bhyve guest. A QEMU guest has its console on this terminal.
    #[arg(long, value_enum, default_value_t = Place::Nmdm)]
    console: Place,
    /// The guest is run without it too; it was needed once.
    #[arg(long, hide = true)]
    run: bool,
    /// Boot it even while the machine runs: two systems then write to one root.
    #[arg(short, long)]
    force: bool,
    /// Run nothing: print the commands that would run.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

/// The places of a console.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Place {
    /// A null modem of its own, /dev/nmdm-GUEST.1B: `cu -l` opens it, and `~.` leaves it.
    Nmdm,
    /// This terminal. The guest gets all keys, Ctrl-C too; to end the guest, log in and shut it down.
    Stdio,
}

impl Doing {
    const fn runs(&self) -> bool {
        !self.dry_run
    }

    /// Refuses a second system with the Ethernet address and the root of one that runs.
    fn refuse_running(&self, site: &Site, subject: &Subject) -> Result<(), Failure> {
        if !self.runs() || self.force || subject.guest.root.read_only {
            return Ok(());
        }
        let name = &subject.environment.name;
        guard::refuse_contained(site, name, guard::Verb::Boot)?;
        guard::refuse_running(site, name, &subject.titles())
    }

    const fn console(&self) -> Console {
        match self.console {
            Place::Nmdm => Console::NullModem,
            Place::Stdio => Console::Stdio,
        }
    }

    /// Runs a guest of bhyve, or prints the script that does.
    fn bhyve(
        &self,
        site: &Site,
        subject: &Subject,
        boot: Boot,
        host: &Host,
    ) -> Result<Reply, Failure> {
        let machine = Virtual { guest: &subject.guest, boot, console: self.console() };
        if !self.runs() {
            let script = machine.script(host.bhyve_bridge(), host.tap());
            return script.map(Reply::text).map_err(Failure::could_not);
        }
        if !cfg!(target_os = "freebsd") {
            return Err(Failure::could_not(format_args!(
                "bhyve runs on FreeBSD hosts only: boot {} with `netbe bootpxe`",
                subject.environment.name
            )));
        }
        if let Boot::Firmware(file) = &machine.boot
            && !Path::new(file).is_file()
        {
            return Err(Failure::could_not(format_args!(
                "{file} does not exist: install edk2-bhyve, which contains UEFI for bhyve"
            )));
        }
        let run = |runner: &mut ThisHost| {
            let failures = bhyve::run(&machine, &host.link(), runner, &mut terminal::say);
            Ok(Reply::done().but(failures))
        };
        if subject.guest.root.host.is_none() {
            return run(&mut ThisHost::new()?);
        }
        keep::keep_here(site, subject, Runner::Bhyve, self.force, run)
    }
}

impl Bootnfs {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let subject = self.guest.subject_on(site, self.host.joins())?;
        let place = guests::Place::of(site.state(), &subject.guest.name).file(virtiofsd::SOCKET);
        let socket = self.doing.runs().then_some(place.as_path());
        let subject = subject.reach(self.root.root_by, socket)?;
        self.doing.refuse_running(site, &subject)?;
        let Root { host, read_only, .. } = &subject.guest.root;
        if host.is_some() && !read_only && self.doing.runs() && !self.doing.force {
            guard::refuse_writers(site, &subject.environment, &subject.titles())?;
        }
        match subject.system()? {
            Some(System::FreeBsd) => {
                let load = subject.bhyveload(site, self.doing.console())?;
                self.doing.bhyve(site, &subject, Boot::Load(load), &self.host)
            }
            Some(System::Linux { .. }) => self.linux(site, &subject),
            None => Err(subject.nothing_bootable()),
        }
    }

    fn linux(&self, site: &Site, subject: &Subject) -> Result<Reply, Failure> {
        let (root, console) = (subject.guest.root.host.as_ref(), qemu::Console::Terminal);
        if !self.doing.runs() {
            let (kernel, accelerator) = (subject.kernel()?, self.host.accelerator());
            let words = |attachment: &Attachment| {
                qemu::direct(&subject.guest, &kernel, attachment, accelerator, &console)
            };
            let (before, qemu) = (virtiofsd::by_hand(root)?, self.host.by_hand(words)?);
            return Ok(Reply::text(before + &qemu));
        }
        if root.is_none() {
            return emulate(&subject.direct(&self.host, &console)?, &mut ThisHost::new()?);
        }
        keep::keep_here(site, subject, Runner::Qemu, self.doing.force, |runner| {
            let _served = FileServer::start(root, None)?;
            emulate(&subject.direct(&self.host, &console)?, runner)
        })
    }
}

/// Boot a guest from its firmware by PXE; print the commands with -n.
///
/// A running `netbe serve` decides by the guest's Ethernet address what it boots. The command ends
/// when the guest powers off. Ctrl-C or SIGTERM presses the power button of a bhyve guest, and
/// kills a QEMU guest.
#[derive(Args, Debug)]
pub(crate) struct Bootpxe {
    #[command(flatten)]
    guest: GuestOptions,
    #[command(flatten)]
    host: Host,
    /// The hypervisor [default: bhyve on FreeBSD, else qemu].
    #[arg(long, value_enum)]
    hypervisor: Option<Hypervisor>,
    /// The guest's firmware [default: bios for QEMU; bhyve has uefi only].
    #[arg(long, value_enum)]
    firmware: Option<Kind>,
    /// Set the machine's console to a serial port first, as `netbe machine set --serial` does, so that
    /// the system talks to this terminal: ttyS0 unless another one is given, as --serial=ttyS1/9600.
    #[arg(
        long,
        value_name = "DEVICE[/SPEED]",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = machine::DEFAULT_SERIAL
    )]
    serial: Option<SerialPort>,
    #[command(flatten)]
    doing: Doing,
}

/// The programs that run guests.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Hypervisor {
    Bhyve,
    Qemu,
}

/// The kinds of firmware.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Bios,
    Uefi,
}

impl Bootpxe {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let mut subject = self.guest.subject_on(site, self.host.joins())?;
        subject.expect_pxe()?;
        self.doing.refuse_running(site, &subject)?;
        if let Some(port) = self.serial {
            subject.guest.serial = port.0;
            subject.is_serial = true;
        }
        let usual = if cfg!(target_os = "freebsd") { Hypervisor::Bhyve } else { Hypervisor::Qemu };
        match (self.hypervisor.unwrap_or(usual), self.firmware) {
            (Hypervisor::Bhyve, Some(Kind::Bios)) => Err(Failure::could_not(
                "bhyve has no BIOS: give --firmware uefi or --hypervisor qemu",
            )),
            (Hypervisor::Bhyve, None | Some(Kind::Uefi)) => {
                self.set_serial(site, &subject)?;
                let boot = Boot::Firmware(BHYVE_UEFI.to_owned());
                self.doing.bhyve(site, &subject, boot, &self.host)
            }
            (Hypervisor::Qemu, None | Some(Kind::Bios)) => {
                self.qemu(site, &subject, &Firmware::Bios)
            }
            (Hypervisor::Qemu, Some(Kind::Uefi)) => self.qemu(site, &subject, &uefi()?),
        }
    }

    fn qemu(&self, site: &Site, subject: &Subject, firmware: &Firmware) -> Result<Reply, Failure> {
        let console = qemu::Console::Terminal;
        if !self.doing.runs() {
            let accelerator = self.host.accelerator();
            let words = |attachment: &Attachment| {
                qemu::pxe(&subject.guest, firmware, attachment, accelerator, &console)
            };
            return self.host.by_hand(words).map(Reply::text);
        }
        let emulation = subject.pxe(&self.host, firmware, &console)?;
        self.set_serial(site, subject)?;
        if !subject.is_serial {
            let machine = subject.by_mac.as_ref().map_or("MACHINE", MachineName::as_str);
            terminal::say(&format!(
                "only firmware and loader use this terminal: with --serial, or after `netbe machine set \
                 --serial {machine}`, the system uses it too"
            ));
        }
        emulate(&emulation, &mut ThisHost::new()?)
    }

    /// Writes down that the machine's console is a serial port, so that a server tells its loader and
    /// its kernel.
    fn set_serial(&self, site: &Site, subject: &Subject) -> Result<(), Failure> {
        let Some(port) = self.serial.filter(|_| self.doing.runs()) else { return Ok(()) };
        let Some(name) = &subject.by_mac else {
            let (mac, environment) = (subject.guest.mac, &subject.environment.name);
            return Err(Failure::no(format_args!(
                "--serial is a machine's setting, and no machine has {mac}: add one with `netbe machine add --mac {mac} \
                 --environment {environment} --serial NAME`"
            )));
        };
        machine::change(site, |roster| {
            let mut machine = roster.take(name)?;
            machine.serial = Some(port);
            roster.insert(name.clone(), machine.clone(), false)?;
            Ok((name.clone(), machine))
        })?;
        Ok(())
    }
}

/// A QEMU that is ready to be started: its words, and what has to be open until it is.
#[derive(Debug)]
pub(crate) struct Emulation {
    /// The command.
    pub(crate) words: Vec<String>,
    _open: Vec<OwnedFd>,
}

impl Subject {
    /// QEMU for a guest whose firmware boots it by PXE.
    pub(crate) fn pxe(
        &self,
        host: &Host,
        firmware: &Firmware,
        console: &qemu::Console,
    ) -> Result<Emulation, Failure> {
        let (attachment, link) = host.attach()?;
        let words = qemu::pxe(&self.guest, firmware, &attachment, host.accelerator(), console);
        Ok(Emulation {
            words: words.map_err(Failure::could_not)?,
            _open: link.into_iter().collect(),
        })
    }

    /// QEMU for a guest that gets its kernel from here.
    pub(crate) fn direct(
        &self,
        host: &Host,
        console: &qemu::Console,
    ) -> Result<Emulation, Failure> {
        let (attachment, link) = host.attach()?;
        // The guest's superuser wrote these files and their links: QEMU gets them opened, so that
        // it cannot be led to others.
        let (kernel, initrd) = self.linux()?;
        let inside = self.inside()?;
        let open = |path: &String| {
            let file = inside.open(path).map_err(Failure::could_not)?;
            fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty())).map_err(|error| {
                Failure::could_not(format_args!("QEMU cannot get {path}: {error}"))
            })?;
            Ok::<_, Failure>((format!("/dev/fd/{}", file.as_raw_fd()), OwnedFd::from(file)))
        };
        let (kernel, opened) = open(&kernel)?;
        let (initrd, also) = initrd.as_ref().map(open).transpose()?.unzip();
        let command_line = self.command_line()?;
        let kernel = Kernel { kernel, initrd, command_line };
        let words = qemu::direct(&self.guest, &kernel, &attachment, host.accelerator(), console);
        let words = words.map_err(Failure::could_not)?;
        Ok(Emulation { words, _open: [Some(opened), also, link].into_iter().flatten().collect() })
    }

    /// The kernel and the initial RAM disk, by their paths on this host, for QEMU.
    pub(crate) fn kernel(&self) -> Result<Kernel, Failure> {
        let (kernel, initrd) = self.linux()?;
        let root = self.store.root(&self.environment.name);
        let on_host = |path: &String| {
            let path = root.join(path.trim_start_matches('/'));
            let found = path.canonicalize().map_err(|error| {
                Failure::could_not(format_args!("cannot read {path:?}: {error}"))
            })?;
            // A guest's link to /boot means its own, and would lead QEMU to this host's.
            if !root.canonicalize().is_ok_and(|root| found.starts_with(root)) {
                return Err(Failure::could_not(format_args!(
                    "{path:?} is a symbolic link that leads out of the boot environment: run the command \
                     without -n"
                )));
            }
            text(&found).map(str::to_owned)
        };
        Ok(Kernel {
            kernel: on_host(&kernel)?,
            initrd: initrd.as_ref().map(on_host).transpose()?,
            command_line: self.command_line()?,
        })
    }

    /// The paths of the kernel and the initial RAM disk inside the boot environment.
    pub(crate) fn linux(&self) -> Result<(String, Option<String>), Failure> {
        match self.system()? {
            Some(System::Linux { kernel, initrd }) => Ok((kernel, initrd)),
            Some(System::FreeBsd) => Err(Failure::no(format_args!(
                "{} contains FreeBSD, whose kernel needs its own loader: see `netbe show \
                 bhyveload` and `netbe bootpxe`",
                self.environment.name
            ))),
            None => Err(self.nothing_bootable()),
        }
    }

    fn command_line(&self) -> Result<String, Failure> {
        // The guest's console is the terminal, and words for the machine come last.
        let port = self.guest.serial;
        let named = self.cmdline.split_whitespace().any(|word| port.is_in(word));
        let console = if named { String::new() } else { port.argument() + " " };
        let extra = console + &self.cmdline;
        linux::command_line(&self.guest.root, Some(self.guest.mac), &extra)
            .map_err(Failure::could_not)
    }

    fn nothing_bootable(&self) -> Failure {
        Failure::no(format_args!(
            "{} has nothing to boot: install a system with a kernel in /boot",
            self.environment.name
        ))
    }
}

/// The first UEFI firmware for QEMU that is installed.
pub(super) fn uefi() -> Result<Firmware, Failure> {
    let found = FIRMWARE
        .iter()
        .find(|(code, variables)| Path::new(code).is_file() && Path::new(variables).is_file());
    let (code, variables) = found.ok_or_else(|| {
        Failure::could_not(
            "no UEFI firmware for QEMU is installed: install ovmf (Debian) or edk2-qemu-x64 \
             (FreeBSD), or give --firmware bios",
        )
    })?;
    Ok(Firmware::Uefi { code: (*code).to_owned(), variables: (*variables).to_owned() })
}

/// Runs QEMU until the guest is off.
fn emulate(Emulation { words, .. }: &Emulation, runner: &mut ThisHost) -> Result<Reply, Failure> {
    let program = words.first().map_or("QEMU", String::as_str);
    let status = runner.run(child::command(words), Terminal::Shared);
    let status = status.map_err(|error| cannot_run(program, &error))?;
    if status.success() {
        Ok(Reply::done())
    } else {
        Err(Failure::could_not(format_args!("{program} failed: {status}")))
    }
}

/// bhyve's UEFI as FreeBSD's package edk2-bhyve installs it.
pub(crate) const BHYVE_UEFI: &str = "/usr/local/share/uefi-firmware/BHYVE_UEFI.fd";
/// UEFI's code and variables as Debian, FreeBSD, Fedora and Arch install them.
const FIRMWARE: [(&str, &str); 6] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    (
        "/usr/local/share/edk2-qemu/QEMU_UEFI_CODE-x86_64.fd",
        "/usr/local/share/edk2-qemu/QEMU_UEFI_VARS-x86_64.fd",
    ),
    ("/usr/local/share/qemu/edk2-x86_64-code.fd", "/usr/local/share/qemu/edk2-i386-vars.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
];
