//! What a split does to a template.

use std::collections::BTreeMap;

use super::listing::{Kind, Listing, Node, below, parent};
use super::place::{MOUNT_POINT, OWN_DIRECTORIES, link_to, mounted, moves, placed};
use super::{links, shown};

/// What a split does. Paths are the template's.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// The directories that move into the skeleton, and that the base gets a link in place of.
    pub moved: Vec<&'static str>,
    /// The directories that the skeleton gets new, with their permission bits, and the base a link to.
    pub created: Vec<(&'static str, u32)>,
    /// Symbolic links that would lead elsewhere if they said what they say.
    pub rewritten: Vec<Rewrite>,
    /// Files with names on both sides of the split, which become two files.
    pub copied: Vec<Vec<Vec<u8>>>,
    /// Files with flags, which both halves keep: those that protect a file are off while it is made.
    pub flags: Vec<(Vec<u8>, u32)>,
    /// Absolute links that move: they mean the jail's own files, and nothing to the host.
    pub absolute: Vec<Vec<u8>>,
    /// Links that lead nowhere in the template, and so after the split.
    pub dangling: Vec<Vec<u8>>,
    /// Why there will be no split.
    pub refused: Vec<Refusal>,
}

/// A symbolic link that has to say something else.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rewrite {
    /// Where it is in the template.
    pub path: Vec<u8>,
    /// What it says.
    pub from: Vec<u8>,
    /// What it has to say.
    pub to: Vec<u8>,
}

/// Why a tree cannot be split.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Nothing that this link could say leads where it leads now.
    #[error(
        "the symbolic link {} could no longer lead to {:?}: remove it",
        shown(path),
        String::from_utf8_lossy(text)
    )]
    Link {
        /// Where it is.
        path: Vec<u8>,
        /// What it says.
        text: Vec<u8>,
    },
    /// There is no system in it.
    #[error("it has no {0:?}: install a system into it first")]
    NoSystem(&'static str),
    /// A file or device is where a directory belongs.
    #[error("{0:?} is not a directory: make it one first")]
    NotDirectory(&'static str),
    /// The mount point's name is in use.
    #[error("it already has {MOUNT_POINT:?}, but not as an empty directory: rename that first")]
    Taken,
}

/// The two halves of a split tree, each with its own root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Halves {
    /// What all jails share.
    pub base: Listing,
    /// What each has its own of.
    pub skeleton: Listing,
}

/// Plans the split of a tree. One that is a base already has nothing to be done.
#[must_use]
pub fn plan(tree: &Listing) -> Plan {
    let mut plan = Plan::default();
    for place in OWN_DIRECTORIES {
        // Below what is no directory there is nothing, and to make something there is impossible.
        let within = tree.is_dir(parent(place.path.as_bytes()));
        match (tree.get(place.path.as_bytes()).map(|node| &node.kind), place.mode) {
            (Some(Kind::Directory), _) => plan.moved.push(place.path),
            // A link stays: what it leads to moves or not.
            (Some(Kind::Link(_)), _) | (None, None) => {}
            (Some(Kind::Regular | Kind::Special), _) => {
                plan.refused.push(Refusal::NotDirectory(place.path));
            }
            (None, Some(mode)) if within => plan.created.push((place.path, mode)),
            (None, Some(_)) => {}
        }
    }
    for needed in ["etc", "usr"] {
        if tree.get(needed.as_bytes()).is_none() {
            plan.refused.push(Refusal::NoSystem(needed));
        }
    }
    if plan.is_empty() || !plan.refused.is_empty() {
        return plan;
    }
    let mount_point = MOUNT_POINT.as_bytes();
    if tree.get(mount_point).is_some() && !tree.is_empty_dir(mount_point) {
        plan.refused.push(Refusal::Taken);
        return plan;
    }
    plan.copied = plan.torn(tree);
    let flagged = tree.iter().filter(|(_, node)| node.flags != 0);
    plan.flags = flagged.map(|(path, node)| (path.to_vec(), node.flags)).collect();
    let absolute = tree.links().filter(|(path, text)| text.starts_with(b"/") && plan.moves(path));
    plan.absolute = absolute.map(|(path, _)| path.to_vec()).collect();
    links::judge(tree, &mut plan);
    plan
}

impl Plan {
    /// Whether there is nothing to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.moved.is_empty() && self.created.is_empty() && self.rewritten.is_empty()
    }

    /// The directories that the base has links in place of.
    #[must_use]
    pub fn places(&self) -> Vec<&'static str> {
        let created = self.created.iter().map(|(path, _)| *path);
        self.moved.iter().copied().chain(created).collect()
    }

    /// Where in a jail a path of the template is.
    #[must_use]
    pub fn placed(&self, path: &[u8]) -> Vec<u8> {
        placed(path, &self.places())
    }

    /// Whether a path of the template belongs to the skeleton.
    #[must_use]
    pub fn moves(&self, path: &[u8]) -> bool {
        moves(path, &self.places())
    }

    /// Whether a directory of the template is in the skeleton too, because a place is below it.
    #[must_use]
    pub fn holds(&self, path: &[u8]) -> bool {
        let places = self.places();
        let mut places = places.iter().map(|place| place.as_bytes());
        !self.moves(path) && places.any(|place| below(place, path))
    }

    /// What a tree is after the split.
    #[must_use]
    pub fn apply(&self, tree: &Listing) -> Halves {
        let (mut base, mut skeleton) = (Listing::default(), Listing::default());
        let texts: BTreeMap<_, _> =
            self.rewritten.iter().map(|rewrite| (rewrite.path.as_slice(), &rewrite.to)).collect();
        for (path, node) in tree.iter() {
            let mut node = node.clone();
            if let Some(text) = texts.get(path) {
                node.kind = Kind::Link((*text).clone());
            }
            if self.moves(path) {
                skeleton.insert(path, node);
                continue;
            }
            if self.holds(path) {
                skeleton.insert(path, node.clone());
            }
            base.insert(path, node);
        }
        // What is new belongs to whom the root belongs.
        let owner = tree.get(b"").map_or((0, 0), |root| root.owner);
        for (path, mode) in &self.created {
            skeleton.insert(*path, Node { owner, ..Node::directory(*mode) });
        }
        for place in self.places() {
            base.insert(place, Node { owner, ..Node::link(link_to(place).into_bytes()) });
        }
        if base.get(MOUNT_POINT.as_bytes()).is_none() {
            base.insert(MOUNT_POINT, Node { owner, ..Node::directory(0o755) });
        }
        Halves { base, skeleton }
    }

    /// The files with names on both sides, and those names.
    fn torn(&self, tree: &Listing) -> Vec<Vec<Vec<u8>>> {
        let mut files: BTreeMap<(u64, u64), Vec<Vec<u8>>> = BTreeMap::new();
        let several = |node: &Node| node.names > 1 && node.kind != Kind::Directory;
        for (path, node) in tree.iter().filter(|(_, node)| several(node)) {
            files.entry(node.file).or_default().push(path.to_vec());
        }
        let torn = |names: &Vec<Vec<u8>>| {
            names.iter().any(|path| self.moves(path)) && names.iter().any(|path| !self.moves(path))
        };
        files.into_values().filter(torn).collect()
    }
}

impl Halves {
    /// What a jail sees: the base, with the skeleton mounted in it.
    #[must_use]
    pub fn composed(&self) -> Listing {
        let mut whole = self.base.clone();
        for (path, node) in self.skeleton.iter() {
            whole.insert(mounted(path), node.clone());
        }
        whole
    }
}
