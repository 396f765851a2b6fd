//! NFS exports: which trees are shared, with which clients, and by which file handles.
//!
//! An export is a boot environment's tree with what its owner decided. Who may use it is checked on
//! every call by the caller's address, never by whether it has mounted: FreeBSD's kernel takes its
//! root's handle from the loader and never sends a MOUNT, and a restarted server remembers none.

mod access;
#[cfg(test)]
pub(crate) mod bench;
mod files;
pub mod gone;
mod handle;
pub mod lifecycle;
mod running;
mod suspects;
#[cfg(test)]
mod test;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use store::ExportSettings;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use uuid::Uuid;
use vfs::{FsError, Handle, Wait};

use super::refusals::Refusals;
use crate::boot::usage::Usage;
use crate::site::machine::View;

pub use access::{Grant, Refusal, caller};
pub use files::Files;
pub use handle::{KeyError, SiteKey, WireHandle};
pub use lifecycle::{Event, Lifecycle, Reason, State};
use running::Calls;
pub use running::Running;
pub use suspects::Suspects;

/// A boot environment that is served.
#[derive(Clone, Debug)]
pub struct Export {
    /// The boot environment; part of every handle.
    pub environment: Uuid,
    /// Its name, for messages.
    pub name: String,
    /// The path by which clients mount it, as in `/be/head`.
    pub path: String,
    /// Its files.
    pub files: Files,
    /// The clients that may use it, and the users that their calls act as.
    pub settings: ExportSettings,
}

impl Export {
    /// The same export with single slashes in its path and none at the end.
    ///
    /// # Errors
    ///
    /// The path is not one that a client can write.
    pub fn with_canonical_path(self) -> Result<Self, PublishError> {
        match canonical(&self.path) {
            Some(path) => Ok(Self { path, ..self }),
            None => Err(PublishError(self.path)),
        }
    }

    /// Whether somebody has removed the directory that one of its trees begins with. May wait for a disk.
    pub fn is_lost(&self) -> bool {
        let mut trees = self.files.trees();
        trees.any(|tree| tree.getattr(&tree.root(), Wait::Yes) == Err(FsError::Stale))
    }
}

/// The state of every boot environment's export, by UUID and by path.
///
/// A call reads one immutable snapshot without a lock. Every change makes a new one and lets it take
/// the old one's place at one instant. An environment that was never heard of waits, like one whose
/// files cannot be had: see [`lifecycle`].
#[derive(Debug)]
pub struct Exports {
    key: SiteKey,
    current: ArcSwap<Snapshot>,
    /// Held while a new snapshot is made, which waits for nothing: what is gone, the latest last.
    changing: Mutex<VecDeque<Uuid>>,
    changed: Notify,
    usage: Arc<Usage>,
    /// Environments of which nothing is known, but of which clients have sent handles.
    strangers: Mutex<HashSet<Uuid>>,
    suspects: Suspects,
    refusals: Refusals,
}

/// Why there is no export.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Absent {
    /// There is none, as far as anybody knows.
    Missing,
    /// There is one that cannot be used just now: who waits may get it.
    Waiting(Reason),
}

/// Something that happened to an environment's export.
pub type Change = (Uuid, Event<Arc<Export>>);

impl Exports {
    /// No exports yet; handles are sealed with `key`, and calls are noted in `usage`.
    #[must_use]
    pub fn new(key: SiteKey, usage: Arc<Usage>) -> Self {
        let (current, changing, changed) = (ArcSwap::default(), Mutex::default(), Notify::new());
        let (strangers, refusals) = (Mutex::default(), Refusals::default());
        let suspects = Suspects::default();
        Self { key, current, changing, changed, usage, strangers, suspects, refusals }
    }

    /// Who was refused what.
    #[must_use]
    pub const fn refusals(&self) -> &Refusals {
        &self.refusals
    }

