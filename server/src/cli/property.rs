//! Verbs that set properties of boot environments and show them.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, Args, Command};
use serde::Serialize;
use store::{
    Decision, Environment, EnvironmentName, Native, NativeChange, NativeValue, Property,
    PropertyError, Store,
};

use super::{Dry, Failure, Format, Reply, Site, Table};
use crate::boot::timeline::Bytes;

/// Set properties of a boot environment.
///
/// `role=be|template|client|off` sets its purpose; a boot environment received from another host is
/// off. `data=usr/home` marks a data set as the machine's own, `system=usr/home` as part of the
/// system. `os`, `release`, `arch` and `note` only describe it, as does any name with a colon:
/// `site:owner=anna`.
///
/// The others are properties of the file system; zfsprops(7) explains them. On ZFS these are atime,
/// checksum, compression, copies, dedup, dnodesize, logbias, primarycache, quota, recordsize,
/// redundant_metadata, refquota, refreservation, reservation, secondarycache, special_small_blocks
/// and sync, of the environment's root, from which its data sets inherit. On btrfs they are
/// compression (zlib, lzo, zstd, off), which applies to new files, and refquota, which limits the
/// root; quota is the same if no data set has its own subvolume. Plain directories have only sync.
///
/// Every store has sync. `sync=standard` writes to stable storage before netbe answers a COMMIT or
/// a stable WRITE (NFS), `sync=always` before it answers any WRITE, and `sync=disabled` never
/// waits: fast, but a power failure of the host loses the last seconds of changes. It takes effect
/// at once. ZFS implements it itself; on other stores netbe does, for the files that it serves.
///
/// An empty value resets a property to its default: `compression=`. Several properties are set
/// together, or none of them if one is refused.
#[derive(Args, Debug)]
pub(crate) struct Set {
    /// A property, as in role=template or quota=10G; may be repeated.
    #[arg(required = true, value_name = "NAME=VALUE", value_parser = Assignments, hide_possible_values = true)]
    settings: Vec<(String, String)>,
    #[command(flatten)]
    dry: Dry,
    /// The boot environment.
    #[arg(value_name = "BE")]
    name: EnvironmentName,
}

impl Set {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        let decisions = self.settings.iter().map(|(key, value)| self.decision(&store, key, value));
        let decisions = decisions.collect::<Result<Vec<_>, _>>()?;
        if self.dry.is_dry() {
            store.would_decide(&self.name, &decisions)?;
        }
        let deeds =
            self.settings.iter().map(|(key, value)| format!("set {key}={value} of {}", self.name));
        if let Some(told) = self.dry.instead_of(site, &deeds.collect::<Vec<_>>()) {
            return Ok(told);
        }
        store.decide(&self.name, &decisions)?;
        site.reload_only(&[&self.name])?;
        Ok(Reply::done())
    }

    fn decision(&self, store: &Store, key: &str, value: &str) -> Result<Decision, Failure> {
        let given = Some(value.to_owned()).filter(|value| !value.is_empty());
        let setting = |value| Decision::Setting { key: key.to_owned(), value };
        Ok(match Property::of(key) {
            Ok(Property::Role) => Decision::Role(value.parse().map_err(Failure::could_not)?),
            Ok(Property::Data(data)) => Decision::Data { dataset: value.to_owned(), data },
            Ok(Property::Native(property)) => {
                Decision::Native(NativeChange { property, value: given })
            }
            Ok(Property::Setting) => setting(given),
            // A netbe that took any name may have written it down.
            Err(PropertyError::Unknown { .. })
                if given.is_none() && store.get(&self.name)?.settings.value(key).is_some() =>
            {
                setting(None)
            }
            Err(error) => return Err(Failure::could_not(error)),
        })
    }
}

/// Show the properties of a boot environment: those that `netbe set` sets, and those that netbe
/// maintains.
///
/// SOURCE is as in zfs-get(8): `local` was set here, `default` is the file system's default, and
/// `inherited from` names the data set that it comes from. `-` marks a property that is not set.
/// `data` has a line for each data set that belongs to the machine.
#[derive(Args, Debug)]
#[command(allow_missing_positional = true)]
pub(crate) struct Get {
    #[command(flatten)]
    format: Format,
    /// Print exact numbers, as -H and -j do.
    #[arg(short = 'p', long)]
    exact: bool,
    /// Print these columns, in this order: name, property, value, source.
    #[arg(
        short = 'o',
        long,
        value_name = "COLUMNS",
        value_delimiter = ',',
        conflicts_with = "json"
    )]
    #[arg(value_parser = ["name", "property", "value", "source"])]
    columns: Vec<String>,
    /// The properties, as in role or quota,compression [default: all].
    #[arg(value_parser = Names, hide_possible_values = true)]
    property: Option<String>,
    /// The boot environment.
    #[arg(value_name = "BE")]
    name: EnvironmentName,
}

