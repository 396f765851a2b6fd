//! What is known of a guest: from its machine, from this host's interfaces, from flags.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use bootcfg::qemu::{Accelerator, Attachment};
use bootcfg::{Address, Channel, ConfigError, Guest, HostRoot, Mac, Root, bhyve, loader, shell};
use clap::{Args, ValueEnum};
use hostfs::{HostTree, Inside, Options};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use store::{Environment, EnvironmentName, Layout, Point, Store};
use uuid::Uuid;
use vfs::Tree;

use super::bhyve::Link;
use super::machine::roster;
use super::{Failure, Site};
use crate::boot::catalog::{Contents, System};
use crate::boot::decide::{self, Awaited};
use crate::boot::plan::export_path;
use crate::net::interface::{Interface, Network};
use crate::net::sys::tap;
use crate::nfs::export::{SiteKey, WireHandle};
use crate::site::machine::{
    Machine, MachineName, Memory, RootBy, RootKind, Roster, Runner, View, environment_in,
};
use crate::site::state::{StateDir, site_key};
use provision::contents::Scanner;
use provision::roots::{Owned, Roots, holder};

/// A boot environment and the guest that is to boot it.
#[derive(Args, Debug)]
pub(crate) struct GuestOptions {
    /// The boot environment.
    name: EnvironmentName,
    /// The machine that boots it; the guest gets its Ethernet address, IP address and name.
    #[arg(long, value_name = "MACHINE")]
    machine: Option<MachineName>,
    /// This server's address as the guest reaches it [default: the one on the guest's network].
    #[arg(long, value_name = "ADDRESS")]
    server: Option<Ipv4Addr>,
    /// The guest's IP address, for loaders and kernels without DHCP [default: the machine's].
    #[arg(long, value_name = "ADDRESS")]
    address: Option<Ipv4Addr>,
    /// The guest's router.
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<Ipv4Addr>,
    /// The guest's Ethernet address [default: the machine's, or one made from the boot environment].
    #[arg(long, value_name = "MAC")]
    mac: Option<crate::net::Mac>,
    /// Memory in MiB [default: the machine's, or 1024].
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// Number of processors [default: the machine's, or 1].
    #[arg(long, value_name = "N")]
    cpus: Option<u16>,
}

/// How a guest reaches its root that gets its kernel from here.
#[derive(Args, Debug)]
pub(crate) struct RootOptions {
    /// How the guest reaches its root: over NFS, or from the store's directory on this host by 9p or virtiofs
    /// [default: the machine's, or nfs].
    #[arg(long, value_enum, value_name = "WAY")]
    pub(crate) root_by: Option<RootBy>,
}

/// A boot environment with the guest that is to boot it.
#[derive(Debug)]
pub(crate) struct Subject {
    /// The boot environment.
    pub(crate) environment: Environment,
    /// The store that it is in.
    pub(crate) store: Store,
    /// The guest.
    pub(crate) guest: Guest,
    /// The guest's words for the kernel's command line.
    pub(crate) cmdline: String,
    /// How it reaches its root, if it gets its kernel from here.
    pub(crate) root_by: RootBy,
    /// Whether a server tells its loader and its kernel that the console is a serial port.
    pub(crate) is_serial: bool,
    /// The machine that a server takes the guest's Ethernet address for.
    pub(crate) by_mac: Option<MachineName>,
    /// What it tells that address to boot.
    assigned: Option<String>,
    /// The root that the machine that was named lacks, and that this one is not.
    awaits: Option<Awaited>,
    /// What the boot environment was made from, if it is a machine's root.
    template: Option<Point>,
    /// The network that guest and server share.
    network: Network,
    address: Option<Ipv4Addr>,
    /// The machine that was named.
    machine: Option<MachineName>,
    /// The machine that a server takes the guest's address for.
    by_address: Option<Holder>,
    gateway: Option<Ipv4Addr>,
}

/// A machine that an address is kept for.
#[derive(Debug)]
struct Holder {
    name: MachineName,
    /// The root that a server grants it when it is started by hand, if that is there.
    root: Option<String>,
}

