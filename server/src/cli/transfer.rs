//! Verbs that send snapshots to other stores.

use std::io::{self, IsTerminal};
use std::str::FromStr;

use clap::Args;
use store::{EnvironmentName, Lacking, NameError, Point, SnapshotName};

use super::guard::{Hold, Verb};
use super::{Failure, Reply, Site, snapshot};

/// Send a snapshot to standard output, for `netbe receive` of this or another host.
///
/// `netbe send head@monday | ssh other netbe receive head`
#[derive(Args, Debug)]
pub(crate) struct Send {
    /// Only what is new since this snapshot of the same boot environment, which the receiver has. It
    /// may be written as zfs(8) has it, too: @SNAP or BE@SNAP.
    #[arg(short, value_name = "SNAP")]
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
                "a stream is not for a terminal: send it to a file or to `netbe receive`",
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
                "{other}@{} is no snapshot of {name}: name one of those that `netbe list -s` shows",
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

/// Take in from standard input what `netbe send` wrote.
///
/// A boot environment that arrives whole is not booted before it is told what it is for, by `netbe set
/// role=be NAME`, nor shared before `netbe sharenfs NAME`. What goes on from a snapshot changes the boot environment that has it,
/// which is not served meanwhile.
#[derive(Args, Debug)]
pub(crate) struct Receive {
    /// Even while machines run from what it changes: they will fail.
    #[arg(short, long)]
    force: bool,
    /// Destroy the data sets of a boot environment on ZFS that the sender has destroyed.
    #[arg(short = 'F', long)]
    exact: bool,
    /// The boot environment: a new one, or one that has the snapshot that the stream goes on from.
    name: EnvironmentName,
}

impl Receive {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let mut from = io::stdin().lock();
        if from.is_terminal() {
            return Err(Failure::could_not(
                "a stream does not come from a terminal: give it a file or the output of `netbe send`",
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
