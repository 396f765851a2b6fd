//! Builds messages in the order, and of the size, that clients can read.

use std::net::Ipv4Addr;

use super::{
    BROADCAST_FLAG, Code, DATAGRAM_HEADERS, DEFAULT_LIMIT, ETHERNET, FILE_LEN, MAGIC_COOKIE,
    Message, MessageType, Op, SNAME_LEN,
};

/// A message in the making.
///
/// [`Builder::finish`] puts option 53 first, then 54 and 51, then the others in the order in which
/// the client asked for them and after these the ones it did not ask for, those first that
/// [`Builder::lead`] names, 82 last, the end, and zeros up to BOOTP's 300 bytes. No pad ever stands before the end: FreeBSD's loader reads it as
/// an option's number. Options never go into `file` or `sname` (option 52), which that loader does
/// not read either.
#[derive(Clone, Debug)]
pub struct Builder {
    op: Op,
    htype: u8,
    hlen: u8,
    xid: u32,
    flags: u16,
    ciaddr: Ipv4Addr,
    yiaddr: Ipv4Addr,
    siaddr: Ipv4Addr,
    giaddr: Ipv4Addr,
    chaddr: [u8; 16],
    sname: [u8; SNAME_LEN],
    file: [u8; FILE_LEN],
    options: Vec<MessageOption>,
    order: Vec<u8>,
    leaders: Vec<Code>,
    limit: usize,
    frame: usize,
}

impl Builder {
    /// An answer to a client's message. It echoes what has to be: the transaction, the flags, the
    /// hardware address, the relay's address, option 61 (RFC 6842 §3) and option 82 (RFC 3046
    /// §2.2), follows its option 55, and keeps to its option 57.
    #[must_use]
    pub fn reply(request: &Message<'_>, kind: MessageType) -> Self {
        let mut reply = Self {
            op: Op::Reply,
            htype: request.htype,
            hlen: request.hlen,
            xid: request.xid,
            flags: request.flags,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: request.giaddr,
            chaddr: request.chaddr,
            sname: [0; SNAME_LEN],
            file: [0; FILE_LEN],
            options: Vec::new(),
            order: Vec::new(),
            leaders: Vec::new(),
            limit: DEFAULT_LIMIT,
            frame: LARGEST,
        };
        reply.set(Code::MESSAGE_TYPE, [kind.number()]);
        let list = request.options.get(Code::PARAMETER_REQUEST_LIST);
        reply.order = list.unwrap_or_default().into_owned();
        if let Some(size) = request.options.u16(Code::MAX_MESSAGE_SIZE) {
            let limit = usize::from(size).saturating_sub(DATAGRAM_HEADERS);
            reply.limit = limit.clamp(DEFAULT_LIMIT, LARGEST);
        }
        for code in [Code::CLIENT_IDENTIFIER, Code::RELAY_AGENT_INFORMATION] {
            if let Some(value) = request.options.get(code) {
                reply.set(code, value);
            }
        }
        reply
    }

    /// A client's message from an Ethernet interface; it asks for broadcast replies, because its
    /// sender has no address to be reached by.
    #[must_use]
    pub fn request(kind: MessageType, xid: u32, hardware: [u8; 6]) -> Self {
        let mut chaddr = [0; 16];
        for (to, from) in chaddr.iter_mut().zip(hardware) {
            *to = from;
        }
        let mut request = Self {
            op: Op::Request,
            htype: ETHERNET,
            hlen: 6,
            xid,
            flags: BROADCAST_FLAG,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            sname: [0; SNAME_LEN],
            file: [0; FILE_LEN],
            options: Vec::new(),
            order: Vec::new(),
            leaders: Vec::new(),
            limit: DEFAULT_LIMIT,
            frame: LARGEST,
        };
        request.set(Code::MESSAGE_TYPE, [kind.number()]);
        request
    }

    /// Sets `ciaddr`.
    pub const fn ciaddr(&mut self, address: Ipv4Addr) {
        self.ciaddr = address;
    }

    /// Sets `yiaddr`.
    pub const fn yiaddr(&mut self, address: Ipv4Addr) {
        self.yiaddr = address;
    }

    /// Sets `siaddr`.
    pub const fn siaddr(&mut self, address: Ipv4Addr) {
        self.siaddr = address;
    }

    /// Asks a relay agent to broadcast the message to the client (RFC 2131 §4.1).
    pub const fn broadcast(&mut self) {
        self.flags |= BROADCAST_FLAG;
    }

