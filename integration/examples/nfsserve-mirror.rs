//! A directory, exported by nfsserve (<https://crates.io/crates/nfsserve>): what `cargo lab bench nfs` measures
//! netbe beside. Called with an address, as `10.77.0.1:2049`, and the directory.
//!
//! Names become numbers as in the mirror that nfsserve shows as its example, and directories are read again when
//! their time of change says so. Files are read and written by calls that block, which cost less than
//! those that tokio hands to other threads.

use std::collections::{BTreeMap, HashMap};
use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use nfsserve::fs_util::{metadata_to_fattr3, path_setattr};
use nfsserve::nfs::{fattr3, fileid3, filename3, nfspath3, nfsstat3, sattr3};
use nfsserve::tcp::{NFSTcp as _, NFSTcpListener};
use nfsserve::vfs::{DirEntry, NFSFileSystem, ReadDirResult, VFSCapabilities};

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let (Some(address), Some(root)) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::other("say an address and a directory"));
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        NFSTcpListener::bind(&address, Mirror::new(root.into())).await?.handle_forever().await
    })
}

/// A directory and what is below it.
struct Mirror(Mutex<Known>);

/// What has a number.
#[derive(Default)]
struct Known {
    /// The path of number 1, of number 2, and so on.
    paths: Vec<PathBuf>,
    numbers: HashMap<PathBuf, fileid3>,
    /// What is in a directory, and when that had changed.
    listed: HashMap<fileid3, (Changed, BTreeMap<fileid3, filename3>)>,
}

/// When a file has changed: seconds and nanoseconds.
type Changed = (i64, i64);

impl Mirror {
    fn new(root: PathBuf) -> Self {
        let mut known = Known::default();
        known.number(root);
        Self(Mutex::new(known))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, id: fileid3) -> Result<PathBuf, nfsstat3> {
        let place = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        let known = self.known();
        place.and_then(|at| known.paths.get(at).cloned()).ok_or(nfsstat3::NFS3ERR_STALE)
    }

    fn below(&self, directory: fileid3, name: &filename3) -> Result<PathBuf, nfsstat3> {
        Ok(self.path(directory)?.join(OsStr::from_bytes(name)))
    }

    /// The number and the attributes of what is at a path.
    fn found(&self, path: PathBuf) -> Result<(fileid3, fattr3), nfsstat3> {
        let metadata = fs::symlink_metadata(&path).map_err(status)?;
        let id = self.known().number(path);
        Ok((id, metadata_to_fattr3(id, &metadata)))
    }
}

impl Known {
    fn number(&mut self, path: PathBuf) -> fileid3 {
        if let Some(number) = self.numbers.get(&path) {
            return *number;
        }
        self.paths.push(path.clone());
        let number = fileid3::try_from(self.paths.len()).unwrap_or(fileid3::MAX);
        self.numbers.insert(path, number);
        number
    }

    /// What is in a directory, by number.
    fn list(
        &mut self,
        id: fileid3,
        path: &Path,
    ) -> Result<&BTreeMap<fileid3, filename3>, nfsstat3> {
        let metadata = fs::symlink_metadata(path).map_err(status)?;
        let changed = (metadata.mtime(), metadata.mtime_nsec());
        if self.listed.get(&id).is_none_or(|(seen, _)| *seen != changed) {
            let mut entries = BTreeMap::new();
            for entry in fs::read_dir(path).map_err(status)? {
                let name = entry.map_err(status)?.file_name();
                entries.insert(self.number(path.join(&name)), name.as_bytes().into());
            }
            self.listed.insert(id, (changed, entries));
        }
        self.listed.get(&id).map(|(_, entries)| entries).ok_or(nfsstat3::NFS3ERR_STALE)
    }
}

#[async_trait]
impl NFSFileSystem for Mirror {
    fn capabilities(&self) -> VFSCapabilities {
        VFSCapabilities::ReadWrite
    }

    fn root_dir(&self) -> fileid3 {
        1
    }

    async fn lookup(&self, directory: fileid3, name: &filename3) -> Result<fileid3, nfsstat3> {
        self.found(self.below(directory, name)?).map(|(id, _)| id)
    }

    async fn getattr(&self, id: fileid3) -> Result<fattr3, nfsstat3> {
        let metadata = fs::symlink_metadata(self.path(id)?).map_err(status)?;
        Ok(metadata_to_fattr3(id, &metadata))
    }

    async fn setattr(&self, id: fileid3, wanted: sattr3) -> Result<fattr3, nfsstat3> {
        path_setattr(&self.path(id)?, &wanted).await?;
        self.getattr(id).await
    }

