//! The Network Lock Manager (RFC 1813 §6), of which there is no more than the word no.
//!
//! A client that finds no lock manager asks the port mapper for one for ever, and the program that
//! wants a lock hangs with it. So each call for a lock is answered at once: the server has none to
//! give, which programs are told as ENOLCK. Nothing is kept, and no file handle is looked at.
//!
//! A call by a name with `_MSG` is to be answered by a call to the lock manager of whoever sent it, and
//! is refused: whoever writes another's address into a datagram must not have netbe call there.

use std::sync::atomic::{AtomicBool, Ordering};

use wire::codec::Codec as _;
use wire::nlm::{Cookie, PROGRAM, Procedure, Res, ShareRes, Stat, VERSION_1, VERSION_3, VERSION_4};
use wire::xdr::{Decoder, Encoder};

use crate::net::rpc::{Call, Outcome, Program, Progress};

/// The program 100021.
#[derive(Debug, Default)]
pub struct Nlm {
    told: AtomicBool,
}

impl Nlm {
    fn answer(&self, call: &Call<'_>, reply: &mut Vec<u8>) -> Outcome {
        let Some(procedure) = Procedure::from_number(call.version, call.procedure) else {
            return Outcome::ProcUnavail;
        };
        let stat = match procedure {
            Procedure::Null | Procedure::FreeAll => return Outcome::Success,
            Procedure::Test | Procedure::Lock | Procedure::NmLock | Procedure::Share => {
                self.tell(call);
                Stat::DeniedNoLocks
            }
            // No call waits here that could be taken back, and we have asked nobody for a lock. Linux
            // repeats a CANCEL that is told of no locks, half a minute later.
            Procedure::Cancel | Procedure::Granted => Stat::Denied,
            // What the caller does not want to have he does not have.
            Procedure::Unlock | Procedure::Unshare => Stat::Granted,
            Procedure::TestMsg
            | Procedure::LockMsg
            | Procedure::CancelMsg
            | Procedure::UnlockMsg
            | Procedure::GrantedMsg => return Outcome::ProcUnavail,
            // We send no calls that these would answer.
            Procedure::TestRes
            | Procedure::LockRes
            | Procedure::CancelRes
            | Procedure::UnlockRes
            | Procedure::GrantedRes => return Outcome::ProcUnavail,
        };
        let Ok(cookie) = Cookie::decode(&mut Decoder::new(call.args)) else {
            return Outcome::GarbageArgs;
        };
        let mut out = Encoder::new(reply);
        if matches!(procedure, Procedure::Share | Procedure::Unshare) {
            ShareRes { cookie, stat, sequence: 0 }.encode(&mut out);
        } else {
            Res { cookie, stat }.encode(&mut out);
        }
        Outcome::Success
    }

    /// Says once what a client can do about it.
    fn tell(&self, call: &Call<'_>) {
        if !self.told.swap(true, Ordering::Relaxed) {
            tracing::info!(
                "{} asks for a lock, but netbe has no locks: mount with nolock (Linux) or nolockd \
                 (FreeBSD), which keep locks on the machine itself",
                call.peer.ip().to_canonical(),
            );
        }
    }
}

impl Program for Nlm {
    fn number(&self) -> u32 {
        PROGRAM
    }

    /// Version 4 goes with NFS version 3; the older ones are asked for by clients that do without it.
    fn versions(&self) -> &'static [u32] {
        &[VERSION_1, VERSION_3, VERSION_4]
    }

    fn call(&self, call: &Call<'_>, reply: &mut Vec<u8>) -> Progress {
        self.answer(call, reply).into()
    }
}

#[cfg(test)]
mod test {
    use hex_literal::hex;
    use proptest::prelude::*;

    use super::*;
    use crate::nfs::export::bench::{Client, STRANGER};

    /// A cookie of four bytes, and the beginning of what follows it.
    const ARGS: [u8; 16] = hex!("00000004 cafe0001 00000001 00000001");

    fn results(version: u32, procedure: u32) -> Vec<u8> {
        let (outcome, results) =
            Client::at(STRANGER).call(&Nlm::default(), version, procedure, &ARGS);
        assert_eq!(outcome, Outcome::Success, "version {version}, procedure {procedure}");
        results
    }

    #[test]
    fn every_call_for_a_lock_is_told_at_once_that_there_are_none() {
        for version in [1, 3, 4] {
            for procedure in [1, 2] {
                assert_eq!(results(version, procedure), hex!("00000004 cafe0001 00000002"));
            }
        }
        for version in [3, 4] {
            assert_eq!(results(version, 20), hex!("00000004 cafe0001 00000002 00000000"));
            assert_eq!(results(version, 22), hex!("00000004 cafe0001 00000002"));
        }
    }

    #[test]
    fn what_gives_a_lock_back_succeeds() {
        for version in [1, 3, 4] {
            assert_eq!(results(version, 4), hex!("00000004 cafe0001 00000000"));
        }
        for version in [3, 4] {
            assert_eq!(results(version, 21), hex!("00000004 cafe0001 00000000 00000000"));
            assert_eq!(results(version, 23), b"");
        }
    }

    #[test]
    fn a_cancel_is_not_told_of_no_locks_which_linux_would_repeat() {
        for version in [1, 3, 4] {
            for procedure in [3, 5] {
                assert_eq!(results(version, procedure), hex!("00000004 cafe0001 00000001"));
            }
            assert_eq!(results(version, 0), b"");
        }
    }

    #[test]
    fn nobody_is_called_for_somebody_else() {
        for version in [1, 3, 4] {
            for procedure in 6..20 {
                let (outcome, _) =
                    Client::at(STRANGER).call(&Nlm::default(), version, procedure, &ARGS);
                assert_eq!(outcome, Outcome::ProcUnavail, "{procedure}");
            }
        }
        for procedure in 20..25 {
            let (outcome, _) = Client::at(STRANGER).call(&Nlm::default(), 1, procedure, &ARGS);
            assert_eq!(outcome, Outcome::ProcUnavail, "{procedure}");
        }
    }

    proptest! {
        #[test]
        fn a_lock_call_of_any_bytes_brings_no_more_than_it_has(
            version in proptest::sample::select(&[1, 3, 4][..]),
            procedure in 0_u32..30,
            args in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let client = Client::at(STRANGER).udp();
            let (_, reply) = client.call(&Nlm::default(), version, procedure, &args);
            prop_assert!(reply.len() <= args.len() + 8);
        }
    }
}
