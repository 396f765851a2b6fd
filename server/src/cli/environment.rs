//! Verbs that make, show and destroy boot environments.

use clap::Args;
use serde::Serialize;
use store::{Dataset, Environment, EnvironmentName, Layout, Point};

use super::{Failure, Format, Reply, Site, Table};
use crate::control::{Reply as Answer, Request};

/// Create a boot environment: an empty one, or a copy of another with -e.
#[derive(Args, Debug)]
pub(crate) struct Create {
    /// The data sets below its root: flat, freebsd or linux.
    #[arg(short, long, value_name = "LAYOUT", default_value = "flat", conflicts_with = "existing")]
    layout: Layout,
    /// Clone this boot environment or snapshot.
    #[arg(short, long, value_name = "BE[@SNAP]")]
    existing: Option<Point>,
    /// The new boot environment.
    name: EnvironmentName,
}

impl Create {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        match &self.existing {
            Some(source) => site.open()?.clone_environment(source, &self.name)?,
            None => site.establish()?.create(&self.name, self.layout)?,
        };
        site.reload()?;
        Ok(Reply::done())
    }
}

/// Clone a boot environment or a snapshot; blocks are shared where the store can.
#[derive(Args, Debug)]
pub(crate) struct Clone {
    /// The boot environment or snapshot to clone.
    #[arg(value_name = "BE[@SNAP]")]
    source: Point,
    /// The new boot environment.
    name: EnvironmentName,
}

impl Clone {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        site.open()?.clone_environment(&self.source, &self.name)?;
        site.reload()?;
        Ok(Reply::done())
    }
}

/// Destroy a boot environment and everything in it.
#[derive(Args, Debug)]
pub(crate) struct Destroy {
    /// Even while machines run from it: they will fail.
    #[arg(short, long)]
    force: bool,
    /// The boot environment to destroy.
    name: EnvironmentName,
}

impl Destroy {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        if !self.force {
            self.refuse_living(site)?;
        }
        store.destroy(&self.name)?;
        site.reload()?;
        Ok(Reply::done())
    }

    /// Refuses while machines have their root in it. Only a running server knows them: without one,
    /// nobody serves a root.
    fn refuse_living(&self, site: &Site) -> Result<(), Failure> {
        let Some(mut server) = site.server()? else { return Ok(()) };
        let environment = self.name.to_string();
        let asked = server.ask(&Request::Living { environment });
        let unknown = |why: String| {
            Failure::could_not(format_args!(
                "the running server does not say which machines live on {}: {why}; stop it, or \
                 destroy with -f",
                self.name
            ))
        };
        match asked.map_err(|error| unknown(error.to_string()))? {
            Answer::Living { machines } if machines.is_empty() => Ok(()),
            Answer::Living { machines } => Err(Failure::no(format_args!(
                "{} is the root of {}: switch them off, or destroy with -f",
                self.name,
                machines.join(", ")
            ))),
            Answer::Failed { message } => Err(unknown(message)),
            Answer::Done | Answer::Notice(_) | Answer::Status(_) => {
                Err(unknown("it gave another answer".to_owned()))
            }
        }
    }
}

/// List boot environments.
#[derive(Args, Debug)]
pub(crate) struct List {
    #[command(flatten)]
    format: Format,
}

impl List {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let listing = site.open()?.list()?;
        let records: Vec<Record> = listing.environments.iter().map(Record::from).collect();
        let reply = self.format.reply(&records, |records| {
            let mut table = Table::new(&["NAME", "LAYOUT", "SHARED", "ORIGIN", "CREATED"]);
            for record in records {
                table.row([
                    record.name.clone(),
                    record.layout.to_owned(),
                    record.shared.to_owned(),
                    record.origin.clone().unwrap_or_default(),
                    record.created.clone(),
                ]);
            }
            table
        })?;
        // One broken file must not hide all the rest.
        Ok(reply.but(listing.unreadable.into_iter().map(Failure::could_not)))
    }
}

/// A boot environment as it is listed.
#[derive(Serialize)]
struct Record {
    name: String,
    uuid: String,
    layout: &'static str,
    datasets: Vec<String>,
    shared: &'static str,
    networks: Vec<String>,
    machines: Vec<String>,
    origin: Option<String>,
    created: String,
}

impl From<&Environment> for Record {
    fn from(environment: &Environment) -> Self {
        let export = &environment.export;
        let mounted = environment.datasets.iter().filter(|set| set.mounted());
        Self {
            name: environment.name.to_string(),
            uuid: environment.uuid.to_string(),
            layout: environment.layout.as_str(),
            datasets: mounted.map(Dataset::path).map(str::to_owned).collect(),
            shared: match (export.shared, export.read_only) {
                (false, _) => "off",
                (true, true) => "ro",
                (true, false) => "rw",
            },
            networks: export.networks.iter().map(ToString::to_string).collect(),
            machines: export.machines.clone(),
            origin: environment.origin.as_ref().map(|origin| origin.name.to_string()),
            created: environment.created.to_string(),
        }
    }
}
