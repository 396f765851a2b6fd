//! A disk that hangs, behind the whole engine: what it costs, and whom.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use store::ExportSettings;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;
use wire::mount3::{self, DirPath};
use wire::nfs3::{CreateArgs, CreateHow, ReadArgs, Sattr, Stable, WriteArgs};
use wire::portmap2;
use wire::record::{self, Records};
use wire::rpc::{self, Accept, Reply};
use wire::xdr::Encoder;

use super::*;
use crate::clock::SystemClock;
use crate::net::datagram::{BindOptions, Datagrams};
use crate::net::rpc::{Options, Peers, Program, Server, listen};
use crate::nfs::export::bench::open_to_all;
use crate::nfs::mount::Mount;
use crate::nfs::portmap::Portmap;

const WELL: Uuid = Uuid::from_u128(2);

/// More than anything here takes.
const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What a healthy export may take on a busy computer. One that waits for the other takes for ever.
const BOUND: Duration = Duration::from_secs(2);

/// A server on loopback sockets, with `/be/head`, which will hang, and `/be/well`.
struct Stage {
    bench: Bench,
    well: Arc<MemFs>,
    server: Arc<Server>,
    tcp: SocketAddr,
    udp: SocketAddr,
}

impl Stage {
    fn new() -> Self {
        let settings = ExportSettings { insecure: true, ..open_to_all() };
        let disk = || MemFs::new().file("/motd", 0o666, b"hello").dir("/tmp", 0o1777).on_disk();
        let (tree, well) = (Arc::new(disk()), Arc::new(disk()));
        let site = Site::with_settings(&tree, settings.clone());
        site.publish(WELL, "well", &well, settings);
        let bench = Bench::of(site, tree);
        let mount = Arc::new(Mount::new(
            Arc::clone(&bench.site.exports),
            Arc::clone(&bench.site.booter) as Arc<dyn Booter>,
            Arc::clone(&bench.site.clock) as Arc<dyn Clock>,
        ));
        let programs: Vec<Arc<dyn Program>> =
            vec![Arc::new(Arc::clone(&bench.nfs)), Arc::new(mount), Arc::new(Portmap::new([]))];
        let options = Options { threads: 8, waiting: 256, ..Options::default() };
        let peers = Arc::<Peers>::default();
        let server = Server::new(programs, options, peers, Arc::new(SystemClock));
        let any = "127.0.0.1:0".parse().unwrap();
        let datagrams = Datagrams::bind(any, &BindOptions::default()).unwrap();
        let listener = listen(any).unwrap();
        let (udp, tcp) = (datagrams.local_addr(), listener.local_addr().unwrap());
        tokio::spawn(Arc::clone(&server).serve_udp(datagrams));
        tokio::spawn(Arc::clone(&server).serve_tcp(listener));
        Self { bench, well, server, tcp, udp }
    }

    /// The wire handle of a file of the export that is well.
    fn well(&self, path: &str) -> WireHandle {
        let export = self.bench.site.exports.of(WELL).unwrap();
        let file = if path == "/" { self.well.root() } else { self.well.at(path) };
        self.bench.site.exports.seal(&export, View::Joined, &file)
    }

    async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.tcp).await.unwrap();
        Connection { stream, records: Records::new(2 << 20) }
    }
}

struct Connection {
    stream: TcpStream,
    records: Records,
}

impl Connection {
    async fn send(&mut self, message: &[u8]) {
        let mut out = Vec::new();
        let place = record::begin(&mut out);
        out.extend_from_slice(message);
        record::end(&mut out, place).unwrap();
        self.stream.write_all(&out).await.unwrap();
    }

    async fn reply(&mut self) -> (u32, Vec<u8>) {
        loop {
            if let Some(reply) = self.records.next_record().unwrap() {
                return results(reply);
            }
            let read = timeout(TEST_TIMEOUT, self.stream.read_buf(self.records.space()));
            assert_ne!(read.await.expect("no reply").unwrap(), 0, "closed");
        }
    }
}

/// A transaction and its results.
fn results(reply: &[u8]) -> (u32, Vec<u8>) {
    let (xid, head, results) = Reply::decode(reply).unwrap();
    assert_eq!(head, Reply::Accepted(Accept::Success));
    (xid, results.to_vec())
}

fn message(xid: u32, program: (u32, u32), procedure: u32, args: &[u8]) -> Vec<u8> {
    let credential = rpc::Credential::None;
    let (program, version) = program;
    let call = rpc::Call { xid, program, version, procedure, credential, args };
    let mut out = Vec::new();
    call.encode(&mut Encoder::new(&mut out));
    out
}

fn nfs(xid: u32, procedure: Procedure, args: &[u8]) -> Vec<u8> {
    message(xid, (PROGRAM, VERSION), procedure.number(), args)
}

fn create(dir: &WireHandle, name: &str) -> Vec<u8> {
    let how = CreateHow::Unchecked(Sattr::default());
    CreateArgs { place: op(dir, name), how }.to_bytes()
}

fn read(file: &WireHandle) -> Vec<u8> {
    ReadArgs { file: fh(file), offset: 0, count: 5 }.to_bytes()
}

/// What is asked of an export: what may be in memory, and what changes something.
fn calls(root: &WireHandle, dir: &WireHandle, file: &WireHandle) -> [(Procedure, Vec<u8>); 4] {
    [
        (Procedure::Getattr, fs(file).to_bytes()),
        (Procedure::Lookup, op(root, "motd").to_bytes()),
        (Procedure::Read, read(file)),
        (Procedure::Create, create(dir, "new")),
    ]
}

fn status(results: &[u8]) -> u32 {
    u32::from_be_bytes(results[..4].try_into().unwrap())
}

