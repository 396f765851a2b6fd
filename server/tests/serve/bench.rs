//! A site of a test's own, two network namespaces, and the server running in one of them.

use std::env;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;

/// The server's address.
pub(crate) const SERVER: &str = "10.77.0.1";

/// The client's Ethernet address.
pub(crate) const MAC: &str = "52:54:00:00:00:01";

/// A site in a directory of the test's own.
pub(crate) struct Site {
    dir: TempDir,
}

/// What a command did.
pub(crate) struct Outcome {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) status: Option<i32>,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let status = output.status.code();
        Self { out: text(output.stdout), err: text(output.stderr), status }
    }
}

impl Site {
    pub(crate) fn new() -> Self {
        Self { dir: TempDir::new().unwrap() }
    }

    /// A site with a boot environment `base` that holds a kernel, a RAM disk and a file.
    pub(crate) fn with_base() -> Self {
        let site = Self::new();
        site.done(&["create", "base"]);
        let root = site.state().join("store/be/base");
        fs::create_dir_all(root.join("boot")).unwrap();
        fs::write(root.join("boot/vmlinuz"), KERNEL).unwrap();
        fs::write(root.join("boot/initrd.img"), "initrd").unwrap();
        fs::write(root.join("hello"), "hello from base\n").unwrap();
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    pub(crate) fn netbe(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(netbe());
        command.args(arguments).env("NETBE_STATE", self.state()).env_remove("NETBE_STORE");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Outcome {
        self.netbe(arguments).output().unwrap().into()
    }

    /// Runs a command that is to succeed in silence.
    pub(crate) fn done(&self, arguments: &[&str]) {
        let Outcome { out, err, status } = self.run(arguments);
        let outcome = (out.as_str(), err.as_str(), status);
        assert_eq!(outcome, ("", "", Some(0)), "{arguments:?}");
    }

    /// Writes down what only netbe itself does, as a command that was killed leaves it.
    pub(crate) fn sets(&self, name: &str, settings: &[(&str, &str)]) {
        let location = store::Location::Directory(self.state().join("store"));
        let store = store::Store::open(&location, &self.state()).unwrap();
        for (key, value) in settings {
            store.set(&name.parse().unwrap(), key, Some(value)).unwrap();
        }
    }

    /// Runs a command that is to succeed, and gives what it printed.
    pub(crate) fn prints(&self, arguments: &[&str]) -> String {
        let Outcome { out, err, status } = self.run(arguments);
        assert_eq!((err.as_str(), status), ("", Some(0)), "{arguments:?}");
        out
    }

    /// Waits until the server tells its status in these words.
    pub(crate) fn until(&self, words: &str) {
        let begun = Instant::now();
        loop {
            let status = self.prints(&["status"]);
            if status.contains(words) {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "no {words:?} in {status}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a command that is to fail with this status, and gives its sentence.
    pub(crate) fn fails(&self, status: i32, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        assert_eq!((outcome.out.as_str(), outcome.status), ("", Some(status)), "{arguments:?}");
        sentence(&outcome.err)
    }
}

/// The one sentence of a failed command.
pub(crate) fn sentence(err: &str) -> String {
    let line = err.strip_prefix("netbe: ").and_then(|line| line.strip_suffix('\n'));
    let line = line.unwrap_or_else(|| panic!("no sentence: {err:?}"));
    assert!(!line.contains('\n'), "{err}");
    line.to_owned()
}

/// Two namespaces: the server's with `s0`, the client's with `c0`.
pub(crate) struct Net {
    server: String,
    /// The name of the client's namespace.
    pub(crate) client: String,
}

impl Net {
    /// Makes the namespaces; `None`, with a printed reason, where that is not possible.
    pub(crate) fn new(clients: &[&str]) -> Option<Self> {
        if !cfg!(target_os = "linux") {
            println!("skipped: only Linux has network namespaces");
            return None;
        }
        if !geteuid().is_root() {
            println!("skipped: network namespaces need root");
            return None;
        }
        for program in ["ip"].iter().chain(clients) {
            if Command::new(program).arg("--help").output().is_err() {
                println!("skipped: {program} is not installed");
                return None;
            }
        }
        let turn = TURN.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("netbe-{}-{turn}{side}", std::process::id());
        let net = Self { server: name("s"), client: name("c") };
        for namespace in [&net.server, &net.client] {
            ip(&["netns", "add", namespace]);
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
        }
        let (server, client) = (net.server.as_str(), net.client.as_str());
        ip(&[
            "-n", server, "link", "add", "s0", "type", "veth", "peer", "name", "c0", "netns",
            client,
        ]);
        ip(&["-n", server, "address", "add", "10.77.0.1/24", "dev", "s0"]);
        ip(&["-n", server, "link", "set", "s0", "up"]);
        ip(&["-n", client, "link", "set", "c0", "address", MAC]);
        ip(&["-n", client, "link", "set", "c0", "up"]);
        Some(net)
    }

    /// `ip` in the server's namespace.
    pub(crate) fn ip(&self, arguments: &[&str]) {
        ip(&[&["-n", &self.server], arguments].concat());
    }

    /// A program on the server's side.
    pub(crate) fn beside(&self, command: &Command) -> Command {
        within(&self.server, command)
    }

    /// A program on the client's side.
    pub(crate) fn within_client(&self, command: &Command) -> Command {
        within(&self.client, command)
    }

    /// A client, run to its end; gives what it printed.
    pub(crate) fn client(&self, line: &[&str]) -> Vec<u8> {
        let mut command = Command::new(line[0]);
        command.args(&line[1..]);
        let output = within(&self.client, &command).output().unwrap();
        assert!(output.status.success(), "{line:?}: {output:?}");
        output.stdout
    }

    /// Runs `ask` in the client's namespace.
    pub(crate) fn in_client<T: Send>(&self, ask: impl FnOnce() -> T + Send) -> T {
        let space = File::open(format!("/run/netns/{}", self.client)).unwrap();
        let ask = || {
            enter(space);
            ask()
        };
        thread::scope(|scope| scope.spawn(ask).join().unwrap())
    }

    /// Asks for an address as iPXE does; takes it, and gives the URL that it is to boot.
    pub(crate) fn ipxe(&self, site: &Site) -> String {
        let (script, said) = (site.path("udhcpc.sh"), site.path("said"));
        let text = format!(
            "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\n\
             ip address replace $ip/$mask dev $interface\nenv > {}\n",
            said.display()
        );
        fs::write(&script, text).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        self.client(&[
            "busybox",
            "udhcpc",
            "-f",
            "-q",
            "-n",
            "-t",
            "5",
            "-T",
            "1",
            "-i",
            "c0",
            "-s",
            script.to_str().unwrap(),
            "-V",
            "PXEClient:Arch:00000:UNDI:002001",
            "-x",
            "0x4d:69505845",
            "-x",
            "0x5d:0000",
        ]);
        let said = fs::read_to_string(said).unwrap();
        let file = said.lines().find_map(|line| line.strip_prefix("boot_file="));
        file.unwrap_or_else(|| panic!("no boot file in {said}")).to_owned()
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for namespace in [&self.server, &self.client] {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).output();
        }
    }
}

/// The server, running in a namespace.
pub(crate) struct Running {
    child: Child,
    /// What it printed when it was started.
    pub(crate) summary: String,
}

impl Running {
    /// Starts the server and waits until it serves everything, DHCP last.
    pub(crate) fn start(site: &Site, net: &Net, arguments: &[&str]) -> Self {
        Self::start_until("  DHCP s0 ", site, net, arguments)
    }

    /// Starts the server and waits until it has printed `word`.
    pub(crate) fn start_until(word: &str, site: &Site, net: &Net, arguments: &[&str]) -> Self {
        let (out, log) = (site.path("out"), site.path("log"));
        let arguments = [&["serve"], arguments].concat();
        let mut command = net.beside(&site.netbe(&arguments));
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let begun = Instant::now();
        loop {
            let summary = fs::read_to_string(&out).unwrap();
            if summary.contains(word) && summary.ends_with('\n') {
                return Self { child, summary };
            }
            let log = || fs::read_to_string(&log).unwrap();
            if let Some(status) = child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", log());
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "not serving: {}", log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The server's process: `ip netns exec` becomes what it runs.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Has the server read everything again.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::SIGHUP);
    }

    /// Changes how many files the server may have open.
    pub(crate) fn allow_files(&self, limit: &str) {
        let process = self.child.id().to_string();
        let changed = Command::new("prlimit").args(["--pid", &process, limit]).status().unwrap();
        assert!(changed.success());
    }

    /// Ends the server and waits for it.
    pub(crate) fn end(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.child.wait().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait();
        }
    }
}

/// A program that goes on while the test does, ended with it.
pub(crate) struct Beside(pub(crate) Child);

impl Beside {
    /// What it printed until now, once that contains `word`.
    pub(crate) fn until(&mut self, word: &str) -> String {
        let out = self.0.stdout.as_mut().unwrap();
        let (mut text, mut byte) = (Vec::new(), [0]);
        while !String::from_utf8_lossy(&text).contains(word) {
            assert_eq!(out.read(&mut byte).unwrap(), 1, "no {word} in {text:?}");
            text.push(byte[0]);
        }
        String::from_utf8(text).unwrap()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The same command in a namespace.
fn within(namespace: &str, command: &Command) -> Command {
    let mut inside = Command::new("ip");
    inside.args(["netns", "exec", namespace]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => inside.env(name, value),
            None => inside.env_remove(name),
        };
    }
    inside
}

/// Takes this thread into a network namespace.
#[cfg(target_os = "linux")]
fn enter(space: File) {
    nix::sched::setns(space, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
}

/// There is none, nor a [`Net`] that could ask for it.
#[cfg(not(target_os = "linux"))]
fn enter(_space: File) {
    panic!("only Linux has network namespaces");
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
}

/// Whether a file is there.
pub(crate) fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// What stands for a kernel.
pub(crate) const KERNEL: &str = "a kernel";

/// The program: cargo says where it is when it runs tests, and so does whoever runs them elsewhere.
pub(crate) fn netbe() -> PathBuf {
    let told = env::var_os("CARGO_BIN_EXE_netbe");
    told.map_or_else(|| env!("CARGO_BIN_EXE_netbe").into(), PathBuf::from)
}

/// Tells the namespaces of one process apart.
static TURN: AtomicU32 = AtomicU32::new(0);
