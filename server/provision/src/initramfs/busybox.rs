//! The one program in the RAM disk: busybox, linked statically.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use hostfs::Inside;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use super::InitramfsError;

/// A busybox that runs without anything else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Busybox {
    /// Where it was found, in words for a person.
    pub(super) origin: String,
    /// The program.
    pub(super) content: Vec<u8>,
}

impl Busybox {
    /// The program of the host that was named; else one of the boot environment, then of the host,
    /// that runs where `like` runs: a module of the kernel.
    pub(super) fn find(
        inside: &Inside,
        host: &HostPrograms,
        like: Option<&[u8]>,
    ) -> Result<Self, InitramfsError> {
        if !host.named {
            for path in PATHS {
                let Ok(content) = inside.read_small(path, MAX) else { continue };
                if check(&content, like).is_ok() {
                    let origin = format!("{path} of the boot environment");
                    return Ok(Self { origin, content });
                }
            }
        }
        for (path, file) in host.names.iter().zip(&host.files) {
            let unreadable = |source| InitramfsError::Unreadable { path: path.clone(), source };
            let mut content = Vec::new();
            let read = file.take(MAX_LENGTH).read_to_end(&mut content).map_err(unreadable);
            let fit = read.and_then(|_| {
                let unfit = |reason| InitramfsError::Unfit { path: path.clone(), reason };
                check(&content, like).map_err(unfit)
            });
            match fit {
                Ok(()) => return Ok(Self { origin: format!("{path} of this host"), content }),
                Err(error) if host.named => return Err(error),
                Err(_) => {}
            }
        }
        Err(InitramfsError::NoBusybox)
    }
}

/// Programs of this host that may be the RAM disk's, opened by the command.
#[derive(Debug, Default, Deserialize, Serialize)]
pub(crate) struct HostPrograms {
    named: bool,
    names: Vec<String>,
    /// In the same order.
    #[serde(skip)]
    pub(crate) files: Vec<File>,
}

impl HostPrograms {
    /// Opens the program at a path; without one, those that there are where distributions have it.
    pub(super) fn open(named: Option<&Path>) -> Result<Self, InitramfsError> {
        if let Some(path) = named {
            let name = path.display().to_string();
            let file = open(path)
                .map_err(|source| InitramfsError::Unreadable { path: name.clone(), source })?;
            return Ok(Self { named: true, names: vec![name], files: vec![file] });
        }
        let there = PATHS.iter().filter_map(|path| Some((*path, open(Path::new(path)).ok()?)));
        let (names, files) = there.map(|(path, file)| (path.to_owned(), file)).unzip();
        Ok(Self { named: false, names, files })
    }
}

/// Opens a regular file; a FIFO does not make it wait.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("not a regular file")),
    }
}

/// Why a program cannot be the RAM disk's, if it cannot.
fn check(content: &[u8], like: Option<&[u8]>) -> Result<(), &'static str> {
    let program = Elf::read(content).ok_or("it is not a Linux program")?;
    if program.interpreted {
        return Err("it is linked dynamically");
    }
    let kernel = like.and_then(Elf::read);
    if kernel.is_some_and(|kernel| kernel.machine != program.machine) {
        return Err("it is for another processor than the kernel");
    }
    let has = |applet: &str| {
        // Busybox has the names of its applets one after the other, with a NUL behind each.
        let name = [b"\0", applet.as_bytes(), b"\0"].concat();
        content.windows(name.len()).any(|window| window == name)
    };
    if APPLETS.iter().all(|applet| has(applet)) {
        Ok(())
    } else {
        Err("it lacks modprobe, switch_root or udhcpc")
    }
}

/// What the head of an ELF file tells (System V ABI, chapter 4 and 5).
struct Elf {
    machine: usize,
    /// Whether it asks for an interpreter, which loads its libraries.
    interpreted: bool,
}

impl Elf {
    fn read(content: &[u8]) -> Option<Self> {
        // EI_MAG, EI_CLASS, EI_DATA, EI_VERSION, EI_OSABI: Linux's own or the one that everybody
        // takes. Only little-endian processors boot from netbe.
        let wide = match content.first_chunk()? {
            [0x7f, b'E', b'L', b'F', 1, 1, 1, 0 | 3] => false,
            [0x7f, b'E', b'L', b'F', 2, 1, 1, 0 | 3] => true,
            _ => return None,
        };
        let number = |offset: usize, len: usize| {
            let bytes = content.get(offset..offset.checked_add(len)?)?;
            Some(bytes.iter().rev().fold(0_usize, |number, &byte| number << 8 | usize::from(byte)))
        };
        // e_phoff, e_phentsize and e_phnum; a module has no program headers.
        let (table, entry, count) = if wide {
            (number(32, 8)?, number(54, 2)?, number(56, 2)?)
        } else {
            (number(28, 4)?, number(42, 2)?, number(44, 2)?)
        };
        let mut interpreted = false;
        for index in 0..count {
            let header = index.checked_mul(entry)?.checked_add(table)?;
            interpreted |= number(header, 4)? == PT_INTERP;
        }
        Some(Self { machine: number(18, 2)?, interpreted })
    }
}

const PT_INTERP: usize = 3;
/// Where distributions have it.
const PATHS: [&str; 4] =
    ["/bin/busybox", "/usr/bin/busybox", "/bin/busybox.static", "/sbin/busybox"];
/// What the first program cannot do without, of what some builds leave out.
const APPLETS: [&str; 3] = ["modprobe", "switch_root", "udhcpc"];
/// The largest program.
const MAX: usize = 32 << 20;
const MAX_LENGTH: u64 = 32 << 20;

#[cfg(test)]
pub(super) mod test {
    use super::*;

    /// The head of a program for x86-64 or another `machine`, with this one program header.
    pub(crate) fn program(machine: u8, header: u8) -> Vec<u8> {
        let mut bytes = vec![0; 120];
        bytes[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
        bytes[18] = machine;
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes[64] = header;
        bytes.extend_from_slice(b"\0ls\0modprobe\0switch_root\0udhcpc\0");
        bytes
    }

    #[test]
    fn a_static_program_of_the_kernels_processor_is_taken() {
        assert_eq!(check(&program(62, 1), Some(&program(62, 1))), Ok(()));
        assert_eq!(check(&program(62, 1), None), Ok(()));
    }

    #[test]
    fn what_would_not_run_there_is_not() {
        let kernel = program(62, 1);
        assert_eq!(check(&program(62, 3), Some(&kernel)), Err("it is linked dynamically"));
        let other = check(&program(183, 1), Some(&kernel));
        assert_eq!(other, Err("it is for another processor than the kernel"));
        assert_eq!(check(b"#!/bin/sh", Some(&kernel)), Err("it is not a Linux program"));
        let mut bsd = program(62, 1);
        bsd[7] = 9;
        assert_eq!(check(&bsd, Some(&kernel)), Err("it is not a Linux program"));
        let bare = &program(62, 1)[..140];
        assert_eq!(check(bare, None), Err("it lacks modprobe, switch_root or udhcpc"));
    }

    #[test]
    fn a_head_that_leads_out_of_the_file_is_no_program() {
        let mut far = program(62, 1);
        far[32..40].copy_from_slice(&[0xff; 8]);
        assert_eq!(check(&far, None), Err("it is not a Linux program"));
    }
}
