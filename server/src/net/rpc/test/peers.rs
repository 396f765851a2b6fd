//! Whose machine answers, between two network name spaces.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Shutdown, TcpStream as Stream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::geteuid;

use super::*;

const SERVER: &str = "10.77.1.1:0";
const MACHINE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 1, 2));

/// A server, and a machine at the other end of a cable.
struct Cable {
    machine: Child,
    running: Running,
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.machine.kill().unwrap();
        self.machine.wait().unwrap();
    }
}

impl Cable {
    fn new() -> Self {
        let mut holder = Command::new("unshare");
        holder.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut machine = holder.spawn().unwrap();
        // When it repeats a line it is in its name space.
        machine.stdin.as_mut().unwrap().write_all(b"here\n").unwrap();
        let mut line = String::new();
        BufReader::new(machine.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let peer = machine.id().to_string();
        // A switch stands between the two: its other cable stays when the machine is switched off.
        ip(&["link", "add", "b0", "type", "bridge"]);
        ip(&["link", "add", "s0", "type", "veth", "peer", "name", "c0", "netns", &peer]);
        ip(&["link", "add", "s1", "type", "veth", "peer", "name", "s2"]);
        for port in ["s0", "s1"] {
            ip(&["link", "set", port, "master", "b0"]);
        }
        ip(&["address", "add", "10.77.1.1/24", "dev", "b0"]);
        for link in ["b0", "s0", "s1", "s2"] {
            ip(&["link", "set", link, "up"]);
        }
        let running = Running::at(SERVER, Options::default());
        let cable = Self { machine, running };
        cable.in_machine(&["ip", "address", "add", "10.77.1.2/24", "dev", "c0"]);
        cable.in_machine(&["ip", "link", "set", "c0", "up"]);
        cable
    }

    fn in_machine(&self, command: &[&str]) {
        let mut enter = Command::new("nsenter");
        enter.arg(format!("--net=/proc/{}/ns/net", self.machine.id())).args(command);
        assert!(enter.status().unwrap().success());
    }

    /// A connection of the machine, over which a call was answered.
    async fn connect(&self) -> Stream {
        let space = File::open(format!("/proc/{}/ns/net", self.machine.id())).unwrap();
        let server = self.running.tcp;
        let connecting = thread::spawn(move || {
            setns(space, CloneFlags::CLONE_NEWNET).unwrap();
            Stream::connect(server).unwrap()
        });
        let joined = tokio::task::spawn_blocking(move || connecting.join().unwrap());
        let mut stream = joined.await.unwrap();
        let known = self.running.server.counts().calls;
        stream.write_all(&framed(&call(1, PROGRAM, 2, 0, b""))).unwrap();
        self.running.until(|counts| counts.calls > known).await;
        stream
    }

    /// What is known of the machine, and how long it took.
    async fn ask(&self, deadline: Duration) -> (Life, Duration) {
        let asked = Instant::now();
        let (answer, answered) = tokio::sync::oneshot::channel();
        let give = Box::new(move |life| answer.send(life).unwrap());
        self.running.peers.ask(MACHINE, deadline, give);
        let life = timeout(TEST_TIMEOUT, answered).await.expect("nobody answers").unwrap();
        (life, asked.elapsed())
    }
}

fn ip(args: &[&str]) {
    assert!(Command::new("ip").args(args).status().unwrap().success());
}

/// Runs a test on a thread with a network of its own.
fn with_cable<F: Future<Output = ()>>(test: impl FnOnce(Cable) -> F + Send + 'static) {
    for tool in ["ip", "unshare", "nsenter"] {
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
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { test(Cable::new()).await });
    });
    inside.join().unwrap();
}

const LONG: Duration = Duration::from_secs(10);

#[test]
fn nothing_is_known_of_a_machine_without_a_connection() {
    with_cable(|cable| async move {
        assert_eq!(cable.ask(LONG).await.0, Life::Unknown);
        let stream = cable.connect().await;
        stream.shutdown(Shutdown::Both).unwrap();
        while cable.running.server.open_connections() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(cable.ask(LONG).await.0, Life::Unknown);
    });
}

#[test]
fn an_idle_machine_that_runs_answers() {
    with_cable(|cable| async move {
        let _stream = cable.connect().await;
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let (life, took) = cable.ask(LONG).await;
        assert_eq!(life, Life::Answers);
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert_eq!(cable.ask(LONG).await.0, Life::Answers);
    });
}

