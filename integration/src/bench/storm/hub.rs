//! DHCP of all machines of a storm by one socket, as they share an interface: answers come by broadcast, and
//! are handed to the machine whose transaction they belong to.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use crate::failure::{During, Failure};
use crate::forged::{self, Answer, Message};
use crate::net::CLIENT_INTERFACE;

/// Who waits for answers.
pub(super) struct Hub {
    socket: UdpSocket,
    waiting: Mutex<HashMap<u32, mpsc::Sender<Answer>>>,
    ended: AtomicBool,
}

impl Hub {
    /// Opens the socket, in the namespace of the calling thread.
    pub(super) fn open() -> Result<Self, Failure> {
        let socket = forged::socket(CLIENT_INTERFACE)?;
        // Machines that share no host lose nothing because others are asking.
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER)
            .map_err(std::io::Error::from)
            .during(WHAT)?;
        socket.set_read_timeout(Some(BEAT)).during(WHAT)?;
        Ok(Self { socket, waiting: Mutex::default(), ended: AtomicBool::new(false) })
    }

    /// Where the answers to a transaction come from now on.
    pub(super) fn listen(&self, xid: u32) -> Receiver<Answer> {
        let (tell, told) = mpsc::channel();
        self.waiting().insert(xid, tell);
        told
    }

    /// Sends a message to everybody.
    pub(super) fn send(&self, message: &Message, xid: u32) -> Result<(), Failure> {
        forged::send(&self.socket, message, xid)
    }

    /// Hands answers out until [`Hub::end`].
    pub(super) fn run(&self) -> Result<(), Failure> {
        let mut bytes = [0; 1500];
        while !self.ended.load(Ordering::Relaxed) {
            let count = match self.socket.recv(&mut bytes) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error).during(WHAT),
            };
            if let Some((xid, answer)) = Answer::decode(bytes.get(..count).unwrap_or_default())
                && let Some(tell) = self.waiting().get(&xid)
            {
                // A machine that has what it wants does not listen any more.
                let _ = tell.send(answer);
            }
        }
        Ok(())
    }

    /// Ends [`Hub::run`].
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<u32, mpsc::Sender<Answer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const WHAT: &str = "DHCP of all machines";
const BEAT: Duration = Duration::from_millis(200);
/// Room for an answer to each of thousands of machines.
const BUFFER: usize = 16 << 20;
