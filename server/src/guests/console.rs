//! The console of a guest: what it says goes to all who look, who see the last of it first, and what they type
//! goes to the guest.

use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// A console that people look at by a socket. It stays while its guest is started again.
#[derive(Clone, Debug)]
pub(crate) struct Relay {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    /// The last that the guest said.
    said: VecDeque<u8>,
    /// Who looks, by a number each.
    viewers: Vec<(u64, UnixStream)>,
    /// How many came.
    came: u64,
    /// Where to what is typed goes. A guest that reads nothing stops who types, and nobody else.
    guest: Option<Arc<Mutex<dyn Write + Send>>>,
    /// How often a guest's socket was to be taken on: who waits for that of a life before is late.
    lives: u64,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} viewers", self.viewers.len())
    }
}

impl Relay {
    /// Listens on this socket, for its owner alone. What lies there is a leftover: the caller has the guest.
    ///
    /// # Errors
    ///
    /// The socket cannot be bound.
    pub(crate) fn listen(path: &Path) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        // The directory is its owner's alone, so that nobody comes in before the mode is set.
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        let relay = Self { shared: Arc::default() };
        let accepting = relay.clone();
        thread::Builder::new().name("console".to_owned()).spawn(move || {
            for viewer in listener.incoming() {
                match viewer {
                    Ok(viewer) => accepting.welcome(viewer),
                    // No descriptor to spare just now.
                    Err(_) => thread::sleep(PAUSE),
                }
            }
        })?;
        Ok(relay)
    }

    /// Takes on a guest's end of the console. When that ends, as with the guest, nobody who looks is sent away.
    ///
    /// # Errors
    ///
    /// There is no thread for it.
    pub(crate) fn attach(
        &self,
        mut from: impl Read + Send + 'static,
        to: impl Write + Send + 'static,
    ) -> io::Result<()> {
        self.lock().guest = Some(Arc::new(Mutex::new(to)));
        let relay = self.clone();
        let reading = move || {
            let mut bytes = [0; 4096];
            // The other end of a terminal that is closed is EIO.
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                relay.tell(bytes.get(..length).unwrap_or_default());
            }
        };
        thread::Builder::new().name("console".to_owned()).spawn(reading).map(drop)
    }

    /// Takes on the console at a socket as soon as it is there.
    pub(crate) fn attach_socket(&self, path: PathBuf) -> io::Result<()> {
        let relay = self.clone();
        let life = {
            let mut shared = self.lock();
            shared.lives = shared.lives.wrapping_add(1);
            shared.lives
        };
        let connecting = move || {
            for _ in 0..TRIES {
                if relay.lock().lives != life {
                    return;
                }
                if let Ok(stream) = UnixStream::connect(&path)
                    && let Ok(writer) = stream.try_clone()
                {
                    let attached = relay.attach(stream, writer);
                    if let Err(error) = attached {
                        relay.tell(format!("\r\nnetbe: no console: {error}\r\n").as_bytes());
                    }
                    return;
                }
                thread::sleep(PAUSE);
            }
        };
        thread::Builder::new().name("console".to_owned()).spawn(connecting).map(drop)
    }

    /// Tells all who look something, and keeps it for those who come.
    pub(crate) fn tell(&self, bytes: &[u8]) {
        let mut shared = self.lock();
        shared.said.extend(bytes);
        let spare = shared.said.len().saturating_sub(KEPT);
        shared.said.drain(..spare);
        // Who does not read for so long is gone, and is told so by the end of the connection.
        shared.viewers.retain_mut(|(_, viewer)| {
            let hears = viewer.write_all(bytes).is_ok();
            if !hears {
                // It may have left already.
                let _ = viewer.shutdown(Shutdown::Both);
            }
            hears
        });
    }

    fn welcome(&self, viewer: UnixStream) {
        let Ok(reader) = viewer.try_clone() else { return };
        let number = {
            let mut shared = self.lock();
            if shared.viewers.len() >= VIEWERS || viewer.set_write_timeout(Some(PATIENCE)).is_err()
            {
                return;
            }
            let (mut viewer, (first, second)) = (viewer, shared.said.as_slices());
            if viewer.write_all(first).and_then(|()| viewer.write_all(second)).is_err() {
                return;
            }
            shared.came += 1;
            let number = shared.came;
            shared.viewers.push((number, viewer));
            number
        };
        let relay = self.clone();
        let obeying = move || {
            relay.obey(reader);
            relay.lock().viewers.retain(|(other, _)| *other != number);
        };
        // Without a thread a viewer only looks.
        let _ = thread::Builder::new().name("console".to_owned()).spawn(obeying);
    }

    /// Passes on what somebody types, until they leave.
    fn obey(&self, mut viewer: UnixStream) {
        let mut bytes = [0; 256];
        while let Ok(length @ 1..) = viewer.read(&mut bytes) {
            // A guest that is off hears nothing.
            let guest = self.lock().guest.clone();
            if let Some(guest) = guest {
                let mut guest = guest.lock().unwrap_or_else(PoisonError::into_inner);
                let typed = bytes.get(..length).unwrap_or_default();
                let _ = guest.write_all(typed).and_then(|()| guest.flush());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much of what a guest says is kept for those who come, in bytes.
const KEPT: usize = 64 << 10;
/// How many may look at once.
const VIEWERS: usize = 16;
/// How long one who looks may take to read.
const PATIENCE: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_millis(50);
/// How often a guest's socket is tried: for half a minute.
const TRIES: u32 = 600;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn who_comes_late_sees_the_last_and_all_are_heard() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let relay = Relay::listen(&path).unwrap();
        let (mut guest, ours) = UnixStream::pair().unwrap();
        relay.attach(ours.try_clone().unwrap(), ours).unwrap();
        relay.tell(b"login: ");
        let mut viewers = [(); 2].map(|()| UnixStream::connect(&path).unwrap());
        for viewer in &mut viewers {
            let mut seen = [0; 7];
            viewer.read_exact(&mut seen).unwrap();
            assert_eq!(&seen, b"login: ");
            viewer.write_all(b"root\n").unwrap();
            let mut heard = [0; 5];
            guest.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"root\n");
        }
        guest.write_all(b"# ").unwrap();
        for viewer in &mut viewers {
            let mut seen = [0; 2];
            viewer.read_exact(&mut seen).unwrap();
            assert_eq!(&seen, b"# ");
        }
        // Another life of the guest is seen by those who stayed.
        drop(guest);
        let (mut guest, ours) = UnixStream::pair().unwrap();
        relay.attach(ours.try_clone().unwrap(), ours).unwrap();
        guest.write_all(b"!").unwrap();
        let mut seen = [0; 1];
        viewers[0].read_exact(&mut seen).unwrap();
        assert_eq!(&seen, b"!");
    }

    #[test]
    fn of_much_the_end_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("console");
        let relay = Relay::listen(&path).unwrap();
        relay.tell(&[b'a'; KEPT]);
        relay.tell(b"end");
        assert_eq!(relay.lock().said.len(), KEPT);
        let mut viewer = UnixStream::connect(&path).unwrap();
        let mut seen = vec![0; KEPT];
        viewer.read_exact(&mut seen).unwrap();
        assert!(seen.ends_with(b"aend"));
    }
}
