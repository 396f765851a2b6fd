//! The head of a call (RFC 5531 §9).

use super::auth::{self, AuthStat, Credential};
use super::{CALL, RPC_VERSION};
use crate::xdr::{DecodeError, Decoder, Encoder};

/// A call: `rpc_msg` with a `call_body`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call<'a> {
    /// Transaction identifier, repeated in the reply.
    pub xid: u32,
    /// Program number.
    pub program: u32,
    /// Version of the program.
    pub version: u32,
    /// Procedure number.
    pub procedure: u32,
    /// Who the caller says it is.
    pub credential: Credential<'a>,
    /// The arguments, not decoded.
    pub args: &'a [u8],
}

impl<'a> Call<'a> {
    /// Decodes the head of a call; the arguments are what follows it.
    ///
    /// # Errors
    ///
    /// [`CallError`] tells whether and what to answer.
    pub fn decode(message: &'a [u8]) -> Result<Self, CallError> {
        let mut input = Decoder::new(message);
        let xid = input.u32().map_err(|_| CallError::NotACall)?;
        if input.u32() != Ok(CALL) {
            return Err(CallError::NotACall);
        }
        if input.u32().map_err(|_| CallError::NotACall)? != RPC_VERSION {
            return Err(CallError::RpcMismatch { xid });
        }
        let [program, version, procedure] =
            three(&mut input).map_err(|_| CallError::Truncated { xid })?;
        let bad = |_| CallError::Auth { xid, stat: AuthStat::BadCred };
        let credential = Credential::decode(&mut input).map_err(bad)?;
        // The verifier means nothing to the flavours that are understood here.
        auth::opaque(&mut input).map_err(|_| CallError::Auth { xid, stat: AuthStat::BadVerf })?;
        Ok(Self { xid, program, version, procedure, credential, args: input.rest() })
    }

    /// Appends the call; only the flavours that are understood can be sent.
    pub fn encode(&self, out: &mut Encoder<'_>) {
        for word in [self.xid, CALL, RPC_VERSION, self.program, self.version, self.procedure] {
            out.u32(word);
        }
        self.credential.encode(out);
        auth::encode_none(out);
        out.buffer().extend_from_slice(self.args);
    }
}

/// Why a message is not a call that can be carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The credential or verifier is malformed; answer with [`Reply::Denied`](super::Reply::Denied).
    #[error("malformed credential")]
    Auth {
        /// Of the call.
        xid: u32,
        /// What to answer.
        stat: AuthStat,
    },
    /// It is a reply or nothing at all, and must not be answered: two servers could go on for ever.
    #[error("not a call")]
    NotACall,
    /// It is a call of another version of RPC; answer with
    /// [`Reject::RpcMismatch`](super::Reject::RpcMismatch).
    #[error("not version 2 of RPC")]
    RpcMismatch {
        /// Of the call.
        xid: u32,
    },
    /// It ends before it says which procedure is called; answer with
    /// [`Accept::GarbageArgs`](super::Accept::GarbageArgs).
    #[error("call ends in its head")]
    Truncated {
        /// Of the call.
        xid: u32,
    },
}

fn three(input: &mut Decoder<'_>) -> Result<[u32; 3], DecodeError> {
    Ok([input.u32()?, input.u32()?, input.u32()?])
}

#[cfg(test)]
mod test {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::super::{AUTH_SYS, AuthSys, Gids};
    use super::*;

    /// FreeBSD's loader asks the port mapper for MOUNT version 3 over UDP.
    const LOADER_GETPORT: [u8; 76] = hex!(
        "00000001 00000000 00000002 000186a0 00000002 00000003"
        "00000001 00000014 00000000 00000000 00000000 00000000 00000000"
        "00000000 00000000"
        "000186a5 00000003 00000011 00000000"
    );

