//! Names of machines.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A machine's name, which is its host name: labels of letters, digits and inner hyphens, joined by
/// dots (RFC 1123 §2.1), in lower case.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineName(String);

impl MachineName {
    /// Longest name in bytes, so that it fits DHCP's options and a file name.
    pub const MAX: usize = 128;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for MachineName {
    type Err = MachineNameError;

    fn from_str(text: &str) -> Result<Self, MachineNameError> {
        let label = |label: &str| {
            let inside = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            (1..=63).contains(&label.len())
                && label.bytes().all(inside)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if text.len() > Self::MAX || !text.split('.').all(label) {
            return Err(MachineNameError(text.chars().take(64).collect()));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl TryFrom<String> for MachineName {
    type Error = MachineNameError;

    fn try_from(text: String) -> Result<Self, MachineNameError> {
        text.parse()
    }
}

impl From<MachineName> for String {
    fn from(name: MachineName) -> Self {
        name.0
    }
}

/// Why text is not a machine's name.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "'{0}' is not a host name: use letters, digits and inner hyphens, at most 63 between two dots and 128 \
     in all"
)]
pub struct MachineNameError(String);

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_name_is_a_host_name_in_lower_case() {
        assert_eq!("Web1.Example".parse::<MachineName>().unwrap().as_str(), "web1.example");
        let long = "a".repeat(64);
        for bad in ["", "-a", "a-", "a..b", "a b", "a/b", "ä", ".", long.as_str()] {
            assert!(bad.parse::<MachineName>().is_err(), "{bad}");
        }
    }
}
