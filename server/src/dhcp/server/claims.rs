//! Which address a machine gets.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::leases::{Binding, State, Timestamp};
use super::super::request::Request;
use super::{Scope, Server};
use crate::net::Mac;

impl Server {
    /// The address that a machine has a claim to: what it was moved to, where its root lives, what is
    /// reserved for it, what it has or had, or what it asks for and nobody has.
    pub(super) fn known(
        &self,
        mac: Mac,
        scope: &Scope,
        wanted: Option<Ipv4Addr>,
        now: Timestamp,
    ) -> Option<Ipv4Addr> {
        let free = |address: &Ipv4Addr| self.is_free(*address, mac, scope, now);
        let old = self.leases.of(mac, scope.network).map(|binding| binding.address).filter(free);
        let living = self.living(mac, scope);
        // A running system that asks for its address anew is not moved.
        let stays = living.filter(|here| wanted == Some(*here));
        stays
            .or_else(|| self.moved(mac, scope, now))
            .or(living)
            .or_else(|| self.reserved(mac, scope).filter(free))
            // A reservation that was taken away, or a range that was narrowed, ends the claim to have the
            // address anew; a lease of it that runs may still be renewed ([`Server::renews`]).
            .or_else(|| old.filter(|address| self.pool.contains(*address)))
            .or_else(|| {
                let wanted = wanted.filter(|address| self.pool.contains(*address)).filter(free);
                wanted.filter(|_| self.has_room_for(mac, scope, now))
            })
    }

    /// Whether the machine renews (RFC 2131 §4.3.2, RENEWING and REBINDING: by `ciaddr`) a lease of its own
    /// that runs. It may where no range holds the address any more, until it asks anew, gives the address
    /// back, or has another one reserved: a changed range takes no address from a running system.
    pub(super) fn renews(
        &self,
        request: &Request<'_>,
        scope: &Scope,
        wanted: Ipv4Addr,
        now: Timestamp,
    ) -> bool {
        let (mac, binding) = (request.mac, self.leases.get(wanted));
        request.message.ciaddr == wanted
            && binding.is_some_and(|binding| binding.is_of(mac) && binding.is_leased(now))
            && self.reserved(mac, scope).is_none()
            && self.is_free(wanted, mac, scope, now)
    }

    /// The address that was reserved for the machine while a root of it lived at another one, if its
    /// firmware has asked since: a boot has begun, which keeps that address to its end.
    pub(super) fn moved(&self, mac: Mac, scope: &Scope, now: Timestamp) -> Option<Ipv4Addr> {
        self.reserved(mac, scope).filter(|address| {
            let binding = self.leases.get(*address);
            binding.is_some_and(|binding| binding.is_of(mac) && binding.expires > now)
                && self.is_free(*address, mac, scope, now)
        })
    }

    /// What is reserved for a machine whose firmware asks. A FreeBSD kernel never unmounts its root, so
    /// that the old one still seems to live when the machine was restarted. If it does, it loses
    /// nothing: its root is granted at its own address for as long as it calls.
    pub(super) fn begins_at(
        &self,
        request: &Request<'_>,
        scope: &Scope,
        now: Timestamp,
    ) -> Option<Ipv4Addr> {
        let address = self.reserved(request.mac, scope).filter(|_| request.client.is_firmware())?;
        self.is_free(address, request.mac, scope, now).then_some(address)
    }

    /// Whether an address may be given to a machine that had none before. Not to a stranger as long
    /// as those that are left are as many as the named machines that never had one, but for these no
    /// more than half of the ranges are kept: whoever leases addresses in invented names takes none
    /// from a machine that is switched on for the first time.
    fn has_room_for(&self, mac: Mac, scope: &Scope, now: Timestamp) -> bool {
        if self.booter.reservation(mac).is_some() {
            return true;
        }
        let size = self.pool.size(scope.network);
        let (mut taken, mut holders) = (0_usize, HashSet::new());
        for binding in self.leases.iter() {
            holders.insert(binding.mac);
            let here =
                scope.network.contains(binding.address) && self.pool.contains(binding.address);
            taken += usize::from(here && binding.expires > now);
        }
        let never = |macs: &&Vec<Mac>| !macs.iter().any(|mac| holders.contains(mac));
        let new = self.booter.unreserved().iter().filter(never).count();
        taken.saturating_add(new.min(size / 2)) < size
    }

