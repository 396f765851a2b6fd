//! Handles as they go over the wire: sealed, so that a client can neither make nor change one.
//!
//! | bytes | what |
//! |---|---|
//! | 1 | version and flags: 1; with 0x80 if the client sees each data set apart |
//! | 1 | which key sealed it |
//! | 1 | type of the kernel's handle |
//! | 1 | length of the kernel's handle |
//! | 16 | UUID of the boot environment |
//! | 8 | file system id |
//! | 0 to 28 | the kernel's handle, with zeros to a multiple of four |
//! | 8 | SipHash-2-4 of everything before it, under the site's key |
//!
//! A handle is a pure function of the file and the key: no start time, no table, no path. It is as
//! good after a restart as before, because a diskless machine never asks for another one. At most 64
//! bytes, as NFSv3 allows, and a multiple of four.

use std::fmt;
use std::hash::Hasher as _;
use std::str::FromStr;

use siphasher::sip::SipHasher24;
use uuid::Uuid;
use vfs::{Handle, MAX_KERNEL_HANDLE};
use wire::nfs3::MAX_HANDLE;

use crate::site::machine::View;

/// The site's secret, by which it knows its own handles again.
///
/// Who has it can make handles to any file of any export; who loses it makes every running root
/// stale. Its text is 32 hexadecimal digits.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct SiteKey {
    id: u8,
    secret: [u8; 16],
}

impl SiteKey {
    /// The key of these secret bytes. Its id is derived from them, so that it needs no keeping.
    #[must_use]
    pub fn new(secret: [u8; 16]) -> Self {
        let [.., id] = SipHasher24::new_with_key(&secret).hash(b"netbe key id").to_be_bytes();
        Self { id, secret }
    }

    /// Seals the handle of a file of a boot environment, for a client that sees it so.
    #[must_use]
    pub fn seal(&self, environment: Uuid, view: View, file: &Handle) -> WireHandle {
        let kernel = file.kernel();
        let padded = kernel.len().next_multiple_of(4);
        let mut wire = WireHandle { bytes: [0; MAX_HANDLE], len: 0 };
        let len = u8::try_from(kernel.len()).unwrap_or(u8::MAX);
        wire.push(&[VERSION | flags(view), self.id, file.kind(), len]);
        wire.push(environment.as_bytes());
        wire.push(&file.fsid().to_be_bytes());
        wire.push(kernel);
        wire.push(PADDING.get(..padded - kernel.len()).unwrap_or_default());
        wire.push(&self.mac(wire.as_bytes()));
        wire
    }

    /// The boot environment, the view and the file of a handle that was sealed with this key; `None` for
    /// everything else.
    #[must_use]
    pub fn open(&self, wire: &[u8]) -> Option<(Uuid, View, Handle)> {
        let (body, mac) = wire.split_last_chunk::<8>()?;
        let ([version, key, kind, len], rest) = body.split_first_chunk::<4>()?;
        if wire.len() > MAX_HANDLE || *version & !SPLIT != VERSION || *key != self.id {
            return None;
        }
        // Compared as one number, in one instruction: nothing is told by how long it takes.
        if u64::from_be_bytes(*mac) != u64::from_be_bytes(self.mac(body)) {
            return None;
        }
        let (environment, rest) = rest.split_first_chunk::<16>()?;
        let (fsid, kernel) = rest.split_first_chunk::<8>()?;
        let kernel = kernel.get(..usize::from(*len))?;
        let file = Handle::new(u64::from_be_bytes(*fsid), *kind, kernel).ok()?;
        let view = if *version & SPLIT == 0 { View::Joined } else { View::Split };
        Some((Uuid::from_bytes(*environment), view, file))
    }

    fn mac(&self, body: &[u8]) -> [u8; 8] {
        let mut hasher = SipHasher24::new_with_key(&self.secret);
        hasher.write(body);
        hasher.finish().to_be_bytes()
    }
}

impl FromStr for SiteKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let digits = text.len() == 32 && text.bytes().all(|digit| digit.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| digits).ok_or(KeyError)?;
        Ok(Self::new(number.to_be_bytes()))
    }
}

/// The secret itself: for a backup, never for a log.
impl fmt::Display for SiteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.secret))
    }
}

impl fmt::Debug for SiteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SiteKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why text is not a site key.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a site key: it has 32 hexadecimal digits")]
pub struct KeyError;

/// A sealed handle.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct WireHandle {
    bytes: [u8; MAX_HANDLE],
    len: usize,
}

