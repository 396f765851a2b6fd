//! What a boot environment holds that a machine could boot: its system, its kernel, its loaders.
//!
//! An environment may be a guest's: everything is looked at through [`Files`], which stay inside it.

mod scanner;
mod without_nfs;

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fs::File;
use std::io;

use hostfs::{Inside, InsideError};
use serde::{Deserialize, Serialize};

use crate::worker::WorkerError;
use crate::{kernel, loader};

pub use scanner::Scanner;
pub(crate) use without_nfs::WithoutNfs;

/// Files of one boot environment, resolved inside it whatever its links say.
pub trait Files: Send + Sync {
    /// Opens a regular file; anything else is an error.
    fn open(&self, path: &str) -> io::Result<File>;

    /// Whether the path is, or leads to, a regular file.
    fn is_file(&self, path: &str) -> bool;

    /// The names in a folder that are UTF-8.
    fn names(&self, folder: &str) -> io::Result<Vec<String>>;

    /// What is in them that can be booted, as `scanner` finds it.
    fn contents(&self, scanner: &mut Scanner) -> Result<Contents, WorkerError>;
}

/// What a boot environment holds that can be booted.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Contents {
    /// The system in it, if it is one that can boot from the network.
    pub system: Option<System>,
    /// The loaders in its `/boot`, by name.
    pub loaders: BTreeSet<String>,
    /// Those of FreeBSD's loaders among them that were built without NFS.
    pub without_nfs: BTreeSet<String>,
}

/// A system that can boot from the network.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum System {
    /// FreeBSD: brings its own loaders.
    FreeBsd,
    /// Linux: a kernel that iPXE loads.
    Linux {
        /// The kernel's path.
        kernel: String,
        /// Its initial RAM disk's path, if it has one.
        initrd: Option<String>,
    },
}

impl Contents {
    /// Looks at an environment's files, in this process.
    #[must_use]
    pub fn scan(files: &dyn Files) -> Self {
        Self::scan_with(files, &mut WithoutNfs::default())
    }

    /// The same, and not again into loaders that are known already.
    pub(crate) fn scan_with(files: &dyn Files, loaders_known: &mut WithoutNfs) -> Self {
        let present = |name: &&str| files.is_file(&format!("/boot/{name}"));
        let freebsd = loader::FREEBSD;
        let names = loader::all_names().chain(freebsd);
        let loaders = names.filter(present).map(str::to_owned).collect::<BTreeSet<_>>();
        let own_loader = freebsd.iter().any(|name| loaders.contains(*name));
        let system = if own_loader && files.is_file("/boot/kernel/kernel") {
            Some(System::FreeBsd)
        } else {
            linux(files)
        };
        let lacks_nfs = |name: &&str| loaders_known.is(files, &format!("/boot/{name}"));
        let own = freebsd.into_iter().filter(|name| loaders.contains(*name));
        let without_nfs = own.filter(lacks_nfs).map(str::to_owned).collect();
        Self { system, loaders, without_nfs }
    }
}

/// Finds the kernel to boot: the one that a fixed name points to, else the newest; one with an
/// initial RAM disk before one without. A RAM disk that netbe made for that kernel comes before
/// others.
fn linux(files: &dyn Files) -> Option<System> {
    let mut pairs = vec![
        (
            "/boot/vmlinuz".to_owned(),
            owned(&["/boot/initrd.img", "/boot/initramfs.img", "/boot/initrd"]),
        ),
        ("/vmlinuz".to_owned(), owned(&["/initrd.img", "/boot/initrd.img"])),
    ];
    // A folder that cannot be listed has no versions in it.
    let names = files.names("/boot").unwrap_or_default();
    let mut versions =
        names.iter().filter_map(|name| name.strip_prefix("vmlinuz-")).collect::<Vec<_>>();
    versions.sort_by(|a, b| natural(b, a));
    for version in versions {
        let initrds = ["initrd.img-{}", "initramfs-{}.img", "initrd-{}", "initramfs-{}"];
        let initrds = initrds.map(|form| format!("/boot/{}", form.replace("{}", version)));
        pairs.push((format!("/boot/vmlinuz-{version}"), initrds.into()));
    }
    pairs.retain(|(kernel, _)| files.is_file(kernel));
    for (kernel, initrds) in &mut pairs {
        let told = files.open(kernel).ok().and_then(kernel::release);
        let release = told.or_else(|| kernel::release_in_name(kernel).map(str::to_owned));
        let own = release.map(|release| kernel::own_ram_disk(&release));
        *initrds = own.into_iter().chain(std::mem::take(initrds)).collect();
    }
    let whole = pairs.iter().find_map(|(kernel, initrds)| {
        let initrd = initrds.iter().find(|initrd| files.is_file(initrd))?;
        Some(System::Linux { kernel: kernel.clone(), initrd: Some(initrd.clone()) })
    });
    whole.or_else(|| {
        let (kernel, _) = pairs.first()?;
        Some(System::Linux { kernel: kernel.clone(), initrd: None })
    })
}

fn owned(paths: &[&str]) -> Vec<String> {
    paths.iter().map(|&path| path.to_owned()).collect()
}

/// Orders versions as people do: runs of digits by their number, so that 6.10 comes after 6.9.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let (left, right) = (number(a), number(b));
        let order = match (left, right) {
            (Some((left, _)), Some((right, _))) => {
                left.len().cmp(&right.len()).then_with(|| left.cmp(right))
            }
            (None, None) => a.chars().next().cmp(&b.chars().next()),
            // A version that goes on with a number is newer than one with a suffix, as -rc.
            (Some(_), None) => return if b.is_empty() { Ordering::Greater } else { a.cmp(b) },
            (None, Some(_)) => return if a.is_empty() { Ordering::Less } else { a.cmp(b) },
        };
        if order != Ordering::Equal || a.is_empty() {
            return order;
        }
        a = left.map_or_else(|| after_first(a), |(_, rest)| rest);
        b = right.map_or_else(|| after_first(b), |(_, rest)| rest);
    }
}

