//! How the verifier of an exclusive create is remembered (RFC 1813 §3.3.8).
//!
//! The file itself remembers it: the two halves become the seconds of its access and modification
//! times until the client sets real ones. That survives a restart and needs no table.

use crate::{Attr, Time};

/// The access and modification times that remember `verifier`.
///
/// The highest bit of each half is left out: file systems with signed 32-bit seconds cannot keep it.
#[must_use]
pub fn times(verifier: [u8; 8]) -> (Time, Time) {
    let [a, b, c, d, e, f, g, h] = verifier;
    let second =
        |half| Time { seconds: i64::from(u32::from_be_bytes(half) & 0x7fff_ffff), nanoseconds: 0 };
    (second([a, b, c, d]), second([e, f, g, h]))
}

/// Whether the file was made by an exclusive create with this verifier, and nothing has been done to
/// it since: then a repeated create is a retry.
#[must_use]
pub fn is_retry(attr: &Attr, verifier: [u8; 8]) -> bool {
    attr.size == 0 && (attr.atime, attr.mtime) == times(verifier)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn both_halves_of_the_verifier_count() {
        let (first, second) = times(*b"abcdefgh");
        assert_eq!(first.seconds, 0x6162_6364);
        assert_eq!(second.seconds, 0x6566_6768);
    }

    #[test]
    fn no_half_is_a_negative_time() {
        let (first, second) = times([0xff; 8]);
        assert_eq!((first.seconds, second.seconds), (0x7fff_ffff, 0x7fff_ffff));
    }
}
