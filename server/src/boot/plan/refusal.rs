//! Why a machine boots nothing, in words that say what to do.

use crate::boot::{Arch, Client};
use crate::site::kenv::KenvError;
use crate::site::machine::{LoaderChoice, MachineName};

/// Why a machine boots nothing. The words are for the administrator and for the machine's screen.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NoPlan {
    /// There is no loader for the firmware at all.
    #[error("firmware of architecture {} is not served: no loader is known for it", .0.0)]
    Arch(Arch),
    /// The kernel cannot be told what it needs.
    #[error("{0}")]
    CommandLine(String),
    /// FreeBSD's loader is to go on by HTTP, but is not loaded by it.
    #[error(
        "FreeBSD's loader fetches by HTTP only if UEFI's HTTP boot has loaded it, but {0} asks: choose HTTP \
         boot in the machine's firmware, or run `netbe machine set --loader-protocol auto`"
    )]
    HttpFirmware(Client),
    /// The machine's variables cannot be sent.
    #[error("{0}: change them with `netbe machine set --kenv`")]
    Kenv(KenvError),
    /// The loader that was chosen does not start from the machine's firmware.
    #[error(
        "the loader {choice} does not start from {client}: choose another with `netbe machine set \
         --loader`"
    )]
    LoaderFirmware {
        /// Which was chosen.
        choice: LoaderChoice,
        /// What asked.
        client: Client,
    },
    /// The loader that was chosen does not load the environment's system.
    #[error(
        "the loader {choice} does not load the FreeBSD in boot environment {environment}: choose \
         another with `netbe machine set --loader`"
    )]
    LoaderSystem {
        /// Which was chosen.
        choice: LoaderChoice,
        /// The environment.
        environment: String,
    },
    /// The store has no such environment.
    #[error("boot environment {0} does not exist: create it, or assign another with `sharepxe`")]
    Missing(String),
    /// The name breaks a boot loader's or a kernel's grammar.
    #[error(
        "boot environment '{0}' cannot be booted: spaces, colons, commas and quotes in its name break a \
         kernel's command line; clone it to a plain name"
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
    /// A file of the loader that was chosen is missing.
    #[error("{name} is missing: {remedy}, or put the file into the environment's /boot")]
    NoLoader {
        /// What is missing.
        name: &'static str,
        /// What to do.
        remedy: &'static str,
    },
    /// iPXE cannot hand FreeBSD's loader a root path with a colon.
    #[error(
        "beside another DHCP server iPXE passes the root to FreeBSD's loader, and only an NFS root works there: put a loader with NFS into the environment, and run `netbe machine set \
         --loader-protocol nfs`"
    )]
    TftpBehindProxy,
    /// FreeBSD's loader could not ask for its files by TFTP.
    #[error(
        "boot environment '{0}' cannot be booted by TFTP: FreeBSD's loader takes a name of at most 76 \
         bytes; clone it to a shorter name"
    )]
    TftpName(String),
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
        "unknown machine, and no default environment: add it with `netbe machine add`, or run `netbe \
         sharepxe --default NAME`"
    )]
    Unknown,
}
