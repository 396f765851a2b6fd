//! What a client is told when a tree refuses.

use vfs::FsError;
use wire::nfs3::{Procedure, Status};

/// The status of a failed call: what the tree said, if the procedure may return that, else what
/// comes nearest of what it may.
pub(super) const fn status(procedure: Procedure, error: FsError) -> Status {
    let mut status = exact(error);
    while !may_return(procedure, status) {
        status = nearest(status);
    }
    status
}

/// The one translation of causes.
const fn exact(error: FsError) -> Status {
    match error {
        FsError::Access => Status::Acces,
        FsError::BadCookie => Status::BadCookie,
        FsError::BadHandle => Status::BadHandle,
        // No tree says that it would wait where it may; a client can only ask again.
        FsError::Busy | FsError::WouldWait => Status::Jukebox,
        FsError::Dquot => Status::Dquot,
        FsError::Exist => Status::Exist,
        FsError::FBig => Status::FBig,
        FsError::Inval => Status::Inval,
        FsError::Io => Status::Io,
        FsError::IsDir => Status::IsDir,
        FsError::MLink => Status::MLink,
        // NFSv3 has no EBUSY. As Linux's server, whose clients know it (nfsd_unlink): JUKEBOX would
        // have them ask for ever.
        FsError::Mounted => Status::Acces,
        FsError::NameTooLong => Status::NameTooLong,
        FsError::NoEnt => Status::NoEnt,
        FsError::NoSpc => Status::NoSpc,
        FsError::NotDir => Status::NotDir,
        FsError::NotEmpty => Status::NotEmpty,
        FsError::NotSupp => Status::NotSupp,
        FsError::NotSync => Status::NotSync,
        FsError::NxIo => Status::NxIo,
        FsError::Perm => Status::Perm,
        FsError::RoFs => Status::RoFs,
        FsError::Stale => Status::Stale,
        FsError::XDev => Status::XDev,
    }
}

/// Whether a procedure may return a status: the lists of RFC 1813 §3.3, and what its authors left out
/// and every client knows.
const fn may_return(procedure: Procedure, status: Status) -> bool {
    use Procedure as P;
    match status {
        // SERVERFAULT ends the search below; ACCES says that the export is not for this address, to
        // GETATTR as well; JUKEBOX makes the client ask again (§2.6).
        Status::Ok
        | Status::Acces
        | Status::BadHandle
        | Status::Jukebox
        | Status::ServerFault
        | Status::Stale => true,
        Status::Io => !matches!(procedure, P::Fsinfo | P::Pathconf),
        // Sticky directories and devices refuse with EPERM, which Linux's and Solaris's servers pass.
        Status::Perm => {
            matches!(procedure, P::Setattr | P::Mknod | P::Remove | P::Rmdir | P::Rename | P::Link)
        }
        Status::NoEnt => {
            matches!(procedure, P::Lookup | P::Remove | P::Rmdir | P::Rename)
        }
        Status::NxIo => matches!(procedure, P::Read),
        Status::Exist => matches!(
            procedure,
            P::Create | P::Mkdir | P::Symlink | P::Mknod | P::Rmdir | P::Rename | P::Link
        ),
        Status::XDev => matches!(procedure, P::Rename | P::Link),
        Status::NotDir => matches!(
            procedure,
            P::Lookup
                | P::Create
                | P::Mkdir
                | P::Symlink
                | P::Mknod
                | P::Remove
                | P::Rmdir
                | P::Rename
                | P::Link
                | P::Readdir
                | P::Readdirplus
        ),
        // REMOVE of a directory: the RFC has no word for it, Linux's and Solaris's servers say ISDIR.
        Status::IsDir => matches!(procedure, P::Rename | P::Remove),
        Status::Inval => matches!(
            procedure,
            P::Setattr | P::Readlink | P::Read | P::Write | P::Rmdir | P::Rename | P::Link
        ),
        Status::FBig => matches!(procedure, P::Write),
        Status::NoSpc | Status::Dquot => matches!(
            procedure,
            P::Setattr
                | P::Write
                | P::Create
                | P::Mkdir
                | P::Symlink
                | P::Mknod
                | P::Rename
                | P::Link
        ),
        Status::RoFs => matches!(
            procedure,
            P::Setattr
                | P::Write
                | P::Create
                | P::Mkdir
                | P::Symlink
                | P::Mknod
                | P::Remove
                | P::Rmdir
                | P::Rename
                | P::Link
        ),
        Status::MLink => matches!(procedure, P::Rename | P::Link),
        Status::NameTooLong => matches!(
            procedure,
            P::Lookup
                | P::Create
                | P::Mkdir
                | P::Symlink
                | P::Mknod
                | P::Remove
                | P::Rmdir
                | P::Rename
                | P::Link
        ),
        Status::NotEmpty => matches!(procedure, P::Rmdir | P::Rename),
        Status::NotSync => matches!(procedure, P::Setattr),
        Status::BadCookie | Status::TooSmall => {
            matches!(procedure, P::Readdir | P::Readdirplus)
        }
        Status::NotSupp => matches!(
            procedure,
            P::Setattr
                | P::Readlink
                | P::Create
                | P::Mkdir
                | P::Symlink
                | P::Mknod
                | P::Rmdir
                | P::Rename
                | P::Link
                | P::Readdirplus
        ),
        Status::BadType => matches!(procedure, P::Mknod),
        Status::NoDev | Status::Remote => false,
    }
}

