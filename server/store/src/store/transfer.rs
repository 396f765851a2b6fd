//! Snapshots on their way from one store to another.

use std::io::{Error, Read, Write};

use uuid::Uuid;

use super::{Store, now};
use crate::back_end::{Arrival, Departure};
use crate::environment::{parse, render};
use crate::locked::Locked;
use crate::progress::{Unit, Work};
use crate::stream::{Framer, Header, Sent, StreamError, Unframer};
use crate::sync::SYNC;
use crate::{
    Environment, EnvironmentName, ExportSettings, Lacking, Point, Role, Snapshot, SnapshotName,
    StoreError,
};

impl Store {
    /// Writes a snapshot to `out`, or only what is new in it since the snapshot `base`.
    pub fn send(
        &self,
        name: &EnvironmentName,
        snapshot: &SnapshotName,
        base: Option<&SnapshotName>,
        out: &mut dyn Write,
    ) -> Result<(), StoreError> {
        let kept = self.kept(name)?;
        let environment = self.back_end.record(&kept)?;
        self.refuse_half(&environment)?;
        let wanted = self.find(&kept, snapshot)?;
        let base_snapshot = base.map(|base| self.older(&kept, base, snapshot)).transpose()?;
        let header = Header {
            format: self.back_end.capabilities().format.to_owned(),
            snapshot: sent(&wanted),
            base: base_snapshot.as_ref().map(sent),
            environment: render(&environment).map_err(nonsense)?,
        };
        let point = Point::snapshot(name, snapshot);
        let work = Work::begin(|| format!("send {point}"), Unit::Bytes, None);
        let mut note = |bytes| work.set_done(bytes);
        let sending =
            |error| StoreError::Io { action: "send", path: point.to_string().into(), error };
        let mut framer = Framer::begin(out, &header, &mut note).map_err(sending)?;
        let departure = Departure { locked: &kept, snapshot, base, work: &work };
        self.back_end.send(&departure, &mut framer)?;
        framer.end().map_err(sending)
    }

    /// Takes in what [`Store::send`] wrote: as a new boot environment, or, if the stream goes on from
    /// a snapshot, as the next state of one that has that snapshot as its newest.
    ///
    /// A new one has the role [`Role::Off`] and is not shared: what was decided on the other host does
    /// not bind this one. Data sets of an environment that goes on, which the sender has no more, are
    /// destroyed only where that is asked for. Nothing of a stream that is cut or damaged is kept.
    pub fn receive(
        &self,
        name: &EnvironmentName,
        lacking: Lacking,
        from: &mut dyn Read,
    ) -> Result<Environment, StoreError> {
        self.noted("receive", &[name.as_str()], || {
            let work = Work::begin(String::new, Unit::Bytes, None);
            let mut note = |bytes| work.set_done(bytes);
            let begun = Unframer::begin(from, &mut note);
            let (header, mut unframer) = begun.map_err(|error| receiving(name, error))?;
            if header.format != self.back_end.capabilities().format {
                return Err(StreamError::Format(header.format).into());
            }
            let snapshot = snapshot_of(&header.snapshot)?;
            self.accept(snapshot.name.as_str())?;
            let alone = match &header.base {
                None => self.claim(name)?,
                Some(_) => self.alone(name)?,
            };
            let locked = &alone;
            let arrival = match &header.base {
                None => {
                    let mut environment = Environment {
                        uuid: Uuid::new_v4(),
                        created: now(),
                        origin: None,
                        role: Role::Off,
                        export: ExportSettings::default(),
                        ..parse(name.clone(), &header.environment).map_err(nonsense)?
                    };
                    // As a property of a file system, it is not sent.
                    environment.settings.set(SYNC, None)?;
                    Arrival { locked, environment, snapshot, base: None, lacking }
                }
                Some(base) => {
                    let environment = self.back_end.record(locked)?;
                    let base = Some(self.base(locked, base)?);
                    self.refuse_snapshot(locked, &snapshot.name)?;
                    Arrival { locked, environment, snapshot, base, lacking }
                }
            };
            match self.back_end.receive(&arrival, &mut unframer) {
                Ok(()) => Ok(arrival.environment),
                Err(error) => Err(unframer.blame(error)),
            }
        })
    }

    /// The snapshot that a stream is to go on from, which has to be older than the one that is sent.
    fn older(
        &self,
        locked: &Locked,
        base: &SnapshotName,
        than: &SnapshotName,
    ) -> Result<Snapshot, StoreError> {
        let found = self.find(locked, base)?;
        let snapshots = self.back_end.snapshots_of(locked)?.into_iter();
        let mut before = snapshots.take_while(|snapshot| snapshot.name != *than);
        if before.any(|snapshot| snapshot.name == *base) {
            return Ok(found);
        }
        Err(StoreError::NotOlder {
            point: Point::snapshot(locked.name(), than),
            base: base.clone(),
        })
    }

    /// The snapshot that a stream goes on from, which has to be the newest.
    fn base(&self, locked: &Locked, base: &Sent) -> Result<SnapshotName, StoreError> {
        let newest = self.back_end.snapshots_of(locked)?.pop();
        let newest = newest.filter(|snapshot| snapshot.uuid == base.uuid);
        newest.map(|snapshot| snapshot.name).ok_or_else(|| {
            let (snapshot, name) = (base.name.clone(), locked.name().to_string());
            StreamError::Base { snapshot, name }.into()
        })
    }
}

fn receiving(name: &EnvironmentName, error: Error) -> StoreError {
    StoreError::Io { action: "receive", path: name.as_str().into(), error }
}

fn sent(snapshot: &Snapshot) -> Sent {
    let Snapshot { name, uuid, created, .. } = snapshot;
    Sent { name: name.to_string(), uuid: *uuid, created: created.to_string() }
}

fn snapshot_of(sent: &Sent) -> Result<Snapshot, StoreError> {
    let name = sent.name.parse().map_err(nonsense)?;
    let created = sent.created.parse().map_err(nonsense)?;
    let (automatic, clones, more_clones) = (false, Vec::new(), false);
    Ok(Snapshot { name, uuid: sent.uuid, created, automatic, clones, more_clones })
}

fn nonsense(reason: impl ToString) -> StoreError {
    StreamError::Nonsense(reason.to_string()).into()
}
