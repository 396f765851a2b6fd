//! The verbs for machines: who they are, and what they boot.

mod hosting;
mod rename;

use std::net::Ipv4Addr;

use clap::{Args, Subcommand};
use serde::Serialize;
use store::{EnvironmentName, Point, StoreError};
use uuid::Uuid;

use super::dry;
use super::{Dry, Failure, Format, Reply, Site, Table, guests, root};
use crate::console;
use crate::net::Mac;
use crate::site::kenv::{self, Variable};
use crate::site::machine::{
    self, LoaderChoice, LoaderProtocol, Machine, MachineError, MachineName, Netconsole, RootKind,
    Roster, SerialPort, View,
};
use crate::site::networks::Networks;

/// Manage machines: their names, Ethernet addresses and what they boot.
#[derive(Args, Debug)]
pub(crate) struct MachineVerb {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Add(Add),
    Diff(root::Diff),
    Keep(root::Keep),
    List(List),
    Promote(root::Promote),
    Remove(Remove),
    Rename(rename::Rename),
    Reset(root::Reset),
    Set(Set),
    Show(Show),
}

impl MachineVerb {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        match &self.verb {
            Verb::Add(verb) => verb.run(site),
            Verb::Diff(verb) => verb.run(site),
            Verb::Keep(verb) => verb.run(site),
            Verb::List(verb) => verb.run(site),
            Verb::Promote(verb) => verb.run(site),
            Verb::Remove(verb) => verb.run(site),
            Verb::Rename(verb) => verb.run(site),
            Verb::Reset(verb) => verb.run(site),
            Verb::Set(verb) => verb.run(site),
            Verb::Show(verb) => verb.run(site),
        }
    }
}

/// Add a machine.
#[derive(Args, Debug)]
struct Add {
    /// The Ethernet address of a network card that it boots from; may be repeated.
    #[arg(long = "mac", required = true, value_name = "MAC")]
    macs: Vec<Mac>,
    /// Its UUID, as its firmware sends it.
    #[arg(long)]
    uuid: Option<Uuid>,
    /// An IPv4 address to reserve for it.
    #[arg(long)]
    address: Option<Ipv4Addr>,
    /// The boot environment that it boots, or whose clones it boots.
    #[arg(long, value_name = "BE[@SNAP]")]
    environment: Option<Point>,
    /// Its root: the environment itself, or a clone of it.
    #[arg(long, value_enum, default_value_t, hide_default_value = true)]
    root: RootKind,
    /// Arguments to add to its kernel's command line.
    #[arg(long, value_name = "WORDS", default_value = "", hide_default_value = true)]
    cmdline: String,
    /// Give it its root read-only.
    #[arg(long)]
    ro: bool,
    /// The program that loads its kernel.
    #[arg(long, value_enum, default_value_t, hide_default_value = true)]
    loader: LoaderChoice,
    /// Who assembles its environment's data sets into one tree: the server (joined), or the machine
    /// (split).
    #[arg(long, value_enum, default_value_t, hide_default_value = true)]
    view: View,
    /// The protocol by which FreeBSD's loader fetches its files.
    #[arg(long, value_enum, default_value_t, hide_default_value = true)]
    loader_protocol: LoaderProtocol,
    /// Its console is a serial port [default without DEVICE: ttyS0/115200]. netbe configures the
    /// kernel, FreeBSD's loader, GRUB and pxelinux for it.
    #[arg(
        long, value_name = "DEVICE[/SPEED]", num_args = 0..=1, require_equals = true,
        default_missing_value = DEFAULT_SERIAL
    )]
    serial: Option<SerialPort>,
    /// The interface by which its Linux kernel sends its messages to this server (netconsole), as in eth0.
    #[arg(long, value_name = "INTERFACE")]
    netconsole: Option<Netconsole>,
    /// A variable for FreeBSD's loader and kernel; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    kenv: Vec<Variable>,
    /// A folder below /conf for a diskless FreeBSD with a BOOTP kernel; may be repeated.
    #[arg(long = "class", value_name = "WORD")]
    classes: Vec<String>,
    #[command(flatten)]
    hosting: hosting::Hosting,
    #[command(flatten)]
    dry: Dry,
    /// Its name, which is also its host name.
    name: MachineName,
}