    /// Sets `sname`; returns `false` and sets nothing when the text and its NUL do not fit.
    pub fn sname(&mut self, text: &[u8]) -> bool {
        fill(&mut self.sname, text)
    }

    /// Sets `file`; returns `false` and sets nothing when the text and its NUL do not fit.
    pub fn file(&mut self, text: &[u8]) -> bool {
        fill(&mut self.file, text)
    }

    /// Whether the client asked for the option.
    #[must_use]
    pub fn asks(&self, code: Code) -> bool {
        self.order.contains(&code.0)
    }

    /// Whether the client said which options it wants.
    #[must_use]
    pub const fn has_request_list(&self) -> bool {
        !self.order.is_empty()
    }

    /// Puts these options, where they are set, before all others that the client did not ask for: an
    /// old one may not read to the end.
    pub fn lead(&mut self, codes: impl IntoIterator<Item = Code>) {
        self.leaders = codes.into_iter().collect();
    }

    /// Fills a whole Ethernet frame if need be: the client is known to read it, although it does not
    /// say so in option 57.
    pub const fn fill_frame(&mut self) {
        self.limit = LARGEST;
    }

    /// Keeps to what leaves in one packet by an interface with this MTU, whatever the client has room
    /// for, but for the 576 bytes that every host has (RFC 2131 §2).
    pub fn keep_to_mtu(&mut self, mtu: u32) {
        let mtu = usize::try_from(mtu).unwrap_or(usize::MAX);
        self.frame = mtu.saturating_sub(DATAGRAM_HEADERS).clamp(DEFAULT_LIMIT, LARGEST);
    }

    /// Adds an option that the message makes no sense without, in the place of an earlier one.
    pub fn set(&mut self, code: Code, value: impl Into<Vec<u8>>) {
        self.put(code, value.into(), true);
    }

    /// Adds an option that is left out when the client has no room for it, in the place of an
    /// earlier one.
    pub fn offer(&mut self, code: Code, value: impl Into<Vec<u8>>) {
        self.put(code, value.into(), false);
    }

    /// The message's bytes.
    ///
    /// What does not fit is left out: options that were only offered, then 82 as a whole (RFC 3046
    /// §2.2), then others, always the last first. 53, 54 and 51 always fit.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        let place = |code: Code| match code {
            Code::MESSAGE_TYPE => 0,
            Code::SERVER_IDENTIFIER => 1,
            Code::LEASE_TIME => 2,
            Code::RELAY_AGENT_INFORMATION => usize::MAX,
            Code(number) => {
                let asked = self.order.iter().position(|wanted| *wanted == number);
                let leads = || {
                    let index = self.leaders.iter().position(|leader| *leader == code)?;
                    Some(self.order.len().saturating_add(index))
                };
                let index = asked.or_else(leads);
                index.map_or(usize::MAX - 1, |index| index.saturating_add(3))
            }
        };
        // The sort is stable: what was not asked for stays in the order of its adding.
        self.options.sort_by_key(|entry| place(entry.code));
        self.shrink();
        let mut bytes = self.header();
        for entry in &self.options {
            entry.encode(&mut bytes);
        }
        bytes.push(Code::END.0);
        bytes.resize(bytes.len().max(SMALLEST), 0);
        bytes
    }

    fn put(&mut self, code: Code, value: Vec<u8>, essential: bool) {
        let new = MessageOption { code, value, essential };
        match self.options.iter_mut().find(|entry| entry.code == code) {
            Some(entry) => *entry = new,
            None => self.options.push(new),
        }
    }

    /// Leaves options out until the message fits.
    fn shrink(&mut self) {
        let mut size = self.options.iter().map(MessageOption::len).sum::<usize>();
        let room =
            self.limit.min(self.frame).saturating_sub(super::HEADER_LEN + MAGIC_COOKIE.len() + 1);
        let droppable: [fn(&MessageOption) -> bool; 3] = [
            |entry| !entry.essential,
            |entry| entry.code == Code::RELAY_AGENT_INFORMATION,
            |entry| !FIXED.contains(&entry.code),
        ];
        for may_drop in droppable {
            while size > room
                && let Some(last) = self.options.iter().rposition(may_drop)
            {
                size = size.saturating_sub(self.options.remove(last).len());
            }
        }
    }

    fn header(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.limit);
        bytes.extend([self.op.number(), self.htype, self.hlen, 0]);
        bytes.extend(self.xid.to_be_bytes());
        bytes.extend(0_u16.to_be_bytes());
        bytes.extend(self.flags.to_be_bytes());
        for address in [self.ciaddr, self.yiaddr, self.siaddr, self.giaddr] {
            bytes.extend(address.octets());
        }
        bytes.extend(self.chaddr);
        bytes.extend(self.sname);
        bytes.extend(self.file);
        bytes.extend(MAGIC_COOKIE);
        bytes
    }
}

