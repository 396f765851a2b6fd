//! What a snapshot of a whole tree is sent as: one stream of zfs-send(8) for each data set, parents
//! first, with the properties that it is to have.
//!
//! ```text
//! 1                     another data set follows; 0 ends the payload
//! path                  below the root, empty for the root
//! 0 or 1                whether it goes on from the base
//! name value … ""       properties
//! piece … ""            the stream
//! ```
//!
//! Text and pieces are lengths of four bytes, the most significant first, and as many bytes. Nothing
//! is taken from the properties inside of ZFS's own streams: none are asked for.

use std::io::{self, Read, Write};
use std::path::Path;

use super::begin_record;
use super::command::{CopyError, Task};
use super::intents::{ARRIVAL, Step};
use super::listing::{DataSet, Properties, Source};
use super::program::Change;
use super::{Zfs, program, properties, told, tree};
use crate::back_end::{Arrival, Departure};
use crate::error::at;
use crate::{Lacking, Point, SnapshotName, StoreError, StreamError, fault};

impl Zfs {
    /// How many bytes a stream will have, without the few between.
    pub(super) fn estimate(&self, departure: &Departure<'_>) -> Option<u64> {
        let mut total = 0;
        for (_, task) in self.tasks(departure, &["-n", "-P"]).ok()? {
            let said = task.run().ok()?;
            let size = said.lines().find_map(|line| line.strip_prefix("size\t"))?;
            total += size.trim().parse::<u64>().ok()?;
        }
        Some(total)
    }

    /// Writes a snapshot of a whole tree.
    pub(super) fn write_stream(
        &self,
        departure: &Departure<'_>,
        out: &mut dyn Write,
    ) -> Result<(), StoreError> {
        let (name, snapshot) = (departure.locked.name(), departure.snapshot);
        self.refuse_half(name)?;
        let action = format!("send {name}@{snapshot}");
        let lost = |error| StoreError::Tool {
            program: "zfs",
            task: action.clone(),
            said: io::Error::to_string(&error),
        };
        let root = self.full(name.as_str());
        let known = self.set_properties(&self.tree_of(departure.locked)?)?;
        for (part, task) in self.tasks(departure, &[])? {
            let path = part.dataset.strip_prefix(&root).unwrap_or_default();
            let head = |out: &mut dyn Write| -> io::Result<()> {
                out.write_all(&[MORE])?;
                write_text(out, path.trim_start_matches('/'))?;
                out.write_all(&[u8::from(part.goes_on)])?;
                Ok(())
            };
            head(out).map_err(lost)?;
            let sent = sent(tree::of(&known, &part.dataset)?);
            sent.iter()
                .try_for_each(|(name, value)| {
                    write_text(out, name)?;
                    write_text(out, value)
                })
                .and_then(|()| write_text(out, ""))
                .map_err(lost)?;
            let mut pieces = Pieces { out };
            task.copy_to(&mut pieces).map_err(|error| match error {
                CopyError::Other(error) => lost(error),
                CopyError::Task(failure) => told(failure, &action),
            })?;
            write_text(out, "").map_err(lost)?;
        }
        out.write_all(&[END]).map_err(lost)
    }