    /// Applies events to environments, all of them in one swap of the snapshot. Returns the exports
    /// that are not open any more, or were replaced.
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) -> Vec<Arc<Export>> {
        self.change(|snapshot, gone| {
            let mut closed = Vec::new();
            for (environment, event) in changes {
                if matches!(event, Event::Ended) {
                    gone.retain(|known| *known != environment);
                    gone.push_back(environment);
                }
                closed.extend(snapshot.take(environment, event));
            }
            // Roots for one boot go every day, and nobody has lived on the oldest for long.
            while gone.len() > MAX_GONE
                && let Some(oldest) = gone.pop_front()
            {
                snapshot.forget_gone(oldest);
            }
            closed
        })
    }

    /// Sets whether the store does not answer at all. As long as it does not, the clients of all
    /// environments are told to come again, and nothing is closed.
    pub fn stall(&self, stalled: bool) {
        if self.current.load().stalled != stalled {
            self.change(|snapshot, _| snapshot.stalled = stalled);
        }
    }

    /// Takes over by which paths environments are served that may be open or not; of one that cannot be
    /// read nobody knows the identity. Unless `complete`, any other path may turn out to be one.
    pub fn expect(&self, paths: HashMap<String, Option<Uuid>>, complete: bool) {
        let expected = Arc::new(Expected { paths, incomplete: !complete });
        self.change(|snapshot, _| snapshot.expected = expected);
    }

    /// Ends when something has changed since it was called.
    pub fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }

    /// The environments whose tree is not there any more, as far as a client has seen.
    pub const fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    /// Serves one environment from now on, or serves it with other settings or by another path.
    ///
    /// # Errors
    ///
    /// The path is not one that a client can write.
    pub fn publish(&self, export: Export) -> Result<(), PublishError> {
        let export = export.with_canonical_path()?;
        self.apply([(export.environment, Event::Opened(Arc::new(export)))]);
        Ok(())
    }

    /// What is served of a boot environment.
    #[must_use]
    pub fn of(&self, environment: Uuid) -> Option<Arc<Export>> {
        self.current.load().serving(environment).map(Arc::clone)
    }

    /// What is served of a boot environment, or why nothing is.
    ///
    /// # Errors
    ///
    /// It is gone, or waits.
    pub fn served(&self, environment: Uuid) -> Result<Arc<Export>, Absent> {
        self.current.load().served(environment).map(Arc::clone)
    }

    /// What is open of a boot environment, whether it is served or held.
    #[must_use]
    pub fn open_of(&self, environment: Uuid) -> Option<Arc<Export>> {
        self.current.load().lifecycle(environment)?.open().map(Arc::clone)
    }

    /// Whether a command works on a boot environment: no boot may have it for its root then.
    #[must_use]
    pub fn is_held(&self, environment: Uuid) -> bool {
        self.current.load().lifecycle(environment).is_some_and(Lifecycle::is_held)
    }

    /// Whether somebody destroyed a boot environment or took it out of use.
    #[must_use]
    pub fn is_gone(&self, environment: Uuid) -> bool {
        let current = self.current.load();
        let lifecycle = current.lifecycle(environment);
        lifecycle.is_some_and(|lifecycle| matches!(lifecycle.state(), State::Gone))
    }

    /// Waits until no call runs any more on these environments, which are held or closed, so that none
    /// begins. Says whether that was before the time was over.
    #[must_use]
    pub fn drain(&self, environments: &[Uuid], limit: Duration) -> bool {
        let calls = self.calls_of(environments);
        let deadline = Instant::now() + limit;
        loop {
            if calls.iter().all(|calls| calls.are_over()) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            thread::sleep(DRAINING);
        }
    }

    /// Takes the tree away under the calls that still run on these environments: their clients are told
    /// to come again, whatever they have done.
    pub fn abandon_calls(&self, environments: &[Uuid]) {
        self.calls_of(environments).iter().for_each(|calls| calls.abandon());
    }

    fn calls_of(&self, environments: &[Uuid]) -> Vec<Arc<Calls>> {
        let current = self.current.load();
        let known = environments.iter().filter_map(|one| current.environments.get(one));
        known.map(|one| Arc::clone(&one.calls)).collect()
    }

    /// The export that a path lies in, and the rest of the path behind it.
    ///
    /// Of several, the one with the longest path. Empty and `.` components do not count.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be used just now.
    pub fn at<'a>(&self, path: &'a [u8]) -> Result<(Arc<Export>, &'a [u8]), Absent> {
        let current = self.current.load();
        let mut canonical = String::new();
        let mut rest = path;
        let mut found = None;
        while let Some((name, behind)) = split_first(rest) {
            rest = behind;
            match name {
                b"" | b"." => continue,
                b".." => break,
                name => {
                    let Ok(name) = str::from_utf8(name) else { break };
                    canonical.extend(["/", name]);
                }
            }
            let open = current.paths.get(&canonical).map(|one| Some(*one));
            let known = open.or_else(|| current.expected.paths.get(&canonical).copied());
            found = known.map(|environment| (environment, rest)).or(found);
        }
        match found {
            Some((Some(environment), rest)) => {
                current.served(environment).map(|export| (Arc::clone(export), rest))
            }
            Some((None, _)) => Err(Absent::Waiting(Reason::from(UNREAD))),
            None if current.expected.incomplete => Err(Absent::Waiting(Reason::from(UNLISTED))),
            None => Err(Absent::Missing),
        }
    }

    /// All that is served, by path.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<Export>> {
        let current = self.current.load();
        let environments = current.paths.values();
        environments.filter_map(|one| current.serving(*one).map(Arc::clone)).collect()
    }

    /// All that is open, served or held, in no order.
    #[must_use]
    pub fn all_open(&self) -> Vec<Arc<Export>> {
        let current = self.current.load();
        let lifecycles = current.environments.values().map(|one| &one.lifecycle);
        lifecycles.filter_map(Lifecycle::open).map(Arc::clone).collect()
    }

    /// Who uses what.
    #[must_use]
    pub fn usage(&self) -> &Usage {
        &self.usage
    }

    /// The handle of an environment's root, as clients get it by MNT; for what hands it to a kernel
    /// that nobody told (`boot.nfsroot.nfshandle`).
    #[must_use]
    pub fn root_handle(&self, environment: Uuid) -> Option<WireHandle> {
        self.of(environment).map(|export| self.root_handle_of(&export))
    }

    /// The handle of an export's root.
    #[must_use]
    pub fn root_handle_of(&self, export: &Export) -> WireHandle {
        let view = View::Joined;
        self.seal(export, view, &export.files.seen(view).root())
    }

    /// The handle by which clients know a file of an export.
    #[must_use]
    pub fn seal(&self, export: &Export, view: View, file: &Handle) -> WireHandle {
        self.key.seal(export.environment, view, file)
    }

    /// The export and the file that a client's handle stands for, how the client sees the export, and
    /// a mark that a call runs on it, which keeps commands from its tree.
    ///
    /// # Errors
    ///
    /// [`FsError::BadHandle`] if this site did not make the handle, [`FsError::Stale`] if somebody
    /// destroyed its environment or took it out of use, [`FsError::Busy`] if it is not served for any
    /// other reason.
    pub fn enter(&self, wire: &[u8]) -> Result<(Arc<Export>, View, Handle, Running), FsError> {
        let (environment, view, file) = self.key.open(wire).ok_or(FsError::BadHandle)?;
        loop {
            let current = self.current.load();
            let Some(known) = current.environments.get(&environment) else {
                self.tell_of(environment);
                return Err(FsError::Busy);
            };
            let export = match known.lifecycle.state() {
                State::Gone => return Err(FsError::Stale),
                State::Serving(export) if !current.stalled => export,
                State::Serving(_) | State::Held | State::Waiting(_) => return Err(FsError::Busy),
            };
            let running = Running::begin(&known.calls);
            // Whoever has changed something since may not have seen that a call runs.
            if Arc::ptr_eq(&current, &self.current.load()) {
                return Ok((Arc::clone(export), view, file, running));
            }
        }
    }

    /// As [`Exports::enter`], for a call that has entered an export before and had to wait since;
    /// `None` if that is not served any more.
    #[must_use]
    pub fn enter_again(&self, export: &Arc<Export>) -> Option<Running> {
        let running = {
            let current = self.current.load();
            Running::begin(&current.environments.get(&export.environment)?.calls)
        };
        let current = self.current.load();
        let now = current.serving(export.environment);
        now.is_some_and(|now| Arc::ptr_eq(now, export)).then_some(running)
    }

    /// The export and the file that a client's handle stands for, and how the client sees the export.
    ///
    /// # Errors
    ///
    /// As [`Exports::enter`].
    #[cfg(test)]
    pub(crate) fn open(&self, wire: &[u8]) -> Result<(Arc<Export>, View, Handle), FsError> {
        self.enter(wire).map(|(export, view, file, _running)| (export, view, file))
    }

    /// Says once that a machine waits for an environment that the store does not have. A handle cannot
    /// be forged, so that these are few.
    fn tell_of(&self, environment: Uuid) {
        let mut strangers = lock(&self.strangers);
        if strangers.len() < MAX_STRANGERS && strangers.insert(environment) {
            tracing::warn!(
                "a machine waits for the boot environment with the identity {environment}, which is not in \
                 the store: bring it back, or run `netbe destroy -f {environment}` to forget it"
            );
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Snapshot, &mut VecDeque<Uuid>) -> T) -> T {
        let mut gone = lock(&self.changing);
        let mut next = Snapshot::clone(&self.current.load());
        let changed = change(&mut next, &mut gone);
        self.current.store(Arc::new(next));
        self.changed.notify_waiters();
        changed
    }
}

