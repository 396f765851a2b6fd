//! What zfs(8) tells about data sets and snapshots, read from its tables.
//!
//! Tables are split at lines and tabs. The value of a user property may have both in it when somebody
//! else's stream brought it (zfsprops(7) has no rules for values), so that it could pretend to be
//! another property: a data set of which one property is told twice is [`Forged`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::command::{Failure, LIMIT, Refusal};
use super::kernel;

/// A file system as zfs(8) lists it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct DataSet {
    /// Its full name, pool first.
    pub(super) name: String,
    /// Its identity in its pool.
    pub(super) guid: u64,
    /// When it was created, in seconds since 1970.
    pub(super) creation: u64,
    /// The snapshot that it was cloned from, if it is a clone.
    pub(super) origin: Option<String>,
    /// Where it is mounted when it is, or `none` or `legacy`.
    pub(super) mountpoint: String,
    /// Whether it can be mounted at all.
    pub(super) mountable: bool,
    /// Whether it is encrypted and its key is not loaded.
    pub(super) locked: bool,
    /// If it is encrypted, the data set whose key it has: itself, or that which it was made in or
    /// cloned from.
    pub(super) key: Option<String>,
    /// What ZFS itself does for NFS with it.
    pub(super) sharenfs: String,
    /// Bytes that it takes with its snapshots and all below it.
    pub(super) used: u64,
    /// Bytes that one sees in it.
    pub(super) referenced: u64,
    /// Bytes written since its newest snapshot.
    pub(super) written: u64,
}

impl DataSet {
    /// Whether ZFS itself shares it over NFS.
    pub(super) fn is_shared(&self) -> bool {
        !matches!(self.sharenfs.as_str(), "off" | "-")
    }
}

/// A snapshot as zfs(8) lists it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SnapshotRow {
    /// The data set's full name.
    pub(super) dataset: String,
    /// What stands behind the `@`.
    pub(super) snapshot: String,
    /// Its identity, which it keeps when it is sent.
    pub(super) guid: u64,
    /// When it was made, in seconds since 1970.
    pub(super) creation: u64,
    /// Its order among the snapshots of its pool.
    pub(super) transaction: u64,
    /// Whether it goes with its last clone.
    pub(super) deferred: bool,
    /// The clones that depend on it, by full name.
    pub(super) clones: Vec<String>,
    /// Whether there are more of them than ZFS tells.
    pub(super) more_clones: bool,
    /// Bytes that are in it alone.
    pub(super) used: u64,
    /// Bytes that one sees in it.
    pub(super) referenced: u64,
}

impl SnapshotRow {
    /// Its full name.
    pub(super) fn full(&self) -> String {
        format!("{}@{}", self.dataset, self.snapshot)
    }
}

/// How far a list goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Depth {
    /// Everything below.
    All,
    /// What is right below, too.
    Children,
    /// The data set alone.
    One,
}

/// A question about data sets. The answer is a table as zfs(8) prints it with `-H` and `-p`, whoever gives it.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// What is told of each.
    pub(super) about: About,
    /// Of which kinds it is told.
    pub(super) kinds: Kinds,
    /// How far from each of the names: snapshots are right below their data set.
    pub(super) depth: Depth,
    /// The data sets.
    pub(super) names: Vec<String>,
    /// How long the answer may take.
    pub(super) limit: Duration,
}

/// What is told of each data set.
#[derive(Clone, Debug)]
pub(super) enum About {
    /// A line with these properties.
    Columns(&'static str),
    /// For each of these properties its name, property, value and source.
    Properties(String),
    /// The same, of all that is not as it is by itself, or of the one that is named.
    Set(String),
    /// The same, of all that is not as it is by itself and of the [`COLUMNS`]; of what is deeper than `roots`
    /// below the first, of the columns and of one property only. Native properties that are inherited may be left out.
    Described {
        /// All is told of what is at most so deep.
        #[cfg_attr(not(feature = "libzfs"), expect(dead_code, reason = "zfs(8) tells all of all"))]
        roots: usize,
        /// What is told of the rest.
        #[cfg_attr(not(feature = "libzfs"), expect(dead_code, reason = "zfs(8) tells all of all"))]
        below: &'static str,
    },
}

/// Kinds of data sets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kinds {
    /// All of them.
    All,
    /// File systems.
    FileSystems,
    /// Snapshots.
    Snapshots,
}

