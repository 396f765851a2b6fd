//! Registering with a real rpcbind, in namespaces of the test's own.

#![cfg(all(test, target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "what a test needs and cannot have fails the test")]

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::panic::{catch_unwind, resume_unwind};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;

use netbe::net::rpc::Transport;
use netbe::nfs::portmap::{Mapper, RegisterError, Service, register, unregister};

const MOUNT: Service =
    Service { program: 100_005, version: 3, transport: Transport::Udp, port: 20_048 };

const SERVICES: [Service; 2] = [MOUNT, Service { transport: Transport::Tcp, ..MOUNT }];

/// The thread has a network and a `/run` of its own; they end with it and with what it started.
#[test]
fn rpcbind_takes_registrations_and_gives_them_back() {
    for tool in ["rpcbind", "rpcinfo", "ip", "mount"] {
        if !Command::new("which").arg(tool).output().is_ok_and(|found| found.status.success()) {
            eprintln!("skipped: {tool} is not installed");
            return;
        }
    }
    if !geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return;
    }
    let inside = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        run("mount", &["--make-rprivate", "/"]);
        run("mount", &["-t", "tmpfs", "none", "/run"]);
        // The user that it becomes comes with Debian's package, of which there may be the program alone.
        let users = fs::read_to_string("/etc/passwd").unwrap();
        let user = "_rpc:x:65533:65534::/run/rpcbind:/usr/sbin/nologin";
        fs::write("/run/passwd", format!("{users}\n{user}\n")).unwrap();
        run("mount", &["--bind", "/run/passwd", "/etc/passwd"]);
        run("ip", &["link", "set", "lo", "up"]);
        let mut rpcbind = Command::new("rpcbind").args(["-f", "-w"]).spawn().unwrap();
        let outcome = catch_unwind(registrations);
        rpcbind.kill().unwrap();
        rpcbind.wait().unwrap();
        outcome.unwrap_or_else(|panic| resume_unwind(panic));
    });
    inside.join().unwrap_or_else(|panic| resume_unwind(panic));
}

fn registrations() {
    let host = Mapper::of_host();
    wait_for(host.address);
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let by_socket = Mapper { address: nobody, ..host.clone() };
    let by_port = Mapper { sockets: Vec::new(), ..host.clone() };
    for mapper in [&by_socket, &by_port, &host] {
        register(mapper, &SERVICES).unwrap();
        assert_eq!(registered(), ["100005 3 tcp 20048", "100005 3 udp 20048"]);
        let owners = run("rpcinfo", &["127.0.0.1"]);
        let owners = owners.lines().filter(|line| line.trim_start().starts_with("100005"));
        assert!(owners.clone().all(|line| line.ends_with("superuser")), "{mapper:?}");
        assert_eq!(owners.count(), 2);

        // Nobody has that port any more.
        let moved = SERVICES.map(|service| Service { port: 999, ..service });
        register(mapper, &moved).unwrap();
        let there = ["100005 3 tcp 999", "100005 3 udp 999"];
        assert_eq!(registered(), there);

        // A mountd that runs keeps its place, whether netbe comes or goes.
        let mountd = (TcpListener::bind("0.0.0.0:999"), UdpSocket::bind("0.0.0.0:999"));
        let refused = register(mapper, &SERVICES).unwrap_err();
        assert!(
            matches!(refused, RegisterError::Other { program: 100_005, port: 999 }),
            "{refused}"
        );
        unregister(mapper, &SERVICES).unwrap();
        assert_eq!(registered(), there);
        drop(mountd);

        register(mapper, &moved).unwrap();
        let _netbe = (TcpListener::bind("0.0.0.0:999"), UdpSocket::bind("0.0.0.0:999"));
        unregister(mapper, &moved).unwrap();
        assert_eq!(registered(), [""; 0]);
    }
}

/// Waits until rpcbind answers, for ten seconds at most.
fn wait_for(mapper: SocketAddr) {
    let end = Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(mapper).is_err() {
        assert!(Instant::now() < end, "rpcbind does not answer");
        thread::sleep(Duration::from_millis(20));
    }
}

/// What rpcinfo shows of MOUNT: program, version, protocol, port.
fn registered() -> Vec<String> {
    let list = run("rpcinfo", &["-p", "127.0.0.1"]);
    let lines = list.lines().map(|line| line.split_whitespace().take(4).collect::<Vec<_>>());
    let mut mounts: Vec<String> =
        lines.filter(|line| line.first() == Some(&"100005")).map(|line| line.join(" ")).collect();
    mounts.sort();
    mounts
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
