//! What the kernel and the network allow any server: the floor under all figures.
//!
//! A thread on the server's side does nothing but receive and send; its processor time is what no
//! server can go below.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc::MSG_MORE;
use socket2::SockRef;

use crate::failure::{During, Failure, ensure};
use crate::net::{Network, SERVER};

use super::cost::own_thread;
use super::report::Limit;
use super::ring;

/// What is probed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Probe {
    /// Messages of 128 bytes over TCP go to and fro, one at a time.
    TcpEcho,
    /// Messages of 1 MiB go from the server over TCP, as fast as they can.
    TcpStream,
    /// A message of 128 bytes over TCP is answered by another and 1 MiB of a file in memory, by
    /// sendfile(2), one at a time: a server that does nothing but that.
    TcpFile,
    /// As [`Probe::TcpEcho`], by io_uring.
    RingEcho,
    /// As [`Probe::TcpFile`], by io_uring, which reads into memory that the socket copies from.
    RingCopy,
    /// As [`Probe::RingCopy`], but the socket refers to the memory (`IORING_OP_SEND_ZC`).
    RingFile,
    /// A message of 4 bytes over UDP is answered by one of 1472, one at a time.
    UdpEcho,
}

impl Probe {
    const fn name(self) -> &'static str {
        match self {
            Self::TcpEcho => "tcp_echo.cpu_us_per_op",
            Self::TcpStream => "tcp_stream.cpu_us_per_mib",
            Self::TcpFile => "tcp_file.cpu_us_per_mib",
            Self::RingEcho => "ring_echo.cpu_us_per_op",
            Self::RingCopy => "ring_copy.cpu_us_per_mib",
            Self::RingFile => "ring_file.cpu_us_per_mib",
            Self::UdpEcho => "udp_echo.cpu_us_per_op",
        }
    }

    fn measure(self, network: &Network) -> Result<f64, Failure> {
        thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::channel();
            let server = scope.spawn(move || {
                network.server.enter()?;
                match self {
                    Self::TcpEcho
                    | Self::TcpStream
                    | Self::TcpFile
                    | Self::RingEcho
                    | Self::RingCopy
                    | Self::RingFile => {
                        let listener = TcpListener::bind((address()?, 0)).during(WHAT)?;
                        let port = listener.local_addr().during(WHAT)?.port();
                        tell.send(port).map_err(|_error| Failure::said(WHAT))?;
                        let (stream, _peer) = listener.accept().during(WHAT)?;
                        match self {
                            Self::TcpEcho => echo(stream),
                            Self::TcpFile => hand_out(stream),
                            Self::RingEcho => ring::echo(&unbuffered(stream)?),
                            Self::RingCopy => {
                                ring::hand_out(&unbuffered(stream)?, &pieces()?, true)
                            }
                            Self::RingFile => {
                                ring::hand_out(&unbuffered(stream)?, &pieces()?, false)
                            }
                            Self::TcpStream | Self::UdpEcho => pour(stream),
                        }
                    }
                    Self::UdpEcho => {
                        let socket = UdpSocket::bind((address()?, 0)).during(WHAT)?;
                        let port = socket.local_addr().during(WHAT)?.port();
                        tell.send(port).map_err(|_error| Failure::said(WHAT))?;
                        answer(&socket)
                    }
                }
            });
            let client = scope.spawn(move || {
                network.client.enter()?;
                let port = told.recv().map_err(|_error| Failure::said(WHAT))?;
                match self {
                    Self::TcpEcho | Self::RingEcho => ask(port),
                    Self::TcpStream => swallow(port),
                    Self::TcpFile | Self::RingCopy | Self::RingFile => ask_for_pieces(port),
                    Self::UdpEcho => ask_datagrams(port),
                }
            });
            client.join().map_err(|_panic| Failure::said(WHAT))??;
            let (spent, units) = server.join().map_err(|_panic| Failure::said(WHAT))??;
            Ok(spent.as_secs_f64() * 1e6 / f64::from(units.max(1)))
        })
    }
}

/// Probes before the servers are measured; [`end`] does it again.
pub(super) fn begin(network: &Network, probes: &[Probe]) -> Result<Vec<(Probe, Limit)>, Failure> {
    let probe = |probe: &Probe| {
        let before = probe.measure(network)?;
        Ok((*probe, Limit { name: probe.name(), before, after: before }))
    };
    probes.iter().map(probe).collect()
}

/// Probes once more, after the servers were measured.
pub(super) fn end(network: &Network, limits: Vec<(Probe, Limit)>) -> Result<Vec<Limit>, Failure> {
    let again =
        |(probe, limit): (Probe, Limit)| Ok(Limit { after: probe.measure(network)?, ..limit });
    limits.into_iter().map(again).collect()
}

fn address() -> Result<Ipv4Addr, Failure> {
    SERVER.parse().map_err(|_error| Failure::said(SERVER))
}

/// Sends back what comes; gives the processor time and how often.
fn echo(mut stream: TcpStream) -> Result<(Duration, u32), Failure> {
    stream.set_nodelay(true).during(WHAT)?;
    let before = own_thread()?;
    let (mut buffer, mut count) = ([0; MESSAGE], 0);
    loop {
        match stream.read_exact(&mut buffer) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error).during(WHAT),
        }
        stream.write_all(&buffer).during(WHAT)?;
        count += 1;
    }
    Ok((own_thread()?.saturating_sub(before), count))
}

