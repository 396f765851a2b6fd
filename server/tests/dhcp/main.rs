//! The DHCP server against recorded and made-up clients: bytes in, bytes out, no sockets.

#![cfg(test)]

mod bench;
mod boots;
mod hostile;
mod leases;
mod relays;
