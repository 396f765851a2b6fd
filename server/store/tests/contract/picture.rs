//! What a tree looks like: everything that a copy of it has to keep.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, utimensat};

use crate::bench::is_root;

/// Every file of a tree by its path. Two trees with equal pictures cannot be told apart by what is in
/// them.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Picture(BTreeMap<PathBuf, Entry>);

#[derive(Debug, Eq, PartialEq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    device: u64,
    /// Of a regular file the bytes, of a symbolic link where it leads.
    content: Vec<u8>,
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    flags: u32,
    links: u64,
    /// The first of the names of a file that has several.
    first_name: Option<PathBuf>,
}

impl Picture {
    pub(crate) fn of(root: &Path) -> Self {
        let mut entries = BTreeMap::new();
        let mut names = BTreeMap::new();
        let mut left = vec![root.to_owned()];
        while let Some(path) = left.pop() {
            let stat = fs::symlink_metadata(&path).unwrap();
            let below = path.strip_prefix(root).unwrap().to_owned();
            let mut first_name = None;
            let mut content = Vec::new();
            if stat.is_dir() {
                let mut children: Vec<_> =
                    fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
                // The stack is taken from its end: so names are met in their order.
                children.sort_by(|a, b| b.cmp(a));
                left.extend(children);
            } else {
                if stat.is_file() {
                    content = content_of(&path, stat.len());
                } else if stat.is_symlink() {
                    content = fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec();
                }
                if stat.nlink() > 1 {
                    let key = (stat.dev(), stat.ino());
                    first_name = Some(names.entry(key).or_insert_with(|| below.clone()).clone());
                }
            }
            let entry = Entry {
                mode: stat.mode(),
                owner: (stat.uid(), stat.gid()),
                modified: (stat.mtime(), stat.mtime_nsec()),
                device: if is_device(&stat) { stat.rdev() } else { 0 },
                content,
                attributes: attributes(&path),
                flags: flags(&path, &stat),
                links: if stat.is_dir() { 0 } else { stat.nlink() },
                first_name,
            };
            entries.insert(below, entry);
        }
        Self(entries)
    }

    /// The same without file flags.
    #[cfg(target_os = "linux")]
    pub(crate) fn without_flags(mut self) -> Self {
        self.0.values_mut().for_each(|entry| entry.flags = 0);
        self
    }

    /// The same without the root itself.
    #[cfg(target_os = "linux")]
    pub(crate) fn without_root(mut self) -> Self {
        self.0.remove(Path::new(""));
        self
    }

    /// Fails the test, with the differences only, unless the other tree looks the same.
    pub(crate) fn assert_same(&self, other: &Self) {
        for path in self.0.keys().chain(other.0.keys()) {
            assert_eq!(self.0.get(path), other.0.get(path), "{}", path.display());
        }
    }
}

