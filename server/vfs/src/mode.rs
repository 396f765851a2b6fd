//! What becomes of mode, owner and group: when setuid and setgid bits are cleared, and what a new
//! file inherits.
//!
//! | what happens | setuid | setgid |
//! |---|---|---|
//! | the superuser writes or truncates | stays | stays |
//! | anybody else writes or truncates | cleared | cleared |
//! | chown or chgrp of a directory | stays | stays |
//! | chown or chgrp of anything else, by anybody | cleared | cleared |
//! | chmod by the superuser | as asked | as asked |
//! | chmod by the owner, in the file's group | as asked | as asked |
//! | chmod by the owner, not in the file's group | as asked | cleared |
//! | a new directory below one with setgid | as asked | set |
//!
//! These are Linux's rules for local files. FreeBSD's differ only where POSIX leaves the choice: a
//! chown by its superuser keeps the bits. The client's umask has been applied before a call is sent,
//! so none is applied here.

use crate::permission::is_root;
use crate::{Attr, Caller, FileKind, SetAttr};

/// Which group a new file gets when its directory has no setgid bit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum GroupRule {
    /// The caller's, as on Linux and System V.
    #[default]
    Caller,
    /// The directory's, as on the BSDs.
    Directory,
}

/// Owner, group and mode that a new object is born with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Birth {
    /// Its mode (`0o7777`).
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What a new object of `kind` in `dir` is born with.
///
/// An owner or group in `set` that the caller may not give is left out, as Linux's server does:
/// some clients send their own idea of both with every CREATE. Without a mode the object is for its
/// owner alone, except a symbolic link, whose mode nobody reads.
#[must_use]
pub fn birth(
    caller: &Caller,
    dir: &Attr,
    kind: FileKind,
    set: &SetAttr,
    groups: GroupRule,
) -> Birth {
    let inherits = dir.mode & SETGID != 0;
    let natural = if inherits || groups == GroupRule::Directory { dir.gid } else { caller.gid };
    let asked = set.gid.filter(|gid| is_root(caller) || caller.is_in(*gid));
    let gid = asked.unwrap_or(natural);
    let uid = set.uid.filter(|_| is_root(caller)).unwrap_or(caller.uid);
    let mode = match kind {
        FileKind::Directory if inherits => set.mode.unwrap_or(0o700) | SETGID,
        FileKind::Directory => set.mode.unwrap_or(0o700),
        FileKind::Symlink => 0o777,
        FileKind::Block
        | FileKind::Character
        | FileKind::Fifo
        | FileKind::Regular
        | FileKind::Socket => without_foreign_setgid(caller, gid, set.mode.unwrap_or(0o600)),
    };
    Birth { mode: mode & MODE, uid, gid }
}

/// The mode after the caller wrote to, truncated or extended a file.
#[must_use]
pub const fn after_write(caller: &Caller, attr: &Attr) -> u32 {
    if is_root(caller) { attr.mode } else { attr.mode & !(SETUID | SETGID) }
}

/// The mode after the caller set `set`, which he may do: owner and group are set before the mode, as
/// two calls in the usual order would.
#[must_use]
pub fn after_set(caller: &Caller, attr: &Attr, set: &SetAttr) -> u32 {
    let gid = set.gid.unwrap_or(attr.gid);
    let kept = if set.size.is_some() { after_write(caller, attr) } else { attr.mode };
    let chowned = set.uid.is_some() || set.gid.is_some();
    let kept =
        if chowned && attr.kind != FileKind::Directory { kept & !(SETUID | SETGID) } else { kept };
    set.mode.map_or(kept, |mode| without_foreign_setgid(caller, gid, mode & MODE))
}

/// `mode` without setgid, if the caller is not in the group that it would give away.
fn without_foreign_setgid(caller: &Caller, gid: u32, mode: u32) -> u32 {
    if is_root(caller) || caller.is_in(gid) { mode } else { mode & !SETGID }
}

/// All mode bits that a file server handles.
const MODE: u32 = 0o7777;
/// `S_ISUID`.
const SETUID: u32 = 0o4000;
/// `S_ISGID`.
const SETGID: u32 = 0o2000;

#[cfg(test)]
mod test {
    use super::*;
    use crate::Time;

    const OWNER: Caller = Caller::new(1001, 100);

