//! The script that tells iPXE how to go on.

use super::BootId;
use super::plan::{Next, Plan};

/// Writes the script of a boot, or says why it cannot be written.
pub(super) fn render(plan: &Plan, id: BootId) -> Result<String, String> {
    let Next::Kernel { initrd, cmdline, .. } = &plan.next else {
        return Err("FreeBSD's loader needs no script".to_owned());
    };
    let machine = plan.machine.as_ref().map_or("this machine", |name| name.as_str());
    // iPXE expands `${...}` and ends a command at a line's end; nothing else is special in words.
    if cmdline.contains("${") || cmdline.chars().any(char::is_control) {
        return Err("the kernel's command line holds ${ or a control character".to_owned());
    }
    let (name, server) = (&plan.name, plan.server);
    // Under UEFI the kernel finds the RAM disk by the name on its own command line.
    let ram_disk = if initrd.is_some() { "initrd=initrd " } else { "" };
    let mut script = format!(
        "#!ipxe\n\
         echo netbe at {server}: {machine} boots {name} (boot {id})\n\
         kernel {} {ram_disk}{cmdline} || goto failed\n",
        plan.url(id, "kernel")
    );
    if initrd.is_some() {
        script
            .push_str(&format!("initrd --name initrd {} || goto failed\n", plan.url(id, "initrd")));
    }
    script.push_str(
        "boot || goto failed\n\
         :failed\n\
         echo netbe: the boot failed, the reason stands above; the next attempt is in 30 seconds\n\
         sleep 30\n\
         reboot\n",
    );
    Ok(script)
}
