//! DHCP: exchanges of four messages with clients that were never seen before, by netbe and by Kea.
//!
//! The load is made by Kea's perfdhcp as a relay does it, so that neither server has to write into the
//! kernel's table of neighbours for clients that do not exist. Both servers write each lease to a file
//! before they acknowledge it; netbe also brings the file to the disk within a second.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::net::{BRIDGE, CLIENT, CLIENT_INTERFACE, Network, PREFIX, SERVER};
use crate::packages;
use crate::process::{Program, Running, last_lines, tail};
use crate::server::Site;

use super::cost::Meter;
use super::limits::Probe;
use super::report::Report;
use super::trial::{Side, Trial, compare};

/// Measures every load in turns.
pub(super) fn measure(lab: &Lab) -> Result<Report, Failure> {
    packages::install(&[packages::KEA_LIBRARIES])?;
    let kea = Kea::unpacked(lab)?;
    let directory = lab.directory("bench dhcp")?;
    let (ours, theirs) = (wide_network()?, wide_network()?);
    let site = Site::new(lab.release()?, &ours, &directory);
    site.run("create bench")?;
    let server =
        site.serve_as(&format!("serve --interface {BRIDGE} --mode serve --range {RANGE}"))?;
    let running = kea.serve(&theirs, &directory)?;

    let netbe = Target { network: &ours, meter: Meter::of(server.pid())?, kea: &kea };
    let meter = Meter::of_descendant(running.pid(), "kea-dhcp4")?;
    let peer = Target { network: &theirs, meter, kea: &kea };
    let version = kea.program(Program::new(&kea.server)).arg("-v").run(Duration::from_secs(20))?;
    let known = ("kea", version.trim().to_owned());
    let trials: Vec<Trial<Load>> = LOADS.iter().map(|load| load.trial()).collect();
    let number = Cell::new(0_u8);
    let compared = compare(&ours, &[Probe::UdpEcho], &trials, known, |side, load| {
        number.set(number.get().wrapping_add(1));
        match side {
            Side::Netbe => netbe.bear(load, number.get()),
            Side::Peer => peer.bear(load, number.get()),
        }
    });
    let compared = compared
        .map_err(|failure| failure.retold(|words| format!("{words}\n{}", tail(&site.log(), 5))))?;
    server.stop()?;
    Report::new(lab, vec![compared])
}

/// A private network in which hundreds of thousands of clients have room.
fn wide_network() -> Result<Network, Failure> {
    let network = Network::new()?;
    network.server.ip(&format!("address add {SERVER}/{WIDE} dev {BRIDGE}"))?;
    network.server.ip(&format!("address del {SERVER}/{PREFIX} dev {BRIDGE}"))?;
    network.client.ip(&format!("address add {CLIENT}/{WIDE} dev {CLIENT_INTERFACE}"))?;
    Ok(network)
}

/// Kea's programs, which are not installed because they have services.
#[derive(Debug)]
struct Kea {
    server: PathBuf,
    load: PathBuf,
    libraries: packages::Kea,
}

impl Kea {
    fn unpacked(lab: &Lab) -> Result<Self, Failure> {
        let root = |package| packages::unpacked(&lab.cache, package);
        Ok(Self {
            server: root("kea-dhcp4-server")?.join("usr/sbin/kea-dhcp4"),
            load: root("kea-admin")?.join("usr/sbin/perfdhcp"),
            libraries: packages::Kea::unpacked(&lab.cache)?,
        })
    }

    /// A program of Kea that finds its libraries.
    fn program(&self, program: Program) -> Program {
        self.libraries.program(program)
    }

    /// Starts Kea with leases in memory and in a file, as its manual recommends for speed.
    fn serve(&self, network: &Network, directory: &Path) -> Result<Running, Failure> {
        let configuration = directory.join("kea.json");
        let text = json!({"Dhcp4": {
            "interfaces-config": {"interfaces": [BRIDGE]},
            "lease-database": {
                "type": "memfile", "persist": true, "lfc-interval": 0,
                "name": directory.join("kea.leases"),
            },
            "valid-lifetime": 3600,
            "subnet4": [{
                "subnet": format!("{SUBNET}/{WIDE}"),
                "pools": [{"pool": RANGE}],
            }],
            "loggers": [{
                "name": "kea-dhcp4", "severity": "INFO",
                "output_options": [{"output": directory.join("kea.log")}],
            }],
        }});
        fs::write(&configuration, text.to_string()).during(configuration.display())?;
        let log = directory.join("kea.out");
        let program = network.server.program(&self.server.display().to_string());
        let mut running = self
            .program(program)
            .env("KEA_PIDFILE_DIR", directory)
            .env("KEA_LOCKFILE_DIR", directory)
            .arg("-c")
            .arg(&configuration)
            .start(&log)?;
        wait_for("Kea's start", Duration::from_secs(30), || {
            running.still(&log)?;
            let said = tail(&directory.join("kea.log"), 100);
            Ok(said.contains("DHCP4_STARTED").then_some(()))
        })?;
        Ok(running)
    }
}

