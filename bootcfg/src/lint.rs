//! What is wrong with files that belong together: of a server, of its guests, jails and containers, and of the
//! programs that keep them.
//!
//! Each file is read as its own reader does it, and then compared with the others: the root that a
//! guest is told to mount has to be exported, to it, under that name, by that server. What a file
//! does not say, or only a shell knows, is no finding.

mod exports;
mod fstab;
mod guest;
mod hook;
mod jail;
mod kernel;
mod machines;
mod rcconf;
mod script;
mod site;
mod unit;

use std::str::FromStr;

use crate::rule::Rule;
use crate::{bhyve, import, loader};
use site::{Findings, Site};

/// A file to be looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    /// What it is called in findings.
    pub name: String,
    /// How it is read.
    pub kind: Kind,
    /// What is in it.
    pub text: String,
}

/// Something wrong with a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The rule that is broken.
    pub rule: Rule,
    /// What is wrong and what to write, in one sentence without a full stop or control characters.
    pub message: String,
}

/// How a file is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// bhyve_config(5).
    BhyveConfig,
    /// CBSD's jconf, or its record of an environment.
    Cbsd,
    /// The configuration of Consul, or what is registered there.
    Consul,
    /// A file that dnsmasq's `dhcp-hostsfile` names.
    DhcpHosts,
    /// dhcpd.conf(5) of ISC.
    Dhcpd,
    /// dnsmasq.conf.
    Dnsmasq,
    /// FreeBSD's exports(5).
    Exports,
    /// fstab(5).
    Fstab,
    /// jail.conf(5).
    Jail,
    /// A domain of libvirt.
    Libvirt,
    /// loader.conf(5).
    Loader,
    /// rc.conf(5).
    RcConf,
    /// resolv.conf(5).
    Resolv,
    /// A script of the shell, as with calls of bhyveload(8) and bhyve(8).
    Script,
    /// A unit of systemd, a container's `.nspawn` file, or a `.network` file.
    Unit,
    /// A guest of vm-bhyve.
    VmBhyve,
    /// vmtab.
    Vmtab,
}

/// Names all findings, in the order of the files and their lines.
#[must_use]
pub fn lint(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Findings::default();
    let site = Site::read(sources, &mut findings);
    exports::check(&site, &mut findings);
    fstab::check(&site, &mut findings);
    kernel::check(&site, &mut findings);
    guest::check(&site, &mut findings);
    rcconf::check(&site, &mut findings);
    jail::check(sources, &mut findings);
    unit::check(&site, &mut findings);
    script::check(sources, &mut findings);
    hook::check(sources, &mut findings);
    machines::check(&import::read(sources), &mut findings);
    findings.sorted()
}

impl Kind {
    /// The kind that a file has by its name, or else by what is in it.
    #[must_use]
    pub fn of(name: &str, text: &str) -> Option<Self> {
        Self::by_name(name).or_else(|| Self::by_content(text))
    }

    fn by_name(name: &str) -> Option<Self> {
        let mut parts = name.rsplit('/');
        let (file, folder) = (parts.next()?, parts.next().unwrap_or_default());
        let is = |word: &str| {
            file == word
                || file.strip_prefix(word).is_some_and(|rest| rest.starts_with(['.', '-']))
                || file.strip_suffix(word).is_some_and(|rest| rest.ends_with(['.', '-']))
        };
        let suffix = |suffix: &str| file.len() > suffix.len() && file.ends_with(suffix);
        let of_unit = [".nspawn", ".mount", ".automount", ".network"].into_iter().any(suffix)
            || folder.starts_with("systemd-nspawn@");
        let kinds = [
            (suffix(".jconf") || file.starts_with("rc.conf_"), Self::Cbsd),
            (is("dhcpd.conf"), Self::Dhcpd),
            (is("dnsmasq.conf") || folder == "dnsmasq.d", Self::Dnsmasq),
            (is("jail.conf") || folder == "jail.conf.d", Self::Jail),
            (file.starts_with("jail.") && suffix(".conf"), Self::Jail),
            (is("resolv.conf"), Self::Resolv),
            (of_unit, Self::Unit),
            (is("vmtab"), Self::Vmtab),
            (suffix(".xml"), Self::Libvirt),
            (suffix(".json"), Self::Consul),
            (is("exports"), Self::Exports),
            (is("fstab"), Self::Fstab),
            (is("loader.conf") || folder == "loader.conf.d", Self::Loader),
            (is("rc.conf") || folder == "rc.conf.d", Self::RcConf),
            (is("sh"), Self::Script),
        ];
        kinds.into_iter().find(|(fits, _)| *fits).map(|(_, kind)| kind)
    }

