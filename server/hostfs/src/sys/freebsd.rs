//! FreeBSD (13.2 and later): getfhat(2), fhopen(2), fhstat(2), fhreadlink(2), fhlinkat(2).
//!
//! A file is known by its handle from the start, because getfhat(2) takes a name and never an empty
//! one. Only regular files and directories are opened to be looked at: fhopen(2) would wait for a FIFO
//! and wake a device. What else is to be changed is opened for that moment with O_PATH.
#![allow(unsafe_code, reason = "the kernel's file handles have no safe interface")]

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::mem;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Stat, Timestamps, Uid};
use rustix::io::{Errno, Result};
use rustix::path::Arg;
use vfs::{Acl, FileKind};

use crate::Flags;
use crate::attr::raw_mode;
use crate::beacons::Reach;
use crate::resident::Resident;
use crate::walk;

mod lists;

pub(crate) use lists::{copy_lists, strip_lists};

/// A mounted file system, by a directory in it.
#[derive(Debug)]
pub(crate) struct Mount {
    dir: OwnedFd,
    /// `f_fsid`, which the kernel wants in handles.
    fsid: [u8; FSID],
    /// The file system's type, such as `zfs` and `ufs`.
    kind: String,
}

impl Mount {
    /// `dir` has to be open for reading.
    pub(crate) fn new(dir: OwnedFd) -> Result<Self> {
        let stat = fs::fstatfs(&dir)?;
        // SAFETY: `fsid_t` is two 32-bit integers, whose fields the libc crate keeps private; eight
        // bytes of any value are as good.
        let fsid = unsafe { mem::transmute::<libc::fsid_t, [u8; FSID]>(stat.f_fsid) };
        let name = stat.f_fstypename.iter().take_while(|byte| **byte != 0);
        let kind = name.map(|byte| char::from(byte.cast_unsigned())).collect();
        Ok(Self { dir, fsid, kind })
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// An id that the file system keeps for ever: ZFS makes `f_fsid` from the dataset's GUID, UFS
    /// keeps it in the superblock. Others count their mounts.
    pub(crate) fn stable_id(&self) -> Result<Option<u64>> {
        let stable = matches!(self.kind.as_str(), "ufs" | "zfs") && self.fsid != [0; FSID];
        Ok(stable.then(|| u64::from_ne_bytes(self.fsid)))
    }

    /// Looks one name up in a directory; neither `..` nor a mount point nor a link leads anywhere else.
    pub(crate) fn look(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<Node> {
        let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_RESOLVE_BENEATH;
        let handle = name.into_with_c_str(|name| KernelHandle::of(dir, name, flags))?;
        self.on_this_mount(handle)
    }

    /// EAGAIN: namei(9) locks the directory, which somebody may hold who waits for the disk.
    pub(crate) fn look_cached(&self, _dir: BorrowedFd<'_>, _name: &[u8]) -> Result<Node> {
        Err(Errno::AGAIN)
    }

    /// Nothing: even fstat(2) locks the vnode, which somebody may hold who waits for the disk.
    pub(crate) fn resident(&self) -> Result<Resident> {
        Ok(Resident::default())
    }

    /// How far fsync(2) reaches here.
    pub(crate) fn reach(&self) -> Result<Reach> {
        Ok(if self.kind == "zfs" { Reach::Names } else { Reach::Inode })
    }

    /// EOPNOTSUPP: every file has a name here.
    pub(crate) const fn nameless(&self) -> Result<OwnedFd> {
        Err(Errno::OPNOTSUPP)
    }

    /// The directory above, wherever that is on this file system.
    pub(crate) fn above(&self, dir: &Node) -> Result<Node> {
        let handle = KernelHandle::of(dir.dir()?, c"..", libc::AT_SYMLINK_NOFOLLOW)?;
        self.on_this_mount(handle)
    }

    /// Finds a file of any kind without touching it.
    pub(crate) fn node(&self, _kind: u8, kernel: &[u8]) -> Result<Node> {
        KernelHandle::from_parts(self.fsid, kernel)?.node()
    }

    /// Opens a file that is known to be regular.
    pub(crate) fn open_data(&self, _kind: u8, kernel: &[u8], write: bool) -> Result<OwnedFd> {
        let access = if write { libc::O_RDWR } else { libc::O_RDONLY };
        KernelHandle::from_parts(self.fsid, kernel)?.open(access | libc::O_NONBLOCK)
    }

    /// Opens a directory for listing; its position is the caller's own.
    pub(crate) fn open_dir(&self, _kind: u8, kernel: &[u8]) -> Result<OwnedFd> {
        let flags = libc::O_RDONLY | libc::O_DIRECTORY;
        KernelHandle::from_parts(self.fsid, kernel)?.open(flags)
    }

    fn on_this_mount(&self, handle: KernelHandle) -> Result<Node> {
        if handle.fsid == self.fsid { handle.node() } else { Err(Errno::XDEV) }
    }
}

/// A file of any kind.
#[derive(Debug)]
pub(crate) struct Node {
    handle: KernelHandle,
    kind: FileType,
    /// Open for reading, if it is a regular file or a directory.
    fd: Option<OwnedFd>,
}

impl Node {
    pub(crate) fn stat(&self) -> Result<Stat> {
        self.fd.as_ref().map_or_else(|| self.handle.stat(), fs::fstat)
    }

    pub(crate) fn handle(&self) -> Result<KernelHandle> {
        Ok(self.handle)
    }

    /// The handle of a name in this directory. A symbolic link is not followed.
    pub(crate) fn handle_at(&self, name: &[u8]) -> Result<KernelHandle> {
        let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_RESOLVE_BENEATH;
        let dir = self.dir()?;
        name.into_with_c_str(|name| KernelHandle::of(dir, name, flags))
    }

    pub(crate) fn readlink(&self) -> Result<Vec<u8>> {
        self.handle.readlink()
    }

    /// Gives the file one more name. Needs root, as handles do.
    pub(crate) fn link(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        name.into_with_c_str(|name| self.handle.link(dir, name))
    }

    /// Sets the mode of a file, also of a symbolic link.
    pub(crate) fn chmod(&self, _kind: FileKind, mode: u32) -> Result<()> {
        self.change(|fd| fs::chmodat(fd, c"", raw_mode(mode), AtFlags::EMPTY_PATH))
    }

    pub(crate) fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        self.change(|fd| fs::chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH))
    }