impl Question {
    fn new(about: About, kinds: Kinds, depth: Depth, name: &str) -> Self {
        Self { about, kinds, depth, names: vec![name.to_owned()], limit: LIMIT }
    }

    /// The answer, if nothing was refused.
    fn ask(self) -> Result<String, Failure> {
        let (table, failure) = kernel::ask(self)?;
        failure.map_or(Ok(table), Err)
    }
}

/// The file systems at and below `dataset`, parents first.
pub(super) fn datasets(dataset: &str) -> Result<Vec<DataSet>, Failure> {
    let about = About::Columns(COLUMNS);
    let table = Question::new(about, Kinds::FileSystems, Depth::All, dataset).ask()?;
    let mut sets: Vec<DataSet> = table.lines().filter_map(data_set).collect();
    sets.sort_by(|a, b| a.name.split('/').cmp(b.name.split('/')));
    Ok(sets)
}

/// The names of `dataset` and of the file systems right below it.
pub(super) fn children(dataset: &str) -> Result<Vec<String>, Failure> {
    let about = About::Columns("name");
    let table = Question::new(about, Kinds::FileSystems, Depth::Children, dataset).ask()?;
    Ok(table.lines().map(str::to_owned).collect())
}

/// All that there is of a data set and below it, in an order in which it can be destroyed: snapshots,
/// and then file systems and volumes, children first.
pub(super) fn everything(dataset: &str) -> Result<Vec<String>, Failure> {
    let table = Question::new(About::Columns("name"), Kinds::All, Depth::All, dataset).ask()?;
    let mut names: Vec<String> = table.lines().map(str::to_owned).collect();
    names.sort_by_cached_key(|name| {
        (!name.contains('@'), Reverse(name.split('/').map(str::to_owned).collect::<Vec<_>>()))
    });
    Ok(names)
}

/// The pool of a data set.
pub(super) fn pool(dataset: &str) -> &str {
    dataset.split(['/', '@']).next().unwrap_or(dataset)
}

/// Which of these data sets are there.
pub(super) fn names(datasets: &[&str]) -> Result<Vec<String>, Failure> {
    let names = datasets.iter().map(|name| (*name).to_owned()).collect();
    let (about, kinds, depth, limit) = (About::Columns("name"), Kinds::All, Depth::One, LOOK);
    // What is there is listed, and said of the others that they are not.
    let (table, failure) = kernel::ask(Question { about, kinds, depth, names, limit })?;
    match failure {
        Some(failure) if failure.refusal != Refusal::Missing => Err(failure),
        Some(_) | None => Ok(table.lines().map(str::to_owned).collect()),
    }
}

