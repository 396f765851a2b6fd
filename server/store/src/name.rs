//! Names of boot environments and of their snapshots.

use std::fmt;
use std::str::FromStr;

/// The name of a boot environment: also a directory's name, the last part of its NFS path and, by
/// default, a guest's name.
///
/// What it refuses would be taken for an option (`-x`), for the store's own hidden files (`.x`), for
/// a path (`a/b`), for a snapshot (`a@b`), or would spoil a list that is split at tabs and lines.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct EnvironmentName(String);

impl EnvironmentName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EnvironmentName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_LEN {
            return Err(NameError::TooLong(text.len()));
        }
        if text.contains('/') {
            return Err(NameError::Slash);
        }
        if text.contains('@') {
            return Err(NameError::At);
        }
        if text.chars().any(char::is_control) {
            return Err(NameError::Control);
        }
        if text.starts_with(['-', '.']) {
            return Err(NameError::Start);
        }
        if text.trim() != text {
            return Err(NameError::Space);
        }
        Ok(Self(text.to_owned()))
    }
}

impl AsRef<str> for EnvironmentName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EnvironmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a snapshot, unique in its boot environment: what stands behind the `@`.
///
/// It follows the rules of [`EnvironmentName`].
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SnapshotName(EnvironmentName);

impl SnapshotName {
    /// The snapshot of an environment's empty tree, which is there while that is being filled.
    #[must_use]
    pub fn of_empty_tree() -> Self {
        Self(EnvironmentName("netbe-install".to_owned()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for SnapshotName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        text.parse().map(Self)
    }
}

impl AsRef<str> for SnapshotName {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a kind of store takes as a name of an environment or of a snapshot, of those that
/// [`EnvironmentName`] takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NameRules {
    /// All of them.
    Any,
    /// Those that can be the name of a data set, or stand in one.
    Zfs {
        /// How long they can be at most.
        room: usize,
    },
}

impl NameRules {
    /// Why a name cannot be used, as a clause; `None` if it can.
    pub(crate) fn refuse(self, name: &str) -> Option<&'static str> {
        let plain = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':' | b' ')
        };
        match self {
            Self::Zfs { .. } if !name.bytes().all(plain) => {
                Some("ZFS takes letters without accents, digits, spaces and - _ . : in names")
            }
            Self::Zfs { room } if name.len() > room => {
                Some("together with the store's name it is too long for ZFS: shorten it")
            }
            Self::Any | Self::Zfs { .. } => None,
        }
    }
}

/// A boot environment as it is now, or one of its snapshots: `head` or `head@monday`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Point {
    /// The boot environment.
    pub environment: EnvironmentName,
    /// The snapshot; without one, the environment as it is now.
    pub snapshot: Option<SnapshotName>,
}

impl Point {
    /// A snapshot of an environment.
    #[must_use]
    pub fn snapshot(environment: &EnvironmentName, snapshot: &SnapshotName) -> Self {
        Self { environment: environment.clone(), snapshot: Some(snapshot.clone()) }
    }
}

impl From<EnvironmentName> for Point {
    fn from(environment: EnvironmentName) -> Self {
        Self { environment, snapshot: None }
    }
}

impl FromStr for Point {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (environment, snapshot) = match text.split_once('@') {
            Some((environment, snapshot)) => (environment, Some(snapshot)),
            None => (text, None),
        };
        Ok(Self {
            environment: environment.parse()?,
            snapshot: snapshot.map(str::parse).transpose()?,
        })
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.environment.fmt(f)?;
        self.snapshot.as_ref().map_or(Ok(()), |snapshot| write!(f, "@{snapshot}"))
    }
}

/// Why text is not the name of a boot environment or of a snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// It has an at sign where no snapshot can be meant.
    #[error(
        "a boot environment's name has no @, which separates it from a snapshot's name: create snapshots \
         with `netbe snapshot`"
    )]
    At,
    /// It has a control character such as a tab or a line feed.
    #[error(
        "a boot environment's or snapshot's name has no control characters: \
         write letters, digits, - _ ."
    )]
    Control,
    /// There is nothing.
    #[error("a boot environment's or snapshot's name is empty: write at least one letter")]
    Empty,
    /// It has a slash.
    #[error("a boot environment's or snapshot's name has no slash: write the name without a path")]
    Slash,
    /// It begins or ends with white space.
    #[error(
        "a boot environment's or snapshot's name does not begin or end with a space: leave it out"
    )]
    Space,
    /// It begins like an option or a hidden file.
    #[error(
        "a boot environment's or snapshot's name does not begin with - or .: \
         begin with a letter or digit"
    )]
    Start,
    /// It has too many bytes.
    #[error(
        "a boot environment's or snapshot's name of {0} bytes is too long: write at most {max}",
        max = MAX_LEN
    )]
    TooLong(usize),
}

/// Longest name in bytes; leaves room for a suffix in a file name of 255.
const MAX_LEN: usize = 200;

#[cfg(test)]
mod test {
    use super::*;

    fn parse(text: &str) -> Result<String, NameError> {
        text.parse().map(|name: EnvironmentName| name.as_str().to_owned())
    }

    #[test]
    fn ordinary_names_are_taken_as_they_are() {
        for name in ["head", "14.3-RELEASE", "büro 2", "a", &"x".repeat(200)] {
            assert_eq!(parse(name), Ok(name.to_owned()));
        }
    }

    #[test]
    fn names_that_would_be_something_else_are_refused() {
        assert_eq!(parse(""), Err(NameError::Empty));
        assert_eq!(parse(&"x".repeat(201)), Err(NameError::TooLong(201)));
        assert_eq!(parse("a/b"), Err(NameError::Slash));
        assert_eq!(parse(".."), Err(NameError::Start));
        assert_eq!(parse(".new"), Err(NameError::Start));
        assert_eq!(parse("-f"), Err(NameError::Start));
        assert_eq!(parse("a@b"), Err(NameError::At));
        assert_eq!(parse("a\nb"), Err(NameError::Control));
        assert_eq!(parse("a\tb"), Err(NameError::Control));
        assert_eq!(parse("a\0"), Err(NameError::Control));
        assert_eq!(parse(" a"), Err(NameError::Space));
        assert_eq!(parse("a\u{a0}"), Err(NameError::Space));
    }

    #[test]
    fn a_point_is_a_name_or_a_name_and_a_snapshot() {
        for text in ["head", "head@monday", "büro 2@vor dem Update"] {
            assert_eq!(text.parse::<Point>().unwrap().to_string(), text);
        }
        assert_eq!("head".parse::<Point>().unwrap().snapshot, None);
        for text in ["@", "head@", "@monday", "a@b@c", "a@b/c", "a@-f"] {
            assert!(text.parse::<Point>().is_err(), "{text}");
        }
    }
}
