//! Linux: name_to_handle_at(2), open_by_handle_at(2), openat2(2), O_PATH descriptors.
//!
//! An O_PATH descriptor names a file without opening it: FIFOs do not wait and devices do not notice.
//! What fchmod(2) refuses on one goes through `/proc/self/fd`, which names exactly that file.
#![allow(unsafe_code, reason = "the kernel's file handles have no safe interface")]

mod owner;
mod residence;

use std::ffi::{CStr, OsStr, c_int, c_uint};
use std::io::IoSliceMut;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{
    self, AtFlags, CWD, FileType, Gid, IFlags, Mode, OFlags, RawDir, ResolveFlags, Stat,
    StatVfsMountFlags, StatxAttributes, StatxFlags, Timestamps, Uid, XattrFlags,
};
use rustix::io::{Errno, ReadWriteFlags, Result};
use rustix::path::Arg;
use siphasher::sip::SipHasher24;
use vfs::{Acl, FileKind};

use crate::Flags;
use crate::attr::raw_mode;
use crate::beacons::Reach;
use crate::resident::{AccessTimes, Resident};

pub(crate) use owner::{UNFINISHED, make_as, make_file_with_times};
pub(crate) use residence::{is_resident, splice};

/// A mounted file system, by a directory in it.
#[derive(Debug)]
pub(crate) struct Mount {
    dir: OwnedFd,
}

impl Mount {
    /// `dir` has to be open for reading: open_by_handle_at(2) does not take an O_PATH descriptor.
    pub(crate) fn new(dir: OwnedFd) -> Result<Self> {
        Ok(Self { dir })
    }

    pub(crate) fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// An id that the file system keeps for ever: after a restart, a remount and a new kernel.
    ///
    /// ext4, btrfs (with the subvolume in it), ZFS and tmpfs make `f_fsid` from their UUID or GUID,
    /// and always have. XFS and others make it from the device number, so there the UUID itself is
    /// asked for: from the kernel (since 6.9), else from udev's links. Both give the same id.
    pub(crate) fn stable_id(&self) -> Result<Option<u64>> {
        let magic = fs::fstatfs(&self.dir)?.f_type;
        let own = fs::fstatvfs(&self.dir)?.f_fsid;
        if matches!(magic, BTRFS | EXT4 | TMPFS | ZFS) && own != 0 {
            return Ok(Some(own));
        }
        Ok(self.uuid()?.map(|uuid| SipHasher24::new_with_keys(0, 0).hash(&uuid)))
    }

    /// What this file system tells without waiting, as its sources of Linux 5.12 to 6.18 and OpenZFS 2.3
    /// have it: fstat(2) of these takes no lock that is held over I/O. ZFS revalidates every name, which
    /// Linux's cache cannot do by itself; XFS and btrfs read symbolic links under locks or from pages.
    ///
    /// Numbers of inodes are counted up by tmpfs, which on some kernels begins anew after 2^32 files;
    /// of ZFS a file that a rollback took away may be open beside a new one with its number.
    pub(crate) fn resident(&self) -> Result<Resident> {
        let magic = fs::fstatfs(&self.dir)?.f_type;
        let (attributes, names, link_size) = match magic {
            EXT4 => (true, true, 60),
            TMPFS => (true, true, 128),
            BTRFS | XFS => (true, true, 0),
            ZFS => (true, false, 0),
            _ => (false, false, 0),
        };
        let flags = fs::fstatvfs(&self.dir)?.f_flag;
        let access_times =
            if flags.intersects(StatVfsMountFlags::NOATIME | StatVfsMountFlags::RDONLY) {
                AccessTimes::Never
            } else if flags.contains(StatVfsMountFlags::RELATIME) {
                AccessTimes::Relative
            } else {
                AccessTimes::Always
            };
        // Kernels before 5.12 do not know the flag.
        let names = names && self.look_cached(self.dir(), b".").is_ok();
        let inode_numbers = matches!(magic, BTRFS | EXT4 | XFS);
        let read_ahead = match magic {
            // XFS reads under a lock of the inode, ZFS from a cache of its own; tmpfs may have to swap.
            EXT4 | BTRFS => residence::read_ahead(&self.dir, magic == BTRFS),
            _ => None,
        };
        Ok(Resident { attributes, names, inode_numbers, link_size, access_times, read_ahead })
    }

