//! The whole appliance on real ZFS: netbe in a guest that has it, and an empty machine beside it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::debian::Debian;
use crate::failure::{During, Failure, ensure};
use crate::guest_task::{GuestTask, PLAIN};
use crate::lab::Lab;
use crate::net::Network;
use crate::process::Program;
use crate::scene::switch_on;
use crate::suite::{Case, Outcome};
use crate::vm::{Firmware, Machine};

pub(super) const CASES: &[Case] = &[Case::new("zfs appliance", appliance).long()];

/// A machine boots from a nested environment of a pool in another guest; it is snapshotted while it
/// lives, rolled back, and booted again from it, from a clone of the snapshot, and from a clone of
/// which it mounts each file system by itself; then it has a root of its own, which is upgraded, put back,
/// rolled back and made anew, while its data stay.
fn appliance(lab: &Lab) -> Result<Outcome, Failure> {
    let debian = Debian::get(&lab.cache)?;
    let directory = lab.directory("zfs appliance")?;
    let network = Network::new()?;
    let (root, desk) = (directory.join("root.tar"), directory.join("desk.sh"));
    let tree = directory.join("root");
    fs::create_dir(&tree).during(tree.display())?;
    lab.parts()?.furnish(&tree, "")?;
    let tar = Program::new("tar").arg("-cf").arg(&root).arg("-C").arg(&tree).arg(".");
    tar.run(Duration::from_secs(60))?;
    fs::write(&desk, include_str!("../../guest/zfs/desk.sh")).during(desk.display())?;
    let files: [(&str, &Path); 3] =
        [("netbe", lab.netbe()?), ("root.tar", &root), ("desk.sh", &desk)];
    let task = GuestTask {
        memory: 1024,
        script: concat!(
            include_str!("../../guest/zfs/site.sh"),
            include_str!("../../guest/zfs/appliance.sh")
        ),
        files: &files,
        pool: 1024,
        ..PLAIN
    };
    let mut machine = None;
    let output = task.start(&network, &directory, &debian)?.serve(LIMIT, |request| {
        ensure(request == "switch on", || format!("the lab cannot {request:?}"))?;
        if let Some(mut machine) = machine.take() {
            // It has written its marker, and is about to end.
            Machine::wait_until_off(&mut machine, Duration::from_secs(60))?;
            network.untap("desk")?;
        }
        machine = Some(switch_on(&network, &directory, "desk", Firmware::Bios, 1)?);
        Ok(())
    });
    let done = output.and_then(|output| output.success());
    let log = done.map_err(|failure| match &machine {
        Some(machine) => machine.explain(failure),
        None => failure,
    })?;
    ensure(log.lines().any(|line| line.starts_with("step: done")), || log.clone())?;
    Ok(Outcome::Passed)
}

/// How long the day of the appliance may take, with eight boots of the machine, on a computer that has
/// much else to do.
const LIMIT: Duration = Duration::from_secs(2400);
