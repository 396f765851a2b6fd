//! The commands of a stream of btrfs-send(8), version 1 (`fs/btrfs/send.h` of Linux), as far as they name
//! files and subvolumes.
//!
//! btrfs-receive(8) does what they say as the superuser, and finds subvolumes in the whole file system by
//! their UUIDs. What is checked here keeps a stream from taking the files of other environments into its
//! own; that it writes nowhere else is seen to by a chroot(2) and mounts without devices.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use rustix::fs::{AtFlags, FileType, statat};
use uuid::Uuid;

use super::place;
use crate::StreamError;

/// Commands that arrive, of one subvolume.
pub(super) struct Commands<'a> {
    base: Option<Base<'a>>,
    /// What the subvolume that is made is called by its sender.
    own: Option<Uuid>,
    begun: bool,
    ended: bool,
    /// The beginning of what has not come whole.
    rest: Vec<u8>,
}

/// The subvolume that a stream may go on from.
pub(super) struct Base<'a> {
    pub(super) root: &'a OwnedFd,
    /// What it is called here and by its sender.
    pub(super) uuids: [Uuid; 2],
}

impl<'a> Commands<'a> {
    pub(super) const fn after(base: Option<Base<'a>>) -> Self {
        Self { base, own: None, begun: false, ended: false, rest: Vec::new() }
    }

    /// Takes the next bytes; gives those that are whole commands and allowed.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Result<Vec<u8>, StreamError> {
        self.rest.extend_from_slice(bytes);
        let mut passed = 0;
        while let Some(len) = self.next(passed)? {
            passed += len;
        }
        let left = self.rest.split_off(passed);
        Ok(std::mem::replace(&mut self.rest, left))
    }

    /// Makes sure that all has come.
    pub(super) fn end(&self) -> Result<(), StreamError> {
        if self.ended && self.rest.is_empty() { Ok(()) } else { Err(refused("it has no end")) }
    }

    /// Checks what is next, from an offset; how long it is, if it is there.
    fn next(&mut self, at: usize) -> Result<Option<usize>, StreamError> {
        let rest = self.rest.get(at..).unwrap_or_default();
        if !self.begun {
            let Some(head) = rest.get(..HEAD.len()) else { return Ok(None) };
            if head != HEAD {
                return Err(refused("it is not version 1 of btrfs"));
            }
            self.begun = true;
            return Ok(Some(HEAD.len()));
        }
        let Some((len, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let len = usize::try_from(u32::from_le_bytes(*len)).unwrap_or(usize::MAX);
        if len > LONGEST {
            return Err(refused("a command is longer than any"));
        }
        let Some((command, rest)) = rest.split_first_chunk() else { return Ok(None) };
        // A checksum of four bytes stands between, which is the program's to check.
        let Some(body) = rest.get(4..4 + len) else { return Ok(None) };
        let command = u16::from_le_bytes(*command);
        let values = Values::of(body).ok_or_else(|| refused("a command is cut off"))?;
        (self.own, self.ended) = self.check(command, &values)?;
        Ok(Some(COMMAND + len))
    }

    /// Checks one command; the subvolume's UUID after it, and whether it was the last.
    fn check(
        &self,
        command: u16,
        values: &Values<'_>,
    ) -> Result<(Option<Uuid>, bool), StreamError> {
        if self.ended || self.own.is_some() == matches!(command, SUBVOLUME | SNAPSHOT) {
            return Err(refused("it makes more or less than one subvolume"));
        }
        let mut named = vec![PATH, PATH_TO, CLONE_PATH];
        if command != SYMLINK {
            named.push(PATH_LINK);
        }
        if named.iter().filter_map(|&kind| values.get(kind)).any(|path| !inside(path)) {
            return Err(refused("a path leads out of it"));
        }
        match command {
            SUBVOLUME => Ok((Some(values.uuid(UUID)?), false)),
            SNAPSHOT if self.begins_at(values.uuid(CLONE_UUID)?).is_some() => {
                Ok((Some(values.uuid(UUID)?), false))
            }
            SNAPSHOT => Err(refused("it goes on from another snapshot than it says")),
            CLONE => {
                let from = values.uuid(CLONE_UUID)?;
                let path = values.get(CLONE_PATH).unwrap_or_default();
                let known = self.begins_at(from).is_some_and(|base| base.has(path));
                if known || Some(from) == self.own {
                    Ok((self.own, false))
                } else {
                    Err(refused("it takes the content of a file that is not its own"))
                }
            }
            END => Ok((self.own, true)),
            MAKE_FILE..=UPDATE_EXTENT => Ok((self.own, false)),
            _ => Err(refused("a command is unknown")),
        }
    }

    fn begins_at(&self, uuid: Uuid) -> Option<&Base<'a>> {
        self.base.as_ref().filter(|base| !uuid.is_nil() && base.uuids.contains(&uuid))
    }
}