#[test]
fn a_machine_that_was_switched_off_is_dead_within_seconds() {
    with_cable(|cable| async move {
        let (_one, _two) = (cable.connect().await, cable.connect().await);
        cable.in_machine(&["ip", "link", "set", "c0", "down"]);
        let (life, took) = cable.ask(LONG).await;
        assert_eq!(life, Life::Dead);
        assert!(took < Duration::from_secs(7), "{took:?}");
    });
}

#[test]
fn a_machine_that_was_started_anew_is_dead_as_soon_as_it_is_asked() {
    with_cable(|cable| async move {
        let stream = cable.connect().await;
        cable.in_machine(&["ip", "link", "set", "c0", "down"]);
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        cable.in_machine(&["ip", "link", "set", "c0", "up"]);
        let (life, took) = cable.ask(LONG).await;
        assert_eq!(life, Life::Dead);
        assert!(took < Duration::from_secs(3), "{took:?}");
    });
}

#[test]
fn an_address_is_asked_once_however_many_want_to_know() {
    with_cable(|cable| async move {
        let _stream = cable.connect().await;
        cable.in_machine(&["ip", "link", "set", "c0", "down"]);
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        let (answer, mut answers) = tokio::sync::mpsc::unbounded_channel();
        for _ in 0..1000 {
            let answer = answer.clone();
            let give = Box::new(move |life| answer.send(life).unwrap());
            cable.running.peers.ask(MACHINE, LONG, give);
        }
        assert_eq!(tasks() - before, 1);
        // Who comes when it is too much is told at once.
        let at_once = answers.len();
        assert!((1..1000).contains(&at_once), "{at_once}");
        for place in 0..1000 {
            let life = timeout(TEST_TIMEOUT, answers.recv()).await.unwrap().unwrap();
            assert_eq!(life, if place < at_once { Life::Unknown } else { Life::Dead });
        }
    });
}

#[test]
fn a_machine_that_does_not_acknowledge_a_reply_is_dead_within_seconds() {
    with_cable(|cable| async move {
        let mut stream = cable.connect().await;
        stream.write_all(&framed(&call(2, PROGRAM, 2, Echo::KEEP, b""))).unwrap();
        cable.running.until(|counts| counts.calls == 2).await;
        cable.in_machine(&["ip", "link", "set", "c0", "down"]);
        for sink in cable.running.echo.kept.lock().unwrap().drain(..) {
            sink.reply(Outcome::Success, b"gone");
        }
        assert_eq!(cable.ask(LONG).await.0, Life::Dead);
    });
}

#[test]
fn nothing_is_known_of_a_machine_while_our_own_network_is_away() {
    let away: [fn(); 3] = [
        || ip(&["link", "set", "b0", "down"]),
        // A cable that is pulled out.
        || {
            ip(&["link", "set", "s1", "down"]);
            ip(&["link", "set", "s0", "down"]);
        },
        || {
            ip(&["link", "delete", "b0"]);
            ip(&["link", "add", "b0", "type", "bridge"]);
            ip(&["address", "add", "10.77.1.1/24", "dev", "b0"]);
            ip(&["link", "set", "s1", "master", "b0"]);
            ip(&["link", "set", "b0", "up"]);
        },
    ];
    for (case, away) in (1..).zip(away) {
        with_cable(move |cable| async move {
            let _stream = cable.connect().await;
            away();
            assert_eq!(cable.ask(LONG).await.0, Life::Unknown, "case {case}, before the question");
        });
        with_cable(move |cable| async move {
            let _stream = cable.connect().await;
            let later = async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                away();
            };
            let ((life, _), ()) = tokio::join!(cable.ask(LONG), later);
            assert!(matches!(life, Life::Answers | Life::Unknown), "case {case}: {life:?}");
        });
    }
}

#[test]
fn nothing_is_known_of_a_machine_that_had_no_time_to_answer() {
    with_cable(|cable| async move {
        let _stream = cable.connect().await;
        cable.in_machine(&["ip", "link", "set", "c0", "down"]);
        assert_eq!(cable.ask(Duration::from_millis(500)).await.0, Life::Unknown);
    });
}
