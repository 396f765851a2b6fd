//! Lists of directories: READDIR and READDIRPLUS.
//!
//! Entries go straight into the reply until the next one would pass what the client has room for.
//! The bounds count encoded bytes, the end of the list included. The cookie verifier is always zero
//! and is not looked at: cookies are the file system's own and do not expire (RFC 1813 §3.3.16).

use std::ops::ControlFlow;

use vfs::{DirEnd, Entry, EntryDetail, FsError};
use wire::codec::Codec as _;
use wire::nfs3::{
    DirEntry, DirEntryPlus, FileHandle, Filename, PostOpAttr, READDIR_HEAD, ReaddirArgs,
    ReaddirplusArgs, Status, readdir_head,
};
use wire::xdr::{DecodeError, Encoder};

use super::attr::fattr;
use super::request::{Fault, File, Outcome, Request};

/// READDIR (RFC 1813 §3.3.16).
pub(super) fn readdir(request: &Request<'_>, reply: &mut Vec<u8>) -> Result<Outcome, DecodeError> {
    let args: ReaddirArgs<'_> = request.args()?;
    Ok(request.on::<PostOpAttr>(args.dir, reply, |dir, reply| {
        let mut list = List::new(reply, args.count.min(request.transfer_max()), u32::MAX);
        let detail = EntryDetail::Name;
        let end = dir.resolve()?.readdir(&dir.caller, args.cookie, detail, &mut |entry| {
            list.push(entry, |entry, out| entry.encode(out))
        });
        list.finish(end)
    }))
}

/// READDIRPLUS (RFC 1813 §3.3.17).
pub(super) fn readdirplus(
    request: &Request<'_>,
    reply: &mut Vec<u8>,
) -> Result<Outcome, DecodeError> {
    let args: ReaddirplusArgs<'_> = request.args()?;
    Ok(request.on::<PostOpAttr>(args.dir, reply, |dir, reply| {
        let most = args.maxcount.min(request.transfer_max());
        let mut list = List::new(reply, most, args.dircount);
        let detail = EntryDetail::Full;
        let end = dir.resolve()?.readdir(&dir.caller, args.cookie, detail, &mut |entry| {
            let file = entry.file;
            list.push(entry, |entry, out| plus(request, dir, entry, file, out))
        });
        list.finish(end)
    }))
}

/// Encodes an entry with what is known of its file.
fn plus(
    request: &Request<'_>,
    dir: &File,
    entry: DirEntry<'_>,
    file: Option<(vfs::Handle, vfs::Attr)>,
    out: &mut Encoder<'_>,
) {
    let handle = file.map(|(handle, _)| request.seal(dir, &handle));
    let entry = DirEntryPlus {
        entry,
        attributes: file.map(|(_, attr)| fattr(&attr)),
        handle: handle.as_ref().map(|handle| FileHandle(handle.as_bytes())),
    };
    entry.encode(out);
}

/// A list that grows in a reply up to a bound.
struct List<'r> {
    reply: &'r mut Vec<u8>,
    /// Where the result begins in the reply.
    start: usize,
    /// How long the reply may become before the end of the list is appended.
    most: usize,
    /// How many more bytes of names, ids and cookies may come.
    names: usize,
    /// Whether an entry did not fit.
    full: bool,
    /// Whether an entry did.
    any: bool,
}

impl<'r> List<'r> {
    /// A list of at most `most` bytes (`READDIR3resok`, all of it), `names` of them for the entries
    /// without attributes and handles.
    fn new(reply: &'r mut Vec<u8>, most: u32, names: u32) -> Self {
        let start = reply.len();
        let bound = |count| usize::try_from(count).unwrap_or(usize::MAX);
        reply.resize(start + READDIR_HEAD, 0);
        Self {
            reply,
            start,
            most: (start + STATUS).saturating_add(bound(most)).saturating_sub(END),
            names: bound(names),
            full: false,
            any: false,
        }
    }

    /// Appends an entry if it fits.
    ///
    /// `dircount` is a hint for how much of a directory to look at: Windows and some boot loaders
    /// send 0. So the first entry goes without it, but never without room for the whole result.
    fn push(
        &mut self,
        entry: &Entry<'_>,
        encode: impl FnOnce(DirEntry<'_>, &mut Encoder<'_>),
    ) -> ControlFlow<()> {
        let before = self.reply.len();
        let name = entry.name.len().next_multiple_of(4) + NAMED;
        let head =
            DirEntry { fileid: entry.fileid, name: Filename(entry.name), cookie: entry.cookie };
        let mut out = Encoder::new(self.reply);
        out.bool(true);
        encode(head, &mut out);
        if self.reply.len() > self.most || (self.any && name > self.names) {
            self.reply.truncate(before);
            self.full = true;
            return ControlFlow::Break(());
        }
        self.names = self.names.saturating_sub(name);
        self.any = true;
        ControlFlow::Continue(())
    }

    /// Puts the end behind the entries and the attributes before them.
    fn finish(self, end: Result<DirEnd, FsError>) -> Result<Outcome, Fault> {
        let too_small = !self.any && (self.full || self.reply.len() > self.most);
        let end = match end {
            Ok(_) if too_small => Err(Fault::Protocol(Status::TooSmall)),
            Ok(end) => Ok(end),
            Err(error) => Err(error.into()),
        };
        let end = end.inspect_err(|_| self.reply.truncate(self.start))?;
        let head = readdir_head(fattr(&end.attr), [0; 8]);
        let room = self.start..self.start + READDIR_HEAD;
        self.reply.get_mut(room).ok_or(FsError::Io)?.copy_from_slice(&head);
        let mut out = Encoder::new(self.reply);
        out.bool(false);
        out.bool(end.eof && !self.full);
        Ok(Outcome::Success)
    }
}

/// The status stands before what the client's bound counts.
const STATUS: usize = 4;

/// The end of the list and `eof`.
const END: usize = 8;

/// What an entry takes beside the bytes of its name: fileid, length, cookie.
const NAMED: usize = 8 + 4 + 8;
