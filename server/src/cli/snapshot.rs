//! Verbs about snapshots: make one, go back to one, see what differs.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::Args;
use serde::Serialize;
use store::{Change, Newer, Point, SnapshotName, Store};

use super::guard::{self, Hold, Verb};
use super::{Dry, Failure, Format, Reply, Site, Table};

/// Create a snapshot of a boot environment with all its data sets.
#[derive(Args, Debug)]
pub(crate) struct Snapshot {
    #[command(flatten)]
    dry: Dry,
    /// The boot environment and the name of the snapshot.
    #[arg(value_name = "BE@SNAP")]
    point: Point,
}

impl Snapshot {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let snapshot = named(&self.point)?;
        let (store, name) = (site.open()?, &self.point.environment);
        if self.dry.is_dry() {
            store.would_snapshot(name, snapshot)?;
        }
        if let Some(told) = self.dry.instead(site, format_args!("make the snapshot {}", self.point))
        {
            return Ok(told);
        }
        store.snapshot(name, snapshot)?;
        Ok(Reply::done())
    }
}

/// Roll a boot environment back to a snapshot.
#[derive(Args, Debug)]
pub(crate) struct Rollback {
    /// Roll back even while machines run from it (they will fail), or if roots were cloned from a
    /// snapshot that is destroyed.
    #[arg(short, long)]
    force: bool,
    /// Destroy the snapshots that are newer.
    #[arg(short, long)]
    recent: bool,
    #[command(flatten)]
    dry: Dry,
    /// The boot environment and the snapshot.
    #[arg(value_name = "BE@SNAP")]
    point: Point,
}

impl Rollback {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        let (name, snapshot) = (&self.point.environment, named(&self.point)?);
        if self.recent && !self.force {
            let kept = store.snapshots(name)?;
            let until = kept.iter().position(|kept| kept.name == *snapshot);
            let newer = until.and_then(|at| kept.get(at.saturating_add(1)..)).unwrap_or_default();
            guard::refuse_needed(site, name, Verb::RollBack, |made| {
                newer.iter().any(|newer| Some(&newer.name) == made)
            })?;
        }
        let newer = if self.recent { Newer::Destroy } else { Newer::Refuse };
        if self.dry.is_dry() {
            if !self.force {
                guard::refuse_living(site, name, Verb::RollBack)?;
            }
            let gone = store.would_roll_back(name, snapshot, newer)?.into_iter();
            let deeds = gone.map(|point| format!("destroy {point}"));
            let deeds = deeds.chain([format!("make {name} what it was at {}", self.point)]);
            return Ok(self.dry.instead_of(site, &deeds.collect::<Vec<_>>()).unwrap_or_default());
        }
        let _ = self.dry.instead(site, format_args!("make {name} what it was at {}", self.point));
        let hold = Hold::begin(site, name, Verb::RollBack, self.force)?;
        store.rollback(name, snapshot, newer)?;
        hold.end()?;
        Ok(Reply::done())
    }
}

/// Show the differences between two boot environments or snapshots.
///
/// Given one snapshot, show the changes since it; given a boot environment, the changes since its
/// newest snapshot. `+` is added, `-` removed, `M` modified, `R` renamed; `F` is a file, `/` a
/// directory, `@` a symbolic link, `B` and `C` a device, `|` a FIFO, `=` a socket.
#[derive(Args, Debug)]
pub(crate) struct Diff {
    #[command(flatten)]
    format: Format,
    /// The older side.
    #[arg(value_name = "BE[@SNAP]")]
    old: Point,
    /// The newer side.
    #[arg(value_name = "BE[@SNAP]")]
    new: Option<Point>,
}

impl Diff {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        let (old, new) = match (&self.old, &self.new) {
            (old, Some(new)) => (old.clone(), new.clone()),
            (old, None) if old.snapshot.is_some() => {
                (old.clone(), Point::from(old.environment.clone()))
            }
            (new, None) => (last(&store, new)?, new.clone()),
        };
        differences(&store.diff(&old, &new)?, &self.format)
    }
}

/// Shows what differs between two trees.
pub(super) fn differences(changes: &[Change], format: &Format) -> Result<Reply, Failure> {
    let records: Vec<_> = changes.iter().map(Record::from).collect();
    format.reply(&records, |records| {
        let mut table = Table::new(&["CHANGE", "TYPE", "PATH"]);
        for record in records {
            let path = record.path.clone();
            table.row([record.change.to_string(), record.kind.to_string(), path]);
        }
        table
    })
}

/// The newest snapshot of an environment.
fn last(store: &Store, point: &Point) -> Result<Point, Failure> {
    let snapshots = store.snapshots(&point.environment)?;
    let newest = snapshots.last().ok_or_else(|| {
        Failure::no(format_args!("{point} has no snapshot: name what to compare it with"))
    })?;
    Ok(Point::snapshot(&point.environment, &newest.name))
}

/// The snapshot of a point that has to have one.
pub(super) fn named(point: &Point) -> Result<&SnapshotName, Failure> {
    point.snapshot.as_ref().ok_or_else(|| {
        Failure::could_not(format_args!(
            "{point} names no snapshot: write {point}@NAME, as in {point}@monday"
        ))
    })
}

/// A difference as it is shown.
#[derive(Serialize)]
struct Record {
    change: char,
    #[serde(rename = "type")]
    kind: char,
    path: String,
}

impl From<&Change> for Record {
    fn from(change: &Change) -> Self {
        Self { change: change.kind.sign(), kind: change.file.sign(), path: shown(&change.path) }
    }
}

/// A path as text that is one line: a guest may call a file whatever it likes.
pub(super) fn shown(path: &Path) -> String {
    let bytes = path.as_os_str().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok("") => "/".to_owned(),
        Ok(text) if !text.contains(|c: char| c.is_control() || c == '\\') => {
            format!("/{text}")
        }
        Ok(_) | Err(_) => format!("/{}", bytes.escape_ascii()),
    }
}
