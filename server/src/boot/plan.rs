//! What a machine boots: the one function that decides it, and what each stage is told of it.
//!
//! A plan is made once per boot and frozen. It is a value without files or clocks, so that it can be
//! kept over a restart of the server and tested as a table.

mod freebsd;
mod refusal;

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::catalog::{Facts, System};
use super::decide::{self, Awaited};
use super::loader::{self, HostLoaders, Loader, LoaderLocation, Part};
use super::{Answer, Arch, BootId, Client, ClientNetwork};
use crate::net::Mac;
use crate::site::kenv::{self, Variable};
use crate::site::machine::{LoaderChoice, Machine, MachineName, SerialPort, View};
pub use freebsd::Fetch;
pub use refusal::NoPlan;

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
    /// The root that is still to be made for the machine. Until it is there, the environment is the
    /// one that it will be a clone of: its loaders can be had, and nothing else.
    #[serde(default)]
    pub awaits: Option<Awaited>,
    /// What the machine was to boot once, if that is why it boots it.
    #[serde(default)]
    pub once: Option<String>,
    /// How the machine sees the data sets in its root.
    #[serde(default)]
    pub view: View,
    /// Our own address, in every URL and root path of this boot.
    pub server: Ipv4Addr,
    /// The port of boot files by HTTP.
    pub http_port: u16,
    /// What firmware loads; none when it is iPXE itself or when nobody saw firmware.
    pub first: Option<Loader>,
    /// What iPXE gets: a script of ours, or the system's own loader.
    pub next: Next,
    /// The loader that was chosen for the machine, in the place of iPXE.
    #[serde(default)]
    pub chosen: Option<Chosen>,
    /// The root, as `SERVER:PATH` (option 17).
    pub root_path: String,
    /// How FreeBSD's loader fetches its files.
    #[serde(default)]
    pub fetch: Fetch,
    /// Variables for FreeBSD's loader and kernel.
    pub variables: Vec<Variable>,
    /// The serial port of its console.
    #[serde(default)]
    pub serial: Option<SerialPort>,
    /// The folders below `/conf` that FreeBSD's rc.initdiskless takes files from.
    #[serde(default)]
    pub classes: Vec<String>,
    /// What holds in the machine's network.
    #[serde(default)]
    pub network: ClientNetwork,
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
    /// FreeBSD's own loader, by a script that hands it its address and its root: beside another DHCP
    /// server it has nobody to ask for them.
    Handed(Loader),
}

/// A loader that an administrator chose for a machine.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Chosen {
    /// Which.
    pub choice: LoaderChoice,
    /// What firmware loads.
    pub first: Loader,
    /// What that loads before its configuration.
    pub others: Vec<Loader>,
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

/// What holds beside the machine and its environment.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Our own address on the machine's network.
    pub server: Ipv4Addr,
    /// The port of boot files by HTTP.
    pub http_port: u16,
    /// Loaders on the host.
    pub loaders: &'a HostLoaders,
    /// Whether another DHCP server gives machines their addresses.
    pub proxy: bool,
    /// What holds in the machine's network.
    pub network: &'a ClientNetwork,
}

