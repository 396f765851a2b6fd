//! A pool called `tank`, of which there is no other: in a guest.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::failure::{During, Failure};
use crate::process::Program;

/// A script that leaves nothing of the pool mounted, and nothing that netbe has in /run: as when the host
/// starts.
pub(crate) const EXPORT: &str = "
for at in $(sed -n 's/^tank[^ ]* \\([^ ]*\\) zfs .*/\\1/p' /proc/mounts | sort -r); do umount \"$at\"; done
if zpool list tank >/dev/null 2>&1; then zpool export tank; fi
rm -rf /run/netbe
";

/// Lists these columns of every data set and snapshot, without a header; the first of them is `name`.
pub(crate) fn list(columns: &str) -> Result<String, Failure> {
    Program::new("zfs").words("list -Hp -r -t all -o").arg(columns).arg("tank").run(LIMIT)
}

/// Lists what was set, in order: name, property, value. zfs(8) lists user properties in an order that each data set
/// has for itself.
pub(crate) fn properties() -> Result<String, Failure> {
    let get = "get -Hp -r -s local,received -o name,property,value -t filesystem,snapshot all tank";
    let listed = Program::new("zfs").words(get).run(LIMIT)?;
    let mut lines: Vec<&str> = listed.split_inclusive('\n').collect();
    lines.sort_unstable();
    Ok(lines.concat())
}

/// Looks at what is in a file system, mounted at a directory that is made for it.
pub(crate) fn mounted<T>(
    name: &str,
    at: &Path,
    look: impl FnOnce(&Path) -> Result<T, Failure>,
) -> Result<T, Failure> {
    fs::create_dir_all(at).during(at.display())?;
    Program::new("sh").args(["-euc", MOUNT, "mount", name]).arg(at).run(LIMIT)?;
    let seen = look(at);
    Program::new("umount").arg(at).run(LIMIT)?;
    seen
}

/// It may be mounted elsewhere too, and there be mounted by /etc/fstab or by ZFS.
const MOUNT: &str =
    "mount -t zfs -o zfsutil \"$1\" \"$2\" 2>/dev/null || mount -t zfs \"$1\" \"$2\"";
const LIMIT: Duration = Duration::from_secs(300);