impl GuestOptions {
    /// A boot environment and, perhaps, the machine that boots it from this address of ours.
    pub(crate) fn of(
        name: &EnvironmentName,
        machine: Option<&MachineName>,
        server: Option<Ipv4Addr>,
    ) -> Self {
        let (name, machine) = (name.clone(), machine.cloned());
        let (address, gateway, mac) = (None, None, None);
        Self { name, machine, server, address, gateway, mac, memory: None, cpus: None }
    }

    /// The same, with so much memory in MiB and so many processors, where that is said.
    pub(crate) fn sized(self, memory: Option<u32>, cpus: Option<u16>) -> Self {
        Self { memory, cpus, ..self }
    }

    /// Finds out what the guest is.
    pub(crate) fn subject(&self, site: &Site) -> Result<Subject, Failure> {
        self.subject_on(site, None)
    }

    /// The same of a guest in a bridge: where this host has several networks, the guest's is the bridge's.
    pub(crate) fn subject_on(&self, site: &Site, bridge: Option<&str>) -> Result<Subject, Failure> {
        let store = site.open()?;
        let environment = store.get(&self.name)?;
        let state = site.open_state()?;
        let roster = roster(&state)?;
        let named = self.machine.as_ref().map(|name| {
            let entry = roster.get(name);
            entry.map(|entry| (name, &entry.machine)).ok_or_else(|| {
                Failure::no(format_args!(
                    "there is no machine {name}: `netbe machine list` shows all"
                ))
            })
        });
        let named = named.transpose()?;
        let own = named.map(|named| own_root(&store, &state, named, &self.name)).transpose()?;
        let environment = own.flatten().unwrap_or(environment);
        let owned = Owned::of(&environment);
        let awaits = decide::awaited(named, environment.name.as_str(), owned.as_ref());
        let template =
            owned.map(|_| Roots::new(&store, state.path()).template(&environment)).transpose()?;
        let machine = named.map(|(_, machine)| machine.clone()).unwrap_or_default();
        let address = self.address.or(machine.address);
        let by_address = address.and_then(|address| roster.at(address));
        let by_address =
            by_address.map(|known| Holder::of(&store, &state, &roster, known)).transpose()?;
        let network = self.network(address, bridge)?;
        let mac = self.mac.or_else(|| machine.macs.first().copied());
        let mac = mac.map_or_else(|| mac_of(environment.uuid), |mac| Mac(mac.0));
        let by_mac = roster.find(crate::net::Mac(mac.0), None);
        let assigned =
            decide::environment_of(&roster, by_mac).ok().map(|(name, _)| name.to_owned());
        let known = named.or(by_mac);
        let is_default = decide::environment_of(&roster, known) == Ok((self.name.as_str(), true));
        let record = known.map(|(_, machine)| machine);
        let words = record.map(Machine::arguments).unwrap_or_default();
        let is_serial = words.contains("console=ttyS")
            || record.is_some_and(|machine| machine.serial.is_some());
        let serial = record.and_then(|machine| machine.serial).map(|port| port.0);
        let read_only = decide::is_read_only(record, is_default, environment.is_read_only());
        let by_mac = by_mac.map(|(name, _)| name.clone());
        let name = self.machine.as_ref().map_or(self.name.as_str(), MachineName::as_str);
        let datasets = environment.datasets.iter().filter(|set| set.mounted());
        let memory = machine.memory.map(Memory::mebibytes);
        let guest = Guest {
            name: name.to_owned(),
            memory: self.memory.or(memory).unwrap_or(MEMORY),
            cpus: self.cpus.or(machine.cpus).unwrap_or(1),
            mac,
            mtu: None,
            root: Root {
                server: network.address,
                path: export_path(environment.name.as_str()),
                datasets: datasets.map(|set| set.path().to_owned()).collect(),
                view: machine.view.into(),
                read_only,
                host: None,
            },
            serial: serial.unwrap_or_default(),
            kenv: machine.variables().iter().map(Into::into).collect(),
        };
        let (cmdline, gateway) = (machine.arguments(), self.gateway);
        Ok(Subject {
            environment,
            store,
            guest,
            cmdline,
            root_by: machine.root_by,
            is_serial,
            by_mac,
            assigned,
            awaits,
            template,
            network,
            address,
            machine: self.machine.clone(),
            by_address,
            gateway,
        })
    }

