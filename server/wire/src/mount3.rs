//! The MOUNT protocol, versions 3 (RFC 1813 §5) and 1 (RFC 1094 appendix A): program 100005.
//!
//! The versions differ only in the result of MNT; their lists are the same.

use crate::codec::{Codec, fields};
use crate::nfs3::{FileHandle, MAX_HANDLE};
use crate::xdr::{DecodeError, Decoder, Encoder};

/// `MOUNT_PROGRAM`: the program's number.
pub const PROGRAM: u32 = 100_005;

/// `MOUNT_V3`: the version that belongs to NFSv3.
pub const VERSION: u32 = 3;

/// `MOUNTVERS`: the version that belongs to NFSv2; still used for its lists.
pub const VERSION_1: u32 = 1;

/// `MNTPATHLEN`: longest path in bytes.
pub const MAX_PATH: usize = 1024;

/// `MNTNAMLEN`: longest name of a host or group in bytes.
pub const MAX_NAME: usize = 255;

/// Most authentication flavours that a client of ours takes.
const MAX_FLAVORS: u32 = 64;

/// The procedures of RFC 1813 §5.2; each is spelled `MOUNTPROC3_` and its name there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Procedure {
    /// Does nothing.
    Null,
    /// Asks for the handle of a directory.
    Mnt,
    /// Lists what is mounted.
    Dump,
    /// Says that a directory is no longer mounted.
    Umnt,
    /// Says that nothing is mounted any longer.
    Umntall,
    /// Lists what can be mounted.
    Export,
}

impl Procedure {
    /// The procedure of this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            0 => Self::Null,
            1 => Self::Mnt,
            2 => Self::Dump,
            3 => Self::Umnt,
            4 => Self::Umntall,
            5 => Self::Export,
            _ => return None,
        })
    }

    /// The procedure's number.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Null => 0,
            Self::Mnt => 1,
            Self::Dump => 2,
            Self::Umnt => 3,
            Self::Umntall => 4,
            Self::Export => 5,
        }
    }
}

/// `dirpath`: a path as the client wrote it. The arguments of MNT and UMNT.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct DirPath<'a>(pub &'a [u8]);

impl<'a> Codec<'a> for DirPath<'a> {
    fn decode(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        input.opaque(MAX_PATH).map(Self)
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.opaque(self.0);
    }
}

/// `name`: a host, a network or a group.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct HostName<'a>(pub &'a [u8]);

impl<'a> Codec<'a> for HostName<'a> {
    fn decode(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        input.opaque(MAX_NAME).map(Self)
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.opaque(self.0);
    }
}

/// `mountstat3`: why a MNT failed (RFC 1813 §5.1.5). Each is spelled `MNT3ERR_` and its name there.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum MountStat {
    /// `MNT3ERR_PERM`: not the owner.
    Perm,
    /// `MNT3ERR_NOENT`: no such directory.
    NoEnt,
    /// `MNT3ERR_IO`: the server's disk failed.
    Io,
    /// `MNT3ERR_ACCES`: permission denied.
    Acces,
    /// `MNT3ERR_NOTDIR`: not a directory.
    NotDir,
    /// `MNT3ERR_INVAL`: an argument that cannot be.
    Inval,
    /// `MNT3ERR_NAMETOOLONG`: a name is too long.
    NameTooLong,
    /// `MNT3ERR_NOTSUPP`: not supported.
    NotSupp,
    /// `MNT3ERR_SERVERFAULT`: the server failed.
    ServerFault,
}

impl MountStat {
    /// All of them, ascending.
    pub const ALL: [Self; 9] = [
        Self::Perm,
        Self::NoEnt,
        Self::Io,
        Self::Acces,
        Self::NotDir,
        Self::Inval,
        Self::NameTooLong,
        Self::NotSupp,
        Self::ServerFault,
    ];

    /// Its number on the wire; below 10,000 it is the errno of every UNIX.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Self::Perm => 1,
            Self::NoEnt => 2,
            Self::Io => 5,
            Self::Acces => 13,
            Self::NotDir => 20,
            Self::Inval => 22,
            Self::NameTooLong => 63,
            Self::NotSupp => 10_004,
            Self::ServerFault => 10_006,
        }
    }
}

/// `mountres3`: the result of MNT in version 3.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MntRes<'a> {
    /// `MNT3_OK` and `mountres3_ok`.
    Ok {
        /// `fhandle`.
        handle: FileHandle<'a>,
        /// `auth_flavors`: what the server takes, best first.
        flavors: Vec<u32>,
    },
    /// Why not.
    Fail(MountStat),
}

impl<'a> Codec<'a> for MntRes<'a> {
    fn decode(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        let number = input.u32()?;
        if number != 0 {
            let status = MountStat::ALL.into_iter().find(|status| status.number() == number);
            return status.map(Self::Fail).ok_or(DecodeError::Invalid);
        }
        let handle = FileHandle(input.opaque(MAX_HANDLE)?);
        let count = input.u32()?;
        if count > MAX_FLAVORS {
            return Err(DecodeError::TooLong);
        }
        let flavors = (0..count).map(|_| input.u32()).collect::<Result<_, _>>()?;
        Ok(Self::Ok { handle, flavors })
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Ok { handle, flavors } => {
                out.u32(0);
                handle.encode(out);
                out.u32(u32::try_from(flavors.len()).unwrap_or(u32::MAX));
                flavors.iter().for_each(|flavor| out.u32(*flavor));
            }
            Self::Fail(status) => out.u32(status.number()),
        }
    }
}

/// `mountbody`: who has mounted what. DUMP gives a list of these.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mounted<'a> {
    /// `ml_hostname`.
    pub host: HostName<'a>,
    /// `ml_directory`.
    pub directory: DirPath<'a>,
}

fields!(Mounted<'a>: host, directory);

/// `exportnode`: what can be mounted by whom. EXPORT gives a list of these.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exported<'a> {
    /// `ex_dir`.
    pub directory: DirPath<'a>,
    /// `ex_groups`; clients show an empty list as "everyone".
    pub groups: Vec<HostName<'a>>,
}

fields!(Exported<'a>: directory, groups);

#[cfg(test)]
mod test {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn a_loader_can_find_the_handle_by_its_length() {
        let result = MntRes::Ok { handle: FileHandle(b"12345"), flavors: vec![1] };
        let bytes = hex!("00000000 00000005 31323334 35000000 00000001 00000001");
        assert_eq!(result.to_bytes(), bytes);
        assert_eq!(MntRes::from_bytes(&bytes), Ok(result));
    }

    #[test]
    fn every_failure_travels() {
        for status in MountStat::ALL {
            let result = MntRes::Fail(status);
            assert_eq!(MntRes::from_bytes(&result.to_bytes()), Ok(result));
        }
    }

    #[test]
    fn a_path_of_more_than_1024_bytes_is_refused() {
        let path = vec![b'a'; 1028];
        assert!(DirPath::from_bytes(&DirPath(&path[..1024]).to_bytes()).is_ok());
        assert_eq!(DirPath::from_bytes(&DirPath(&path).to_bytes()), Err(DecodeError::TooLong));
    }

    #[test]
    fn lists_travel() {
        let groups = vec![HostName(b"10.0.0.0/8"), HostName(b"web1")];
        let exports = vec![Exported { directory: DirPath(b"/be/head"), groups }];
        assert_eq!(Vec::<Exported<'_>>::from_bytes(&exports.to_bytes()), Ok(exports));
    }
}
