//! The Network Lock Manager: program 100021, version 4 (RFC 1813 §6) and the older versions 1 and 3
//! (X/Open, Protocols for Interworking: XNFS, chapters 10 and 11).
//!
//! The versions differ in the width of offsets, which only arguments have, and in that version 1 ends
//! before SHARE. Here are the procedures, what every call begins with, and the results that name no
//! lock.

use crate::codec::{Codec, fields};
use crate::xdr::{DecodeError, Decoder, Encoder};

/// `NLM_PROG`: the program's number.
pub const PROGRAM: u32 = 100_021;

/// The version that belongs to NFSv3, with offsets of 64 bits.
pub const VERSION_4: u32 = 4;

/// The version with SHARE, NM_LOCK and FREE_ALL; offsets of 32 bits.
pub const VERSION_3: u32 = 3;

/// The first version.
pub const VERSION_1: u32 = 1;

/// `MAXNETOBJ_SZ`: longest cookie in bytes.
pub const MAX_COOKIE: usize = 1024;

/// The procedures; each is spelled `NLMPROC4_` and its name in RFC 1813 §6.3.
///
/// A call by a name with `_MSG` gets no results: what came of it is told by a call back, of the
/// procedure with `_RES`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Procedure {
    /// Does nothing.
    Null,
    /// Asks whether a lock could be had.
    Test,
    /// Asks for a lock.
    Lock,
    /// Takes a LOCK back that waits.
    Cancel,
    /// Gives a lock back.
    Unlock,
    /// Tells a client that a LOCK which waited has its lock; from servers.
    Granted,
    /// TEST, answered by a call.
    TestMsg,
    /// LOCK, answered by a call.
    LockMsg,
    /// CANCEL, answered by a call.
    CancelMsg,
    /// UNLOCK, answered by a call.
    UnlockMsg,
    /// GRANTED, answered by a call.
    GrantedMsg,
    /// What came of a TEST_MSG.
    TestRes,
    /// What came of a LOCK_MSG.
    LockRes,
    /// What came of a CANCEL_MSG.
    CancelRes,
    /// What came of an UNLOCK_MSG.
    UnlockRes,
    /// What came of a GRANTED_MSG.
    GrantedRes,
    /// Asks for a share reservation, as DOS has them.
    Share,
    /// Gives a share reservation back.
    Unshare,
    /// Asks for a lock that nobody watches: the client cannot say when it has been down.
    NmLock,
    /// Says that a client has been down, and has lost all that it held.
    FreeAll,
}

impl Procedure {
    /// The procedure of this number in this version, if there is one.
    #[must_use]
    pub const fn from_number(version: u32, number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Null,
            1 => Self::Test,
            2 => Self::Lock,
            3 => Self::Cancel,
            4 => Self::Unlock,
            5 => Self::Granted,
            6 => Self::TestMsg,
            7 => Self::LockMsg,
            8 => Self::CancelMsg,
            9 => Self::UnlockMsg,
            10 => Self::GrantedMsg,
            11 => Self::TestRes,
            12 => Self::LockRes,
            13 => Self::CancelRes,
            14 => Self::UnlockRes,
            15 => Self::GrantedRes,
            _ if version < VERSION_3 => return None,
            20 => Self::Share,
            21 => Self::Unshare,
            22 => Self::NmLock,
            23 => Self::FreeAll,
            _ => return None,
        })
    }
}

/// `cookie`: what every call but NULL and FREE_ALL begins with, and what its results repeat.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Cookie<'a>(pub &'a [u8]);

impl<'a> Codec<'a> for Cookie<'a> {
    fn decode(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        input.opaque(MAX_COOKIE).map(Self)
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.opaque(self.0);
    }
}

/// `nlm4_stats`, as far as they are used here; versions 1 and 3 have the same numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stat {
    /// `NLM4_GRANTED`: it was done.
    Granted,
    /// `NLM4_DENIED`: another lock stands in the way, or there is none to cancel. In the results of TEST
    /// the other lock follows.
    Denied,
    /// `NLM4_DENIED_NOLOCKS`: the server has no locks to give.
    DeniedNoLocks,
}

impl<'a> Codec<'a> for Stat {
    fn decode(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        match input.u32()? {
            0 => Ok(Self::Granted),
            1 => Ok(Self::Denied),
            2 => Ok(Self::DeniedNoLocks),
            _ => Err(DecodeError::Invalid),
        }
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.u32(match self {
            Self::Granted => 0,
            Self::Denied => 1,
            Self::DeniedNoLocks => 2,
        });
    }
}

/// `nlm4_res`: the results of LOCK, CANCEL, UNLOCK, GRANTED and NM_LOCK, and of a TEST that found no
/// other lock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Res<'a> {
    /// The call's.
    pub cookie: Cookie<'a>,
    /// What came of it.
    pub stat: Stat,
}

fields!(Res<'a>: cookie, stat);

/// `nlm4_shareres`: the results of SHARE and UNSHARE.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ShareRes<'a> {
    /// The call's.
    pub cookie: Cookie<'a>,
    /// What came of it.
    pub stat: Stat,
    /// Of no use.
    pub sequence: u32,
}

fields!(ShareRes<'a>: cookie, stat, sequence);

#[cfg(test)]
mod test {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn results_repeat_the_cookie() {
        let res = Res { cookie: Cookie(b"12345"), stat: Stat::DeniedNoLocks };
        let bytes = hex!("00000005 31323334 35000000 00000002");
        assert_eq!(res.to_bytes(), bytes);
        assert_eq!(Res::from_bytes(&bytes), Ok(res));
    }

    #[test]
    fn a_cookie_of_more_than_1024_bytes_is_refused() {
        let cookie = [7; 1028];
        assert!(Cookie::from_bytes(&Cookie(&cookie[..1024]).to_bytes()).is_ok());
        assert_eq!(Cookie::from_bytes(&Cookie(&cookie).to_bytes()), Err(DecodeError::TooLong));
    }

    #[test]
    fn version_1_ends_before_share() {
        for number in 0..30 {
            let [one, three, four] = [VERSION_1, VERSION_3, VERSION_4]
                .map(|version| Procedure::from_number(version, number));
            assert_eq!(three, four);
            assert_eq!(four.is_some(), number < 16 || (20..24).contains(&number), "{number}");
            assert_eq!(one, four.filter(|_| number < 16), "{number}");
        }
    }
}
