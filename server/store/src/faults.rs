//! Fault injection: a wrapper around a back end whose reads fail on demand, for tests.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::back_end::{Arrival, BackEnd, Capabilities, Departure, Extent, Part, Side, Wanted};
use crate::draft::{OpenIntent, Step};
use crate::journal::Tries;
use crate::locked::{Current, Locked};
use crate::query::{Answer, Fact, Of, Query};
use crate::tree::Until;
use crate::{
    Change, Concerned, Environment, EnvironmentName, InUse, MetadataError, NativeChange, Pending,
    Snapshot, SnapshotName, StoreError, Unreadable,
};

/// How a read fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The pool is not imported.
    Away,
    /// The metadata file is not right.
    Broken,
    /// EMFILE.
    Descriptors,
    /// EIO.
    Io,
    /// ENOENT, as in the middle of a rename.
    Missing,
    /// The pool answers nothing.
    Stalled,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Away, Self::Broken, Self::Descriptors, Self::Io, Self::Missing, Self::Stalled];
}

/// Controls which reads of a store fail.
#[derive(Debug, Default)]
pub struct Faults {
    plan: Mutex<Plan>,
    /// What hangs, and how many reads have come to it.
    hangs: Mutex<Option<(Hang, usize)>>,
    freed: Condvar,
}

/// What hangs of a store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Hang {
    /// Every listing.
    Listing,
    /// The opening of an environment.
    Opening(EnvironmentName),
}

/// Lets go what hangs when it is dropped.
#[derive(Debug)]
pub struct Hung<'a>(&'a Faults);

impl Hung<'_> {
    /// Waits until a read has come to it.
    pub fn wait_until_reached(&self) {
        let untouched = |hangs: &mut Option<(Hang, usize)>| matches!(hangs, Some((_, 0)));
        let reached = self.0.freed.wait_while(self.0.hanging(), untouched);
        drop(reached.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        *self.0.hanging() = None;
        self.0.freed.notify_all();
    }
}

#[derive(Debug, Default)]
struct Plan {
    /// How many reads succeed first, and then how they fail.
    next: Option<(usize, Fault)>,
    /// Whether all fail from then on, or only one.
    lasts: bool,
    failed: bool,
}

impl Faults {
    /// After so many reads that succeed, one fails, or all if it `lasts`.
    pub fn fail_after(&self, passed: usize, fault: Fault, lasts: bool) {
        *self.plan() = Plan { next: Some((passed, fault)), lasts, failed: false };
    }

    /// From now on no read fails. Says whether one did.
    pub fn stop(&self) -> bool {
        std::mem::take(&mut *self.plan()).failed
    }

