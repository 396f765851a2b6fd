//! One transfer, as the server sees it: RFC 1350 with windows (RFC 7440).
//!
//! No sockets, no clock, no file: packets, the time and what ended are arguments, and an [`Action`]
//! says what to do. Blocks are counted from 1 in 64 bits here; on the wire they wrap.
//!
//! RFC 1350's retransmission on a duplicate ACK is not done (the Sorcerer's Apprentice, RFC 1123
//! §4.2.3.1). In a window it has to be done once, because a client that missed the first block of a
//! window can only repeat the ACK before it.

use std::ops::Range;
use std::time::{Duration, Instant};

use wire::tftp::ErrorCode;

use super::terms::Terms;
use crate::boot::Stall;

/// The state of one transfer.
#[derive(Debug)]
pub(super) struct Transfer {
    terms: Terms,
    phase: Phase,
    /// The first block that was not acknowledged.
    base: u64,
    /// How often the OACK or the present window went out.
    copies: u32,
    /// Whether the window before went out more than once: then an ACK of it may come twice and says
    /// nothing about the present one.
    wary: bool,
    /// ACKs in a row that came from inside a window.
    partial: u32,
    /// Whether the client ever answered, which a forged source address cannot.
    confirmed: bool,
    sent_at: Instant,
    progress_at: Instant,
    deadline: Instant,
    pace: Pace,
    /// Deadlines that passed since the last progress.
    expired: u32,
}

/// What the transfer waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// ACK 0 in answer to the OACK.
    Agreement,
    /// ACKs of blocks.
    Blocks,
}

/// What to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
#[must_use]
pub(super) enum Action {
    /// Wait for a packet or the deadline.
    Wait,
    /// Send the OACK, then wait.
    Oack,
    /// Send these blocks, then wait.
    Send(Range<u64>),
    /// It is over, and nothing is to be sent.
    End(End),
}

/// How a transfer ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// The client has the file, or all of it was sent and only the last ACK never came.
    Delivered,
    /// The client wanted to know the size, or whether there is such a file.
    Probed,
    /// The client gave up the transfer; FreeBSD's loader does when it seeks backwards or closes early.
    Abandoned,
    /// The client did not get the file.
    Failed(Failure),
}

/// Why a client did not get a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Failure {
    /// It reported an error of its own.
    #[error("{}", told(*.0))]
    Client(ErrorCode),
    /// The host could not read it any more, or it became shorter than the client was told.
    #[error("the file could not be read to its end")]
    File,
    /// Nothing came from it for too long.
    #[error("the client stopped answering")]
    Silent,
    /// Its host said that nobody listens any more.
    #[error("the client went away")]
    Unreachable,
}

/// A client's error in words (RFC 1350, "Error Codes").
fn told(ErrorCode(code): ErrorCode) -> String {
    match code {
        3 => "the client has no room for it (TFTP ERROR 3)".to_owned(),
        8 => "the client refused the terms of the transfer (TFTP ERROR 8)".to_owned(),
        code => format!("the client ended the transfer with TFTP ERROR {code}"),
    }
}

impl Transfer {
    /// Begins a transfer; the action is its first packet.
    pub(super) fn begin(terms: Terms, now: Instant) -> (Self, Action) {
        let mut transfer = Self {
            phase: if terms.granted.is_empty() { Phase::Blocks } else { Phase::Agreement },
            base: 1,
            copies: 0,
            wary: false,
            partial: 0,
            confirmed: false,
            sent_at: now,
            progress_at: now,
            deadline: now,
            pace: Pace::new(terms.granted.timeout, terms.window),
            expired: 0,
            terms,
        };
        let action = transfer.send(now);
        (transfer, action)
    }

    /// When [`Transfer::expire`] is to be called unless something else happens before.
    pub(super) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Bytes that the client has acknowledged.
    pub(super) fn delivered(&self) -> u64 {
        self.terms.offset(self.base)
    }

    /// How far it has come, for whoever asks why it did not end well.
    pub(super) fn stall(&self) -> Stall {
        match self.phase {
            Phase::Agreement => Stall::Terms,
            Phase::Blocks if self.is_early() => Stall::FirstBlock(self.terms.block_size.get()),
            Phase::Blocks => Stall::Midway(self.delivered()),
        }
    }

    /// The client acknowledged a block.
    pub(super) fn acknowledge(&mut self, block: u16, now: Instant) -> Action {
        match self.phase {
            Phase::Agreement if block == 0 => {
                self.phase = Phase::Blocks;
                self.advance(0, true, now)
            }
            Phase::Agreement => Action::Wait,
            Phase::Blocks => {
                // How far beyond the block before the window; old ACKs come out huge.
                let before = self.base.wrapping_sub(1);
                let step = u64::from(block.wrapping_sub(wire_number(before)));
                let end = self.window().end;
                if step == 0 {
                    self.repeated_ack(now)
                } else if before.saturating_add(step) < end {
                    let whole = before.saturating_add(step).saturating_add(1) == end;
                    self.advance(step, whole, now)
                } else {
                    Action::Wait
                }
            }
        }
    }

