//! Signs of life for the service manager's watchdog: it is fed only while all that answers machines does.
//!
//! No timer feeds it by itself. Each beat asks every runtime to run a task, takes the locks that packets
//! take, and has NFS answer a call. A beat that misses one of them feeds nobody, and the manager starts the
//! server again when enough beats have failed. A disk that hangs is no reason: it delays none of these.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, oneshot};
use tokio::task::JoinSet;
use tokio::time::{self, MissedTickBehavior};

/// Something that a server which is alive does at once.
pub(super) struct Sign {
    name: &'static str,
    look: Box<dyn Fn() -> Look + Send + Sync>,
    /// Whether it counts although it was never seen.
    certain: bool,
    seen: AtomicBool,
}

type Look = Pin<Box<dyn Future<Output = bool> + Send>>;

impl Sign {
    /// A runtime takes up a task.
    pub(super) fn runtime(name: &'static str, runtime: Handle) -> Self {
        let look = move || -> Look {
            let task = runtime.spawn(async {});
            Box::pin(async move { task.await.is_ok() })
        };
        Self::new(name, true, look)
    }

    /// Locks are free, or soon. `take` takes them, on a thread of its own.
    pub(super) fn locks(name: &'static str, take: impl Fn() + Send + Sync + 'static) -> Self {
        let take = Arc::new(take);
        let look = move || -> Look {
            let (taken, waiting) = oneshot::channel();
            let take = Arc::clone(&take);
            let begun = thread::Builder::new().name("watchdog".to_owned()).spawn(move || {
                take();
                // Who waited too long is gone.
                let _ = taken.send(());
            });
            Box::pin(async move { begun.is_ok() && waiting.await.is_ok() })
        };
        Self::new(name, true, look)
    }

    /// NFS answers a call of NULL from this host by UDP. A firewall may be in the way of that: so it counts
    /// only once it was answered.
    pub(super) fn nfs_by_udp(port: u16) -> Self {
        Self::new("NFS by UDP", false, move || -> Look {
            Box::pin(async move { call_null(port).await.is_ok() })
        })
    }

    /// The same by TCP. The connection is kept: nobody who takes all that there are starves the watchdog.
    pub(super) fn nfs_by_tcp(port: u16) -> Self {
        let kept = Arc::new(Mutex::new(None));
        Self::new("NFS by TCP", false, move || -> Look {
            let kept = Arc::clone(&kept);
            Box::pin(async move { call_null_by_tcp(port, &kept).await.is_ok() })
        })
    }

    fn new(
        name: &'static str,
        certain: bool,
        look: impl Fn() -> Look + Send + Sync + 'static,
    ) -> Self {
        Self { name, look: Box::new(look), certain, seen: AtomicBool::new(false) }
    }
}

/// Calls `alive` four times in a period, as long as every sign is seen.
pub(super) async fn feed(signs: &[Sign], period: Duration, alive: impl Fn()) -> Infallible {
    let beat = period / 4;
    let mut beats = time::interval(beat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = false;
    loop {
        beats.tick().await;
        let missing = missing(signs, beat).await;
        if missing.is_empty() {
            alive();
        } else if !told {
            tracing::error!(
                "the server hangs: no sign of life of {} in {} s; if it does not recover, systemd restarts \
                 it",
                missing.join(", "),
                beat.as_secs_f32()
            );
        }
        told = !missing.is_empty();
    }
}

/// The signs that are not seen in time.
async fn missing(signs: &[Sign], limit: Duration) -> Vec<&'static str> {
    let mut looks = JoinSet::new();
    for (number, sign) in signs.iter().enumerate() {
        let look = (sign.look)();
        looks.spawn(async move { (number, time::timeout(limit, look).await == Ok(true)) });
    }
    let mut missing = Vec::new();
    while let Some(looked) = looks.join_next().await {
        let Ok((number, seen)) = looked else { continue };
        let Some(sign) = signs.get(number) else { continue };
        if seen {
            sign.seen.store(true, Ordering::Relaxed);
        } else if sign.certain || sign.seen.load(Ordering::Relaxed) {
            missing.push(sign.name);
        }
    }
    missing.sort_unstable();
    missing
}

/// Calls NULL of NFS version 3 by UDP (RFC 1813 §3.3.0) until it is answered.
async fn call_null(port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
    let mut answer = [0; 64];
    loop {
        socket.send(&NULL).await?;
        if let Ok(answered) = time::timeout(REPEAT, socket.recv(&mut answer)).await {
            return answered.map(drop);
        }
    }
}

/// Calls NULL on the connection that is kept, or on a new one if that was closed.
async fn call_null_by_tcp(port: u16, kept: &Mutex<Option<TcpStream>>) -> io::Result<()> {
    // Who is given up while it waits for an answer leaves none.
    let mut connection = kept.lock().await;
    if let Some(mut stream) = connection.take()
        && exchange(&mut stream).await.is_ok()
    {
        *connection = Some(stream);
        return Ok(());
    }
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    exchange(&mut stream).await?;
    *connection = Some(stream);
    Ok(())
}

