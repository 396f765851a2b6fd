//! The proof that a guest of this very boot ran on a root from netbe.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{During, Failure, ensure};
use crate::guest::Marker;

/// Puts a word onto a root that only a guest of this very boot can copy into its marker.
pub(crate) fn token(root: &Path, name: &str) -> Result<String, Failure> {
    let path = root.join("lab/token");
    let source: PathBuf = "/proc/sys/kernel/random/uuid".into();
    let token = format!("{name} {}", fs::read_to_string(&source).during(source.display())?.trim());
    fs::write(&path, &token).during(path.display())?;
    Ok(token)
}

/// Fails unless the guest of this boot did its task on a root that is NFS.
pub(crate) fn proof(root: &Path, token: &str, host: &str) -> Result<(), Failure> {
    proof_by("nfs", root, token, host)
}

/// The same on a root that is this type of file system.
pub(crate) fn proof_by(by: &str, root: &Path, token: &str, host: &str) -> Result<(), Failure> {
    let marker = Marker::read(root)?;
    let holds = marker.field("token") == token
        && marker.field("task") == "0"
        && marker.field("host") == host
        && marker.field("mount").contains(&format!(" / {by} rw,"));
    ensure(holds, || format!("the guest's marker is not as it should be: {marker:?}"))
}
