//! File ids that are unique over several trees, without a table.
//!
//! | bits | of a file of the root | of a file of a branch |
//! |---|---|---|
//! | 63 | 0 | 1 |
//! | 62 to 40 | the inode number | 23 bits made from the file system id of the branch |
//! | 39 to 0 | the inode number | the inode number |
//!
//! The id is a pure function of the file system and the inode, so it outlives restarts and does not
//! change when another branch comes or goes. Two files never share one: bit 63 tells the root's from all
//! others, two branches with the same 23 bits are not shown together, and an inode number that does not
//! fit has no id at all. Numbers that large are rare: ext4's and UFS's have 32 bits, ZFS's and btrfs's
//! count files that were made, and XFS's grow past 2^40 on file systems of some hundred TiB.

use crate::FsError;

/// How the inode numbers of one tree become file ids.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fileids {
    /// As they are, whatever they are.
    Any,
    /// As they are, beside those of branches.
    Own,
    /// Below these upper bits.
    Tagged(u64),
}

impl Fileids {
    /// For a branch with this file system id.
    pub(super) const fn of(fsid: u64) -> Self {
        Self::Tagged(BRANCH | (mixed(fsid) >> (64 - TAG_BITS)) << INODE_BITS)
    }

    /// The file id of an inode; [`FsError::NotSupp`] if it has none.
    pub(super) const fn shown(self, inode: u64) -> Result<u64, FsError> {
        match self {
            Self::Any => Ok(inode),
            Self::Own if inode & BRANCH == 0 => Ok(inode),
            Self::Tagged(tag) if inode >> INODE_BITS == 0 => Ok(tag | inode),
            Self::Own | Self::Tagged(_) => Err(FsError::NotSupp),
        }
    }
}

/// Spreads every bit of a number over all bits of the result (the finalizer of SplitMix64, by which
/// file system ids that are close to each other get tags that are not).
const fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The bit that files of the root never have.
const BRANCH: u64 = 1 << 63;
const INODE_BITS: u32 = 40;
const TAG_BITS: u32 = 23;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_file_of_the_root_keeps_its_number() {
        assert_eq!(Fileids::Own.shown(2), Ok(2));
        assert_eq!(Fileids::Own.shown(u64::MAX >> 1), Ok(u64::MAX >> 1));
    }

    #[test]
    fn the_layout_is_the_same_for_ever() {
        assert_eq!(Fileids::of(0x0123_4567_89ab_cdef).shown(0x0100), Ok(0xd960_2c00_0000_0100));
    }

    #[test]
    fn neighbouring_file_systems_have_tags_of_their_own() {
        let mut tags: Vec<_> = (0..100).map(|fsid| Fileids::of(fsid).shown(0).unwrap()).collect();
        tags.sort_unstable();
        tags.dedup();
        assert_eq!(tags.len(), 100);
    }

    #[test]
    fn a_number_that_does_not_fit_has_no_id() {
        assert_eq!(Fileids::Own.shown(1 << 63), Err(FsError::NotSupp));
        assert!(Fileids::of(1).shown((1 << 40) - 1).is_ok());
        assert_eq!(Fileids::of(1).shown(1 << 40), Err(FsError::NotSupp));
    }
}
