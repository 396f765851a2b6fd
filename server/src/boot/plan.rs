//! What a machine boots: the one function that decides it, and what each stage is told of it.
//!
//! A plan is made once per boot and frozen. It is a value without files or clocks, so that it can be
//! kept over a restart of the server and tested as a table.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::catalog::{Facts, System};
use super::loader::{self, HostLoaders, Loader, Place};
use super::{Answer, Arch, BootId, Client};
use crate::machine::{Mac, Machine, MachineName, Roster};

/// What a machine boots, in all its stages.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Plan {
    /// The boot environment.
    pub environment: Uuid,
    /// The boot environment's name.
    pub name: String,
    /// The machine's name, if it is a named one; its host name too.
    pub machine: Option<MachineName>,
    /// Whether the machine gets its root read-only.
    pub read_only: bool,
    /// Our own address, in every URL and root path of this boot.
    pub server: Ipv4Addr,
    /// The port of boot files by HTTP.
    pub http_port: u16,
    /// What firmware loads; none when it is iPXE itself or when nobody saw firmware.
    pub first: Option<Loader>,
    /// What iPXE gets: a script of ours, or the system's own loader.
    pub next: Next,
    /// The root, as `SERVER:PATH` (option 17).
    pub root_path: String,
    /// Words for FreeBSD's kernel environment, as `name=value`, sent in options 250 and up.
    pub variables: Vec<String>,
}

/// What comes after iPXE.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Next {
    /// A Linux kernel, by a script.
    Kernel {
        /// The kernel's path in the environment.
        kernel: String,
        /// The initial RAM disk's path in the environment.
        initrd: Option<String>,
        /// The kernel's command line.
        cmdline: String,
    },
    /// FreeBSD's own loader, by TFTP.
    Loader(Loader),
}

/// Who is about to boot.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Its record, if it is a named machine.
    pub machine: Option<(&'a MachineName, &'a Machine)>,
    /// What asked first: firmware, in most boots.
    pub client: Client,
}

/// What holds for the whole site.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Our own address on the machine's network.
    pub server: Ipv4Addr,
    /// The port of boot files by HTTP.
    pub http_port: u16,
    /// Loaders on the host.
    pub loaders: &'a HostLoaders,
}

/// The environment that a machine boots, by name, and whether it is the default one.
pub fn environment_of<'a>(
    roster: &'a Roster,
    machine: Option<(&MachineName, &'a Machine)>,
) -> Result<(&'a str, bool), NoPlan> {
    if let Some(environment) = machine.and_then(|(_, machine)| machine.environment.as_deref()) {
        return Ok((environment, false));
    }
    let default = roster.default_environment().map(|environment| (environment, true));
    default.ok_or_else(|| match machine {
        Some((name, _)) => NoPlan::Unassigned(name.clone()),
        None => NoPlan::Unknown,
    })
}

