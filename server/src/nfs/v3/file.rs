//! What is in a file: READLINK, READ, WRITE, COMMIT.

use vfs::{FsError, Read, Stability};
use wire::nfs3::{
    CommitArgs, CommitOk, CommitRes, NfsPath, PostOpAttr, READ_HEAD, ReadArgs, ReadlinkArgs,
    ReadlinkOk, ReadlinkRes, Stable, WccData, WriteArgs, WriteOk, WriteRes, read_head,
};
use wire::xdr::{DecodeError, Encoder};

use super::attr::{fattr, wcc};
use super::request::{Fault, File, Outcome, Request, answer};
use crate::net::rpc::Transport;
use crate::net::sys::pipe::Pipe;

/// READLINK (RFC 1813 §3.3.5).
pub(super) fn readlink(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: ReadlinkArgs<'_> = request.args()?;
    Ok(request.on::<PostOpAttr>(args.object, reply, |file, reply| {
        let wait = request.wait();
        let (target, attr) = file.run(|tree, link| tree.readlink(&file.caller, link, wait))?;
        let body = ReadlinkOk { attributes: Some(fattr(&attr)), target: NfsPath(&target) };
        Ok(answer(reply, &ReadlinkRes::Ok(body)))
    }))
}

/// READ (RFC 1813 §3.3.6). The tree reads straight into the reply, or into a pipe that follows it.
pub(super) fn read(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: ReadArgs<'_> = request.args()?;
    Ok(request.on::<PostOpAttr>(args.file, reply, |file, reply| {
        let start = reply.len();
        let outcome = read_into(request, file, &args, start, reply);
        if !matches!(outcome, Ok(Outcome::Success)) {
            reply.truncate(start);
        }
        outcome
    }))
}

fn read_into(
    request: &Request<'_>,
    file: &File,
    args: &ReadArgs<'_>,
    start: usize,
    reply: &mut Vec<u8>,
) -> Result<Outcome, Fault> {
    let wait = request.wait();
    let mut count = args.count.min(request.transfer_max());
    // Clients ask for as much as they may of files that have less.
    if count > SMALL_READ {
        let size = file.run(|tree, object| tree.getattr(object, wait))?.size;
        let rest = u32::try_from(size.saturating_sub(args.offset)).unwrap_or(u32::MAX);
        // Never nothing: should the file grow meanwhile, a client gets data or the end.
        count = count.min(rest.max(SMALL_READ));
    }
    let count = usize::try_from(count).map_err(|_| FsError::Inval)?;
    if count >= SPLICE_MIN
        && request.call.transport == Transport::Tcp
        && let Some(read) = read_by_reference(request, file, args.offset, count)?
    {
        let len = u32::try_from(read.len).map_err(|_| FsError::Io)?;
        reply.extend_from_slice(&read_head(fattr(&read.attr), len, read.eof));
        request.read.set(u64::from(len));
        return Ok(Outcome::Success);
    }
    let data = start + READ_HEAD;
    let end = data + count;
    reply.resize(end, 0);
    let into = reply.get_mut(data..).unwrap_or_default();
    let read = file.run(|tree, object| tree.read(&file.caller, object, args.offset, into, wait))?;
    let len = u32::try_from(read.len).map_err(|_| FsError::Io)?;
    let head = read_head(fattr(&read.attr), len, read.eof);
    let room = reply.get_mut(start..data).ok_or(FsError::Io)?;
    room.copy_from_slice(&head);
    reply.truncate(data + read.len);
    Encoder::new(reply).pad(read.len);
    request.read.set(u64::from(len));
    Ok(Outcome::Success)
}

/// Reads into a pipe, which then is the payload; `None` means that it has to be copied.
///
/// How many bytes there are is known before anything is sent, so that a file that is cut off meanwhile
/// makes no reply shorter than it says.
fn read_by_reference(
    request: &Request<'_>,
    file: &File,
    offset: u64,
    count: usize,
) -> Result<Option<Read>, FsError> {
    let Some(mut pipe) = Pipe::for_range(offset, count) else { return Ok(None) };
    let Some(into) = pipe.writer() else { return Ok(None) };
    let wait = request.wait();
    let read =
        file.run(|tree, object| tree.read_to_pipe(&file.caller, object, offset, count, into, wait));
    match read {
        Err(FsError::NotSupp) => Ok(None),
        Ok(read) => {
            pipe.put(read.len);
            request.payload.set((read.len > 0).then_some(pipe));
            Ok(Some(read))
        }
        Err(error) => Err(error),
    }
}

/// WRITE (RFC 1813 §3.3.7).
pub(super) fn write(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: WriteArgs<'_> = request.args()?;
    Ok(request.change::<WccData>(args.file, reply, |file, reply| {
        let stability = match args.stable {
            Stable::Unstable => Stability::Unstable,
            Stable::DataSync => Stability::DataSync,
            Stable::FileSync => Stability::FileSync,
        };
        // Read before the data is written: if a sync fails in between, the client sees the old
        // verifier here and the new one at its COMMIT, and sends the data again.
        let verifier = file.projection().write_verifier();
        let written = file.run(|tree, object| {
            tree.write(&file.caller, object, args.offset, args.data, stability)
        })?;
        let count = u32::try_from(written.len).map_err(|_| FsError::Io)?;
        request.written.set(u64::from(count));
        let body = WriteOk {
            wcc: wcc(&written.wcc),
            count,
            committed: match written.stability {
                Stability::Unstable => Stable::Unstable,
                Stability::DataSync => Stable::DataSync,
                Stability::FileSync => Stable::FileSync,
            },
            verifier,
        };
        Ok(answer(reply, &WriteRes::Ok(body)))
    }))
}

/// COMMIT (RFC 1813 §3.3.21). All of the file is committed, whatever range is asked for.
///
/// An export that became read-only still commits: what was written before must not be lost.
pub(super) fn commit(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: CommitArgs<'_> = request.args()?;
    Ok(request.on::<WccData>(args.file, reply, |file, reply| {
        let done = file.run(|tree, object| tree.commit(&file.caller, object))?;
        let body = CommitOk { wcc: wcc(&done), verifier: file.projection().write_verifier() };
        Ok(answer(reply, &CommitRes::Ok(body)))
    }))
}

/// Bytes that there is room made for without asking how many the file has.
const SMALL_READ: u32 = 32 << 10;

/// Bytes from which on to copy them costs more than to prove that they are in memory, and to move
/// references to them.
const SPLICE_MIN: usize = 64 << 10;
