//! Access control lists of copies (acl(3)): of files that are made in a directory with a list, some have one.
#![allow(unsafe_code, reason = "there is no safe interface to acl(3)")]

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{FileType, fstat};
use rustix::io::{Errno, Result};

use super::last_error;

/// Takes the access control lists of an open file or directory away, so that its mode decides alone.
pub(crate) fn strip_lists(file: BorrowedFd<'_>) -> Result<()> {
    for kind in kinds(file)? {
        if kind == DEFAULT {
            // SAFETY: it takes no pointer.
            given(unsafe { acl_delete_fd_np(file.as_raw_fd(), kind) })?;
            continue;
        }
        let Some(list) = read(file, kind)? else { continue };
        // SAFETY: the list is one of the library's, which lives until the call returns.
        let bare = List::of(unsafe { acl_strip_np(list.0, 0) }).ok_or_else(last_error)?;
        // SAFETY: so is this one.
        given(unsafe { acl_set_fd_np(file.as_raw_fd(), bare.0, kind) })?;
    }
    Ok(())
}

/// Gives an open file or directory the access control lists of another one that say more than a mode; what the file
/// system cannot have is left out.
pub(crate) fn copy_lists(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let can_have = kinds(to)?;
    for kind in kinds(from)?.into_iter().filter(|kind| can_have.contains(kind)) {
        let Some(list) = read(from, kind)? else { continue };
        let mut trivial = 0;
        if kind == DEFAULT {
            let mut entry = std::ptr::null_mut();
            // SAFETY: the list is one of the library's, and the pointer is written to. A directory without a default
            // list has one without entries.
            trivial =
                c_int::from(unsafe { acl_get_entry(list.0, FIRST_ENTRY, &raw mut entry) } != 1);
        } else {
            // SAFETY: the list is one of the library's, and the number is written to.
            given(unsafe { acl_is_trivial_np(list.0, &raw mut trivial) })?;
        }
        if trivial == 0 {
            // SAFETY: the list is one of the library's, which lives until the call returns.
            given(unsafe { acl_set_fd_np(to.as_raw_fd(), list.0, kind) })?;
        }
    }
    Ok(())
}

/// The kinds of list that a file system has for a file.
fn kinds(file: BorrowedFd<'_>) -> Result<Vec<c_int>> {
    // SAFETY: fpathconf(2) takes no pointer.
    let has = |what| unsafe { libc::fpathconf(file.as_raw_fd(), what) } == 1;
    if has(PC_ACL_NFS4) {
        return Ok(vec![NFS4]);
    }
    if !has(PC_ACL_EXTENDED) {
        return Ok(Vec::new());
    }
    let is_dir = FileType::from_raw_mode(fstat(file)?.st_mode) == FileType::Directory;
    Ok(if is_dir { vec![ACCESS, DEFAULT] } else { vec![ACCESS] })
}

/// A list of an open file or directory, if its file system has such.
fn read(file: BorrowedFd<'_>, kind: c_int) -> Result<Option<List>> {
    // SAFETY: it takes no pointer.
    let list = List::of(unsafe { acl_get_fd_np(file.as_raw_fd(), kind) });
    match list {
        Some(list) => Ok(Some(list)),
        None => given(-1).map(|()| None),
    }
}

/// What a call of acl(3) has done; nothing, where the file system cannot do such a thing at all.
fn given(done: c_int) -> Result<()> {
    if done == 0 {
        return Ok(());
    }
    match last_error() {
        Errno::OPNOTSUPP | Errno::INVAL => Ok(()),
        errno => Err(errno),
    }
}

/// A list of acl(3), freed when dropped.
struct List(*mut c_void);

impl List {
    fn of(list: *mut c_void) -> Option<Self> {
        (!list.is_null()).then_some(Self(list))
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: the library gave it, and nobody has it any more.
        unsafe { acl_free(self.0) };
    }
}

// sys/acl.h; they are in FreeBSD's C library.
unsafe extern "C" {
    fn acl_delete_fd_np(fd: c_int, kind: c_int) -> c_int;
    fn acl_free(object: *mut c_void) -> c_int;
    fn acl_get_entry(list: *mut c_void, which: c_int, entry: *mut *mut c_void) -> c_int;
    fn acl_get_fd_np(fd: c_int, kind: c_int) -> *mut c_void;
    fn acl_is_trivial_np(list: *const c_void, trivial: *mut c_int) -> c_int;
    fn acl_set_fd_np(fd: c_int, list: *mut c_void, kind: c_int) -> c_int;
    fn acl_strip_np(list: *const c_void, recalculate_mask: c_int) -> *mut c_void;
}

/// `ACL_TYPE_ACCESS`, `ACL_TYPE_DEFAULT` and `ACL_TYPE_NFS4`.
const ACCESS: c_int = 2;
const DEFAULT: c_int = 3;
const NFS4: c_int = 4;
/// `ACL_FIRST_ENTRY`.
const FIRST_ENTRY: c_int = 0;
/// `_PC_ACL_EXTENDED` and `_PC_ACL_NFS4` (sys/unistd.h).
const PC_ACL_EXTENDED: c_int = 59;
const PC_ACL_NFS4: c_int = 64;