impl Base<'_> {
    /// Whether there is a regular file at a path, and no link on the way to it. Nobody can change that.
    fn has(&self, path: &[u8]) -> bool {
        let look = || {
            let (dir, name) = place(self.root.as_fd(), Path::new(OsStr::from_bytes(path)))?;
            statat(dir, &name, AtFlags::SYMLINK_NOFOLLOW)
        };
        look().is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }
}

/// What a command says: values by their kinds.
struct Values<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Values<'a> {
    /// `None` if one is cut off.
    fn of(mut body: &'a [u8]) -> Option<Self> {
        let mut values = Vec::new();
        while !body.is_empty() {
            let (kind, rest) = body.split_first_chunk()?;
            let (len, rest) = rest.split_first_chunk()?;
            let (value, rest) = rest.split_at_checked(u16::from_le_bytes(*len).into())?;
            values.push((u16::from_le_bytes(*kind), value));
            body = rest;
        }
        // The program would take the last of several, and others might take the first.
        let once = values.iter().enumerate().all(|(index, (kind, _))| {
            values.iter().skip(index + 1).all(|(other, _)| other != kind)
        });
        once.then_some(Self(values))
    }

    fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.iter().find(|(known, _)| *known == kind).map(|(_, value)| *value)
    }

    fn uuid(&self, kind: u16) -> Result<Uuid, StreamError> {
        let uuid = self.get(kind).and_then(|value| Uuid::from_slice(value).ok());
        uuid.ok_or_else(|| refused("a UUID is missing"))
    }
}

/// Whether a path stays below where it begins.
fn inside(path: &[u8]) -> bool {
    let mut parts = Path::new(OsStr::from_bytes(path)).components();
    parts.all(|part| matches!(part, Component::Normal(_))) && !path.contains(&0)
}

fn refused(why: &str) -> StreamError {
    StreamError::Nonsense(format!("a subvolume is not received: {why}"))
}

/// `BTRFS_SEND_STREAM_MAGIC` and the version.
const HEAD: &[u8] = b"btrfs-stream\0\x01\0\0\0";
/// How long a command is before what it says, in bytes.
const COMMAND: usize = 10;
/// `BTRFS_SEND_BUF_SIZE_V1`
const LONGEST: usize = 64 << 10;

// enum btrfs_send_cmd
const SUBVOLUME: u16 = 1;
const SNAPSHOT: u16 = 2;
const MAKE_FILE: u16 = 3;
const SYMLINK: u16 = 8;
const CLONE: u16 = 16;
const END: u16 = 21;
const UPDATE_EXTENT: u16 = 22;

// enum for the attributes of commands
const UUID: u16 = 1;
const PATH: u16 = 15;
const PATH_TO: u16 = 16;
const PATH_LINK: u16 = 17;
const CLONE_UUID: u16 = 20;
const CLONE_PATH: u16 = 22;

#[cfg(test)]
mod test {
    use std::fs;

    use super::*;
    use crate::tree::open_dir;

    fn command(number: u16, values: &[(u16, &[u8])]) -> Vec<u8> {
        let body: Vec<u8> = values
            .iter()
            .flat_map(|(kind, value)| {
                let len = u16::try_from(value.len()).unwrap();
                [&kind.to_le_bytes()[..], &len.to_le_bytes(), value].concat()
            })
            .collect();
        let len = u32::try_from(body.len()).unwrap();
        [&len.to_le_bytes()[..], &number.to_le_bytes(), &[0; 4], &body].concat()
    }

    fn subvolume() -> Vec<u8> {
        [HEAD.to_vec(), command(SUBVOLUME, &[(PATH, b"tree"), (UUID, &[1; 16])])].concat()
    }

    fn snapshot(of: u8) -> Vec<u8> {
        let values: [(u16, &[u8]); 3] =
            [(PATH, b"tree"), (UUID, &[1; 16]), (CLONE_UUID, &[of; 16])];
        [HEAD.to_vec(), command(SNAPSHOT, &values)].concat()
    }

    fn cloned(from: u8, path: &[u8]) -> Vec<u8> {
        command(CLONE, &[(PATH, b"file"), (CLONE_UUID, &[from; 16]), (CLONE_PATH, path)])
    }

