//! Whose a tree is: known by its files, so that a tree without a kernel is known too.

use hostfs::{Inside, InsideError};

use crate::contents::{Contents, System};

/// The kinds of systems that netbe configures.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    FreeBsd,
    Linux,
}

impl Kind {
    /// By the kernel that boots from the network, else by the files of users, which every system has.
    pub(super) fn of(inside: &Inside) -> Option<Self> {
        let has = |path: &&str| {
            // What cannot be looked at may be there: whoever writes to it hears why it cannot be.
            !matches!(inside.exists(path), Ok(false) | Err(InsideError::NotDirectory(_)))
        };
        match Contents::scan(inside).system {
            Some(System::FreeBsd) => Some(Self::FreeBsd),
            Some(System::Linux { .. }) => Some(Self::Linux),
            None if ["/etc/master.passwd", "/etc/defaults/rc.conf"].iter().any(has) => {
                Some(Self::FreeBsd)
            }
            None => has(&"/etc/shadow").then_some(Self::Linux),
        }
    }
}
