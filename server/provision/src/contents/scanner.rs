//! Looking into environments by a process that may only read: whatever a guest put there is parsed with
//! no other privilege.

use std::os::fd::AsFd as _;

use hostfs::Inside;

use super::Contents;
use crate::worker::{Privilege, Request, Session, WorkerError};

/// Looks at environments, one after the other, and not again into loaders that have not changed. It
/// belongs to one thread.
///
/// Its process is started when it is first needed, and another one after a failure.
#[derive(Debug, Default)]
pub struct Scanner {
    worker: Option<Session>,
}

impl Scanner {
    /// Looks at an environment. Waits for ten seconds at most, unless a disk hangs so that not even its
    /// process can be killed.
    pub fn scan(&mut self, root: &Inside) -> Result<Contents, WorkerError> {
        let worker = match &mut self.worker {
            Some(worker) => worker,
            none => none.insert(Session::start(Privilege::Read)?),
        };
        let asked = worker.ask(&Request::Scan, &[root.as_fd()]);
        if asked.is_err() {
            self.worker = None;
        }
        asked.map(|(contents, _)| contents)
    }
}
