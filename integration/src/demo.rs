//! The demonstration: two empty machines, one BIOS and one UEFI, boot from netbe before one's eyes.

use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use crate::failure::{During, Failure, ensure};
use crate::guest::Marker;
use crate::lab::Lab;
use crate::net::{Network, SERVER};
use crate::packages;
use crate::process::tail;
use crate::server::{Site, machine_words, serve_words};
use crate::vm::{Firmware, Hardware, Machine};

/// Shows everything, and ends with the proof.
pub(crate) fn run() -> Result<ExitCode, Failure> {
    println!(
        "An empty machine boots from netbe. Everything happens in a private network namespace"
    );
    println!("and a scratch directory; Ctrl-C removes both.\n");
    packages::install(&[packages::MACHINES])?;
    let lab = Lab::open()?;
    let netbe = lab.netbe()?;
    let parts = lab.parts()?;
    let directory = lab.directory("demo")?;
    let network = Network::new()?;
    let site = Site::new(netbe, &network, &directory);

    println!("\nA boot environment from Debian's own kernel and a small user land:\n");
    said("create debian");
    site.environment("debian", parts, TASK)?;
    println!("  (the kernel, an initial RAM disk and busybox are copied into it)");
    for (_, name, mac) in MACHINES {
        let [add, share] = machine_words(name, mac, name);
        for words in [format!("clone debian {name}"), add, share] {
            said(&words);
            site.run(&words)?;
        }
    }
    said("list");
    println!("{}", site.run("list")?);

    said(&serve_words());
    let server = site.serve()?;
    print!("{}", tail(&site.log(), 30));
    println!("\n");

    for (firmware, name, mac) in MACHINES {
        println!("Switching on a machine with {} and nothing else in it:\n", firmware.name());
        said("watch");
        let hardware =
            Hardware { name: name.to_owned(), firmware, mac: mac.to_owned(), memory: 512 };
        let mut watch = site.netbe("watch").show()?;
        let mut machine = Machine::switch_on(&network, &directory, &hardware)?;
        let seconds = machine.wait_until_off(BOOT_LIMIT)?.as_secs_f32();
        watch.interrupt(Duration::from_secs(5))?;
        println!();
        said("status");
        print!("{}", site.run("status")?);
        prove(&site, name, &machine)?;
        println!("The machine was on for {seconds:.1} s.\n");
    }
    server.stop()?;
    println!("Two empty machines booted. Everything that was made for it is removed now.");
    Ok(ExitCode::SUCCESS)
}

/// Shows what the guest wrote onto its root, as it lies on the server.
fn prove(site: &Site<'_>, name: &str, machine: &Machine) -> Result<(), Failure> {
    let root = site.root(name);
    let marker = Marker::read(&root).map_err(|failure| machine.explain(failure))?;
    let proof = root.join("lab/proof");
    let words = fs::read_to_string(&proof).during(proof.display())?;
    let mount = marker.field("mount");
    let holds = mount.starts_with(&format!("{SERVER}:/be/{name} / nfs ")) && !words.is_empty();
    ensure(holds, || format!("the guest's root is not what it should be: {marker:?}"))?;
    println!("\nThe proof, read on the server in the boot environment {name}, from lab/proof:\n");
    println!("    {}\n", words.trim_end().replace('\n', "\n    "));
    println!("The guest's kernel: {}", marker.field("kernel"));
    println!("The guest's mount line:\n\n    {mount}\n");
    Ok(())
}

/// Shows a command of netbe as one would type it.
fn said(words: &str) {
    println!("# netbe {words}");
}

const TASK: &str = include_str!("../guest/demo.sh");
const MACHINES: [(Firmware, &str, &str); 2] =
    [(Firmware::Bios, "bios", "52:54:00:77:00:01"), (Firmware::Uefi, "uefi", "52:54:00:77:00:02")];
const BOOT_LIMIT: Duration = Duration::from_secs(300);
