//! On whose behalf a call is carried out.

/// How many supplementary groups AUTH_SYS can carry (RFC 5531 appendix A).
pub const MAX_GROUPS: usize = 16;

/// The caller's identity after the export's mapping (maproot, mapall) was applied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Primary group; a new file gets it unless the directory says otherwise.
    pub gid: u32,
    groups: [u32; MAX_GROUPS],
    count: usize,
}

impl Caller {
    /// The superuser, who may do everything that the export allows.
    pub const ROOT: Self = Self::new(0, 0);

    /// A caller without supplementary groups. The id 4294967295 is nobody's and becomes 65534, as it
    /// does with Linux's server.
    #[must_use]
    pub const fn new(uid: u32, gid: u32) -> Self {
        let uid = if uid == NO_ID { NOBODY } else { uid };
        let gid = if gid == NO_ID { NOBODY } else { gid };
        Self { uid, gid, groups: [0; MAX_GROUPS], count: 0 }
    }

    /// The same caller with `groups`; those past [`MAX_GROUPS`] cannot come from the wire and are left out.
    #[must_use]
    pub fn with_groups(mut self, groups: &[u32]) -> Self {
        self.count = 0;
        for (slot, group) in self.groups.iter_mut().zip(groups) {
            *slot = *group;
            self.count += 1;
        }
        self
    }

    /// The supplementary groups.
    #[must_use]
    pub fn groups(&self) -> &[u32] {
        self.groups.get(..self.count).unwrap_or_default()
    }

    /// Whether the caller is a member of `gid`.
    #[must_use]
    pub fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups().contains(&gid)
    }
}

/// The user and the group that own nothing, on Linux and FreeBSD alike.
const NOBODY: u32 = 65_534;

/// What POSIX keeps for "nobody in particular": to chown(2) it means "leave the owner", so that a file
/// given to it would stay the server's own, which is root's.
pub(crate) const NO_ID: u32 = u32::MAX;
