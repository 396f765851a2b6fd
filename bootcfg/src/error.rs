//! Why something cannot be written down.

/// Why a value cannot be written in the format that was asked for.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// The value has a character that the format cannot carry.
    #[error("{what} {value:?} cannot be written to {format}: {reason}")]
    Character {
        /// What the value is.
        what: &'static str,
        /// The value.
        value: String,
        /// The format.
        format: &'static str,
        /// Which character, and why it is impossible.
        reason: &'static str,
    },
    /// The text is longer than its reader takes.
    #[error("{what} of {len} bytes is too long for {format}, which takes {max}: use shorter names")]
    Long {
        /// What the text is.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The format.
        format: &'static str,
        /// The most that its reader takes.
        max: usize,
    },
}

/// Refuses a value of which a character is one that `bad` tells.
pub(crate) fn refuse(
    what: &'static str,
    value: &str,
    format: &'static str,
    reason: &'static str,
    bad: impl FnMut(char) -> bool,
) -> Result<(), ConfigError> {
    if value.chars().any(bad) {
        Err(ConfigError::Character { what, value: value.to_owned(), format, reason })
    } else {
        Ok(())
    }
}

/// Refuses what is no interface's name where it stands as an argument, or as part of one.
///
/// FreeBSD gives names without a hyphen (ifconfig(8)); where Linux's may stand, or what somebody has
/// renamed, they are allowed.
pub(crate) fn interface(
    name: &str,
    format: &'static str,
    hyphens: bool,
) -> Result<(), ConfigError> {
    let reason = "it is not the name of one interface: write it as in tap0";
    let plain = |c: char| c.is_ascii_alphanumeric() || "_.".contains(c) || (hyphens && c == '-');
    refuse("the interface", name, format, reason, |c| !plain(c))?;
    if name.is_empty() {
        let (what, value) = ("the interface", String::new());
        return Err(ConfigError::Character { what, value, format, reason });
    }
    limit("the interface's name", name, format, MAX_INTERFACE)
}

/// `IFNAMSIZ` of both systems, less the NUL.
const MAX_INTERFACE: usize = 15;

/// Refuses a text that is too long.
pub(crate) fn limit(
    what: &'static str,
    text: &str,
    format: &'static str,
    max: usize,
) -> Result<(), ConfigError> {
    let len = text.len();
    if len > max { Err(ConfigError::Long { what, len, format, max }) } else { Ok(()) }
}
