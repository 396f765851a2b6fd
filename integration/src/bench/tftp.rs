//! TFTP: how fast loaders get their file from netbe, atftpd and async-tftp, and what a block costs.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::dhcp_client::{self, Kind};
use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::net::{CLIENT_INTERFACE, Network, SERVER};
use crate::packages;
use crate::process::{Program, tail};
use crate::server::{Server, Site};

use super::cost::{Meter, under_load};
use super::limits::Probe;
use super::report::{Comparison, Report, locked};
use super::tftp_client::{self, Wish};
use super::trial::{Side, Trial, compare};

/// Measures every load in turns: beside atftpd and async-tftp, or beside `earlier`, a netbe of another commit.
pub(super) fn measure(lab: &Lab, earlier: Option<&Path>) -> Result<Report, Failure> {
    let ours = Network::new()?;
    let content: Vec<u8> = (0..=250).cycle().take(SIZE).collect();
    let place = lab.directory("bench tftp netbe")?;
    let site = Site::new(lab.release()?, &ours, &place);
    let server = serve(lab, &site, &ours, &place, &content)?;
    let netbe = Target { network: &ours, meter: Meter::of(server.pid())?, content: &content };
    let root = site.root("bench");
    let compared = || match earlier {
        Some(earlier) => Ok(vec![beside_netbe(lab, &netbe, earlier)?]),
        None => {
            Ok(vec![beside_atftpd(lab, &netbe, &root)?, beside_async_tftp(lab, &netbe, &root)?])
        }
    };
    let compared = compared().map_err(|failure: Failure| {
        failure.retold(|words| format!("{words}\n{}", tail(&site.log(), 5)))
    })?;
    server.stop()?;
    Report::new(lab, compared)
}

fn beside_netbe(lab: &Lab, netbe: &Target<'_>, earlier: &Path) -> Result<Comparison, Failure> {
    let (theirs, content) = (Network::new()?, netbe.content);
    let place = lab.directory("bench tftp earlier")?;
    let site = Site::new(earlier, &theirs, &place);
    let server = serve(lab, &site, &theirs, &place, content)?;
    let peer = Target { network: &theirs, meter: Meter::of(server.pid())?, content };
    let compared = measured(netbe, &peer, ("earlier", earlier.display().to_string()))?;
    server.stop()?;
    Ok(compared)
}

fn beside_atftpd(lab: &Lab, netbe: &Target<'_>, root: &Path) -> Result<Comparison, Failure> {
    packages::install(&[packages::ATFTPD_LIBRARIES])?;
    let atftpd = packages::unpacked(&lab.cache, "atftpd")?.join("usr/sbin/atftpd");
    let theirs = Network::new()?;
    let daemon = theirs.server.program(&atftpd.display().to_string());
    let daemon =
        daemon.words("--daemon --no-fork --user root --group root --logfile - --bind-address");
    let directory = lab.directory("bench tftp atftpd")?;
    let version = theirs.client.program(&atftpd.display().to_string()).arg("--version");
    let version = version.finish(Duration::from_secs(20))?.stdout.trim().to_owned();
    let daemon = daemon.arg(SERVER).arg(root);
    beside(netbe, &theirs, daemon, &directory, "atftpd", ("atftpd", version))
}

fn beside_async_tftp(lab: &Lab, netbe: &Target<'_>, root: &Path) -> Result<Comparison, Failure> {
    let program = lab.peer(ASYNC_TFTP)?;
    let theirs = Network::new()?;
    let server = theirs.server.program(&program.display().to_string());
    let server = server.arg(format!("{SERVER}:69")).arg(root);
    let directory = lab.directory("bench tftp async-tftp")?;
    let version = locked("async-tftp")?;
    beside(netbe, &theirs, server, &directory, ASYNC_TFTP, ("async-tftp", version))
}

