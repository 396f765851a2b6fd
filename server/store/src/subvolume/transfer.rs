//! A tree of subvolumes as one stream: what btrfs-send(8) writes of each, one after the other.
//!
//! ```text
//! number of subvolumes            2 bytes
//!   length of the path, the path  2 bytes and as many as that; empty for the root
//!   length of a piece, the piece  4 bytes and as many as that; an empty one is the last
//! ```
//!
//! All numbers are big-endian. Each subvolume has its own btrfs-send(8) stream because those have no room
//! to say where in a tree they belong.

use std::ffi::{CString, OsStr};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use child::{Call, Limit, Running, Why};
use rustix::fs::{Mode, fstat, mkdirat, renameat};
use rustix::io::Errno;

use super::commands::{Base, Commands};
use super::{graft, members};
use crate::directory::Frozen;
use crate::error::at;
use crate::sys::{is_subvolume, set_read_only, subvolume, without_devices};
use crate::tree::{each_name, open_dir};
use crate::{StoreError, StreamError};

/// Writes a tree, or what is new in it since another one that the receiver has.
pub(crate) fn send(
    tree: Frozen<'_>,
    base: Option<Frozen<'_>>,
    out: &mut dyn Write,
) -> Result<(), StoreError> {
    let list = |tree: Frozen<'_>| members(tree.tree.as_fd()).map_err(at("list", tree.path));
    let sent = list(tree)?;
    let known = base.map(list).transpose()?.unwrap_or_default();
    let count = u16::try_from(sent.len()).map_err(io::Error::other);
    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(at("send", tree.path));
    put(&count.map_err(at("send", tree.path))?.to_be_bytes())?;
    for member in &sent {
        let path = member.path.as_os_str().as_bytes();
        let len = u16::try_from(path.len()).map_err(io::Error::other);
        put(&len.map_err(at("send", tree.path))?.to_be_bytes())?;
        put(path)?;
        let mut call = btrfs("send");
        if let Some(base) = base
            && known.iter().any(|known| known.path == member.path)
        {
            call = call.option("-p", base.path.join(&member.path));
        }
        let sent = tree.path.join(&member.path);
        let mut tool = call.operand(&sent).start().map_err(told("send", &sent))?;
        let mut stdout = tool.stdout();
        let mut piece = vec![0; PIECE];
        while let Some(stdout) = &mut stdout {
            let len = stdout.read(&mut piece).map_err(at("send", tree.path))?;
            let read = piece.get(..len).unwrap_or_default();
            put(&u32::try_from(len).unwrap_or(0).to_be_bytes())?;
            put(read)?;
            if len == 0 {
                break;
            }
        }
        tool.end().map_err(told("send", &sent))?;
    }
    Ok(())
}

/// Reads a tree into the directory `work`, which is nobody else's, and gives it the name `name` there.
///
/// `from` is at its end then: a stream that was cut off or damaged has failed before. It may go on from
/// the tree `base`.
///
/// btrfs-receive(8) runs where nothing but what it receives can be reached by a path, and no device be
/// opened: a stream can make links and nodes, and then write to them.
pub(crate) fn receive(
    from: &mut dyn Read,
    work: BorrowedFd<'_>,
    path: &Path,
    name: &str,
    base: Option<Frozen<'_>>,
) -> Result<(), StoreError> {
    let mut source = Source { from, path };
    let count = u16::from_be_bytes(source.array()?);
    let known = base.map(|base| members(base.tree.as_fd()).map_err(at("list", base.path)));
    let known = known.transpose()?.unwrap_or_default();
    let mut received = Vec::new();
    for index in 0..count {
        let below = source.place(index)?;
        let dir = format!("{RECEIVED}{index}");
        let here = path.join(&dir);
        mkdirat(work, &dir, Mode::RWXU).map_err(at("make", &here))?;
        let call = btrfs("receive").flags(["-e", "--chroot"]).operand(&here);
        let call = call.prepared(without_devices).piped();
        let mut tool = call.start().map_err(told("receive", &here))?;
        let _silence = tool.stdout();
        let base = known.iter().find(|known| known.path == below).map(|known| {
            let uuids = subvolume(known.root.as_fd()).map_err(at("look at", path))?.uuids;
            Ok::<_, StoreError>(Base { root: &known.root, uuids })
        });
        source.subvolume(&mut tool, base.transpose()?)?;
        tool.end().map_err(told("receive", &here))?;
        let dir = open_dir(work, dir.as_str()).map_err(at("open", &here))?;
        received.push((below, arrived(dir, &here)?));
    }
    source.end()?;
    join(&received, work, name).map_err(at("put together", path))
}

