//! What a tree calls one of its files.

use std::fmt;
use std::hash::{Hash, Hasher};

/// Longest kernel file handle that fits into an NFSv3 handle beside what signs it.
///
/// ext4 needs 8 bytes, xfs 12, ZFS 12, btrfs 20, FreeBSD's `fid` 20.
pub const MAX_KERNEL_HANDLE: usize = 28;

/// One file of a tree: its file system and the kernel's handle in it.
///
/// It is a pure function of the file: equal for every lookup, by every name, after a restart. Locks,
/// descriptors and per-directory serialisation are keyed by it. It is not yet what goes over the wire:
/// the server seals it with the boot environment's UUID and a keyed MAC.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Handle {
    fsid: u64,
    kind: u8,
    len: u8,
    bytes: [u8; MAX_KERNEL_HANDLE],
}

impl Handle {
    /// A handle from its parts: file system id, the kernel's handle type, the kernel's handle.
    pub fn new(fsid: u64, kind: u8, kernel: &[u8]) -> Result<Self, HandleError> {
        let mut bytes = [0; MAX_KERNEL_HANDLE];
        let room = bytes.get_mut(..kernel.len()).ok_or(HandleError::TooLong(kernel.len()))?;
        room.copy_from_slice(kernel);
        let len = u8::try_from(kernel.len()).map_err(|_| HandleError::TooLong(kernel.len()))?;
        Ok(Self { fsid, kind, len, bytes })
    }

    /// The file system's id: from its UUID or GUID, the same for ever.
    #[must_use]
    pub const fn fsid(&self) -> u64 {
        self.fsid
    }

    /// The kernel's handle type.
    #[must_use]
    pub const fn kind(&self) -> u8 {
        self.kind
    }

    /// The kernel's handle.
    #[must_use]
    pub fn kernel(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// What tells nearly all handles apart, in two short pieces: every call looks up some.
impl Hash for Handle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.fsid);
        state.write(self.kernel());
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}:{}:", self.fsid, self.kind)?;
        self.kernel().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a handle could not be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum HandleError {
    /// The file system's handles do not fit.
    #[error("kernel handle of {0} bytes, at most {MAX_KERNEL_HANDLE} fit into an NFSv3 handle")]
    TooLong(usize),
}
