//! The file server of a guest whose root is a directory of this host by virtiofs.
//!
//! One virtiofsd serves one guest: it ends by itself when QEMU does, also where the guest's keeper was killed
//! before.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bootcfg::{Channel, HostRoot, shell, virtiofsd};

use super::Failure;
use super::child::{cannot_run, command};

/// A virtiofsd that listens; it is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct FileServer {
    child: Child,
}

impl FileServer {
    /// Starts the one that a root needs, and waits until it listens; none, if the root needs none. What it says goes
    /// to this process's own messages, which are in `log` if they are not seen.
    pub(crate) fn start(
        root: Option<&HostRoot>,
        log: Option<&Path>,
    ) -> Result<Option<Self>, Failure> {
        let Some(root) = root else { return Ok(None) };
        if !nix::unistd::geteuid().is_root() {
            return Err(Failure::could_not(
                "only root can give a guest's files to the users that they belong to: run the command as root, \
                 or let the guest have its root over NFS",
            ));
        }
        let Channel::VirtioFs { socket } = &root.channel else { return Ok(None) };
        let program = program().ok_or_else(|| {
            Failure::could_not(
                "virtiofsd is not installed: install the package virtiofsd (Debian 13 and later) or \
                 qemu-system-common (Debian 12), or let the guest have its root by 9p or nfs",
            )
        })?;
        let Some(words) = virtiofsd(program, root).map_err(Failure::could_not)? else {
            return Ok(None);
        };
        // That of a life before lies there yet.
        match fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::could_not(format_args!("{socket}: {error}")));
            }
            Ok(()) | Err(_) => {}
        }
        // A signal from the terminal is for the guest, and the guest outlives its keeper.
        let child = command(&words).stdin(Stdio::null()).process_group(0).spawn();
        let mut server = Self { child: child.map_err(|error| cannot_run(program, &error))? };
        let limit = Instant::now() + LIMIT;
        while !Path::new(socket).exists() {
            if let Ok(Some(status)) = server.child.try_wait() {
                return Err(Failure::could_not(ended(program, status, log)));
            }
            if Instant::now() > limit {
                return Err(Failure::could_not(format_args!(
                    "{program} did not listen at {socket} within {} s",
                    LIMIT.as_secs()
                )));
            }
            thread::sleep(BEAT);
        }
        Ok(Some(server))
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        // It ends with QEMU; one that never had a guest waits for ever. What the guest wrote is written.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What became of one that does not listen, and where it says why.
fn ended(program: &str, status: ExitStatus, log: Option<&Path>) -> String {
    let place = log.map_or_else(|| "above".to_owned(), |log| format!("in {}", log.display()));
    format!("{program} ended before the guest began: {status}; its messages are {place}")
}

/// The lines by which a person starts what a root needs, before QEMU.
pub(crate) fn by_hand(root: Option<&HostRoot>) -> Result<String, Failure> {
    root.map_or(Ok(String::new()), |root| script(program().unwrap_or("virtiofsd"), root))
}

fn script(program: &str, root: &HostRoot) -> Result<String, Failure> {
    let words = virtiofsd(program, root).map_err(Failure::could_not)?;
    let (Some(words), Channel::VirtioFs { socket }) = (words, &root.channel) else {
        return Ok(String::new());
    };
    let line = shell::line(&words).map_err(Failure::could_not)?;
    let socket = shell::quote(socket).map_err(Failure::could_not)?;
    // That of a life before may lie there, and virtiofsd may end before it listens.
    Ok(format!(
        "rm -f {socket}\n{line} &\nuntil [ -S {socket} ] || ! kill -0 $!; do sleep 1; done\n"
    ))
}

/// The first virtiofsd that is installed.
fn program() -> Option<&'static str> {
    PLACES.into_iter().find(|place| Path::new(place).is_file())
}

/// Where Debian 13 and Fedora, Debian 12, and Arch have it: programs of no user.
const PLACES: [&str; 3] =
    ["/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd", "/usr/lib/virtiofsd"];
/// The socket at which it listens, in the guest's place.
pub(crate) const SOCKET: &str = "virtiofs";
/// How long it may take until it listens.
const LIMIT: Duration = Duration::from_secs(20);
const BEAT: Duration = Duration::from_millis(20);

#[cfg(test)]
mod test {
    use std::os::unix::net::UnixListener;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn who_reads_no_messages_is_told_where_they_are() {
        let told = |log| ended("virtiofsd", ExitStatus::from_raw(1 << 8), log);
        let sentence = "virtiofsd ended before the guest began: exit status: 1; its messages are";
        assert_eq!(told(None), format!("{sentence} above"));
        let log = Path::new("/var/db/netbe/guests/web1/log");
        assert_eq!(told(Some(log)), format!("{sentence} in /var/db/netbe/guests/web1/log"));
    }

    #[test]
    fn a_person_waits_for_the_socket_of_this_virtiofsd_only() {
        let place = tempfile::tempdir().unwrap();
        let socket = place.path().join("virtiofs");
        // One that was killed leaves its socket.
        drop(UnixListener::bind(&socket).unwrap());
        assert!(socket.exists());
        let channel = Channel::VirtioFs { socket: socket.to_str().unwrap().to_owned() };
        let root = HostRoot { directory: "/be/head".to_owned(), channel };
        let lines = script("false", &root).unwrap();
        // Bounded: a script that waits for ever is the fault.
        let mut sh = Command::new("timeout");
        let ran = sh.args(["20", "sh", "-c", &lines]).stderr(Stdio::null()).status().unwrap();
        assert_eq!(ran.code(), Some(0), "{lines}");
        assert!(!socket.exists(), "{lines}");
    }
}