    pub(crate) fn set_times(&self, times: &Timestamps) -> Result<()> {
        self.change(|fd| fs::utimensat(fd, c"", times, AtFlags::EMPTY_PATH))
    }

    /// The descriptor of a file or directory.
    pub(crate) fn any(&self) -> Result<BorrowedFd<'_>> {
        self.dir()
    }

    /// The descriptor, for calls that take a directory.
    pub(crate) fn dir(&self) -> Result<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd).ok_or(Errno::NOTDIR)
    }

    fn change(&self, change: impl FnOnce(BorrowedFd<'_>) -> Result<()>) -> Result<()> {
        let flags = match (&self.fd, self.kind) {
            (Some(fd), _) => return change(fd.as_fd()),
            // A FIFO that fhopen(2) of 14.0 gives by O_PATH counts one reader less when it is closed, and
            // none more when it is opened. A reader that does not wait is counted both times.
            (None, FileType::Fifo) => libc::O_RDONLY | libc::O_NONBLOCK,
            (None, _) => libc::O_PATH,
        };
        change(self.handle.open(flags)?.as_fd())
    }
}

/// The kernel's name for a file: `struct fhandle`, as the bytes of its parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KernelHandle {
    /// The mount: a hint for the kernel, and not the same after a restart everywhere.
    fsid: [u8; FSID],
    /// `struct fid`: the file in it.
    fid: [u8; FID],
}

