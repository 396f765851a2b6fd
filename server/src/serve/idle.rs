//! Files and memory that nobody uses any more.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hostfs::Descriptors;
use tokio::task::spawn_blocking;
use tokio::time;

use crate::boot::cache::SHARED;
use crate::net::sys::memory;

/// Closes what is idle, for ever: what the host removed gives its space back then, and what was
/// written can be run on the host.
pub(super) async fn close(descriptors: Arc<Descriptors>) -> io::Result<()> {
    let mut tick = time::interval(IDLE);
    loop {
        tick.tick().await;
        let descriptors = Arc::clone(&descriptors);
        // Closing the last descriptor of a removed file waits for the disk.
        spawn_blocking(move || descriptors.close_idle()).await.map_err(io::Error::other)?;
        SHARED.sweep(UNREAD);
    }
}

/// Gives memory back that was freed, for ever: after a burst of large calls there is much of it.
pub(super) async fn give_back() -> io::Result<()> {
    let mut tick = time::interval(FREED);
    loop {
        tick.tick().await;
        // Where there is much it takes a while.
        spawn_blocking(memory::give_back).await.map_err(io::Error::other)?;
    }
}

/// A file that was not used for so long is closed, at the latest after twice as long.
const IDLE: Duration = Duration::from_secs(10);

/// How often memory is given back. What is used all the time is taken again, at a cost.
const FREED: Duration = Duration::from_secs(30);

/// A block of a boot file that nobody asked for in so long gives its memory back.
const UNREAD: Duration = Duration::from_secs(60);

#[cfg(target_os = "linux")]
#[cfg(test)]
mod test {
    use std::time::Instant;
    use std::{fs, thread};

    use hostfs::{HostTree, HostTreeError, Options};
    use vfs::{Caller, Name, Tree, Wait};

    use super::*;

    /// Whether this process has a file open of which the host removed the last name.
    fn is_open(name: &str) -> bool {
        let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
        let mut targets = links.filter_map(|link| fs::read_link(link.path()).ok());
        targets.any(|target| target.to_string_lossy().contains(name))
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_the_host_removed_gives_its_space_back() {
        let dir = tempfile::Builder::new().prefix("netbe-idle-").tempdir().unwrap();
        fs::write(dir.path().join("log"), "many bytes").unwrap();
        let descriptors = Arc::new(Descriptors::new(64));
        let options = Options { descriptors: Arc::clone(&descriptors), ..Options::default() };
        let tree = match HostTree::open(dir.path(), options) {
            Ok(tree) => tree,
            Err(HostTreeError::Privilege) => {
                return eprintln!("skipped: opening files by handle needs root");
            }
            Err(error) => panic!("{error}"),
        };
        let log = tree
            .lookup(&Caller::ROOT, &tree.root(), Name::new(b"log").unwrap(), Wait::Yes)
            .unwrap();
        tree.read(&Caller::ROOT, &log.handle, 0, &mut [0; 4], Wait::Yes).unwrap();
        let path = dir.path().join("log").to_string_lossy().into_owned();
        fs::remove_file(&path).unwrap();
        assert!(is_open(&path));
        let sweep = tokio::spawn(close(descriptors));
        time::sleep(3 * IDLE).await;
        sweep.abort();
        // A thread of its own closes it, on the real clock.
        let deadline = Instant::now() + Duration::from_secs(10);
        while is_open(&path) {
            assert!(Instant::now() < deadline, "it is still open");
            thread::sleep(Duration::from_millis(5));
        }
    }
}
