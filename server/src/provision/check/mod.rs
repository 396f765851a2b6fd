//! Whether a boot environment can boot, by BIOS and by UEFI, and why not.
//!
//! Everything is looked at through the door that a hostile guest cannot turn ([`Inside`]): a check of
//! an environment whose `/etc/rc.conf` is a link out, or a FIFO, neither leaves it nor waits.

mod files;
mod loaders;
mod needed;
mod ram_disk;

use std::fmt;

use hostfs::Inside;
use serde::Serialize;
use store::{Environment, Role};

use crate::boot::Arch;
use crate::boot::catalog::{Contents, System};
use crate::boot::loader::HostLoaders;
use crate::site::machine::{Machine, Roster, environment_in};

/// What was found out about a boot environment.
#[derive(Debug, Serialize)]
pub(crate) struct Verdict {
    /// The environment's name.
    pub(crate) name: String,
    /// The system in it, as it is called.
    pub(crate) system: &'static str,
    /// Whether it boots by BIOS, if machines of its architecture can have that.
    pub(crate) bios: Option<bool>,
    /// Whether it boots by UEFI.
    pub(crate) uefi: bool,
    /// What is wrong with it.
    pub(crate) findings: Vec<Finding>,
}

impl Verdict {
    /// Whether it boots by every firmware that its machines can have.
    pub(crate) fn boots(&self) -> bool {
        self.bios != Some(false) && self.uefi
    }
}

/// Something that is wrong with a boot environment or with its site.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(crate) struct Finding {
    /// What it keeps from working.
    pub(crate) severity: Severity,
    /// What is wrong and what to do, in one sentence without a full stop.
    pub(crate) message: String,
}

/// What a finding keeps from working.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
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
    pub(crate) fn doubt(message: impl ToString) -> Self {
        Self::new(Severity::Doubt, message)
    }

    fn both(message: impl ToString) -> Self {
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

/// Looks at a boot environment.
pub(crate) fn check(
    environment: &Environment,
    inside: &Inside,
    roster: &Roster,
    host: &HostLoaders,
) -> Verdict {
    let mut findings = Vec::new();
    let contents = Contents::scan(inside);
    state(environment, &mut findings);
    let own_name = environment.name.as_str();
    let machines = roster.iter().map(|(name, entry)| (name, &entry.machine));
    let machines: Vec<_> = machines.filter(|(_, machine)| machine.is_assigned(own_name)).collect();
    // A clone is given an identity of its own.
    let itself = machines.iter().filter(|(_, machine)| !machine.root.is_clone());
    let shared = itself.count() > 1 || roster.default_environment() == Some(own_name);
    let arch = environment.settings.value("arch").unwrap_or_default();
    let arm = matches!(arch, "aarch64" | "arm64");
    // No machine of that architecture has BIOS.
    let firmware: &[_] = if arm {
        &[(Severity::Uefi, Arch::UEFI_ARM64)]
    } else {
        &[(Severity::Bios, Arch::BIOS), (Severity::Uefi, Arch::UEFI_X64)]
    };
    let system = match &contents.system {
        None => {
            findings.push(Finding::both(nothing(&contents)));
            "none"
        }
        Some(System::FreeBsd) => {
            for &(severity, arch) in firmware {
                findings.extend(loaders::freebsd(severity, arch, &contents));
            }
            findings.extend(files::freebsd(inside, environment, shared));
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
    if let Some(system) = &contents.system {
        findings.extend(needed::check(inside, system, &environment.export));
    }
    for (name, machine) in &machines {
        findings.extend(loaders::chosen(name, machine.loader, firmware, &contents, host));
    }
    let unknown = environment
        .export
        .machines
        .iter()
        .filter(|shared| !roster.iter().any(|(name, _)| name.as_str() == shared.as_str()));
    findings.extend(unknown.map(|shared| {
        Finding::doubt(format_args!(
            "it is shared with {shared}, and there is no such machine: add it with `netbe machine \
             add`, or share it anew"
        ))
    }));
    let stops = |own| {
        findings.iter().any(|found| found.severity == own || found.severity == Severity::Both)
    };
    let bios = (!arm).then(|| !stops(Severity::Bios));
    let uefi = !stops(Severity::Uefi);
    Verdict { name: environment.name.to_string(), system, bios, uefi, findings }
}

/// What is wrong between machines and the environments that there are.
pub(crate) fn check_site(roster: &Roster, environments: &[Environment]) -> Vec<Finding> {
    let there = |wanted: &str| environments.iter().any(|found| found.name.as_str() == wanted);
    let mut findings = Vec::new();
    for (name, entry) in roster.iter() {
        let Machine { environment, once, .. } = &entry.machine;
        let mut missing = environment.iter().chain(once).map(|wanted| environment_in(wanted));
        if let Some(wanted) = missing.find(|wanted| !there(wanted)) {
            findings.push(Finding::both(format_args!(
                "{name} is to boot {wanted}, and there is no such environment: give it another with \
                 `netbe sharepxe --machine {name} NAME`"
            )));
        }
    }
    if let Some(wanted) = roster.default_environment().filter(|name| !there(name)) {
        findings.push(Finding::both(format_args!(
            "machines boot {wanted} by default, and there is no such environment: set another with \
             `netbe sharepxe --default NAME`"
        )));
    }
    findings
}

/// What is wrong with data sets that ZFS shares over NFS too.
pub(crate) fn shared_twice(datasets: &[String]) -> Option<Finding> {
    let (first, more) = datasets.split_first()?;
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    Some(Finding::doubt(format_args!(
        "ZFS shares {first}{more} too, to whom its own sharenfs says and whatever netbe's says: run \
         `zfs set sharenfs=off {first}`"
    )))
}

/// What was decided about it, or is not over, that keeps it from being booted.
fn state(environment: &Environment, findings: &mut Vec<Finding>) {
    let name = &environment.name;
    if crate::provision::install::fill::interrupted(environment) {
        findings.push(Finding::both(crate::provision::install::fill::INTERRUPTED));
    } else if environment.role == Role::Off {
        findings.push(Finding::both(format_args!(
            "its role is off: `netbe set role=be {name}` has it served"
        )));
    }
    if name.as_str().contains([' ', ':']) {
        findings.push(Finding::both(format_args!(
            "FreeBSD's loader cuts a root path at a colon, and kernels do at a space: `netbe rename` \
             it"
        )));
    }
}

fn nothing(contents: &Contents) -> &'static str {
    if contents.loaders.is_empty() {
        "there is no system in it: /boot has neither FreeBSD's loader and kernel nor a vmlinuz: run \
         `netbe install`"
    } else {
        "it has a loader and no kernel: for FreeBSD install another environment with the sets base and \
         kernel"
    }
}

#[cfg(test)]
mod test;
