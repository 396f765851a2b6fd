//! The procedures of NFSv3 (RFC 1813 §3.3).

/// The procedures, in the RFC's order; each is spelled `NFSPROC3_` and its name there.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Procedure {
    /// Does nothing (§3.3.0).
    Null,
    /// Reads attributes (§3.3.1).
    Getattr,
    /// Sets attributes (§3.3.2).
    Setattr,
    /// Looks up a name (§3.3.3).
    Lookup,
    /// Asks for rights (§3.3.4).
    Access,
    /// Reads a symbolic link (§3.3.5).
    Readlink,
    /// Reads from a file (§3.3.6).
    Read,
    /// Writes to a file (§3.3.7).
    Write,
    /// Makes a file (§3.3.8).
    Create,
    /// Makes a directory (§3.3.9).
    Mkdir,
    /// Makes a symbolic link (§3.3.10).
    Symlink,
    /// Makes a special file (§3.3.11).
    Mknod,
    /// Removes a file (§3.3.12).
    Remove,
    /// Removes a directory (§3.3.13).
    Rmdir,
    /// Renames (§3.3.14).
    Rename,
    /// Makes a hard link (§3.3.15).
    Link,
    /// Lists a directory (§3.3.16).
    Readdir,
    /// Lists a directory with attributes and handles (§3.3.17).
    Readdirplus,
    /// Tells space and inodes (§3.3.18).
    Fsstat,
    /// Tells sizes and properties of the server (§3.3.19).
    Fsinfo,
    /// Tells limits of the file system (§3.3.20).
    Pathconf,
    /// Brings written data to stable storage (§3.3.21).
    Commit,
}

impl Procedure {
    /// All of them, by number.
    pub const ALL: [Self; 22] = [
        Self::Null,
        Self::Getattr,
        Self::Setattr,
        Self::Lookup,
        Self::Access,
        Self::Readlink,
        Self::Read,
        Self::Write,
        Self::Create,
        Self::Mkdir,
        Self::Symlink,
        Self::Mknod,
        Self::Remove,
        Self::Rmdir,
        Self::Rename,
        Self::Link,
        Self::Readdir,
        Self::Readdirplus,
        Self::Fsstat,
        Self::Fsinfo,
        Self::Pathconf,
        Self::Commit,
    ];

    /// The procedure of this number, if there is one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        usize::try_from(number).ok().and_then(|number| Self::ALL.get(number)).copied()
    }

    /// The procedure's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Null => 0,
            Self::Getattr => 1,
            Self::Setattr => 2,
            Self::Lookup => 3,
            Self::Access => 4,
            Self::Readlink => 5,
            Self::Read => 6,
            Self::Write => 7,
            Self::Create => 8,
            Self::Mkdir => 9,
            Self::Symlink => 10,
            Self::Mknod => 11,
            Self::Remove => 12,
            Self::Rmdir => 13,
            Self::Rename => 14,
            Self::Link => 15,
            Self::Readdir => 16,
            Self::Readdirplus => 17,
            Self::Fsstat => 18,
            Self::Fsinfo => 19,
            Self::Pathconf => 20,
            Self::Commit => 21,
        }
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn every_procedure_is_found_by_its_number() {
        for procedure in Procedure::ALL {
            assert_eq!(Procedure::from_number(procedure.number()), Some(procedure));
        }
        assert_eq!(Procedure::from_number(22), None);
        assert_eq!(Procedure::from_number(u32::MAX), None);
    }
}
