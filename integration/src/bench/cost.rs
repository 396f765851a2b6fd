//! What a running server has cost so far.

use std::fs;
use std::io;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

use crate::failure::{During, Failure};
use crate::net::Network;

/// A process whose processor time is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meter {
    clock: ClockId,
    pid: u32,
}

impl Meter {
    /// A meter for the process with this id.
    pub(super) fn of(pid: u32) -> Result<Self, Failure> {
        let number = i32::try_from(pid).map_err(|_error| Failure::said("a process id"))?;
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(number)).map_err(io::Error::from);
        Ok(Self { clock: clock.during(format_args!("the clock of process {pid}"))?, pid })
    }

    /// A meter for the process of this name that `pid` is, or has started, itself or by others.
    ///
    /// Programs that only prepare a server, such as `unshare`, stay as its parents.
    pub(super) fn of_descendant(pid: u32, name: &str) -> Result<Self, Failure> {
        let mut waiting = vec![pid];
        while let Some(pid) = waiting.pop() {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if comm.trim_end() == name {
                return Self::of(pid);
            }
            let children = format!("/proc/{pid}/task/{pid}/children");
            let children = fs::read_to_string(children).unwrap_or_default();
            waiting
                .extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        Err(Failure::said(format!("no process {name} runs")))
    }

    /// The processor time of all its threads since its start, also of those that have ended: the sum
    /// of what the kernel tells of each in `schedstat` (clock_getcpuclockid(3)).
    pub(super) fn spent(self) -> Result<Duration, Failure> {
        let time = clock_gettime(self.clock).map_err(io::Error::from);
        time.during(format_args!("the clock of process {}", self.pid)).map(Duration::from)
    }
}

/// Has clients work at a server all at once, in its network; gives what each gave, the processor time that the
/// server took meanwhile, and how long that was.
///
/// `ready` prepares a client with its number before the first of them begins.
pub(super) fn under_load<C, T: Send>(
    network: &Network,
    meter: Meter,
    clients: usize,
    ready: impl Fn(usize) -> Result<C, Failure> + Sync,
    work: impl Fn(usize, C) -> Result<T, Failure> + Sync,
) -> Result<(Vec<T>, Duration, Duration), Failure> {
    let start = Barrier::new(clients + 1);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..clients)
            .map(|number| {
                let (start, ready, work) = (&start, &ready, &work);
                scope.spawn(move || {
                    let client = network.client.enter().and_then(|()| ready(number));
                    start.wait();
                    work(number, client?)
                })
            })
            .collect();
        let before = meter.spent();
        let begin = Instant::now();
        start.wait();
        let mut given = Vec::new();
        for worker in workers {
            given.push(worker.join().map_err(|_panic| Failure::said("a client ended early"))??);
        }
        let spent = meter.spent()?.saturating_sub(before?);
        Ok((given, spent, begin.elapsed()))
    })
}

/// The processor time of the calling thread.
pub(super) fn own_thread() -> Result<Duration, Failure> {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_err(io::Error::from);
    time.during("the clock of a thread").map(Duration::from)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn work_costs_processor_time() {
        let meter = Meter::of(std::process::id()).unwrap();
        let before = meter.spent().unwrap();
        let mut sum = 0_u64;
        while own_thread().unwrap() < Duration::from_millis(5) {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(meter.spent().unwrap() > before, "{sum} additions cost nothing");
    }

    #[test]
    fn a_process_that_does_not_run_is_not_found() {
        let failure = Meter::of_descendant(std::process::id(), "no-such-name").unwrap_err();
        assert_eq!(failure.to_string(), "no process no-such-name runs");
    }
}
