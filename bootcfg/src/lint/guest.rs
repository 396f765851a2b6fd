//! Rules of the two calls that make a guest: bhyveload(8) and bhyve(8).

use super::site::{Findings, In, Site};
use crate::Mac;
use crate::bhyve::{Load, Run, mebibytes};
use crate::rule::Rule;

pub(super) fn check(site: &Site<'_>, findings: &mut Findings) {
    for load in &site.loads {
        // One script may run several guests, and the file of bhyve_config(5) is another one.
        let same = |run: &&In<'_, Run>| run.value.name == load.value.name;
        let here = site.runs.iter().filter(same).find(|run| run.source == load.source);
        let elsewhere = || site.runs.iter().filter(same).find(|run| run.value.name.is_some());
        if let Some(run) = here.or_else(elsewhere) {
            memory(load, run, findings);
            interface(load, run, findings);
        }
    }
}

fn memory(load: &In<'_, Load>, run: &In<'_, Run>, findings: &mut Findings) {
    let Some((loaded, ran)) = load.value.memory.as_ref().zip(run.value.memory.as_ref()) else {
        return;
    };
    if mebibytes(&loaded.value) != mebibytes(&ran.value) {
        let message = format!(
            "the guest runs with {} of memory, but is loaded with {} ({}): write the same",
            ran.value,
            loaded.value,
            load.beside(loaded.line, ()).place()
        );
        findings.add(&run.beside(ran.line, ()), Rule::MemoryDiffers, message);
    }
}

/// The kernel finds its interface by the Ethernet address, not by the name.
fn interface(load: &In<'_, Load>, run: &In<'_, Run>, findings: &mut Findings) {
    let variables = &load.value.variables;
    let hwaddr = variables.iter().find(|at| at.value.name == "boot.netif.hwaddr");
    let Some(hwaddr) = hwaddr else { return };
    let Some(mac) = Mac::parse(&hwaddr.value.value) else { return };
    let devices = &run.value.devices;
    let fits = |text: &String| Mac::parse(text) == Some(mac);
    let found =
        devices.iter().any(|at| at.value.unknown || at.value.mac.as_ref().is_some_and(fits));
    if found {
        return;
    }
    if let Some(device) = devices.iter().find(|at| at.value.mac.is_none()) {
        let message = format!(
            "the kernel looks for {mac}, and bhyve makes an address from the guest's name: add \
             ,mac={mac}"
        );
        findings.add(&run.beside(device.line, ()), Rule::MacMissing, message);
    } else if let Some(device) = devices.first() {
        let message = format!(
            "the kernel looks for {mac} ({}), but the guest has {}: write ,mac={mac}",
            load.beside(hwaddr.line, ()).place(),
            device.value.mac.as_deref().unwrap_or_default()
        );
        findings.add(&run.beside(device.line, ()), Rule::MacDiffers, message);
    }
}
