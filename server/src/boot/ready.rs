//! Boot files that are not there yet: who asks for one waits for it without keeping a thread.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time;

use super::FileError;

/// Tells when it is worth asking again.
#[derive(Clone, Debug)]
pub struct Ready(watch::Receiver<()>);

impl Ready {
    /// Becomes ready when `done` is sent to, or dropped.
    #[must_use]
    pub fn of(done: &watch::Sender<()>) -> Self {
        Self(done.subscribe())
    }

    async fn wait(mut self) {
        // Nobody is left to tell it: then it never will be otherwise.
        let _ = self.0.changed().await;
    }
}

impl PartialEq for Ready {
    fn eq(&self, other: &Self) -> bool {
        self.0.same_channel(&other.0)
    }
}

impl Eq for Ready {}

/// Opens a boot file on a thread that may wait for a disk. Where it has to be made first, `open` is
/// called once more when that has ended, or has taken too long, and is told that it has waited.
///
/// # Errors
///
/// That of `open`; [`FileError::Io`] if it panicked.
pub async fn open_when_ready<F: Send + 'static>(
    open: impl Fn(bool) -> Result<F, FileError> + Clone + Send + 'static,
) -> Result<F, FileError> {
    let attempt = |waited| {
        let open = open.clone();
        async move {
            spawn_blocking(move || open(waited)).await.unwrap_or_else(|error| {
                tracing::error!(%error, "opening a boot file failed");
                Err(FileError::Io)
            })
        }
    };
    match attempt(false).await {
        Err(FileError::Waiting(ready)) => {
            // Whether it is there or not, who asks is answered.
            let _ = time::timeout(READY_TIMEOUT, ready.wait()).await;
            attempt(true).await
        }
        opened => opened,
    }
}

/// How long a loader waits for the answer while its root is made. Firmware's TFTP clients ask for
/// longer; who is still not served asks again.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod test {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_hundred_who_wait_keep_no_thread() {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let done = Arc::new(watch::Sender::new(()));
        let (made, waiting) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        runtime.block_on(async {
            let clients = (0..100).map(|_| {
                let (done, made) = (Arc::clone(&done), Arc::clone(&made));
                let waiting = Arc::clone(&waiting);
                tokio::spawn(open_when_ready(move |_| match made.load(Ordering::SeqCst) {
                    true => Ok(()),
                    false => {
                        let ready = Ready::of(&done);
                        waiting.fetch_add(1, Ordering::SeqCst);
                        Err(FileError::Waiting(ready))
                    }
                }))
            });
            let clients: Vec<_> = clients.collect();
            while waiting.load(Ordering::SeqCst) < 100 {
                tokio::task::yield_now().await;
            }
            // Somebody else's file is read meanwhile.
            assert_eq!(open_when_ready(|_| Ok(7)).await, Ok(7));
            made.store(true, Ordering::SeqCst);
            done.send_replace(());
            for client in clients {
                assert_eq!(client.await.unwrap(), Ok(()));
            }
        });
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_for_long_takes_what_there_is() {
        let done = Arc::new(watch::Sender::new(()));
        let opened = open_when_ready(move |waited| match waited {
            true => Ok("wait"),
            false => Err(FileError::Waiting(Ready::of(&done))),
        });
        assert_eq!(opened.await, Ok("wait"));
    }
}
