//! Archives that the kernel unpacks into its first root: cpio in the `newc` format
//! (Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`).

/// Collects files into an archive.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a directory; directories come before what is in them.
    pub(crate) fn directory(&mut self, path: &str) {
        self.entry(path, DIRECTORY | 0o755, &[]);
    }

    /// Adds a regular file that everybody may read and run.
    pub(crate) fn program(&mut self, path: &str, content: &[u8]) {
        self.entry(path, REGULAR | 0o755, content);
    }

    /// Adds a symbolic link.
    pub(crate) fn symlink(&mut self, path: &str, target: &str) {
        self.entry(path, SYMLINK | 0o777, target.as_bytes());
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        // A file of 4 GiB has no place in an initial RAM disk; the kernel would refuse the archive.
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let name = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
        // c_ino mode uid gid nlink mtime filesize maj min rmaj rmin namesize chksum
        let fields = [self.entries, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;

#[cfg(test)]
mod test {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::process::Program;

    #[test]
    fn what_goes_in_comes_out_of_cpio() {
        let mut archive = Archive::default();
        archive.directory("bin");
        archive.program("bin/odd", b"seven b");
        archive.symlink("init", "bin/odd");
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("archive"), archive.finish()).unwrap();
        Program::new("cpio")
            .words("-i --quiet --no-absolute-filenames -F archive")
            .directory(directory.path())
            .run(Duration::from_secs(10))
            .unwrap();
        assert_eq!(fs::read(directory.path().join("init")).unwrap(), b"seven b");
    }
}
