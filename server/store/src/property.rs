//! What can be set of a boot environment by a name, as zfs(8) has it: a name with a colon is of whoever chose
//! it, and one without has to be known.

use std::fmt;

/// What a name stands for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Property {
    /// A data set stays with the machine, or does not.
    Data(bool),
    /// What the environment is for.
    Role,
    /// What the file system has, not netbe.
    Native(Native),
    /// What is only written down: one of [`DESCRIPTIONS`], or with a colon in it.
    Setting,
}

impl Property {
    /// What a name stands for, if it can be set.
    pub fn of(name: &str) -> Result<Self, PropertyError> {
        let owned = || name.to_owned();
        match name {
            "data" => Ok(Self::Data(true)),
            "system" => Ok(Self::Data(false)),
            "role" => Ok(Self::Role),
            kept if KEPT_KEYS.contains(&kept) => Err(PropertyError::Kept(owned())),
            // Refused with its own sentence where it is written down.
            own if crate::settings::OWN_KEYS.contains(&own) => Ok(Self::Setting),
            free if free.contains(':') || DESCRIPTIONS.contains(&free) => Ok(Self::Setting),
            _ => {
                if let Some(native) = Native::of(name) {
                    return Ok(Self::Native(native));
                }
                if let Some((_, instead)) = INSTEAD.iter().find(|(other, _)| *other == name) {
                    return Err(PropertyError::Other { name: owned(), instead });
                }
                Err(PropertyError::Unknown { name: owned(), meant: nearest(name) })
            }
        }
    }

    /// All names that have no colon and can be set, sorted.
    #[must_use]
    pub fn names() -> Vec<&'static str> {
        let mut names = vec!["data", "role", "system"];
        names.extend(DESCRIPTIONS);
        names.extend(Native::ALL.map(Native::as_str));
        names.sort_unstable();
        names
    }
}

/// Why a name cannot be set.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PropertyError {
    /// netbe goes by it.
    #[error(
        "netbe sets {0} itself: change it with `netbe sharepxe`, `netbe machine` or `netbe install`"
    )]
    Kept(String),
    /// ZFS has it, and it is not set in this way.
    #[error("{name} cannot be set with `netbe set`: {instead}")]
    Other {
        /// The name.
        name: String,
        /// What does it.
        instead: &'static str,
    },
    /// Nobody knows it.
    #[error(
        "there is no property {name}{}: `netbe set --help` lists all; a name of your own has a \
         colon, as in site:{name}",
        meant.map_or_else(String::new, |meant| format!(" (did you mean {meant}?)"))
    )]
    Unknown {
        /// The name.
        name: String,
        /// One that looks like it.
        meant: Option<&'static str>,
    },
}

/// A property of the file system that an environment is on, by the name that ZFS has for it (zfsprops(7)).
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Native {
    name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Kind {
    /// Bytes that an environment may take or is sure of; those below it do not inherit that.
    Limit,
    /// Bytes.
    Size,
    /// Words or small numbers.
    Word,
}

impl Native {
    /// All of them, sorted by name.
    pub const ALL: [Self; 17] = [
        Self::new("atime", Kind::Word),
        Self::new("checksum", Kind::Word),
        Self::new("compression", Kind::Word),
        Self::new("copies", Kind::Word),
        Self::new("dedup", Kind::Word),
        Self::new("dnodesize", Kind::Word),
        Self::new("logbias", Kind::Word),
        Self::new("primarycache", Kind::Word),
        Self::new("quota", Kind::Limit),
        Self::new("recordsize", Kind::Size),
        Self::new("redundant_metadata", Kind::Word),
        Self::new("refquota", Kind::Limit),
        Self::new("refreservation", Kind::Limit),
        Self::new("reservation", Kind::Limit),
        Self::new("secondarycache", Kind::Word),
        Self::new("special_small_blocks", Kind::Size),
        Self::new("sync", Kind::Word),
    ];

    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind }
    }

    /// The one of this name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|native| native.name == name)
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.name
    }

    /// Whether nothing inherits it: it is `none` where it is not set.
    #[must_use]
    pub const fn is_limit(self) -> bool {
        matches!(self.kind, Kind::Limit)
    }

    /// The number of bytes that an exact value is, if this is told in bytes. No limit at all is 0 bytes.
    #[must_use]
    pub fn bytes(self, value: &str) -> Option<u64> {
        if self.kind == Kind::Word { None } else { value.parse().ok() }
    }

    /// Its name, and the value that is set of it among these, if one is.
    pub(crate) fn set_in(self, values: &[NativeValue]) -> (String, Option<String>) {
        let set = values.iter().find(|known| known.property == self && known.source == "local");
        (self.to_string(), set.map(|known| known.value.clone()))
    }
}

impl fmt::Display for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A native property as it is to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NativeChange {
    /// Which.
    pub property: Native,
    /// Its value; `None` has it as it is by itself.
    pub value: Option<String>,
}

/// A native property as it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NativeValue {
    /// Which.
    pub property: Native,
    /// Its value; sizes in bytes, 0 where there is no limit.
    pub value: String,
    /// Where that comes from, in the words of zfs-get(8): `local`, `default`, `inherited from tank/be`.
    pub source: String,
}

