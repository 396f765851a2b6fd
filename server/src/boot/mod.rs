//! What a machine boots: one decision per boot, asked by every protocol.
//!
//! A boot begins with a firmware-class DISCOVER and ends with the next one. What it boots is decided
//! once and frozen; DHCP, TFTP, HTTP and MOUNT ask a [`Booter`] and decide nothing themselves, and
//! tell it what they see, which becomes the machine's timeline.

mod boots;
pub(crate) mod cache;
pub mod catalog;
mod client;
pub mod decide;
mod files;
pub mod flaw;
mod freebsd;
pub mod loader;
pub mod plan;
pub(crate) mod readahead;
mod ready;
mod record;
mod refused;
mod roots;
mod script;
pub mod timeline;
pub mod usage;

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use boots::{Boots, BootsError, Order, Sources, Standing};
pub use client::{Arch, Client};
use flaw::Flaw;
pub use ready::{Ready, open_when_ready};
pub use record::{rename as rename_boots, rooted_of, rooted_on};
pub use roots::{Root, Roots};
use usage::Traffic;

use crate::net::Mac;
pub use crate::net::rpc::Life;
use crate::site::events::Kind;
pub use crate::site::events::{BootId, BootIdError};

/// Decides what machines boot, and hears what becomes of it.
///
/// Every method is quick and waits for nothing, but for [`Booter::open`], which may read from a disk.
pub trait Booter: Send + Sync {
    /// The address and name that are kept for a machine, if it is a named one.
    fn reservation(&self, mac: Mac) -> Option<Reservation>;

    /// The name of the machine that an address is kept for: nobody else may have it.
    fn reserved_for(&self, address: Ipv4Addr) -> Option<String>;

    /// The Ethernet addresses of each named machine for which no address is reserved.
    fn unreserved(&self) -> Vec<Vec<Mac>>;

    /// Whether the address has an NFS root that lives: then it must not be given to anybody else.
    fn lives(&self, address: Ipv4Addr) -> bool;

    /// What a DHCP client is told to boot; `None` when it boots nothing from us.
    ///
    /// A DISCOVER of a firmware class begins a boot and freezes its plan; everything else joins the
    /// boot that the machine is in.
    fn decide(&self, ask: &Ask) -> Option<Answer>;

    /// Opens a boot file for TFTP or HTTP: generated ones first, then the machine's own.
    fn open(&self, request: &FileRequest<'_>) -> Result<BootFile, FileError>;

    /// The roots that the machine at this address has: an export grants it those without a network
    /// of its own listed. Takes no lock, so that every NFS call may ask.
    fn roots_of(&self, address: IpAddr) -> Roots;

    /// Why the machine at this address, to which an address is reserved, has no root just now though it
    /// will have one again: what it boots cannot be used.
    fn awaited_root(&self, address: IpAddr) -> Option<String>;

    /// Takes note of what a protocol saw.
    fn report(&self, client: ClientAddress, event: Event);
}

/// An address that is kept for a named machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reservation {
    /// The address, when one was chosen for it.
    pub address: Option<Ipv4Addr>,
    /// The machine's name, which is its host name too.
    pub name: String,
}

/// What a DHCP client asks.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ask {
    /// Who asks.
    pub mac: Mac,
    /// The client's UUID (option 97), unless it is missing or all zeros.
    pub uuid: Option<Uuid>,
    /// What asks.
    pub client: Client,
    /// The transaction: a repeated DISCOVER of one transaction does not begin a new boot.
    pub xid: u32,
    /// Whether this is a DISCOVER; else it is a REQUEST, an INFORM or a question on port 4011.
    pub discover: bool,
    /// Our own address on the interface that the question came by.
    pub local: Ipv4Addr,
    /// Whether another DHCP server gives it its address (proxy mode).
    pub proxy: bool,
    /// Whether another server says what it boots, and only a file that it fetches shows that it boots from
    /// us.
    pub observed: bool,
    /// What holds in its network.
    pub network: ClientNetwork,
}

/// What holds in a client's network.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ClientNetwork {
    /// The largest packet that reaches it whole: our interface's MTU, or what clients are told (option
    /// 26) if that is less.
    pub mtu: u32,
    /// The name servers that clients are told (option 6).
    pub name_servers: Vec<Ipv4Addr>,
    /// The domain that clients are told (option 15).
    pub domain: Option<String>,
    /// The time servers that clients are told (option 42).
    #[serde(default)]
    pub time_servers: Vec<Ipv4Addr>,
}

