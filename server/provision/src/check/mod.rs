//! Whether a boot environment can boot, by BIOS and by UEFI, and why not.
//!
//! A worker that may only read looks at everything through [`Inside`]: a check of an environment whose
//! `/etc/rc.conf` is a link out, or a FIFO, neither leaves it nor waits.

mod files;
mod loaders;
mod needed;
mod ram_disk;

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::AsFd as _;

use hostfs::Inside;
use serde::{Deserialize, Serialize};
use store::{Environment, ExportSettings, Identity, Role};

use crate::contents::{Contents, System};
use crate::install::fill;
use crate::loader::{self, Arch, HostLoaders, LoaderChoice};
use crate::worker::{self, Request, WorkerError};

/// What is asked of a boot environment beside its files.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Subject {
    name: String,
    arch: String,
    /// Why its state keeps it from being booted.
    state: Vec<Finding>,
    read_only: bool,
    superuser: Superuser,
    assigned: Vec<Assigned>,
    /// Whether machines boot it that are assigned nothing.
    default: bool,
    /// With whom it is shared that are no machines.
    unknown: Vec<String>,
    host_loaders: BTreeSet<String>,
}

/// A machine that is to boot an environment.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Assigned {
    /// Its name.
    pub name: String,
    /// The loader that was chosen for it.
    pub loader: LoaderChoice,
    /// Whether it boots a clone, which has an identity of its own.
    pub clone: bool,
    /// Whether FreeBSD's loader is to fetch its files by TFTP.
    pub tftp: bool,
}

/// Whom the superuser of a machine acts as on its root, and the setting that says so.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Superuser {
    setting: String,
    uid: u32,
    gids: Vec<u32>,
}

impl Subject {
    /// An environment, the machines that boot it, and the loaders of this host. `is_machine` tells
    /// whether a name is a machine's.
    pub fn new(
        environment: &Environment,
        assigned: Vec<Assigned>,
        default: bool,
        is_machine: impl Fn(&str) -> bool,
        host: &HostLoaders,
    ) -> Self {
        let shared_with = environment.export.machines.iter();
        Self {
            name: environment.name.to_string(),
            arch: environment.settings.value("arch").unwrap_or_default().to_owned(),
            state: state(environment),
            read_only: environment.export.read_only,
            superuser: Superuser::of(&environment.export),
            assigned,
            default,
            unknown: shared_with.filter(|name| !is_machine(name)).cloned().collect(),
            host_loaders: host.names(),
        }
    }
}

impl Superuser {
    fn of(export: &ExportSettings) -> Self {
        let (setting, identity) = match (&export.mapall, &export.maproot) {
            (Some(everybody), _) => ("mapall", everybody.clone()),
            (None, Some(superuser)) => ("maproot", superuser.clone()),
            (None, None) => ("its own root", Identity::root()),
        };
        Self { setting: setting.to_owned(), uid: identity.uid, gids: identity.gids }
    }
}

/// What was found out about a boot environment.
#[derive(Debug, Deserialize, Serialize)]
pub struct Verdict {
    /// The environment's name.
    pub name: String,
    /// The system in it, as it is called.
    pub system: String,
    /// Whether it boots by BIOS, if machines of its architecture can have that.
    pub bios: Option<bool>,
    /// Whether it boots by UEFI.
    pub uefi: bool,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

impl Verdict {
    /// Whether it boots by every firmware that its machines can have.
    pub fn boots(&self) -> bool {
        self.bios != Some(false) && self.uefi
    }
}

/// Something that is wrong with a boot environment or with its site.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Finding {
    /// What it keeps from working.
    pub severity: Severity,
    /// What is wrong and what to do, in one sentence without a full stop.
    pub message: String,
}

/// What a finding keeps from working.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No machine boots it.
    Both,
    /// No machine with BIOS boots it.
    Bios,
    /// No machine with UEFI boots it.
    Uefi,
    /// Something may go wrong.
    Doubt,
}

impl Finding {
    fn new(severity: Severity, message: impl ToString) -> Self {
        Self { severity, message: message.to_string() }
    }

    /// Something that may go wrong.
    pub fn doubt(message: impl ToString) -> Self {
        Self::new(Severity::Doubt, message)
    }

    /// Something that keeps every machine from booting.
    pub fn both(message: impl ToString) -> Self {
        Self::new(Severity::Both, message)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Both => "does not boot",
            Self::Bios => "does not boot by BIOS",
            Self::Uefi => "does not boot by UEFI",
            Self::Doubt => "may fail",
        })
    }
}