/// Decides what a machine boots.
///
/// `environment` is what [`decide::environment_of`] and [`decide::source`] chose. A machine that has only the site's default and no
/// clone of it shares it with others and gets it read-only.
pub fn plan(
    subject: Subject<'_>,
    environment: &Facts,
    is_default: bool,
    site: Site<'_>,
) -> Result<Plan, NoPlan> {
    let name = environment.name.clone();
    // A space ends a word of a kernel's command line, and FreeBSD's loader cuts a path at a colon.
    let unfit = |c: char| c.is_whitespace() || matches!(c, ':' | ',' | '"' | '\'');
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
    let record = machine.map(|(_, machine)| machine);
    let read_only = decide::is_read_only(record, is_default, environment.read_only);
    let choice = machine.map_or_else(LoaderChoice::default, |(_, machine)| machine.loader);
    let chosen = chosen(choice, subject.client, environment, site.loaders)?;
    let (first, next, fetch, variables) = match system {
        System::FreeBsd if chosen.is_some() => {
            return Err(NoPlan::LoaderSystem { choice, environment: name });
        }
        System::FreeBsd => {
            let freebsd = freebsd::decide(subject, environment, site)?;
            (freebsd.first, freebsd.next, freebsd.fetch, freebsd.variables)
        }
        System::Linux { kernel, initrd } => {
            let first = match subject.client {
                Client::Http(_) | Client::Pxe(_) if let Some(chosen) = &chosen => {
                    Some(chosen.first.clone())
                }
                Client::Http(arch) | Client::Pxe(arch) => {
                    Some(ipxe(arch, environment, site.loaders)?)
                }
                Client::FreeBsdKernel
                | Client::FreeBsdLoader
                | Client::Ipxe(_)
                | Client::Ordinary => None,
            };
            let cmdline = linux_cmdline(&subject, environment, site, path, read_only)?;
            let (kernel, initrd) = (kernel.clone(), initrd.clone());
            (first, Next::Kernel { kernel, initrd, cmdline }, Fetch::Nfs, Vec::new())
        }
    };
    Ok(Plan {
        environment: environment.uuid,
        machine: machine.map(|(name, _)| name.clone()),
        read_only,
        awaits: decide::awaited(machine, &name, environment.owned.as_ref()),
        name,
        once: machine.and_then(|(_, machine)| machine.once.clone()),
        view: machine.map_or_else(View::default, |(_, machine)| machine.view),
        server,
        http_port: site.http_port,
        first,
        next,
        chosen,
        root_path,
        fetch,
        variables,
        serial: record.and_then(|machine| machine.serial),
        classes: machine.map_or_else(Vec::new, |(_, machine)| machine.classes.clone()),
        network: site.network.clone(),
    })
}

/// The URL of a file that is the machine's by the address that asks.
#[must_use]
pub fn stable_url(server: Ipv4Addr, http_port: u16, file: &str) -> String {
    match http_port {
        80 => format!("http://{server}/{file}"),
        port => format!("http://{server}:{port}/{file}"),
    }
}

/// The path by which NFS exports a boot environment.
#[must_use]
pub fn export_path(environment: &str) -> String {
    format!("/be/{environment}")
}

/// Finds the files of a loader that was chosen, if it is neither iPXE nor left to us.
fn chosen(
    choice: LoaderChoice,
    client: Client,
    environment: &Facts,
    host: &HostLoaders,
) -> Result<Option<Chosen>, NoPlan> {
    let arch = match (choice, client) {
        (LoaderChoice::Auto | LoaderChoice::Ipxe, _)
        | (_, Client::FreeBsdKernel | Client::FreeBsdLoader | Client::Ordinary) => return Ok(None),
        (_, Client::Http(arch) | Client::Ipxe(arch) | Client::Pxe(arch)) => arch,
    };
    let find = |part: &Part| {
        let own = |file: &&&str| environment.contents.loaders.contains(**file);
        let own = part.files.iter().find(own);
        let place = match own {
            Some(file) => Some(LoaderLocation::Environment(format!("/boot/{file}"))),
            None => part.files.iter().find_map(|file| host.get(file)).map(LoaderLocation::Host),
        };
        let place = place.ok_or(NoPlan::NoLoader { name: part.name, remedy: part.remedy })?;
        Ok(Loader { name: part.name.to_owned(), place })
    };
    let mut parts = loader::chosen_parts(choice, arch).iter().map(find);
    let first = parts.next().ok_or(NoPlan::LoaderFirmware { choice, client })??;
    Ok(Some(Chosen { choice, first, others: parts.collect::<Result<_, _>>()? }))
}