    /// The same, of a guest for which only FreeBSD's loader and rc will do.
    pub(crate) fn freebsd(&self, site: &Site) -> Result<Subject, Failure> {
        let subject = self.subject(site)?;
        match subject.system()? {
            Some(System::Linux { .. }) => Err(Failure::no(format_args!(
                "{} contains Linux; this output is for FreeBSD only: see `netbe show qemu` and `netbe bootpxe`",
                subject.environment.name
            ))),
            Some(System::FreeBsd) | None => Ok(subject),
        }
    }

    /// The server's address and network: the one said, else the one that the guest's address is
    /// in, else the only one of the bridge, else the only one that this host has.
    fn network(&self, address: Option<Ipv4Addr>, bridge: Option<&str>) -> Result<Network, Failure> {
        let interfaces = Interface::all().map_err(|error| {
            Failure::could_not(format_args!("cannot read the network interfaces: {error}"))
        })?;
        let joined = interfaces.iter().find(|interface| Some(interface.name.as_str()) == bridge);
        let joined = joined.and_then(|interface| match *interface.networks {
            [only] => Some(only),
            _ => None,
        });
        let real = interfaces.into_iter().filter(|interface| !interface.loopback);
        let networks: Vec<Network> = real.flat_map(|interface| interface.networks).collect();
        if let Some(server) = self.server {
            let own = networks.iter().find(|network| network.address == server);
            // The address of another host, or one that is yet to come, is as good for a text.
            let assumed = Network::new(server, ASSUMED_PREFIX);
            return Ok(own.copied().unwrap_or(assumed));
        }
        let near = |network: &&Network| address.is_some_and(|address| network.contains(address));
        if let Some(network) = networks.iter().find(near) {
            return Ok(*network);
        }
        let own = || {
            let own: Vec<String> = networks.iter().map(ToString::to_string).collect();
            own.join(" and ")
        };
        if let (None, Some(network)) = (address, joined) {
            return Ok(network);
        }
        match (networks.as_slice(), address) {
            ([only], None) => Ok(*only),
            ([], _) => Err(Failure::could_not(
                "this host has no network: give --server with the address at which the guest reaches it",
            )),
            (_, Some(address)) => Err(Failure::could_not(format_args!(
                "{address} is in no network of this host, which has {}: give --server with the address at \
                 which the guest reaches it, or another --address",
                own()
            ))),
            (_, None) => Err(Failure::could_not(format_args!(
                "this host has several networks, {}: give --address with the guest's address, or --server \
                 with this host's address on the guest's network",
                own()
            ))),
        }
    }
}

impl Subject {
    /// The guest's address, for those that are told it and do no DHCP.
    pub(crate) fn address(&self) -> Result<Address, Failure> {
        let address = self.address.ok_or_else(|| {
            Failure::could_not(
                "this output contains the guest's address: give --address, or give the \
                 machine one with `netbe machine set --address`",
            )
        })?;
        let prefix = self.network.prefix();
        if !self.network.contains(address) {
            return Err(Failure::could_not(format_args!(
                "{address} is not in {}, the network of this server: give another --address or \
                 --server",
                Network::new(self.network.base(), prefix)
            )));
        }
        Ok(Address { address, prefix, gateway: self.gateway })
    }

