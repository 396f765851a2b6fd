use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use tar::{Builder, Header};
use tempfile::TempDir;

use super::*;

/// A root inside a directory of which everything else is the host's.
struct Host {
    dir: TempDir,
    inside: Inside,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("root")).unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "host").unwrap();
        let inside = Inside::enter(&dir.path().join("root")).unwrap();
        Self { dir, inside }
    }

    fn unpack(&self, archive: &[u8]) -> Result<Dropped, InstallError> {
        let mut unpacker = Unpacker::new(&self.inside, Room::of(&self.inside));
        unpacker.unpack(archive, Path::new("test.tar"))?;
        unpacker.finish(true)
    }

    fn root(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    /// Whether nothing of the host outside of the root was touched.
    fn is_unharmed(&self) -> bool {
        let names = |path: PathBuf| {
            let mut names: Vec<_> =
                std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let passwd = self.dir.path().join("etc/passwd");
        std::fs::read(&passwd).unwrap() == b"host"
            && std::fs::metadata(&passwd).unwrap().nlink() == 1
            && names(self.dir.path().join("etc")) == ["passwd"]
            && names(self.dir.path().to_owned()) == ["etc", "root"]
    }
}

fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header
}

/// An archive under construction; names are written as they are, whatever they say.
struct Hostile(Builder<Vec<u8>>);

