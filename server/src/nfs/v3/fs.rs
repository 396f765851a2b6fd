//! What is told of file system and server: FSSTAT, FSINFO, PATHCONF.

use wire::nfs3::{
    FsinfoArgs, FsinfoOk, FsinfoRes, FsstatArgs, FsstatOk, FsstatRes, NfsTime, PathconfArgs,
    PathconfOk, PathconfRes, PostOpAttr,
};
use wire::xdr::DecodeError;

use super::request::{Outcome, Request, answer};

/// FSSTAT (RFC 1813 §3.3.18).
pub(super) fn fsstat(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: FsstatArgs<'_> = request.args()?;
    Ok(request.on::<PostOpAttr>(args.object, reply, |file, reply| {
        let space = file.run(|tree, object| tree.statfs(object))?;
        let body = FsstatOk {
            attributes: file.attributes(),
            total_bytes: space.total_bytes,
            free_bytes: space.free_bytes,
            available_bytes: space.available_bytes,
            total_files: space.total_files,
            free_files: space.free_files,
            available_files: space.available_files,
            invariant_seconds: 0,
        };
        Ok(answer(reply, &FsstatRes::Ok(body)))
    }))
}

/// FSINFO (RFC 1813 §3.3.19). The sizes are those of the transport that the call came by.
pub(super) fn fsinfo(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: FsinfoArgs<'_> = request.args()?;
    Ok(request.on::<PostOpAttr>(args.object, reply, |file, reply| {
        let limits = file.run(|tree, object| tree.limits(object))?;
        let transfer = request.transfer_max();
        let body = FsinfoOk {
            attributes: file.attributes(),
            read_max: transfer,
            read_preferred: transfer,
            read_multiple: PAGE,
            write_max: transfer,
            write_preferred: transfer,
            write_multiple: PAGE,
            readdir_preferred: transfer.min(READDIR_PREFERRED),
            max_file_size: limits.max_file_size,
            time_delta: NfsTime { seconds: 0, nanoseconds: 1 },
            properties: FsinfoOk::LINK
                | FsinfoOk::SYMLINK
                | FsinfoOk::HOMOGENEOUS
                | FsinfoOk::CAN_SET_TIME,
        };
        Ok(answer(reply, &FsinfoRes::Ok(body)))
    }))
}

/// PATHCONF (RFC 1813 §3.3.20).
pub(super) fn pathconf(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: PathconfArgs<'_> = request.args()?;
    Ok(request.on::<PostOpAttr>(args.object, reply, |file, reply| {
        let limits = file.run(|tree, object| tree.limits(object))?;
        let body = PathconfOk {
            attributes: file.attributes(),
            link_max: limits.link_max,
            name_max: limits.name_max,
            no_trunc: true,
            chown_restricted: true,
            case_insensitive: false,
            case_preserving: true,
        };
        Ok(answer(reply, &PathconfRes::Ok(body)))
    }))
}

/// Sizes should be multiples of a page.
const PAGE: u32 = 4096;

/// Best size of a READDIR: a large directory in few calls, without holding the client up for long.
const READDIR_PREFERRED: u32 = 64 << 10;
