//! Stores of plain directories and of btrfs: what every store promises, and what sharing blocks saves.

use std::time::Duration;

use crate::cases::checks::{SKIPPED, count, failures};
use crate::failure::{Failure, ensure};
use crate::lab::Lab;
use crate::process::{Program, last_lines};
use crate::suite::{Case, Outcome, Tally};

pub(super) const CASES: &[Case] = &[
    Case::new("store contract on dir", on_directories),
    Case::new("store contract on btrfs", on_btrfs),
    Case::new("store thin templates on btrfs", thin_on_btrfs),
    Case::new("store clone on btrfs shares blocks", reflink).light(),
    Case::new("store figures on btrfs", figures).light(),
];

/// What every store promises, for plain directories, on ext4 where it can be mounted: it has all that a file
/// can have.
fn on_directories(lab: &Lab) -> Result<Outcome, Failure> {
    tests(lab, "contract", "store contract dir", DIRECTORIES)
}

/// The same for btrfs.
fn on_btrfs(lab: &Lab) -> Result<Outcome, Failure> {
    tests(lab, "contract", "store contract btrfs", &[PLACE, BTRFS].concat())
}

/// Templates that are split, flat and nested ones.
fn thin_on_btrfs(lab: &Lab) -> Result<Outcome, Failure> {
    tests(lab, "thin", "store thin btrfs", &[PLACE, THIN].concat())
}

/// Runs a file of the store's tests, `$TESTS`, where a script has made a place for it.
fn tests(lab: &Lab, file: &str, directory: &str, script: &str) -> Result<Outcome, Failure> {
    let done = Program::new("unshare")
        .args(["--mount", "sh", "-euc", script])
        .env("TESTS", lab.tests("store", file)?)
        .directory(&lab.directory(directory)?)
        .finish(Duration::from_secs(1200))?;
    if done.status.code() == Some(NO_BTRFS) {
        return Ok(no_btrfs());
    }
    let tally = count(&done.stdout);
    for line in done.stdout.lines().filter(|line| line.starts_with(SKIPPED)) {
        println!("      {line}");
    }
    if tally.failed > 0 {
        println!("{}", failures(&done.stdout));
    } else if !done.status.success() || tally == Tally::default() {
        return Err(Failure::Said(last_lines(&done.stderr, 40)));
    }
    Ok(Outcome::Counted(tally))
}

const DIRECTORIES: &str = "
place() {
    truncate -s \"$2\" \"$1.img\"
    mkfs.ext4 -q -m 0 \"$1.img\"
    mkdir \"$1\"
    mount -o loop,barrier=0 \"$1.img\" \"$1\" 2>/dev/null
}
place large 4G || true
place small 48M || mount -t tmpfs -o size=32M none small
mkdir large/store large/tmp
export TMPDIR=$PWD/large/tmp
NETBE_CONTRACT_STORE=dir:$PWD/large/store NETBE_CONTRACT_SMALL=dir:$PWD/small \"$TESTS\" --show-output
";
/// The mounts and their loop devices end with the namespace.
const PLACE: &str = "
place() {
    truncate -s \"$2\" \"$1.img\"
    mkfs.btrfs -q \"$1.img\" >/dev/null
    mkdir \"$1\"
    mount -o loop \"$1.img\" \"$1\" 2>/dev/null || exit 77
}
";
const BTRFS: &str = "
place large 4G
place small 160M
NETBE_CONTRACT_STORE=btrfs:$PWD/large NETBE_CONTRACT_SMALL=btrfs:$PWD/small \"$TESTS\" --show-output
";
const THIN: &str = "
place large 2G
NETBE_THIN_STORE=btrfs:$PWD/large \"$TESTS\" --show-output
";

/// A clone of 64 MiB on btrfs takes next to no space, and reads the same.
fn reflink(lab: &Lab) -> Result<Outcome, Failure> {
    let Some(said) = on_loop(lab, "store btrfs", SCRIPT)? else { return Ok(no_btrfs()) };
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

/// With quota groups, a snapshot of 8 MiB refers to them and has next to none of its own.
fn figures(lab: &Lab) -> Result<Outcome, Failure> {
    let Some(said) = on_loop(lab, "store figures", FIGURES)? else { return Ok(no_btrfs()) };
    let lists: serde_json::Value =
        serde_json::from_str(&said).map_err(|error| Failure::Said(error.to_string()))?;
    let figure = |name: &str| lists.pointer(&format!("/survey/0/snapshots/0/{name}"))?.as_u64();
    let (referenced, exclusive) = (figure("referenced"), figure("exclusive"));
    let right = referenced.is_some_and(|bytes| bytes >= 8 << 20)
        && exclusive.is_some_and(|bytes| bytes < 1 << 20);
    ensure(right, || {
        format!("the snapshot refers to {referenced:?} bytes and has {exclusive:?} of its own")
    })?;
    let (space, own) = (lists.pointer("/list/0/space"), lists.pointer("/survey/0/exclusive"));
    ensure(space == own && own.is_some_and(serde_json::Value::is_u64), || {
        format!("the environment has {own:?} bytes of its own, and is listed with {space:?}")
    })?;
    Ok(Outcome::Passed)
}

/// Prints what netbe says of a file system that counts. The mount ends with its namespace.
const FIGURES: &str = "
truncate -s 512M image
mkfs.btrfs -q image >/dev/null
mkdir mounted
mount -o loop image mounted 2>/dev/null || exit 77
btrfs quota enable mounted
netbe() { \"$NETBE\" --state state --store \"btrfs:$PWD/mounted/store\" \"$@\"; }
netbe create one
dd if=/dev/urandom of=mounted/store/be/one/file bs=1M count=8 2>/dev/null
netbe snapshot one@before
sync -f mounted
btrfs quota rescan -w mounted >/dev/null
printf '{\"survey\": %s, \"list\": %s}' \"$(netbe list -s -j)\" \"$(netbe list -j)\"
";

/// What a script prints that mounts btrfs where nobody else sees it; nothing if this kernel mounts none.
fn on_loop(lab: &Lab, name: &str, script: &str) -> Result<Option<String>, Failure> {
    let directory = lab.directory(name)?;
    let done = Program::new("unshare")
        .args(["--mount", "sh", "-euc", script])
        .env("NETBE", lab.netbe()?)
        .directory(&directory)
        .finish(Duration::from_secs(300))?;
    if done.status.code() == Some(NO_BTRFS) {
        return Ok(None);
    }
    done.success().map(Some)
}

pub(super) fn no_btrfs() -> Outcome {
    Outcome::Skipped("this kernel mounts no btrfs from a loop device".to_owned())
}

/// How the script ends where btrfs cannot be mounted.
pub(super) const NO_BTRFS: i32 = 77;