    /// The tasks that send a tree.
    fn tasks(
        &self,
        departure: &Departure<'_>,
        options: &[&'static str],
    ) -> Result<Vec<(Part, Task)>, StoreError> {
        let Departure { locked, snapshot, base, .. } = *departure;
        let rows = self.rows_of(locked)?;
        let has = |dataset: &str, snapshot: &SnapshotName| {
            rows.iter().any(|row| row.dataset == dataset && row.snapshot == snapshot.as_str())
        };
        let tree = self.tree_of(locked)?;
        let mut tasks = Vec::new();
        for set in tree.sets().filter(|set| has(&set.name, snapshot)) {
            let base = base.filter(|base| has(&set.name, base));
            let mut task =
                Task::zfs("send").flags(options.iter().copied()).flags(["-L", "-e", "-c"]);
            if set.key.is_some() {
                // It stays encrypted on the way and there; its key need not be loaded.
                task = task.flags(["-w"]);
            }
            if let Some(base) = base {
                task = task.option("-i", format!("@{base}"));
            }
            let task = task.operand(format!("{}@{snapshot}", set.name));
            tasks.push((Part { dataset: set.name.clone(), goes_on: base.is_some() }, task));
        }
        Ok(tasks)
    }

    /// Takes in a whole tree.
    pub(super) fn receive_whole(
        &self,
        arrival: &Arrival<'_>,
        from: &mut dyn Read,
    ) -> Result<(), StoreError> {
        let new = &arrival.environment;
        self.free(&new.name)?;
        let work = self.begin("receive", new, Vec::new())?;
        while let Some(part) = read_part(from).map_err(|error| cut(error, arrival))? {
            let mut task = part.task();
            if part.path.is_empty() {
                task = task.property("mountpoint", "/");
                for (name, value) in properties::write(new)? {
                    task = task.property(&name, &value);
                }
            }
            let task = task.operand(below(&work.dataset, &part.path));
            take(task, part.goes_on, from, arrival)?;
        }
        finish(from, arrival)?;
        self.mark_data(&work.dataset, new)?;
        self.publish(work, &new.name)
    }

    /// Takes in what is new since the snapshot `base`.
    pub(super) fn receive_more(
        &self,
        arrival: &Arrival<'_>,
        base: &SnapshotName,
        from: &mut dyn Read,
    ) -> Result<(), StoreError> {
        let (locked, name) = (arrival.locked, &arrival.environment.name);
        let snapshot = &arrival.snapshot.name;
        let root = self.full(name.as_str());
        let modified = || {
            let point = Point { environment: name.clone(), snapshot: Some(base.clone()) };
            StoreError::Modified(point)
        };
        locked.seen().forget();
        let rows = self.rows_of(locked)?;
        let tree = self.tree_of(locked)?;
        // A part may have one that its root has not: to undo this would take that away.
        if rows.iter().any(|row| row.snapshot == snapshot.as_str()) {
            return Err(StoreError::SnapshotExists(Point::snapshot(name, snapshot)));
        }
        for set in tree.sets() {
            let newest = rows.iter().rfind(|row| row.dataset == set.name);
            if set.written > 0 || newest.is_none_or(|row| row.snapshot != base.as_str()) {
                return Err(modified());
            }
        }
        self.spare(name)?;
        self.hide(name)?;
        locked.seen().forget();
        let sets = tree.sets().filter_map(|set| {
            let newest = rows.iter().rfind(|row| row.dataset == set.name)?;
            Some((set.guid, newest.guid))
        });
        let left = Step::Return {
            dataset: tree.root.guid,
            snapshot: snapshot.to_string(),
            base: base.to_string(),
            sets: sets.collect(),
        };
        let environments = vec![(&arrival.environment).into()];
        let mut open = self.intend("receive", environments, vec![left])?;
        let (mut arrived, mut new) = (Vec::new(), Vec::new());
        while let Some(part) = read_part(from).map_err(|error| cut(error, arrival))? {
            let target = below(&root, &part.path);
            let mut task = Task::zfs("receive").flags(["-u"]);
            if !part.goes_on {
                // By this it is known what came, if that has to go again.
                task = part.task().property(ARRIVAL, &open.uuid().to_string());
                new.push(target.clone());
            }
            take(task.operand(&target), part.goes_on, from, arrival)?;
            fault::point();
            arrived.push(target);
        }
        finish(from, arrival)?;
        // What the sender had destroyed was not in what it sent.
        let above = |set: &str| arrived.iter().any(|other| other.starts_with(&format!("{set}/")));
        let gone = tree.sets().filter(|set| !arrived.contains(&set.name) && !above(&set.name));
        let gone: Vec<&DataSet> = gone.collect();
        if !gone.is_empty() {
            if arrival.lacking == Lacking::Refuse {
                let datasets = gone.iter().map(|set| set.name.clone()).collect();
                return Err(StoreError::Lacking { name: name.clone(), datasets });
            }
            // From here on a kill completes it: what is destroyed does not come back.
            let destroy = Step::Destroy { datasets: gone.iter().map(|set| set.guid).collect() };
            open.turn(vec![destroy])?;
            open.settle()?;
        } else {
            // A record that came back would undo what is told to be done.
            open.turn(Vec::new())?;
            open.end();
        }
        let unmark = |dataset| Change { dataset, property: ARRIVAL.to_owned(), value: None };
        let marks: Vec<Change> = new.into_iter().map(unmark).collect();
        // All of it is there.
        if let Err(error) = program::set(self.pool_name(), &marks) {
            tracing::warn!(environment = %name, %error, "the property that marked the transfer cannot be \
                                                         removed; it has no effect");
        }
        Ok(())
    }
}

/// A data set that is sent.
#[derive(Debug)]
struct Part {
    dataset: String,
    goes_on: bool,
}

/// What stands before a data set's stream.
#[derive(Debug, Eq, PartialEq)]
struct Received {
    path: String,
    goes_on: bool,
    properties: Vec<(String, String)>,
}

impl Received {
    /// The task that receives it as a new data set, without its name.
    fn task(&self) -> Task {
        let canmount = if self.property("canmount") == Some("off") { "off" } else { "noauto" };
        let task = Task::zfs("receive").flags(["-u"]).property("canmount", canmount);
        let here = |name: &str| name == "canmount" || self.path.is_empty() && name == "mountpoint";
        let sent = self.properties.iter().filter(|(name, _)| !here(name));
        sent.fold(task, |task, (name, value)| task.property(name, value))
    }

    fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn read_part(from: &mut dyn Read) -> io::Result<Option<Received>> {
    match read_byte(from)? {
        END => return Ok(None),
        MORE => {}
        _ => return Err(senseless()),
    }
    let path = read_text(from)?;
    let plain = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(['@', '%', '#']);
    if !path.is_empty() && !path.split('/').all(plain) {
        return Err(senseless());
    }
    let goes_on = read_byte(from)? == 1;
    let mut properties = Vec::new();
    loop {
        let name = read_text(from)?;
        if name.is_empty() {
            return Ok(Some(Received { path, goes_on, properties }));
        }
        let value = read_text(from)?;
        // Another host does not decide about other properties than those that are sent.
        if !SENT.contains(&name.as_str()) || properties.len() > SENT.len() {
            return Err(senseless());
        }
        properties.push((name, value));
    }
}

/// Gives a program the stream that comes now, if it does no more than it has to.
fn take(
    task: Task,
    goes_on: bool,
    from: &mut dyn Read,
    arrival: &Arrival<'_>,
) -> Result<(), StoreError> {
    let mut stream = Stream { from, left: 0, ended: false };
    let mut record = [0; begin_record::LEN];
    stream.read_exact(&mut record).map_err(|error| cut(error, arrival))?;
    begin_record::check(&record, &arrival.snapshot.name, goes_on)?;
    task.copy_from(&mut record.chain(stream)).map_err(|error| match error {
        CopyError::Other(error) => cut(error, arrival),
        CopyError::Task(failure) => told(failure, &format!("receive {}", arrival.environment.name)),
    })
}

/// Makes sure that nothing follows, and that the checksums were right.
fn finish(from: &mut dyn Read, arrival: &Arrival<'_>) -> Result<(), StoreError> {
    let mut more = [0];
    match from.read(&mut more).map_err(|error| cut(error, arrival))? {
        0 => Ok(()),
        _ => Err(cut(senseless(), arrival)),
    }
}

fn cut(error: io::Error, arrival: &Arrival<'_>) -> StoreError {
    at("receive", Path::new(arrival.environment.name.as_str()))(error)
}

fn below(root: &str, path: &str) -> String {
    if path.is_empty() { root.to_owned() } else { format!("{root}/{path}") }
}

/// The properties that travel.
fn sent(properties: &Properties) -> Vec<(&str, &str)> {
    let kept = properties
        .iter()
        .filter(|(name, value)| value.source != Source::Inherited && SENT.contains(&name.as_str()));
    kept.map(|(name, value)| (name.as_str(), value.text.as_str())).collect()
}

/// Cuts what is written into pieces.
struct Pieces<'a> {
    out: &'a mut dyn Write,
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..bytes.len().min(LONGEST)).unwrap_or_default();
        if !piece.is_empty() {
            write_bytes(self.out, piece)?;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Puts pieces together.
struct Stream<'a> {
    from: &'a mut dyn Read,
    left: usize,
    ended: bool,
}

impl Read for Stream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.ended {
            self.left = read_length(self.from)?;
            self.ended = self.left == 0;
        }
        let len = self.left.min(buffer.len());
        let Some(part) = buffer.get_mut(..len).filter(|part| !part.is_empty()) else {
            return Ok(0);
        };
        self.from.read_exact(part)?;
        self.left -= len;
        Ok(len)
    }
}

fn write_text(out: &mut dyn Write, text: &str) -> io::Result<()> {
    write_bytes(out, text.as_bytes())
}

fn write_bytes(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    out.write_all(&len.to_be_bytes())?;
    out.write_all(bytes)
}

fn read_byte(from: &mut dyn Read) -> io::Result<u8> {
    let mut byte = [0];
    from.read_exact(&mut byte)?;
    let [byte] = byte;
    Ok(byte)
}

/// Reads a length that somebody claims, and refuses one that nobody writes.
fn read_length(from: &mut dyn Read) -> io::Result<usize> {
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    let len = usize::try_from(u32::from_be_bytes(len)).map_err(io::Error::other)?;
    if len <= LONGEST { Ok(len) } else { Err(senseless()) }
}

fn read_text(from: &mut dyn Read) -> io::Result<String> {
    let len = read_length(from)?;
    if len > LONGEST_TEXT {
        return Err(senseless());
    }
    let mut text = vec![0; len];
    from.read_exact(&mut text)?;
    String::from_utf8(text).map_err(|_| senseless())
}

fn senseless() -> io::Error {
    StreamError::Nonsense("a data set".to_owned()).into()
}

/// Native properties that describe files and their data set, and nothing on the host that has it.
const SENT: [&str; 13] = [
    "aclinherit",
    "aclmode",
    "acltype",
    "atime",
    "canmount",
    "checksum",
    "compression",
    "copies",
    "exec",
    "mountpoint",
    "recordsize",
    "setuid",
    "xattr",
];
const END: u8 = 0;
const MORE: u8 = 1;
/// Longest piece of a stream.
const LONGEST: usize = 1 << 20;
/// Longest path, name or value.
const LONGEST_TEXT: usize = 8192;
