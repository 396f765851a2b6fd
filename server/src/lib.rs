//! netbe: networked boot environments.
//!
//! One process turns a store of boot environments into machines that boot over the network. Read
//! [`boot`] first: it decides what a machine boots, and every protocol only asks it. `docs/boot.md`
//! tells a whole boot as a story and names the module at each step.

pub mod boot;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod control;
pub mod dhcp;
mod guests;
pub mod http;
mod hunt;
pub mod net;
pub mod nfs;
pub mod serve;
pub mod site;
pub mod tftp;
