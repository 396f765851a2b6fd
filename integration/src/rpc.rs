//! A client of ONC RPC over TCP (RFC 5531) that keeps a number of calls on their way.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::failure::{During, Failure, ensure};
use crate::net::SERVER;

use crate::xdr::{Reader, opaque, word};

/// A procedure: program, version and number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Procedure(pub(crate) u32, pub(crate) u32, pub(crate) u32);

/// What is asked again and again.
pub(crate) trait Work {
    /// The procedure that is called.
    fn procedure(&self) -> Procedure;
    /// Appends the arguments of the next call.
    fn arguments(&mut self, out: &mut Vec<u8>);
    /// How many bytes of each reply it wants to see; the rest is thrown away.
    fn appetite(&self) -> usize;
    /// Checks a reply's results; gives how much work was done.
    fn results(&mut self, reader: Reader<'_>) -> Result<u32, Failure>;
}

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Client {
    stream: TcpStream,
    xid: u32,
    replies: Replies,
    buffer: Vec<u8>,
}

impl Client {
    /// Connects to a port of the server; the calling thread must be in the clients' namespace.
    pub(crate) fn connect(port: u16) -> Result<Self, Failure> {
        let server: Ipv4Addr = SERVER.parse().map_err(|_error| Failure::said(SERVER))?;
        let what = format!("TCP port {port} of the server");
        Self::over(TcpStream::connect((server, port)).during(&what)?, &what)
    }

    fn over(stream: TcpStream, what: &str) -> Result<Self, Failure> {
        stream.set_nodelay(true).during(what)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT)).during(what)?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT)).during(what)?;
        Ok(Self { stream, xid: 0, replies: Replies::default(), buffer: vec![0; 256 * 1024] })
    }

    /// Connects from one of the ports that only root may use, as a kernel does: from `own`, or from the
    /// next one below that can be used, as an earlier connection may still be remembered.
    pub(crate) fn connect_as_root(port: u16, own: u16) -> Result<Self, Failure> {
        Self::connect_from(Ipv4Addr::UNSPECIFIED, port, own)
    }

    /// The same from an address of ours.
    pub(crate) fn connect_from(address: Ipv4Addr, port: u16, own: u16) -> Result<Self, Failure> {
        let server: Ipv4Addr = SERVER.parse().map_err(|_error| Failure::said(SERVER))?;
        let server = SocketAddr::from((server, port));
        let what = format!("TCP port {port} of the server, from {own}");
        for own in (own.saturating_sub(PORTS)..=own).rev() {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).during(&what)?;
            let own = SocketAddr::from((address, own));
            let bound = socket.bind(&own.into());
            match bound.and_then(|()| socket.connect_timeout(&server.into(), REPLY_TIMEOUT)) {
                Ok(()) => return Self::over(socket.into(), &what),
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable
                    ) => {}
                Err(error) => return Err(error).during(&what),
            }
        }
        Err(Failure::Said(format!("{what}: all ports are in use")))
    }

    /// Calls `count` times and waits for no reply: nothing else can be asked over this connection then.
    pub(crate) fn post(&mut self, count: usize, work: &mut impl Work) -> Result<(), Failure> {
        let mut out = Vec::new();
        for _ in 0..count {
            self.xid = self.xid.wrapping_add(1);
            frame(&mut out, self.xid, work);
        }
        self.stream.write_all(&out).during("a call")
    }

    /// Calls once; gives the results.
    pub(crate) fn call(
        &mut self,
        procedure: Procedure,
        arguments: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let mut once = Once { procedure, arguments, results: Vec::new() };
        // A deadline that has passed: one call is made nevertheless.
        self.drive(1, Instant::now(), &mut once)?;
        Ok(once.results)
    }

    /// Keeps `depth` calls on their way until a moment, then waits for the last reply; at least one
    /// call is made. Gives how much work was done.
    pub(crate) fn drive(
        &mut self,
        depth: usize,
        until: Instant,
        work: &mut impl Work,
    ) -> Result<u64, Failure> {
        self.replies.keep = work.appetite();
        let mut out = Vec::new();
        let (mut waiting, mut done) = (0_usize, 0_u64);
        let mut begun = false;
        loop {
            if !begun || Instant::now() < until {
                while waiting < depth {
                    self.xid = self.xid.wrapping_add(1);
                    frame(&mut out, self.xid, work);
                    waiting += 1;
                    begun = true;
                }
            }
            if waiting == 0 {
                return Ok(done);
            }
            self.stream.write_all(&out).during("a call")?;
            out.clear();
            let count = self.stream.read(&mut self.buffer).during("a reply")?;
            ensure(count > 0, || "the server closed the connection".to_owned())?;
            let mut input = self.buffer.get(..count).unwrap_or_default();
            while let Some(record) = self.replies.next(&mut input)? {
                done += u64::from(work.results(accepted(&record)?)?);
                waiting = waiting.saturating_sub(1);
                self.replies.reuse(record);
            }
        }
    }
}

