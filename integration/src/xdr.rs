//! As much of XDR (RFC 4506) as a load generator needs, written apart from the server's.

use crate::failure::Failure;

/// Appends a word (RFC 4506 §4.2).
pub(crate) fn word(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a double word (RFC 4506 §4.5).
pub(crate) fn long(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends bytes with their length, filled up to a multiple of four (RFC 4506 §4.10).
pub(crate) fn opaque(out: &mut Vec<u8>, bytes: &[u8]) {
    word(out, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(bytes);
    out.resize(out.len() + padding(bytes.len()), 0);
}

/// Takes values from the front of a reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of these bytes.
    pub(crate) const fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    /// The next `count` bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Failure> {
        let short = || Failure::said("the server's reply ends too early");
        let (taken, rest) = self.rest.split_at_checked(count).ok_or_else(short)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next word.
    pub(crate) fn word(&mut self) -> Result<u32, Failure> {
        Ok(self.bytes(4)?.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    /// The next double word.
    pub(crate) fn long(&mut self) -> Result<u64, Failure> {
        Ok(u64::from(self.word()?) << 32 | u64::from(self.word()?))
    }

    /// The next bytes that have their length before them.
    pub(crate) fn opaque(&mut self) -> Result<&'a [u8], Failure> {
        let length = usize::try_from(self.word()?).unwrap_or(usize::MAX);
        let bytes = self.bytes(length)?;
        self.bytes(padding(length))?;
        Ok(bytes)
    }

    /// Skips what may be there: a word that says whether, then `count` bytes.
    pub(crate) fn optional(&mut self, count: usize) -> Result<(), Failure> {
        if self.word()? != 0 {
            self.bytes(count)?;
        }
        Ok(())
    }
}

const fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut out = Vec::new();
        word(&mut out, 7);
        long(&mut out, 1 << 40);
        opaque(&mut out, b"abcde");
        assert_eq!(out.len(), 4 + 8 + 4 + 8);
        let mut reader = Reader::new(&out);
        assert_eq!(reader.word().unwrap(), 7);
        assert_eq!(reader.long().unwrap(), 1 << 40);
        assert_eq!(reader.opaque().unwrap(), b"abcde");
        assert!(reader.word().is_err());
    }
}
