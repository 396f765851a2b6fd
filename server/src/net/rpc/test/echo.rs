//! A program that shows how a call went.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use uuid::Uuid;
use wire::xdr::{Decoder, Encoder};

use super::BACK;
use crate::net::rpc::{Call, Ended, Outcome, Parked, Program, Progress, Sink};
use crate::net::sys::pipe::Pipe;

/// The number of [`Echo`].
pub(in crate::net::rpc) const PROGRAM: u32 = 0x2000_0001;

/// A program that shows how a call went.
#[derive(Debug, Default)]
pub(in crate::net::rpc) struct Echo {
    count: AtomicU32,
    gate: Arc<Gate>,
    pub(super) kept: Arc<Mutex<Vec<Sink>>>,
}

/// What calls wait at until it is opened.
#[derive(Debug, Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
    passed: AtomicU32,
}

impl Gate {
    fn pass(&self) {
        let open = self.open.lock().unwrap();
        drop(self.opened.wait_while(open, |open| !*open).unwrap());
        self.passed.fetch_add(1, Ordering::SeqCst);
    }
}

impl Echo {
    /// Returns its arguments.
    pub(in crate::net::rpc) const ECHO: u32 = 1;
    /// Must not run twice; returns how often it ran.
    pub(in crate::net::rpc) const COUNT: u32 = 2;
    /// Panics.
    pub(in crate::net::rpc) const PANIC: u32 = 3;
    /// Must not run twice; waits on the pool until the gate is open, then echoes and counts.
    pub(in crate::net::rpc) const GATE: u32 = 4;
    /// Returns as many zeros as its argument says.
    pub(in crate::net::rpc) const ZEROS: u32 = 5;
    /// Wants exactly one word.
    pub(in crate::net::rpc) const ONE_WORD: u32 = 6;
    /// As `ECHO`, on the pool.
    pub(in crate::net::rpc) const LATER: u32 = 7;
    /// As `GATE`, and may run twice.
    pub(in crate::net::rpc) const HANG: u32 = 8;
    /// Is answered by the next `RELEASE`, with its arguments.
    pub(in crate::net::rpc) const KEEP: u32 = 9;
    pub(in crate::net::rpc) const RELEASE: u32 = 10;
    /// Calls its caller back with its arguments, and answers with the results.
    pub(in crate::net::rpc) const ASK_BACK: u32 = 11;
    /// Returns as many bytes as its first argument says, by a pipe; on the pool, if its second is not 0.
    pub(in crate::net::rpc) const PIPED: u32 = 12;

    /// How often something was carried out.
    pub(in crate::net::rpc) fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst) + self.gate.passed.load(Ordering::SeqCst)
    }

    pub(in crate::net::rpc) fn open(&self) {
        *self.gate.open.lock().unwrap() = true;
        self.gate.opened.notify_all();
    }
}

impl Program for Echo {
    fn number(&self) -> u32 {
        PROGRAM
    }

    fn versions(&self) -> &'static [u32] {
        &[2, 4]
    }

    fn keeps_reply(&self, call: &Call<'_>) -> bool {
        call.procedure == Self::COUNT || call.procedure == Self::GATE
    }

    fn call(&self, call: &Call<'_>, reply: &mut Vec<u8>) -> Progress {
        match call.procedure {
            0 => {}
            Self::ECHO => reply.extend_from_slice(call.args),
            Self::COUNT => {
                let count = self.count.fetch_add(1, Ordering::SeqCst) + 1;
                Encoder::new(reply).u32(count);
            }
            Self::PANIC => panic!("on purpose"),
            Self::GATE | Self::HANG => {
                let gate = Arc::clone(&self.gate);
                return Progress::Park(Parked::new(class(call.args), move |call, reply| {
                    gate.pass();
                    reply.extend_from_slice(call.args);
                    Outcome::Success
                }));
            }
            Self::LATER => {
                return Progress::Park(Parked::new(class(call.args), |call, reply| {
                    reply.extend_from_slice(call.args);
                    Outcome::Success
                }));
            }
            Self::KEEP => {
                let kept = Arc::clone(&self.kept);
                return Progress::later(move |sink| kept.lock().unwrap().push(sink));
            }
            Self::RELEASE => {
                for sink in self.kept.lock().unwrap().drain(..) {
                    sink.reply(Outcome::Success, call.args);
                }
            }
            Self::ASK_BACK => {
                let (back, args) = (call.back.clone().unwrap(), call.args.to_vec());
                return Progress::later(move |sink| {
                    tokio::spawn(async move {
                        match back.call_back(PROGRAM, 7, 8, &args, BACK).await {
                            Ok(results) => sink.reply(Outcome::Success, &results),
                            Err(error) => sink.reply(Outcome::Success, &[error as u8, 0, 0, 0]),
                        }
                    });
                });
            }
            Self::ZEROS => {
                let Ok(len) = Decoder::new(call.args).u32() else {
                    return Outcome::GarbageArgs.into();
                };
                reply.resize(reply.len() + usize::try_from(len).unwrap().min(1 << 20), 0);
            }
            Self::PIPED => {
                let mut args = Decoder::new(call.args);
                let (len, waits) = (args.u32().unwrap(), args.u32().unwrap() != 0);
                let len = usize::try_from(len).unwrap().min(1 << 20);
                let work = move |reply: &mut Vec<u8>| {
                    Encoder::new(reply).u32(u32::try_from(len).unwrap());
                    piped(len, reply)
                };
                return match waits {
                    true => Progress::Park(Parked::new(None, move |_, reply| work(reply))),
                    false => work(reply).into(),
                };
            }
            Self::ONE_WORD => {
                let mut args = Decoder::new(call.args);
                let Ok(word) = args.u32() else { return Outcome::GarbageArgs.into() };
                if args.end().is_err() {
                    return Outcome::GarbageArgs.into();
                }
                Encoder::new(reply).u32(word);
            }
            _ => return Outcome::ProcUnavail.into(),
        }
        Outcome::Success.into()
    }
}

/// Ends results with so many bytes, by a pipe where there are such.
fn piped(len: usize, reply: &mut Vec<u8>) -> Ended {
    let bytes = pattern(len);
    let Some(mut pipe) = Pipe::for_range(0, len) else {
        Encoder::new(reply).fixed(&bytes);
        return Outcome::Success.into();
    };
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let wrote = rustix::io::write(pipe.writer().unwrap(), rest).unwrap();
        pipe.put(wrote);
        rest = &rest[wrote..];
    }
    Ended::piped(pipe)
}

/// Bytes that tell their place.
pub(in crate::net::rpc) fn pattern(len: usize) -> Vec<u8> {
    (0..=250).cycle().take(len).collect()
}

/// The class of a call: arguments that begin with the same word belong together.
fn class(args: &[u8]) -> Option<Uuid> {
    Decoder::new(args).u32().ok().map(|word| Uuid::from_u128(word.into()))
}
