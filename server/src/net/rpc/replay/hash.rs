//! A keyed hash of a call's arguments, at the price of a small part of moving them.
//!
//! SipHash over a megabyte of data costs as much as writing it. So data are pressed together first, by
//! NH as in UMAC (RFC 4418 §5.2.2), with words of 64 bits as in VMAC: whoever does not know the key
//! finds no two blocks that are pressed into the same sum but by chance, which is one in 2^64
//! (Black, Halevi, Krawczyk, Krovetz and Rogaway, UMAC, 1999). SipHash has the sums then.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// A hash with a key of its own.
#[derive(Debug)]
pub(super) struct KeyedHash {
    state: RandomState,
    /// One for each half of each pair of words of a block.
    keys: Box<[[u64; 2]]>,
}

impl KeyedHash {
    /// A hash that no other has.
    pub(super) fn new() -> Self {
        let state = RandomState::new();
        let keys =
            (0..BLOCK / PAIR).map(|pair| [state.hash_one((pair, 0)), state.hash_one((pair, 1))]);
        Self { keys: keys.collect(), state }
    }

    /// The hash of bytes; to be compared with that of as many.
    pub(super) fn of(&self, bytes: &[u8]) -> u64 {
        let (head, data) = bytes.split_at_checked(HEAD).unwrap_or((bytes, &[]));
        let mut hasher = self.state.build_hasher();
        hasher.write(head);
        for block in data.chunks(BLOCK) {
            hasher.write_u128(self.press(block));
        }
        hasher.finish()
    }

    /// A hash of a value.
    pub(super) fn of_value(&self, value: impl std::hash::Hash) -> u64 {
        self.state.hash_one(value)
    }

    /// The sum of a block: each pair of words, with a key added to each, multiplied.
    fn press(&self, block: &[u8]) -> u128 {
        let (pairs, rest) = block.as_chunks::<PAIR>();
        let mut keys = self.keys.iter();
        let mut sum = pairs
            .iter()
            .zip(&mut keys)
            .map(|(pair, key)| product(*pair, *key))
            .fold(0, u128::wrapping_add);
        if let Some(key) = keys.next().filter(|_| !rest.is_empty()) {
            let mut last = [0; PAIR];
            for (to, from) in last.iter_mut().zip(rest) {
                *to = *from;
            }
            sum = sum.wrapping_add(product(last, *key));
        }
        sum
    }
}

fn product(pair: [u8; PAIR], [first, second]: [u64; 2]) -> u128 {
    let ([one, other], _) = pair.as_chunks::<8>() else { return 0 };
    let word = |bytes: &[u8; 8], key: u64| u128::from(u64::from_ne_bytes(*bytes).wrapping_add(key));
    word(one, first) * word(other, second)
}

/// How many bytes are hashed as they are: a handle, an offset and a name.
const HEAD: usize = 256;

/// Bytes that are pressed into one sum.
const BLOCK: usize = 2048;

/// Bytes of two words.
const PAIR: usize = 16;

#[cfg(test)]
mod test {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_bit_of_the_arguments_counts() {
        let hash = KeyedHash::new();
        for len in [1, 8, 255, 256, 257, 271, 272, 273, 300, 2303, 2304, 2305, 4096, 5003] {
            let args = vec![0; len];
            let before = hash.of(&args);
            assert_eq!(before, hash.of(&args), "{len}");
            for place in (0..len).filter(|place| *place < 300 || place % 97 == 0 || place + 9 > len)
            {
                for bit in [1, 0x10, 0x80] {
                    let mut other = args.clone();
                    other[place] ^= bit;
                    assert_ne!(hash.of(&other), before, "{bit:#x} of byte {place} of {len}");
                }
            }
        }
    }

    #[test]
    fn bits_that_move_make_another_hash() {
        let hash = KeyedHash::new();
        let mut hashes = HashSet::new();
        // The same two bits, the highest of two words, everywhere.
        for (first, second) in
            (0..40).flat_map(|first| (0..first).map(move |second| (first, second)))
        {
            let mut args = vec![0; 256 + 40 * 8];
            args[256 + first * 8 + 7] = 0x80;
            args[256 + second * 8 + 7] = 0x80;
            assert!(hashes.insert(hash.of(&args)), "{first} and {second}");
        }
    }

    #[test]
    fn no_two_bits_can_be_chosen_that_leave_the_hash_as_it_was() {
        let hash = KeyedHash::new();
        let words = [0_u64, 0x0123_4567_89ab_cdef, u64::MAX];
        for (word, distance) in words.into_iter().flat_map(|word| (1..9).map(move |by| (word, by)))
        {
            let data: Vec<u8> = word.to_ne_bytes().repeat(64);
            let before = hash.of(&[&[0; HEAD][..], &data].concat());
            // One bit of a word, and one of a word behind it, as many bits further as may be.
            for (first, second) in (0..64).flat_map(|one| (0..64).map(move |other| (one, other))) {
                let mut words: Vec<u64> = vec![word; 64];
                words[8] ^= 1 << first;
                words[8 + distance] ^= 1 << second;
                let data: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
                let other = hash.of(&[&[0; HEAD][..], &data].concat());
                assert_ne!(other, before, "bits {first} and {second} of words {distance} apart");
            }
        }
    }
}