    fn by_content(text: &str) -> Option<Self> {
        if text.starts_with("#!") || !bhyve::read(text).entries.is_empty() {
            return Some(Self::Script);
        }
        let sets = |names: &[&str]| {
            names.iter().all(|name| {
                text.lines()
                    .any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))
            })
        };
        let by_word = [
            (text.trim_start().starts_with('<') && text.contains("<domain"), Self::Libvirt),
            (sets(&["loader", "memory"]), Self::VmBhyve),
            (sets(&["name", "memory.size"]) || sets(&["name", "cpus"]), Self::BhyveConfig),
            (sets(&["jname"]), Self::Cbsd),
            (text.lines().any(|line| line.trim_start().starts_with("dhcp-host=")), Self::Dnsmasq),
            (text.contains("hardware ethernet "), Self::Dhcpd),
            (text.trim_start().starts_with('{') && text.contains('"'), Self::Consul),
        ];
        if let Some((_, kind)) = by_word.into_iter().find(|(fits, _)| *fits) {
            return Some(kind);
        }
        let plain = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let first = text.lines().map(str::trim).find(plain)?;
        let words: Vec<&str> = first.split_whitespace().collect();
        let kind = words.get(2).copied().unwrap_or_default();
        let types = ["nfs", "nfs4", "nullfs", "tmpfs", "ufs", "zfs", "mfs", "swap", "procfs"];
        let variables = loader::read(text).entries;
        let of_loader = |name: &str| name.contains('.') || name.ends_with("_load");
        if words.len() >= 4 && types.contains(&kind) {
            Some(Self::Fstab)
        } else if first.starts_with("V4:") || first.starts_with('/') {
            Some(Self::Exports)
        } else if variables.iter().any(|variable| of_loader(&variable.value.name)) {
            Some(Self::Loader)
        } else {
            (!crate::rcconf::read(text).entries.is_empty()).then_some(Self::RcConf)
        }
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        match text {
            "bhyve" => Ok(Self::BhyveConfig),
            "cbsd" => Ok(Self::Cbsd),
            "consul" => Ok(Self::Consul),
            "dhcp-hosts" => Ok(Self::DhcpHosts),
            "dhcpd" => Ok(Self::Dhcpd),
            "dnsmasq" => Ok(Self::Dnsmasq),
            "exports" => Ok(Self::Exports),
            "fstab" => Ok(Self::Fstab),
            "jail" => Ok(Self::Jail),
            "libvirt" => Ok(Self::Libvirt),
            "loader" => Ok(Self::Loader),
            "rcconf" => Ok(Self::RcConf),
            "resolv" => Ok(Self::Resolv),
            "script" => Ok(Self::Script),
            "unit" => Ok(Self::Unit),
            "vm-bhyve" => Ok(Self::VmBhyve),
            "vmtab" => Ok(Self::Vmtab),
            _ => Err(UnknownKind(text.to_owned())),
        }
    }
}

/// The word for a kind of file is not known.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is no kind of file: write {KINDS}")]
pub struct UnknownKind(String);

/// The words for the kinds of files, for people.
pub const KINDS: &str = "bhyve, cbsd, consul, dhcp-hosts, dhcpd, dnsmasq, exports, fstab, jail, libvirt, loader, rcconf, resolv, script, unit, vm-bhyve or vmtab";

#[cfg(test)]
mod seeds;
#[cfg(test)]
mod test;
