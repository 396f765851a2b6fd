//! Names in directories: LOOKUP, what makes them, and what takes them away.

use vfs::{Create, FsError, Handle, Made, Name, Special, Tree, Wait};
use wire::nfs3::{
    CreateArgs, CreateHow, CreateOk, CreateRes, DirOp, FileHandle, LinkArgs, LinkRes, LookupArgs,
    LookupOk, LookupRes, MkdirArgs, MknodArgs, MknodData, PostOpAttr, RemoveArgs, RemoveRes,
    RenameArgs, RenameRes, RmdirArgs, Sattr, Specdata, Status, SymlinkArgs, WccData,
};
use wire::xdr::DecodeError;

use super::attr::{fattr, set_attr, wcc};
use super::request::{Beside, Fault, File, Outcome, Request, answer, name};

/// LOOKUP (RFC 1813 §3.3.3). `.` and `..` are names like others; the tree's root is its own `..`.
pub(super) fn lookup(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: LookupArgs<'_> = request.args()?;
    Ok(request.on::<PostOpAttr>(args.dir, reply, |dir, reply| {
        let name = name(args.name)?;
        let found = dir.resolve()?.lookup(&dir.caller, name, request.wait())?;
        let object = request.seal(dir, &found.handle);
        let body = LookupOk {
            object: FileHandle(object.as_bytes()),
            attributes: Some(fattr(&found.attr)),
            dir: Some(fattr(&found.dir)),
        };
        Ok(answer(reply, &LookupRes::Ok(body)))
    }))
}

/// CREATE (RFC 1813 §3.3.8).
pub(super) fn create(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: CreateArgs<'_> = request.args()?;
    Ok(make(request, args.place, reply, |dir| {
        let how = match args.how {
            CreateHow::Unchecked(set) => Create::Unchecked(set_attr(&set)?),
            CreateHow::Guarded(set) => Create::Guarded(set_attr(&set)?),
            CreateHow::Exclusive(verifier) => Create::Exclusive(verifier),
        };
        add(dir, args.place, |tree, at, name| tree.create(&dir.caller, at, name, &how))
    }))
}

/// MKDIR (RFC 1813 §3.3.9).
pub(super) fn mkdir(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: MkdirArgs<'_> = request.args()?;
    Ok(make(request, args.place, reply, |dir| {
        let set = set_attr(&args.attributes)?;
        add(dir, args.place, |tree, at, name| tree.mkdir(&dir.caller, at, name, &set))
    }))
}

/// SYMLINK (RFC 1813 §3.3.10).
pub(super) fn symlink(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: SymlinkArgs<'_> = request.args()?;
    Ok(make(request, args.place, reply, |dir| {
        let set = set_attr(&args.attributes)?;
        add(dir, args.place, |tree, at, name| {
            tree.symlink(&dir.caller, at, name, args.target.0, &set)
        })
    }))
}

/// MKNOD (RFC 1813 §3.3.11).
pub(super) fn mknod(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: MknodArgs<'_> = request.args()?;
    Ok(make(request, args.place, reply, |dir| {
        let (what, attributes) = special(args.what)?;
        let set = set_attr(&attributes)?;
        add(dir, args.place, |tree, at, name| tree.mknod(&dir.caller, at, name, what, &set))
    }))
}

fn special(what: MknodData) -> Result<(Special, Sattr), Fault> {
    Ok(match what {
        MknodData::Block(set, Specdata { major, minor }) => (Special::Block(major, minor), set),
        MknodData::Character(set, Specdata { major, minor }) => {
            (Special::Character(major, minor), set)
        }
        MknodData::Fifo(set) => (Special::Fifo, set),
        MknodData::Socket(set) => (Special::Socket, set),
        MknodData::Other(_) => return Err(Fault::Protocol(Status::BadType)),
    })
}

