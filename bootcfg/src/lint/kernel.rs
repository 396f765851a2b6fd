//! Rules of the variables with which a kernel mounts its root (sys/nfs/nfs_diskless.c).

use std::net::Ipv4Addr;

use super::fstab::not_exported;
use super::site::{Environment, Findings, In, Site, admits, trimmed};
use crate::exports::prefix_of;
use crate::loader::{self, MAX_READ_SIZE, READ_SIZE, Variable};
use crate::rule::Rule;
use crate::{Mac, exports};

pub(super) fn check(site: &Site<'_>, findings: &mut Findings) {
    for environment in &site.environments() {
        once(environment, findings);
        forms(environment, findings);
        gateway(environment, findings);
        handle(environment, findings);
        mountfrom(environment, findings);
        exported(site, environment, findings);
        if environment.load.is_some() {
            complete(site, environment, findings);
        }
    }
    overridden(site, findings);
    read_size(site, findings);
}

fn once(environment: &Environment<'_>, findings: &mut Findings) {
    for (index, variable) in environment.variables.iter().enumerate() {
        let Variable { name, value } = &variable.value;
        let earlier = environment.variables.iter().take(index);
        let first = earlier.into_iter().find(|other| other.value.name == *name);
        if let Some(first) = first.filter(|first| first.value.value != *value) {
            let message =
                format!("{name} is set twice, and {} counts: leave this one out", first.place());
            findings.add(variable, Rule::Twice, message);
        }
        // KENV_MNAMELEN and KENV_MVALLEN are 128 each.
        let len = name.len() + 1 + value.len();
        if len > 256 {
            let message = format!(
                "{name} and its value have {len} bytes, and the kernel drops more than 256"
            );
            findings.add(variable, Rule::KenvLong, message);
        }
    }
}

fn forms(environment: &Environment<'_>, findings: &mut Findings) {
    for variable in &environment.variables {
        let Variable { name, value } = &variable.value;
        let address = value.parse::<Ipv4Addr>();
        let wrong = match name.as_str() {
            "boot.netif.gateway" | "boot.netif.ip" | "boot.nfsroot.server" => {
                address.is_err().then_some("write an IPv4 address")
            }
            "boot.netif.netmask" => {
                address.ok().and_then(prefix_of).is_none().then_some("write one as 255.255.255.0")
            }
            "boot.netif.hwaddr" => {
                Mac::parse(value).is_none().then_some("write one as 02:01:02:03:04:05")
            }
            _ => None,
        };
        if let Some(advice) = wrong {
            let message = format!("the kernel cannot read {value:?} for {name}: {advice}");
            findings.add(variable, Rule::Address, message);
        }
        if name == "boot.nfsroot.options" {
            let words = value.split([':', ';', ',', ' ']).filter(|word| !word.is_empty());
            for word in words.filter(|word| !is_option(word)) {
                let message = format!(
                    "the kernel's NFS root has no option {word}, and skips it: write soft, intr, \
                     conn, nolockd, nocto, nfsv2, nfsv3, tcp, udp, rsize= or wsize="
                );
                findings.add(variable, Rule::NfsOption, message);
            }
        }
    }
}

fn is_option(word: &str) -> bool {
    let flags = ["soft", "intr", "conn", "nolockd", "nocto", "nfsv2", "nfsv3", "tcp", "udp"];
    let size = word.strip_prefix("rsize=").or_else(|| word.strip_prefix("wsize="));
    let fits = |size: &str| size.parse().is_ok_and(|size: u32| (4..=32_768).contains(&size));
    flags.contains(&word) || size.is_some_and(fits)
}

