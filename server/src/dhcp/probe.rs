//! Looks for other DHCP servers before netbe serves: it asks for an address and listens who offers.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::debug;
use wire::dhcp4::{Builder, Code, Message, MessageType, Op};

use super::reply::{CLIENT_PORT, Port};
use crate::net::Mac;
use crate::net::datagram::{BindOptions, Datagrams};
use crate::net::interface::Interface;
use crate::net::link::Link;
use crate::net::sys::link;

/// The question on its way: asked once, to be asked again, its answers waited for.
pub(super) struct Probe {
    interface: Interface,
    mac: Mac,
    xid: u32,
    socket: Datagrams,
    link: Link,
    begun: Instant,
}

impl Probe {
    /// Asks the interface's network for an address.
    ///
    /// # Errors
    ///
    /// The interface has no Ethernet address, another program holds the client's port 68, or frames
    /// cannot be sent.
    pub(super) async fn begin(interface: &Interface) -> io::Result<Self> {
        let mac = interface.mac.ok_or(io::ErrorKind::Unsupported)?;
        let mut random = [0; 4];
        getrandom::fill(&mut random)?;
        let xid = u32::from_ne_bytes(random);
        let options = BindOptions {
            device: Some(interface.name.clone()),
            broadcast: true,
            reuse: true,
            ..BindOptions::default()
        };
        let socket = Datagrams::bind((Ipv4Addr::UNSPECIFIED, CLIENT_PORT).into(), &options)?;
        let link = Link::open(interface)?;
        let interface = interface.clone();
        let probe = Self { interface, mac, xid, socket, link, begun: Instant::now() };
        probe.ask().await?;
        Ok(probe)
    }

    /// Asks once more after a second, and listens until four seconds have passed since the first
    /// question. Returns the address of the first other server that offers an address.
    ///
    /// # Errors
    ///
    /// The socket is broken.
    pub(super) async fn outcome(self) -> io::Result<Option<Ipv4Addr>> {
        let until = |delay| self.begun.checked_add(delay).unwrap_or(self.begun);
        if let Ok(found) = timeout_at(until(FIRST), self.hear()).await {
            return found.map(Some);
        }
        // The first question has left: what keeps the second one back does not take it back.
        if let Err(error) = self.ask().await {
            debug!(interface = self.interface.name, %error, "not asked again");
        }
        match timeout_at(until(LISTEN), self.hear()).await {
            Ok(found) => found.map(Some),
            Err(_silence) => Ok(None),
        }
    }

    async fn ask(&self) -> io::Result<()> {
        let own = self.interface.networks.first();
        let local = own.map_or(Ipv4Addr::UNSPECIFIED, |own| own.address);
        let question = question(self.xid, self.mac);
        let from = SocketAddrV4::new(local, CLIENT_PORT);
        let to = SocketAddrV4::new(Ipv4Addr::BROADCAST, Port::Dhcp.number());
        link::ask(&self.link, &self.socket, &self.interface, from, to, &question).await
    }

    /// Waits for an offer of another server.
    async fn hear(&self) -> io::Result<Ipv4Addr> {
        let mut buf = [0; 1500];
        loop {
            let received = self.socket.recv(&mut buf).await?;
            let IpAddr::V4(source) = received.peer.ip() else { continue };
            let bytes = buf.get(..received.len).unwrap_or_default();
            let own = |server: &Ipv4Addr| {
                self.interface.networks.iter().any(|network| network.address == *server)
            };
            let server = offer(bytes, self.xid, self.mac, source);
            if let Some(server) = server.filter(|server| !own(server)) {
                return Ok(server);
            }
        }
    }
}

/// A DISCOVER of our own.
fn question(xid: u32, mac: Mac) -> Vec<u8> {
    let mut question = Builder::request(MessageType::Discover, xid, mac.0);
    let list = [Code::SUBNET_MASK, Code::ROUTERS, Code::NAME_SERVERS].map(|code| code.0);
    question.set(Code::PARAMETER_REQUEST_LIST, list);
    question.finish()
}

/// The server that answers our question, if it is an answer: by its name, or by where it came from.
fn offer(bytes: &[u8], xid: u32, mac: Mac, source: Ipv4Addr) -> Option<Ipv4Addr> {
    let message = Message::decode(bytes).ok()?;
    let offers = message.options.message_type() == Some(MessageType::Offer);
    let ours = message.op == Op::Reply && message.xid == xid && message.chaddr() == mac.0;
    let server = message.options.address(Code::SERVER_IDENTIFIER).unwrap_or(source);
    (offers && ours).then_some(server)
}

/// When the question is asked again.
const FIRST: Duration = Duration::from_millis(1000);

/// When the listening ends: other servers ping an address before they offer it, and wait for an
/// answer; ISC dhcpd for one second, dnsmasq for three.
const LISTEN: Duration = Duration::from_millis(4000);

#[cfg(test)]
mod test {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const SOURCE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);

    fn answer(kind: MessageType, server: Option<[u8; 4]>) -> Vec<u8> {
        let question = question(7, MAC);
        let mut reply = Builder::reply(&Message::decode(&question).unwrap(), kind);
        if let Some(server) = server {
            reply.set(Code::SERVER_IDENTIFIER, server);
        }
        reply.finish()
    }

    #[test]
    fn an_offer_tells_the_other_server() {
        let named = answer(MessageType::Offer, Some([10, 77, 0, 254]));
        assert_eq!(offer(&named, 7, MAC, SOURCE), Some(Ipv4Addr::new(10, 77, 0, 254)));
        let unnamed = answer(MessageType::Offer, None);
        assert_eq!(offer(&unnamed, 7, MAC, SOURCE), Some(SOURCE));
    }

    #[test]
    fn answers_to_others_tell_nothing() {
        let bytes = answer(MessageType::Offer, None);
        assert_eq!(offer(&bytes, 8, MAC, SOURCE), None);
        assert_eq!(offer(&bytes, 7, Mac([2; 6]), SOURCE), None);
        assert_eq!(offer(&question(7, MAC), 7, MAC, SOURCE), None);
        assert_eq!(offer(&answer(MessageType::Nak, None), 7, MAC, SOURCE), None);
    }
}
