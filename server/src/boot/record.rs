//! Boots that outlive the server: one small record per machine.
//!
//! A machine that runs from us must not notice that the server was killed and started: its URLs, its
//! address and its root stay what they were. Records are written by a thread of their own, so that no
//! DHCP answer waits for a disk; a boot whose record is not written yet when the server is killed
//! asks for its address again like any other.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::iter;
use std::net::Ipv4Addr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::plan::Plan;
use super::{BootId, Client};
use crate::net::Mac;
use crate::site::machine::MachineName;
use crate::site::state::{Kind, State, StateError};

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
    /// The boot before it, if its system may still run.
    #[serde(default)]
    pub(super) earlier: Option<Box<Self>>,
}

impl BootRecord {
    /// Goes on by the new name of its machine; says whether it had the old one.
    fn follow(&mut self, old: &MachineName, new: &MachineName) -> bool {
        let earlier = self.earlier.as_mut().is_some_and(|earlier| earlier.follow(old, new));
        let own = self.plan.machine.as_ref() == Some(old);
        if own {
            self.plan.machine = Some(new.clone());
        }
        own || earlier
    }

    /// The boot, and those before it whose systems may still run, the last first.
    fn boots(&self) -> impl Iterator<Item = &Self> {
        iter::successors(Some(self), |record| record.earlier.as_deref())
    }
}

/// Reads the records of all boots. Of one that is damaged, which is reported, the copy is taken: a machine
/// that runs keeps its root. Where that is none either, the machine boots as if it were new.
pub(super) fn load(state: &dyn State) -> Result<Vec<BootRecord>, StateError> {
    let names = state.names(Kind::Boot)?;
    Ok(names.iter().filter_map(|name| read(state, name)).collect())
}

fn read(state: &dyn State, name: &str) -> Option<BootRecord> {
    let damage = match parse(name, state.load(Kind::Boot, name)) {
        Ok(record) => return record,
        Err(damage) => damage,
    };
    let copy = parse(name, state.load_copy(Kind::Boot, name)).ok().flatten();
    match &copy {
        Some(_) => tracing::warn!("boots/{name}.json is damaged ({damage}): its copy is used"),
        None => tracing::warn!(
            "boots/{name}.json is damaged ({damage}), and so is its copy: if its machine runs, switch it \
             off and on; remove the file"
        ),
    }
    copy
}

