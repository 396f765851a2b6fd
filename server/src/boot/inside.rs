//! Boot environments' files, by the one door into them that a hostile guest cannot turn.

use std::fs::File;
use std::io;

use hostfs::{Inside, InsideError};

use super::catalog::Files;

impl Files for Inside {
    fn open(&self, path: &str) -> io::Result<File> {
        Self::open(self, path).map_err(cause)
    }

    fn is_file(&self, path: &str) -> bool {
        self.metadata(path).is_ok_and(|metadata| metadata.is_file())
    }

    fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let names = self.read_dir(folder, MAX_NAMES).map_err(cause)?;
        Ok(names.into_iter().filter_map(|name| name.into_string().ok()).collect())
    }
}

fn cause(error: InsideError) -> io::Error {
    let kind = match &error {
        InsideError::Io { source, .. } => source.kind(),
        InsideError::Missing(_) => io::ErrorKind::NotFound,
        InsideError::NotDirectory(_) => io::ErrorKind::NotADirectory,
        InsideError::NotFile(_) => io::ErrorKind::InvalidInput,
        InsideError::TooLarge { .. } | InsideError::TooMany { .. } => io::ErrorKind::InvalidData,
    };
    io::Error::new(kind, error)
}

/// More entries than any system has in its `/boot`; what a guest fills beyond is not looked at.
const MAX_NAMES: usize = 4096;

#[cfg(test)]
mod test {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::boot::catalog::{Contents, System};

    #[test]
    fn a_linux_environment_is_known_by_its_kernel_and_ram_disk() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("boot")).unwrap();
        for file in ["vmlinuz-6.1", "initrd.img-6.1"] {
            std::fs::write(root.path().join("boot").join(file), "x").unwrap();
        }
        // As Debian makes it: a link that means the environment's own root.
        symlink("/boot/vmlinuz-6.1", root.path().join("vmlinuz")).unwrap();
        symlink("/boot/initrd.img-6.1", root.path().join("initrd.img")).unwrap();
        let inside = Inside::enter(root.path()).unwrap();
        assert_eq!(
            Contents::scan(&inside).system,
            Some(System::Linux { kernel: "/vmlinuz".into(), initrd: Some("/initrd.img".into()) })
        );
    }

    #[test]
    fn a_link_to_the_hosts_files_shows_nothing_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("boot")).unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        symlink(dir.path().join("secret"), root.join("boot/vmlinuz")).unwrap();
        symlink("../../secret", root.join("boot/vmlinuz-1")).unwrap();
        let inside = Inside::enter(&root).unwrap();
        assert_eq!(Contents::scan(&inside).system, None);
        let error = Files::open(&inside, "/boot/vmlinuz").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
