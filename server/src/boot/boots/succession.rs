//! Two boots of one machine: the one whose system runs, and the one that begins beside it.
//!
//! A DISCOVER is one packet that anybody can send, so a boot that begins ends nothing. The earlier
//! boot keeps its root until it is proven dead or the later one works on its own, which a MOUNT does
//! not prove: only who gets replies can call by the handle in them.
//!
//! | asked whether it lives | the later boot calls | the earlier one called since | then |
//! |---|---|---|---|
//! | dead | – | – | over |
//! | answers | – | – | two machines |
//! | not answered yet | no | – | both |
//! | unknown, or not asked since the server began | no | – | both |
//! | unknown, or not answered yet | yes | yes | two machines |
//! | not answered yet, or not asked since the server began | yes | no | both |
//! | unknown | for less than [`OVERLAP`] | no | both |
//! | unknown | for longer | no | over |
//!
//! It is asked when a boot begins, and only then: a connection that breaks later may be a network that
//! is away. It is not dead if it has called since it was asked, whatever became of its connections.
//!
//! Where nothing shows it alive any more ([`crate::boot::usage`]), it is over before the later boot
//! uses its root, too, but not before it was asked: an UMNT in its name and half an hour of silence look
//! the same. An answer is a proof of life like a call. Where it is unknown and the later boot uses its root, it counts as dead for
//! commands and DHCP at once; what is granted to it and its clone stay for [`OVERLAP`], and its next
//! call proves that it lives after all.
//!
//! A call tells which of the two made it by its environment and its address. Where both are the same,
//! it is the earlier system's as long as the later boot has fetched nothing: firmware has to load
//! something before anything mounts.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::boot::Boot;
use crate::boot::Life;

/// A boot whose system runs, or may, while another boot of the machine has begun.
pub(super) struct Earlier {
    pub(super) boot: Boot,
    /// Where its root lives.
    pub(super) address: Ipv4Addr,
    /// The answer to the question whether it lives.
    pub(super) life: Option<Life>,
    /// When it was asked, so that there is an answer soon, if it was.
    pub(super) asked: Option<Instant>,
    /// Whether it counts as dead until it calls again.
    pub(super) presumed_dead: bool,
    /// Whether it was told that there are two machines.
    pub(super) told: bool,
}

impl Earlier {
    /// A boot that ran at this address, which nobody was asked about yet.
    pub(super) const fn new(boot: Boot, address: Ipv4Addr) -> Self {
        Self { boot, address, life: None, asked: None, presumed_dead: false, told: false }
    }

    /// A later boot begins, before which it has to be asked whether it lives; says whether it has to
    /// be asked anew: there is no second question beside one that is not answered.
    pub(super) const fn contest(&mut self, now: Instant) -> bool {
        let waits = self.asked.is_some() && self.life.is_none();
        if !waits {
            self.asked = Some(now);
        }
        self.life = None;
        self.presumed_dead = false;
        self.told = false;
        !waits
    }
}

/// What is known of an earlier boot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evidence {
    /// Whether anything shows it alive.
    pub(super) in_use: bool,
    /// The answer to the question whether it lives.
    pub(super) life: Option<Life>,
    /// Whether it was asked since the server began.
    pub(super) asked: bool,
    /// Since when the later boot has called by its root's handle.
    pub(super) rooted: Option<Instant>,
    /// The last call that only the earlier one can have made.
    pub(super) called: Option<Instant>,
}

/// What becomes of an earlier boot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// It stays, beside the later one.
    Both,
    /// It stays, and it is said that two machines have one Ethernet address, or that somebody forges
    /// it.
    TwoMachines,
    /// It is over.
    Over,
}

/// Boots of one machine that are kept beside the one that it is in.
pub(super) const MAX_EARLIER: usize = 3;

