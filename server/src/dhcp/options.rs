//! The options that each kind of client needs to boot.
//!
//! An OFFER and its ACK are made of the same options from the same frozen plan: FreeBSD's loader
//! keeps what the OFFER said where the two differ.

use std::net::Ipv4Addr;

use wire::dhcp4::{Builder, Code, Message};

use super::server::Scope;
use crate::boot::{Answer, Arch, Client};

/// Which kind of answer tells a client what to boot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// An OFFER or an ACK with its address.
    Lease,
    /// An OFFER without an address, beside another server's.
    Proxy,
    /// An ACK on port 4011.
    BootServer,
}

/// Adds what every client on the network is told.
pub(super) fn network(reply: &mut Builder, client: Client, scope: &Scope) {
    let (network, parameters) = (scope.network, &scope.parameters);
    reply.set(Code::SUBNET_MASK, network.mask().octets());
    // FreeBSD's loader throws away a router that is not in its network.
    let given = parameters.routers.iter().copied().filter(|router| network.contains(*router));
    let own = scope.router.filter(|_| parameters.routers.is_empty());
    let routers = octets(given.chain(own));
    if !routers.is_empty() {
        reply.set(Code::ROUTERS, routers);
    }
    let name_servers = octets(parameters.name_servers.iter().copied());
    if !name_servers.is_empty() {
        reply.set(Code::NAME_SERVERS, name_servers);
    }
    if let Some(domain) = &parameters.domain {
        reply.set(Code::DOMAIN_NAME, domain.as_bytes());
    }
    if reply.asks(Code::BROADCAST_ADDRESS) || !reply.has_request_list() {
        reply.offer(Code::BROADCAST_ADDRESS, network.broadcast().octets());
    }
    // FreeBSD's kernel asks for nothing and uses it.
    let uses_mtu = client == Client::FreeBsdKernel || reply.asks(Code::INTERFACE_MTU);
    if let Some(mtu) = parameters.mtu.filter(|_| uses_mtu) {
        reply.set(Code::INTERFACE_MTU, mtu.to_be_bytes());
    }
    for (code, value) in &parameters.options {
        let code = Code(*code);
        if reply.asks(code) || !reply.has_request_list() {
            reply.offer(code, value.as_slice());
        }
    }
}

/// Adds what a client is told to boot.
pub(super) fn boot(
    reply: &mut Builder,
    request: &Message<'_>,
    client: Client,
    answer: &Answer,
    local: Ipv4Addr,
    kind: Kind,
) {
    let name = local.to_string();
    if client == Client::FreeBsdLoader {
        freebsd_loader(reply, request, answer);
    }
    reply.siaddr(local);
    // GRUB and some ROMs read the server's address from here; an address always fits.
    reply.sname(name.as_bytes());
    if let Some(root) = &answer.root_path {
        reply.set(Code::ROOT_PATH, root.as_bytes());
    }
    if let Some(file) = &answer.file {
        boot_file(reply, client, file);
        if reply.asks(Code::TFTP_SERVER_NAME) {
            reply.set(Code::TFTP_SERVER_NAME, terminated(&name));
        }
        if reply.asks(Code::TFTP_SERVER_ADDRESSES) {
            reply.offer(Code::TFTP_SERVER_ADDRESSES, local.octets());
        }
        match client {
            Client::Pxe(arch) => pxe(reply, request, arch, kind),
            Client::Http(_) => reply.set(Code::VENDOR_CLASS, *b"HTTPClient"),
            Client::Ipxe(_) if kind == Kind::Lease => reply.set(Code::IPXE, NO_PROXY_DHCP),
            // iPXE takes an offer without an address for a proxy's only with this class.
            Client::Ipxe(_) => reply.set(Code::VENDOR_CLASS, *b"PXEClient"),
            Client::FreeBsdKernel | Client::FreeBsdLoader | Client::Ordinary => {}
        }
    }
    for (code, value) in &answer.options {
        if !OURS.contains(&Code(*code)) {
            reply.set(Code(*code), value.as_slice());
        }
    }
    for (code, value) in &answer.asked {
        if reply.asks(Code(*code)) && !OURS.contains(&Code(*code)) {
            reply.offer(Code(*code), value.as_slice());
        }
    }
}