    async fn read(
        &self,
        id: fileid3,
        offset: u64,
        count: u32,
    ) -> Result<(Vec<u8>, bool), nfsstat3> {
        let file = File::open(self.path(id)?).map_err(status)?;
        let size = file.metadata().map_err(status)?.len();
        let count = u64::from(count).min(size.saturating_sub(offset));
        let mut bytes = vec![0; usize::try_from(count).unwrap_or(0)];
        file.read_exact_at(&mut bytes, offset).map_err(status)?;
        Ok((bytes, offset.saturating_add(count) >= size))
    }

    async fn write(&self, id: fileid3, offset: u64, data: &[u8]) -> Result<fattr3, nfsstat3> {
        let file = OpenOptions::new().write(true).open(self.path(id)?).map_err(status)?;
        file.write_all_at(data, offset).map_err(status)?;
        Ok(metadata_to_fattr3(id, &file.metadata().map_err(status)?))
    }

    async fn create(
        &self,
        directory: fileid3,
        name: &filename3,
        wanted: sattr3,
    ) -> Result<(fileid3, fattr3), nfsstat3> {
        let path = self.below(directory, name)?;
        File::create(&path).map_err(status)?;
        path_setattr(&path, &wanted).await?;
        self.found(path)
    }

    async fn create_exclusive(
        &self,
        directory: fileid3,
        name: &filename3,
    ) -> Result<fileid3, nfsstat3> {
        let path = self.below(directory, name)?;
        File::create_new(&path).map_err(status)?;
        self.found(path).map(|(id, _)| id)
    }

    async fn mkdir(
        &self,
        directory: fileid3,
        name: &filename3,
    ) -> Result<(fileid3, fattr3), nfsstat3> {
        let path = self.below(directory, name)?;
        fs::create_dir(&path).map_err(status)?;
        self.found(path)
    }

    async fn remove(&self, directory: fileid3, name: &filename3) -> Result<(), nfsstat3> {
        let path = self.below(directory, name)?;
        let is_directory = fs::symlink_metadata(&path).map_err(status)?.is_dir();
        if is_directory { fs::remove_dir(path) } else { fs::remove_file(path) }.map_err(status)
    }

    async fn rename(
        &self,
        from: fileid3,
        from_name: &filename3,
        to: fileid3,
        to_name: &filename3,
    ) -> Result<(), nfsstat3> {
        fs::rename(self.below(from, from_name)?, self.below(to, to_name)?).map_err(status)
    }

    async fn readdir(
        &self,
        directory: fileid3,
        start_after: fileid3,
        max_entries: usize,
    ) -> Result<ReadDirResult, nfsstat3> {
        let path = self.path(directory)?;
        let mut known = self.known();
        let listed = known.list(directory, &path)?;
        let rest = listed.range(start_after.saturating_add(1)..);
        let end = rest.clone().nth(max_entries).is_none();
        let mut entries = Vec::new();
        for (fileid, name) in rest.take(max_entries) {
            // What was removed since is left out.
            if let Ok(metadata) = fs::symlink_metadata(path.join(OsStr::from_bytes(name))) {
                let (fileid, name) = (*fileid, name.0.clone().into());
                entries.push(DirEntry {
                    fileid,
                    name,
                    attr: metadata_to_fattr3(fileid, &metadata),
                });
            }
        }
        Ok(ReadDirResult { entries, end })
    }

    async fn symlink(
        &self,
        directory: fileid3,
        name: &filename3,
        target: &nfspath3,
        _wanted: &sattr3,
    ) -> Result<(fileid3, fattr3), nfsstat3> {
        let path = self.below(directory, name)?;
        symlink(OsStr::from_bytes(target), &path).map_err(status)?;
        self.found(path)
    }

    async fn readlink(&self, id: fileid3) -> Result<nfspath3, nfsstat3> {
        let target = fs::read_link(self.path(id)?).map_err(status)?;
        Ok(target.as_os_str().as_bytes().into())
    }
}

fn status(error: io::Error) -> nfsstat3 {
    const WORDS: [(ErrorKind, nfsstat3); 7] = [
        (ErrorKind::NotFound, nfsstat3::NFS3ERR_NOENT),
        (ErrorKind::AlreadyExists, nfsstat3::NFS3ERR_EXIST),
        (ErrorKind::PermissionDenied, nfsstat3::NFS3ERR_ACCES),
        (ErrorKind::DirectoryNotEmpty, nfsstat3::NFS3ERR_NOTEMPTY),
        (ErrorKind::NotADirectory, nfsstat3::NFS3ERR_NOTDIR),
        (ErrorKind::IsADirectory, nfsstat3::NFS3ERR_ISDIR),
        (ErrorKind::StorageFull, nfsstat3::NFS3ERR_NOSPC),
    ];
    let known = WORDS.iter().find(|(kind, _)| *kind == error.kind());
    known.map_or(nfsstat3::NFS3ERR_IO, |(_, status)| *status)
}
