//! From machine, boot environment and network to the text that a loader, guest or host reads.
//!
//! Everything here is a pure function of its arguments: no file, no socket, no clock. A value that a
//! format cannot carry is refused with a reason, never written differently from what it means; what
//! is written is read back by a reader beside its writer, to the same value. The readers go on after a
//! mistake and report it: [`lint`] says what is wrong with files that belong together.

pub mod bhyve;
pub mod cbsd;
pub mod conf;
pub mod dhcp;
mod entry;
mod error;
pub mod exports;
pub mod fstab;
pub mod grub;
mod guest;
mod host_root;
pub mod import;
pub mod ipxe;
pub mod jail;
pub mod libvirt;
pub mod lint;
pub mod linux;
pub mod loader;
pub mod mounts;
pub mod names;
pub mod nspawn;
pub mod pxelinux;
pub mod qemu;
pub mod rcconf;
pub mod refusal;
mod rule;
mod serial;
pub mod service;
pub mod shell;
pub mod unit;
pub mod vmbhyve;
pub mod vmtab;

pub use entry::BootEntry;
pub use error::ConfigError;
pub use guest::{Address, Guest, Mac, Root, View};
pub use host_root::{Channel, HostRoot, virtiofsd};
pub use rule::{At, Diagnostic, Reading, Rule};
pub use serial::{Serial, SerialError};