impl Hostile {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn add(mut self, kind: EntryType, name: &str, link: &str, data: &[u8]) -> Self {
        let mut header = header(kind, data.len().try_into().unwrap());
        let ustar = header.as_ustar_mut().unwrap();
        ustar.name[..name.len()].copy_from_slice(name.as_bytes());
        ustar.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    fn file(self, name: &str, data: &[u8]) -> Self {
        self.add(EntryType::Regular, name, "", data)
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Self {
        self.0.append_pax_extensions(records.iter().copied()).unwrap();
        self
    }

    fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

#[test]
fn owners_setuid_times_links_and_fifos_are_kept() {
    let host = Host::new();
    let mut su = header(EntryType::Regular, 2);
    su.set_mode(0o4555);
    su.set_uid(7);
    su.set_gid(8);
    let mut hostile = Hostile::new();
    hostile.0.append_data(&mut su, "usr/bin/su", &b"su"[..]).unwrap();
    let archive = hostile
        .add(EntryType::Directory, "usr/", "", b"")
        .add(EntryType::Link, "usr/bin/sudo", "usr/bin/su", b"")
        .add(EntryType::Symlink, "bin", "usr/bin", b"")
        .add(EntryType::Fifo, "pipe", "", b"")
        .bytes();
    assert!(host.unpack(&archive).unwrap().is_empty());
    let su = std::fs::metadata(host.root("usr/bin/su")).unwrap();
    assert_eq!((su.uid(), su.gid(), su.mode() & 0o7777, su.nlink()), (7, 8, 0o4555, 2));
    assert_eq!(std::fs::read_link(host.root("bin")).unwrap(), Path::new("usr/bin"));
    assert!(std::fs::symlink_metadata(host.root("pipe")).unwrap().file_type().is_fifo());
    // The directory's time, though a file was put into it before and a link after.
    assert_eq!(std::fs::metadata(host.root("usr")).unwrap().mtime(), 1_000_000_000);
}

#[test]
fn a_fraction_of_a_second_and_attributes_come_by_pax() {
    let host = Host::new();
    let archive = Hostile::new()
        .pax(&[("mtime", b"1000000001.25"), ("SCHILY.acl.ace", b"owner@:rwx::allow")])
        .file("a", b"x")
        .pax(&[("SCHILY.xattr.trusted.overlay.opaque", b"y")])
        .file("b", b"x")
        .bytes();
    let lost = host.unpack(&archive).unwrap().summary();
    let a = std::fs::metadata(host.root("a")).unwrap();
    assert_eq!((a.mtime(), a.mtime_nsec()), (1_000_000_001, 250_000_000));
    assert_eq!(
        lost,
        "not kept: the NFSv4 access control list of /a\n\
         not kept: the attribute trusted.overlay.opaque of /b\n"
    );
}

/// GNU tar writes access control lists with newlines, and both it and bsdtar write the bytes of
/// attributes as they are.
#[test]
fn values_with_newlines_are_read_whole() {
    let host = Host::new();
    let list = b"user::rw-\nuser:501:r--\ngroup::r--\nmask::r--\nother::---\n\n";
    let archive = Hostile::new()
        .pax(&[
            ("SCHILY.acl.access", list),
            ("SCHILY.xattr.user.lines", b"a\nb\0c\n19 path=elsewhere\n"),
            ("mtime", b"-0.5"),
        ])
        .file("listed", b"x")
        .bytes();
    host.unpack(&archive).unwrap();
    let found = std::fs::metadata(host.root("listed")).unwrap();
    assert_eq!((found.mtime(), found.mtime_nsec()), (-1, 500_000_000));
    assert!(!host.root("elsewhere").exists());
    #[cfg(target_os = "linux")]
    {
        let mut value = [0; 64];
        match rustix::fs::getxattr(host.root("listed"), "user.lines", &mut value) {
            Ok(length) => assert_eq!(&value[..length], b"a\nb\0c\n19 path=elsewhere\n"),
            Err(error) => println!("skipped: no attributes of users here: {error}"),
        }
    }
}

/// FreeBSD's lists have a form of their own, so that there they are named.
///
/// Linux's file systems with few exceptions have lists; where they are not kept, they are named.
#[test]
fn access_control_lists_are_kept_or_named() {
    let host = Host::new();
    let list = b"user::rwx,user:lisa:r--:501,group::r-x,mask::r-x,other::---";
    let archive = Hostile::new()
        .pax(&[("SCHILY.acl.access", list), ("SCHILY.acl.default", list)])
        .add(EntryType::Directory, "team/", "", b"")
        .file("team/plain", b"x")
        .pax(&[("SCHILY.acl.access", list)])
        .file("listed", b"x")
        .pax(&[("SCHILY.acl.access", b"user::rwx,user:lisa:r--,mask::r--,other::---")])
        .file("by-name", b"x")
        .bytes();
    let lost = host.unpack(&archive).unwrap().summary();
    let kept = |path: &str, name: &str| {
        attribute(&host.root(path), name).is_some_and(|found| found == acl::encode(list).unwrap())
    };
    if lost.contains("/team") {
        return;
    }
    assert_eq!(
        lost,
        "not kept: the access control list, which names somebody without a number, of /by-name\n"
    );
    assert!(kept("team", "system.posix_acl_access") && kept("team", "system.posix_acl_default"));
    assert!(kept("listed", "system.posix_acl_access"));
    // It was made before its directory had a list for it to inherit.
    assert!(!kept("team/plain", "system.posix_acl_access"));
    assert_eq!(std::fs::metadata(host.root("team/plain")).unwrap().mode() & 0o777, 0o644);
}

/// An extended attribute by Linux's name, where there is one.
fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    #[cfg(target_os = "linux")]
    {
        let mut value = vec![0; 1024];
        let len = rustix::fs::getxattr(path, name, value.as_mut_slice()).ok()?;
        value.truncate(len);
        Some(value)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (path, name);
        None
    }
}

#[test]
fn flags_are_set_or_named() {
    let host = Host::new();
    let archive = Hostile::new()
        .pax(&[("SCHILY.fflags", b"sunlnk")])
        .add(EntryType::Directory, "var/empty/", "", b"")
        .pax(&[("SCHILY.fflags", b"nodump,uarch")])
        .file("core", b"x")
        .bytes();
    let lost = host.unpack(&archive).unwrap().summary();
    // Linux has no counterpart; whether it has one of nodump depends on the file system.
    if cfg!(target_os = "linux") {
        assert!(lost.contains("not kept: the flags sunlnk of /var/empty\n"), "{lost}");
    }
    assert!(!lost.contains("uarch"), "{lost}");
}

#[test]
fn a_name_that_climbs_is_refused() {
    for name in ["../etc/shadow", "usr/../../etc/shadow", "./.."] {
        let host = Host::new();
        let error = host.unpack(&Hostile::new().file(name, b"x").bytes()).unwrap_err();
        assert!(matches!(error, InstallError::Name { .. }), "{name}");
        let link = Hostile::new().add(EntryType::Link, "own", "../etc/passwd", b"").bytes();
        assert!(matches!(host.unpack(&link), Err(InstallError::Name { .. })));
        assert!(host.is_unharmed());
    }
}

#[test]
fn an_absolute_name_means_the_root_of_the_environment() {
    let host = Host::new();
    let name = host.dir.path().join("etc/passwd");
    let archive =
        Hostile::new().file(name.to_str().unwrap(), b"guest").file("/etc/passwd", b"guest").bytes();
    host.unpack(&archive).unwrap();
    assert_eq!(std::fs::read(host.root("etc/passwd")).unwrap(), b"guest");
    assert!(host.is_unharmed());
}

#[test]
fn a_file_through_a_link_that_was_unpacked_before_stays_inside() {
    let host = Host::new();
    let out = host.dir.path().join("etc");
    let archive = Hostile::new()
        .add(EntryType::Directory, "etc/", "", b"")
        .add(EntryType::Symlink, "a", out.to_str().unwrap(), b"")
        .file("a/passwd", b"guest")
        .add(EntryType::Symlink, "b", "../../../../etc", b"")
        .file("b/passwd", b"guest")
        .add(EntryType::Symlink, "passwd", "../etc/passwd", b"")
        .file("passwd", b"guest")
        .add(EntryType::Symlink, "c", "/proc/self/root/etc", b"")
        .file("c/passwd", b"guest")
        .bytes();
    host.unpack(&archive).unwrap();
    assert!(host.is_unharmed());
    assert_eq!(std::fs::read(host.root("etc/passwd")).unwrap(), b"guest");
}

#[test]
fn a_hard_link_to_a_file_outside_is_none() {
    let host = Host::new();
    let out = host.dir.path().join("etc");
    let archive = Hostile::new()
        .add(EntryType::Symlink, "a", out.to_str().unwrap(), b"")
        .add(EntryType::Link, "own", "a/passwd", b"")
        .bytes();
    assert!(matches!(host.unpack(&archive), Err(InstallError::Inside { .. })));
    assert!(host.is_unharmed());
}

#[test]
fn another_name_of_a_link_is_a_link_and_not_what_it_says() {
    let host = Host::new();
    let passwd = host.dir.path().join("etc/passwd");
    let archive = Hostile::new()
        .add(EntryType::Symlink, "a", passwd.to_str().unwrap(), b"")
        .add(EntryType::Link, "b", "a", b"")
        .file("b", b"guest")
        .bytes();
    host.unpack(&archive).unwrap();
    assert!(host.is_unharmed());
}

#[test]
fn a_size_that_is_only_claimed_is_a_cut_archive() {
    let host = Host::new();
    let mut archive = Builder::new(Vec::new());
    let mut huge = header(EntryType::Regular, 1 << 60);
    huge.set_path("huge").unwrap();
    huge.set_cksum();
    archive.append(&huge, &b"x"[..]).unwrap();
    let error = host.unpack(&archive.into_inner().unwrap()).unwrap_err();
    assert!(matches!(error, InstallError::Cut(_)), "{error}");
}

#[test]
fn a_name_of_gigabytes_is_not_read_into_memory() {
    let host = Host::new();
    let mut long = Header::new_gnu();
    long.set_entry_type(EntryType::GNULongName);
    long.set_size(64 << 30);
    long.set_cksum();
    let endless = long.as_bytes().chain(io::repeat(b'a'));
    let mut unpacker = Unpacker::new(&host.inside, Room::of(&host.inside));
    let error = unpacker.unpack(endless, Path::new("test.tar")).unwrap_err();
    assert!(error.to_string().contains("a header is larger than any is"), "{error}");
}

#[test]
fn of_two_entries_with_one_name_the_last_counts() {
    let host = Host::new();
    let archive = Hostile::new()
        .file("a", b"first")
        .add(EntryType::Link, "b", "a", b"")
        .file("a", b"second")
        .add(EntryType::Directory, "c/", "", b"")
        .file("c/d", b"x")
        .bytes();
    host.unpack(&archive).unwrap();
    assert_eq!(std::fs::read(host.root("a")).unwrap(), b"second");
    assert_eq!(std::fs::read(host.root("b")).unwrap(), b"first");
    // A file cannot take the place of a directory that has something in it.
    assert!(host.unpack(&Hostile::new().file("c", b"x").bytes()).is_err());
    assert!(host.root("c/d").exists());
}

#[test]
fn an_archive_is_told_to_be_cut_wherever_it_is() {
    let host = Host::new();
    let whole = Hostile::new().file("a", b"x").file("b", b"x").bytes();
    for end in [0, 1, 511, 512, 513, 600, 1024, 1025, 1536, 2047, 2048] {
        let error = host.unpack(&whole[..end]).unwrap_err();
        assert!(matches!(error, InstallError::Cut(_)), "{end}: {error}");
    }
}

#[test]
fn holes_stay_holes() {
    let host = Host::new();
    let mut contents = b"2\n1048576\n4\n2097152\n0\n".to_vec();
    contents.resize(512, 0);
    contents.extend(b"data");
    let archive = Hostile::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"disk"),
            ("GNU.sparse.realsize", b"2097152"),
        ])
        .file("GNUSparseFile.0/disk", &contents)
        .bytes();
    host.unpack(&archive).unwrap();
    let disk = std::fs::metadata(host.root("disk")).unwrap();
    assert_eq!(disk.len(), 2 << 20);
    assert!(disk.blocks() * 512 < 1 << 20, "{} blocks", disk.blocks());
    assert_eq!(std::fs::read(host.root("disk")).unwrap()[1 << 20..][..4], *b"data");
}

