//! Whether an initial RAM disk can mount a root over NFS.
//!
//! It is one or more cpio archives one after the other (the kernel's
//! Documentation/driver-api/early-userspace/buffer-format.rst), of which the last is usually packed.

use std::io::{self, BufRead, BufReader, Read};

use hostfs::Inside;

use super::Finding;
use crate::contents::Files;
use crate::install::packed;
use crate::kernel;

/// Looks for what a kernel needs to mount its root.
pub(super) fn check(inside: &Inside, kernel: &str, initrd: Option<&str>) -> Vec<Finding> {
    let built_in = built_in(inside, kernel);
    let Some(initrd) = initrd else {
        if built_in {
            return Vec::new();
        }
        return vec![Finding::both(format_args!(
            "{kernel} has no initial RAM disk and no NFS in it: run `netbe install --initramfs`"
        ))];
    };
    let file = match Files::open(inside, initrd) {
        Ok(file) => file,
        Err(error) => return vec![Finding::both(format_args!("{initrd}: {error}"))],
    };
    let names = match names(file) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            return vec![Finding::doubt(format_args!("{initrd} cannot be read: {error}"))];
        }
        Err(error) => return vec![Finding::both(format_args!("{initrd} is damaged: {error}"))],
    };
    let module = |wanted: &str| names.modules.iter().any(|name| name == wanted);
    let mut findings = Vec::new();
    let has_nfs = built_in || (module("nfs") && module("nfsv3"));
    if !has_nfs {
        findings.push(Finding::both(format_args!(
            "{initrd} has no modules for NFS: put `MODULES=netboot` or `most` into initramfs-tools' \
             configuration and rebuild it, or run `netbe install --initramfs`"
        )));
    }
    if names.by_initramfs_tools && !names.mounts {
        findings.push(Finding::both(format_args!(
            "{initrd} has no nfsmount: install the package nfs-common in the environment and rebuild the \
             RAM disk, or run `netbe install --initramfs`"
        )));
    }
    findings
}

/// What matters of the names in a RAM disk.
#[derive(Debug, Default, Eq, PartialEq)]
struct Names {
    /// The kernel modules for NFS.
    modules: Vec<String>,
    /// Whether Debian's initramfs-tools made it.
    by_initramfs_tools: bool,
    /// Whether it has a program that mounts NFS.
    mounts: bool,
}

impl Names {
    fn take(&mut self, name: &str) {
        let file = name.rsplit('/').next().unwrap_or(name);
        let stem = file.split(".ko").next().unwrap_or(file);
        if file.contains(".ko") && matches!(stem, "nfs" | "nfsv3") {
            self.modules.push(stem.to_owned());
        }
        self.by_initramfs_tools |= name.trim_start_matches("./") == "scripts/functions";
        self.mounts |= matches!(file, "nfsmount" | "mount.nfs" | "mount.nfs4");
    }
}

/// Lists the archives in a RAM disk.
fn names(file: impl Read) -> io::Result<Names> {
    let mut names = Names::default();
    let mut source: Box<dyn BufRead> = Box::new(BufReader::new(file.take(MOST)));
    // Beside the one that is packed there are a few for the processor's microcode.
    for _ in 0..MOST_ARCHIVES {
        skip_zeros(&mut source)?;
        let start = source.fill_buf()?;
        if start.is_empty() {
            return Ok(names);
        }
        if start.starts_with(b"07070") {
            list(&mut source, &mut names)?;
        } else if packed::is_packed(start) {
            source = Box::new(BufReader::new(packed::unpack(source)?.take(MOST)));
        } else {
            let reason = "it is compressed in a way that netbe does not know";
            return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
        }
    }
    Ok(names)
}

