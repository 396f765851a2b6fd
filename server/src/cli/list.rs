//! The verb that lists boot environments.

use clap::Args;
use serde::Serialize;
use store::{
    Dataset, Environment, EnvironmentName, Holding, Origin, Point, Space, StoreError, Survey,
};

use super::{Failure, Format, Reply, Site, Table};
use crate::boot::timeline::Bytes;

/// List boot environments.
///
/// SPACE is the space that it uses: on ZFS including its snapshots; on btrfs with quota groups,
/// what destroying it would free.
#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    format: Format,
    /// List snapshots too, and the space that each uses. In a store of directories this reads the
    /// metadata of every file.
    #[arg(short)]
    snapshots: bool,
    /// List data sets too.
    #[arg(short)]
    all: bool,
    /// List only these boot environments.
    #[arg(value_name = "BE")]
    names: Vec<EnvironmentName>,
}

impl List {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        if self.snapshots || self.all {
            return self.survey(site);
        }
        let (mut listing, spaces) = site.open()?.list_with_space()?;
        if !self.names.is_empty() {
            self.check(listing.environments.iter(), &mut listing.unreadable)?;
            listing.environments.retain(|known| self.names.contains(&known.name));
        }
        let listed = listing.environments.iter().map(|environment| {
            let space = spaces.get(&environment.uuid);
            // btrfs does not know what an environment takes with its snapshots.
            let space = space.and_then(|space| space.used.or(space.exclusive));
            Listed { record: environment.into(), space }
        });
        let reply = self.format.reply(&listed.collect::<Vec<_>>(), |listed| {
            let columns = ["NAME", "ROLE", "LAYOUT", "SHARED", "SPACE", "ORIGIN", "CREATED"];
            let mut table = Table::new(&columns);
            for Listed { record, space } in listed {
                table.row([
                    record.name.clone(),
                    record.role.to_owned(),
                    record.layout.to_owned(),
                    record.shared.to_owned(),
                    self.size(*space),
                    record.origin.clone().unwrap_or_default(),
                    record.created.clone(),
                ]);
            }
            table
        })?;
        // One broken file must not hide all the rest.
        Ok(reply.but(listing.unreadable.into_iter().map(Failure::could_not)))
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
            Some(bytes) if self.format.is_for_scripts() => bytes.to_string(),
            Some(bytes) => Bytes(bytes).to_string(),
        }
    }

    /// The list with everything that costs something to find out.
    fn survey(&self, site: &Site) -> Result<Reply, Failure> {
        let Survey { mut holdings, mut unreadable } = site.open()?.survey()?;
        if !self.names.is_empty() {
            self.check(holdings.iter().map(|held| &held.environment), &mut unreadable)?;
            holdings.retain(|held| self.names.contains(&held.environment.name));
        }
        let records: Vec<Held> = holdings.iter().map(Held::from).collect();
        let size = |bytes| self.size(bytes);
        let reply = self.format.reply(&records, |records| {
            let mut table = Table::new(&["NAME", "USED", "REFER", "ORIGIN", "CREATED"]);
            for Held { record, space, snapshots } in records {
                table.row([
                    record.name.clone(),
                    size(space.used),
                    size(space.referenced),
                    record.origin.clone().unwrap_or_default(),
                    record.created.clone(),
                ]);
                for set in record.datasets.iter().filter(|_| self.all) {
                    let name = format!("{}/{set}", record.name);
                    table.row([name, String::new(), String::new(), String::new(), String::new()]);
                }
                for snapshot in snapshots {
                    table.row([
                        snapshot.name.clone(),
                        size(snapshot.space.used),
                        size(snapshot.space.referenced),
                        String::new(),
                        snapshot.created.clone(),
                    ]);
                }
            }
            table
        })?;
        Ok(reply.but(unreadable.into_iter().map(Failure::could_not)))
    }
}

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
    space: Option<u64>,
}

/// A boot environment with its snapshots.
#[derive(Serialize)]
struct Held {
    #[serde(flatten)]
    record: Record,
    #[serde(flatten)]
    space: Taken,
    snapshots: Vec<SnapshotRecord>,
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

impl From<&Holding> for Held {
    fn from(holding: &Holding) -> Self {
        let Holding { environment, space, snapshots } = holding;
        let snapshot = |(snapshot, space): &(store::Snapshot, Space)| SnapshotRecord {
            name: Point::snapshot(&environment.name, &snapshot.name).to_string(),
            uuid: snapshot.uuid.to_string(),
            created: snapshot.created.to_string(),
            automatic: snapshot.automatic,
            clones: snapshot.clones.iter().map(ToString::to_string).collect(),
            space: (*space).into(),
        };
        Self {
            record: environment.into(),
            space: (*space).into(),
            snapshots: snapshots.iter().map(snapshot).collect(),
        }
    }
}