impl Add {
    fn run(&self, site: &Site) -> Result<Reply, Failure> {
        exists(site, self.environment.as_ref())?;
        if let Some(wanted) = &self.environment {
            root::refuse_others(site, Some(&self.name), self.root, wanted)?;
        }
        fits(site, self.address)?;
        let mut machine = Machine {
            once: None,
            root: self.root,
            macs: self.macs.clone(),
            uuid: self.uuid,
            address: self.address,
            environment: self.environment.as_ref().map(Point::to_string),
            cmdline: self.cmdline.clone(),
            read_only: self.ro,
            loader: self.loader,
            view: self.view,
            loader_protocol: self.loader_protocol,
            serial: self.serial,
            netconsole: self.netconsole.clone(),
            kenv: self.kenv.clone(),
            classes: self.classes.clone(),
            ..Machine::default()
        };
        self.hosting.write(&mut machine);
        let told = change(site, |roster| {
            if roster.get(&self.name).is_some_and(|entry| entry.fixed) {
                return Err(MachineError::Fixed(self.name.clone()));
            }
            kenv::check_read_size(&machine.kenv)?;
            roster.insert(self.name.clone(), machine.clone(), false)?;
            Ok((self.name.clone(), machine.clone()))
        })?;
        if self.dry.is_dry() {
            return Ok(told.and(&root::would_prepare(site, &self.name, &machine)?));
        }
        root::warn_of_writers(site, &self.name)?;
        root::prepare(site, &self.name)
    }
}

/// Change a machine's settings. A setting without its flag stays as it is.
#[derive(Args, Debug)]
struct Set {
    /// The Ethernet addresses of the network cards that it boots from; they replace the present
    /// ones.
    #[arg(long = "mac", value_name = "MAC")]
    macs: Vec<Mac>,
    /// Its UUID, or `none`.
    #[arg(long, value_parser = optional::<Uuid>)]
    uuid: Option<Setting<Uuid>>,
    /// An IPv4 address to reserve for it, or `none`.
    #[arg(long, value_parser = optional::<Ipv4Addr>)]
    address: Option<Setting<Ipv4Addr>>,
    /// The boot environment that it boots, or whose clones it boots, or `none`.
    #[arg(long, value_name = "BE[@SNAP]", value_parser = optional::<Point>)]
    environment: Option<Setting<Point>>,
    /// Its root: the environment itself, or a clone of it.
    #[arg(long, value_enum)]
    root: Option<RootKind>,
    /// Arguments to add to its kernel's command line.
    #[arg(long, value_name = "WORDS")]
    cmdline: Option<String>,
    /// Give it its root read-only.
    #[arg(long, conflicts_with = "rw")]
    ro: bool,
    /// Let it write to its root.
    #[arg(long)]
    rw: bool,
    /// The program that loads its kernel.
    #[arg(long, value_enum)]
    loader: Option<LoaderChoice>,
    /// Who assembles its environment's data sets into one tree: the server (joined), or the machine
    /// (split).
    #[arg(long, value_enum)]
    view: Option<View>,
    /// The protocol by which FreeBSD's loader fetches its files.
    #[arg(long, value_enum)]
    loader_protocol: Option<LoaderProtocol>,
    /// Its console is a serial port [default without DEVICE: ttyS0/115200], or `none`. netbe
    /// configures the kernel, FreeBSD's loader, GRUB and pxelinux for it.
    #[arg(
        long, value_name = "DEVICE[/SPEED]", num_args = 0..=1, require_equals = true,
        default_missing_value = DEFAULT_SERIAL, value_parser = optional::<SerialPort>
    )]
    serial: Option<Setting<SerialPort>>,
    /// The interface by which its Linux kernel sends its messages to this server (netconsole), as in eth0, or
    /// `none`.
    #[arg(long, value_name = "INTERFACE", value_parser = optional::<Netconsole>)]
    netconsole: Option<Setting<Netconsole>>,
    /// A variable for FreeBSD's loader and kernel; an empty value removes it, and `none` removes
    /// all; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", value_parser = optional::<Variable>)]
    kenv: Vec<Setting<Variable>>,
    /// The folders below /conf for a diskless FreeBSD with a BOOTP kernel; they replace the present
    /// ones; or `none`.
    #[arg(long = "class", value_name = "WORD")]
    classes: Vec<String>,
    #[command(flatten)]
    hosting: hosting::Hosting,
    #[command(flatten)]
    dry: Dry,
    /// The machine.
    name: MachineName,
}

impl Set {
    fn run(&self, site: &Site) -> Result<Reply, Failure> {
        fits(site, self.address.and_then(|address| address.0))?;
        let reply = self.change(site)?;
        if self.environment.is_some() || self.root.is_some() || self.rw {
            root::warn_of_writers(site, &self.name)?;
        }
        Ok(reply)
    }

