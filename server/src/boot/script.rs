//! What tells a loader how to go on: a script for iPXE, a configuration for pxelinux or GRUB.

use bootcfg::ipxe::{self, Action, Script};
use bootcfg::{BootEntry, grub, pxelinux};

use super::BootId;
use super::plan::{Chosen, INITRD, KERNEL, Next, Plan, SCRIPT, export_path};
use crate::site::machine::LoaderChoice;

/// Writes the script of a boot for iPXE, or says why it cannot be written.
pub(super) fn render(plan: &Plan, id: BootId) -> Result<String, String> {
    let action = match &plan.next {
        Next::Kernel { initrd, cmdline, .. } => Action::Kernel {
            kernel: plan.url(id, KERNEL),
            initrd: initrd.as_ref().map(|_| plan.url(id, INITRD)),
            arguments: cmdline.clone(),
        },
        Next::Handed(own) => Action::Loader {
            url: plan.url(id, &own.name),
            server: plan.server,
            path: export_path(&plan.name),
            variables: plan.variables.iter().map(ToString::to_string).collect(),
        },
        Next::Loader(_) => return Err("FreeBSD's loader needs no script".to_owned()),
    };
    scripted(plan, id, action)
}

/// Writes a script that says why the machine has to wait, and then asks for its script again.
pub(super) fn wait(plan: &Plan, id: BootId, reason: &str) -> Result<String, String> {
    scripted(plan, id, Action::Wait { message: reason.to_owned(), url: plan.url(id, SCRIPT) })
}

fn scripted(plan: &Plan, id: BootId, action: Action) -> Result<String, String> {
    let script = Script {
        server: plan.server.to_string(),
        machine: machine(plan),
        environment: plan.name.clone(),
        boot: Some(id.to_string()),
        action,
    };
    ipxe::render(&script).map_err(|error| error.to_string())
}

/// Writes the configuration of a boot's chosen loader that is asked for by this name; nothing when
/// the name is not one of a configuration.
pub(super) fn configuration(
    plan: &Plan,
    chosen: &Chosen,
    id: BootId,
    name: &str,
) -> Option<Result<String, String>> {
    let Next::Kernel { initrd, cmdline, .. } = &plan.next else { return None };
    let entry = |place: fn(&Plan, BootId, &str) -> String| BootEntry {
        server: plan.server.to_string(),
        machine: machine(plan),
        environment: plan.name.clone(),
        boot: Some(id.to_string()),
        kernel: place(plan, id, KERNEL),
        initrd: initrd.as_ref().map(|_| place(plan, id, INITRD)),
        arguments: cmdline.clone(),
        serial: plan.serial.map(|port| port.0),
    };
    let text = match (chosen.choice, configuration_named(name)?) {
        (LoaderChoice::Pxelinux, Configuration::Pxelinux) => {
            pxelinux::render(&entry(Plan::tftp_name))
        }
        (LoaderChoice::Lpxelinux, Configuration::Pxelinux) => pxelinux::render(&entry(Plan::url)),
        (LoaderChoice::Grub | LoaderChoice::Shim, Configuration::Grub) => {
            grub::render(&entry(Plan::grub_place))
        }
        (
            LoaderChoice::Auto
            | LoaderChoice::Ipxe
            | LoaderChoice::Pxelinux
            | LoaderChoice::Lpxelinux
            | LoaderChoice::Grub
            | LoaderChoice::Shim,
            Configuration::Grub | Configuration::Pxelinux,
        ) => return None,
    };
    Some(text.map_err(|error| error.to_string()))
}

/// The loaders that read a configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Configuration {
    Grub,
    Pxelinux,
}

/// Whose configuration is asked for by this name, if it is one.
pub(super) fn configuration_named(name: &str) -> Option<Configuration> {
    // pxelinux asks by the machine's UUID first, then by hardware type and Ethernet address.
    let for_pxelinux = name
        .strip_prefix("pxelinux.cfg/")
        .is_some_and(|whose| whose.starts_with("01-") || whose == "default");
    let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
    let for_grub = file == "grub.cfg" || file.starts_with("grub.cfg-01-");
    match (for_grub, for_pxelinux) {
        (true, _) => Some(Configuration::Grub),
        (false, true) => Some(Configuration::Pxelinux),
        (false, false) => None,
    }
}

fn machine(plan: &Plan) -> String {
    let machine = plan.machine.as_ref().map(ToString::to_string);
    machine.unwrap_or_else(|| "this machine".to_owned())
}
