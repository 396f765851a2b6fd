//! How a new boot environment is divided into data sets.

use std::fmt;
use std::str::FromStr;

/// Which data sets a new boot environment has below its root.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Layout {
    /// The root only.
    Flat,
    /// A nested FreeBSD system: what a user or a daemon fills is apart from what an upgrade replaces.
    FreeBsd,
    /// A nested Linux system.
    Linux,
}

impl Layout {
    /// Every layout, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Flat, Self::FreeBsd, Self::Linux];

    /// The name that is typed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flat => "flat",
            Self::FreeBsd => "freebsd",
            Self::Linux => "linux",
        }
    }

    /// The data sets below the root, parents first.
    #[must_use]
    pub fn datasets(self) -> Vec<Dataset> {
        self.directories().iter().map(|dir| Dataset::new(dir.path, dir.mounted)).collect()
    }

    /// Every directory of the layout with its permission bits.
    pub(crate) const fn directories(self) -> &'static [LayoutDirectory] {
        match self {
            Self::Flat => &[],
            Self::FreeBsd => &FREEBSD,
            Self::Linux => &LINUX,
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Layout {
    type Err = LayoutError;

    fn from_str(text: &str) -> Result<Self, LayoutError> {
        Self::ALL.into_iter().find(|layout| layout.as_str() == text).ok_or(LayoutError)
    }
}

/// Why text is not a layout.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no such layout: write flat, freebsd or linux")]
pub struct LayoutError;

/// A data set below the root of a boot environment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Dataset {
    path: String,
    mounted: bool,
    data: bool,
}

impl Dataset {
    pub(crate) fn new(path: &str, mounted: bool) -> Self {
        Self { path: path.to_owned(), mounted, data: false }
    }

    /// The same, marked as data or not.
    pub(crate) fn with_data(self, data: bool) -> Self {
        Self { data, ..self }
    }

    /// Where it is below the root, without a slash at the beginning: `usr/home`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it holds files of its own. `usr` and `var` do not (`canmount=off` in ZFS): they only
    /// group what is below them, and their files belong to the root.
    #[must_use]
    pub const fn mounted(&self) -> bool {
        self.mounted
    }

    /// Whether it belongs to the machine and not to the system: it stays when the machine's boot
    /// environment changes.
    #[must_use]
    pub const fn data(&self) -> bool {
        self.data
    }
}

/// A directory of a layout.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayoutDirectory {
    pub(crate) path: &'static str,
    pub(crate) mounted: bool,
    pub(crate) mode: u32,
}

const fn mounted(path: &'static str, mode: u32) -> LayoutDirectory {
    LayoutDirectory { path, mounted: true, mode }
}

const fn group(path: &'static str) -> LayoutDirectory {
    LayoutDirectory { path, mounted: false, mode: 0o755 }
}

/// As on the slides of be(8); modes as in FreeBSD's etc/mtree/BSD.var.dist.
const FREEBSD: [LayoutDirectory; 11] = [
    mounted("tmp", 0o1777),
    group("usr"),
    mounted("usr/home", 0o755),
    mounted("usr/ports", 0o755),
    mounted("usr/src", 0o755),
    group("var"),
    mounted("var/audit", 0o750),
    mounted("var/crash", 0o750),
    mounted("var/log", 0o755),
    mounted("var/mail", 0o775),
    mounted("var/tmp", 0o1777),
];

/// What the Filesystem Hierarchy Standard lets a machine fill. `var/lib` stays with the root: the
/// package database has to go back with the packages.
const LINUX: [LayoutDirectory; 9] = [
    mounted("home", 0o755),
    mounted("root", 0o700),
    mounted("srv", 0o755),
    mounted("tmp", 0o1777),
    group("var"),
    mounted("var/cache", 0o755),
    mounted("var/log", 0o755),
    mounted("var/spool", 0o755),
    mounted("var/tmp", 0o1777),
];

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_freebsd_layout_is_that_of_the_slides() {
        let sets = Layout::FreeBsd.datasets();
        let mounted: Vec<_> = sets.iter().filter(|set| set.mounted()).map(Dataset::path).collect();
        let groups: Vec<_> = sets.iter().filter(|set| !set.mounted()).map(Dataset::path).collect();
        assert_eq!(
            mounted,
            [
                "tmp",
                "usr/home",
                "usr/ports",
                "usr/src",
                "var/audit",
                "var/crash",
                "var/log",
                "var/mail",
                "var/tmp"
            ]
        );
        assert_eq!(groups, ["usr", "var"]);
    }

    #[test]
    fn parents_stand_before_their_children() {
        for layout in Layout::ALL {
            let sets = layout.datasets();
            for (index, set) in sets.iter().enumerate() {
                if let Some((parent, _)) = set.path().rsplit_once('/') {
                    assert!(sets[..index].iter().any(|other| other.path() == parent), "{set:?}");
                }
            }
        }
    }

    #[test]
    fn every_layout_is_read_back_from_its_name() {
        for layout in Layout::ALL {
            assert_eq!(layout.as_str().parse(), Ok(layout));
        }
        assert_eq!("zfs".parse::<Layout>(), Err(LayoutError));
    }
}
