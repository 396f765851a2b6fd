//! Rules of CBSD's hooks and of Consul, which they register with; and of services of NFS in rc.conf(5), as
//! sysrc(8) sets them.

use std::collections::BTreeMap;

use super::site::{Findings, In};
use super::{Kind, Source};
use crate::rcconf;
use crate::rule::Rule;
use crate::shell;

pub(super) fn check(sources: &[Source], findings: &mut Findings) {
    let registers = sources.iter().any(|source| source.text.contains("/register"));
    for (index, source) in sources.iter().enumerate() {
        let here = In { source: index, file: source.name.as_str(), line: 1, value: () };
        if source.kind == Kind::Script {
            consul_hook(&here, &source.text, registers, findings);
            exposed(&here, &source.text, findings);
        } else if source.kind == Kind::Consul {
            consul(&here, &source.text, findings);
        } else if source.kind == Kind::Resolv {
            search(&here, &source.text, findings);
        } else if source.kind == Kind::Cbsd {
            mounted(&here, &source.text, findings);
        }
        services(&here, source, findings);
    }
}

/// The first line that has a word in it.
fn line_of(text: &str, word: &str) -> usize {
    text.lines().position(|line| line.contains(word)).map_or(1, |at| at.saturating_add(1))
}

fn consul_hook(here: &In<'_, ()>, text: &str, registers: bool, findings: &mut Findings) {
    let mut say = |word: &str, rule, message: &str| {
        findings.add(&here.beside(line_of(text, word), ()), rule, message);
    };
    if !text.contains("/v1/") {
        return;
    }
    let starts = here.file.contains("start") || !registers;
    if text.contains("/deregister") && !text.contains("/register") && starts {
        say(
            "/deregister",
            Rule::ConsulEndpoint,
            "this removes the service, but the hook runs at the start: call .../register",
        );
    }
    if text.contains("Address")
        && ["$ip4_addr", "${ip4_addr}"].iter().any(|name| text.contains(name))
    {
        let message = "CBSD's ip4_addr ends with the prefix length, so it is not an address: write \
                       ${ip4_addr%%/*}";
        say("ip4_addr", Rule::ConsulAddress, message);
    }
    if text.contains("$host_hostname") && text.contains("$hostname") {
        let message = "host_hostname is the jail's name, and hostname is the host's: use jname for the \
                       jail, and nodename for the host";
        say("$host_hostname", Rule::ConsulAddress, message);
    }
    if text.contains("?token=") || text.contains("&token=") {
        let message = "logs show this secret, and Consul 1.15 and later ignore it there: send it in the \
                       header X-Consul-Token";
        say("token=", Rule::ConsulToken, message);
    }
    let commands = shell::commands(text).unwrap_or_default();
    for command in &commands {
        let words: Vec<&str> = command.iter().map(|word| word.text.as_str()).collect();
        let Some(at) = words.iter().position(|word| word.rsplit('/').next() == Some("curl")) else {
            continue;
        };
        let fails = |word: &&&str| {
            **word == "--fail"
                || **word == "--fail-with-body"
                || (word.starts_with('-') && !word.starts_with("--") && word.contains('f'))
        };
        if words.iter().skip(at).find(fails).is_none() {
            let line = command.first().map_or(1, |word| word.line);
            let message = "curl ends with 0 when the server refuses: add -f";
            findings.add(&here.beside(line, ()), Rule::HookStatus, message);
        }
    }
    let last = commands
        .last()
        .map(|command| command.iter().map(|word| word.text.as_str()).collect::<Vec<_>>());
    if last.as_deref() == Some(&["exit", "0"]) {
        let line = commands.last().and_then(|command| command.first()).map_or(1, |word| word.line);
        let message =
            "the hook reports success whatever happened: end with the status of the command";
        findings.add(&here.beside(line, ()), Rule::HookStatus, message);
    }
}

/// DNS is asked by UDP first.
fn exposed(here: &In<'_, ()>, text: &str, findings: &mut Findings) {
    let mut rules = Vec::new();
    for command in shell::commands(text).unwrap_or_default() {
        let words: Vec<&str> = command.iter().map(|word| word.text.as_str()).collect();
        if !matches!(words.as_slice(), ["cbsd", "expose", ..]) {
            continue;
        }
        let find = |name: &str| {
            words.iter().find_map(|word| word.strip_prefix(name)).unwrap_or_default().to_owned()
        };
        rules.push((
            command.first().map_or(1, |word| word.line),
            find("jname="),
            find("in="),
            find("proto="),
        ));
    }
    for (line, jail, _, proto) in rules.iter().filter(|(_, _, port, _)| port == "53") {
        let udp = rules
            .iter()
            .any(|(_, other, port, proto)| other == jail && port == "53" && proto == "udp");
        if proto != "udp" && !udp {
            let message =
                "DNS uses UDP first, but this exposes only TCP: add a line with proto=udp";
            findings.add(&here.beside(*line, ()), Rule::ExposeUdp, message);
        }
    }
}

