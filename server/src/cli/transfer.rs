//! Verbs that send snapshots to other stores.

use std::io::{self, IsTerminal};
use std::str::FromStr;

use clap::Args;
use store::{EnvironmentName, Lacking, NameError, Point, SnapshotName, Store, StoreError};

use super::guard::{self, Hold, Verb};
use super::{Dry, Failure, Reply, Site, snapshot};

/// Write a snapshot to standard output, for `netbe receive` on this or another host.
///
/// For example: `netbe send head@monday | ssh other netbe receive head`.
#[derive(Args, Debug)]
pub(crate) struct Send {
    /// Send only the changes since this snapshot (SNAP, @SNAP or BE@SNAP), which the receiver must
    /// have.
    #[arg(short, long, value_name = "SNAP")]
    incremental: Option<Base>,
    /// The boot environment and the snapshot.
    #[arg(value_name = "BE@SNAP")]
    point: Point,
}

impl Send {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let mut out = io::stdout().lock();
        if out.is_terminal() {
            return Err(Failure::could_not(
                "a stream is not for a terminal: redirect it to a file or to `netbe receive`",
            ));
        }
        let (name, wanted) = (&self.point.environment, snapshot::named(&self.point)?);
        let base = self.incremental.as_ref().map(|base| base.of(name)).transpose()?;
        site.open()?.send(name, wanted, base, &mut out)?;
        Ok(Reply::done())
    }
}

/// The snapshot that a stream goes on from.
#[derive(Clone, Debug)]
struct Base {
    environment: Option<EnvironmentName>,
    snapshot: SnapshotName,
}

impl Base {
    /// The snapshot's name, if it is one of this boot environment.
    fn of(&self, name: &EnvironmentName) -> Result<&SnapshotName, Failure> {
        match &self.environment {
            Some(other) if other != name => Err(Failure::could_not(format_args!(
                "{other}@{} is not a snapshot of {name}: `netbe list -s` shows all",
                self.snapshot
            ))),
            _ => Ok(&self.snapshot),
        }
    }
}

impl FromStr for Base {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (environment, snapshot) = text.rsplit_once('@').unwrap_or(("", text));
        let environment = Some(environment).filter(|name| !name.is_empty());
        Ok(Self {
            environment: environment.map(str::parse).transpose()?,
            snapshot: snapshot.parse()?,
        })
    }
}

/// Receive from standard input what `netbe send` wrote.
///
/// A full stream creates a boot environment with role=off that is not shared: `netbe set role=be
/// NAME` lets machines boot it, `netbe sharenfs NAME` shares it. An incremental stream changes the
/// boot environment that has its base snapshot; the server does not serve it meanwhile.
#[derive(Args, Debug)]
pub(crate) struct Receive {
    /// Receive even while machines run from the boot environment that it changes; they will fail.
    #[arg(short, long)]
    force: bool,
    /// On ZFS, destroy data sets that the sender has destroyed.
    #[arg(short = 'F', long)]
    exact: bool,
    #[command(flatten)]
    dry: Dry,
    /// The boot environment: a new one, or the one that has the base snapshot of an incremental
    /// stream.
    name: EnvironmentName,
}

/// Whether there is a boot environment of that name.
fn known_name(site: &Site, name: &EnvironmentName) -> bool {
    site.open().is_ok_and(|store| store.get(name).is_ok())
}

impl Receive {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        if self.dry.is_dry() {
            let known = Store::open(&site.location(), site.state()).and_then(|s| s.get(&self.name));
            match known {
                Err(StoreError::Missing(_) | StoreError::NoEnvironment(_)) => {}
                Err(error) => return Err(error.into()),
                Ok(_) if self.force => {}
                Ok(_) => guard::refuse_living(site, &self.name, Verb::Receive)?,
            }
            let deed = match known_name(site, &self.name) {
                true => format!("take in what is new since a snapshot of {}", self.name),
                false => format!("take in a new boot environment as {}", self.name),
            };
            return Ok(self.dry.instead(site, deed).unwrap_or_default());
        }
        let mut from = io::stdin().lock();
        if from.is_terminal() {
            return Err(Failure::could_not(
                "a stream does not come from a terminal: redirect standard input from a file or from `netbe \
                 send`",
            ));
        }
        let store = site.establish()?;
        let held = match store.get(&self.name) {
            Ok(_) => Some(Hold::begin(site, &self.name, Verb::Receive, self.force)?),
            Err(_) => None,
        };
        let lacking = if self.exact { Lacking::Destroy } else { Lacking::Refuse };
        store.receive(&self.name, lacking, &mut from)?;
        match held {
            Some(hold) => hold.end()?,
            None => site.reload_only(&[&self.name])?,
        }
        Ok(Reply::done())
    }
}
