//! Boot environments and what is written down about each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::draft::{DRAFT, INSTALLING};
use crate::{
    Dataset, EnvironmentName, ExportSettings, Identity, Layout, NameError, Network, Role, Settings,
    SnapshotName, Timestamp,
};

/// A boot environment: a system's files and what was decided about them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Environment {
    /// Its name, unique in its store.
    pub name: EnvironmentName,
    /// Its identity: in every NFS handle, constant when it is renamed, promoted or rolled back, new
    /// when it is cloned or received.
    pub uuid: Uuid,
    /// When it was created or cloned.
    pub created: Timestamp,
    /// What it was cloned from.
    pub origin: Option<Origin>,
    /// The layout it was created with; a clone has its origin's.
    pub layout: Layout,
    /// The data sets below its root, parents first.
    pub datasets: Vec<Dataset>,
    /// What it is for.
    pub role: Role,
    /// What else is known about it.
    pub settings: Settings,
    /// How it is shared.
    pub export: ExportSettings,
}

impl Environment {
    /// Whether no machine may change it: because it is shared so, or because it is a template, which
    /// others are made from.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.export.read_only || self.role == Role::Template
    }

    /// Whether it is being made, or was when its command was killed: it is neither served nor booted, and
    /// goes if it does not become whole.
    #[must_use]
    pub fn is_draft(&self) -> bool {
        self.settings.value(DRAFT).is_some()
    }

    /// Whether a system is being installed in it, or was when its command was killed.
    #[must_use]
    pub fn is_being_filled(&self) -> bool {
        self.settings.value(INSTALLING).is_some()
    }
}

/// What a boot environment was cloned from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The name that the origin had then, or has now where the store knows.
    pub name: EnvironmentName,
    /// Its identity.
    pub uuid: Uuid,
    /// The snapshot that it was made from, if it was made from one.
    pub snapshot: Option<SnapshotName>,
}

/// Why a metadata file does not describe a boot environment.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// A value is not what it should be.
    #[error("{key}: {reason}")]
    Value {
        /// Where it stands.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// It was written by a later version.
    #[error("it has schema {0}, but this version reads {SCHEMA}: use the netbe that wrote it")]
    Schema(u32),
    /// It is not TOML, or has other keys.
    #[error("{0}")]
    Syntax(String),
}

/// The text of a metadata file.
pub(crate) fn render(environment: &Environment) -> Result<String, MetadataError> {
    let export = &environment.export;
    let text = |identity: &Identity| identity.to_string();
    let raw = Raw {
        schema: SCHEMA,
        uuid: environment.uuid,
        created: environment.created.to_string(),
        layout: environment.layout.to_string(),
        role: environment.role.to_string(),
        settings: environment
            .settings
            .iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        export: RawExport {
            shared: export.shared,
            read_only: export.read_only,
            insecure: export.insecure,
            manage_gids: export.manage_gids,
            maproot: export.maproot.as_ref().map(text),
            mapall: export.mapall.as_ref().map(text),
            networks: export.networks.iter().map(Network::to_string).collect(),
            machines: export.machines.clone(),
        },
        origin: environment.origin.as_ref().map(|origin| RawOrigin {
            name: origin.name.to_string(),
            uuid: origin.uuid,
            snapshot: origin.snapshot.as_ref().map(SnapshotName::to_string),
        }),
        dataset: environment
            .datasets
            .iter()
            .map(|set| RawDataset {
                path: set.path().to_owned(),
                mounted: set.mounted(),
                data: set.data(),
            })
            .collect(),
    };
    toml::to_string(&raw).map_err(|error| MetadataError::Syntax(error.to_string()))
}

/// Reads a metadata file's text.
pub(crate) fn parse(name: EnvironmentName, text: &str) -> Result<Environment, MetadataError> {
    let found: Schema = toml::from_str(text).map_err(syntax)?;
    if !(OLDEST..=SCHEMA).contains(&found.schema) {
        return Err(MetadataError::Schema(found.schema));
    }
    let raw: Raw = toml::from_str(text).map_err(syntax)?;
    let identity = |key, text: Option<String>| {
        text.map(|text| text.parse::<Identity>().map_err(|error| value(key, error))).transpose()
    };
    Ok(Environment {
        name,
        uuid: raw.uuid,
        created: raw.created.parse().map_err(|error| value("created", error))?,
        layout: raw.layout.parse().map_err(|error| value("layout", error))?,
        origin: raw.origin.map(origin).transpose()?,
        role: raw.role.parse().map_err(|error| value("role", error))?,
        settings: settings(&raw.settings)?,
        datasets: raw.dataset.into_iter().map(dataset).collect::<Result<_, _>>()?,
        export: ExportSettings {
            shared: raw.export.shared,
            read_only: raw.export.read_only,
            insecure: raw.export.insecure,
            manage_gids: raw.export.manage_gids,
            maproot: identity("export.maproot", raw.export.maproot)?,
            mapall: identity("export.mapall", raw.export.mapall)?,
            networks: raw
                .export
                .networks
                .iter()
                .map(|text| text.parse().map_err(|error| value("export.networks", error)))
                .collect::<Result<_, _>>()?,
            machines: raw.export.machines,
        },
    })
}

fn origin(raw: RawOrigin) -> Result<Origin, MetadataError> {
    let name = raw.name.parse().map_err(|error| value("origin.name", error))?;
    let snapshot = raw.snapshot.map(|text| text.parse()).transpose();
    let snapshot = snapshot.map_err(|error: NameError| value("origin.snapshot", error))?;
    Ok(Origin { name, uuid: raw.uuid, snapshot })
}

