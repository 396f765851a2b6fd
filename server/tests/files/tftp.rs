//! The TFTP server, asked by clients of our own and of others.

use std::borrow::Cow;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netbe::boot::Event;
use netbe::clock::SystemClock;
use netbe::net::datagram::{BindOptions, Datagrams};
use netbe::tftp;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wire::tftp::{ErrorCode, Mode, Options, Packet, Request};

use crate::booter::{FakeBooter, TICKET, numbered};
use crate::program::{is_installed, run};

/// A server that ends with the test.
struct Server {
    booter: Arc<FakeBooter>,
    address: SocketAddr,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    fn start(booter: FakeBooter) -> Self {
        Self::start_with(booter, tftp::Options::default())
    }

    fn start_with(booter: FakeBooter, options: tftp::Options) -> Self {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let socket = Datagrams::bind(any, &BindOptions::default()).unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, socket.local_addr().port()));
        let booter = Arc::new(booter);
        let task =
            tokio::spawn(tftp::serve(socket, booter.clone(), options, Arc::new(SystemClock)));
        Self { booter, address, task }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client at one port.
struct Client {
    socket: UdpSocket,
    buffer: Vec<u8>,
}

impl Client {
    async fn new() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        Self { socket, buffer: vec![0; 70_000] }
    }

    async fn ask(&self, server: SocketAddr, file: &str, options: Options) {
        let file = Cow::Borrowed(file.as_bytes());
        self.send(server, &Packet::Rrq(Request { file, mode: Mode::Octet, options })).await;
    }

    async fn send(&self, to: SocketAddr, packet: &Packet<'_>) {
        let mut out = Vec::new();
        packet.encode(&mut out);
        self.socket.send_to(&out, to).await.unwrap();
    }

    async fn ack(&self, to: SocketAddr, block: u16) {
        self.send(to, &Packet::Ack { block }).await;
    }

    async fn receive(&mut self) -> (Packet<'_>, SocketAddr) {
        let receiving = self.socket.recv_from(&mut self.buffer);
        let received = timeout(Duration::from_secs(5), receiving).await;
        let (len, from) = received.expect("the server is silent").unwrap();
        (Packet::decode(&self.buffer[..len]).unwrap(), from)
    }

    async fn receive_oack(&mut self) -> (Options, SocketAddr) {
        match self.receive().await {
            (Packet::Oack(options), from) => (options, from),
            (other, _) => panic!("not an OACK: {other:?}"),
        }
    }

    async fn receive_data(&mut self) -> (u16, Vec<u8>, SocketAddr) {
        match self.receive().await {
            (Packet::Data { block, data }, from) => (block, data.to_vec(), from),
            (other, _) => panic!("not a block: {other:?}"),
        }
    }

    async fn receive_error(&mut self) -> (ErrorCode, String) {
        match self.receive().await {
            (Packet::Error { code, message }, _) => {
                (code, String::from_utf8(message.into_owned()).unwrap())
            }
            (other, _) => panic!("not an error: {other:?}"),
        }
    }

    /// Whether nothing comes for a moment.
    async fn hears_nothing(&mut self) -> bool {
        let receiving = self.socket.recv_from(&mut self.buffer);
        timeout(Duration::from_millis(150), receiving).await.is_err()
    }

    /// Receives a block. One that came before may come again: on a busy computer the ACK is late.
    async fn receive_next(&mut self, expected: u16) -> (u16, Vec<u8>, SocketAddr) {
        loop {
            let (block, data, from) = self.receive_data().await;
            if expected < 2 || block != expected - 1 {
                return (block, data, from);
            }
        }
    }

    /// Fetches a file in lockstep, `blksize` included in `options` or 512.
    async fn fetch(&mut self, server: SocketAddr, file: &str, options: Options) -> Vec<u8> {
        self.ask(server, file, options).await;
        let mut blksize = 512;
        if options != Options::default() {
            let (granted, from) = self.receive_oack().await;
            blksize = usize::from(granted.blksize.unwrap_or(512));
            self.ack(from, 0).await;
        }
        let mut bytes = Vec::new();
        for expected in 1u16.. {
            let (block, data, from) = self.receive_next(expected).await;
            assert_eq!(block, expected);
            bytes.extend_from_slice(&data);
            self.ack(from, block).await;
            if data.len() < blksize {
                break;
            }
        }
        bytes
    }
}