impl KernelHandle {
    fn of(dir: BorrowedFd<'_>, name: &CStr, flags: c_int) -> Result<Self> {
        // SAFETY: `struct fhandle` consists of integers, for which zero is a value.
        let mut raw: libc::fhandle_t = unsafe { mem::zeroed() };
        // SAFETY: `name` ends in NUL and is only read, in spite of its type; the kernel writes one
        // `struct fhandle`.
        let result = unsafe {
            libc::getfhat(dir.as_raw_fd(), name.as_ptr().cast_mut(), &raw mut raw, flags)
        };
        check(result)?;
        // SAFETY: all of `struct fhandle` is plain integers without padding, 28 bytes of them.
        let bytes = unsafe { mem::transmute::<libc::fhandle_t, [u8; FSID + FID]>(raw) };
        let (fsid, fid) = bytes.split_first_chunk().ok_or(Errno::OVERFLOW)?;
        Ok(Self { fsid: *fsid, fid: fid.try_into().map_err(|_| Errno::OVERFLOW)? })
    }

    fn from_parts(fsid: [u8; FSID], kernel: &[u8]) -> Result<Self> {
        Ok(Self { fsid, fid: kernel.try_into().map_err(|_| Errno::STALE)? })
    }

    /// FreeBSD's handles have no type.
    pub(crate) fn kind(&self) -> Option<u8> {
        Some(0)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.fid
    }

    fn raw(&self) -> libc::fhandle_t {
        let mut bytes = [0; FSID + FID];
        let all = self.fsid.iter().chain(&self.fid);
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        // SAFETY: all of `struct fhandle` is plain integers without padding, 28 bytes of them; the
        // kernel checks the length in a client's handle itself.
        unsafe { mem::transmute::<[u8; FSID + FID], libc::fhandle_t>(bytes) }
    }

    fn node(self) -> Result<Node> {
        let kind = FileType::from_raw_mode(self.stat()?.st_mode);
        let flags = match kind {
            FileType::RegularFile => libc::O_RDONLY | libc::O_NONBLOCK,
            FileType::Directory => libc::O_RDONLY | libc::O_DIRECTORY,
            FileType::Symlink
            | FileType::Fifo
            | FileType::Socket
            | FileType::CharacterDevice
            | FileType::BlockDevice
            | FileType::Unknown => return Ok(Node { handle: self, kind, fd: None }),
        };
        Ok(Node { handle: self, kind, fd: Some(self.open(flags)?) })
    }

    fn open(&self, flags: c_int) -> Result<OwnedFd> {
        let raw = self.raw();
        // SAFETY: the kernel only reads the handle, and only during the call.
        let fd = unsafe { libc::fhopen(&raw const raw, flags | libc::O_CLOEXEC) };
        check(fd)?;
        // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    fn stat(&self) -> Result<Stat> {
        let raw = self.raw();
        // SAFETY: `struct stat` consists of integers, for which zero is a value.
        let mut stat: libc::stat = unsafe { mem::zeroed() };
        // SAFETY: the kernel reads the handle and writes one `struct stat`.
        check(unsafe { libc::fhstat(&raw const raw, &raw mut stat) })?;
        Ok(stat)
    }

    fn readlink(&self) -> Result<Vec<u8>> {
        let mut raw = self.raw();
        let mut target = vec![0_u8; PATH];
        let room: *mut c_char = target.as_mut_ptr().cast();
        // SAFETY: the kernel reads the handle and writes at most as many bytes as `target` has.
        let len = unsafe { libc::fhreadlink(&raw mut raw, room, target.len()) };
        check(len)?;
        target.truncate(usize::try_from(len).map_err(|_| Errno::IO)?);
        Ok(target)
    }

    fn link(&self, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        let mut raw = self.raw();
        // SAFETY: the kernel reads the handle and the name, which ends in NUL.
        check(unsafe { libc::fhlinkat(&raw mut raw, dir.as_raw_fd(), name.as_ptr()) })
    }
}