fn ipxe(arch: Arch, environment: &Facts, host: &HostLoaders) -> Result<Loader, NoPlan> {
    let names = loader::ipxe_names(arch);
    let own = names.iter().find(|name| environment.contents.loaders.contains(**name));
    if let Some(name) = own {
        let place = LoaderLocation::Environment(format!("/boot/{name}"));
        return Ok(Loader { name: (*name).to_owned(), place });
    }
    let found = names.iter().find_map(|name| Some((*name, host.get(name)?)));
    match (found, names.first()) {
        (Some((name, path)), _) => {
            Ok(Loader { name: name.to_owned(), place: LoaderLocation::Host(path) })
        }
        (None, Some(name)) => Err(NoPlan::NoIpxe { name, arch }),
        (None, None) => Err(NoPlan::Arch(arch)),
    }
}

/// The DHCP option of log servers.
const LOG_SERVERS: u8 = 7;

fn linux_cmdline(
    subject: &Subject<'_>,
    environment: &Facts,
    site: Site<'_>,
    path: String,
    read_only: bool,
) -> Result<String, NoPlan> {
    let view = subject.machine.map_or_else(View::default, |(_, machine)| machine.view);
    let (datasets, view) = (environment.datasets.clone(), view.into());
    let server = site.server;
    let root = bootcfg::Root { server, path, datasets, view, read_only, host: None };
    let mac = bootcfg::Mac(subject.mac.0);
    let record = subject.machine.map(|(_, machine)| machine);
    // The programs of initial RAM disks do not ask for them: netbe-network.service reads them here.
    let times: Vec<_> = site.network.time_servers.iter().map(ToString::to_string).collect();
    let times = (!times.is_empty()).then(|| format!("netbe.ntp={}", times.join(",")));
    let console = record.and_then(|machine| machine.netconsole.as_ref());
    let console = console.map(|interface| interface.argument(site.server));
    let own = record.map(Machine::arguments).filter(|own| !own.is_empty());
    let words = times.into_iter().chain(console).chain(own);
    let extra = words.collect::<Vec<_>>().join(" ");
    bootcfg::linux::command_line(&root, Some(mac), &extra)
        .map_err(|error| NoPlan::CommandLine(error.to_string()))
}

impl Chosen {
    /// The folder of the environment where GRUB's modules lie, if grub-mknetdir made the loader:
    /// beside it.
    #[must_use]
    pub fn modules(&self) -> Option<&str> {
        match &self.first.place {
            LoaderLocation::Environment(path) => {
                let (folder, _) = path.rsplit_once('/')?;
                folder.starts_with("/boot/grub/").then_some(folder)
            }
            LoaderLocation::Host(_) => None,
        }
    }
}

impl Plan {
    /// What a client is told by DHCP at its stage of this boot.
    #[must_use]
    pub fn answer(&self, id: BootId, client: Client) -> Answer {
        let mut answer = Answer {
            file: None,
            root_path: self.awaits.is_none().then(|| self.root_path_for(client)),
            host_name: self.machine.as_ref().map(ToString::to_string),
            options: Vec::new(),
            asked: Vec::new(),
        };
        if matches!(client, Client::Ipxe(_) | Client::Pxe(_)) {
            answer.asked = self.pxelinux_options(id);
        }
        // Log servers (RFC 2132 §3.9): iPXE sends its messages there, and udhcpc hands it to scripts.
        answer.asked.push((LOG_SERVERS, self.server.octets().to_vec()));
        match client {
            Client::Pxe(_) => answer.file = self.first.as_ref().map(|first| first.name.clone()),
            Client::Http(_) => {
                answer.file = self.first.as_ref().map(|first| match (self.fetch, &first.place) {
                    // The loader takes the URL without its last two names for its root.
                    (Fetch::Http, LoaderLocation::Environment(path)) => {
                        self.url(id, &format!("{ROOT}{path}"))
                    }
                    (Fetch::Http, LoaderLocation::Host(_)) | (Fetch::Nfs | Fetch::Tftp, _) => {
                        self.url(id, &first.name)
                    }
                });
            }
            Client::Ipxe(_) => {
                answer.file = Some(match (&self.chosen, &self.next) {
                    (Some(chosen), _) => chosen.first.name.clone(),
                    (None, Next::Kernel { .. } | Next::Handed(_)) => self.url(id, SCRIPT),
                    (None, Next::Loader(own)) => own.name.clone(),
                });
            }
            Client::FreeBsdLoader => {
                // That they fit was found out when they were decided.
                answer.options = kenv::pack(&self.variables).unwrap_or_default();
            }
            Client::FreeBsdKernel => {
                // Option 130 holds the root's mount options, 134 the cookie that is left for
                // rc.initdiskless (the kernel's bootp_subr.c).
                answer.options = vec![(130, b"nolockd".to_vec())];
                if !self.classes.is_empty() {
                    answer.options.push((134, self.classes.join(" ").into_bytes()));
                }
            }
            Client::Ordinary => {}
        }
        answer
    }