    /// The machine's address in a subnet that its root lives at.
    pub(super) fn living(&self, mac: Mac, scope: &Scope) -> Option<Ipv4Addr> {
        let all = self.leases.all_of(mac, scope.network).map(|binding| binding.address);
        let mut usable =
            all.filter(|address| scope.network.has_host(*address) && !scope.ours.contains(address));
        usable.find(|address| self.booter.lives(*address))
    }

    /// An address that nobody has a claim to, or the one whose claim is oldest.
    pub(super) fn fresh(&mut self, mac: Mac, scope: &Scope, now: Timestamp) -> Option<Ipv4Addr> {
        if !self.has_room_for(mac, scope, now) {
            return self.unanswered(mac, scope, now);
        }
        // A copy, so that nothing is lost should the search not come to its end.
        let mut pool = self.pool.clone();
        let unused = pool.next(scope.network, now, |address| {
            self.leases.get(address).is_none() && self.is_free(address, mac, scope, now)
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
            } else if self.pool.contains(address) && self.is_free(address, mac, scope, now) {
                oldest = Some(address);
                break;
            }
        }
        // What lives is not looked at again before a lease's time.
        for binding in alive {
            self.leases.put(Binding { expires: now.after(scope.parameters.lease), ..binding });
        }
        oldest.or_else(|| self.unanswered(mac, scope, now))
    }

    /// When everything is gone: the address that was offered to a stranger longest ago and not taken.
    ///
    /// Whoever floods the network with invented machines takes nothing from named machines that way,
    /// and from strangers for [`OFFER_MIN`].
    fn unanswered(&mut self, mac: Mac, scope: &Scope, now: Timestamp) -> Option<Ipv4Addr> {
        let longest = now.after(OFFER_HOLD);
        let is_named = self.booter.reservation(mac).is_some();
        let until =
            if is_named { longest } else { now.after(OFFER_HOLD.saturating_sub(OFFER_MIN)) };
        let oldest = self.leases.expiring(now, until).find(|binding| {
            binding.state == State::Offered
                && self.pool.contains(binding.address)
                && scope.network.contains(binding.address)
                && self.booter.reservation(binding.mac).is_none()
                && !self.booter.lives(binding.address)
        });
        let oldest = oldest?.address;
        self.leases.remove(oldest);
        self.is_free(oldest, mac, scope, now).then_some(oldest)
    }

    /// Whether the machine may have the address: it is a host's in the network, nobody else's by
    /// reservation or lease, not in quarantine, and no other machine's root lives there.
    pub(super) fn is_free(
        &self,
        address: Ipv4Addr,
        mac: Mac,
        scope: &Scope,
        now: Timestamp,
    ) -> bool {
        let binding = self.leases.get(address);
        let own = binding.is_some_and(|binding| binding.is_of(mac));
        let taken = binding.is_some_and(|binding| {
            !own && (binding.expires > now || self.keeps(binding, mac, scope))
        });
        // A machine may have several cards: its address is for the first of them that asks.
        let is_kept = self.booter.reserved_for(address).map(|holder| {
            let machine = self.booter.reservation(mac);
            machine.is_some_and(|machine| machine.name == holder)
        });
        scope.network.has_host(address)
            && !scope.ours.contains(&address)
            && Some(address) != scope.router
            && !scope.parameters.routers.contains(&address)
            && !taken
            && is_kept != Some(false)
            && (own || (is_kept.is_some() && binding.is_none()) || !self.booter.lives(address))
    }

    /// Whether an address is kept for the named machine that had it last, also when its lease has run
    /// out: one for each card, unless another address of the network is reserved for the machine.
    fn keeps(&self, binding: Binding, mac: Mac, scope: &Scope) -> bool {
        if binding.state == State::Declined {
            return false;
        }
        let Some(holder) = self.booter.reservation(binding.mac) else { return false };
        let elsewhere = holder
            .address
            .is_some_and(|address| address != binding.address && scope.network.has_host(address));
        let same = self.booter.reservation(mac).is_some_and(|own| own.name == holder.name);
        let last = self.leases.of(binding.mac, scope.network);
        !elsewhere && !same && last.is_some_and(|last| last.address == binding.address)
    }

    pub(super) fn reserved(&self, mac: Mac, scope: &Scope) -> Option<Ipv4Addr> {
        let address = self.booter.reservation(mac)?.address?;
        scope.network.has_host(address).then_some(address)
    }

    /// Keeps an address for the machine that it is offered to.
    pub(super) fn hold(&mut self, mac: Mac, address: Ipv4Addr, now: Timestamp) {
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

/// How long it is kept when all others are gone too: most clients take an offer at once, and those
/// that do not get another one.
const OFFER_MIN: Duration = Duration::from_secs(8);
