//! Opens environments one after the other, in a thread that may hang on a dead disk.
//!
//! An environment that does not answer in time is left to its thread, and another thread goes on with
//! the others. Nothing more is begun for it before that thread has come back.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use uuid::Uuid;

use super::super::lock;

/// What is to be opened: by identity, and how.
pub(super) type Job<T> = (Uuid, Box<dyn FnOnce() -> Result<T, String> + Send>);

/// Opens environments.
#[derive(Debug)]
pub(super) struct Opener {
    timeout: Duration,
    /// Environments that a thread still hangs on.
    hung: Arc<Mutex<HashSet<Uuid>>>,
}

impl Opener {
    /// An opener that waits so long for one environment.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, hung: Arc::default() }
    }

    /// Opens all; what hangs is an error like any other.
    pub(super) fn open_all<T: Send + 'static>(
        &self,
        jobs: Vec<Job<T>>,
    ) -> Vec<(Uuid, Result<T, String>)> {
        let mut outcomes = Vec::with_capacity(jobs.len());
        let mut queue = VecDeque::with_capacity(jobs.len());
        for job in jobs {
            match lock(&self.hung).contains(&job.0) {
                true => outcomes.push((job.0, Err(HANGS.to_owned()))),
                false => queue.push_back(job),
            }
        }
        let expected = outcomes.len().saturating_add(queue.len());
        let waiting: VecDeque<Uuid> = queue.iter().map(|job| job.0).collect();
        let mut waiting = waiting;
        let queue = Arc::new(Mutex::new(queue));
        let (done, finished) = mpsc::channel();
        let mut ended = self.start(&queue, &done);
        while outcomes.len() < expected {
            if let Err(error) = &ended {
                let why = format!("the system gives no thread to open it: {error}");
                outcomes.extend(waiting.drain(..).map(|one| (one, Err(why.clone()))));
                break;
            }
            let outcome = match finished.recv_timeout(self.timeout) {
                Ok(outcome) => outcome,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    let mut hung = lock(&self.hung);
                    // It may have come back at the last moment.
                    match (finished.try_recv(), waiting.front()) {
                        (Ok(outcome), _) => outcome,
                        (Err(_), None) => break,
                        (Err(_), Some(one)) => {
                            hung.insert(*one);
                            ended = self.start(&queue, &done);
                            (*one, Err(HANGS.to_owned()))
                        }
                    }
                }
            };
            waiting.retain(|one| *one != outcome.0);
            outcomes.push(outcome);
        }
        outcomes
    }

    /// Starts a thread that works until the queue is empty or it was given up.
    fn start<T: Send + 'static>(
        &self,
        queue: &Arc<Mutex<VecDeque<Job<T>>>>,
        done: &Sender<(Uuid, Result<T, String>)>,
    ) -> io::Result<()> {
        let (queue, done, hung) = (Arc::clone(queue), done.clone(), Arc::clone(&self.hung));
        let work = move || {
            loop {
                let Some((environment, open)) = lock(&queue).pop_front() else { return };
                let opened = open();
                let mut hung = lock(&hung);
                // Nobody waits for it any more, or for anything.
                if hung.remove(&environment) || done.send((environment, opened)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("exports".to_owned()).spawn(work).map(drop)
    }
}

/// What is said of an environment that a thread hangs on.
const HANGS: &str = "its files do not answer: look at their disk";

#[cfg(test)]
mod test {
    use std::sync::mpsc::channel;

    use super::*;

    fn job(number: u128, open: impl FnOnce() -> Result<u8, String> + Send + 'static) -> Job<u8> {
        (Uuid::from_u128(number), Box::new(open))
    }

    #[test]
    fn one_that_hangs_keeps_no_other_from_being_opened() {
        let opener = Opener::new(Duration::from_millis(200));
        let (free, hangs) = channel::<()>();
        let stuck = move || {
            let _ = hangs.recv();
            Ok(2)
        };
        let jobs = vec![job(1, || Ok(1)), job(2, stuck), job(3, || Ok(3))];
        let opened = opener.open_all(jobs);
        let of = |number: u128| {
            let mut outcomes = opened.iter();
            outcomes.find(|(one, _)| *one == Uuid::from_u128(number)).unwrap().1.clone()
        };
        assert_eq!((of(1), of(2), of(3)), (Ok(1), Err(HANGS.to_owned()), Ok(3)));
        // As long as it hangs no other thread is given to it.
        let again = opener.open_all(vec![job(2, || panic!("it was begun again"))]);
        assert_eq!(again, [(Uuid::from_u128(2), Err(HANGS.to_owned()))]);
        drop(free);
        while !lock(&opener.hung).is_empty() {
            thread::yield_now();
        }
        assert_eq!(opener.open_all(vec![job(2, || Ok(2))]), [(Uuid::from_u128(2), Ok(2))]);
    }

    #[test]
    fn what_cannot_be_opened_is_told_beside_what_can() {
        let opener = Opener::new(Duration::from_secs(10));
        let jobs = vec![job(1, || Err("no".to_owned())), job(2, || Ok(2))];
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(opener.open_all(jobs), [(one, Err("no".to_owned())), (two, Ok(2))]);
        assert_eq!(opener.open_all(Vec::<Job<u8>>::new()), []);
    }
}
