//! The engine on loopback sockets, with a program that echoes.

mod back;
mod echo;
mod parked;
#[cfg(target_os = "linux")]
mod peers;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wire::record::{self, Records};
use wire::rpc::{Accept, Reply};
use wire::xdr::Encoder;

pub(super) use echo::{Echo, PROGRAM};

use super::*;
use crate::clock::SystemClock;
use crate::net::datagram::{BindOptions, Datagrams};
use crate::net::interface::loopback;

/// A call without credentials.
pub(super) fn call(xid: u32, program: u32, version: u32, procedure: u32, args: &[u8]) -> Vec<u8> {
    let credential = wire::rpc::Credential::None;
    let call = wire::rpc::Call { xid, program, version, procedure, credential, args };
    let mut out = Vec::new();
    call.encode(&mut Encoder::new(&mut out));
    out
}

/// A running server on two loopback sockets.
struct Running {
    server: Arc<Server>,
    echo: Arc<Echo>,
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "asked in namespaces only"))]
    peers: Arc<Peers>,
    udp: SocketAddr,
    tcp: SocketAddr,
    tasks: [JoinHandle<std::io::Result<()>>; 2],
}

impl Running {
    fn new(options: Options) -> Self {
        Self::at("127.0.0.1:0", options)
    }

    fn at(address: &str, options: Options) -> Self {
        let echo = Arc::new(Echo::default());
        let peers = Arc::<Peers>::default();
        let server =
            Server::new(vec![echo.clone()], options, Arc::clone(&peers), Arc::new(SystemClock));
        let address = address.parse().unwrap();
        let options = BindOptions { buffer: Some(BUFFER), ..BindOptions::default() };
        let datagrams = Datagrams::bind(address, &options).unwrap();
        let listener = listen(address).unwrap();
        let (udp, tcp) = (datagrams.local_addr(), listener.local_addr().unwrap());
        let tasks = [
            tokio::spawn(server.clone().serve_udp(datagrams)),
            tokio::spawn(server.clone().serve_tcp(listener)),
        ];
        Self { server, echo, peers, udp, tcp, tasks }
    }

    async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.tcp).await.unwrap();
        Client { stream, records: Records::new(2 << 20) }
    }

    /// Waits until the server counted what `see` looks for.
    async fn until(&self, see: impl Fn(Counts) -> bool) {
        let seen = async {
            while !see(self.server.counts()) {
                tokio::task::yield_now().await;
            }
        };
        timeout(TEST_TIMEOUT, seen).await.expect("the server did not count it");
    }
}

struct Client {
    stream: TcpStream,
    records: Records,
}

impl Client {
    async fn send(&mut self, message: &[u8]) {
        self.stream.write_all(&framed(message)).await.unwrap();
    }

