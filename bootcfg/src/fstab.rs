//! fstab(5), in the part that FreeBSD and Linux read alike.

use std::fmt::Write;

use crate::error::{limit, refuse};
use crate::rule::{Reading, Rule};
use crate::{ConfigError, Root, View};

/// One line of an fstab.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What is mounted.
    pub spec: String,
    /// Where it is mounted.
    pub file: String,
    /// The type of file system.
    pub kind: String,
    /// How it is mounted.
    pub options: Vec<String>,
    /// Whether dump(8) saves it.
    pub dump: u8,
    /// In which pass it is checked at boot; 0 for never.
    pub pass: u8,
}

/// The system that reads the fstab: the names of options differ.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Dialect {
    /// FreeBSD.
    FreeBsd,
    /// Linux.
    Linux,
}

/// The lines for a guest that mounts every data set of its boot environment by itself, parents
/// first. There is none for `/`: its root was mounted by whoever started it. Nor is there one over
/// what a FreeBSD has in memory because it may not write it; see [`crate::rcconf::diskless`].
#[must_use]
pub fn nested(root: &Root, dialect: Dialect) -> Vec<Entry> {
    let memory = |dataset: &str| {
        let top = dataset.split('/').next();
        dialect == Dialect::FreeBsd && root.read_only && matches!(top, Some("tmp" | "var"))
    };
    root.datasets
        .iter()
        .filter(|dataset| !memory(dataset))
        .map(|dataset| {
            let base = root.path.trim_end_matches('/');
            entry(root, format!("{base}/{dataset}"), format!("/{dataset}"), dialect)
        })
        .collect()
}

/// The lines by which another host mounts all of a boot environment below a directory: the root, and where
/// nobody joins them each data set, parents first.
#[must_use]
pub fn whole(root: &Root, dialect: Dialect) -> Vec<Entry> {
    let mut entries = vec![entry(root, root.path.clone(), "/".to_owned(), dialect)];
    if root.view == View::Split {
        entries.extend(nested(root, dialect));
    }
    entries
}

/// The lines that put a thin jail together (mount_nullfs(8)), for its `mount.fstab`: the base
/// read-only, then the skeleton on a directory of it. All paths are the host's.
#[must_use]
pub fn thin(base: &str, skeleton: &str, jail: &str) -> Vec<Entry> {
    let jail = jail.trim_end_matches('/');
    let line = |spec: &str, file: String, access: &str| Entry {
        spec: spec.to_owned(),
        file,
        kind: "nullfs".to_owned(),
        options: vec![access.to_owned()],
        dump: 0,
        pass: 0,
    };
    vec![line(base, jail.to_owned(), "ro"), line(skeleton, format!("{jail}/skeleton"), "rw")]
}

/// The lines that mount a boot environment of ZFS in a directory of the host, for a jail's `mount.fstab`: its own
/// data set, then those below it, parents first. FreeBSD's mount(8) takes a data set whatever its mount point is.
#[must_use]
pub fn zfs(dataset: &str, below: &[String], jail: &str) -> Vec<Entry> {
    let jail = jail.trim_end_matches('/');
    let line = |spec: String, file: String| Entry {
        spec,
        file,
        kind: "zfs".to_owned(),
        options: vec!["rw".to_owned()],
        dump: 0,
        pass: 0,
    };
    let own = line(dataset.to_owned(), jail.to_owned());
    let below =
        below.iter().map(|path| line(format!("{dataset}/{path}"), format!("{jail}/{path}")));
    [own].into_iter().chain(below).collect()
}

/// The line for `/`, of which a FreeBSD loader learns what the kernel is to mount.
///
/// Refused where the loader's buffer of 128 bytes cannot hold the line (stand/common/boot.c).
pub fn root(root: &Root, dialect: Dialect) -> Result<Entry, ConfigError> {
    let entry = entry(root, root.path.clone(), "/".to_owned(), dialect);
    limit("the line for /", &line(&entry)?, "the loader's fstab", LOADER_LINE - 1)?;
    Ok(entry)
}

fn entry(root: &Root, path: String, file: String, dialect: Dialect) -> Entry {
    let access = if root.read_only { "ro" } else { "rw" };
    let options = match dialect {
        // Locks stay in the guest: its root is mounted so, and mixed ways would not see each other.
        Dialect::FreeBsd => vec![access, "nfsv3", "tcp", "nolockd", "noatime"],
        Dialect::Linux => vec![access, "vers=3", "proto=tcp", "nolock", "noatime"],
    };
    Entry {
        spec: format!("{}:{path}", root.server),
        file,
        kind: "nfs".to_owned(),
        options: options.into_iter().map(str::to_owned).collect(),
        dump: 0,
        pass: 0,
    }
}

