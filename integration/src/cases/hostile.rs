//! A minute of nonsense on every socket of a running server.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{During, Failure, ensure};
use crate::interrupt;
use crate::lab::Lab;
use crate::net::{Network, SERVER};
use crate::noise::Noise;
use crate::packages;
use crate::scene::Scene;
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[Case::new("hostile bytes for a minute", hostile)];

fn hostile(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let (site, network) = (scene.site(), &scene.network);
    network.address_the_client()?;
    scene.environment("guest", "true")?;
    site.run("sharenfs --network 10.77.0.0/24 guest")?;
    let mut server = site.serve()?;
    let rpcinfo = rpcinfo(lab)?;
    let targets = targets(&rpcinfo, network)?;

    // Buffers and pools fill in the beginning; what they hold is not growth.
    make_noise(network, &targets, SEED, Duration::from_secs(15))?;
    server.check()?;
    let before = server.resident()?;
    make_noise(network, &targets, SEED + 1, Duration::from_secs(60))?;
    server.check()?;
    let after = server.resident()?;
    ensure(after < before + GROWTH, || {
        format!("netbe grew from {before} KiB to {after} KiB (seed {SEED})")
    })?;
    for (program, version) in [("100000", "2"), ("100003", "3"), ("100005", "3")] {
        for transport in ["-t", "-u"] {
            let ping = network.client.program(&rpcinfo).args([transport, SERVER, program, version]);
            ping.run(ANSWER_LIMIT)?;
        }
    }
    network
        .client
        .program("nfs-cat")
        .arg(format!("nfs://{SERVER}/be/guest/lab/task"))
        .run(ANSWER_LIMIT)?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// A program that asks a portmapper, and where it is.
pub(crate) fn rpcinfo(lab: &Lab) -> Result<String, Failure> {
    let path = packages::unpacked(&lab.cache, "rpcbind")?.join("usr/sbin/rpcinfo");
    Ok(path.display().to_string())
}

/// Every port of the netbe that runs on this network.
pub(crate) fn targets(rpcinfo: &str, network: &Network) -> Result<Vec<Target>, Failure> {
    let list = network.client.program(rpcinfo).args(["-p", SERVER]).run(ANSWER_LIMIT)?;
    Ok(with_mount(mount_port(&list)?))
}

/// A port of the server, and what a client would say there.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    port: u16,
    template: Vec<u8>,
    stream: bool,
}

/// Every port that netbe listens on; MOUNT's is another one each time.
fn with_mount(mount: u16) -> Vec<Target> {
    let calls = [
        (111, rpc_call(100_000, 2, 3, &[100_003, 3, 6, 0])),
        (mount, rpc_call(100_005, 3, 1, &[9, 0x2f62_652f, 0x6775_6573, 0x7400_0000])),
        (2049, rpc_call(100_003, 3, 3, &[32, 1, 2, 3, 4, 5, 6, 7, 8, 4, 0x626f_6f74])),
        (2049, rpc_call(100_003, 3, 6, &[32, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 4096])),
        (2049, rpc_call(100_003, 3, 7, &[32, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 4, 2, 4, 0])),
        (2049, rpc_call(100_003, 3, 17, &[32, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 512, 8192])),
    ];
    let mut targets = vec![
        Target { port: 67, template: discover(), stream: false },
        Target { port: 4011, template: discover(), stream: false },
        Target {
            port: 69,
            template: b"\0\x01undionly.kpxe\0octet\0blksize\x001432\0windowsize\x004\0".to_vec(),
            stream: false,
        },
        Target {
            port: 514,
            template: b"<34>1 2026-11-22T17:00:00Z web1 su - ID47 [x@1 y=\"z\"] \x1b[2J failed"
                .to_vec(),
            stream: false,
        },
        Target {
            port: 80,
            template: b"GET /b/0123456789abcdef/kernel HTTP/1.1\r\nHost: x\r\n\
                Range: bytes=0-99\r\n\r\n"
                .to_vec(),
            stream: true,
        },
    ];
    for (port, call) in calls {
        // A record of one last fragment (RFC 5531 §11).
        let length = u32::try_from(call.len()).unwrap_or(0) | 0x8000_0000;
        let record = [&length.to_be_bytes()[..], &call].concat();
        targets.push(Target { port, template: call, stream: false });
        targets.push(Target { port, template: record, stream: true });
    }
    targets
}