/// Decides by the table above.
pub(super) fn judge(evidence: Evidence, now: Instant) -> Verdict {
    let Evidence { in_use, life, asked, rooted, called } = evidence;
    // As long as there is an answer to wait for, it may be.
    let in_use = in_use || (asked && life.is_none());
    match (life, rooted) {
        (Some(Life::Dead), _) => Verdict::Over,
        (Some(Life::Answers), _) if in_use => Verdict::TwoMachines,
        (Some(Life::Unknown) | None, Some(rooted)) => {
            let overlaps = match life {
                None => in_use,
                Some(_) => now.saturating_duration_since(rooted) < OVERLAP,
            };
            match (called.is_some_and(|called| called > rooted), overlaps) {
                (true, _) => Verdict::TwoMachines,
                (false, true) => Verdict::Both,
                (false, false) => Verdict::Over,
            }
        }
        (Some(Life::Unknown) | None, None) if in_use => Verdict::Both,
        (Some(Life::Answers | Life::Unknown) | None, _) => Verdict::Over,
    }
}

/// Which boot of a machine made a call or a mount.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Caller {
    /// The boot that the machine is in.
    Current,
    /// The earlier one.
    Earlier,
    /// Neither uses its root by it.
    Visitor,
}

/// Who uses `environment` from `address`: by the two roots, and whether the present boot has anything
/// that could mount.
pub(super) fn caller(
    environment: Uuid,
    address: Ipv4Addr,
    current: Option<Current>,
    earlier: &[Earlier],
) -> Caller {
    let of_earlier = earlier
        .iter()
        .any(|earlier| earlier.address == address && earlier.boot.plan.environment == environment);
    let current = current.filter(|current| current.environment == environment);
    match (current, of_earlier) {
        (None, false) => Caller::Visitor,
        (None, true) => Caller::Earlier,
        (Some(_), false) if earlier.is_empty() => Caller::Current,
        (Some(current), of_earlier) => {
            let apart = earlier.iter().all(|earlier| earlier.address != address);
            match (current.has_loaded || apart, of_earlier) {
                (true, _) => Caller::Current,
                (false, true) => Caller::Earlier,
                // The system that runs may look into what its machine boots next.
                (false, false) => Caller::Visitor,
            }
        }
    }
}

/// The boot that a machine is in, as far as it tells whose a call is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Current {
    /// Its root.
    pub(super) environment: Uuid,
    /// Whether it has fetched anything, or was begun by what needs to fetch nothing.
    pub(super) has_loaded: bool,
}

/// For how long a later boot has used its root, and the earlier one has been silent, when that is over
/// though nobody could ask it. Kernels write back within half a minute.
pub(super) const OVERLAP: Duration = Duration::from_secs(60);

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn an_earlier_boot_ends_by_this_table() {
        use Life::{Answers, Dead, Unknown};
        use Verdict::{Both, Over, TwoMachines};
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let now = at(100);
        for (in_use, life, rooted, called, expected) in [
            (true, Some(Dead), None, None, Over),
            (true, Some(Dead), Some(at(99)), Some(at(99)), Over),
            (true, Some(Answers), None, None, TwoMachines),
            (true, Some(Answers), Some(at(0)), None, TwoMachines),
            (false, Some(Answers), None, None, Over),
            (true, Some(Unknown), None, Some(at(99)), Both),
            (true, None, None, None, Both),
            (true, None, Some(at(41)), Some(at(99)), TwoMachines),
            (false, Some(Unknown), Some(at(41)), None, Both),
            (true, None, Some(at(0)), None, Both),
            (false, None, Some(at(0)), None, Over),
            (true, Some(Unknown), Some(at(40)), Some(at(39)), Over),
            (true, Some(Unknown), Some(at(40)), None, Over),
            (true, None, Some(at(40)), Some(at(41)), TwoMachines),
            (false, None, None, None, Over),
        ] {
            let evidence = Evidence { in_use, life, asked: false, rooted, called };
            assert_eq!(judge(evidence, now), expected, "{evidence:?}");
        }
        for (life, rooted, called, expected) in [
            (None, None, None, Both),
            (None, Some(at(0)), None, Both),
            (None, Some(at(40)), Some(at(41)), TwoMachines),
            (Some(Unknown), None, None, Over),
            (Some(Dead), None, None, Over),
        ] {
            let evidence = Evidence { in_use: false, life, asked: true, rooted, called };
            assert_eq!(judge(evidence, now), expected, "{evidence:?}");
        }
    }
}
