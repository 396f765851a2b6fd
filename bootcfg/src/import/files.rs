//! What each kind of file says of machines.

use std::net::{IpAddr, Ipv4Addr};

use super::{Fact, Gathered, Place, Run, jails, note, remark};
use crate::bhyve::{self, mebibytes};
use crate::dhcp::hosts::{self, Host};
use crate::exports::{self, Clients, Line};
use crate::fstab;
use crate::lint::{Kind, Source};
use crate::rule::{At, Reading};
use crate::{Mac, cbsd, vmbhyve, vmtab};

pub(super) fn gather(sources: &[Source], gathered: &mut Gathered) {
    jails::gather(sources, gathered);
    for (index, source) in sources.iter().enumerate() {
        let mut file = File { index, source, gathered: &mut *gathered };
        let text = source.text.as_str();
        match source.kind {
            Kind::BhyveConfig => {
                let entries = file.entries(bhyve::config::read(text));
                file.run(1, &bhyve::config::run(&entries), None);
            }
            Kind::Cbsd => {
                let entries = file.entries(cbsd::read(text));
                file.cbsd(&entries);
            }
            Kind::Consul | Kind::Resolv => file.leave(1, "this file has nothing about machines that netbe can import"),
            Kind::DhcpHosts => file.hosts(hosts::dhcp_hosts(text)),
            Kind::Dhcpd => file.hosts(hosts::dhcpd(text)),
            Kind::Dnsmasq => file.hosts(hosts::dnsmasq(text)),
            Kind::Exports => file.exports(),
            Kind::Fstab => file.fstab(sources),
            // They were read together.
            Kind::Jail => {}
            Kind::Libvirt => file.libvirt(),
            Kind::Loader | Kind::RcConf => file.leave(
                1,
                "this file configures one guest without its name: give the script or the table that runs it",
            ),
            Kind::Script => file.script(),
            Kind::Unit => file.unit(),
            Kind::VmBhyve => {
                let entries = file.entries(vmbhyve::read(text));
                file.vm_bhyve(&entries);
            }
            Kind::Vmtab => {
                for at in file.entries(vmtab::read(text)) {
                    let place = file.place(at.line);
                    let known = sources.iter().any(|other| other.name.ends_with(&script_name(&at.value.script)));
                    file.gathered.machine(&at.value.name, &place);
                    file.run_by(&at.value.name, at.line, Run::Bhyve);
                    if !known {
                        file.leave(at.line, format!("{} is defined in {}: give that file too", at.value.name, at.value.script));
                    }
                }
            }
        }
    }
}

/// The name of a script, with a slash in front.
pub(super) fn script_name(path: &str) -> String {
    format!("/{}", path.rsplit('/').next().unwrap_or(path))
}

pub(super) struct File<'s, 'g> {
    pub(super) index: usize,
    pub(super) source: &'s Source,
    pub(super) gathered: &'g mut Gathered,
}

impl File<'_, '_> {
    pub(super) fn place(&self, line: usize) -> Place {
        Place { source: self.index, file: self.source.name.clone(), line }
    }

    pub(super) fn leave(&mut self, line: usize, message: impl AsRef<str>) {
        let place = self.place(line);
        self.gathered.leave(place, message);
    }

    /// What was understood; the rest is left.
    pub(super) fn entries<T>(&mut self, reading: Reading<T>) -> Vec<At<T>> {
        for wrong in reading.diagnostics {
            self.leave(wrong.line, wrong.message);
        }
        reading.entries
    }

    /// The name of a guest by that of its file: `web1.conf`, or the folder for a file that always has one name.
    pub(super) fn stem(&self) -> String {
        let file = self.source.name.rsplit('/').next().unwrap_or_default();
        file.rsplit_once('.').map_or(file, |(stem, _)| stem).to_owned()
    }

    /// Says what a machine's record has no place for.
    pub(super) fn rest(&mut self, line: usize, what: &str, names: &[String]) {
        if !names.is_empty() {
            self.leave(
                line,
                format!("{what} has {} too, for which a machine has no place", names.join(", ")),
            );
        }
    }

    pub(super) fn address(&mut self, name: &str, line: usize, text: &str) {
        let place = self.place(line);
        // CBSD and jails write the length of the network's prefix behind it, and perhaps an interface before it.
        let bare = text.split('/').next().unwrap_or(text);
        let bare = bare.rsplit('|').next().unwrap_or(bare).trim();
        match bare.parse() {
            Ok(IpAddr::V4(address)) => {
                let machine = self.gathered.machine(name, &place);
                note(&mut machine.address, &mut machine.conflicts, address, &place);
            }
            Ok(IpAddr::V6(address)) => {
                self.leave(
                    line,
                    format!("{name}: netbe boots by IPv4, and cannot reserve {address}"),
                );
            }
            Err(_) => self.leave(line, format!("{name}: {text} is no address")),
        }
    }

    pub(super) fn mac(&mut self, name: &str, line: usize, text: &str) {
        let place = self.place(line);
        match Mac::parse(text) {
            Some(mac) => self.gathered.machine(name, &place).mac(mac, &place),
            None => self.leave(line, format!("{name}: {text} is no Ethernet address")),
        }
    }

