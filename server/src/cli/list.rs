//! The verb that lists boot environments.

use std::cmp::Reverse;

use clap::Args;
use serde::Serialize;
use store::{
    Dataset, Environment, EnvironmentName, Footprint, Holding, Origin, Point, Space, StoreError,
    Survey,
};

use super::active::{Active, Actives};
use super::{Failure, Format, Reply, Site, Table};
use crate::boot::timeline::Bytes;

/// List boot environments.
///
/// ACTIVE is as in bectl(8), for all machines: N if a machine runs from it now, R if a machine boots it at
/// its next boot, T if it boots it only once. BOOTED-BY names them. MOUNTPOINT is where `netbe mount` shows
/// it on this host.
///
/// SPACE is the space that it uses: on ZFS including its snapshots; on btrfs with quota groups, what
/// destroying it would free.
///
/// Columns of -o, -c and -C: name, active, mountpoint, space, created, role, layout, shared, origin,
/// booted-by; with -s, -a or -D, used and refer too.
#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    format: Format,
    /// List snapshots too, and the space that each uses. In a store of directories this reads the
    /// metadata of every file.
    #[arg(short, long)]
    snapshots: bool,
    /// List data sets too.
    #[arg(short, long)]
    all: bool,
    /// Print as SPACE what each would use if all others were destroyed. In a store of directories this reads
    /// the metadata of every file.
    #[arg(short = 'D', long)]
    full_space: bool,
    /// Print exact numbers, as -H and -j do.
    #[arg(short = 'p', long)]
    exact: bool,
    /// Print only these columns, in this order.
    #[arg(short = 'o', long, value_name = "COLUMNS", value_delimiter = ',')]
    #[arg(value_parser = COLUMNS, hide_possible_values = true, conflicts_with = "json")]
    columns: Vec<String>,
    /// Sort by this column. Snapshots stay below their boot environment.
    #[arg(short = 'c', long, value_name = "COLUMN", hide_possible_values = true)]
    #[arg(value_parser = COLUMNS, conflicts_with = "descending")]
    sort: Option<String>,
    /// Sort by this column, the largest first.
    #[arg(short = 'C', visible_short_alias = 'S', long, value_name = "COLUMN")]
    #[arg(value_parser = COLUMNS, hide_possible_values = true)]
    descending: Option<String>,
    /// List only these boot environments.
    #[arg(value_name = "BE")]
    names: Vec<EnvironmentName>,
}

