//! What boots: machines, by name and by network address.

mod guest;
mod loader;
mod name;
mod netconsole;
mod renaming;
mod root;
mod roster;
mod serial;
mod view;

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use bootcfg::Serial;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use guest::{Bridge, GuestBoot, GuestError, Memory, Restart, RootBy, Runner};
pub use loader::LoaderProtocol;
pub use name::{MachineName, MachineNameError};
pub use netconsole::{Netconsole, NetconsoleError};
pub use provision::loader::LoaderChoice;
pub use renaming::{
    RenameError, finish_renaming, forget_renaming, has_renaming, rename, rename_machine,
    settle_renaming,
};
pub use root::RootKind;
pub(super) use roster::read;
pub use roster::{Roster, RosterEntry, remove, spend, store, store_default};
pub use serial::SerialPort;
pub use view::View;

use crate::net::Mac;
use crate::site::kenv::{self, KenvError, Variable};
use crate::site::networks::Unfit;
use crate::site::state::StateError;

/// What is known of a named machine. Its name is its key.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its Ethernet addresses: any of them is the machine.
    #[serde(default)]
    pub macs: Vec<Mac>,
    /// Its UUID as its firmware tells it (DHCP option 97).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<Uuid>,
    /// The address that is kept for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    /// The name of the boot environment that it boots; of one whose clones it boots, a snapshot may
    /// be meant: `head@monday`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// What it boots next, once, in the place of its environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<String>,
    /// What it has for its root.
    #[serde(default, skip_serializing_if = "RootKind::is_direct")]
    pub root: RootKind,
    /// Arguments to add to its kernel's command line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub cmdline: String,
    /// Whether it gets its root read-only.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// The program that loads its kernel.
    #[serde(default, skip_serializing_if = "LoaderChoice::is_auto")]
    pub loader: LoaderChoice,
    /// Who joins the data sets of its environment to one tree.
    #[serde(default, skip_serializing_if = "View::is_joined")]
    pub view: View,
    /// The protocol by which FreeBSD's loader fetches its files.
    #[serde(default, skip_serializing_if = "LoaderProtocol::is_auto")]
    pub loader_protocol: LoaderProtocol,
    /// The serial port of its console.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<SerialPort>,
    /// The interface by which its Linux kernel sends what it says (netconsole).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netconsole: Option<Netconsole>,
    /// Variables for FreeBSD's loader and kernel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kenv: Vec<Variable>,
    /// The folders below `/conf` that a FreeBSD machine with a `BOOTP` kernel takes its files from
    /// (rc.initdiskless calls them classes).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// What runs it on this host, as a guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Runner>,
    /// What boots the guest: its BIOS, if nothing is said, or with bhyve its UEFI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<GuestBoot>,
    /// How the guest reaches its root.
    #[serde(default, skip_serializing_if = "RootBy::is_nfs")]
    pub root_by: RootBy,
    /// The guest's number of processors: 1, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<u16>,
    /// The guest's memory: 1 GiB, if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// The bridge of this host that the guest's interface joins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<Bridge>,
    /// Whether the guest is started with this host.
    #[serde(default, skip_serializing_if = "is_false")]
    pub autostart: bool,
    /// The guest's place among those: lower ones are started earlier, and stopped later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<u16>,
    /// When the guest is started again.
    #[serde(default, skip_serializing_if = "Restart::is_on_failure")]
    pub restart: Restart,
}

