//! Rules of jail.conf(5), and of the fstab(5) that belongs to a jail.

use super::site::{Findings, In, below};
use super::{Kind, Source};
use crate::fstab;
use crate::jail::file::{self, Found};
use crate::rule::Rule;
use crate::shell;

pub(super) fn check(sources: &[Source], findings: &mut Findings) {
    let own: Vec<(usize, &Source)> =
        sources.iter().enumerate().filter(|(_, source)| source.kind == Kind::Jail).collect();
    let texts: Vec<&str> = own.iter().map(|(_, source)| source.text.as_str()).collect();
    let mut jails = Vec::new();
    for (reading, (source, file)) in file::read(&texts).into_iter().zip(&own) {
        let here = In { source: *source, file: file.name.as_str(), line: 0, value: () };
        let found = findings.entries(&here, reading);
        jails.extend(found.into_iter().map(|at| here.beside(at.line, at.value)));
    }
    for jail in &jails {
        let at = |name: &str| place(&own, jail, name);
        name(jail, findings);
        parameters(&own, jail, findings);
        network(jail, &at, findings);
        teardown(jail, &at, findings);
        mounts(sources, jail, &at, findings);
    }
    twice(&jails, findings);
}

/// Where a parameter of a jail stands, which may be another file.
fn place<'s>(own: &[(usize, &'s Source)], jail: &In<'s, Found>, name: &str) -> In<'s, ()> {
    let found = jail.value.get(name);
    let file =
        found.and_then(|(file, at)| own.get(*file).map(|(source, file)| (*source, *file, at.line)));
    file.map_or_else(
        || jail.beside(jail.line, ()),
        |(source, file, line)| In { source, file: file.name.as_str(), line, value: () },
    )
}

fn name(jail: &In<'_, Found>, findings: &mut Findings) {
    let name = &jail.value.name;
    if name.chars().all(|c| c.is_ascii_digit()) {
        let message =
            format!("jail(8) takes {name} for the number of a jail, not for its name: rename it");
        findings.add(jail, Rule::JailName, message);
    }
}

fn parameters(own: &[(usize, &Source)], jail: &In<'_, Found>, findings: &mut Findings) {
    for (_, at) in &jail.value.parameters {
        let first = at.value.name.split('.').next().unwrap_or_default();
        let plain = first.strip_prefix("no").unwrap_or(first);
        if !KNOWN.contains(&first) && !KNOWN.contains(&plain) {
            let message = format!("jail(8) has no parameter {}: see jail(8)", at.value.name);
            findings.add(&place(own, jail, &at.value.name), Rule::JailParameter, message);
        }
    }
}

type At<'a, 's> = &'a dyn Fn(&str) -> In<'s, ()>;

fn network(jail: &In<'_, Found>, at: At<'_, '_>, findings: &mut Findings) {
    let found = &jail.value;
    let stack = found.has("vnet") || found.values("vnet").iter().any(|value| value == "new");
    if found.get("vnet.interface").is_some() && !stack {
        let message = "vnet.interface is for a jail with a network stack of its own: add vnet";
        findings.add(&at("vnet.interface"), Rule::JailVnet, message);
    }
    for family in ["ip4.addr", "ip6.addr"] {
        if stack && found.get(family).is_some() {
            let message = format!(
                "a jail with a network stack of its own does not use addresses of the host: remove \
                 {family}, and give the address to the jail's interface"
            );
            findings.add(&at(family), Rule::JailAddress, message);
        }
    }
    let start = found.values("exec.start");
    let is_rc = |text: &&String| text.split_whitespace().any(|word| word == "/etc/rc");
    if let Some(rc) = start.iter().position(|text| is_rc(&text)) {
        let sets = |text: &&String| {
            programs(text).iter().any(|words| {
                words
                    .first()
                    .is_some_and(|program| ["ifconfig", "route"].contains(&program.as_str()))
            })
        };
        if stack && start.iter().skip(rc.saturating_add(1)).any(|text| sets(&text)) {
            let message = format!(
                "{}: the network is configured after /etc/rc, whose services then find no address: write \
                 /etc/rc last",
                found.name
            );
            findings.add(&at("exec.start"), Rule::JailNetwork, message);
        }
    }
    for interface in found.values("vnet.interface").iter().chain(found.values("interface")) {
        if interface.len() > 15 {
            let message = format!(
                "{interface} has {} characters, but an interface's name has at most 15",
                interface.len()
            );
            let name = if found.values("interface").contains(interface) {
                "interface"
            } else {
                "vnet.interface"
            };
            findings.add(&at(name), Rule::InterfaceLong, message);
        }
    }
}

/// The commands in a parameter, each as its words, with the program's name alone in front.
fn programs(text: &str) -> Vec<Vec<String>> {
    let commands = shell::commands(text).unwrap_or_default().into_iter();
    let commands = commands.map(|command| {
        let words = command.into_iter().map(|word| word.text);
        let words = words.skip_while(|word| word.contains('=') || word == "exec");
        let mut words: Vec<String> = words.collect();
        if let Some(first) = words.first_mut() {
            *first = first.rsplit('/').next().unwrap_or_default().to_owned();
        }
        words
    });
    commands.filter(|words| !words.is_empty()).collect()
}

