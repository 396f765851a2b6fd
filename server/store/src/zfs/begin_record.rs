//! The first record of a stream of zfs-send(8) (`DRR_BEGIN`, in ZFS's `sys/zfs_ioctl.h`): what a stream
//! says about itself before zfs-receive(8) is given it.
//!
//! Some streams decide about the host that takes them in: they bring properties, and so mount points and
//! shares (`zfs send -p`), snapshots and data sets of their own (`-R`), or begin at a snapshot of any other
//! data set (clones). [`Zfs::write_stream`](super::Zfs::write_stream) writes none of these.

use crate::{SnapshotName, StreamError};

/// Refuses a stream that is anything else than one snapshot, of this name, of one file system: whole, or
/// what is new since another snapshot of the same.
pub(super) fn check(
    record: &[u8; LEN],
    snapshot: &SnapshotName,
    goes_on: bool,
) -> Result<(), StreamError> {
    let refused = |why: &str| StreamError::Nonsense(format!("what ZFS would receive {why}"));
    let record = Record::parse(record).ok_or_else(|| refused("is no stream of ZFS"))?;
    if record.version & KIND != SUBSTREAM {
        return Err(refused("brings properties or several snapshots"));
    }
    if record.contents != FILE_SYSTEM {
        return Err(refused("is no file system"));
    }
    if record.flags & CLONE != 0 || (record.base != 0) != goes_on {
        return Err(refused("begins at another snapshot than it says"));
    }
    if record.name.rsplit(|&byte| byte == b'@').next() != Some(snapshot.as_str().as_bytes()) {
        return Err(refused("is another snapshot than it says"));
    }
    Ok(())
}

/// What counts of the record. All numbers are in the byte order of its sender.
struct Record<'a> {
    version: u64,
    contents: u32,
    flags: u32,
    /// The GUID of the snapshot that it begins at, or 0.
    base: u64,
    /// The snapshot as its sender calls it, with its data set.
    name: &'a [u8],
}

impl<'a> Record<'a> {
    /// `None` if it is another record, or none.
    fn parse(record: &'a [u8; LEN]) -> Option<Self> {
        let little = u64::from_le_bytes(field(record, 8)?) == MAGIC;
        let long = |at| {
            let bytes = field(record, at)?;
            Some(if little { u64::from_le_bytes(bytes) } else { u64::from_be_bytes(bytes) })
        };
        let short = |at| {
            let bytes = field(record, at)?;
            Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
        };
        if short(0)? != BEGIN || long(8)? != MAGIC {
            return None;
        }
        let name = record.get(56..)?.split(|&byte| byte == 0).next()?;
        let (version, contents, flags, base) = (long(16)?, short(32)?, short(36)?, long(48)?);
        Some(Self { version, contents, flags, base, name })
    }
}

fn field<const SIZE: usize>(record: &[u8], at: usize) -> Option<[u8; SIZE]> {
    record.get(at..)?.first_chunk().copied()
}

/// How long a record is, in bytes (`sizeof (dmu_replay_record_t)`).
pub(super) const LEN: usize = 312;
/// `DRR_BEGIN`
const BEGIN: u32 = 0;
/// `DMU_BACKUP_MAGIC`
const MAGIC: u64 = 0x2_f5ba_cbac;
/// `DMU_GET_STREAM_HDRTYPE`
const KIND: u64 = 3;
/// `DMU_SUBSTREAM`
const SUBSTREAM: u64 = 1;
/// `DMU_OST_ZFS`
const FILE_SYSTEM: u32 = 2;
/// `DRR_FLAG_CLONE`
const CLONE: u32 = 1;

#[cfg(test)]
mod test {
    use super::*;

    /// What `zfs send tank/head@monday` begins with.
    fn plain() -> [u8; LEN] {
        let mut record = [0; LEN];
        record[8..16].copy_from_slice(&MAGIC.to_le_bytes());
        record[16..24].copy_from_slice(&(SUBSTREAM | 4 << 2).to_le_bytes());
        record[32..36].copy_from_slice(&FILE_SYSTEM.to_le_bytes());
        record[40..48].copy_from_slice(&7_u64.to_le_bytes());
        record[56..72].copy_from_slice(b"tank/head@monday");
        record
    }

    fn with(at: usize, bytes: &[u8]) -> [u8; LEN] {
        let mut record = plain();
        record[at..at + bytes.len()].copy_from_slice(bytes);
        record
    }

    fn refused(record: &[u8; LEN], goes_on: bool) -> String {
        check(record, &"monday".parse().unwrap(), goes_on).unwrap_err().to_string()
    }

    #[test]
    fn one_snapshot_of_one_file_system_is_taken() {
        let monday = "monday".parse().unwrap();
        check(&plain(), &monday, false).unwrap();
        check(&with(48, &[9]), &monday, true).unwrap();
    }

    #[test]
    fn the_sender_s_byte_order_is_its_own() {
        let mut record = plain();
        for (at, size) in [(8, 8), (16, 8), (32, 4), (40, 8)] {
            record[at..at + size].reverse();
        }
        check(&record, &"monday".parse().unwrap(), false).unwrap();
    }

    #[test]
    fn what_decides_about_this_host_is_refused() {
        assert!(refused(&with(16, &[2 | 4 << 2]), false).contains("brings properties"));
        assert!(refused(&with(32, &[3]), false).contains("no file system"));
        assert!(refused(&with(36, &[1]), false).contains("another snapshot than it says"));
        assert!(refused(&with(48, &[9]), false).contains("begins at another snapshot"));
        assert!(refused(&plain(), true).contains("begins at another snapshot"));
        assert!(refused(&with(66, b"sunday"), false).contains("is another snapshot"));
        assert!(refused(&with(65, b"/"), false).contains("is another snapshot"));
        assert!(refused(&with(0, &[1]), false).contains("no stream of ZFS"));
        assert!(refused(&[0; LEN], false).contains("no stream of ZFS"));
    }
}
