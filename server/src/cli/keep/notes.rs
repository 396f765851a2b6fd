//! What a keeper writes down of its guest, and how the guest is asked to end.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hooks::Occasion;
use provision::terminal;
use rustix::process::Signal;

use super::{Left, left};
use crate::cli::Failure;
use crate::cli::child::{GRACE, Keeper, Program};
use crate::cli::guest::Subject;
use crate::cli::hooks::{Beside, OfGuest};
use crate::guests::place::now;
use crate::guests::{Place, Process, Record, Stage, qmp};
use crate::site::machine::{RootBy, Runner};

/// The notes of one keeper, which what runs programs has too.
#[derive(Clone, Debug)]
pub(super) struct Notes {
    inner: Rc<RefCell<Inner>>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    place: Place,
    record: Record,
    /// When the guest's program started in its present life; what is prepared before is no part of that.
    begun: Option<Instant>,
    killed: bool,
    hooks: OfGuest,
    /// Those of its start, which run beside it.
    beside: Option<Beside>,
}

impl Notes {
    /// The notes on a guest that this process has claimed.
    pub(super) fn new(
        name: &str,
        place: Place,
        run: Runner,
        hooks: OfGuest,
    ) -> Result<Self, Failure> {
        let keeper = Process::own().ok_or_else(|| {
            Failure::could_not("cannot read this process's own entry in the list of processes")
        })?;
        // What was said to a keeper that was killed holds no more.
        let _ = place.take_patience();
        let known = place.record();
        let record = Record {
            run: known.as_ref().map_or(run, |known| known.run),
            environment: known.as_ref().map(|known| known.environment.clone()).unwrap_or_default(),
            root_by: known.as_ref().map(|known| known.root_by).unwrap_or_default(),
            stage: known.as_ref().map_or(Stage::Off, |known| known.stage),
            since: known.as_ref().map_or_else(now, |known| known.since),
            boot: known.as_ref().and_then(|known| known.boot.clone()),
            keeper,
            process: known.as_ref().and_then(|known| known.process.clone()),
            tap: known.as_ref().and_then(|known| known.tap.clone()),
            jail: known.as_ref().and_then(|known| known.jail.clone()),
            ended: known.as_ref().and_then(|known| known.ended),
            restarts: 0,
            words: known.and_then(|known| known.words),
        };
        let name = name.to_owned();
        let (begun, killed, beside) = (None, false, None);
        let inner = Inner { name, place, record, begun, killed, hooks, beside };
        Ok(Self { inner: Rc::new(RefCell::new(inner)) })
    }

    /// What is there of a guest whose keeper was killed.
    pub(super) fn left(&self) -> Option<Left> {
        let (name, record) = {
            let inner = self.inner.borrow();
            (inner.name.clone(), inner.record.clone())
        };
        left(&name, &record)
    }

    /// Whether the guest ended together with its keeper.
    pub(super) fn is_lost(&self) -> bool {
        !self.inner.borrow().record.stage.is_over() && self.left().is_none()
    }

    /// It ended together with its keeper.
    pub(super) fn lose(&self) -> Result<(), Failure> {
        let was_begun = self.is_begun();
        let mut inner = self.inner.borrow_mut();
        inner.record.lose();
        inner.place.write(&inner.record).map_err(Failure::could_not)?;
        drop(inner);
        self.ended(was_begun);
        Ok(())
    }

    /// What ran the guest when it was last written down.
    pub(super) fn run(&self) -> Runner {
        self.inner.borrow().record.run
    }

    /// Sets how long the guest may take to end.
    pub(super) fn set_patience(&self, patience: Duration) -> Result<(), Failure> {
        self.inner.borrow().place.set_patience(patience).map_err(Failure::could_not)
    }

    /// The interface that a guest whose keeper was killed had, if it is there yet.
    pub(super) fn tap(&self) -> Option<String> {
        let record = &self.inner.borrow().record;
        record.tap.clone().filter(|_| !record.is_of_before())
    }

    /// A file of the guest's place.
    pub(super) fn file(&self, name: &str) -> std::path::PathBuf {
        self.inner.borrow().place.file(name)
    }

    /// When this host saw one of the guest's lives end last, in seconds since 1970.
    pub(super) fn ended_at(&self) -> Option<u64> {
        self.inner.borrow().record.ended
    }

