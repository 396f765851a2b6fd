//! What scripts and files of hypervisors say of their guests.

use super::Run;
use super::files::File;
use crate::bhyve::{self, Step};
use crate::loader::Variable;
use crate::rule::At;
use crate::{libvirt, shell};

impl File<'_, '_> {
    pub(super) fn script(&mut self) {
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
                            "a shell computes the name of this guest, and netbe does not run the shell",
                        );
                        continue;
                    };
                    self.run_by(&name, step.line, Run::Bhyve);
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
                        self.leave(step.line, format!("{name}: a shell computes the value of {unknown}, and netbe does not run the shell"));
                    }
                }
                Step::Run(run) => self.run(step.line, &run, bridge.clone()),
            }
        }
    }

    pub(super) fn run(&mut self, line: usize, run: &bhyve::Run, bridge: Option<(usize, String)>) {
        let Some(name) = &run.name else {
            return self.leave(
                line,
                "the name of this guest is not written here: write it into the command or the file",
            );
        };
        self.run_by(name, line, Run::Bhyve);
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

    pub(super) fn vm_bhyve(&mut self, settings: &[At<Variable>]) {
        let name = self.stem();
        self.run_by(&name, 1, Run::Bhyve);
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

    pub(super) fn cbsd(&mut self, settings: &[At<Variable>]) {
        let find = |wanted: &str| {
            let found = settings.iter().find(|at| at.value.name == wanted);
            found.filter(|at| !["", "0"].contains(&at.value.value.as_str()))
        };
        let Some(At { line, value }) = find("jname") else {
            return self.leave(1, "jname, which is the name, is missing: add it");
        };
        let name = value.value.clone();
        let is_jail =
            find("emulator").is_none_or(|at| at.value.value == "jail") && find("vm_ram").is_none();
        match find("emulator").map_or("", |at| at.value.value.as_str()) {
            "bhyve" | "" | "jail" => {
                self.run_by(&name, *line, if is_jail { Run::Jail } else { Run::Bhyve })
            }
            "qemu" => self.run_by(&name, *line, Run::Qemu),
            other => {
                let place = self.place(*line);
                self.gathered.machine(&name, &place);
                self.leave(
                    *line,
                    format!("{name} is run by {other}, by which netbe runs no guest"),
                );
            }
        }
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

    pub(super) fn libvirt(&mut self) {
        let reading = libvirt::read(&self.source.text);
        for At { line, value: domain } in self.entries(reading) {
            let place = self.place(line);
            let name = domain.name.as_str();
            self.gathered.machine(name, &place);
            match domain.by.as_str() {
                "kvm" | "qemu" => self.run_by(name, line, Run::Qemu),
                "bhyve" => self.run_by(name, line, Run::Bhyve),
                "" => {}
                other => self
                    .leave(line, format!("{name} is run by {other}, by which netbe runs no guest")),
            }
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
}