    /// The guest's address, if a server gives the root to who calls from there. The kernel that is told
    /// another one says no more than that it may not.
    pub(crate) fn nfs_address(&self) -> Result<Address, Failure> {
        let address = self.address()?;
        let Address { address: at, .. } = address;
        let (name, export) = (&self.environment.name, &self.environment.export);
        let holder = self.by_address.as_ref();
        let is_named = holder.is_some_and(|holder| {
            export.machines.iter().any(|shared| shared == holder.name.as_str())
        });
        let mut networks = export.networks.iter();
        let is_shared =
            export.shared && (is_named || networks.any(|network| network.contains(at.into())));
        if is_shared {
            return Ok(address);
        }
        let share = format!("share the root with `netbe sharenfs --network {at}/32 {name}`");
        Err(Failure::no(match (holder, &self.machine) {
            (Some(Holder { root: Some(root), .. }), _) if root == name.as_str() => {
                return Ok(address);
            }
            (Some(Holder { name: holder, root: Some(root) }), _) => format!(
                "{at} is the address of {holder}, which boots {root} and gets no other root: assign {name} \
                 with `netbe sharepxe --machine {holder} {name}`, or {share}"
            ),
            (Some(Holder { name: holder, root: None }), _) => format!(
                "{at} is the address of {holder}, whose root does not exist before it boots by PXE: run \
                 `netbe sharepxe --machine {holder} --root direct {name}`, or {share}"
            ),
            (None, Some(machine)) => format!(
                "{at} is not the address of {machine} and gets no root: run `netbe machine set --address \
                 {at} {machine}`, or {share}"
            ),
            (None, None) => format!(
                "no machine has the address {at}, so it gets no root: add one with `netbe machine add \
                 --address {at} --mac {} --environment {name} NAME`, or {share}",
                self.guest.mac
            ),
        }))
    }

    /// Whether the boot environment, or a clone of it, is what a machine boots that has this assigned.
    pub(crate) fn is_booted(&self, machine: Option<&MachineName>, assigned: &str) -> bool {
        let is_own = |template: &Point| {
            let whose = Owned::of(&self.environment).filter(|owned| !owned.fresh);
            let whose = whose.is_some_and(|owned| {
                machine.is_some_and(|machine| machine.as_str() == owned.machine)
            });
            whose && (template.environment.as_str() == assigned || template.to_string() == assigned)
        };
        environment_in(assigned) == self.environment.name.as_str()
            || self.template.as_ref().is_some_and(is_own)
    }

    /// How a server may call the machine that the guest is.
    pub(super) fn titles(&self) -> Vec<String> {
        let names = [&self.machine, &self.by_mac].into_iter().flatten().map(ToString::to_string);
        names.chain([self.guest.mac.to_string()]).collect()
    }

    /// Refuses a guest that a server would tell to boot something else, or nothing.
    pub(crate) fn expect_pxe(&self) -> Result<(), Failure> {
        let (name, mac) = (&self.environment.name, self.guest.mac);
        let assigned = self.assigned.as_deref();
        if assigned.is_some_and(|assigned| self.is_booted(self.by_mac.as_ref(), assigned)) {
            return Ok(());
        }
        Err(Failure::no(match (&self.by_mac, assigned) {
            (Some(machine), Some(other)) => format!(
                "{machine} ({mac}) boots {other}: change that with `netbe sharepxe --machine {machine} \
                 {name}`"
            ),
            (Some(machine), None) => format!(
                "{machine} ({mac}) boots nothing: assign it an environment with `netbe sharepxe \
                 --machine {machine} {name}`"
            ),
            (None, Some(other)) => format!(
                "no machine has the address {mac}, so it boots the default environment, {other}: add one with \
                 `netbe machine add --mac {mac} --environment {name} NAME`"
            ),
            (None, None) => format!(
                "no machine has the address {mac}: add one with `netbe machine add --mac {mac} \
                 --environment {name} NAME`"
            ),
        }))
    }