/// The text of an fstab.
pub fn render(entries: &[Entry]) -> Result<String, ConfigError> {
    let mut text = String::new();
    for entry in entries {
        let line = line(entry)?;
        limit("a line", &line, FORMAT, LINE)?;
        text += &line;
        text.push('\n');
    }
    Ok(text)
}

/// Reads the text of an fstab; comments and empty lines are left out.
#[must_use]
pub fn read(text: &str) -> Reading<Entry> {
    let mut reading = Reading::default();
    for (index, line) in text.split('\n').enumerate() {
        match read_line(line) {
            Ok(Some(entry)) => reading.add(index + 1, entry),
            Ok(None) => {}
            Err(message) => reading.report(index + 1, Rule::Syntax, message),
        }
    }
    reading
}

fn read_line(line: &str) -> Result<Option<Entry>, String> {
    let mut fields = line.split([' ', '\t']).filter(|field| !field.is_empty());
    let Some(spec) = fields.next().filter(|spec| !spec.starts_with('#')) else { return Ok(None) };
    let mut text = |what| fields.next().ok_or_else(|| format!("{what} is missing: {FIELDS}"));
    let file = text("the mount point")?;
    let kind = text("the type")?;
    let options = text("the list of options")?;
    let mut number = |what: &str| {
        let field = fields.next();
        field.map_or(Ok(0), |field| {
            field.parse().map_err(|_| format!("{field} is no number for {what}: {FIELDS}"))
        })
    };
    let (dump, pass) = (number("dump")?, number("the pass of fsck")?);
    if let Some(word) = fields.next().filter(|word| !word.starts_with('#')) {
        return Err(format!("{word} is one field too many: write \\040 for a space, and {FIELDS}"));
    }
    let plain = |field: &str| {
        unescape(field).ok_or_else(|| {
            format!("{field} has a \\ that no three octal digits follow: write \\134 for it")
        })
    };
    Ok(Some(Entry {
        spec: plain(spec)?,
        file: plain(file)?,
        kind: kind.to_owned(),
        options: options.split(',').map(str::to_owned).collect(),
        dump,
        pass,
    }))
}

fn line(entry: &Entry) -> Result<String, ConfigError> {
    let spec = escape("the source", &entry.spec)?;
    let file = escape("the mount point", &entry.file)?;
    let reason = "it has a space, a comma or a backslash, or is empty";
    let words = entry.options.iter().chain([&entry.kind]);
    for word in words {
        let bad = |c: char| c.is_whitespace() || c.is_control();
        refuse("the option", word, FORMAT, reason, |c| bad(c) || ",\\#".contains(c))?;
        if word.is_empty() {
            let (what, value) = ("the option", String::new());
            return Err(ConfigError::Character { what, value, format: FORMAT, reason });
        }
    }
    let (kind, options) = (&entry.kind, entry.options.join(","));
    Ok(format!("{spec} {file} {kind} {options} {} {}", entry.dump, entry.pass))
}

/// Writes what separates fields as octal digits, which getfsent(3) of FreeBSD and getmntent(3) of
/// Linux both read; Linux reads no others.
fn escape(what: &'static str, text: &str) -> Result<String, ConfigError> {
    let bad = |c: char| c.is_control() && !matches!(c, '\t' | '\n');
    refuse(what, text, FORMAT, "it has a control character", bad)?;
    if text.is_empty() || text.starts_with('#') {
        let reason = "it is empty or begins like a comment";
        return Err(ConfigError::Character {
            what,
            value: text.to_owned(),
            format: FORMAT,
            reason,
        });
    }
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' ' | '\t' | '\n' | '\\' => {
                let _ = write!(escaped, "\\{:03o}", u32::from(c));
            }
            plain => escaped.push(plain),
        }
    }
    Ok(escaped)
}

fn unescape(field: &str) -> Option<String> {
    let mut parts = field.split('\\');
    let mut text = parts.next()?.to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(3)?;
        let code = u8::from_str_radix(digits, 8).ok().filter(u8::is_ascii)?;
        text.push(char::from(code));
        text += rest;
    }
    Some(text)
}

