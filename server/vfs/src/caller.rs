//! On whose behalf a call is carried out.

use std::sync::Arc;

/// How many supplementary groups AUTH_SYS can carry (RFC 5531 appendix A).
pub const MAX_GROUPS: usize = 16;

/// The caller's identity after the export's mapping (maproot, mapall) was applied.
#[derive(Clone, Debug)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Primary group; a new file gets it unless the directory says otherwise.
    pub gid: u32,
    groups: Groups,
}

/// Supplementary groups.
#[derive(Clone, Debug)]
enum Groups {
    /// As a client sends them, with nothing to allocate for a call.
    Sent { ids: [u32; MAX_GROUPS], count: usize },
    /// As this host knows them: as many as it likes.
    Known(Arc<[u32]>),
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
        Self { uid, gid, groups: Groups::Sent { ids: [0; MAX_GROUPS], count: 0 } }
    }

    /// The same caller with `groups`; those past [`MAX_GROUPS`] cannot come from the wire and are left out.
    #[must_use]
    pub fn with_groups(self, groups: &[u32]) -> Self {
        let (mut ids, mut count) = ([0; MAX_GROUPS], 0);
        for (slot, group) in ids.iter_mut().zip(groups) {
            *slot = *group;
            count += 1;
        }
        Self { groups: Groups::Sent { ids, count }, ..self }
    }

    /// The same caller with the groups that this host knows of him, however many they are.
    #[must_use]
    pub fn with_known_groups(self, groups: Arc<[u32]>) -> Self {
        Self { groups: Groups::Known(groups), ..self }
    }

    /// The supplementary groups.
    #[must_use]
    pub fn groups(&self) -> &[u32] {
        match &self.groups {
            Groups::Sent { ids, count } => ids.get(..*count).unwrap_or_default(),
            Groups::Known(groups) => groups,
        }
    }

    /// Whether the caller is a member of `gid`.
    #[must_use]
    pub fn is_in(&self, gid: u32) -> bool {
        self.gid == gid || self.groups().contains(&gid)
    }
}

impl PartialEq for Caller {
    fn eq(&self, other: &Self) -> bool {
        (self.uid, self.gid, self.groups()) == (other.uid, other.gid, other.groups())
    }
}

impl Eq for Caller {}

/// The user and the group that own nothing, on Linux and FreeBSD alike.
const NOBODY: u32 = 65_534;

/// What POSIX keeps for "nobody in particular": to chown(2) it means "leave the owner", so that a file
/// given to it would stay the server's own, which is root's.
pub(crate) const NO_ID: u32 = u32::MAX;