impl Get {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let store = site.open()?;
        let environment = store.get(&self.name)?;
        let mut known = written(&environment);
        let wanted = self.property.as_deref().filter(|wanted| *wanted != "all");
        let wanted: Option<Vec<&str>> = wanted.map(|wanted| wanted.split(',').collect());
        let is_written = |name: &&str| known.iter().any(|known| known.property == **name);
        // The file system is asked only for what it has.
        if wanted.as_ref().is_none_or(|wanted| !wanted.iter().all(is_written)) {
            let exact = self.exact || !self.format.is_for_people();
            known.extend(store.natives(&self.name)?.iter().map(|one| self.native(one, exact)));
        }
        if let Some(wanted) = wanted {
            for name in &wanted {
                if !known.iter().any(|known| known.property == *name) {
                    Property::of(name).map_err(|error| self.unknown(name, &error))?;
                    known.push(Shown::of(&self.name, name, "-", "-"));
                }
            }
            known.retain(|known| wanted.contains(&known.property.as_str()));
        }
        self.format.reply(&known, |known| {
            let mut table = Table::new(&COLUMNS);
            for Shown { name, property, value, source } in known {
                table.row([name, property, value, source].map(Clone::clone));
            }
            if self.columns.is_empty() { table } else { table.with(&self.columns) }
        })
    }

    fn native(&self, known: &NativeValue, exact: bool) -> Shown {
        let value = match known.property.bytes(&known.value) {
            Some(0) if !exact && known.property.is_limit() => "none".to_owned(),
            Some(bytes) if !exact => Bytes(bytes).to_string(),
            Some(_) | None => known.value.clone(),
        };
        Shown::of(&self.name, known.property.as_str(), &value, &known.source)
    }

    fn unknown(&self, name: &str, error: &PropertyError) -> Failure {
        let meant = match error {
            PropertyError::Unknown { meant: Some(meant), .. } => {
                format!(" (did you mean {meant}?)")
            }
            PropertyError::Unknown { .. }
            | PropertyError::Kept(_)
            | PropertyError::Other { .. } => String::new(),
        };
        Failure::no(format_args!(
            "{0} has no {name}{meant}: `netbe get {0}` shows what it has",
            self.name
        ))
    }
}

/// What is written down about an environment.
fn written(environment: &Environment) -> Vec<Shown> {
    let local = |property, value| Shown::of(&environment.name, property, value, "local");
    let mut known = vec![local("role", environment.role.as_str())];
    let data = environment.datasets.iter().filter(|set| set.mounted() && set.data());
    known.extend(data.map(|set| local("data", set.path())));
    // What is shown as a property of the file system is shown once.
    let settings = environment.settings.iter().filter(|(key, _)| Native::of(key).is_none());
    known.extend(settings.map(|(key, value)| local(key, value)));
    known
}

/// A property as it is shown.
#[derive(Serialize)]
struct Shown {
    name: String,
    property: String,
    value: String,
    source: String,
}

impl Shown {
    fn of(name: &EnvironmentName, property: &str, value: &str, source: &str) -> Self {
        let [property, value, source] = [property, value, source].map(str::to_owned);
        Self { name: name.to_string(), property, value, source }
    }
}

const COLUMNS: [&str; 4] = ["NAME", "PROPERTY", "VALUE", "SOURCE"];

/// Reads `NAME=VALUE`; knows names for those who complete what is typed.
#[derive(Clone)]
struct Assignments;

impl TypedValueParser for Assignments {
    type Value = (String, String);

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, clap::Error> {
        StringValueParser::new()
            .try_map(|text| {
                let (key, value) =
                    text.split_once('=').ok_or("write NAME=VALUE, as in role=template")?;
                if key.is_empty() {
                    return Err("write the property's name first, as in role=template");
                }
                Ok::<_, &str>((key.to_owned(), value.to_owned()))
            })
            .parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Property::names().into_iter().map(PossibleValue::new)))
    }
}

/// Takes any text; knows the names of properties for those who complete what is typed.
#[derive(Clone)]
struct Names;

impl TypedValueParser for Names {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let names = Property::names().into_iter().filter(|name| *name != "system");
        Some(Box::new(["all"].into_iter().chain(names).map(PossibleValue::new)))
    }
}

#[cfg(test)]
mod test {

    use super::*;

    #[test]
    fn numbers_are_for_people_unless_exact_ones_are_asked_for() {
        let get = Get {
            format: Format::default(),
            exact: false,
            columns: Vec::new(),
            property: None,
            name: "head".parse().unwrap(),
        };
        let shown = |name, value: &str, exact| {
            let (property, source) = (Native::of(name).unwrap(), "local".to_owned());
            get.native(&NativeValue { property, value: value.to_owned(), source }, exact).value
        };
        assert_eq!(shown("quota", "10737418240", false), Bytes(10 << 30).to_string());
        assert_eq!(shown("quota", "10737418240", true), "10737418240");
        assert_eq!(shown("quota", "0", false), "none");
        assert_eq!(shown("quota", "0", true), "0");
        assert_eq!(shown("copies", "1", false), "1");
        assert_eq!(shown("compression", "lz4", false), "lz4");
    }
}
