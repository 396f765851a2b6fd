//! Boot environments that run as containers of this host.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use crate::disk::own_mounts;
use crate::failure::{During, Failure, ensure};
use crate::guest;
use crate::lab::Lab;
use crate::net::BRIDGE;
use crate::process::{Program, tail};
use crate::scene::{Scene, mac};
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[Case::new("container by systemd-nspawn", container)];

/// A Debian runs as a container by the files that netbe writes: on the bridge, with its machine's Ethernet address and
/// so with its machine's lease, and its files belong to whom they belonged to.
fn container(lab: &Lab) -> Result<Outcome, Failure> {
    own_mounts()?;
    let scene = Scene::new(lab)?;
    let site = scene.site();
    site.run("create web")?;
    let root = site.root("web");
    guest::furnish_systemd(&lab.cache, &root)?;
    guest::furnish_service(&root, "proof", PROOF)?;
    site.machine("web", &mac(1), "web")?;
    site.run(&format!("machine set --address {ADDRESS} web"))?;
    let server = site.serve()?;
    // What this host has there stays as it is.
    for hidden in ["/etc/systemd", "/var/lib"] {
        Program::new("mount").words("-t tmpfs none").arg(hidden).run(LIMIT)?;
    }
    site.run(&format!("show nspawn --machine web --bridge {BRIDGE} --into / web"))?;
    mount("/etc/systemd/system/var-lib-machines-web.mount")?;

    // As the unit systemd-nspawn@.service has it; there is no systemd here that it could be registered with.
    let log = scene.directory.join("container.log");
    let nspawn = scene.network.server.program("systemd-nspawn");
    let words = "--quiet --keep-unit --register=no --boot --link-journal=try-guest --network-veth -U \
                 --settings=override --machine=web";
    let mut running = nspawn.words(words).start(&log)?;
    let ended = running.wait(BOOT_LIMIT);
    let explain = |failure: Failure| {
        failure.retold(|words| format!("{words}\nthe container said:\n{}", tail(&log, 30)))
    };
    let status = ended.map_err(explain)?;
    ensure(status.success(), || format!("systemd-nspawn: {status}")).map_err(explain)?;
    let proof = root.join("proof");
    let told = fs::read_to_string(&proof).during(proof.display()).map_err(explain)?;
    let has = |what: &str| told.contains(what);
    ensure(has(&mac(1)) && has(&format!("inet {ADDRESS}/24")), || told.clone()).map_err(explain)?;
    let owner = fs::metadata(root.join("usr/bin/env")).during("usr/bin/env")?.uid();
    ensure(owner == 0, || format!("usr/bin/env belongs to {owner} now"))?;
    let leases = site.run("status")?;
    ensure(leases.contains(ADDRESS), || leases.clone())?;
    server.stop()?;
    Ok(Outcome::Passed)
}

/// Mounts what a unit says, as systemd would.
fn mount(unit: &str) -> Result<(), Failure> {
    let text = fs::read_to_string(unit).during(unit)?;
    let of = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.ok_or_else(|| Failure::said(format!("{unit} has no {name}")))
    };
    let at = of("Where")?;
    fs::create_dir_all(at).during(at)?;
    let mount = Program::new("mount").args(["-t", of("Type")?, "-o", of("Options")?]);
    mount.args([of("What")?, at]).run(LIMIT).map(drop)
}

/// Writes down what the container's network is once that is there, and switches it off.
const PROOF: &str = "[Service]
Type=oneshot
ExecStart=/bin/sh -c 'for try in $(seq 60); do ip -4 addr show host0 | grep -q inet && break; sleep 1; done; \
ip addr show host0 >/proof; systemctl --no-block poweroff'
";
/// Outside of the range: only the machine has it.
const ADDRESS: &str = "10.77.0.30";
const BOOT_LIMIT: Duration = Duration::from_secs(300);
const LIMIT: Duration = Duration::from_secs(20);
