//! The way to the port mapper of the host.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};
use wire::portmap2;
use wire::record::{self, Records};

/// A port mapper that runs on this host.
///
/// FreeBSD's rpcbind takes registrations by its socket alone, unless it was started with `-L`; Linux's
/// takes them by both ways, and the old portmap has no socket.
#[derive(Clone, Debug)]
pub struct Mapper {
    /// Where its socket may be.
    pub sockets: Vec<PathBuf>,
    /// Where it is without one.
    pub address: SocketAddr,
}

impl Mapper {
    /// The one that has port 111.
    #[must_use]
    pub fn of_host() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, portmap2::PORT));
        // The first on Linux, where the second is the same; the second on FreeBSD.
        let sockets = ["/run/rpcbind.sock", "/var/run/rpcbind.sock"].map(PathBuf::from);
        Self { sockets: sockets.into(), address }
    }

    /// Begins to talk to it: by a socket of its own if one leads to it, by UDP otherwise.
    pub(super) fn call(&self) -> io::Result<Line> {
        let stream = self.sockets.iter().find_map(|socket| match connect(socket) {
            Ok(stream) => Some(stream),
            Err(error) => {
                tracing::debug!("{}: {error}", socket.display());
                None
            }
        });
        let way = match stream {
            Some(stream) => Way::Stream { stream, records: Records::new(MAX_ANSWER) },
            None => Way::Datagrams(datagrams(self.address)?),
        };
        let socket = self.sockets.last().map(|socket| socket.display().to_string());
        Ok(Line { way, socket: socket.unwrap_or_default() })
    }
}

/// A conversation with a port mapper.
#[derive(Debug)]
pub(super) struct Line {
    way: Way,
    socket: String,
}

#[derive(Debug)]
enum Way {
    /// Calls and answers as records, by the port mapper's socket.
    Stream {
        stream: UnixStream,
        records: Records,
    },
    Datagrams(UdpSocket),
}

impl Line {
    /// Where the port mapper's socket should be.
    pub(super) fn socket(&self) -> &str {
        &self.socket
    }

    /// How often a question is asked: what a stream took is not lost.
    pub(super) const fn tries(&self) -> usize {
        match self.way {
            Way::Stream { .. } => 1,
            Way::Datagrams(_) => 3,
        }
    }

    /// Sends a message.
    pub(super) fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match &mut self.way {
            Way::Stream { stream, .. } => {
                let mut framed = Vec::new();
                let place = record::begin(&mut framed);
                framed.extend_from_slice(message);
                record::end(&mut framed, place).map_err(io::Error::other)?;
                stream.write_all(&framed)
            }
            Way::Datagrams(socket) => socket.send(message).map(drop),
        }
    }

    /// Waits for a message; `None` if none comes.
    pub(super) fn receive(&mut self) -> io::Result<Option<Vec<u8>>> {
        match &mut self.way {
            Way::Stream { stream, records } => loop {
                match records.next_record() {
                    Ok(Some(message)) => return Ok(Some(message.to_vec())),
                    Ok(None) => {}
                    // Whoever has the socket is no port mapper.
                    Err(_) => return Ok(None),
                }
                let mut bytes = [0; MAX_ANSWER];
                match stream.read(&mut bytes) {
                    Ok(0) => return Ok(None),
                    Ok(len) => {
                        records.space().extend_from_slice(bytes.get(..len).unwrap_or_default());
                    }
                    Err(error) if is_silence(&error) => return Ok(None),
                    Err(error) => return Err(error),
                }
            },
            Way::Datagrams(socket) => {
                let mut answer = vec![0; MAX_ANSWER];
                match socket.recv(&mut answer) {
                    Ok(len) => {
                        answer.truncate(len);
                        Ok(Some(answer))
                    }
                    Err(error) if is_silence(&error) => Ok(None),
                    Err(error) => Err(error),
                }
            }
        }
    }
}

/// A stream to the socket `path`, whose calls wait for a while only.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A port mapper that hangs takes no connections when enough of them wait.
    socket.set_write_timeout(Some(REPLY_TIMEOUT))?;
    socket.set_read_timeout(Some(REPLY_TIMEOUT))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket.into())
}

/// A socket that talks to `mapper`, from a reserved port if there is one to be had.
fn datagrams(mapper: SocketAddr) -> io::Result<UdpSocket> {
    let local = match mapper.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let bound = RESERVED.rev().find_map(|port| UdpSocket::bind((local, port)).ok());
    let socket = bound.map_or_else(|| UdpSocket::bind((local, 0)), Ok)?;
    socket.connect(mapper)?;
    socket.set_read_timeout(Some(REPLY_TIMEOUT))?;
    Ok(socket)
}

/// Whether an error means that no answer came.
fn is_silence(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EAGAIN | libc::ETIMEDOUT | libc::ECONNREFUSED | libc::ECONNRESET | libc::EINTR)
    )
}

/// Reserved ports that no well-known service has; the same as `bindresvport` takes.
const RESERVED: std::ops::RangeInclusive<u16> = 600..=1023;

/// How long to wait for an answer.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);

/// A reply head with a large verifier and a boolean.
const MAX_ANSWER: usize = 512;
