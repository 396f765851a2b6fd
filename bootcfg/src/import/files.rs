//! What each kind of file says of machines.

use std::net::{IpAddr, Ipv4Addr};

use super::{Fact, Gathered, Place, note, remark};
use crate::bhyve::{self, Run, Step, mebibytes};
use crate::dhcp::hosts::{self, Host};
use crate::exports::{self, Clients, Line};
use crate::fstab::{self, Entry};
use crate::jail::file::{self, Found};
use crate::lint::{Kind, Source};
use crate::loader::Variable;
use crate::rule::{At, Reading};
use crate::{Mac, cbsd, libvirt, shell, unit, vmbhyve, vmtab};

pub(super) fn gather(sources: &[Source], gathered: &mut Gathered) {
    jails(sources, gathered);
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
            Kind::Consul | Kind::Resolv => file.leave(1, "this file says nothing of machines that netbe keeps"),
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
                "this file is of one guest, and does not name it: give the script or the table that runs it",
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
                    if !known {
                        file.leave(at.line, format!("what {} is stands in {}: give that file too", at.value.name, at.value.script));
                    }
                }
            }
        }
    }
}

/// The name of a script, with a slash in front.
fn script_name(path: &str) -> String {
    format!("/{}", path.rsplit('/').next().unwrap_or(path))
}

struct File<'s, 'g> {
    index: usize,
    source: &'s Source,
    gathered: &'g mut Gathered,
}

impl File<'_, '_> {
    fn place(&self, line: usize) -> Place {
        Place { source: self.index, file: self.source.name.clone(), line }
    }

    fn leave(&mut self, line: usize, message: impl AsRef<str>) {
        let place = self.place(line);
        self.gathered.leave(place, message);
    }

    /// What was understood; the rest is left.
    fn entries<T>(&mut self, reading: Reading<T>) -> Vec<At<T>> {
        for wrong in reading.diagnostics {
            self.leave(wrong.line, wrong.message);
        }
        reading.entries
    }

    /// The name of a guest by that of its file: `web1.conf`, or the folder for a file that always has one name.
    fn stem(&self) -> String {
        let file = self.source.name.rsplit('/').next().unwrap_or_default();
        file.rsplit_once('.').map_or(file, |(stem, _)| stem).to_owned()
    }

    /// Says what a machine's record has no place for.
    fn rest(&mut self, line: usize, what: &str, names: &[String]) {
        if !names.is_empty() {
            self.leave(
                line,
                format!("{what} has {} too, for which a machine has no place", names.join(", ")),
            );
        }
    }

