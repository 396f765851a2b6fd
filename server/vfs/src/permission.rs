//! Who may do what: decided from a file's attributes and the caller alone.
//!
//! The server runs as root, so the kernel refuses it nothing; these functions are the only permission
//! check that a network caller meets, and ACCESS answers from the same ones. A caller who is the
//! superuser here is one whom the export did not map to somebody else.

use crate::{Access, Attr, Caller, FileKind, FsError, SetAttr, SetTime, Special};

/// Every right that the caller has to a file by its mode, as ACCESS tells it (RFC 1813 §3.3.4).
///
/// A directory can be modified, extended or deleted from only by whoever may also search it, because
/// the name has to be looked up first.
#[must_use]
pub fn rights(caller: &Caller, attr: &Attr) -> Access {
    let bits = permission_bits(caller, attr);
    let read = bits & READ != 0;
    let write = bits & WRITE != 0;
    let execute = bits & EXECUTE != 0;
    let is_directory = attr.kind == FileKind::Directory;
    let grants = [
        (read, Access::READ),
        (execute && is_directory, Access::LOOKUP),
        (write && (execute || !is_directory), Access::MODIFY),
        (write && (execute || !is_directory), Access::EXTEND),
        (write && execute && is_directory, Access::DELETE),
        (execute && !is_directory, Access::EXECUTE),
    ];
    Access(grants.into_iter().filter(|(granted, _)| *granted).fold(0, |all, (_, one)| all | one.0))
}

/// Whether the caller may read the data of a regular file.
///
/// NFSv3 has no open: a client that may run a program has to read it, and a file that its owner
/// opened stays readable when he then takes the read bit away (RFC 1813 §4.4).
pub fn may_read(caller: &Caller, attr: &Attr) -> Result<(), FsError> {
    let bits = permission_bits(caller, attr);
    let runs = attr.kind == FileKind::Regular && bits & EXECUTE != 0;
    allow(bits & READ != 0 || runs || owns(caller, attr), FsError::Access)
}

/// Whether the caller may write to a regular file; its owner always may (RFC 1813 §4.4).
pub fn may_write(caller: &Caller, attr: &Attr) -> Result<(), FsError> {
    allow(permission_bits(caller, attr) & WRITE != 0 || owns(caller, attr), FsError::Access)
}

/// Whether the caller may look names up in a directory.
pub fn may_search(caller: &Caller, dir: &Attr) -> Result<(), FsError> {
    directory(dir)?;
    allow(permission_bits(caller, dir) & EXECUTE != 0, FsError::Access)
}

/// Whether the caller may list a directory.
pub fn may_list(caller: &Caller, dir: &Attr) -> Result<(), FsError> {
    directory(dir)?;
    allow(permission_bits(caller, dir) & READ != 0, FsError::Access)
}

/// Whether the caller may add a name to a directory.
pub fn may_add(caller: &Caller, dir: &Attr) -> Result<(), FsError> {
    directory(dir)?;
    let both = WRITE | EXECUTE;
    allow(permission_bits(caller, dir) & both == both, FsError::Access)
}

/// Whether the caller may take the name of `victim` away from a directory, by REMOVE, RMDIR or RENAME.
///
/// In a sticky directory only the owner of the file, the owner of the directory and the superuser may.
pub fn may_take(caller: &Caller, dir: &Attr, victim: &Attr) -> Result<(), FsError> {
    may_add(caller, dir)?;
    let free = dir.mode & STICKY == 0 || owns(caller, victim) || owns(caller, dir);
    allow(free, FsError::Perm)
}

/// Whether the caller may move `moved` into another directory.
///
/// A directory's own `..` changes by that, so it has to be writable itself.
pub fn may_reparent(caller: &Caller, moved: &Attr) -> Result<(), FsError> {
    let writable = permission_bits(caller, moved) & WRITE != 0;
    allow(moved.kind != FileKind::Directory || writable, FsError::Access)
}

/// Whether the caller may set what `set` asks for, and whether it can be set at all.
///
/// Only the owner changes the mode and sets times to values of his own. Only the superuser gives files
/// away; the owner may give a file to a group that he is in. Whoever may write the file may set its
/// size and its times to now.
pub fn may_set(caller: &Caller, attr: &Attr, set: &SetAttr) -> Result<(), FsError> {
    set.check()?;
    let owner = owns(caller, attr);
    if set.mode.is_some() {
        allow(owner, FsError::Perm)?;
    }
    if let Some(uid) = set.uid {
        allow(is_root(caller) || (owner && uid == attr.uid), FsError::Perm)?;
    }
    if let Some(gid) = set.gid {
        let member = gid == attr.gid || caller.is_in(gid);
        allow(is_root(caller) || (owner && member), FsError::Perm)?;
    }
    if set.size.is_some() {
        has_data(attr)?;
        may_write(caller, attr)?;
    }
    for time in [set.atime, set.mtime] {
        match time {
            SetTime::Keep => {}
            SetTime::Server => may_write(caller, attr)?,
            SetTime::Client(_) => allow(owner, FsError::Perm)?,
        }
    }
    Ok(())
}