fn settings(raw: &BTreeMap<String, String>) -> Result<Settings, MetadataError> {
    let mut settings = Settings::default();
    for (key, text) in raw {
        settings.set(key, Some(text)).map_err(|error| value("settings", error))?;
    }
    Ok(settings)
}

fn dataset(raw: RawDataset) -> Result<Dataset, MetadataError> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !raw.path.split('/').all(plain) || raw.path.contains(char::is_control) {
        return Err(value("dataset.path", "write it relative to the root, as in usr/home"));
    }
    Ok(Dataset::new(&raw.path, raw.mounted).with_data(raw.data))
}

fn value(key: &'static str, reason: impl ToString) -> MetadataError {
    MetadataError::Value { key, reason: reason.to_string() }
}

#[expect(clippy::needless_pass_by_value, reason = "called through map_err")]
fn syntax(error: toml::de::Error) -> MetadataError {
    MetadataError::Syntax(error.message().to_owned())
}

/// Only the version, so that files of later versions are told from broken ones.
#[derive(Deserialize)]
struct Schema {
    schema: u32,
}

/// The file as written.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    schema: u32,
    uuid: Uuid,
    created: String,
    layout: String,
    #[serde(default = "ordinary")]
    role: String,
    #[serde(default)]
    origin: Option<RawOrigin>,
    #[serde(default)]
    export: RawExport,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    settings: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dataset: Vec<RawDataset>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RawOrigin {
    name: String,
    uuid: Uuid,
    #[serde(default)]
    snapshot: Option<String>,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct RawExport {
    shared: bool,
    read_only: bool,
    insecure: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    manage_gids: bool,
    maproot: Option<String>,
    mapall: Option<String>,
    networks: Vec<String>,
    machines: Vec<String>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RawDataset {
    path: String,
    mounted: bool,
    #[serde(default)]
    data: bool,
}

/// The role of environments from the time before there were roles.
fn ordinary() -> String {
    Role::Environment.to_string()
}

/// The first had no roles, no settings and no snapshots.
const OLDEST: u32 = 1;
const SCHEMA: u32 = 2;

#[cfg(test)]
mod test {
    use super::*;

    fn name(text: &str) -> EnvironmentName {
        text.parse().unwrap()
    }

    fn rich() -> Environment {
        Environment {
            name: name("büro"),
            uuid: Uuid::from_u128(7),
            created: "2026-11-20T13:30:00Z".parse().unwrap(),
            origin: Some(Origin {
                name: name("head"),
                uuid: Uuid::from_u128(8),
                snapshot: Some("monday".parse().unwrap()),
            }),
            layout: Layout::FreeBsd,
            datasets: Layout::FreeBsd
                .datasets()
                .into_iter()
                .map(|set| {
                    let home = set.path() == "usr/home";
                    set.with_data(home)
                })
                .collect(),
            role: Role::Template,
            settings: {
                let mut settings = Settings::default();
                settings.set("release", Some("14.3")).unwrap();
                settings
            },
            export: ExportSettings {
                shared: true,
                read_only: true,
                maproot: Some(Identity::root()),
                mapall: Some("5:6:7".parse().unwrap()),
                networks: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
                machines: vec!["desk".into()],
                insecure: true,
                manage_gids: true,
            },
        }
    }

    #[test]
    fn metadata_is_read_back_as_it_was_written() {
        let text = render(&rich()).unwrap();
        assert_eq!(parse(name("büro"), &text).unwrap(), rich());
        let bare = Environment {
            origin: None,
            layout: Layout::Flat,
            datasets: Vec::new(),
            settings: Settings::default(),
            export: ExportSettings::default(),
            ..rich()
        };
        let text = render(&bare).unwrap();
        assert_eq!(parse(name("büro"), &text).unwrap(), bare);
    }

    #[test]
    fn a_later_schema_is_told_from_a_broken_file() {
        let text = "schema = 3\nsomething = 'new'\n";
        assert!(matches!(parse(name("a"), text), Err(MetadataError::Schema(3))));
        assert!(matches!(parse(name("a"), "schema = "), Err(MetadataError::Syntax(_))));
    }

    #[test]
    fn the_first_schema_is_still_read() {
        let text = "schema = 1\nuuid = '00000000-0000-0000-0000-000000000007'\n\
                    created = '2026-11-20T13:30:00Z'\nlayout = 'flat'\n";
        let environment = parse(name("a"), text).unwrap();
        assert_eq!(environment.role, Role::Environment);
        assert_eq!(environment.settings, Settings::default());
    }

    #[test]
    fn a_data_set_cannot_lead_out_of_the_root() {
        let good = render(&rich()).unwrap();
        for bad in ["../x", "/usr", "usr//x", "usr/./x", "", "a\\nb"] {
            let text = good.replace("\"usr/home\"", &format!("\"{bad}\""));
            assert_ne!(text, good);
            assert!(
                matches!(
                    parse(name("a"), &text),
                    Err(MetadataError::Value { key: "dataset.path", .. })
                ),
                "{bad}"
            );
        }
    }

    #[test]
    fn keys_that_nobody_reads_are_refused() {
        let text = render(&rich()).unwrap().replace("read_only", "readonly");
        assert!(matches!(parse(name("a"), &text), Err(MetadataError::Syntax(_))));
    }
}
