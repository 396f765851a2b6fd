//! Linux's netconsole: what a kernel says goes to netbe, by UDP, from one of the machine's interfaces.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::console::PORT;

/// The interface of the machine that its kernel sends from.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Netconsole(String);

impl Netconsole {
    /// The word on the kernel's command line. The module's own name before it is right for a kernel that
    /// has netconsole built in and for one that loads it (`Documentation/networking/netconsole.rst`).
    #[must_use]
    pub fn argument(&self, server: Ipv4Addr) -> String {
        format!("netconsole.netconsole=@/{},{PORT}@{server}/", self.0)
    }
}

impl fmt::Display for Netconsole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Netconsole {
    type Err = NetconsoleError;

    fn from_str(name: &str) -> Result<Self, NetconsoleError> {
        // IFNAMSIZ, and what would end the word or a part of it.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is_name = (1..16).contains(&name.len()) && name.chars().all(plain);
        if is_name { Ok(Self(name.to_owned())) } else { Err(NetconsoleError(name.to_owned())) }
    }
}

impl TryFrom<String> for Netconsole {
    type Error = NetconsoleError;

    fn try_from(name: String) -> Result<Self, NetconsoleError> {
        name.parse()
    }
}

impl From<Netconsole> for String {
    fn from(Netconsole(name): Netconsole) -> Self {
        name
    }
}

/// Why text is no interface of a machine.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is not the name of a network interface: write it as in eth0")]
pub struct NetconsoleError(String);

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_kernel_is_told_where_to_and_nothing_else() {
        let netconsole: Netconsole = "eth0".parse().unwrap();
        let word = netconsole.argument(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(word, "netconsole.netconsole=@/eth0,514@10.0.0.1/");
        for name in ["", "a b", "eth0,1@1.2.3.4/", "e\"", "sixteencharacter"] {
            assert!(name.parse::<Netconsole>().is_err(), "{name}");
        }
    }
}
