//! How this host runs a machine as a guest: by which program, with how much, and when.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::{Machine, RootKind};

/// What runs a machine on this host.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Runner {
    /// bhyve(8): a virtual machine of a FreeBSD host.
    Bhyve,
    /// jail(8): a FreeBSD system with the kernel of its host.
    Jail,
    /// systemd-nspawn(1): a Linux system with the kernel of its host.
    Nspawn,
    /// QEMU: a virtual machine.
    Qemu,
}

impl Runner {
    /// Whether the guest has hardware, firmware and a kernel of its own.
    #[must_use]
    pub const fn is_virtual(self) -> bool {
        matches!(self, Self::Bhyve | Self::Qemu)
    }
}

/// What boots a virtual machine.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum GuestBoot {
    /// Its BIOS, by PXE.
    Bios,
    /// netbe, which hands the kernel to the hypervisor; the root is on NFS.
    Kernel,
    /// Its UEFI, by PXE.
    Uefi,
}

/// How a virtual machine reaches its root, where netbe hands it the kernel.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RootBy {
    /// Over NFS, from the server.
    #[default]
    Nfs,
    /// By 9P, from the store's directory on this host: the hypervisor is the file server.
    #[serde(rename = "9p")]
    #[value(name = "9p")]
    NineP,
    /// By virtiofs, from the store's directory on this host: virtiofsd is the file server.
    #[value(name = "virtiofs")]
    VirtioFs,
}

impl RootBy {
    /// Whether it is the default.
    #[must_use]
    pub fn is_nfs(&self) -> bool {
        *self == Self::Nfs
    }

    /// Whether the guest has its root from the store's directory.
    #[must_use]
    pub const fn is_of_host(self) -> bool {
        !matches!(self, Self::Nfs)
    }
}

impl fmt::Display for RootBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nfs => "nfs",
            Self::NineP => "9p",
            Self::VirtioFs => "virtiofs",
        })
    }
}

/// When a guest that has ended is started again.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Always, unless `netbe stop` ended it.
    Always,
    /// Never.
    No,
    /// Unless it switched itself off.
    #[default]
    OnFailure,
}

impl Restart {
    /// Whether it is the default.
    #[must_use]
    pub fn is_on_failure(&self) -> bool {
        *self == Self::OnFailure
    }
}

/// How much memory a guest has.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Memory(u32);

impl Memory {
    /// The number of MiB.
    #[must_use]
    pub const fn mebibytes(self) -> u32 {
        self.0
    }
}

/// A bridge of this host.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Bridge(String);