    /// Has the guest, which gets its kernel from here, reach its root as was said, or else as its machine's record
    /// says. By virtiofs the file server listens at `socket`, or where one listens that a person starts.
    pub(crate) fn reach(
        mut self,
        said: Option<RootBy>,
        socket: Option<&Path>,
    ) -> Result<Self, Failure> {
        self.root_by = said.unwrap_or(self.root_by);
        let (by, name) = (self.root_by, &self.environment.name);
        let channel = match (by, socket) {
            (RootBy::Nfs, _) => return Ok(self),
            (RootBy::NineP, _) => Channel::NineP,
            (RootBy::VirtioFs, Some(socket)) => {
                Channel::VirtioFs { socket: text(socket)?.to_owned() }
            }
            (RootBy::VirtioFs, None) => {
                Channel::VirtioFs { socket: format!("/run/netbe-{}.virtiofs", self.guest.name) }
            }
        };
        self.expect_of_host()?;
        if !self.store.capabilities().in_place {
            return Err(Failure::no(format_args!(
                "netbe does not mount the data sets of {name} on this host, so that no guest has them by {by}: \
                 let it have its root over NFS"
            )));
        }
        if by == RootBy::VirtioFs && self.guest.root.read_only {
            return Err(Failure::no(format_args!(
                "{} may only read {name}, and virtiofs refuses no changes: let it have its root by 9p or nfs",
                self.guest.name
            )));
        }
        let host = Some(HostRoot { directory: self.directory()?, channel });
        // What lies below the directory is in it.
        let (datasets, view) = (Vec::new(), bootcfg::View::Joined);
        self.guest.root = Root { host, datasets, view, ..self.guest.root };
        Ok(self)
    }

    /// Refuses a root from this host that only the server makes, or puts together.
    pub(crate) fn expect_of_host(&self) -> Result<(), Failure> {
        let (name, guest) = (&self.environment.name, &self.guest.name);
        match &self.awaits {
            Some(Awaited { fresh: true, .. }) => {
                return Err(Failure::no(format_args!(
                    "{guest} gets a new root for each boot, which only the server makes: let it boot by PXE, or \
                     have {name} itself with `netbe sharepxe --machine {guest} --root direct {name}`"
                )));
            }
            Some(Awaited { fresh: false, .. }) => {
                return Err(Failure::no(format_args!(
                    "{guest} is to have a root of its own, and {name} is none of its roots: make one with `netbe \
                     sharepxe --machine {guest} --root own {name}`, or let it boot by PXE once, for which the \
                     server makes it"
                )));
            }
            None => {}
        }
        let Some(Owned { machine, .. }) = Owned::of(&self.environment) else { return Ok(()) };
        let listed = self.store.list()?.environments;
        let data = listed.iter().find(|known| holder(known) == Some(machine.as_str()));
        data.map_or(Ok(()), |data| {
            Err(Failure::no(format_args!(
                "{machine} has its data in {}, and only the server puts them into {name}: let it have its root \
                 over NFS",
                data.name
            )))
        })
    }

    /// The command of bhyveload(8) that loads its FreeBSD kernel.
    pub(crate) fn bhyveload(
        &self,
        site: &Site,
        console: bhyve::Console,
    ) -> Result<Vec<String>, Failure> {
        let directory = self.directory()?;
        let words = if self.guest.root.host.is_some() {
            self.expect_p9fs()?;
            bhyve::bhyveload_host(&self.guest, &directory, console)
        } else {
            let (address, handle) = (self.nfs_address()?, self.handle(site)?);
            bhyve::bhyveload(&self.guest, &address, &directory, handle.as_bytes(), console)
        };
        words.map_err(Failure::could_not)
    }

    /// Refuses a FreeBSD that cannot mount its root from this host.
    fn expect_p9fs(&self) -> Result<(), Failure> {
        let name = &self.environment.name;
        if self.root_by == RootBy::VirtioFs {
            return Err(Failure::no(format_args!(
                "bhyve has no virtiofs: let {} have its root by 9p or nfs",
                self.guest.name
            )));
        }
        let inside = self.inside()?;
        let loads = LOADER_CONFS.iter().any(|file| {
            let text = inside.read_small(file, MAX_CONF).unwrap_or_default();
            let read = loader::read(&String::from_utf8_lossy(&text));
            let mut entries = read.entries.iter().map(|at| &at.value);
            entries.any(|one| one.name == P9FS && one.value.eq_ignore_ascii_case("yes"))
        });
        if loads {
            return Ok(());
        }
        Err(Failure::no(format_args!(
            "the kernel of {name} gets no driver for a root by 9p: write {P9FS}=\"YES\" into its \
             /boot/loader.conf (FreeBSD 15 or later)"
        )))
    }

