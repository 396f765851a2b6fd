//! Extended attributes (extattr(2)) of both namespaces, access control lists (acl(3)) and flags (chflags(2)).
//!
//! What belongs to symbolic links and special files is not read: there is no call for them that takes an open
//! directory and a name. They have flags.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io::Error;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Stat, fstat, statat};

use crate::sys::Attribute;

/// The flags of a file that are kept. ZFS says `uarch` of every file: that one is not.
pub(crate) fn flags(_dir: BorrowedFd<'_>, _name: &CStr, stat: &Stat) -> Result<u32, Error> {
    Ok(flags_of_link(stat))
}

/// The flags of an open file or directory that are kept.
pub(crate) fn flags_of(_file: BorrowedFd<'_>, stat: &Stat) -> Result<u32, Error> {
    Ok(flags_of_link(stat))
}

/// Those of a symbolic link or special file.
pub(crate) const fn flags_of_link(stat: &Stat) -> u32 {
    stat.st_flags & (FIXED | NODUMP)
}

/// Gives an open file or directory these flags, and no other of those that are kept; false if its file system
/// cannot hold them, or this process may not set them.
#[expect(unsafe_code, reason = "rustix has no fchflags(2)")]
pub(crate) fn give_flags(file: BorrowedFd<'_>, flags: u32) -> Result<bool, Error> {
    let stat = fstat(file)?;
    let wanted = stat.st_flags & !(FIXED | NODUMP) | flags;
    if wanted == stat.st_flags {
        return Ok(true);
    }
    // SAFETY: fchflags(2) takes no pointer, and the descriptor is open while it is borrowed.
    given(unsafe { libc::fchflags(file.as_raw_fd(), libc::c_ulong::from(wanted)) })
}