fn gateway(environment: &Environment<'_>, findings: &mut Findings) {
    let Some(variable) = environment.find("boot.netif.gateway") else { return };
    let address = |name| environment.value(name).and_then(|text| text.parse::<Ipv4Addr>().ok());
    let Some(((gateway, ip), mask)) = address("boot.netif.gateway")
        .zip(address("boot.netif.ip"))
        .zip(address("boot.netif.netmask"))
    else {
        return;
    };
    let differ = (gateway.to_bits() ^ ip.to_bits()) & mask.to_bits() != 0;
    if differ && !gateway.is_unspecified() {
        let message = format!(
            "the router {gateway} is not in the network of {ip} with {mask}, and the kernel panics: write a \
             router of that network"
        );
        findings.add(variable, Rule::Gateway, message);
    }
}

fn handle(environment: &Environment<'_>, findings: &mut Findings) {
    let length = environment.find("boot.nfsroot.nfshandlelen");
    let Some(handle) = environment.find("boot.nfsroot.nfshandle") else { return };
    let text = handle.value.value.as_str();
    let digits = text.strip_prefix(['X', 'x']).and_then(|text| text.strip_suffix(['X', 'x']));
    let digits = digits.filter(|digits| {
        let hexadecimal = digits.chars().all(|digit| digit.is_ascii_hexdigit());
        hexadecimal && digits.len() % 2 == 0 && (1..=64).contains(&(digits.len() / 2))
    });
    if digits.is_none() {
        let message = format!(
            "the kernel cannot read the handle {text:?}: write X, two hexadecimal digits for each \
             of its 1 to 64 bytes, and X"
        );
        findings.add(handle, Rule::HandleForm, message);
    }
    match (length, digits) {
        (None, _) if knows(environment, "boot.nfsroot.nfshandlelen") => {}
        (None, digits) => {
            let len = digits.map_or(28, |digits| digits.len() / 2);
            let message = format!(
                "without boot.nfsroot.nfshandlelen the kernel takes the handle for one of NFSv2: \
                 set it to {len}"
            );
            findings.add(handle, Rule::HandleLength, message);
        }
        (Some(length), Some(digits)) => {
            let len = digits.len() / 2;
            if length.value.value.parse() != Ok(len) {
                let message = format!(
                    "the handle at {} has {len} bytes, not {}: write {len}",
                    handle.place(),
                    length.value.value
                );
                findings.add(length, Rule::HandleLength, message);
            }
        }
        (Some(_), None) => {}
    }
}

/// The kernel's BOOTP code takes a `vfs.root.mountfrom` with NFS in it whatever else it was told
/// (sys/nfs/bootp_subr.c), others take the variables of the root.
fn mountfrom(environment: &Environment<'_>, findings: &mut Findings) {
    let Some(variable) = environment.find("vfs.root.mountfrom") else { return };
    let Some(source) = variable.value.value.strip_prefix("nfs:") else { return };
    let (server, path) = match source.split_once(":/") {
        Some((server, _)) => (Some(server), source.get(server.len() + 1..).unwrap_or_default()),
        None => (None, source),
    };
    let root = environment.find("boot.nfsroot.server");
    if let Some((server, root)) = server.zip(root).filter(|(own, root)| *own != root.value.value) {
        let message = format!(
            "the root is mounted from {server} here, but from {} by boot.nfsroot.server ({}): write \
             one server",
            root.value.value,
            root.place()
        );
        findings.add(variable, Rule::ServerDiffers, message);
    }
    let root = environment.find("boot.nfsroot.path");
    if let Some(root) =
        root.filter(|root| !path.is_empty() && trimmed(path) != trimmed(&root.value.value))
    {
        let message = format!(
            "the root is {path} here, but {} by boot.nfsroot.path ({}): write one path",
            root.value.value,
            root.place()
        );
        findings.add(variable, Rule::PathDiffers, message);
    }
}

