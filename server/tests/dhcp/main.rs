//! The DHCP server against recorded and made-up clients: bytes in, bytes out. Only `clients`
//! uses sockets, in network namespaces without a name that are gone with the test.

#![cfg(test)]

mod bench;
mod boots;
#[cfg(target_os = "linux")]
mod clients;
mod foreign;
mod forged;
mod hostile;
mod leases;
mod proxy;
mod relays;
mod stalled;
mod subnets;