// serde calls it with a reference.
#[expect(clippy::trivially_copy_pass_by_ref)]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Machine {
    /// What it boots next, if anything is assigned to it.
    #[must_use]
    pub fn wanted(&self) -> Option<&str> {
        self.once.as_deref().or(self.environment.as_deref())
    }

    /// Whether a boot environment is what it boots, now or next, or what its clones are made from.
    #[must_use]
    pub fn is_assigned(&self, environment: &str) -> bool {
        let named = |assigned: &String| environment_in(assigned) == environment;
        self.environment.iter().chain(&self.once).any(named)
    }

    /// Goes with a boot environment that has got another name.
    pub fn follow(&mut self, old: &str, new: &str) {
        for assigned in self.environment.iter_mut().chain(&mut self.once) {
            let rest =
                assigned.strip_prefix(old).filter(|rest| rest.is_empty() || rest.starts_with('@'));
            if let Some(rest) = rest {
                *assigned = format!("{new}{rest}");
            }
        }
    }

    /// All variables for FreeBSD's loader and kernel: those of its console, and its own, which count
    /// where both set one.
    #[must_use]
    pub fn variables(&self) -> Vec<Variable> {
        let console = self.serial.map_or_else(Vec::new, |serial| serial.0.variables());
        let console = console.into_iter().map(Variable::from).collect();
        kenv::overlaid(console, &self.kenv, kenv::MAX_READ_SIZE)
    }

    /// All words to add to a Linux kernel's command line: that of its console, where its own do not
    /// name the same port, and its own, of which the last counts.
    #[must_use]
    pub fn arguments(&self) -> String {
        let serial = self.serial.map(|serial| serial.0);
        let words = || self.cmdline.split_whitespace();
        let named = |serial: &Serial| words().any(|word| serial.is_in(word));
        let console = serial.filter(|serial| !named(serial)).map(Serial::argument);
        let own = Some(self.cmdline.clone()).filter(|own| !own.is_empty());
        console.into_iter().chain(own).collect::<Vec<_>>().join(" ")
    }

    /// Checks what does not depend on other machines.
    pub fn check(&self) -> Result<(), MachineError> {
        if let Some(mac) = self.macs.iter().find(|mac| mac.0[0] & 1 == 1) {
            return Err(MachineError::Multicast(*mac));
        }
        if let Some(address) = self.address.filter(|address| !can_be_a_machines(*address)) {
            return Err(MachineError::Address(address));
        }
        if self.address.is_some() && self.uuid.is_some() && self.macs.is_empty() {
            return Err(MachineError::NoMac);
        }
        let mut assigned = self.environment.iter().chain(&self.once);
        if let Some(point) = assigned.find(|point| point.contains('@') && !self.root.is_clone()) {
            return Err(MachineError::Snapshot(point.clone()));
        }
        if self.cmdline.len() > 1024 || self.cmdline.chars().any(char::is_control) {
            return Err(MachineError::CommandLine);
        }
        if self.loader_protocol == LoaderProtocol::Http && !self.loader.is_auto() {
            return Err(MachineError::HttpLoader(self.loader));
        }
        kenv::check(&self.kenv)?;
        kenv::check(&self.variables())?;
        guest::check(self)?;
        self.check_classes()
    }

    /// A class is the name of a folder, and all of them are one option of words (bootp_subr.c has 128
    /// bytes for it).
    fn check_classes(&self) -> Result<(), MachineError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let plain = |class: &&String| {
            class.chars().all(allowed) && !class.is_empty() && !class.starts_with(['-', '.'])
        };
        match self.classes.iter().find(|class| !plain(class)) {
            Some(class) => Err(MachineError::Class(class.clone())),
            None if self.classes.join(" ").len() > MAX_CLASSES => Err(MachineError::Classes),
            None => Ok(()),
        }
    }

    /// Reads a machine's record.
    pub fn parse(record: &[u8]) -> Result<Self, MachineError> {
        let machine: Self = roster::parse(record)?;
        machine.check()?;
        Ok(machine)
    }

    /// Writes a machine's record.
    pub fn render(&self) -> Result<String, MachineError> {
        toml::to_string(self).map_err(|error| MachineError::Syntax(error.to_string()))
    }
}

/// Whether a machine can have an address, in whichever network: not one of "this network", of the loopback, or
/// of a group (RFC 1122 §3.2.1.3), nor that of all hosts.
#[must_use]
pub fn can_be_a_machines(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && !address.is_loopback() && !address.is_multicast() && !address.is_broadcast()
}

/// The boot environment in what a machine is assigned, which may be a snapshot of it.
#[must_use]
pub fn environment_in(assigned: &str) -> &str {
    assigned.split_once('@').map_or(assigned, |(environment, _)| environment)
}

