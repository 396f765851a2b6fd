//! One connection: requests one after the other, each answered before the next is read.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Duration, Instant, timeout, timeout_at};
use tracing::debug;

use super::Options;
use super::body::{Body, FileLost};
use super::range::Span;
use super::request::{HEAD_MAX, Method, Rejection, Request};
use super::response::{Head, Status, refusal};
use crate::boot::{
    Booter, ClientAddress, Denial, Event, FileError, FileProtocol, FileRequest, Role, Ticket,
    open_when_ready,
};

/// A connection from a client.
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) booter: Arc<dyn Booter>,
    pub(super) options: Options,
    pub(super) peer: IpAddr,
    /// Our own address and port that were asked.
    pub(super) local: IpAddr,
    pub(super) port: u16,
    /// Becomes true when the server ends; a request that has begun is still answered.
    pub(super) closing: watch::Receiver<bool>,
    /// True while others wait for a place.
    pub(super) crowd: watch::Receiver<bool>,
}

/// A file and what is asked of it.
struct File {
    body: Body,
    len: u64,
    mime: &'static str,
    ticket: Ticket,
    span: Option<Span>,
}

impl Connection {
    /// Answers requests until one side has enough.
    pub(super) async fn run(mut self) {
        if let Err(error) = self.stream.set_nodelay(true) {
            debug!(peer = %self.peer, %error, "TCP_NODELAY");
        }
        let mut input = Input { bytes: Vec::with_capacity(HEAD_MAX), is_first: true };
        loop {
            let request = match self.read(&mut input).await {
                Ok(Some(request)) => request,
                // Nothing more will come, or nothing came; there is nobody to be told.
                Ok(None) => return,
                Err(rejection) => {
                    debug!(peer = %self.peer, %rejection, "HTTP request rejected");
                    let text = rejection.to_string();
                    return refuse(&mut self.stream, rejection.into(), &text).await;
                }
            };
            // Where others wait, nobody keeps a place to come back to.
            let keep = request.keep_alive && !*self.closing.borrow() && !*self.crowd.borrow();
            match self.answer(&request, keep).await {
                Ok(()) if keep => {}
                Ok(()) => return part(&mut self.stream).await,
                // The client was promised more bytes than it got. Only the end of the connection
                // can tell it.
                Err(error) => {
                    debug!(peer = %self.peer, path = ?request.name(), %error, "HTTP answer");
                    if is_lost(&error) {
                        reset(&self.stream);
                    }
                    return;
                }
            }
        }
    }

    /// Reads the head of the next request; `None` when the connection is over.
    async fn read(&mut self, input: &mut Input) -> Result<Option<Request>, Rejection> {
        let began = Instant::now();
        // On a new connection, and once a request has begun, its head has to come soon.
        let mut waiting = !input.is_first && input.bytes.is_empty();
        let wait = if waiting { self.options.idle } else { self.options.head };
        let mut deadline = began + wait;
        loop {
            if let Some((request, len)) = Request::parse(&input.bytes)? {
                input.bytes.drain(..len);
                input.is_first = false;
                return Ok(Some(request));
            }
            let room = u64::try_from(HEAD_MAX.saturating_sub(input.bytes.len())).unwrap_or(0);
            let is_idle = input.bytes.is_empty();
            let mut limited = (&mut self.stream).take(room);
            let read = tokio::select! {
                // A request that is there already gets its answer.
                biased;
                read = timeout_at(deadline, limited.read_buf(&mut input.bytes)) => read,
                _ = self.closing.wait_for(|&closing| closing), if is_idle => return Ok(None),
                _ = self.crowd.wait_for(|&crowd| crowd), if waiting => return Ok(None),
            };
            match read {
                Ok(Ok(0)) if input.bytes.is_empty() => return Ok(None),
                Ok(Ok(0)) => return Err(Rejection::Malformed),
                Ok(Ok(_)) if waiting => {
                    waiting = false;
                    deadline = Instant::now() + self.options.head;
                }
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return Ok(None),
                Err(_) if input.bytes.is_empty() => return Ok(None),
                Err(_) => return Err(Rejection::Late),
            }
        }
    }

