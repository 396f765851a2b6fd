//! Extended attributes, access control lists, which are attributes here, and flags (ioctl_iflags(2)).

use std::ffi::{CStr, CString, OsStr};
use std::io::Error;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{
    AtFlags, FileType, IFlags, Mode, OFlags, Stat, StatxAttributes, StatxFlags, XattrFlags,
    fgetxattr, flistxattr, fremovexattr, fsetxattr, ioctl_getflags, ioctl_setflags, lgetxattr,
    llistxattr, lremovexattr, lsetxattr, openat, statat, statx,
};
use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::{descriptor, open_regular};
use crate::sys::Attribute;

/// The flags of a name that stand in the way of a change, and whether it is not for dump(8): what is told
/// without opening it.
pub(crate) fn flags(dir: BorrowedFd<'_>, name: &CStr, _stat: &Stat) -> Result<u32, Error> {
    let found = statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::TYPE)?.stx_attributes;
    let flag = |attribute, flag| if found.contains(attribute) { flag } else { IFlags::empty() };
    let flags = flag(StatxAttributes::IMMUTABLE, IFlags::IMMUTABLE)
        | flag(StatxAttributes::APPEND, IFlags::APPEND)
        | flag(StatxAttributes::NODUMP, IFlags::NODUMP);
    Ok(flags.bits())
}