    /// Whether these are passed with an end after them, given byte by byte.
    fn passes(base: Option<Base<'_>>, commands: &[Vec<u8>]) -> bool {
        let stream = [commands.concat(), command(END, &[])].concat();
        let mut taking = Commands::after(base);
        let mut passed = Vec::new();
        for byte in &stream {
            match taking.pass(&[*byte]) {
                Ok(more) => passed.extend(more),
                Err(_) => return false,
            }
        }
        taking.end().is_ok() && passed == stream
    }

    /// A subvolume with a file, a link to it and one that leads out, known as 7 here and as 8 there.
    fn with_base(check: impl Fn(&dyn Fn(&[Vec<u8>]) -> bool)) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("base")).unwrap();
        fs::write(dir.path().join("secret"), "x").unwrap();
        fs::write(dir.path().join("base/file"), "x").unwrap();
        std::os::unix::fs::symlink("file", dir.path().join("base/link")).unwrap();
        std::os::unix::fs::symlink("..", dir.path().join("base/up")).unwrap();
        let root = open_dir(rustix::fs::CWD, dir.path().join("base")).unwrap();
        let uuids = [7, 8].map(|byte| Uuid::from_bytes([byte; 16]));
        check(&|commands| passes(Some(Base { root: &root, uuids }), commands));
    }

    #[test]
    fn one_subvolume_with_anything_in_it_passes() {
        let file = command(MAKE_FILE, &[(PATH, b"usr/o257-1-0")]);
        let link = command(SYMLINK, &[(PATH, b"link"), (PATH_LINK, b"../../etc/shadow")]);
        let times = command(20, &[(PATH, b"")]);
        assert!(passes(None, &[subvolume(), file, link, times, cloned(1, b"usr/other")]));
        with_base(|passes| {
            assert!(passes(&[snapshot(7)]));
            assert!(passes(&[snapshot(8), cloned(8, b"file"), cloned(1, b"any")]));
        });
    }

    #[test]
    fn no_path_leads_out() {
        for path in [&b"../file"[..], b"a/../../file", b"/etc/passwd", b"a\0/../..", b"."] {
            for kind in [PATH, PATH_TO, PATH_LINK, CLONE_PATH] {
                assert!(!passes(None, &[subvolume(), command(MAKE_FILE, &[(kind, path)])]));
            }
        }
        let hard = command(10, &[(PATH, b"name"), (PATH_LINK, b"../../head/etc/shadow")]);
        assert!(!passes(None, &[subvolume(), hard]));
        assert!(!passes(
            None,
            &[[HEAD, &command(SUBVOLUME, &[(PATH, b".."), (UUID, &[1; 16])])].concat()]
        ));
    }

    #[test]
    fn nothing_is_taken_from_other_environments() {
        assert!(!passes(None, &[snapshot(7)]));
        assert!(!passes(None, &[subvolume(), cloned(7, b"file")]));
        with_base(|passes| {
            assert!(!passes(&[snapshot(9)]));
            assert!(!passes(&[snapshot(0)]));
            for path in [&b"link"[..], b"up/secret", b"none", b"", b"up"] {
                assert!(!passes(&[snapshot(8), cloned(8, path)]), "{path:?}");
            }
            assert!(!passes(&[snapshot(8), cloned(9, b"file")]));
        });
    }

    #[test]
    fn nothing_but_one_subvolume_is_made() {
        let file = || command(MAKE_FILE, &[(PATH, b"file")]);
        assert!(!passes(None, &[HEAD.to_vec(), file()]));
        assert!(!passes(None, &[subvolume(), subvolume()[HEAD.len()..].to_vec()]));
        assert!(!passes(None, &[subvolume(), command(END, &[]), file()]));
        assert!(!passes(None, &[subvolume(), command(25, &[])]));
        assert!(!passes(None, &[b"btrfs-stream\0\x02\0\0\0".to_vec()]));
        assert!(!passes(None, &[subvolume(), command(MAKE_FILE, &[(PATH, b"a"), (PATH, b"b")])]));
        let mut cut = Commands::after(None);
        cut.pass(&subvolume()).unwrap();
        assert!(cut.end().is_err());
    }

    #[test]
    fn a_length_is_not_believed() {
        let mut taking = Commands::after(None);
        taking.pass(&subvolume()).unwrap();
        assert!(taking.pass(&u32::MAX.to_le_bytes()).is_err());
        let long = [&7_u32.to_le_bytes()[..], &[3, 0, 0, 0, 0, 0], &[15, 0, 0xff, 0xff, 1, 1, 1]];
        let mut taking = Commands::after(None);
        taking.pass(&subvolume()).unwrap();
        assert!(taking.pass(&long.concat()).is_err());
    }
}
