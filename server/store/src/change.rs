//! Differences between two trees.

use std::fmt;
use std::path::PathBuf;

/// A difference between two trees.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// Where it is below the root, without a slash at the beginning. It need not be text.
    pub path: PathBuf,
    /// What happened to it.
    pub kind: ChangeKind,
    /// What it is now, or was if it is gone.
    pub file: FileKind,
}

/// What happened to a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChangeKind {
    /// It is new. A file that was renamed is new under one name and gone under the other.
    Added,
    /// Its content, its owner, its mode, its times or its extended attributes differ. Of a
    /// directory, a new list of names and the times that change with it are no difference.
    Changed,
    /// It is gone.
    Removed,
}

impl ChangeKind {
    /// The sign that zfs-diff(8) has for it.
    #[must_use]
    pub const fn sign(self) -> char {
        match self {
            Self::Added => '+',
            Self::Changed => 'M',
            Self::Removed => '-',
        }
    }
}

/// The kinds of files.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileKind {
    /// A block device.
    Block,
    /// A character device.
    Character,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A file with content.
    Regular,
    /// A socket.
    Socket,
    /// A symbolic link.
    Symlink,
}

impl FileKind {
    /// The sign that zfs-diff(8) has for it with `-F`.
    #[must_use]
    pub const fn sign(self) -> char {
        match self {
            Self::Block => 'B',
            Self::Character => 'C',
            Self::Directory => '/',
            Self::Fifo => '|',
            Self::Regular => 'F',
            Self::Socket => '=',
            Self::Symlink => '@',
        }
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Block => "block device",
            Self::Character => "character device",
            Self::Directory => "directory",
            Self::Fifo => "fifo",
            Self::Regular => "file",
            Self::Socket => "socket",
            Self::Symlink => "symbolic link",
        })
    }
}