impl Default for ClientNetwork {
    /// An Ethernet of which nothing else is known.
    fn default() -> Self {
        Self { mtu: 1500, name_servers: Vec::new(), domain: None, time_servers: Vec::new() }
    }
}

/// What a DHCP client is told beside its address.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Answer {
    /// Boot file: a TFTP name or an absolute URL. `None` for clients that want none.
    pub file: Option<String>,
    /// Root path (option 17), sent unasked.
    pub root_path: Option<String>,
    /// Host name (option 12).
    pub host_name: Option<String>,
    /// More options, in this order, by code and value.
    pub options: Vec<(u8, Vec<u8>)>,
    /// Options that only a client gets that asks for them.
    pub asked: Vec<(u8, Vec<u8>)>,
}

/// Asks for a boot file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FileRequest<'a> {
    /// Who asks.
    pub peer: IpAddr,
    /// Our own address that was asked.
    pub local: IpAddr,
    /// The port that was asked, for URLs in generated files; 69 for TFTP.
    pub port: u16,
    /// By which protocol.
    pub protocol: FileProtocol,
    /// Whether who asks has waited for it already, and takes what there is.
    pub waited: bool,
    /// The file's name or the URL's path, percent-decoded, as bytes; may begin with `/`.
    pub name: &'a [u8],
}

/// By which protocol a boot file travels.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FileProtocol {
    /// HTTP.
    Http,
    /// TFTP.
    Tftp,
}

/// A boot file, opened.
#[derive(Debug)]
pub struct BootFile {
    /// What is in it.
    pub content: Content,
    /// Its length in bytes, fixed when it was opened.
    pub len: u64,
    /// MIME type, for HTTP.
    pub mime: &'static str,
    /// What it is to the boot; given back in [`Event::Sent`].
    pub ticket: Ticket,
}

/// Where a boot file's bytes are.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory: generated.
    Bytes(Arc<[u8]>),
    /// In a regular file, opened inside its boot environment or loader search path.
    File(Arc<File>),
}

/// What a boot file is to a boot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ticket {
    /// The boot it belongs to, if any.
    pub boot: Option<BootId>,
    /// Its part in the boot.
    pub role: Role,
}

/// The part that a file has in a boot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    /// The first program from the network.
    Loader,
    /// What tells a loader how to go on.
    Script,
    /// The kernel.
    Kernel,
    /// The initial RAM disk.
    Initrd,
    /// Anything else.
    Other,
}

/// Why a boot file cannot be had.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FileError {
    /// There is none of that name for this machine.
    #[error("no such file")]
    NotFound,
    /// The machine boots nothing from us; the reason is for its screen.
    #[error("{0}")]
    Refused(String),
    /// The host could not read it.
    #[error("cannot be read")]
    Io,
    /// What it needs is being made: to be asked for again, when that has ended.
    #[error("is being made")]
    Waiting(Ready),
}

/// The address by which a protocol knows the client that its report is about.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ClientAddress {
    /// A client known by its Ethernet address.
    Mac(Mac),
    /// A client known by its IP address.
    Ip(IpAddr),
}

