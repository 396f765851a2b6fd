//! Whether the loader that a firmware needs is there: in the environment, then on the host.

use std::collections::BTreeSet;

use super::{Assigned, Finding, Severity};
use crate::contents::Contents;
use crate::loader::{self, Arch, LoaderChoice};

/// FreeBSD brings its own.
pub(super) fn freebsd(severity: Severity, arch: Arch, contents: &Contents) -> Option<Finding> {
    let path = loader::freebsd_path(arch);
    let name = path.rsplit('/').next().unwrap_or(path);
    if contents.loaders.contains(name) {
        return None;
    }
    // Sets come into empty environments alone.
    Some(Finding::new(
        severity,
        format_args!(
            "{path} is missing: install another environment with the sets base and kernel"
        ),
    ))
}

/// Linux is loaded by iPXE unless something else was chosen.
pub(super) fn linux(
    severity: Severity,
    arch: Arch,
    contents: &Contents,
    host: &BTreeSet<String>,
) -> Option<Finding> {
    let names = loader::ipxe_names(arch);
    if names.iter().any(|name| contents.loaders.contains(*name) || host.contains(*name)) {
        return None;
    }
    let names = names.join(", ");
    let message =
        format!("there is no iPXE ({names}) in it or on this host: install the package ipxe");
    Some(Finding::new(severity, message))
}

/// What was chosen for a machine, whose firmware is not known.
pub(super) fn chosen(
    machine: &Assigned,
    firmware: &[(Severity, Arch)],
    contents: &Contents,
    host: &BTreeSet<String>,
) -> Vec<Finding> {
    let Assigned { name, loader: choice, .. } = machine;
    if matches!(choice, LoaderChoice::Auto | LoaderChoice::Ipxe) {
        return Vec::new();
    }
    let there = |part: &loader::Part| {
        part.files.iter().any(|file| contents.loaders.contains(*file) || host.contains(*file))
    };
    let mut missing = Vec::new();
    for (_, arch) in firmware {
        for part in loader::chosen_parts(*choice, *arch).iter().filter(|part| !there(part)) {
            missing.push(Finding::doubt(format_args!(
                "{name} boots by {}, which is missing: {}",
                part.name, part.remedy
            )));
        }
    }
    missing.dedup();
    missing
}