fn teardown(jail: &In<'_, Found>, at: At<'_, '_>, findings: &mut Findings) {
    let of = |names: [&str; 3]| -> Vec<Vec<String>> {
        let texts = names.into_iter().flat_map(|name| jail.value.values(name));
        texts.flat_map(|text| programs(text)).collect()
    };
    let made = of(["exec.prepare", "exec.prestart", "exec.created"]);
    let ended = of(["exec.prestop", "exec.poststop", "exec.release"]);
    let has = |list: &[Vec<String>], program: &str, word: &str| {
        list.iter().any(|words| {
            words.first().is_some_and(|first| first == program)
                && words.iter().any(|own| own == word)
        })
    };
    let creates = has(&made, "ifconfig", "create");
    let place = ["exec.prestart", "exec.created", "exec.prepare"]
        .into_iter()
        .find(|name| jail.value.get(name).is_some());
    let place = at(place.unwrap_or("exec.prestart"));
    if creates && !has(&ended, "ifconfig", "destroy") {
        let message = format!(
            "{}: an interface is created, but not destroyed in exec.poststop: the next start fails because \
             it exists",
            jail.value.name
        );
        findings.add(&place, Rule::JailTeardown, message);
    }
    let mounts = |list: &[Vec<String>], program: &str| {
        list.iter().any(|words| words.first().is_some_and(|first| first.starts_with(program)))
    };
    if mounts(&made, "mount") && !mounts(&ended, "umount") {
        let message = format!(
            "{}: a file system is mounted, but not unmounted in exec.poststop",
            jail.value.name
        );
        findings.add(&place, Rule::JailTeardown, message);
    }
}

fn mounts(sources: &[Source], jail: &In<'_, Found>, at: At<'_, '_>, findings: &mut Findings) {
    let found = &jail.value;
    let allowed = found.parameters.iter().any(|(_, at)| at.value.name.starts_with("allow.mount"));
    // It is 2 where nothing is said (jail(8)).
    let statfs = found.values("enforce_statfs").first().map_or("2", String::as_str);
    if allowed && statfs == "2" && found.has("allow.mount") {
        let message = "allow.mount has no effect with enforce_statfs = 2, which is the default: write enforce_statfs = 1";
        findings.add(&at("allow.mount"), Rule::JailMount, message);
    }
    let (Some(file), Some(path)) =
        (found.values("mount.fstab").first(), found.values("path").first())
    else {
        return;
    };
    let name = file.rsplit('/').next().unwrap_or(file);
    let is = |source: &&Source| {
        source.kind == Kind::Fstab && source.name.rsplit('/').next() == Some(name)
    };
    let Some(source) = sources.iter().find(is) else { return };
    let index = sources.iter().position(|other| std::ptr::eq(other, source)).unwrap_or_default();
    let path = path.trim_end_matches('/');
    for entry in fstab::read(&source.text).entries {
        let on = entry.value.file.trim_end_matches('/');
        if on != path && below(on, path).is_none() {
            let message = format!(
                "{on} is not in {path}, the root of the jail {}: write it below",
                found.name
            );
            let here =
                In { source: index, file: source.name.as_str(), line: entry.line, value: () };
            findings.add(&here, Rule::JailMount, message);
        }
    }
}

/// What two jails cannot both have.
fn twice(jails: &[In<'_, Found>], findings: &mut Findings) {
    for (index, jail) in jails.iter().enumerate() {
        for other in jails.iter().take(index) {
            for name in ["vnet.interface", "path"] {
                let same = jail
                    .value
                    .values(name)
                    .iter()
                    .find(|value| other.value.values(name).contains(value));
                if let Some(value) = same {
                    let message = format!(
                        "{} has {name} {value}, which {} ({}) already has: write another",
                        jail.value.name,
                        other.value.name,
                        other.place()
                    );
                    findings.add(jail, Rule::JailTwice, message);
                }
            }
        }
    }
}

/// The first words of jail(8)'s parameters.
const KNOWN: [&str; 40] = [
    "allow",
    "children",
    "command",
    "cpuset",
    "depend",
    "devfs_ruleset",
    "enforce_statfs",
    "env",
    "errmsg",
    "exec",
    "host",
    "hostname",
    "interface",
    "ip",
    "ip4",
    "ip6",
    "ip_hostname",
    "jid",
    "lastjid",
    "linux",
    "meta",
    "mount",
    "name",
    "osreldate",
    "osrelease",
    "parent",
    "path",
    "persist",
    "securelevel",
    "stop",
    "sysvmsg",
    "sysvsem",
    "sysvshm",
    "vnet",
    "zfs",
    "allow_dying",
    "desc",
    "dying",
    "owner",
    "sysvipc",
];