    fn change(&self, site: &Site) -> Result<Reply, Failure> {
        if self.hosting.changes_runner(&root::record(site, &self.name)?) {
            guests::refuse_running(site, &self.name)?;
        }
        let environment = self.environment.as_ref();
        exists(site, environment.and_then(|environment| environment.0.as_ref()))?;
        if environment.is_none() && self.root.is_none() {
            let told = self.write(site, None)?;
            if self.dry.is_dry() {
                let known = root::record(site, &self.name)?;
                return Ok(told.and(&root::would_prepare(site, &self.name, &known)?));
            }
            return root::prepare(site, &self.name);
        }
        let known = root::changeable(site, &self.name)?;
        let wanted = match environment {
            Some(Setting(environment)) => environment.clone(),
            None => known.environment.as_ref().and_then(|known| known.parse().ok()),
        };
        let root = self.root.unwrap_or(known.root);
        match wanted {
            None => self.write(site, None),
            Some(wanted) => {
                let wanted =
                    root::for_machine(site, &self.name, &Machine { root, ..known }, &wanted)?;
                wanted.write_down(site, &self.name, |wanted| self.write(site, Some(wanted)))
            }
        }
    }

    /// Writes down what is said of it, and what it boots if something else is said of that.
    fn write(&self, site: &Site, boots: Option<String>) -> Result<Reply, Failure> {
        let environment = self.environment.as_ref();
        change(site, |roster| {
            let mut machine = roster.take(&self.name)?;
            if !self.macs.is_empty() {
                machine.macs.clone_from(&self.macs);
            }
            if let Some(Setting(uuid)) = self.uuid {
                machine.uuid = uuid;
            }
            if let Some(Setting(address)) = self.address {
                machine.address = address;
            }
            if let Some(Setting(environment)) = environment {
                machine.environment = environment.as_ref().map(Point::to_string);
                machine.once = None;
            }
            if boots.is_some() {
                machine.environment = boots;
            }
            if let Some(cmdline) = &self.cmdline {
                machine.cmdline.clone_from(cmdline);
            }
            machine.root = self.root.unwrap_or(machine.root);
            machine.loader = self.loader.unwrap_or(machine.loader);
            machine.view = self.view.unwrap_or(machine.view);
            machine.loader_protocol = self.loader_protocol.unwrap_or(machine.loader_protocol);
            if let Some(Setting(serial)) = self.serial {
                machine.serial = serial;
            }
            if let Some(Setting(netconsole)) = &self.netconsole {
                machine.netconsole.clone_from(netconsole);
            }
            for Setting(variable) in &self.kenv {
                let own = &mut machine.kenv;
                let Some(variable) = variable else {
                    own.clear();
                    continue;
                };
                own.retain(|known| known.name() != variable.name());
                if !variable.value().is_empty() {
                    own.push(variable.clone());
                }
            }
            if !self.classes.is_empty() {
                machine.classes.clone_from(&self.classes);
                machine.classes.retain(|class| class != "none");
            }
            self.hosting.write(&mut machine);
            kenv::check_read_size(&machine.kenv)?;
            machine.read_only = (machine.read_only || self.ro) && !self.rw;
            roster.insert(self.name.clone(), machine.clone(), false)?;
            Ok((self.name.clone(), machine))
        })
    }
}

/// Remove a machine. Its roots stay.
#[derive(Args, Debug)]
struct Remove {
    #[command(flatten)]
    dry: Dry,
    /// The machine.
    name: MachineName,
}

impl Remove {
    fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let state = site.open_state()?;
        guests::refuse_running(site, &self.name)?;
        if self.dry.is_dry() {
            roster(&state)?.take(&self.name)?;
            let told = self.dry.instead(site, format_args!("remove {}", self.name));
            return Ok(told.unwrap_or_default());
        }
        let alone = state.hold().map_err(Failure::could_not)?;
        roster(&state)?.take(&self.name)?;
        let _ = self.dry.instead(site, format_args!("remove {}", self.name));
        machine::remove(&state, &self.name)?;
        // Whoever gets this name next has said nothing yet.
        if let Err(error) = console::remove(state.path(), self.name.as_str()) {
            tracing::warn!(
                "the messages of {} are still in {}: {error}",
                self.name,
                state.path().display()
            );
        }
        // The server that reads it may have to hold the state itself.
        drop(alone);
        site.reload_only(&[])?;
        Ok(Reply::done())
    }
}

/// List the machines.
#[derive(Args, Debug)]
struct List {
    #[command(flatten)]
    format: Format,
}

