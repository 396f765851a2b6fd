//! Who calls: credentials and verifiers (RFC 5531 §8.2), AUTH_SYS (appendix A), and why they are refused.

use crate::xdr::{DecodeError, Decoder, Encoder};

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

impl<'a> Credential<'a> {
    pub(super) fn decode(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        let (flavor, body) = opaque(input)?;
        Ok(match flavor {
            AUTH_NONE => Self::None,
            AUTH_SYS => Self::Sys(AuthSys::decode(body)?),
            flavor => Self::Other(flavor),
        })
    }

    pub(super) fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::None => encode_none(out),
            Self::Sys(sys) => {
                let mut body = Vec::new();
                sys.encode(&mut Encoder::new(&mut body));
                out.u32(AUTH_SYS);
                out.opaque(&body);
            }
            Self::Other(flavor) => {
                out.u32(*flavor);
                out.opaque(&[]);
            }
        }
    }
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
pub struct Gids<'a>(pub(super) &'a [[u8; 4]]);

impl<'a> Gids<'a> {
    /// The groups, in the caller's order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = u32> + use<'a> {
        self.0.iter().map(|gid| u32::from_be_bytes(*gid))
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
    pub(super) const fn number(self) -> u32 {
        match self {
            Self::BadCred => 1,
            Self::RejectedCred => 2,
            Self::BadVerf => 3,
            Self::RejectedVerf => 4,
            Self::TooWeak => 5,
        }
    }

    pub(super) fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
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

/// Decodes an `opaque_auth` into its flavour and body.
pub(super) fn opaque<'a>(input: &mut Decoder<'a>) -> Result<(u32, &'a [u8]), DecodeError> {
    Ok((input.u32()?, input.opaque(MAX_AUTH_BYTES)?))
}

/// Appends an `opaque_auth` of the flavour AUTH_NONE.
pub(super) fn encode_none(out: &mut Encoder<'_>) {
    out.u32(AUTH_NONE);
    out.u32(0);
}

const AUTH_NONE: u32 = 0;
/// `AUTH_SYS`: a user and its groups, as the client says.
pub const AUTH_SYS: u32 = 1;

/// The longest body of an `opaque_auth` (RFC 5531 §8.2).
const MAX_AUTH_BYTES: usize = 400;

/// The longest machine name in AUTH_SYS (RFC 5531 appendix A).
const MAX_MACHINE_NAME: usize = 255;

/// The most supplementary groups in AUTH_SYS (RFC 5531 appendix A).
const MAX_GIDS: usize = 16;