/// The number of a data set, if it is there.
pub(super) fn guid(dataset: &str) -> Result<Option<u64>, Failure> {
    let question = Question::new(About::Columns("guid"), Kinds::All, Depth::One, dataset);
    match (Question { limit: LOOK, ..question }).ask() {
        Ok(table) => Ok(table.trim().parse().ok()),
        Err(Failure { refusal: Refusal::Missing, .. }) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// The snapshots of `dataset`, which are right below it, and of what else `depth` goes to, oldest first.
pub(super) fn snapshots(dataset: &str, depth: Depth) -> Result<Vec<SnapshotRow>, Failure> {
    let about = About::Columns(SNAPSHOT_COLUMNS);
    let table = Question::new(about, Kinds::Snapshots, depth, dataset).ask()?;
    let mut rows: Vec<SnapshotRow> = table.lines().filter_map(snapshot_row).collect();
    rows.sort_by(|a, b| {
        a.transaction.cmp(&b.transaction).then_with(|| a.snapshot.cmp(&b.snapshot))
    });
    Ok(rows)
}

/// One snapshot, by its full name.
pub(super) fn snapshot(full: &str) -> Result<Option<SnapshotRow>, Failure> {
    let about = About::Columns(SNAPSHOT_COLUMNS);
    let table = Question::new(about, Kinds::Snapshots, Depth::One, full).ask()?;
    Ok(table.lines().find_map(snapshot_row))
}

/// The file systems at `dataset`, and below it if `depth` says so, parents first, and all of their properties.
pub(super) fn described(dataset: &str, depth: Depth) -> Result<(Vec<DataSet>, Known), Failure> {
    // The rest is no deeper.
    let about = About::Described { roots: usize::MAX, below: "" };
    let table = Question::new(about, Kinds::FileSystems, depth, dataset).ask()?;
    Ok(described_by(&table))
}

/// The file systems at and below `dataset`, parents first: all properties of those right below it, and of what
/// is deeper only the one that is named.
pub(super) fn forest(dataset: &str, below: &'static str) -> Result<(Vec<DataSet>, Known), Failure> {
    let ask = |about, depth| Question::new(about, Kinds::FileSystems, depth, dataset).ask();
    if kernel::is_library() {
        let table = ask(About::Described { roots: 1, below }, Depth::All)?;
        return Ok(described_by(&table));
    }
    // For zfs(8) to tell all properties of one takes four times as long as to tell these.
    let columns = [COLUMNS, below].join(",");
    let (sets, mut known) = described_by(&ask(About::Properties(columns), Depth::All)?);
    join(&mut known, properties(dataset, Depth::Children, "all")?);
    Ok((sets, known))
}

fn described_by(table: &str) -> (Vec<DataSet>, Known) {
    let (mut sets, mut known) = (Vec::new(), property_table(table));
    for (set, twice) in sets_of(table) {
        if twice {
            known.insert(set.name.clone(), Err(Forged));
        }
        sets.push(set);
    }
    (sets, known)
}

/// The file systems of a table of properties, and whether one of their properties is told twice.
fn sets_of(table: &str) -> Vec<(DataSet, bool)> {
    let mut natives: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    let mut forged = BTreeSet::new();
    for (name, property, text, _source) in table.lines().filter_map(fields) {
        if natives.entry(name).or_default().insert(property, text).is_some() {
            forged.insert(name);
        }
    }
    let line = |(name, values): (&&str, &BTreeMap<&str, &str>)| {
        let column = |column| match column {
            "name" => *name,
            column => values.get(column).copied().unwrap_or("-"),
        };
        let set = data_set(&COLUMNS.split(',').map(column).collect::<Vec<_>>().join("\t"))?;
        Some((set, forged.contains(name)))
    };
    let mut sets: Vec<_> = natives.iter().filter_map(line).collect();
    sets.sort_by(|(a, _), (b, _)| a.name.split('/').cmp(b.name.split('/')));
    sets
}

fn data_set(line: &str) -> Option<DataSet> {
    let mut fields = line.split('\t');
    let mut next = || fields.next();
    let set = DataSet {
        name: next()?.to_owned(),
        guid: next()?.parse().ok()?,
        creation: next()?.parse().ok()?,
        origin: next().filter(|origin| *origin != "-").map(str::to_owned),
        mountpoint: next()?.to_owned(),
        mountable: next()? != "off",
        locked: next()? == "unavailable",
        key: next().filter(|root| *root != "-").map(str::to_owned),
        sharenfs: next()?.to_owned(),
        used: next()?.parse().ok()?,
        referenced: next()?.parse().ok()?,
        written: next()?.parse().ok()?,
    };
    Some(set)
}

fn snapshot_row(line: &str) -> Option<SnapshotRow> {
    let mut fields = line.split('\t');
    let mut next = || fields.next();
    let (dataset, snapshot) = next()?.split_once('@')?;
    let (guid, creation, transaction) = (next()?, next()?, next()?);
    let deferred = next()? == "on";
    let told = next()?;
    let mut clones: Vec<String> = told
        .split(',')
        .filter(|clone| !clone.is_empty() && *clone != "-")
        .map(str::to_owned)
        .collect();
    let more_clones = CUT.contains(&told.len());
    if more_clones {
        // Of this one there may be but a part.
        clones.pop();
    }
    let row = SnapshotRow {
        dataset: dataset.to_owned(),
        snapshot: snapshot.to_owned(),
        guid: guid.parse().ok()?,
        creation: creation.parse().ok()?,
        transaction: transaction.parse().ok()?,
        deferred,
        clones,
        more_clones,
        used: next()?.parse().ok()?,
        referenced: next()?.parse().ok()?,
    };
    Some(row)
}

/// Where a property's value comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    /// A parent has it.
    Inherited,
    /// It was set here.
    Local,
    /// It came with a stream.
    Received,
}

/// A property that is not as it is by itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Value {
    /// What it says.
    pub(super) text: String,
    /// Where that comes from.
    pub(super) source: Source,
}

