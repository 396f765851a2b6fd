//! What jail.conf(5) and the tables of mounts that it names say of jails.

use std::net::IpAddr;

use super::files::{File, script_name};
use super::{Gathered, Run};
use crate::fstab::{self, Entry};
use crate::jail::file::{self, Found};
use crate::lint::{Kind, Source};
use crate::rule::At;
use crate::shell;

/// The jails of all files, which may include each other.
pub(super) fn gather(sources: &[Source], gathered: &mut Gathered) {
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
        self.run_by(name, line, Run::Jail);
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