#[test]
fn the_ranges_of_a_sparse_file_are_claims() {
    for map in ["1\n10\n20\n", "99999999999\n", "1\n18446744073709551615\n2\n", "x\n"] {
        let host = Host::new();
        let mut contents = map.as_bytes().to_vec();
        contents.resize(512, 0);
        let archive = Hostile::new()
            .pax(&[("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"20")])
            .file("a", &contents)
            .bytes();
        assert!(host.unpack(&archive).is_err(), "{map:?}");
    }
}

#[test]
fn a_device_node_is_made_and_not_opened() {
    let host = Host::new();
    let mut null = header(EntryType::Char, 0);
    null.set_device_major(1).unwrap();
    null.set_device_minor(3).unwrap();
    null.set_mode(0o666);
    let mut archive = Builder::new(Vec::new());
    archive.append_data(&mut null, "dev/null", io::empty()).unwrap();
    let lost = host.unpack(&archive.into_inner().unwrap()).unwrap();
    // Where nobody may make nodes, it is named.
    if lost.is_empty() {
        let null = std::fs::metadata(host.root("dev/null")).unwrap();
        assert!(null.file_type().is_char_device());
        assert_eq!(null.permissions().mode() & 0o777, 0o666);
    } else {
        assert_eq!(lost.summary(), "not kept: the device node itself of /dev/null\n");
    }
}