/// One option of the message.
#[derive(Clone, Debug)]
struct MessageOption {
    code: Code,
    value: Vec<u8>,
    essential: bool,
}

impl MessageOption {
    /// Bytes that the option takes: a value over 255 bytes is split (RFC 3396 §6).
    fn len(&self) -> usize {
        let parts = self.value.len().div_ceil(LONGEST).max(1);
        self.value.len().saturating_add(parts.saturating_mul(2))
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        let empty: [&[u8]; 1] = [&[]];
        let nothing = empty.iter().copied().take(usize::from(self.value.is_empty()));
        for part in self.value.chunks(LONGEST).chain(nothing) {
            bytes.push(self.code.0);
            // A part has at most 255 bytes.
            bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
            bytes.extend(part);
        }
    }
}

/// Copies text and at least one NUL into a field.
fn fill(field: &mut [u8], text: &[u8]) -> bool {
    if text.len() >= field.len() {
        return false;
    }
    field.fill(0);
    for (to, from) in field.iter_mut().zip(text) {
        *to = *from;
    }
    true
}

/// Options that never give way to others.
const FIXED: [Code; 3] = [Code::MESSAGE_TYPE, Code::SERVER_IDENTIFIER, Code::LEASE_TIME];

/// Longest value that one option can hold.
const LONGEST: usize = 255;

/// Shortest message: BOOTP's (RFC 951 §3), which FreeBSD's kernel insists on.
const SMALLEST: usize = 300;

/// Longest message: what an Ethernet frame holds.
const LARGEST: usize = 1500 - DATAGRAM_HEADERS;

#[cfg(test)]
mod test {
    use super::*;
    use crate::dhcp4::HEADER_LEN;

    /// Where the options begin.
    const OPTIONS: usize = HEADER_LEN + MAGIC_COOKIE.len();

    fn discover(options: &[u8]) -> Vec<u8> {
        let request = Builder::request(MessageType::Discover, 0x1234_5678, [2, 0, 0, 0, 0, 9]);
        let mut bytes = request.finish();
        bytes.truncate(OPTIONS);
        bytes.extend(options);
        bytes
    }

    fn offer(request: &[u8]) -> Builder {
        Builder::reply(&Message::decode(request).unwrap(), MessageType::Offer)
    }

    fn codes(bytes: &[u8]) -> Vec<u8> {
        Message::decode(bytes).unwrap().options.iter().map(|(code, _)| code.0).collect()
    }

    #[test]
    fn options_stand_in_the_order_that_clients_need() {
        let mut reply = offer(&discover(b"\x35\x01\x01\x37\x02\x11\x01\x52\x03\x01\x01x"));
        reply.set(Code::VENDOR_CLASS, *b"PXEClient");
        reply.set(Code::SUBNET_MASK, [255, 255, 255, 0]);
        reply.set(Code::ROOT_PATH, *b"/be/head");
        reply.set(Code::LEASE_TIME, [0, 0, 14, 16]);
        reply.set(Code::SERVER_IDENTIFIER, [10, 77, 0, 1]);
        assert_eq!(codes(&reply.finish()), [53, 54, 51, 17, 1, 60, 82]);
    }

    #[test]
    fn leaders_stand_before_what_nobody_asked_for() {
        let mut reply = offer(&discover(b"\x35\x01\x01\x37\x01\x11"));
        reply.lead([Code(250), Code::SUBNET_MASK, Code::ROOT_PATH, Code(251)]);
        reply.set(Code::NAME_SERVERS, [10, 77, 0, 1]);
        reply.set(Code::SUBNET_MASK, [255, 255, 255, 0]);
        reply.set(Code(250), *b"a=1");
        reply.set(Code::ROOT_PATH, *b"/be/head");
        assert_eq!(codes(&reply.finish()), [53, 17, 250, 1, 6]);
    }

    #[test]
    fn a_client_that_reads_a_frame_gets_one() {
        let reply = |whole: bool| {
            let mut reply = offer(&discover(&[53, 1, 1]));
            (0..9).for_each(|code| reply.set(Code(246 + code), [b'x'; 130]));
            if whole {
                reply.fill_frame();
            }
            reply.finish()
        };
        assert_eq!(codes(&reply(false)), [53, 246, 247]);
        assert_eq!(codes(&reply(true)).len(), 10);
        assert!(reply(true).len() <= LARGEST);
    }