/// A machine, as it is listed.
#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    #[serde(flatten)]
    machine: &'a Machine,
}

impl List {
    fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let roster = roster(&site.open_state()?)?;
        let rows =
            roster.iter().map(|(name, entry)| Row { name: name.as_str(), machine: &entry.machine });
        self.format.reply(&rows.collect::<Vec<_>>(), |rows| {
            let mut table = Table::new(&["NAME", "MAC", "ADDRESS", "ROOT", "ENVIRONMENT"]);
            for Row { name, machine } in rows {
                let macs = machine.macs.iter().map(Mac::to_string).collect::<Vec<_>>();
                table.row([
                    (*name).to_owned(),
                    macs.join(","),
                    machine.address.map_or_else(String::new, |address| address.to_string()),
                    machine.root.to_string(),
                    machine.environment.clone().unwrap_or_default(),
                ]);
            }
            table
        })
    }
}

/// Show a machine's settings, as a table for netbe.toml.
#[derive(Args, Debug)]
struct Show {
    /// The machine.
    name: MachineName,
}

impl Show {
    fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let roster = roster(&site.open_state()?)?;
        let unknown = || MachineError::Unknown(self.name.to_string());
        let entry = roster.get(&self.name).ok_or_else(unknown)?;
        Ok(Reply::text(format!("[machines.\"{}\"]\n{}", self.name, entry.machine.render()?)))
    }
}

/// Assign a boot environment to a machine, or set the default.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("whom").required(true))]
pub(crate) struct Sharepxe {
    /// The machine that boots it.
    #[arg(long, group = "whom")]
    machine: Option<MachineName>,
    /// Set the default: every machine without an assigned environment boots it, read-only.
    #[arg(long, group = "whom")]
    default: bool,
    /// Remove the assignment: the machine, or with --default every unassigned machine, boots
    /// nothing.
    #[arg(long, conflicts_with = "name")]
    off: bool,
    /// The machine's root: the environment itself (direct, or shared read-only), its own clone, or
    /// a fresh clone at every boot.
    #[arg(long, value_enum, requires = "machine", conflicts_with_all = ["off", "default"])]
    root: Option<RootKind>,
    #[command(flatten)]
    dry: Dry,
    /// The boot environment, or a snapshot to clone.
    #[arg(value_name = "BE[@SNAP]", required_unless_present = "off")]
    name: Option<Point>,
}

impl Sharepxe {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        exists(site, self.name.as_ref())?;
        let environment = self.name.as_ref().map(Point::to_string);
        let Some(name) = &self.machine else {
            if let Some(point) = self.name.as_ref().filter(|point| point.snapshot.is_some()) {
                return Err(Failure::could_not(format_args!(
                    "{point} is a snapshot, which cannot boot: clone it with `netbe clone {point} NAME`, \
                     and assign the clone"
                )));
            }
            if let Some(wanted) = &self.name {
                root::refuse_others(site, None, RootKind::Direct, wanted)?;
            }
            let state = site.open_state()?;
            if roster(&state)?.is_default_fixed() {
                return Err(MachineError::FixedDefault.into());
            }
            let boots = environment.as_deref().unwrap_or("nothing");
            let deed = format!("have every machine without an environment boot {boots}");
            if let Some(told) = self.dry.instead(site, deed) {
                return Ok(told);
            }
            let alone = state.hold().map_err(Failure::could_not)?;
            machine::store_default(&state, environment.as_deref())?;
            drop(alone);
            let wanted = self.name.iter().map(|point| &point.environment);
            site.reload_only(&wanted.collect::<Vec<_>>())?;
            return Ok(Reply::done());
        };
        let known = root::changeable(site, name)?;
        let root = self.root.unwrap_or(known.root);
        let write = |environment: Option<String>| {
            change(site, |roster| {
                let mut machine = roster.take(name)?;
                machine.environment = environment;
                machine.once = None;
                machine.root = root;
                roster.insert(name.clone(), machine.clone(), false)?;
                Ok((name.clone(), machine))
            })
        };
        let Some(wanted) = &self.name else { return write(None) };
        let assigned = root::for_machine(site, name, &Machine { root, ..known }, wanted)?;
        let reply = assigned.write_down(site, name, |wanted| write(Some(wanted)))?;
        root::warn_of_writers(site, name)?;
        Ok(reply)
    }
}

/// What `--serial` alone means.
pub(super) const DEFAULT_SERIAL: &str = "ttyS0/115200";