/// Resolves a path inside `root`, as chroot(2) would, without opening what it finds.
pub(crate) fn resolve(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
    walk::resolve(root, path)
}

/// Opens the very file that an O_PATH descriptor names.
pub(crate) fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
    fs::openat(fd, c"", flags | OFlags::EMPTY_PATH | OFlags::CLOEXEC, Mode::empty())
}

/// The mode of a new file that has not got its owner yet: nobody else gives root a file like that.
pub(crate) const UNFINISHED: Option<u32> = Some(0o6000);

/// Runs `make` for something that is then given its owner and mode: a thread has no user of its own
/// here.
pub(crate) fn make_as<T>(
    _uid: u32,
    _gid: u32,
    _mode: u32,
    make: impl FnOnce(u32) -> Result<T>,
) -> Result<T> {
    make(0o6000)
}

/// EOPNOTSUPP: every file has a name here before it has times.
pub(crate) const fn make_file_with_times(
    _dir: BorrowedFd<'_>,
    _name: &[u8],
    _mode: Mode,
    _times: &Timestamps,
) -> Result<()> {
    Err(Errno::OPNOTSUPP)
}

/// The name under which something is made before it is given its owner, and then its own name: whoever
/// kills the server in between leaves that name, and not another's.
///
/// A regular file gets its own name at once: a second CREATE finishes it.
pub(crate) fn stage(regular: bool) -> Result<Option<Vec<u8>>> {
    if regular {
        return Ok(None);
    }
    let mut chance = [0; 8];
    getrandom::fill(&mut chance).map_err(|_| Errno::AGAIN)?;
    Ok(Some(format!("{STAGED}{:016x}", u64::from_ne_bytes(chance)).into_bytes()))
}

/// Whether a name is one of [`stage`]'s.
pub(crate) fn is_staged(name: &[u8]) -> bool {
    let chance = name.strip_prefix(STAGED.as_bytes());
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    chance.is_some_and(|chance| chance.len() == 16 && chance.iter().all(is_digit))
}

/// Gives what stands under the name `staged` its own name, which nobody may have: EEXIST.
///
/// rename(2) replaces what it finds. A directory cannot be linked, but replaces only an empty one.
pub(crate) fn publish(dir: BorrowedFd<'_>, staged: &[u8], name: &[u8], is_dir: bool) -> Result<()> {
    if is_dir {
        return match fs::renameat(dir, staged, dir, name) {
            Err(Errno::NOTEMPTY | Errno::NOTDIR) => Err(Errno::EXIST),
            done => done,
        };
    }
    fs::linkat(dir, staged, dir, name, AtFlags::empty())?;
    fs::unlinkat(dir, staged, AtFlags::empty())
}

/// Makes a device node, a FIFO or a socket, whose name is short: see [`stage`].
///
/// mknodat(2) makes no sockets here: one is bound to the name, and closed.
pub(crate) fn make_special(
    dir: BorrowedFd<'_>,
    name: &[u8],
    kind: FileType,
    mode: Mode,
    device: u64,
) -> Result<()> {
    if kind != FileType::Socket {
        return fs::mknodat(dir, name, kind, mode, device);
    }
    // SAFETY: `struct sockaddr_un` consists of integers, for which zero is a value.
    let mut address: libc::sockaddr_un = unsafe { mem::zeroed() };
    if name.len() >= address.sun_path.len() {
        return Err(Errno::NAMETOOLONG);
    }
    let len = mem::offset_of!(libc::sockaddr_un, sun_path) + name.len();
    address.sun_len = u8::try_from(len).map_err(|_| Errno::NAMETOOLONG)?;
    address.sun_family = u8::try_from(libc::AF_UNIX).map_err(|_| Errno::AFNOSUPPORT)?;
    let path = address.sun_path.iter_mut().zip(name);
    path.for_each(|(to, from)| *to = from.cast_signed());
    // SAFETY: socket(2) takes no pointer.
    let socket = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    check(socket)?;
    // SAFETY: the call succeeded, so `socket` is a new descriptor that nobody else owns.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let len = libc::socklen_t::try_from(len).map_err(|_| Errno::NAMETOOLONG)?;
    let raw = (&raw const address).cast();
    // SAFETY: the kernel reads `len` bytes of the address, which has more.
    match check(unsafe { bindat(dir.as_raw_fd(), socket.as_raw_fd(), raw, len) }) {
        Err(Errno::ADDRINUSE) => Err(Errno::EXIST),
        Err(error) => Err(error),
        Ok(()) => {
            drop(socket);
            fs::chmodat(dir, name, mode, AtFlags::SYMLINK_NOFOLLOW)
        }
    }
}

