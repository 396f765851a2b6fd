//! What commands and the running server say to each other, each in a line of JSON.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::boot::timeline::Cause;
use crate::boot::{BootId, Standing};
use crate::net::Mac;
use crate::net::rpc::Counts;
use crate::site::events::{Event, Stage};

/// What a command asks.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "ask", rename_all = "lowercase", deny_unknown_fields)]
pub enum Request {
    /// Why a machine is where it is, and what was seen of it. Answered with [`Reply::Explanation`].
    Explain {
        /// Its name, Ethernet address or IP address.
        machine: String,
    },
    /// Who lives on a boot environment, has data in it, or uses it.
    Living {
        /// The environment's name.
        environment: String,
    },
    /// Close and unmount the whole store, which is about to be taken away, until the next request on the
    /// same connection or its end; then read everything again. Answered with [`Reply::Living`]: the
    /// machines that wait meanwhile.
    Detach,
    /// Close and unmount a boot environment, whose tree is about to be moved or taken away, until the
    /// next request on the same connection, a [`Request::Reload`], or its end; then serve what is there.
    /// Answered with [`Reply::Held`], or refused with [`Reply::Living`] if machines live on it or have
    /// their data in it, or if others use it.
    Hold {
        /// The environment's name.
        environment: String,
        /// Whoever lives on it.
        force: bool,
    },
    /// Whether the server is there.
    Ping,
    /// Read netbe.toml again, then all that [`Request::Reload`] reads. Answered with
    /// [`Reply::Reconfigured`].
    Reconfigure {
        /// Only say what would become of it.
        dry: bool,
    },
    /// Read machines again, and environments and exports.
    Reload {
        /// The names of the environments that were changed, the old one too where one was renamed; all,
        /// if it is not said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        environments: Option<Vec<String>>,
    },
    /// How everything stands.
    Status,
    /// How everything stands, twice a second, and what is seen meanwhile.
    Watch,
}

/// What the server answers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "answer", rename_all = "lowercase")]
pub enum Reply {
    /// It was done, or the server is there.
    Done,
    /// It could not be done.
    Failed {
        /// Why, in a sentence.
        message: String,
    },
    /// Why a machine is where it is.
    Explanation(Box<Explanation>),
    /// The environment is held.
    Held {
        /// Its identity, and those of the roots whose machine has its data in it.
        environments: Vec<Uuid>,
    },
    /// Who lives on the environment.
    Living(Living),
    /// What netbe.toml says now holds.
    Reconfigured {
        /// The keys that have other values.
        changed: Vec<String>,
    },
    /// Something happened.
    Event(Event),
    /// How everything stands.
    Status(Status),
}

/// Why a machine is where it is.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Explanation {
    /// How it stands; the reason and what to do are a part of that.
    pub machine: MachineStatus,
    /// What was seen of its present boot, the first first.
    pub evidence: Vec<Seen>,
}

/// One thing that was seen of a machine, or several of a kind one after the other.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Seen {
    /// When first, in seconds since 1970.
    pub at: f64,
    /// When last.
    pub last: f64,
    /// How often.
    pub times: u32,
    /// What, in words.
    pub text: String,
}

/// Who needs an environment to stay as it is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Living {
    /// Machines that live on it, or have their data in it: by name, or by Ethernet address.
    pub machines: Vec<String>,
    /// Others that use it over NFS, the latest first.
    #[serde(default)]
    pub visitors: Vec<Visitor>,
}

impl Living {
    /// Whether nobody does.
    #[must_use]
    pub const fn is_nobody(&self) -> bool {
        self.machines.is_empty() && self.visitors.is_empty()
    }

    /// All of them.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let visitors = self.visitors.iter().map(|visitor| &visitor.name);
        self.machines.iter().chain(visitors).map(String::as_str).collect()
    }
}

/// Somebody who uses an environment that is not the root of his boot.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Visitor {
    /// By address, behind the machine's name if it is one's.
    pub name: String,
    /// Seconds since he was last heard of.
    pub seen: f64,
}