const FIELDS: &str = "a line is `SOURCE MOUNTPOINT TYPE OPTIONS 0 0`";
const FORMAT: &str = "fstab";
/// The buffer of the loader's getrootmount().
pub(crate) const LOADER_LINE: usize = 128;
/// The longest line that getfsent(3) and getmntent(3) are sure to take.
const LINE: usize = 1000;

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::guest::strategy;

    #[test]
    fn the_slides_layout_has_nine_lines_parents_first() {
        let text = render(&nested(&strategy::head().root, Dialect::FreeBsd)).unwrap();
        assert_eq!(text.lines().count(), 9);
        assert_eq!(
            text.lines().next(),
            Some("192.168.2.1:/ROOT/head/tmp /tmp nfs rw,nfsv3,tcp,nolockd,noatime 0 0")
        );
        assert!(
            text.ends_with(":/ROOT/head/var/tmp /var/tmp nfs rw,nfsv3,tcp,nolockd,noatime 0 0\n")
        );
    }

    #[test]
    fn a_freebsd_that_may_not_write_mounts_nothing_over_its_memory() {
        let head = Root { read_only: true, ..strategy::head().root };
        let mounted = |dialect| {
            let entries = nested(&head, dialect).into_iter();
            entries.map(|entry| entry.file).collect::<Vec<_>>()
        };
        assert_eq!(mounted(Dialect::FreeBsd), ["/usr/home", "/usr/ports", "/usr/src"]);
        assert_eq!(mounted(Dialect::Linux).len(), 9);
    }

    #[test]
    fn a_thin_jails_skeleton_is_mounted_in_its_base_and_after_it() {
        assert_eq!(
            render(&thin("/be/head-base", "/be/web", "/jails/my web/")).unwrap(),
            "/be/head-base /jails/my\\040web nullfs ro 0 0\n\
             /be/web /jails/my\\040web/skeleton nullfs rw 0 0\n"
        );
    }

    #[test]
    fn linux_is_given_its_own_words() {
        let text = render(&nested(&strategy::head().root, Dialect::Linux)).unwrap();
        assert!(text.contains(" /tmp nfs rw,vers=3,proto=tcp,nolock,noatime 0 0\n"), "{text}");
    }

    #[test]
    fn what_separates_fields_is_escaped() {
        let odd = Root { path: "/a b\\c\td\ne".into(), ..strategy::head().root };
        let text = render(&[root(&odd, Dialect::FreeBsd).unwrap()]).unwrap();
        assert!(text.starts_with("192.168.2.1:/a\\040b\\134c\\011d\\012e / nfs "), "{text}");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn the_line_for_the_root_fits_into_the_loaders_buffer() {
        let of = |len| Root { path: format!("/{}", "x".repeat(len)), ..strategy::head().root };
        let fixed = line(&root(&of(0), Dialect::FreeBsd).unwrap()).unwrap().len();
        assert!(root(&of(127 - fixed), Dialect::FreeBsd).is_ok());
        assert!(matches!(
            root(&of(128 - fixed), Dialect::FreeBsd),
            Err(ConfigError::Long { len: 128, max: 127, .. })
        ));
    }

    #[test]
    fn comments_and_missing_numbers_are_read() {
        let entries = read("# x\n\n/dev/ada0p2\t/ ufs rw,late\n").whole().unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].options, ["rw", "late"]);
        assert_eq!((entries[0].dump, entries[0].pass), (0, 0));
        for text in ["a b", "a b c", "a\\4 b c d", "a b c d x", "a b c d 0 0 0"] {
            let diagnostics = read(&format!("# x\n{text}\n")).diagnostics;
            assert_eq!(diagnostics.len(), 1, "{text}");
            assert_eq!((diagnostics[0].line, diagnostics[0].rule), (2, Rule::Syntax));
        }
    }

    #[test]
    fn a_jail_on_zfs_mounts_its_own_data_set_first() {
        let below = ["usr/home".to_owned(), "var".to_owned()];
        assert_eq!(
            render(&zfs("tank/be/web", &below, "/jails/web/")).unwrap(),
            "tank/be/web /jails/web zfs rw 0 0\ntank/be/web/usr/home /jails/web/usr/home zfs rw 0 0\n\
             tank/be/web/var /jails/web/var zfs rw 0 0\n"
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(guest in strategy::guest()) {
            for dialect in [Dialect::FreeBsd, Dialect::Linux] {
                let entries = nested(&guest.root, dialect);
                match render(&entries) {
                    Ok(text) => prop_assert_eq!(read(&text).whole(), Ok(entries)),
                    Err(_) => prop_assert!(guest.root.path.chars().any(char::is_control)),
                }
            }
        }

        #[test]
        fn nothing_that_is_read_panics(text in "[ -~\t\n\\\\]{0,80}") {
            let _ = read(&text);
        }
    }
}