/// A record as it was read, or what is wrong with it.
fn parse(
    name: &str,
    read: Result<Option<Vec<u8>>, StateError>,
) -> Result<Option<BootRecord>, String> {
    let Some(bytes) = read.map_err(|error| error.to_string())? else { return Ok(None) };
    match serde_json::from_slice::<BootRecord>(&bytes) {
        Ok(record) if name == file_name(record.mac) => Ok(Some(record)),
        Ok(_) => Err("it belongs to another machine".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// The machines whose last boot used its root in an environment, by name or Ethernet address: as far
/// as anybody knows while no server runs.
pub fn rooted_on(state: &dyn State, environments: &[Uuid]) -> Result<Vec<String>, StateError> {
    let mut records = load(state)?;
    let lives =
        |record: &BootRecord| record.rooted && environments.contains(&record.plan.environment);
    records.retain(|record| record.boots().any(lives));
    let title = |record: &BootRecord| {
        let named = record.plan.machine.as_ref().map(ToString::to_string);
        named.unwrap_or_else(|| record.mac.to_string())
    };
    Ok(records.iter().map(title).collect())
}

/// The environments that a machine has used for its root in its last boot, or in those before it whose
/// systems may still run: as far as it is written down.
pub fn rooted_of(state: &dyn State, machine: &MachineName) -> Result<Vec<Uuid>, StateError> {
    let records = load(state)?;
    let boots = records.iter().flat_map(BootRecord::boots);
    let own = boots.filter(|boot| boot.rooted && boot.plan.machine.as_ref() == Some(machine));
    Ok(own.map(|boot| boot.plan.environment).collect())
}

/// Has the boots of a machine go on by its new name, while no server runs.
pub fn rename(state: &dyn State, old: &MachineName, new: &MachineName) -> Result<(), StateError> {
    for mut record in load(state)? {
        if record.follow(old, new) {
            write(state, record.mac, Some(&record))?;
        }
    }
    Ok(())
}

fn file_name(mac: Mac) -> String {
    mac.to_string().replace(':', "-")
}

/// Writes records in the background, the newest of each machine.
pub(super) struct BootLog {
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
    /// Machines whose record is on the disk, or on its way there. What never got so far needs no
    /// removal, and so forged machines that come and go faster than a disk writes leave nothing.
    written: BTreeSet<Mac>,
    closed: bool,
}

impl BootLog {
    /// Starts the thread; `written` are the machines whose records are there already.
    pub(super) fn start(
        state: Arc<dyn State>,
        written: impl IntoIterator<Item = Mac>,
    ) -> io::Result<Self> {
        let queue = Queue { written: written.into_iter().collect(), ..Queue::default() };
        let shared = Arc::new(Shared { queue: Mutex::new(queue), changed: Condvar::new() });
        let own = Arc::clone(&shared);
        let work = move || {
            while let Some((mac, record)) = own.next() {
                if let Err(error) = write(&*state, mac, record.as_ref()) {
                    tracing::error!("the record of the boot of {mac} cannot be written: {error}");
                }
            }
        };
        let thread = thread::Builder::new().name("boots".to_owned()).spawn(work)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Keeps a boot.
    pub(super) fn keep(&self, record: BootRecord) {
        self.shared.queue().waiting.insert(record.mac, Some(record));
        self.shared.changed.notify_one();
    }

    /// Forgets the boot of a machine.
    pub(super) fn forget(&self, mac: Mac) {
        let mut queue = self.shared.queue();
        if queue.written.contains(&mac) {
            queue.waiting.insert(mac, None);
        } else {
            queue.waiting.remove(&mac);
        }
        drop(queue);
        self.shared.changed.notify_one();
    }
}

impl Drop for BootLog {
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
        let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
        let (mac, record) = queue.waiting.pop_first()?;
        match record {
            Some(_) => queue.written.insert(mac),
            None => queue.written.remove(&mac),
        };
        Some((mac, record))
    }
}

fn write(state: &dyn State, mac: Mac, record: Option<&BootRecord>) -> Result<(), StateError> {
    let name = file_name(mac);
    let Some(record) = record else { return state.remove(Kind::Boot, &name).map(drop) };
    match serde_json::to_vec_pretty(record) {
        Ok(text) => state.store(Kind::Boot, &name, &text),
        Err(error) => {
            tracing::error!("the boot of {mac} cannot be recorded: {error}");
            Ok(())
        }
    }
}

#[cfg(test)]
mod test {
    use std::sync::mpsc;

    use std::path::PathBuf;

    use super::*;
    use crate::boot::Arch;
    use crate::boot::plan::{Fetch, Next};
    use crate::site::machine::View;
    use crate::site::state::StateDir;

    /// A disk that writes nothing before the test's end.
    struct Stalled(Mutex<mpsc::Receiver<()>>);

    impl State for Stalled {
        fn load(&self, _: Kind, _: &str) -> Result<Option<Vec<u8>>, StateError> {
            Ok(None)
        }

        fn store(&self, _: Kind, _: &str, _: &[u8]) -> Result<(), StateError> {
            // Ends when the test drops the sender.
            let _ = self.0.lock().unwrap().recv();
            Ok(())
        }

        fn create(&self, _: Kind, _: &str, _: &[u8]) -> Result<bool, StateError> {
            Ok(true)
        }

        fn remove(&self, _: Kind, _: &str) -> Result<bool, StateError> {
            Ok(true)
        }

        fn names(&self, _: Kind) -> Result<Vec<String>, StateError> {
            Ok(Vec::new())
        }

        fn place(&self, _: Kind, _: &str) -> PathBuf {
            PathBuf::new()
        }
    }

    fn record(mac: Mac) -> BootRecord {
        let plan = Plan {
            environment: Uuid::from_u128(1),
            name: "base".to_owned(),
            machine: None,
            read_only: true,
            awaits: None,
            once: None,
            view: View::Joined,
            server: Ipv4Addr::LOCALHOST,
            http_port: 80,
            first: None,
            next: Next::Kernel {
                kernel: "/vmlinuz".to_owned(),
                initrd: None,
                cmdline: String::new(),
            },
            chosen: None,
            root_path: String::new(),
            fetch: Fetch::Nfs,
            variables: Vec::new(),
            serial: None,
            classes: Vec::new(),
            network: crate::boot::ClientNetwork::default(),
        };
        let client = Client::Pxe(Arch::BIOS);
        BootRecord { id: BootId(1), mac, client, plan, address: None, rooted: false, earlier: None }
    }

    #[test]
    fn machines_that_come_and_go_faster_than_the_disk_leave_nothing() {
        let (release, stall) = mpsc::channel();
        let log = BootLog::start(Arc::new(Stalled(Mutex::new(stall))), []).unwrap();
        for number in 0..100 {
            let mac = Mac([2, 0, 0, 0, 0, number]);
            log.keep(record(mac));
            log.forget(mac);
        }
        let waiting = log.shared.queue().waiting.len();
        drop(release);
        assert!(waiting <= 1, "one may be on its way to the disk: {waiting}");
    }

    /// A machine that starts again and again has several boots before the one that it is in.
    #[test]
    fn all_boots_before_are_known_while_no_server_runs() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let boot = |environment, rooted, earlier: Option<BootRecord>| {
            let mut record = BootRecord { rooted, ..record(mac) };
            record.plan.environment = Uuid::from_u128(environment);
            BootRecord { earlier: earlier.map(Box::new), ..record }
        };
        let last =
            boot(4, false, Some(boot(3, true, Some(boot(2, true, Some(boot(1, true, None)))))));
        let scratch = tempfile::tempdir().unwrap();
        let state = StateDir::open(scratch.path()).unwrap();
        write(&state, mac, Some(&last)).unwrap();
        for (environment, expected) in [(1, 1), (2, 1), (3, 1), (4, 0), (5, 0)] {
            let names = rooted_on(&state, &[Uuid::from_u128(environment)]).unwrap();
            assert_eq!(names.len(), expected, "{environment}: {names:?}");
        }
    }

    #[test]
    fn a_record_that_is_there_is_removed() {
        let (release, stall) = mpsc::channel();
        drop(release);
        let (written, other) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let log = BootLog::start(Arc::new(Stalled(Mutex::new(stall))), [written, other]).unwrap();
        log.forget(written);
        let shared = Arc::clone(&log.shared);
        drop(log);
        assert!(!shared.queue().written.contains(&written));
        assert!(shared.queue().written.contains(&other));
    }
}