fn consul(here: &In<'_, ()>, text: &str, findings: &mut Findings) {
    let value: serde_json::Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            let message = format!("this is not JSON: {error}");
            return findings.add(&here.beside(error.line().max(1), ()), Rule::Syntax, message);
        }
    };
    let Some(object) = value.as_object() else { return };
    for (key, value) in object {
        let at = here.beside(line_of(text, key.trim()), ());
        if key.trim() != key {
            let message =
                format!("the key {key:?} contains white space, and Consul has no such key");
            findings.add(&at, Rule::ConsulConfig, message);
        }
        let old = key.starts_with("acl_") || key == "ui_dir";
        if old {
            let cure = if key == "ui_dir" { "ui_config" } else { "the block acl" };
            let message = format!("Consul 1.11 and later read no {key}: write {cure}");
            findings.add(&at, Rule::ConsulConfig, message);
        }
        if key.eq_ignore_ascii_case("address")
            && value.as_str().is_some_and(|text| text.contains('/'))
        {
            let message = "an address in Consul has no prefix length, or DNS answers with a name: write \
                           only the address";
            findings.add(&at, Rule::ConsulAddress, message);
        }
        let checks = value.as_array().into_iter().flatten();
        if key.eq_ignore_ascii_case("checks")
            && checks.into_iter().any(|check| check.get("script").is_some())
        {
            let message = "Consul no longer runs checks by script: write args, as a list";
            findings.add(
                &here.beside(line_of(text, "\"script\""), ()),
                Rule::ConsulConfig,
                message,
            );
        }
    }
}

fn search(here: &In<'_, ()>, text: &str, findings: &mut Findings) {
    for (index, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        if words.next() == Some("search")
            && words.any(|word| word.trim_end_matches('.') == "consul")
        {
            let message = "Consul serves no names directly below consul: write search node.consul service.consul";
            findings.add(&here.beside(index.saturating_add(1), ()), Rule::ConsulSearch, message);
        }
    }
}

/// A hook mounts one jail's directory over those of all.
fn mounted(here: &In<'_, ()>, text: &str, findings: &mut Findings) {
    for at in crate::cbsd::read(text).entries {
        if at.value.name == "MOUNT_RCCONF" && at.value.value == "1" {
            let message = "this mounts one jail's directory over jails-rcconf, and hides those of all others: write 0";
            findings.add(&here.beside(at.line, ()), Rule::JailMount, message);
        }
    }
}

/// What services of NFS need of each other, in rc.conf(5) or as sysrc(8) sets it.
fn services(here: &In<'_, ()>, source: &Source, findings: &mut Findings) {
    let mut settings: Vec<(usize, String, String)> = Vec::new();
    if source.kind == Kind::RcConf {
        let entries = rcconf::read(&source.text).entries.into_iter();
        settings.extend(entries.map(|at| (at.line, at.value.name, at.value.value)));
    } else if source.kind == Kind::Script {
        for command in shell::commands(&source.text).unwrap_or_default() {
            if command.first().is_none_or(|word| word.text != "sysrc") {
                continue;
            }
            for word in command.iter().skip(1) {
                let pair = word.text.split_once('=').filter(|(name, _)| rcconf::is_name(name));
                settings.extend(
                    pair.map(|(name, value)| (word.line, name.to_owned(), value.to_owned())),
                );
            }
        }
    }
    let on = |name: &str| {
        settings
            .iter()
            .find(|(_, known, value)| known == name && value.eq_ignore_ascii_case("yes"))
            .map(|(line, ..)| *line)
    };
    for (name, needs, why) in [
        ("nfsv4_server_enable", "nfs_server_enable", "it starts nfsd(8)"),
        ("rpc_lockd_enable", "rpc_statd_enable", "rpc.statd(8) returns locks after a reboot"),
    ] {
        if let (Some(line), None) = (on(name), on(needs)) {
            let message = format!("{name} does nothing without {needs}: {why}: set it too");
            findings.add(&here.beside(line, ()), Rule::Nfsd, message);
        }
    }
    let mut seen = BTreeMap::new();
    for (line, name, _) in settings.iter().filter(|(_, name, _)| name.ends_with("_enable")) {
        if let Some(first) = seen.insert(name, line) {
            let message = format!("{name} is set in line {first} already: leave one of them out");
            findings.add(&here.beside(*line, ()), Rule::Twice, message);
        }
    }
}