/// An immutable snapshot of all exports.
#[derive(Clone, Debug, Default)]
struct Snapshot {
    environments: HashMap<Uuid, Environment>,
    /// What is open, by canonical path.
    paths: BTreeMap<String, Uuid>,
    expected: Arc<Expected>,
    /// Whether nothing answers.
    stalled: bool,
}

/// The export of one boot environment.
#[derive(Clone, Debug)]
struct Environment {
    lifecycle: Lifecycle<Arc<Export>>,
    /// The calls that run on it, also on what was open of it before.
    calls: Arc<Calls>,
}

/// What there is, whether or not it is open.
#[derive(Debug, Default)]
struct Expected {
    /// By canonical path; of what cannot be read nobody knows the identity.
    paths: HashMap<String, Option<Uuid>>,
    /// Whether there may be more.
    incomplete: bool,
}

impl Snapshot {
    fn lifecycle(&self, environment: Uuid) -> Option<&Lifecycle<Arc<Export>>> {
        self.environments.get(&environment).map(|known| &known.lifecycle)
    }

    fn serving(&self, environment: Uuid) -> Option<&Arc<Export>> {
        match self.lifecycle(environment)?.state() {
            State::Serving(export) => Some(export),
            State::Held | State::Waiting(_) | State::Gone => None,
        }
    }

