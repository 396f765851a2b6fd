//! What there is to write down: a guest, its network and its root.

use std::fmt;
use std::net::Ipv4Addr;

use crate::error::{limit, refuse};
use crate::loader::Variable;
use crate::{ConfigError, HostRoot, Serial};

/// A machine to be run by a hypervisor, or described to a loader.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Guest {
    /// Its name: the virtual machine's, and the host name that it is given.
    pub name: String,
    /// Memory in MiB.
    pub memory: u32,
    /// Number of processors.
    pub cpus: u16,
    /// The Ethernet address: a FreeBSD kernel finds the interface by it.
    pub mac: Mac,
    /// The network's MTU in bytes, if it is not Ethernet's.
    pub mtu: Option<u16>,
    /// Its root.
    pub root: Root,
    /// The serial port of its console.
    pub serial: Serial,
    /// Variables of its own for FreeBSD's kernel environment: by the same name these count.
    pub kenv: Vec<Variable>,
}

/// An IPv4 address with what has to be known of its network; for guests that do no DHCP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Address {
    /// The address.
    pub address: Ipv4Addr,
    /// The length of the network's prefix, at most 32.
    pub prefix: u8,
    /// The router, if there is one.
    pub gateway: Option<Ipv4Addr>,
}

impl Address {
    /// The network's mask.
    #[must_use]
    pub fn netmask(&self) -> Ipv4Addr {
        let host_bits = 32_u32.saturating_sub(self.prefix.into());
        u32::MAX.checked_shl(host_bits).unwrap_or(0).into()
    }
}

/// A root file system: over NFS, or a directory of the guest's own host.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Root {
    /// The NFS server.
    pub server: Ipv4Addr,
    /// The path that is mounted, beginning with a slash.
    pub path: String,
    /// The data sets below it that hold files, relative to it, parents first: `usr/home`.
    pub datasets: Vec<String>,
    /// Who joins them to one tree.
    pub view: View,
    /// Whether nothing may be written.
    pub read_only: bool,
    /// The directory that it is on the guest's host, where the guest has it from there and not over NFS.
    pub host: Option<HostRoot>,
}

/// Who makes one tree of a boot environment's data sets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum View {
    /// The server: the guest mounts the root, and everything is in it.
    #[default]
    Joined,
    /// The guest: it mounts the root and then every data set by itself.
    Split,
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Reads an address as FreeBSD's kernel does: six hexadecimal numbers, joined by colons.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(':');
        let mut bytes = [0; 6];
        for byte in &mut bytes {
            let digits = numbers.next().filter(|digits| !digits.starts_with('+'))?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        numbers.next().is_none().then_some(Self(bytes))
    }

    /// The address as PXE loaders hand it on: hardware type 1, bytes joined by hyphens.
    #[must_use]
    pub fn bootif(self) -> String {
        format!("01-{}", self.to_string().replace(':', "-"))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl Guest {
    /// The guest's name, if hypervisors take it: it is a file name below /dev/vmm and part of
    /// comma-separated arguments.
    pub(crate) fn checked_name(&self, format: &'static str) -> Result<&str, ConfigError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let reason = "write only letters, digits and - _ .";
        refuse("the name", &self.name, format, reason, |c| !plain(c))?;
        let first = self.name.chars().next();
        if !first.is_some_and(|c| c.is_ascii_alphanumeric()) {
            return Err(ConfigError::Character {
                what: "the name",
                value: self.name.clone(),
                format,
                reason: "begin it with a letter or digit",
            });
        }
        // FreeBSD 12's VM_MAX_NAMELEN is 37; later ones take 229.
        limit("the name", &self.name, format, 37)?;
        Ok(&self.name)
    }
}

#[cfg(test)]
pub(crate) mod strategy {
    use proptest::prelude::*;

    use super::*;

    /// Any path of a few parts, with whatever a file name may hold.
    pub(crate) fn path() -> impl Strategy<Value = String> {
        prop_oneof!["(/[a-zA-Z0-9._-]{1,8}){1,4}", "(/[ -~]{1,8}){1,3}", "(/[^/\u{0}]{1,6}){1,3}",]
    }

    pub(crate) fn address() -> impl Strategy<Value = Address> {
        (any::<u32>(), 0_u8..=32, any::<Option<u32>>()).prop_map(|(address, prefix, gateway)| {
            Address { address: address.into(), prefix, gateway: gateway.map(Into::into) }
        })
    }

    pub(crate) fn guest() -> impl Strategy<Value = Guest> {
        let link = (any::<[u8; 6]>(), any::<Option<u16>>());
        let root = (
            any::<u32>(),
            path(),
            prop::collection::vec("[a-z]{1,5}(/[ -~&&[^/]]{1,5}){0,2}", 0..4),
            prop_oneof![Just(View::Joined), Just(View::Split)],
            any::<bool>(),
        );
        ("[a-z][a-z0-9.-]{0,12}", 1_u32..1_000_000, 1_u16..64, link, root).prop_map(
            |(name, memory, cpus, (mac, mtu), (server, path, datasets, view, read_only))| Guest {
                name,
                memory,
                cpus,
                mac: Mac(mac),
                mtu,
                root: Root { server: server.into(), path, datasets, view, read_only, host: None },
                serial: Serial::default(),
                kenv: Vec::new(),
            },
        )
    }

    /// The address on the slides of be(8).
    pub(crate) fn lan() -> Address {
        Address { address: Ipv4Addr::new(192, 168, 2, 202), prefix: 24, gateway: None }
    }

    /// The guest of the slides of be(8).
    pub(crate) fn head() -> Guest {
        let datasets = [
            "tmp",
            "usr/home",
            "usr/ports",
            "usr/src",
            "var/audit",
            "var/crash",
            "var/log",
            "var/mail",
            "var/tmp",
        ];
        Guest {
            name: "head".into(),
            memory: 1024,
            cpus: 2,
            mac: Mac([2, 1, 2, 3, 4, 5]),
            mtu: None,
            root: Root {
                server: Ipv4Addr::new(192, 168, 2, 1),
                path: "/ROOT/head".into(),
                datasets: datasets.map(str::to_owned).to_vec(),
                view: View::Joined,
                read_only: false,
                host: None,
            },
            serial: Serial::default(),
            kenv: Vec::new(),
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn masks_follow_from_prefixes() {
        let of = |prefix| Address { prefix, ..strategy::lan() };
        assert_eq!(of(0).netmask(), Ipv4Addr::new(0, 0, 0, 0));
        assert_eq!(of(24).netmask(), Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(of(32).netmask(), Ipv4Addr::new(255, 255, 255, 255));
    }

    #[test]
    fn names_that_hypervisors_misread_are_refused() {
        for name in ["", "-c", "a,b", "a b", "a/b", "../x", &"x".repeat(38)] {
            let guest = Guest { name: name.to_owned(), ..strategy::head() };
            assert!(guest.checked_name("bhyve").is_err(), "{name}");
        }
        assert_eq!(strategy::head().checked_name("bhyve"), Ok("head"));
    }
}