    /// The boot environment's directory on this host, as text for command lines.
    pub(crate) fn directory(&self) -> Result<String, Failure> {
        let path = self.store.root(&self.environment.name);
        path.into_os_string().into_string().map_err(|_| {
            Failure::could_not(
                "the store's path is not UTF-8, so that no command line can contain it",
            )
        })
    }

    /// The boot environment's files, seen from inside.
    pub(crate) fn inside(&self) -> Result<Inside, Failure> {
        Ok(Inside::from_fd(self.store.open_root(&self.environment.name)?))
    }

    /// The NFS handle of its root: what the server would answer to a MOUNT, made without one.
    pub(crate) fn handle(&self, site: &Site) -> Result<WireHandle, Failure> {
        let secret = site_key(&site.open_state()?).map_err(Failure::could_not)?;
        let root = self.store.open_root(&self.environment.name)?;
        let tree = HostTree::from_fd(root, Options::default()).map_err(Failure::could_not)?;
        let view = match self.guest.root.view {
            bootcfg::View::Joined => View::Joined,
            bootcfg::View::Split => View::Split,
        };
        Ok(SiteKey::new(secret).seal(self.environment.uuid, view, &tree.root()))
    }

    /// What is in the boot environment that can be booted.
    pub(crate) fn contents(&self) -> Result<Contents, Failure> {
        Scanner::default().scan(&self.inside()?).map_err(Failure::could_not)
    }

    /// The system in the boot environment, or that for which its layout was made.
    pub(crate) fn system(&self) -> Result<Option<System>, Failure> {
        Ok(self.contents()?.system.or(match self.environment.layout {
            Layout::FreeBsd => Some(System::FreeBsd),
            Layout::Flat | Layout::Linux => None,
        }))
    }
}

impl Holder {
    fn of(
        store: &Store,
        state: &StateDir,
        roster: &Roster,
        (name, machine): (&MachineName, &Machine),
    ) -> Result<Self, Failure> {
        let wanted = decide::environment_of(roster, Some((name, machine))).ok();
        let root = match (machine.root, wanted) {
            (RootKind::Own, Some((wanted, _))) => {
                let own = Roots::new(store, state.path()).own(name.as_str(), wanted)?;
                own.map(|own| own.name.to_string())
            }
            (RootKind::Direct | RootKind::Shared, Some((wanted, _))) => {
                Some(environment_in(wanted).to_owned())
            }
            (RootKind::Fresh, _) | (_, None) => None,
        };
        Ok(Self { name: name.clone(), root })
    }
}

/// The root that a machine keeps and boots, if it was made from this boot environment.
fn own_root(
    store: &Store,
    state: &StateDir,
    (name, machine): (&MachineName, &Machine),
    environment: &EnvironmentName,
) -> Result<Option<Environment>, Failure> {
    let (RootKind::Own, Some(wanted)) = (machine.root, machine.wanted()) else { return Ok(None) };
    let roots = Roots::new(store, state.path());
    let Some(own) = roots.own(name.as_str(), wanted)? else { return Ok(None) };
    Ok((roots.template(&own)?.environment == *environment).then_some(own))
}

/// What this host gives a virtual machine.
#[derive(Args, Debug)]
pub(crate) struct Host {
    /// The bridge for the guest's interface [default: br0 for QEMU, bridge0 for bhyve].
    #[arg(long, value_name = "INTERFACE", conflicts_with = "tap")]
    bridge: Option<String>,
    /// An existing tap interface for the guest [default: netbe creates one].
    #[arg(long, value_name = "INTERFACE")]
    tap: Option<String>,
    /// QEMU's accelerator [default: kvm if the processor supports it].
    #[arg(long, value_enum)]
    accel: Option<Accel>,
}

/// What executes a guest's instructions.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Accel {
    Kvm,
    Tcg,
}

