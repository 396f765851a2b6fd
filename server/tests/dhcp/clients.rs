//! Real DHCP clients against the server on real sockets.
//!
//! A test makes two network namespaces joined by a pair of virtual interfaces: its own thread
//! serves in one, clients run in the other. Neither has a name; both are gone when the test ends.
//! That needs root and iproute2; without them the test says so and proves nothing.

use std::fs::{self, File};
use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use netbe::boot::{Answer, Client};
use netbe::clock::SystemClock;
use netbe::dhcp::{Dhcp, Mode, State};
use netbe::net::Mac;
use netbe::net::interface::Interface;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::task::spawn_blocking;

use crate::bench::{Fake, RECORDED, SERVER, settings};

const RANGE: &str = "10.77.0.100-10.77.0.199";

#[test]
fn udhcpc_gets_its_lease_and_gives_it_back() {
    with_client(["ip", "udhcpc"], |stage| async move {
        let said = stage.path("said");
        let script = format!(
            "[ \"$1\" = bound ] || exit 0\n\
             env > {0}.new\nip address add $ip/$mask dev $interface\nmv {0}.new {0}\n",
            said.display()
        );
        let script = stage.script("udhcpc.sh", &script);
        let mut udhcpc = stage.in_client("udhcpc");
        udhcpc.args(["-f", "-R", "-n", "-t", "5", "-T", "1", "-O", "rootpath", "-i", "c0", "-s"]);
        let mut udhcpc = udhcpc.arg(script).stderr(Stdio::null()).spawn().unwrap();
        stage.until(|_| said.exists()).await;
        let words = fs::read_to_string(said).unwrap();
        for line in ["ip=10.77.0.100", "subnet=255.255.255.0", "rootpath=/be/head", "lease=3600"] {
            assert!(words.lines().any(|said| said == line), "no {line} in\n{words}");
        }
        let pid = Pid::from_raw(i32::try_from(udhcpc.id()).unwrap());
        kill(pid, Signal::SIGTERM).unwrap();
        stage.until(|dhcp| dhcp.bindings()[0].state == State::Released).await;
        assert_eq!(stage.dhcp.bindings()[0].mac, RECORDED);
        spawn_blocking(move || udhcpc.wait()).await.unwrap().unwrap();
    });
}

#[test]
fn dhclient_gets_a_lease_by_unicast_and_the_same_one_again() {
    with_client(["ip", "dhclient"], |stage| async move {
        let said = stage.path("said");
        let script = format!("echo $reason $new_ip_address >> {}\nexit 0\n", said.display());
        let script = stage.script("dhclient.sh", &script);
        for _ in 0..2 {
            let (pid, leases) = (stage.path("pid"), stage.path("client-leases"));
            let dhclient = |stage: &Stage| {
                let mut dhclient = stage.in_client("dhclient");
                dhclient.args(["-4", "-1"]).arg("-sf").arg(&script);
                dhclient.arg("-pf").arg(&pid).arg("-lf").arg(&leases).arg("c0");
                dhclient
            };
            let mut begin = dhclient(&stage);
            let output = spawn_blocking(move || begin.output()).await.unwrap().unwrap();
            assert!(output.status.success(), "{output:?}");
            let mut end = dhclient(&stage);
            end.arg("-x");
            spawn_blocking(move || end.output()).await.unwrap().unwrap();
        }
        let said = fs::read_to_string(said).unwrap();
        // The client never takes the address: its replies go out as frames, and need no neighbour.
        let known = Command::new("ip").args(["neighbour", "show", "dev", "s0"]).output().unwrap();
        let known = String::from_utf8(known.stdout).unwrap();
        assert!(!known.contains("10.77.0.100"), "{known}");
        // The second time it remembers its lease and asks for it without a DISCOVER.
        for line in ["BOUND 10.77.0.100", "REBOOT 10.77.0.100"] {
            assert!(said.lines().any(|seen| seen == line), "no {line} in\n{said}");
        }
    });
}

