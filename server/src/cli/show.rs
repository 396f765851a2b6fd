//! The verb that shows what other programs need to be told about a boot environment.

use bootcfg::bhyve::Console;
use bootcfg::exports::{Datasets, Network, Options};
use bootcfg::fstab::{self, Dialect};
use bootcfg::ipxe::{Action, Script};
use bootcfg::{bhyve, exports, ipxe, linux, loader, qemu, rcconf, shell};
use clap::{Args, Subcommand};
use store::{EnvironmentName, Identity};

use super::conf::ShowConf;
use super::dhcp::Dhcp;
use super::guest::{GuestOptions, Host, RootOptions, Subject};
use super::hypervisor::{
    ShowBhyveConfig, ShowBhyveScript, ShowCbsd, ShowLibvirt, ShowVmBhyve, ShowVmtab,
};
use super::initramfs::ShowInitramfs;
use super::jail::ShowJail;
use super::mounts::ShowMount;
use super::names::{ShowHosts, ShowZone};
use super::nspawn::ShowNspawn;
use super::units::ShowUnits;
use super::virtiofsd;
use super::{Failure, Reply, Site};
use crate::boot::catalog::System;

/// Print the configuration or commands that other programs need.
#[derive(Args, Debug)]
pub(crate) struct Show {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The bhyve(8) command that runs a guest which bhyveload has loaded, with its console on the terminal.
    ///
    /// Without --tap, tap0 is the guest's interface on this host.
    Bhyve(Virtual),
    /// The bhyveload(8) command, with the handle of the NFS root in it, or by --root-by with a root from this host.
    Bhyveload(Loaded),
    BhyveConfig(ShowBhyveConfig),
    BhyveScript(ShowBhyveScript),
    Cbsd(ShowCbsd),
    Conf(ShowConf),
    /// The configuration that makes another DHCP server boot machines from this server.
    Dhcp(Dhcp),
    /// Lines of exports(5), for a FreeBSD host that is to share it with mountd(8) instead.
    ///
    /// mountd accepts a network only once for each file system, and a store of directories is one file
    /// system: share only one of its boot environments with a network, or write their directories on one
    /// line.
    Exports(Exports),
    /// The fstab(5) of a guest that mounts each data set by itself.
    Fstab(GuestOptions),
    Hosts(ShowHosts),
    Initramfs(ShowInitramfs),
    /// An iPXE script, for another web server: netbe writes its own for every boot.
    Ipxe(Ipxe),
    Jail(ShowJail),
    Libvirt(ShowLibvirt),
    /// Lines of loader.conf(5), for a FreeBSD loader that gets its kernel from elsewhere.
    Loader(GuestOptions),
    Mount(ShowMount),
    Nspawn(ShowNspawn),
    /// The QEMU command that boots its kernel directly, with the root on NFS or, by --root-by, from this host.
    Qemu(Virtual),
    /// Lines of rc.conf(5) for a diskless FreeBSD machine.
    Rcconf(GuestOptions),
    Units(ShowUnits),
    VmBhyve(ShowVmBhyve),
    Vmtab(ShowVmtab),
    Zone(ShowZone),
}

impl Show {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        match &self.what {
            What::Bhyve(options) => options.bhyve(site),
            What::Bhyveload(options) => {
                let subject = options.guest.freebsd(site)?.reach(options.root.root_by, None)?;
                command(&subject.bhyveload(site, Console::Stdio)?)
            }
            What::BhyveConfig(options) => options.run(site),
            What::BhyveScript(options) => options.run(site),
            What::Cbsd(options) => options.run(site),
            What::Conf(options) => options.run(site),
            What::Dhcp(options) => options.run(site),
            What::Exports(options) => options.run(site),
            What::Fstab(options) => {
                let subject = options.subject(site)?;
                let dialect = match subject.system()? {
                    Some(System::Linux { .. }) => Dialect::Linux,
                    Some(System::FreeBsd) | None => Dialect::FreeBsd,
                };
                let entries = fstab::nested(&subject.guest.root, dialect);
                if entries.is_empty() {
                    return Ok(Reply::text(format!(
                        "# {} is one file system: its guest mounts nothing but its root\n",
                        subject.environment.name
                    )));
                }
                fstab::render(&entries).map(Reply::text).map_err(Failure::could_not)
            }
            What::Hosts(options) => options.run(site),
            What::Initramfs(options) => options.run(site),
            What::Ipxe(options) => options.run(site),
            What::Jail(options) => options.run(site),
            What::Libvirt(options) => options.run(site),
            What::Loader(options) => {
                let subject = options.freebsd(site)?;
                let handle = subject.handle(site)?;
                let address = subject.nfs_address()?;
                loader::variables(&subject.guest, &address, handle.as_bytes())
                    .and_then(|variables| loader::render(&variables))
                    .map(Reply::text)
                    .map_err(Failure::could_not)
            }
            What::Mount(options) => options.run(site),
            What::Nspawn(options) => options.run(site),
            What::Qemu(options) => options.qemu(site),
            What::Units(options) => options.run(site),
            What::Rcconf(options) => {
                let subject = options.freebsd(site)?;
                rcconf::diskless(&subject.guest)
                    .and_then(|settings| rcconf::render(&settings))
                    .map(Reply::text)
                    .map_err(Failure::could_not)
            }
            What::VmBhyve(options) => options.run(site),
            What::Vmtab(options) => options.run(site),
            What::Zone(options) => options.run(site),
        }
    }
}

