//! Proves that two halves are one tree.

use super::links::Border;
use super::listing::{End, Kind, Listing, Node, parent};
use super::place::{MOUNT_POINT, OWN_DIRECTORIES, link_to, mounted};
use super::plan::{Halves, Plan};
use super::shown;

/// What is wrong with two halves. Paths are the template's.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    /// A link leads nowhere that would lead somewhere had it moved rightly.
    #[error("{} leads nowhere: it says {:?}{}", shown(path), String::from_utf8_lossy(text), instead(right.as_deref()))]
    Dangles {
        /// The link.
        path: Vec<u8>,
        /// What it says.
        text: Vec<u8>,
        /// What it should say, if that is known.
        right: Option<Vec<u8>>,
    },
    /// It has another kind, owner, mode or other flags, or a link says something else.
    #[error("{} has changed", shown(.0))]
    Differs(Vec<u8>),
    /// A path leads to another file, or nowhere.
    #[error("{} leads elsewhere", shown(.0))]
    Elsewhere(Vec<u8>),
    /// It is gone.
    #[error("{} is gone", shown(.0))]
    Gone(Vec<u8>),
    /// The base has no empty directory to mount a skeleton on.
    #[error("the base has no empty directory {MOUNT_POINT:?}: create one")]
    MountPoint,
    /// The base has something else in a place than the link that belongs there.
    #[error("the base has no symbolic link {0:?} to {text:?}: create it", text = link_to(.0))]
    NoLink(&'static str),
    /// The base has a link to it, and the skeleton no directory.
    #[error("the skeleton has no directory {0:?}: create it")]
    NoPlace(&'static str),
    /// It was not there.
    #[error("{} was not there", shown(.0))]
    Stray(Vec<u8>),
}

/// What is found out about a pair.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Check {
    /// What is wrong with it.
    pub faults: Vec<Fault>,
    /// Links that lead nowhere, whether the tree is split or not.
    pub dangling: Vec<Vec<u8>>,
    /// How many links there are.
    pub links: usize,
}

/// Compares a tree with the halves that a plan made of it: every name is there, in its place, with
/// its owner, mode and flags, and every path leads to the same file as before. What a file contains
/// is no part of a listing.
#[must_use]
pub fn prove(tree: &Listing, plan: &Plan, halves: &Halves) -> Vec<Fault> {
    let expected = plan.apply(tree);
    let mut faults = Vec::new();
    for (wanted, found, mount) in
        [(&expected.base, &halves.base, false), (&expected.skeleton, &halves.skeleton, true)]
    {
        for (path, node) in wanted.iter() {
            match found.get(path) {
                None => faults.push(Fault::Gone(path.to_vec())),
                Some(other) if !alike(node, other) => faults.push(Fault::Differs(path.to_vec())),
                Some(_) => {}
            }
        }
        let strange = found.iter().filter(|(path, _)| wanted.get(path).is_none());
        let strange = strange.filter(|(path, _)| !(mount && path.is_empty()));
        faults.extend(strange.map(|(path, _)| Fault::Stray(path.to_vec())));
    }
    let composed = halves.composed();
    for (path, _) in tree.iter() {
        let same = match (tree.resolve(b"", path), composed.resolve(b"", path)) {
            (End::At(before), End::At(after)) => plan.placed(&before) == after,
            // What led nowhere may lead to a directory that the skeleton has got.
            (End::Missing(_) | End::Circle, _) => true,
            (End::At(_), End::Missing(_) | End::Circle) => false,
        };
        if !same {
            faults.push(Fault::Elsewhere(path.to_vec()));
        }
    }
    faults
}

/// Looks whether a base and a skeleton belong together, without the tree that they were made of:
/// the links and the mount point are there, and no link leads nowhere that would lead somewhere if
/// the two were one tree again.
#[must_use]
pub fn check(halves: &Halves) -> Check {
    let Halves { base, skeleton } = halves;
    let mut check = Check::default();
    let mut places = Vec::new();
    for place in OWN_DIRECTORIES {
        let path = place.path.as_bytes();
        let text = link_to(place.path).into_bytes();
        if !base.is_dir(parent(path)) {
            continue;
        }
        let kept = match base.get(path).map(|node| &node.kind) {
            Some(Kind::Link(other)) if *other == text => false,
            // A link of the template's own leads to what is a place itself: `home -> usr/home`.
            Some(Kind::Link(_)) => true,
            None => place.mode.is_none() && place.path != "etc",
            Some(Kind::Directory | Kind::Regular | Kind::Special) => {
                check.faults.push(Fault::NoLink(place.path));
                continue;
            }
        };
        match (kept, base.get(path).is_some()) {
            (true, _) => {}
            (false, false) => check.faults.push(Fault::NoLink(place.path)),
            (false, true) if skeleton.is_dir(path) => places.push(place.path),
            (false, true) => check.faults.push(Fault::NoPlace(place.path)),
        }
    }
    if !base.is_empty_dir(MOUNT_POINT.as_bytes()) {
        check.faults.push(Fault::MountPoint);
    }
    let (tree, composed) = (restored(halves, &places), halves.composed());
    let border = Border { tree: &tree, composed: &composed, places };
    for (path, text) in composed.links() {
        check.links += 1;
        if matches!(composed.resolve(parent(path), text), End::At(_)) {
            continue;
        }
        let inside = path.strip_prefix(mounted(b"").as_slice());
        let own = inside.and_then(|rest| rest.strip_prefix(b"/")).unwrap_or(path);
        let before = tree.resolve(parent(own), text);
        if matches!(before, End::At(_)) {
            let right = border.right_text(own, text, before);
            let (path, text) = (own.to_vec(), text.to_vec());
            check.faults.push(Fault::Dangles { path, right: right.filter(|to| *to != text), text });
        } else {
            check.dangling.push(own.to_vec());
        }
    }
    check
}

/// The tree that two halves were before they were split.
fn restored(halves: &Halves, places: &[&str]) -> Listing {
    let mut tree = Listing::default();
    for (path, node) in halves.base.iter().filter(|(path, _)| *path != MOUNT_POINT.as_bytes()) {
        tree.insert(path, node.clone());
    }
    for (path, node) in halves.skeleton.iter() {
        let place = places.iter().any(|place| place.as_bytes() == path);
        if place || tree.get(path).is_none() {
            tree.insert(path, node.clone());
        }
    }
    tree
}

/// Whether a name is what it should be. Which file it is and how many names that has are others in a
/// copy; the permission bits of a link mean nothing, and Linux's differ from FreeBSD's.
fn alike(wanted: &Node, found: &Node) -> bool {
    let link = matches!(wanted.kind, Kind::Link(_));
    wanted.kind == found.kind
        && (link || wanted.mode == found.mode)
        && wanted.owner == found.owner
        && wanted.flags == found.flags
}

fn instead(right: Option<&[u8]>) -> String {
    let right = right.map(String::from_utf8_lossy);
    right.map_or_else(String::new, |right| format!(", let it say {right:?}"))
}
