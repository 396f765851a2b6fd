//! The addresses that netbe may hand out, as an administrator writes them.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A run of addresses, both ends included: `10.77.0.100-10.77.0.199`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Range {
    first: Ipv4Addr,
    last: Ipv4Addr,
}

impl Range {
    /// The addresses from `first` to `last`.
    ///
    /// # Errors
    ///
    /// `last` is below `first`.
    pub fn new(first: Ipv4Addr, last: Ipv4Addr) -> Result<Self, RangeError> {
        if last < first {
            Err(RangeError::Backwards { first, last })
        } else {
            Ok(Self { first, last })
        }
    }

    /// The lowest address.
    #[must_use]
    pub const fn first(self) -> Ipv4Addr {
        self.first
    }

    /// The highest address.
    #[must_use]
    pub const fn last(self) -> Ipv4Addr {
        self.last
    }

    /// How many they are.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "there is at least one")]
    pub fn len(self) -> u64 {
        u64::from(self.last.to_bits().saturating_sub(self.first.to_bits())).saturating_add(1)
    }

    /// Whether the address is one of them.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for Range {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let malformed = || RangeError::Malformed(text.to_owned());
        let (first, last) = text.split_once('-').ok_or_else(malformed)?;
        let first = first.trim().parse().map_err(|_| malformed())?;
        let last = last.trim().parse().map_err(|_| malformed())?;
        Self::new(first, last)
    }
}

/// Why text is not a range of addresses.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RangeError {
    /// The ends stand in the wrong order.
    #[error("range {first}-{last} runs backwards: write the lower address first")]
    Backwards {
        /// What stands first.
        first: Ipv4Addr,
        /// What stands last.
        last: Ipv4Addr,
    },
    /// It is not two IPv4 addresses.
    #[error("range {0:?}: write two IPv4 addresses as in 10.77.0.100-10.77.0.199")]
    Malformed(String),
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_range_includes_both_ends() {
        let range: Range = "10.77.0.100-10.77.1.9".parse().unwrap();
        assert!(range.contains(Ipv4Addr::new(10, 77, 0, 100)));
        assert!(range.contains(Ipv4Addr::new(10, 77, 1, 9)));
        assert!(!range.contains(Ipv4Addr::new(10, 77, 1, 10)));
        assert_eq!(range.to_string(), "10.77.0.100-10.77.1.9");
        assert_eq!(range.len(), 166);
    }

    #[test]
    fn what_is_no_range_says_what_to_write() {
        let backwards = "10.0.0.9-10.0.0.1".parse::<Range>().unwrap_err();
        assert!(backwards.to_string().contains("write the lower address first"));
        for text in ["", "10.0.0.1", "10.0.0.1-", "10.0.0.1-20", "a-b"] {
            assert_eq!(text.parse::<Range>(), Err(RangeError::Malformed(text.to_owned())));
        }
    }
}
