//! The guest boots from other people's servers: what the boots of netbe rest on holds without it.

use std::fs;
use std::time::Duration;

use crate::capture::Capture;
use crate::dhcp_client::{self, Kind};
use crate::failure::{During, Failure, ensure};
use crate::guest::Marker;
use crate::lab::Lab;
use crate::net::{BRIDGE, Network, SERVER};
use crate::packages;
use crate::peer::{self, Peers};
use crate::suite::{Case, Outcome};
use crate::vm::{Firmware, Hardware, Machine};

pub(super) const CASES: &[Case] = &[
    Case::new("peer clients", clients).light(),
    Case::new("peer boot BIOS", |lab| boot(lab, Firmware::Bios)),
    Case::new("peer boot UEFI", |lab| boot(lab, Firmware::Uefi)),
];

/// The clients that netbe is tested with understand dnsmasq.
fn clients(lab: &Lab) -> Result<Outcome, Failure> {
    let directory = lab.directory("peer clients")?;
    let network = Network::new()?;
    let loaders = ["--enable-tftp", "--tftp-root=/usr/lib/ipxe"];
    let _dnsmasq = peer::dnsmasq(&network.server, BRIDGE, &directory, &loaders)?;
    let ask = |kind| dhcp_client::lease(&network.client, &directory, lab.parts()?, kind);
    let script = ask(Kind::Ipxe)?.boot_file().to_owned();
    ensure(script == format!("http://{SERVER}/boot.ipxe"), || {
        format!("as iPXE it is told {script:?}")
    })?;
    let loader = ask(Kind::Pxe)?.boot_file().to_owned();
    ensure(loader == "undionly.kpxe", || format!("as a PXE ROM it is told {loader:?}"))?;
    let copy = directory.join("copy");
    let atftp = network.client.program("atftp").args(["--get", "-r", &loader, "-l"]).arg(&copy);
    atftp.args([SERVER, "69"]).run(Duration::from_secs(30))?;
    let (copy, original) = (fs::read(&copy), fs::read("/usr/lib/ipxe/undionly.kpxe"));
    ensure(copy.during("copy")? == original.during("undionly.kpxe")?, || {
        "atftp brought another file".to_owned()
    })?;
    Ok(Outcome::Passed)
}

fn boot(lab: &Lab, firmware: Firmware) -> Result<Outcome, Failure> {
    if packages::starts_services() && !packages::is_installed("nfs-ganesha-vfs") {
        let reason = "nfs-ganesha-vfs is not installed, and its installation would start services";
        return Ok(Outcome::Skipped(reason.to_owned()));
    }
    packages::install(&[packages::PEERS])?;
    let directory = lab.directory(&format!("peer {}", firmware.name()))?;
    let root = directory.join("root");
    lab.parts()?.furnish(&root, "test -c /dev/console")?;
    let network = Network::new()?;
    let capture = Capture::begin(&network, &directory, "")?;
    let _router = peer::ipv6_router(&network, &directory)?;
    let peers = Peers::start(&network, &directory, lab.parts()?, &root)?;
    let hardware = Hardware {
        name: "peerless".to_owned(),
        firmware,
        mac: "52:54:00:77:00:01".to_owned(),
        memory: 512,
    };
    let mut machine = Machine::switch_on(&network, &directory, &hardware)?;
    machine.wait_until_off(Duration::from_secs(300))?;
    drop(peers);
    let marker = Marker::read(&root).map_err(|failure| machine.explain(failure))?;
    ensure(marker.field("task") == "0", || format!("the guest's task failed: {marker:?}"))?;
    capture.check()?;
    Ok(Outcome::Passed)
}