/// Decides what a machine boots.
///
/// `environment` is what [`environment_of`] chose. A machine that has only the site's default shares
/// it with others and gets it read-only.
pub fn plan(
    subject: Subject<'_>,
    environment: &Facts,
    is_default: bool,
    site: Site<'_>,
) -> Result<Plan, NoPlan> {
    let name = environment.name.clone();
    // A space ends a word of a kernel's command line, and FreeBSD's loader cuts a path at a colon.
    let unfit = |letter: char| letter.is_whitespace() || matches!(letter, ':' | ',' | '"' | '\'');
    if name.contains(unfit) {
        return Err(NoPlan::Name(name));
    }
    let Some(system) = &environment.contents.system else {
        return Err(NoPlan::NothingBootable(name));
    };
    let server = site.server;
    let path = export_path(&name);
    let root_path = format!("{server}:{path}");
    let machine = subject.machine;
    let read_only = is_default
        || environment.read_only
        || machine.is_some_and(|(_, machine)| machine.read_only);
    let arch = match subject.client {
        Client::Pxe(arch) | Client::Http(arch) | Client::Ipxe(arch) => Some(arch),
        Client::FreeBsdKernel | Client::FreeBsdLoader | Client::Ordinary => None,
    };
    let ipxe = |arch| ipxe(arch, environment, site.loaders);
    let (first, next, variables) = match system {
        System::FreeBsd => {
            let own = freebsd(arch, environment)?;
            let first = match subject.client {
                // FreeBSD's loader gets its root by DHCP and NFS, not by the firmware's HTTP: iPXE
                // comes between them.
                Client::Http(arch) => Some(ipxe(arch)?),
                Client::Pxe(_) => Some(own.clone()),
                Client::FreeBsdKernel
                | Client::FreeBsdLoader
                | Client::Ipxe(_)
                | Client::Ordinary => None,
            };
            let mut variables = vec!["boot.nfsroot.options=nolockd".to_owned()];
            // BIOS loaders under iPXE stop at replies above the network's frame size.
            if arch.is_some_and(|arch| arch != Arch::BIOS) {
                variables.push(format!("nfs.read_size={LOADER_READ_SIZE}"));
            }
            (first, Next::Loader(own), variables)
        }
        System::Linux { kernel, initrd } => {
            let first = match subject.client {
                Client::Http(arch) | Client::Pxe(arch) => Some(ipxe(arch)?),
                Client::FreeBsdKernel
                | Client::FreeBsdLoader
                | Client::Ipxe(_)
                | Client::Ordinary => None,
            };
            let cmdline = linux_cmdline(&subject, server, path, read_only)?;
            let (kernel, initrd) = (kernel.clone(), initrd.clone());
            (first, Next::Kernel { kernel, initrd, cmdline }, Vec::new())
        }
    };
    Ok(Plan {
        environment: environment.uuid,
        name,
        machine: machine.map(|(name, _)| name.clone()),
        read_only,
        server,
        http_port: site.http_port,
        first,
        next,
        root_path,
        variables,
    })
}

/// The path by which NFS exports a boot environment.
#[must_use]
pub fn export_path(environment: &str) -> String {
    format!("/be/{environment}")
}

fn ipxe(arch: Arch, environment: &Facts, host: &HostLoaders) -> Result<Loader, NoPlan> {
    let names = loader::ipxe_names(arch);
    let own = names.iter().find(|name| environment.contents.loaders.contains(**name));
    if let Some(name) = own {
        let place = Place::Environment(format!("/boot/{name}"));
        return Ok(Loader { name: (*name).to_owned(), place });
    }
    let found = names.iter().find_map(|name| Some((*name, host.get(name)?)));
    match (found, names.first()) {
        (Some((name, path)), _) => Ok(Loader { name: name.to_owned(), place: Place::Host(path) }),
        (None, Some(name)) => Err(NoPlan::NoIpxe { name, arch }),
        (None, None) => Err(NoPlan::Arch(arch)),
    }
}

fn freebsd(arch: Option<Arch>, environment: &Facts) -> Result<Loader, NoPlan> {
    // Without firmware in sight the loader runs already, and this one is never asked for.
    let path = loader::freebsd_path(arch.unwrap_or(Arch::UEFI_X64));
    let name = path.rsplit('/').next().unwrap_or(path);
    if arch.is_some() && !environment.contents.loaders.contains(name) {
        return Err(NoPlan::NoFreeBsdLoader { environment: environment.name.clone(), path });
    }
    Ok(Loader { name: name.to_owned(), place: Place::Environment(path.to_owned()) })
}

fn linux_cmdline(
    subject: &Subject<'_>,
    server: Ipv4Addr,
    path: String,
    read_only: bool,
) -> Result<String, NoPlan> {
    let root = bootcfg::Root { server, path, datasets: Vec::new(), read_only };
    let mac = bootcfg::Mac(subject.mac.0);
    let extra = subject.machine.map_or("", |(_, machine)| machine.cmdline.as_str());
    bootcfg::linux::command_line(&root, Some(mac), extra)
        .map_err(|error| NoPlan::CommandLine(error.to_string()))
}