/// Whether the caller may make a node like `what` anywhere at all: only the superuser makes devices.
pub fn may_make(caller: &Caller, what: Special) -> Result<(), FsError> {
    match what {
        Special::Fifo | Special::Socket => Ok(()),
        Special::Block(..) | Special::Character(..) => allow(is_root(caller), FsError::Perm),
    }
}

/// Whether a file has data that can be read, written and truncated; only regular files do.
///
/// FIFOs and devices are never opened on the server: they belong to the client's kernel.
pub const fn has_data(attr: &Attr) -> Result<(), FsError> {
    match attr.kind {
        FileKind::Regular => Ok(()),
        FileKind::Directory => Err(FsError::IsDir),
        FileKind::Block
        | FileKind::Character
        | FileKind::Fifo
        | FileKind::Socket
        | FileKind::Symlink => Err(FsError::Inval),
    }
}

/// Whether the caller is the superuser, after the export's mapping.
#[must_use]
pub const fn is_root(caller: &Caller) -> bool {
    caller.uid == 0
}

/// Whether the caller owns the file, or is the superuser, who owns everything.
const fn owns(caller: &Caller, attr: &Attr) -> bool {
    is_root(caller) || caller.uid == attr.uid
}

/// The one class of mode bits that holds for the caller, as `rwx` in the lowest three bits.
///
/// Exactly one class counts, even when a later one would grant more. The superuser reads and writes
/// everything, searches every directory, and runs what has at least one execute bit.
fn permission_bits(caller: &Caller, attr: &Attr) -> u32 {
    if is_root(caller) {
        let runs = matches!(attr.kind, FileKind::Directory) || attr.mode & 0o111 != 0;
        return if runs { READ | WRITE | EXECUTE } else { READ | WRITE };
    }
    let class = if caller.uid == attr.uid {
        6
    } else if caller.is_in(attr.gid) {
        3
    } else {
        0
    };
    (attr.mode >> class) & 0o7
}

fn directory(attr: &Attr) -> Result<(), FsError> {
    allow(attr.kind == FileKind::Directory, FsError::NotDir)
}

const fn allow(condition: bool, otherwise: FsError) -> Result<(), FsError> {
    if condition { Ok(()) } else { Err(otherwise) }
}

const READ: u32 = 0o4;
const WRITE: u32 = 0o2;
const EXECUTE: u32 = 0o1;
/// `S_ISVTX`: in this directory everybody removes only what is his.
const STICKY: u32 = 0o1000;

#[cfg(test)]
mod test {
    use super::*;
    use crate::Time;

    const OWNER: Caller = Caller::new(1001, 100);
    const MEMBER: Caller = Caller::new(1002, 100);
    const OTHER: Caller = Caller::new(1003, 300);

    fn attr(kind: FileKind, mode: u32) -> Attr {
        let time = Time::default();
        Attr {
            kind,
            mode,
            nlink: 1,
            uid: 1001,
            gid: 100,
            size: 0,
            used: 0,
            rdev: (0, 0),
            fsid: 1,
            fileid: 1,
            atime: time,
            mtime: time,
            ctime: time,
        }
    }

    fn file(mode: u32) -> Attr {
        attr(FileKind::Regular, mode)
    }

    fn dir(mode: u32) -> Attr {
        attr(FileKind::Directory, mode)
    }

    #[test]
    fn exactly_one_class_of_bits_counts() {
        assert_eq!(rights(&OWNER, &file(0o077)), Access(0));
        assert_eq!(rights(&MEMBER, &file(0o707)), Access(0));
        assert!(rights(&OTHER, &file(0o004)).contains(Access::READ));
    }

    #[test]
    fn a_supplementary_group_counts_as_the_group() {
        let caller = OTHER.with_groups(&[7, 100]);
        assert!(rights(&caller, &file(0o040)).contains(Access::READ));
    }

    #[test]
    fn the_superuser_reads_and_writes_everything_but_runs_only_programs() {
        let all = rights(&Caller::ROOT, &file(0));
        assert!(all.contains(Access::READ) && all.contains(Access::MODIFY));
        assert!(!all.contains(Access::EXECUTE));
        assert!(rights(&Caller::ROOT, &file(0o001)).contains(Access::EXECUTE));
        assert!(rights(&Caller::ROOT, &dir(0)).contains(Access::LOOKUP));
    }