/// Bytes as zfs(8) takes them: `10G`, `1.5T`, `512`, and `none` for 0.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    if text == "none" {
        return Some(0);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    if !number.contains(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut letters = unit.chars().map(|c| c.to_ascii_uppercase());
    let power = match letters.next() {
        None => 0,
        Some(first) => u32::try_from("BKMGTPEZ".find(first)?).ok()?,
    };
    if !matches!(letters.collect::<String>().as_str(), "" | "B" | "IB") {
        return None;
    }
    let scale = 1_u64.checked_shl(10 * power).filter(|scale| *scale > 0)?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale);
    }
    let (whole, fraction) = number.split_once('.')?;
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // More digits than these change no byte of a terabyte.
    let digits: String = fraction.chars().take(12).collect();
    let part = if digits.is_empty() { 0 } else { digits.parse::<u128>().ok()? };
    let tens = 10_u128.pow(u32::try_from(digits.len()).ok()?);
    let part = u64::try_from(part * u128::from(scale) / tens).ok()?;
    whole.checked_mul(scale)?.checked_add(part)
}

/// The known name that `name` was meant to be, if one looks like it.
fn nearest(name: &str) -> Option<&'static str> {
    let names = Property::names().into_iter();
    let far = names.map(|known| (distance(name, known), known));
    let (wrong, known) = far.min()?;
    (wrong <= known.len().div_ceil(3).min(2)).then_some(known)
}

/// How many letters are wrong, missing, too many, or exchanged with the next one.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    // Nobody types one of these by mistake.
    if a.len() > 64 {
        return usize::MAX;
    }
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let at = |row: usize, column: usize| {
                rows.get(row).and_then(|row| row.get(column)).copied().unwrap_or(usize::MAX / 2)
            };
            let left = row.last().copied().unwrap_or(usize::MAX / 2);
            let mut least = (at(i, j) + usize::from(x != y)).min(at(i, j + 1) + 1).min(left + 1);
            let before = |letters: &[char], at: usize| {
                at.checked_sub(1).and_then(|at| letters.get(at)).copied()
            };
            if before(&a, i) == Some(*y) && before(&b, j) == Some(*x) {
                least = least.min(at(i - 1, j - 1) + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows.last().and_then(|row| row.last()).copied().unwrap_or(usize::MAX)
}

/// What is known of a system, and has a name without a colon.
pub const DESCRIPTIONS: [&str; 4] = ["arch", "note", "os", "release"];

/// Settings that netbe makes and goes by: they can be read, and nobody else is to make them. A machine's
/// root, whose template it is, what is being made or installed, what was split.
pub const KEPT_KEYS: [&str; 10] = [
    "data-of",
    crate::draft::DRAFT,
    "fresh",
    crate::draft::INSTALLING,
    "machine",
    crate::draft::RETURNING,
    "template",
    "thin",
    "thin.base",
    "thin.template",
];

/// Properties that ZFS has and netbe decides in another way, or not at all.
const INSTEAD: [(&str, &str); 15] = [
    ("acltype", ZFS),
    ("canmount", MOUNTS),
    ("devices", ZFS),
    ("exec", ZFS),
    ("mountpoint", MOUNTS),
    ("readonly", "`netbe set role=template` and `netbe sharenfs --ro` keep machines from writing"),
    ("sharenfs", "`netbe sharenfs` shares a boot environment"),
    ("sharesmb", "netbe shares only over NFS, with `netbe sharenfs`"),
    ("setuid", ZFS),
    ("snapdir", ZFS),
    ("snapshot_limit", ZFS),
    ("filesystem_limit", ZFS),
    ("volsize", "a boot environment is a file system"),
    ("xattr", ZFS),
    ("zoned", ZFS),
];
const MOUNTS: &str =
    "netbe mounts boot environments by itself; `netbe mount` mounts one where you want it";
const ZFS: &str = "use `zfs set` on the data set";

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn names_are_known_or_have_a_colon() {
        let quota = Native::of("quota").unwrap();
        assert_eq!(Property::of("quota"), Ok(Property::Native(quota)));
        for name in ["note", "os", "release", "arch", "site:owner", "a:quota"] {
            assert_eq!(Property::of(name), Ok(Property::Setting), "{name}");
        }
        for name in KEPT_KEYS {
            assert_eq!(Property::of(name), Err(PropertyError::Kept(name.to_owned())));
        }
        for (name, _) in INSTEAD {
            assert!(matches!(Property::of(name), Err(PropertyError::Other { .. })), "{name}");
        }
        assert!(Native::ALL.is_sorted() && Property::names().is_sorted());
    }

    #[test]
    fn a_slip_of_the_fingers_is_told_what_was_meant() {
        for (typed, meant) in [
            ("quoat", Some("quota")),
            ("compresion", Some("compression")),
            ("rol", Some("role")),
            ("recordsiez", Some("recordsize")),
            ("refquoat", Some("refquota")),
            ("relese", Some("release")),
            ("colour", None),
            ("x", None),
            ("", None),
        ] {
            let Err(PropertyError::Unknown { meant: told, .. }) = Property::of(typed) else {
                panic!("{typed} is known")
            };
            assert_eq!(told, meant, "{typed}");
        }
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance(&"x".repeat(65), "quota"), usize::MAX);
    }

    #[test]
    fn bytes_are_read_as_zfs_reads_them() {
        for (text, read) in [
            ("none", Some(0)),
            ("0", Some(0)),
            ("512", Some(512)),
            ("10G", Some(10 << 30)),
            ("10gb", Some(10 << 30)),
            ("10GiB", Some(10 << 30)),
            ("1.5T", Some(3 << 39)),
            (".5K", Some(512)),
            ("8B", Some(8)),
            ("15E", Some(15 << 60)),
            ("16E", None),
            ("1Z", None),
            ("10 G", None),
            ("-1", None),
            ("", None),
            ("G", None),
            (".", None),
            ("1.5.5G", None),
            ("10Gx", None),
        ] {
            assert_eq!(bytes(text), read, "{text}");
        }
    }
}