impl Plan {
    /// What a client is told by DHCP at its stage of this boot.
    #[must_use]
    pub fn answer(&self, id: BootId, client: Client) -> Answer {
        let mut answer = Answer {
            file: None,
            root_path: Some(self.root_path.clone()),
            host_name: self.machine.as_ref().map(ToString::to_string),
            options: Vec::new(),
        };
        match client {
            Client::Pxe(_) => answer.file = self.first.as_ref().map(|first| first.name.clone()),
            Client::Http(_) => {
                answer.file = self.first.as_ref().map(|first| self.url(id, &first.name));
            }
            Client::Ipxe(_) => {
                answer.file = Some(match &self.next {
                    Next::Kernel { .. } => self.url(id, SCRIPT),
                    Next::Loader(own) => own.name.clone(),
                });
            }
            Client::FreeBsdLoader => {
                // Options 250 to 254 carry one `name=value` each (the loader's bootp.c).
                let codes = 250..=254;
                let variables = self.variables.iter().map(|text| text.clone().into_bytes());
                answer.options = codes.zip(variables).collect();
            }
            Client::FreeBsdKernel => {
                // Option 130 holds the root's mount options (the kernel's bootp_subr.c).
                answer.options = vec![(130, b"nolockd".to_vec())];
            }
            Client::Ordinary => {}
        }
        answer
    }

    /// The URL of a file of this boot.
    #[must_use]
    pub fn url(&self, id: BootId, file: &str) -> String {
        let server = self.server;
        match self.http_port {
            80 => format!("http://{server}/b/{id}/{file}"),
            port => format!("http://{server}:{port}/b/{id}/{file}"),
        }
    }

    /// Whether the system is FreeBSD.
    #[must_use]
    pub const fn is_freebsd(&self) -> bool {
        matches!(self.next, Next::Loader(_))
    }
}

/// Why a machine boots nothing. The words are for the administrator and for the machine's screen.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoPlan {
    /// There is no loader for the firmware at all.
    #[error("firmware of architecture {} is not served: no loader is known for it", .0.0)]
    Arch(Arch),
    /// The kernel cannot be told what it needs.
    #[error("{0}")]
    CommandLine(String),
    /// The store has no such environment.
    #[error("boot environment {0} does not exist: create it, or assign another with `sharepxe`")]
    Missing(String),
    /// The name breaks a boot loader's or a kernel's grammar.
    #[error(
        "boot environment '{0}' cannot be booted by name: spaces, colons, commas and quotes break \
         a kernel's command line; clone it to a plain name"
    )]
    Name(String),
    /// FreeBSD's loader for the firmware is missing.
    #[error("boot environment {environment} has no {path}, which this machine's firmware needs")]
    NoFreeBsdLoader {
        /// The environment.
        environment: String,
        /// What is missing.
        path: &'static str,
    },
    /// iPXE for the firmware is missing.
    #[error(
        "{name} is missing (firmware architecture {}): install the package ipxe, or put the file \
         into the environment's /boot",
        arch.0
    )]
    NoIpxe {
        /// What is missing.
        name: &'static str,
        /// For which firmware.
        arch: Arch,
    },
    /// There is no system in the environment that could boot.
    #[error(
        "boot environment {0} holds nothing to boot: neither /boot/kernel/kernel with FreeBSD's \
         loader nor /boot/vmlinuz"
    )]
    NothingBootable(String),
    /// The machine has no environment.
    #[error("no boot environment is assigned to {0}: run `netbe sharepxe --machine {0} NAME`")]
    Unassigned(MachineName),
    /// The machine is not known, and there is no default.
    #[error(
        "unknown machine, and no default environment: name it with `netbe machine add`, or run \
         `netbe sharepxe --default NAME`"
    )]
    Unknown,
}

/// The name of the script in a boot's URLs.
pub const SCRIPT: &str = "boot.ipxe";

/// How much FreeBSD's `loader.efi` reads at once; its own default is 1024, its limit 16384.
const LOADER_READ_SIZE: u32 = 8192;

#[cfg(test)]
pub(crate) mod test {
    use std::collections::BTreeSet;

