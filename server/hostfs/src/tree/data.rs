//! Reading, writing and committing the data of regular files.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs;
use rustix::io::Errno;
use vfs::{Attr, Caller, FsError, Handle, Read, Stability, Wait, Wcc, Written, mode, permission};

use super::{HostTree, MAX_FILE_SIZE, unopened};
use crate::attr;
use crate::descriptors::InUse;
use crate::errno::cause;
use crate::sys;

impl HostTree {
    pub(super) fn read_data(
        &self,
        caller: &Caller,
        file: &Handle,
        offset: u64,
        into: &mut [u8],
    ) -> Result<Read, FsError> {
        let (reader, attr) = self.readable(caller, file, Wait::Yes)?;
        if offset >= attr.size {
            return Ok(Read { len: 0, eof: true, attr });
        }
        let mut len = 0;
        while let Some(rest) = into.get_mut(len..).filter(|rest| !rest.is_empty()) {
            match rustix::io::pread(&*reader, rest, offset.saturating_add(count(len))) {
                Ok(0) => return Ok(Read { len, eof: true, attr }),
                Ok(more) => len += more,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(cause(errno)),
            }
        }
        Ok(Read { len, eof: offset.saturating_add(count(len)) >= attr.size, attr })
    }

    /// Reads what is in memory without changing the file's time of access, which would take part in a
    /// journal.
    pub(super) fn read_resident(
        &self,
        caller: &Caller,
        file: &Handle,
        offset: u64,
        into: &mut [u8],
    ) -> Result<Read, FsError> {
        if !self.tells_residence.load(Ordering::Relaxed) {
            return Err(FsError::WouldWait);
        }
        let (reader, attr) = self.readable(caller, file, Wait::No)?;
        if offset >= attr.size {
            return Ok(Read { len: 0, eof: true, attr });
        }
        if self.resident.sets_access_time(&attr) {
            return Err(FsError::WouldWait);
        }
        let asked = into.len();
        let len = match sys::read_nowait(reader.as_fd(), into, offset) {
            Ok(len) => len.ok_or(FsError::WouldWait)?,
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.tells_residence.store(false, Ordering::Relaxed);
                return Err(FsError::WouldWait);
            }
            Err(errno) => return Err(cause(errno)),
        };
        let eof = offset.saturating_add(count(len)) >= attr.size;
        if len < asked && !eof {
            // The next page is on the disk.
            return Err(FsError::WouldWait);
        }
        Ok(Read { len, eof, attr })
    }

    /// Reads into a pipe by reference. Without waiting, that takes proof that all of it is in memory.
    pub(super) fn splice_data(
        &self,
        caller: &Caller,
        file: &Handle,
        offset: u64,
        len: usize,
        pipe: BorrowedFd<'_>,
        wait: Wait,
    ) -> Result<Read, FsError> {
        let (reader, attr) = self.readable(caller, file, wait)?;
        if offset >= attr.size {
            return Ok(Read { len: 0, eof: true, attr });
        }
        let asked = count(len).min(attr.size - offset);
        if wait == Wait::No {
            // Where it cannot be told, data may still be copied without waiting.
            let holds = self.resident.holds(reader.as_fd(), offset, asked, attr.size);
            if !holds.ok_or(FsError::NotSupp)? || self.resident.sets_access_time(&attr) {
                return Err(FsError::WouldWait);
            }
        }
        let mut len = 0;
        while count(len) < asked {
            let rest = usize::try_from(asked - count(len)).unwrap_or(usize::MAX);
            match sys::splice(reader.as_fd(), offset + count(len), pipe, rest) {
                Ok(0) => return Ok(Read { len, eof: true, attr }),
                Ok(more) => len += more,
                Err(Errno::INTR) => {}
                // There is less room in the pipe than was said.
                Err(Errno::AGAIN) if len > 0 => break,
                Err(Errno::AGAIN | Errno::INVAL | Errno::OPNOTSUPP) => {
                    return Err(FsError::NotSupp);
                }
                Err(errno) => return Err(cause(errno)),
            }
        }
        Ok(Read { len, eof: offset + count(len) >= attr.size, attr })
    }

    pub(super) fn write_data(
        &self,
        caller: &Caller,
        file: &Handle,
        offset: u64,
        data: &[u8],
        stability: Stability,
    ) -> Result<Written, FsError> {
        let held = self.stripes.lock(file);
        let (writer, before) = self.writable(caller, file)?;
        let fits = offset.checked_add(count(data.len())).is_some_and(|end| end <= MAX_FILE_SIZE);
        if !fits {
            return Err(FsError::FBig);
        }
        let mode = mode::after_write(caller, &before);
        if mode != before.mode && !data.is_empty() {
            // Before the data is there: no foreign program runs with its owner's rights for a moment.
            self.node(file, Wait::Yes)?.0.chmod(before.kind, mode).map_err(cause)?;
        }
        let len = write_all(&writer, offset, data)?;
        let after = self.data_attr(file, &writer, Wait::Yes)?;
        drop(held);
        let (done, stability) = self.stability(stability);
        match done {
            Stability::Unstable => {}
            Stability::DataSync => {
                fs::fdatasync(&*writer).map_err(|errno| self.sync_failed(errno))?
            }
            Stability::FileSync => fs::fsync(&*writer).map_err(|errno| self.sync_failed(errno))?,
        }
        Ok(Written { len, stability, wcc: Wcc { before, after } })
    }

    /// Brings a file's data to stable storage; what was not written through this process, too.
    ///
    /// Nothing is opened for writing: the file may be a program that runs on the host by now, or its
    /// file system mounted read-only.
    pub(super) fn commit_data(&self, caller: &Caller, file: &Handle) -> Result<Wcc, FsError> {
        let descriptors = &self.options.descriptors;
        let (node, before) = self.node(file, Wait::Yes)?;
        permission::has_data(&before)?;
        let judged = self.judged(caller, (file, &node), &before, Wait::Yes)?;
        permission::may_write(caller, &judged)?;
        if self.settles_at_once() {
            return Ok(Wcc { before, after: before });
        }
        let fd = match descriptors.writer(file).or_else(|| descriptors.reader(file)) {
            Some(open) => open,
            None => {
                let fd = self.mount.open_data(file.kind(), file.kernel(), false);
                descriptors.keep_reader(file, fd.map_err(unopened)?)
            }
        };
        fs::fsync(&*fd).map_err(|errno| self.sync_failed(errno))?;
        Ok(Wcc { before, after: self.data_attr(file, &fd, Wait::Yes)? })
    }

    /// A descriptor for writing. The file has to be known as regular, and the caller as allowed to.
    pub(super) fn writer(&self, file: &Handle) -> Result<InUse<'_, OwnedFd>, FsError> {
        if let Some(writer) = self.options.descriptors.writer(file) {
            return Ok(writer);
        }
        let fd = self.mount.open_data(file.kind(), file.kernel(), true).map_err(unopened)?;
        Ok(self.options.descriptors.keep_writer(file, fd))
    }

    fn readable(
        &self,
        caller: &Caller,
        file: &Handle,
        wait: Wait,
    ) -> Result<(InUse<'_, OwnedFd>, Attr), FsError> {
        if let Some(reader) = self.options.descriptors.reader(file) {
            let attr = self.data_attr(file, &reader, wait)?;
            let judged = self.judged_by(caller, (file, reader.as_fd()), &attr, wait)?;
            permission::may_read(caller, &judged)?;
            return Ok((reader, attr));
        }
        // To open a file may take to read its inode from the disk, unless a descriptor of it, as that of the
        // node, holds that in memory.
        let (node, attr) = self.node(file, wait)?;
        // Only what is regular is opened: a FIFO would wait and a device would notice.
        permission::has_data(&attr)?;
        permission::may_read(caller, &self.judged(caller, (file, &node), &attr, wait)?)?;
        let fd = self.mount.open_data(file.kind(), file.kernel(), false);
        drop(node);
        let fd = fd.map_err(|errno| match wait {
            Wait::No => FsError::WouldWait,
            Wait::Yes => unopened(errno),
        })?;
        Ok((self.options.descriptors.keep_reader(file, fd), attr))
    }

    fn writable(
        &self,
        caller: &Caller,
        file: &Handle,
    ) -> Result<(InUse<'_, OwnedFd>, Attr), FsError> {
        if let Some(writer) = self.options.descriptors.writer(file) {
            let attr = self.data_attr(file, &writer, Wait::Yes)?;
            let judged = self.judged_by(caller, (file, writer.as_fd()), &attr, Wait::Yes)?;
            permission::may_write(caller, &judged)?;
            sys::may_still_write(writer.as_fd()).map_err(cause)?;
            return Ok((writer, attr));
        }
        let (node, attr) = self.node(file, Wait::Yes)?;
        permission::has_data(&attr)?;
        permission::may_write(caller, &self.judged(caller, (file, &node), &attr, Wait::Yes)?)?;
        Ok((self.writer(file)?, attr))
    }

    fn data_attr(&self, file: &Handle, fd: &OwnedFd, wait: Wait) -> Result<Attr, FsError> {
        let attr = attr::from_stat(&fs::fstat(fd).map_err(cause)?, self.fsid);
        self.check_alive(file, &attr, wait)?;
        Ok(attr)
    }
}

/// Writes as much as the file system takes: all, or what went before an error.
fn write_all(fd: &OwnedFd, offset: u64, data: &[u8]) -> Result<usize, FsError> {
    let mut len = 0;
    while let Some(rest) = data.get(len..).filter(|rest| !rest.is_empty()) {
        match rustix::io::pwrite(fd, rest, offset.saturating_add(count(len))) {
            Ok(0) => return Err(FsError::Io),
            Ok(more) => len += more,
            Err(Errno::INTR) => {}
            Err(errno) if len == 0 => return Err(cause(errno)),
            Err(_) => break,
        }
    }
    Ok(len)
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
