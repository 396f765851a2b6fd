//! What is done to boot environments by commands: systems put into them, roots made of them, and
//! whether they can boot.

pub(crate) mod check;
pub mod initramfs;
pub(crate) mod install;
pub mod roots;