impl Bridge {
    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks what is said of a machine as a guest.
pub(super) fn check(machine: &Machine) -> Result<(), GuestError> {
    let Machine { run, boot, root_by, cpus, memory, bridge, autostart, order, restart, .. } =
        machine;
    let Some(run) = run else {
        let said = [
            ("boot", boot.is_some()),
            ("root_by", !root_by.is_nfs()),
            ("cpus", cpus.is_some()),
            ("memory", memory.is_some()),
            ("bridge", bridge.is_some()),
            ("autostart", *autostart),
            ("order", order.is_some()),
            ("restart", !restart.is_on_failure()),
        ];
        let said = said.into_iter().find(|(_, is_said)| *is_said);
        return said.map_or(Ok(()), |(key, _)| Err(GuestError::NoRunner(key)));
    };
    if !run.is_virtual() {
        let said = [
            ("boot", boot.is_some()),
            ("root_by", !root_by.is_nfs()),
            ("cpus", cpus.is_some()),
            ("memory", memory.is_some()),
        ];
        if let Some((key, _)) = said.into_iter().find(|(_, is_said)| *is_said) {
            return Err(GuestError::HostsKernel { key, run: *run });
        }
    }
    if (*run, *boot) == (Runner::Bhyve, Some(GuestBoot::Bios)) {
        return Err(GuestError::NoBios);
    }
    if root_by.is_of_host() && *boot != Some(GuestBoot::Kernel) {
        return Err(GuestError::ByFirmware(*root_by));
    }
    if (*run, *root_by) == (Runner::Bhyve, RootBy::VirtioFs) {
        return Err(GuestError::NoVirtioFs);
    }
    if machine.root == RootKind::Fresh && (!run.is_virtual() || *boot == Some(GuestBoot::Kernel)) {
        return Err(GuestError::Fresh);
    }
    match cpus {
        Some(cpus) if !(1..=MAX_CPUS).contains(cpus) => Err(GuestError::Cpus(*cpus)),
        _ => Ok(()),
    }
}

/// Why a machine cannot be a guest as it was said.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GuestError {
    /// A name cannot be that of a bridge.
    #[error("{0:?} is not the name of a bridge: write one as in br0, of at most 15 characters")]
    Bridge(String),
    /// Firmware loads the kernel from the server, which has its root on NFS then.
    #[error(
        "a root by {0} is for a guest whose kernel netbe hands to the hypervisor: set boot to kernel, or root_by to nfs"
    )]
    ByFirmware(RootBy),
    /// No hypervisor gives a guest so many processors.
    #[error("cpus: {0}: write 1 to {MAX_CPUS}")]
    Cpus(u16),
    /// A fresh root is made when firmware asks for an address, and here none does.
    #[error(
        "a fresh root is made when firmware boots by PXE, but this guest boots without firmware: set root \
         to own, or boot to bios or uefi"
    )]
    Fresh,
    /// What has the kernel of its host has no hardware either.
    #[error(
        "{key} is for virtual machines, but a guest of {run} runs with this host's kernel: leave it out"
    )]
    HostsKernel {
        /// The key.
        key: &'static str,
        /// What runs it.
        run: Runner,
    },
    /// That is no amount of memory.
    #[error("{0:?} is not a size of memory: write MiB or GiB, as in 512M or 2G, from 16M to 4096G")]
    Memory(String),
    /// bhyve has no BIOS.
    #[error("bhyve has no BIOS: set boot to uefi or kernel, or run to qemu")]
    NoBios,
    /// bhyve cannot do that.
    #[error("bhyve has no virtiofs: set root_by to 9p or nfs, or run to qemu")]
    NoVirtioFs,
    /// It is not said what runs it.
    #[error("{0} is for guests of this host: set run too, to qemu, bhyve, nspawn or jail")]
    NoRunner(&'static str),
    /// There is no such word.
    #[error("{0:?} is unknown: write {1}")]
    Word(String, &'static str),
}

impl fmt::Display for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bhyve => "bhyve",
            Self::Jail => "jail",
            Self::Nspawn => "nspawn",
            Self::Qemu => "qemu",
        })
    }
}

impl FromStr for Runner {
    type Err = GuestError;

    fn from_str(text: &str) -> Result<Self, GuestError> {
        let wrong = |_| GuestError::Word(text.to_owned(), "qemu, bhyve, nspawn or jail");
        <Self as ValueEnum>::from_str(text, false).map_err(wrong)
    }
}

impl FromStr for GuestBoot {
    type Err = GuestError;

    fn from_str(text: &str) -> Result<Self, GuestError> {
        let wrong = |_| GuestError::Word(text.to_owned(), "bios, uefi or kernel");
        <Self as ValueEnum>::from_str(text, false).map_err(wrong)
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::No => "no",
            Self::OnFailure => "on-failure",
        })
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0 / GIB, self.0 % GIB) {
            (gibibytes, 0) => write!(f, "{gibibytes}G"),
            _ => write!(f, "{}M", self.0),
        }
    }
}

impl FromStr for Memory {
    type Err = GuestError;

    fn from_str(text: &str) -> Result<Self, GuestError> {
        let (number, unit) = match text.strip_suffix(['G', 'g']) {
            Some(number) => (number, GIB),
            None => (text.strip_suffix(['M', 'm']).unwrap_or(text), 1),
        };
        let digits = Some(number).filter(|number| number.bytes().all(|b| b.is_ascii_digit()));
        let number: Option<u32> = digits.and_then(|number| number.parse().ok());
        let mebibytes = number.and_then(|number| number.checked_mul(unit));
        let fitting = mebibytes.filter(|mebibytes| (MIN_MEMORY..=MAX_MEMORY).contains(mebibytes));
        fitting.map(Self).ok_or_else(|| GuestError::Memory(text.to_owned()))
    }
}

