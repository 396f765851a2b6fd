//! Fetches files by the programs that systems have for it: curl(1), or FreeBSD's fetch(1).
//!
//! They bring TLS with the host's own certificates, and its proxies. A library for TLS would have to
//! be compiled from C for FreeBSD, and be kept up to date by netbe.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::thread;
use std::time::Duration;

use child::{Call, Limit, Running, Why};
use store::progress::{Unit, Work};

use super::error::on;
use super::{InstallError, lock};

/// Keeps other commands from fetching the same file. Released when it is dropped and what fetches has
/// ended, whichever is killed first: two that write to one file would spoil it.
#[derive(Debug)]
pub(super) struct Claim {
    file: File,
}

/// Waits until no other command is getting the file `part`, which people know as `name`.
pub(super) fn claim(part: &Path, name: &str) -> Result<Claim, InstallError> {
    let what = format!("is getting {name}");
    Ok(Claim { file: lock::take(&part.with_extension("lock"), &what)? })
}

/// Fetches a text of at most `max` bytes.
pub(super) fn text(url: &str, max: u64) -> Result<String, InstallError> {
    let mut child = Fetcher::find()?.start(url, None)?;
    let mut text = String::new();
    let read = child.stdout().map(|out| out.take(max).read_to_string(&mut text));
    let ended = end(child, url);
    // What the program says of an error is worth more than what is seen of it here.
    if let Ending::Broken(said) | Ending::NoRange(said) = ended? {
        return Err(failed(url, said));
    }
    read.unwrap_or(Ok(0)).map_err(|error| failed(url, error))?;
    Ok(text)
}

/// Fetches what is missing of a file to `part`, which was claimed; shows on a terminal how far it is.
///
/// A transfer that breaks off is continued as long as it gets on.
pub(super) fn fetch(url: &str, part: &Path, claim: &Claim, what: &str) -> Result<(), InstallError> {
    let fetcher = Fetcher::find()?;
    loop {
        let before = size(part);
        match transfer(fetcher, url, part, claim, what)? {
            Ending::Whole => return Ok(()),
            Ending::Broken(_) if size(part) > before => {}
            Ending::Broken(said) => return Err(failed(url, said)),
            Ending::NoRange(_) if before > 0 => std::fs::remove_file(part).map_err(on(part))?,
            Ending::NoRange(said) => return Err(failed(url, said)),
        }
    }
}

fn transfer(
    fetcher: Fetcher,
    url: &str,
    part: &Path,
    claim: &Claim,
    what: &str,
) -> Result<Ending, InstallError> {
    let child = fetcher.start(url, Some((part, claim)))?;
    let shown = Work::begin(|| what.to_owned(), Unit::Bytes, None);
    let watched = part.to_owned();
    let (done, ending) = std::sync::mpsc::channel::<()>();
    // It only shows: nothing else depends on its start or its end.
    let watch = thread::Builder::new().spawn(move || {
        while ending.recv_timeout(GLANCE).is_err_and(|why| why == TIMEOUT) {
            shown.set_done(size(&watched));
        }
    });
    let ended = end(child, url);
    drop(done);
    let _ = watch.map(thread::JoinHandle::join);
    ended
}

/// How a transfer ended.
enum Ending {
    Whole,
    /// Why there is no more of it.
    Broken(String),
    /// The server gives no parts of files, or the file is shorter than what there is of it.
    NoRange(String),
}

fn end(child: Running, url: &str) -> Result<Ending, InstallError> {
    let Err(error) = child.end() else { return Ok(Ending::Whole) };
    let Why::Ended(status) = error.why else { return Err(failed(url, error.said)) };
    let said = error.said.lines().next().unwrap_or_default().trim_end().to_owned();
    let refused = status.code() == Some(HTTP_ERROR) && said.contains("416");
    let no_range = matches!(status.code(), Some(RANGE_ERROR | BAD_RESUME)) || refused;
    Ok(if no_range { Ending::NoRange(said) } else { Ending::Broken(said) })
}

fn failed(url: &str, said: impl ToString) -> InstallError {
    InstallError::Fetch { url: url.to_owned(), said: said.to_string() }
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// A program that fetches.
#[derive(Clone, Copy, Debug)]
enum Fetcher {
    Curl,
    Fetch,
}

impl Fetcher {
    fn find() -> Result<Self, InstallError> {
        let there = |program: &&Self| child::find(program.name()).is_some();
        [Self::Curl, Self::Fetch].iter().find(there).copied().ok_or(InstallError::NoFetcher)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Fetch => "fetch",
        }
    }

    /// Starts it: to go on with a file, or to write to its standard output.
    fn start(self, url: &str, part: Option<(&Path, &Claim)>) -> Result<Running, InstallError> {
        // Both give up by themselves what stands still.
        let mut call = Call::new(self.name(), Limit::None).locale("C.UTF-8");
        call = match self {
            Self::Curl => {
                // Neither another protocol nor a stalled transfer for ever, nor a curlrc.
                call = call.flags(["-q", "--fail", "--silent", "--show-error", "--location"]);
                call = call.flags(["--proto", "=http,https", "--connect-timeout", "30"]);
                call = call.flags(["--speed-limit", "1", "--speed-time", "60"]);
                if let Some((part, _)) = part {
                    call = call.flags(["--continue-at", "-"]).option("--output", part);
                }
                call.option("--url", url)
            }
            Self::Fetch => {
                call = call.flags(["-q", "-T", "60"]);
                call = match part {
                    Some((part, _)) => call.flags(["-r"]).option("-o", part),
                    None => call.option("-o", "-"),
                };
                call.operand(url)
            }
        };
        // Neither reads what comes in there; it holds the claim while it runs.
        if let Some((_, claim)) = part {
            let claim = claim.file.try_clone().map_err(|error| failed(url, error))?;
            call = call.holding(claim.into());
        }
        call.start().map_err(|error| failed(url, error.said))
    }
}

/// curl(1)'s exit codes: the server answered with an error, gives no ranges, or not that one.
const HTTP_ERROR: i32 = 22;
const RANGE_ERROR: i32 = 33;
const BAD_RESUME: i32 = 36;
/// How often the bar moves.
const GLANCE: Duration = Duration::from_millis(200);
const TIMEOUT: std::sync::mpsc::RecvTimeoutError = std::sync::mpsc::RecvTimeoutError::Timeout;

#[cfg(test)]
mod test {
    use rustix::fs::{FlockOperation, flock};

    use super::*;

    #[test]
    fn nobody_fetches_a_file_that_somebody_who_was_killed_still_has_fetched() {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join("set.part");
        let Ok(fetcher) = Fetcher::find() else {
            return println!("skipped: neither curl nor fetch is installed");
        };
        let claimed = claim(&part, "set").unwrap();
        // A server that never answers.
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/set", server.local_addr().unwrap());
        let mut child = fetcher.start(&url, Some((&part, &claimed))).unwrap();
        drop(claimed);
        let other = File::open(part.with_extension("lock")).unwrap();
        flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap_err();
        child.kill().unwrap();
        flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    }
}