/// How fast clients come.
#[derive(Clone, Copy, Debug)]
struct Load {
    name: &'static str,
    /// Exchanges that begin in a second.
    rate: u32,
}

impl Load {
    fn trial(self) -> Trial<Self> {
        let figures = ["per_s", "cpu_us_per_exchange", "offer_delay_ms", "ack_delay_ms"];
        let names = figures.map(|figure| format!("{}.{figure}", self.name));
        Trial { names: names.to_vec(), work: self }
    }
}

/// A server under load.
struct Target<'a> {
    network: &'a Network,
    meter: Meter,
    kea: &'a Kea,
}

impl Target<'_> {
    /// Lets new clients come; `number` tells them from those that came before.
    fn bear(&self, load: &Load, number: u8) -> Result<Vec<f64>, Failure> {
        let perfdhcp = self.network.client.program(&self.kea.load.display().to_string());
        let perfdhcp = self
            .kea
            .program(perfdhcp)
            .words("-4 -R 1000000 -l")
            .arg(CLIENT)
            .args(["-r", &load.rate.to_string(), "-p", &SECONDS.to_string()])
            .args(["-b", &format!("mac=02:77:{number:02x}:00:00:00"), SERVER]);
        let before = self.meter.spent()?;
        // It ends with 3 when not every exchange came to its end.
        let done = perfdhcp.finish(Duration::from_secs(60))?;
        let spent = self.meter.spent()?.saturating_sub(before);
        let outcome = Outcome::parse(&done.stdout);
        let said =
            || format!("perfdhcp: {}", last_lines(&(done.stdout.clone() + &done.stderr), 30));
        let outcome = outcome.ok_or_else(|| Failure::Said(said()))?;
        ensure(outcome.exchanges > 0.0, said)?;
        Ok(vec![
            outcome.exchanges / f64::from(SECONDS),
            spent.as_secs_f64() * 1e6 / outcome.exchanges,
            outcome.offer_delay,
            outcome.ack_delay,
        ])
    }
}

/// What perfdhcp found.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Outcome {
    /// Acknowledgements that came.
    exchanges: f64,
    /// Mean milliseconds from DISCOVER to OFFER.
    offer_delay: f64,
    /// Mean milliseconds from REQUEST to ACK.
    ack_delay: f64,
}

impl Outcome {
    fn parse(text: &str) -> Option<Self> {
        let (_, offers) = text.split_once("Statistics for: DISCOVER-OFFER")?;
        let (offers, acks) = offers.split_once("Statistics for: REQUEST-ACK")?;
        let number = |part: &str, name: &str| {
            let line = part.lines().find_map(|line| line.trim().strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<f64>().ok()
        };
        Some(Self {
            exchanges: number(acks, "received packets:")?,
            offer_delay: number(offers, "avg delay:")?,
            ack_delay: number(acks, "avg delay:")?,
        })
    }
}

/// More than any server does here, and what a building full of machines does in the morning.
const LOADS: [Load; 2] = [Load { name: "rate", rate: 20_000 }, Load { name: "calm", rate: 500 }];
/// How long each measurement takes.
const SECONDS: u32 = 3;
const SUBNET: &str = "10.64.0.0";
/// The length of the network's prefix.
const WIDE: u8 = 12;
const RANGE: &str = "10.64.1.0-10.76.255.255";

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_perfdhcp_prints_is_understood() {
        let text = "***Rate statistics***\nRate: 99.5 4-way exchanges/second, expected rate: 100\n\n\
            ***Statistics for: DISCOVER-OFFER***\nsent packets: 201\nreceived packets: 200\n\
            drops: 1\nmin delay: 0.10 ms\navg delay: 0.25 ms\n\n\
            ***Statistics for: REQUEST-ACK***\nsent packets: 200\nreceived packets: 199\n\
            drops: 1\nmin delay: 0.10 ms\navg delay: 0.50 ms\n";
        let expected = Outcome { exchanges: 199.0, offer_delay: 0.25, ack_delay: 0.5 };
        assert_eq!(Outcome::parse(text), Some(expected));
    }
}
