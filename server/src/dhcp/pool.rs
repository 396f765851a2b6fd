//! Which addresses of the ranges are next.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::leases::Timestamp;
use super::range::Range;
use crate::net::interface::Network;

/// The ranges, with a mark in each below which addresses have been looked at.
///
/// Addresses that nobody ever had go first, so that a machine that was away finds its old one. A
/// mark only moves up, which makes a thousand new machines cheap; it starts again from the bottom
/// once in a while, because what was taken then may be free now.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    ranges: Vec<(Range, Mark)>,
}

impl Pool {
    pub(super) fn new(ranges: impl IntoIterator<Item = Range>) -> Self {
        let mark = Mark { next: 0, begun: Timestamp(0) };
        Self { ranges: ranges.into_iter().map(|range| (range, mark)).collect() }
    }

    /// Whether the address lies in one of the ranges.
    pub(super) fn contains(&self, address: Ipv4Addr) -> bool {
        self.ranges.iter().any(|(range, _)| range.contains(address))
    }

    /// Whether a network has addresses in the ranges.
    pub(super) fn serves(&self, network: Network) -> bool {
        self.ranges.iter().any(|(range, _)| overlap(*range, network).is_some())
    }

    /// How many addresses a network has in the ranges.
    pub(super) fn size(&self, network: Network) -> usize {
        let parts = self.ranges.iter().filter_map(|(range, _)| overlap(*range, network));
        parts.map(|(first, last)| last.saturating_sub(first) as usize + 1).sum()
    }

    /// The next address of the network that `is_fresh` accepts.
    pub(super) fn next(
        &mut self,
        network: Network,
        now: Timestamp,
        mut is_fresh: impl FnMut(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        self.ranges.iter_mut().find_map(|(range, mark)| {
            let (first, last) = overlap(*range, network)?;
            mark.look(first, last, now, &mut is_fresh)
        })
    }
}

/// How far a range has been looked through.
#[derive(Clone, Copy, Debug)]
struct Mark {
    next: u32,
    begun: Timestamp,
}

impl Mark {
    fn look(
        &mut self,
        first: u32,
        last: u32,
        now: Timestamp,
        is_fresh: &mut impl FnMut(Ipv4Addr) -> bool,
    ) -> Option<Ipv4Addr> {
        // A clock that was set back is no reason to wait.
        let rested = now < self.begun || self.begun.after(REST) <= now;
        if self.next > last && rested {
            self.next = first;
            self.begun = now;
        }
        self.next = self.next.max(first);
        while self.next <= last {
            let address = Ipv4Addr::from_bits(self.next);
            // The highest address of all is nobody's, so this cannot overflow in a useful range.
            self.next = self.next.saturating_add(1);
            if is_fresh(address) {
                return Some(address);
            }
            if self.next == u32::MAX {
                break;
            }
        }
        None
    }
}

/// The part of a range that lies in a network.
fn overlap(range: Range, network: Network) -> Option<(u32, u32)> {
    let first = range.first().max(network.base()).to_bits();
    let last = range.last().min(network.broadcast()).to_bits();
    (first <= last).then_some((first, last))
}

/// How long a full pool rests between two looks at all of its addresses.
const REST: Duration = Duration::from_secs(10);

#[cfg(test)]
mod test {
    use super::*;

    const NETWORK: Network = Network::new(Ipv4Addr::new(10, 77, 0, 1), 24);

    fn pool(text: &str) -> Pool {
        Pool::new(text.split(',').map(|range| range.parse().unwrap()))
    }

    #[test]
    fn addresses_come_in_order_from_one_range_after_the_other() {
        let mut pool = pool("10.77.0.8-10.77.0.9,10.77.0.3-10.77.0.3");
        let mut next = || pool.next(NETWORK, Timestamp(5), |_| true).map(|a| a.octets()[3]);
        assert_eq!([next(), next(), next(), next()], [Some(8), Some(9), Some(3), None]);
    }

    #[test]
    fn a_full_range_is_looked_through_again_after_a_rest() {
        let mut pool = pool("10.77.0.8-10.77.0.8");
        let mut taken = true;
        assert_eq!(pool.next(NETWORK, Timestamp(100), |_| !taken), None);
        taken = false;
        assert_eq!(pool.next(NETWORK, Timestamp(105), |_| !taken), Some([10, 77, 0, 8].into()));
        assert_eq!(pool.next(NETWORK, Timestamp(106), |_| true), None);
        assert!(pool.next(NETWORK, Timestamp(116), |_| true).is_some());
    }

    #[test]
    fn a_range_gives_only_what_lies_in_the_network() {
        let mut pool = pool("10.76.255.250-10.77.0.2");
        let first = pool.next(NETWORK, Timestamp(0), |address| NETWORK.has_host(address));
        assert_eq!(first, Some(Ipv4Addr::new(10, 77, 0, 1)));
        assert!(!pool.serves(Network::new(Ipv4Addr::new(10, 78, 0, 1), 24)));
    }

    #[test]
    fn the_end_of_all_addresses_is_an_end() {
        let mut pool = pool("255.255.255.254-255.255.255.255");
        let everything = Network::new(Ipv4Addr::UNSPECIFIED, 0);
        assert_eq!(pool.next(everything, Timestamp(0), |_| false), None);
    }
}
