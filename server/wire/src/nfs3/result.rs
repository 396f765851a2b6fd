//! Results of NFSv3's procedures, in the order of RFC 1813 §3.3.

use super::Status;
use super::value::{
    Fattr, FileHandle, Filename, NfsPath, NfsTime, PostOpAttr, PostOpHandle, Stable, WccData,
};
use crate::codec::{Codec, fields};
use crate::xdr::{DecodeError, Decoder, Encoder};

/// A result: what the procedure gives, or why it failed and what is told beside that.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Res<T, F> {
    /// `NFS3_OK` and the `resok` of the procedure.
    Ok(T),
    /// Another status and the `resfail` of the procedure.
    Fail(Status, F),
}

impl<'a, T: Codec<'a>, F: Codec<'a>> Codec<'a> for Res<T, F> {
    fn decode(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        let status = Status::decode(input)?;
        if status == Status::Ok {
            T::decode(input).map(Self::Ok)
        } else {
            F::decode(input).map(|fail| Self::Fail(status, fail))
        }
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        match self {
            Self::Ok(body) => {
                Status::Ok.encode(out);
                body.encode(out);
            }
            Self::Fail(status, fail) => {
                status.encode(out);
                fail.encode(out);
            }
        }
    }
}

impl<T, F> Res<T, F> {
    /// The status.
    pub const fn status(&self) -> Status {
        match self {
            Self::Ok(_) => Status::Ok,
            Self::Fail(status, _) => *status,
        }
    }

    /// What the procedure gives, if it did not fail.
    pub fn ok(self) -> Option<T> {
        match self {
            Self::Ok(body) => Some(body),
            Self::Fail(..) => None,
        }
    }
}

/// `GETATTR3res` (§3.3.1).
pub type GetattrRes = Res<Fattr, ()>;

/// `SETATTR3res` (§3.3.2).
pub type SetattrRes = Res<WccData, WccData>;

/// `LOOKUP3res` (§3.3.3).
pub type LookupRes<'a> = Res<LookupOk<'a>, PostOpAttr>;

/// `LOOKUP3resok`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LookupOk<'a> {
    /// `object`.
    pub object: FileHandle<'a>,
    /// `obj_attributes`. FreeBSD's loader takes a reply without them for an error.
    pub attributes: PostOpAttr,
    /// `dir_attributes`.
    pub dir: PostOpAttr,
}

fields!(LookupOk<'a>: object, attributes, dir);

/// `ACCESS3res` (§3.3.4).
pub type AccessRes = Res<AccessOk, PostOpAttr>;

/// `ACCESS3resok`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AccessOk {
    /// `obj_attributes`.
    pub attributes: PostOpAttr,
    /// `access`: the rights that the caller has, as bits.
    pub access: u32,
}

fields!(AccessOk: attributes, access);

/// `READLINK3res` (§3.3.5).
pub type ReadlinkRes<'a> = Res<ReadlinkOk<'a>, PostOpAttr>;

/// `READLINK3resok`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReadlinkOk<'a> {
    /// `symlink_attributes`. FreeBSD's loader expects them at a fixed place.
    pub attributes: PostOpAttr,
    /// `data`: what the link says.
    pub target: NfsPath<'a>,
}

fields!(ReadlinkOk<'a>: attributes, target);

/// `READ3res` (§3.3.6).
pub type ReadRes<'a> = Res<ReadOk<'a>, PostOpAttr>;

/// `READ3resok`. A server does not build it, but puts [`read_head`] before data that is in the reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ReadOk<'a> {
    /// `file_attributes`. FreeBSD's loader expects them at a fixed place.
    pub attributes: PostOpAttr,
    /// `eof`: whether the last byte is the file's last.
    pub eof: bool,
    /// `data`; `count` is its length.
    pub data: &'a [u8],
}

impl<'a> Codec<'a> for ReadOk<'a> {
    fn decode(input: &mut Decoder<'a>) -> Result<Self, DecodeError> {
        let attributes = PostOpAttr::decode(input)?;
        let count = usize::try_from(input.u32()?).map_err(|_| DecodeError::TooLong)?;
        let eof = input.bool()?;
        let data = input.opaque(input.rest().len())?;
        if data.len() != count {
            return Err(DecodeError::Invalid);
        }
        Ok(Self { attributes, eof, data })
    }

    fn encode(&self, out: &mut Encoder<'_>) {
        self.attributes.encode(out);
        out.u32(u32::try_from(self.data.len()).unwrap_or(u32::MAX));
        out.bool(self.eof);
        out.opaque(self.data);
    }
}