impl List {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        self.refuse_unmeasured()?;
        let store = site.open()?;
        let (mut listing, footprints) = store.list_with_footprints()?;
        let actives = Actives::of(site, &listing.environments);
        let about = |environment: &Environment| {
            let Footprint { space, mounts } =
                footprints.get(&environment.uuid).cloned().unwrap_or_default();
            let active = actives.of_environment(environment.uuid);
            let mounts = mounts.into_iter().map(|(point, at)| (point, at.display().to_string()));
            About { active, space, mounts: mounts.collect() }
        };
        if self.snapshots || self.all || self.full_space {
            return self.survey(store.survey()?, about);
        }
        if !self.names.is_empty() {
            self.check(listing.environments.iter(), &mut listing.unreadable)?;
            listing.environments.retain(|known| self.names.contains(&known.name));
        }
        let listed = listing.environments.iter().map(|environment| {
            let About { active, space, mounts } = about(environment);
            // btrfs does not know what an environment takes with its snapshots.
            let space = space.used.or(space.exclusive);
            let mountpoints = mounts.into_iter().map(|(_, at)| at).collect();
            Listed { record: environment.into(), active, mountpoints, space }
        });
        let mut listed: Vec<Listed> = listed.collect();
        self.sort(&mut listed, |listed| {
            let mounted = listed.mountpoints.first().cloned();
            (&listed.record, &listed.active, mounted, listed.space, None)
        });
        let reply = self.format.reply(&listed, |listed| {
            let mut table = Table::new(&HEADER);
            for Listed { record, active, mountpoints, space } in listed {
                let mounts = mountpoints.join(",");
                table.row(self.row(record, active, mounts, *space, Space::default()));
            }
            self.pick(table, &USUAL)
        })?;
        // One broken file must not hide all the rest.
        Ok(reply.but(listing.unreadable.into_iter().map(Failure::could_not)))
    }

    /// Refuses columns that have values only where the store is measured.
    fn refuse_unmeasured(&self) -> Result<(), Failure> {
        if self.snapshots || self.all || self.full_space {
            return Ok(());
        }
        let mut asked = self.columns.iter().chain(&self.sort).chain(&self.descending);
        let Some(column) = asked.find(|column| matches!(column.as_str(), "used" | "refer")) else {
            return Ok(());
        };
        Err(Failure::could_not(format_args!(
            "{column} is measured only with -s, -a or -D: add one of them, or use the column space"
        )))
    }

    /// Refuses a name that nothing has. Of what cannot be read the name is not known: it is told only
    /// where a name is missing.
    fn check<'a, E>(
        &self,
        known: impl Iterator<Item = &'a Environment>,
        unreadable: &mut Vec<E>,
    ) -> Result<(), Failure> {
        let known: Vec<_> = known.map(|environment| &environment.name).collect();
        match self.names.iter().find(|name| !known.contains(name)) {
            None => unreadable.clear(),
            Some(name) if self.snapshots && COLUMNS.contains(&name.as_str()) => {
                return Err(Failure::no(format_args!(
                    "there is no boot environment {name}: -s lists snapshots, and -c {name} sorts"
                )));
            }
            Some(name) if unreadable.is_empty() => {
                return Err(StoreError::NoEnvironment(name.clone()).into());
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn size(&self, bytes: Option<u64>) -> String {
        match bytes {
            None => String::new(),
            Some(bytes) if self.exact || self.format.is_for_scripts() => bytes.to_string(),
            Some(bytes) => Bytes(bytes).to_string(),
        }
    }

    /// All cells of an environment.
    fn row(
        &self,
        record: &Record,
        active: &Active,
        mounts: String,
        space: Option<u64>,
        measured: Space,
    ) -> [String; 12] {
        let booted_by = match self.format.is_for_scripts() {
            true => active.booted_by.join(","),
            false => active.summary(),
        };
        [
            record.name.clone(),
            active.letters(),
            mounts,
            self.size(space),
            record.created.clone(),
            record.role.to_owned(),
            record.layout.to_owned(),
            record.shared.to_owned(),
            record.origin.clone().unwrap_or_default(),
            booted_by,
            self.size(measured.used),
            self.size(measured.referenced),
        ]
    }

    /// The cells of what is in an environment.
    fn part(&self, name: String, mounts: String, created: &str, space: Space) -> [String; 12] {
        let mut row: [String; 12] = Default::default();
        let [at_name, _, at_mounts, at_space, at_created, .., used, refer] = &mut row;
        (*at_name, *at_mounts, *at_created) = (name, mounts, created.to_owned());
        (*at_space, *used) = (self.size(space.used), self.size(space.used));
        *refer = self.size(space.referenced);
        row
    }

    /// The table with the columns that were asked for.
    fn pick(&self, table: Table, usual: &[&str]) -> Table {
        if !self.columns.is_empty() {
            return table.with(&self.columns);
        }
        table.with(&usual.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>())
    }

    /// Sorts what is listed by the column that was asked for; what is equal there stays sorted by name.
    fn sort<T>(
        &self,
        listed: &mut [T],
        of: impl Fn(&T) -> (&Record, &Active, Option<String>, Option<u64>, Option<&Space>),
    ) {
        let Some(column) = self.sort.as_deref().or(self.descending.as_deref()) else { return };
        let key = |listed: &T| {
            let (record, active, mounted, space, measured) = of(listed);
            let text = match column {
                "active" => active.letters(),
                "created" => record.created.clone(),
                "role" => record.role.to_owned(),
                "layout" => record.layout.to_owned(),
                "shared" => record.shared.to_owned(),
                "origin" => record.origin.clone().unwrap_or_default(),
                "booted-by" => active.booted_by.join(","),
                "mountpoint" => mounted.unwrap_or_default(),
                "space" | "used" | "refer" => String::new(),
                _ => record.name.clone(),
            };
            let number = match column {
                "space" => space,
                "used" => measured.and_then(|space| space.used),
                "refer" => measured.and_then(|space| space.referenced),
                _ => None,
            };
            (number, text)
        };
        if self.descending.is_some() {
            listed.sort_by_cached_key(|listed| Reverse(key(listed)));
        } else {
            listed.sort_by_cached_key(key);
        }
    }

    /// The list with everything that costs something to find out.
    fn survey(
        &self,
        survey: Survey,
        about: impl Fn(&Environment) -> About,
    ) -> Result<Reply, Failure> {
        let Survey { mut holdings, mut unreadable } = survey;
        if !self.names.is_empty() {
            self.check(holdings.iter().map(|held| &held.environment), &mut unreadable)?;
            holdings.retain(|held| self.names.contains(&held.environment.name));
        }
        let mut records: Vec<Held> = holdings
            .iter()
            .map(|held| {
                let About { active, mounts, .. } = about(&held.environment);
                Held::of(held, active, mounts)
            })
            .collect();
        self.sort(&mut records, |held| {
            let mounted = held.mounts_of(&held.record.name);
            let space = if self.full_space { held.full } else { held.measured.used };
            (&held.record, &held.active, Some(mounted), space, Some(&held.measured))
        });
        let reply = self.format.reply(&records, |records| {
            let mut table = Table::new(&HEADER);
            for held in records {
                let Held { record, active, snapshots, measured, .. } = held;
                let space = if self.full_space { held.full } else { measured.used };
                table.row(self.row(record, active, held.mounts_of(&record.name), space, *measured));
                for set in record.datasets.iter().filter(|_| self.all) {
                    let name = format!("{}/{set}", record.name);
                    table.row(self.part(name, String::new(), "", Space::default()));
                }
                for snapshot in snapshots.iter().filter(|_| self.snapshots || self.all) {
                    let mounts = held.mounts_of(&snapshot.name);
                    let (name, created) = (snapshot.name.clone(), &snapshot.created);
                    table.row(self.part(name, mounts, created, snapshot.measured));
                }
            }
            self.pick(table, if self.snapshots || self.all { &SURVEYED } else { &USUAL })
        })?;
        Ok(reply.but(unreadable.into_iter().map(Failure::could_not)))
    }
}

/// What is known of an environment beside its record.
struct About {
    active: Active,
    space: Space,
    /// Where it and its snapshots are seen.
    mounts: Vec<(Point, String)>,
}

const HEADER: [&str; 12] = [
    "NAME",
    "ACTIVE",
    "MOUNTPOINT",
    "SPACE",
    "CREATED",
    "ROLE",
    "LAYOUT",
    "SHARED",
    "ORIGIN",
    "BOOTED-BY",
    "USED",
    "REFER",
];
const COLUMNS: [&str; 12] = [
    "name",
    "active",
    "mountpoint",
    "space",
    "created",
    "role",
    "layout",
    "shared",
    "origin",
    "booted-by",
    "used",
    "refer",
];
const USUAL: [&str; 9] =
    ["name", "active", "mountpoint", "space", "created", "role", "shared", "origin", "booted-by"];
const SURVEYED: [&str; 7] = ["name", "active", "mountpoint", "used", "refer", "origin", "created"];

/// A boot environment as it is listed.
#[derive(Serialize)]
struct Record {
    name: String,
    uuid: String,
    layout: &'static str,
    datasets: Vec<String>,
    data: Vec<String>,
    role: &'static str,
    settings: serde_json::Map<String, serde_json::Value>,
    shared: &'static str,
    networks: Vec<String>,
    machines: Vec<String>,
    origin: Option<String>,
    created: String,
}

impl From<&Environment> for Record {
    fn from(environment: &Environment) -> Self {
        let export = &environment.export;
        let mounted: Vec<_> = environment.datasets.iter().filter(|set| set.mounted()).collect();
        let data = mounted.iter().filter(|set| set.data());
        Self {
            name: environment.name.to_string(),
            uuid: environment.uuid.to_string(),
            layout: environment.layout.as_str(),
            datasets: mounted.iter().map(|set| set.path().to_owned()).collect(),
            data: data.map(|set| Dataset::path(set).to_owned()).collect(),
            role: environment.role.as_str(),
            settings: environment
                .settings
                .iter()
                .map(|(key, value)| (key.to_owned(), value.into()))
                .collect(),
            shared: match (export.shared, environment.is_read_only()) {
                (false, _) => "off",
                (true, true) => "ro",
                (true, false) => "rw",
            },
            networks: export.networks.iter().map(ToString::to_string).collect(),
            machines: export.machines.clone(),
            origin: environment.origin.as_ref().map(origin),
            created: environment.created.to_string(),
        }
    }
}

fn origin(origin: &Origin) -> String {
    let Origin { name, snapshot, .. } = origin;
    Point { environment: name.clone(), snapshot: snapshot.clone() }.to_string()
}

/// A boot environment with what is known of its space.
#[derive(Serialize)]
struct Listed {
    #[serde(flatten)]
    record: Record,
    #[serde(flatten)]
    active: Active,
    mountpoints: Vec<String>,
    space: Option<u64>,
}

/// A boot environment with its snapshots.
#[derive(Serialize)]
struct Held {
    #[serde(flatten)]
    record: Record,
    #[serde(flatten)]
    active: Active,
    mountpoints: Vec<String>,
    #[serde(flatten)]
    space: Taken,
    /// What it would take if all others were destroyed.
    #[serde(rename = "full_space")]
    full: Option<u64>,
    snapshots: Vec<SnapshotRecord>,
    #[serde(skip)]
    measured: Space,
    #[serde(skip)]
    mounts: Vec<(Point, String)>,
}

#[derive(Serialize)]
struct SnapshotRecord {
    name: String,
    uuid: String,
    created: String,
    automatic: bool,
    clones: Vec<String>,
    #[serde(flatten)]
    space: Taken,
    #[serde(skip)]
    measured: Space,
}

/// Bytes; null where the store cannot know.
#[derive(Serialize)]
struct Taken {
    used: Option<u64>,
    referenced: Option<u64>,
    exclusive: Option<u64>,
}

impl From<Space> for Taken {
    fn from(space: Space) -> Self {
        let Space { used, referenced, exclusive } = space;
        Self { used, referenced, exclusive }
    }
}

impl Held {
    fn of(holding: &Holding, active: Active, mounts: Vec<(Point, String)>) -> Self {
        let Holding { environment, space, snapshots } = holding;
        let snapshot = |(snapshot, space): &(store::Snapshot, Space)| SnapshotRecord {
            name: Point::snapshot(&environment.name, &snapshot.name).to_string(),
            uuid: snapshot.uuid.to_string(),
            created: snapshot.created.to_string(),
            automatic: snapshot.automatic,
            clones: snapshot.clones.iter().map(ToString::to_string).collect(),
            space: (*space).into(),
            measured: *space,
        };
        let of_snapshots = snapshots.iter().filter_map(|(_, space)| space.used).sum::<u64>();
        Self {
            record: environment.into(),
            active,
            mountpoints: mounts.iter().map(|(_, at)| at.clone()).collect(),
            space: (*space).into(),
            full: space.referenced.map(|own| own.saturating_add(of_snapshots)),
            snapshots: snapshots.iter().map(snapshot).collect(),
            measured: *space,
            mounts,
        }
    }

    /// Where an environment, or a snapshot, is seen.
    fn mounts_of(&self, name: &str) -> String {
        let own = self.mounts.iter().filter(|(point, _)| point.to_string() == name);
        own.map(|(_, at)| at.as_str()).collect::<Vec<_>>().join(",")
    }
}