    /// The root path that a client is told: FreeBSD's loader by the protocol that it fetches by, and
    /// no other client so: iPXE would take it for a disk.
    fn root_path_for(&self, client: Client) -> String {
        match (client, self.fetch) {
            (Client::FreeBsdLoader, Fetch::Tftp) => {
                format!("tftp://{}{}", self.server, export_path(&self.name))
            }
            _ => self.root_path.clone(),
        }
    }

    /// What pxelinux is told by DHCP (RFC 5071), if it is the machine's loader.
    fn pxelinux_options(&self, id: BootId) -> Vec<(u8, Vec<u8>)> {
        let choice = self.chosen.as_ref().map(|chosen| chosen.choice);
        let by_http = choice == Some(LoaderChoice::Lpxelinux);
        if !by_http && choice != Some(LoaderChoice::Pxelinux) {
            return Vec::new();
        }
        let mut options = vec![
            // §4: without this magic number some versions take none of the others.
            (208, vec![0xf1, 0x00, 0x74, 0x7e]),
            (209, b"pxelinux.cfg/default".to_vec()),
        ];
        if by_http {
            options.push((210, self.url(id, "").into_bytes()));
        }
        // §7: seconds until it starts the machine again when it finds no server.
        options.push((211, 10_u32.to_be_bytes().to_vec()));
        options
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

    /// The URL of a file of whichever boot the machine that asks is in.
    #[must_use]
    pub fn stable_url(&self, file: &str) -> String {
        stable_url(self.server, self.http_port, file)
    }

    /// The name of a file of this boot, for TFTP.
    #[must_use]
    pub fn tftp_name(&self, id: BootId, file: &str) -> String {
        format!("b/{id}/{file}")
    }

    /// A file of this boot in GRUB's words.
    ///
    /// By HTTP when GRUB has its modules: the signed images of the distributions have none for it in
    /// them and load none from elsewhere. GRUB up to 2.06 cannot be told another port than 80.
    #[must_use]
    pub fn grub_place(&self, id: BootId, file: &str) -> String {
        let modules = self.chosen.as_ref().and_then(Chosen::modules);
        let protocol = if modules.is_some() && self.http_port == 80 { "http" } else { "tftp" };
        format!("({protocol},{})/b/{id}/{file}", self.server)
    }

    /// Whether a loader is the system's own.
    #[must_use]
    pub fn is_own(&self, loader: &Loader) -> bool {
        match &self.next {
            Next::Kernel { .. } => false,
            Next::Handed(own) | Next::Loader(own) => own == loader,
        }
    }

    /// Whether iPXE gets a script.
    #[must_use]
    pub const fn has_script(&self) -> bool {
        matches!(self.next, Next::Kernel { .. } | Next::Handed(_))
    }

    /// Whether the system is FreeBSD.
    #[must_use]
    pub const fn is_freebsd(&self) -> bool {
        matches!(self.next, Next::Loader(_) | Next::Handed(_))
    }
}

/// The name of the script in a boot's URLs.
pub const SCRIPT: &str = "boot.ipxe";

/// The name of the kernel in a boot's URLs.
pub const KERNEL: &str = "kernel";

/// The name of the initial RAM disk in a boot's URLs.
pub const INITRD: &str = "initrd";

/// The folder in a boot's URLs below which FreeBSD's loader finds the environment's files.
pub const ROOT: &str = "root";

#[cfg(test)]
pub(crate) mod test;