/// Appends a call as a record of one fragment (RFC 5531 §9, §11), with AUTH_SYS of root.
fn frame(out: &mut Vec<u8>, xid: u32, work: &mut impl Work) {
    let begin = out.len();
    let Procedure(program, version, procedure) = work.procedure();
    // The credentials: stamp, an empty machine name, user, group, no more groups; then an empty verifier.
    let header = [0, xid, 0, 2, program, version, procedure, 1, 20, 0, 0, 0, 0, 0, 0, 0];
    header.into_iter().for_each(|value| word(out, value));
    work.arguments(out);
    let length = u32::try_from(out.len() - begin - 4).unwrap_or(0) | LAST;
    if let Some(mark) = out.get_mut(begin..begin + 4) {
        mark.copy_from_slice(&length.to_be_bytes());
    }
}

/// The results in a reply that was accepted and successful (RFC 5531 §9).
fn accepted(record: &[u8]) -> Result<Reader<'_>, Failure> {
    let mut reader = Reader::new(record);
    let _xid = reader.word()?;
    let (kind, state) = (reader.word()?, reader.word()?);
    ensure((kind, state) == (1, 0), || {
        format!("the server denied a call: {kind} {state}, and the bytes {:?}", record.get(12..))
    })?;
    let _flavor = reader.word()?;
    reader.opaque()?;
    let outcome = reader.word()?;
    ensure(outcome == 0, || format!("the server did not do what a call asks: {outcome}"))?;
    Ok(reader)
}

/// Takes replies out of a stream, of each only its beginning.
#[derive(Debug, Default)]
struct Replies {
    keep: usize,
    record: Vec<u8>,
    /// The bytes of a record mark that have come so far.
    mark: Vec<u8>,
    /// What is still to come of the present fragment.
    left: usize,
    last: bool,
}

impl Replies {
    /// The beginning of the next complete reply in `input`, from which its bytes are taken.
    fn next(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            if self.left > 0 {
                let (fragment, rest) = input.split_at(self.left.min(input.len()));
                let wanted = self.keep.saturating_sub(self.record.len()).min(fragment.len());
                self.record.extend_from_slice(fragment.get(..wanted).unwrap_or_default());
                self.left -= fragment.len();
                *input = rest;
                if self.left > 0 {
                    return Ok(None);
                }
                if self.last {
                    return Ok(Some(std::mem::take(&mut self.record)));
                }
            }
            let (mark, rest) = input.split_at((4 - self.mark.len()).min(input.len()));
            self.mark.extend_from_slice(mark);
            *input = rest;
            if self.mark.len() < 4 {
                return Ok(None);
            }
            let mark = Reader::new(&self.mark).word()?;
            self.mark.clear();
            self.last = mark & LAST != 0;
            self.left = usize::try_from(mark & !LAST).unwrap_or(usize::MAX);
        }
    }

    /// Takes a record back for its memory.
    fn reuse(&mut self, mut record: Vec<u8>) {
        if self.record.capacity() == 0 {
            record.clear();
            self.record = record;
        }
    }
}

/// One call whose results are kept.
struct Once<'a> {
    procedure: Procedure,
    arguments: &'a [u8],
    results: Vec<u8>,
}

impl Work for Once<'_> {
    fn procedure(&self) -> Procedure {
        self.procedure
    }

    fn arguments(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.arguments);
    }

    fn appetite(&self) -> usize {
        256 * 1024
    }

    fn results(&mut self, mut reader: Reader<'_>) -> Result<u32, Failure> {
        while let Ok(byte) = reader.bytes(1) {
            self.results.extend_from_slice(byte);
        }
        Ok(1)
    }
}