fn loader_options() -> Options {
    Options { blksize: Some(1428), tsize: Some(0), ..Options::default() }
}

#[tokio::test]
async fn files_of_any_length_come_whole() {
    for len in [0, 1, 511, 512, 513, 1428, 100_000, 1 << 20] {
        let bytes = numbered(len);
        let booter = FakeBooter::default().with("m", &bytes).with_file("f", &bytes);
        let server = Server::start(booter);
        for name in ["m", "f"] {
            for options in [Options::default(), loader_options()] {
                let mut client = Client::new().await;
                assert!(client.fetch(server.address, name, options).await == bytes, "{name} {len}");
            }
        }
    }
}

#[tokio::test]
async fn the_answer_says_what_was_asked_and_granted() {
    let server = Server::start(FakeBooter::default().with("f", &numbered(5000)));
    let mut client = Client::new().await;
    let asked =
        Options { blksize: Some(1432), timeout: Some(5), tsize: Some(0), windowsize: Some(100) };
    client.ask(server.address, "f", asked).await;
    let (granted, from) = client.receive_oack().await;
    assert_eq!(granted, Options { tsize: Some(5000), windowsize: Some(64), ..asked });
    assert_ne!(from.port(), server.address.port());
}

#[tokio::test]
async fn delivery_is_told_once_and_with_the_last_ack() {
    let server = Server::start(FakeBooter::default().with("f", &numbered(1024)));
    let mut client = Client::new().await;
    client.ask(server.address, "f", Options::default()).await;
    for block in 1..=3 {
        let (_, _, from) = client.receive_data().await;
        assert_eq!(server.booter.events(), []);
        client.ack(from, block).await;
    }
    server.booter.wait_for_delivery("f").await;
    assert_eq!(server.booter.events().len(), 1);
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_answer_comes_from_the_address_that_was_asked() {
    let server = Server::start(FakeBooter::default().with("f", b"x"));
    let second = SocketAddr::from(([127, 0, 0, 2], server.address.port()));
    let mut client = Client::new().await;
    client.ask(second, "f", Options::default()).await;
    assert_eq!(client.receive_data().await.2.ip(), second.ip());
    client.send(second, &Packet::Ack { block: 7 }).await;
    assert_eq!(client.receive().await.1, second);
}

#[tokio::test]
async fn refusals_say_why() {
    let server = Server::start(FakeBooter::default().with("f", b"x"));
    let mut client = Client::new().await;
    client.ask(server.address, "loader.conf.gz", loader_options()).await;
    let refused = client.receive_error().await;
    let message = "no file loader.conf.gz for this machine".to_owned();
    assert_eq!(refused, (ErrorCode::FILE_NOT_FOUND, message));
    client.ask(server.address, "/refused", loader_options()).await;
    let refused = client.receive_error().await;
    let message = "this machine boots from its disk".to_owned();
    assert_eq!(refused, (ErrorCode::ACCESS_VIOLATION, message));
    let request = |mode| {
        let file = Cow::Borrowed(&b"f"[..]);
        Request { file, mode, options: Options::default() }
    };
    client.send(server.address, &Packet::Rrq(request(Mode::Netascii))).await;
    assert_eq!(client.receive_error().await.0, ErrorCode::ILLEGAL_OPERATION);
    client.send(server.address, &Packet::Rrq(request(Mode::Mail))).await;
    assert_eq!(client.receive_error().await.0, ErrorCode::ILLEGAL_OPERATION);
    client.send(server.address, &Packet::Wrq(request(Mode::Octet))).await;
    assert_eq!(client.receive_error().await.0, ErrorCode::ACCESS_VIOLATION);
    client.ack(server.address, 1).await;
    assert_eq!(client.receive_error().await.0, ErrorCode::UNKNOWN_TRANSFER_ID);
}

#[tokio::test]
async fn errors_and_garbage_are_not_answered_and_stop_nothing() {
    let server = Server::start(FakeBooter::default().with("f", b"hello"));
    let mut client = Client::new().await;
    for garbage in [&b""[..], b"\0", b"\0\x01", b"\0\x01f", b"\0\x09f\0octet\0", &[0xff; 3000]] {
        client.socket.send_to(garbage, server.address).await.unwrap();
    }
    let message = Cow::Borrowed(&b"no"[..]);
    let error = Packet::Error { code: ErrorCode::NOT_DEFINED, message };
    client.send(server.address, &error).await;
    assert!(client.hears_nothing().await);
    assert_eq!(client.fetch(server.address, "f", Options::default()).await, b"hello");
}

/// OVMF asks for the size, refuses the answer and asks again from the same port, without a pause;
/// FreeBSD's loader does so with the very same request.
#[tokio::test]
async fn a_size_probe_is_followed_by_the_file_without_a_pause() {
    let bytes = numbered(3000);
    let server = Server::start(FakeBooter::default().with("snponly.efi", &bytes));
    let mut client = Client::new().await;
    let started = Instant::now();
    for round in 0..100 {
        let probe = Options { windowsize: Some(4), ..loader_options() };
        client.ask(server.address, "snponly.efi", probe).await;
        let (granted, from) = client.receive_oack().await;
        assert_eq!(granted.tsize, Some(3000));
        let message = Cow::Borrowed(&b"User aborted the transfer"[..]);
        let code = if round % 2 == 0 { ErrorCode::OPTION_NEGOTIATION } else { ErrorCode(0) };
        client.send(from, &Packet::Error { code, message }).await;
        let again = if round % 4 < 2 { probe } else { loader_options() };
        client.ask(server.address, "snponly.efi", again).await;
        let (_, from) = client.receive_oack().await;
        client.ack(from, 0).await;
        let mut whole = Vec::new();
        while whole.len() < bytes.len() {
            let (block, data, from) = client.receive_data().await;
            whole.extend_from_slice(&data);
            if again.windowsize.is_none() || whole.len() == bytes.len() {
                client.ack(from, block).await;
            }
        }
        assert_eq!(whole, bytes);
    }
    // One lost second request would cost half a second or more.
    assert!(started.elapsed() < Duration::from_secs(45), "{:?}", started.elapsed());
    let probed = |event: &Event| *event == Event::Probed(TICKET);
    let all =
        |_: &Event| server.booter.events().iter().filter(|&event| probed(event)).count() == 100;
    server.booter.wait_for(all).await;
}

#[tokio::test]
async fn a_repeated_request_is_answered_from_the_same_port() {
    let server = Server::start(FakeBooter::default().with("f", &numbered(3000)));
    let mut client = Client::new().await;
    client.ask(server.address, "f", loader_options()).await;
    let (_, first) = client.receive_oack().await;
    client.ask(server.address, "f", loader_options()).await;
    assert_eq!(client.receive_oack().await.1, first);
    client.ack(first, 0).await;
    assert_eq!(client.receive_data().await.0, 1);
    client.ask(server.address, "f", loader_options()).await;
    assert_eq!(client.receive_oack().await.1, first);
}

#[tokio::test]
async fn another_request_from_the_same_port_takes_the_place_of_the_transfer() {
    let booter = FakeBooter::default().with("a", &numbered(9000)).with("b", b"second");
    let server = Server::start(booter);
    let mut client = Client::new().await;
    client.ask(server.address, "a", Options::default()).await;
    let (_, _, first) = client.receive_data().await;
    client.ack(first, 1).await;
    client.receive_data().await;
    assert_eq!(client.fetch(server.address, "b", Options::default()).await, b"second");
    assert!(client.hears_nothing().await);
}

#[tokio::test]
async fn a_stranger_gets_error_5_and_the_transfer_goes_on() {
    let server = Server::start(FakeBooter::default().with("f", &numbered(700)));
    let mut client = Client::new().await;
    let mut stranger = Client::new().await;
    client.ask(server.address, "f", Options::default()).await;
    let (_, _, from) = client.receive_data().await;
    stranger.ack(from, 1).await;
    assert_eq!(stranger.receive_error().await.0, ErrorCode::UNKNOWN_TRANSFER_ID);
    drop(stranger);
    client.ack(from, 1).await;
    assert_eq!(client.receive_data().await.0, 2);
}

#[tokio::test]
async fn a_lost_first_block_of_a_window_costs_no_timeout() {
    let server = Server::start(FakeBooter::default().with_file("f", &numbered(100_000)));
    let mut client = Client::new().await;
    let options = Options { windowsize: Some(4), ..loader_options() };
    client.ask(server.address, "f", options).await;
    let (_, from) = client.receive_oack().await;
    client.ack(from, 0).await;
    for block in 1..=4 {
        assert_eq!(client.receive_data().await.0, block);
    }
    // As if block 1 had not come.
    let lost = Instant::now();
    client.ack(from, 0).await;
    assert_eq!(client.receive_data().await.0, 1);
    assert!(lost.elapsed() < Duration::from_millis(180), "{:?}", lost.elapsed());
}

#[tokio::test]
async fn requests_beyond_the_limit_are_not_answered_until_there_is_room() {
    let options = tftp::Options { per_address: 2, ..tftp::Options::default() };
    let server = Server::start_with(FakeBooter::default().with("f", &numbered(700)), options);
    let (mut first, mut second, mut third) =
        (Client::new().await, Client::new().await, Client::new().await);
    first.ask(server.address, "f", Options::default()).await;
    let (_, _, from) = first.receive_data().await;
    second.ask(server.address, "f", Options::default()).await;
    second.receive_data().await;
    third.ask(server.address, "f", Options::default()).await;
    assert!(third.hears_nothing().await);
    first.ack(from, 1).await;
    first.receive_data().await;
    first.ack(from, 2).await;
    // The place is free as soon as the server has put the first transfer away.
    let answered = async {
        loop {
            third.ask(server.address, "f", Options::default()).await;
            if !third.hears_nothing().await {
                break;
            }
        }
    };
    timeout(Duration::from_secs(10), answered).await.expect("the server is silent");
}

#[tokio::test]
async fn a_file_that_shrinks_ends_in_an_error() {
    let server = Server::start(FakeBooter::default().with_shrunken_file("f", &[0; 70_000], 90_000));
    let mut client = Client::new().await;
    client.ask(server.address, "f", Options::default()).await;
    let error = loop {
        match client.receive().await {
            (Packet::Data { block, .. }, from) => client.ack(from, block).await,
            (Packet::Error { code, .. }, _) => break code,
            (other, _) => panic!("{other:?}"),
        }
    };
    assert_eq!(error, ErrorCode::ACCESS_VIOLATION);
    server.booter.wait_for(|event| matches!(event, Event::Failed { .. })).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_client_that_goes_away_is_noticed_at_once() {
    let server = Server::start(FakeBooter::default().with("f", &numbered(7000)));
    let mut client = Client::new().await;
    client.ask(server.address, "f", Options::default()).await;
    let (_, _, from) = client.receive_data().await;
    client.ack(from, 1).await;
    client.receive_data().await;
    let gone = Instant::now();
    drop(client);
    server.booter.wait_for(|event| matches!(event, Event::Failed { .. })).await;
    // The next retransmission meets a closed port.
    assert!(gone.elapsed() < Duration::from_secs(2), "{:?}", gone.elapsed());
}

/// Plays a recorded boot: same ports, transfers dropped without a word, last blocks not acknowledged.
#[tokio::test]
async fn freebsds_loader_gets_every_file_that_it_asks_for() {
    let capture = include_str!("../../../fixtures/captures/tftp-freebsd-loader-12.1.txt");
    let kernel = numbered(300_000);
    let mut booter = FakeBooter::default().with_file("/fb/boot/kernel/kernel", &kernel);
    for (name, len) in [
        ("pxeboot12", 270_000),
        ("/fb/boot/lua/loader.lua", 2_300),
        ("/fb/boot/lua/cli.lua", 4_100),
        ("/fb/boot/lua/config.lua", 15_000),
        ("/fb/boot/defaults/loader.conf", 5_712),
        ("/fb/boot/device.hints", 1_428),
        ("/fb/etc/fstab", 30),
    ] {
        booter = booter.with_file(name, &numbered(len));
    }
    let server = Server::start(booter);
    let mut clients = std::collections::HashMap::new();
    let (mut found, mut missing) = (0, 0);
    for line in capture.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split(' ').skip(1);
        let port: u16 = words.next().unwrap().parse().unwrap();
        let payload = hex(words.next().unwrap());
        if let std::collections::hash_map::Entry::Vacant(vacant) = clients.entry(port) {
            vacant.insert(Client::new().await);
        }
        let client: &mut Client = clients.get_mut(&port).unwrap();
        client.socket.send_to(&payload, server.address).await.unwrap();
        let asked = Instant::now();
        let (blksize, len, from) = loop {
            match client.receive().await {
                (Packet::Oack(options), from) => {
                    let blksize = u64::from(options.blksize.unwrap());
                    break (blksize, options.tsize.unwrap(), from);
                }
                (Packet::Error { code, .. }, _) => {
                    assert_eq!(code, ErrorCode::FILE_NOT_FOUND);
                    missing += 1;
                    break (0, 0, server.address);
                }
                // Of the transfer before, which the loader let go of.
                (Packet::Data { .. }, _) => {}
                (other, _) => panic!("{other:?}"),
            }
        };
        assert!(asked.elapsed() < Duration::from_millis(400), "{line}: {:?}", asked.elapsed());
        if blksize == 0 {
            continue;
        }
        found += 1;
        client.ack(from, 0).await;
        // Every other file is read to its end, but for the last ACK; the others are let go of.
        let wanted = if found % 2 == 0 { len / blksize + 1 } else { 1 };
        for block in 1..=wanted {
            let (number, _, from) = client.receive_next(block as u16).await;
            assert_eq!(u64::from(number), block);
            if block < wanted {
                client.ack(from, number).await;
            }
        }
    }
    assert_eq!((found, missing), (15, 10));
}

fn hex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_fetches_a_file() {
    if !is_installed("curl") {
        return;
    }
    let bytes = numbered(2_000_000);
    let server = Server::start(FakeBooter::default().with_file("boot/f", &bytes));
    let folder = tempfile::tempdir().unwrap();
    for blksize in ["512", "1428", "8192", "65464"] {
        let path = folder.path().join(blksize);
        let url = format!("tftp://{}/boot/f", server.address);
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--max-time", "30", "--tftp-blksize", blksize]);
        run(curl.arg("--output").arg(&path).arg(url)).await;
        assert!(std::fs::read(path).unwrap() == bytes, "{blksize}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn atftp_fetches_a_file_in_windows() {
    if !is_installed("atftp") {
        return;
    }
    let bytes = numbered(3_000_001);
    let server = Server::start(FakeBooter::default().with_file("f", &bytes));
    let folder = tempfile::tempdir().unwrap();
    for (blksize, window) in [("512", "1"), ("1428", "4"), ("1428", "64"), ("1024", "16")] {
        let path = folder.path().join(format!("{blksize}.{window}"));
        let mut atftp = Command::new("atftp");
        atftp.arg("--option").arg(format!("blksize {blksize}"));
        atftp.arg("--option").arg(format!("windowsize {window}"));
        atftp.args(["--get", "--remote-file", "f", "--local-file"]).arg(&path);
        let address = server.address;
        run(atftp.arg(address.ip().to_string()).arg(address.port().to_string())).await;
        assert!(std::fs::read(path).unwrap() == bytes, "{blksize} {window}");
    }
}