/// Sends nonsense from the clients' side to all targets for so long; the same for the same seed.
pub(crate) fn make_noise(
    network: &Network,
    targets: &[Target],
    seed: u64,
    duration: Duration,
) -> Result<(), Failure> {
    thread::scope(|scope| {
        // A thread enters a namespace alone, and ends there.
        let noise = scope.spawn(|| {
            network.client.enter()?;
            send_noise(targets, seed, duration)
        });
        noise.join().map_err(|_panic| Failure::said("the noise ended early"))?
    })
}

fn send_noise(targets: &[Target], seed: u64, duration: Duration) -> Result<(), Failure> {
    let server: Ipv4Addr = SERVER.parse().map_err(|_error| Failure::said(SERVER))?;
    let mut noise = Noise::new(seed);
    let begin = Instant::now();
    let mut held = Vec::new();
    let mut reached: u64 = 0;
    while begin.elapsed() < duration {
        interrupt::check()?;
        let socket = UdpSocket::bind("0.0.0.0:0").during("a socket of the noise")?;
        for target in targets.iter().filter(|target| !target.stream) {
            for _ in 0..20 {
                let message = noise.message(&target.template);
                // A full queue or an ICMP answer is no reason to stop.
                let _ = socket.send_to(&message, (server, target.port));
            }
        }
        for target in targets.iter().filter(|target| target.stream) {
            let address = SocketAddr::from((server, target.port));
            let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(2))
            else {
                continue;
            };
            reached += 1;
            stream.set_read_timeout(Some(Duration::from_millis(5))).during("the noise")?;
            stream.set_write_timeout(Some(Duration::from_millis(50))).during("the noise")?;
            for _ in 0..noise.below(4) + 1 {
                let _ = stream.write_all(&noise.message(&target.template));
            }
            let mut answer = [0; 4096];
            let _ = stream.read(&mut answer);
            // Some stay open without a word, as a machine does that was switched off.
            if noise.below(8) == 0 {
                held.push(stream);
            }
        }
        if held.len() > 64 {
            held.clear();
        }
    }
    ensure(reached > 0, || "no TCP connection to the server was accepted".to_owned())
}

/// A DHCPDISCOVER of a PXE ROM (RFC 2131 §4.4.1, RFC 4578).
fn discover() -> Vec<u8> {
    let mut message = vec![1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0x80, 0];
    message.resize(28, 0);
    message.extend_from_slice(&[0x52, 0x54, 0x00, 0x77, 0x00, 0x66]);
    message.resize(236, 0);
    message.extend_from_slice(&[99, 130, 83, 99, 53, 1, 1, 57, 2, 5, 0xc0, 93, 2, 0, 0, 94, 3, 1]);
    message.extend_from_slice(&[2, 1, 55, 5, 1, 3, 43, 60, 67, 60, 9]);
    message.extend_from_slice(b"PXEClient\xff");
    message
}

/// A call with AUTH_SYS credentials (RFC 5531 §9); `arguments` are XDR words.
fn rpc_call(program: u32, version: u32, procedure: u32, arguments: &[u32]) -> Vec<u8> {
    let header = [0x4e4f_4953, 0, 2, program, version, procedure];
    // Stamp, an empty machine name, user, group, no more groups; then an empty verifier.
    let credentials = [1, 20, 0, 0, 0, 0, 0, 0, 0];
    let words = header.iter().chain(&credentials).chain(arguments);
    words.flat_map(|word| word.to_be_bytes()).collect()
}

/// The UDP port of MOUNT version 3 in what `rpcinfo -p` printed.
fn mount_port(list: &str) -> Result<u16, Failure> {
    let port = list.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["100005", "3", "udp", port, ..] => port.parse().ok(),
            _other => None,
        }
    });
    port.ok_or_else(|| Failure::said(format!("rpcinfo lists no MOUNT 3:\n{list}")))
}

const SEED: u64 = 0x6e65_7462_6500;
/// By how much netbe may grow in a minute, in KiB; a leak of every message would be far more.
const GROWTH: u64 = 16 * 1024;
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
