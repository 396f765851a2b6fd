//! What btrfs has of the properties that ZFS has: a limit for what a subvolume refers to, by its quota group,
//! and how what is written is compressed, by a property of each directory (btrfs-property(8)).

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, fstat, statat};
use rustix::io::Errno;

use super::members;
use crate::error::at;
use crate::property::bytes;
use crate::tree::{MAX_DEPTH, each_name, join, open_dir};
use crate::{Native, NativeChange, NativeValue, StoreError, sys};

/// The properties of a tree.
///
/// Where no other subvolume is nested in it, what its root refers to is what the whole tree does, and `quota`
/// and `refquota` are one limit.
pub(super) fn read(tree: BorrowedFd<'_>, path: &Path) -> Result<Vec<NativeValue>, StoreError> {
    let mut found = Vec::new();
    let mut tell = |name, value: String, set| {
        let source = if set { "local" } else { "default" }.to_owned();
        found.extend(Native::of(name).map(|property| NativeValue { property, value, source }));
    };
    let compression = compression(tree, path)?;
    tell(
        "compression",
        compression.clone().unwrap_or_else(|| "-".to_owned()),
        compression.is_some(),
    );
    if let Some(limit) = sys::limit(tree).map_err(at("look at", path))? {
        if members(tree).map_err(at("list", path))?.len() == 1 {
            tell("quota", limit.to_string(), limit > 0);
        }
        tell("refquota", limit.to_string(), limit > 0);
    }
    Ok(found)
}

/// Refuses a change that cannot be.
pub(super) fn check(
    tree: BorrowedFd<'_>,
    change: &NativeChange,
    path: &Path,
) -> Result<(), StoreError> {
    let NativeChange { property, value } = change;
    let refuse = |why: String| Err(StoreError::Property { property: property.as_str(), why });
    match (property.as_str(), value.as_deref()) {
        ("compression", value) => match value {
            None => Ok(()),
            Some(value) if kind(value).is_some() => Ok(()),
            Some(value) => refuse(format!("btrfs takes zlib, lzo, zstd and off, not {value:?}")),
        },
        (name @ ("quota" | "refquota"), value) => {
            let limit = value.map_or(Some(0), bytes);
            if limit.is_none() {
                return refuse("write bytes, as in 10G, or none".to_owned());
            }
            let nested = members(tree).map_err(at("list", path))?;
            if let (true, Some(nested)) = (name == "quota", nested.get(1)) {
                return refuse(format!(
                    "btrfs limits each subvolume separately, and {} has a subvolume of its own: set \
                     refquota, which limits only the root",
                    nested.path.display()
                ));
            }
            match sys::limit(tree).map_err(at("look at", path))? {
                Some(_) => Ok(()),
                None => refuse(format!(
                    "quota groups are off on this file system: run `btrfs quota enable {}`",
                    path.display()
                )),
            }
        }
        _ => refuse("btrfs has quota, refquota and compression: keep the store on ZFS".to_owned()),
    }
}

/// Changes a property.
pub(super) fn set(
    tree: BorrowedFd<'_>,
    change: &NativeChange,
    path: &Path,
) -> Result<(), StoreError> {
    check(tree, change, path)?;
    let value = change.value.as_deref();
    if change.property.as_str() == "compression" {
        return compress(tree, value.and_then(kind), path);
    }
    let limit = value.and_then(bytes).unwrap_or(0);
    sys::set_limit(tree, limit).map_err(at("limit", path))
}

/// Gives a tree what another has.
pub(super) fn carry(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    path: &Path,
) -> Result<(), StoreError> {
    let wanted = compression(from, path)?;
    if compression(to, path)? != wanted {
        compress(to, wanted.as_deref().and_then(kind), path)?;
    }
    let limit = |tree| sys::limit(tree).map_err(at("look at", path));
    match (limit(from)?, limit(to)?) {
        (Some(wanted), now) if now != Some(wanted) => {
            sys::set_limit(to, wanted).map_err(at("limit", path))
        }
        _ => Ok(()),
    }
}

/// How the tree's root says that files in it are compressed.
fn compression(tree: BorrowedFd<'_>, path: &Path) -> Result<Option<String>, StoreError> {
    let kind = sys::compression(tree).map_err(at("look at", path))?;
    let told = |kind: String| if matches!(&*kind, "none" | "no") { "off".to_owned() } else { kind };
    Ok(kind.map(told))
}

/// What btrfs calls a kind of compression.
fn kind(value: &str) -> Option<&'static str> {
    match value {
        "zlib" => Some("zlib"),
        "lzo" => Some("lzo"),
        "zstd" => Some("zstd"),
        "off" | "none" => Some("none"),
        _ => None,
    }
}

/// Has what is made in any directory of a tree from now on compressed, or as the file system does by itself.
/// The root is the last: whoever is stopped before has changed nothing that is told.
fn compress(tree: BorrowedFd<'_>, kind: Option<&str>, path: &Path) -> Result<(), StoreError> {
    for member in members(tree).map_err(at("list", path))?.iter().rev() {
        compress_below(member.root.as_fd(), kind, &path.join(&member.path), 0)?;
    }
    Ok(())
}

fn compress_below(
    dir: BorrowedFd<'_>,
    kind: Option<&str>,
    path: &Path,
    depth: usize,
) -> Result<(), StoreError> {
    if depth > MAX_DEPTH {
        return Err(StoreError::Deep(path.to_owned()));
    }
    let own = fstat(dir).map_err(at("look at", path))?;
    each_name(dir, path, |name| {
        let here = join(path, name);
        // What its machine removes meanwhile is none any more; other subvolumes have their turn.
        let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory || stat.st_dev != own.st_dev
        {
            return Ok(());
        }
        match open_dir(dir, name) {
            Ok(child) => compress_below(child.as_fd(), kind, &here, depth + 1),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(()),
            Err(error) => Err(at("open", &here)(error)),
        }
    })?;
    match sys::set_compression(dir, kind) {
        // Nor is anything compressed below one whose files are not copied on write (chattr +C).
        Err(Errno::INVAL) if depth > 0 => Ok(()),
        // Nothing is ever made in a directory that is immutable.
        Err(Errno::PERM) if sys::flags_of(dir, &own).is_ok_and(|flags| flags != 0) => Ok(()),
        set => set.map_err(at("compress", path)),
    }
}
