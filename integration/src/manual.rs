//! One chain, booted on command: its timeline is shown, and its traffic may be kept.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::capture::Capture;
use crate::chain::{ALL, Chain};
use crate::failure::Failure;
use crate::lab::Lab;
use crate::net::Network;
use crate::packages;
use crate::proof::{proof, token};
use crate::server::Site;
use crate::vm::{Hardware, Machine};

/// Prints the names of all chains, with their stages.
pub(crate) fn list() {
    for chain in ALL {
        println!("{:<12}{}", chain.name, chain.stages);
    }
}

/// Boots a machine by the chain of this name, and copies the capture of it to `keep`.
pub(crate) fn run(name: &str, keep: Option<&Path>) -> Result<ExitCode, Failure> {
    let chain = Chain::find(name)?;
    packages::install(&[packages::MACHINES, packages::TESTS])?;
    let lab = Lab::open()?;
    let directory = lab.directory("manual boot")?;
    let network = Network::new()?;
    let site = Site::new(lab.netbe()?, &network, &directory);
    site.environment("guest", lab.parts()?, "test -c /dev/console")?;
    chain.machine(&lab, &site, MACHINE, MAC, "guest")?;
    let capture = Capture::begin(&network, &directory, "")?;
    let server = site.serve()?;
    let root = site.root("guest");
    let token = token(&root, MACHINE)?;
    println!("{}: {}\n", chain.name, chain.stages);
    let mut watch = site.netbe("watch").show()?;
    let hardware = Hardware {
        name: MACHINE.to_owned(),
        firmware: chain.firmware,
        mac: MAC.to_owned(),
        memory: 512,
    };
    let mut machine = Machine::switch_on(&network, &directory, &hardware)?;
    let ended = machine.wait_until_off(BOOT_LIMIT);
    watch.interrupt(Duration::from_secs(5))?;
    // The capture of a boot that failed is the one that is wanted most.
    if let Some(file) = keep {
        capture.keep(file)?;
        println!("\nThe capture is in {}.", file.display());
    }
    let seconds = ended?.as_secs_f32();
    println!();
    print!("{}", site.run("status")?);
    proof(&root, &token, MACHINE).map_err(|failure| machine.explain(failure))?;
    server.stop()?;
    println!(
        "\nThe machine booted by {}, in {seconds:.1} s from power-on to power-off.",
        chain.name
    );
    Ok(ExitCode::SUCCESS)
}

const MACHINE: &str = "lab";
const MAC: &str = "52:54:00:77:00:01";
const BOOT_LIMIT: Duration = Duration::from_secs(600);
