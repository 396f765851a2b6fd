//! What an update of a base means for a skeleton.

use std::os::unix::ffi::OsStrExt;

use super::listing::{End, parent};
use super::place::{MOUNT_POINT, OWN_DIRECTORIES, moves};
use super::plan::Halves;
use super::shown;
use crate::{Change, ChangeKind, FileKind};

/// Where a skeleton meets what an update of its base changed. Paths are the template's.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Touch {
    /// The link led to a file that is gone.
    #[error("{} leads nowhere now: {:?} is gone", shown(link), String::from_utf8_lossy(text))]
    Dangles {
        /// The link in the skeleton.
        link: Vec<u8>,
        /// What it says.
        text: Vec<u8>,
    },
    /// The link leads to a changed file: the jail has the new one at once.
    #[error("{} leads to {}, which has changed", shown(link), shown(file))]
    Leads {
        /// The link in the skeleton.
        link: Vec<u8>,
        /// The file in the base.
        file: Vec<u8>,
    },
    /// The skeleton has a file of its own in place of a changed one, which the jail never sees.
    #[error("{} is in the skeleton, which keeps its own version", shown(.0))]
    Own(Vec<u8>),
    /// A package brought a file of the same name.
    #[error("{} stands beside {}, which has changed", shown(own), shown(file))]
    Shadows {
        /// The file in the skeleton.
        own: Vec<u8>,
        /// The file in the base.
        file: Vec<u8>,
    },
}

/// What the changes to a base mean for a skeleton; `halves` are those after the changes. A change in
/// what the skeleton has its own of is that of another template.
#[must_use]
pub fn touched(changes: &[Change], halves: &Halves) -> Vec<Touch> {
    let (skeleton, composed) = (&halves.skeleton, halves.composed());
    let mut touches = Vec::new();
    let places = OWN_DIRECTORIES.map(|place| place.path);
    for change in changes.iter().filter(|change| change.file != FileKind::Directory) {
        let path = change.path.as_os_str().as_bytes();
        if moves(path, &places) {
            // The place itself is a link in the base, of which a skeleton has nothing.
            let place = OWN_DIRECTORIES.iter().any(|place| place.path.as_bytes() == path);
            if !place && change.kind != ChangeKind::Removed && skeleton.get(path).is_some() {
                touches.push(Touch::Own(path.to_vec()));
            }
            continue;
        }
        let own = [b"usr/local/", path.strip_prefix(b"usr/").unwrap_or(path)].concat();
        // Of a link to the changed file itself is told below.
        let leads = composed.resolve(b"", &own) == End::At(path.to_vec());
        if skeleton.get(&own).is_some() && !leads {
            touches.push(Touch::Shadows { own, file: path.to_vec() });
        }
    }
    let changed = |path: &[u8]| {
        let bytes = |change: &&Change| change.path.as_os_str().as_bytes() == path;
        changes.iter().filter(|change| change.file != FileKind::Directory).find(bytes)
    };
    for (path, text) in composed.links() {
        let inside = path.strip_prefix(MOUNT_POINT.as_bytes());
        let Some(link) = inside.and_then(|rest| rest.strip_prefix(b"/")) else { continue };
        let (link, text) = (link.to_vec(), text.to_vec());
        match composed.resolve(parent(path), &text) {
            End::At(file) if changed(&file).is_some() => touches.push(Touch::Leads { link, file }),
            End::Missing(file) if changed(&file).is_some() => {
                touches.push(Touch::Dangles { link, text });
            }
            End::At(_) | End::Missing(_) | End::Circle => {}
        }
    }
    touches
}