    /// How far fsync(2) reaches here, as the sources of Linux 5.4 to 6.18 and OpenZFS 0.8 to 2.3 have it.
    pub(crate) fn reach(&self) -> Result<Reach> {
        Ok(match fs::fstatfs(&self.dir)?.f_type {
            EXT4 if has_journal(fs::fstat(&self.dir)?.st_dev) => Reach::Journal,
            XFS => Reach::Journal,
            ZFS => Reach::Names,
            _ => Reach::Inode,
        })
    }

    /// Makes a file that has no name and never gets one.
    pub(crate) fn nameless(&self) -> Result<OwnedFd> {
        let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
        fs::openat(&self.dir, c".", flags, Mode::empty())
    }

    fn uuid(&self) -> Result<Option<[u8; 16]>> {
        if let Some(uuid) = kernel_uuid(self.dir()) {
            return Ok(Some(uuid));
        }
        let device = fs::fstat(&self.dir)?.st_dev;
        let Ok(links) = std::fs::read_dir("/dev/disk/by-uuid") else { return Ok(None) };
        let ours = links
            .flatten()
            .find(|link| std::fs::metadata(link.path()).is_ok_and(|node| node.rdev() == device));
        Ok(ours.and_then(|link| parse_uuid(link.file_name().as_encoded_bytes())))
    }

