//! Values that have an XDR form: written once, encoded and decoded by the same field list.
//!
//! The server decodes arguments and encodes results; a client, which tests and probes are, does the
//! opposite. Both directions come from one place, so that they cannot drift apart.

use crate::xdr::{DecodeError, Decoder, Encoder};

/// A value with an XDR form. `'a` is the life of the input that a decoded value may borrow from.
pub trait Codec<'a>: Sized {
    /// Decodes the value from the front of `input`.
    ///
    /// # Errors
    ///
    /// The input does not begin with such a value.
    fn decode(input: &mut Decoder<'a>) -> Result<Self, DecodeError>;

    /// Appends the value to `out`.
    fn encode(&self, out: &mut Encoder<'_>);

    /// Decodes the value from all of `bytes`; more bytes than it has are an error.
    ///
    /// # Errors
    ///
    /// The bytes are not exactly one such value.
    fn from_bytes(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut input = Decoder::new(bytes);
        let value = Self::decode(&mut input)?;
        input.end()?;
        Ok(value)
    }

    /// The value's bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.encode(&mut Encoder::new(&mut bytes));
        bytes
    }
}

/// Gives a structure its XDR form: its fields, in this order.
macro_rules! fields {
    ($name:ident < 'a >: $($field:ident),+) => {
        impl<'a> Codec<'a> for $name<'a> {
            $crate::codec::fields!(@body $($field),+);
        }
    };
    ($name:ident: $($field:ident),+) => {
        impl<'a> Codec<'a> for $name {
            $crate::codec::fields!(@body $($field),+);
        }
    };
    (@body $($field:ident),+) => {
        fn decode(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
            $(let $field = Codec::decode(input)?;)+
            Ok(Self { $($field),+ })
        }

        fn encode(&self, out: &mut Encoder<'_>) {
            let Self { $($field),+ } = self;
            $($field.encode(out);)+
        }
    };
}

pub(crate) use fields;

/// Nothing: `void`.
impl Codec<'_> for () {
    fn decode(_input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(())
    }

    fn encode(&self, _out: &mut Encoder<'_>) {}
}

impl Codec<'_> for u32 {
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.u32()
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.u32(*self);
    }
}

impl Codec<'_> for u64 {
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.u64()
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.u64(*self);
    }
}

impl Codec<'_> for bool {
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.bool()
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.bool(*self);
    }
}

/// A verifier or cookie verifier: eight bytes.
impl Codec<'_> for [u8; 8] {
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        input.fixed()
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.fixed(self);
    }
}

/// One value after the other.
impl<'a, A: Codec<'a>, B: Codec<'a>> Codec<'a> for (A, B) {
    fn decode(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        Ok((A::decode(input)?, B::decode(input)?))
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        self.0.encode(out);
        self.1.encode(out);
    }
}

/// Optional data (RFC 4506 §4.19): a boolean, then the value if it is true.
impl<'a, T: Codec<'a>> Codec<'a> for Option<T> {
    fn decode(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        if input.bool()? { T::decode(input).map(Some) } else { Ok(None) }
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.bool(self.is_some());
        if let Some(value) = self {
            value.encode(out);
        }
    }
}

/// A linked list (RFC 4506 §4.19): `true` before each element, `false` at the end.
///
/// An element takes more than one byte of input, so the list cannot outgrow what was received.
impl<'a, T: Codec<'a>> Codec<'a> for Vec<T> {
    fn decode(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        let mut list = Self::new();
        while input.bool()? {
            list.push(T::decode(input)?);
        }
        Ok(list)
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        for element in self {
            out.bool(true);
            element.encode(out);
        }
        out.bool(false);
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_list_ends_with_false() {
        let list = vec![7_u32, 8];
        let bytes = list.to_bytes();
        assert_eq!(bytes, [0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 0]);
        assert_eq!(Vec::<u32>::from_bytes(&bytes), Ok(list));
    }

    #[test]
    fn a_list_without_an_end_is_truncated() {
        let bytes = [0, 0, 0, 1, 0, 0, 0, 7];
        assert_eq!(Vec::<u32>::from_bytes(&bytes), Err(DecodeError::Truncated));
    }

    #[test]
    fn bytes_after_a_value_are_refused() {
        assert_eq!(u32::from_bytes(&[0; 8]), Err(DecodeError::Trailing));
    }
}