    fn address(&mut self, name: &str, line: usize, text: &str) {
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
                self.leave(line, format!("{name}: netbe boots by IPv4, and keeps no {address}"));
            }
            Err(_) => self.leave(line, format!("{name}: {text} is no address")),
        }
    }

    fn mac(&mut self, name: &str, line: usize, text: &str) {
        let place = self.place(line);
        match Mac::parse(text) {
            Some(mac) => self.gathered.machine(name, &place).mac(mac, &place),
            None => self.leave(line, format!("{name}: {text} is no Ethernet address")),
        }
    }

    fn root(&mut self, name: &str, line: usize, path: &str) {
        let place = self.place(line);
        let path =
            path.split_once(":/").map_or_else(|| path.to_owned(), |(_, path)| format!("/{path}"));
        let machine = self.gathered.machine(name, &place);
        note(&mut machine.root, &mut machine.conflicts, path, &place);
    }

    fn bridge(&mut self, name: &str, line: usize, bridge: &str) {
        let place = self.place(line);
        let known = &mut self.gathered.machine(name, &place).bridge;
        let odd = remark(known, bridge.to_owned(), &place);
        odd.into_iter().for_each(|odd| self.leave(line, odd));
    }

    fn memory(&mut self, name: &str, line: usize, text: &str) {
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

    fn cpus(&mut self, name: &str, line: usize, cpus: u16) {
        let place = self.place(line);
        let known = &mut self.gathered.machine(name, &place).cpus;
        let odd = remark(known, cpus, &place);
        odd.into_iter().for_each(|odd| self.leave(line, odd));
    }

    fn uuid(&mut self, name: &str, line: usize, uuid: &str) {
        let place = self.place(line);
        let machine = self.gathered.machine(name, &place);
        note(&mut machine.uuid, &mut machine.conflicts, uuid.to_owned(), &place);
    }

    fn hosts(&mut self, reading: Reading<Host>) {
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

    fn script(&mut self) {
        let reading = bhyve::read(&self.source.text);
        let steps = self.entries(reading);
        let mut bridge = None;
        for command in shell::commands(&self.source.text).unwrap_or_default() {
            let words: Vec<&str> = command.iter().map(|word| word.text.as_str()).collect();
            let at = words.iter().position(|word| word.rsplit('/').next() == Some("ifconfig"));
            let words = at.and_then(|at| words.get(at..)).unwrap_or_default();
            if let [_, name, "addm", ..] = words {
                bridge = Some((command.first().map_or(1, |word| word.line), (*name).to_owned()));
            }
        }
        for step in steps {
            match step.value {
                Step::Load(load) => {
                    let Some(name) = load.name else {
                        self.leave(
                            step.line,
                            "the shell makes the name of this guest, and netbe does not run it",
                        );
                        continue;
                    };
                    let place = self.place(step.line);
                    self.gathered.machine(&name, &place);
                    // Of equal names the first counts.
                    let find = |wanted: &str| {
                        load.variables.iter().find(|at| at.value.name == wanted).cloned()
                    };
                    if let Some(at) = find("boot.netif.hwaddr") {
                        self.mac(&name, at.line, &at.value.value);
                    }
                    if let Some(at) = find("boot.netif.ip") {
                        self.address(&name, at.line, &at.value.value);
                    }
                    if let Some(at) = find("boot.nfsroot.path") {
                        self.root(&name, at.line, &at.value.value);
                    }
                    if let Some(memory) = &load.memory {
                        self.memory(&name, memory.line, &memory.value);
                    }
                    for unknown in &load.unknown {
                        self.leave(step.line, format!("{name}: the shell makes the value of {unknown}, and netbe does not run it"));
                    }
                }
                Step::Run(run) => self.run(step.line, &run, bridge.clone()),
            }
        }
    }

    fn run(&mut self, line: usize, run: &Run, bridge: Option<(usize, String)>) {
        let Some(name) = &run.name else {
            return self.leave(
                line,
                "the name of this guest is not written here: write it into the command or the file",
            );
        };
        let place = self.place(line);
        self.gathered.machine(name, &place);
        for device in &run.devices {
            match &device.value.mac {
                Some(mac) => self.mac(name, device.line, mac),
                None => self.leave(
                    device.line,
                    format!("{name}: bhyve makes this card's Ethernet address from its slot and name: add mac="),
                ),
            }
        }
        if let Some(memory) = &run.memory {
            self.memory(name, memory.line, &memory.value);
        }
        if let Some(cpus) = run.cpus {
            self.cpus(name, line, cpus);
        }
        if let Some((line, bridge)) = bridge {
            self.bridge(name, line, &bridge);
        }
    }

    fn vm_bhyve(&mut self, settings: &[At<Variable>]) {
        let (name, place) = (self.stem(), self.place(1));
        self.gathered.machine(&name, &place);
        let mut rest = Vec::new();
        for At { line, value: Variable { name: key, value } } in settings {
            match key.as_str() {
                "cpu" => match value.parse() {
                    Ok(cpus) => self.cpus(&name, *line, cpus),
                    Err(_) => {
                        self.leave(*line, format!("{name}: {value} is no number of processors"))
                    }
                },
                "memory" => self.memory(&name, *line, value),
                "uuid" if !value.is_empty() => self.uuid(&name, *line, value),
                "loader" | "uuid" => {}
                "network0_switch" => self.bridge(&name, *line, &format!("vm-{value}")),
                key if key.starts_with("network") && key.ends_with("_mac") => {
                    self.mac(&name, *line, value)
                }
                key if key.starts_with("network")
                    && (key.ends_with("_type") || key.ends_with("_switch")) => {}
                _ => rest.push(key.to_owned()),
            }
        }
        self.rest(1, &name, &rest);
    }

    fn cbsd(&mut self, settings: &[At<Variable>]) {
        let find = |wanted: &str| {
            let found = settings.iter().find(|at| at.value.name == wanted);
            found.filter(|at| !["", "0"].contains(&at.value.value.as_str()))
        };
        let Some(At { line, value }) = find("jname") else {
            return self.leave(1, "no jname stands here, which is the name: add it");
        };
        let (name, place) = (value.value.clone(), self.place(*line));
        self.gathered.machine(&name, &place);
        if let Some(at) = find("nic_hwaddr") {
            self.mac(&name, at.line, &at.value.value);
        }
        if let Some(at) = find("ip4_addr") {
            let mut addresses =
                at.value.value.split(',').filter(|one| !one.eq_ignore_ascii_case("dhcp"));
            if let Some(first) = addresses.next() {
                self.address(&name, at.line, first);
            }
            let more: Vec<String> = addresses.map(str::to_owned).collect();
            self.rest(at.line, &name, &more);
        }
        if let Some(at) = find("vm_ram") {
            self.memory(&name, at.line, &at.value.value);
        }
        if let Some(at) = find("vm_cpus") {
            match at.value.value.parse() {
                Ok(cpus) => self.cpus(&name, at.line, cpus),
                Err(_) => self.leave(
                    at.line,
                    format!("{name}: {} is no number of processors", at.value.value),
                ),
            }
        }
        if let Some(at) = find("uuid") {
            self.uuid(&name, at.line, &at.value.value);
        }
        if let Some(at) = find("interface").filter(|at| at.value.value.starts_with("bridge")) {
            self.bridge(&name, at.line, &at.value.value);
        }
        let is_jail =
            find("emulator").is_none_or(|at| at.value.value == "jail") && find("vm_ram").is_none();
        if let Some(at) = find("data").filter(|_| is_jail) {
            self.root(&name, at.line, &at.value.value);
        }
        let hooks = [
            "mnt_start",
            "mnt_stop",
            "exec_master_poststart",
            "exec_master_prestart",
            "exec_prestart",
        ];
        let rest: Vec<String> =
            hooks.iter().filter(|hook| find(hook).is_some()).map(|&hook| hook.to_owned()).collect();
        self.rest(1, &name, &rest);
    }

    fn exports(&mut self) {
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
                        format!("{path} is shared with whom netbe does not know: say networks with `netbe sharenfs --network`"),
                    ),
                }
            }
        }
    }

    /// An fstab(5) belongs to a guest whose root it is in, or to a jail, which was read before.
    fn fstab(&mut self, sources: &[Source]) {
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
                    "{} is the root of a guest that this file does not name: give what starts it",
                    at.value.spec
                ),
            ),
            None => self.leave(
                1,
                "this file names no machine: give what starts it, or the jail.conf of its jail",
            ),
        }
    }

    fn libvirt(&mut self) {
        let reading = libvirt::read(&self.source.text);
        for At { line, value: domain } in self.entries(reading) {
            let place = self.place(line);
            let name = domain.name.as_str();
            self.gathered.machine(name, &place);
            for card in &domain.cards {
                if let Some(mac) = &card.mac {
                    self.mac(name, line, mac);
                }
            }
            if let Some(bridge) = domain.cards.first().and_then(|card| card.bridge.as_ref()) {
                self.bridge(name, line, bridge);
            }
            if domain.memory > 0 {
                self.memory(name, line, &format!("{}M", domain.memory));
            }
            self.cpus(name, line, domain.cpus);
        }
    }

    /// Files of systemd: a container, its network, its drop-in, and the mount of its root.
    fn unit(&mut self) {
        let reading = unit::read(&self.source.text);
        let sections = self.entries(reading);
        let folder = self.source.name.rsplit('/').nth(1).unwrap_or_default();
        let of_drop_in =
            folder.strip_prefix("systemd-nspawn@").and_then(|rest| rest.strip_suffix(".service.d"));
        let is = |suffix: &str| self.source.name.ends_with(suffix);
        let (nspawn, network, mount) = (is(".nspawn"), is(".network"), is(".mount"));
        let name = of_drop_in.map_or_else(|| self.stem(), str::to_owned);
        let (mut rest, mut at_line) = (Vec::new(), 1);
        let mut mounted = (None, None);
        if nspawn {
            let place = self.place(1);
            self.gathered.machine(&name, &place);
        }
        for At { line, value: section } in &sections {
            for (key, value) in &section.settings {
                match (section.name.as_str(), key.as_str()) {
                    ("Network", "Bridge") if nspawn => self.bridge(&name, *line, value),
                    ("Exec", "Boot" | "PrivateUsers" | "Hostname")
                    | ("Network", "Private" | "VirtualEthernet")
                        if nspawn => {}
                    ("Files", "PrivateUsersOwnership" | "BindReadOnly") if nspawn => {}
                    (_, key) if nspawn => {
                        at_line = *line;
                        rest.push(format!("{}=", key));
                    }
                    ("Link", "MACAddress") if network => self.mac(&name, *line, value),
                    ("Network" | "Address", "Address") if network => {
                        self.address(&name, *line, value)
                    }
                    ("Service", "Environment") if of_drop_in.is_some() => {
                        if let Some(mac) =
                            value.trim_matches('"').strip_prefix("SYSTEMD_NSPAWN_NETWORK_MAC=")
                        {
                            self.mac(&name, *line, mac);
                        }
                    }
                    ("Mount", "What") if mount => mounted.0 = Some((*line, value.clone())),
                    ("Mount", "Where") if mount => mounted.1 = Some(value.clone()),
                    _ => {}
                }
            }
        }
        if let (Some((line, what)), Some(at)) = mounted {
            match at.strip_prefix("/var/lib/machines/").or_else(|| at.strip_prefix("/var/lib/container/")) {
                Some(container) if !container.contains('/') => self.root(container, line, &what),
                _ => self.leave(line, format!("{what} is mounted on {at}, which is no container's: netbe mounts nothing here")),
            }
        } else if !nspawn && !network && of_drop_in.is_none() {
            self.leave(1, "this unit is of no container: give .nspawn, .network and .mount files");
        }
        self.rest(at_line, &name, &rest);
    }
}