    /// Looks one name up in a directory; neither `..` nor a mount point nor a link leads anywhere else.
    pub(crate) fn look(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<Node> {
        look(dir, name, ResolveFlags::empty())
    }

    /// As [`Mount::look`], from the kernel's cache of names alone: EAGAIN for what is not in it.
    pub(crate) fn look_cached(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<Node> {
        look(dir, name, ResolveFlags::CACHED)
    }

    /// The directory above, wherever that is.
    pub(crate) fn above(&self, dir: &Node) -> Result<Node> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        fs::openat(dir.dir()?, c"..", flags, Mode::empty()).map(Node)
    }

    /// Opens a file of any kind without touching it.
    pub(crate) fn node(&self, kind: u8, kernel: &[u8]) -> Result<Node> {
        self.open(kind, kernel, OFlags::PATH | OFlags::NOFOLLOW).map(Node)
    }

    /// Opens a file that is known to be regular.
    pub(crate) fn open_data(&self, kind: u8, kernel: &[u8], write: bool) -> Result<OwnedFd> {
        let access = if write { OFlags::WRONLY } else { OFlags::RDONLY };
        self.open(kind, kernel, access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY)
    }

    /// Opens a directory for listing; its position is the caller's own.
    pub(crate) fn open_dir(&self, kind: u8, kernel: &[u8]) -> Result<OwnedFd> {
        self.open(kind, kernel, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    fn open(&self, kind: u8, kernel: &[u8], flags: OFlags) -> Result<OwnedFd> {
        let mut handle = FileHandle::empty();
        let room = handle.data.get_mut(..kernel.len()).ok_or(Errno::STALE)?;
        room.copy_from_slice(kernel);
        handle.len = c_uint::try_from(kernel.len()).map_err(|_| Errno::STALE)?;
        handle.kind = c_int::from(kind);
        let flags = c_int::try_from((flags | OFlags::CLOEXEC).bits()).map_err(|_| Errno::INVAL)?;
        let mut opened = self.open_handle(&handle, flags);
        for _ in 0..RETRIES {
            if !matches!(opened, Err(Errno::NOMEM)) {
                break;
            }
            std::thread::yield_now();
            opened = self.open_handle(&handle, flags);
        }
        opened
    }

    /// Says ENOMEM, beside its usual meaning, for as long as ext4 gives the inode number of a removed
    /// file to a new one; a moment later the old handle is ESTALE.
    fn open_handle(&self, handle: &FileHandle, flags: c_int) -> Result<OwnedFd> {
        let mut handle = *handle;
        let mount = self.dir.as_raw_fd();
        // SAFETY: `handle` is laid out as `struct file_handle` followed by as many bytes as its `len`
        // says; the kernel only reads it, and only during the call.
        let fd = unsafe { libc::open_by_handle_at(mount, (&raw mut handle).cast(), flags) };
        if fd < 0 {
            return Err(last_error());
        }
        // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

fn look(dir: BorrowedFd<'_>, name: &[u8], how: ResolveFlags) -> Result<Node> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = ResolveFlags::NO_XDEV
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::BENEATH;
    fs::openat2(dir, name, flags, Mode::empty(), resolve | how).map(Node)
}

/// A file of any kind, not opened.
#[derive(Debug)]
pub(crate) struct Node(OwnedFd);

impl Node {
    pub(crate) fn stat(&self) -> Result<Stat> {
        fs::fstat(&self.0)
    }

    pub(crate) fn handle(&self) -> Result<KernelHandle> {
        KernelHandle::of(self.0.as_fd(), c"", libc::AT_EMPTY_PATH)
    }

    /// The handle of a name in this directory. A symbolic link is not followed.
    pub(crate) fn handle_at(&self, name: &[u8]) -> Result<KernelHandle> {
        name.into_with_c_str(|name| KernelHandle::of(self.0.as_fd(), name, 0))
    }

    pub(crate) fn readlink(&self) -> Result<Vec<u8>> {
        fs::readlinkat(&self.0, c"", Vec::new()).map(std::ffi::CString::into_bytes)
    }

    /// Gives the file one more name. Needs CAP_DAC_READ_SEARCH, as handles do.
    pub(crate) fn link(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
        fs::linkat(&self.0, c"", dir, name, AtFlags::EMPTY_PATH)
    }

    /// Sets the mode of a file of this kind. A symbolic link has none that could be set: nothing is
    /// done then, as knfsd does (nfsd_setattr), so that tar(1) and chmod -h of a BSD go on.
    pub(crate) fn chmod(&self, kind: FileKind, mode: u32) -> Result<()> {
        if kind == FileKind::Symlink {
            return Ok(());
        }
        fs::chmodat(CWD, proc_path(self.0.as_fd()), raw_mode(mode), AtFlags::empty())
    }

    pub(crate) fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        fs::chownat(&self.0, c"", uid, gid, AtFlags::EMPTY_PATH)
    }

    pub(crate) fn set_times(&self, times: &Timestamps) -> Result<()> {
        fs::utimensat(&self.0, c"", times, AtFlags::EMPTY_PATH)
    }

    /// The descriptor, whatever kind of file it is.
    pub(crate) fn any(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.0.as_fd())
    }

    /// The descriptor, for calls that take a directory.
    pub(crate) fn dir(&self) -> Result<BorrowedFd<'_>> {
        Ok(self.0.as_fd())
    }
}

/// The kernel's name for a file: `struct file_handle`, with room for the longest.
#[derive(Clone, Copy)]
pub(crate) struct KernelHandle(FileHandle);

#[derive(Clone, Copy)]
#[repr(C)]
struct FileHandle {
    len: c_uint,
    kind: c_int,
    data: [u8; LONGEST],
}

impl FileHandle {
    const fn empty() -> Self {
        Self { len: 0, kind: 0, data: [0; LONGEST] }
    }
}

impl KernelHandle {
    fn of(dir: BorrowedFd<'_>, name: &CStr, flags: c_int) -> Result<Self> {
        let mut handle = FileHandle::empty();
        handle.len = c_uint::try_from(LONGEST).map_err(|_| Errno::OVERFLOW)?;
        let mut mount_id: c_int = 0;
        let at = (&raw mut handle).cast();
        // SAFETY: `handle` is laid out as `struct file_handle` followed by as many bytes as its `len`
        // says, which is what the kernel may fill; `name` ends in NUL, and `mount_id` is an int.
        let result = unsafe {
            libc::name_to_handle_at(dir.as_raw_fd(), name.as_ptr(), at, &raw mut mount_id, flags)
        };
        if result < 0 { Err(last_error()) } else { Ok(Self(handle)) }
    }

    /// The handle's type, where it fits into a byte as all known ones do.
    pub(crate) fn kind(&self) -> Option<u8> {
        u8::try_from(self.0.kind).ok()
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        let len = usize::try_from(self.0.len).unwrap_or(0);
        self.0.data.get(..len).unwrap_or_default()
    }
}

/// Resolves a path inside `root`, as chroot(2) would, without opening what it finds.
///
/// A rename on the way makes the kernel give up (EAGAIN); somebody who renames all the time gets that
/// as the answer.
pub(crate) fn resolve(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let inside = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let mut found = fs::openat2(root, path, flags, Mode::empty(), inside);
    for _ in 0..RETRIES {
        if !matches!(found, Err(Errno::AGAIN)) {
            break;
        }
        found = fs::openat2(root, path, flags, Mode::empty(), inside);
    }
    found
}

/// Opens the very file that an O_PATH descriptor names.
pub(crate) fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd> {
    fs::open(proc_path(fd), flags | OFlags::CLOEXEC, Mode::empty())
}

/// Reads what is in memory; `None` if it has to ask the disk, EOPNOTSUPP if it can never tell.
pub(crate) fn read_nowait(
    fd: BorrowedFd<'_>,
    into: &mut [u8],
    offset: u64,
) -> Result<Option<usize>> {
    let mut slices = [IoSliceMut::new(into)];
    match rustix::io::preadv2(fd, &mut slices, offset, ReadWriteFlags::NOWAIT) {
        Ok(len) => Ok(Some(len)),
        Err(Errno::AGAIN) => Ok(None),
        Err(other) => Err(other),
    }
}

/// Shows name, inode number and cookie of the entries behind the descriptor's position until `each`
/// breaks; returns whether it saw the end.
pub(crate) fn list(
    dir: &OwnedFd,
    mut each: impl FnMut(&[u8], u64, u64) -> ControlFlow<()>,
) -> Result<bool> {
    let mut buffer = Vec::with_capacity(LISTING);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let cookie = entry.next_entry_cookie();
        if each(entry.file_name().to_bytes(), entry.ino(), cookie).is_break() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The most names that a file may have here.
pub(crate) fn link_max(fd: BorrowedFd<'_>) -> u32 {
    // SAFETY: fpathconf(3) takes no pointer, and the descriptor is open while it is borrowed.
    let most = unsafe { libc::fpathconf(fd.as_raw_fd(), libc::_PC_LINK_MAX) };
    u32::try_from(most).unwrap_or(if most < 0 { 1 } else { u32::MAX })
}

/// Gives an open file or directory an extended attribute.
pub(crate) fn set_extended(fd: BorrowedFd<'_>, name: &[u8], value: &[u8]) -> Result<()> {
    fs::fsetxattr(fd, name, value, XattrFlags::empty())
}

/// Takes an extended attribute away from an open file or directory that has it.
pub(crate) fn remove_extended(fd: BorrowedFd<'_>, name: &[u8]) -> Result<()> {
    fs::fremovexattr(fd, name)
}

/// Shows the extended attributes of an open file or directory that are for a copy of it too: those of
/// users, capabilities, and access control lists.
pub(crate) fn each_extended(
    fd: BorrowedFd<'_>,
    mut each: impl FnMut(&[u8], &[u8]) -> Result<()>,
) -> Result<()> {
    let (mut names, mut value) = (vec![0_u8; EXTENDED], vec![0_u8; EXTENDED]);
    let len = match fs::flistxattr(fd, names.as_mut_slice()) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        len => len?,
    };
    let names = names.get(..len).unwrap_or_default().split(|byte| *byte == 0);
    let copied = |name: &&[u8]| {
        let lists = name.starts_with(b"system.posix_acl_");
        name.starts_with(b"user.") || lists || *name == b"security.capability"
    };
    for name in names.filter(copied) {
        match fs::fgetxattr(fd, name, value.as_mut_slice()) {
            Ok(len) => each(name, value.get(..len).unwrap_or_default())?,
            // It was removed meanwhile.
            Err(Errno::NODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Nothing: access control lists are extended attributes, of which a copy has no others than its original.
pub(crate) const fn strip_lists(_file: BorrowedFd<'_>) -> Result<()> {
    Ok(())
}

/// Nothing: see [`strip_lists`].
pub(crate) const fn copy_lists(_from: BorrowedFd<'_>, _to: BorrowedFd<'_>) -> Result<()> {
    Ok(())
}

/// Whether an open file or directory has an access control list (acl(5)): the kernel keeps none that a
/// mode can say.
pub(crate) fn has_list(fd: BorrowedFd<'_>) -> Result<bool> {
    for name in [c"system.posix_acl_access", c"system.posix_acl_default"] {
        match fs::fgetxattr(fd, name, &mut [0_u8; 1]) {
            // It is longer than there is room for.
            Ok(_) | Err(Errno::RANGE) => return Ok(true),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(false)
}

/// Whether files of this file system may have access control lists.
pub(crate) fn has_lists(dir: BorrowedFd<'_>) -> bool {
    fs::fgetxattr(dir, ACCESS_LIST, &mut [0_u8; 1]) != Err(Errno::OPNOTSUPP)
}

/// The access control list of a file of any kind, if it has one beside its mode.
pub(crate) fn list_of(fd: BorrowedFd<'_>) -> Result<Option<Acl>> {
    let (path, mut bytes) = (proc_path(fd), vec![0_u8; SHORT_LIST]);
    let len = match fs::getxattr(&path, ACCESS_LIST, bytes.as_mut_slice()) {
        Err(Errno::NODATA) => return Ok(None),
        Err(Errno::RANGE) => {
            bytes.resize(EXTENDED, 0);
            fs::getxattr(&path, ACCESS_LIST, bytes.as_mut_slice())?
        }
        len => len?,
    };
    parse_list(bytes.get(..len).unwrap_or_default()).map(Some).ok_or(Errno::IO)
}

/// Reads a list as `linux/posix_acl_xattr.h` has it.
fn parse_list(bytes: &[u8]) -> Option<Acl> {
    let (version, mut rest) = bytes.split_first_chunk()?;
    if u32::from_le_bytes(*version) != LIST_VERSION {
        return None;
    }
    let mut acl = Acl::default();
    while let Some((tag, more)) = rest.split_first_chunk() {
        let (bits, more) = more.split_first_chunk()?;
        let (id, more) = more.split_first_chunk()?;
        let (bits, id) = (u32::from(u16::from_le_bytes(*bits)), u32::from_le_bytes(*id));
        rest = more;
        match u16::from_le_bytes(*tag) {
            USER => acl.users.push((id, bits)),
            GROUP_OBJ => acl.group = bits,
            GROUP => acl.groups.push((id, bits)),
            // The mode says these.
            USER_OBJ | MASK | OTHER => {}
            _ => return None,
        }
    }
    rest.is_empty().then_some(acl)
}

/// The flags of a file or directory (statx(2)).
pub(crate) fn flags(dir: BorrowedFd<'_>, name: &OsStr) -> Result<Flags> {
    let about = fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty())?;
    let has = |(attribute, flag, _)| {
        if about.stx_attributes.contains(attribute) { Flags::bits(flag) } else { 0 }
    };
    Ok(Flags::from_bits(FLAGS.into_iter().map(has).fold(0, |all, bits| all | bits)))
}

/// Takes flags away from an open file or directory, and adds others (ioctl_iflags(2)); returns those of
/// the others that Linux has not.
pub(crate) fn change_flags(fd: BorrowedFd<'_>, gone: Flags, flags: Flags) -> Result<Flags> {
    let mut lost = flags;
    let (mut away, mut wanted) = (IFlags::empty(), IFlags::empty());
    for (_, flag, own) in FLAGS {
        if gone.any(flag) {
            away |= own;
        }
        if flags.any(flag) {
            lost = lost.without(flag);
            wanted |= own;
        }
    }
    if !(away | wanted).is_empty() {
        let present = fs::ioctl_getflags(fd)?;
        let next = present.difference(away) | wanted;
        if next != present {
            fs::ioctl_setflags(fd, next)?;
        }
    }
    Ok(lost)
}

/// What Linux has of FreeBSD's flags: as statx(2) says it, as it is known here, and as it is set.
const FLAGS: [(StatxAttributes, Flags, IFlags); 3] = [
    (StatxAttributes::IMMUTABLE, Flags::IMMUTABLE, IFlags::IMMUTABLE),
    (StatxAttributes::APPEND, Flags::APPEND, IFlags::APPEND),
    (StatxAttributes::NODUMP, Flags::NODUMP, IFlags::NODUMP),
];

/// Whether this kernel lacks what serving its files needs: every Linux that is about has it.
#[must_use]
pub const fn too_old() -> bool {
    false
}

/// None: what is made has its owner from its first moment, under its own name.
pub(crate) fn stage(_regular: bool) -> Result<Option<Vec<u8>>> {
    Ok(None)
}

/// False: see [`stage`].
pub(crate) const fn is_staged(_name: &[u8]) -> bool {
    false
}

/// Nothing is made under another name than its own.
pub(crate) fn publish(
    _dir: BorrowedFd<'_>,
    _staged: &[u8],
    _name: &[u8],
    _is_dir: bool,
) -> Result<()> {
    Ok(())
}

/// Makes a device node, a FIFO or a socket.
pub(crate) fn make_special(
    dir: BorrowedFd<'_>,
    name: &[u8],
    kind: FileType,
    mode: Mode,
    device: u64,
) -> Result<()> {
    fs::mknodat(dir, name, kind, mode, device)
}

/// Whether a file was made immutable since it was opened, the kernel asks at each write.
pub(crate) fn may_still_write(_writer: BorrowedFd<'_>) -> Result<()> {
    Ok(())
}

/// Brings everything of the file system that holds `fd` to stable storage.
pub(crate) fn synchronize(fd: BorrowedFd<'_>) -> Result<()> {
    fs::syncfs(fd)
}

/// Whether the driver ext4 has a journal on this device, which it says in sysfs(5) by the number of the
/// thread that writes it. ext2 says nothing there.
fn has_journal(device: u64) -> bool {
    let (major, minor) = (fs::major(device), fs::minor(device));
    let Ok(device) = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}")) else {
        return false;
    };
    let Some(name) = device.file_name() else { return false };
    let thread = std::path::Path::new("/sys/fs/ext4").join(name).join("journal_task");
    std::fs::read_to_string(thread).is_ok_and(|number| number.trim().parse::<u32>().is_ok())
}

/// `FS_IOC_GETFSUUID` (Linux 6.9): the UUID of the file system that is mounted here.
fn kernel_uuid(dir: BorrowedFd<'_>) -> Option<[u8; 16]> {
    let mut answer = FsUuid { len: 0, uuid: [0; 16] };
    // SAFETY: the request's number says that the kernel writes one `struct fsuuid2`, which `answer` is.
    let result = unsafe { libc::ioctl(dir.as_raw_fd(), GET_FS_UUID, &raw mut answer) };
    (result == 0 && answer.len == 16).then_some(answer.uuid)
}

/// `struct fsuuid2` of `linux/fs.h`.
#[repr(C)]
struct FsUuid {
    len: u8,
    uuid: [u8; 16],
}

/// Reads `01234567-89ab-cdef-0123-456789abcdef`.
fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'-').collect();
    let text = str::from_utf8(&digits).ok().filter(|text| text.len() == 32)?;
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

fn proc_path(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// `MAX_HANDLE_SZ`.
const LONGEST: usize = 128;
/// Bytes of directory entries that are read at once: about as many as one reply has room for with
/// attributes and handles. What is read beyond is read again for the next reply.
const LISTING: usize = 8 * 1024;
/// Most bytes of an extended attribute, and of all their names (`XATTR_SIZE_MAX`, `XATTR_LIST_MAX`).
const EXTENDED: usize = 65_536;
/// The extended attribute that is an access control list, and its form.
const ACCESS_LIST: &CStr = c"system.posix_acl_access";
const LIST_VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
/// Bytes of a list with some sixty entries.
const SHORT_LIST: usize = 512;
/// How often a call is repeated that somebody else's came in the way of.
const RETRIES: usize = 16;
/// `_IOR(0x15, 0, struct fsuuid2)`.
const GET_FS_UUID: libc::Ioctl = 0x8011_1500;
/// `EXT4_SUPER_MAGIC`, which is that of ext2 and ext3, too.
const EXT4: fs::FsWord = 0xef53;
/// `BTRFS_SUPER_MAGIC`.
const BTRFS: fs::FsWord = 0x9123_683e;
/// `TMPFS_MAGIC`.
const TMPFS: fs::FsWord = 0x0102_1994;
/// `XFS_SUPER_MAGIC`.
const XFS: fs::FsWord = 0x5846_5342;
/// `ZFS_SUPER_MAGIC`.
const ZFS: fs::FsWord = 0x2fc1_2fc1;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_list_is_read_as_the_kernel_writes_it() {
        let entry = |tag: u16, bits: u16, id: u32| {
            [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let none = u32::MAX;
        let mut list = LIST_VERSION.to_le_bytes().to_vec();
        for (tag, bits, id) in
            [(1, 6, none), (2, 5, 7), (4, 1, none), (8, 3, 9), (0x10, 7, none), (0x20, 0, none)]
        {
            list.extend(entry(tag, bits, id));
        }
        let read = Acl { users: vec![(7, 5)], group: 1, groups: vec![(9, 3)] };
        assert_eq!(parse_list(&list), Some(read));
        assert_eq!(parse_list(&list[..list.len() - 1]), None);
        assert_eq!(parse_list(&[1, 0, 0, 0]), None);
        list.extend(entry(0x40, 7, none));
        assert_eq!(parse_list(&list), None);
    }

    #[test]
    fn a_uuid_is_read_as_udev_writes_it() {
        let uuid = parse_uuid(b"00112233-4455-6677-8899-aabbccddeeff").unwrap();
        assert_eq!(uuid[..4], [0x00, 0x11, 0x22, 0x33]);
        assert_eq!(parse_uuid(b"1234-ABCD"), None);
    }
}