/// How many bytes of a `READ3res` stand before the data when the attributes are present.
pub const READ_HEAD: usize = 4 + 4 + Fattr::SIZE + 4 + 4 + 4;

/// The [`READ_HEAD`] bytes before `len` bytes of data: status, attributes, count, eof, length.
#[must_use]
pub fn read_head(attributes: Fattr, len: u32, eof: bool) -> Vec<u8> {
    let mut head = Vec::with_capacity(READ_HEAD);
    (Status::Ok, (Some(attributes), (len, (eof, len)))).encode(&mut Encoder::new(&mut head));
    head
}

/// `WRITE3res` (§3.3.7).
pub type WriteRes = Res<WriteOk, WccData>;

/// `WRITE3resok`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WriteOk {
    /// `file_wcc`.
    pub wcc: WccData,
    /// `count`: bytes written.
    pub count: u32,
    /// `committed`: how safe they are.
    pub committed: Stable,
    /// `verf`: changes when what was written unstably may be lost.
    pub verifier: [u8; 8],
}

fields!(WriteOk: wcc, count, committed, verifier);

/// `CREATE3res`, `MKDIR3res`, `SYMLINK3res` and `MKNOD3res` (§3.3.8 to §3.3.11).
pub type CreateRes<'a> = Res<CreateOk<'a>, WccData>;

/// `CREATE3resok` and its like.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CreateOk<'a> {
    /// `obj`.
    pub object: PostOpHandle<'a>,
    /// `obj_attributes`.
    pub attributes: PostOpAttr,
    /// `dir_wcc`.
    pub dir: WccData,
}

fields!(CreateOk<'a>: object, attributes, dir);

/// `REMOVE3res` and `RMDIR3res` (§3.3.12, §3.3.13).
pub type RemoveRes = Res<WccData, WccData>;

/// `RENAME3res` (§3.3.14): `fromdir_wcc` and `todir_wcc`.
pub type RenameRes = Res<(WccData, WccData), (WccData, WccData)>;

/// `LINK3res` (§3.3.15): `file_attributes` and `linkdir_wcc`.
pub type LinkRes = Res<(PostOpAttr, WccData), (PostOpAttr, WccData)>;

/// `READDIR3res` (§3.3.16).
pub type ReaddirRes<'a> = Res<ReaddirOk<'a>, PostOpAttr>;

/// `READDIR3resok`. A server does not build it, but encodes entry after entry behind
/// [`readdir_head`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReaddirOk<'a> {
    /// `dir_attributes`. FreeBSD's loader expects them at a fixed place.
    pub dir: PostOpAttr,
    /// `cookieverf`.
    pub verifier: [u8; 8],
    /// `reply.entries`.
    pub entries: Vec<DirEntry<'a>>,
    /// `reply.eof`: whether these are the last.
    pub eof: bool,
}

fields!(ReaddirOk<'a>: dir, verifier, entries, eof);

/// `entry3`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DirEntry<'a> {
    /// `fileid`.
    pub fileid: u64,
    /// `name`.
    pub name: Filename<'a>,
    /// `cookie`: where a listing goes on behind it.
    pub cookie: u64,
}

fields!(DirEntry<'a>: fileid, name, cookie);

/// How many bytes of a `READDIR3res` or `READDIRPLUS3res` stand before the first entry when the
/// attributes are present.
pub const READDIR_HEAD: usize = 4 + 4 + Fattr::SIZE + 8;

/// The [`READDIR_HEAD`] bytes before the entries: status, attributes, cookie verifier.
#[must_use]
pub fn readdir_head(dir: Fattr, verifier: [u8; 8]) -> Vec<u8> {
    let mut head = Vec::with_capacity(READDIR_HEAD);
    (Status::Ok, (Some(dir), verifier)).encode(&mut Encoder::new(&mut head));
    head
}

/// `READDIRPLUS3res` (§3.3.17).
pub type ReaddirplusRes<'a> = Res<ReaddirplusOk<'a>, PostOpAttr>;

/// `READDIRPLUS3resok`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReaddirplusOk<'a> {
    /// `dir_attributes`.
    pub dir: PostOpAttr,
    /// `cookieverf`.
    pub verifier: [u8; 8],
    /// `reply.entries`.
    pub entries: Vec<DirEntryPlus<'a>>,
    /// `reply.eof`: whether these are the last.
    pub eof: bool,
}

fields!(ReaddirplusOk<'a>: dir, verifier, entries, eof);

/// `entryplus3`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DirEntryPlus<'a> {
    /// `fileid`, `name` and `cookie`.
    pub entry: DirEntry<'a>,
    /// `name_attributes`.
    pub attributes: PostOpAttr,
    /// `name_handle`.
    pub handle: PostOpHandle<'a>,
}

