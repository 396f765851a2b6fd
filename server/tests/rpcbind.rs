//! Registering with a real rpcbind, in namespaces of the test's own.

#![cfg(test)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use netbe::portmap::{Service, register, unregister};
use netbe::rpc::Transport;

const MOUNT: Service =
    Service { program: 100_005, version: 3, transport: Transport::Udp, port: 20_048 };

const SERVICES: [Service; 2] = [MOUNT, Service { transport: Transport::Tcp, ..MOUNT }];

/// Starts this program anew, where it has a network, a `/run` and processes of its own.
#[test]
fn rpcbind_takes_registrations_and_gives_them_back() {
    for tool in ["/usr/bin/unshare", "/usr/sbin/rpcbind", "/usr/sbin/rpcinfo"] {
        if !Path::new(tool).exists() {
            eprintln!("skipped: there is no {tool}");
            return;
        }
    }
    let separate = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if !Command::new("/usr/bin/unshare").args(separate).arg("true").status().unwrap().success() {
        eprintln!("skipped: namespaces need root");
        return;
    }
    let inside = Command::new("/usr/bin/unshare")
        .args(separate)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "inside", "--ignored", "--nocapture"])
        .status();
    assert!(inside.unwrap().success());
}

#[test]
#[ignore = "runs inside the namespaces that the other test makes"]
fn inside() {
    // The first process of a namespace cannot be confused with a test run on the host, whose /run
    // must not be hidden.
    assert_eq!(std::process::id(), 1, "only the other test can run this one");
    run("mount", &["-t", "tmpfs", "none", "/run"]);
    run("ip", &["link", "set", "lo", "up"]);
    // Without -f it returns when its sockets are bound; it ends with the namespace.
    run("/usr/sbin/rpcbind", &["-w"]);
    let mapper = SocketAddr::from(([127, 0, 0, 1], 111));

    register(mapper, &SERVICES).unwrap();
    assert_eq!(registered(), ["100005 3 tcp 20048", "100005 3 udp 20048"]);

    let moved = SERVICES.map(|service| Service { port: 999, ..service });
    register(mapper, &moved).unwrap();
    assert_eq!(registered(), ["100005 3 tcp 999", "100005 3 udp 999"]);

    unregister(mapper, &moved).unwrap();
    assert_eq!(registered(), [""; 0]);
}

/// What rpcinfo shows of MOUNT: program, version, protocol, port.
fn registered() -> Vec<String> {
    let list = run("/usr/sbin/rpcinfo", &["-p", "127.0.0.1"]);
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
