//! A disk in memory that can hang: for as long as one wants, nothing that is read from it or written to
//! it comes to an end.
//!
//! It can also write down all that it is told, for [`crate::writes`].
//!
//! The disk is an image file that a FUSE daemon of the lab serves, with a loop device and ext4 over it.
//! The daemon is stopped by SIGSTOP: what needs the disk then waits, as with a controller that does not
//! answer. It speaks as much of FUSE as a loop device asks for (Linux: include/uapi/linux/fuse.h).

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::failure::{During, Failure};
use crate::interrupt::wait_for;
use crate::process::{DIES_WITH_THE_LAB, Program, Running, tail};
use crate::writes::Recorder;

/// Gives this process mounts of its own, which end with it and with what it starts.
///
/// No other thread may run yet.
pub(crate) fn own_mounts() -> Result<(), Failure> {
    unshare(CloneFlags::CLONE_NEWNS).map_err(io::Error::from).during("mounts of one's own")?;
    Program::new("mount").words("--make-rprivate /").run(Duration::from_secs(20)).map(drop)
}

/// A disk that is mounted; it is unmounted, and gone, when dropped.
#[derive(Debug)]
pub(crate) struct Disk {
    daemon: Running,
    mounted: PathBuf,
}

impl Disk {
    /// Makes a disk of so many MiB with an empty ext4, and mounts it on the directory `on`. The image
    /// and the daemon's log go into `directory`. The process needs [`own_mounts`].
    pub(crate) fn new(directory: &Path, mib: u32, on: &Path) -> Result<Self, Failure> {
        let image = directory.join("disk");
        let daemon = daemon(&image, mib, None)?;
        // Nothing else is written to it behind one's back, and no room is kept for root.
        Program::new("mkfs.ext4")
            .words("-q -m 0 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0")
            .arg(&image)
            .run(Duration::from_secs(60))?;
        let disk = Self { daemon, mounted: on.to_owned() };
        let loop_mount = Program::new("mount").words("-o loop,nodev,nosuid").arg(&image).arg(on);
        loop_mount.run(Duration::from_secs(60))?;
        Ok(disk)
    }

    /// Lets go of everything that the kernel remembers of the disk and does not use, so that it is read
    /// anew.
    pub(crate) fn forget(&self) -> Result<(), Failure> {
        let find = Program::new("findmnt").words("-n -o SOURCE -T").arg(&self.mounted);
        let device = find.run(Duration::from_secs(20))?;
        let flush = Program::new("blockdev").arg("--flushbufs").arg(device.trim());
        flush.run(Duration::from_secs(60)).map(drop)
    }

    /// From now on nothing that needs the disk comes to an end.
    pub(crate) fn hang(&self) -> Result<(), Failure> {
        self.daemon.pause()
    }

    /// Lets everything come to its end.
    pub(crate) fn go_on(&self) -> Result<(), Failure> {
        self.daemon.go_on()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.go_on());
        let unmount = Program::new("umount").arg("--lazy").arg(&self.mounted);
        drop(unmount.finish(Duration::from_secs(60)));
    }
}

/// Starts what serves an image of so many MiB at `image`, a new file; its log lies beside it. All that it is
/// told to write goes into the file `told` too.
pub(crate) fn daemon(image: &Path, mib: u32, told: Option<&Path>) -> Result<Running, Failure> {
    let log = image.with_extension("log");
    File::create(image).during(image.display())?;
    let myself = format!("/proc/{}/exe", process::id());
    let mut daemon = Program::under(&DIES_WITH_THE_LAB.map(str::to_owned), &myself)
        .arg("disk")
        .arg(image)
        .arg(mib.to_string())
        .args(told)
        .start(&log)?;
    wait_for("the disk", Duration::from_secs(60), || {
        daemon.still(&log)?;
        Ok((tail(&log, 1) == READY).then_some(()))
    })?;
    Ok(daemon)
}