/// Puts what arrived together: what is read-only can neither be moved nor take anything in.
fn join(received: &[(PathBuf, Arrived)], work: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let Some(((_, root), nested)) = received.split_first() else { return Ok(()) };
    for (_, one) in received {
        set_read_only(one.root.as_fd(), false)?;
    }
    for (path, one) in nested {
        graft(one.dir.as_fd(), &one.name, root.root.as_fd(), path)?;
    }
    Ok(renameat(&root.dir, &root.name, work, name)?)
}

/// A subvolume that btrfs-receive(8) made.
struct Arrived {
    dir: OwnedFd,
    name: CString,
    root: OwnedFd,
}

/// The one subvolume in a directory. Its name is the sender's.
fn arrived(dir: OwnedFd, path: &Path) -> Result<Arrived, StoreError> {
    let mut found = Vec::new();
    each_name(&dir, path, |name| {
        found.push(name.to_owned());
        Ok(())
    })?;
    let [name] = <[CString; 1]>::try_from(found)
        .map_err(|_| StreamError::Nonsense("it has not one subvolume for each path".to_owned()))?;
    let root = open_dir(&dir, &name).map_err(at("open", path))?;
    if !is_subvolume(&fstat(&root).map_err(at("look at", path))?) {
        return Err(StreamError::Nonsense("it makes a directory".to_owned()).into());
    }
    Ok(Arrived { dir, name, root })
}

/// A stream that is read.
struct Source<'a> {
    from: &'a mut dyn Read,
    path: &'a Path,
}

impl Source<'_> {
    fn array<const LEN: usize>(&mut self) -> Result<[u8; LEN], StoreError> {
        let mut bytes = [0; LEN];
        self.from.read_exact(&mut bytes).map_err(at("receive", self.path))?;
        Ok(bytes)
    }

    /// Where the next subvolume belongs: the first is the root, and none lies outside of it.
    fn place(&mut self, index: u16) -> Result<PathBuf, StoreError> {
        let len = u16::from_be_bytes(self.array()?);
        let mut bytes = vec![0; len.into()];
        self.from.read_exact(&mut bytes).map_err(at("receive", self.path))?;
        let path = PathBuf::from(OsStr::from_bytes(&bytes));
        let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
        if !inside || bytes.contains(&0) || bytes.is_empty() != (index == 0) {
            return Err(StreamError::Nonsense(format!("{path:?} is no place in a tree")).into());
        }
        Ok(path)
    }

    /// Gives the tool the pieces of one subvolume.
    fn subvolume(&mut self, tool: &mut Running, base: Option<Base<'_>>) -> Result<(), StoreError> {
        let mut commands = Commands::after(base);
        let mut stdin = tool.stdin();
        let mut piece = vec![0; PIECE];
        loop {
            let len = usize::try_from(u32::from_be_bytes(self.array()?)).unwrap_or(usize::MAX);
            if len == 0 {
                return Ok(commands.end()?);
            }
            let Some(room) = piece.get_mut(..len) else {
                return Err(StreamError::Nonsense(format!("a piece of {len} bytes")).into());
            };
            self.from.read_exact(room).map_err(at("receive", self.path))?;
            let passed = commands.pass(room)?;
            // The tool takes no more when it has failed, and then tells why. The stream is read to its
            // end nevertheless: if that was damaged, that is why.
            if let Some(pipe) = &mut stdin
                && pipe.write_all(&passed).is_err()
            {
                stdin = None;
            }
        }
    }

    /// Makes sure that nothing follows.
    fn end(&mut self) -> Result<(), StoreError> {
        match self.from.read(&mut [0]).map_err(at("receive", self.path))? {
            0 => Ok(()),
            _ => Err(StreamError::Nonsense("something follows its end".to_owned()).into()),
        }
    }
}

/// A btrfs(8), which takes as long as its stream.
fn btrfs(verb: &'static str) -> Call {
    Call::new(BTRFS, Limit::None).flags(["--quiet", verb])
}

/// What a person is told about a btrfs(8) that failed.
fn told(verb: &'static str, path: &Path) -> impl Fn(child::Error) -> StoreError {
    move |error| {
        let full = ["No space left", "Disk quota exceeded"];
        if full.iter().any(|words| error.said.contains(words)) {
            return at(verb, path)(Errno::NOSPC);
        }
        let said = if error.why == Why::Absent {
            "it is not installed: install btrfs-progs"
        } else {
            error.said.lines().last().unwrap_or_default()
        };
        StoreError::Tool { program: BTRFS, task: format!("{verb} {path:?}"), said: said.to_owned() }
    }
}

const BTRFS: &str = "btrfs";
/// In a workspace: a directory for each subvolume that arrives, with its number.
const RECEIVED: &str = "received-";
/// The most bytes of a piece.
const PIECE: usize = 128 << 10;
