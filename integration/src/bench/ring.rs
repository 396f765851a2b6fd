//! The floor of a server that works by io_uring(7): the same as those of [`limits`](super::limits), by one
//! system call for each turn.

#![allow(unsafe_code)]

use std::fs::File;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, opcode, types};
use nix::libc::{MSG_MORE, MSG_WAITALL};

use super::cost::own_thread;
use super::limits::{MESSAGE, PIECE, PIECES, WHAT};
use crate::failure::{During, Failure, ensure};

/// Sends back what comes; gives the processor time and how often.
pub(super) fn echo(stream: &TcpStream) -> Result<(Duration, u32), Failure> {
    let mut ring = IoUring::new(8).during(WHAT)?;
    let socket = types::Fd(stream.as_raw_fd());
    let mut message = [0_u8; MESSAGE];
    let before = own_thread()?;
    let mut count = 0;
    let receive = receive(socket, &mut message);
    let send = opcode::Send::new(socket, message.as_ptr(), LENGTH).flags(MSG_WAITALL).build();
    let mut next = vec![receive.clone()];
    // SAFETY: `message` lives longer than the ring's work, of which all is waited for.
    while unsafe { turn(&mut ring, &next) }? > 0 {
        next = vec![send.clone().flags(Flags::IO_LINK), receive.clone()];
        count += 1;
    }
    Ok((own_thread()?.saturating_sub(before), count))
}

/// Answers each message by another and a piece of a file, which is read into registered memory; gives the
/// processor time and how often. With `copied`, the socket copies it, else it takes references to it.
pub(super) fn hand_out(
    stream: &TcpStream,
    file: &File,
    copied: bool,
) -> Result<(Duration, u32), Failure> {
    let mut ring = IoUring::new(8).during(WHAT)?;
    let (socket, source) = (types::Fd(stream.as_raw_fd()), types::Fd(file.as_raw_fd()));
    let (mut message, mut piece) = ([0_u8; MESSAGE], vec![0_u8; PIECE]);
    let memory = nix::libc::iovec { iov_base: piece.as_mut_ptr().cast(), iov_len: PIECE };
    // SAFETY: `piece` lives as long as the ring.
    unsafe { ring.submitter().register_buffers(&[memory]) }.during(WHAT)?;
    let length = u32::try_from(PIECE).unwrap_or(u32::MAX);
    let before = own_thread()?;
    let mut count = 0_u32;
    let receive = receive(socket, &mut message);
    let head = opcode::Send::new(socket, message.as_ptr(), LENGTH).flags(MSG_MORE | MSG_WAITALL);
    let head = head.build().flags(Flags::IO_LINK);
    let body = match copied {
        true => opcode::Send::new(socket, piece.as_ptr(), length).flags(MSG_WAITALL).build(),
        false => {
            let body = opcode::SendZc::new(socket, piece.as_ptr(), length).flags(MSG_WAITALL);
            body.buf_index(Some(0)).build()
        }
    };
    let body = body.flags(Flags::IO_LINK);
    let mut next = vec![receive.clone()];
    // SAFETY: `message` and `piece` live longer than the ring's work, of which all is waited for.
    while unsafe { turn(&mut ring, &next) }? > 0 {
        let offset = u64::from(count) % PIECES as u64 * PIECE as u64;
        let read = opcode::ReadFixed::new(source, piece.as_mut_ptr(), length, 0).offset(offset);
        let read = read.build().flags(Flags::IO_LINK);
        next = vec![read, head.clone(), body.clone(), receive.clone()];
        count += 1;
    }
    Ok((own_thread()?.saturating_sub(before), count))
}

fn receive(socket: types::Fd, message: &mut [u8; MESSAGE]) -> Entry {
    opcode::Recv::new(socket, message.as_mut_ptr(), LENGTH).flags(MSG_WAITALL).build()
}

/// Submits what is linked to each other, of which the last receives a message, and waits for all of it; gives
/// how long the message is.
///
/// # Safety
///
/// What the entries point at has to live until this returns.
unsafe fn turn(ring: &mut IoUring, entries: &[Entry]) -> Result<i32, Failure> {
    for (number, entry) in (0_u64..).zip(entries) {
        // SAFETY: as the caller says.
        unsafe { ring.submission().push(&entry.clone().user_data(number)) }
            .map_err(|_full| Failure::said(WHAT))?;
    }
    let (mut left, mut received) = (entries.len(), 0);
    let mut failed: Option<std::io::Error> = None;
    let last = entries.len().saturating_sub(1) as u64;
    while left > 0 {
        ring.submit_and_wait(1).during(WHAT)?;
        for done in ring.completion() {
            if io_uring::cqueue::notif(done.flags()) {
                // The memory is free again: that was announced by `more`.
                left -= 1;
                continue;
            }
            if done.result() < 0 {
                // What stands behind it is cancelled, and told of too.
                let error = || std::io::Error::from_raw_os_error(-done.result());
                failed.get_or_insert_with(error);
            } else if done.user_data() == last {
                received = done.result();
            }
            left -= usize::from(!io_uring::cqueue::more(done.flags()));
        }
    }
    if let Some(error) = failed {
        return Err(error).during(WHAT);
    }
    let whole = received == 0 || usize::try_from(received) == Ok(MESSAGE);
    ensure(whole, || WHAT.to_owned())?;
    Ok(received)
}

/// The length of a message.
const LENGTH: u32 = 128;

#[cfg(test)]
mod test {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A client that asks this often, and what it gets each time behind its message.
    fn asked(times: u8, length: usize, serve: impl FnOnce(TcpStream) -> u32) -> Vec<Vec<u8>> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = thread::spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let mut answers = Vec::new();
            for number in 0..times {
                stream.write_all(&[number; MESSAGE]).unwrap();
                let mut answer = vec![0; MESSAGE + length];
                stream.read_exact(&mut answer).unwrap();
                assert_eq!(answer[..MESSAGE], [number; MESSAGE]);
                answers.push(answer.split_off(MESSAGE));
            }
            answers
        });
        assert_eq!(serve(listener.accept().unwrap().0), u32::from(times));
        client.join().unwrap()
    }

    #[test]
    fn a_ring_sends_back_what_comes() {
        asked(3, 0, |stream| echo(&stream).unwrap().1);
    }

    #[test]
    fn a_ring_answers_by_pieces_of_a_file() {
        for copied in [true, false] {
            let mut file = tempfile::tempfile().unwrap();
            for number in 0..3 {
                file.write_all(&vec![number; PIECE]).unwrap();
            }
            let answers = asked(3, PIECE, |stream| hand_out(&stream, &file, copied).unwrap().1);
            for (number, answer) in (0..).zip(answers) {
                assert!(answer == vec![number; PIECE], "{number}");
            }
        }
    }
}