/// EPERM where a file was made immutable or append-only since `writer` was opened: the kernel asks for
/// that only when a file is opened.
pub(crate) fn may_still_write(writer: BorrowedFd<'_>) -> Result<()> {
    if fs::fstat(writer)?.st_flags & FIXED == 0 { Ok(()) } else { Err(Errno::PERM) }
}

/// EOPNOTSUPP: FreeBSD has no read that refuses to wait for a disk.
pub(crate) fn read_nowait(
    _fd: BorrowedFd<'_>,
    _into: &mut [u8],
    _offset: u64,
) -> Result<Option<usize>> {
    Err(Errno::OPNOTSUPP)
}

/// No splice(2) here.
pub(crate) const fn splice(
    _file: BorrowedFd<'_>,
    _offset: u64,
    _pipe: BorrowedFd<'_>,
    _len: usize,
) -> Result<usize> {
    Err(Errno::OPNOTSUPP)
}

/// Nothing is known to be in memory.
pub(crate) const fn is_resident(
    _file: BorrowedFd<'_>,
    _offset: u64,
    _len: u64,
    _ahead: u64,
    _size: u64,
) -> bool {
    false
}

/// Shows name, inode number and cookie of the entries behind the descriptor's position until `each`
/// breaks; returns whether it saw the end. The cookie is `d_off`, which UFS and ZFS have since 12.
pub(crate) fn list(
    dir: &OwnedFd,
    mut each: impl FnMut(&[u8], u64, u64) -> ControlFlow<()>,
) -> Result<bool> {
    let mut buffer = vec![0_u8; LISTING];
    loop {
        let room: *mut c_char = buffer.as_mut_ptr().cast();
        let mut base = 0;
        // SAFETY: the kernel writes at most as many bytes as `buffer` has, and one offset.
        let len = unsafe { getdirentries(dir.as_raw_fd(), room, buffer.len(), &raw mut base) };
        let len = usize::try_from(len).map_err(|_| last_error())?;
        if len == 0 {
            return Ok(true);
        }
        let mut rest = buffer.get(..len).unwrap_or_default();
        while let Some((entry, more)) = Dirent::first(rest) {
            rest = more;
            // Number 0 marks an entry that was removed.
            if entry.fileno == 0 {
                continue;
            }
            if entry.off == 0 {
                return Err(Errno::OPNOTSUPP);
            }
            if each(entry.name, entry.fileno, entry.off).is_break() {
                return Ok(false);
            }
        }
    }
}

