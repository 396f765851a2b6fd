//! Arguments of NFSv3's procedures, in the order of RFC 1813 §3.3.

use super::value::{DirOp, FileHandle, Ftype, NfsPath, NfsTime, Sattr, Specdata, Stable};
use crate::codec::{Codec, fields};
use crate::xdr::{DecodeError, Decoder, Encoder};

/// `GETATTR3args`, and all other arguments that are one handle and nothing else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FsArgs<'a> {
    /// `object`, `symlink` or `fsroot`.
    pub object: FileHandle<'a>,
}

fields!(FsArgs<'a>: object);

/// `GETATTR3args` (§3.3.1).
pub type GetattrArgs<'a> = FsArgs<'a>;

/// `SETATTR3args` (§3.3.2).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SetattrArgs<'a> {
    /// `object`.
    pub object: FileHandle<'a>,
    /// `new_attributes`.
    pub attributes: Sattr,
    /// `guard`: the ctime that the file must still have.
    pub guard: Option<NfsTime>,
}

fields!(SetattrArgs<'a>: object, attributes, guard);

/// `LOOKUP3args` (§3.3.3).
pub type LookupArgs<'a> = DirOp<'a>;

/// `ACCESS3args` (§3.3.4).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AccessArgs<'a> {
    /// `object`.
    pub object: FileHandle<'a>,
    /// `access`: the rights that are asked for, as bits.
    pub access: u32,
}

fields!(AccessArgs<'a>: object, access);

/// `READLINK3args` (§3.3.5).
pub type ReadlinkArgs<'a> = FsArgs<'a>;

/// `READ3args` (§3.3.6).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReadArgs<'a> {
    /// `file`.
    pub file: FileHandle<'a>,
    /// `offset` in bytes.
    pub offset: u64,
    /// `count`: a claim; the server gives at most its `rtmax`.
    pub count: u32,
}

fields!(ReadArgs<'a>: file, offset, count);

/// `WRITE3args` (§3.3.7). `count` is the length of `data`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WriteArgs<'a> {
    /// `file`.
    pub file: FileHandle<'a>,
    /// `offset` in bytes.
    pub offset: u64,
    /// `stable`.
    pub stable: Stable,
    /// `data`, borrowed from the input.
    pub data: &'a [u8],
}

impl<'a> Codec<'a> for WriteArgs<'a> {
    /// Decodes the arguments. A `count` below the length of the data shortens it; one above it would
    /// have the server write what was not sent.
    fn decode(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        let file = FileHandle::decode(input)?;
        let offset = input.u64()?;
        let count = usize::try_from(input.u32()?).map_err(|_| DecodeError::TooLong)?;
        let stable = Stable::decode(input)?;
        let data = input.opaque(input.rest().len())?;
        let data = data.get(..count).ok_or(DecodeError::Invalid)?;
        Ok(Self { file, offset, stable, data })
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        self.file.encode(out);
        out.u64(self.offset);
        out.u32(u32::try_from(self.data.len()).unwrap_or(u32::MAX));
        self.stable.encode(out);
        out.opaque(self.data);
    }
}

/// `CREATE3args` (§3.3.8).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CreateArgs<'a> {
    /// `where`.
    pub place: DirOp<'a>,
    /// `how`.
    pub how: CreateHow,
}

fields!(CreateArgs<'a>: place, how);

/// `createhow3`: what becomes of a file that exists.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CreateHow {
    /// `UNCHECKED`: it is used.
    Unchecked(Sattr),
    /// `GUARDED`: the call fails.
    Guarded(Sattr),
    /// `EXCLUSIVE`: the call fails unless the file was made with this verifier.
    Exclusive([u8; 8]),
}

impl Codec<'_> for CreateHow {
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        match input.u32()? {
            0 => Sattr::decode(input).map(Self::Unchecked),
            1 => Sattr::decode(input).map(Self::Guarded),
            2 => input.fixed().map(Self::Exclusive),
            _ => Err(DecodeError::Invalid),
        }
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Unchecked(attributes) => (0_u32, *attributes).encode(out),
            Self::Guarded(attributes) => (1_u32, *attributes).encode(out),
            Self::Exclusive(verifier) => (2_u32, *verifier).encode(out),
        }
    }
}

