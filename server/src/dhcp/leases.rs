//! Who has which address, for how long: the table that the journal makes lasting.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime};

use crate::net::Mac;
use crate::net::interface::Network;

/// All bindings, one per address. Its size is bounded by the addresses that netbe may hand out.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    by_address: HashMap<Ipv4Addr, Binding>,
    by_mac: BTreeSet<(Mac, Ipv4Addr)>,
    by_expiry: BTreeSet<(Timestamp, Ipv4Addr)>,
}

impl Leases {
    /// The address's binding, running or run out.
    #[must_use]
    pub fn get(&self, address: Ipv4Addr) -> Option<Binding> {
        self.by_address.get(&address).copied()
    }

    /// The machine's binding in a network: the one that runs longest, or ran out last. An address
    /// that the machine declined is not bound to it any more.
    #[must_use]
    pub fn of(&self, mac: Mac, network: Network) -> Option<Binding> {
        self.all_of(mac, network).max_by_key(|binding| binding.expires)
    }

    /// Every binding of the machine in a network.
    pub fn all_of(&self, mac: Mac, network: Network) -> impl Iterator<Item = Binding> {
        let all = (mac, Ipv4Addr::UNSPECIFIED)..=(mac, Ipv4Addr::BROADCAST);
        let addresses = self.by_mac.range(all).map(|(_, address)| *address);
        addresses.filter(move |address| network.contains(*address)).filter_map(|a| self.get(a))
    }

    /// Puts a binding in the place of the address's earlier one.
    pub fn put(&mut self, binding: Binding) {
        self.remove(binding.address);
        if binding.state != State::Declined {
            self.by_mac.insert((binding.mac, binding.address));
        }
        self.by_expiry.insert((binding.expires, binding.address));
        self.by_address.insert(binding.address, binding);
    }

    /// Forgets the address's binding.
    pub fn remove(&mut self, address: Ipv4Addr) {
        if let Some(old) = self.by_address.remove(&address) {
            self.by_mac.remove(&(old.mac, address));
            self.by_expiry.remove(&(old.expires, address));
        }
    }

    /// The bindings that have run out, the oldest first.
    pub fn expired(&self, now: Timestamp) -> impl Iterator<Item = Binding> {
        let old = self.by_expiry.iter().take_while(move |(expires, _)| *expires <= now);
        old.filter_map(|(_, address)| self.get(*address))
    }

    /// The bindings that run out after `from` and not after `until`, the first to run out first.
    pub fn expiring(&self, from: Timestamp, until: Timestamp) -> impl Iterator<Item = Binding> {
        let first = from.after(Duration::from_secs(1));
        let due = (first, Ipv4Addr::UNSPECIFIED)..=(until.max(first), Ipv4Addr::BROADCAST);
        let due = self.by_expiry.range(due).filter(move |(expires, _)| *expires <= until);
        due.filter_map(|(_, address)| self.get(*address))
    }

    /// Every binding, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Binding> {
        self.by_address.values().copied()
    }
}

impl Extend<Binding> for Leases {
    fn extend<I: IntoIterator<Item = Binding>>(&mut self, bindings: I) {
        for binding in bindings {
            self.put(binding);
        }
    }
}

/// An address and the machine that it is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Binding {
    /// The address.
    pub address: Ipv4Addr,
    /// The machine.
    pub mac: Mac,
    /// How far it went.
    pub state: State,
    /// When the address may go to another machine.
    pub expires: Timestamp,
}

impl Binding {
    /// Whether the machine has the address at this time.
    #[must_use]
    pub fn is_leased(&self, now: Timestamp) -> bool {
        self.state == State::Leased && self.expires > now
    }
}

/// How far a binding went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// The machine says that somebody else uses the address: it is in quarantine.
    Declined,
    /// The machine has it.
    Leased,
    /// It was offered to the machine.
    Offered,
    /// The machine gave it back.
    Released,
}

/// A time of day in whole seconds since 1970: leases outlive the process, so its own clock is of
/// no use to them.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The time that is `delay` later.
    #[must_use]
    pub const fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(delay.as_secs()))
    }
}

impl From<SystemTime> for Timestamp {
    /// A clock before 1970 counts as 1970.
    fn from(time: SystemTime) -> Self {
        Self(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const NETWORK: Network = Network::new(Ipv4Addr::new(10, 77, 0, 1), 24);
    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn binding(last: u8, state: State, expires: u64) -> Binding {
        let address = Ipv4Addr::new(10, 77, 0, last);
        Binding { address, mac: MAC, state, expires: Timestamp(expires) }
    }

    #[test]
    fn a_machine_has_the_binding_that_runs_longest() {
        let mut leases = Leases::default();
        leases.put(binding(5, State::Leased, 200));
        leases.put(binding(6, State::Released, 100));
        assert_eq!(leases.of(MAC, NETWORK), Some(binding(5, State::Leased, 200)));
        let elsewhere = Network::new(Ipv4Addr::new(10, 78, 0, 1), 24);
        assert_eq!(leases.of(MAC, elsewhere), None);
    }

    #[test]
    fn a_declined_address_is_nobodys() {
        let mut leases = Leases::default();
        leases.put(binding(5, State::Declined, 200));
        assert_eq!(leases.of(MAC, NETWORK), None);
        assert!(leases.get(Ipv4Addr::new(10, 77, 0, 5)).is_some());
    }

    #[test]
    fn a_new_binding_leaves_nothing_of_the_old_one() {
        let mut leases = Leases::default();
        leases.put(binding(5, State::Leased, 100));
        leases.put(Binding { mac: Mac([2; 6]), ..binding(5, State::Leased, 300) });
        assert_eq!(leases.of(MAC, NETWORK), None);
        assert_eq!(leases.expired(Timestamp(200)).count(), 0);
        leases.remove(Ipv4Addr::new(10, 77, 0, 5));
        assert_eq!(leases.expired(Timestamp(400)).count(), 0);
        assert_eq!(leases.iter().count(), 0);
    }

    #[test]
    fn the_oldest_runs_out_first() {
        let mut leases = Leases::default();
        leases.extend([binding(5, State::Leased, 30), binding(6, State::Leased, 10)]);
        leases.put(binding(7, State::Leased, 20));
        let order: Vec<u64> = leases.expired(Timestamp(20)).map(|b| b.expires.0).collect();
        assert_eq!(order, [10, 20]);
    }
}
