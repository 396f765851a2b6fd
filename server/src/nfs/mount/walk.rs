//! From a path to the directory that it names, within one export.

use vfs::{Caller, FileKind, FsError, Handle, Name, NameError, Projection, Wait};

/// The directory that a path inside an export names, as its client sees the export.
///
/// `..` is taken back from the path itself and stops at the export's root. Symbolic links are followed, an
/// absolute one from the export's root, as it is meant for a machine that has it for its own; one that
/// leads out of the export is no directory. The path is walked as the superuser, as mounting is his business; what is found there is still checked
/// call by call.
pub(super) fn walk(files: &Projection, path: &[u8], wait: Wait) -> Result<Handle, FsError> {
    let mut names: Vec<&[u8]> = Vec::new();
    for component in components(path) {
        match component {
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    // Otherwise it has just been seen to stand.
    if wait == Wait::Yes {
        stands(files, wait)?;
    }
    // The next component last.
    let mut left: Vec<Vec<u8>> = names.iter().rev().map(|name| name.to_vec()).collect();
    let (mut here, mut above) = (files.root(), Vec::new());
    let mut links = 0;
    while let Some(component) = left.pop() {
        if component == b".." {
            here = above.pop().ok_or(FsError::NotDir)?;
            continue;
        }
        let name = Name::new(&component).map_err(|error| match error {
            NameError::Invalid => FsError::NoEnt,
            NameError::TooLong => FsError::NameTooLong,
        })?;
        let found = files.resolve(&here)?.lookup(&Caller::ROOT, name, Wait::Yes)?;
        let kind = found.attr.kind;
        if kind == FileKind::Directory {
            above.push(here);
            here = files.mounted(&found.handle);
        } else if kind == FileKind::Symlink && links < MAX_LINKS {
            links += 1;
            let link = files.resolve(&found.handle)?;
            let (target, _) =
                link.run(|tree, file| tree.readlink(&Caller::ROOT, file, Wait::Yes))?;
            if target.starts_with(b"/") {
                (here, above) = (files.root(), Vec::new());
            }
            let target: Vec<&[u8]> = components(&target).collect();
            left.extend(target.iter().rev().map(|component| component.to_vec()));
        } else {
            return Err(FsError::NotDir);
        }
    }
    Ok(here)
}

/// Whether the root of a tree is still there: a handle of what was removed would be stale at once.
pub(super) fn stands(files: &Projection, wait: Wait) -> Result<(), FsError> {
    files.resolve(&files.root())?.run(|tree, root| tree.getattr(root, wait)).map(drop)
}

/// The components of a path that lead anywhere.
fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !matches!(*component, b"" | b"."))
}

/// Links of one path, as many as Linux follows; they may lead to each other.
const MAX_LINKS: u32 = 40;
