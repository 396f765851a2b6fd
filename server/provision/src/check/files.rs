//! Files of a system that decide whether it lives on a root over NFS.

use bootcfg::lint::{Kind, Source, lint};
use bootcfg::rcconf;
use hostfs::{Inside, InsideError};

use super::Finding;
use crate::roots::identity::{self, HostKeys};

/// What diskless(8) asks for, as far as files can say it. `shared` is whether several machines boot the
/// environment itself.
pub(super) fn freebsd(inside: &Inside, shared: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut sources = Vec::new();
    for (path, kind) in [
        ("/etc/fstab", Kind::Fstab),
        ("/boot/loader.conf", Kind::Loader),
        ("/boot/loader.conf.local", Kind::Loader),
        ("/etc/rc.conf", Kind::RcConf),
    ] {
        sources.extend(source(inside, path, kind, &mut findings));
    }
    if let Some(conf) = sources.iter().find(|source| source.kind == Kind::RcConf) {
        findings.extend(interfaces(&conf.text));
    }
    findings.extend(linted(&sources));
    if shared && filled(inside, "/etc/hostid") {
        findings.push(Finding::doubt(
            "/etc/hostid gives all its machines one identity, by which NFSv4 distinguishes them: remove it, \
             and each machine uses its firmware's",
        ));
    }
    findings
}

/// Whether its Lua loader stops when it fetches by TFTP: those of 12.x list `/boot` in search of kernels
/// unless they are told not to, and TFTP lists nothing. Later ones ask first whether they can.
pub(super) fn lua(inside: &Inside) -> Option<Finding> {
    let text = |path| inside.read_small(path, MAX_TEXT).ok();
    let core = String::from_utf8_lossy(&text("/boot/lua/core.lua")?).into_owned();
    if !core.contains("lfs.dir(\"/boot\")") || core.contains("lfs.attributes(\"/boot\"") {
        return None;
    }
    let files = ["/boot/defaults/loader.conf", "/boot/loader.conf", "/boot/loader.conf.local"];
    let told = files.into_iter().rev().find_map(|path| {
        let text = String::from_utf8_lossy(&text(path)?).into_owned();
        let mut told = bootcfg::loader::read(&text).entries.into_iter().rev();
        told.find(|told| told.value.name == AUTODETECT).map(|told| told.value.value)
    });
    let looks = told.is_some_and(|value| value.eq_ignore_ascii_case("yes"));
    looks.then(|| {
        Finding::doubt(format_args!(
            "its Lua loader stops when it boots by TFTP, which cannot list a directory (core.lua: attempt \
             to call a nil value): netbe sets \
             {AUTODETECT}=\"NO\" for it; if another server has its files, write that into /boot/loader.conf"
        ))
    })
}

/// What a Linux system's files say.
pub(super) fn linux(inside: &Inside, shared: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let sources: Vec<_> =
        source(inside, "/etc/fstab", Kind::Fstab, &mut findings).into_iter().collect();
    if let Some(fstab) = sources.first() {
        let entries = bootcfg::fstab::read(&fstab.text).entries;
        let local = |kind: &str| !matches!(kind, "nfs" | "nfs4" | "rootfs" | "overlay");
        let root = entries.iter().find(|entry| entry.value.file == "/" && local(&entry.value.kind));
        if let Some(root) = root {
            findings.push(Finding::doubt(format_args!(
                "/etc/fstab mounts {} on /, but its root is mounted over NFS: remove the line",
                root.value.spec
            )));
        }
    }
    findings.extend(linted(&sources));
    if shared && filled(inside, "/etc/machine-id") {
        findings.push(Finding::doubt(
            "/etc/machine-id gives all its machines one identity: empty it, and each machine creates its own",
        ));
    }
    findings
}

/// Host keys of an ssh server by which nobody tells its machines apart, or without which it does not start.
/// `shared` is whether several machines boot the environment itself, `itself` whether any does.
pub(super) fn ssh(inside: &Inside, shared: bool, itself: bool) -> Option<Finding> {
    match identity::of_ssh(inside) {
        Ok(HostKeys::Kept) if shared => Some(Finding::doubt(
            "/etc/ssh has host keys, so all its machines look the same to ssh: remove /etc/ssh/ssh_host_*, \
             and give machines that should keep keys of their own `--root own`",
        )),
        Ok(HostKeys::Missing) if itself => Some(Finding::doubt(
            "its ssh server does not start, because /etc/ssh has no host keys and nothing creates them: run \
             `ssh-keygen -A` in it, or give its machines `--root own`: those clones create their keys",
        )),
        Ok(HostKeys::Kept | HostKeys::Missing | HostKeys::Own) => None,
        Err(error) => Some(Finding::doubt(error)),
    }
}

/// A file's text; one that is not there says nothing.
fn source(inside: &Inside, path: &str, kind: Kind, findings: &mut Vec<Finding>) -> Option<Source> {
    match inside.read_small(path, MAX_TEXT) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            Some(Source { name: path.to_owned(), kind, text })
        }
        Err(InsideError::Missing(_)) => None,
        Err(error) => {
            findings.push(Finding::doubt(error));
            None
        }
    }
}

fn linted(sources: &[Source]) -> impl Iterator<Item = Finding> {
    lint(sources).into_iter().map(|found| {
        let bootcfg::lint::Finding { file, line, rule, message } = found;
        Finding::doubt(format_args!("{file}:{line}: {message} [{rule}]"))
    })
}

/// The settings of rc.conf that may take the root away (diskless(8)): which interface the machines
/// boot by is not known here.
fn interfaces(text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for setting in rcconf::read(text).entries {
        let Some(interface) = setting.value.name.strip_prefix("ifconfig_") else { continue };
        let interface = interface.split('_').next().unwrap_or(interface);
        let driver = interface.trim_end_matches(|character: char| character.is_ascii_digit());
        if interface == "DEFAULT" {
            findings.push(Finding::both(format_args!(
                "/etc/rc.conf:{}: ifconfig_DEFAULT configures every interface, also the one of the root: \
                 leave it out",
                setting.line
            )));
        } else if !VIRTUAL.contains(&driver) {
            findings.push(Finding::doubt(format_args!(
                "/etc/rc.conf:{}: a machine that boots by {interface} loses its root when rc.conf \
                 configures it: leave it out",
                setting.line
            )));
        }
    }
    findings
}

fn filled(inside: &Inside, path: &str) -> bool {
    inside.metadata(path).is_ok_and(|found| found.is_file() && found.len() > 1)
}

/// Interfaces that no machine boots by.
const VIRTUAL: [&str; 12] =
    ["bridge", "epair", "gif", "gre", "lagg", "lo", "ng", "tap", "tun", "vlan", "vxlan", "wg"];
/// Has a Lua loader look for all kernels that there are.
const AUTODETECT: &str = "kernels_autodetect";

/// Largest configuration file that is read.
const MAX_TEXT: usize = 1 << 20;
