//! What belongs into a skeleton, and where it is then.

use super::listing::{below, join};

/// A directory that each jail has its own of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct OwnDirectory {
    /// Where it is in the template.
    pub(super) path: &'static str,
    /// The permission bits that it is made with where the template has none; `None` where it is not
    /// made.
    pub(super) mode: Option<u32>,
}

/// All of them, in the order of their paths; modes as in FreeBSD's etc/mtree.
///
/// `usr/home` is there on systems before FreeBSD 14, whose `home` is a link to it.
pub(super) const OWN_DIRECTORIES: [OwnDirectory; 7] = [
    OwnDirectory { path: "etc", mode: None },
    OwnDirectory { path: "home", mode: Some(0o755) },
    OwnDirectory { path: "root", mode: Some(0o750) },
    OwnDirectory { path: "tmp", mode: Some(0o1777) },
    OwnDirectory { path: "usr/home", mode: None },
    OwnDirectory { path: "usr/local", mode: Some(0o755) },
    OwnDirectory { path: "var", mode: Some(0o755) },
];

/// The directory of the base that a jail's skeleton is mounted on.
pub const MOUNT_POINT: &str = "skeleton";

/// What the link says that the base has in a place: `../skeleton/usr/local`.
#[must_use]
pub fn link_to(place: &str) -> String {
    let up = "../".repeat(place.matches('/').count());
    format!("{up}{MOUNT_POINT}/{place}")
}

/// Where in a jail a path of the skeleton is.
pub(super) fn mounted(path: &[u8]) -> Vec<u8> {
    if path.is_empty() { MOUNT_POINT.into() } else { join(MOUNT_POINT.as_bytes(), path) }
}

/// Where in a jail a path of the template is, if what is in `places` has moved.
pub(super) fn placed(path: &[u8], places: &[&str]) -> Vec<u8> {
    if moves(path, places) { mounted(path) } else { path.to_vec() }
}

/// Whether a path is one of the places, or below one.
pub(super) fn moves(path: &[u8], places: &[&str]) -> bool {
    places.iter().any(|place| below(path, place.as_bytes()))
}