    /// The client sent an ERROR, which is never answered (RFC 1350 §7).
    pub(super) const fn client_error(&self, code: ErrorCode) -> Action {
        // PXE ROMs ask for a file's size with `tsize` and refuse the OACK with error 8 or 0; those
        // that do not know `tsize` break off at block 1.
        if self.is_early() && (code.0 == 0 || code.0 == ErrorCode::OPTION_NEGOTIATION.0) {
            return Action::End(End::Probed);
        }
        Action::End(match code {
            // FreeBSD's loader closes with "No error: file closed" instead of the last ACK.
            ErrorCode::NOT_DEFINED if self.is_last() => End::Delivered,
            ErrorCode::NOT_DEFINED => End::Abandoned,
            ErrorCode(_) => End::Failed(Failure::Client(code)),
        })
    }

    /// The client's host refuses our packets.
    pub(super) const fn unreachable(&self) -> Action {
        if self.is_last() {
            Action::End(End::Delivered)
        } else if self.is_early() {
            Action::End(End::Abandoned)
        } else {
            Action::End(End::Failed(Failure::Unreachable))
        }
    }

    /// The client sent its request once more, from the same port and word for word.
    ///
    /// As long as it has no block it did not hear the answer, which is given again. Later it is a
    /// new transfer, and [`End`] says how this one ended.
    pub(super) fn repeat(&mut self, now: Instant) -> Action {
        if !self.is_early() {
            return self.replace();
        }
        if !self.terms.granted.is_empty() {
            self.phase = Phase::Agreement;
        }
        self.send(now)
    }

    /// The client sent another request from the same port, so it has no use for this transfer.
    ///
    /// FreeBSD's loader uses the same port for all files that it opens within a second, and ends
    /// transfers without an ERROR, some without the ACK of the last block.
    pub(super) const fn replace(&self) -> Action {
        if self.is_last() {
            Action::End(End::Delivered)
        } else if self.is_early() {
            Action::End(End::Probed)
        } else {
            Action::End(End::Abandoned)
        }
    }

    /// The deadline may have passed.
    pub(super) fn expire(&mut self, now: Instant) -> Action {
        if now < self.deadline {
            return Action::Wait;
        }
        self.expired = self.expired.saturating_add(1);
        let timed_out = now.duration_since(self.progress_at) >= PROGRESS_TIMEOUT;
        // Some clients never acknowledge the last block: that is no news, and not worth the time.
        let waited = now.duration_since(self.progress_at) >= LAST_ACK_TIMEOUT;
        if self.is_last() && (timed_out || (waited && self.expired > RETRANSMISSIONS_LAST)) {
            return Action::End(End::Delivered);
        }
        // Who asked without options gets data for a datagram that anybody can forge: it is not sent
        // again unless it is asked for again, as every client does that misses it.
        if !self.confirmed && self.phase == Phase::Blocks && !timed_out {
            self.deadline = self.progress_at + PROGRESS_TIMEOUT;
            return Action::Wait;
        }
        // To a source address that may be forged, the server must not send without end.
        let unproven = !self.confirmed && self.expired > RETRANSMISSIONS_UNCONFIRMED;
        if timed_out || unproven {
            return Action::End(End::Failed(Failure::Silent));
        }
        self.pace.slow_down();
        self.send(now)
    }

    /// The client repeats the ACK before the window.
    ///
    /// In lockstep it is ignored (RFC 1123 §4.2.3.1). In a window its first block was lost, unless the ACK is an echo
    /// of a window that went out twice. The window is sent again at once, but only once: whoever
    /// repeats ACKs must not make us send more than the timer would.
    fn repeated_ack(&mut self, now: Instant) -> Action {
        if self.terms.window == 1 || self.wary || self.copies != 1 {
            return Action::Wait;
        }
        self.send(now)
    }

