//! POSIX.1e access control lists: as the text of archives (SCHILY.acl.access and SCHILY.acl.default of
//! star(5), as GNU tar and bsdtar write them) and as Linux's extended attribute
//! (linux/posix_acl_xattr.h).
//!
//! Users and groups count by their number: a name alone means somebody else on every host.

/// What Linux keeps for a list of `user::rwx,user:lisa:r--:501,…`; `None` if it is no list, or names
/// somebody without a number.
#[must_use]
pub fn encode(text: &[u8]) -> Option<Vec<u8>> {
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

/// The text of what Linux keeps, with everybody by number; `None` if that is no list.
#[must_use]
pub fn decode(kept: &[u8]) -> Option<String> {
    let (version, entries) = kept.split_first_chunk()?;
    let (entries, rest) = entries.as_chunks::<8>();
    if u32::from_le_bytes(*version) != VERSION || entries.is_empty() || !rest.is_empty() {
        return None;
    }
    let entries = entries.iter().map(|[t0, t1, p0, p1, id @ ..]| {
        let (tag, permissions) = (u16::from_le_bytes([*t0, *t1]), u16::from_le_bytes([*p0, *p1]));
        let id = u32::from_le_bytes(*id);
        let (kind, who) = match tag {
            USER_OBJ => ("user", String::new()),
            USER => ("user", id.to_string()),
            GROUP_OBJ => ("group", String::new()),
            GROUP => ("group", id.to_string()),
            MASK => ("mask", String::new()),
            OTHER => ("other", String::new()),
            _ => return None,
        };
        let flag = |bit, letter| if permissions & bit == 0 { '-' } else { letter };
        let [read, write, execute] = [flag(4, 'r'), flag(2, 'w'), flag(1, 'x')];
        (permissions & !7 == 0).then(|| format!("{kind}:{who}:{read}{write}{execute}"))
    });
    Some(entries.collect::<Option<Vec<_>>>()?.join(","))
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
    fn what_the_kernel_keeps_is_written_with_numbers_and_read_back() {
        let kept = hex!(
            "02000000 01000700ffffffff 02000500f5010000 0200040001000000 04000000ffffffff"
            "08000700ffffff7f 10000700ffffffff 20000100ffffffff"
        );
        let text = decode(&kept).unwrap();
        let wanted = "user::rwx,user:501:r-x,user:1:r--,group::---,group:2147483647:rwx,mask::rwx,other::--x";
        assert_eq!(text, wanted);
        assert_eq!(encode(text.as_bytes()).unwrap(), kept);
        for bad in [&kept[..4], &kept[..13], &[&[3], &kept[1..]].concat(), b""] {
            assert_eq!(decode(bad), None);
        }
    }

    #[test]
    fn somebody_without_a_number_and_nonsense_are_no_list() {
        for bad in ["user:lisa:r--", "user::rwz", "owner::rwx", "user:", "mask:5:rwx", "", "#"] {
            assert_eq!(encode(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
