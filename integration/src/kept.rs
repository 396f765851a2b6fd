//! What a failed test leaves: its logs, consoles, captures and settings, for whoever wants to know why.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cache::Cache;
use crate::failure::{During, Failure};

/// Copies what is small of a failed test's files from `place` into the cache; gives where they are.
///
/// What the same test left when it failed before is removed.
pub(crate) fn keep(cache: &Cache, name: &str, place: &Path) -> Result<PathBuf, Failure> {
    let target = cache.directory().join(FAILED).join(name.replace([' ', '/'], "-"));
    match fs::remove_dir_all(&target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).during(target.display());
        }
        Ok(()) | Err(_) => {}
    }
    copy(place, &target).during(target.display())?;
    Ok(target)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        let status = entry.metadata()?;
        if status.is_dir() && entry.file_name() != BIG {
            copy(&path, &target)?;
        } else if status.is_file() && status.len() <= LARGEST {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// The directory in the cache.
const FAILED: &str = "failed";
/// The folder of boot environments, which are large and nearly all the same.
const BIG: &str = "store";
/// The largest file that is kept.
const LARGEST: u64 = 8 << 20;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn logs_are_kept_and_boot_environments_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::at(&directory.path().join("cache")).unwrap();
        let place = directory.path().join("place");
        for (folder, file) in [("case/store/be", "vmlinuz"), ("case", "netbe.log")] {
            fs::create_dir_all(place.join(folder)).unwrap();
            fs::write(place.join(folder).join(file), "x").unwrap();
        }
        let large = fs::File::create(place.join("traffic.pcap")).unwrap();
        large.set_len(LARGEST + 1).unwrap();
        for _ in 0..2 {
            let kept = keep(&cache, "boot BIOS", &place).unwrap();
            assert!(kept.ends_with("failed/boot-BIOS"));
            assert!(kept.join("case/netbe.log").exists());
            assert!(!kept.join("case/store").exists());
            assert!(!kept.join("traffic.pcap").exists());
        }
    }
}
