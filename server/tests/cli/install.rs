//! Systems put into boot environments: distribution sets, archives, and what must not come of bad ones.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use crate::bench::{Bench, netbe};
#[cfg(target_os = "linux")]
use crate::verbs::apart;

/// A release of FreeBSD in little: two sets with a MANIFEST.
struct Release(TempDir);

impl Release {
    fn new() -> Self {
        let release = Self(TempDir::new().unwrap());
        let mut base = Builder::new(Vec::new());
        file(&mut base, "bin/su", 0o4555, b"su");
        file(&mut base, "etc/fstab", 0o644, b"");
        link(&mut base, "bin/sudo", "bin/su");
        base.append_pax_extensions([("SCHILY.fflags", &b"sunlnk"[..])]).unwrap();
        let mut empty = header(EntryType::Directory, 0, 0o555);
        base.append_data(&mut empty, "var/empty/", &b""[..]).unwrap();
        let mut kernel = Builder::new(Vec::new());
        file(&mut kernel, "boot/kernel/kernel", 0o555, b"kernel");
        file(&mut kernel, "boot/loader.efi", 0o555, b"loader");
        let mut list = String::new();
        for (name, set) in [("base", base), ("kernel", kernel)] {
            let packed = packed(&set.into_inner().unwrap());
            let sum: String =
                Sha256::digest(&packed).iter().map(|byte| format!("{byte:02x}")).collect();
            list += &format!("{name}.txz\t{sum}\t1\t{name}\t\"{name}\"\ton\n");
            fs::write(release.0.path().join(format!("{name}.txz")), packed).unwrap();
        }
        fs::write(release.0.path().join("MANIFEST"), list).unwrap();
        release
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    /// Flips one bit of a set.
    fn damage(&self, set: &str) {
        let path = self.0.path().join(set);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

fn header(kind: EntryType, size: u64, mode: u32) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(1_000_000_000);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn file(archive: &mut Builder<Vec<u8>>, name: &str, mode: u32, data: &[u8]) {
    let mut header = header(EntryType::Regular, data.len().try_into().unwrap(), mode);
    archive.append_data(&mut header, name, data).unwrap();
}

fn link(archive: &mut Builder<Vec<u8>>, name: &str, existing: &str) {
    let mut header = header(EntryType::Link, 0, 0o644);
    archive.append_link(&mut header, name, existing).unwrap();
}

fn packed(archive: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(archive).unwrap();
    gzip.finish().unwrap()
}

#[test]
fn a_release_is_installed_from_its_sets() {
    let (bench, release) = (Bench::new(), Release::new());
    let install = ["install", "-p", release.path(), "-o", "FreeBSD", "-r", "14.3", "-l", "freebsd"];
    let told = bench.prints(&[&install[..], &["head"]].concat());
    let root = bench.root("head");
    let su = fs::metadata(root.join("bin/su")).unwrap();
    assert_eq!((su.mode() & 0o7777, su.nlink(), su.mtime()), (0o4555, 2, 1_000_000_000));
    assert!(root.join("boot/kernel/kernel").exists());
    let noted = fs::read_to_string(bench.state().join("store/meta/head.toml")).unwrap();
    assert!(noted.contains("role = \"be\"") && noted.contains("release = \"14.3\""), "{noted}");
    let wrote = "wrote /etc/fstab\nwrote /boot/loader.conf\nwrote /etc/rc.conf\n";
    assert!(told.starts_with(wrote), "{told}");
    if cfg!(target_os = "linux") {
        assert!(told.contains("\nnot kept: the flags sunlnk of /var/empty\n"), "{told}");
        let record = told.lines().last().unwrap().strip_prefix("all of it is listed in ").unwrap();
        assert_eq!(fs::read_to_string(record).unwrap(), "the flags sunlnk\t\"/var/empty\"\n");
    }
    bench.refuses(
        &["install", "-p", release.path(), "-o", "freebsd", "head"],
        "head is not empty: create another one, or name one that does not exist with -l LAYOUT",
    );
}

#[test]
fn one_flipped_bit_is_refused_before_anything_is_written() {
    let (bench, release) = (Bench::new(), Release::new());
    release.damage("kernel.txz");
    let install = ["install", "-p", release.path(), "-o", "FreeBSD", "-l", "freebsd", "head"];
    let (words, status) = bench.fails(&install);
    assert_eq!(status, 2);
    assert!(words.contains("kernel.txz\" is not what the MANIFEST lists"), "{words}");
    assert!(!bench.root("head").exists());
    bench.silent(&["create", "-l", "freebsd", "head"]);
    bench.fails(&["install", "-p", release.path(), "-o", "FreeBSD", "head"]);
    assert!(!bench.root("head").join("bin").exists());
}

#[test]
fn a_set_that_is_not_listed_is_refused_by_name() {
    let (bench, release) = (Bench::new(), Release::new());
    let install = ["install", "-p", release.path(), "-o", "FreeBSD", "--set", "lib32"];
    bench.cannot(
        &[&install[..], &["-l", "flat", "head"]].concat(),
        "the MANIFEST lists no lib32.txz: it lists base.txz, kernel.txz",
    );
    let nowhere = TempDir::new().unwrap();
    let path = nowhere.path().to_str().unwrap();
    bench.cannot(
        &["install", "-p", path, "-o", "FreeBSD", "-l", "flat", "head"],
        &format!(
            "{path:?} has no MANIFEST: name the directory that holds the sets, with their MANIFEST, or name \
             a MANIFEST with --manifest"
        ),
    );
}

#[test]
fn what_says_nothing_is_answered_with_what_to_say() {
    let (bench, release) = (Bench::with_head(), Release::new());
    bench.cannot(
        &["install", "head"],
        "name the system to install with -o, as in -o FreeBSD, or --initramfs",
    );
    let base = release.0.path().join("base.txz");
    let install = ["install", "-o", "FreeBSD", "-p", release.path()];
    let (words, _) =
        bench.fails(&[&install[..], &["--manifest", base.to_str().unwrap(), "head"]].concat());
    assert!(words.starts_with("line 1 of the MANIFEST is wrong: "), "{words}");
    let (words, _) = bench.fails(&[&install[..], &["-a", "vax", "head"]].concat());
    assert!(words.starts_with("\"vax\" is not an architecture: write amd64,"), "{words}");
}

#[test]
fn with_a_list_of_ones_own_a_directory_needs_none() {
    let (bench, release, lists) = (Bench::new(), Release::new(), TempDir::new().unwrap());
    let list = lists.path().join("amd64-14.3-RELEASE");
    fs::rename(release.0.path().join("MANIFEST"), &list).unwrap();
    let list = list.to_str().unwrap();
    let install = ["install", "-o", "FreeBSD", "--manifest", list, "-l", "freebsd"];
    bench.prints(&[&install[..], &["-p", release.path(), "head"]].concat());
    assert!(bench.root("head").join("boot/kernel/kernel").exists());
    let nowhere = lists.path().to_str().unwrap();
    bench.cannot(
        &[&install[..], &["-p", nowhere, "other"]].concat(),
        &format!(
            "{nowhere:?} has no base.txz: name the directory that holds the sets, with their MANIFEST, or \
             name a MANIFEST with --manifest"
        ),
    );
    release.damage("base.txz");
    let (words, _) = bench.fails(&[&install[..], &["-p", release.path(), "other"]].concat());
    assert!(words.contains("base.txz\" is not what the MANIFEST lists"), "{words}");
}

#[test]
fn any_root_is_installed_from_an_archive() {
    let (bench, folder) = (Bench::new(), TempDir::new().unwrap());
    let mut root = Builder::new(Vec::new());
    file(&mut root, "./boot/vmlinuz-6.1", 0o644, b"kernel");
    let archive = folder.path().join("root.tar.gz");
    fs::write(&archive, packed(&root.into_inner().unwrap())).unwrap();
    let path = archive.to_str().unwrap();
    let install = ["install", "-o", "tar", "-p", path, "-l", "linux"];
    assert_eq!(bench.prints(&[&install[..], &["lin"]].concat()), "wrote /etc/fstab\n");
    bench.silent(&[&install[..], &["--no-configure", "bare"]].concat());
    assert!(!bench.root("bare").join("etc").exists());
    assert_eq!(fs::read(bench.root("lin").join("boot/vmlinuz-6.1")).unwrap(), b"kernel");
}

#[test]
fn an_installation_that_is_interrupted_leaves_nothing() {
    let (bench, folder) = (Bench::new(), TempDir::new().unwrap());
    let mut long = Builder::new(Vec::new());
    for number in 0..80_000 {
        file(&mut long, &format!("srv/{number}"), 0o644, b"");
    }
    let archive = folder.path().join("long.tar");
    fs::write(&archive, long.into_inner().unwrap()).unwrap();
    let install = ["install", "-o", "tar", "-p", archive.to_str().unwrap()];
    bench.silent(&["create", "old"]);
    let before = bench.prints(&["list"]);
    let (new, old) = (["-l", "flat", "new"], ["old"]);
    for (signal, more) in [(Signal::SIGINT, &new[..]), (Signal::SIGTERM, &old[..])] {
        let name = more.last().unwrap();
        let mut command = bench.command(netbe(), &[&install[..], more].concat());
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let filled = bench.root(name).join("srv/1");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !filled.exists() {
            assert!(Instant::now() < deadline, "nothing is unpacked");
            thread::sleep(Duration::from_millis(1));
        }
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said, format!("netbe: interrupted: nothing was installed in {name}\n"));
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(bench.prints(&["list"]), before);
    }
    assert_eq!(fs::read_dir(bench.root("old")).unwrap().count(), 0);
}

#[test]
fn a_bad_archive_leaves_no_environment_and_harms_nothing() {
    let (bench, folder) = (Bench::new(), TempDir::new().unwrap());
    let outside = folder.path().join("etc");
    fs::create_dir(&outside).unwrap();
    let mut hostile = Builder::new(Vec::new());
    let mut out = header(EntryType::Symlink, 0, 0o777);
    hostile.append_link(&mut out, "etc", &outside).unwrap();
    file(&mut hostile, "etc/rc.conf", 0o644, b"hostile");
    let mut climbs = header(EntryType::Regular, 1, 0o644);
    let name = b"../../../../x";
    climbs.as_ustar_mut().unwrap().name[..name.len()].copy_from_slice(name);
    climbs.set_cksum();
    hostile.append(&climbs, &b"x"[..]).unwrap();
    let archive = folder.path().join("bad.tar");
    fs::write(&archive, hostile.into_inner().unwrap()).unwrap();
    let path = archive.to_str().unwrap();
    bench.cannot(
        &["install", "-o", "tar", "-p", path, "-l", "flat", "bad"],
        "bad.tar: \"../../../../x\" leads out of the root: do not trust this archive",
    );
    assert!(!bench.root("bad").exists());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    bench.silent(&["create", "bad"]);
    bench.fails(&["install", "-o", "tar", "-p", path, "bad"]);
    assert_eq!(fs::read_dir(bench.root("bad")).unwrap().count(), 0);
}

#[test]
fn an_archive_that_is_no_file_is_refused_and_not_waited_for() {
    let (bench, folder) = (Bench::new(), TempDir::new().unwrap());
    let pipe = folder.path().join("root.tar");
    let mode = nix::sys::stat::Mode::S_IRUSR;
    nix::unistd::mkfifo(&pipe, mode).unwrap();
    let path = pipe.to_str().unwrap();
    bench.cannot(
        &["install", "-o", "tar", "-p", path, "-l", "flat", "a"],
        &format!("{path:?}: it is not a regular file"),
    );
    let text = folder.path().join("passwd");
    fs::write(&text, "root:x:0:0::/root:/bin/sh\n".repeat(100)).unwrap();
    let text = text.to_str().unwrap();
    let (words, _) = bench.fails(&["install", "-o", "tar", "-p", text, "-l", "flat", "a"]);
    assert!(words.starts_with("passwd is not a tar archive, or is damaged: "), "{words}");
    bench.cannot(
        &["install", "-o", "tar", "-p", "/nowhere", "-l", "flat", "a"],
        "\"/nowhere\": there is no such file",
    );
    symlink(Path::new("/nowhere"), folder.path().join("b.tar")).unwrap();
    assert_eq!(bench.fails(&["install", "-o", "tar", "-p", "/nowhere", "-l", "flat", "a"]).1, 2);
}

#[test]
fn a_hostile_system_is_installed_and_checked_without_harm_or_wait() {
    let (bench, folder) = (Bench::new(), TempDir::new().unwrap());
    let outside = folder.path().join("rc.conf");
    fs::write(&outside, "ifconfig_DEFAULT=\"DHCP\"\n").unwrap();
    let mut hostile = Builder::new(Vec::new());
    file(&mut hostile, "boot/kernel/kernel", 0o6755, b"kernel");
    file(&mut hostile, "boot/loader.efi", 0o755, b"loader");
    for (name, target) in [
        ("etc/rc.conf", outside.to_str().unwrap()),
        ("etc/hostid", "../../../../../../../../etc/hostid"),
        ("etc/machine-id", "/proc/self/root/etc/machine-id"),
    ] {
        let mut out = header(EntryType::Symlink, 0, 0o777);
        hostile.append_link(&mut out, name, target).unwrap();
    }
    for name in ["etc/fstab", "boot/loader.conf", "etc/hostname"] {
        let mut fifo = header(EntryType::Fifo, 0, 0o644);
        hostile.append_data(&mut fifo, name, &b""[..]).unwrap();
    }
    let mut disk = header(EntryType::Block, 0, 0o666);
    disk.set_device_major(7).unwrap();
    disk.set_device_minor(0).unwrap();
    hostile.append_data(&mut disk, "boot/pxeboot", &b""[..]).unwrap();
    let archive = folder.path().join("hostile.tar");
    fs::write(&archive, hostile.into_inner().unwrap()).unwrap();
    let path = archive.to_str().unwrap();
    let told = bench.prints(&["install", "-o", "tar", "-p", path, "-l", "flat", "bad"]);
    for kept in ["/etc/fstab", "/boot/loader.conf", "/etc/rc.conf"] {
        assert!(told.contains(&format!("kept {kept}\n")), "{told}");
    }
    let checked = bench.run(&["check", "bad"]);
    assert_eq!(checked.status, Some(1));
    assert!(checked.out.contains("/boot/pxeboot is missing"), "{}", checked.out);
    assert!(!checked.out.contains("ifconfig_DEFAULT"), "{}", checked.out);
    assert_eq!(fs::read_to_string(&outside).unwrap(), "ifconfig_DEFAULT=\"DHCP\"\n");
}

/// A megabyte of zeros and a small file beside it: each of 128 members of gzip takes a kilobyte.
#[cfg(target_os = "linux")]
fn bomb() -> Vec<u8> {
    let zeros = vec![0; 1 << 20];
    let mut head = header(EntryType::Regular, 128 << 20, 0o644);
    head.set_path("zeros").unwrap();
    head.set_cksum();
    let member = packed(&zeros);
    let mut archive = packed(head.as_bytes());
    for _ in 0..128 {
        archive.extend_from_slice(&member);
    }
    archive.extend(packed(&[0; 1024]));
    archive
}

#[test]
#[cfg(target_os = "linux")]
fn a_bomb_does_not_fill_the_store_and_leaves_nothing() {
    let bench = Bench::with_head();
    let path = bench.state().join("bomb.tar.gz");
    fs::write(&path, bomb()).unwrap();
    let script = format!(
        "mkdir \"$at\"; mount -t tmpfs -o size=96m none \"$at\"; cd \"$at\"
        be() {{ $netbe --store dir:$at/store \"$@\" 2>&1; }}
        be create -l flat old; before=$(stat -f -c %a .)
        be install -o tar -p {bomb} -l flat bomb || echo $?
        be install -o tar -p {bomb} old || echo $?
        test $(($(stat -f -c %a .) + 64)) -ge $before && be list -H -o name,role; umount -l \"$at\"",
        bomb = path.display()
    );
    let Some(out) = apart(&bench, &script) else { return };
    let refused = "netbe: bomb.tar.gz does not fit into the free space of the store: make room, then try \
                   again\n2\n";
    assert_eq!(out, format!("{refused}{refused}old\tbe\n"));
}

#[test]
fn what_commands_a_terminal_is_not_printed_as_it_is() {
    let bench = Bench::new();
    let mut archive = Builder::new(Vec::new());
    let mut strange = header(EntryType::new(b'Z'), 0, 0o644);
    archive.append_data(&mut strange, "a\u{1b}]0;title\u{7}", &b""[..]).unwrap();
    let path = bench.state().join("\u{1b}[2J.tar");
    fs::create_dir(bench.state()).unwrap();
    fs::set_permissions(bench.state(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(&path, archive.into_inner().unwrap()).unwrap();
    let path = path.to_str().unwrap();
    let told = bench.prints(&["install", "-o", "tar", "-p", path, "-l", "flat", "head"]);
    assert!(told.contains("of /a\\u001b]0;title\\u0007\n") && !told.contains('\u{1b}'), "{told}");
    let (sentence, _) = bench.fails(&["install", "-o", "tar", "-p", &format!("{path}x"), "head"]);
    assert!(!sentence.contains('\u{1b}'), "{sentence}");
    let told = bench.prints(&["history"]);
    assert!(told.contains("\\u001b[2J.tar") && !told.contains('\u{1b}'), "{told}");
}
