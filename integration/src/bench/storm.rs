//! A storm: many machines are switched on in the same second, and boot from one netbe to a mounted root.
//!
//! Each is a thread that asks what firmware, iPXE and a kernel ask, and waits and tries as long as they do. A
//! machine is lost when one of them gives up. All share an interface, with an address each, so that netbe's
//! host needs an entry in its table of neighbours for each, as it does for machines.

mod hub;
mod machine;

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::failure::{During, Failure};
use crate::interrupt;
use crate::lab::Lab;
use crate::net::{BRIDGE, BRIDGE_MAC, CLIENT_INTERFACE, Network, PREFIX, SERVER};
use crate::progress;
use crate::server::Site;

use super::cost::Meter;
use super::limits::{self, Probe};
use super::report::{Comparison, Figure, Report, Spread};
use hub::Hub;
use machine::{Files, Machine, tally};

/// Plays the storms, one after the other; with `raise` once more with as large a table of neighbours as netbe
/// asks for.
pub(super) fn measure(lab: &Lab, raise: bool) -> Result<Report, Failure> {
    let network = Network::new()?;
    network.address_the_client()?;
    let limits = limits::begin(&network, &[Probe::UdpEcho, Probe::TcpStream])?;
    let mut figures = Vec::new();
    for machines in STORMS {
        let name = format!("storm{machines}");
        figures.extend(play(lab, &name, machines)?.figures(&name));
    }
    if raise {
        let _raised = Neighbours::raise()?;
        for machines in STORMS {
            let name = format!("storm{machines}.raised");
            figures.extend(play(lab, &name, machines)?.figures(&name));
        }
    }
    let limits = limits::end(&network, limits)?;
    Report::new(lab, vec![Comparison { peer: "none", version: String::new(), figures, limits }])
}

/// What came of a storm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    machines: u32,
    /// Machines of which a part gave up.
    pub(crate) lost: u32,
    /// From the first DISCOVER to the end of the last machine.
    took: Duration,
    /// netbe's processor time.
    spent: Duration,
    /// The most memory that netbe had, in KiB.
    peak: u64,
}

impl Outcome {
    fn figures(self, name: &str) -> Vec<Figure> {
        let Self { machines, lost, took, spent, peak } = self;
        let values = [
            ("lost", f64::from(lost)),
            ("s", took.as_secs_f64()),
            ("cpu_ms_per_boot", spent.as_secs_f64() * 1e3 / f64::from(machines)),
            ("rss_mib", peak as f64 / 1024.0),
        ];
        let figure = |(unit, value): (&str, f64)| {
            let (netbe, peer) = (Spread::of([value]), Spread::default());
            Figure { name: format!("{name}.{unit}"), netbe, peer }
        };
        values.map(figure).into()
    }
}

/// Lets so many machines boot from a netbe of their own; `name` is that of its files, and new.
pub(crate) fn play(lab: &Lab, name: &str, machines: u32) -> Result<Outcome, Failure> {
    let step = progress::step(&format!("a storm of {machines} machines"));
    raise_open_files()?;
    let place = lab.directory(name)?;
    let network = wide_network()?;
    let site = Site::new(lab.release()?, &network, &place);
    site.environment(ENVIRONMENT, lab.parts()?, "true")?;
    let words = format!("serve --interface {BRIDGE} --mode serve --range {RANGE}");
    let server = site.serve_as(&format!("{words} --default {ENVIRONMENT}"))?;
    let meter = Meter::of(server.pid())?;
    let size = |path: &Path| fs::metadata(path).map(|file| file.len()).during(path.display());
    let parts = lab.parts()?;
    let files = Files {
        loader: fs::read(LOADER).during(LOADER)?,
        kernel: size(parts.kernel())?,
        initrd: size(parts.initrd())?,
    };
    let before = meter.spent()?;
    let begin = Instant::now();
    let results = network.inside(|| storm(&network, machines, &files))?;
    let (took, spent) = (begin.elapsed(), meter.spent()?.saturating_sub(before));
    interrupt::check()?;
    let lost: Vec<Failure> = results.into_iter().filter_map(Result::err).collect();
    let told = tally(&lost);
    let lost = u32::try_from(lost.len()).unwrap_or(u32::MAX);
    if lost > 0 {
        let log = fs::read_to_string(site.log()).during("netbe's log")?;
        let warnings: Vec<&str> = log.lines().filter(|line| line.contains(" WARN ")).collect();
        step.at(&format!("{lost} are lost:{told}\n    netbe warned: {warnings:#?}"));
    }
    let peak = server.peak()?;
    server.stop()?;
    step.done(&format!("{lost} lost, {} s", took.as_secs()));
    Ok(Outcome { machines, lost, took, spent, peak })
}

