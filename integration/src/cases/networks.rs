//! Networks that change under a running server, and networks behind a relay.

use std::fs;
use std::time::Duration;

use crate::dhcp_client::{self, Kind};
use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::lab::Lab;
use crate::net::{CLIENT_INTERFACE, Namespace, Network, PREFIX, RANGE, SERVER};
use crate::packages;
use crate::process::Running;
use crate::scene::{Scene, mac, with_log};
use crate::suite::{Case, Outcome};
use crate::vm::Firmware;

pub(super) const CASES: &[Case] = &[
    Case::new("interface made anew", made_anew),
    Case::new("relay dnsmasq", |lab| relayed(lab, Relay::Dnsmasq)),
    Case::new("relay dhcrelay", |lab| relayed(lab, Relay::Dhcrelay)),
];

/// The bridge is deleted and made again while netbe serves it; then a machine boots.
fn made_anew(lab: &Lab) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let site = scene.site();
    scene.environment("guest", "test -c /dev/console")?;
    site.machine("alone", &mac(1), "guest")?;
    let server = site.serve()?;
    for _ in 0..2 {
        scene.network.make_anew()?;
    }
    scene.boots("alone", Firmware::Bios, "guest")?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// A relay agent that somebody else wrote.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Relay {
    Dhcrelay,
    Dnsmasq,
}

/// netbe has one interface. A relay joins it to two more networks: a machine boots in one, and a client
/// of the other gets what is said of that.
fn relayed(lab: &Lab, relay: Relay) -> Result<Outcome, Failure> {
    let scene = Scene::new(lab)?;
    let (site, network) = (scene.site(), &scene.network);
    // The relay's bridge is the first of its networks; a link to another namespace is the second.
    let near = Network::at(NEAR)?;
    let router = &near.server;
    network.join(router)?;
    router.ip(&format!("address add {UPLINK}/{PREFIX} dev {CLIENT_INTERFACE}"))?;
    let far = Namespace::new()?;
    far.joined_to(router, DOWNLINK)?;
    router.ip(&format!("address add {FAR}/{PREFIX} dev {DOWNLINK}"))?;
    let forward = router.program("sh").args(["-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]);
    forward.run(Duration::from_secs(20))?;
    for subnet in [NEAR_NETWORK, FAR_NETWORK] {
        network.server.ip(&format!("route add {subnet}/{PREFIX} via {UPLINK}"))?;
    }
    scene.environment("guest", "ip -4 -o address show scope global >address")?;
    site.machine("alone", &mac(1), "guest")?;
    let server = site.serve_as(&format!(
        "serve --interface lan --mode serve --range {RANGE} \
         --subnet {NEAR_NETWORK}/{PREFIX},range=10.78.0.100-10.78.0.199 \
         --subnet {FAR_NETWORK}/{PREFIX},range=10.79.0.100-10.79.0.199,router={FAR},mtu=1400"
    ))?;
    let _relay = start(lab, relay, router, &scene.directory)?;
    scene.boots_on(&near, "alone", Firmware::Bios, "guest")?;
    let address = site.root("guest").join("lab/address");
    let address = fs::read_to_string(&address).during(address.display())?;
    ensure(address.contains(" 10.78.0.1"), || format!("the machine's address is {address}"))?;

    site.run("sharepxe --default guest")?;
    let lease = dhcp_client::lease(&far, &scene.directory, lab.parts()?, Kind::Ipxe)
        .map_err(|failure| with_log(&site, failure))?;
    let told = ["ip", "router", "mtu"].map(|name| lease.field(name).to_owned());
    let [ip, router, mtu] = &told;
    ensure(ip.starts_with("10.79.0.1") && router == FAR && mtu == "1400", || {
        format!("the client behind the relay was told {told:?}")
    })?;
    far.ip(&format!("route add default via {FAR}"))?;
    let script = far.program("curl").words("-s -f -m 20").arg(lease.boot_file());
    let script = script.run(Duration::from_secs(30))?;
    ensure(script.starts_with("#!ipxe"), || format!("{}: {script:?}", lease.boot_file()))?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// Starts the relay between its two networks and netbe.
fn start(
    lab: &Lab,
    relay: Relay,
    router: &Namespace,
    directory: &std::path::Path,
) -> Result<Running, Failure> {
    let log = directory.join("relay.log");
    let mut running = match relay {
        Relay::Dnsmasq => router
            .program("dnsmasq")
            .words("--no-daemon --conf-file=/dev/null --port=0 --user=root --log-dhcp")
            .arg(format!("--dhcp-relay={NEAR},{SERVER}"))
            .arg(format!("--dhcp-relay={FAR},{SERVER}"))
            .start(&log)?,
        Relay::Dhcrelay => {
            let dhcrelay =
                packages::unpacked(&lab.cache, "isc-dhcp-relay")?.join("usr/sbin/dhcrelay");
            router
                .program(&dhcrelay.display().to_string())
                .words("-4 -d --no-pid -i lan -i")
                .arg(DOWNLINK)
                .arg("-i")
                .arg(CLIENT_INTERFACE)
                .arg(SERVER)
                .start(&log)?
        }
    };
    wait_for("the relay's start", Duration::from_secs(20), || {
        running.still(&log)?;
        let said = fs::read_to_string(&log).unwrap_or_default();
        let ready = ["DHCP relay from", "Sending on   Socket/fallback"];
        Ok(ready.iter().any(|words| said.contains(words)).then_some(()))
    })?;
    Ok(running)
}

/// The relay's addresses: on netbe's network, and on its own two.
const UPLINK: &str = "10.77.0.2";
const NEAR: &str = "10.78.0.1";
const FAR: &str = "10.79.0.1";
const NEAR_NETWORK: &str = "10.78.0.0";
const FAR_NETWORK: &str = "10.79.0.0";
/// The relay's interface on its second network.
const DOWNLINK: &str = "far0";
