//! A private network: two nameless network namespaces, a bridge, and taps for machines.
//!
//! The namespaces have no name and no file: each lives as long as the process that holds it, which
//! ends when its standard input closes, that is, with the lab, however the lab ends. Interfaces and
//! addresses vanish with them. Nothing outside is touched.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::failure::{During, Failure, ensure};
use crate::process::{DIES_WITH_THE_LAB, Program};

/// The server's side of the network and the clients' side, joined by a bridge.
#[derive(Debug)]
pub(crate) struct Network {
    /// Where the server runs; the bridge, [`BRIDGE`] with [`SERVER`] for most, is here, and so are machines.
    pub(crate) server: Namespace,
    /// Where client programs run; their interface [`CLIENT_INTERFACE`] has no address at first.
    pub(crate) client: Namespace,
    /// The bridge's name.
    bridge: &'static str,
    /// The address on it.
    address: &'static str,
}

impl Network {
    /// Makes both namespaces and the bridge.
    pub(crate) fn new() -> Result<Self, Failure> {
        Self::at(SERVER)
    }

    /// The same with another address on the bridge.
    pub(crate) fn at(address: &'static str) -> Result<Self, Failure> {
        Self::of(BRIDGE, address)
    }

    /// The same with a bridge of another name.
    pub(crate) fn of(bridge: &'static str, address: &'static str) -> Result<Self, Failure> {
        let (server, client) = (Namespace::new()?, Namespace::new()?);
        let network = Self { server, client, bridge, address };
        network.server.ip("link set lo up")?;
        network.make_bridge()?;
        network.join(&network.client)?;
        Ok(network)
    }

    /// Joins another namespace to the bridge, by an interface of the name [`CLIENT_INTERFACE`].
    pub(crate) fn join(&self, client: &Namespace) -> Result<(), Failure> {
        let near = format!("veth{}", client.holder.id());
        client.joined_to(&self.server, &near)?;
        self.server.ip(&format!("link set {near} master {}", self.bridge))
    }

    /// Gives the clients' interface the address [`CLIENT`], for programs that do no DHCP.
    pub(crate) fn address_the_client(&self) -> Result<(), Failure> {
        self.client.ip(&format!("address replace {CLIENT}/{PREFIX} dev {CLIENT_INTERFACE}"))
    }

    /// Deletes the bridge and makes it again, with everything that was joined to it, as when the network
    /// is restarted under a running server.
    pub(crate) fn make_anew(&self) -> Result<(), Failure> {
        let list = self.server.program("ip").words("-o link show master").arg(self.bridge);
        let list = list.run(Duration::from_secs(20))?;
        self.server.ip(&format!("link delete {}", self.bridge))?;
        self.make_bridge()?;
        // As in `5: veth77@if2: <BROADCAST,...`.
        let names = list.lines().filter_map(|line| line.split([':', '@']).nth(1));
        for name in names.map(str::trim) {
            self.server.ip(&format!("link set {name} master {}", self.bridge))?;
        }
        Ok(())
    }

    fn make_bridge(&self) -> Result<(), Failure> {
        let Self { bridge, address, .. } = self;
        for line in [
            &format!("link add {bridge} address {BRIDGE_MAC} type bridge forward_delay 0"),
            &format!("address add {address}/{PREFIX} dev {bridge}"),
            &format!("link set {bridge} up"),
        ] {
            self.server.ip(line)?;
        }
        Ok(())
    }

    /// Runs something on a thread in the clients' namespace.
    pub(crate) fn inside<T: Send>(
        &self,
        run: impl FnOnce() -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        self.client.inside(run)
    }

    /// Adds a tap of this name to the bridge, for a machine.
    pub(crate) fn tap(&self, name: &str) -> Result<(), Failure> {
        self.server.ip(&format!("tuntap add {name} mode tap"))?;
        self.server.ip(&format!("link set {name} master {} up", self.bridge))
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

    /// Joins it to another namespace by a link: its own end is [`CLIENT_INTERFACE`], the other is `near`.
    pub(crate) fn joined_to(&self, other: &Self, near: &str) -> Result<(), Failure> {
        let holder = self.holder.id();
        other.ip(&format!(
            "link add {near} type veth peer name {CLIENT_INTERFACE} netns {holder}"
        ))?;
        other.ip(&format!("link set {near} up"))?;
        self.ip("link set lo up")?;
        self.ip(&format!("link set {CLIENT_INTERFACE} up"))
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

    /// Runs something on a thread inside.
    pub(crate) fn inside<T: Send>(
        &self,
        run: impl FnOnce() -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().and_then(|()| run()));
            thread.join().map_err(|_panic| Failure::said("a client ended early"))?
        })
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
/// The bridge's Ethernet address: it stays, as that of a bridge with a network card does.
pub(crate) const BRIDGE_MAC: &str = "52:54:00:77:ff:01";
/// The server's address.
pub(crate) const SERVER: &str = "10.77.0.1";
/// The length of the network's prefix, in bits.
pub(crate) const PREFIX: u8 = 24;
/// Everybody.
pub(crate) const BROADCAST: Ipv4Addr = Ipv4Addr::BROADCAST;
/// The addresses that a server may lease.
pub(crate) const RANGE: &str = "10.77.0.50-10.77.0.99";
/// The clients' interface.
pub(crate) const CLIENT_INTERFACE: &str = "eth0";
/// The clients' address when they do no DHCP.
pub(crate) const CLIENT: &str = "10.77.0.10";
