//! File flags: what chmod(1) cannot say and chflags(1) can.

use std::fmt;

/// File flags as FreeBSD's chflags(2) numbers them.
///
/// Linux has counterparts of some ([ioctl_iflags(2)]): immutable, append-only, not to be dumped.
///
/// [ioctl_iflags(2)]: https://man7.org/linux/man-pages/man2/ioctl_iflags.2.html
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Flags(u32);

impl Flags {
    /// Neither the superuser nor anybody else may change, rename or remove it: `schg`, `uchg`.
    pub const IMMUTABLE: Self = Self(0x0002_0002);
    /// It may only grow: `sappnd`, `uappnd`.
    pub const APPEND: Self = Self(0x0004_0004);
    /// Backups leave it out: `nodump`.
    pub const NODUMP: Self = Self(0x0000_0001);
    /// Whatever keeps it from being changed, renamed or removed: those above, `sunlnk` and `uunlnk`.
    pub const FIXED: Self = Self(0x0016_0016);

    /// Reads a list such as `schg,uarch`, as archives have it (`SCHILY.fflags`), and the names in it
    /// that are no flag's.
    ///
    /// `arch` and `uarch` are left out: they say to a backup that a file has changed since the last
    /// one, which is not so of a copy.
    #[must_use]
    pub fn parse(text: &str) -> (Self, Vec<String>) {
        let (mut flags, mut unknown) = (Self::default(), Vec::new());
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            match NAMES.iter().find(|(_, names)| names.contains(&name)) {
                Some((bit, _)) => flags.0 |= bit,
                None if ["arch", "archived", "uarch", "uarchive"].contains(&name) => {}
                None => unknown.push(name.to_owned()),
            }
        }
        (flags, unknown)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether any of `others` is among them.
    #[must_use]
    pub const fn any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// Those that are not among `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// The number that chflags(2) takes.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The flags in a number of stat(2)'s or of [`Flags::bits`]: those that a copy is to have too.
    #[must_use]
    pub fn from_bits(bits: u32) -> Self {
        Self(bits & KEPT)
    }
}

impl fmt::Display for Flags {
    /// Writes the list that [`Flags::parse`] reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = NAMES.iter().filter(|(bit, _)| self.0 & bit != 0);
        let names: Vec<_> = set.filter_map(|(_, names)| names.first().copied()).collect();
        f.write_str(&names.join(","))
    }
}

/// What is said of a file by its owner, and not by the kernel (`snapshot`, `usparse`, `uarch`).
const KEPT: u32 = 0x0016_969f;

/// The flags of FreeBSD's sys/stat.h by the names of strtofflags(3), the usual one first.
const NAMES: [(u32, &[&str]); 15] = [
    (0x0000_0001, &["nodump"]),
    (0x0000_0002, &["uchg", "uchange", "uimmutable"]),
    (0x0000_0004, &["uappnd", "uappend"]),
    (0x0000_0008, &["opaque"]),
    (0x0000_0010, &["uunlnk", "uunlink"]),
    (0x0000_0080, &["usystem", "system"]),
    (0x0000_0100, &["usparse", "sparse"]),
    (0x0000_0200, &["uoffline", "offline"]),
    (0x0000_0400, &["ureparse", "reparse"]),
    (0x0000_1000, &["urdonly", "rdonly", "readonly"]),
    (0x0000_8000, &["uhidden", "hidden"]),
    (0x0002_0000, &["schg", "schange", "simmutable"]),
    (0x0004_0000, &["sappnd", "sappend"]),
    (0x0010_0000, &["sunlnk", "sunlink"]),
    (0x0020_0000, &["snapshot"]),
];

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_list_is_read_back_as_it_was_written() {
        let (flags, unknown) = Flags::parse("simmutable, nodump,uarch,sunlnk");
        assert_eq!(flags.to_string(), "nodump,schg,sunlnk");
        assert_eq!(Flags::parse(&flags.to_string()), (flags, vec![]));
        assert!(unknown.is_empty());
        assert!(flags.any(Flags::IMMUTABLE) && !flags.any(Flags::APPEND));
    }

    #[test]
    fn a_copy_has_what_its_owner_said_of_a_file() {
        let (all, _) = Flags::parse("schg,uappnd,sunlnk,nodump,hidden,sparse,snapshot");
        assert_eq!(Flags::from_bits(all.bits()).to_string(), "nodump,uappnd,uhidden,schg,sunlnk");
        for (bit, names) in NAMES {
            let kept = !["usparse", "snapshot"].contains(&names[0]);
            assert_eq!(Flags::from_bits(bit).is_empty(), !kept, "{names:?}");
        }
    }

    #[test]
    fn a_name_that_is_no_flags_is_told() {
        assert_eq!(Flags::parse("schgg").1, ["schgg"]);
    }
}
