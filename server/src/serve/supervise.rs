//! Services that are started again when they end.
//!
//! Machines live on what is served: one service that breaks down must not take the others with it.

use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time;

/// Something that is served until the server ends.
pub(super) struct Service {
    /// Its name in messages.
    pub(super) name: String,
    /// Starts it, the first time with what was bound before anything was answered.
    pub(super) start: Start,
    /// Whether it sees itself that the server ends, and ends in good order.
    pub(super) ends_itself: bool,
}

/// Starts a service.
pub(super) type Start = Box<dyn FnMut() -> io::Result<Run> + Send>;

/// A running service; it ends with an error, with a panic, or by being dropped.
pub(super) type Run = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

impl Service {
    /// A service on a socket that is bound, which is bound again by `bind` should it break.
    pub(super) fn on<T: Send + 'static>(
        name: impl Into<String>,
        bound: T,
        mut bind: impl FnMut() -> io::Result<T> + Send + 'static,
        mut run: impl FnMut(T) -> Run + Send + 'static,
    ) -> Self {
        let mut first = Some(bound);
        let start = move || match first.take() {
            Some(bound) => Ok(run(bound)),
            None => bind().map(&mut run),
        };
        Self { name: name.into(), start: Box::new(start), ends_itself: false }
    }

    /// A service that needs nothing but to be started.
    pub(super) fn of(
        name: impl Into<String>,
        mut run: impl FnMut() -> Run + Send + 'static,
    ) -> Self {
        Self { name: name.into(), start: Box::new(move || Ok(run())), ends_itself: false }
    }

    /// Runs it until `stopping` says that the server ends, and again whenever it ends before.
    pub(super) async fn run(mut self, stopping: watch::Receiver<bool>) {
        let mut delay = DELAY_FIRST;
        loop {
            let begun = Instant::now();
            let trouble = match (self.start)() {
                Ok(run) => {
                    // A task of its own, which may panic; dropping the set ends it.
                    let mut task = JoinSet::new();
                    task.spawn(run);
                    let ended = tokio::select! {
                        ended = task.join_next() => ended,
                        () = stopped(stopping.clone()) => {
                            if self.ends_itself {
                                let _ = task.join_next().await;
                            }
                            return;
                        }
                    };
                    match ended {
                        Some(Ok(Err(error))) => error.to_string(),
                        Some(Err(panic)) => panic.to_string(),
                        Some(Ok(Ok(()))) | None => "it ended".to_owned(),
                    }
                }
                Err(error) => format!("it cannot be started: {error}"),
            };
            if *stopping.borrow() {
                return;
            }
            if begun.elapsed() >= DELAY_MAX {
                delay = DELAY_FIRST;
            }
            tracing::error!(
                "{} has failed and is started again in {} s: {trouble}; if this repeats, stop the program \
                 that uses its port, restart netbe, and report the message",
                self.name,
                delay.as_secs()
            );
            tokio::select! {
                () = time::sleep(delay) => {}
                () = stopped(stopping.clone()) => return,
            }
            delay = (delay * 2).min(DELAY_MAX);
        }
    }
}

/// Waits until the server ends.
async fn stopped(mut stopping: watch::Receiver<bool>) {
    // It fails when the server is gone, which is an end too.
    let _ = stopping.wait_for(|stop| *stop).await;
}

/// How long a service rests before it is started again the first time.
const DELAY_FIRST: Duration = Duration::from_secs(1);

/// How long at most. A service that lasted so long begins with the first delay again.
const DELAY_MAX: Duration = Duration::from_secs(60);

#[cfg(test)]
mod test {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_service_that_breaks_or_panics_is_started_again() {
        let (stop, stopping) = watch::channel(false);
        let starts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&starts);
        let service = Service::of("a service", move || {
            let turn = counted.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                match turn {
                    0 => Err(io::Error::other("broken")),
                    1 => panic!("a panic of the test"),
                    2 => Ok(()),
                    _ => std::future::pending().await,
                }
            })
        });
        let running = tokio::spawn(service.run(stopping));
        time::sleep(Duration::from_secs(10)).await;
        assert_eq!(starts.load(Ordering::Relaxed), 4);
        assert!(!running.is_finished());
        stop.send_replace(true);
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_socket_that_is_bound_already_is_served_first_and_bound_again_later() {
        let (_stop, stopping) = watch::channel(false);
        let (seen, mut saw) = tokio::sync::mpsc::unbounded_channel();
        let mut bound = 0;
        let bind = move || {
            bound += 1;
            // Somebody else has the port for a moment.
            if bound == 1 { Err(io::Error::other("in use")) } else { Ok(bound) }
        };
        let service = Service::on("a service", 0, bind, move |socket| {
            seen.send(socket).unwrap();
            Box::pin(async { Err(io::Error::other("broken")) })
        });
        let running = tokio::spawn(service.run(stopping));
        assert_eq!([saw.recv().await, saw.recv().await], [Some(0), Some(2)]);
        running.abort();
    }
}