impl Host {
    /// This host for a guest in a bridge, or in the usual one.
    pub(crate) fn with_bridge(bridge: Option<&str>) -> Self {
        Self { bridge: bridge.map(str::to_owned), tap: None, accel: None }
    }

    /// The interface of a guest of bhyve, as far as it was said.
    pub(crate) fn tap(&self) -> Option<&str> {
        self.tap.as_deref()
    }

    /// The bridge for a guest of bhyve.
    pub(crate) fn bhyve_bridge(&self) -> &str {
        self.bridge.as_deref().unwrap_or("bridge0")
    }

    /// The link for a guest of bhyve.
    pub(crate) fn link(&self) -> Link {
        match &self.tap {
            Some(tap) => Link::Tap(tap.clone()),
            None => Link::Bridge(self.bhyve_bridge().to_owned()),
        }
    }

    /// The attachment for QEMU.
    pub(crate) fn attachment(&self) -> Attachment {
        match &self.tap {
            Some(tap) => Attachment::Tap(tap.clone()),
            None => Attachment::Bridge(self.bridge().to_owned()),
        }
    }

    /// The bridge that a guest joins; none where it has an interface that is there already.
    pub(crate) fn joins(&self) -> Option<&str> {
        let is_bhyve = cfg!(target_os = "freebsd");
        self.tap.is_none().then(|| if is_bhyve { self.bhyve_bridge() } else { self.bridge() })
    }

    /// What executes the guest's instructions.
    pub(crate) fn accelerator(&self) -> Accelerator {
        match self.accel {
            Some(Accel::Kvm) => Accelerator::Kvm,
            Some(Accel::Tcg) => Accelerator::Tcg,
            None if virtualizes() => Accelerator::Kvm,
            None => Accelerator::Tcg,
        }
    }

    /// An attachment for a QEMU that is started now, and what has to stay open for it. Root needs neither
    /// QEMU's helper nor its list of bridges: the interface is made here, and is gone with QEMU.
    pub(crate) fn attach(&self) -> Result<(Attachment, Option<OwnedFd>), Failure> {
        self.check()?;
        if self.tap.is_some() || !cfg!(target_os = "linux") {
            return Ok((self.attachment(), None));
        }
        let bridge = self.bridge();
        if !tap::is_bridge(bridge) {
            return Err(Failure::could_not(format_args!(
                "{bridge} is not a bridge: give --bridge or --tap, or create a bridge: {}",
                how_to_bridge("br0")
            )));
        }
        if !nix::unistd::geteuid().is_root() {
            if Path::new(QEMU_BRIDGES).is_file() {
                return Ok((self.attachment(), None));
            }
            return Err(Failure::could_not(format_args!(
                "only root, or QEMU's helper, can create the guest's interface, and the helper has no \
                 {QEMU_BRIDGES}: run the command as root, or write `allow {bridge}` into that file"
            )));
        }
        let failed = |error: std::io::Error| {
            Failure::could_not(format_args!("cannot add an interface to {bridge}: {error}"))
        };
        let opened = tap::join(bridge).map_err(failed)?;
        fcntl(&opened, FcntlArg::F_SETFD(FdFlag::empty())).map_err(|error| failed(error.into()))?;
        Ok((Attachment::Opened(opened.as_raw_fd()), Some(opened)))
    }

    /// The commands by which a person runs QEMU as netbe does: netbe hands it an open interface, for which they
    /// make one that is there before and has to be removed after.
    pub(crate) fn by_hand(
        &self,
        qemu: impl FnOnce(&Attachment) -> Result<Vec<String>, ConfigError>,
    ) -> Result<String, Failure> {
        let is_made =
            self.tap.is_none() && cfg!(target_os = "linux") && nix::unistd::geteuid().is_root();
        let (mut attachment, mut before, mut after) =
            (self.attachment(), String::new(), String::new());
        if is_made {
            let is_free = |name: &String| matches!(Interface::by_name(name), Ok(None));
            let mut names = (0..MOST_TAPS).map(|number| format!("tap{number}"));
            let tap = names.find(is_free).unwrap_or_else(|| "tap0".to_owned());
            let bridge = shell::quote(self.bridge()).map_err(Failure::could_not)?;
            before = format!(
                "ip tuntap add dev {tap} mode tap\nip link set dev {tap} master {bridge} up\n"
            );
            after = format!("ip link delete dev {tap}\n");
            attachment = Attachment::Tap(tap);
        }
        let words = qemu(&attachment).map_err(Failure::could_not)?;
        let text = shell::lines(&words, "").map_err(Failure::could_not)?;
        Ok(format!("{before}{text}\n{after}"))
    }

