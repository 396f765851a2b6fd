//! Extended attributes: `SCHILY.xattr.NAME` with the value's own bytes, as GNU tar and bsdtar write and read
//! them.
//!
//! A key ends at the first `=`, so that of a name with one is written by GNU tar as `%3D`, and then `%`
//! itself as `%25`.

/// The key for the attribute of this name.
#[must_use]
pub fn key(name: &[u8]) -> Vec<u8> {
    let mut key = PREFIX.to_vec();
    for byte in name {
        match byte {
            b'=' => key.extend_from_slice(b"%3D"),
            b'%' => key.extend_from_slice(b"%25"),
            byte => key.push(*byte),
        }
    }
    key
}

/// The attribute that a key is for; `None` if it is for none.
#[must_use]
pub fn name(key: &[u8]) -> Option<Vec<u8>> {
    let mut rest = key.strip_prefix(PREFIX)?;
    let mut name = Vec::with_capacity(rest.len());
    while let Some((first, after)) = rest.split_first() {
        let (byte, after) = if let Some(after) = rest.strip_prefix(b"%3D") {
            (b'=', after)
        } else if let Some(after) = rest.strip_prefix(b"%25") {
            (b'%', after)
        } else {
            (*first, after)
        };
        name.push(byte);
        rest = after;
    }
    (!name.is_empty()).then_some(name)
}

const PREFIX: &[u8] = b"SCHILY.xattr.";

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_name_is_read_back_as_it_was_written() {
        for one in [&b"user.note"[..], b"user.a=b%3D%", b"user.\xff\n", b"user.100%25"] {
            let key = key(one);
            assert!(!key.contains(&b'='));
            assert_eq!(name(&key).unwrap(), one);
        }
        assert_eq!(name(b"SCHILY.xattr."), None);
        assert_eq!(name(b"SCHILY.acl.access"), None);
    }
}
