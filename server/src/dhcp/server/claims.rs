//! Which address a machine gets.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::leases::{Binding, Moment, State};
use super::super::recipe::Place;
use super::Server;
use crate::net::Mac;

impl Server {
    /// The address that a machine has a claim to: where its root lives, what is reserved for it,
    /// what it has or had, or what it asks for and nobody has.
    pub(super) fn known(
        &self,
        mac: Mac,
        place: &Place,
        wanted: Option<Ipv4Addr>,
        now: Moment,
    ) -> Option<Ipv4Addr> {
        let free = |address: &Ipv4Addr| self.is_free(*address, mac, place, now);
        let old = self.leases.of(mac, place.network).map(|binding| binding.address).filter(free);
        old.filter(|address| self.booter.lives(*address))
            .or_else(|| self.reserved(mac, place).filter(free))
            // A reservation that was taken away, or a range that was narrowed, ends a claim.
            .or_else(|| old.filter(|address| self.pool.contains(*address)))
            .or_else(|| wanted.filter(|address| self.pool.contains(*address)).filter(free))
    }

    /// An address that nobody has a claim to, or the one whose claim is oldest.
    pub(super) fn fresh(&mut self, mac: Mac, place: &Place, now: Moment) -> Option<Ipv4Addr> {
        // A copy, so that nothing is lost should the search not come to its end.
        let mut pool = self.pool.clone();
        let unused = pool.next(place.network, now, |address| {
            self.leases.get(address).is_none() && self.is_free(address, mac, place, now)
        });
        self.pool = pool;
        if unused.is_some() {
            return unused;
        }
        let mut alive = Vec::new();
        let mut oldest = None;
        for binding in self.leases.expired(now) {
            let address = binding.address;
            if self.booter.lives(address) {
                alive.push(binding);
            } else if self.pool.contains(address) && self.is_free(address, mac, place, now) {
                oldest = Some(address);
                break;
            }
        }
        // What lives is not looked at again before a lease's time.
        for binding in alive {
            self.leases.put(Binding { expires: now.after(self.settings.lease), ..binding });
        }
        oldest.or_else(|| self.unanswered(mac, place, now))
    }

    /// For a named machine, when everything is gone: what was offered to a stranger who has not
    /// taken it. Whoever floods the network with forged machines takes nothing that way.
    fn unanswered(&mut self, mac: Mac, place: &Place, now: Moment) -> Option<Ipv4Addr> {
        self.booter.reservation(mac)?;
        let strangers = self.leases.iter().filter(|binding| {
            binding.state == State::Offered
                && self.pool.contains(binding.address)
                && place.network.contains(binding.address)
                && self.booter.reservation(binding.mac).is_none()
        });
        let oldest = strangers.min_by_key(|binding| binding.expires)?.address;
        self.leases.remove(oldest);
        self.is_free(oldest, mac, place, now).then_some(oldest)
    }

    /// Whether the machine may have the address: it is a host's in the network, nobody else's by
    /// reservation or lease, not in quarantine, and no other machine's root lives there.
    pub(super) fn is_free(&self, address: Ipv4Addr, mac: Mac, place: &Place, now: Moment) -> bool {
        let binding = self.leases.get(address);
        let own = binding.is_some_and(|binding| binding.is_of(mac));
        let taken = binding.is_some_and(|binding| !own && binding.expires > now);
        // A machine may have several cards: its address is for the first of them that asks.
        let is_kept = self.booter.reserved_for(address).map(|holder| {
            let machine = self.booter.reservation(mac);
            machine.is_some_and(|machine| machine.name == holder)
        });
        place.network.has_host(address)
            && address != place.local
            && Some(address) != place.router
            && !self.settings.routers.contains(&address)
            && !taken
            && is_kept != Some(false)
            && (own || (is_kept.is_some() && binding.is_none()) || !self.booter.lives(address))
    }

    pub(super) fn reserved(&self, mac: Mac, place: &Place) -> Option<Ipv4Addr> {
        let address = self.booter.reservation(mac)?.address?;
        place.network.has_host(address).then_some(address)
    }

    /// Keeps an address for the machine that it is offered to.
    pub(super) fn hold(&mut self, mac: Mac, address: Ipv4Addr, now: Moment) {
        let until = now.after(OFFER_HOLD);
        let old = self.leases.get(address).filter(|binding| binding.is_of(mac));
        let held = match old {
            Some(old) if old.state == State::Leased => {
                Binding { expires: old.expires.max(until), ..old }
            }
            Some(_) | None => Binding { address, mac, state: State::Offered, expires: until },
        };
        self.leases.put(held);
    }
}

impl Binding {
    /// Whether the machine has the address, or had it last.
    pub(super) fn is_of(&self, mac: Mac) -> bool {
        self.mac == mac && self.state != State::Declined
    }
}

/// How long an offered address is kept. Firmware that collects offers takes up to 32 seconds.
const OFFER_HOLD: Duration = Duration::from_secs(60);
