//! Ethernet frames to be sent (bpf(4)). In a jail this needs a network stack of its own and a devfs rule
//! that shows `bpf*`.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_uint, c_ulong};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddrV4;
use std::os::fd::AsRawFd;

use nix::libc;

use crate::net::datagram::Datagrams;
use crate::net::interface::Interface;
use crate::net::link::Link;

/// An interface that frames are written to.
#[derive(Debug)]
pub(crate) struct Frames(File);

impl Frames {
    /// Opens the interface for writing frames.
    ///
    /// # Errors
    ///
    /// This process may not open `/dev/bpf`.
    pub(crate) fn open(interface: &Interface) -> io::Result<Self> {
        let bpf = OpenOptions::new().read(true).write(true).open("/dev/bpf")?;
        refuse_all(&bpf)?;
        attach(&bpf, &interface.name)?;
        // The frames carry their own source address.
        let complete: c_uint = 1;
        // SAFETY: BIOCSHDRCMPLT reads one unsigned int, which lives through the call.
        check(unsafe { libc::ioctl(bpf.as_raw_fd(), libc::BIOCSHDRCMPLT, &raw const complete) })?;
        Ok(Self(bpf))
    }

    /// Writes a frame, which queues it and does not wait for the wire.
    ///
    /// # Errors
    ///
    /// The kernel did not take it: the interface is down, or its queue is full.
    pub(crate) fn write(&self, frame: &[u8]) -> io::Result<()> {
        (&self.0).write_all(frame)
    }
}

/// Sends a question to everybody on the link: a socket cannot choose the interface of a limited
/// broadcast.
///
/// # Errors
///
/// The sending failed.
pub(crate) async fn ask(
    link: &Link,
    _socket: &Datagrams,
    _interface: &Interface,
    from: SocketAddrV4,
    to: SocketAddrV4,
    payload: &[u8],
) -> io::Result<()> {
    link.broadcast(from, to.port(), payload)
}

/// Ties the descriptor to an interface.
fn attach(bpf: &File, name: &str) -> io::Result<()> {
    let mut ifr_name: [c_char; libc::IFNAMSIZ] = [0; libc::IFNAMSIZ];
    let room = libc::IFNAMSIZ.saturating_sub(1);
    for (to, from) in ifr_name.iter_mut().take(room).zip(name.bytes()) {
        *to = c_char::from_ne_bytes([from]);
    }
    let ifr_ifru = libc::__c_anonymous_ifr_ifru { ifru_flags: [0; 2] };
    let request = libc::ifreq { ifr_name, ifr_ifru };
    // SAFETY: BIOCSETIF reads one `ifreq`, which lives through the call, and uses only its name,
    // which ends in a NUL.
    check(unsafe { libc::ioctl(bpf.as_raw_fd(), libc::BIOCSETIF, &raw const request) })
}

/// Lets nothing in: the descriptor only sends, and frames nobody reads would be copied for nothing.
fn refuse_all(bpf: &File) -> io::Result<()> {
    let instruction = Instruction { code: RETURN_CONSTANT, jt: 0, jf: 0, k: 0 };
    let program = Program { len: 1, instructions: &raw const instruction };
    // SAFETY: BIOCSETF reads one program and the instructions that it points to; both live through
    // the call, and there is one instruction, as `len` says.
    check(unsafe { libc::ioctl(bpf.as_raw_fd(), BIOCSETF, &raw const program) })
}

fn check(result: c_int) -> io::Result<()> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `struct bpf_insn` of `net/bpf.h`.
#[repr(C)]
struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

/// `struct bpf_program` of `net/bpf.h`.
#[repr(C)]
struct Program {
    len: c_uint,
    instructions: *const Instruction,
}

/// `BPF_RET | BPF_K`: ends with a constant, and zero accepts nothing.
const RETURN_CONSTANT: u16 = 0x06;

/// `_IOW('B', 103, struct bpf_program)`: to the kernel, the argument's size, the group, the number.
const BIOCSETF: c_ulong =
    0x8000_0000 | ((size_of::<Program>() as c_ulong) << 16) | ((b'B' as c_ulong) << 8) | 103;
