//! Attributes: GETATTR, SETATTR, ACCESS, and how they cross between tree and wire.

use vfs::{Access, Attr, FileKind, FsError, SetAttr, SetTime, Time, Wcc};
use wire::nfs3::{
    self, AccessArgs, AccessOk, AccessRes, Fattr, Ftype, GetattrArgs, GetattrRes, NfsTime,
    PostOpAttr, Sattr, SetattrArgs, SetattrRes, Specdata, WccAttr, WccData,
};
use wire::xdr::DecodeError;

use super::request::{Outcome, Request, answer};

/// GETATTR (RFC 1813 §3.3.1).
pub(super) fn getattr(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: GetattrArgs<'_> = request.args()?;
    Ok(request.on::<()>(args.object, reply, |file, reply| {
        let attr = file.run(|tree, file| tree.getattr(file, request.wait()))?;
        Ok(answer(reply, &GetattrRes::Ok(fattr(&attr))))
    }))
}

/// SETATTR (RFC 1813 §3.3.2).
pub(super) fn setattr(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: SetattrArgs<'_> = request.args()?;
    Ok(request.change::<WccData>(args.object, reply, |file, reply| {
        let set = set_attr(&args.attributes)?;
        let guard = args.guard.map(time).transpose()?;
        let done = file.run(|tree, object| tree.setattr(&file.caller, object, &set, guard))?;
        Ok(answer(reply, &SetattrRes::Ok(wcc(&done))))
    }))
}

/// ACCESS (RFC 1813 §3.3.4). It never grants what the export would refuse.
pub(super) fn access(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: AccessArgs<'_> = request.args()?;
    Ok(request.on::<PostOpAttr>(args.object, reply, |file, reply| {
        let changes = Access::MODIFY.0 | Access::EXTEND.0 | Access::DELETE.0;
        let withheld = if file.read_only { changes } else { 0 };
        let asked = Access(args.access & !withheld);
        let wait = request.wait();
        let (granted, attr) =
            file.run(|tree, object| tree.access(&file.caller, object, asked, wait))?;
        let body = AccessOk { attributes: Some(fattr(&attr)), access: granted.0 & asked.0 };
        Ok(answer(reply, &AccessRes::Ok(body)))
    }))
}

/// Attributes as they go over the wire.
pub(super) fn fattr(attr: &Attr) -> Fattr {
    Fattr {
        kind: match attr.kind {
            FileKind::Regular => Ftype::Regular,
            FileKind::Directory => Ftype::Directory,
            FileKind::Block => Ftype::Block,
            FileKind::Character => Ftype::Character,
            FileKind::Symlink => Ftype::Symlink,
            FileKind::Socket => Ftype::Socket,
            FileKind::Fifo => Ftype::Fifo,
        },
        mode: attr.mode,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        size: attr.size,
        used: attr.used,
        rdev: Specdata { major: attr.rdev.0, minor: attr.rdev.1 },
        fsid: attr.fsid,
        fileid: attr.fileid,
        atime: nfs_time(attr.atime),
        mtime: nfs_time(attr.mtime),
        ctime: nfs_time(attr.ctime),
    }
}

/// A change as it goes over the wire.
pub(super) fn wcc(wcc: &Wcc) -> WccData {
    let before = WccAttr {
        size: wcc.before.size,
        mtime: nfs_time(wcc.before.mtime),
        ctime: nfs_time(wcc.before.ctime),
    };
    WccData { before: Some(before), after: Some(fattr(&wcc.after)) }
}

/// Attributes to be set, as the tree takes them.
pub(super) fn set_attr(set: &Sattr) -> Result<SetAttr, FsError> {
    Ok(SetAttr {
        // Linux sends the type of the file along; only the permission bits can be set.
        mode: set.mode.map(|mode| mode & 0o7777),
        uid: set.uid,
        gid: set.gid,
        size: set.size,
        atime: set_time(set.atime)?,
        mtime: set_time(set.mtime)?,
    })
}

fn set_time(set: nfs3::SetTime) -> Result<SetTime, FsError> {
    Ok(match set {
        nfs3::SetTime::Keep => SetTime::Keep,
        nfs3::SetTime::Server => SetTime::Server,
        nfs3::SetTime::Client(client) => SetTime::Client(time(client)?),
    })
}

/// A time from the wire; nanoseconds of a second or more are no time.
fn time(time: NfsTime) -> Result<Time, FsError> {
    if time.nanoseconds >= 1_000_000_000 {
        return Err(FsError::Inval);
    }
    Ok(Time { seconds: i64::from(time.seconds), nanoseconds: time.nanoseconds })
}

/// A time for the wire, whose seconds begin in 1970 and end in 2106: what lies outside is brought to
/// the nearer end.
fn nfs_time(time: Time) -> NfsTime {
    let latest = if time.seconds < 0 { 0 } else { u32::MAX };
    let seconds = u32::try_from(time.seconds).unwrap_or(latest);
    NfsTime { seconds, nanoseconds: time.nanoseconds }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn times_before_1970_and_after_2106_are_brought_to_the_nearer_end() {
        let at = |seconds| nfs_time(Time { seconds, nanoseconds: 5 }).seconds;
        assert_eq!(at(-1), 0);
        assert_eq!(at(0xffff_ffff), 0xffff_ffff);
        assert_eq!(at(0x1_0000_0000), 0xffff_ffff);
    }

    #[test]
    fn a_second_has_fewer_than_a_thousand_million_nanoseconds() {
        assert!(time(NfsTime { seconds: 1, nanoseconds: 999_999_999 }).is_ok());
        let wrong = NfsTime { seconds: 1, nanoseconds: 1_000_000_000 };
        assert_eq!(time(wrong), Err(FsError::Inval));
    }
}
