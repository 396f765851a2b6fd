//! Which drivers a RAM disk brings along.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Whose network cards a machine may have.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ValueEnum)]
pub enum Drivers {
    /// Only those of virtual machines.
    Virtual,
    /// Those of virtual machines and the usual ones of servers, desktops and small boards.
    #[default]
    Common,
    /// Every Ethernet driver that the kernel has.
    All,
}

impl Drivers {
    /// The modules by name; a kernel that lacks some of them is no worse for it.
    pub(super) fn names(self) -> impl Iterator<Item = &'static str> {
        let common: &[&str] = match self {
            Self::Virtual => &[],
            Self::All | Self::Common => &COMMON,
        };
        VIRTUAL.iter().chain(common).flat_map(|names| names.split_whitespace())
    }

    /// Whether a module at this path of the modules' directory belongs to it by its place alone.
    pub(super) fn has_place(self, path: &str) -> bool {
        match self {
            Self::All => path.starts_with("kernel/drivers/net/ethernet/"),
            Self::Common | Self::Virtual => false,
        }
    }
}

/// Names as in `modules.dep`, with underscores.
const VIRTUAL: [&str; 4] = [
    // bhyve, QEMU, Firecracker
    "virtio_pci virtio_mmio virtio_net",
    // QEMU and VMware, which emulate real cards too
    "e1000 e1000e 8139cp 8139too vmxnet3",
    // Hyper-V
    "hv_netvsc mana",
    // Xen, Amazon, Google
    "xen_netfront ena gve",
];

/// The usual cards.
const COMMON: [&str; 6] = [
    // Intel
    "igb igbvf igc ixgbe ixgbevf i40e iavf ice",
    // Realtek and Broadcom
    "r8169 tg3 bnx2 bnx2x bnxt_en",
    // Mellanox
    "mlx4_en mlx5_core",
    // Desktops
    "atlantic alx atl1c sky2 forcedeth amd_xgbe",
    // Servers
    "cxgb4 qede sfc be2net enic",
    // Small boards
    "bcmgenet fec macb mvneta dwmac_generic",
];