impl TryFrom<String> for Memory {
    type Error = GuestError;

    fn try_from(text: String) -> Result<Self, GuestError> {
        text.parse()
    }
}

impl From<Memory> for String {
    fn from(memory: Memory) -> Self {
        memory.to_string()
    }
}

impl FromStr for Bridge {
    type Err = GuestError;

    fn from_str(name: &str) -> Result<Self, GuestError> {
        // IFNAMSIZ, and what hypervisors take as part of an argument.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_name = (1..16).contains(&name.len()) && name.chars().all(plain);
        if is_name { Ok(Self(name.to_owned())) } else { Err(GuestError::Bridge(name.to_owned())) }
    }
}

impl TryFrom<String> for Bridge {
    type Error = GuestError;

    fn try_from(name: String) -> Result<Self, GuestError> {
        name.parse()
    }
}

impl From<Bridge> for String {
    fn from(bridge: Bridge) -> Self {
        bridge.0
    }
}

/// MiB of a GiB.
const GIB: u32 = 1024;
/// In MiB: with less no system starts, and more no hypervisor gives.
const MIN_MEMORY: u32 = 16;
const MAX_MEMORY: u32 = 4096 * GIB;
/// What QEMU's q35 gives without more words.
const MAX_CPUS: u16 = 255;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn memory_is_read_as_people_write_it() {
        for (text, mebibytes, shown) in
            [("1G", 1024, "1G"), ("2048M", 2048, "2G"), ("1536", 1536, "1536M"), ("16m", 16, "16M")]
        {
            let memory: Memory = text.parse().unwrap();
            assert_eq!((memory.mebibytes(), memory.to_string().as_str()), (mebibytes, shown));
        }
        for wrong in ["", "G", "1T", "+1G", "15M", "1.5G", "4194305", "99999999999G"] {
            assert!(wrong.parse::<Memory>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let qemu = Machine { run: Some(Runner::Qemu), ..Machine::default() };
        let nspawn = Machine { run: Some(Runner::Nspawn), ..Machine::default() };
        let bhyve = Machine { run: Some(Runner::Bhyve), ..Machine::default() };
        let by = |root_by, machine: &Machine| Machine {
            root_by,
            boot: Some(GuestBoot::Kernel),
            ..machine.clone()
        };
        for (machine, error) in [
            (qemu.clone(), None),
            (Machine { cpus: Some(4), boot: Some(GuestBoot::Kernel), ..qemu.clone() }, None),
            (Machine { root: RootKind::Fresh, ..qemu.clone() }, None),
            (Machine { autostart: true, ..nspawn.clone() }, None),
            (Machine { cpus: Some(0), ..qemu.clone() }, Some(GuestError::Cpus(0))),
            (
                Machine { autostart: true, ..Machine::default() },
                Some(GuestError::NoRunner("autostart")),
            ),
            (
                Machine { cpus: Some(1), ..nspawn.clone() },
                Some(GuestError::HostsKernel { key: "cpus", run: Runner::Nspawn }),
            ),
            (Machine { root: RootKind::Fresh, ..nspawn }, Some(GuestError::Fresh)),
            (
                Machine { root: RootKind::Fresh, boot: Some(GuestBoot::Kernel), ..qemu },
                Some(GuestError::Fresh),
            ),
            (Machine { boot: Some(GuestBoot::Bios), ..bhyve.clone() }, Some(GuestError::NoBios)),
            (by(RootBy::NineP, &bhyve), None),
            (by(RootBy::VirtioFs, &bhyve), Some(GuestError::NoVirtioFs)),
            (
                Machine { boot: None, ..by(RootBy::NineP, &bhyve) },
                Some(GuestError::ByFirmware(RootBy::NineP)),
            ),
            (
                Machine { root_by: RootBy::NineP, ..Machine::default() },
                Some(GuestError::NoRunner("root_by")),
            ),
        ] {
            assert_eq!(check(&machine).err(), error);
        }
    }
}
