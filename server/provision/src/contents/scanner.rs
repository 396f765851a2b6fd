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
        if let Some(mut kept) = self.worker.take() {
            match kept.ask(&Request::Scan, &[root.as_fd()]) {
                Ok((contents, _)) => {
                    self.worker = Some(kept);
                    return Ok(contents);
                }
                // It may have ended long ago, which says nothing about this environment.
                Err(WorkerError::Ended(_) | WorkerError::Start(_)) => {}
                Err(error @ (WorkerError::Failed(_) | WorkerError::Late | WorkerError::Reply)) => {
                    return Err(error);
                }
            }
        }
        let mut worker = Session::start(Privilege::Read)?;
        let (contents, _) = worker.ask(&Request::Scan, &[root.as_fd()])?;
        self.worker = Some(worker);
        Ok(contents)
    }
}