/// Serves an image of so many MiB in the place of the empty file `image`, until it is killed; what it is told
/// to write goes into the file `told` too.
pub(crate) fn serve(image: &Path, mib: u32, told: Option<&Path>) -> Result<ExitCode, Failure> {
    let mut recorder = told.map(Recorder::create).transpose()?;
    let mut refusal = Refusal { asked: asked(image), left: None };
    let fuse = "/dev/fuse";
    let mut device = File::options().read(true).write(true).open(fuse).during(fuse)?;
    // The root of this file system is a regular file.
    let options = format!("fd={},rootmode=100000,user_id=0,group_id=0", device.as_raw_fd());
    mount(Some("disk"), image, Some("fuse"), MsFlags::empty(), Some(options.as_str()))
        .map_err(io::Error::from)
        .during(image.display())?;
    println!("{READY}");
    let size = usize::try_from(mib).unwrap_or(0) << 20;
    let mut content = vec![0; size];
    let mut request = vec![0; REQUEST];
    loop {
        let count = match device.read(&mut request) {
            Ok(count) => count,
            // What was asked for was interrupted before it was read.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => break,
            Err(error) => return Err(error).during(fuse),
        };
        let request = request.get(..count).unwrap_or_default();
        if let Some(recorder) = &mut recorder {
            record(request, recorder).during("what the disk is told")?;
        }
        let refused = refusal.refuses(word(request, 4));
        let Some(reply) = answer(request, &mut content, refused)? else { continue };
        match device.write_all(&reply) {
            // Nobody waits for it any more.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => other.during(fuse)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Lets a disk take so many more writes, and refuse those after them.
pub(crate) fn refuse(image: &Path, after: usize) -> Result<(), Failure> {
    let asked = asked(image);
    fs::write(&asked, after.to_string()).during(asked.display())
}

/// Lets a disk take all writes again.
pub(crate) fn accept(image: &Path) -> Result<(), Failure> {
    let asked = asked(image);
    match fs::remove_file(&asked) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).during(asked.display()),
        _done => Ok(()),
    }
}

/// The file that holds how many writes the disk still takes, beside the image. It takes all where there is none.
fn asked(image: &Path) -> PathBuf {
    image.with_extension("refuses")
}

/// Which writes are refused.
#[derive(Debug)]
struct Refusal {
    asked: PathBuf,
    /// How many are still taken, since it was asked for.
    left: Option<u64>,
}

impl Refusal {
    fn refuses(&mut self, opcode: u32) -> bool {
        if !matches!(opcode, WRITE | FSYNC) {
            return false;
        }
        self.left = match (fs::read_to_string(&self.asked), self.left) {
            (Err(_), _) => None,
            (Ok(_), Some(left)) => Some(left.saturating_sub(u64::from(opcode == WRITE))),
            (Ok(count), None) => count.trim().parse().ok(),
        };
        self.left == Some(0)
    }
}

/// Writes down what is written and flushed.
fn record(request: &[u8], recorder: &mut Recorder) -> io::Result<()> {
    match word(request, 4) {
        WRITE => recorder.write(long(request, 48), request.get(DATA..).unwrap_or_default()),
        FSYNC => recorder.flush(),
        _other => Ok(()),
    }
}

/// The reply to a request, if it has one. What is refused is answered by EIO.
fn answer(request: &[u8], content: &mut [u8], refused: bool) -> Result<Option<Vec<u8>>, Failure> {
    let (opcode, unique) = (word(request, 4), long(request, 8));
    let size = content.len() as u64;
    let body = match opcode {
        WRITE | FSYNC if refused => Err(Errno::EIO),
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return Ok(None),
        GETATTR | SETATTR => Ok(attributes(size)),
        OPEN => {
            // A file handle; FOPEN_DIRECT_IO: everything is asked of the daemon.
            Ok([&0_u64.to_ne_bytes()[..], &1_u32.to_ne_bytes(), &[0; 4]].concat())
        }
        READ => Ok(piece(request, content)?.to_vec()),
        WRITE => {
            let data = request.get(DATA..).unwrap_or_default();
            let place = piece(request, content)?;
            let count = place.len().min(data.len());
            for (old, new) in place.iter_mut().zip(data) {
                *old = *new;
            }
            let count = u32::try_from(count).unwrap_or(0);
            Ok([count.to_ne_bytes(), [0; 4]].concat())
        }
        // RELEASE, FSYNC, FLUSH, DESTROY
        18 | FSYNC | 25 | 38 => Ok(Vec::new()),
        INIT => Ok(greeting(request)),
        _other => Err(Errno::ENOSYS),
    };
    let (error, body) = match body {
        Ok(body) => (0, body),
        Err(error) => (-(error as i32), Vec::new()),
    };
    let length = u32::try_from(HEAD + body.len()).unwrap_or(0);
    Ok(Some(
        [&length.to_ne_bytes()[..], &error.to_ne_bytes(), &unique.to_ne_bytes(), &body].concat(),
    ))
}

/// What READ and WRITE are about.
fn piece<'c>(request: &[u8], content: &'c mut [u8]) -> Result<&'c mut [u8], Failure> {
    let number = |value| usize::try_from(value).unwrap_or(usize::MAX);
    let (offset, length) = (number(long(request, 48)), number(u64::from(word(request, 56))));
    let end = offset.saturating_add(length).min(content.len());
    let piece = content.get_mut(offset..end);
    piece.ok_or_else(|| Failure::said(format!("the kernel asks for byte {offset} of the disk")))
}

/// `struct fuse_init_out`: version 7.31, large requests.
fn greeting(request: &[u8]) -> Vec<u8> {
    let readahead = word(request, 48);
    // FUSE_ASYNC_READ, FUSE_BIG_WRITES, FUSE_MAX_PAGES
    let flags = 1 | 1 << 5 | 1 << 22;
    let mut out: Vec<u8> =
        [7_u32, 31, readahead, flags].into_iter().flat_map(u32::to_ne_bytes).collect();
    // Requests that are on their way, and how many are a jam.
    out.extend([64_u16, 48].into_iter().flat_map(u16::to_ne_bytes));
    out.extend(LARGEST.to_ne_bytes());
    // The granularity of times; pages in a request; alignment.
    out.extend(1_u32.to_ne_bytes());
    out.extend([PAGES, 0].into_iter().flat_map(u16::to_ne_bytes));
    out.resize(64, 0);
    out
}

/// `struct fuse_attr_out` of the image, for an hour.
fn attributes(size: u64) -> Vec<u8> {
    let mut out: Vec<u8> =
        [3600, 0, 1, size, size / 512, 0, 0, 0].into_iter().flat_map(u64::to_ne_bytes).collect();
    // Nanoseconds of three times, the mode, links, owner, group, device, block size, flags.
    let rest = [0, 0, 0, 0o100_600, 1, 0, 0, 0, 4096, 0_u32];
    out.extend(rest.into_iter().flat_map(u32::to_ne_bytes));
    out
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

fn long(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
}

const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const FSYNC: u32 = 20;
const INIT: u32 = 26;
/// The length of a reply's head.
const HEAD: usize = 16;
/// Where the data of a WRITE begin: behind two heads of 40 bytes.
const DATA: usize = 80;
/// The most bytes of one READ or WRITE, and the most pages.
const LARGEST: u32 = 128 * 1024;
const PAGES: u16 = 32;
/// Room for a request with its heads.
const REQUEST: usize = 132 * 1024;
/// What the daemon says when the image is there.
const READY: &str = "ready";