/// All machines at once; gives how each ended.
fn storm(
    network: &Network,
    machines: u32,
    files: &Files,
) -> Result<Vec<Result<(), Failure>>, Failure> {
    let hub = Hub::open()?;
    thread::scope(|scope| {
        let hub = &hub;
        let answers = scope.spawn(move || hub.run());
        let switched_on: Result<Vec<_>, Failure> = (0..machines)
            .map(|number| {
                let boot = move || {
                    network.client.enter()?;
                    thread::sleep(SPREAD * number / machines);
                    Machine { number, hub, files }.boot()
                };
                let thread = thread::Builder::new().stack_size(STACK);
                thread.spawn_scoped(scope, boot).during("switching a machine on")
            })
            .collect();
        let ended = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_panic| Err(Failure::said("a machine ended early")))
        };
        let ended = switched_on.map(|machines| machines.into_iter().map(ended).collect());
        hub.end();
        answers.join().map_err(|_panic| Failure::said("DHCP ended early"))??;
        ended
    })
}

/// A network in which thousands of machines have room, and a client side that has all their addresses.
fn wide_network() -> Result<Network, Failure> {
    let network = Network::new()?;
    network.server.ip(&format!("address add {SERVER}/{WIDE} dev {BRIDGE}"))?;
    network.server.ip(&format!("address del {SERVER}/{PREFIX} dev {BRIDGE}"))?;
    network.client.ip(&format!("route add {SUBNET}/{WIDE} dev {CLIENT_INTERFACE}"))?;
    network.client.ip(&format!("route add local {ADDRESSES} dev {CLIENT_INTERFACE}"))?;
    // Machines share no table of neighbours with their server, but all namespaces of a kernel do: what they
    // send has entries that need no room.
    for (address, mac) in [(SERVER, BRIDGE_MAC), ("255.255.255.255", "ff:ff:ff:ff:ff:ff")] {
        let entry = format!("{address} lladdr {mac} dev {CLIENT_INTERFACE} nud permanent");
        network.client.ip(&format!("neighbour replace {entry}"))?;
    }
    Ok(network)
}

/// Each machine has some sockets.
fn raise_open_files() -> Result<(), Failure> {
    let what = "the limit of open files";
    let (_, most) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(std::io::Error::from).during(what)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(std::io::Error::from).during(what)
}

/// The bounds of the table of neighbours, which are put back.
#[derive(Debug)]
struct Neighbours {
    before: Vec<(&'static str, String)>,
}

impl Neighbours {
    /// Sets what `netbe serve` names for as many machines.
    fn raise() -> Result<Self, Failure> {
        let mut raised = Self { before: Vec::new() };
        for (path, value) in [(KEPT, "8192"), (MOST, "16384")] {
            let before = fs::read_to_string(path).during(path)?;
            fs::write(path, value).during(path)?;
            raised.before.push((path, before));
        }
        Ok(raised)
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for (path, value) in &self.before {
            if let Err(error) = fs::write(path, value) {
                eprintln!("lab: {path} cannot be set to {} again: {error}", value.trim());
            }
        }
    }
}

/// How many entries this host's table of neighbours may have, if this process sees that.
pub(crate) fn neighbours() -> Option<u32> {
    fs::read_to_string(MOST).ok()?.trim().parse().ok()
}

const STORMS: [u32; 2] = [1000, 1500];
const ENVIRONMENT: &str = "storm";
/// Within this time all are switched on: power comes back to a room.
const SPREAD: Duration = Duration::from_secs(1);
const SUBNET: &str = "10.64.0.0";
/// The length of the network's prefix.
const WIDE: u8 = 12;
/// What is leased, and where it is.
const RANGE: &str = "10.64.32.1-10.64.63.254";
const ADDRESSES: &str = "10.64.32.0/19";
/// What netbe sends to firmware on BIOS, of Debian's package.
const LOADER: &str = "/usr/lib/ipxe/undionly.kpxe";
/// Memory of a machine's thread.
const STACK: usize = 256 * 1024;
const KEPT: &str = "/proc/sys/net/ipv4/neigh/default/gc_thresh2";
const MOST: &str = "/proc/sys/net/ipv4/neigh/default/gc_thresh3";
