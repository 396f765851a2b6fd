//! What is asked of the kernel in a thread of its own: a pool that has lost its disks makes everybody wait.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::zfs::command::{Failure, Refusal};

/// Has a thread do some work, and waits for what it answers, so long at most. Nobody waits any more for what
/// comes too late.
pub(super) fn ask<T: Send + 'static>(
    task: &str,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    ask_by(thread::Builder::new().name("libzfs".to_owned()), task, limit, work)
}

fn ask_by<T: Send + 'static>(
    thread: thread::Builder,
    task: &str,
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let failure = |refusal, said: String| Failure { task: task.to_owned(), refusal, said };
    let (sender, answer) = mpsc::channel();
    let asking = thread.spawn(move || {
        let _ = sender.send(work());
    });
    if let Err(error) = asking {
        return Err(failure(Refusal::Other, format!("no thread can be made: {error}")));
    }
    answer.recv_timeout(limit).map_err(|lost| match lost {
        RecvTimeoutError::Timeout => {
            failure(Refusal::Hangs, format!("no answer within {} s", limit.as_secs()))
        }
        RecvTimeoutError::Disconnected => {
            failure(Refusal::Other, "who was to answer has failed".to_owned())
        }
    })
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn what_comes_too_late_and_what_nobody_can_be_asked_for_is_refused() {
        let limit = Duration::from_secs(10);
        assert_eq!(ask("look at tank", limit, || 7).unwrap(), 7);
        let late = ask("look at tank", Duration::ZERO, || thread::sleep(Duration::from_millis(99)));
        assert_eq!(late.unwrap_err().refusal, Refusal::Hangs);
        // No address space has room for such a stack.
        let none = ask_by(thread::Builder::new().stack_size(1 << 60), "look at tank", limit, || 7);
        let none = none.unwrap_err();
        assert!(none.said.starts_with("no thread can be made: "), "{none:?}");
    }
}
