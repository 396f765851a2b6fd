//! Opens environments one after the other, in a thread that may hang on a dead disk.
//!
//! While one takes long, other threads go on with the others, and what is open is handed over. One that
//! does not answer in time is left to its thread; nothing more is begun for it before that has come back.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::super::lock;

/// What is to be opened: by identity, and how.
pub(super) type Job<T> = (Uuid, Box<dyn FnOnce() -> Result<T, String> + Send>);

/// What came of opening an environment.
pub(super) type Outcome<T> = (Uuid, Result<T, String>);

/// Opens environments.
#[derive(Debug)]
pub(super) struct Opener {
    timeout: Duration,
    /// Environments that a thread still hangs on.
    hung: Arc<Mutex<HashSet<Uuid>>>,
}

/// The jobs of one call.
struct Jobs<T> {
    queue: VecDeque<Job<T>>,
    /// Those that threads are at, and since when.
    running: Vec<(Uuid, Instant)>,
}

impl Opener {
    /// An opener that waits so long for one environment.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, hung: Arc::default() }
    }

    /// Opens all; what hangs is an error like any other. Whenever one takes long, what is open by then
    /// is handed over, and at the end the rest, which may be nothing.
    pub(super) fn open_all<T: Send + 'static>(
        &self,
        jobs: Vec<Job<T>>,
        mut hand_over: impl FnMut(Vec<Outcome<T>>),
    ) {
        let (mut ready, mut queue) = (Vec::new(), VecDeque::with_capacity(jobs.len()));
        for job in jobs {
            match lock(&self.hung).contains(&job.0) {
                true => ready.push((job.0, Err(HANGS.to_owned()))),
                false => queue.push_back(job),
            }
        }
        let mut left = queue.len();
        let jobs = Arc::new(Mutex::new(Jobs { queue, running: Vec::new() }));
        let (done, finished) = mpsc::channel();
        let mut threads = 0;
        let mut handed_over = false;
        while left > 0 {
            if threads < MAX_THREADS && !lock(&jobs).queue.is_empty() {
                match self.start(&jobs, &done) {
                    Ok(()) => threads += 1,
                    Err(error) if threads == 0 => {
                        let why = format!("no thread can be started to open it: {error}");
                        let queue = std::mem::take(&mut lock(&jobs).queue);
                        ready.extend(queue.into_iter().map(|job| (job.0, Err(why.clone()))));
                        break;
                    }
                    Err(_) => {}
                }
            }
            while left > 0
                && let Ok(outcome) = finished.recv_timeout(self.timeout / SLOW)
            {
                left -= 1;
                ready.push(outcome);
            }
            if left > 0 {
                let given_up = self.give_up(&jobs);
                left -= given_up.len();
                // The place of a thread that hangs is another one's.
                threads = threads.saturating_sub(given_up.len());
                ready.extend(given_up.into_iter().map(|one| (one, Err(HANGS.to_owned()))));
                if !handed_over || !ready.is_empty() {
                    handed_over = true;
                    hand_over(std::mem::take(&mut ready));
                }
            }
        }
        if !handed_over || !ready.is_empty() {
            hand_over(ready);
        }
    }

    /// The environments that have taken too long: nobody waits for them any more.
    fn give_up<T>(&self, jobs: &Mutex<Jobs<T>>) -> Vec<Uuid> {
        let mut hung = lock(&self.hung);
        let mut jobs = lock(jobs);
        let late = |since: Instant| since.elapsed() >= self.timeout;
        let given_up = jobs.running.extract_if(.., |(_, since)| late(*since));
        let given_up: Vec<Uuid> = given_up.map(|(environment, _)| environment).collect();
        hung.extend(given_up.iter().copied());
        given_up
    }

    /// Starts a thread that works until the queue is empty or it was given up.
    fn start<T: Send + 'static>(
        &self,
        jobs: &Arc<Mutex<Jobs<T>>>,
        done: &Sender<Outcome<T>>,
    ) -> io::Result<()> {
        let (jobs, done, hung) = (Arc::clone(jobs), done.clone(), Arc::clone(&self.hung));
        let next = move |jobs: &Mutex<Jobs<T>>| {
            let mut jobs = lock(jobs);
            let job = jobs.queue.pop_front()?;
            jobs.running.push((job.0, Instant::now()));
            Some(job)
        };
        let work = move || {
            while let Some((environment, open)) = next(&jobs) {
                let opened = open();
                let mut hung = lock(&hung);
                if hung.remove(&environment) {
                    // Nobody waits for it any more.
                    return;
                }
                lock(&jobs).running.retain(|(running, _)| *running != environment);
                if done.send((environment, opened)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("exports".to_owned()).spawn(work).map(drop)
    }
}

/// The part of the time for one environment after which another thread goes on with the others.
const SLOW: u32 = 10;

/// Threads of one call.
const MAX_THREADS: usize = 8;

/// What is said of an environment that a thread hangs on.
const HANGS: &str = "its files do not answer: check their disk";

#[cfg(test)]
mod test {
    use std::sync::mpsc::channel;

    use super::*;

    fn job(number: u128, open: impl FnOnce() -> Result<u8, String> + Send + 'static) -> Job<u8> {
        (Uuid::from_u128(number), Box::new(open))
    }

    fn all(opener: &Opener, jobs: Vec<Job<u8>>) -> Vec<Outcome<u8>> {
        let mut all = Vec::new();
        opener.open_all(jobs, |outcomes| all.extend(outcomes));
        all
    }

    #[test]
    fn one_that_hangs_keeps_no_other_from_being_opened() {
        let opener = Opener::new(Duration::from_secs(1));
        let (free, hangs) = channel::<()>();
        let stuck = move || {
            let _ = hangs.recv();
            Ok(2)
        };
        let jobs = vec![job(1, || Ok(1)), job(2, stuck), job(3, || Ok(3))];
        let mut handed_over = Vec::new();
        opener.open_all(jobs, |outcomes| handed_over.push(outcomes));
        let batch = |number: u128| {
            let is_it = |outcomes: &Vec<Outcome<u8>>| {
                outcomes.iter().any(|(one, _)| *one == Uuid::from_u128(number))
            };
            handed_over.iter().position(is_it).unwrap()
        };
        assert!(batch(1) < batch(2) && batch(3) < batch(2), "{handed_over:?}");
        let opened = handed_over.concat();
        let of = |number: u128| {
            let mut outcomes = opened.iter();
            outcomes.find(|(one, _)| *one == Uuid::from_u128(number)).unwrap().1.clone()
        };
        assert_eq!((of(1), of(2), of(3)), (Ok(1), Err(HANGS.to_owned()), Ok(3)));
        // As long as it hangs no other thread is given to it.
        let again = all(&opener, vec![job(2, || panic!("it was begun again"))]);
        assert_eq!(again, [(Uuid::from_u128(2), Err(HANGS.to_owned()))]);
        drop(free);
        while !lock(&opener.hung).is_empty() {
            thread::yield_now();
        }
        assert_eq!(all(&opener, vec![job(2, || Ok(2))]), [(Uuid::from_u128(2), Ok(2))]);
    }

    #[test]
    fn what_cannot_be_opened_is_told_beside_what_can() {
        let opener = Opener::new(Duration::from_secs(10));
        let jobs = vec![job(1, || Err("no".to_owned())), job(2, || Ok(2))];
        let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
        assert_eq!(all(&opener, jobs), [(one, Err("no".to_owned())), (two, Ok(2))]);
        assert_eq!(all(&opener, Vec::new()), []);
    }
}
