//! What belongs to a file beside its name and its content.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt;
use std::io::Error;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, RawMode, Stat, Timestamps, Uid, chmodat, chownat, fchmod, fchown,
    futimens, utimensat,
};

use crate::subvolume::COMPRESSION;
use crate::sys::{self, Attribute};

/// Owner, mode, times, extended attributes with access control lists among them, and flags.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    /// The file's type too.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    pub(crate) times: Timestamps,
    /// Sorted by name.
    pub(crate) attributes: Vec<Attribute>,
    /// As the system numbers them.
    pub(crate) flags: u32,
}

impl Metadata {
    /// That of an open file or directory.
    pub(crate) fn of(
        file: BorrowedFd<'_>,
        stat: &Stat,
        attributes: &mut sys::Attributes,
    ) -> Result<Self, Error> {
        Ok(Self::new(stat, attributes.all(file)?, sys::flags_of(file, stat)?))
    }

    /// That of a symbolic link or special file, which cannot be opened.
    pub(crate) fn of_link(
        dir: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        attributes: &mut sys::Attributes,
    ) -> Result<Self, Error> {
        Ok(Self::new(stat, attributes.all_at(dir, name)?, sys::flags_of_link(stat)))
    }

    fn new(stat: &Stat, attributes: Vec<Attribute>, flags: u32) -> Self {
        let (mode, owner) = (sys::mode(stat), (stat.st_uid, stat.st_gid));
        Self { mode, owner, times: sys::times(stat), attributes, flags }
    }

    /// Whether another file's is the same but for times.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        (self.mode, self.owner, self.flags) == (other.mode, other.owner, other.flags)
            && self.own_attributes().eq(other.own_attributes())
    }

    /// The extended attributes but for what is decided about an environment, and is no content of it.
    fn own_attributes(&self) -> impl Iterator<Item = &Attribute> {
        self.attributes.iter().filter(|(name, _)| *name != *COMPRESSION)
    }

    /// Gives it to an open file or directory, which has nothing else then: what it inherited from its directory
    /// is taken off. Flags that keep it from being changed are left to be set at the end ([`Metadata::fixed`]);
    /// so it must have none.
    pub(crate) fn give(
        &self,
        file: BorrowedFd<'_>,
        path: &Path,
        keeper: &mut Keeper,
    ) -> Result<(), Error> {
        let (uid, gid) = self.owner();
        // The order matters: chown clears setuid bits and file capabilities, a change of the mode is one of the
        // access control list, and all change times.
        fchown(file, Some(uid), Some(gid))?;
        fchmod(file, self.permissions())?;
        for (name, _) in keeper.attributes.all(file)? {
            if self.attributes.iter().all(|(wanted, _)| *wanted != name) {
                sys::remove_attribute(file, &name)?;
            }
        }
        for (name, value) in &self.attributes {
            if !sys::set_attribute(file, name, value)? {
                keeper.lost.attribute(name, path);
            }
        }
        let flags = self.flags & !sys::FIXED;
        if !sys::give_flags(file, flags)? {
            keeper.lost.flags(flags, path);
        }
        Ok(futimens(file, &self.times)?)
    }

    /// Gives it to a symbolic link or special file.
    pub(crate) fn give_link(
        &self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        path: &Path,
        keeper: &mut Keeper,
    ) -> Result<(), Error> {
        let (uid, gid) = self.owner();
        chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(self.raw_mode()) != FileType::Symlink {
            // Follows links, but nobody else can reach the tree yet: this is the node just made.
            chmodat(dir, name, self.permissions(), AtFlags::empty())?;
        }
        for (attribute, _) in keeper.attributes.all_at(dir, name)? {
            if self.attributes.iter().all(|(wanted, _)| *wanted != attribute) {
                sys::remove_attribute_at(dir, name, &attribute)?;
            }
        }
        for (attribute, value) in &self.attributes {
            if !sys::set_attribute_at(dir, name, attribute, value)? {
                keeper.lost.attribute(attribute, path);
            }
        }
        let flags = self.flags & !sys::FIXED;
        if !sys::give_flags_at(dir, name, flags)? {
            keeper.lost.flags(flags, path);
        }
        Ok(utimensat(dir, name, &self.times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// All flags, if one of them keeps the file from being changed.
    pub(crate) const fn fixed(&self) -> Option<u32> {
        if self.flags & sys::FIXED == 0 { None } else { Some(self.flags) }
    }

    fn owner(&self) -> (Uid, Gid) {
        (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1))
    }

    fn permissions(&self) -> Mode {
        Mode::from_raw_mode(self.raw_mode())
    }

    /// The file's type and mode as the system has them.
    pub(crate) fn raw_mode(&self) -> RawMode {
        // A mode has sixteen bits, whatever type it is kept in.
        RawMode::try_from(self.mode & 0xffff).unwrap_or_default()
    }
}

/// What is needed to give metadata to many files.
#[derive(Default)]
pub(crate) struct Keeper {
    attributes: sys::Attributes,
    pub(crate) lost: Lost,
}

/// Metadata that a file system could not hold: each kind once, with how many files are without it, and one of
/// them.
#[derive(Debug, Default)]
pub(crate) struct Lost(BTreeMap<String, (u64, PathBuf)>);

impl Lost {
    pub(crate) fn attribute(&mut self, name: &CStr, path: &Path) {
        let name = name.to_string_lossy();
        // A list would say more to whoever knows what a list is.
        let list =
            if name.starts_with("system.posix_acl_") { ", an access control list" } else { "" };
        self.note(format!("the attribute {}{list}", name.escape_debug()), path);
    }

    pub(crate) fn flags(&mut self, flags: u32, path: &Path) {
        self.note(format!("the flags {}", sys::flag_names(flags)), path);
    }

    /// Notes that a file is without something. A stream may invent names without end: what comes after the first
    /// sixty-four is told as one.
    pub(crate) fn note(&mut self, what: String, path: &Path) {
        let known = self.0.len() < MOST || self.0.contains_key(&what);
        let what = if known { what } else { "other attributes".to_owned() };
        self.0.entry(what).or_insert_with(|| (0, path.to_owned())).0 += 1;
    }

    /// Tells it, one line for each kind.
    pub(crate) fn tell(&self) {
        for (what, (count, path)) in &self.0 {
            let of = Of(*count, path);
            tracing::warn!("not kept, because the file system cannot hold it: {what} of {of}");
        }
    }
}

/// How many files, and which one.
struct Of<'a>(u64, &'a Path);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, path) = self;
        match count {
            1 => write!(f, "{path:?}"),
            _ => write!(f, "{count} files, {path:?} among them"),
        }
    }
}

/// Kinds of metadata that are told apart.
const MOST: usize = 64;