/// The jails of all files, which may include each other.
fn jails(sources: &[Source], gathered: &mut Gathered) {
    let own: Vec<(usize, &Source)> =
        sources.iter().enumerate().filter(|(_, source)| source.kind == Kind::Jail).collect();
    let texts: Vec<&str> = own.iter().map(|(_, source)| source.text.as_str()).collect();
    for (reading, (index, source)) in file::read(&texts).into_iter().zip(&own) {
        let mut file = File { index: *index, source, gathered: &mut *gathered };
        for At { value, .. } in file.entries(reading) {
            file.jail(&value, sources);
        }
    }
}

impl File<'_, '_> {
    fn jail(&mut self, jail: &Found, sources: &[Source]) {
        let (name, line) = (jail.name.as_str(), jail.line);
        if name.chars().all(|c| c.is_ascii_digit()) {
            return self.leave(
                line,
                format!("jail(8) takes {name} for the number of a jail: give it a name"),
            );
        }
        let place = self.place(line);
        self.gathered.machine(name, &place);
        let mut more = Vec::new();
        let mut addresses: Vec<String> = jail.values("ip4.addr").to_vec();
        // What is run outside of the jail sets addresses of the host.
        let commands =
            ["exec.prepare", "exec.prestart", "exec.created", "exec.start", "exec.poststart"];
        let commands = commands.iter().flat_map(|name| {
            jail.values(name).iter().map(move |text| (*name == "exec.start", text))
        });
        let own = jail.values("vnet.interface");
        let mut routers = 0;
        for (inside, text) in commands {
            for command in shell::commands(text).unwrap_or_default() {
                let words: Vec<&str> = command.iter().map(|word| word.text.as_str()).collect();
                let at = words.iter().position(|word| word.rsplit('/').next() == Some("ifconfig"));
                let Some(words) = at.and_then(|at| words.get(at..)) else {
                    let routes = words.first().is_some_and(|word| word.ends_with("route"));
                    routers += usize::from(inside && routes);
                    continue;
                };
                let its =
                    inside || words.get(1).is_some_and(|word| own.iter().any(|own| own == word));
                for pair in words.windows(2) {
                    match pair {
                        ["ether" | "link" | "lladdr", mac] if its => self.mac(name, line, mac),
                        ["addm", _] => {
                            if let Some(bridge) = words.get(1) {
                                self.bridge(name, line, bridge);
                            }
                        }
                        [_, address] if inside && jail.has("vnet") => {
                            let bare = address.split('/').next().unwrap_or(address);
                            if address.contains('/') && bare.parse::<IpAddr>().is_ok() {
                                addresses.push((*address).to_owned());
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        let mut addresses = addresses.into_iter();
        if let Some(first) = addresses.next() {
            self.address(name, line, &first);
        }
        more.extend(addresses.map(|address| format!("the address {address}")));
        more.extend(jail.values("ip6.addr").iter().map(|address| format!("the address {address}")));
        more.extend((routers > 0).then(|| "a router".to_owned()));
        self.rest(line, name, &more);
        let mounts = jail.values("mount.fstab").first().and_then(|file| thin(file, sources));
        match (mounts, jail.values("path").first()) {
            (Some(skeleton), _) => self.root(name, line, &skeleton),
            (None, Some(path)) => self.root(name, line, path),
            (None, None) => {}
        }
    }
}

/// What a thin jail has for its own, by its fstab(5) if that was given.
fn thin(fstab: &str, sources: &[Source]) -> Option<String> {
    let name = script_name(fstab);
    let is = |source: &&Source| {
        source.kind == Kind::Fstab && format!("/{}", source.name).ends_with(&name)
    };
    let entries = fstab::read(&sources.iter().find(is)?.text).entries;
    let own = |at: &&At<Entry>| {
        at.value.kind == "nullfs" && at.value.file.trim_end_matches('/').ends_with("/skeleton")
    };
    entries.iter().find(own).map(|at| at.value.spec.clone())
}