/// Why a machine is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// Nobody can have that address.
    #[error("{0} cannot be a machine's address: write an address of your network")]
    Address(Ipv4Addr),
    /// Another machine has the address.
    #[error("{address} is reserved for {other}: choose another address, or change {other} first")]
    AddressTaken {
        /// The address.
        address: Ipv4Addr,
        /// Who has it.
        other: MachineName,
    },
    /// A class cannot be the name of a folder below `/conf`.
    #[error(
        "{0:?} is not a class: write the name of a folder below /conf, of letters, digits, dots, hyphens \
         and underscores"
    )]
    Class(String),
    /// The classes are too long.
    #[error("classes: write at most 127 bytes of them, the spaces between them included")]
    Classes,
    /// The words for the kernel are too long or hold control characters.
    #[error("cmdline: write one line of at most 1024 bytes")]
    CommandLine,
    /// There is one of that name.
    #[error("machine {0} exists: change it with `netbe machine set`, or remove it first")]
    Exists(MachineName),
    /// It stands in the configuration file.
    #[error("machine {0} is defined in netbe.toml: change it there")]
    Fixed(MachineName),
    /// The default environment stands in the configuration file.
    #[error("the default environment is set in netbe.toml: change it there")]
    FixedDefault,
    /// It cannot be a guest as it was said.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// Nothing can stand between UEFI's HTTP boot and a loader that goes on by HTTP.
    #[error(
        "FreeBSD's loader uses HTTP only if the firmware loads it: with --loader-protocol http the loader \
         is auto, not {0}"
    )]
    HttpLoader(LoaderChoice),
    /// The variables are not right.
    #[error(transparent)]
    Kenv(#[from] KenvError),
    /// The interfaces of this host, whose addresses no machine can have, cannot be listed.
    #[error("the network interfaces cannot be listed: {0}")]
    Interfaces(#[source] io::Error),
    /// Another machine has the Ethernet address.
    #[error("{mac} belongs to {other}: set another for {other} first, or remove it")]
    MacTaken {
        /// The Ethernet address.
        mac: Mac,
        /// Who has it.
        other: MachineName,
    },
    /// A machine of the configuration file has the Ethernet address.
    #[error(
        "{mac} belongs to {other}, which is defined in netbe.toml: change it there, or set another for {name}"
    )]
    MacFixed {
        /// The Ethernet address.
        mac: Mac,
        /// Who is to have it too.
        name: MachineName,
        /// Who has it.
        other: MachineName,
    },
    /// An Ethernet address is one of a group.
    #[error("{0} is a multicast address: write the address of the machine's network card")]
    Multicast(Mac),
    /// A name is none.
    #[error(transparent)]
    Name(#[from] MachineNameError),
    /// An address is kept, but nobody could be recognised as its owner.
    #[error(
        "an address is reserved by Ethernet address: give the machine's Ethernet address (--mac, macs) too"
    )]
    NoMac,
    /// The record is not UTF-8.
    #[error("it is not text")]
    NotText,
    /// Something is wrong with a machine that is named.
    #[error("machine {0}: {1}")]
    Of(MachineName, #[source] Box<Self>),
    /// A record contradicts what is known besides.
    #[error("{}: {error}", path.display())]
    At {
        /// The record.
        path: PathBuf,
        /// How.
        error: Box<Self>,
    },
    /// A record cannot be read.
    #[error("{}: {error}: correct the file, or remove it {cure}", path.display())]
    Record {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<Self>,
        /// What makes it anew.
        cure: &'static str,
    },
    /// A snapshot cannot be a root itself.
    #[error("{0} is a snapshot, which cannot boot: give --root own or fresh, for a clone of it")]
    Snapshot(String),
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The record does not have the form of one.
    #[error("{0}")]
    Syntax(String),
    /// The configuration and the state both have it.
    #[error(
        "machine {0} is defined in netbe.toml and was also added by a command: remove one of the two"
    )]
    Twice(MachineName),
    /// No machine can have the address here.
    #[error("{address} {unfit}: choose another address for the machine")]
    Unfit {
        /// The address.
        address: Ipv4Addr,
        /// Why.
        unfit: Unfit,
    },
    /// There is none of that name.
    #[error("there is no machine {0}: `netbe machine list` shows all")]
    Unknown(String),
}

impl MachineError {
    /// Whether another machine has what belongs to one only.
    const fn is_taken(&self) -> bool {
        matches!(self, Self::MacTaken { .. } | Self::MacFixed { .. } | Self::AddressTaken { .. })
    }

    fn of(self, name: &MachineName) -> Self {
        Self::Of(name.clone(), Box::new(self))
    }
}

/// Bytes of all classes: FreeBSD's kernel keeps 128, with a NUL.
const MAX_CLASSES: usize = 127;

#[cfg(test)]
mod test {
    use super::*;

    fn mac(last: u8) -> Mac {
        Mac([0x52, 0x54, 0, 0, 0, last])
    }

