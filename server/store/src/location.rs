//! Where a store is.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a store is and what it is made of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Location {
    /// Subvolumes below this directory, which is on btrfs.
    Btrfs(PathBuf),
    /// Plain directories below this one, on any file system.
    Directory(PathBuf),
    /// A ZFS data set, whose children are the environments.
    Zfs(String),
}

impl FromStr for Location {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        let (kind, rest) = text.split_once(':').unwrap_or(("", text));
        match kind {
            "dir" if rest.starts_with('/') => Ok(Self::Directory(PathBuf::from(rest))),
            "btrfs" if rest.starts_with('/') => Ok(Self::Btrfs(PathBuf::from(rest))),
            "btrfs" | "dir" => Err(LocationError::Relative),
            "zfs" if is_data_set(rest) => Ok(Self::Zfs(rest.to_owned())),
            "zfs" => Err(LocationError::DataSet),
            _ => Err(LocationError::Kind(text.to_owned())),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Btrfs(path) => write!(f, "btrfs:{}", path.display()),
            Self::Directory(path) => write!(f, "dir:{}", path.display()),
            Self::Zfs(dataset) => write!(f, "zfs:{dataset}"),
        }
    }
}

/// Whether text can be a data set's name (zfs(8)): a pool, and names below it.
fn is_data_set(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.: ".contains(&byte);
    let name = |name: &str| !matches!(name, "" | "." | "..") && name.bytes().all(plain);
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.split('/').all(name)
}

/// Why text is not the place of a store.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LocationError {
    /// It is not the name of a data set.
    #[error("not a ZFS data set: write zfs:pool/name, without a slash in front")]
    DataSet,
    /// It does not begin with a kind of store.
    #[error("{0:?} is not a store: write dir:/path, btrfs:/path or zfs:pool/dataset")]
    Kind(String),
    /// The path is relative, and a server has another working directory than a person.
    #[error("the path of a store is absolute: write dir:/path or btrfs:/path")]
    Relative,
}

#[cfg(test)]
mod test {
    use super::*;

    fn refused(text: &str) -> String {
        text.parse::<Location>().unwrap_err().to_string()
    }

    #[test]
    fn directories_are_read_back_as_written() {
        assert_eq!("dir:/srv/be".parse::<Location>().unwrap().to_string(), "dir:/srv/be");
        assert_eq!("btrfs:/srv/be".parse::<Location>().unwrap().to_string(), "btrfs:/srv/be");
        assert_eq!("zfs:tank/be".parse::<Location>().unwrap().to_string(), "zfs:tank/be");
        assert_eq!("dir:/a:b".parse(), Ok(Location::Directory("/a:b".into())));
    }

    #[test]
    fn other_kinds_are_refused_with_what_to_write() {
        for text in ["btrfs:srv", "/srv/be", "dir:srv", "", "nfs:/x"] {
            assert!(refused(text).contains("write dir:/path"), "{}", refused(text));
        }
        for text in ["zfs:", "zfs:/tank", "zfs:tank/", "zfs:tank@a", "zfs:tank/../x", "zfs:-x"] {
            assert!(refused(text).contains("write zfs:pool/name"), "{}", refused(text));
        }
    }
}
