//! Rules of files of systemd, of vm-bhyve and of bhyve_config(5): of one file each.

use super::site::{Findings, In, Site};
use crate::bhyve;
use crate::rule::Rule;
use crate::unit::Section;

pub(super) fn check(site: &Site<'_>, findings: &mut Findings) {
    for (source, file) in site.sources.iter().enumerate() {
        let sections: Vec<&In<'_, Section>> =
            site.units.iter().filter(|section| section.source == source).collect();
        if file.name.ends_with(".nspawn") {
            nspawn(&sections, findings);
        }
        mounted(&file.name, &sections, findings);
    }
    vm_bhyve(site, findings);
    for variable in site.bhyve_config.iter().filter(|at| !bhyve::config::is_known(&at.value.name)) {
        let message = format!(
            "bhyve has no variable {}, and ignores it silently: see bhyve_config(5)",
            variable.value.name
        );
        findings.add(variable, Rule::BhyveVariable, message);
    }
    for run in
        site.runs.iter().filter(|run| site.bhyve_config.iter().any(|at| at.source == run.source))
    {
        for device in run.value.devices.iter().filter(|device| device.value.mac.is_none()) {
            let message =
                "bhyve makes the Ethernet address of this card from its slot and name: add .mac=";
            findings.add(&run.beside(device.line, ()), Rule::MacMissing, message);
        }
    }
}

fn setting<'s>(
    sections: &[&'s In<'_, Section>],
    section: &str,
    name: &str,
) -> Option<(&'s In<'s, Section>, &'s str)> {
    sections.iter().filter(|at| at.value.name == section).find_map(|at| {
        let found = at.value.settings.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| (*at, value.as_str()))
    })
}

fn nspawn(sections: &[&In<'_, Section>], findings: &mut Findings) {
    let yes = |value: &str| {
        ["1", "yes", "y", "true", "t", "on"].contains(&value.to_ascii_lowercase().as_str())
    };
    let on = |section, name| setting(sections, section, name).filter(|(_, value)| yes(value));
    if let (Some(_), Some((at, _))) = (on("Exec", "Boot"), on("Exec", "ProcessTwo")) {
        let message = "Boot= and ProcessTwo= exclude each other: leave one of them out";
        findings.add(at, Rule::NspawnBoot, message);
    }
    let private = on("Network", "Private").is_some()
        || on("Network", "VirtualEthernet").is_some()
        || ["Bridge", "Zone", "MACVLAN", "IPVLAN", "Interface"]
            .into_iter()
            .any(|name| setting(sections, "Network", name).is_some());
    if let Some((at, _)) = setting(sections, "Network", "Port").filter(|_| !private) {
        let message = "Port= needs a network of the container's own: add VirtualEthernet=yes";
        findings.add(at, Rule::NspawnPort, message);
    }
}

/// systemd refuses a mount whose name is not that of its directory.
fn mounted(name: &str, sections: &[&In<'_, Section>], findings: &mut Findings) {
    let file = name.rsplit('/').next().unwrap_or(name);
    for (section, suffix) in [("Mount", "mount"), ("Automount", "automount")] {
        let Some((at, directory)) = setting(sections, section, "Where") else { continue };
        let expected = crate::unit::of_path(&directory.replace("%%", "%"), suffix);
        if file != expected && !directory.replace("%%", "").contains('%') {
            let message = format!(
                "systemd refuses this unit, which mounts {directory}: call the file {expected}"
            );
            findings.add(at, Rule::UnitName, message);
        }
    }
}

fn vm_bhyve(site: &Site<'_>, findings: &mut Findings) {
    for at in site.vm_bhyve.iter().filter(|at| at.value.name == "loader") {
        let of_file = |name: &str| {
            site.vm_bhyve.iter().find(|other| other.source == at.source && other.value.name == name)
        };
        if ["bhyveload", "grub"].contains(&at.value.value.as_str())
            && of_file("disk0_name").is_none()
        {
            let message = format!(
                "vm-bhyve loads a guest by {} from its first disk, and this one has none: add disk0_type and \
                 disk0_name, or write loader=\"uefi\"",
                at.value.value
            );
            findings.add(at, Rule::VmBhyveDisk, message);
        }
        if let (Some(card), None) = (of_file("network0_type"), of_file("network0_mac")) {
            let message = "vm-bhyve chooses an Ethernet address at the first start: write network0_mac, so \
                           that the server knows the guest";
            findings.add(card, Rule::MacMissing, message);
        }
    }
}