    /// How long its program has run in its present life; no time, if it never started.
    pub(super) fn life(&self) -> Duration {
        self.inner.borrow().begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    /// Its program runs from now on; says whether it is the first of this life. A life may have several, one after the
    /// other: bhyveload and bhyve, and a guest of bhyve that restarts itself.
    fn begin(&self) -> bool {
        let mut inner = self.inner.borrow_mut();
        let is_first = inner.begun.is_none();
        inner.begun.get_or_insert_with(Instant::now);
        is_first
    }

    /// The life before is over.
    pub(super) fn prepare(&self) {
        self.inner.borrow_mut().begun = None;
    }

    /// Whether the guest was killed.
    pub(super) fn was_killed(&self) -> bool {
        self.inner.borrow().killed
    }

    /// The guest is about to be started from its environment, unless a hook refuses that.
    pub(super) fn start(&self, run: Runner, subject: &Subject) -> Result<(), Failure> {
        self.hooks().decide(Occasion::Prestart)?;
        let by_host = subject.guest.root.host.is_some();
        self.note(|record| {
            record.environment = subject.environment.name.to_string();
            record.root_by = if by_host { subject.root_by } else { RootBy::Nfs };
            record.run = run;
            record.process = None;
            record.jail = None;
            record.words = None;
            record.stage = Stage::Starting;
        })
    }

    /// What is started is a jail.
    pub(super) fn start_jail(&self, subject: &Subject) -> Result<(), Failure> {
        let root = subject.directory()?;
        self.start(Runner::Jail, subject)?;
        self.note(|record| record.jail = Some(root))
    }

    /// It is there, and has no process.
    pub(super) fn began_jail(&self) -> Result<(), Failure> {
        self.begin();
        self.note(|record| record.stage = Stage::Running)?;
        self.tell_beside(Occasion::Poststart);
        Ok(())
    }

    /// Who keeps it is known from now on: it can be asked to stop.
    pub(super) fn claim(&self) -> Result<(), Failure> {
        self.note(|_record| {})
    }

    /// It runs, and is this process's now.
    pub(super) fn take_over(&self) -> Result<(), Failure> {
        self.begin();
        self.note(|record| record.stage = Stage::Running)
    }

    /// It waits to be started again.
    pub(super) fn wait(&self, words: &str) -> Result<(), Failure> {
        let was_begun = self.is_begun();
        self.note(|record| {
            record.process = None;
            record.jail = None;
            record.ended = has_run(record.stage).then(now).or(record.ended);
            record.restarts = record.restarts.saturating_add(1);
            record.words = Some(words.to_owned());
            record.stage = Stage::Waiting;
        })?;
        self.ended(was_begun);
        Ok(())
    }

    /// It is over.
    pub(super) fn end(&self, stage: Stage, words: &str) -> Result<(), Failure> {
        let was_begun = self.is_begun();
        self.note(|record| {
            record.process = None;
            record.jail = None;
            record.ended = has_run(record.stage).then(now).or(record.ended);
            record.words = Some(words.to_owned());
            record.stage = stage;
        })?;
        self.ended(was_begun);
        Ok(())
    }

    /// Whether the hooks of its start have run, and none of its end.
    fn is_begun(&self) -> bool {
        let stage = self.inner.borrow().record.stage;
        matches!(stage, Stage::Starting | Stage::Running | Stage::Stopping)
    }

    fn ended(&self, was_begun: bool) {
        if was_begun {
            self.tell(Occasion::Poststop);
        }
    }

    /// Runs the hooks of an event behind those of the guest's start, which may not have ended yet.
    fn tell(&self, occasion: Occasion) {
        let beside = self.inner.borrow_mut().beside.take();
        if let Some(beside) = beside {
            beside.end();
        }
        self.hooks().tell(occasion);
    }

    fn tell_beside(&self, occasion: Occasion) {
        let beside = self.hooks().tell_beside(occasion);
        self.inner.borrow_mut().beside = beside;
    }

    /// They run programs, and no note is held meanwhile.
    fn hooks(&self) -> OfGuest {
        self.inner.borrow().hooks.clone()
    }

    fn note(&self, change: impl FnOnce(&mut Record)) -> Result<(), Failure> {
        let mut inner = self.inner.borrow_mut();
        let before = inner.record.stage;
        change(&mut inner.record);
        if inner.record.stage != before {
            let stage = inner.record.stage;
            inner.record.set_stage(stage);
        }
        inner.place.write(&inner.record).map_err(Failure::could_not)
    }

    /// The same while a program runs, which goes on whether it can be written down or not.
    fn try_note(&self, change: impl FnOnce(&mut Record)) {
        if let Err(failure) = self.note(change) {
            terminal::say(&failure.message);
        }
    }
}

/// Whether a guest that stands so has had a program: one that failed before that speaks for none that was seen elsewhere.
const fn has_run(stage: Stage) -> bool {
    matches!(stage, Stage::Running | Stage::Stopping)
}

impl Keeper for Notes {
    fn began(&mut self, process: &Process) {
        let is_first = self.begin();
        self.try_note(|record| {
            record.process = Some(process.clone());
            record.stage = Stage::Running;
        });
        if is_first {
            self.tell_beside(Occasion::Poststart);
        }
    }

    fn asked(&mut self) {
        self.try_note(|record| record.stage = Stage::Stopping);
        self.tell(Occasion::Prestop);
    }

    fn ask(&mut self, program: &Program<'_>) {
        self.asked();
        let run = self.inner.borrow().record.run;
        let asked = match run {
            // SIGTERM would end QEMU, and its guest as a power cut does. On a terminal it has no power button.
            Runner::Qemu if self.file(MONITOR).exists() => {
                qmp::press_power_button(&self.file(MONITOR))
            }
            // bhyve(8): the power button. systemd-nspawn(1): the container's system is asked to shut down.
            Runner::Bhyve | Runner::Jail | Runner::Nspawn | Runner::Qemu => {
                program.signal(Signal::TERM).map(drop)
            }
        };
        if let Err(error) = asked {
            terminal::say(&format!("the guest cannot be asked to shut itself down: {error}"));
        }
    }

    fn grace(&mut self) -> Duration {
        self.inner.borrow().place.take_patience().unwrap_or(GRACE)
    }

    fn killed(&mut self) {
        self.inner.borrow_mut().killed = true;
    }

    fn made(&mut self, interface: Option<&str>) {
        self.try_note(|record| record.tap = interface.map(str::to_owned));
    }
}

/// The socket of QEMU's machine protocol, in the guest's place.
pub(super) const MONITOR: &str = "monitor";