/// Starts a server, whose process has this name, and measures beside it.
fn beside(
    netbe: &Target<'_>,
    theirs: &Network,
    server: Program,
    directory: &Path,
    process: &str,
    known: (&'static str, String),
) -> Result<Comparison, Failure> {
    theirs.address_the_client()?;
    let log = directory.join("log");
    let mut server = server.start(&log)?;
    let meter = wait_for("the other server's start", Duration::from_secs(10), || {
        server.still(&log)?;
        Ok(Meter::of_descendant(server.pid(), process).ok())
    })?;
    let peer = Target { network: theirs, meter, content: netbe.content };
    measured(netbe, &peer, known)
}

/// Serves the file to a machine that has a lease. Files below /boot are served by TFTP to machines that
/// boot FreeBSD, which is known by its loader and kernel; nobody runs these here.
fn serve(
    lab: &Lab,
    site: &Site<'_>,
    network: &Network,
    place: &Path,
    content: &[u8],
) -> Result<Server, Failure> {
    site.run("create bench")?;
    let root = site.root("bench");
    fs::create_dir_all(root.join("boot/kernel")).during("making boot files")?;
    fs::write(root.join("boot/pxeboot"), "a loader").during("making boot files")?;
    fs::write(root.join(NAME), content).during("making boot files")?;
    site.run(&format!("machine add --mac {MAC} client"))?;
    site.run("sharepxe --machine client bench")?;
    network.client.ip(&format!("link set {CLIENT_INTERFACE} address {MAC}"))?;
    let server = site.serve()?;
    dhcp_client::lease(&network.client, place, lab.parts()?, Kind::Pxe)?;
    Ok(server)
}

fn measured(
    netbe: &Target<'_>,
    peer: &Target<'_>,
    known: (&'static str, String),
) -> Result<Comparison, Failure> {
    let trials: Vec<Trial<Load>> = LOADS.iter().map(|load| load.trial()).collect();
    compare(netbe.network, &[Probe::UdpEcho], &trials, known, |side, load| match side {
        Side::Netbe => netbe.bear(*load),
        Side::Peer => peer.bear(*load),
    })
}

/// How many clients ask at a time, and how many blocks their windows have; 1 is lockstep.
#[derive(Clone, Copy, Debug)]
struct Load {
    window: u16,
    clients: usize,
}

impl Load {
    fn trial(self) -> Trial<Self> {
        let Self { window, clients } = self;
        let manner = if window == 1 { "lockstep".to_owned() } else { format!("windowed{window}") };
        let name = format!("{manner}.{clients}clients");
        Trial {
            names: vec![format!("{name}.mb_s"), format!("{name}.cpu_us_per_block")],
            work: self,
        }
    }
}

/// A server under load.
struct Target<'a> {
    network: &'a Network,
    meter: Meter,
    content: &'a [u8],
}

impl Target<'_> {
    /// Lets the clients fetch for a while; gives MB per second of all together, and µs per block.
    fn bear(&self, load: Load) -> Result<Vec<f64>, Failure> {
        let fetch = |_number, ()| self.fetch(load.window);
        let (fetched, spent, elapsed) =
            under_load(self.network, self.meter, load.clients, |_number| Ok(()), fetch)?;
        let blocks: u32 = fetched.iter().map(|(blocks, _files)| blocks).sum();
        let files: u32 = fetched.iter().map(|(_blocks, files)| files).sum();
        ensure(blocks > 0, || "nothing was fetched".to_owned())?;
        let megabytes = f64::from(files) * self.content.len() as f64 / 1e6;
        Ok(vec![megabytes / elapsed.as_secs_f64(), spent.as_secs_f64() * 1e6 / f64::from(blocks)])
    }

    /// Fetches the file again and again; gives the number of blocks and files.
    fn fetch(&self, window: u16) -> Result<(u32, u32), Failure> {
        let begin = Instant::now();
        let (mut blocks, mut files) = (0, 0);
        while begin.elapsed() < DURATION {
            let (from, patience) = (Ipv4Addr::UNSPECIFIED, Duration::from_millis(500));
            let wish = Wish { name: NAME, window, content: self.content, from, patience };
            blocks += tftp_client::fetch(wish)?;
            files += 1;
        }
        Ok((blocks, files))
    }
}

const LOADS: [Load; 7] = [
    Load { window: 1, clients: 1 },
    Load { window: 1, clients: 8 },
    Load { window: 4, clients: 1 },
    Load { window: 4, clients: 8 },
    Load { window: 16, clients: 1 },
    Load { window: 16, clients: 8 },
    Load { window: 64, clients: 1 },
];
/// How long each measurement takes at least: no transfer begins later.
const DURATION: Duration = Duration::from_millis(400);
const NAME: &str = "boot/kernel/kernel";
/// The program that serves by async-tftp.
const ASYNC_TFTP: &str = "async-tftp-dir";
/// The size of the file: of a large loader.
const SIZE: usize = 4 * 1024 * 1024;
const MAC: &str = "52:54:00:77:00:01";
