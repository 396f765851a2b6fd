//! The HTTP server, asked by clients of our own and by curl.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use netbe::boot::Event;
use netbe::http::{self, Options};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::booter::{FakeBooter, TICKET, numbered};
use crate::program::{is_installed, run};

/// A server that ends with the test.
struct Server {
    booter: Arc<FakeBooter>,
    address: SocketAddr,
    shutdown: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(booter: FakeBooter) -> Self {
        Self::start_with(booter, Options::default()).await
    }

    async fn start_with(booter: FakeBooter, options: Options) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let booter = Arc::new(booter);
        let (shutdown, ended) = oneshot::channel();
        let ended = async {
            let _ = ended.await;
        };
        let task = tokio::spawn(http::serve(listener, booter.clone(), options, ended));
        Self { booter, address, shutdown: Some(shutdown), task }
    }

    async fn connect(&self) -> Client {
        Client { stream: TcpStream::connect(self.address).await.unwrap(), input: Vec::new() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

/// An answer, its head as text.
#[derive(Debug)]
struct Response {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

impl Client {
    async fn send(&mut self, request: &str) {
        self.stream.write_all(request.as_bytes()).await.unwrap();
    }

    async fn get(&mut self, path: &str, more: &str) -> Response {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: h\r\n{more}\r\n")).await;
        self.receive(true).await
    }

    async fn head(&mut self, path: &str) -> Response {
        self.send(&format!("HEAD {path} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        self.receive(false).await
    }

    /// Receives an answer, whose body is as long as it says.
    async fn receive(&mut self, has_body: bool) -> Response {
        let receiving = async {
            let end = loop {
                if let Some(end) = self.input.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                    break end + 4;
                }
                assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0, "closed");
            };
            let head = String::from_utf8(self.input.drain(..end).collect()).unwrap();
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            let mut response = Response { status, head, body: Vec::new() };
            let len: usize = response.header("Content-Length").unwrap().parse().unwrap();
            let len = if has_body { len } else { 0 };
            while self.input.len() < len {
                assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0, "closed");
            }
            response.body = self.input.drain(..len).collect();
            response
        };
        timeout(Duration::from_secs(10), receiving).await.expect("the server is silent")
    }

    /// Waits until the server closes; returns what came before.
    async fn closed(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.input);
        // A reset is an end too.
        let reading = self.stream.read_to_end(&mut rest);
        let _ = timeout(Duration::from_secs(10), reading).await.expect("the server holds on");
        rest
    }
}

#[tokio::test]
async fn files_of_any_length_come_whole() {
    for len in [0, 1, 16_384, 262_143, 262_144, 262_145, 3_000_000] {
        let bytes = numbered(len);
        let booter = FakeBooter::default().with("/m", &bytes).with_file("/f", &bytes);
        let server = Server::start(booter).await;
        let mut client = server.connect().await;
        for path in ["/m", "/f", "/f?query"] {
            let response = client.get(path, "").await;
            assert_eq!(response.status, 200);
            assert_eq!(response.header("Content-Type"), Some("application/efi"));
            assert!(response.body == bytes, "{path} {len}");
        }
    }
}

#[tokio::test]
async fn a_head_has_the_length_and_no_body() {
    let server = Server::start(FakeBooter::default().with_file("/f", &numbered(5000))).await;
    let mut client = server.connect().await;
    let response = client.head("/f").await;
    assert_eq!((response.status, response.header("Content-Length")), (200, Some("5000")));
    let missing = client.head("/g").await;
    assert_eq!(missing.status, 404);
    // Were there a body, it would stand before this answer.
    assert_eq!(client.get("/f", "").await.body, numbered(5000));
    let events = server.booter.events();
    assert_eq!(events.first(), Some(&Event::Probed(TICKET)));
    server.booter.wait_for_delivery("/f").await;
}

#[tokio::test]
async fn requests_may_follow_without_waiting() {
    let booter = FakeBooter::default().with("/a", b"first").with("/b", b"second");
    let server = Server::start(booter).await;
    let mut client = server.connect().await;
    let both = "GET /a HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n";
    client.send(both).await;
    assert_eq!(client.receive(true).await.body, b"first");
    assert_eq!(client.receive(true).await.body, b"second");
}

#[tokio::test]
async fn a_request_may_come_byte_by_byte() {
    let server = Server::start(FakeBooter::default().with("/f", b"hello")).await;
    let mut client = server.connect().await;
    client.stream.set_nodelay(true).unwrap();
    for byte in b"GET /f HTTP/1.1\r\nHost: h\r\n\r\n" {
        client.stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(client.receive(true).await.body, b"hello");
}

#[tokio::test]
async fn parts_are_served() {
    let bytes = numbered(1_000_000);
    let server = Server::start(FakeBooter::default().with_file("/f", &bytes)).await;
    let mut client = server.connect().await;
    for (range, part) in [
        ("0-0", 0..1),
        ("5-700000", 5..700_001),
        ("999999-", 999_999..1_000_000),
        ("-300000", 700_000..1_000_000),
        ("3-5000000", 3..1_000_000),
    ] {
        let response = client.get("/f", &format!("Range: bytes={range}\r\n")).await;
        let content_range = format!("bytes {}-{}/1000000", part.start, part.end - 1);
        assert_eq!(response.status, 206);
        assert_eq!(response.header("Content-Range"), Some(content_range.as_str()));
        assert!(response.body == bytes[part], "{range}");
    }
}

#[tokio::test]
async fn a_part_beyond_the_end_is_refused_and_several_are_the_whole() {
    let server = Server::start(FakeBooter::default().with("/f", b"0123456789")).await;
    let mut client = server.connect().await;
    let response = client.get("/f", "Range: bytes=10-\r\n").await;
    assert_eq!((response.status, response.header("Content-Range")), (416, Some("bytes */10")));
    let response = client.get("/f", "Range: bytes=0-1,5-6\r\n").await;
    assert_eq!((response.status, response.body.as_slice()), (200, &b"0123456789"[..]));
}

#[tokio::test]
async fn refusals_say_why_in_plain_text() {
    let server = Server::start(FakeBooter::default()).await;
    let mut client = server.connect().await;
    let missing = client.get("/boot/none.efi", "").await;
    assert_eq!(missing.status, 404);
    assert_eq!(missing.body, b"no file /boot/none.efi for this machine\n");
    assert_eq!(missing.header("Content-Type"), Some("text/plain; charset=utf-8"));
    let refused = client.get("/refused", "").await;
    assert_eq!(
        (refused.status, refused.body.as_slice()),
        (403, &b"this machine boots from its disk\n"[..])
    );
    let long = format!("GET /{} HTTP/1.1\r\n", "a".repeat(9000));
    for (request, status) in [
        ("POST /f HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", 405),
        ("GET /f HTTP/1.1\r\n\r\n", 400),
        ("\x16\x03\x01\x00\x00", 400),
        ("GET /%00 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
        ("GET /f HTTP/2.0\r\n\r\n", 505),
        (long.as_str(), 431),
    ] {
        let mut client = server.connect().await;
        client.send(request).await;
        let response = client.receive(true).await;
        assert_eq!(response.status, status, "{request}");
        assert!(response.body.ends_with(b"\n") && response.body.len() > 10);
        assert_eq!(response.header("Connection"), Some("close"));
        assert_eq!(client.closed().await, b"");
    }
}

#[tokio::test]
async fn http_1_0_closes_unless_asked_to_stay() {
    let server = Server::start(FakeBooter::default().with("/f", b"hello")).await;
    let mut client = server.connect().await;
    client.send("GET /f HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").await;
    assert_eq!(client.receive(true).await.header("Connection"), Some("keep-alive"));
    client.send("GET /f HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.receive(true).await.body, b"hello");
    assert_eq!(client.closed().await, b"");
}

#[tokio::test]
async fn a_slow_head_and_an_idle_connection_are_closed() {
    let (head, idle) = (Duration::from_millis(200), Duration::from_millis(200));
    let options = Options { head, idle, ..Options::default() };
    let server = Server::start_with(FakeBooter::default().with("/f", b"x"), options).await;
    let (mut silent, mut slow, mut idle) =
        (server.connect().await, server.connect().await, server.connect().await);
    idle.get("/f", "").await;
    slow.send("GET /f HTTP/1.1\r\nHo").await;
    assert_eq!(slow.receive(true).await.status, 408);
    assert_eq!(slow.closed().await, b"");
    assert_eq!(silent.closed().await, b"");
    assert_eq!(idle.closed().await, b"");
}

#[tokio::test]
async fn many_slow_clients_do_not_keep_a_fast_one_waiting() {
    let options = Options { per_address: 300, ..Options::default() };
    let server = Server::start_with(FakeBooter::default().with("/f", b"fast"), options).await;
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut client = server.connect().await;
        client.send("GET /f HTTP/1.1\r\nHost:").await;
        slow.push(client);
    }
    let started = Instant::now();
    assert_eq!(server.connect().await.get("/f", "").await.body, b"fast");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    for client in &mut slow {
        client.send(" h\r\n\r\n").await;
        assert_eq!(client.receive(true).await.body, b"fast");
    }
}

#[tokio::test]
async fn connections_of_one_client_beyond_the_limit_are_told_so() {
    let options = Options { per_address: 2, ..Options::default() };
    let server = Server::start_with(FakeBooter::default().with("/f", b"x"), options).await;
    let (mut first, mut second) = (server.connect().await, server.connect().await);
    first.get("/f", "").await;
    second.get("/f", "").await;
    let mut third = server.connect().await;
    let refused = third.get("/f", "").await;
    assert_eq!((refused.status, refused.header("Retry-After")), (503, Some("1")));
    drop(first);
    // Its place is free as soon as the server has seen it go.
    let served = async {
        loop {
            if server.connect().await.get("/f", "").await.status == 200 {
                break;
            }
        }
    };
    timeout(Duration::from_secs(10), served).await.unwrap();
    second.get("/f", "").await;
}

#[tokio::test]
async fn clients_beyond_the_limit_wait_and_none_is_refused() {
    let options = Options { connections: 5, ..Options::default() };
    let bytes = numbered(300_000);
    let booter = FakeBooter::default().with_file("/f", &bytes);
    let server = Arc::new(Server::start_with(booter, options).await);
    // They keep their connections, and ask for nothing more.
    let mut idle = Vec::new();
    for _ in 0..5 {
        let mut client = server.connect().await;
        assert_eq!(client.head("/f").await.status, 200);
        idle.push(client);
    }
    let clients: Vec<_> = (0..40)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move {
                let mut client = server.connect().await;
                let response = client.get("/f", "").await;
                (response, client)
            })
        })
        .collect();
    let mut done = Vec::new();
    for client in clients {
        let (response, client) = client.await.unwrap();
        assert_eq!((response.status, response.body.len()), (200, bytes.len()));
        assert!(response.body == bytes);
        done.push(client);
    }
    for client in &mut idle {
        assert_eq!(client.closed().await, b"");
    }
}

