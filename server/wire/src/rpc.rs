//! ONC RPC version 2: the heads of calls and replies (RFC 5531 §9), and AUTH_SYS (appendix A).
//!
//! Calls are decoded without a copy; replies always carry the verifier AUTH_NONE of length 0,
//! because FreeBSD's loader takes no other. Authentication beyond AUTH_SYS is recognised, so that it
//! can be refused by name, but not understood.

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
        let (flavor, body) = opaque_auth(&mut input).map_err(bad)?;
        let credential = match flavor {
            AUTH_NONE => Credential::None,
            AUTH_SYS => Credential::Sys(AuthSys::decode(body).map_err(bad)?),
            flavor => Credential::Other(flavor),
        };
        // The verifier means nothing to the flavours that are understood here.
        opaque_auth(&mut input).map_err(|_| CallError::Auth { xid, stat: AuthStat::BadVerf })?;
        Ok(Self { xid, program, version, procedure, credential, args: input.rest() })
    }

    /// Appends the call; only the flavours that are understood can be sent.
    pub fn encode(&self, out: &mut Encoder<'_>) {
        for word in [self.xid, CALL, RPC_VERSION, self.program, self.version, self.procedure] {
            out.u32(word);
        }
        match &self.credential {
            Credential::None => encode_auth_none(out),
            Credential::Sys(sys) => {
                let mut body = Vec::new();
                sys.encode(&mut Encoder::new(&mut body));
                out.u32(AUTH_SYS);
                out.opaque(&body);
            }
            Credential::Other(flavor) => {
                out.u32(*flavor);
                out.opaque(&[]);
            }
        }
        encode_auth_none(out);
        out.buffer().extend_from_slice(self.args);
    }
}

/// Who a caller says it is: an `opaque_auth`, decoded where its flavour is known (RFC 5531 §8.2).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Credential<'a> {
    /// `AUTH_NONE`.
    None,
    /// `AUTH_SYS`, which older documents call AUTH_UNIX.
    Sys(AuthSys<'a>),
    /// Another flavour, by its number.
    Other(u32),
}

/// The body of an AUTH_SYS credential: `authsys_parms` (RFC 5531 appendix A).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AuthSys<'a> {
    /// Anything; callers use the time.
    pub stamp: u32,
    /// The caller's name for its machine; FreeBSD's loader leaves it empty.
    pub machine_name: &'a [u8],
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Supplementary groups.
    pub gids: Gids<'a>,
}

impl<'a> AuthSys<'a> {
    /// Decodes the body. What follows the groups is ignored: the body has a length of its own.
    fn decode(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut input = Decoder::new(body);
        let stamp = input.u32()?;
        let machine_name = input.opaque(MAX_MACHINE_NAME)?;
        let uid = input.u32()?;
        let gid = input.u32()?;
        let count = usize::try_from(input.u32()?).map_err(|_| DecodeError::TooLong)?;
        if count > MAX_GIDS {
            return Err(DecodeError::TooLong);
        }
        let (gids, _) = input.rest().as_chunks();
        let gids = gids.get(..count).ok_or(DecodeError::Truncated)?;
        Ok(Self { stamp, machine_name, uid, gid, gids: Gids(gids) })
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.u32(self.stamp);
        out.opaque(self.machine_name);
        out.u32(self.uid);
        out.u32(self.gid);
        out.u32(u32::try_from(self.gids.0.len()).unwrap_or(u32::MAX));
        out.fixed(self.gids.0.as_flattened());
    }
}

/// The supplementary groups of an AUTH_SYS credential, at most 16, as they came.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Gids<'a>(&'a [[u8; 4]]);

impl<'a> Gids<'a> {
    /// The groups, in the caller's order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.0.iter().map(|gid| u32::from_be_bytes(*gid))
    }
}

/// Why a message is not a call that can be carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The credential or verifier is malformed; answer with [`Reply::Denied`].
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
    /// It is a call of another version of RPC; answer with [`Reject::RpcMismatch`].
    #[error("not version 2 of RPC")]
    RpcMismatch {
        /// Of the call.
        xid: u32,
    },
    /// It ends before it says which procedure is called; answer with [`Accept::GarbageArgs`].
    #[error("call ends in its head")]
    Truncated {
        /// Of the call.
        xid: u32,
    },
}

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
                encode_auth_none(out);
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
                opaque_auth(&mut input)?;
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

/// Why authentication failed: those values of `auth_stat` that do not belong to RPCSEC_GSS.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthStat {
    /// `AUTH_BADCRED`: the credential is malformed.
    BadCred,
    /// `AUTH_REJECTEDCRED`: the client has to begin anew.
    RejectedCred,
    /// `AUTH_BADVERF`: the verifier is malformed.
    BadVerf,
    /// `AUTH_REJECTEDVERF`: the verifier expired or was replayed.
    RejectedVerf,
    /// `AUTH_TOOWEAK`: a flavour that is not accepted here.
    TooWeak,
}

impl AuthStat {
    const fn number(self) -> u32 {
        match self {
            Self::BadCred => 1,
            Self::RejectedCred => 2,
            Self::BadVerf => 3,
            Self::RejectedVerf => 4,
            Self::TooWeak => 5,
        }
    }

    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u32()? {
            1 => Self::BadCred,
            2 => Self::RejectedCred,
            3 => Self::BadVerf,
            4 => Self::RejectedVerf,
            5 => Self::TooWeak,
            _ => return Err(DecodeError::Invalid),
        })
    }
}

fn three(input: &mut Decoder<'_>) -> Result<[u32; 3], DecodeError> {
    Ok([input.u32()?, input.u32()?, input.u32()?])
}

/// Decodes an `opaque_auth` into its flavour and body.
fn opaque_auth<'a>(input: &mut Decoder<'a>) -> Result<(u32, &'a [u8]), DecodeError> {
    Ok((input.u32()?, input.opaque(MAX_AUTH_BYTES)?))
}

fn encode_auth_none(out: &mut Encoder<'_>) {
    out.u32(AUTH_NONE);
    out.u32(0);
}

/// The version of RPC that RFC 5531 describes.
const RPC_VERSION: u32 = 2;

const CALL: u32 = 0;
const REPLY: u32 = 1;

const MSG_ACCEPTED: u32 = 0;
const MSG_DENIED: u32 = 1;

const AUTH_NONE: u32 = 0;
/// `AUTH_SYS`: a user and its groups, as the client says.
pub const AUTH_SYS: u32 = 1;

/// The longest body of an `opaque_auth` (RFC 5531 §8.2).
const MAX_AUTH_BYTES: usize = 400;

/// The longest machine name in AUTH_SYS (RFC 5531 appendix A).
const MAX_MACHINE_NAME: usize = 255;

/// The most supplementary groups in AUTH_SYS (RFC 5531 appendix A).
const MAX_GIDS: usize = 16;

#[cfg(test)]
mod test {
    use hex_literal::hex;
    use proptest::prelude::*;

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
        encode_auth_none(&mut out);
        let stat = AuthStat::BadCred;
        assert_eq!(Call::decode(&call), Err(CallError::Auth { xid: 1, stat }));
    }

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
            if let Ok(call) = Call::decode(&bytes) {
                prop_assert!(call.args.len() < bytes.len());
            }
            if let Ok((_, _, rest)) = Reply::decode(&bytes) {
                prop_assert!(rest.len() < bytes.len());
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
