//! Networks that may use an export.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// A network in CIDR notation; the bits behind the prefix are zero.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The first address of the network.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// How many leading bits its addresses share.
    #[must_use]
    pub const fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether an address lies in the network. No address of one family lies in one of the other.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        first(address, self.prefix) == self.address
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    /// Reads `192.168.2.0/24`; an address alone is a network of one.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Address)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => width,
            Some(digits) if digits.bytes().all(|digit| digit.is_ascii_digit()) => {
                digits.parse().ok().filter(|&bits| bits <= width).ok_or(NetworkError::Prefix)?
            }
            Some(_) => return Err(NetworkError::Prefix),
        };
        let first = first(address, prefix);
        if first == address {
            Ok(Self { address, prefix })
        } else {
            Err(NetworkError::HostBits { first, prefix })
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The first address of the network that `address` is in.
fn first(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(u32::from(prefix))).unwrap_or(0);
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((address.to_bits() & mask).into())
        }
    }
}

/// Why text is not a network.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NetworkError {
    /// The part before the slash is not an IP address.
    #[error("not a network: write it as in 192.168.2.0/24")]
    Address,
    /// Bits behind the prefix are set: more often a slip than meant.
    #[error("not the first address of its network: write {first}/{prefix}")]
    HostBits {
        /// The network's first address.
        first: IpAddr,
        /// The prefix length.
        prefix: u8,
    },
    /// The part behind the slash is not a prefix length.
    #[error("not a prefix length: write 0 to 32 behind the slash, for IPv6 0 to 128")]
    Prefix,
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn networks_are_read_back_as_written() {
        for text in ["192.168.2.0/24", "0.0.0.0/0", "10.0.0.1/32", "fd00::/8", "::/0"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_network_contains_the_addresses_that_share_its_prefix() {
        let contains = |network: &str, address: &str| {
            network.parse::<Network>().unwrap().contains(address.parse().unwrap())
        };
        assert!(contains("192.168.2.0/24", "192.168.2.255"));
        assert!(!contains("192.168.2.0/24", "192.168.3.0"));
        assert!(contains("0.0.0.0/0", "255.255.255.255"));
        assert!(!contains("0.0.0.0/0", "::1"));
        assert!(contains("fd00::/8", "fdff::1"));
        assert!(!contains("fd00::/64", "10.0.0.1"));
        assert!(contains("10.0.0.7", "10.0.0.7"));
        assert!(!contains("10.0.0.7", "10.0.0.6"));
    }

    #[test]
    fn an_address_alone_is_a_network_of_one() {
        assert_eq!("10.0.0.7".parse::<Network>().unwrap().to_string(), "10.0.0.7/32");
        assert_eq!("fd00::7".parse::<Network>().unwrap().to_string(), "fd00::7/128");
    }

    #[test]
    fn host_bits_are_refused_with_what_was_meant() {
        let error = "192.168.2.7/24".parse::<Network>().unwrap_err();
        assert!(error.to_string().contains("write 192.168.2.0/24"), "{error}");
        let error = "fd00::7/64".parse::<Network>().unwrap_err();
        assert!(error.to_string().contains("write fd00::/64"), "{error}");
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "/", "192.168.2/24", "host", "1.2.3.4/", "1.2.3.4/33", "1.2.3.4/+1"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