    /// Answers a request; an error means that the connection cannot be used any more.
    async fn answer(&mut self, request: &Request, keep_alive: bool) -> io::Result<()> {
        let mut file = match self.open(request).await {
            Ok(file) => file,
            Err(error) => {
                let (status, text) = refusal(&error, &request.path);
                debug!(peer = %self.peer, path = ?request.name(), text, "HTTP refused");
                if let Some(denial) = Denial::of(&error) {
                    let (name, protocol) = (request.name(), FileProtocol::Http);
                    self.report(Event::Denied { name, protocol, denial });
                }
                return self.say(request.method, status, &text, None, keep_alive).await;
            }
        };
        let len = file.len;
        let (status, part, range) = match file.span.take() {
            None => (Status::Ok, 0..len, None),
            Some(Span::Part(part)) => {
                (Status::PartialContent, part.clone(), Some((Some(part), len)))
            }
            Some(Span::Unsatisfiable) => {
                let (status, text) =
                    (Status::RangeNotSatisfiable, "the file ends before that range");
                return self.say(request.method, status, text, Some(len), keep_alive).await;
            }
        };
        let length = part.end.saturating_sub(part.start);
        let head = Head { status, mime: file.mime, length, range, keep_alive };
        let head = head.encode(SystemTime::now());
        match request.method {
            Method::Head => {
                self.report(Event::Probed(file.ticket));
                self.send(&head, &[]).await
            }
            Method::Get => {
                let sent = self.send_file(&head, &mut file, part, request).await;
                if let Err(error) = &sent
                    && !is_let_go(error, file.ticket)
                {
                    let reason = reason(error).to_owned();
                    self.report(Event::Failed { name: request.name(), reason });
                }
                sent
            }
        }
    }

    async fn open(&self, request: &Request) -> Result<File, FileError> {
        let booter = Arc::clone(&self.booter);
        let (peer, local, port) = (self.peer, self.local, self.port);
        let (path, range, method) = (request.path.clone(), request.range, request.method);
        open_when_ready(move |waited| {
            let (protocol, name) = (FileProtocol::Http, path.as_slice());
            let file = booter.open(&FileRequest { peer, local, port, protocol, waited, name })?;
            let span = range.map(|range| range.within(file.len));
            let start = match (&span, method) {
                (None, Method::Get) => Some(0),
                (Some(Span::Part(part)), Method::Get) => Some(part.start),
                (Some(Span::Unsatisfiable), _) | (_, Method::Head) => None,
            };
            let body = Body::open(&file, start).map_err(|error| {
                debug!(name = ?String::from_utf8_lossy(&path), %error, "boot file cannot be read");
                FileError::Io
            })?;
            Ok(File { body, len: file.len, mime: file.mime, ticket: file.ticket, span })
        })
        .await
    }

    /// Sends a head and the part of a file that it announces.
    async fn send_file(
        &mut self,
        head: &[u8],
        file: &mut File,
        part: Range<u64>,
        request: &Request,
    ) -> io::Result<()> {
        let mut head = head;
        let mut at = part.start;
        let mut told_at = Instant::now();
        let mut mark = (told_at, at);
        loop {
            let stall = self.options.stall;
            let piece = file.body.send(&mut self.stream, stall, head, at..part.end).await?;
            (head, at) = (&[], piece.end);
            let is_done = at == part.end;
            if is_done || told_at.elapsed() >= PROGRESS_PERIOD {
                told_at = Instant::now();
                let (ticket, name, total) = (file.ticket, request.name(), file.len);
                let protocol = FileProtocol::Http;
                self.report(Event::Sent { ticket, name, bytes: at, total, protocol });
            }
            if is_done {
                return Ok(());
            }
            if mark.0.elapsed() >= stall {
                let least = self.options.least_rate.saturating_mul(mark.0.elapsed().as_secs());
                if *self.crowd.borrow() && at.saturating_sub(mark.1) < least {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, SLOW));
                }
                mark = (Instant::now(), at);
            }
            // A fast client does not keep the others waiting; a slow one waits by itself.
            if piece.is_full {
                yield_now().await;
            }
        }
    }

    /// Answers with a sentence; `len` is the file's length where a range missed it.
    async fn say(
        &mut self,
        method: Method,
        status: Status,
        text: &str,
        len: Option<u64>,
        keep_alive: bool,
    ) -> io::Result<()> {
        let text = format!("{text}\n");
        let mut head = Head::sentence(status, &text, keep_alive);
        head.range = len.map(|len| (None, len));
        let head = head.encode(SystemTime::now());
        let body = match method {
            Method::Get => text.as_bytes(),
            Method::Head => &[],
        };
        self.send(&head, body).await
    }

    async fn send(&mut self, head: &[u8], body: &[u8]) -> io::Result<()> {
        send(&mut self.stream, self.options.stall, head, body).await
    }

    fn report(&self, event: Event) {
        self.booter.report(ClientAddress::Ip(self.peer), event);
    }
}