/// Looks at a boot environment, in a worker that may only read.
pub fn check(subject: Subject, inside: &Inside) -> Result<Verdict, WorkerError> {
    worker::call(&Request::Check(subject), &[inside.as_fd()]).map(|(verdict, _)| verdict)
}

/// Looks at a boot environment.
pub(crate) fn examine(subject: &Subject, inside: &Inside) -> Verdict {
    let mut findings = subject.state.clone();
    let contents = Contents::scan(inside);
    // A clone is given an identity of its own.
    let itself = subject.assigned.iter().filter(|machine| !machine.clone).count();
    let shared = itself > 1 || subject.default;
    let arm = matches!(subject.arch.as_str(), "aarch64" | "arm64");
    // No machine of that architecture has BIOS.
    let firmware: &[_] = if arm {
        &[(Severity::Uefi, Arch::UEFI_ARM64)]
    } else {
        &[(Severity::Bios, Arch::BIOS), (Severity::Uefi, Arch::UEFI_X64)]
    };
    let host = &subject.host_loaders;
    let system = match &contents.system {
        None => {
            findings.push(Finding::both(nothing(&contents)));
            "none"
        }
        Some(System::FreeBsd) => {
            for &(severity, arch) in firmware {
                findings.extend(loaders::freebsd(severity, arch, &contents));
            }
            findings.extend(files::freebsd(inside, shared || subject.read_only));
            let by_tftp = subject.assigned.iter().any(|machine| machine.tftp)
                || loader::FREEBSD.iter().any(|name| contents.without_nfs.contains(*name));
            findings.extend(by_tftp.then(|| files::lua(inside)).flatten());
            "FreeBSD"
        }
        Some(System::Linux { kernel, initrd }) => {
            for &(severity, arch) in firmware {
                findings.extend(loaders::linux(severity, arch, &contents, host));
            }
            findings.extend(files::linux(inside, shared));
            findings.extend(ram_disk::check(inside, kernel, initrd.as_deref()));
            "Linux"
        }
    };
    findings.extend(files::ssh(inside, shared, itself > 0 || subject.default));
    if let Some(system) = &contents.system {
        findings.extend(needed::check(inside, system, &subject.superuser));
    }
    for machine in &subject.assigned {
        findings.extend(loaders::chosen(machine, firmware, &contents, host));
    }
    findings.extend(subject.unknown.iter().map(|name| {
        Finding::doubt(format_args!(
            "it is shared with {name}, but there is no such machine: add it with `netbe machine add`, or \
             share it anew"
        ))
    }));
    let stops = |own| {
        findings.iter().any(|found| found.severity == own || found.severity == Severity::Both)
    };
    let bios = (!arm).then(|| !stops(Severity::Bios));
    let uefi = !stops(Severity::Uefi);
    Verdict { name: subject.name.clone(), system: system.to_owned(), bios, uefi, findings }
}

/// What is wrong with data sets that ZFS shares over NFS too.
pub fn shared_twice(datasets: &[String]) -> Option<Finding> {
    let (first, more) = datasets.split_first()?;
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    Some(Finding::doubt(format_args!(
        "ZFS shares {first}{more} too, by its own property sharenfs, which ignores netbe's settings: run \
         `zfs set sharenfs=off {first}`"
    )))
}

/// What was decided about it, or is not over, that keeps it from being booted.
fn state(environment: &Environment) -> Vec<Finding> {
    let (name, mut findings) = (&environment.name, Vec::new());
    if environment.is_being_filled() {
        findings.push(Finding::both(fill::INTERRUPTED));
    } else if environment.role == Role::Off {
        findings.push(Finding::both(format_args!(
            "its role is off: serve it with `netbe set role=be {name}`"
        )));
    }
    if name.as_str().contains([' ', ':']) {
        findings.push(Finding::both(format_args!(
            "FreeBSD's loader cuts a root path at a colon, and kernels do at a space: `netbe rename` \
             it"
        )));
    }
    findings
}

fn nothing(contents: &Contents) -> &'static str {
    if contents.loaders.is_empty() {
        "there is no system in it: /boot has neither FreeBSD's loader and kernel nor a vmlinuz: run \
         `netbe install`"
    } else {
        "it has a loader but no kernel: for FreeBSD install another environment with the sets base and kernel"
    }
}

#[cfg(test)]
mod test;
