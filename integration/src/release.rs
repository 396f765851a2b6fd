//! A release of FreeBSD in little: distribution sets with all that a base system has in its files, and
//! their MANIFEST (FreeBSD, `release/scripts/make-manifest.sh`).

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tar::{Builder, EntryType, Header};

use crate::failure::{During, Failure};
use crate::process::Program;

/// A directory with a MANIFEST, `base.txz` and `kernel.txz`.
#[derive(Debug)]
pub(crate) struct Release {
    directory: PathBuf,
}

impl Release {
    /// Makes it in a new directory. `loaders` are the programs that lie in its `/boot`, by name.
    pub(crate) fn new(directory: &Path, loaders: &[(&str, &Path)]) -> Result<Self, Failure> {
        fs::create_dir(directory).during(directory.display())?;
        let release = Self { directory: directory.to_owned() };
        let mut base = release.set("base")?;
        base.file("bin/su", 0o4555, b"su")?;
        base.link("bin/sudo", "bin/su")?;
        base.flags("schg")?;
        base.file("lib/libc.so.7", 0o444, b"libc")?;
        base.null("dev/null")?;
        base.file("etc/rc", 0o644, b"#!/bin/sh\n")?;
        base.file("etc/fstab", 0o644, b"")?;
        for (name, program) in loaders {
            let bytes = fs::read(program).during(program.display())?;
            base.file(&format!("boot/{name}"), 0o555, &bytes)?;
        }
        for number in 0..MANY {
            base.file(&format!("{MANY_FILES}/{number}"), 0o444, number.to_string().as_bytes())?;
        }
        // What cannot be packed is so long on its way that the way can be cut.
        let mut noise = vec![0; NOISE];
        let filled = File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut noise));
        filled.during("/dev/urandom")?;
        base.file("usr/share/noise", 0o444, &noise)?;
        base.finish()?;
        let mut kernel = release.set("kernel")?;
        kernel.file("boot/kernel/kernel", 0o555, b"kernel")?;
        kernel.finish()?;
        let sums = Program::new("sha256sum").words("base.txz kernel.txz").directory(directory);
        let sums = sums.run(Duration::from_secs(60))?;
        let lines = sums.lines().filter_map(|line| line.split_once("  "));
        let list: String =
            lines.map(|(sum, file)| format!("{file}\t{sum}\t1\tset\t\"A set\"\ton\n")).collect();
        fs::write(directory.join("MANIFEST"), list).during("MANIFEST")?;
        Ok(release)
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.directory
    }

    /// Flips a bit in the middle of a set; once more, and the set is as it was.
    pub(crate) fn flip(&self, set: &str) -> Result<(), Failure> {
        let path = self.directory.join(set);
        let mut bytes = fs::read(&path).during(path.display())?;
        let middle = bytes.len() / 2;
        bytes.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 1);
        fs::write(&path, bytes).during(path.display())
    }

    fn set(&self, name: &str) -> Result<Set, Failure> {
        let path = self.directory.join(name);
        let file = File::create(&path).during(path.display())?;
        Ok(Set { archive: Builder::new(file), path })
    }
}

/// A set that is being made.
struct Set {
    archive: Builder<File>,
    path: PathBuf,
}

impl Set {
    fn file(&mut self, name: &str, mode: u32, data: &[u8]) -> Result<(), Failure> {
        let mut header = header(EntryType::Regular, mode);
        header.set_size(data.len().try_into().unwrap_or(u64::MAX));
        self.archive.append_data(&mut header, name, data).during(name)
    }

    fn link(&mut self, name: &str, existing: &str) -> Result<(), Failure> {
        self.archive.append_link(&mut header(EntryType::Link, 0o644), name, existing).during(name)
    }

    /// A device node with Linux's numbers of `/dev/null`.
    fn null(&mut self, name: &str) -> Result<(), Failure> {
        let mut header = header(EntryType::Char, 0o666);
        let numbers = header.set_device_major(1).and_then(|()| header.set_device_minor(3));
        numbers.during(name)?;
        self.archive.append_data(&mut header, name, io::empty()).during(name)
    }

    /// The flags of the next file, as bsdtar writes them (tar(5) of libarchive).
    fn flags(&mut self, flags: &str) -> Result<(), Failure> {
        let records = [("SCHILY.fflags", flags.as_bytes())];
        self.archive.append_pax_extensions(records).during(flags)
    }

    /// Packs it.
    fn finish(mut self) -> Result<(), Failure> {
        self.archive.finish().during(self.path.display())?;
        let xz = Program::new("xz").words("-1 --suffix=.txz").arg(&self.path);
        xz.run(Duration::from_secs(120)).map(|_silence| ())
    }
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(0);
    header.set_mode(mode);
    header.set_mtime(1_000_000_000);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// The directory of files that are so many that an installation can be killed among them.
pub(crate) const MANY_FILES: &str = "usr/share/many";
/// How many there are, beginning with 0.
pub(crate) const MANY: usize = 20_000;
const NOISE: usize = 4 << 20;