/// A guest that bhyveload loads.
#[derive(Args, Debug)]
struct Loaded {
    #[command(flatten)]
    guest: GuestOptions,
    #[command(flatten)]
    root: RootOptions,
}

/// A virtual machine.
#[derive(Args, Debug)]
struct Virtual {
    #[command(flatten)]
    guest: GuestOptions,
    #[command(flatten)]
    root: RootOptions,
    #[command(flatten)]
    host: Host,
}

impl Virtual {
    fn bhyve(&self, site: &Site) -> Result<Reply, Failure> {
        let subject = self.guest.freebsd(site)?.reach(self.root.root_by, None)?;
        let tap = self.host.tap().unwrap_or("tap0");
        let words = bhyve::bhyve(&subject.guest, tap, Console::Stdio, None);
        command(&words.map_err(Failure::could_not)?)
    }

    fn qemu(&self, site: &Site) -> Result<Reply, Failure> {
        let subject = self.guest.subject(site)?.reach(self.root.root_by, None)?;
        let before = virtiofsd::by_hand(subject.guest.root.host.as_ref())?;
        let words = qemu::direct(
            &subject.guest,
            &subject.kernel()?,
            &self.host.attachment(),
            self.host.accelerator(),
            &qemu::Console::Terminal,
        );
        let words = words.map_err(Failure::could_not)?;
        let line = shell::lines(&words, "").map_err(Failure::could_not)?;
        Ok(Reply::text(format!("{before}{line}\n")))
    }
}

/// Exports of a boot environment.
#[derive(Args, Debug)]
struct Exports {
    /// The boot environment.
    name: EnvironmentName,
}

impl Exports {
    fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        let environment = store.get(&self.name)?;
        let settings = &environment.export;
        if !settings.shared {
            return Err(Failure::no(format_args!(
                "{} is not shared: share it with `netbe sharenfs` first",
                self.name
            )));
        }
        if settings.networks.is_empty() {
            return Err(Failure::no(format_args!(
                "{} is shared with no network, and mountd knows no machines: share it with \
                 `netbe sharenfs --network`",
                self.name
            )));
        }
        let root = store.root(&self.name);
        let options = Options {
            read_only: environment.is_read_only(),
            maproot: settings.maproot.as_ref().map(Identity::to_string),
            mapall: settings.mapall.as_ref().map(Identity::to_string),
            ..Options::default()
        };
        let mounted = environment.datasets.iter().filter(|set| set.mounted());
        let datasets: Vec<String> = mounted.map(|set| set.path().to_owned()).collect();
        let networks = settings.networks.iter();
        let networks: Vec<Network> =
            networks.map(|network| Network(network.address(), network.prefix())).collect();
        let root = super::guest::text(&root)?;
        let are =
            if store.capabilities().nested { Datasets::FileSystems } else { Datasets::Directories };
        let lines = exports::nested(root, &datasets, are, &options, &networks);
        exports::render(&lines).map(Reply::text).map_err(Failure::could_not)
    }
}

/// An iPXE script for another web server.
#[derive(Args, Debug)]
struct Ipxe {
    #[command(flatten)]
    guest: GuestOptions,
    /// The URL of the boot environment's files on that server, as in http://10.0.0.1/head.
    #[arg(long)]
    url: String,
}

impl Ipxe {
    fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let subject = self.guest.subject(site)?;
        let (kernel, initrd) = subject.linux()?;
        let url = |path: &str| format!("{}{path}", self.url.trim_end_matches('/'));
        let Subject { guest, cmdline, .. } = &subject;
        let arguments = linux::command_line(&guest.root, None, cmdline);
        let script = Script {
            server: guest.root.server.to_string(),
            machine: guest.name.clone(),
            environment: subject.environment.name.to_string(),
            boot: None,
            action: Action::Kernel {
                kernel: url(&kernel),
                initrd: initrd.as_deref().map(url),
                arguments: arguments.map_err(Failure::could_not)?,
            },
        };
        ipxe::render(&script).map(Reply::text).map_err(Failure::could_not)
    }
}

/// A command as a person would write it into a script.
fn command(words: &[String]) -> Result<Reply, Failure> {
    let text = shell::lines(words, "").map_err(Failure::could_not)?;
    Ok(Reply::text(text + "\n"))
}
