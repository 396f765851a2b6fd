//! One component of a path.

use std::fmt;

/// A file name: bytes, 1 to 255 of them, without `/` and NUL. May be `.` or `..`.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Name<'a>(&'a [u8]);

impl<'a> Name<'a> {
    /// Longest name, in bytes (`NAME_MAX`).
    pub const MAX: usize = 255;

    /// Checks `bytes`.
    pub fn new(bytes: &'a [u8]) -> Result<Self, NameError> {
        if bytes.is_empty() || bytes.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(NameError::Invalid);
        }
        if bytes.len() > Self::MAX {
            return Err(NameError::TooLong);
        }
        Ok(Self(bytes))
    }

    /// The bytes of the name.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Whether it is `.` or `..`, which can be looked up but neither made nor removed.
    #[must_use]
    pub const fn is_dot(&self) -> bool {
        matches!(self.0, b"." | b"..")
    }
}

impl fmt::Debug for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Why bytes are not a file name.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// Empty, or with a `/` or a NUL in it.
    #[error("not a file name")]
    Invalid,
    /// Longer than [`Name::MAX`].
    #[error("file name too long")]
    TooLong,
}