/// With places for 1,500, as of 12,000 descriptors; the others have theirs in turn.
#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_downloads_at_once_are_all_served() {
    // A client and its connection, some with a file.
    hostfs::raise_open_files_limit().unwrap();
    if hostfs::open_files_limit() < 6000 {
        return eprintln!("skipped: there are not 6,000 descriptors (ulimit -n)");
    }
    let bytes = numbered(100_000);
    let options = Options { connections: 1500, per_address: 2000, ..Options::default() };
    let booter = FakeBooter::default().with_file("/f", &bytes);
    let server = Arc::new(Server::start_with(booter, options).await);
    let clients: Vec<_> = (0..2000)
        .map(|_| {
            let (server, bytes) = (Arc::clone(&server), bytes.clone());
            tokio::spawn(async move {
                let response = server.connect().await.get("/f", "").await;
                response.status == 200 && response.body == bytes
            })
        })
        .collect();
    let mut served = 0;
    for client in clients {
        served += u32::from(client.await.is_ok_and(|whole| whole));
    }
    assert_eq!(served, 2000);
}

#[tokio::test]
async fn who_takes_little_loses_its_place_where_others_wait() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = folder.path().join("f");
    std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    let booter = FakeBooter::default().with_path("/f", &path).with_file("/g", b"short");
    let stall = Duration::from_secs(1);
    let options = Options { connections: 2, stall, least_rate: 100 << 20, ..Options::default() };
    let server = Server::start_with(booter, options).await;
    for _ in 0..2 {
        let mut client = server.connect().await;
        client.send("GET /f HTTP/1.1\r\nHost: h\r\n\r\n").await;
        tokio::spawn(async move {
            let mut bytes = vec![0; 64 << 10];
            while client.stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    server.booter.wait_for(|event| matches!(event, Event::Sent { .. })).await;
    let waiting = async { server.connect().await.get("/g", "").await.status };
    assert_eq!(timeout(Duration::from_secs(20), waiting).await, Ok(200));
    let failed = server.booter.wait_for(|event| matches!(event, Event::Failed { .. })).await;
    let reason = "the client took too little of it while others waited".to_owned();
    assert_eq!(failed, Event::Failed { name: "/f".to_owned(), reason });
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_sent_is_never_filled_up() {
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = folder.path().join("f");
    let bytes = numbered(30_000_000);
    std::fs::write(&path, &bytes).unwrap();
    let server = Server::start(FakeBooter::default().with_path("/f", &path)).await;
    let mut client = server.connect().await;
    client.send("GET /f HTTP/1.1\r\nHost: h\r\n\r\n").await;
    client.stream.read_buf(&mut client.input).await.unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(20_000_000 / 4096 * 4096).unwrap();
    let came = client.closed().await;
    let head = came.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap() + 4;
    let came = &came[head..];
    assert!(came.len() < 20_000_000 && *came == bytes[..came.len()], "{}", came.len());
    let failed = server.booter.wait_for(|event| matches!(event, Event::Failed { .. })).await;
    let reason = "the file could not be read to its end".to_owned();
    assert_eq!(failed, Event::Failed { name: "/f".to_owned(), reason });
}

#[tokio::test]
async fn a_file_that_shrinks_ends_the_connection() {
    let booter = FakeBooter::default().with_shrunken_file("/f", &[7; 600_000], 900_000);
    let server = Server::start(booter).await;
    let mut client = server.connect().await;
    client.send("GET /f HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let came = client.closed().await;
    assert!(came.len() < 700_000);
    let failed = server.booter.wait_for(|event| matches!(event, Event::Failed { .. })).await;
    let reason = "the file could not be read to its end".to_owned();
    assert_eq!(failed, Event::Failed { name: "/f".to_owned(), reason });
}

#[tokio::test]
async fn a_client_that_goes_away_has_failed() {
    let server = Server::start(FakeBooter::default().with_file("/f", &vec![7; 30_000_000])).await;
    let mut client = server.connect().await;
    client.send("GET /f HTTP/1.1\r\nHost: h\r\n\r\n").await;
    client.stream.read_buf(&mut client.input).await.unwrap();
    drop(client);
    let failed = server.booter.wait_for(|event| matches!(event, Event::Failed { .. })).await;
    let reason = "the client went away".to_owned();
    assert_eq!(failed, Event::Failed { name: "/f".to_owned(), reason });
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_given_up() {
    let options = Options { stall: Duration::from_millis(200), ..Options::default() };
    let booter = FakeBooter::default().with_file("/f", &vec![7; 30_000_000]);
    let server = Server::start_with(booter, options).await;
    let mut client = server.connect().await;
    client.send("GET /f HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let failed = server.booter.wait_for(|event| matches!(event, Event::Failed { .. })).await;
    let reason = "the client took nothing for too long".to_owned();
    assert_eq!(failed, Event::Failed { name: "/f".to_owned(), reason });
}

#[tokio::test]
async fn progress_is_told_now_and_then_and_the_end_once() {
    let booter = FakeBooter::default().with_file("/f", &vec![7; 20_000_000]);
    let server = Server::start(booter).await;
    let started = Instant::now();
    assert_eq!(server.connect().await.get("/f", "").await.body.len(), 20_000_000);
    server.booter.wait_for_delivery("/f").await;
    let count = server.booter.events().len() as u128;
    assert!(count <= 1 + started.elapsed().as_millis() / 300 + 1, "{count}");
}

#[tokio::test]
async fn ending_lets_answers_finish_and_closes_the_idle() {
    let bytes = numbered(10_000_000);
    let mut server = Server::start(FakeBooter::default().with_file("/f", &bytes)).await;
    let (mut busy, mut idle, mut new) =
        (server.connect().await, server.connect().await, server.connect().await);
    idle.head("/f").await;
    busy.send("GET /f HTTP/1.1\r\nHost: h\r\n\r\n").await;
    busy.stream.read_buf(&mut busy.input).await.unwrap();
    server.shutdown.take().unwrap().send(()).unwrap();
    assert_eq!(idle.closed().await, b"");
    assert_eq!(new.closed().await, b"");
    assert!(busy.receive(true).await.body == bytes);
    timeout(Duration::from_secs(5), &mut server.task).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_fetches_and_resumes() {
    if !is_installed("curl") {
        return;
    }
    let bytes = numbered(5_000_000);
    let server = Server::start(FakeBooter::default().with_file("/boot/f x", &bytes)).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f");
    let url = format!("http://{}/boot/f%20x", server.address);
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "30"]);
    run(curl.arg("--output").arg(&path).arg(&url)).await;
    assert!(std::fs::read(&path).unwrap() == bytes);
    std::fs::write(&path, &bytes[..1_234_567]).unwrap();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail", "--max-time", "30", "--continue-at", "-"]);
    run(curl.arg("--output").arg(&path).arg(&url)).await;
    assert!(std::fs::read(&path).unwrap() == bytes);
}