/// `MKDIR3args` (§3.3.9).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MkdirArgs<'a> {
    /// `where`.
    pub place: DirOp<'a>,
    /// `attributes`.
    pub attributes: Sattr,
}

fields!(MkdirArgs<'a>: place, attributes);

/// `SYMLINK3args` (§3.3.10), with the fields of its `symlinkdata3`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SymlinkArgs<'a> {
    /// `where`.
    pub place: DirOp<'a>,
    /// `symlink_attributes`.
    pub attributes: Sattr,
    /// `symlink_data`: what the link says.
    pub target: NfsPath<'a>,
}

fields!(SymlinkArgs<'a>: place, attributes, target);

/// `MKNOD3args` (§3.3.11).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MknodArgs<'a> {
    /// `where`.
    pub place: DirOp<'a>,
    /// `what`.
    pub what: MknodData,
}

fields!(MknodArgs<'a>: place, what);

/// `mknoddata3`: what is to be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MknodData {
    /// `NF3BLK`.
    Block(Sattr, Specdata),
    /// `NF3CHR`.
    Character(Sattr, Specdata),
    /// `NF3SOCK`.
    Socket(Sattr),
    /// `NF3FIFO`.
    Fifo(Sattr),
    /// What has a procedure of its own: to be answered with `NFS3ERR_BADTYPE`.
    Other(Ftype),
}

impl Codec<'_> for MknodData {
    fn decode(input: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(match Ftype::decode(input)? {
            Ftype::Block => Self::Block(Sattr::decode(input)?, Specdata::decode(input)?),
            Ftype::Character => Self::Character(Sattr::decode(input)?, Specdata::decode(input)?),
            Ftype::Socket => Self::Socket(Sattr::decode(input)?),
            Ftype::Fifo => Self::Fifo(Sattr::decode(input)?),
            other @ (Ftype::Regular | Ftype::Directory | Ftype::Symlink) => Self::Other(other),
        })
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Block(attributes, device) => {
                (Ftype::Block, (*attributes, *device)).encode(out);
            }
            Self::Character(attributes, device) => {
                (Ftype::Character, (*attributes, *device)).encode(out);
            }
            Self::Socket(attributes) => (Ftype::Socket, *attributes).encode(out),
            Self::Fifo(attributes) => (Ftype::Fifo, *attributes).encode(out),
            Self::Other(kind) => kind.encode(out),
        }
    }
}

/// `REMOVE3args` (§3.3.12).
pub type RemoveArgs<'a> = DirOp<'a>;

/// `RMDIR3args` (§3.3.13).
pub type RmdirArgs<'a> = DirOp<'a>;

/// `RENAME3args` (§3.3.14).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RenameArgs<'a> {
    /// `from`.
    pub from: DirOp<'a>,
    /// `to`.
    pub to: DirOp<'a>,
}

fields!(RenameArgs<'a>: from, to);

/// `LINK3args` (§3.3.15).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LinkArgs<'a> {
    /// `file`.
    pub file: FileHandle<'a>,
    /// `link`: its new name.
    pub link: DirOp<'a>,
}

fields!(LinkArgs<'a>: file, link);

/// `READDIR3args` (§3.3.16).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReaddirArgs<'a> {
    /// `dir`.
    pub dir: FileHandle<'a>,
    /// `cookie`: where the last listing ended, 0 for the start.
    pub cookie: u64,
    /// `cookieverf`.
    pub verifier: [u8; 8],
    /// `count`: most bytes of the result.
    pub count: u32,
}

fields!(ReaddirArgs<'a>: dir, cookie, verifier, count);

/// `READDIRPLUS3args` (§3.3.17).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReaddirplusArgs<'a> {
    /// `dir`.
    pub dir: FileHandle<'a>,
    /// `cookie`: where the last listing ended, 0 for the start.
    pub cookie: u64,
    /// `cookieverf`.
    pub verifier: [u8; 8],
    /// `dircount`: most bytes of names, ids and cookies.
    pub dircount: u32,
    /// `maxcount`: most bytes of the result.
    pub maxcount: u32,
}

