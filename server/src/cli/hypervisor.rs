//! What programs that keep virtual machines need to know of a guest: bhyve's own file and script, vmtab, libvirt,
//! vm-bhyve and CBSD.

use std::net::Ipv4Addr;

use bootcfg::bhyve::{self, Boot, Console, Virtual};
use bootcfg::conf::File;
use bootcfg::{ConfigError, cbsd, libvirt, vmbhyve, vmtab};
use clap::Args;
use store::EnvironmentName;

use super::boot::BHYVE_UEFI;
use super::files::Destination;
use super::guest::{GuestOptions, Host, RootOptions, Subject};
use super::machine::roster;
use super::{Failure, Reply, Site};
use crate::boot::catalog::System;
use crate::site::machine::{MachineName, environment_in};

/// The bhyve_config(5) file of a guest, for `bhyve -k FILE`, with its console on a null modem.
///
/// The guest is loaded by bhyveload (`netbe show bhyveload`), or with --uefi boots over the network. Without
/// --tap, tap0 is the guest's interface on this host.
#[derive(Args, Debug)]
pub(crate) struct ShowBhyveConfig {
    #[command(flatten)]
    guest: GuestOptions,
    #[command(flatten)]
    root: RootOptions,
    #[command(flatten)]
    host: Host,
    /// Boot it over the network by its UEFI.
    #[arg(long)]
    uefi: bool,
}

impl ShowBhyveConfig {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let subject = of_bhyve(&self.guest, site, self.uefi)?;
        let subject = rooted(subject, self.uefi, &self.root)?;
        let tap = self.host.tap().unwrap_or("tap0");
        let firmware = self.uefi.then_some(BHYVE_UEFI);
        let said = bhyve::config::variables(&subject.guest, tap, Console::NullModem, firmware);
        rendered(said, |variables| bhyve::config::render(variables))
    }
}

/// A script that runs a guest of bhyve until it is off, and loads it again when it reboots.
///
/// The script does not need netbe. It creates the guest's interface, adds it to the bridge, and removes both
/// at its end.
#[derive(Args, Debug)]
pub(crate) struct ShowBhyveScript {
    #[command(flatten)]
    guest: GuestOptions,
    #[command(flatten)]
    root: RootOptions,
    #[command(flatten)]
    host: Host,
    /// Boot it over the network by its UEFI, and not by bhyveload.
    #[arg(long)]
    uefi: bool,
}

impl ShowBhyveScript {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let subject = of_bhyve(&self.guest, site, self.uefi)?;
        let subject = rooted(subject, self.uefi, &self.root)?;
        script(site, &subject, &self.host, self.uefi).map(Reply::text)
    }
}

/// What is said of a guest, as the text of its file.
fn rendered<T>(
    said: Result<T, ConfigError>,
    render: impl FnOnce(&T) -> Result<String, ConfigError>,
) -> Result<Reply, Failure> {
    said.and_then(|said| render(&said)).map(Reply::text).map_err(Failure::could_not)
}

/// The guest, which only UEFI boots if it is no FreeBSD.
fn of_bhyve(options: &GuestOptions, site: &Site, uefi: bool) -> Result<Subject, Failure> {
    if !uefi {
        return options.freebsd(site);
    }
    let subject = options.subject(site)?;
    subject.expect_pxe()?;
    Ok(subject)
}

/// The guest with its root as it is to reach it: who boots by firmware gets it from a server.
fn rooted(subject: Subject, firmware: bool, root: &RootOptions) -> Result<Subject, Failure> {
    match (firmware, root.root_by) {
        (true, Some(by)) if by.is_of_host() => Err(Failure::no(format_args!(
            "a guest that boots by its firmware has its root over NFS: leave out --root-by {by}"
        ))),
        (true, _) => Ok(subject),
        (false, said) => subject.reach(said, None),
    }
}

fn script(site: &Site, subject: &Subject, host: &Host, uefi: bool) -> Result<String, Failure> {
    let (guest, console) = (&subject.guest, Console::NullModem);
    let boot = if uefi {
        Boot::Firmware(BHYVE_UEFI.to_owned())
    } else {
        Boot::Load(subject.bhyveload(site, console)?)
    };
    let machine = Virtual { guest, boot, console };
    machine.script(host.bhyve_bridge(), host.tap()).map_err(Failure::could_not)
}

/// The table of bhyve guests that a FreeBSD host starts by itself, the script of rc.d that reads it, and the
/// script of each guest.
///
/// The host does not need netbe. bhyveload loads a FreeBSD environment over NFS, for which the machine needs
/// an address; every other environment boots over the network by UEFI. `--into /` writes the files; then
/// `sysrc vmtab_enable=YES` and `service vmtab start`.
#[derive(Args, Debug)]
pub(crate) struct ShowVmtab {
    /// The bridge for the guests' interfaces.
    #[arg(long, value_name = "INTERFACE", default_value = "bridge0")]
    bridge: String,
    /// This server's address as the guests reach it [default: the one on their network].
    #[arg(long, value_name = "ADDRESS")]
    server: Option<Ipv4Addr>,
    /// Boot all of them over the network by their UEFI.
    #[arg(long)]
    uefi: bool,
    /// Memory of each in MiB [default: its machine's, or 1024].
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// Number of processors of each [default: its machine's, or 1].
    #[arg(long, value_name = "N")]
    cpus: Option<u16>,
    /// Seconds from the start of one to the start of the next.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u16,
    #[command(flatten)]
    destination: Destination,
    /// The machines, each with an assigned boot environment.
    #[arg(required = true, value_name = "MACHINE")]
    machines: Vec<MachineName>,
}