    /// This hangs until what is returned is dropped.
    pub fn hang(&self, what: Hang) -> Hung<'_> {
        *self.hanging() = Some((what, 0));
        Hung(self)
    }

    /// Waits as long as this hangs.
    fn pass(&self, what: &Hang) {
        let is_it = |(hangs, _): &(Hang, usize)| hangs == what;
        let mut hanging = self.hanging();
        if let Some((_, reached)) = hanging.as_mut().filter(|one| is_it(one)) {
            *reached += 1;
            self.freed.notify_all();
        }
        let hangs = |now: &mut Option<(Hang, usize)>| now.as_ref().is_some_and(is_it);
        let passed = self.freed.wait_while(hanging, hangs);
        drop(passed.unwrap_or_else(PoisonError::into_inner));
    }

    fn hanging(&self) -> MutexGuard<'_, Option<(Hang, usize)>> {
        self.hangs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A read, of one environment or of the store: what it fails with, if it does.
    fn read(&self, name: Option<&EnvironmentName>) -> Result<(), StoreError> {
        let mut plan = self.plan();
        let Some((left, fault)) = plan.next else { return Ok(()) };
        if left > 0 {
            plan.next = Some((left - 1, fault));
            return Ok(());
        }
        plan.failed = true;
        if !plan.lasts {
            plan.next = None;
        }
        let path = PathBuf::from(name.map_or("store", EnvironmentName::as_str));
        let io = |errno: Errno| {
            let error = io::Error::from(errno);
            StoreError::Io { action: "read", path: path.clone(), error }
        };
        let (place, why) = ("the store".to_owned(), "a test wants it so".to_owned());
        Err(match (fault, name) {
            (Fault::Away, _) => StoreError::Away { place, why },
            (Fault::Stalled, _) => StoreError::Stalled { place, why },
            (Fault::Broken, Some(_)) => {
                let error = MetadataError::Syntax("garbage".to_owned());
                StoreError::Broken { path, error }
            }
            (Fault::Missing, Some(name)) => StoreError::NoEnvironment(name.clone()),
            (Fault::Missing, None) => io(Errno::NOENT),
            (Fault::Descriptors, _) => io(Errno::MFILE),
            (Fault::Broken, None) | (Fault::Io, _) => io(Errno::IO),
        })
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A back end whose reads fail when they are told to.
#[derive(Debug)]
pub(crate) struct Faulty {
    inner: Box<dyn BackEnd>,
    faults: Arc<Faults>,
}

impl Faulty {
    pub(crate) fn new(inner: Box<dyn BackEnd>, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }

    /// A question about all reads the store and then each environment.
    fn thinned(&self, answer: Answer) -> Answer {
        let Answer { found, mut unreadable } = answer;
        let mut read = Vec::new();
        for one in found {
            match self.faults.read(Some(&one.name)) {
                Ok(()) => read.push(one),
                Err(StoreError::NoEnvironment(_)) => {}
                Err(error) => unreadable.push(Unreadable { name: one.name, error }),
            }
        }
        Answer { found: read, unreadable }
    }
}

impl BackEnd for Faulty {
    fn query(&self, query: &Query<'_>) -> Result<Answer, StoreError> {
        let name = match query.of {
            Of::All => {
                self.faults.pass(&Hang::Listing);
                self.faults.read(None)?;
                return Ok(self.thinned(self.inner.query(query)?));
            }
            Of::Locked(locked) => Some(locked.name()),
            Of::Named(name) => Some(name),
            Of::None => None,
        };
        if name.is_none() || query.asks(Fact::Record) {
            self.faults.read(name)?;
        }
        self.inner.query(query)
    }

    fn open(&self, name: &EnvironmentName, wanted: Wanted) -> Result<Vec<Part>, StoreError> {
        self.faults.pass(&Hang::Opening(name.clone()));
        self.faults.read(Some(name))?;
        self.inner.open(name, wanted)
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn locks(&self) -> Result<PathBuf, StoreError> {
        self.inner.locks()
    }

    fn settle(
        &self,
        name: Option<&EnvironmentName>,
        tries: Tries,
    ) -> Result<Vec<Pending>, StoreError> {
        self.inner.settle(name, tries)
    }

    fn draft(
        &self,
        verb: &str,
        environments: Vec<Concerned>,
        steps: Vec<Step>,
    ) -> Result<Box<dyn OpenIntent + '_>, StoreError> {
        self.inner.draft(verb, environments, steps)
    }

    fn create(&self, new: &Environment) -> Result<(), StoreError> {
        self.inner.create(new)
    }

    fn clone_tree(
        &self,
        source: Side<'_>,
        extent: Extent,
        new: &Environment,
    ) -> Result<Environment, StoreError> {
        self.inner.clone_tree(source, extent, new)
    }

    fn write(&self, decided: &Current<'_>, natives: &[NativeChange]) -> Result<(), StoreError> {
        self.inner.write(decided, natives)
    }

    fn check_natives(
        &self,
        name: &EnvironmentName,
        natives: &[NativeChange],
    ) -> Result<(), StoreError> {
        self.inner.check_natives(name, natives)
    }

    fn rename(&self, locked: &Locked, new: &EnvironmentName) -> Result<(), StoreError> {
        self.inner.rename(locked, new)
    }

    fn promote(&self, clone: &Current<'_>, origin: &Current<'_>) -> Result<(), StoreError> {
        self.inner.promote(clone, origin)
    }

    fn destroy(&self, locked: &Locked, snapshot: Option<&SnapshotName>) -> Result<(), StoreError> {
        self.inner.destroy(locked, snapshot)
    }

    fn snapshot(&self, locked: &Locked, snapshot: &SnapshotName) -> Result<Snapshot, StoreError> {
        self.inner.snapshot(locked, snapshot)
    }

    fn rollback(
        &self,
        locked: &Locked,
        to: &SnapshotName,
        newer: &[SnapshotName],
    ) -> Result<(), StoreError> {
        self.inner.rollback(locked, to, newer)
    }

    fn diff(&self, old: Side<'_>, new: Side<'_>, until: Until) -> Result<Vec<Change>, StoreError> {
        self.inner.diff(old, new, until)
    }

    fn root(&self, name: &EnvironmentName) -> PathBuf {
        self.inner.root(name)
    }

    fn release(&self, name: Option<&EnvironmentName>) -> Result<(), StoreError> {
        self.inner.release(name)
    }

    fn check_release(&self) -> Result<(), StoreError> {
        self.inner.check_release()
    }

    fn mount(&self, tree: Side<'_>, target: &Path) -> Result<(), StoreError> {
        self.inner.mount(tree, target)
    }

    fn unmount(&self, at: &Path, in_use: InUse) -> Result<(), StoreError> {
        self.inner.unmount(at, in_use)
    }

    fn send(&self, departure: &Departure<'_>, out: &mut dyn Write) -> Result<(), StoreError> {
        self.inner.send(departure, out)
    }

    fn receive(&self, arrival: &Arrival<'_>, from: &mut dyn Read) -> Result<(), StoreError> {
        self.inner.receive(arrival, from)
    }
}
