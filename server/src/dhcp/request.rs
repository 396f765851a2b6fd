//! A client's message, read as far as every step of the server needs it.

use std::net::Ipv4Addr;

use uuid::Uuid;
use wire::dhcp4::{Code, ETHERNET, Message, MessageType, Op};

use super::class::classify;
use super::reply::Arrival;
use crate::boot::Client;
use crate::net::Mac;

/// A client's message, read as far as every step needs it.
pub(super) struct Request<'a> {
    pub(super) message: Message<'a>,
    pub(super) kind: MessageType,
    pub(super) mac: Mac,
    pub(super) uuid: Option<Uuid>,
    pub(super) client: Client,
    /// Option 54: the server that the client speaks to.
    pub(super) server: Option<Ipv4Addr>,
    /// Option 50: the address that it asks for.
    pub(super) wanted: Option<Ipv4Addr>,
    /// The relay agent that passed it on. What a message says of relays and links (options 82 and 118)
    /// counts only with one: else it is the client's own word.
    pub(super) relay: Option<Ipv4Addr>,
    /// Option 82.11: what the relay wants us to be called (RFC 5107).
    server_override: Option<Ipv4Addr>,
}

impl<'a> Request<'a> {
    /// Reads a message; `None` is what no server has to answer.
    pub(super) fn read(bytes: &'a [u8], arrival: &Arrival<'_>) -> Option<Self> {
        let message = Message::decode(bytes).ok()?;
        let options = &message.options;
        let kind = options.message_type()?;
        let mac = Mac(message.chaddr().try_into().ok()?);
        let Mac([first, ..]) = mac;
        // A group's address would make us send to a group; our own is our own probe.
        let somebody = first & 1 == 0 && mac.0 != [0; 6] && arrival.interface.mac != Some(mac);
        let sane = message.op == Op::Request
            && message.htype == ETHERNET
            && message.hops <= MAX_HOPS
            && somebody;
        if !sane {
            return None;
        }
        let relay = Some(message.giaddr).filter(|relay| !relay.is_unspecified());
        let server_override = options
            .suboption(Code::RELAY_AGENT_INFORMATION, SERVER_OVERRIDE)
            .and_then(|value| <[u8; 4]>::try_from(value).ok())
            .map(Ipv4Addr::from)
            .filter(|_| relay.is_some());
        let (client, uuid) = (classify(options), uuid(&message));
        let server = options.address(Code::SERVER_IDENTIFIER);
        let wanted = options.address(Code::REQUESTED_ADDRESS);
        Some(Self { message, kind, mac, uuid, client, server, wanted, relay, server_override })
    }

    /// What we call ourselves to this client.
    pub(super) fn identifier(&self, local: Ipv4Addr) -> Ipv4Addr {
        self.server_override.unwrap_or(local)
    }
}

/// Option 97 without its type byte (RFC 4578 §2.3). Firmware without a UUID sends zeros.
fn uuid(message: &Message<'_>) -> Option<Uuid> {
    let value = message.options.get(Code::MACHINE_IDENTIFIER)?;
    let (0, bytes) = value.split_first()? else { return None };
    Uuid::from_slice(bytes).ok().filter(|uuid| !uuid.is_nil())
}

/// Relay agents that a message may pass (RFC 1542 §4.1.1).
const MAX_HOPS: u8 = 16;

/// Server identifier override, a sub-option of 82 (RFC 5107).
const SERVER_OVERRIDE: u8 = 11;