    fn attr(kind: FileKind, mode: u32) -> Attr {
        let time = Time::default();
        Attr {
            kind,
            mode,
            nlink: 1,
            uid: 1001,
            gid: 300,
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

    const NOTHING: SetAttr = SetAttr {
        mode: None,
        uid: None,
        gid: None,
        size: None,
        atime: crate::SetTime::Keep,
        mtime: crate::SetTime::Keep,
    };

    #[test]
    fn a_write_clears_both_bits_unless_the_superuser_writes() {
        let file = attr(FileKind::Regular, 0o6755);
        assert_eq!(after_write(&OWNER, &file), 0o755);
        assert_eq!(after_write(&Caller::ROOT, &file), 0o6755);
    }

    #[test]
    fn a_truncation_is_a_write() {
        let set = SetAttr { size: Some(0), ..NOTHING };
        let file = attr(FileKind::Regular, 0o4755);
        assert_eq!(after_set(&OWNER, &file, &set), 0o755);
    }

    #[test]
    fn a_chown_clears_both_bits_of_files_even_by_the_superuser() {
        let set = SetAttr { uid: Some(5), ..NOTHING };
        assert_eq!(after_set(&Caller::ROOT, &attr(FileKind::Regular, 0o6755), &set), 0o755);
        assert_eq!(after_set(&Caller::ROOT, &attr(FileKind::Directory, 0o2755), &set), 0o2755);
    }

    #[test]
    fn a_mode_in_the_same_call_is_set_after_the_owner() {
        let set = SetAttr { uid: Some(0), mode: Some(0o4755), ..NOTHING };
        assert_eq!(after_set(&Caller::ROOT, &attr(FileKind::Regular, 0), &set), 0o4755);
    }

    #[test]
    fn setgid_for_a_group_that_the_owner_is_not_in_is_left_out() {
        let set = SetAttr { mode: Some(0o2755), ..NOTHING };
        let file = attr(FileKind::Regular, 0o755);
        assert_eq!(after_set(&OWNER, &file, &set), 0o755);
        assert_eq!(after_set(&OWNER.with_groups(&[300]), &file, &set), 0o2755);
    }

    #[test]
    fn a_new_file_gets_the_callers_group_or_the_directorys() {
        let plain = attr(FileKind::Directory, 0o777);
        let setgid = attr(FileKind::Directory, 0o2777);
        let gid = |dir, rule| birth(&OWNER, dir, FileKind::Regular, &NOTHING, rule).gid;
        assert_eq!(gid(&plain, GroupRule::Caller), 100);
        assert_eq!(gid(&setgid, GroupRule::Caller), 300);
        assert_eq!(gid(&plain, GroupRule::Directory), 300);
    }

    #[test]
    fn a_new_directory_inherits_setgid_and_a_new_file_does_not() {
        let parent = attr(FileKind::Directory, 0o2777);
        let set = SetAttr { mode: Some(0o755), ..NOTHING };
        let mode = |kind| birth(&OWNER, &parent, kind, &set, GroupRule::Caller).mode;
        assert_eq!(mode(FileKind::Directory), 0o2755);
        assert_eq!(mode(FileKind::Regular), 0o755);
    }

    #[test]
    fn an_owner_that_the_caller_may_not_give_is_left_out() {
        let dir = attr(FileKind::Directory, 0o777);
        let set = SetAttr { uid: Some(0), gid: Some(0), mode: Some(0o6755), ..NOTHING };
        let born = birth(&OWNER, &dir, FileKind::Regular, &set, GroupRule::Caller);
        assert_eq!(born, Birth { mode: 0o6755, uid: 1001, gid: 100 });
        let born = birth(&Caller::ROOT, &dir, FileKind::Regular, &set, GroupRule::Caller);
        assert_eq!(born, Birth { mode: 0o6755, uid: 0, gid: 0 });
    }

    #[test]
    fn no_foreign_setgid_program_is_born_in_a_setgid_directory() {
        let dir = attr(FileKind::Directory, 0o2777);
        let set = SetAttr { mode: Some(0o2755), ..NOTHING };
        let born = birth(&OWNER, &dir, FileKind::Regular, &set, GroupRule::Caller);
        assert_eq!(born, Birth { mode: 0o755, uid: 1001, gid: 300 });
    }
}
