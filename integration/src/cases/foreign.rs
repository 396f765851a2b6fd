//! netbe on a network where somebody else gives addresses: it must never become a rogue server.

use std::fs;
use std::time::Duration;

use crate::dhcp_client::{self, Kind};
use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::net::{CLIENT, CLIENT_INTERFACE, Namespace};
use crate::peer;
use crate::scene::Scene;
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[Case::new("foreign DHCP server", foreign).light()];

fn foreign(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let (site, network, directory) = (scene.site(), &scene.network, &scene.directory);
    network.address_the_client()?;
    let _dnsmasq = peer::dnsmasq(&network.client, CLIENT_INTERFACE, directory, &[])?;
    let log = directory.join("dnsmasq.log");
    wait_for("dnsmasq's start", Duration::from_secs(20), || {
        Ok(fs::read_to_string(&log).is_ok_and(|said| said.contains("DHCP, IP range")).then_some(()))
    })?;
    scene.environment("guest", "true")?;
    let capture = scene.capture("udp src port 67")?;
    // Told to serve, it must stay silent all the same.
    let server = site.serve()?;
    wait_for("netbe to tell of the other DHCP server", Duration::from_secs(30), || {
        let said = fs::read_to_string(site.log()).during("netbe's log")?;
        Ok(said.contains(CLIENT).then_some(()))
    })?;
    // A third party asks on the same network, so that both could answer.
    let other = Namespace::new()?;
    network.join(&other)?;
    let lease = dhcp_client::lease(&other, directory, lab.parts()?, Kind::Ipxe)?;
    ensure(lease.field("serverid") == CLIENT, || format!("netbe answered: {lease:?}"))?;
    server.stop()?;
    let answers = capture.print("udp.srcport == 67 && ip.src == 10.77.0.1")?;
    ensure(answers.trim().is_empty(), || format!("netbe sent DHCP answers:\n{answers}"))?;
    Ok(Outcome::Passed)
}
