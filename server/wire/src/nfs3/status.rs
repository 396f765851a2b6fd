//! The status of an NFSv3 call (RFC 1813 §2.6, `nfsstat3`).

use crate::codec::Codec;
use crate::xdr::{DecodeError, Decoder, Encoder};

/// Why a call failed, or that it did not. Each is spelled `NFS3ERR_` and its name in the RFC.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Status {
    /// `NFS3_OK`: done.
    Ok,
    /// `NFS3ERR_PERM`: only the owner or the superuser may.
    Perm,
    /// `NFS3ERR_NOENT`: no such name.
    NoEnt,
    /// `NFS3ERR_IO`: the server's disk failed.
    Io,
    /// `NFS3ERR_NXIO`: no such device.
    NxIo,
    /// `NFS3ERR_ACCES`: permission denied.
    Acces,
    /// `NFS3ERR_EXIST`: the name exists already.
    Exist,
    /// `NFS3ERR_XDEV`: a link or rename over the border of a file system.
    XDev,
    /// `NFS3ERR_NODEV`: no such device.
    NoDev,
    /// `NFS3ERR_NOTDIR`: not a directory.
    NotDir,
    /// `NFS3ERR_ISDIR`: a directory.
    IsDir,
    /// `NFS3ERR_INVAL`: an argument that cannot be.
    Inval,
    /// `NFS3ERR_FBIG`: the file would become too large.
    FBig,
    /// `NFS3ERR_NOSPC`: no space left.
    NoSpc,
    /// `NFS3ERR_ROFS`: read-only.
    RoFs,
    /// `NFS3ERR_MLINK`: too many links.
    MLink,
    /// `NFS3ERR_NAMETOOLONG`: the name is too long.
    NameTooLong,
    /// `NFS3ERR_NOTEMPTY`: the directory is not empty.
    NotEmpty,
    /// `NFS3ERR_DQUOT`: over quota.
    Dquot,
    /// `NFS3ERR_STALE`: the file of this handle is gone.
    Stale,
    /// `NFS3ERR_REMOTE`: the file is not local to the server.
    Remote,
    /// `NFS3ERR_BADHANDLE`: a handle that this server did not make.
    BadHandle,
    /// `NFS3ERR_NOT_SYNC`: the guard of a SETATTR does not match.
    NotSync,
    /// `NFS3ERR_BAD_COOKIE`: a directory cookie that has expired.
    BadCookie,
    /// `NFS3ERR_NOTSUPP`: not supported.
    NotSupp,
    /// `NFS3ERR_TOOSMALL`: the caller's buffer is too small.
    TooSmall,
    /// `NFS3ERR_SERVERFAULT`: the server failed in a way that has no other name.
    ServerFault,
    /// `NFS3ERR_BADTYPE`: the server cannot make objects of this type.
    BadType,
    /// `NFS3ERR_JUKEBOX`: try again later.
    Jukebox,
}

impl Status {
    /// All of them, ascending.
    pub const ALL: [Self; 29] = [
        Self::Ok,
        Self::Perm,
        Self::NoEnt,
        Self::Io,
        Self::NxIo,
        Self::Acces,
        Self::Exist,
        Self::XDev,
        Self::NoDev,
        Self::NotDir,
        Self::IsDir,
        Self::Inval,
        Self::FBig,
        Self::NoSpc,
        Self::RoFs,
        Self::MLink,
        Self::NameTooLong,
        Self::NotEmpty,
        Self::Dquot,
        Self::Stale,
        Self::Remote,
        Self::BadHandle,
        Self::NotSync,
        Self::BadCookie,
        Self::NotSupp,
        Self::TooSmall,
        Self::ServerFault,
        Self::BadType,
        Self::Jukebox,
    ];

    /// Its number on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Ok => 0,
            Self::Perm => 1,
            Self::NoEnt => 2,
            Self::Io => 5,
            Self::NxIo => 6,
            Self::Acces => 13,
            Self::Exist => 17,
            Self::XDev => 18,
            Self::NoDev => 19,
            Self::NotDir => 20,
            Self::IsDir => 21,
            Self::Inval => 22,
            Self::FBig => 27,
            Self::NoSpc => 28,
            Self::RoFs => 30,
            Self::MLink => 31,
            Self::NameTooLong => 63,
            Self::NotEmpty => 66,
            Self::Dquot => 69,
            Self::Stale => 70,
            Self::Remote => 71,
            Self::BadHandle => 10_001,
            Self::NotSync => 10_002,
            Self::BadCookie => 10_003,
            Self::NotSupp => 10_004,
            Self::TooSmall => 10_005,
            Self::ServerFault => 10_006,
            Self::BadType => 10_007,
            Self::Jukebox => 10_008,
        }
    }
}

impl Codec<'_> for Status {
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        let number = input.u32()?;
        let status = Self::ALL.into_iter().find(|status| status.number() == number);
        status.ok_or(DecodeError::Invalid)
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.u32(self.number());
    }
}