    #[test]
    fn a_record_is_what_was_written() {
        let written = Machine {
            macs: vec![mac(1), mac(2)],
            uuid: Some(Uuid::from_u128(7)),
            address: Some(Ipv4Addr::new(10, 0, 0, 9)),
            environment: Some("base@monday".to_owned()),
            once: Some("next".to_owned()),
            root: RootKind::Own,
            cmdline: "console=ttyS0 \"quoted\"".to_owned(),
            read_only: true,
            loader: LoaderChoice::Auto,
            view: View::Split,
            loader_protocol: LoaderProtocol::Http,
            serial: Some("ttyS1/9600".parse().unwrap()),
            netconsole: Some("eth0".parse().unwrap()),
            kenv: vec!["nfs.read_size=1024".parse().unwrap()],
            classes: vec!["lab".to_owned()],
            run: Some(Runner::Qemu),
            boot: Some(GuestBoot::Kernel),
            root_by: RootBy::NineP,
            cpus: Some(2),
            memory: Some("1536M".parse().unwrap()),
            bridge: Some("br0".parse().unwrap()),
            autostart: true,
            order: Some(10),
            restart: Restart::Always,
        };
        let text = written.render().unwrap();
        assert_eq!(Machine::parse(text.as_bytes()).unwrap(), written);
        assert_eq!(Machine::parse(b"").unwrap(), Machine::default());
    }

    #[test]
    fn a_serial_console_is_told_to_both_systems_and_its_own_words_count() {
        let machine = |kenv: &str, cmdline: &str| Machine {
            serial: Some("com2".parse().unwrap()),
            kenv: vec![kenv.parse().unwrap()],
            cmdline: cmdline.to_owned(),
            ..Machine::default()
        };
        let told = machine("comconsole_speed=9600", "quiet");
        let variables: Vec<_> = told.variables().iter().map(ToString::to_string).collect();
        let expected = [
            "console=comconsole",
            "boot_serial=YES",
            "comconsole_speed=9600",
            "comconsole_port=0x2f8",
        ];
        assert_eq!(variables, expected);
        assert_eq!(told.arguments(), "console=ttyS1,115200 quiet");
        assert_eq!(machine("a=b", "").arguments(), "console=ttyS1,115200");
        let same = "console=tty0 console=ttyS1,9600";
        assert_eq!(machine("a=b", same).arguments(), same);
        let other = machine("a=b", "console=ttyS0").arguments();
        assert_eq!(other, "console=ttyS1,115200 console=ttyS0");
        assert_eq!(Machine::default().arguments(), "");
    }

    #[test]
    fn a_class_is_the_name_of_a_folder() {
        let check = |classes: &[&str]| {
            let classes = classes.iter().map(|&class| class.to_owned()).collect();
            Machine { classes, ..Machine::default() }.check()
        };
        assert!(check(&["lab", "west-2.a_b"]).is_ok());
        for class in ["", "..", "-r", "a b", "a/b", "$(x)"] {
            assert!(matches!(check(&[class]), Err(MachineError::Class(_))), "{class:?}");
        }
        let long = "x".repeat(64);
        assert!(matches!(check(&[&long, &long]), Err(MachineError::Classes)));
    }

    #[test]
    fn a_snapshot_is_booted_only_as_a_clone() {
        let environment = Some("head@monday".to_owned());
        let machine =
            |root| Machine { environment: environment.clone(), root, ..Machine::default() };
        assert!(machine(RootKind::Own).check().is_ok());
        assert!(machine(RootKind::Fresh).check().is_ok());
        for root in [RootKind::Direct, RootKind::Shared] {
            assert!(matches!(machine(root).check(), Err(MachineError::Snapshot(_))), "{root}");
        }
        assert!(machine(RootKind::Own).is_assigned("head"));
        assert!(!machine(RootKind::Own).is_assigned("monday"));
    }

    #[test]
    fn an_unknown_word_in_a_record_is_an_error() {
        assert!(Machine::parse(b"adress = \"10.0.0.1\"").is_err());
        assert!(Machine::parse(b"macs = [\"01:00:5e:00:00:01\"]").is_err());
        assert!(Machine::parse(b"address = \"0.0.0.0\"").is_err());
        let uuid = "uuid = \"00000000-0000-0000-0000-000000000007\"\n";
        assert!(Machine::parse(uuid.as_bytes()).is_ok());
        let kept = format!("{uuid}address = \"10.0.0.9\"");
        let refused = Machine::parse(kept.as_bytes()).unwrap_err();
        assert!(matches!(refused, MachineError::NoMac), "{refused}");
        assert!(Machine::parse(b"cmdline = \"a\\nb\"").is_err());
        assert!(Machine::parse(b"loader = \"lilo\"").is_err());
        assert!(Machine::parse(b"loader_protocol = \"ftp\"").is_err());
        assert!(Machine::parse(b"kenv = [\"a\"]").is_err());
        assert!(Machine::parse(b"loader = \"grub\"\nloader_protocol = \"http\"").is_err());
    }
}
