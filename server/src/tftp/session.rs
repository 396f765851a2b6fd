//! One client's request, from opening the file to telling what became of it.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep_until};
use tracing::{debug, error};
use wire::tftp::{ErrorCode, Request};

use super::channel::{Channel, Heard};
use super::terms::Terms;
use super::transfer::{Action, End, Failure, Transfer};
use crate::boot::readahead::ReadAhead;
use crate::boot::{
    Booter, ClientAddress, Denial, Event, FileError, FileProtocol, FileRequest, Stall, Ticket,
    open_when_ready,
};
use crate::clock::Clock;

/// One client's request.
pub(super) struct Session {
    pub(super) booter: Arc<dyn Booter>,
    pub(super) clock: Arc<dyn Clock>,
    /// Who asks.
    pub(super) peer: SocketAddr,
    /// Our own address that was asked, and at which interface.
    pub(super) local: IpAddr,
    pub(super) interface: u32,
    /// Our own port that was asked.
    pub(super) port: u16,
    pub(super) request: Request<'static>,
    /// The most blocks in a window.
    pub(super) window_max: u16,
    /// The same request again; closed when another one takes this one's place.
    pub(super) repeats: mpsc::Receiver<()>,
}

/// A transfer that is over.
struct Outcome {
    end: End,
    /// When the client was last heard of.
    heard: Instant,
    /// Whether the same request came once more and was not answered.
    again: bool,
    /// How far it had come.
    stall: Stall,
    /// The error that the client ended it with.
    error: Option<ErrorCode>,
}

/// A file that is being sent.
struct File {
    reader: ReadAhead,
    len: u64,
    ticket: Ticket,
    told_at: Instant,
}

impl Session {
    /// Carries out the request; returns it if it has to be carried out once more.
    pub(super) async fn run(mut self) -> Option<Self> {
        if self.serve().await { Some(self) } else { None }
    }

    /// Serves the file once; returns whether it was asked for once more meanwhile.
    async fn serve(&mut self) -> bool {
        let mut channel = match Channel::open(self.local, self.interface, self.peer) {
            Ok(channel) => channel,
            Err(error) => {
                // Out of ports or descriptors, or the address has just been taken from us.
                error!(local = %self.local, %error, "cannot open a port for a TFTP transfer");
                return false;
            }
        };
        let opened = self.open().await;
        // Repeated requests that came until now get the answer that follows.
        while self.repeats.try_recv().is_ok() {}
        let mut file = match opened {
            Ok(file) => file,
            Err(error) => {
                let (code, message) = refusal(&error, &self.request.file);
                debug!(peer = %self.peer, file = ?self.name(), message, "TFTP refused");
                if let Some(denial) = Denial::of(&error) {
                    let (name, protocol) = (self.name(), FileProtocol::Tftp);
                    self.report(Event::Denied { name, protocol, denial });
                }
                channel.refuse(code, &message).await;
                return false;
            }
        };
        let block_max = channel.block_max();
        let terms = Terms::agree(&self.request.options, file.len, block_max, self.window_max);
        let outcome = self.transfer(&mut channel, &mut file, terms).await;
        self.report_end(&file, &outcome, channel.has_no_room());
        // A client breaks off and asks again at once; the request may have been taken for a repeated
        // one before we heard that it broke off.
        self.repeats.close();
        outcome.again || self.repeats.try_recv().is_ok()
    }

    async fn open(&self) -> Result<File, FileError> {
        let (booter, now) = (Arc::clone(&self.booter), self.clock.now());
        let (peer, local, port) = (self.peer.ip().to_canonical(), self.local, self.port);
        let name = unix_name(&self.request.file);
        open_when_ready(move |waited| {
            let protocol = FileProtocol::Tftp;
            let request = FileRequest { peer, local, port, protocol, waited, name: &name };
            let file = booter.open(&request)?;
            let reader = ReadAhead::new(&file).and_then(|mut reader| {
                reader.fill(0)?;
                Ok(reader)
            });
            let reader = reader.map_err(|error| {
                debug!(?name, %error, "boot file cannot be read");
                FileError::Io
            })?;
            Ok(File { reader, len: file.len, ticket: file.ticket, told_at: now })
        })
        .await
    }

    async fn transfer(&mut self, channel: &mut Channel, file: &mut File, terms: Terms) -> Outcome {
        let (mut transfer, mut action) = Transfer::begin(terms, self.clock.now());
        let mut timer = Box::pin(sleep_until(transfer.deadline().into()));
        // The same request came once more; what the client sent before it has to be heard first.
        let (mut again, mut error) = (false, None);
        let (mut heard, mut delivered) = (self.clock.now(), transfer.delivered());
        loop {
            match action {
                Action::Wait => {}
                Action::Oack => channel.agree(&terms).await,
                Action::Send(blocks) => {
                    let range = terms.offset(blocks.start)..terms.offset(blocks.end);
                    match file.reader.hold(range).await {
                        Ok(data) => {
                            channel.send_blocks(blocks, data, terms.block_size.get()).await;
                        }
                        Err(unread) => {
                            debug!(file = ?self.name(), error = %unread, "boot file cannot be read");
                            let (code, message) = refusal(&FileError::Io, &self.request.file);
                            channel.refuse(code, &message).await;
                            let end = End::Failed(Failure::File);
                            return Outcome { end, heard, again, stall: transfer.stall(), error };
                        }
                    }
                    self.report_progress(file, transfer.delivered());
                    if transfer.delivered() != delivered {
                        // Later than what was reported of this file.
                        (heard, delivered) = (self.clock.now(), transfer.delivered());
                    }
                }
                Action::End(end) => {
                    return Outcome { end, heard, again, stall: transfer.stall(), error };
                }
            }
            if again {
                action = match channel.heard_before().await {
                    Some(heard) => {
                        error = error.or_else(|| heard.error());
                        react(&mut transfer, heard, self.clock.now())
                    }
                    None => {
                        again = false;
                        transfer.repeat(self.clock.now())
                    }
                };
                if matches!(action, Action::End(_)) {
                    again = true;
                }
                continue;
            }
            rewind(&mut timer, transfer.deadline());
            action = tokio::select! {
                biased;
                heard = channel.hear() => {
                    error = error.or_else(|| heard.error());
                    let action = react(&mut transfer, heard, self.clock.now());
                    // Noise must not keep the timer from its work.
                    if action == Action::Wait { transfer.expire(self.clock.now()) } else { action }
                }
                repeat = self.repeats.recv() => match repeat {
                    Some(()) => {
                        again = true;
                        Action::Wait
                    }
                    None => transfer.replace(),
                },
                () = &mut timer => transfer.expire(self.clock.now()),
            };
        }
    }