impl ShowVmtab {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let host = Host::with_bridge(Some(&self.bridge));
        let (mut entries, mut scripts) = (Vec::new(), Vec::new());
        for name in &self.machines {
            let environment = assigned(site, name)?;
            let options = GuestOptions::of(&environment, Some(name), self.server);
            let options = options.sized(self.memory, self.cpus);
            let subject = options.subject(site)?;
            let uefi = self.uefi || subject.system()? != Some(System::FreeBsd);
            let subject = if uefi {
                subject.expect_pxe()?;
                subject
            } else {
                subject.reach(None, None)?
            };
            let path = format!("usr/local/etc/vmtab.d/{name}.sh");
            let (name, script_of) = (name.to_string(), format!("/{path}"));
            entries.push(vmtab::Entry { name, script: script_of, auto: true, wait: self.wait });
            scripts.push(File { path, text: script(site, &subject, &host, uefi)? });
        }
        let text = vmtab::render(&entries).map_err(Failure::could_not)?;
        let mut files = vec![
            File { path: "usr/local/etc/vmtab".to_owned(), text },
            File { path: "usr/local/etc/rc.d/vmtab".to_owned(), text: vmtab::RC_SCRIPT.to_owned() },
        ];
        files.extend(scripts);
        self.destination.reply(&files)
    }
}

/// The boot environment that a machine boots.
fn assigned(site: &Site, name: &MachineName) -> Result<EnvironmentName, Failure> {
    let roster = roster(&site.open_state()?)?;
    let entry = roster.get(name).ok_or_else(|| {
        Failure::no(format_args!("there is no machine {name}: `netbe machine list` shows all"))
    })?;
    let environment = entry.machine.environment.as_deref().map(environment_in);
    let environment = environment.ok_or_else(|| {
        Failure::no(format_args!(
            "{name} boots nothing: assign it an environment with `netbe sharepxe --machine {name} BE`"
        ))
    })?;
    environment.parse().map_err(Failure::could_not)
}

/// The domain XML of libvirt for a guest of QEMU, for `virsh define FILE`.
///
/// It boots over the network by BIOS; with --uefi by UEFI; with --kernel its Linux kernel is loaded from this host's
/// store.
#[derive(Args, Debug)]
pub(crate) struct ShowLibvirt {
    #[command(flatten)]
    guest: GuestOptions,
    #[command(flatten)]
    root: RootOptions,
    #[command(flatten)]
    host: Host,
    /// Boot it by UEFI.
    #[arg(long, conflicts_with = "kernel")]
    uefi: bool,
    /// Load its Linux kernel from this host, with the root on NFS or, by --root-by, from this host.
    #[arg(long)]
    kernel: bool,
}

impl ShowLibvirt {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let subject = rooted(self.guest.subject(site)?, !self.kernel, &self.root)?;
        if self.host.tap().is_some() {
            return Err(Failure::could_not(
                "libvirt creates the guest's interface itself: give --bridge instead of --tap",
            ));
        }
        let boot = if self.kernel {
            libvirt::Boot::Kernel(subject.kernel()?)
        } else {
            subject.expect_pxe()?;
            if self.uefi { libvirt::Boot::Uefi } else { libvirt::Boot::Bios }
        };
        let accelerated = self.host.accelerator() == bootcfg::qemu::Accelerator::Kvm;
        let domain = libvirt::domain(&subject.guest, boot, self.host.bridge(), accelerated);
        rendered(Ok(domain), libvirt::render)
    }
}

/// The configuration of a guest of vm-bhyve that boots over the network by UEFI: NAME.conf in the directory
/// of the guest.
///
/// vm-bhyve loads a guest by bhyveload only from a disk, so this guest boots by UEFI.
#[derive(Args, Debug)]
pub(crate) struct ShowVmBhyve {
    #[command(flatten)]
    guest: GuestOptions,
    /// The switch of vm-bhyve that its interface belongs to.
    #[arg(long, value_name = "NAME", default_value = "public")]
    switch: String,
}

impl ShowVmBhyve {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let subject = of_bhyve(&self.guest, site, true)?;
        let said = vmbhyve::settings(&subject.guest, &self.switch);
        rendered(said, |settings| vmbhyve::render(settings))
    }
}

/// The jconf of CBSD for a guest of bhyve that boots over the network by UEFI: `cbsd bcreate jconf=FILE`.
///
/// For a jail see `netbe show jail --cbsd`.
#[derive(Args, Debug)]
pub(crate) struct ShowCbsd {
    #[command(flatten)]
    guest: GuestOptions,
    /// The bridge for the guest's interface.
    #[arg(long, value_name = "INTERFACE", default_value = "bridge0")]
    bridge: String,
    /// The CBSD profile: CBSD takes from it all settings that are not in the output.
    #[arg(long, value_name = "TYPE/NAME", default_value = "freebsd/FreeBSD-x64-14.1")]
    profile: String,
}

impl ShowCbsd {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let subject = of_bhyve(&self.guest, site, true)?;
        let said = cbsd::guest(&subject.guest, &self.bridge, &self.profile);
        rendered(said, |settings| cbsd::render(settings))
    }
}