fields!(DirEntryPlus<'a>: entry, attributes, handle);

/// `FSSTAT3res` (§3.3.18).
pub type FsstatRes = Res<FsstatOk, PostOpAttr>;

/// `FSSTAT3resok`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FsstatOk {
    /// `obj_attributes`.
    pub attributes: PostOpAttr,
    /// `tbytes`: size in bytes.
    pub total_bytes: u64,
    /// `fbytes`: free bytes.
    pub free_bytes: u64,
    /// `abytes`: free bytes for the caller.
    pub available_bytes: u64,
    /// `tfiles`: number of inodes.
    pub total_files: u64,
    /// `ffiles`: free inodes.
    pub free_files: u64,
    /// `afiles`: free inodes for the caller.
    pub available_files: u64,
    /// `invarsec`: for how many seconds this will hold.
    pub invariant_seconds: u32,
}

fields!(
    FsstatOk: attributes, total_bytes, free_bytes, available_bytes, total_files, free_files,
    available_files, invariant_seconds
);

/// `FSINFO3res` (§3.3.19).
pub type FsinfoRes = Res<FsinfoOk, PostOpAttr>;

/// `FSINFO3resok`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FsinfoOk {
    /// `obj_attributes`.
    pub attributes: PostOpAttr,
    /// `rtmax`: most bytes of a READ.
    pub read_max: u32,
    /// `rtpref`: best size of a READ.
    pub read_preferred: u32,
    /// `rtmult`: sizes of READs should be a multiple of this.
    pub read_multiple: u32,
    /// `wtmax`: most bytes of a WRITE.
    pub write_max: u32,
    /// `wtpref`: best size of a WRITE.
    pub write_preferred: u32,
    /// `wtmult`: sizes of WRITEs should be a multiple of this.
    pub write_multiple: u32,
    /// `dtpref`: best size of a READDIR.
    pub readdir_preferred: u32,
    /// `maxfilesize`.
    pub max_file_size: u64,
    /// `time_delta`: how exactly the server keeps times.
    pub time_delta: NfsTime,
    /// `properties`: the `FSF_` bits below.
    pub properties: u32,
}

impl FsinfoOk {
    /// `FSF_LINK`: there are hard links.
    pub const LINK: u32 = 0x01;
    /// `FSF_SYMLINK`: there are symbolic links.
    pub const SYMLINK: u32 = 0x02;
    /// `FSF_HOMOGENEOUS`: PATHCONF is the same for every file.
    pub const HOMOGENEOUS: u32 = 0x08;
    /// `FSF_CANSETTIME`: SETATTR can set times.
    pub const CAN_SET_TIME: u32 = 0x10;
}

fields!(
    FsinfoOk: attributes, read_max, read_preferred, read_multiple, write_max, write_preferred,
    write_multiple, readdir_preferred, max_file_size, time_delta, properties
);

/// `PATHCONF3res` (§3.3.20).
pub type PathconfRes = Res<PathconfOk, PostOpAttr>;

/// `PATHCONF3resok`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PathconfOk {
    /// `obj_attributes`.
    pub attributes: PostOpAttr,
    /// `linkmax`: most hard links of a file.
    pub link_max: u32,
    /// `name_max`: longest name in bytes.
    pub name_max: u32,
    /// `no_trunc`: longer names are refused, not cut.
    pub no_trunc: bool,
    /// `chown_restricted`: only the superuser gives files away.
    pub chown_restricted: bool,
    /// `case_insensitive`.
    pub case_insensitive: bool,
    /// `case_preserving`.
    pub case_preserving: bool,
}

fields!(
    PathconfOk: attributes, link_max, name_max, no_trunc, chown_restricted, case_insensitive,
    case_preserving
);

/// `COMMIT3res` (§3.3.21).
pub type CommitRes = Res<CommitOk, WccData>;

/// `COMMIT3resok`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CommitOk {
    /// `file_wcc`.
    pub wcc: WccData,
    /// `verf`, as in a WRITE.
    pub verifier: [u8; 8],
}