    /// Moves the window `step` blocks on and sends it.
    ///
    /// An ACK from inside the window means a gap, and everything after it is sent again (RFC 7440
    /// §4). It is different after a window went out twice and the client had half of it: it then
    /// counts its windows from elsewhere, every ACK comes from inside ours, and everything would go
    /// out twice from then on. So from time to time only what is new is sent, which brings both into
    /// step. Where there is a gap after all, the client repeats its ACK, or the timer repairs it.
    fn advance(&mut self, step: u64, whole: bool, now: Instant) -> Action {
        match (self.copies, whole) {
            (1, true) => self.pace.measured(now.duration_since(self.sent_at)),
            (1, false) => self.pace.speed_up(),
            // An ACK of what went out twice tells nothing about the time it took (RFC 6298 §3), and the
            // timer stays as long as it has become until one does (§5.7): a client that grew slower would have
            // everything twice for ever.
            _ => {}
        }
        let known = self.window().end;
        self.partial = if whole { 0 } else { self.partial.saturating_add(1) };
        self.base = self.base.saturating_add(step);
        self.wary = self.copies > 1;
        self.copies = 0;
        self.confirmed = true;
        self.progress_at = now;
        self.expired = 0;
        if self.base > self.terms.last_block() {
            return Action::End(End::Delivered);
        }
        let action = self.send(now);
        if self.partial >= PARTIAL_MAX && known < self.window().end {
            self.partial = 0;
            return Action::Send(known..self.window().end);
        }
        action
    }

    fn send(&mut self, now: Instant) -> Action {
        self.copies = self.copies.saturating_add(1);
        self.sent_at = now;
        self.deadline = now + self.pace.timeout();
        match self.phase {
            Phase::Agreement => Action::Oack,
            Phase::Blocks => Action::Send(self.window()),
        }
    }

    fn window(&self) -> Range<u64> {
        let end = self.base.saturating_add(u64::from(self.terms.window));
        self.base..end.min(self.terms.last_block().saturating_add(1))
    }

    /// Whether the client has no block yet.
    const fn is_early(&self) -> bool {
        self.base == 1
    }

    /// Whether only the last block's ACK is missing, from a client that answered before.
    const fn is_last(&self) -> bool {
        let all_sent = matches!(self.phase, Phase::Blocks) && self.base == self.terms.last_block();
        self.confirmed && all_sent
    }
}

/// A block's number on the wire, where 0 follows 65535.
pub(super) fn wire_number(block: u64) -> u16 {
    let [.., high, low] = block.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// How long to wait for an ACK (RFC 6298, with bounds that suit firmware).
#[derive(Debug)]
struct Pace {
    smoothed: Option<(Duration, Duration)>,
    timeout: Duration,
    floor: Duration,
    cap: Duration,
}

impl Pace {
    /// `asked` is the client's `timeout` option in seconds: it wants to hear from us so often.
    fn new(asked: Option<u8>, window: u16) -> Self {
        let asked = asked.map_or(TIMEOUT_MAX, |seconds| Duration::from_secs(u64::from(seconds)));
        let floor = if window == 1 { TIMEOUT_MIN } else { TIMEOUT_MIN_WINDOW };
        Self { smoothed: None, timeout: TIMEOUT_FIRST, floor, cap: asked.min(TIMEOUT_MAX) }
    }

    fn timeout(&self) -> Duration {
        self.timeout.clamp(self.floor, self.cap)
    }

    /// An answer took this long.
    fn measured(&mut self, took: Duration) {
        let (mean, deviation) = match self.smoothed {
            None => (took, took / 2),
            Some((mean, deviation)) => {
                ((mean * 7 + took) / 8, (deviation * 3 + mean.abs_diff(took)) / 4)
            }
        };
        self.smoothed = Some((mean, deviation));
        self.timeout = mean + deviation * 4;
    }

    fn slow_down(&mut self) {
        self.timeout = (self.timeout() * 2).min(TIMEOUT_MAX);
    }

    fn speed_up(&mut self) {
        self.timeout = self.timeout() / 2;
    }
}

const TIMEOUT_FIRST: Duration = Duration::from_millis(500);

/// In lockstep: a block that a slow ROM has twice costs nothing, as nobody answers the second ACK.
const TIMEOUT_MIN: Duration = Duration::from_millis(10);

/// In a window, whose blocks all go out again: a ROM that writes to slow memory or draws on its screen is
/// not gone. A gap inside a window is told by its client at once (RFC 7440 §4); this is for a lost ACK.
const TIMEOUT_MIN_WINDOW: Duration = Duration::from_millis(50);

const TIMEOUT_MAX: Duration = Duration::from_secs(8);

/// Without progress for so long, a transfer fails.
const PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);

/// To a client that never answered.
const RETRANSMISSIONS_UNCONFIRMED: u32 = 5;

/// ACKs in a row from inside a window that are taken for gaps.
const PARTIAL_MAX: u32 = 3;

/// Of the last block, at least so many, for at least so long: a link may be down for some seconds.
const RETRANSMISSIONS_LAST: u32 = 4;
const LAST_ACK_TIMEOUT: Duration = Duration::from_secs(6);

#[cfg(test)]
mod test;