const OK: u32 = 0;
const JUKEBOX: u32 = 10_008;

#[tokio::test]
async fn an_export_that_hangs_costs_only_its_own_clients() {
    let stage = Stage::new();
    let bench = &stage.bench;
    let bad = calls(&bench.root(), &bench.at("/tmp"), &bench.at("/motd"));
    let good = calls(&stage.well("/"), &stage.well("/tmp"), &stage.well("/motd"));
    let tree = Arc::clone(&bench.tree);
    let hung = tree.hang();

    // Hundreds of calls by TCP, and by UDP, wait for the disk that hangs.
    let mut victims = Vec::new();
    for number in 0..6 {
        let mut victim = stage.connect().await;
        for (xid, (procedure, args)) in (0..100).zip(bad.iter().cycle()) {
            victim.send(&nfs(number * 1000 + xid, *procedure, args)).await;
        }
        victims.push(victim);
    }
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (xid, (procedure, args)) in (0..200).zip(bad.iter().cycle()) {
        datagrams.send_to(&nfs(90_000 + xid, *procedure, args), stage.udp).unwrap();
    }

    // One connection has files of both exports.
    let mut both = stage.connect().await;
    for (xid, (procedure, args)) in (0..100).zip(bad.iter().cycle()) {
        both.send(&nfs(50_000 + xid, *procedure, args)).await;
    }
    both.send(&nfs(60_000, Procedure::Getattr, &good[0].1)).await;
    while both.reply().await.0 != 60_000 {}

    let mut worst = Duration::ZERO;
    let mut healthy = stage.connect().await;
    let healthy_udp = Arc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
    healthy_udp.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    let mount = (mount3::PROGRAM, mount3::VERSION);
    let portmap = (portmap2::PROGRAM, portmap2::VERSION);
    for round in 0..20 {
        let mut asked: Vec<Vec<u8>> = good
            .iter()
            .zip(round * 10..)
            .map(|((procedure, args), xid)| nfs(xid, *procedure, args))
            .collect();
        let (path, below) = (DirPath(b"/be/well").to_bytes(), DirPath(b"/be/well/tmp").to_bytes());
        asked.push(message(round * 10 + 5, mount, 1, &path));
        asked.push(message(round * 10 + 6, mount, 1, &below));
        asked.push(message(round * 10 + 7, portmap, 3, &[0; 16]));
        for message in asked {
            let began = Instant::now();
            healthy.send(&message).await;
            let (_, answer) = healthy.reply().await;
            worst = worst.max(began.elapsed());
            assert_eq!(status(&answer), OK);
            let began = Instant::now();
            let (socket, to) = (Arc::clone(&healthy_udp), stage.udp);
            let asked = tokio::task::spawn_blocking(move || {
                socket.send_to(&message, to).unwrap();
                let mut buf = [0; 1000];
                let len = socket.recv(&mut buf).unwrap();
                results(&buf[..len]).1
            });
            assert_eq!(status(&asked.await.unwrap()), OK);
            worst = worst.max(began.elapsed());
        }
    }
    assert!(worst < BOUND, "{worst:?}");

    // What is held is bounded; who came too late was told so.
    assert!(stage.server.counts().turned_away > 0);

    // On release every call of every connection is answered.
    drop(hung);
    let mut late = 0;
    for (number, victim) in (0..).zip(&mut victims) {
        let mut seen = Vec::new();
        for _ in 0..100 {
            let (xid, answer) = victim.reply().await;
            assert!(matches!(status(&answer), OK | JUKEBOX), "{}", status(&answer));
            late += u32::from(status(&answer) == OK);
            seen.push(xid);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..100).map(|xid| number * 1000 + xid).collect::<Vec<u32>>());
    }
    assert!(late > 0, "nothing was held for the disk");
    assert!(late <= 128, "more was held than a class may");
}

#[tokio::test]
async fn writes_of_a_megabyte_that_hang_stop_no_read_of_another_export() {
    let stage = Stage::new();
    let (stuck, data) = (stage.bench.at("/motd"), vec![7; 1 << 20]);
    let write = |place: u32| {
        let (file, offset, stable) = (fh(&stuck), u64::from(place) << 20, Stable::Unstable);
        WriteArgs { file, offset, stable, data: &data }.to_bytes()
    };
    let good = read(&stage.well("/motd"));
    let tree = Arc::clone(&stage.bench.tree);
    let hung = tree.hang();

    // Forty of them, five a connection; behind its own each connection reads the export that is well.
    let mut victims = Vec::new();
    for number in 0..8 {
        let mut victim = stage.connect().await;
        for xid in 0..5 {
            victim.send(&nfs(xid, Procedure::Write, &write(number * 5 + xid))).await;
        }
        victims.push(victim);
    }
    let mut worst = Duration::ZERO;
    for (number, victim) in (0..).zip(&mut victims) {
        let began = Instant::now();
        victim.send(&nfs(100 + number, Procedure::Read, &good)).await;
        let (xid, answer) = victim.reply().await;
        assert_eq!((xid, status(&answer)), (100 + number, OK));
        worst = worst.max(began.elapsed());
    }
    let mut healthy = stage.connect().await;
    for xid in 0..100 {
        let began = Instant::now();
        healthy.send(&nfs(xid, Procedure::Read, &good)).await;
        assert_eq!(status(&healthy.reply().await.1), OK);
        worst = worst.max(began.elapsed());
    }
    assert!(worst < BOUND, "{worst:?}");
    assert_eq!(stage.server.counts().turned_away, 0, "forty megabytes are within its share");

    drop(hung);
    for victim in &mut victims {
        for _ in 0..5 {
            assert_eq!(status(&victim.reply().await.1), OK);
        }
    }
}