/// The run of digits that the text begins with, without leading zeros, and what follows it.
fn number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())?;
    Some((digits.trim_start_matches('0'), rest))
}

fn after_first(text: &str) -> &str {
    let mut rest = text.chars();
    rest.next();
    rest.as_str()
}

impl Files for Inside {
    fn open(&self, path: &str) -> io::Result<File> {
        Self::open(self, path).map_err(cause)
    }

    fn is_file(&self, path: &str) -> bool {
        self.metadata(path).is_ok_and(|metadata| metadata.is_file())
    }

    fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let names = self.read_dir(folder, MAX_NAMES).map_err(cause)?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }

    fn contents(&self, scanner: &mut Scanner) -> Result<Contents, WorkerError> {
        scanner.scan(self)
    }
}

fn cause(error: InsideError) -> io::Error {
    let kind = match &error {
        InsideError::Io { source, .. } => source.kind(),
        InsideError::Missing(_) => io::ErrorKind::NotFound,
        InsideError::NotDirectory(_) => io::ErrorKind::NotADirectory,
        InsideError::NotFile(_) => io::ErrorKind::InvalidInput,
        InsideError::Attributes(_) | InsideError::TooLarge { .. } | InsideError::TooMany { .. } => {
            io::ErrorKind::InvalidData
        }
    };
    io::Error::new(kind, error)
}

/// More entries than any system has in its `/boot`; what a guest fills beyond is not looked at.
const MAX_NAMES: usize = 4096;

#[cfg(test)]
mod test {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_linux_environment_is_known_by_its_kernel_and_ram_disk() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("boot")).unwrap();
        for file in ["vmlinuz-6.1", "initrd.img-6.1"] {
            std::fs::write(root.path().join("boot").join(file), "x").unwrap();
        }
        // As Debian makes it: a link that means the environment's own root.
        symlink("/boot/vmlinuz-6.1", root.path().join("vmlinuz")).unwrap();
        symlink("/boot/initrd.img-6.1", root.path().join("initrd.img")).unwrap();
        let inside = Inside::enter(root.path()).unwrap();
        assert_eq!(
            Contents::scan(&inside).system,
            Some(System::Linux { kernel: "/vmlinuz".into(), initrd: Some("/initrd.img".into()) })
        );
    }

    #[test]
    fn a_link_to_the_hosts_files_shows_nothing_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("boot")).unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        symlink(dir.path().join("secret"), root.join("boot/vmlinuz")).unwrap();
        symlink("../../secret", root.join("boot/vmlinuz-1")).unwrap();
        let inside = Inside::enter(&root).unwrap();
        assert_eq!(Contents::scan(&inside).system, None);
        let error = Files::open(&inside, "/boot/vmlinuz").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    fn system(paths: &[&str]) -> Option<System> {
        let root = tempfile::tempdir().unwrap();
        for path in paths {
            let path = root.path().join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        Contents::scan(&Inside::enter(root.path()).unwrap()).system
    }

    fn linux(kernel: &str, initrd: Option<&str>) -> Option<System> {
        Some(System::Linux { kernel: kernel.to_owned(), initrd: initrd.map(str::to_owned) })
    }

    #[test]
    fn freebsd_has_a_kernel_and_a_loader_of_its_own() {
        assert_eq!(system(&["/boot/kernel/kernel", "/boot/pxeboot"]), Some(System::FreeBsd));
        assert_eq!(system(&["/boot/kernel/kernel", "/boot/loader.efi"]), Some(System::FreeBsd));
        assert_eq!(system(&["/boot/kernel/kernel"]), None);
        assert_eq!(system(&[]), None);
    }

    #[test]
    fn the_newest_kernel_is_chosen_by_number() {
        let paths = [
            "/boot/vmlinuz-6.9.2-amd64",
            "/boot/initrd.img-6.9.2-amd64",
            "/boot/vmlinuz-6.10.1-amd64",
            "/boot/initrd.img-6.10.1-amd64",
        ];
        let newest = linux("/boot/vmlinuz-6.10.1-amd64", Some("/boot/initrd.img-6.10.1-amd64"));
        assert_eq!(system(&paths), newest);
    }

    #[test]
    fn a_fixed_name_wins_over_versions() {
        let paths = ["/vmlinuz", "/initrd.img", "/boot/vmlinuz-6.9", "/boot/initramfs-6.9.img"];
        assert_eq!(system(&paths), linux("/vmlinuz", Some("/initrd.img")));
    }

    #[test]
    fn a_kernel_with_an_initrd_wins_over_one_without() {
        let paths = ["/boot/vmlinuz", "/boot/vmlinuz-lts", "/boot/initramfs-lts"];
        assert_eq!(system(&paths), linux("/boot/vmlinuz-lts", Some("/boot/initramfs-lts")));
        assert_eq!(system(&["/boot/vmlinuz"]), linux("/boot/vmlinuz", None));
    }

    #[test]
    fn versions_are_ordered_by_number() {
        assert_eq!(natural("6.10", "6.9"), Ordering::Greater);
        assert_eq!(natural("6.1.0-13-amd64", "6.1.0-9-amd64"), Ordering::Greater);
        assert_eq!(natural("6.1", "6.1.1"), Ordering::Less);
        assert_eq!(natural("6.01", "6.1"), Ordering::Equal);
        assert_eq!(natural("", ""), Ordering::Equal);
    }
}