    fn served(&self, environment: Uuid) -> Result<&Arc<Export>, Absent> {
        let waits = |why: &str| Err(Absent::Waiting(Reason::from(why)));
        match self.lifecycle(environment).map(Lifecycle::state) {
            None => waits(UNLISTED),
            Some(State::Serving(export)) => Ok(export),
            Some(State::Held) => waits(HELD),
            Some(State::Waiting(reason)) => Err(Absent::Waiting(Reason::clone(reason))),
            Some(State::Gone) => Err(Absent::Missing),
        }
    }

    fn forget_gone(&mut self, environment: Uuid) {
        let lifecycle = self.lifecycle(environment);
        if lifecycle.is_some_and(|one| matches!(one.state(), State::Gone) && !one.is_held()) {
            self.environments.remove(&environment);
        }
    }

    fn take(&mut self, environment: Uuid, event: Event<Arc<Export>>) -> Option<Arc<Export>> {
        let unknown = || {
            let lifecycle = Lifecycle::unknown(Reason::from(UNLISTED));
            Environment { lifecycle, calls: Arc::default() }
        };
        let lifecycle = &mut self.environments.entry(environment).or_insert_with(unknown).lifecycle;
        let before = lifecycle.open().map(|export| export.path.clone());
        let closed = lifecycle.take(event);
        let now = lifecycle.open().map(|export| export.path.clone());
        if let Some(path) = before.filter(|path| Some(path) != now.as_ref())
            && self.paths.get(&path) == Some(&environment)
        {
            self.paths.remove(&path);
        }
        // Of two with one path the store has named this one later.
        if let Some(path) = now {
            self.paths.insert(path, environment);
        }
        closed
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why environments wait, in words.
const HELD: &str = "a command works on its boot environment";
const UNLISTED: &str = "the store has not named its boot environment yet";
const UNREAD: &str = "the record of its boot environment cannot be read just now";

/// How often it is looked whether the calls on an environment have ended.
const DRAINING: Duration = Duration::from_millis(2);

/// Environments that are known to be gone.
pub(crate) const MAX_GONE: usize = 4096;

/// Environments that nothing is known of and that are told of.
const MAX_STRANGERS: usize = 64;

/// The path of an export cannot be mounted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "{0:?} is not a path for an export: write an absolute one without . and .., as in /be/head"
)]
pub struct PublishError(pub String);

/// A path with single slashes between its components and none at the end.
fn canonical(path: &str) -> Option<String> {
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    let usable = path.starts_with('/')
        && path.len() <= wire::mount3::MAX_PATH
        && !names.is_empty()
        && names
            .iter()
            .all(|name| vfs::Name::new(name.as_bytes()).is_ok_and(|name| !name.is_dot()));
    usable.then(|| names.iter().flat_map(|name| ["/", *name]).collect())
}

/// The first component of a path, maybe empty, and what is behind its slash.
fn split_first(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
    let (name, rest) = path.split_at_checked(end)?;
    Some((name, rest.strip_prefix(b"/").unwrap_or(rest)))
}
