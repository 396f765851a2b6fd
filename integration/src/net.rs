//! A private network: two nameless network namespaces, a bridge, and taps for machines.
//!
//! The namespaces have no name and no file: each lives as long as the process that holds it, which
//! ends when its standard input closes, that is, with the lab, however the lab ends. Interfaces and
//! addresses vanish with them. Nothing outside is touched.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::failure::{During, Failure, ensure};
use crate::process::{DIES_WITH_THE_LAB, Program};

/// The server's side of the network and the clients' side, joined by a bridge.
#[derive(Debug)]
pub(crate) struct Network {
    /// Where the server runs; the bridge [`BRIDGE`] with [`SERVER`] is here, and so are machines.
    pub(crate) server: Namespace,
    /// Where client programs run; their interface [`CLIENT_INTERFACE`] has no address at first.
    pub(crate) client: Namespace,
}

impl Network {
    /// Makes both namespaces and the bridge.
    pub(crate) fn new() -> Result<Self, Failure> {
        let network = Self { server: Namespace::new()?, client: Namespace::new()? };
        for line in [
            "link set lo up",
            &format!("link add {BRIDGE} type bridge forward_delay 0"),
            &format!("address add {SERVER}/{PREFIX} dev {BRIDGE}"),
            &format!("link set {BRIDGE} up"),
        ] {
            network.server.ip(line)?;
        }
        network.join(&network.client)?;
        Ok(network)
    }

    /// Joins another namespace to the bridge, by an interface of the name [`CLIENT_INTERFACE`].
    pub(crate) fn join(&self, client: &Namespace) -> Result<(), Failure> {
        let holder = client.holder.id();
        let near = format!("veth{holder}");
        self.server.ip(&format!(
            "link add {near} type veth peer name {CLIENT_INTERFACE} netns {holder}"
        ))?;
        self.server.ip(&format!("link set {near} master {BRIDGE} up"))?;
        client.ip("link set lo up")?;
        client.ip(&format!("link set {CLIENT_INTERFACE} up"))
    }

    /// Gives the clients' interface the address [`CLIENT`], for programs that do no DHCP.
    pub(crate) fn address_the_client(&self) -> Result<(), Failure> {
        self.client.ip(&format!("address replace {CLIENT}/{PREFIX} dev {CLIENT_INTERFACE}"))
    }

    /// Adds a tap of this name to the bridge, for a machine.
    pub(crate) fn tap(&self, name: &str) -> Result<(), Failure> {
        self.server.ip(&format!("tuntap add {name} mode tap"))?;
        self.server.ip(&format!("link set {name} master {BRIDGE} up"))
    }

    /// Removes the tap of a machine that is switched off.
    pub(crate) fn untap(&self, name: &str) -> Result<(), Failure> {
        self.server.ip(&format!("link delete {name}"))
    }
}

/// A network namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    holder: Child,
}

impl Namespace {
    /// Makes a namespace in which nothing is configured.
    pub(crate) fn new() -> Result<Self, Failure> {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .during("cannot start unshare")?;
        let stdout = holder.stdout.take();
        let namespace = Self { holder };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout).read_line(&mut line).during("unshare")?;
        }
        ensure(line == "ready\n", || {
            "unshare: no network namespace can be made here; run as root".to_owned()
        })?;
        Ok(namespace)
    }

    /// A program that will run inside, and die with the lab.
    pub(crate) fn program(&self, name: &str) -> Program {
        let mut prefix =
            vec!["nsenter".to_owned(), format!("--net=/proc/{}/ns/net", self.holder.id())];
        prefix.extend(DIES_WITH_THE_LAB.map(str::to_owned));
        Program::under(&prefix, name)
    }

    /// Moves the calling thread into the namespace, for good.
    pub(crate) fn enter(&self) -> Result<(), Failure> {
        let path = format!("/proc/{}/ns/net", self.holder.id());
        let file = File::open(&path).during(&path)?;
        setns(file, CloneFlags::CLONE_NEWNET).map_err(io::Error::from).during(&path)
    }

    /// Runs `ip` with the words of this line.
    pub(crate) fn ip(&self, line: &str) -> Result<(), Failure> {
        let result = self.program("ip").words(line).run(Duration::from_secs(20));
        result
            .map(|_silence| ())
            .map_err(|failure| failure.retold(|words| format!("ip {line}: {words}")))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        drop(self.holder.wait());
    }
}

/// The bridge's name, which is the server's interface.
pub(crate) const BRIDGE: &str = "lan";
/// The server's address.
pub(crate) const SERVER: &str = "10.77.0.1";
/// The length of the network's prefix, in bits.
pub(crate) const PREFIX: u8 = 24;
/// The addresses that a server may lease.
pub(crate) const RANGE: &str = "10.77.0.50-10.77.0.99";
/// The clients' interface.
pub(crate) const CLIENT_INTERFACE: &str = "eth0";
/// The clients' address when they do no DHCP.
pub(crate) const CLIENT: &str = "10.77.0.10";