/// The flags of an open file or directory that are kept: immutable, append-only, not for dump(8), and that
/// reading changes no time. A file system without flags has none.
pub(crate) fn flags_of(file: BorrowedFd<'_>, _stat: &Stat) -> Result<u32, Error> {
    match ioctl_getflags(file) {
        Ok(flags) => Ok(flags.intersection(KEPT).bits()),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Those of a symbolic link or special file: there are none.
pub(crate) const fn flags_of_link(_stat: &Stat) -> u32 {
    0
}

/// Gives an open file or directory these flags, and no other of those that are kept; false if its file system
/// cannot hold them, or this process may not set them.
pub(crate) fn give_flags(file: BorrowedFd<'_>, flags: u32) -> Result<bool, Error> {
    let now = match ioctl_getflags(file) {
        Ok(now) => now,
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => return Ok(flags == 0),
        Err(error) => return Err(error.into()),
    };
    let wanted = now.difference(KEPT) | IFlags::from_bits_retain(flags).intersection(KEPT);
    if wanted == now {
        return Ok(true);
    }
    match ioctl_setflags(file, wanted) {
        Ok(()) => Ok(true),
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL | Errno::PERM) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Gives a symbolic link or special file flags: it can have none.
pub(crate) const fn give_flags_at(
    _dir: BorrowedFd<'_>,
    _name: &CStr,
    flags: u32,
) -> Result<bool, Error> {
    Ok(flags == 0)
}

/// Whether this process may take flags off files.
pub(crate) fn may_clear_flags() -> bool {
    let own = rustix::thread::capabilities(None);
    own.is_ok_and(|own| own.effective.contains(CapabilitySet::LINUX_IMMUTABLE))
}

/// Gives a regular file or a directory those of these flags that [`flags`] tells; no other file has any.
pub(crate) fn set_flags(dir: BorrowedFd<'_>, name: &CStr, flags: u32) -> Result<(), Error> {
    let kind = FileType::from_raw_mode(statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode);
    let file = if kind == FileType::Directory {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(dir, name, flags, Mode::empty())?
    } else {
        open_regular(dir, name)?
    };
    let told = IFlags::IMMUTABLE | IFlags::APPEND | IFlags::NODUMP;
    let others = ioctl_getflags(&file)?.difference(told);
    Ok(ioctl_setflags(&file, others | IFlags::from_bits_retain(flags))?)
}

/// A flag for people, by the letters of chattr(1).
pub(crate) fn flag_names(flags: u32) -> String {
    let flags = IFlags::from_bits_retain(flags);
    let letters = [
        (IFlags::IMMUTABLE, "i"),
        (IFlags::APPEND, "a"),
        (IFlags::NODUMP, "d"),
        (IFlags::NOATIME, "A"),
    ];
    let letters = letters.into_iter();
    letters.filter(|(flag, _)| flags.contains(*flag)).map(|(_, letter)| letter).collect()
}

/// Reads extended attributes: capabilities of programs, POSIX ACLs, labels.
pub(crate) struct Attributes {
    names: Vec<u8>,
    value: Vec<u8>,
}

impl Default for Attributes {
    fn default() -> Self {
        Self { names: vec![0; XATTR_MAX], value: vec![0; XATTR_MAX] }
    }
}

impl Attributes {
    /// Calls `each` with the name and the value of those of an open file or directory.
    pub(crate) fn read(
        &mut self,
        file: BorrowedFd<'_>,
        mut each: impl FnMut(&CStr, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let len = supported(flistxattr(file, self.names.as_mut_slice()))?;
        for name in names(self.names.get(..len).unwrap_or_default()) {
            let len = match fgetxattr(file, name, self.value.as_mut_slice()) {
                // Taken away since they were listed.
                Err(Errno::NODATA) => continue,
                len => len?,
            };
            each(name, self.value.get(..len).unwrap_or_default())?;
        }
        Ok(())
    }

    /// The same for a symbolic link or special file, which cannot be opened.
    pub(crate) fn read_at(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        mut each: impl FnMut(&CStr, &[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let path = below(dir, name);
        let len = supported(llistxattr(&path, self.names.as_mut_slice()))?;
        for name in names(self.names.get(..len).unwrap_or_default()) {
            let len = match lgetxattr(&path, name, self.value.as_mut_slice()) {
                // Taken away since they were listed.
                Err(Errno::NODATA) => continue,
                len => len?,
            };
            each(name, self.value.get(..len).unwrap_or_default())?;
        }
        Ok(())
    }
}

/// Gives an open file or directory an extended attribute; false if its file system cannot hold it.
pub(crate) fn set_attribute(
    file: BorrowedFd<'_>,
    name: &CStr,
    value: &[u8],
) -> Result<bool, Error> {
    held(fsetxattr(file, name, value, XattrFlags::empty()))
}

/// The same for a symbolic link or special file.
pub(crate) fn set_attribute_at(
    dir: BorrowedFd<'_>,
    file: &CStr,
    name: &CStr,
    value: &[u8],
) -> Result<bool, Error> {
    held(lsetxattr(below(dir, file), name, value, XattrFlags::empty()))
}

/// A list of access, or a capability, that the kernel cannot make sense of it does not hold either.
fn held(set: rustix::io::Result<()>) -> Result<bool, Error> {
    match set {
        Ok(()) => Ok(true),
        Err(Errno::OPNOTSUPP | Errno::INVAL) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes an extended attribute off an open file or directory; no other than what is made with a new file,
/// by a list that its directory has for that, or by a label.
pub(crate) fn remove_attribute(file: BorrowedFd<'_>, name: &CStr) -> Result<(), Error> {
    removed(name, || fremovexattr(file, name))
}

/// The same of a symbolic link or special file.
pub(crate) fn remove_attribute_at(
    dir: BorrowedFd<'_>,
    file: &CStr,
    name: &CStr,
) -> Result<(), Error> {
    removed(name, || lremovexattr(below(dir, file), name))
}

fn removed(name: &CStr, remove: impl Fn() -> rustix::io::Result<()>) -> Result<(), Error> {
    let name = name.to_bytes();
    // A label is given by the host's policy to each file, and can only be replaced.
    if name.starts_with(b"security.") && name != b"security.capability" {
        return Ok(());
    }
    match remove() {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The length of a list of extended attributes: none on a file system that has none.
fn supported(listed: rustix::io::Result<usize>) -> Result<usize, Error> {
    match listed {
        Err(Errno::OPNOTSUPP) => Ok(0),
        other => Ok(other?),
    }
}

/// The record of a pax archive for an attribute that is an access control list; `None` if it is none.
pub(crate) fn list_record(name: &CStr, value: &[u8]) -> Option<(&'static str, String)> {
    let (_, key) = LISTS.into_iter().find(|(attribute, _)| *attribute == name)?;
    Some((key, pax::acl::decode(value)?))
}

/// The attribute for the access control list in a record of a pax archive; `None` if Linux cannot have it.
pub(crate) fn list_attribute(key: &[u8], text: &[u8]) -> Option<Attribute> {
    let (attribute, _) = LISTS.into_iter().find(|(_, known)| known.as_bytes() == key)?;
    Some((CString::from(attribute), pax::acl::encode(text)?))
}

const LISTS: [(&CStr, &str); 2] = [
    (c"system.posix_acl_access", "SCHILY.acl.access"),
    (c"system.posix_acl_default", "SCHILY.acl.default"),
];

/// The flags by the words of chflags(1) and bsdtar(1), the usual one first.
pub(crate) const FLAG_WORDS: [(u32, &[&str]); 4] = [
    (IFlags::IMMUTABLE.bits(), &["schg", "schange", "simmutable", "uchg", "uchange", "uimmutable"]),
    (IFlags::APPEND.bits(), &["sappnd", "sappend", "uappnd", "uappend"]),
    (IFlags::NODUMP.bits(), &["nodump"]),
    (IFlags::NOATIME.bits(), &["noatime"]),
];

/// The flags that keep a file from being changed: they are set when nothing is left to be done.
pub(crate) const FIXED: u32 = IFlags::IMMUTABLE.union(IFlags::APPEND).bits();

const KEPT: IFlags =
    IFlags::IMMUTABLE.union(IFlags::APPEND).union(IFlags::NODUMP).union(IFlags::NOATIME);

fn names(list: &[u8]) -> impl Iterator<Item = &CStr> {
    list.split_inclusive(|&byte| byte == 0).filter_map(|name| CStr::from_bytes_with_nul(name).ok())
}

/// The path of a name in an open directory.
fn below(dir: BorrowedFd<'_>, name: &CStr) -> PathBuf {
    descriptor(dir).join(OsStr::from_bytes(name.to_bytes()))
}

/// The kernel's limits for one value and for the list of names (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const XATTR_MAX: usize = 65_536;