/// What to say instead of a status that a procedure does not have. Every way ends at SERVERFAULT,
/// which all have.
const fn nearest(status: Status) -> Status {
    match status {
        // The file system does not permit what was asked for, be it the name or the kind of file.
        Status::Inval | Status::Perm => Status::Acces,
        Status::FBig
        | Status::IsDir
        | Status::NameTooLong
        | Status::NoDev
        | Status::NotDir
        | Status::NxIo => Status::Inval,
        // Where a handle names the file, a missing name is that of a directory that was removed.
        Status::NoEnt => Status::Stale,
        Status::Dquot | Status::MLink => Status::NoSpc,
        Status::NotEmpty => Status::Exist,
        Status::BadCookie
        | Status::BadType
        | Status::Exist
        | Status::NoSpc
        | Status::NotSupp
        | Status::NotSync
        | Status::Remote
        | Status::RoFs
        | Status::TooSmall
        | Status::XDev => Status::Io,
        Status::Acces
        | Status::BadHandle
        | Status::Io
        | Status::Jukebox
        | Status::Ok
        | Status::ServerFault
        | Status::Stale => Status::ServerFault,
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn whatever_a_tree_says_ends_in_a_status_of_the_procedure() {
        let errors = [
            FsError::Access,
            FsError::BadCookie,
            FsError::BadHandle,
            FsError::Busy,
            FsError::Dquot,
            FsError::Exist,
            FsError::FBig,
            FsError::Inval,
            FsError::Io,
            FsError::IsDir,
            FsError::MLink,
            FsError::Mounted,
            FsError::NameTooLong,
            FsError::NoEnt,
            FsError::NoSpc,
            FsError::NotDir,
            FsError::NotEmpty,
            FsError::NotSupp,
            FsError::NotSync,
            FsError::NxIo,
            FsError::Perm,
            FsError::RoFs,
            FsError::Stale,
            FsError::WouldWait,
            FsError::XDev,
        ];
        for procedure in Procedure::ALL {
            for error in errors {
                let status = status(procedure, error);
                assert!(may_return(procedure, status), "{procedure:?} {error:?} {status:?}");
                assert_ne!(status, Status::Ok, "{procedure:?} {error:?}");
            }
        }
    }

    #[test]
    fn what_a_procedure_has_no_word_for_becomes_the_nearest() {
        assert_eq!(status(Procedure::Read, FsError::IsDir), Status::Inval);
        assert_eq!(status(Procedure::Lookup, FsError::Inval), Status::Acces);
        assert_eq!(status(Procedure::Create, FsError::NoEnt), Status::Stale);
        assert_eq!(status(Procedure::Mkdir, FsError::MLink), Status::NoSpc);
        assert_eq!(status(Procedure::Remove, FsError::NoSpc), Status::Io);
        assert_eq!(status(Procedure::Fsinfo, FsError::Io), Status::ServerFault);
        assert_eq!(status(Procedure::Setattr, FsError::FBig), Status::Inval);
    }

    #[test]
    fn what_a_procedure_has_a_word_for_is_said() {
        assert_eq!(status(Procedure::Remove, FsError::IsDir), Status::IsDir);
        assert_eq!(status(Procedure::Rmdir, FsError::NotEmpty), Status::NotEmpty);
        assert_eq!(status(Procedure::Getattr, FsError::Busy), Status::Jukebox);
        assert_eq!(status(Procedure::Setattr, FsError::NotSync), Status::NotSync);
    }
}
