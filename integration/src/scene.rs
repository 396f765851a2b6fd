//! What most tests begin with: a private network, a site on it, and machines that boot from it.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::capture::Capture;
use crate::failure::Failure;
use crate::lab::Lab;
use crate::net::Network;
use crate::process::tail;
use crate::proof::{proof, token};
use crate::server::Site;
use crate::vm::{Firmware, Hardware, Machine};

/// The place of one test; everything in it ends with it.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    /// What is made once for all tests.
    pub(crate) lab: &'a Lab,
    /// The network, on whose server's side netbe runs.
    pub(crate) network: Network,
    /// Where everything is written, by netbe and by machines.
    pub(crate) directory: PathBuf,
    netbe: PathBuf,
    boots: Cell<u32>,
}

impl<'a> Scene<'a> {
    /// A network, and a directory with nothing in it; call it once in a test.
    pub(crate) fn new(lab: &'a Lab) -> Result<Self, Failure> {
        let netbe = lab.netbe()?.to_owned();
        let (network, directory) = (Network::new()?, lab.directory("scene")?);
        Ok(Self { lab, network, directory, netbe, boots: Cell::new(0) })
    }

    /// The same, where netbe is another program.
    pub(crate) fn with_netbe(self, netbe: PathBuf) -> Self {
        Self { netbe, ..self }
    }

    /// The site: its store and state, and netbe on them.
    pub(crate) fn site(&self) -> Site<'_> {
        Site::new(&self.netbe, &self.network, &self.directory)
    }

    /// Makes a boot environment with a guest that does `task`.
    pub(crate) fn environment(&self, name: &str, task: &str) -> Result<(), Failure> {
        self.site().environment(name, self.lab.parts()?, task)
    }

    /// Begins to capture what matches `filter`, in the words of pcap-filter(7).
    pub(crate) fn capture(&self, filter: &str) -> Result<Capture, Failure> {
        Capture::begin(&self.network, &self.directory, filter)
    }

    /// Switches on the machine with this number; `name` is that of its files, and new.
    pub(crate) fn switch_on(
        &self,
        name: &str,
        firmware: Firmware,
        number: u8,
    ) -> Result<Machine, Failure> {
        switch_on(&self.network, &self.directory, name, firmware, number)
    }

    /// The first machine, which is called `host`, boots, does its task on the root of this environment, and
    /// switches itself off.
    pub(crate) fn boots(
        &self,
        host: &str,
        firmware: Firmware,
        environment: &str,
    ) -> Result<(), Failure> {
        self.boots_on(&self.network, host, firmware, environment)
    }

    /// The same for a machine on another network.
    pub(crate) fn boots_on(
        &self,
        network: &Network,
        host: &str,
        firmware: Firmware,
        environment: &str,
    ) -> Result<(), Failure> {
        let (site, number) = (self.site(), self.boots.get() + 1);
        self.boots.set(number);
        let root = site.root(environment);
        let token = token(&root, host)?;
        let name = format!("{host}-{number}");
        let mut machine = switch_on(network, &self.directory, &name, firmware, 1)?;
        let explain = |machine: &Machine, failure| machine.explain(with_log(&site, failure));
        machine.wait_until_off(BOOT_LIMIT).map_err(|failure| with_log(&site, failure))?;
        proof(&root, &token, host).map_err(|failure| {
            let log = tail(&root.join("lab/log"), 30);
            let told = |words| format!("{words}\nthe guest's task said:\n{log}");
            explain(&machine, failure).retold(told)
        })
    }
}

/// Switches on the machine with this number.
pub(crate) fn switch_on(
    network: &Network,
    directory: &Path,
    name: &str,
    firmware: Firmware,
    number: u8,
) -> Result<Machine, Failure> {
    let hardware = Hardware { name: name.to_owned(), firmware, mac: mac(number), memory: 512 };
    Machine::switch_on(network, directory, &hardware)
}

/// Adds the end of netbe's log to a failure.
pub(crate) fn with_log(site: &Site<'_>, failure: Failure) -> Failure {
    failure.retold(|words| format!("{words}\nnetbe's last words:\n{}", tail(&site.log(), 20)))
}

/// The Ethernet address of the machine with this number.
pub(crate) fn mac(number: u8) -> String {
    format!("52:54:00:77:00:{number:02x}")
}

/// How long a machine may be on: many times what it needs on a quiet computer.
pub(crate) const BOOT_LIMIT: Duration = Duration::from_secs(600);