#[test]
fn a_second_server_finds_the_first_and_stays_silent() {
    with_client(["ip"], |stage| async move {
        stage.command_in_client("ip", &["address", "add", "10.77.0.2/24", "dev", "c0"]);
        let space = File::open(format!("/proc/{}/ns/net", stage.client.id())).unwrap();
        let journal = stage.path("second-leases");
        let second = thread::spawn(move || {
            setns(space, CloneFlags::CLONE_NEWNET).unwrap();
            runtime().block_on(async {
                let dhcp = Dhcp::open(settings(RANGE), Arc::<Fake>::default(), &journal, clock());
                let dhcp = dhcp.unwrap();
                let interface = Interface::by_name("c0").unwrap().unwrap();
                let bound = dhcp.bind(interface, Mode::Serve).await.unwrap();
                let listener = bound.look().await.unwrap();
                (listener.mode(), listener.foreign(), dhcp.foreign()[0].address)
            })
        });
        let found = spawn_blocking(move || second.join().unwrap()).await.unwrap();
        assert_eq!(found, (Mode::Passive, Some(SERVER), SERVER));
    });
}

/// A server that runs, and a place for clients.
struct Stage {
    dhcp: Arc<Dhcp>,
    /// Holds the clients' namespace; it ends when its input does.
    client: Child,
    folder: tempfile::TempDir,
}

impl Stage {
    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, name: &str, body: &str) -> std::path::PathBuf {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{body}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A program to be run in the clients' namespace, for twenty seconds at most.
    fn in_client(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "-t", &self.client.id().to_string(), "timeout", "20", program]);
        command
    }

    fn command_in_client(&self, program: &str, args: &[&str]) {
        succeeds(self.in_client(program).args(args).output());
    }

    /// Waits for something that the server is about to do, for ten seconds at most.
    async fn until(&self, done: impl Fn(&Dhcp) -> bool) {
        let wait = async {
            while !done(&self.dhcp) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        drop(self.client.stdin.take());
        self.client.wait().unwrap();
    }
}

/// Runs a test with a serving thread and a client's namespace, if that can be had here.
fn with_client<F: Future<Output = ()>>(
    programs: impl IntoIterator<Item = &'static str>,
    test: impl FnOnce(Stage) -> F + Send + 'static,
) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: network namespaces need root");
        return;
    }
    for program in programs {
        let found = Command::new("which").arg(program).output();
        if !found.is_ok_and(|output| output.status.success()) {
            eprintln!("skipped: {program} is not installed");
            return;
        }
    }
    // The thread's namespace ends with the thread.
    let result = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        runtime().block_on(async {
            let stage = stage().await;
            test(stage).await;
        });
    });
    if let Err(panic) = result.join() {
        std::panic::resume_unwind(panic);
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

async fn stage() -> Stage {
    let mut holder = Command::new("unshare");
    holder.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut client = holder.spawn().unwrap();
    // When it repeats a line it is in its namespace.
    client.stdin.as_mut().unwrap().write_all(b"here\n").unwrap();
    let mut line = String::new();
    BufReader::new(client.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let dhcp = serve(&folder.path().join("leases"), &client).await;
    let stage = Stage { dhcp, client, folder };
    stage.command_in_client("ip", &["link", "set", "c0", "up"]);
    stage
}

async fn serve(journal: &Path, client: &Child) -> Arc<Dhcp> {
    let peer = client.id().to_string();
    let mac = RECORDED.to_string();
    let commands: [&[&str]; 3] = [
        &["link", "add", "s0", "type", "veth", "peer", "name", "c0", "netns", &peer],
        &["address", "add", "10.77.0.1/24", "dev", "s0"],
        &["link", "set", "s0", "up"],
    ];
    for command in commands {
        succeeds(Command::new("ip").args(command).output());
    }
    let set_mac = ["--net", "-t", &peer, "ip", "link", "set", "c0", "address", &mac];
    succeeds(Command::new("nsenter").args(set_mac).output());

    let fake = Arc::new(Fake::default());
    let root_path = Some("/be/head".to_owned());
    let answer = Answer { root_path, ..Answer::default() };
    fake.answers.lock().unwrap().insert(Client::Ordinary, answer);
    let dhcp = Dhcp::open(settings(RANGE), fake, journal, clock()).unwrap();
    let interface = Interface::by_name("s0").unwrap().unwrap();
    assert_ne!(interface.mac, None::<Mac>);
    let bound = dhcp.bind(interface, Mode::Serve).await.unwrap();
    let listener = bound.look().await.unwrap();
    assert_eq!((listener.mode(), listener.foreign()), (Mode::Serve, None));
    tokio::spawn(listener.run());
    dhcp
}

fn clock() -> Arc<SystemClock> {
    Arc::new(SystemClock)
}

fn succeeds(output: std::io::Result<Output>) {
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
}
