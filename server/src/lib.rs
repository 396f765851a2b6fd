//! netbe: networked boot environments.
//!
//! One process turns a store of boot environments into machines that boot over the network. Read
//! [`boot`] first: it decides what a machine boots, and every protocol only asks it. `docs/boot.md`
//! tells a whole boot as a story and names the module at each step.

pub mod boot;
mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod datagram;
pub mod dhcp;
pub mod export;
pub mod http;
pub mod initramfs;
mod install;
pub mod interface;
pub mod kenv;
pub mod machine;
pub mod mount;
mod neighbour;
pub mod nfs3;
pub mod portmap;
mod readahead;
pub mod roots;
pub mod rpc;
pub mod serve;
pub mod state;
mod sys;
pub mod tftp;
