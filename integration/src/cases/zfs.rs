//! Real ZFS, in a guest that has it.

use std::time::Duration;

use crate::debian::Debian;
use crate::errand::Errand;
use crate::failure::{Failure, ensure};
use crate::lab::Lab;
use crate::net::Network;
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] = &[Case { name: "zfs guest has a pool", run: pool }];

/// The guest's module and programs work: a snapshot keeps what its data set loses.
fn pool(lab: &Lab) -> Result<Outcome, Failure> {
    let log = errand(lab, "zfs pool", &Errand { script: POOL, ..PLAIN })?;
    ensure(log.lines().any(|line| line == "kept"), || log)?;
    Ok(Outcome::Passed)
}

/// Runs an errand with files and logs in a directory of this name; gives what its script wrote.
fn errand(lab: &Lab, name: &str, errand: &Errand<'_>) -> Result<String, Failure> {
    let debian = Debian::get(&lab.cache)?;
    let directory = lab.directory(name)?;
    let network = Network::new()?;
    errand.send(&network, &directory, &debian)?.back(LIMIT)
}

/// A guest with nothing to do.
const PLAIN: Errand<'static> = Errand {
    name: "zfs",
    mac: "52:54:00:77:02:01",
    memory: 1024,
    script: "true",
    files: &[],
    pool: 512,
};
const POOL: &str = "
set -eu
zpool create -O compression=off -m none tank /dev/vdc1
zfs create -o mountpoint=/tank/one tank/one
echo kept >/tank/one/file
zfs snapshot tank/one@first
rm /tank/one/file
cat /tank/one/.zfs/snapshot/first/file
";
/// How long a guest may take for its errand.
const LIMIT: Duration = Duration::from_secs(900);
