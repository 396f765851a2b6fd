//! The head of a reply (RFC 5531 §9).

use super::auth::{self, AuthStat};
use super::{REPLY, RPC_VERSION};
use crate::xdr::{DecodeError, Decoder, Encoder};

/// The head of a reply: `reply_body`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply {
    /// `MSG_ACCEPTED`.
    Accepted(Accept),
    /// `MSG_DENIED`.
    Denied(Reject),
}

impl Reply {
    /// Appends the head of a reply; after [`Accept::Success`] the results have to follow.
    pub fn encode(self, xid: u32, out: &mut Encoder<'_>) {
        out.u32(xid);
        out.u32(REPLY);
        match self {
            Self::Accepted(accept) => {
                out.u32(MSG_ACCEPTED);
                auth::encode_none(out);
                accept.encode(out);
            }
            Self::Denied(reject) => {
                out.u32(MSG_DENIED);
                reject.encode(out);
            }
        }
    }

    /// Decodes the head of a reply into its xid, itself and what follows.
    ///
    /// # Errors
    ///
    /// The message is no reply, or has a value that the protocol does not know.
    pub fn decode(message: &[u8]) -> Result<(u32, Self, &[u8]), DecodeError> {
        let mut input = Decoder::new(message);
        let xid = input.u32()?;
        if input.u32()? != REPLY {
            return Err(DecodeError::Invalid);
        }
        let reply = match input.u32()? {
            MSG_ACCEPTED => {
                auth::opaque(&mut input)?;
                Self::Accepted(Accept::decode(&mut input)?)
            }
            MSG_DENIED => Self::Denied(Reject::decode(&mut input)?),
            _ => return Err(DecodeError::Invalid),
        };
        Ok((xid, reply, input.rest()))
    }
}

/// How an accepted call ended: `accept_stat`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Accept {
    /// `SUCCESS`: the results follow.
    Success,
    /// `PROG_UNAVAIL`: there is no such program here.
    ProgUnavail,
    /// `PROG_MISMATCH`: the program has no such version.
    ProgMismatch {
        /// Lowest version that is served.
        low: u32,
        /// Highest version that is served.
        high: u32,
    },
    /// `PROC_UNAVAIL`: the program has no such procedure.
    ProcUnavail,
    /// `GARBAGE_ARGS`: the arguments cannot be decoded.
    GarbageArgs,
    /// `SYSTEM_ERR`: the server failed.
    SystemErr,
}

impl Accept {
    fn encode(self, out: &mut Encoder<'_>) {
        match self {
            Self::Success => out.u32(0),
            Self::ProgUnavail => out.u32(1),
            Self::ProgMismatch { low, high } => {
                out.u32(2);
                out.u32(low);
                out.u32(high);
            }
            Self::ProcUnavail => out.u32(3),
            Self::GarbageArgs => out.u32(4),
            Self::SystemErr => out.u32(5),
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u32()? {
            0 => Self::Success,
            1 => Self::ProgUnavail,
            2 => Self::ProgMismatch { low: input.u32()?, high: input.u32()? },
            3 => Self::ProcUnavail,
            4 => Self::GarbageArgs,
            5 => Self::SystemErr,
            _ => return Err(DecodeError::Invalid),
        })
    }
}

/// Why a call was denied: `rejected_reply`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reject {
    /// `RPC_MISMATCH`: only version 2 of RPC exists here.
    RpcMismatch,
    /// `AUTH_ERROR`: the caller could not be recognised.
    AuthError(AuthStat),
}

impl Reject {
    fn encode(self, out: &mut Encoder<'_>) {
        match self {
            Self::RpcMismatch => {
                out.u32(0);
                out.u32(RPC_VERSION);
                out.u32(RPC_VERSION);
            }
            Self::AuthError(stat) => {
                out.u32(1);
                out.u32(stat.number());
            }
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match input.u32()? {
            0 => {
                input.u64()?;
                Ok(Self::RpcMismatch)
            }
            1 => Ok(Self::AuthError(AuthStat::decode(input)?)),
            _ => Err(DecodeError::Invalid),
        }
    }
}

const MSG_ACCEPTED: u32 = 0;
const MSG_DENIED: u32 = 1;

#[cfg(test)]
mod test {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;

    fn encoded(reply: Reply) -> Vec<u8> {
        let mut out = Vec::new();
        reply.encode(9, &mut Encoder::new(&mut out));
        out
    }

    #[test]
    fn a_successful_reply_has_an_empty_verifier() {
        assert_eq!(
            encoded(Reply::Accepted(Accept::Success)),
            hex!("00000009 00000001 00000000 00000000 00000000 00000000")
        );
    }

    #[test]
    fn a_mismatch_names_the_lowest_and_the_highest_version() {
        assert_eq!(
            encoded(Reply::Accepted(Accept::ProgMismatch { low: 2, high: 4 })),
            hex!("00000009 00000001 00000000 00000000 00000000 00000002 00000002 00000004")
        );
        assert_eq!(
            encoded(Reply::Denied(Reject::RpcMismatch)),
            hex!("00000009 00000001 00000001 00000000 00000002 00000002")
        );
    }

    #[test]
    fn every_reply_is_decoded_as_it_was_encoded() {
        let auth = [
            AuthStat::BadCred,
            AuthStat::RejectedCred,
            AuthStat::BadVerf,
            AuthStat::RejectedVerf,
            AuthStat::TooWeak,
        ];
        let accepts = [
            Accept::Success,
            Accept::ProgUnavail,
            Accept::ProgMismatch { low: 1, high: 3 },
            Accept::ProcUnavail,
            Accept::GarbageArgs,
            Accept::SystemErr,
        ];
        let denied = auth.map(|stat| Reply::Denied(Reject::AuthError(stat)));
        let replies = accepts.map(Reply::Accepted).into_iter().chain(denied);
        for reply in replies.chain([Reply::Denied(Reject::RpcMismatch)]) {
            assert_eq!(Reply::decode(&encoded(reply)), Ok((9, reply, &[][..])));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok((_, _, rest)) = Reply::decode(&bytes) {
                prop_assert!(rest.len() < bytes.len());
            }
        }
    }
}