    /// The next reply, its head and results; `None` when the server closed the connection.
    async fn reply(&mut self) -> Option<(u32, Reply, Vec<u8>)> {
        loop {
            if let Some(reply) = self.records.next_record().unwrap() {
                let (xid, head, results) = Reply::decode(reply).unwrap();
                return Some((xid, head, results.to_vec()));
            }
            let read = timeout(TEST_TIMEOUT, self.stream.read_buf(self.records.space()));
            match read.await.expect("the server does not answer") {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The results of a call that succeeds.
    async fn call(&mut self, xid: u32, procedure: u32, args: &[u8]) -> Vec<u8> {
        self.send(&call(xid, PROGRAM, 2, procedure, args)).await;
        let (replied, head, results) = self.reply().await.expect("closed");
        assert_eq!((replied, head), (xid, SUCCESS));
        results
    }
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let place = record::begin(&mut out);
    out.extend_from_slice(message);
    record::end(&mut out, place).unwrap();
    out
}

/// So many calls, each for a reply of a mebibyte.
fn asks_for_mebibytes(calls: u32) -> Vec<u8> {
    let args = (1_u32 << 20).to_be_bytes();
    (0..calls).flat_map(|xid| framed(&call(xid, PROGRAM, 2, Echo::ZEROS, &args))).collect()
}

fn datagram_client() -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let socket = SockRef::from(&client);
    socket.set_recv_buffer_size(BUFFER).unwrap();
    socket.set_send_buffer_size(BUFFER).unwrap();
    client
}

/// Room for the largest datagram: FreeBSD gives a socket less by itself.
const BUFFER: usize = 1 << 18;

/// Sends a datagram and waits for the reply, on a thread of its own.
async fn ask(client: &Arc<UdpSocket>, to: SocketAddr, message: Vec<u8>) -> (Vec<u8>, SocketAddr) {
    let client = Arc::clone(client);
    let asked = tokio::task::spawn_blocking(move || {
        client.send_to(&message, to).unwrap();
        let mut buf = vec![0; 70_000];
        let (len, from) = client.recv_from(&mut buf).unwrap();
        (buf[..len].to_vec(), from)
    });
    asked.await.unwrap()
}

const SUCCESS: Reply = Reply::Accepted(Accept::Success);

/// How long a call-back may take.
const BACK: Duration = Duration::from_millis(300);

/// More than anything here takes.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// However a socket is filled: what is in a pipe comes between what was said before and after it.
#[tokio::test]
async fn what_is_in_pipes_comes_in_its_place() {
    let running = Running::new(Options::default());
    let mut client = running.connect().await;
    let lens = [1 << 20, 1, 70_001, 0, (1 << 20) - 1, 4, 65_536];
    let mut asked = std::collections::HashMap::new();
    let mut calls = Vec::new();
    for (xid, len) in (0..).zip(lens.into_iter().cycle().take(40)) {
        let args: Vec<u8> = [len, xid % 3 % 2].into_iter().flat_map(u32::to_be_bytes).collect();
        calls.extend(framed(&call(xid, PROGRAM, 2, Echo::PIPED, &args)));
        calls.extend(framed(&call(xid + 100, PROGRAM, 2, Echo::ECHO, b"between")));
        asked.insert(xid, len);
    }
    client.stream.write_all(&calls).await.unwrap();
    for _ in 0..2 * asked.len() {
        let (xid, head, results) = client.reply().await.expect("closed");
        assert_eq!(head, SUCCESS);
        let Some(len) = asked.get(&xid) else {
            assert_eq!(results, b"between");
            continue;
        };
        let (told, bytes) = results.split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_be_bytes(*told), *len);
        let (bytes, pad) = bytes.split_at(usize::try_from(*len).unwrap());
        assert!(bytes == echo::pattern(bytes.len()), "call {xid} got others' bytes");
        assert_eq!(pad, &[0; 3][..wire::xdr::padding(bytes.len())]);
    }
    assert_eq!(client.call(7, Echo::ECHO, b"still").await, b"still");
}

/// Bytes in pipes that wait for a client who takes nothing are bounded as all others are.
#[tokio::test]
async fn what_is_in_pipes_counts_as_unsent() {
    let options = Options { unsent: 4 << 20, ..Options::default() };
    let running = Running::new(options);
    let mut deaf = Vec::new();
    let args: Vec<u8> = [1_u32 << 20, 1].into_iter().flat_map(u32::to_be_bytes).collect();
    for _ in 0..3 {
        let mut client = running.connect().await;
        SockRef::from(&client.stream).set_recv_buffer_size(4096).unwrap();
        for xid in 0..12 {
            client.send(&call(xid, PROGRAM, 2, Echo::PIPED, &args)).await;
        }
        deaf.push(client);
    }
    running.until(|counts| counts.closed > 0).await;
    let mut client = running.connect().await;
    assert_eq!(client.call(7, Echo::PIPED, &args).await.len(), 4 + (1 << 20));
}

#[tokio::test]
async fn a_datagram_is_answered() {
    let running = Running::new(Options::default());
    let client = Arc::new(datagram_client());
    let (reply, from) =
        ask(&client, running.udp, call(9, PROGRAM, 2, Echo::ECHO, b"hello...")).await;
    assert_eq!(from, running.udp);
    assert_eq!(Reply::decode(&reply), Ok((9, SUCCESS, &b"hello..."[..])));
}

#[tokio::test]
async fn a_datagram_is_answered_from_the_address_that_was_asked() {
    let Some(another) = loopback(9) else { return };
    let running = Running::at("0.0.0.0:0", Options::default());
    let client = Arc::new(datagram_client());
    let to = SocketAddr::new(another, running.udp.port());
    for procedure in [Echo::ECHO, Echo::LATER] {
        let (_, from) = ask(&client, to, call(9, PROGRAM, 2, procedure, b"")).await;
        assert_eq!(from, to);
    }
}

#[tokio::test]
async fn the_largest_datagrams_pass() {
    let running = Running::new(Options::default());
    let client = datagram_client();
    // FreeBSD sends no more at once than a socket may keep, which is 9,216 bytes unless it is told.
    SockRef::from(&client).set_send_buffer_size(1 << 18).unwrap();
    let client = Arc::new(client);
    let args = vec![7; 65_507 - 40];
    let (reply, _) = ask(&client, running.udp, call(9, PROGRAM, 2, Echo::ECHO, &args)).await;
    assert_eq!(Reply::decode(&reply), Ok((9, SUCCESS, &args[..])));
}

#[tokio::test]
async fn a_repeated_datagram_is_carried_out_once_and_answered_twice() {
    let running = Running::new(Options::default());
    let (one, two) = (Arc::new(datagram_client()), Arc::new(datagram_client()));
    let message = call(1, PROGRAM, 2, Echo::COUNT, b"");
    let (first, _) = ask(&one, running.udp, message.clone()).await;
    let (second, _) = ask(&two, running.udp, message).await;
    assert_eq!(first, second);
    assert_eq!(running.echo.count(), 1);
}

#[tokio::test]
async fn datagrams_are_dropped_when_too_many_calls_wait() {
    let running = Running::new(Options { waiting: 1, ..Options::default() });
    let client = datagram_client();
    client.send_to(&call(1, PROGRAM, 2, Echo::GATE, b""), running.udp).unwrap();
    client.send_to(&call(2, PROGRAM, 2, Echo::GATE, b""), running.udp).unwrap();
    running.until(|counts| counts.dropped == 1).await;
    running.echo.open();
    let reply = tokio::task::spawn_blocking(move || {
        let mut buf = [0; 100];
        let len = client.recv(&mut buf).unwrap();
        Reply::decode(&buf[..len]).unwrap().0
    });
    assert_eq!(reply.await.unwrap(), 1);
}

#[tokio::test]
async fn ipv6_is_answered_over_both_transports() {
    let running = Running::at("[::1]:0", Options::default());
    assert_eq!(running.connect().await.call(1, Echo::ECHO, b"six!").await, b"six!");
    let client = UdpSocket::bind("[::1]:0").unwrap();
    client.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let (reply, from) =
        ask(&Arc::new(client), running.udp, call(9, PROGRAM, 2, Echo::ECHO, b"six!")).await;
    assert_eq!(from, running.udp);
    assert_eq!(Reply::decode(&reply), Ok((9, SUCCESS, &b"six!"[..])));
}

#[tokio::test]
async fn several_calls_in_one_segment_are_all_answered() {
    let running = Running::new(Options::default());
    let mut client = running.connect().await;
    let calls = (0..50).flat_map(|xid| {
        let procedure = if xid % 3 == 0 { Echo::LATER } else { Echo::ECHO };
        framed(&call(xid, PROGRAM, 2, procedure, &xid.to_be_bytes()))
    });
    let calls: Vec<u8> = calls.collect();
    client.stream.write_all(&calls).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..50 {
        let (xid, head, results) = client.reply().await.unwrap();
        assert_eq!((head, &results[..]), (SUCCESS, &xid.to_be_bytes()[..]));
        seen.push(xid);
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_call_that_comes_byte_by_byte_is_answered() {
    let running = Running::new(Options::default());
    let mut client = running.connect().await;
    client.stream.set_nodelay(true).unwrap();
    for byte in framed(&call(1, PROGRAM, 2, Echo::ECHO, b"slow")) {
        client.stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(client.reply().await, Some((1, SUCCESS, b"slow".to_vec())));
}

#[tokio::test]
async fn a_call_in_several_fragments_is_answered() {
    let running = Running::new(Options::default());
    let mut client = running.connect().await;
    let message = call(1, PROGRAM, 2, Echo::ECHO, b"in parts");
    let (head, tail) = message.split_at(13);
    client.stream.write_all(&13_u32.to_be_bytes()).await.unwrap();
    client.stream.write_all(head).await.unwrap();
    client.stream.write_all(&framed(tail)).await.unwrap();
    assert_eq!(client.reply().await, Some((1, SUCCESS, b"in parts".to_vec())));
}

#[tokio::test]
async fn a_repeated_call_on_a_new_connection_is_carried_out_once() {
    let running = Running::new(Options::default());
    let first = running.connect().await.call(1, Echo::COUNT, b"").await;
    let second = running.connect().await.call(1, Echo::COUNT, b"").await;
    assert_eq!(first, second);
    assert_eq!(running.echo.count(), 1);
}

#[tokio::test]
async fn the_reply_to_a_running_call_takes_the_newest_connection() {
    let running = Running::new(Options::default());
    let (mut old, mut new) = (running.connect().await, running.connect().await);
    let message = call(1, PROGRAM, 2, Echo::GATE, b"gate");
    old.send(&message).await;
    running.until(|counts| counts.calls == 1).await;
    new.send(&message).await;
    running.until(|counts| counts.redirected == 1).await;
    running.echo.open();
    assert_eq!(new.reply().await, Some((1, SUCCESS, b"gate".to_vec())));
    old.stream.shutdown().await.unwrap();
    assert_eq!(old.reply().await, None);
    assert_eq!(running.echo.count(), 1);
}

#[tokio::test]
async fn a_peer_that_closes_its_half_still_gets_its_reply() {
    let running = Running::new(Options::default());
    let mut client = running.connect().await;
    client.send(&call(1, PROGRAM, 2, Echo::GATE, b"late")).await;
    client.stream.shutdown().await.unwrap();
    running.until(|counts| counts.calls == 1).await;
    running.echo.open();
    assert_eq!(client.reply().await, Some((1, SUCCESS, b"late".to_vec())));
    assert_eq!(client.reply().await, None);
}

#[tokio::test]
async fn an_oversized_record_closes_the_connection() {
    let running = Running::new(Options::default());
    let mut client = running.connect().await;
    client.stream.write_all(&0x8011_0001_u32.to_be_bytes()).await.unwrap();
    assert_eq!(client.reply().await, None);
    running.until(|counts| counts.closed == 1).await;
}

#[tokio::test]
async fn a_write_of_a_mebibyte_passes_inline_and_on_the_pool() {
    let running = Running::new(Options::default());
    let mut client = running.connect().await;
    let args: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_be_bytes).collect();
    for xid in 0..4 {
        let procedure = if xid % 2 == 0 { Echo::ECHO } else { Echo::LATER };
        assert_eq!(client.call(xid, procedure, &args).await, args);
    }
}

#[tokio::test]
async fn a_panic_costs_one_call() {
    let running = Running::new(Options::default());
    let mut client = running.connect().await;
    client.send(&call(1, PROGRAM, 2, Echo::PANIC, b"")).await;
    let system_err = Reply::Accepted(Accept::SystemErr);
    assert_eq!(client.reply().await, Some((1, system_err, Vec::new())));
    assert_eq!(client.call(2, Echo::ECHO, b"fine").await, b"fine");
    assert_eq!(running.server.counts().panics, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_connections_are_served_at_once() {
    let running = Running::new(Options::default());
    let mut clients = Vec::new();
    for _ in 0..200 {
        clients.push(running.connect().await);
    }
    for (xid, client) in (0..).zip(&mut clients) {
        let procedure = if xid % 2 == 0 { Echo::ECHO } else { Echo::LATER };
        client.send(&call(xid, PROGRAM, 2, procedure, b"all!")).await;
    }
    for (xid, client) in (0..).zip(&mut clients) {
        assert_eq!(client.reply().await, Some((xid, SUCCESS, b"all!".to_vec())));
    }
    assert_eq!(running.server.open_connections(), 200);
}

#[tokio::test]
async fn one_connection_too_many_costs_the_quietest_one() {
    let running = Running::new(Options { connections: 2, ..Options::default() });
    let (mut quiet, mut busy) = (running.connect().await, running.connect().await);
    quiet.call(1, 0, b"").await;
    busy.call(1, 0, b"").await;
    running.connect().await.call(1, 0, b"").await;
    assert_eq!(quiet.reply().await, None);
    busy.call(2, 0, b"").await;
}

#[tokio::test]
async fn a_peer_that_takes_no_replies_loses_its_connection() {
    let stall = Duration::from_millis(50);
    let running = Running::new(Options { stall, ..Options::default() });
    let mut client = running.connect().await;
    client.stream.write_all(&asks_for_mebibytes(64)).await.unwrap();
    running.until(|counts| counts.closed == 1).await;
    assert!(running.server.counts().calls < 64, "calls were carried out without end");
}

#[tokio::test]
async fn replies_that_wait_are_bounded_over_all_connections() {
    let running = Running::new(Options { unsent: 1 << 19, ..Options::default() });
    let mut client = running.connect().await;
    client.stream.write_all(&asks_for_mebibytes(64)).await.unwrap();
    running.until(|counts| counts.closed == 1).await;
}

#[tokio::test]
async fn replies_that_nobody_takes_cost_the_quietest_connection() {
    let running = Running::new(Options { unsent: 5 << 20, ..Options::default() });
    let mut first = running.connect().await;
    first.stream.write_all(&asks_for_mebibytes(64)).await.unwrap();
    running.until(|counts| counts.calls > 1).await;
    let mut others = Vec::new();
    // Each holds more than a mebibyte of replies, and less than three.
    for known in 2..8 {
        let mut other = running.connect().await;
        other.stream.write_all(&asks_for_mebibytes(64)).await.unwrap();
        let before = running.server.counts().calls;
        running.until(|counts| counts.connections == known && counts.calls > before).await;
        others.push(other);
    }
    running.until(|counts| counts.closed > 0).await;
    let mut last = others.pop().unwrap();
    for xid in 0..64 {
        assert_eq!(last.reply().await.unwrap().0, xid);
    }
    let mut replies = 0;
    while first.reply().await.is_some() {
        replies += 1;
    }
    assert!(replies < 64, "the quietest connection was kept");
}

#[tokio::test]
async fn a_slow_peer_gets_every_byte() {
    let running = Running::new(Options::default());
    let mut client = running.connect().await;
    client.stream.write_all(&asks_for_mebibytes(16)).await.unwrap();
    running.until(|counts| counts.calls > 1).await;
    for xid in 0..16 {
        let (replied, head, results) = client.reply().await.unwrap();
        assert_eq!((replied, head, results.len()), (xid, SUCCESS, 1 << 20));
    }
}

#[tokio::test]
async fn half_a_call_is_not_waited_for() {
    let stall = Duration::from_millis(30);
    let running = Running::new(Options { stall, ..Options::default() });
    let mut client = running.connect().await;
    let message = framed(&call(1, PROGRAM, 2, Echo::ECHO, b"half"));
    client.stream.write_all(&message[..30]).await.unwrap();
    assert_eq!(client.reply().await, None);
    running.until(|counts| counts.closed == 1).await;
    assert_eq!(running.server.open_connections(), 0);
}

#[tokio::test]
async fn halves_of_calls_are_bounded_over_all_connections() {
    let running = Running::new(Options { unfinished: 2 << 20, ..Options::default() });
    let message = framed(&call(1, PROGRAM, 2, Echo::ECHO, &[0; 1 << 20]));
    let (half, rest) = message.split_at(900_000);
    let mut hoarders = Vec::new();
    for _ in 0..4 {
        let mut hoarder = running.connect().await;
        hoarder.stream.write_all(half).await.unwrap();
        hoarders.push(hoarder);
    }
    running.until(|counts| counts.closed >= 2).await;
    let mut honest = running.connect().await;
    honest.stream.write_all(half).await.unwrap();
    honest.stream.write_all(rest).await.unwrap();
    assert_eq!(honest.reply().await, Some((1, SUCCESS, vec![0; 1 << 20])));
}

#[tokio::test]
async fn many_small_halves_are_bounded_as_few_large_ones_are() {
    let running = Running::new(Options { unfinished: 1 << 20, ..Options::default() });
    let message = framed(&call(1, PROGRAM, 2, Echo::ECHO, &[0; 1 << 20]));
    let mut hoarders = Vec::new();
    // Each less than any buffer begins with.
    for _ in 0..40 {
        let mut hoarder = running.connect().await;
        hoarder.stream.write_all(&message[..60_000]).await.unwrap();
        hoarders.push(hoarder);
    }
    running.until(|counts| counts.connections == 40 && counts.closed == 40 - 17).await;
}

#[tokio::test]
async fn a_call_that_ends_is_not_counted_as_begun() {
    let running = Running::new(Options { unfinished: 3 << 20, ..Options::default() });
    let mut client = running.connect().await;
    for xid in 0..16 {
        assert_eq!(client.call(xid, Echo::LATER, &[0; 1 << 20]).await.len(), 1 << 20);
    }
    assert_eq!(running.server.counts().closed, 0);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let idle = Duration::from_millis(30);
    let running = Running::new(Options { idle, ..Options::default() });
    let mut client = running.connect().await;
    client.call(1, 0, b"").await;
    assert_eq!(client.reply().await, None);
}

#[tokio::test]
async fn a_server_that_stops_lets_running_calls_end() {
    let running = Running::new(Options::default());
    let mut client = running.connect().await;
    client.send(&call(1, PROGRAM, 2, Echo::GATE, b"last")).await;
    running.until(|counts| counts.calls == 1).await;
    running.server.stop();
    running.echo.open();
    assert_eq!(client.reply().await, Some((1, SUCCESS, b"last".to_vec())));
    for task in running.tasks {
        assert!(timeout(TEST_TIMEOUT, task).await.unwrap().unwrap().is_ok());
    }
}

#[test]
fn random_bytes_on_its_sockets_do_not_hurt_a_server() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let running = runtime.block_on(async { Running::new(Options::default()) });
    let client = datagram_client();
    let head = call(1, PROGRAM, 2, Echo::ONE_WORD, b"");
    let bytes = proptest::collection::vec(any::<u8>(), 0..300);
    // Cut where no procedure but the one of `head` can come about, as one of them panics.
    let kept = proptest::sample::select(vec![0, 3, 4, 8, 11, 12, 16, 24, 28, 31, 32, 36, 39]);
    let mut runner = TestRunner::new(Config { cases: 200, ..Config::default() });
    let smoke = |(bytes, kept, raw): (Vec<u8>, usize, bool)| {
        let mut message = head[..kept].to_vec();
        message.extend(bytes);
        client.send_to(&message, running.udp).unwrap();
        runtime.block_on(async {
            let mut peer = running.connect().await;
            let stream = if raw { message } else { framed(&message) };
            // The server may close the connection while it is written to.
            let _closed = peer.stream.write_all(&stream).await;
        });
        Ok(())
    };
    runner.run(&(bytes, kept, any::<bool>()), smoke).unwrap();
    runtime.block_on(async {
        assert_eq!(running.connect().await.call(1, Echo::ECHO, b"good").await, b"good");
        let (reply, _) = ask(
            &Arc::new(datagram_client()),
            running.udp,
            call(2, PROGRAM, 2, Echo::ECHO, b"good"),
        )
        .await;
        assert_eq!(Reply::decode(&reply), Ok((2, SUCCESS, &b"good"[..])));
        assert_eq!(running.server.counts().panics, 0);
    });
}