/// Lists one archive, up to its end.
fn list(source: &mut impl BufRead, names: &mut Names) -> io::Result<()> {
    loop {
        let mut header = [0; HEADER];
        source.read_exact(&mut header)?;
        let field = |index: usize| {
            let digits = header.get(6 + 8 * index..14 + 8 * index);
            let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
            let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
            number.ok_or_else(|| io::Error::other("a number in it is none"))
        };
        let (size, len) = (field(6)?, field(11)?);
        if len == 0 || len > MAX_NAME {
            return Err(io::Error::other("a name in it is too long"));
        }
        let mut name = Vec::new();
        source.by_ref().take(len).read_to_end(&mut name)?;
        // Header and name, and then the contents, are filled up to four bytes.
        let padding = (HEADER_LEN + len).next_multiple_of(4) - HEADER_LEN - len;
        let rest = padding + size.next_multiple_of(4);
        if io::copy(&mut source.by_ref().take(rest), &mut io::sink())? != rest {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let name = String::from_utf8_lossy(name.strip_suffix(b"\0").unwrap_or(&name));
        if name == "TRAILER!!!" {
            return Ok(());
        }
        names.take(&name);
    }
}

fn skip_zeros(source: &mut impl BufRead) -> io::Result<()> {
    loop {
        let start = source.fill_buf()?;
        let zeros = start.iter().take_while(|byte| **byte == 0).count();
        let whole = zeros == start.len();
        source.consume(zeros);
        if !whole || zeros == 0 {
            return Ok(());
        }
    }
}

/// Whether the kernel has NFS version 3 built in (modules.builtin).
fn built_in(inside: &Inside, path: &str) -> bool {
    let told = Files::open(inside, path).ok().and_then(kernel::release);
    let release = told.or_else(|| kernel::release_in_name(path).map(str::to_owned));
    let Some(release) = release.filter(|release| kernel::is_release(release)) else { return false };
    ["lib/modules", "usr/lib/modules"].iter().any(|folder| {
        let list = inside.read_small(format!("{folder}/{release}/modules.builtin"), MAX_LIST);
        list.is_ok_and(|list| {
            String::from_utf8_lossy(&list).lines().any(|line| line.ends_with("/nfsv3.ko"))
        })
    })
}

const HEADER: usize = 110;
const HEADER_LEN: u64 = 110;
const MAX_NAME: u64 = 4096;
const MAX_LIST: usize = 4 << 20;
const MOST_ARCHIVES: usize = 16;
/// Most bytes of a RAM disk that are looked at, packed or unpacked.
const MOST: u64 = 4 << 30;

#[cfg(test)]
mod test {
    use super::*;

    fn cpio(files: &[&str]) -> Vec<u8> {
        let mut archive = Vec::new();
        for name in files.iter().chain(&["TRAILER!!!"]) {
            let len = name.len() + 1;
            let mut fields = [0; 13];
            fields[11] = len;
            let text: String = fields.iter().map(|field| format!("{field:08x}")).collect();
            archive.extend(format!("070701{text}{name}\0").bytes());
            archive.resize(archive.len().next_multiple_of(4), 0);
        }
        archive.resize(archive.len().next_multiple_of(512), 0);
        archive
    }

    #[test]
    fn the_packed_archive_behind_microcode_is_listed() {
        use std::io::Write;
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let main = ["lib/modules/6.1/kernel/fs/nfs/nfs.ko.xz", "lib/nfsv3.ko", "bin/nfsmount"];
        gzip.write_all(&cpio(&main)).unwrap();
        let disk = [cpio(&["kernel/x86/microcode/a.bin"]), gzip.finish().unwrap()].concat();
        let names = names(disk.as_slice()).unwrap();
        assert_eq!(names.modules, ["nfs", "nfsv3"]);
        assert!(names.mounts && !names.by_initramfs_tools);
    }

    #[test]
    fn what_is_no_ram_disk_is_damaged_or_unknown() {
        assert!(names(&cpio(&["a"])[..80]).is_err());
        let error = names(&b"BZh91"[..]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert_eq!(names(&b""[..]).unwrap(), Names::default());
    }
}