/// What everything that makes an object has in common.
fn make(
    request: &Request<'_>,
    place: DirOp<'_>,
    reply: &mut Vec<u8>,
    work: impl FnOnce(&File) -> Result<Made, Fault>,
) -> Outcome {
    request.change::<WccData>(place.dir, reply, |dir, reply| {
        let made = work(dir)?;
        let object = request.seal(dir, &made.handle);
        let body = CreateOk {
            object: Some(FileHandle(object.as_bytes())),
            attributes: Some(fattr(&made.attr)),
            dir: wcc(&made.dir),
        };
        Ok(answer(reply, &CreateRes::Ok(body)))
    })
}

/// Makes an object by an operation of its directory's tree.
fn add(
    dir: &File,
    place: DirOp<'_>,
    operation: impl FnOnce(&dyn Tree, &Handle, Name<'_>) -> Result<Made, FsError>,
) -> Result<Made, Fault> {
    let name = name(place.name)?;
    Ok(dir.resolve()?.make(&dir.caller, name, |tree, dir| operation(tree, dir, name))?)
}

/// REMOVE (RFC 1813 §3.3.12).
pub(super) fn remove(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: RemoveArgs<'_> = request.args()?;
    Ok(request.change::<WccData>(args.dir, reply, |dir, reply| {
        let done = dir.resolve()?.remove(&dir.caller, name(args.name)?)?;
        Ok(answer(reply, &RemoveRes::Ok(wcc(&done))))
    }))
}

/// RMDIR (RFC 1813 §3.3.13).
pub(super) fn rmdir(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: RmdirArgs<'_> = request.args()?;
    Ok(request.change::<WccData>(args.dir, reply, |dir, reply| {
        let done = dir.resolve()?.rmdir(&dir.caller, name(args.name)?)?;
        Ok(answer(reply, &RemoveRes::Ok(wcc(&done))))
    }))
}

/// RENAME (RFC 1813 §3.3.14).
pub(super) fn rename(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: RenameArgs<'_> = request.args()?;
    let from = request.open(args.from.dir);
    let to = request.open(args.to.dir);
    let renamed = both(&from, &to).and_then(|(from, to)| {
        from.must_be_writable()?;
        let (old, new) = (name(args.from.name)?, name(args.to.name)?);
        from.resolve()?.rename(&from.caller, old, &to.resolve()?, new)
    });
    Ok(match renamed {
        Ok(done) => answer(reply, &RenameRes::Ok((wcc(&done.from), wcc(&done.to)))),
        Err(error) => {
            let beside: (WccData, WccData) = (beside(&from), beside(&to));
            request.fail(error.into(), &beside, reply)
        }
    })
}

/// LINK (RFC 1813 §3.3.15).
pub(super) fn link(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: LinkArgs<'_> = request.args()?;
    let file = request.open(args.file);
    let dir = request.open(args.link.dir);
    let linked = both(&file, &dir).and_then(|(file, dir)| {
        dir.must_be_writable()?;
        file.resolve()?.link(&dir.caller, &dir.resolve()?, name(args.link.name)?)
    });
    Ok(match linked {
        Ok(done) => answer(reply, &LinkRes::Ok((Some(fattr(&done.attr)), wcc(&done.dir)))),
        Err(error) => {
            let beside: (PostOpAttr, WccData) = (beside(&file), beside(&dir));
            request.fail(error.into(), &beside, reply)
        }
    })
}

/// Two files that one call is about. No name leads from one export into another, nor from one view of
/// it into the other.
fn both<'f>(
    first: &'f Result<File, FsError>,
    second: &'f Result<File, FsError>,
) -> Result<(&'f File, &'f File), FsError> {
    match (first, second) {
        (Ok(first), Ok(second)) if first.place() == second.place() => Ok((first, second)),
        (Ok(_), Ok(_)) => Err(FsError::XDev),
        (Err(error), _) | (_, Err(error)) => Err(*error),
    }
}

fn beside<F: Beside>(file: &Result<File, FsError>) -> F {
    file.as_ref().ok().and_then(|file| F::of(file, Wait::Yes)).unwrap_or_else(F::unknown)
}
