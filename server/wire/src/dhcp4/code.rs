//! The numbers of DHCP options (RFC 2132 and the IANA registry).

use std::fmt;

/// A DHCP option's number. Every number is allowed; the ones that netbe knows have names.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Code(pub u8);

impl Code {
    /// Pad (RFC 2132 §3.1): a byte without meaning.
    pub const PAD: Self = Self(0);
    /// Subnet mask (RFC 2132 §3.3).
    pub const SUBNET_MASK: Self = Self(1);
    /// Routers (RFC 2132 §3.5).
    pub const ROUTERS: Self = Self(3);
    /// Domain name servers (RFC 2132 §3.8).
    pub const NAME_SERVERS: Self = Self(6);
    /// Host name (RFC 2132 §3.14).
    pub const HOST_NAME: Self = Self(12);
    /// Domain name (RFC 2132 §3.17).
    pub const DOMAIN_NAME: Self = Self(15);
    /// Root path (RFC 2132 §3.19).
    pub const ROOT_PATH: Self = Self(17);
    /// Interface MTU (RFC 2132 §5.1).
    pub const INTERFACE_MTU: Self = Self(26);
    /// Broadcast address (RFC 2132 §5.3).
    pub const BROADCAST_ADDRESS: Self = Self(28);
    /// Vendor specific information (RFC 2132 §8.4).
    pub const VENDOR_SPECIFIC: Self = Self(43);
    /// Requested IP address (RFC 2132 §9.1).
    pub const REQUESTED_ADDRESS: Self = Self(50);
    /// IP address lease time (RFC 2132 §9.2).
    pub const LEASE_TIME: Self = Self(51);
    /// Option overload (RFC 2132 §9.3).
    pub const OVERLOAD: Self = Self(52);
    /// DHCP message type (RFC 2132 §9.6).
    pub const MESSAGE_TYPE: Self = Self(53);
    /// Server identifier (RFC 2132 §9.7).
    pub const SERVER_IDENTIFIER: Self = Self(54);
    /// Parameter request list (RFC 2132 §9.8).
    pub const PARAMETER_REQUEST_LIST: Self = Self(55);
    /// Message, in words (RFC 2132 §9.9).
    pub const MESSAGE: Self = Self(56);
    /// Maximum DHCP message size (RFC 2132 §9.10).
    pub const MAX_MESSAGE_SIZE: Self = Self(57);
    /// Renewal time T1 (RFC 2132 §9.11).
    pub const RENEWAL_TIME: Self = Self(58);
    /// Rebinding time T2 (RFC 2132 §9.12).
    pub const REBINDING_TIME: Self = Self(59);
    /// Vendor class identifier (RFC 2132 §9.13).
    pub const VENDOR_CLASS: Self = Self(60);
    /// Client identifier (RFC 2132 §9.14).
    pub const CLIENT_IDENTIFIER: Self = Self(61);
    /// TFTP server name (RFC 2132 §9.4).
    pub const TFTP_SERVER_NAME: Self = Self(66);
    /// Boot file name (RFC 2132 §9.5).
    pub const BOOT_FILE_NAME: Self = Self(67);
    /// User class (RFC 3004).
    pub const USER_CLASS: Self = Self(77);
    /// Relay agent information (RFC 3046).
    pub const RELAY_AGENT_INFORMATION: Self = Self(82);
    /// Client system architecture types (RFC 4578 §2.1).
    pub const ARCHITECTURES: Self = Self(93);
    /// Client network interface identifier (RFC 4578 §2.2).
    pub const NETWORK_INTERFACE: Self = Self(94);
    /// Client machine identifier (RFC 4578 §2.3).
    pub const MACHINE_IDENTIFIER: Self = Self(97);
    /// Subnet selection (RFC 3011).
    pub const SUBNET_SELECTION: Self = Self(118);
    /// TFTP server addresses (RFC 5859).
    pub const TFTP_SERVER_ADDRESSES: Self = Self(150);
    /// iPXE's own options, a list of sub-options.
    pub const IPXE: Self = Self(175);
    /// End (RFC 2132 §3.2).
    pub const END: Self = Self(255);
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
