//! How the verifier of an exclusive create is remembered (RFC 1813 §3.3.8).
//!
//! The file itself remembers it: the two halves become its access and modification times until the
//! client sets real ones. That survives a restart and needs no table.

use crate::{Attr, Time};

/// The access and modification times that remember `verifier`.
///
/// The highest bit of each half is told by the nanoseconds: file systems with signed 32-bit seconds
/// cannot keep it there.
#[must_use]
pub const fn times(verifier: [u8; 8]) -> (Time, Time) {
    let [a, b, c, d, e, f, g, h] = verifier;
    (time(u32::from_be_bytes([a, b, c, d])), time(u32::from_be_bytes([e, f, g, h])))
}

const fn time(half: u32) -> Time {
    // Neither is 0, which is what file systems without nanoseconds keep of both.
    let nanoseconds = if half >> 31 == 0 { CLEAR } else { SET };
    // Lossless: `i64::from` is not const.
    Time { seconds: (half & 0x7fff_ffff) as i64, nanoseconds }
}

/// Whether the file was made by an exclusive create with this verifier, and nothing has been done to
/// it since: then a repeated create is a retry.
#[must_use]
pub fn is_retry(attr: &Attr, verifier: [u8; 8]) -> bool {
    let (atime, mtime) = times(verifier);
    attr.size == 0 && is_kept(attr.atime, atime) && is_kept(attr.mtime, mtime)
}

/// Whether a file system that was given `time` may tell `kept`: some keep whole seconds alone.
const fn is_kept(kept: Time, time: Time) -> bool {
    let nanoseconds = kept.nanoseconds == time.nanoseconds || kept.nanoseconds == 0;
    kept.seconds == time.seconds && nanoseconds
}

/// Nanoseconds of a half whose highest bit is clear; a whole number of milliseconds, which every file
/// system with fractions of seconds keeps.
const CLEAR: u32 = 1_000_000;

/// Nanoseconds of a half whose highest bit is set.
const SET: u32 = 2_000_000;

#[cfg(test)]
mod test {
    use super::*;
    use crate::FileKind;

    fn made_by(verifier: [u8; 8]) -> Attr {
        let (atime, mtime) = times(verifier);
        Attr {
            kind: FileKind::Regular,
            mode: 0,
            nlink: 1,
            uid: 0,
            gid: 0,
            size: 0,
            used: 0,
            rdev: (0, 0),
            fsid: 1,
            fileid: 1,
            atime,
            mtime,
            ctime: mtime,
        }
    }

    #[test]
    fn all_64_bits_of_the_verifier_count() {
        for verifier in [[0; 8], *b"abcdefgh", [0xff; 8]] {
            let file = made_by(verifier);
            assert!(is_retry(&file, verifier));
            for bit in 0..64 {
                let other = (u64::from_be_bytes(verifier) ^ (1 << bit)).to_be_bytes();
                assert!(!is_retry(&file, other), "bit {bit} of {verifier:?}");
            }
        }
    }

    #[test]
    fn a_file_system_without_nanoseconds_knows_a_retry() {
        let whole = |time| Time { nanoseconds: 0, ..time };
        let made = made_by([0xff; 8]);
        let kept = Attr { atime: whole(made.atime), mtime: whole(made.mtime), ..made };
        assert!(is_retry(&kept, [0xff; 8]));
        assert!(!is_retry(&kept, [0xfe; 8]));
    }

    #[test]
    fn no_half_is_a_time_that_32_bits_cannot_keep() {
        let (first, second) = times([0xff; 8]);
        assert_eq!((first.seconds, second.seconds), (0x7fff_ffff, 0x7fff_ffff));
    }

    #[test]
    fn a_file_that_was_written_to_was_made_by_nobody() {
        let file = Attr { size: 1, ..made_by(*b"abcdefgh") };
        assert!(!is_retry(&file, *b"abcdefgh"));
    }
}
