//! What the host's service manager is told of the server: that it serves, reads everything again, ends, and
//! is alive (sd_notify(3)). A server that nobody supervises tells nobody.

use std::env;
use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct Notifier {
    way: Option<(UnixDatagram, PathBuf)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The manager that started this process, as its environment names it.
    pub(super) fn of_environment() -> Self {
        let path = env::var_os("NOTIFY_SOCKET").map(PathBuf::from);
        let Some(path) = path.filter(|path| path.is_absolute()) else { return Self::default() };
        let open = || {
            let socket = UnixDatagram::unbound()?;
            // A manager that does not listen must stop nothing here.
            socket.set_nonblocking(true).map(|()| socket)
        };
        let way = match open() {
            Ok(socket) => Some((socket, path)),
            Err(error) => {
                tracing::warn!("the service manager cannot be notified: {error}");
                None
            }
        };
        Self { way, watchdog: watchdog() }
    }

    /// How long the server may be silent before the manager takes it for dead, if it watches.
    pub(super) const fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Everything is served.
    pub(super) fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// Everything is read again; [`Notifier::ready`] has to follow.
    pub(super) fn reloading(&self) {
        // The manager takes it for the answer to its request by the time.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// The server ends.
    pub(super) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=ending");
    }

    /// The server is alive.
    pub(super) fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    fn say(&self, message: &str) {
        let Some((socket, path)) = &self.way else { return };
        let sent: io::Result<usize> = socket.send_to(message.as_bytes(), path);
        if let Err(error) = sent {
            tracing::debug!("{}: {error}", path.display());
        }
    }
}

/// What the manager has set for this very process.
fn watchdog() -> Option<Duration> {
    let number = |name: &str| env::var(name).ok()?.parse::<u64>().ok();
    if number("WATCHDOG_PID").is_some_and(|own| own != u64::from(process::id())) {
        return None;
    }
    number("WATCHDOG_USEC").filter(|&micros| micros > 0).map(Duration::from_micros)
}