fn ask(port: u16) -> Result<(), Failure> {
    let mut stream = TcpStream::connect((address()?, port)).during(WHAT)?;
    stream.set_nodelay(true).during(WHAT)?;
    let begin = Instant::now();
    let mut buffer = [0; MESSAGE];
    while begin.elapsed() < DURATION {
        stream.write_all(&buffer).during(WHAT)?;
        stream.read_exact(&mut buffer).during(WHAT)?;
    }
    Ok(())
}

/// Sends 1 MiB again and again; gives the processor time and how often.
fn pour(mut stream: TcpStream) -> Result<(Duration, u32), Failure> {
    let block = vec![0x5a; 1024 * 1024];
    let before = own_thread()?;
    let begin = Instant::now();
    let mut count = 0;
    while begin.elapsed() < DURATION {
        stream.write_all(&block).during(WHAT)?;
        count += 1;
    }
    Ok((own_thread()?.saturating_sub(before), count))
}

fn swallow(port: u16) -> Result<(), Failure> {
    let mut stream = TcpStream::connect((address()?, port)).during(WHAT)?;
    let mut buffer = vec![0; 256 * 1024];
    while stream.read(&mut buffer).during(WHAT)? > 0 {}
    Ok(())
}

/// Answers each message by another and a piece of a file; gives the processor time and how often.
fn hand_out(mut stream: TcpStream) -> Result<(Duration, u32), Failure> {
    let file = pieces()?;
    stream.set_nodelay(true).during(WHAT)?;
    let before = own_thread()?;
    let (mut buffer, mut count) = ([0; MESSAGE], 0_u32);
    loop {
        match stream.read_exact(&mut buffer) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error).during(WHAT),
        }
        SockRef::from(&stream).send_with_flags(&buffer, MSG_MORE).during(WHAT)?;
        let mut offset = u64::from(count) % PIECES as u64 * PIECE as u64;
        let end = offset + PIECE as u64;
        while offset < end {
            let rest = usize::try_from(end - offset).unwrap_or(PIECE);
            let sent = rustix::fs::sendfile(&stream, &file, Some(&mut offset), rest);
            sent.map_err(std::io::Error::from).during(WHAT)?;
        }
        count += 1;
    }
    Ok((own_thread()?.saturating_sub(before), count))
}

/// A file of [`PIECES`], in memory.
fn pieces() -> Result<File, Failure> {
    let path = std::env::temp_dir().join(format!("lab-pieces-{}", std::process::id()));
    std::fs::write(&path, vec![0x5a; PIECES * PIECE]).during(WHAT)?;
    let file = File::open(&path).during(WHAT)?;
    std::fs::remove_file(&path).during(WHAT)?;
    Ok(file)
}

fn unbuffered(stream: TcpStream) -> Result<TcpStream, Failure> {
    stream.set_nodelay(true).during(WHAT)?;
    Ok(stream)
}

fn ask_for_pieces(port: u16) -> Result<(), Failure> {
    let mut stream = TcpStream::connect((address()?, port)).during(WHAT)?;
    stream.set_nodelay(true).during(WHAT)?;
    let begin = Instant::now();
    let mut buffer = vec![0; 256 * 1024];
    while begin.elapsed() < DURATION {
        stream.write_all(&[0; MESSAGE]).during(WHAT)?;
        let mut left = MESSAGE + PIECE;
        while left > 0 {
            let count = stream.read(&mut buffer).during(WHAT)?;
            ensure(count > 0, || WHAT.to_owned())?;
            left = left.saturating_sub(count);
        }
    }
    Ok(())
}

/// Answers datagrams until one has another length; gives the processor time and how often.
fn answer(socket: &UdpSocket) -> Result<(Duration, u32), Failure> {
    socket.set_read_timeout(Some(Duration::from_secs(5))).during(WHAT)?;
    let block = [0x5a; 1472];
    let mut buffer = [0; 64];
    let before = own_thread()?;
    let mut count = 0;
    loop {
        let (length, peer) = socket.recv_from(&mut buffer).during(WHAT)?;
        if length != 4 {
            return Ok((own_thread()?.saturating_sub(before), count));
        }
        socket.send_to(&block, peer).during(WHAT)?;
        count += 1;
    }
}

fn ask_datagrams(port: u16) -> Result<(), Failure> {
    let socket = UdpSocket::bind("0.0.0.0:0").during(WHAT)?;
    socket.connect((address()?, port)).during(WHAT)?;
    socket.set_read_timeout(Some(Duration::from_secs(5))).during(WHAT)?;
    let begin = Instant::now();
    let mut buffer = [0; 1500];
    while begin.elapsed() < DURATION {
        socket.send(&[0; 4]).during(WHAT)?;
        socket.recv(&mut buffer).during(WHAT)?;
    }
    socket.send(&[0; 1]).during(WHAT).map(|_length| ())
}

pub(super) const WHAT: &str = "probing what the network allows";
pub(super) const MESSAGE: usize = 128;
/// Bytes of a file that are sent at once, and how many such pieces it has.
pub(super) const PIECE: usize = 1 << 20;
pub(super) const PIECES: usize = 64;
const DURATION: Duration = Duration::from_millis(500);
