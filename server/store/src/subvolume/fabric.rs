//! Trees of subvolumes, as what a store of directories is made of.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::{copy, freeze, members, natives, place, transfer};
use crate::back_end::{Capabilities, Part};
use crate::directory::{Fabric, Frozen};
use crate::error::at;
use crate::name::NameRules;
use crate::tree::open_dir;
use crate::workspace::Workspace;
use crate::{NativeChange, NativeValue, Obstacle, Space, StoreError, sys};

/// Trees of btrfs subvolumes: a copy takes no space until it is changed.
#[derive(Debug)]
pub(crate) struct Subvolumes;

impl Fabric for Subvolumes {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            clones_depend: false,
            instant_snapshots: true,
            nested: true,
            in_place: true,
            syncs: false,
            format: "btrfs",
            names: NameRules::Any,
        }
    }

    fn check(&self, top: &OwnedFd, path: &Path) -> Result<(), StoreError> {
        if cfg!(target_os = "freebsd") {
            return Err(StoreError::Unsupported(NO_BTRFS));
        }
        match sys::on_btrfs(top).map_err(at("look at", path))? {
            true => Ok(()),
            false => Err(StoreError::NotBtrfs(path.to_owned())),
        }
    }

    fn make(&self, work: &Workspace, name: &str) -> Result<OwnedFd, StoreError> {
        let path = work.path().join(name);
        let text = CString::new(name).map_err(io::Error::other).map_err(at("make", &path))?;
        sys::create_subvolume(work.dir(), &text).map_err(at("make", &path))?;
        open_dir(work.dir(), name).map_err(at("open", &path))
    }

    fn make_dataset(&self, tree: &OwnedFd, path: &str) -> io::Result<()> {
        let (dir, name) = place(tree.as_fd(), Path::new(path))?;
        Ok(sys::create_subvolume(dir.as_fd(), &name)?)
    }

    fn copy(
        &self,
        from: &OwnedFd,
        work: &Workspace,
        name: &str,
        path: &Path,
    ) -> Result<(), StoreError> {
        copy(from.as_fd(), work.dir(), name).map_err(at("copy", path))
    }

    fn copy_root(
        &self,
        from: &OwnedFd,
        work: &Workspace,
        name: &str,
        path: &Path,
    ) -> Result<(), StoreError> {
        let text = CString::new(name).map_err(io::Error::other).map_err(at("copy", path))?;
        sys::snapshot_subvolume(from.as_fd(), work.dir(), &text).map_err(at("copy", path))
    }

    fn appears(&self, from: &OwnedFd) -> io::Result<bool> {
        Ok(members(from.as_fd())?.len() == 1)
    }

    /// btrfs commits the transaction of a snapshot before it says that it is made, and with it all that came
    /// before (`create_snapshot()` of fs/btrfs/ioctl.c).
    fn appear(&self, from: &OwnedFd, dir: BorrowedFd<'_>, name: &str) -> io::Result<()> {
        let name = CString::new(name).map_err(io::Error::other)?;
        Ok(sys::snapshot_subvolume(from.as_fd(), dir, &name)?)
    }

    fn freeze(&self, tree: &OwnedFd) -> io::Result<()> {
        Ok(freeze(tree.as_fd(), true)?)
    }

    fn number(&self, tree: &OwnedFd) -> io::Result<u64> {
        Ok(sys::subvolume(tree.as_fd())?.id)
    }

    /// Immutable files go with their subvolume; what is mounted in it would be cut off from its users.
    fn inspect(&self, tree: &OwnedFd, _path: &Path) -> Result<(), StoreError> {
        let mounts = sys::mounts_below(tree).map_err(at("read", Path::new(sys::MOUNT_TABLE)))?;
        match mounts.into_iter().next() {
            Some(path) => Err(StoreError::Obstacle { path, obstacle: Obstacle::MountPoint }),
            None => Ok(()),
        }
    }

    fn parts(&self, tree: OwnedFd) -> io::Result<Vec<Part>> {
        let members = members(tree.as_fd())?.into_iter();
        // Data sets have names that are text. What else somebody nested here is not served.
        let mut parts: Vec<Part> = members
            .filter_map(|member| {
                let path = member.path.into_os_string().into_string().ok()?;
                Some(Part { path, root: member.root })
            })
            .collect();
        parts.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(parts)
    }

    fn nested(&self, tree: &OwnedFd) -> io::Result<Vec<PathBuf>> {
        let nested = members(tree.as_fd())?.into_iter().map(|member| member.path);
        Ok(nested.filter(|path| !path.as_os_str().is_empty()).collect())
    }

    fn counts(&self, top: &OwnedFd) -> bool {
        sys::usage(top.as_fd()).is_ok_and(|usage| usage.is_some())
    }

    /// Known where quota groups are switched on (`btrfs quota enable`), else not.
    fn space(&self, _top: &OwnedFd, tree: &OwnedFd, path: &Path) -> Result<Space, StoreError> {
        let mut sum = Space { used: None, referenced: Some(0), exclusive: Some(0) };
        for member in members(tree.as_fd()).map_err(at("list", path))? {
            let usage = sys::usage(member.root.as_fd()).map_err(at("look at", path))?;
            let add = |sum: Option<u64>, more: Option<u64>| Some(sum? + more?);
            sum.referenced = add(sum.referenced, usage.map(|usage| usage.referenced));
            sum.exclusive = add(sum.exclusive, usage.map(|usage| usage.exclusive));
        }
        Ok(sum)
    }

    fn natives(&self, tree: &OwnedFd, path: &Path) -> Result<Vec<NativeValue>, StoreError> {
        natives::read(tree.as_fd(), path)
    }

    fn check_native(
        &self,
        tree: &OwnedFd,
        change: &NativeChange,
        path: &Path,
    ) -> Result<(), StoreError> {
        natives::check(tree.as_fd(), change, path)
    }

    fn set_native(
        &self,
        tree: &OwnedFd,
        change: &NativeChange,
        path: &Path,
    ) -> Result<(), StoreError> {
        natives::set(tree.as_fd(), change, path)
    }

    fn carry(&self, from: &OwnedFd, to: &OwnedFd, path: &Path) -> Result<(), StoreError> {
        natives::carry(from.as_fd(), to.as_fd(), path)
    }

    fn send(
        &self,
        tree: Frozen<'_>,
        base: Option<Frozen<'_>>,
        out: &mut dyn Write,
    ) -> Result<(), StoreError> {
        transfer::send(tree, base, out)
    }

    fn receive(
        &self,
        work: &Workspace,
        name: &str,
        base: Option<Frozen<'_>>,
        from: &mut dyn Read,
    ) -> Result<(), StoreError> {
        transfer::receive(from, work.dir(), work.path(), name, base)
    }
}

const NO_BTRFS: &str =
    "FreeBSD has no btrfs: make the store with zfs:pool/dataset, or with dir:/path";