/// Calls once by a datagram from `socket` and waits for the answer, until the read timeout of the
/// socket.
pub(crate) fn ask_by_datagram(
    socket: &UdpSocket,
    server: (Ipv4Addr, u16),
    xid: u32,
    procedure: Procedure,
    arguments: &[u8],
) -> Result<Vec<u8>, Failure> {
    let mut once = Once { procedure, arguments, results: Vec::new() };
    socket.send_to(&datagram(xid, procedure, arguments), server).during("a call")?;
    let mut reply = vec![0; 64 * 1024];
    loop {
        let count = socket.recv(&mut reply).during("a reply")?;
        let record = reply.get(..count).unwrap_or_default();
        // A late answer to an earlier call is nobody's.
        if record.get(..4) == Some(&xid.to_be_bytes()[..]) {
            once.results(accepted(record)?)?;
            return Ok(once.results);
        }
    }
}

/// The port of a program over TCP, as the portmapper of the server tells it (RFC 1833 §3).
pub(crate) fn port_of(program: u32, version: u32) -> Result<u16, Failure> {
    registered(program, version, TCP)
}

/// The port of a program over UDP.
pub(crate) fn port_of_udp(program: u32, version: u32) -> Result<u16, Failure> {
    registered(program, version, UDP)
}

fn registered(program: u32, version: u32, transport: u32) -> Result<u16, Failure> {
    let mut arguments = Vec::new();
    [program, version, transport, 0].into_iter().for_each(|value| word(&mut arguments, value));
    let results = Client::connect(111)?.call(Procedure(100_000, 2, 3), &arguments)?;
    let port = Reader::new(&results).word()?;
    let port = u16::try_from(port).unwrap_or(0);
    ensure(port != 0, || format!("the server's portmapper knows no program {program}"))?;
    Ok(port)
}

/// A call as a datagram.
pub(crate) fn datagram(xid: u32, procedure: Procedure, arguments: &[u8]) -> Vec<u8> {
    let mut once = Once { procedure, arguments, results: Vec::new() };
    let mut out = Vec::new();
    frame(&mut out, xid, &mut once);
    // Without the record mark.
    out.split_off(4)
}

/// The file handle of an exported path (RFC 1813 §5.2.1).
pub(crate) fn mount(path: &str) -> Result<Vec<u8>, Failure> {
    mount_by(Client::connect(port_of(100_005, 3)?)?, path)?
}

/// The same from a port that only root may use; the inner failure is the server's refusal.
pub(crate) fn mount_as_root(path: &str, own: u16) -> Result<Result<Vec<u8>, Failure>, Failure> {
    let client = Client::connect_as_root(port_of(100_005, 3)?, own)?;
    mount_by(client, path)
}

/// The same over a connection to MOUNT; the inner failure is the server's refusal.
pub(crate) fn mount_by(
    mut client: Client,
    path: &str,
) -> Result<Result<Vec<u8>, Failure>, Failure> {
    let mut arguments = Vec::new();
    opaque(&mut arguments, path.as_bytes());
    let results = client.call(Procedure(100_005, 3, 1), &arguments)?;
    let mut reader = Reader::new(&results);
    let status = reader.word()?;
    if status != 0 {
        let words = format!("the server does not let {path} be mounted: status {status}");
        return Ok(Err(Failure::Said(words)));
    }
    Ok(Ok(reader.opaque()?.to_vec()))
}

/// How many ports are tried.
const PORTS: u16 = 60;
const TCP: u32 = 6;
const UDP: u32 = 17;
/// The bit of a record mark that says that the fragment is the record's last.
const LAST: u32 = 0x8000_0000;
/// How long a server may be silent before it is taken for dead.
const REPLY_TIMEOUT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod test {
    use super::*;

    /// A reply in two fragments, and another one.
    const STREAM: &[u8] = b"\0\0\0\x03abc\x80\0\0\x02de\x80\0\0\x01x";

    #[test]
    fn replies_are_found_however_the_stream_is_cut() {
        for size in 1..=STREAM.len() {
            let mut replies = Replies { keep: 4, ..Replies::default() };
            let mut found = Vec::new();
            for mut piece in STREAM.chunks(size) {
                while let Some(record) = replies.next(&mut piece).unwrap() {
                    found.push(record);
                }
            }
            assert_eq!(found, [b"abcd".to_vec(), b"x".to_vec()], "pieces of {size}");
        }
    }

    #[test]
    fn a_call_that_was_denied_is_a_failure() {
        let denied = b"\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0\x05";
        assert!(accepted(denied).is_err());
    }
}
