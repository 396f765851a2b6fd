//! What is in a tree, and where its symbolic links lead.

use std::collections::BTreeMap;

/// All names of a tree.
///
/// A path is relative to the root, which is the empty path, and has no slash at either end. It need
/// not be text.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Listing {
    nodes: BTreeMap<Vec<u8>, Node>,
}

/// A name in a tree.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Its permission bits, `0o7777`.
    pub mode: u32,
    /// Its user and its group.
    pub owner: (u32, u32),
    /// Its file flags in the host's own bits, of those that are kept: chflags(2), or chattr(1).
    pub flags: u32,
    /// Which file it is, by its file system and its number there: names of which these are equal are
    /// hard links of one.
    pub file: (u64, u64),
    /// How many names the file has.
    pub names: u64,
}

/// What a name stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A symbolic link, and what it says.
    Link(Vec<u8>),
    /// A file with content.
    Regular,
    /// A device node, a FIFO or a socket.
    Special,
}

/// Where a path leads when every link on it is followed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// To this name, on whose way there is no link.
    At(Vec<u8>),
    /// Round in a circle.
    Circle,
    /// Nowhere: there is no such name.
    Missing(Vec<u8>),
}

impl Listing {
    /// Adds a name, whose directory has to be there too.
    pub fn insert(&mut self, path: impl Into<Vec<u8>>, node: Node) {
        self.nodes.insert(path.into(), node);
    }

    /// The name at a path on which no link is followed.
    #[must_use]
    pub fn get(&self, path: &[u8]) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// All names, directories before what is in them.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_slice(), node))
    }

    /// All symbolic links and what they say.
    pub fn links(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.iter().filter_map(|(path, node)| match &node.kind {
            Kind::Link(text) => Some((path, text.as_slice())),
            Kind::Directory | Kind::Regular | Kind::Special => None,
        })
    }

    /// Whether there is a directory of that path.
    #[must_use]
    pub fn is_dir(&self, path: &[u8]) -> bool {
        path.is_empty() || matches!(self.get(path), Some(Node { kind: Kind::Directory, .. }))
    }

    /// Whether a directory has anything in it.
    #[must_use]
    pub fn is_empty_dir(&self, path: &[u8]) -> bool {
        let first = join(path, b"");
        let next = self.nodes.range(first..).find(|(other, _)| other.as_slice() != path);
        self.is_dir(path) && !next.is_some_and(|(other, _)| below(other, path))
    }

    /// Where `text` leads from a directory, as a system that has this tree as its root finds it:
    /// `..` ends at the root, and every link is followed, the last one too.
    #[must_use]
    pub fn resolve(&self, dir: &[u8], text: &[u8]) -> End {
        self.walk(dir, text, &|_| None)
    }

    /// The same, but `jump` may say of a link where it leads, instead of what it says.
    pub(super) fn walk(&self, dir: &[u8], text: &[u8], jump: &dyn Fn(&[u8]) -> Option<End>) -> End {
        let mut here = dir.to_vec();
        let mut rest: Vec<&[u8]> = Vec::new();
        let mut hops = 0;
        let mut ahead = Some(text);
        loop {
            if let Some(text) = ahead.take() {
                if text.starts_with(b"/") {
                    here.clear();
                }
                rest.extend(text.split(|&byte| byte == b'/').rev());
            }
            let Some(name) = rest.pop() else { return End::At(here) };
            if name.is_empty() {
                continue;
            }
            if !self.is_dir(&here) {
                return missing(join(&here, name), &rest);
            }
            if name == b"." {
                continue;
            }
            if name == b".." {
                here = parent(&here).to_vec();
                continue;
            }
            let path = join(&here, name);
            match self.get(&path).map(|node| &node.kind) {
                None => return missing(path, &rest),
                Some(Kind::Directory | Kind::Regular | Kind::Special) => here = path,
                Some(Kind::Link(text)) => match jump(&path) {
                    Some(End::At(path)) => here = path,
                    Some(End::Missing(path)) => return missing(path, &rest),
                    Some(End::Circle) => return End::Circle,
                    None => {
                        hops += 1;
                        if hops > MAX_LINKS {
                            return End::Circle;
                        }
                        ahead = Some(text);
                    }
                },
            }
        }
    }
}

impl Node {
    /// A new directory.
    pub(super) const fn directory(mode: u32) -> Self {
        Self { kind: Kind::Directory, mode, owner: (0, 0), flags: 0, file: (0, 0), names: 1 }
    }

    /// A new symbolic link.
    pub(super) const fn link(text: Vec<u8>) -> Self {
        Self {
            kind: Kind::Link(text),
            mode: 0o777,
            owner: (0, 0),
            flags: 0,
            file: (0, 0),
            names: 1,
        }
    }
}

/// What is missing, with the names that were still to come.
fn missing(mut path: Vec<u8>, rest: &[&[u8]]) -> End {
    for name in rest.iter().rev().filter(|name| !name.is_empty() && **name != b".") {
        path = join(&path, name);
    }
    End::Missing(path)
}

/// A name in a directory.
pub(crate) fn join(dir: &[u8], name: &[u8]) -> Vec<u8> {
    if dir.is_empty() { name.to_vec() } else { [dir, b"/", name].concat() }
}

/// The directory that a path is in; the root is in itself.
pub(crate) fn parent(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    path.get(..end).unwrap_or_default()
}

/// Whether a path is a directory's own or that of something below it.
pub(crate) fn below(path: &[u8], dir: &[u8]) -> bool {
    let rest = path.strip_prefix(dir);
    dir.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// After how many links FreeBSD gives up (`MAXSYMLINKS` in sys/param.h; Linux after 40).
const MAX_LINKS: usize = 32;
