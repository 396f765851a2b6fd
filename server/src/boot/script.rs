//! The script that tells iPXE how to go on.

use bootcfg::ipxe::{self, Action, Script};

use super::BootId;
use super::plan::{Next, Plan};

/// Writes the script of a boot, or says why it cannot be written.
pub(super) fn render(plan: &Plan, id: BootId) -> Result<String, String> {
    let Next::Kernel { initrd, cmdline, .. } = &plan.next else {
        return Err("FreeBSD's loader needs no script".to_owned());
    };
    let machine = plan.machine.as_ref().map(ToString::to_string);
    let script = Script {
        server: plan.server.to_string(),
        machine: machine.unwrap_or_else(|| "this machine".to_owned()),
        environment: plan.name.clone(),
        boot: Some(id.to_string()),
        action: Action::Kernel {
            kernel: plan.url(id, "kernel"),
            initrd: initrd.as_ref().map(|_| plan.url(id, "initrd")),
            arguments: cmdline.clone(),
        },
    };
    ipxe::render(&script).map_err(|error| error.to_string())
}