fields!(CommitOk: wcc, verifier);

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::nfs3::{Ftype, Specdata, WccAttr};

    fn attributes() -> Fattr {
        let time = NfsTime { seconds: 1, nanoseconds: 2 };
        Fattr {
            kind: Ftype::Regular,
            mode: 0o644,
            nlink: 1,
            uid: 2,
            gid: 3,
            size: 4,
            used: 5,
            rdev: Specdata { major: 6, minor: 7 },
            fsid: 8,
            fileid: 9,
            atime: time,
            mtime: time,
            ctime: time,
        }
    }

    #[test]
    fn attributes_take_as_many_bytes_as_said() {
        assert_eq!(attributes().to_bytes().len(), Fattr::SIZE);
    }

    #[test]
    fn the_head_before_read_data_is_what_a_client_decodes() {
        let mut bytes = read_head(attributes(), 8, true);
        assert_eq!(bytes.len(), READ_HEAD);
        bytes.extend(b"12345678");
        let expected = ReadOk { attributes: Some(attributes()), eof: true, data: b"12345678" };
        assert_eq!(ReadRes::from_bytes(&bytes), Ok(Res::Ok(expected)));
        assert_eq!(ReadRes::Ok(expected).to_bytes(), bytes);
    }

    #[test]
    fn the_head_before_entries_is_what_a_client_decodes() {
        let mut bytes = readdir_head(attributes(), [0; 8]);
        assert_eq!(bytes.len(), READDIR_HEAD);
        let entry = DirEntry { fileid: 9, name: Filename(b"."), cookie: 1 };
        (vec![entry], true).encode(&mut Encoder::new(&mut bytes));
        let dir = Some(attributes());
        let expected = ReaddirOk { dir, verifier: [0; 8], entries: vec![entry], eof: true };
        assert_eq!(ReaddirRes::from_bytes(&bytes), Ok(Res::Ok(expected)));
    }

    #[test]
    fn a_failure_carries_its_own_body() {
        let before =
            Some(WccAttr { size: 1, mtime: NfsTime::default(), ctime: NfsTime::default() });
        let wcc = WccData { before, after: Some(attributes()) };
        let result = RemoveRes::Fail(Status::NoEnt, wcc);
        let bytes = result.to_bytes();
        assert_eq!(bytes[..4], [0, 0, 0, 2]);
        assert_eq!(RemoveRes::from_bytes(&bytes), Ok(result));
    }

    #[test]
    fn a_count_that_is_not_the_length_of_the_data_is_refused() {
        let mut bytes = read_head(attributes(), 8, true);
        bytes.extend(b"1234");
        bytes[READ_HEAD - 1] = 4;
        assert_eq!(ReadRes::from_bytes(&bytes), Err(DecodeError::Invalid));
    }

    #[test]
    fn every_status_travels() {
        for status in Status::ALL.into_iter().filter(|status| *status != Status::Ok) {
            let result = GetattrRes::Fail(status, ());
            assert_eq!(GetattrRes::from_bytes(&result.to_bytes()), Ok(result));
        }
    }

    proptest! {
        #[test]
        fn what_is_decoded_from_any_bytes_takes_as_many_bytes_again(
            mut bytes in proptest::collection::vec(0_u8..3, 0..400),
            spread in any::<bool>(),
        ) {
            // Mostly small numbers: three zero bytes before each, as most real fields have.
            if spread {
                bytes = bytes.into_iter().flat_map(|byte| [0, 0, 0, byte]).collect();
            }
            check::<LookupRes<'_>>(&bytes)?;
            check::<ReadRes<'_>>(&bytes)?;
            check::<WriteRes>(&bytes)?;
            check::<CreateRes<'_>>(&bytes)?;
            check::<RenameRes>(&bytes)?;
            check::<LinkRes>(&bytes)?;
            check::<ReaddirRes<'_>>(&bytes)?;
            check::<ReaddirplusRes<'_>>(&bytes)?;
            check::<FsstatRes>(&bytes)?;
            check::<FsinfoRes>(&bytes)?;
            check::<PathconfRes>(&bytes)?;
            check::<CommitRes>(&bytes)?;
            check::<crate::nfs3::SetattrArgs<'_>>(&bytes)?;
            check::<crate::nfs3::CreateArgs<'_>>(&bytes)?;
            check::<crate::nfs3::MknodArgs<'_>>(&bytes)?;
            check::<crate::nfs3::SymlinkArgs<'_>>(&bytes)?;
            check::<crate::mount3::MntRes<'_>>(&bytes)?;
            check::<Vec<crate::mount3::Exported<'_>>>(&bytes)?;
        }
    }

    /// Whatever can be decoded is encoded in as many bytes as it was decoded from.
    fn check<'a, T: Codec<'a> + PartialEq + std::fmt::Debug>(
        bytes: &'a [u8],
    ) -> Result<(), TestCaseError> {
        let mut input = Decoder::new(bytes);
        if let Ok(value) = T::decode(&mut input) {
            let read = bytes.len() - input.rest().len();
            prop_assert_eq!(value.to_bytes().len(), read);
        }
        Ok(())
    }
}
