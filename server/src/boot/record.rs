//! Boots that outlive the server: one small record per machine.
//!
//! A machine that runs from us must not notice that the server was killed and started: its URLs, its
//! address and its root stay what they were. Records are written by a thread of their own, so that no
//! DHCP answer waits for a disk; a boot whose record is not written yet when the server is killed
//! asks for its address again like any other.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::{BootId, Client};
use crate::machine::Mac;
use crate::state::{Kind, State, StateError};

/// What is kept of a boot.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct BootRecord {
    /// The boot.
    pub(super) id: BootId,
    /// The machine.
    pub(super) mac: Mac,
    /// What asked first.
    pub(super) client: Client,
    /// What it boots.
    pub(super) plan: Plan,
    /// The address that it took.
    pub(super) address: Option<Ipv4Addr>,
    /// Whether it has used its root.
    pub(super) rooted: bool,
}

/// Reads the records of all boots. A damaged one is reported and left out: the machine then boots as
/// if it were new.
pub(super) fn load(state: &dyn State) -> Result<Vec<BootRecord>, StateError> {
    let mut records = Vec::new();
    for name in state.names(Kind::Boot)? {
        let Some(bytes) = state.load(Kind::Boot, &name)? else { continue };
        match serde_json::from_slice::<BootRecord>(&bytes) {
            Ok(record) if name == file_name(record.mac) => records.push(record),
            Ok(_) => tracing::warn!("boots/{name}.json is not about that machine: remove it"),
            Err(error) => tracing::warn!("boots/{name}.json is damaged ({error}): remove it"),
        }
    }
    Ok(records)
}

fn file_name(mac: Mac) -> String {
    mac.to_string().replace(':', "-")
}

/// Writes records in the background, the newest of each machine.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    /// What to write, or to remove.
    waiting: BTreeMap<Mac, Option<BootRecord>>,
    closed: bool,
}

impl Keeper {
    /// Starts the thread.
    pub(super) fn start(state: Arc<dyn State>) -> io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), changed: Condvar::new() });
        let own = Arc::clone(&shared);
        let work = move || {
            while let Some((mac, record)) = own.next() {
                if let Err(error) = write(&*state, mac, record.as_ref()) {
                    tracing::error!("the boot of {mac} cannot be kept: {error}");
                }
            }
        };
        let thread = thread::Builder::new().name("boots".to_owned()).spawn(work)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Keeps a boot.
    pub(super) fn keep(&self, record: BootRecord) {
        self.put(record.mac, Some(record));
    }

    /// Forgets the boot of a machine.
    pub(super) fn forget(&self, mac: Mac) {
        self.put(mac, None);
    }

    fn put(&self, mac: Mac, record: Option<BootRecord>) {
        self.shared.queue().waiting.insert(mac, record);
        self.shared.changed.notify_one();
    }
}

impl Drop for Keeper {
    /// Waits until everything is written.
    fn drop(&mut self) {
        self.shared.queue().closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            // It cannot have panicked: there is nothing in it that does.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<(Mac, Option<BootRecord>)> {
        let idle = |queue: &mut Queue| queue.waiting.is_empty() && !queue.closed;
        let queue = self.changed.wait_while(self.queue(), idle);
        queue.unwrap_or_else(PoisonError::into_inner).waiting.pop_first()
    }
}

fn write(state: &dyn State, mac: Mac, record: Option<&BootRecord>) -> Result<(), StateError> {
    let name = file_name(mac);
    let Some(record) = record else { return state.remove(Kind::Boot, &name).map(drop) };
    match serde_json::to_vec_pretty(record) {
        Ok(text) => state.store(Kind::Boot, &name, &text),
        Err(error) => {
            tracing::error!("the boot of {mac} cannot be written down: {error}");
            Ok(())
        }
    }
}
