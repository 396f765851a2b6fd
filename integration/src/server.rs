//! netbe, as an administrator runs it: commands on a store and a state directory, and `netbe serve`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::failure::{During, Failure, ensure};
use crate::guest::Parts;
use crate::interrupt::wait_for;
use crate::net::{BRIDGE, Network, RANGE};
use crate::process::{Program, Running, tail};

/// A site with its store and state in a scratch directory, on a private network.
#[derive(Debug)]
pub(crate) struct Site<'a> {
    netbe: &'a Path,
    network: &'a Network,
    directory: PathBuf,
}

impl<'a> Site<'a> {
    /// A site in `directory`, which has nothing in it yet.
    pub(crate) fn new(netbe: &'a Path, network: &'a Network, directory: &Path) -> Self {
        Self { netbe, network, directory: directory.to_owned() }
    }

    /// The program with these words, on this site's store and state.
    pub(crate) fn netbe(&self, words: &str) -> Program {
        self.network
            .server
            .program(&self.netbe.display().to_string())
            .env("NETBE_STORE", format!("dir:{}", self.store().display()))
            .env("NETBE_STATE", self.directory.join("state"))
            .words(words)
    }

    /// Runs a command that has to succeed; gives what it printed.
    pub(crate) fn run(&self, words: &str) -> Result<String, Failure> {
        let result = self.netbe(words).run(COMMAND_LIMIT);
        result.map_err(|failure| failure.retold(|said| format!("netbe {words}: {said}")))
    }

    /// Makes a boot environment and fills it with a guest that does `task`.
    pub(crate) fn environment(&self, name: &str, parts: &Parts, task: &str) -> Result<(), Failure> {
        self.run(&format!("create {name}"))?;
        parts.furnish(&self.root(name), task)
    }

    /// Makes a machine that boots this environment.
    pub(crate) fn machine(&self, name: &str, mac: &str, environment: &str) -> Result<(), Failure> {
        self.named(name, mac)?;
        let [_add, share] = machine_words(name, mac, environment);
        self.run(&share).map(drop)
    }

    /// Names a machine.
    pub(crate) fn named(&self, name: &str, mac: &str) -> Result<(), Failure> {
        let add = self.netbe("machine add --mac").args([mac, "--cmdline", CMDLINE, name]);
        add.run(COMMAND_LIMIT).map(drop)
    }

    /// Where the root of a boot environment is.
    pub(crate) fn root(&self, environment: &str) -> PathBuf {
        self.store().join("be").join(environment)
    }

    /// The file with what is known of a boot environment.
    pub(crate) fn metadata(&self, environment: &str) -> PathBuf {
        self.store().join("meta").join(format!("{environment}.toml"))
    }

    /// Starts `netbe serve` with addresses to give, and waits until it serves.
    pub(crate) fn serve(&self) -> Result<Server, Failure> {
        self.serve_as(&serve_words())
    }

    /// Starts `netbe` with these words, and waits until it serves.
    pub(crate) fn serve_as(&self, words: &str) -> Result<Server, Failure> {
        let log = self.log();
        let ready = || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            said.lines().filter(|line| line.starts_with("  DHCP ")).count()
        };
        let before = ready();
        let serve = self.netbe(words);
        let mut running = serve.env("RUST_BACKTRACE", "1").start(&log)?;
        wait_for("netbe's start", Duration::from_secs(60), || {
            running.still(&log)?;
            Ok((ready() > before).then_some(()))
        })?;
        Ok(Server { running, log })
    }

    /// What every server of this site has said.
    pub(crate) fn log(&self) -> PathBuf {
        self.directory.join("netbe.log")
    }

    fn store(&self) -> PathBuf {
        self.directory.join("store")
    }
}

/// A `netbe serve` that runs; it is killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    running: Running,
    log: PathBuf,
}

impl Server {
    /// Ends it as a power failure would: by SIGKILL.
    pub(crate) fn kill(mut self) {
        self.running.kill();
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.running.pid()
    }

    /// Its memory in KiB, without what is swapped out (proc(5), `VmRSS`).
    pub(crate) fn resident(&self) -> Result<u64, Failure> {
        self.memory("VmRSS:")
    }

    /// The most of it that there ever was (`VmHWM`).
    pub(crate) fn peak(&self) -> Result<u64, Failure> {
        self.memory("VmHWM:")
    }

    fn memory(&self, name: &str) -> Result<u64, Failure> {
        let path = format!("/proc/{}/status", self.running.pid());
        let text = fs::read_to_string(&path).during(&path)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.ok_or_else(|| Failure::said(format!("{path} has no {name}")))
    }

    /// Fails if it has ended, or has said that it panicked.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        self.running.still(&self.log)?;
        let said = fs::read(&self.log).during(self.log.display())?;
        let said = String::from_utf8_lossy(&said);
        let panic = said.lines().find(|line| line.contains("panicked"));
        ensure(panic.is_none(), || format!("netbe panicked: {}", panic.unwrap_or_default()))
    }

    /// Ends it by SIGTERM, which has to succeed.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        self.check()?;
        let status = self.running.terminate(Duration::from_secs(20))?;
        ensure(status.success(), || format!("netbe: {status}: {}", tail(&self.log, 5)))
    }
}

/// The words with which netbe serves a private network.
pub(crate) fn serve_words() -> String {
    format!("serve --interface {BRIDGE} --mode serve --range {RANGE}")
}

/// The commands that make a machine that boots this environment.
pub(crate) fn machine_words(name: &str, mac: &str, environment: &str) -> [String; 2] {
    [
        format!("machine add --mac {mac} --cmdline console=ttyS0 {name}"),
        format!("sharepxe --machine {name} {environment}"),
    ]
}

/// A guest talks on its serial line; it takes no timer that is late, as on a busy computer, for one that
/// is broken; and it is switched off when it cannot go on.
const CMDLINE: &str = "console=ttyS0 no_timer_check panic=-1";
/// How long a command may take, but for copying a boot environment on a slow disk.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