/// What a protocol saw of a machine. What of it is worth telling becomes a
/// [`site::events::Event`](crate::site::events::Event).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// It asked for an address.
    Discover(Client),
    /// It was offered one.
    Offered(Ipv4Addr),
    /// It took one: from now on reports by this address are about this machine.
    Leased(Ipv4Addr),
    /// It has this address from another DHCP server: from now on reports by this address are about
    /// this machine, if it is one of ours.
    Elsewhere(Ipv4Addr),
    /// It needs something that only the administrator can do; what, in words.
    Advised(String),
    /// It asked for an address and got none; the reason is in words.
    Unserved(String),
    /// It gave its address back.
    Released(Ipv4Addr),
    /// It was refused the address that it asked for.
    Refused(Ipv4Addr),
    /// It found its address in use by somebody else.
    Declined(Ipv4Addr),
    /// It chose another DHCP server.
    ForeignServer(Ipv4Addr),
    /// It asked only for the size of a file, as PXE ROMs do first.
    Probed(Ticket),
    /// So much of a file is with it now.
    Sent {
        /// The file.
        ticket: Ticket,
        /// Its name as asked.
        name: String,
        /// Bytes delivered so far.
        bytes: u64,
        /// The file's length.
        total: u64,
        /// By which protocol.
        protocol: FileProtocol,
    },
    /// A file was not delivered to the end, because nothing came from the client any more. One that
    /// was heard of since has let go of the file without a word, as FreeBSD's loader does.
    Abandoned {
        /// The file's name as asked.
        name: String,
        /// Since when nothing came.
        since: Instant,
        /// How far it had come.
        stall: Stall,
    },
    /// It asked for a file and was told that it cannot have it.
    Denied {
        /// The file's name as asked.
        name: String,
        /// By which protocol.
        protocol: FileProtocol,
        /// Why.
        denial: Denial,
    },
    /// It asked for a program that its firmware cannot start, as far as the file's first bytes tell.
    Flawed {
        /// The file's name as asked.
        name: String,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// A mount was refused.
    NotMounted {
        /// By which path.
        path: String,
        /// Why, in words.
        reason: String,
    },
    /// A call for a file was refused, because the export is not for it; what lets it be, in words.
    NotAdmitted(String),
    /// Its kernel says that it stops, in these words.
    Panicked(String),
    /// It refused the terms of a transfer with an error of its own (RFC 2347), as it does that asks for a
    /// file's size first.
    TermsRefused {
        /// The file's name as asked.
        name: String,
        /// The error.
        code: u16,
    },
    /// A file was not delivered to the end.
    Failed {
        /// The file's name as asked.
        name: String,
        /// What went wrong, in words.
        reason: String,
    },
    /// It mounted a boot environment, or a part of it.
    Mounted {
        /// The boot environment.
        environment: Uuid,
        /// By which path.
        path: String,
    },
    /// It unmounted.
    Unmounted(String),
    /// It uses a boot environment; told at most once a second for each that an address uses.
    Nfs {
        /// The boot environment.
        environment: Uuid,
        /// What it did since the last report.
        traffic: Traffic,
    },
}

/// How far a transfer by TFTP had come when its client fell silent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stall {
    /// The terms that it had asked for were sent (OACK), and it acknowledged nothing.
    Terms,
    /// The first block of so many bytes was sent, and it did not acknowledge that.
    FirstBlock(u64),
    /// It had so many bytes of the file.
    Midway(u64),
}

/// Why a machine cannot have a file that it asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Denial {
    /// There is none of that name for it.
    Missing,
    /// It boots nothing from us, or not that; the reason is in words.
    Refused(String),
    /// The host could not read it.
    Unreadable,
}

impl Denial {
    /// What a file's error is to the machine; `None` where it is to ask again.
    #[must_use]
    pub fn of(error: &FileError) -> Option<Self> {
        match error {
            FileError::NotFound => Some(Self::Missing),
            FileError::Refused(reason) => Some(Self::Refused(reason.clone())),
            FileError::Io => Some(Self::Unreadable),
            FileError::Waiting(_) => None,
        }
    }
}

impl Event {
    /// What kind of thing the site is told of it as.
    const fn kind(&self) -> Kind {
        match self {
            Self::Advised(_) => Kind::Notice,
            Self::Declined(_) => Kind::AddressDeclined,
            Self::Discover(_) => Kind::AddressRequested,
            Self::Elsewhere(_) | Self::Leased(_) => Kind::AddressLeased,
            Self::Abandoned { .. }
            | Self::Denied { .. }
            | Self::Failed { .. }
            | Self::Flawed { .. } => Kind::FileFailed,
            Self::ForeignServer(_) => Kind::ForeignServer,
            Self::Mounted { .. } => Kind::RootMounted,
            Self::Nfs { .. } => Kind::RootUsed,
            Self::NotAdmitted(_) | Self::NotMounted { .. } => Kind::RootRefused,
            Self::Offered(_) => Kind::AddressOffered,
            Self::Panicked(_) => Kind::KernelPanicked,
            Self::Probed(_) | Self::TermsRefused { .. } => Kind::FileProbed,
            Self::Refused(_) => Kind::AddressRefused,
            Self::Released(_) => Kind::AddressReleased,
            Self::Sent { .. } => Kind::FileSent,
            Self::Unmounted(_) => Kind::RootUnmounted,
            Self::Unserved(_) => Kind::AddressUnavailable,
        }
    }
}
