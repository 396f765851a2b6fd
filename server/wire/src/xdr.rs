//! External Data Representation (RFC 4506).
//!
//! Everything is big-endian and padded to four bytes. A length in the input is a claim, not a
//! fact: [`Decoder::opaque`] checks it against both the caller's limit and the bytes that are left
//! before it touches them.

/// Reads XDR values from a borrowed buffer.
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Starts at the first byte of `input`.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { rest: input }
    }

    /// What was not decoded yet.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Ends the decoding; bytes that nobody asked for are an error.
    pub const fn end(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }

    /// Decodes one unsigned integer (RFC 4506 §4.2).
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*head))
    }

    /// Decodes one unsigned hyper integer (RFC 4506 §4.5).
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(u64::from_be_bytes(*head))
    }

    /// Decodes one boolean (RFC 4506 §4.4).
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid),
        }
    }

    /// Decodes `N` bytes of fixed-length opaque data, `N` a multiple of four (RFC 4506 §4.9).
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        const { assert!(N.is_multiple_of(UNIT)) };
        let (head, rest) = self.rest.split_first_chunk().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    /// Decodes variable-length opaque data of at most `max` bytes (RFC 4506 §4.10).
    ///
    /// The padding is skipped, not checked: FreeBSD's loader does not clear it before a READ.
    pub fn opaque(&mut self, max: usize) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(self.u32()?).map_err(|_| DecodeError::TooLong)?;
        if len > max {
            return Err(DecodeError::TooLong);
        }
        let padded = len.next_multiple_of(UNIT);
        let (padded, rest) = self.rest.split_at_checked(padded).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        padded.get(..len).ok_or(DecodeError::Truncated)
    }
}

/// Appends XDR values to a buffer.
#[derive(Debug)]
pub struct Encoder<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// Appends to `out`, which should end on a multiple of four bytes.
    pub const fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out }
    }

    /// How many bytes the buffer holds, what stood in it before included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether the buffer is empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// The buffer itself, for what is patched or appended in bulk.
    pub const fn buffer(&mut self) -> &mut Vec<u8> {
        self.out
    }

    /// Appends one unsigned integer.
    pub fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends one unsigned hyper integer.
    pub fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Appends one boolean.
    pub fn bool(&mut self, value: bool) {
        self.u32(u32::from(value));
    }

    /// Appends fixed-length opaque data and its padding.
    pub fn fixed(&mut self, data: &[u8]) {
        self.out.extend_from_slice(data);
        self.pad(data.len());
    }

    /// Appends variable-length opaque data: length, bytes, padding.
    ///
    /// Data longer than an XDR length can say is cut there; nothing that netbe encodes comes near.
    pub fn opaque(&mut self, data: &[u8]) {
        let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
        self.u32(len);
        self.fixed(data);
    }

    /// Appends the zeros that bring `len` bytes to a multiple of four.
    pub fn pad(&mut self, len: usize) {
        let padding = padding(len);
        self.out.extend(std::iter::repeat_n(0, padding));
    }
}

/// Why bytes could not be decoded. The RPC layer answers each of these with `GARBAGE_ARGS`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// A value that its type does not have.
    #[error("value out of range")]
    Invalid,
    /// A length is larger than the protocol allows.
    #[error("length exceeds the limit")]
    TooLong,
    /// Bytes are left over at the end.
    #[error("unexpected bytes at the end")]
    Trailing,
    /// The input ends in the middle of a value.
    #[error("unexpected end of input")]
    Truncated,
}

/// How many bytes stand behind `len` bytes of opaque data.
#[must_use]
pub const fn padding(len: usize) -> usize {
    len.next_multiple_of(UNIT) - len
}

/// Everything in XDR is a multiple of this many bytes.
const UNIT: usize = 4;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn opaque_does_not_trust_the_length() {
        assert_eq!(Decoder::new(b"\xff\xff\xff\xff").opaque(1024), Err(DecodeError::TooLong));
        assert_eq!(Decoder::new(b"\0\0\0\x08abcd").opaque(1024), Err(DecodeError::Truncated));
        assert_eq!(Decoder::new(b"\0\0\0\x03abc").opaque(1024), Err(DecodeError::Truncated));
    }

    #[test]
    fn opaque_skips_padding_that_is_not_zero() {
        let mut decoder = Decoder::new(b"\0\0\0\x01aXYZ\0\0\0\x07");
        assert_eq!(decoder.opaque(4), Ok(&b"a"[..]));
        assert_eq!(decoder.u32(), Ok(7));
        assert_eq!(decoder.end(), Ok(()));
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out);
        encoder.u64(u64::MAX - 1);
        encoder.bool(true);
        encoder.opaque(b"hello");
        encoder.fixed(b"12345678");
        let mut decoder = Decoder::new(&out);
        assert_eq!(decoder.u64(), Ok(u64::MAX - 1));
        assert_eq!(decoder.bool(), Ok(true));
        assert_eq!(decoder.opaque(5), Ok(&b"hello"[..]));
        assert_eq!(decoder.fixed::<8>(), Ok(*b"12345678"));
        assert_eq!(decoder.end(), Ok(()));
    }
}