    /// The file's name as text, for people.
    fn name(&self) -> String {
        String::from_utf8_lossy(&self.request.file).into_owned()
    }

    fn report(&self, event: Event) {
        self.booter.report(ClientAddress::Ip(self.peer.ip().to_canonical()), event);
    }

    fn sent(&self, file: &File, bytes: u64) -> Event {
        let (ticket, name, total) = (file.ticket, self.name(), file.len);
        Event::Sent { ticket, name, bytes, total, protocol: FileProtocol::Tftp }
    }

    fn report_progress(&self, file: &mut File, bytes: u64) {
        let now = self.clock.now();
        // The whole length is told once, and only when the last block was acknowledged too.
        if bytes > 0
            && bytes < file.len
            && now.saturating_duration_since(file.told_at) >= PROGRESS_PERIOD
        {
            file.told_at = now;
            self.report(self.sent(file, bytes));
        }
    }

    fn report_end(&self, file: &File, outcome: &Outcome, has_no_room: bool) {
        let Outcome { end, heard, stall, error, .. } = *outcome;
        debug!(peer = %self.peer, file = ?self.name(), ?end, "TFTP transfer");
        match end {
            End::Delivered => self.report(self.sent(file, file.len)),
            End::Probed => {
                if let Some(ErrorCode(code)) = error {
                    self.report(Event::TermsRefused { name: self.name(), code });
                }
                self.report(Event::Probed(file.ticket));
            }
            End::Abandoned => {}
            End::Failed(Failure::Silent) if has_no_room => {
                let reason = "this host's table of neighbours (ARP) has no room for it".to_owned();
                self.report(Event::Failed { name: self.name(), reason });
            }
            End::Failed(Failure::Silent) => {
                self.report(Event::Abandoned { name: self.name(), since: heard, stall });
            }
            End::Failed(failure) => {
                self.report(Event::Failed { name: self.name(), reason: failure.to_string() });
            }
        }
    }
}

/// What a packet means to a transfer.
fn react(transfer: &mut Transfer, heard: Heard, now: Instant) -> Action {
    match heard {
        Heard::Ack(block) => transfer.acknowledge(block, now),
        Heard::Error(code) => transfer.client_error(code),
        Heard::Noise => Action::Wait,
        Heard::Unreachable => transfer.unreachable(),
    }
}

/// What a client is told, on its screen, when there is no file for it.
fn refusal(error: &FileError, file: &[u8]) -> (ErrorCode, String) {
    let shown = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '?' };
    let name: String = file.iter().map(shown).take(NAME_SHOWN).collect();
    match error {
        // Never code 0: FreeBSD's loader takes it for a directory, and success.
        FileError::NotFound => {
            (ErrorCode::FILE_NOT_FOUND, format!("no file {name} for this machine"))
        }
        FileError::Refused(reason) => {
            let reason = reason.chars().take(REASON_SHOWN).collect();
            (ErrorCode::ACCESS_VIOLATION, reason)
        }
        FileError::Waiting(_) => {
            (ErrorCode::ACCESS_VIOLATION, format!("{name} is still being made"))
        }
        FileError::Io => (ErrorCode::ACCESS_VIOLATION, format!("the server cannot read {name}")),
    }
}

/// A name with the separators that everybody else uses; some ROMs write them as DOS did.
fn unix_name(name: &[u8]) -> Vec<u8> {
    name.iter().map(|&byte| if byte == b'\\' { b'/' } else { byte }).collect()
}

/// Sets the timer, but not to a later time: that it then goes off early costs less than to move it
/// with every packet.
fn rewind(timer: &mut Pin<Box<Sleep>>, deadline: Instant) {
    if timer.is_elapsed() || deadline < timer.deadline().into_std() {
        timer.as_mut().reset(deadline.into());
    }
}

/// How often progress is told at most.
const PROGRESS_PERIOD: Duration = Duration::from_millis(300);

/// Characters of a file name in an error message, so that it fits on a line.
const NAME_SHOWN: usize = 60;

/// Characters of a reason in an error message; firmware cuts longer ones.
const REASON_SHOWN: usize = 100;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_missing_file_is_never_error_0() {
        let (code, message) = refusal(&FileError::NotFound, b"boot\x1b[2J\xff.efi");
        assert_eq!(code, ErrorCode::FILE_NOT_FOUND);
        assert_eq!(message, "no file boot?[2J?.efi for this machine");
    }

    #[test]
    fn an_error_message_stays_short() {
        for error in [FileError::NotFound, FileError::Refused("x".repeat(500)), FileError::Io] {
            assert!(refusal(&error, &[b'a'; 1400]).1.len() <= 100);
        }
    }

    #[test]
    fn dos_separators_are_turned() {
        assert_eq!(unix_name(b"\\boot\\x.efi"), b"/boot/x.efi");
    }
}