/// The properties of one data set by name.
pub(super) type Properties = BTreeMap<String, Value>;

/// The properties of several data sets, by the data sets' names.
pub(super) type Known = BTreeMap<String, Result<Properties, Forged>>;

/// A data set with a property that pretends to be another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Forged;

/// The properties of the file systems at and below `dataset` that are not as they are by themselves:
/// all of them, or only the one that is named.
pub(super) fn properties(dataset: &str, depth: Depth, which: &str) -> Result<Known, Failure> {
    let about = About::Set(which.to_owned());
    let table = Question::new(about, Kinds::FileSystems, depth, dataset).ask()?;
    Ok(property_table(&table))
}

/// Adds what is known by another question.
fn join(known: &mut Known, more: Known) {
    for (name, properties) in more {
        match (known.get_mut(&name), properties) {
            (Some(Ok(before)), Ok(properties)) => before.extend(properties),
            (Some(Err(Forged)), _) => {}
            (_, properties) => {
                known.insert(name, properties);
            }
        }
    }
}

fn property_table(table: &str) -> Known {
    let mut all = Known::new();
    for (name, property, text, source) in table.lines().filter_map(fields) {
        let source = match source {
            "local" => Source::Local,
            "received" => Source::Received,
            // Of what ZFS itself knows the parent's says enough.
            inherited if inherited.starts_with("inherited from ") && property.contains(':') => {
                Source::Inherited
            }
            _ => continue,
        };
        let entry = all.entry(name.to_owned()).or_insert_with(|| Ok(Properties::new()));
        if let Ok(properties) = entry {
            let value = Value { text: text.to_owned(), source };
            if properties.insert(property.to_owned(), value).is_some() {
                *entry = Err(Forged);
            }
        }
    }
    all
}

/// What the table of a question says of native properties of one data set: name, property, value, source.
pub(super) fn values(dataset: &str, which: String) -> Result<String, Failure> {
    let question = Question::new(About::Properties(which), Kinds::FileSystems, Depth::One, dataset);
    Question { limit: LOOK, ..question }.ask()
}

/// The name, the property, its value and its source.
pub(super) fn fields(line: &str) -> Option<(&str, &str, &str, &str)> {
    let mut fields = line.split('\t');
    Some((fields.next()?, fields.next()?, fields.next()?, fields.next()?))
}

/// How long a pool may take to say how it is.
pub(super) const LOOK: Duration = Duration::from_secs(20);
/// What is asked about each file system.
pub(super) const COLUMNS: &str = "name,guid,creation,origin,mountpoint,canmount,keystatus,encryptionroot,sharenfs,\
    used,referenced,written";