/// How the server and its machines stand.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Status {
    /// The server's version.
    pub version: String,
    /// Its process.
    pub process: u32,
    /// Seconds since it was started.
    pub up: f64,
    /// What it serves, and where.
    pub services: Vec<String>,
    /// What it does on which interface.
    pub interfaces: Vec<InterfaceStatus>,
    /// Addresses that are leased just now.
    #[serde(default)]
    pub leased: usize,
    /// The boot environments.
    pub environments: Vec<String>,
    /// What is not served, each with the reason.
    #[serde(default)]
    pub unserved: Vec<String>,
    /// What became of the calls of all NFS and RPC clients since it was started.
    #[serde(default)]
    pub rpc: Counts,
    /// The machines.
    pub machines: Vec<MachineStatus>,
}

/// What is done on an interface.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct InterfaceStatus {
    /// The interface.
    pub name: String,
    /// Our address on it.
    pub address: Ipv4Addr,
    /// `serve`, `proxy`, `passive`, `looking` while it is asked whether another server is there and only who has an
    /// address of ours is answered, or `absent` while there is no such interface.
    pub mode: String,
    /// Another DHCP server that was heard there.
    pub foreign: Option<Ipv4Addr>,
}

/// How a machine stands.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct MachineStatus {
    /// Its name, or its Ethernet address.
    pub name: String,
    /// Its Ethernet address, if one is known.
    pub mac: Option<Mac>,
    /// Its IP address.
    pub address: Option<Ipv4Addr>,
    /// What it boots.
    pub environment: Option<String>,
    /// Whether its root is read-only.
    pub read_only: Option<bool>,
    /// The boot that it is in.
    pub boot: Option<BootId>,
    /// How far it has come.
    pub stage: Stage,
    /// What keeps it from going on, in one word.
    pub trouble: Option<String>,
    /// What is wrong, or may be.
    pub message: Option<String>,
    /// The cause of that, in one word.
    #[serde(default)]
    pub cause: Option<Cause>,
    /// What to do, in a sentence.
    #[serde(default)]
    pub cure: Option<String>,
    /// Bytes that it was sent: boot files, and what it read from its root.
    pub sent: u64,
    /// Bytes of those that it read from its root.
    pub read: u64,
    /// Bytes that it wrote to its root.
    pub written: u64,
    /// The file on its way: bytes of total.
    pub progress: Option<(u64, u64)>,
    /// Seconds of the boot, up to its running.
    pub seconds: f64,
    /// The stages so far and the seconds in each.
    pub stages: Vec<(Stage, f64)>,
    /// Seconds since it was last heard of; `None` if it was not since the server was started.
    pub seen: Option<f64>,
}

impl From<Standing> for MachineStatus {
    fn from(standing: Standing) -> Self {
        let named = standing.name.map(|name| name.to_string());
        let mac = standing.mac.map(|mac| mac.to_string());
        let status = standing.status;
        let trouble = status.as_ref().and_then(|status| status.trouble);
        let verdict = status.as_ref().and_then(|status| status.verdict.clone());
        let stages = status.as_ref().map_or(&[][..], |status| status.stages.as_slice());
        Self {
            name: named.or(mac).unwrap_or_default(),
            mac: standing.mac,
            address: standing.address,
            environment: standing.environment,
            read_only: standing.read_only,
            boot: standing.boot,
            stage: status.as_ref().map_or(Stage::Off, |status| status.stage),
            trouble: trouble.map(|trouble| trouble.as_str().to_owned()),
            cause: verdict.as_ref().map(|verdict| verdict.cause),
            cure: verdict.as_ref().map(|one| one.cure.clone()).filter(|cure| !cure.is_empty()),
            message: verdict.map(|verdict| verdict.text),
            sent: status.as_ref().map_or(0, |status| status.sent),
            read: status.as_ref().map_or(0, |status| status.read),
            written: status.as_ref().map_or(0, |status| status.written),
            progress: status.as_ref().and_then(|status| status.progress),
            seconds: status.as_ref().map_or(0.0, |status| status.took.as_secs_f64()),
            stages: stages.iter().map(|(stage, took)| (*stage, took.as_secs_f64())).collect(),
            seen: status.and_then(|status| status.seen).map(|seen| seen.as_secs_f64()),
        }
    }
}