/// The same for a symbolic link or special file.
pub(crate) fn give_flags_at(dir: BorrowedFd<'_>, name: &CStr, flags: u32) -> Result<bool, Error> {
    let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let wanted = stat.st_flags & !(FIXED | NODUMP) | flags;
    if wanted == stat.st_flags {
        return Ok(true);
    }
    match set_flags(dir, name, wanted) {
        Ok(()) => Ok(true),
        Err(error) if cannot(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether this process may take flags off files; at a securelevel(7) above 0 not even root's.
pub(crate) fn may_clear_flags() -> bool {
    rustix::process::geteuid().is_root()
}

/// Gives a file, a directory or a link these flags.
#[expect(unsafe_code, reason = "rustix has no chflagsat(2)")]
pub(crate) fn set_flags(dir: BorrowedFd<'_>, name: &CStr, flags: u32) -> Result<(), Error> {
    // SAFETY: the name is a C string that lives until the call returns.
    let done = unsafe {
        libc::chflagsat(
            dir.as_raw_fd(),
            name.as_ptr(),
            libc::c_ulong::from(flags),
            libc::AT_SYMLINK_NOFOLLOW,
        )
    };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Flags for people, by the words of chflags(1).
pub(crate) fn flag_names(flags: u32) -> String {
    let set = FLAG_WORDS.into_iter().filter(|(flag, _)| flags & flag != 0);
    let words = set.filter_map(|(_, words)| words.first().copied());
    words.collect::<Vec<_>>().join(",")
}

/// Reads extended attributes by names that begin with `user.` or `system.`, as bsdtar(1) writes them, and access
/// control lists that say more than a mode, as text by the names of their records in archives.
pub(crate) struct Attributes {
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Default for Attributes {
    fn default() -> Self {
        Self { names: vec![0; LARGEST], value: vec![0; LARGEST] }
    }
}

impl Attributes {
    /// Calls `each` with the name and the value of those of an open file or directory.
    pub(crate) fn read(
        &mut self,
        file: BorrowedFd<'_>,
        mut each: impl FnMut(&CStr, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for (prefix, space) in SPACES {
            let length = list(file, space, &mut self.names)?;
            let mut rest = self.names.get(..length).unwrap_or_default();
            while let Some((count, after)) = rest.split_first() {
                let Some((name, after)) = after.split_at_checked(usize::from(*count)) else {
                    break;
                };
                rest = after;
                if LISTS_KEPT.contains(&name) {
                    continue;
                }
                let plain = CString::new(name)?;
                let Some(length) = get(file, space, &plain, &mut self.value)? else { continue };
                let whole = CString::new([prefix, name].concat())?;
                each(&whole, self.value.get(..length).unwrap_or_default())?;
            }
        }
        for (name, kind) in kinds(file)? {
            if let Some(text) = list_text(file, kind)? {
                each(name, &text)?;
            }
        }
        Ok(())
    }

    /// The same for a symbolic link or special file: never.
    #[expect(clippy::unused_self, reason = "Linux keeps its buffers in it")]
    pub(crate) fn read_at(
        &mut self,
        _dir: BorrowedFd<'_>,
        _name: &CStr,
        _each: impl FnMut(&CStr, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        Ok(())
    }
}

/// Gives an open file or directory an extended attribute or an access control list; false if its file system, or
/// FreeBSD, cannot hold it.
#[expect(unsafe_code, reason = "there is no safe interface to extattr(2)")]
pub(crate) fn set_attribute(
    file: BorrowedFd<'_>,
    name: &CStr,
    value: &[u8],
) -> Result<bool, Error> {
    if let Some((_, kind)) = LISTS.into_iter().find(|(list, _)| *list == name) {
        return set_list(file, kind, value);
    }
    let Some((space, name)) = place(name)? else { return Ok(false) };
    // SAFETY: the name is a C string, and the kernel reads as many bytes of the value as it has.
    let done = unsafe {
        let bytes = value.as_ptr().cast();
        libc::extattr_set_fd(file.as_raw_fd(), space, name.as_ptr(), bytes, value.len())
    };
    if done >= 0 {
        return Ok(true);
    }
    let error = Error::last_os_error();
    if cannot(&error) { Ok(false) } else { Err(error) }
}

/// Gives a symbolic link or special file an extended attribute: it can have none here.
pub(crate) const fn set_attribute_at(
    _dir: BorrowedFd<'_>,
    _file: &CStr,
    _name: &CStr,
    _value: &[u8],
) -> Result<bool, Error> {
    Ok(false)
}

/// Takes an extended attribute or an access control list off an open file or directory.
#[expect(unsafe_code, reason = "there is no safe interface to extattr(2) and acl(3)")]
pub(crate) fn remove_attribute(file: BorrowedFd<'_>, name: &CStr) -> Result<(), Error> {
    let done = if let Some((_, kind)) = LISTS.into_iter().find(|(list, _)| *list == name) {
        if kind == DEFAULT {
            // SAFETY: it takes no pointer.
            unsafe { acl_delete_fd_np(file.as_raw_fd(), kind) }
        } else {
            // SAFETY: it takes no pointer.
            let Some(list) = List::of(unsafe { acl_get_fd_np(file.as_raw_fd(), kind) }) else {
                return Err(Error::last_os_error());
            };
            // SAFETY: the list is one of the library's, which lives until the call returns.
            let Some(bare) = List::of(unsafe { acl_strip_np(list.0, 0) }) else {
                return Err(Error::last_os_error());
            };
            // SAFETY: so is this one.
            unsafe { acl_set_fd_np(file.as_raw_fd(), bare.0, kind) }
        }
    } else {
        let Some((space, name)) = place(name)? else { return Ok(()) };
        // SAFETY: the name is a C string.
        unsafe { libc::extattr_delete_fd(file.as_raw_fd(), space, name.as_ptr()) }
    };
    if done == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// The same of a symbolic link or special file: there are none.
pub(crate) const fn remove_attribute_at(
    _dir: BorrowedFd<'_>,
    _file: &CStr,
    _name: &CStr,
) -> Result<(), Error> {
    Ok(())
}

/// The record of a pax archive for an attribute that is an access control list; `None` if it is none.
pub(crate) fn list_record(name: &CStr, value: &[u8]) -> Option<(&'static str, String)> {
    let (key, _) = LISTS.into_iter().find(|(list, _)| *list == name)?;
    Some((key.to_str().ok()?, String::from_utf8(value.to_vec()).ok()?))
}

/// The attribute for the access control list in a record of a pax archive; `None` if FreeBSD has none such.
pub(crate) fn list_attribute(key: &[u8], text: &[u8]) -> Option<Attribute> {
    let (list, _) = LISTS.into_iter().find(|(list, _)| list.to_bytes() == key)?;
    Some((CString::from(list), text.to_vec()))
}

/// The namespace of an attribute, and its name there; `None` if it is Linux's alone.
fn place(name: &CStr) -> Result<Option<(c_int, CString)>, Error> {
    for (prefix, space) in SPACES {
        if let Some(name) = name.to_bytes().strip_prefix(prefix) {
            // Lists of Linux are in this namespace there.
            let linux = name.starts_with(b"posix_acl_") || LISTS_KEPT.contains(&name);
            return Ok((!linux).then_some((space, CString::new(name)?)));
        }
    }
    Ok(None)
}

/// Lists the names of a namespace: each a byte with its length before it.
#[expect(unsafe_code, reason = "there is no safe interface to extattr(2)")]
fn list(file: BorrowedFd<'_>, space: c_int, names: &mut [u8]) -> Result<usize, Error> {
    // SAFETY: the kernel writes at most as many bytes as there is room.
    let length = unsafe {
        libc::extattr_list_fd(file.as_raw_fd(), space, names.as_mut_ptr().cast(), names.len())
    };
    usize::try_from(length).or_else(|_| {
        let error = Error::last_os_error();
        // Of the system's, only the superuser is told.
        if cannot(&error) { Ok(0) } else { Err(error) }
    })
}

/// Reads an attribute; `None` if it was taken away since it was listed.
#[expect(unsafe_code, reason = "there is no safe interface to extattr(2)")]
fn get(
    file: BorrowedFd<'_>,
    space: c_int,
    name: &CStr,
    value: &mut [u8],
) -> Result<Option<usize>, Error> {
    // SAFETY: the name is a C string, and the kernel writes at most as many bytes as there is room.
    let length = unsafe {
        let room = value.as_mut_ptr().cast();
        libc::extattr_get_fd(file.as_raw_fd(), space, name.as_ptr(), room, value.len())
    };
    if let Ok(length) = usize::try_from(length) {
        // A value that fills the room may go on.
        return match length < value.len() {
            true => Ok(Some(length)),
            false => Err(Error::other("an extended attribute is larger than 64 KiB")),
        };
    }
    let error = Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOATTR) => Ok(None),
        Some(_) | None => Err(error),
    }
}

/// The lists that a file system has for a file.
#[expect(unsafe_code, reason = "rustix has no fpathconf(2)")]
fn kinds(file: BorrowedFd<'_>) -> Result<Vec<(&'static CStr, c_int)>, Error> {
    // SAFETY: fpathconf(2) takes no pointer.
    let has = |what| unsafe { libc::fpathconf(file.as_raw_fd(), what) } == 1;
    let [access, default, nfs4] = LISTS;
    if has(PC_ACL_NFS4) {
        return Ok(vec![nfs4]);
    }
    if !has(PC_ACL_EXTENDED) {
        return Ok(Vec::new());
    }
    let is_dir = FileType::from_raw_mode(fstat(file)?.st_mode) == FileType::Directory;
    Ok(if is_dir { vec![access, default] } else { vec![access] })
}

/// A list with everybody by number; `None` if it says no more than a mode.
#[expect(unsafe_code, reason = "there is no safe interface to acl(3)")]
fn list_text(file: BorrowedFd<'_>, kind: c_int) -> Result<Option<Vec<u8>>, Error> {
    // SAFETY: it takes no pointer.
    let Some(list) = List::of(unsafe { acl_get_fd_np(file.as_raw_fd(), kind) }) else {
        let error = Error::last_os_error();
        return if cannot(&error) { Ok(None) } else { Err(error) };
    };
    let mut trivial = 0;
    // SAFETY: the list is one of the library's, and the number is written to.
    if kind != DEFAULT && unsafe { acl_is_trivial_np(list.0, &raw mut trivial) } != 0 {
        return Err(Error::last_os_error());
    }
    if trivial != 0 {
        return Ok(None);
    }
    // SAFETY: a length is not asked for.
    let text = unsafe { acl_to_text_np(list.0, std::ptr::null_mut(), TEXT_NUMERIC_IDS) };
    if text.is_null() {
        // A directory without a default list has one without entries, which has no form.
        return if kind == DEFAULT { Ok(None) } else { Err(Error::last_os_error()) };
    }
    // SAFETY: it is a C string until it is freed.
    let bytes = unsafe { CStr::from_ptr(text) }.to_bytes();
    let lines = bytes
        .split(|&byte| byte == b'\n')
        .map(|line| line.split(|&byte| byte == b'#').next().unwrap_or_default().trim_ascii());
    let lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    let joined = lines.join(&b","[..]);
    // SAFETY: the library gave it.
    unsafe { acl_free(text.cast()) };
    Ok((!joined.is_empty()).then_some(joined))
}

#[expect(unsafe_code, reason = "there is no safe interface to acl(3)")]
fn set_list(file: BorrowedFd<'_>, kind: c_int, text: &[u8]) -> Result<bool, Error> {
    let Ok(text) = CString::new(text) else { return Ok(false) };
    // SAFETY: the text is a C string.
    let Some(list) = List::of(unsafe { acl_from_text(text.as_ptr()) }) else { return Ok(false) };
    // SAFETY: the list is one of the library's, which lives until the call returns.
    given(unsafe { acl_set_fd_np(file.as_raw_fd(), list.0, kind) })
}

fn given(done: c_int) -> Result<bool, Error> {
    if done == 0 {
        return Ok(true);
    }
    let error = Error::last_os_error();
    if cannot(&error) { Ok(false) } else { Err(error) }
}

/// Whether a file system, or this process, cannot do such a thing at all.
fn cannot(error: &Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EINVAL | libc::EPERM))
}

/// A list of acl(3), freed when dropped.
struct List(*mut c_void);

impl List {
    fn of(list: *mut c_void) -> Option<Self> {
        (!list.is_null()).then_some(Self(list))
    }
}

impl Drop for List {
    #[expect(unsafe_code, reason = "there is no safe interface to acl(3)")]
    fn drop(&mut self) {
        // SAFETY: the library gave it, and nobody has it any more.
        unsafe { acl_free(self.0) };
    }
}

// sys/acl.h; they are in FreeBSD's C library.
#[expect(unsafe_code, reason = "libc has no acl(3)")]
unsafe extern "C" {
    fn acl_delete_fd_np(fd: c_int, kind: c_int) -> c_int;
    fn acl_free(object: *mut c_void) -> c_int;
    fn acl_from_text(text: *const c_char) -> *mut c_void;
    fn acl_get_fd_np(fd: c_int, kind: c_int) -> *mut c_void;
    fn acl_is_trivial_np(list: *const c_void, trivial: *mut c_int) -> c_int;
    fn acl_set_fd_np(fd: c_int, list: *mut c_void, kind: c_int) -> c_int;
    fn acl_strip_np(list: *const c_void, recalculate_mask: c_int) -> *mut c_void;
    fn acl_to_text_np(list: *mut c_void, length: *mut isize, flags: c_int) -> *mut c_char;
}

/// The flags by the words of chflags(1) and bsdtar(1), the usual one first.
pub(crate) const FLAG_WORDS: [(u32, &[&str]); 7] = [
    (0x0002_0000, &["schg", "schange", "simmutable"]),
    (0x0004_0000, &["sappnd", "sappend"]),
    (0x0010_0000, &["sunlnk", "sunlink"]),
    (NODUMP, &["nodump"]),
    (0x02, &["uchg", "uchange", "uimmutable"]),
    (0x04, &["uappnd", "uappend"]),
    (0x10, &["uunlnk", "uunlink"]),
];

/// The flags that keep a file from being changed or removed: `SF_IMMUTABLE`, `SF_APPEND`, `SF_NOUNLINK` and the
/// same three for users (sys/stat.h).
pub(crate) const FIXED: u32 = 0x0002_0000 | 0x0004_0000 | 0x0010_0000 | 0x02 | 0x04 | 0x10;
/// `UF_NODUMP`.
const NODUMP: u32 = 0x01;

const SPACES: [(&[u8], c_int); 2] =
    [(b"user.", libc::EXTATTR_NAMESPACE_USER), (b"system.", libc::EXTATTR_NAMESPACE_SYSTEM)];
/// What UFS keeps lists in; they are read and set as lists.
const LISTS_KEPT: [&[u8]; 3] = [b"posix1e.acl_access", b"posix1e.acl_default", b"nfs4.acl"];
/// The lists and `ACL_TYPE_ACCESS`, `ACL_TYPE_DEFAULT`, `ACL_TYPE_NFS4`.
const LISTS: [(&CStr, c_int); 3] =
    [(c"SCHILY.acl.access", 2), (c"SCHILY.acl.default", DEFAULT), (c"SCHILY.acl.ace", 4)];
const DEFAULT: c_int = 3;
/// `ACL_TEXT_NUMERIC_IDS`.
const TEXT_NUMERIC_IDS: c_int = 0x02;
/// `_PC_ACL_EXTENDED` and `_PC_ACL_NFS4` (sys/unistd.h).
const PC_ACL_EXTENDED: c_int = 59;
const PC_ACL_NFS4: c_int = 64;
/// Most bytes of a value that is kept, and of all names of a namespace.
const LARGEST: usize = 65_536;