/// A setting that can be taken away: `none`.
#[derive(Clone, Copy, Debug)]
struct Setting<T>(Option<T>);

fn optional<T>(text: &str) -> Result<Setting<T>, String>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    if text == "none" {
        return Ok(Setting(None));
    }
    text.parse().map(|value| Setting(Some(value))).map_err(|error: T::Err| error.to_string())
}

/// Changes one machine: on the roster, so that no two collide, then in the state.
pub(super) fn change(
    site: &Site,
    on: impl FnOnce(&mut Roster) -> Result<(MachineName, Machine), MachineError>,
) -> Result<Reply, Failure> {
    let state = site.open_state()?;
    let alone = if site.dry { None } else { Some(state.hold().map_err(Failure::could_not)?) };
    let before = roster(&state)?;
    let (name, machine) = on(&mut before.clone())?;
    machine.check()?;
    let known = before.get(&name).map(|entry| &entry.machine);
    if let Some(told) = dry::tell(site, &deeds(&name, known, &machine)?) {
        return Ok(told);
    }
    machine::store(&state, &name, &machine)?;
    drop(alone);
    // Whatever was done by hand to what it boots is seen too, and the root that it boots once is new.
    let wanted = machine.environment.iter().chain(&machine.once);
    let wanted = wanted.filter_map(|wanted| machine::environment_in(wanted).parse().ok());
    let wanted: Vec<EnvironmentName> = wanted.collect();
    site.reload_only(&wanted.iter().collect::<Vec<_>>())?;
    Ok(Reply::done())
}

/// What becomes of what is known of a machine, in words.
fn deeds(
    name: &MachineName,
    before: Option<&Machine>,
    after: &Machine,
) -> Result<Vec<String>, MachineError> {
    let (old, new) = (before.map(Machine::render).transpose()?, after.render()?);
    let old: Vec<&str> = old.as_deref().unwrap_or_default().lines().collect();
    let new: Vec<&str> = new.lines().collect();
    let key = |line: &str| line.split(" = ").next().unwrap_or_default().to_owned();
    let added = before.is_none().then(|| format!("add the machine {name}"));
    let set = new.iter().filter(|line| !old.contains(line));
    let set = set.map(|line| format!("set {line} of {name}"));
    let gone = old.iter().filter(|line| !new.iter().any(|new| key(new) == key(line)));
    let gone = gone.map(|line| format!("take {} from {name}", key(line)));
    Ok(added.into_iter().chain(set).chain(gone).collect())
}

pub(super) fn roster(state: &crate::site::state::StateDir) -> Result<Roster, Failure> {
    Ok(Roster::of_site(state)?)
}

/// Makes sure that a machine can have an address that is kept for it.
fn fits(site: &Site, address: Option<Ipv4Addr>) -> Result<(), Failure> {
    address.map_or(Ok(()), |address| Ok(Networks::of_site(&site.open_state()?)?.check(address)?))
}

/// Makes sure that an environment is there before something refers to it.
pub(super) fn exists(site: &Site, point: Option<&Point>) -> Result<(), Failure> {
    if let Some(point) = point {
        let store = site.open()?;
        store.get(&point.environment)?;
        if let Some(wanted) = &point.snapshot {
            let known = store.snapshots(&point.environment)?;
            if known.iter().all(|snapshot| snapshot.name != *wanted) {
                return Err(StoreError::NoSnapshot(point.clone()).into());
            }
        }
    }
    Ok(())
}

impl From<MachineError> for Failure {
    fn from(error: MachineError) -> Self {
        match error {
            MachineError::AddressTaken { .. }
            | MachineError::At { .. }
            | MachineError::Exists(_)
            | MachineError::Fixed(_)
            | MachineError::FixedDefault
            | MachineError::MacFixed { .. }
            | MachineError::MacTaken { .. }
            | MachineError::Twice(_)
            | MachineError::Unfit { .. }
            | MachineError::Unknown(_) => Self::no(error),
            MachineError::Address(_)
            | MachineError::Class(_)
            | MachineError::Classes
            | MachineError::CommandLine
            | MachineError::Guest(_)
            | MachineError::HttpLoader(_)
            | MachineError::Interfaces(_)
            | MachineError::Kenv(_)
            | MachineError::Multicast(_)
            | MachineError::Name(_)
            | MachineError::NoMac
            | MachineError::NotText
            | MachineError::Snapshot(_)
            | MachineError::Of(..)
            | MachineError::Record { .. }
            | MachineError::State(_)
            | MachineError::Syntax(_) => Self::could_not(error),
        }
    }
}