/// Fills a tree of the Linux layout with one of everything that a system can have in its files.
pub(crate) fn furnish(root: &Path) {
    fs::create_dir(root.join("bin")).unwrap();
    fs::write(root.join("bin/su"), "program").unwrap();
    fs::hard_link(root.join("bin/su"), root.join("bin/sudo")).unwrap();
    fs::create_dir(root.join("var/log/old")).unwrap();
    fs::write(root.join("var/log/messages"), "in a data set of its own").unwrap();
    fs::hard_link(root.join("var/log/messages"), root.join("var/log/old/link")).unwrap();
    symlink("../../../etc/shadow", root.join("up")).unwrap();
    fs::hard_link(root.join("up"), root.join("bin/up too")).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"a\n\x1b[31m '\"$ name")), "odd").unwrap();
    rustix::fs::mkfifoat(CWD, root.join("fifo"), Mode::from_raw_mode(0o640)).unwrap();
    fs::create_dir(root.join("home/empty")).unwrap();
    let disk = File::create(root.join("home/disk")).unwrap();
    disk.write_all_at(b"start", 0).unwrap();
    disk.write_all_at(&[7; 8192], HOLE).unwrap();
    disk.set_len(2 * HOLE).unwrap();
    disk.sync_all().unwrap();
    if is_root() {
        let null = rustix::fs::makedev(1, 3);
        let mode = Mode::from_raw_mode(0o666);
        rustix::fs::mknodat(CWD, root.join("null"), FileType::CharacterDevice, mode, null).unwrap();
        chown(root.join("bin/su"), Some(1234), Some(4321)).unwrap();
        chown(root.join("home/empty"), Some(1001), Some(1001)).unwrap();
        lchown(root.join("up"), Some(77), Some(78)).unwrap();
    }
    fs::set_permissions(root.join("bin/su"), Permissions::from_mode(0o6755)).unwrap();
    fs::set_permissions(root.join("bin"), Permissions::from_mode(0o3771)).unwrap();
    add_attributes(root);
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(1_000_000_000, 123_456_789),
        last_modification: time(1_100_000_000, 987_654_321),
    };
    for path in ["bin/su", "up", "fifo", "home/disk", "home/empty", "bin", "var", ""] {
        utimensat(CWD, root.join(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

fn is_device(stat: &fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    stat.file_type().is_char_device() || stat.file_type().is_block_device()
}

/// What is in a file; of one that is larger than memory should be, its data with where they are, and its end.
fn content_of(path: &Path, size: u64) -> Vec<u8> {
    if size < 1 << 30 {
        return fs::read(path).unwrap();
    }
    let (file, mut content, mut offset) = (File::open(path).unwrap(), Vec::new(), 0);
    while let Ok(data) = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(offset)) {
        let mut block = [0; 4096];
        let read = file.read_at(&mut block, data / 4096 * 4096).unwrap();
        if block.iter().any(|byte| *byte != 0) {
            content.extend((data / 4096).to_be_bytes());
            content.extend(&block[..read]);
        }
        offset = (data / 4096 + 1) * 4096;
    }
    content.extend(size.to_be_bytes());
    content
}

#[cfg(target_os = "linux")]
fn flags(path: &Path, stat: &fs::Metadata) -> u32 {
    use rustix::fs::{IFlags, ioctl_getflags};
    if !(stat.is_dir() || stat.is_file()) {
        return 0;
    }
    let kept = IFlags::IMMUTABLE | IFlags::APPEND | IFlags::NODUMP | IFlags::NOATIME;
    ioctl_getflags(File::open(path).unwrap()).map_or(0, |flags| flags.intersection(kept).bits())
}

#[cfg(target_os = "freebsd")]
fn flags(_: &Path, stat: &fs::Metadata) -> u32 {
    use std::os::freebsd::fs::MetadataExt as _;
    stat.st_flags() & 0x0016_0017
}

#[cfg(target_os = "linux")]
fn add_attributes(root: &Path) {
    use rustix::fs::{XattrFlags, setxattr};
    // CAP_NET_RAW as `setcap cap_net_raw+ep` writes it: lost by every chown.
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    fs::write(root.join("bin/ping"), "x").unwrap();
    let mut wanted: Vec<(&str, &str, &[u8])> =
        vec![("bin/ping", "user.note", b"file"), ("home", "user.note", b"directory")];
    if is_root() {
        wanted.push(("bin/ping", "security.capability", &capability));
    }
    for (path, attribute, value) in wanted {
        setxattr(root.join(path), attribute, value, XattrFlags::empty()).unwrap();
    }
}

#[cfg(not(target_os = "linux"))]
fn add_attributes(_: &Path) {}

#[cfg(target_os = "linux")]
fn attributes(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 65_536];
    let Ok(len) = rustix::fs::llistxattr(path, names.as_mut_slice()) else {
        return BTreeMap::new();
    };
    let names = names[..len].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 65_536];
        let len = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
        value[..len].to_vec()
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

#[cfg(not(target_os = "linux"))]
fn attributes(_: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    BTreeMap::new()
}

/// How far it is from one piece of data in `home/disk` to the next, in bytes.
pub(crate) const HOLE: u64 = 16 << 20;