    /// Refuses an interface that this host does not have, before QEMU fails with many lines.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let name = self.tap.as_deref().unwrap_or_else(|| self.bridge());
        match Interface::by_name(name) {
            Ok(Some(_)) => Ok(()),
            Ok(None) if self.tap.is_some() => Err(Failure::could_not(format_args!(
                "this host has no interface {name}: give --bridge or --tap with an existing one"
            ))),
            Ok(None) => Err(Failure::could_not(format_args!(
                "this host has no bridge {name}: give --bridge or --tap with an existing one, or create a \
                 bridge: {}",
                how_to_bridge(name)
            ))),
            Err(error) => {
                Err(Failure::could_not(format_args!("cannot read the network interfaces: {error}")))
            }
        }
    }

    /// The bridge for a guest of QEMU.
    pub(crate) fn bridge(&self) -> &str {
        self.bridge.as_deref().unwrap_or("br0")
    }
}

/// Refuses a system that needs another kernel than the one of the host on which this runs it.
pub(crate) fn expect_kernel(
    run: Runner,
    system: Option<&System>,
    name: &EnvironmentName,
) -> Result<(), Failure> {
    match (run, system) {
        (Runner::Nspawn, Some(System::FreeBsd)) => Err(Failure::no(format_args!(
            "{name} contains FreeBSD: a container runs with this host's kernel, which is Linux"
        ))),
        (Runner::Jail, Some(System::Linux { .. })) => Err(Failure::no(format_args!(
            "{name} contains Linux: a jail runs with this host's kernel, which is FreeBSD's"
        ))),
        _ => Ok(()),
    }
}

/// What makes a bridge for guests, with an address that they reach.
fn how_to_bridge(name: &str) -> String {
    format!(
        "`ip link add {name} type bridge && ip address add 10.0.0.1/24 dev {name} && ip link set {name} up`"
    )
}

/// Whether the processor can run guests itself.
///
/// A host that is a guest may have /dev/kvm without such a processor: then KVM opens, and its guests
/// hang. FreeBSD has no such file, and no KVM.
fn virtualizes() -> bool {
    let facts = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let can = facts.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
    can && Path::new("/dev/kvm").exists()
}

/// An Ethernet address that belongs to a boot environment: locally administered, and random as its
/// UUID is.
pub(super) fn mac_of(environment: Uuid) -> Mac {
    let [a, b, c, d, e, ..] = environment.into_bytes();
    Mac([0x02, a, b, c, d, e])
}

/// A file of the host as text for command lines.
pub(crate) fn text(path: &Path) -> Result<&str, Failure> {
    path.to_str().ok_or_else(|| {
        Failure::could_not(format_args!(
            "{path:?} is not UTF-8, so that no command line can contain it"
        ))
    })
}

/// What has FreeBSD's loader load p9fs(4), and where that is looked for.
const P9FS: &str = "virtio_p9fs_load";
const LOADER_CONFS: [&str; 2] = ["/boot/loader.conf", "/boot/loader.conf.local"];
const MAX_CONF: usize = 1 << 20;
/// The memory of a guest of which nothing is said, in MiB.
const MEMORY: u32 = 1024;
/// How many names of interfaces are looked at for one that is free.
const MOST_TAPS: u32 = 4096;
/// The bridges that QEMU's helper may use for who is not root.
const QEMU_BRIDGES: &str = "/etc/qemu/bridge.conf";
const ASSUMED_PREFIX: u8 = 24;
