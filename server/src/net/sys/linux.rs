//! Linux.

pub(crate) mod arp;
pub(crate) mod datagram;
pub(crate) mod link;
pub(crate) mod memory;
pub(crate) mod pages;
pub(crate) mod pipe;
pub(crate) mod process;
pub(crate) mod route;
pub(crate) mod tap;
pub(crate) mod tcp;
pub(crate) mod transfer;

pub(super) use nix::libc::SIOCGIFMTU;