/// The bytes that a list of clones is cut at: ZFS_MAXPROPLEN, less its end, of FreeBSD and Linux.
const CUT: [usize; 2] = [1023, 4095];
const SNAPSHOT_COLUMNS: &str = "name,guid,creation,createtxg,defer_destroy,clones,used,referenced";

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_file_system_is_read_from_its_line() {
        let line = "tank/be/my head\t123\t1700000000\ttank/be/a@x y\t/\tnoauto\tnone\t-\ton\t4096\t\
                    2048\t0";
        let set = data_set(line).unwrap();
        assert_eq!(set.name, "tank/be/my head");
        assert_eq!((set.guid, set.creation), (123, 1_700_000_000));
        assert_eq!(set.origin.as_deref(), Some("tank/be/a@x y"));
        assert!(set.mountable && !set.locked && set.key.is_none());
        assert_eq!((set.used, set.referenced, set.written), (4096, 2048, 0));
    }

    #[test]
    fn an_encrypted_file_system_without_its_key_is_told() {
        let line = "t/s\t1\t2\t-\t/\toff\tunavailable\tt\toff\t1\t1\t0";
        let set = data_set(line).unwrap();
        assert!(set.locked && !set.mountable);
        assert_eq!(set.key.as_deref(), Some("t"));
        assert_eq!(set.origin, None);
    }

    #[test]
    fn a_snapshot_is_read_with_its_clones() {
        let line = "tank/be/a@x\t9\t1700000000\t77\ton\ttank/be/b,tank/be/c d\t0\t512";
        let row = snapshot_row(line).unwrap();
        assert_eq!((row.dataset.as_str(), row.snapshot.as_str()), ("tank/be/a", "x"));
        assert!(row.deferred);
        assert_eq!(row.clones, ["tank/be/b", "tank/be/c d"]);
        let none = snapshot_row("a@x\t9\t1\t77\toff\t\t0\t512").unwrap();
        assert!(none.clones.is_empty() && !none.deferred && !row.more_clones);
        let names = "tank/be/web01-head,".repeat(60);
        let cut = snapshot_row(&format!("tank/be/a@x\t1\t2\t3\toff\t{}\t0\t0", &names[..1023]));
        let cut = cut.unwrap();
        assert!(cut.more_clones && cut.clones.iter().all(|clone| clone == "tank/be/web01-head"));
    }

    #[test]
    fn properties_are_told_with_where_they_come_from() {
        let table = "t/a\tnetbe:role\tbe\tlocal\nt/a\tx:y\toff\tinherited from t\n\
                     t/a\tatime\toff\tinherited from t\nt/a/b\tnetbe:role\tbe\treceived\nt/a\tmounted\tno\t-\n";
        let all = property_table(table);
        let of = |name: &str, property: &str| all[name].as_ref().unwrap()[property].source;
        assert_eq!(of("t/a", "netbe:role"), Source::Local);
        assert_eq!(of("t/a", "x:y"), Source::Inherited);
        assert_eq!(of("t/a/b", "netbe:role"), Source::Received);
        assert_eq!(all["t/a"].as_ref().unwrap().len(), 2);
    }

    #[test]
    fn a_file_system_is_read_from_its_properties_too() {
        let table = "t/a\tguid\t7\t-\nt/a\tcreation\t1\t-\nt/a\tmountpoint\t/\tlocal\n\
                     t/a\tcanmount\tnoauto\tlocal\nt/a\tencryptionroot\t-\t-\n\
                     t/a\tused\t3\t-\nt/a\treferenced\t2\t-\nt/a\twritten\t0\t-\n";
        let sets = sets_of(table);
        let found = data_set("t/a\t7\t1\t-\t/\tnoauto\t-\t-\t-\t3\t2\t0").unwrap();
        assert_eq!(sets, [(found, false)]);
        let forged = [table, "t/a\tmountpoint\t/etc\tlocal\n"].concat();
        assert!(sets_of(&forged)[0].1);
    }

    #[test]
    fn a_value_that_pretends_to_be_a_property_is_noticed() {
        let table = "t/a\tnetbe:role\toff\treceived\nt/a\tx:y\t1\nt/a\tnetbe:role\tbe\tlocal\n";
        assert_eq!(property_table(table)["t/a"], Err(Forged));
    }
}