fields!(ReaddirplusArgs<'a>: dir, cookie, verifier, dircount, maxcount);

/// `FSSTAT3args` (§3.3.18).
pub type FsstatArgs<'a> = FsArgs<'a>;

/// `FSINFO3args` (§3.3.19).
pub type FsinfoArgs<'a> = FsArgs<'a>;

/// `PATHCONF3args` (§3.3.20).
pub type PathconfArgs<'a> = FsArgs<'a>;

/// `COMMIT3args` (§3.3.21).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CommitArgs<'a> {
    /// `file`.
    pub file: FileHandle<'a>,
    /// `offset` in bytes.
    pub offset: u64,
    /// `count` in bytes; 0 for all from the offset.
    pub count: u32,
}

fields!(CommitArgs<'a>: file, offset, count);

#[cfg(test)]
mod test {
    use super::*;
    use crate::nfs3::{Filename, SetTime};

    const FILE: FileHandle<'_> = FileHandle(b"handle");

    #[test]
    fn a_handle_of_more_than_64_bytes_is_refused() {
        let mut bytes = FileHandle(&[7; 64]).to_bytes();
        assert!(GetattrArgs::from_bytes(&bytes).is_ok());
        bytes[3] = 65;
        bytes.extend([0; 4]);
        assert_eq!(GetattrArgs::from_bytes(&bytes), Err(DecodeError::TooLong));
    }

    #[test]
    fn a_write_borrows_its_data() {
        let args = WriteArgs { file: FILE, offset: 9, stable: Stable::DataSync, data: b"hello" };
        let bytes = args.to_bytes();
        let decoded = WriteArgs::from_bytes(&bytes).unwrap();
        assert_eq!(decoded, args);
        assert!(bytes.as_ptr_range().contains(&decoded.data.as_ptr()));
    }

    #[test]
    fn a_write_that_claims_more_than_it_carries_is_refused() {
        let args = WriteArgs { file: FILE, offset: 0, stable: Stable::Unstable, data: b"hello" };
        let mut bytes = args.to_bytes();
        bytes[23] = 6;
        assert_eq!(WriteArgs::from_bytes(&bytes), Err(DecodeError::Invalid));
        bytes[23] = 4;
        assert_eq!(WriteArgs::from_bytes(&bytes).unwrap().data, b"hell");
    }

    #[test]
    fn all_attributes_to_be_set_travel() {
        let attributes = Sattr {
            mode: Some(0o4755),
            uid: Some(1),
            gid: Some(2),
            size: Some(1 << 40),
            atime: SetTime::Server,
            mtime: SetTime::Client(NfsTime { seconds: 3, nanoseconds: 4 }),
        };
        let args = SetattrArgs { object: FILE, attributes, guard: Some(NfsTime::default()) };
        assert_eq!(SetattrArgs::from_bytes(&args.to_bytes()), Ok(args));
    }

    #[test]
    fn each_way_to_create_travels() {
        let place = DirOp { dir: FILE, name: Filename(b"name") };
        let set = Sattr { mode: Some(0o600), ..Sattr::default() };
        let ways = [
            CreateHow::Unchecked(set),
            CreateHow::Guarded(set),
            CreateHow::Exclusive(*b"verifier"),
        ];
        for how in ways {
            let args = CreateArgs { place, how };
            assert_eq!(CreateArgs::from_bytes(&args.to_bytes()), Ok(args));
        }
    }

    #[test]
    fn each_special_file_travels() {
        let place = DirOp { dir: FILE, name: Filename(b"name") };
        let device = Specdata { major: 1, minor: 3 };
        let kinds = [
            MknodData::Block(Sattr::default(), device),
            MknodData::Character(Sattr::default(), device),
            MknodData::Socket(Sattr::default()),
            MknodData::Fifo(Sattr::default()),
            MknodData::Other(Ftype::Directory),
        ];
        for what in kinds {
            let args = MknodArgs { place, what };
            assert_eq!(MknodArgs::from_bytes(&args.to_bytes()), Ok(args));
        }
    }
}
