//! Our own ends of connections: where one was away, that a peer is silent says nothing about it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connection::Connection;
use crate::net::interface::Interface;

/// What is known of our own ends of some connections.
pub(super) struct OwnNetwork {
    /// Our addresses, each with the interface by which its connection was last known to work.
    ends: Vec<(IpAddr, Option<u32>)>,
    pub(super) was_away: bool,
}

impl OwnNetwork {
    pub(super) fn of(connections: &[Arc<Connection>], interfaces: &OwnInterfaces) -> Self {
        let mut ends: Vec<_> = connections.iter().map(|one| one.own_end()).collect();
        ends.sort_unstable();
        ends.dedup();
        let was_away = ends.iter().any(|(_, interface)| interface.is_none());
        let mut network = Self { ends, was_away };
        network.look(interfaces);
        network
    }

    /// Looks whether every interface is there, and still the same.
    pub(super) fn look(&mut self, interfaces: &OwnInterfaces) {
        if !self.was_away {
            self.was_away = interfaces.lack(&self.ends);
        }
    }
}

/// Our addresses and the interfaces that carry them, looked at once for all who ask at the same time.
#[derive(Default)]
pub(super) struct OwnInterfaces(Mutex<Option<Seen>>);

struct Seen {
    at: Instant,
    /// `None` if the kernel refused to tell.
    carriers: Option<Vec<(IpAddr, u32)>>,
}

impl OwnInterfaces {
    /// Whether one of these addresses is not where it is said to be.
    fn lack(&self, ends: &[(IpAddr, Option<u32>)]) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.as_ref().is_none_or(|seen| seen.at.elapsed() >= LASTS) {
            let carriers = Interface::carriers().ok();
            *seen = Some(Seen { at: Instant::now(), carriers });
        }
        let Some(carriers) = seen.as_ref().and_then(|seen| seen.carriers.as_ref()) else {
            return false;
        };
        let now = |address| carriers.iter().find(|(own, _)| *own == address).map(|one| one.1);
        ends.iter().any(|(address, interface)| now(*address) != *interface)
    }
}

/// How long a look holds.
pub(super) const LASTS: Duration = Duration::from_millis(50);

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn all_who_ask_at_the_same_time_share_one_look() {
        let interfaces = OwnInterfaces::default();
        let looked = || interfaces.0.lock().unwrap().as_ref().unwrap().at;
        interfaces.lack(&[]);
        let first = looked();
        while first.elapsed() < LASTS {
            let before = looked();
            interfaces.lack(&[]);
            assert!(looked() == before || first.elapsed() >= LASTS);
        }
        interfaces.lack(&[]);
        assert!(looked() > first);
    }
}
