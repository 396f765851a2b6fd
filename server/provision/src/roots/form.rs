//! Files as workers tell of them: a name has whatever bytes.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// [`hostfs::Entry`].
#[derive(Deserialize, Serialize)]
#[serde(remote = "hostfs::Entry")]
pub(super) struct Entry {
    #[serde(with = "EntryKind")]
    kind: hostfs::EntryKind,
    mode: u32,
    uid: u32,
    gid: u32,
    #[serde(with = "flags")]
    flags: hostfs::Flags,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "hostfs::EntryKind")]
enum EntryKind {
    Directory,
    File,
    Link(#[serde(with = "path")] PathBuf),
    Other,
}

/// File flags as FreeBSD numbers them.
mod flags {
    use hostfs::Flags;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the form of serde's functions")]
    pub(super) fn serialize<S: Serializer>(
        flags: &Flags,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        flags.bits().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Flags, D::Error> {
        u32::deserialize(deserializer).map(Flags::from_bits)
    }
}

/// The bytes of a path.
pub(super) mod path {
    use std::ffi::OsString;
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in crate::roots) fn serialize<S: Serializer>(
        path: &Path,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(path.as_os_str().as_bytes())
    }

    pub(in crate::roots) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        Ok(OsString::from_vec(Vec::deserialize(deserializer)?).into())
    }
}

#[cfg(test)]
mod test {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::super::merge::{Fate, Item, Step};
    use super::*;

    #[test]
    fn a_name_of_any_bytes_is_told_as_it_is() {
        let path = PathBuf::from(OsStr::from_bytes(b"etc/\xff\x1b"));
        let kind = hostfs::EntryKind::Link(path.clone());
        let entry =
            hostfs::Entry { kind, mode: 0o777, uid: 1, gid: 2, flags: hostfs::Flags::NODUMP };
        let step = Step {
            path,
            fate: Fate::Kept(Some(Item { entry, content: None, extended: None, list: None })),
        };
        let told = serde_json::to_vec(&step).unwrap();
        assert_eq!(serde_json::from_slice::<Step>(&told).unwrap(), step);
    }
}
