//! The values that NFSv3's arguments and results are made of (RFC 1813 §2.5 and §2.6).

use super::{MAX_HANDLE, MAX_STRING};
use crate::codec::{Codec, fields};
use crate::xdr::{DecodeError, Decoder, Encoder};

/// `nfs_fh3`: what the server calls a file, at most [`MAX_HANDLE`] bytes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FileHandle<'a>(pub &'a [u8]);

impl<'a> Codec<'a> for FileHandle<'a> {
    fn decode(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        input.opaque(MAX_HANDLE).map(Self)
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.opaque(self.0);
    }
}

/// `filename3`: one component of a path, as the client wrote it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Filename<'a>(pub &'a [u8]);

impl<'a> Codec<'a> for Filename<'a> {
    fn decode(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        input.opaque(MAX_STRING).map(Self)
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.opaque(self.0);
    }
}

/// `nfspath3`: what a symbolic link says.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct NfsPath<'a>(pub &'a [u8]);

impl<'a> Codec<'a> for NfsPath<'a> {
    fn decode(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        input.opaque(MAX_STRING).map(Self)
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.opaque(self.0);
    }
}

/// `diropargs3`: a name in a directory.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct DirOp<'a> {
    /// `dir`.
    pub dir: FileHandle<'a>,
    /// `name`.
    pub name: Filename<'a>,
}

fields!(DirOp<'a>: dir, name);

/// `ftype3`: the type of a file.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Ftype {
    /// `NF3REG`.
    Regular,
    /// `NF3DIR`.
    Directory,
    /// `NF3BLK`.
    Block,
    /// `NF3CHR`.
    Character,
    /// `NF3LNK`.
    Symlink,
    /// `NF3SOCK`.
    Socket,
    /// `NF3FIFO`.
    Fifo,
}

impl Codec<'_> for Ftype {
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u32()? {
            1 => Self::Regular,
            2 => Self::Directory,
            3 => Self::Block,
            4 => Self::Character,
            5 => Self::Symlink,
            6 => Self::Socket,
            7 => Self::Fifo,
            _ => return Err(DecodeError::Invalid),
        })
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.u32(match self {
            Self::Regular => 1,
            Self::Directory => 2,
            Self::Block => 3,
            Self::Character => 4,
            Self::Symlink => 5,
            Self::Socket => 6,
            Self::Fifo => 7,
        });
    }
}

/// `specdata3`: the number of a device.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct Specdata {
    /// `specdata1`: the major number.
    pub major: u32,
    /// `specdata2`: the minor number.
    pub minor: u32,
}

fields!(Specdata: major, minor);

/// `nfstime3`: a point in time since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub struct NfsTime {
    /// `seconds`, which end in 2106.
    pub seconds: u32,
    /// `nseconds`.
    pub nanoseconds: u32,
}

fields!(NfsTime: seconds, nanoseconds);

/// `fattr3`: the attributes of a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fattr {
    /// `type`.
    pub kind: Ftype,
    /// `mode`: the permission bits.
    pub mode: u32,
    /// `nlink`: number of hard links.
    pub nlink: u32,
    /// `uid`: the owner.
    pub uid: u32,
    /// `gid`: the group.
    pub gid: u32,
    /// `size` in bytes.
    pub size: u64,
    /// `used`: bytes of storage.
    pub used: u64,
    /// `rdev`: the number of a device.
    pub rdev: Specdata,
    /// `fsid`: the file system.
    pub fsid: u64,
    /// `fileid`: the file in it.
    pub fileid: u64,
    /// `atime`: last access.
    pub atime: NfsTime,
    /// `mtime`: last change of the data.
    pub mtime: NfsTime,
    /// `ctime`: last change of data or attributes.
    pub ctime: NfsTime,
}

fields!(
    Fattr: kind, mode, nlink, uid, gid, size, used, rdev, fsid, fileid, atime, mtime, ctime
);

impl Fattr {
    /// How many bytes it takes on the wire.
    pub const SIZE: usize = 84;
}

/// `post_op_attr`: attributes after an operation, if they could be read.
pub type PostOpAttr = Option<Fattr>;

/// `post_op_fh3`: the handle of a new file, if it could be made.
pub type PostOpHandle<'a> = Option<FileHandle<'a>>;

/// `wcc_attr`: what shows a client that a file was changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WccAttr {
    /// `size` in bytes.
    pub size: u64,
    /// `mtime`.
    pub mtime: NfsTime,
    /// `ctime`.
    pub ctime: NfsTime,
}

fields!(WccAttr: size, mtime, ctime);

/// `wcc_data`: a file before and after an operation ("weak cache consistency").
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct WccData {
    /// `before`, if read under the same lock as the operation.
    pub before: Option<WccAttr>,
    /// `after`.
    pub after: PostOpAttr,
}

fields!(WccData: before, after);

/// `set_atime`, `set_mtime`: how a time stamp is set.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SetTime {
    /// `DONT_CHANGE`.
    #[default]
    Keep,
    /// `SET_TO_SERVER_TIME`.
    Server,
    /// `SET_TO_CLIENT_TIME`.
    Client(NfsTime),
}

impl Codec<'_> for SetTime {
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match input.u32()? {
            0 => Ok(Self::Keep),
            1 => Ok(Self::Server),
            2 => NfsTime::decode(input).map(Self::Client),
            _ => Err(DecodeError::Invalid),
        }
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Keep => out.u32(0),
            Self::Server => out.u32(1),
            Self::Client(time) => {
                out.u32(2);
                time.encode(out);
            }
        }
    }
}

/// `sattr3`: attributes to be set.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sattr {
    /// `mode`.
    pub mode: Option<u32>,
    /// `uid`.
    pub uid: Option<u32>,
    /// `gid`.
    pub gid: Option<u32>,
    /// `size`.
    pub size: Option<u64>,
    /// `atime`.
    pub atime: SetTime,
    /// `mtime`.
    pub mtime: SetTime,
}

fields!(Sattr: mode, uid, gid, size, atime, mtime);

/// `stable_how`: how safe written data is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stable {
    /// `UNSTABLE`.
    Unstable,
    /// `DATA_SYNC`.
    DataSync,
    /// `FILE_SYNC`.
    FileSync,
}

impl Codec<'_> for Stable {
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match input.u32()? {
            0 => Ok(Self::Unstable),
            1 => Ok(Self::DataSync),
            2 => Ok(Self::FileSync),
            _ => Err(DecodeError::Invalid),
        }
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        out.u32(match self {
            Self::Unstable => 0,
            Self::DataSync => 1,
            Self::FileSync => 2,
        });
    }
}