/// Gives an open file or directory an extended attribute (extattr(2)). Attributes of Linux that begin
/// with another word than `user` or `system` have no place here: EOPNOTSUPP. Nor have its access control
/// lists, for which FreeBSD has a form and calls of its own (acl(3)).
pub(crate) fn set_extended(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<()> {
    let (space, name) = if name.starts_with(b"system.posix_acl_") {
        return Err(Errno::OPNOTSUPP);
    } else if let Some(name) = name.strip_prefix(b"user.") {
        (libc::EXTATTR_NAMESPACE_USER, name)
    } else if let Some(name) = name.strip_prefix(b"system.") {
        (libc::EXTATTR_NAMESPACE_SYSTEM, name)
    } else {
        return Err(Errno::OPNOTSUPP);
    };
    name.into_with_c_str(|name| {
        let (name, bytes) = (name.as_ptr(), value.as_ptr().cast());
        // SAFETY: `name` ends in NUL, and the kernel reads `value.len()` bytes of `value`.
        let set = unsafe { libc::extattr_set_fd(fd.as_raw_fd(), space, name, bytes, value.len()) };
        if set < 0 { Err(last_error()) } else { Ok(()) }
    })
}

/// Takes an extended attribute of users away from an open file or directory that has it.
pub(crate) fn remove_extended(fd: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    let name = name.strip_prefix(b"user.").ok_or(Errno::OPNOTSUPP)?;
    name.into_with_c_str(|name| {
        let (fd, space) = (fd.as_raw_fd(), libc::EXTATTR_NAMESPACE_USER);
        // SAFETY: `name` ends in NUL.
        let removed = unsafe { libc::extattr_delete_fd(fd, space, name.as_ptr()) };
        if removed < 0 { Err(last_error()) } else { Ok(()) }
    })
}

/// Shows the extended attributes of an open file or directory that are for a copy of it too: those of
/// users. Access control lists are none here: [`copy_lists`]. Names or a value of 64 KiB or more are E2BIG.
pub(crate) fn each_extended(
    fd: BorrowedFd<'_>,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let (mut names, mut value) = (vec![0_u8; EXTENDED], vec![0_u8; EXTENDED]);
    let (fd, space) = (fd.as_raw_fd(), libc::EXTATTR_NAMESPACE_USER);
    let room = names.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most as many bytes as `names` has.
    let len = unsafe { libc::extattr_list_fd(fd, space, room, names.len()) };
    let Ok(len) = usize::try_from(len) else {
        let errno = last_error();
        return if errno == Errno::OPNOTSUPP { Ok(()) } else { Err(errno) };
    };
    // What fills the room may go on.
    if len == names.len() {
        return Err(Errno::TOOBIG);
    }
    // Each name has its length before it.
    let mut rest = names.get(..len).unwrap_or_default();
    while let Some((len, more)) = rest.split_first() {
        let Some((name, more)) = more.split_at_checked(usize::from(*len)) else { break };
        rest = more;
        let len = name.into_with_c_str(|name| {
            let room = value.as_mut_ptr().cast();
            // SAFETY: `name` ends in NUL, and the kernel writes at most as many bytes as `value` has.
            Ok(unsafe { libc::extattr_get_fd(fd, space, name.as_ptr(), room, value.len()) })
        })?;
        match usize::try_from(len) {
            Ok(len) if len == value.len() => return Err(Errno::TOOBIG),
            Ok(len) => each(&[b"user.", name].concat(), value.get(..len).unwrap_or_default())?,
            Err(_) => match last_error() {
                // It was removed meanwhile.
                Errno::NOATTR => {}
                errno => return Err(errno),
            },
        }
    }
    Ok(())
}

/// False: the calls of acl(3) that tell are not asked.
pub(crate) fn has_list(_fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(false)
}

/// False: the calls of acl(3) are not asked, and the mode decides alone.
pub(crate) const fn has_lists(_dir: BorrowedFd<'_>) -> bool {
    false
}

/// None: see [`has_lists`].
pub(crate) const fn list_of(_fd: BorrowedFd<'_>) -> Result<Option<Acl>> {
    Ok(None)
}

/// The flags of a file or directory.
pub(crate) fn flags(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Flags> {
    Ok(Flags::from_bits(fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_flags))
}

/// Takes flags away from an open file or directory, and adds others (fchflags(2)): all of it, or it fails.
pub(crate) fn change_flags(fd: BorrowedFd<'_>, gone: Flags, flags: Flags) -> Result<Flags> {
    let present = fs::fstat(fd)?.st_flags;
    let next = present & !gone.bits() | flags.bits();
    // SAFETY: fchflags(2) takes no pointer, and the descriptor is open while it is borrowed.
    let set = unsafe { libc::fchflags(fd.as_raw_fd(), next.into()) };
    if set < 0 { Err(last_error()) } else { Ok(Flags::default()) }
}

/// Brings everything to stable storage: there is no syncfs(2) here.
pub(crate) fn synchronize(_fd: BorrowedFd<'_>) -> Result<()> {
    fs::sync();
    Ok(())
}

/// The most names that a file may have here.
pub(crate) fn link_max(fd: BorrowedFd<'_>) -> u32 {
    // SAFETY: fpathconf(2) takes no pointer, and the descriptor is open while it is borrowed.
    let most = unsafe { libc::fpathconf(fd.as_raw_fd(), libc::_PC_LINK_MAX) };
    u32::try_from(most).unwrap_or(if most < 0 { 1 } else { u32::MAX })
}

/// Whether this kernel lacks what serving its files needs: getfhat(2) takes `AT_RESOLVE_BENEATH` since
/// FreeBSD 13.2. A kernel that does not say how old it is is tried.
#[must_use]
pub fn too_old() -> bool {
    let mut release: c_int = 0;
    let mut len = size_of::<c_int>();
    let into = (&raw mut release).cast();
    // SAFETY: the name ends in NUL, the kernel writes no more than `len` bytes to `release`, and it is
    // given no new value.
    let told = unsafe {
        libc::sysctlbyname(c"kern.osreldate".as_ptr(), into, &raw mut len, std::ptr::null(), 0)
    };
    told == 0 && release < OLDEST
}

/// `struct dirent` of dirent(5), as far as it is needed.
struct Dirent<'a> {
    fileno: u64,
    off: u64,
    name: &'a [u8],
}

impl<'a> Dirent<'a> {
    /// Reads the first entry of a buffer, and what is behind it.
    fn first(buffer: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (fileno, rest) = buffer.split_first_chunk()?;
        let (off, rest) = rest.split_first_chunk()?;
        let (reclen, rest) = rest.split_first_chunk()?;
        let (_type_and_padding, rest) = rest.split_first_chunk::<2>()?;
        let (namlen, rest) = rest.split_first_chunk()?;
        let (_padding, rest) = rest.split_first_chunk::<2>()?;
        let name = rest.get(..usize::from(u16::from_ne_bytes(*namlen)))?;
        let more = buffer.get(usize::from(u16::from_ne_bytes(*reclen)).max(1)..)?;
        let (fileno, off) = (u64::from_ne_bytes(*fileno), u64::from_ne_bytes(*off));
        Some((Self { fileno, off, name }, more))
    }
}

// What the libc crate does not have.
unsafe extern "C" {
    /// getdirentries(2).
    fn getdirentries(fd: c_int, buf: *mut c_char, nbytes: usize, basep: *mut libc::off_t) -> isize;
    /// bindat(2).
    fn bindat(
        fd: c_int,
        socket: c_int,
        address: *const libc::sockaddr,
        len: libc::socklen_t,
    ) -> c_int;
}

/// An error, if a call returned something negative.
fn check(result: c_int) -> Result<()> {
    if result < 0 { Err(last_error()) } else { Ok(()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// `__FreeBSD_version` of 13.2 (sys/param.h).
const OLDEST: c_int = 1_302_000;
/// `SF_IMMUTABLE`, `SF_APPEND`, `UF_IMMUTABLE` and `UF_APPEND` (sys/stat.h).
const FIXED: u32 = 0x0002_0000 | 0x0004_0000 | 0x02 | 0x04;
/// Bytes of `fsid_t`.
const FSID: usize = 8;
/// Bytes of `struct fid`: its length, two of padding, and `MAXFIDSZ`.
const FID: usize = 20;
/// Most bytes of an extended attribute, and of all their names.
const EXTENDED: usize = 65_536;
/// `PATH_MAX`.
const PATH: usize = 1024;
/// Bytes of directory entries that are read at once.
const LISTING: usize = 32 * 1024;
/// How the names of [`stage`] begin.
const STAGED: &str = ".netbe-";