    pub(super) fn root(&mut self, name: &str, line: usize, path: &str) {
        let place = self.place(line);
        let path =
            path.split_once(":/").map_or_else(|| path.to_owned(), |(_, path)| format!("/{path}"));
        let machine = self.gathered.machine(name, &place);
        note(&mut machine.root, &mut machine.conflicts, path, &place);
    }

    pub(super) fn run_by(&mut self, name: &str, line: usize, run: Run) {
        let place = self.place(line);
        let known = &mut self.gathered.machine(name, &place).run;
        let odd = remark(known, run, &place);
        odd.into_iter().for_each(|odd| self.leave(line, odd));
    }

    pub(super) fn bridge(&mut self, name: &str, line: usize, bridge: &str) {
        let place = self.place(line);
        let known = &mut self.gathered.machine(name, &place).bridge;
        let odd = remark(known, bridge.to_owned(), &place);
        odd.into_iter().for_each(|odd| self.leave(line, odd));
    }

    pub(super) fn memory(&mut self, name: &str, line: usize, text: &str) {
        let place = self.place(line);
        match mebibytes(text) {
            Some(memory) => {
                let known = &mut self.gathered.machine(name, &place).memory;
                let odd = remark(known, memory, &place);
                odd.into_iter().for_each(|odd| self.leave(line, odd));
            }
            None => self.leave(line, format!("{name}: {text} is no size of memory")),
        }
    }

    pub(super) fn cpus(&mut self, name: &str, line: usize, cpus: u16) {
        let place = self.place(line);
        let known = &mut self.gathered.machine(name, &place).cpus;
        let odd = remark(known, cpus, &place);
        odd.into_iter().for_each(|odd| self.leave(line, odd));
    }

    pub(super) fn uuid(&mut self, name: &str, line: usize, uuid: &str) {
        let place = self.place(line);
        let machine = self.gathered.machine(name, &place);
        note(&mut machine.uuid, &mut machine.conflicts, uuid.to_owned(), &place);
    }

    pub(super) fn hosts(&mut self, reading: Reading<Host>) {
        for At { line, value: Host { name, macs, address, root, rest } } in self.entries(reading) {
            let Some(name) = name else {
                self.leave(line, "this machine has no name: add one to the line");
                continue;
            };
            let place = self.place(line);
            self.gathered.machine(&name, &place);
            macs.iter().for_each(|mac| self.gathered.machine(&name, &place).mac(*mac, &place));
            if let Some(address) = address {
                self.address(&name, line, &address.to_string());
            }
            if let Some(root) = root {
                self.root(&name, line, &root);
            }
            self.rest(line, &name, &rest);
        }
    }

    pub(super) fn exports(&mut self) {
        let reading = exports::read(&self.source.text);
        for At { line, value } in self.entries(reading) {
            let Line::Export(export) = value else {
                self.leave(
                    line,
                    "netbe shares each environment by itself, and has no root of NFSv4",
                );
                continue;
            };
            for path in &export.paths {
                let mut words = String::new();
                words += if export.options.read_only { " --ro" } else { "" };
                if let Some(user) = &export.options.maproot {
                    words += &format!(" --maproot {user}");
                }
                match &export.clients {
                    Clients::Hosts(hosts) => {
                        for host in hosts {
                            let fact = Fact { value: path.clone(), place: self.place(line) };
                            match host.parse::<Ipv4Addr>() {
                                Ok(address) => self.gathered.mounts.push((address, fact)),
                                Err(_) => self.leave(
                                    line,
                                    format!("netbe asks no name server for {host}: write its address"),
                                ),
                            }
                        }
                    }
                    Clients::Network(network) => self.leave(
                        line,
                        format!(
                            "{path} is shared with a network, not with a machine: `netbe sharenfs --network \
                             {network}{words} NAME` does that"
                        ),
                    ),
                    Clients::Everybody | Clients::Named(_) => self.leave(
                        line,
                        format!("{path} is shared with clients that netbe does not know: name networks with `netbe sharenfs --network`"),
                    ),
                }
            }
        }
    }

    /// An fstab(5) belongs to a guest whose root it is in, or to a jail, which was read before.
    pub(super) fn fstab(&mut self, sources: &[Source]) {
        let reading = fstab::read(&self.source.text);
        let entries = self.entries(reading);
        let root =
            entries.iter().find(|at| at.value.file == "/" && at.value.kind.starts_with("nfs"));
        let jail =
            sources.iter().any(|other| other.kind == Kind::Jail && other.text.contains(".fstab"));
        let nullfs = entries.iter().any(|at| at.value.kind == "nullfs");
        if nullfs && jail {
            return;
        }
        match root {
            Some(at) => self.leave(
                at.line,
                format!(
                    "{} is the root of a guest that this file does not name: give the file that starts it",
                    at.value.spec
                ),
            ),
            None => self.leave(
                1,
                "this file names no machine: give the file that starts it, or the jail.conf of its jail",
            ),
        }
    }
}