impl WireHandle {
    /// Its bytes, as they go over the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// Appends bytes. They fit: the layout above is at most [`MAX_HANDLE`] bytes long.
    fn push(&mut self, bytes: &[u8]) {
        let end = self.len.saturating_add(bytes.len());
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(bytes);
            self.len = end;
        }
    }
}

impl fmt::Debug for WireHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What the first byte says beside the version.
const fn flags(view: View) -> u8 {
    match view {
        View::Joined => 0,
        View::Split => SPLIT,
    }
}

const VERSION: u8 = 1;

/// The flag of a handle that came by the split view: whoever holds it is to see no border crossed.
const SPLIT: u8 = 0x80;

const PADDING: [u8; 4] = [0; 4];

/// Everything but the kernel's handle.
const FIXED: usize = 4 + 16 + 8 + 8;

const _: () = assert!(FIXED + MAX_KERNEL_HANDLE == MAX_HANDLE);

#[cfg(test)]
mod test {
    use super::*;

    const ENVIRONMENT: Uuid = Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);

    fn key() -> SiteKey {
        SiteKey::new([7; 16])
    }

    fn file(len: usize) -> Handle {
        Handle::new(0x1122_3344_5566_7788, 0x81, &[0xab; MAX_KERNEL_HANDLE][..len]).unwrap()
    }

    #[test]
    fn handles_of_every_length_are_opened_as_they_were_sealed() {
        for len in 0..=MAX_KERNEL_HANDLE {
            let wire = key().seal(ENVIRONMENT, View::Joined, &file(len));
            let bytes = wire.as_bytes();
            assert_eq!(bytes.len(), FIXED + len.next_multiple_of(4));
            assert_eq!(key().open(bytes), Some((ENVIRONMENT, View::Joined, file(len))));
        }
    }

    #[test]
    fn the_layout_is_the_documented_one_for_ever() {
        let wire = key().seal(ENVIRONMENT, View::Joined, &file(5));
        let documented = hex_literal::hex!(
            "01 2e 81 05 0123456789abcdef0123456789abcdef 1122334455667788 ababababab000000"
            "fb3ecc85c0a5bb1f"
        );
        assert_eq!(wire.as_bytes(), documented);
    }

    #[test]
    fn the_view_is_kept() {
        let wire = key().seal(ENVIRONMENT, View::Split, &file(12));
        assert_eq!(wire.as_bytes()[0], 0x81);
        assert_eq!(key().open(wire.as_bytes()), Some((ENVIRONMENT, View::Split, file(12))));
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let wire = key().seal(ENVIRONMENT, View::Joined, &file(21));
        for at in 0..wire.as_bytes().len() {
            for bit in 0..8 {
                let mut forged = wire.as_bytes().to_vec();
                forged[at] ^= 1 << bit;
                assert_eq!(key().open(&forged), None, "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_handle_that_is_cut_or_longer_is_not_ours() {
        let wire = key().seal(ENVIRONMENT, View::Joined, &file(20));
        for len in 0..wire.as_bytes().len() {
            assert_eq!(key().open(&wire.as_bytes()[..len]), None);
        }
        let longer = [wire.as_bytes(), &[0; 4]].concat();
        assert_eq!(key().open(&longer), None);
    }

    #[test]
    fn the_handle_of_another_site_is_not_ours() {
        let wire = SiteKey::new([8; 16]).seal(ENVIRONMENT, View::Joined, &file(20));
        assert_eq!(key().open(wire.as_bytes()), None);
    }

    #[test]
    fn even_with_the_id_of_our_key_another_site_cannot_seal() {
        let mut other = SiteKey::new([8; 16]);
        other.id = key().id;
        assert_eq!(key().open(other.seal(ENVIRONMENT, View::Joined, &file(20)).as_bytes()), None);
    }

    #[test]
    fn a_key_is_read_back_as_written() {
        let text = "000102030405060708090a0b0c0d0e0f";
        let key: SiteKey = text.parse().unwrap();
        assert_eq!(key.to_string(), text);
        assert_eq!(key, SiteKey::new([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]));
        for wrong in ["", "00", "+00102030405060708090a0b0c0d0e0f", &format!("{text}0")] {
            assert_eq!(wrong.parse::<SiteKey>(), Err(KeyError));
        }
    }

    #[test]
    fn a_key_does_not_show_its_secret_in_a_log() {
        assert!(!format!("{:?}", key()).contains("07"));
    }
}