    #[test]
    fn zeros_stand_only_behind_the_end() {
        let bytes = offer(&discover(&[53, 1, 1])).finish();
        assert_eq!(bytes.len(), 300);
        assert_eq!(bytes[OPTIONS..OPTIONS + 4], [53, 1, 2, 255]);
        assert!(bytes[OPTIONS + 4..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn the_client_and_the_relay_find_their_own_bytes() {
        let mut request = discover(&[53, 1, 1, 61, 3, 0, 0, 7, 82, 6, 2, 1, b'b', 1, 1, b'a']);
        request[24..28].copy_from_slice(&[10, 1, 0, 1]);
        let bytes = offer(&request).finish();
        let reply = Message::decode(&bytes).unwrap();
        assert_eq!(reply.xid, 0x1234_5678);
        assert_eq!(reply.chaddr(), [2, 0, 0, 0, 0, 9]);
        assert_eq!(reply.giaddr, Ipv4Addr::new(10, 1, 0, 1));
        assert!(reply.wants_broadcast());
        let relay = reply.options.get(Code::RELAY_AGENT_INFORMATION);
        assert_eq!(relay.as_deref(), Some(&b"\x02\x01b\x01\x01a"[..]));
        let identifier = reply.options.get(Code::CLIENT_IDENTIFIER);
        assert_eq!(identifier.as_deref(), Some(&[0, 0, 7][..]));
    }

    #[test]
    fn what_was_only_offered_gives_way_to_what_is_needed() {
        let mut reply = offer(&discover(&[53, 1, 1]));
        reply.offer(Code(224), [b'x'; 250]);
        reply.set(Code::SUBNET_MASK, [255; 4]);
        reply.set(Code::ROOT_PATH, [b'r'; 120]);
        let bytes = reply.finish();
        assert_eq!(codes(&bytes), [53, 1, 17]);
        assert!(bytes.len() <= DEFAULT_LIMIT);
    }

    #[test]
    fn a_reply_is_no_longer_than_a_packet_of_our_interface() {
        for (mtu, filled, most) in
            [(1400, false, 1372), (1400, true, 1372), (500, true, 548), (9000, true, 1472)]
        {
            let mut reply = offer(&discover(&[53, 1, 1, 57, 2, 5, 220]));
            if filled {
                reply.fill_frame();
            }
            reply.keep_to_mtu(mtu);
            for code in 224..234 {
                reply.offer(Code(code), [b'x'; 120]);
            }
            let len = reply.finish().len();
            assert!((most - 122..=most).contains(&len), "{len} at {mtu}");
        }
    }

    #[test]
    fn a_client_with_room_gets_all_of_it() {
        let mut reply = offer(&discover(&[53, 1, 1, 57, 2, 5, 192]));
        reply.offer(Code(224), [b'x'; 600]);
        let bytes = reply.finish();
        let value = Message::decode(&bytes).unwrap().options.get(Code(224)).unwrap().into_owned();
        assert_eq!(value, [b'x'; 600]);
    }

    #[test]
    fn a_claimed_size_below_the_minimum_is_the_minimum() {
        let mut reply = offer(&discover(&[53, 1, 1, 57, 2, 0, 1]));
        reply.offer(Code(224), [b'x'; 200]);
        assert_eq!(codes(&reply.finish()), [53, 224]);
    }

    #[test]
    fn relay_information_that_does_not_fit_is_left_out_as_a_whole() {
        let mut options = vec![53, 1, 1, 61, 200];
        options.extend([7; 200]);
        options.extend([82, 200]);
        options.extend([8; 200]);
        assert_eq!(codes(&offer(&discover(&options)).finish()), [53, 61]);
    }

    #[test]
    fn an_empty_option_is_still_an_option() {
        let mut reply = offer(&discover(&[53, 1, 1]));
        reply.set(Code(80), []);
        assert_eq!(codes(&reply.finish()), [53, 80]);
    }

    #[test]
    fn names_too_long_for_their_field_are_not_cut() {
        let mut reply = offer(&discover(&[53, 1, 1]));
        assert!(reply.file(&[b'f'; 127]));
        assert!(!reply.file(&[b'g'; 128]));
        assert_eq!(Message::decode(&reply.finish()).unwrap().file(), [b'f'; 127]);
    }
}
