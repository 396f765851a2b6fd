//! A disk that hangs when it is told to: a file of a FUSE daemon (`linux/fuse.h`, protocol 7.31),
//! which answers until then.
//!
//! The daemon is a process of its own, stopped and continued by signals. Within this one it could
//! leave the kernel stuck: a process that is killed closes its descriptors only when none of its
//! threads waits for the disk any more.

use std::env;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write, stdin};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// The switch of a disk. Whoever waits for the disk when it is dropped gets an error.
pub(crate) struct Switch(Child);

impl Switch {
    /// Whether nothing is answered from now on.
    pub(crate) fn hang(&self, hangs: bool) {
        let daemon = Pid::from_raw(self.0.id().try_into().unwrap());
        let signal = if hangs { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(daemon, signal).unwrap();
        if hangs {
            // Until all its threads have stopped, it may answer.
            let stopped = waitpid(daemon, Some(WaitPidFlag::WUNTRACED)).unwrap();
            assert_eq!(stopped, WaitStatus::Stopped(daemon, Signal::SIGSTOP));
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Shows `image` as the file `disk` of a file system at `place` as long as the switch is there; says
/// why not.
pub(crate) fn serve(image: &Path, place: &Path) -> std::io::Result<Switch> {
    let fuse = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", fuse.as_raw_fd());
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("hung"), place, Some("fuse"), flags, Some(options.as_str()))?;
    let mut daemon = Command::new(env::current_exe()?);
    daemon.args(["--exact", "disk::what_the_daemon_does_not_know_is_refused"]);
    daemon.env(IMAGE, image).stdin(Stdio::from(fuse)).stdout(Stdio::null());
    daemon.spawn().map(Switch)
}

/// The daemon too, where [`serve`] starts this program: a test binary has no other entry.
#[test]
fn what_the_daemon_does_not_know_is_refused() {
    let Some(path) = env::var_os(IMAGE) else {
        let daemon = Daemon {
            fuse: tempfile::tempfile().unwrap(),
            image: tempfile::tempfile().unwrap(),
            size: 0,
        };
        assert_eq!(daemon.answer(u32::MAX, 1, &[]), Some(Err(ENOSYS)));
        assert_eq!(daemon.answer(LOOKUP, 1, b"other\0"), Some(Err(ENOENT)));
        return;
    };
    set_pdeathsig(Signal::SIGKILL).unwrap();
    let image = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let fuse = File::from(stdin().as_fd().try_clone_to_owned().unwrap());
    Daemon { fuse, size: image.metadata().unwrap().len(), image }.run();
}

struct Daemon {
    fuse: File,
    image: File,
    size: u64,
}

impl Daemon {
    fn run(self) {
        let mut buffer = vec![0; MAX_WRITE + 4096];
        // ENODEV when the file system is unmounted.
        while let Ok(len) = (&self.fuse).read(&mut buffer) {
            let request = &buffer[..len];
            let (opcode, unique, node) =
                (u32_at(request, 4), u64_at(request, 8), u64_at(request, 16));
            let Some(answer) = self.answer(opcode, node, &request[HEADER..]) else { continue };
            let (error, body) = answer.map_or_else(|error| (-error, vec![]), |body| (0, body));
            let mut reply = u32::try_from(16 + body.len()).unwrap().to_ne_bytes().to_vec();
            reply.extend(error.to_ne_bytes());
            reply.extend(unique.to_ne_bytes());
            reply.extend(body);
            // The request may have been interrupted.
            let _ = (&self.fuse).write(&reply);
        }
    }

    fn answer(&self, opcode: u32, node: u64, args: &[u8]) -> Option<Result<Vec<u8>, i32>> {
        Some(match opcode {
            FORGET | INTERRUPT | BATCH_FORGET => return None,
            LOOKUP if args.starts_with(b"disk\0") => {
                let entry = [DISK, 0, LONG, LONG, 0].map(u64::to_ne_bytes).concat();
                Ok([entry, self.attr(DISK)].concat())
            }
            LOOKUP => Err(ENOENT),
            GETATTR => Ok([LONG.to_ne_bytes().to_vec(), vec![0; 8], self.attr(node)].concat()),
            SETATTR => Ok([LONG.to_ne_bytes().to_vec(), vec![0; 8], self.attr(node)].concat()),
            OPEN | OPENDIR => Ok(vec![0; 16]),
            READ => {
                let len = usize::try_from(u32_at(args, 16)).unwrap();
                let offset = u64_at(args, 8);
                let mut data = vec![0; len.min(usize::try_from(self.size - offset).unwrap())];
                self.image.read_exact_at(&mut data, offset).map(|()| data).map_err(|_| EIO)
            }
            WRITE => {
                let data = &args[40..40 + usize::try_from(u32_at(args, 16)).unwrap()];
                let done = self.image.write_all_at(data, u64_at(args, 8)).map_err(|_| EIO);
                done.map(|()| [&args[16..20], &[0; 4]].concat())
            }
            INIT => {
                let mut body = [7_u32, 31, 65_536, 0].map(u32::to_ne_bytes).concat();
                body.extend([16, 0, 12, 0]);
                body.extend(u32::try_from(MAX_WRITE).unwrap().to_ne_bytes());
                body.resize(64, 0);
                Ok(body)
            }
            STATFS => Ok(vec![0; 80]),
            FLUSH | FSYNC | RELEASE | RELEASEDIR => Ok(vec![]),
            _ => Err(ENOSYS),
        })
    }

    /// `struct fuse_attr`.
    fn attr(&self, node: u64) -> Vec<u8> {
        let (size, mode, links) =
            if node == DISK { (self.size, 0o100_600, 1) } else { (0, 0o040_755, 2) };
        let mut attr = [node, size, size / 512, 0, 0, 0].map(u64::to_ne_bytes).concat();
        attr.extend([0, 0, 0, mode, links, 0, 0, 0, 4096, 0].map(u32::to_ne_bytes).concat());
        attr
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Where the daemon finds the path of the image.
const IMAGE: &str = "NETBE_TEST_HUNG_IMAGE";

/// The node of the one file; the root's is 1.
const DISK: u64 = 2;
/// Seconds for which names and attributes hold.
const LONG: u64 = 3600;
/// Bytes of `struct fuse_in_header`.
const HEADER: usize = 40;
const MAX_WRITE: usize = 128 << 10;

const LOOKUP: u32 = 1;
const FORGET: u32 = 2;
const GETATTR: u32 = 3;
const SETATTR: u32 = 4;
const OPEN: u32 = 14;
const READ: u32 = 15;
const WRITE: u32 = 16;
const STATFS: u32 = 17;
const RELEASE: u32 = 18;
const FSYNC: u32 = 20;
const FLUSH: u32 = 25;
const INIT: u32 = 26;
const OPENDIR: u32 = 27;
const RELEASEDIR: u32 = 29;
const INTERRUPT: u32 = 36;
const BATCH_FORGET: u32 = 42;

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const ENOSYS: i32 = 38;