/// Makes sure that FreeBSD's loader reads what it boots by.
///
/// Those before 12.0 have 312 bytes for the options and the cookie before them: what counts comes
/// first, and what would not fit is left out. Later ones read whole frames, but say so as little; they
/// are known by their user class.
fn freebsd_loader(reply: &mut Builder, request: &Message<'_>, answer: &Answer) {
    let network = [Code::SUBNET_MASK, Code::ROUTERS, Code::ROOT_PATH, Code::HOST_NAME];
    let variables = answer.options.iter().map(|(code, _)| Code(*code));
    reply.lead(network.into_iter().chain(variables));
    if request.options.has_user_class(b"FreeBSD") {
        reply.fill_frame();
    }
}

/// Adds what a PXE client is told that asks port 4011 for its boot file.
pub(super) fn boot_server(reply: &mut Builder, request: &Message<'_>) {
    // A client that chose from a menu wants to hear its choice again (PXE 2.1 §2.4.4).
    let item = request.options.suboption(Code::VENDOR_SPECIFIC, BOOT_ITEM);
    if let Some([kind, number, _, _]) = item.as_deref() {
        let value = [BOOT_ITEM, 4, *kind, *number, 0, 0, Code::END.0];
        reply.set(Code::VENDOR_SPECIFIC, value);
    }
}

/// Puts a boot file's name where the client looks for it.
fn boot_file(reply: &mut Builder, client: Client, file: &str) {
    let fits = reply.file(file.as_bytes());
    // UEFI's HTTP boot reads only the option, and iPXE is known to read it; for the others it is
    // added when they ask, and a name too long for the field has no other place.
    let always = matches!(client, Client::Http(_) | Client::Ipxe(_)) || !fits;
    if always || reply.asks(Code::BOOT_FILE_NAME) {
        reply.set(Code::BOOT_FILE_NAME, terminated(file));
    }
}

/// Tells a PXE ROM that we are its boot server and that the file is the one in this very message.
///
/// Class 60 without 43 sends UEFI firmware to port 4011; with both it asks nobody else. That is what
/// a lease needs. Beside another server's lease most UEFI firmware takes a proxy only if it is sent
/// to port 4011, as dnsmasq does it too.
fn pxe(reply: &mut Builder, request: &Message<'_>, arch: Arch, kind: Kind) {
    reply.set(Code::VENDOR_CLASS, *b"PXEClient");
    if kind != Kind::Proxy || arch == Arch::BIOS {
        reply.set(Code::VENDOR_SPECIFIC, BOOT_FILE_IS_HERE);
    }
    if let Some(identifier) = request.options.get(Code::MACHINE_IDENTIFIER) {
        reply.set(Code::MACHINE_IDENTIFIER, identifier);
    }
}

/// Text and a NUL: some PXE ROMs read on without it.
fn terminated(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn octets(addresses: impl Iterator<Item = Ipv4Addr>) -> Vec<u8> {
    addresses.flat_map(|address| address.octets()).collect()
}

/// PXE 2.1 §2.4.4 discovery control, bit 3: no discovery, the boot file's name is here.
const BOOT_FILE_IS_HERE: [u8; 4] = [6, 1, 8, 255];

/// The sub-option of 43 that names a boot server's kind and layer.
const BOOT_ITEM: u8 = 71;

/// iPXE's `no-pxedhcp`: without it iPXE waits two seconds for a proxy.
const NO_PROXY_DHCP: [u8; 3] = [0xb0, 1, 1];

/// Options that a plan cannot set, because the message itself depends on them.
const OURS: [Code; 12] = [
    Code::PAD,
    Code::REQUESTED_ADDRESS,
    Code::LEASE_TIME,
    Code::OVERLOAD,
    Code::MESSAGE_TYPE,
    Code::SERVER_IDENTIFIER,
    Code::PARAMETER_REQUEST_LIST,
    Code::MAX_MESSAGE_SIZE,
    Code::CLIENT_IDENTIFIER,
    Code::RELAY_AGENT_INFORMATION,
    Code::MACHINE_IDENTIFIER,
    Code::END,
];
