//! Boot environments and what is written down about each.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Dataset, EnvironmentName, ExportSettings, Identity, Layout, Network, Timestamp};

/// A boot environment: a system's files and what was decided about them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Environment {
    /// Its name, unique in its store.
    pub name: EnvironmentName,
    /// Its identity: in every NFS handle, constant when it is renamed, new when it is cloned.
    pub uuid: Uuid,
    /// When it was created or cloned.
    pub created: Timestamp,
    /// What it was cloned from.
    pub origin: Option<Origin>,
    /// The layout it was created with; a clone has its origin's.
    pub layout: Layout,
    /// The data sets below its root, parents first.
    pub datasets: Vec<Dataset>,
    /// How it is shared.
    pub export: ExportSettings,
}

/// What a boot environment was cloned from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Origin {
    /// The name that the origin had then.
    pub name: EnvironmentName,
    /// Its identity.
    pub uuid: Uuid,
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
    #[error("it is of schema {0}, this version reads {SCHEMA}: use the netbe that wrote it")]
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
        export: RawExport {
            shared: export.shared,
            read_only: export.read_only,
            insecure: export.insecure,
            maproot: export.maproot.as_ref().map(text),
            mapall: export.mapall.as_ref().map(text),
            networks: export.networks.iter().map(Network::to_string).collect(),
            machines: export.machines.clone(),
        },
        origin: environment
            .origin
            .as_ref()
            .map(|origin| RawOrigin { name: origin.name.to_string(), uuid: origin.uuid }),
        dataset: environment
            .datasets
            .iter()
            .map(|set| RawDataset { path: set.path().to_owned(), mounted: set.mounted() })
            .collect(),
    };
    toml::to_string(&raw).map_err(|error| MetadataError::Syntax(error.to_string()))
}

/// Reads a metadata file's text.
pub(crate) fn parse(name: EnvironmentName, text: &str) -> Result<Environment, MetadataError> {
    let found: Schema = toml::from_str(text).map_err(syntax)?;
    if found.schema != SCHEMA {
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
        datasets: raw.dataset.into_iter().map(dataset).collect::<Result<_, _>>()?,
        export: ExportSettings {
            shared: raw.export.shared,
            read_only: raw.export.read_only,
            insecure: raw.export.insecure,
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
    Ok(Origin { name, uuid: raw.uuid })
}

fn dataset(raw: RawDataset) -> Result<Dataset, MetadataError> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if !raw.path.split('/').all(plain) || raw.path.contains(char::is_control) {
        return Err(value("dataset.path", "write it relative to the root, as in usr/home"));
    }
    Ok(Dataset::new(&raw.path, raw.mounted))
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
    #[serde(default)]
    origin: Option<RawOrigin>,
    #[serde(default)]
    export: RawExport,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dataset: Vec<RawDataset>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct RawOrigin {
    name: String,
    uuid: Uuid,
}

#[derive(Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct RawExport {
    shared: bool,
    read_only: bool,
    insecure: bool,
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
}

const SCHEMA: u32 = 1;

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
            origin: Some(Origin { name: name("head"), uuid: Uuid::from_u128(8) }),
            layout: Layout::FreeBsd,
            datasets: Layout::FreeBsd.datasets(),
            export: ExportSettings {
                shared: true,
                read_only: true,
                maproot: Some(Identity::root()),
                mapall: Some("5:6:7".parse().unwrap()),
                networks: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
                machines: vec!["desk".into()],
                insecure: true,
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
            export: ExportSettings::default(),
            ..rich()
        };
        let text = render(&bare).unwrap();
        assert_eq!(parse(name("büro"), &text).unwrap(), bare);
    }

    #[test]
    fn a_later_schema_is_told_from_a_broken_file() {
        let text = "schema = 2\nsomething = 'new'\n";
        assert!(matches!(parse(name("a"), text), Err(MetadataError::Schema(2))));
        assert!(matches!(parse(name("a"), "schema = "), Err(MetadataError::Syntax(_))));
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