    use super::*;
    use crate::boot::catalog::Contents;

    pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);

    fn facts(system: Option<System>, loaders: &[&str]) -> Facts {
        let loaders = loaders.iter().map(|&name| name.to_owned()).collect::<BTreeSet<_>>();
        let contents = Contents { system, loaders };
        Facts { name: "base".to_owned(), uuid: Uuid::from_u128(1), read_only: false, contents }
    }

    fn linux() -> Facts {
        let (kernel, initrd) = ("/boot/vmlinuz".to_owned(), Some("/boot/initrd.img".to_owned()));
        facts(Some(System::Linux { kernel, initrd }), &[])
    }

    fn freebsd() -> Facts {
        facts(Some(System::FreeBsd), &["pxeboot", "loader.efi"])
    }

    /// A host with Debian's package of iPXE.
    fn host() -> (tempfile::TempDir, HostLoaders) {
        let scratch = tempfile::tempdir().unwrap();
        for name in ["undionly.kpxe", "snponly.efi", "ipxe.efi"] {
            std::fs::write(scratch.path().join(name), b"x").unwrap();
        }
        let loaders = HostLoaders::search([scratch.path()]);
        (scratch, loaders)
    }

    fn decide(client: Client, facts: &Facts) -> Result<Plan, NoPlan> {
        let (_scratch, loaders) = host();
        let site = Site { server: SERVER, http_port: 80, loaders: &loaders };
        plan(Subject { mac: MAC, machine: None, client }, facts, false, site)
    }

    #[test]
    fn every_firmware_gets_its_loader() {
        let url = "http://10.0.0.1/b/0000000000000007/";
        let script = format!("{url}boot.ipxe");
        let by_http = format!("{url}snponly.efi");
        let table: [(Client, Facts, &str); 11] = [
            (Client::Pxe(Arch::BIOS), linux(), "undionly.kpxe"),
            (Client::Pxe(Arch::UEFI_X64), linux(), "snponly.efi"),
            (Client::Pxe(Arch::UEFI_EBC), linux(), "snponly.efi"),
            (Client::Http(Arch::UEFI_X64_HTTP), linux(), &by_http),
            (Client::Ipxe(Arch::BIOS), linux(), &script),
            (Client::Ipxe(Arch::UEFI_X64), linux(), &script),
            (Client::Pxe(Arch::BIOS), freebsd(), "pxeboot"),
            (Client::Pxe(Arch::UEFI_X64), freebsd(), "loader.efi"),
            (Client::Ipxe(Arch::BIOS), freebsd(), "pxeboot"),
            (Client::Ipxe(Arch::UEFI_X64), freebsd(), "loader.efi"),
            (Client::Http(Arch::UEFI_X64_HTTP), freebsd(), &by_http),
        ];
        for (client, facts, file) in table {
            let answer = decide(client, &facts).unwrap().answer(BootId(7), client);
            assert_eq!(answer.file.as_deref(), Some(file), "{client:?} {facts:?}");
            assert_eq!(answer.root_path.as_deref(), Some("10.0.0.1:/be/base"));
        }
    }

    #[test]
    fn the_environments_own_ipxe_comes_first() {
        let mut environment = linux();
        environment.contents.loaders.insert("ipxe.efi".to_owned());
        let first = decide(Client::Pxe(Arch::UEFI_X64), &environment).unwrap().first.unwrap();
        assert_eq!(first.place, Place::Environment("/boot/ipxe.efi".to_owned()));
    }

    #[test]
    fn linux_is_told_its_root_on_the_command_line() {
        let plan = decide(Client::Ipxe(Arch::BIOS), &linux()).unwrap();
        let Next::Kernel { cmdline, .. } = plan.next else { panic!("{plan:?}") };
        assert_eq!(
            cmdline,
            "root=/dev/nfs nfsroot=10.0.0.1:/be/base,vers=3,tcp,nolock ip=dhcp rw \
             BOOTIF=01-52-54-00-00-00-01"
        );
    }

    #[test]
    fn a_machines_own_words_end_the_command_line() {
        let name = "web1".parse().unwrap();
        let cmdline = " console=ttyS0 ".to_owned();
        let machine = Machine { cmdline, read_only: true, ..Machine::default() };
        let loaders = HostLoaders::default();
        let site = Site { server: SERVER, http_port: 8080, loaders: &loaders };
        let client = Client::Ipxe(Arch::BIOS);
        let subject = Subject { mac: MAC, machine: Some((&name, &machine)), client };
        let plan = plan(subject, &linux(), false, site).unwrap();
        let answer = plan.answer(BootId(7), client);
        assert_eq!(answer.host_name.as_deref(), Some("web1"));
        assert_eq!(
            answer.file.as_deref(),
            Some("http://10.0.0.1:8080/b/0000000000000007/boot.ipxe")
        );
        let Next::Kernel { cmdline, .. } = plan.next else { panic!("{plan:?}") };
        let end = " ro BOOTIF=01-52-54-00-00-00-01 console=ttyS0";
        assert!(cmdline.ends_with(end), "{cmdline}");
    }

    #[test]
    fn only_the_uefi_loader_reads_more_at_once() {
        let options = |arch| {
            let plan = decide(Client::Pxe(arch), &freebsd()).unwrap();
            plan.answer(BootId(7), Client::FreeBsdLoader).options
        };
        let nolockd = (250, b"boot.nfsroot.options=nolockd".to_vec());
        assert_eq!(options(Arch::BIOS), std::slice::from_ref(&nolockd));
        assert_eq!(options(Arch::UEFI_X64), [nolockd, (251, b"nfs.read_size=8192".to_vec())]);
    }

    #[test]
    fn a_bootp_kernel_is_told_its_mount_options() {
        let plan = decide(Client::Pxe(Arch::BIOS), &freebsd()).unwrap();
        let answer = plan.answer(BootId(7), Client::FreeBsdKernel);
        assert_eq!((answer.file, answer.options), (None, vec![(130, b"nolockd".to_vec())]));
    }

    #[test]
    fn a_default_environment_is_shared_and_so_read_only() {
        let (_scratch, loaders) = host();
        let site = Site { server: SERVER, http_port: 80, loaders: &loaders };
        let subject = Subject { mac: MAC, machine: None, client: Client::Ipxe(Arch::BIOS) };
        assert!(plan(subject, &linux(), true, site).unwrap().read_only);
        assert!(!plan(subject, &linux(), false, site).unwrap().read_only);
    }

    #[test]
    fn what_is_missing_is_said() {
        let say = |client, facts: &Facts| decide(client, facts).unwrap_err().to_string();
        let bios = Client::Pxe(Arch::BIOS);
        let mut spaced = linux();
        spaced.name = "my base".to_owned();
        let mut efi_only = freebsd();
        efi_only.contents.loaders.remove("pxeboot");
        assert!(say(bios, &facts(None, &[])).starts_with("boot environment base holds nothing"));
        assert!(say(bios, &spaced).starts_with("boot environment 'my base' cannot be booted"));
        assert!(say(bios, &efi_only).starts_with("boot environment base has no /boot/pxeboot"));
        let arm = Client::Pxe(Arch::UEFI_ARM64);
        assert!(say(arm, &linux()).starts_with("snponly-arm64.efi is missing"));
        let s390 = Client::Pxe(Arch(0x1f));
        assert!(say(s390, &linux()).starts_with("firmware of architecture 31 is not served"));
    }

    #[test]
    fn an_unknown_machine_boots_only_a_default() {
        let roster = Roster::default();
        assert_eq!(environment_of(&roster, None), Err(NoPlan::Unknown));
        let name = "web1".parse::<MachineName>().unwrap();
        let mut machine = Machine::default();
        let refused = environment_of(&roster, Some((&name, &machine)));
        assert_eq!(refused, Err(NoPlan::Unassigned(name.clone())));
        machine.environment = Some("base".to_owned());
        assert_eq!(environment_of(&roster, Some((&name, &machine))), Ok(("base", false)));
    }
}
