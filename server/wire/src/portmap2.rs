//! The port mapper, version 2 (RFC 1833 §3): program 100000.

use crate::xdr::{DecodeError, Decoder, Encoder};

/// `PMAP_PROG`: the program's number.
pub const PROGRAM: u32 = 100_000;

/// `PMAP_VERS`: the version that is described here.
pub const VERSION: u32 = 2;

/// `PMAP_PORT`: where the port mapper is, over UDP and TCP.
pub const PORT: u16 = 111;

/// The procedures of RFC 1833 §3.2.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Procedure {
    /// `PMAPPROC_NULL`.
    Null,
    /// `PMAPPROC_SET`.
    Set,
    /// `PMAPPROC_UNSET`.
    Unset,
    /// `PMAPPROC_GETPORT`.
    GetPort,
    /// `PMAPPROC_DUMP`.
    Dump,
    /// `PMAPPROC_CALLIT`.
    CallIt,
}

impl Procedure {
    /// The procedure of this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Null,
            1 => Self::Set,
            2 => Self::Unset,
            3 => Self::GetPort,
            4 => Self::Dump,
            5 => Self::CallIt,
            _ => return None,
        })
    }

    /// The procedure's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Null => 0,
            Self::Set => 1,
            Self::Unset => 2,
            Self::GetPort => 3,
            Self::Dump => 4,
            Self::CallIt => 5,
        }
    }
}

/// `mapping`: where a program is served.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mapping {
    /// `prog`.
    pub program: u32,
    /// `vers`.
    pub version: u32,
    /// `prot`: [`TCP`] or [`UDP`], or what a caller makes up.
    pub protocol: u32,
    /// `port`; callers leave it 0 in a question.
    pub port: u32,
}

impl Mapping {
    /// Decodes one mapping, the arguments of SET, UNSET and GETPORT.
    ///
    /// # Errors
    ///
    /// The input is shorter.
    pub fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            program: input.u32()?,
            version: input.u32()?,
            protocol: input.u32()?,
            port: input.u32()?,
        })
    }

    /// Appends one mapping.
    pub fn encode(self, out: &mut Encoder<'_>) {
        for word in [self.program, self.version, self.protocol, self.port] {
            out.u32(word);
        }
    }
}

/// Appends the results of DUMP, a `pmaplist`.
pub fn encode_list(mappings: impl IntoIterator<Item = Mapping>, out: &mut Encoder<'_>) {
    for mapping in mappings {
        out.bool(true);
        mapping.encode(out);
    }
    out.bool(false);
}

/// Decodes the results of DUMP one by one; the iterator ends after an error.
pub fn decode_list(input: Decoder<'_>) -> impl Iterator<Item = Result<Mapping, DecodeError>> {
    let mut rest = Some(input);
    std::iter::from_fn(move || {
        let input = rest.as_mut()?;
        let next = match input.bool() {
            Ok(true) => Mapping::decode(input),
            Ok(false) => {
                rest = None;
                return None;
            }
            Err(error) => Err(error),
        };
        if next.is_err() {
            rest = None;
        }
        Some(next)
    })
}

/// `IPPROTO_TCP`.
pub const TCP: u32 = 6;

/// `IPPROTO_UDP`.
pub const UDP: u32 = 17;

#[cfg(test)]
mod test {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    const NFS: Mapping = Mapping { program: 100_003, version: 3, protocol: TCP, port: 2049 };

    #[test]
    fn a_mapping_is_four_words() {
        let bytes = hex!("000186a3 00000003 00000006 00000801");
        assert_eq!(Mapping::decode(&mut Decoder::new(&bytes)), Ok(NFS));
        let mut out = Vec::new();
        NFS.encode(&mut Encoder::new(&mut out));
        assert_eq!(out, bytes);
    }

    #[test]
    fn a_list_ends_with_a_false() {
        let mut out = Vec::new();
        encode_list([NFS, Mapping { protocol: UDP, ..NFS }], &mut Encoder::new(&mut out));
        assert_eq!(
            out,
            hex!(
                "00000001 000186a3 00000003 00000006 00000801"
                "00000001 000186a3 00000003 00000011 00000801 00000000"
            )
        );
        let list: Result<Vec<_>, _> = decode_list(Decoder::new(&out)).collect();
        assert_eq!(list, Ok(vec![NFS, Mapping { protocol: UDP, ..NFS }]));
    }

    #[test]
    fn a_list_without_its_end_is_an_error() {
        let bytes = hex!("00000001 000186a3 00000003 00000006 00000801");
        let list: Vec<_> = decode_list(Decoder::new(&bytes)).collect();
        assert_eq!(list, [Ok(NFS), Err(DecodeError::Truncated)]);
    }

    #[test]
    fn procedures_keep_their_numbers() {
        for number in 0..6 {
            assert_eq!(Procedure::from_number(number).map(Procedure::number), Some(number));
        }
        assert_eq!(Procedure::from_number(6), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_list_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            prop_assert!(decode_list(Decoder::new(&bytes)).count() <= bytes.len() / 20 + 1);
        }
    }
}
