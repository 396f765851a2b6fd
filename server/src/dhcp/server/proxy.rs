//! Beside another DHCP server: what machines boot is told, and no address is handed out.
//!
//! A machine's address comes from the other server. It is learned from what the machine broadcasts
//! or asks us itself, so that its files and its root join its boot.

use std::net::Ipv4Addr;
use std::time::SystemTime;

use wire::dhcp4::MessageType;

use super::super::options::{self, Kind};
use super::super::reply::{Action, Arrival, Destination, Port, Silence};
use super::super::request::Request;
use super::{Scope, Server, finish};
use crate::boot::{Ask, Client, Event};

impl Server {
    /// Proxy mode (PXE 2.1 §2.2): an OFFER without an address to firmware and to iPXE, an answer to a
    /// question on port 4011, and to everything else nothing.
    pub(super) fn beside(
        &mut self,
        request: &Request<'_>,
        scope: &Scope,
        arrival: &Arrival<'_>,
        now: SystemTime,
    ) -> Action {
        if arrival.port == Port::Pxe {
            self.locate(request, scope, *arrival.source.ip());
            return self.boot_server(request, scope, arrival);
        }
        match request.kind {
            MessageType::Discover => self.proxy_offer(request, scope),
            MessageType::Request => {
                self.follow(request, scope);
                let other = self.other_chosen(request, scope, arrival, now);
                other.unwrap_or(Action::Silence(Silence::Nothing))
            }
            MessageType::Decline
            | MessageType::Release
            | MessageType::Inform
            | MessageType::Offer
            | MessageType::Ack
            | MessageType::Nak => Action::Silence(Silence::Nothing),
        }
    }

    /// Where netbe only listens: a boot that another server leads here is known all the same.
    pub(super) fn observe(
        &mut self,
        request: &Request<'_>,
        scope: &Scope,
        arrival: &Arrival<'_>,
        now: SystemTime,
    ) -> Action {
        match request.kind {
            MessageType::Discover if request.client.is_firmware() => {
                // What it is told is the other server's to say.
                let ask = Ask { observed: true, ..Self::question(request, scope) };
                let _ = self.booter.decide(&ask);
            }
            MessageType::Request => self.follow(request, scope),
            MessageType::Discover
            | MessageType::Decline
            | MessageType::Release
            | MessageType::Inform
            | MessageType::Offer
            | MessageType::Ack
            | MessageType::Nak => {}
        }
        self.listen(request, scope, arrival, now)
    }

    /// DHCPDISCOVER: what to boot, for those who listen to a proxy.
    fn proxy_offer(&mut self, request: &Request<'_>, scope: &Scope) -> Action {
        match request.client {
            Client::Http(_) | Client::Ipxe(_) | Client::Pxe(_) => {}
            Client::FreeBsdKernel | Client::FreeBsdLoader => {
                self.report(request.mac, Event::Discover(request.client));
                self.advise(request);
                return Action::Silence(Silence::Nothing);
            }
            // Every computer of the building asks so.
            Client::Ordinary => return Action::Silence(Silence::Nothing),
        }
        self.report(request.mac, Event::Discover(request.client));
        let Some(answer) = self.decide(request, scope).filter(|answer| answer.file.is_some())
        else {
            return Action::Silence(Silence::Nothing);
        };
        let mut reply = self.begin(request, MessageType::Offer, scope);
        reply.broadcast();
        let (message, client) = (&request.message, request.client);
        options::boot(&mut reply, message, client, &answer, scope.local, Kind::Proxy);
        let to = Destination::of(message, request.mac, Ipv4Addr::UNSPECIFIED, true);
        Action::Send(finish(reply, request, scope, Port::Dhcp, to))
    }

    /// DHCPREQUEST: the machine tells everybody whose address it takes.
    fn follow(&self, request: &Request<'_>, scope: &Scope) {
        let current = Some(request.message.ciaddr).filter(|address| !address.is_unspecified());
        if let Some(address) = current.or(request.wanted) {
            self.locate(request, scope, address);
        }
    }

    fn locate(&self, request: &Request<'_>, scope: &Scope, address: Ipv4Addr) {
        if scope.network.has_host(address) {
            self.report(request.mac, Event::Elsewhere(address));
        }
    }

    /// FreeBSD's loader and kernel hear only the server that gives them their address, so that server
    /// has to name their root. Said once for a machine, which asks every few seconds.
    fn advise(&mut self, request: &Request<'_>) {
        if self.advised.len() >= ADVISED {
            self.advised.clear();
        }
        if self.advised.insert(request.mac) {
            let client = request.client;
            let advice = format!(
                "{client} accepts only the DHCP server that gives it its address: configure that server as \
                 `netbe show dhcp` prints"
            );
            self.report(request.mac, Event::Advised(advice));
        }
    }
}

/// Machines that are remembered as advised; a forger could name any number.
const ADVISED: usize = 4096;
