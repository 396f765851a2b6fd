//! What diskless machines say: a receiver of syslog (RFC 5424, RFC 3164, over UDP as in RFC 5426) and of
//! Linux's netconsole, which keeps it by machine and boot.
//!
//! UDP port 514 takes both. Only what comes from the address of a machine that boots from here is kept, in
//! bounds for each machine and in all; nothing of it is obeyed, by netbe or by a terminal. The source of a
//! datagram can be forged by whoever is in the machine's network: it is a word, and no proof.

mod keep;
mod message;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use keep::Keeper;
pub use keep::{Said, read, remove, rename};
use message::parse;

use crate::boot::{Booter as _, Boots, ClientAddress, Event};
use crate::clock::Clock;
use crate::net::datagram::Datagrams;

/// Keeps what machines say in the state directory.
pub struct Console {
    boots: Arc<Boots>,
    clock: Arc<dyn Clock>,
    keeper: Keeper,
}

impl Console {
    /// Starts the thread that writes.
    ///
    /// # Errors
    ///
    /// The system gives no thread.
    pub fn start(state: PathBuf, boots: Arc<Boots>, clock: Arc<dyn Clock>) -> io::Result<Self> {
        Ok(Self { boots, clock, keeper: Keeper::start(state)? })
    }

    /// Receives datagrams, for ever.
    ///
    /// # Errors
    ///
    /// The socket is broken.
    pub async fn serve(self: Arc<Self>, socket: Datagrams) -> io::Result<()> {
        let mut datagram = [0; DATAGRAM];
        loop {
            let received = socket.recv(&mut datagram).await?;
            let said = datagram.get(..received.len).unwrap_or_default();
            self.take(received.peer.ip().to_canonical(), said);
        }
    }

    /// Takes what came from an address, if that is a machine's.
    fn take(&self, address: IpAddr, datagram: &[u8]) {
        let Some((machine, boot)) = self.boots.who_is_at(address) else { return };
        let at = self.clock.wall();
        let mut has_panicked = false;
        for line in parse(datagram) {
            // A kernel stops once, whatever a program of the machine pretends.
            if line.is_panic() && !has_panicked {
                has_panicked = true;
                let text = line.text.clone();
                self.boots.report(ClientAddress::Ip(address), Event::Panicked(text));
            }
            let (severity, program, text) = (line.severity, line.program, line.text);
            self.keeper.keep(Said { at, machine: machine.clone(), boot, severity, program, text });
        }
    }
}

/// The port of syslog (RFC 5426 §3.3).
pub const PORT: u16 = 514;

/// The largest datagram that is read whole (RFC 5426 §3.2 asks for 2048 at least).
const DATAGRAM: usize = 8192;