fn exported(site: &Site<'_>, environment: &Environment<'_>, findings: &mut Findings) {
    let Some(variable) = environment.find("boot.nfsroot.path") else { return };
    if site.exports.is_empty() {
        return;
    }
    let path = trimmed(&variable.value.value);
    let lines = site.exporting(path);
    if lines.is_empty() {
        not_exported(site, variable, path, findings);
        return;
    }
    let Some(address) = environment.value("boot.netif.ip").and_then(|text| text.parse().ok())
    else {
        return;
    };
    let clients = |line: &&In<'_, exports::Export>| admits(&line.value.clients, address);
    if let Some(line) = lines.first().filter(|_| !lines.iter().any(clients)) {
        let message = format!(
            "{path} is exported ({}), but not to {address}: add the guest's network to the exports",
            line.place()
        );
        findings.add(variable, Rule::NotExportedTo, message);
    }
}

/// What a kernel that bhyveload(8) loads has to be told, for its loader has no network.
fn complete(site: &Site<'_>, environment: &Environment<'_>, findings: &mut Findings) {
    let Some(load) = &environment.load else { return };
    let set = |name: &str| {
        let later = site.loader.iter().any(|variable| variable.value.name == name);
        later || environment.find(name).is_some() || knows(environment, name)
    };
    if !environment
        .variables
        .iter()
        .any(|variable| variable.value.name.starts_with("boot.nfsroot."))
    {
        return;
    }
    for name in ["boot.netif.hwaddr", "boot.netif.ip", "boot.netif.netmask"] {
        if !set(name) {
            let message = format!("the kernel finds no interface without {name}: add -e {name}=");
            findings.add(load, Rule::NetifMissing, message);
        }
    }
    for name in ["boot.nfsroot.server", "boot.nfsroot.nfshandle"] {
        if !set(name) {
            let message = format!(
                "the kernel mounts no root without {name}: add -e {name}=, as `netbe show bhyveload` prints it"
            );
            findings.add(load, Rule::HandleMissing, message);
        }
    }
    let options = "boot.nfsroot.options";
    let own = environment.find(options);
    let later = site.loader.iter().rev().find(|variable| variable.value.name == options);
    let told = later.or(own).is_some_and(|variable| variable.value.value.contains("nolockd"));
    if !told && !knows(environment, options) {
        let place = own.map_or_else(|| load.beside(load.line, ()), |own| own.beside(own.line, ()));
        let message = "every lock on the root fails, because netbe has no locks: add -e \
                       boot.nfsroot.options=nolockd, which keeps locks in the guest";
        findings.add(&place, Rule::Nolockd, message);
    }
}

/// Whether a variable is set to something that only the shell knows.
fn knows(environment: &Environment<'_>, name: &str) -> bool {
    let load = environment.load.as_ref();
    load.is_some_and(|load| load.value.unknown.iter().any(|unknown| unknown == name))
}

/// The loader reads loader.conf(5) after its arguments, and the file wins.
fn overridden(site: &Site<'_>, findings: &mut Findings) {
    for variable in &site.loader {
        let Variable { name, value } = &variable.value;
        let told = site
            .loads
            .iter()
            .flat_map(|load| load.value.variables.iter().map(|at| load.beside(at.line, &at.value)));
        let mut other = told.filter(|told| told.value.name == *name && told.value.value != *value);
        if let Some(told) = other.next() {
            let message = format!(
                "this overrides {name}={} of {}: leave it out here",
                told.value.value,
                told.place()
            );
            findings.add(variable, Rule::Overridden, message);
        }
    }
}

/// A loader reads by so much at once over NFS, and cannot put the fragments of a longer reply together.
fn read_size(site: &Site<'_>, findings: &mut Findings) {
    for variable in &site.loader {
        let Variable { name, value } = &variable.value;
        if name == READ_SIZE && loader::number(value).is_some_and(|size| size > MAX_READ_SIZE) {
            let message = format!(
                "the loader waits for ever when it fetches by NFS, because it cannot reassemble IP \
                 fragments: write {READ_SIZE}=\"{MAX_READ_SIZE}\" at most, or leave it out"
            );
            findings.add(variable, Rule::ReadSize, message);
        }
    }
}
