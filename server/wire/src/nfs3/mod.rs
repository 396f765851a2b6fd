//! The network file system, version 3 (RFC 1813): program 100003.
//!
//! Arguments and results of all 22 procedures. Names and paths are bytes, as NFSv3 knows no
//! character set. What is decoded borrows from the input; file data is never copied.

mod args;
mod procedure;
mod result;
mod status;
mod value;

pub use args::{
    AccessArgs, CommitArgs, CreateArgs, CreateHow, FsArgs, FsinfoArgs, FsstatArgs, GetattrArgs,
    LinkArgs, LookupArgs, MkdirArgs, MknodArgs, MknodData, PathconfArgs, ReadArgs, ReaddirArgs,
    ReaddirplusArgs, ReadlinkArgs, RemoveArgs, RenameArgs, RmdirArgs, SetattrArgs, SymlinkArgs,
    WriteArgs,
};
pub use procedure::Procedure;
pub use result::{
    AccessOk, AccessRes, CommitOk, CommitRes, CreateOk, CreateRes, DirEntry, DirEntryPlus,
    FsinfoOk, FsinfoRes, FsstatOk, FsstatRes, GetattrRes, LinkRes, LookupOk, LookupRes, PathconfOk,
    PathconfRes, READ_HEAD, READDIR_HEAD, ReadOk, ReadRes, ReaddirOk, ReaddirRes, ReaddirplusOk,
    ReaddirplusRes, ReadlinkOk, ReadlinkRes, RemoveRes, RenameRes, Res, SetattrRes, WriteOk,
    WriteRes, read_head, readdir_head,
};
pub use status::Status;
pub use value::{
    DirOp, Fattr, FileHandle, Filename, Ftype, NfsPath, NfsTime, PostOpAttr, PostOpHandle, Sattr,
    SetTime, Specdata, Stable, WccAttr, WccData,
};

/// `NFS_PROGRAM`: the program's number.
pub const PROGRAM: u32 = 100_003;

/// `NFS_V3`: the version that is described here.
pub const VERSION: u32 = 3;

/// Where clients expect NFS; FreeBSD's kernel asks nobody for its root's port.
pub const PORT: u16 = 2049;

/// `NFS3_FHSIZE`: longest file handle in bytes.
pub const MAX_HANDLE: usize = 64;

/// Longest name or path that is decoded at all. RFC 1813 sets no bound; what is longer than the file
/// system allows but shorter than this is answered with `NFS3ERR_NAMETOOLONG`.
pub const MAX_STRING: usize = 8192;
