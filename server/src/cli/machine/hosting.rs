//! The flags by which a machine is made a guest of this host.

use clap::Args;

use super::{Setting, optional};
use crate::site::machine::{Bridge, GuestBoot, Machine, Memory, Restart, RootBy, Runner};

/// How this host runs a machine as a guest. What has no flag stays as it is.
#[derive(Args, Debug)]
pub(super) struct Hosting {
    /// The program that runs it as a guest of this host, for `netbe start`: qemu, bhyve, nspawn or jail; or
    /// `none` if it is not a guest.
    #[arg(long, value_name = "PROGRAM", value_parser = optional::<Runner>, help_heading = GUEST)]
    run: Option<Setting<Runner>>,
    /// What boots the virtual machine: its BIOS or UEFI by PXE (bios, uefi), or netbe, which hands the
    /// kernel to the hypervisor (kernel) [default: bios for QEMU, uefi for bhyve]; or `none`, for the default.
    #[arg(long, value_name = "WHAT", value_parser = optional::<GuestBoot>, help_heading = GUEST)]
    boot: Option<Setting<GuestBoot>>,
    /// How the virtual machine reaches its root, with `--boot kernel`: over NFS, or from the store's
    /// directory on this host by 9p or virtiofs, without NFS [default: nfs].
    #[arg(long, value_enum, value_name = "WAY", help_heading = GUEST)]
    root_by: Option<RootBy>,
    /// The virtual machine's number of processors, or `none`, for the default, 1.
    #[arg(long, value_name = "N", value_parser = optional::<u16>, help_heading = GUEST)]
    cpus: Option<Setting<u16>>,
    /// The virtual machine's memory, as 512M or 2G, or `none`, for the default, 1G.
    #[arg(long, value_name = "SIZE", value_parser = optional::<Memory>, help_heading = GUEST)]
    memory: Option<Setting<Memory>>,
    /// The bridge of this host that the guest's interface joins [default: br0 for QEMU, bridge0 for
    /// bhyve; a container without one is reached by the host only], or `none`, for the default.
    #[arg(long, value_name = "INTERFACE", value_parser = optional::<Bridge>, help_heading = GUEST)]
    bridge: Option<Setting<Bridge>>,
    /// Start the guest with this host: by `netbe start --all`.
    #[arg(long, conflicts_with = "no_autostart", help_heading = GUEST)]
    autostart: bool,
    /// Do not start the guest with this host (the default).
    #[arg(long, help_heading = GUEST)]
    no_autostart: bool,
    /// The guest's place in the order of --autostart: guests with lower numbers start earlier and stop later;
    /// with `none`, after all that have a number.
    #[arg(long, value_name = "N", value_parser = optional::<u16>, help_heading = GUEST)]
    order: Option<Setting<u16>>,
    /// When to start the guest again after it has ended by itself [default: on-failure].
    #[arg(long, value_enum, help_heading = GUEST)]
    restart: Option<Restart>,
}

impl Hosting {
    /// Whether something else is to run it than now.
    pub(super) fn changes_runner(&self, known: &Machine) -> bool {
        self.run.as_ref().is_some_and(|Setting(run)| *run != known.run)
    }

    /// Writes what was said into a machine's record.
    pub(super) fn write(&self, machine: &mut Machine) {
        fn set<T: Clone>(to: &mut Option<T>, said: Option<&Setting<T>>) {
            if let Some(Setting(value)) = said {
                to.clone_from(value);
            }
        }
        if matches!(self.run, Some(Setting(None))) {
            // What is no guest has nothing of one.
            *machine = Machine {
                run: None,
                boot: None,
                root_by: RootBy::default(),
                cpus: None,
                memory: None,
                bridge: None,
                autostart: false,
                order: None,
                restart: Restart::default(),
                ..machine.clone()
            };
        }
        set(&mut machine.run, self.run.as_ref());
        set(&mut machine.boot, self.boot.as_ref());
        set(&mut machine.cpus, self.cpus.as_ref());
        set(&mut machine.memory, self.memory.as_ref());
        set(&mut machine.bridge, self.bridge.as_ref());
        set(&mut machine.order, self.order.as_ref());
        machine.autostart = (machine.autostart || self.autostart) && !self.no_autostart;
        machine.root_by = self.root_by.unwrap_or(machine.root_by);
        machine.restart = self.restart.unwrap_or(machine.restart);
    }
}

/// Where these flags stand in the help.
const GUEST: &str = "As a guest of this host";