/// Sends the call as one record and reads one (RFC 5531 §11).
async fn exchange(stream: &mut TcpStream) -> io::Result<()> {
    let mut record = LAST_FRAGMENT.to_be_bytes().to_vec();
    record.extend_from_slice(&NULL);
    stream.write_all(&record).await?;
    let length = stream.read_u32().await? & !(1 << 31);
    let mut answer = [0; 64];
    let answer = usize::try_from(length).ok().and_then(|length| answer.get_mut(..length));
    stream.read_exact(answer.ok_or(io::ErrorKind::InvalidData)?).await.map(drop)
}

/// The mark of a record of one fragment, as long as the call.
const LAST_FRAGMENT: u32 = 1 << 31 | 40;

/// An RPC call (RFC 5531 §9): its number, CALL, version 2, program, version, procedure, and neither
/// credential nor verifier.
const NULL: [u8; 40] =
    *b"netb\0\0\0\0\0\0\0\x02\0\x01\x86\xa3\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// After how long a call is repeated: a busy server's buffer may be full.
const REPEAT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod test {
    use std::sync::atomic::AtomicU32;
    use std::sync::mpsc;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    const PERIOD: Duration = Duration::from_millis(400);

    fn runtime() -> Runtime {
        Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    /// How often the watchdog was fed in a second of its period.
    fn fed(signs: &[Sign]) -> u32 {
        let times = AtomicU32::new(0);
        let feeding = feed(signs, PERIOD, || {
            times.fetch_add(1, Ordering::Relaxed);
        });
        let _ = runtime().block_on(async { time::timeout(Duration::from_secs(1), feeding).await });
        times.into_inner()
    }

    #[test]
    fn a_runtime_whose_threads_all_hang_starves_the_watchdog() {
        let (files, http) = (runtime(), runtime());
        let signs = || {
            [
                Sign::runtime("files", files.handle().clone()),
                Sign::runtime("HTTP", http.handle().clone()),
            ]
        };
        assert!(fed(&signs()) > 3);
        let (hung, wait) = mpsc::channel();
        let (release, hanging) = mpsc::channel::<()>();
        files.spawn(async move {
            hung.send(()).unwrap();
            hanging.recv()
        });
        wait.recv().unwrap();
        assert_eq!(fed(&signs()), 0);
        drop(release);
        assert!(fed(&signs()) > 3);
    }

    #[test]
    fn a_lock_that_is_never_given_back_starves_the_watchdog() {
        let lock = Arc::new(std::sync::Mutex::new(()));
        let sign = || {
            let lock = Arc::clone(&lock);
            [Sign::locks("boots", move || drop(lock.lock().unwrap()))]
        };
        assert!(fed(&sign()) > 3);
        let held = lock.lock().unwrap();
        assert_eq!(fed(&sign()), 0);
        drop(held);
    }

    #[test]
    fn nfs_counts_from_its_first_answer_on() {
        let server = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let sign = [Sign::nfs_by_udp(server.local_addr().unwrap().port())];
        assert!(fed(&sign) > 3, "it was never answered, and does not count");
        let answering = server.try_clone().unwrap();
        let (stop, stopped) = mpsc::channel::<()>();
        answering.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let thread = thread::spawn(move || {
            while stopped.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
                let mut call = [0; 64];
                if let Ok((length, from)) = answering.recv_from(&mut call) {
                    assert_eq!(call[..length], NULL);
                    answering.send_to(&call[..4], from).unwrap();
                }
            }
        });
        assert!(fed(&sign) > 3);
        drop(stop);
        thread.join().unwrap();
        assert_eq!(fed(&sign), 0);
    }

    #[test]
    fn nfs_by_tcp_keeps_its_connection_and_makes_another_when_that_is_closed() {
        use std::io::{Read as _, Write as _};

        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let sign = [Sign::nfs_by_tcp(server.local_addr().unwrap().port())];
        assert!(fed(&sign) > 3, "it was never answered, and does not count");
        let counts = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let counted = Arc::clone(&counts);
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            for connection in server.incoming() {
                if stopped.try_recv() == Err(mpsc::TryRecvError::Disconnected) {
                    // Whoever connects now is never answered.
                    return (server, connection.unwrap());
                }
                let mut connection = connection.unwrap();
                counted[0].fetch_add(1, Ordering::Relaxed);
                let mut call = [0; 44];
                // Three answers for each connection, and then its end.
                for _ in 0..3 {
                    if connection.read_exact(&mut call).is_err() {
                        break;
                    }
                    assert_eq!((&call[..4], &call[4..]), (&[0x80, 0, 0, 40][..], &NULL[..]));
                    counted[1].fetch_add(1, Ordering::Relaxed);
                    // Who was not answered in time has hung up.
                    let _ = connection.write_all(&[0x80, 0, 0, 4, 1, 2, 3, 4]);
                }
            }
            unreachable!()
        });
        assert!(fed(&sign) > 3);
        let [connections, answers] = [0, 1].map(|of: usize| counts[of].load(Ordering::Relaxed));
        assert!(answers > connections, "{answers} answers on {connections} connections");
        drop(stop);
        // What was kept is answered thrice at most.
        assert!(fed(&sign) <= 3);
        assert_eq!(fed(&sign), 0);
        drop(thread.join());
    }
}
