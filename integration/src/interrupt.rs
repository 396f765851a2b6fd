//! Ctrl-C and SIGTERM: a flag that every wait of the lab looks at.
//!
//! The handler only sets the flag. Whoever waits returns [`Failure::Interrupted`], the stack unwinds,
//! and the owners of processes, namespaces and scratch directories remove them as they always do.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::failure::Failure;

/// Installs the handlers; call once, before the first process is started.
pub(crate) fn install() -> io::Result<()> {
    let flag = flag();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// Fails once somebody wants the lab to stop.
pub(crate) fn check() -> Result<(), Failure> {
    if flag().load(Ordering::Relaxed) { Err(Failure::Interrupted) } else { Ok(()) }
}

/// Asks `probe` again and again until it answers, and fails in the words of `what` after `limit`.
pub(crate) fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let begin = Instant::now();
    loop {
        check()?;
        if let Some(answer) = probe()? {
            return Ok(answer);
        }
        if begin.elapsed() > limit {
            return Err(Failure::Said(format!("{what}: not within {} s", limit.as_secs())));
        }
        thread::sleep(PERIOD);
    }
}

fn flag() -> &'static Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    FLAG.get_or_init(Arc::default)
}

/// How long a wait rests between two looks.
const PERIOD: Duration = Duration::from_millis(20);
