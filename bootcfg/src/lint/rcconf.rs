//! Rules of a diskless guest's rc.conf(5).

use super::site::{Findings, Site};
use crate::rule::Rule;

/// Configuring the boot interface again takes the root away (diskless(8)).
pub(super) fn check(site: &Site<'_>, findings: &mut Findings) {
    let slash = site.fstab.iter().any(|entry| entry.value.file == "/" && entry.value.kind == "nfs");
    if !slash && site.roots().is_empty() {
        return;
    }
    let names = interfaces(site);
    for setting in &site.rcconf {
        let (name, value) = (&setting.value.name, &setting.value.value);
        let Some(interface) = name.strip_prefix("ifconfig_") else { continue };
        let is = |own: &&String| {
            interface
                .strip_prefix(own.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        };
        let uses = |own: &&String| value.split_whitespace().any(|word| word == own.as_str());
        let everything = interface == "DEFAULT" || interface.starts_with("DEFAULT_");
        let what = if everything {
            Some("every interface, also the one of the root".to_owned())
        } else if let Some(own) = names.iter().find(is) {
            Some(format!("{own}, over which the root is mounted"))
        } else {
            let member = names.iter().find(uses);
            member
                .map(|own| format!("{own}, over which the root is mounted, as part of {interface}"))
        };
        if let Some(what) = what {
            let message = format!(
                "{name} configures {what}, and removes the root: remove the line, because the kernel has \
                 configured it"
            );
            findings.add(setting, Rule::BootNic, message);
        }
    }
}

/// The names of the interfaces that roots are mounted over, as far as the files tell.
fn interfaces(site: &Site<'_>) -> Vec<String> {
    let environments = site.environments();
    let told = environments.iter().filter_map(|environment| environment.value("boot.netif.name"));
    let mut names: Vec<String> = told.map(str::to_owned).collect();
    for run in &site.runs {
        // With one interface only, its driver makes the name.
        if let [device] = run.value.devices.as_slice() {
            let driver = if device.value.model == "e1000" { "em0" } else { "vtnet0" };
            names.push(driver.to_owned());
        }
    }
    names
}