impl Request {
    /// The path as text, for people.
    fn name(&self) -> String {
        String::from_utf8_lossy(&self.path).into_owned()
    }
}

/// Bytes that came and were not understood yet.
struct Input {
    bytes: Vec<u8>,
    /// Whether no request came yet.
    is_first: bool,
}

/// Why a file did not arrive, in words.
fn reason(error: &io::Error) -> &'static str {
    if is_lost(error) {
        "the file could not be read to its end"
    } else if error.kind() == io::ErrorKind::TimedOut && error.get_ref().is_some() {
        SLOW
    } else if error.kind() == io::ErrorKind::TimedOut {
        "the client took nothing for too long"
    } else {
        GONE
    }
}

fn is_lost(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<FileLost>())
}

/// Whether a loader has let go of one of its many small files: FreeBSD's closes what it has read enough
/// of, and goes on.
fn is_let_go(error: &io::Error, ticket: Ticket) -> bool {
    ticket.role == Role::Other && reason(error) == GONE
}

/// Answers with a sentence and ends the connection.
pub(super) async fn refuse(stream: &mut TcpStream, status: Status, text: &str) {
    let text = format!("{text}\n");
    let head = Head::sentence(status, &text, false).encode(SystemTime::now());
    if send(stream, LINGER, &head, text.as_bytes()).await.is_ok() {
        part(stream).await;
    }
}

/// Ends a connection so that the client can read the answer to its end.
///
/// If bytes of it were left unread, the kernel would send a reset, and the client's kernel would
/// throw the answer away (RFC 9112 §9.6).
async fn part(stream: &mut TcpStream) {
    let listening = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_MAX), &mut tokio::io::sink()).await
    };
    if let Ok(Err(error)) = timeout(LINGER, listening).await {
        debug!(%error, "HTTP connection ended early");
    }
}

/// Has the kernel end a connection by a reset when it is closed: what it still holds of a file that has
/// changed must not be taken for the file.
fn reset(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        debug!(%error, "SO_LINGER");
    }
}

/// Writes both parts; fails when nothing could be written for `stall`.
pub(super) async fn send(
    stream: &mut TcpStream,
    stall: Duration,
    mut head: &[u8],
    mut body: &[u8],
) -> io::Result<()> {
    while !(head.is_empty() && body.is_empty()) {
        let parts = [IoSlice::new(head), IoSlice::new(body)];
        let writing = stream.write_vectored(&parts);
        let written = timeout(stall, writing).await.map_err(|_| io::ErrorKind::TimedOut)??;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let of_body = written.saturating_sub(head.len());
        head = head.get(written..).unwrap_or_default();
        body = body.get(of_body..).unwrap_or_default();
    }
    Ok(())
}

/// Why a file did not arrive whose client kept a place for little.
const SLOW: &str = "the client took too little of it while others waited";

/// Why a file did not arrive whose client closed the connection.
const GONE: &str = "the client went away";

/// How often progress is told at most.
const PROGRESS_PERIOD: Duration = Duration::from_millis(300);

/// How long a refused client is listened to, so that it can read why.
const LINGER: Duration = Duration::from_secs(1);

/// How many bytes of a refused client are read.
const LINGER_MAX: u64 = 0x10000;
