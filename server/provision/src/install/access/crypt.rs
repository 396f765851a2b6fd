//! Passwords as crypt(3) keeps them, by the method `$6$`: SHA-512, which every Linux and FreeBSD reads.
//! After Ulrich Drepper's "Unix crypt using SHA-256 and SHA-512", with its usual 5,000 rounds.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha512};

/// A password from which nobody gets it back, for a system's file of passwords.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Hashes a password with a salt that nobody used before: 12 random bytes make its 16 letters.
    #[must_use]
    pub fn new(password: &[u8], salt: [u8; 12]) -> Self {
        let mut letters = String::new();
        for three in salt.as_chunks::<3>().0 {
            letters.extend(encode(*three));
        }
        Self(crypt(password, &letters))
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// A log is no place for it.
impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

fn crypt(password: &[u8], salt: &str) -> String {
    let salt_bytes = salt.as_bytes();
    let alternate = sha512(&[password, salt_bytes, password]);
    let mut first = Sha512::new();
    first.update(password);
    first.update(salt_bytes);
    first.update(repeated(&alternate, password.len()));
    let mut bits = password.len();
    while bits > 0 {
        first.update(if bits & 1 == 1 { &alternate } else { password });
        bits >>= 1;
    }
    let mut hash: [u8; 64] = first.finalize().into();

    let mut of_password = Sha512::new();
    (0..password.len()).for_each(|_| of_password.update(password));
    let password = repeated(&of_password.finalize(), password.len());
    let mut of_salt = Sha512::new();
    let [begin, ..] = hash;
    (0..16 + usize::from(begin)).for_each(|_| of_salt.update(salt_bytes));
    let salted = repeated(&of_salt.finalize(), salt.len());

    for round in 0..ROUNDS {
        let odd = round % 2 == 1;
        let mut next = Sha512::new();
        next.update(if odd { &password[..] } else { &hash });
        if round % 3 != 0 {
            next.update(&salted);
        }
        if round % 7 != 0 {
            next.update(&password);
        }
        next.update(if odd { &hash[..] } else { &password });
        hash = next.finalize().into();
    }
    format!("$6${salt}${}", encoded(&hash))
}

fn sha512(parts: &[&[u8]]) -> [u8; 64] {
    let mut hash = Sha512::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// So many bytes of a hash that begins again where it ends.
fn repeated(hash: &[u8], len: usize) -> Vec<u8> {
    hash.iter().copied().cycle().take(len).collect()
}

/// The 64 bytes in the method's own order, six bits a letter.
fn encoded(hash: &[u8; 64]) -> String {
    let at = |index: usize| hash.get(index).copied().unwrap_or_default();
    let (mut text, mut places) = (String::new(), (0, 21, 42));
    for _ in 0..21 {
        let (a, b, c) = places;
        text.extend(encode([at(a), at(b), at(c)]));
        places = (b + 1, c + 1, a + 1);
    }
    text.extend(encode([0, 0, at(63)]).take(2));
    text
}

/// Three bytes, the last one first, as four letters.
fn encode([high, middle, low]: [u8; 3]) -> impl Iterator<Item = char> {
    let word = u32::from_be_bytes([0, high, middle, low]);
    (0..4).map(move |place| {
        let six = word >> (6 * place) & 0x3f;
        LETTERS.chars().nth(six as usize).unwrap_or('.')
    })
}

const ROUNDS: u32 = 5000;
const LETTERS: &str = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

#[cfg(test)]
mod test {
    use super::*;

    /// As crypt(3) of Debian 12 makes them.
    #[test]
    fn passwords_are_hashed_as_crypt_does() {
        for (salt, password, hash) in VECTORS {
            assert_eq!(crypt(password.as_bytes(), salt), hash);
        }
    }

    #[test]
    fn a_salt_has_16_letters_and_the_hash_is_not_shown() {
        let hash = PasswordHash::new(b"secret", *b"abcdefghijkl");
        assert_eq!(hash.text().split('$').nth(2).map(str::len), Some(16));
        assert_eq!(format!("{hash:?}"), "PasswordHash");
    }

    const VECTORS: [(&str, &str, &str); 4] = [
        (
            "saltstring",
            "Hello world!",
            "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
        ),
        (
            "abcdefghijklmnop",
            "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            "$6$abcdefghijklmnop$2x1.Q8sgJEpsESxqbzQBzgmnZ8nJxka4o8gFun4ULEchB5hUOFVJ3Zvss2lXaUjUdayPFLDbY7FSNMXm9kque/",
        ),
        (
            "x",
            "a",
            "$6$x$6Zqbz8j5rMHIeJ1ujjjFXuZXSa/VORj.fVUEQcJc.rjR9.wCKlhZuymRQLtIEzcxNmqwX/fRNvM45BbvFayY51",
        ),
        (
            "QWERTZ./12345678",
            "a password that is longer than sixty-four bytes, so that the hash of it has to be repeated for it",
            "$6$QWERTZ./12345678$Zb4HypaDOp4P23PX59MEr42UHf9HQtFkba1QYK.I2EDUBc7dzbFzkTilL1nPd4iPlK1oy.MbgEI6ErK5dKSp..",
        ),
    ];
}
