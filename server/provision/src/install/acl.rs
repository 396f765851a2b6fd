//! POSIX.1e access control lists, from the text of archives (SCHILY.acl.* of star(5), as GNU tar and
//! bsdtar write it) to Linux's extended attribute (linux/posix_acl_xattr.h).
//!
//! Users and groups count by their number: a name alone means somebody else on every host.

/// What Linux keeps for a list of `user::rwx,user:lisa:r--:501,…`; `None` if it is no list, or names
/// somebody without a number.
pub(super) fn encode(text: &[u8]) -> Option<Vec<u8>> {
    let text = str::from_utf8(text).ok()?;
    let entries = text.split([',', '\n']).map(|entry| entry.split('#').next().unwrap_or(entry));
    let entries = entries.map(str::trim).filter(|entry| !entry.is_empty());
    let mut entries = entries.map(Entry::parse).collect::<Option<Vec<_>>>()?;
    // The kernel takes no other order.
    entries.sort_by_key(|entry| entry.tag);
    let bytes = entries.iter().flat_map(|entry| {
        let Entry { tag, permissions, id } = entry;
        let halves = [tag.to_le_bytes(), permissions.to_le_bytes()];
        halves.into_iter().flatten().chain(id.to_le_bytes())
    });
    let encoded: Vec<u8> = VERSION.to_le_bytes().into_iter().chain(bytes).collect();
    (!entries.is_empty()).then_some(encoded)
}

struct Entry {
    tag: u16,
    permissions: u16,
    id: u32,
}

impl Entry {
    fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split(':');
        let (kind, who) = (fields.next()?, fields.next()?);
        let (permissions, number) = (fields.next()?, fields.next());
        let named = || number.unwrap_or(who).parse::<u32>().ok();
        let (tag, id) = match (kind, who) {
            ("user" | "u", "") => (USER_OBJ, NOBODY),
            ("user" | "u", _) => (USER, named()?),
            ("group" | "g", "") => (GROUP_OBJ, NOBODY),
            ("group" | "g", _) => (GROUP, named()?),
            ("mask" | "m", "") => (MASK, NOBODY),
            ("other" | "o", "") => (OTHER, NOBODY),
            _ => return None,
        };
        let permissions = permissions.chars().try_fold(0, |all, flag| match flag {
            'r' => Some(all | 4),
            'w' => Some(all | 2),
            'x' => Some(all | 1),
            '-' => Some(all),
            _ => None,
        })?;
        Some(Self { tag, permissions, id })
    }
}

/// `POSIX_ACL_XATTR_VERSION`.
const VERSION: u32 = 2;
/// `ACL_UNDEFINED_ID`: of entries for nobody in particular.
const NOBODY: u32 = u32::MAX;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[cfg(test)]
mod test {
    use hex_literal::hex;

    use super::*;

    #[test]
    fn a_list_is_what_the_kernel_keeps() {
        // `setfacl -m u:501:r,g:20:w` on a file of mode 0640, then `getfattr -e hex`.
        let kept = hex!(
            "02000000 01000600ffffffff 02000400f5010000 04000400ffffffff 08000200 14000000"
            "10000600ffffffff 20000000ffffffff"
        );
        let by_bsdtar =
            b"user::rw-,group::r--,other::---,user:lisa:r--:501,group:staff:-w-:20,mask::rw-";
        assert_eq!(encode(by_bsdtar).unwrap(), kept);
        let by_tar = b"user::rw-\nuser:501:r--\t#effective:r--\ngroup::r--\ngroup:20:-w-\nmask::rw-\nother::---\n";
        assert_eq!(encode(by_tar).unwrap(), kept);
    }

    #[test]
    fn somebody_without_a_number_and_nonsense_are_no_list() {
        for bad in ["user:lisa:r--", "user::rwz", "owner::rwx", "user:", "mask:5:rwx", "", "#"] {
            assert_eq!(encode(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
