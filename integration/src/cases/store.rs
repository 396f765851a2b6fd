//! The store on file systems that can share blocks.

use std::time::Duration;

use crate::failure::{Failure, ensure};
use crate::lab::Lab;
use crate::process::Program;
use crate::suite::{Case, Outcome};

pub(super) const CASES: &[Case] =
    &[Case { name: "store clone on btrfs shares blocks", run: reflink }];

/// A clone of 64 MiB on btrfs takes next to no space, and reads the same.
fn reflink(lab: &Lab) -> Result<Outcome, Failure> {
    let directory = lab.directory("store btrfs")?;
    let done = Program::new("unshare")
        .args(["--mount", "sh", "-euc", SCRIPT])
        .env("NETBE", lab.netbe()?)
        .directory(&directory)
        .finish(Duration::from_secs(300))?;
    if done.status.code() == Some(NO_BTRFS) {
        return Ok(Outcome::Skipped("this kernel mounts no btrfs from a loop device".to_owned()));
    }
    let said = done.success()?;
    let kib = said.trim().parse::<u64>();
    ensure(kib.as_ref().is_ok_and(|&kib| kib < 8 * 1024), || {
        format!("the clone of 64 MiB should take less than 8 MiB; in KiB it took: {said}")
    })?;
    Ok(Outcome::Passed)
}

/// Prints how many KiB a clone took. The mount ends with its namespace.
const SCRIPT: &str = "
truncate -s 512M image
mkfs.btrfs -q image >/dev/null
mkdir mounted
mount -o loop image mounted 2>/dev/null || exit 77
store=dir:$PWD/mounted/store
netbe() { \"$NETBE\" --state state --store \"$store\" \"$@\"; }
used() { sync -f mounted; df --output=used mounted | tail -n 1; }
netbe create one
dd if=/dev/urandom of=mounted/store/be/one/file bs=1M count=64 2>/dev/null
before=$(used)
netbe clone one two
after=$(used)
cmp mounted/store/be/one/file mounted/store/be/two/file
umount mounted
echo $((after - before))
";
/// How the script ends where btrfs cannot be mounted.
const NO_BTRFS: i32 = 77;