    #[test]
    fn lookup_and_delete_are_rights_to_directories_only_and_execute_to_files_only() {
        let of_dir = rights(&OWNER, &dir(0o777));
        let of_file = rights(&OWNER, &file(0o777));
        assert!(of_dir.contains(Access::LOOKUP) && of_dir.contains(Access::DELETE));
        assert!(!of_dir.contains(Access::EXECUTE));
        assert!(of_file.contains(Access::EXECUTE) && !of_file.contains(Access::LOOKUP));
        assert!(!of_file.contains(Access::DELETE));
    }

    #[test]
    fn a_directory_that_cannot_be_searched_cannot_be_changed() {
        assert!(!rights(&OWNER, &dir(0o600)).contains(Access::MODIFY));
        assert_eq!(may_add(&OWNER, &dir(0o600)), Err(FsError::Access));
    }

    #[test]
    fn the_owner_may_read_and_write_what_he_forbade_himself() {
        assert_eq!(may_read(&OWNER, &file(0)), Ok(()));
        assert_eq!(may_write(&OWNER, &file(0)), Ok(()));
        assert_eq!(may_read(&MEMBER, &file(0)), Err(FsError::Access));
    }

    #[test]
    fn whoever_may_run_a_file_may_read_it() {
        assert_eq!(may_read(&OTHER, &file(0o001)), Ok(()));
        assert_eq!(may_write(&OTHER, &file(0o001)), Err(FsError::Access));
    }

    #[test]
    fn in_a_sticky_directory_only_owners_and_root_take_names_away() {
        let tmp = Attr { uid: 1, ..dir(0o1777) };
        assert_eq!(may_take(&OWNER, &tmp, &file(0o666)), Ok(()));
        assert_eq!(may_take(&OTHER, &tmp, &file(0o666)), Err(FsError::Perm));
        assert_eq!(may_take(&Caller::new(1, 1), &tmp, &file(0o666)), Ok(()));
        assert_eq!(may_take(&Caller::ROOT, &tmp, &file(0o666)), Ok(()));
    }

    #[test]
    fn only_the_superuser_gives_files_away() {
        let set = SetAttr { uid: Some(5), ..SetAttr::default() };
        assert_eq!(may_set(&OWNER, &file(0o644), &set), Err(FsError::Perm));
        assert_eq!(may_set(&Caller::ROOT, &file(0o644), &set), Ok(()));
        let same = SetAttr { uid: Some(1001), ..SetAttr::default() };
        assert_eq!(may_set(&OWNER, &file(0o644), &same), Ok(()));
    }

    #[test]
    fn the_owner_gives_a_file_only_to_groups_that_he_is_in() {
        let set = SetAttr { gid: Some(7), ..SetAttr::default() };
        assert_eq!(may_set(&OWNER, &file(0o644), &set), Err(FsError::Perm));
        assert_eq!(may_set(&OWNER.with_groups(&[7]), &file(0o644), &set), Ok(()));
        assert_eq!(may_set(&MEMBER.with_groups(&[7]), &file(0o644), &set), Err(FsError::Perm));
    }

    #[test]
    fn who_may_write_may_set_times_to_now_but_not_to_his_own() {
        let now = SetAttr { mtime: SetTime::Server, ..SetAttr::default() };
        let own = SetAttr { mtime: SetTime::Client(Time::default()), ..SetAttr::default() };
        assert_eq!(may_set(&MEMBER, &file(0o664), &now), Ok(()));
        assert_eq!(may_set(&MEMBER, &file(0o644), &now), Err(FsError::Access));
        assert_eq!(may_set(&MEMBER, &file(0o664), &own), Err(FsError::Perm));
        assert_eq!(may_set(&OWNER, &file(0), &own), Ok(()));
    }

    #[test]
    fn only_regular_files_have_a_size_to_set() {
        let set = SetAttr { size: Some(0), ..SetAttr::default() };
        assert_eq!(may_set(&Caller::ROOT, &dir(0o755), &set), Err(FsError::IsDir));
        let fifo = attr(FileKind::Fifo, 0o666);
        assert_eq!(may_set(&Caller::ROOT, &fifo, &set), Err(FsError::Inval));
    }

    #[test]
    fn only_the_superuser_makes_devices() {
        assert_eq!(may_make(&OWNER, Special::Character(1, 3)), Err(FsError::Perm));
        assert_eq!(may_make(&OWNER, Special::Fifo), Ok(()));
        assert_eq!(may_make(&Caller::ROOT, Special::Block(8, 0)), Ok(()));
    }

    #[test]
    fn a_directory_moves_elsewhere_only_if_it_is_writable_itself() {
        assert_eq!(may_reparent(&OWNER, &dir(0o555)), Err(FsError::Access));
        assert_eq!(may_reparent(&OWNER, &file(0o444)), Ok(()));
    }
}