    #[test]
    fn the_loaders_call_is_decoded() {
        let call = Call::decode(&LOADER_GETPORT).unwrap();
        assert_eq!((call.xid, call.program, call.version, call.procedure), (1, 100_000, 2, 3));
        let Credential::Sys(sys) = call.credential else { panic!("{:?}", call.credential) };
        assert_eq!((sys.uid, sys.gid, sys.machine_name), (0, 0, &b""[..]));
        assert_eq!(sys.gids.iter().len(), 0);
        assert_eq!(call.args, hex!("000186a5 00000003 00000011 00000000"));
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let gids = [[0, 0, 0, 5], [0, 0, 1, 0]];
        let sys = AuthSys { stamp: 7, machine_name: b"node7", uid: 1, gid: 2, gids: Gids(&gids) };
        let call = Call {
            xid: 0xdead_beef,
            program: 100_003,
            version: 3,
            procedure: 6,
            credential: Credential::Sys(sys),
            args: b"argument",
        };
        let mut out = Vec::new();
        call.encode(&mut Encoder::new(&mut out));
        assert_eq!(Call::decode(&out), Ok(call));
        assert_eq!(Gids(&gids).iter().collect::<Vec<_>>(), [5, 256]);
    }

    #[test]
    fn what_is_too_short_for_a_call_is_not_answered() {
        for len in 0..12 {
            assert_eq!(Call::decode(&LOADER_GETPORT[..len]), Err(CallError::NotACall));
        }
    }

    #[test]
    fn a_head_that_ends_early_is_not_a_call_to_carry_out() {
        for len in 12..24 {
            assert_eq!(Call::decode(&LOADER_GETPORT[..len]), Err(CallError::Truncated { xid: 1 }));
        }
        for len in 24..60 {
            assert!(matches!(
                Call::decode(&LOADER_GETPORT[..len]),
                Err(CallError::Auth { xid: 1, .. })
            ));
        }
    }

    #[test]
    fn a_reply_is_not_answered() {
        let reply = hex!("00000001 00000001 00000000 00000000 00000000 00000000");
        assert_eq!(Call::decode(&reply), Err(CallError::NotACall));
    }

    #[test]
    fn another_version_of_rpc_is_told_apart() {
        let call = hex!("00000009 00000000 00000003 000186a0 00000002 00000000");
        assert_eq!(Call::decode(&call), Err(CallError::RpcMismatch { xid: 9 }));
    }

    #[test]
    fn an_unknown_flavour_is_reported_by_its_number() {
        let call = hex!(
            "00000009 00000000 00000002 000186a3 00000003 00000000"
            "00000006 00000004 01020304 00000000 00000000"
        );
        assert_eq!(Call::decode(&call).unwrap().credential, Credential::Other(6));
    }

    #[test]
    fn more_than_sixteen_groups_are_malformed() {
        let mut call = LOADER_GETPORT;
        call[51] = 17;
        let stat = AuthStat::BadCred;
        assert_eq!(Call::decode(&call), Err(CallError::Auth { xid: 1, stat }));
    }

    #[test]
    fn groups_that_are_claimed_but_not_there_are_malformed() {
        let mut call = LOADER_GETPORT;
        call[51] = 1;
        let stat = AuthStat::BadCred;
        assert_eq!(Call::decode(&call), Err(CallError::Auth { xid: 1, stat }));
    }

    #[test]
    fn a_credential_longer_than_400_bytes_is_malformed() {
        let mut call = LOADER_GETPORT[..24].to_vec();
        let mut out = Encoder::new(&mut call);
        out.u32(AUTH_SYS);
        out.opaque(&[0; 404]);
        auth::encode_none(&mut out);
        let stat = AuthStat::BadCred;
        assert_eq!(Call::decode(&call), Err(CallError::Auth { xid: 1, stat }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(call) = Call::decode(&bytes) {
                prop_assert!(call.args.len() < bytes.len());
            }
        }

        #[test]
        fn any_bytes_after_a_head_are_decoded_or_refused(
            tail in proptest::collection::vec(any::<u8>(), 0..600)
        ) {
            let mut bytes = LOADER_GETPORT[..28].to_vec();
            bytes.extend(tail);
            if let Ok(call) = Call::decode(&bytes) {
                prop_assert_eq!(call.xid, 1);
            }
        }
    }
}
