//! Access control lists of POSIX (draft 17 of 1003.1e, acl(5)), by which a file grants less or more than its mode says.

use crate::{Attr, Caller, FileKind, permission};

/// What a list has beside the mode: the mode's bits for the owner and for others are the list's own, and those for the
/// group are its mask.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Acl {
    /// What a user is granted, by number.
    pub users: Vec<(u32, u32)>,
    /// What the file's group is granted.
    pub group: u32,
    /// What a group is granted, by number.
    pub groups: Vec<(u32, u32)>,
}

impl Acl {
    /// The attributes by which a caller is judged ([`permission`]): those of the file, with the bits that the list
    /// grants him in the place of the mode's.
    ///
    /// As in Linux's `posix_acl_permission()`, exactly one class counts: the owner, a user who is named, one
    /// of the groups, others. Of several groups one has to grant all that is wanted at once. Names in
    /// directories are changed by who may write and search; so a group that grants to write alone grants
    /// nothing there. Where the mask is empty, Linux goes by the mode (`acl_permission_check()`).
    #[must_use]
    pub fn judged(&self, caller: &Caller, attr: &Attr) -> Attr {
        let mask = (attr.mode >> 3) & ALL;
        if permission::is_root(caller) || caller.uid == attr.uid || mask == 0 {
            return *attr;
        }
        let named = self.users.iter().find(|(uid, _)| *uid == caller.uid);
        let own = caller.is_in(attr.gid).then_some(self.group);
        let named_groups = self.groups.iter().filter(|(gid, _)| caller.is_in(*gid));
        let mut groups = own.into_iter().chain(named_groups.map(|(_, bits)| *bits)).peekable();
        let bits = if let Some((_, bits)) = named {
            bits & mask
        } else if groups.peek().is_some() {
            groups.map(|bits| usable(attr.kind, bits & mask)).fold(0, |all, bits| all | bits)
        } else {
            attr.mode & ALL
        };
        Attr { mode: attr.mode & !0o777 | bits << 6 | bits << 3 | bits, ..*attr }
    }
}

/// What one entry's bits are good for, if they are not to be added to those of another.
const fn usable(kind: FileKind, bits: u32) -> u32 {
    let changes = WRITE | EXECUTE;
    match kind {
        FileKind::Directory if bits & changes != changes => bits & !WRITE,
        FileKind::Directory
        | FileKind::Regular
        | FileKind::Symlink
        | FileKind::Fifo
        | FileKind::Character
        | FileKind::Block
        | FileKind::Socket => bits,
    }
}

/// `rwx`.
const ALL: u32 = 0o7;
const WRITE: u32 = 0o2;
const EXECUTE: u32 = 0o1;

#[cfg(test)]
mod test {
    use super::*;
    use crate::{Access, Time};

    const ANNA: Caller = Caller::new(1002, 200);
    const MEMBER: Caller = Caller::new(1003, 100);
    const OTHER: Caller = Caller::new(1004, 300);

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

    fn may(acl: &Acl, caller: &Caller, attr: &Attr) -> (bool, bool) {
        let rights = permission::rights(caller, &acl.judged(caller, attr));
        (rights.contains(Access::READ), rights.contains(Access::MODIFY))
    }

    #[test]
    fn the_bits_of_the_group_are_the_mask_and_not_what_the_group_is_granted() {
        // user::rw-, user:1002:rw-, group::---, mask::rw-, other::---
        let acl = Acl { users: vec![(1002, 6)], group: 0, groups: vec![] };
        let file = attr(FileKind::Regular, 0o660);
        assert_eq!(may(&acl, &ANNA, &file), (true, true));
        assert_eq!(may(&acl, &MEMBER, &file), (false, false));
        assert_eq!(may(&acl, &OTHER, &file), (false, false));
        let masked = attr(FileKind::Regular, 0o640);
        assert_eq!(may(&acl, &ANNA, &masked), (true, false));
        // The owner and the superuser have what they have by the mode.
        for caller in [Caller::new(1001, 7), Caller::ROOT] {
            assert_eq!(acl.judged(&caller, &file), file);
        }
    }

    #[test]
    fn who_is_named_has_no_more_than_that_though_others_have() {
        let acl = Acl { users: vec![(1002, 0)], group: 6, groups: vec![(300, 0)] };
        let file = attr(FileKind::Regular, 0o666);
        assert_eq!(may(&acl, &ANNA, &file), (false, false));
        assert_eq!(may(&acl, &ANNA.with_groups(&[100]), &file), (false, false));
        assert_eq!(may(&acl, &OTHER, &file), (false, false));
        assert_eq!(may(&acl, &OTHER.with_groups(&[100]), &file), (true, true));
        assert_eq!(may(&acl, &Caller::new(1005, 400), &file), (true, true));
    }

    #[test]
    fn names_are_changed_by_who_is_granted_both_by_one_entry() {
        let acl = Acl { users: vec![], group: 2, groups: vec![(300, 5), (301, 3)] };
        let dir = attr(FileKind::Directory, 0o777);
        let may_add = |caller: &Caller| permission::may_add(caller, &acl.judged(caller, &dir));
        assert!(may_add(&MEMBER.with_groups(&[300])).is_err());
        assert!(may_add(&MEMBER.with_groups(&[301])).is_ok());
        let member = MEMBER.with_groups(&[300]);
        assert!(permission::may_list(&member, &acl.judged(&member, &dir)).is_ok());
    }
}
