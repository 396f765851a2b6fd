//! What is written down about a boot environment, as user properties of its root data set.
//!
//! ```text
//! netbe:uuid     its identity; counts only where it was set here, since streams carry it
//! netbe:role     be, template, client or off; one that came with a stream counts as off
//! netbe:export   how it is shared: rw;maproot=0:0;net=192.168.2.0/24; one that came with a stream
//!                counts for nothing
//! netbe:layout   flat, freebsd or linux
//! netbe:created  when
//! netbe:data     on a data set below: it belongs to the machine
//! netbe:KEY      everything else that is set with `netbe set`
//! ```
//!
//! Environments made by bectl(8) or beadm(8) have none of these and are used as they are.

use uuid::Uuid;

use super::listing::{DataSet, Forged, Properties, Source};
use crate::{
    Dataset, Environment, EnvironmentName, ExportSettings, Identity, Layout, MetadataError, Origin,
    Role, Settings, StoreError, Timestamp,
};

/// A data set below the root of an environment, and what is written down about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Child<'a> {
    /// Where it is below the root.
    pub(super) path: &'a str,
    /// Whether files are in it.
    pub(super) mounted: bool,
    /// Its properties.
    pub(super) properties: &'a Properties,
}

/// Reads what is written down about an environment.
pub(super) fn read(
    name: &EnvironmentName,
    uuid: Uuid,
    root: &DataSet,
    properties: &Properties,
    children: &[Child<'_>],
    origin: Option<Origin>,
) -> Result<Environment, MetadataError> {
    let local = |key| {
        properties.get(key).filter(|value| value.source == Source::Local).map(|value| &*value.text)
    };
    let any = |key| properties.get(key).map(|value| &*value.text);
    let created = match local(CREATED) {
        Some(text) => text.parse().map_err(|error| value(CREATED, error))?,
        None => {
            Timestamp::from(std::time::UNIX_EPOCH + std::time::Duration::from_secs(root.creation))
        }
    };
    let layout = match any(LAYOUT) {
        Some(text) => text.parse().map_err(|error| value(LAYOUT, error))?,
        None => Layout::Flat,
    };
    let role = match properties.get(ROLE) {
        None => Role::Environment,
        Some(role) if role.source == Source::Received => Role::Off,
        Some(role) => role.text.parse().map_err(|error| value(ROLE, error))?,
    };
    let export = match properties.get(EXPORT) {
        Some(export) if export.source != Source::Received => parse_export(&export.text)
            .ok_or_else(|| value(EXPORT, "write it as in rw;maproot=0:0;net=192.168.2.0/24"))?,
        Some(_) | None => ExportSettings::default(),
    };
    let mut settings = Settings::default();
    for (property, value) in properties {
        if let Some(key) = property.strip_prefix(MODULE) {
            // What other tools have put there and netbe would not have is none of its settings.
            let _ = settings.set(key, Some(&value.text));
        }
    }
    let datasets = children
        .iter()
        .map(|child| {
            let data = child.properties.get(DATA).is_some_and(|value| value.text == "on");
            Dataset::new(child.path, child.mounted).with_data(data)
        })
        .collect();
    Ok(Environment {
        name: name.clone(),
        uuid,
        created,
        origin,
        layout,
        datasets,
        role,
        settings,
        export,
    })
}

/// The identity that is written down about an environment.
pub(super) fn uuid(properties: &Properties) -> Result<Option<Uuid>, MetadataError> {
    let local = properties.get(UUID).filter(|value| value.source == Source::Local);
    local.map(|text| text.text.parse().map_err(|error| value(UUID, error))).transpose()
}

/// The properties of the root data set that say all that is known about an environment.
pub(super) fn write(environment: &Environment) -> Result<Vec<(String, String)>, StoreError> {
    let mut properties = vec![
        (UUID.to_owned(), environment.uuid.to_string()),
        (CREATED.to_owned(), environment.created.to_string()),
        (LAYOUT.to_owned(), environment.layout.to_string()),
        (ROLE.to_owned(), environment.role.to_string()),
        (EXPORT.to_owned(), render_export(&environment.export)),
    ];
    properties.extend(
        environment
            .settings
            .iter()
            .map(|(key, value)| (format!("{MODULE}{key}"), value.to_owned())),
    );
    for (_, value) in &properties {
        if value.len() > MAX_VALUE {
            return Err(StoreError::Setting(crate::SettingError::Long(value.len())));
        }
    }
    Ok(properties)
}

/// Whether somebody gave a data set netbe's mark of an environment.
pub(super) fn is_ours(properties: &Properties) -> bool {
    properties.get(UUID).is_some_and(|value| value.source != Source::Inherited)
}

/// Whether a property is one of netbe's.
pub(super) fn is_own(property: &str) -> bool {
    property.starts_with(MODULE)
}

/// The identity of what has no UUID written down: that which ZFS itself gives, which is constant until
/// the data set is destroyed.
pub(super) fn identity(pool: u64, guid: u64) -> Uuid {
    Uuid::from_u64_pair(pool, guid)
}

/// The identity of a snapshot, which travels with it.
pub(super) fn snapshot_identity(guid: u64) -> Uuid {
    Uuid::from_u64_pair(SNAPSHOT, guid)
}

/// What is wrong with a data set whose properties cannot be trusted.
pub(super) fn forged(Forged: Forged) -> MetadataError {
    value("user properties", "one of them has line feeds in it and pretends to be another")
}

fn render_export(export: &ExportSettings) -> String {
    let mut words = Vec::new();
    if !export.shared {
        words.push("off".to_owned());
    }
    words.push(if export.read_only { "ro" } else { "rw" }.to_owned());
    if export.insecure {
        words.push("insecure".to_owned());
    }
    if export.manage_gids {
        words.push("manage-gids".to_owned());
    }
    words.extend(export.maproot.iter().map(|who| format!("maproot={who}")));
    words.extend(export.mapall.iter().map(|who| format!("mapall={who}")));
    words.extend(export.networks.iter().map(|network| format!("net={network}")));
    words.extend(export.machines.iter().map(|machine| format!("machine={}", escape(machine))));
    words.join(";")
}

fn parse_export(text: &str) -> Option<ExportSettings> {
    let mut export = ExportSettings { shared: true, ..ExportSettings::default() };
    let who = |text: &str| match text {
        "root" => Some(Identity::root()),
        "nobody" => Some(Identity::nobody()),
        text => text.parse().ok(),
    };
    for word in text.split(';').filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            None if word == "off" => export.shared = false,
            None if word == "ro" => export.read_only = true,
            None if word == "rw" => export.read_only = false,
            None if word == "insecure" => export.insecure = true,
            None if word == "manage-gids" => export.manage_gids = true,
            Some(("maproot", text)) => export.maproot = Some(who(text)?),
            Some(("mapall", text)) => export.mapall = Some(who(text)?),
            Some(("net", text)) => export.networks.push(text.parse().ok()?),
            Some(("machine", text)) => export.machines.push(unescape(text)?),
            // What is not understood might have been a restriction.
            Some(_) | None => return None,
        }
    }
    Some(export)
}

fn escape(text: &str) -> String {
    text.replace('%', "%25").replace(';', "%3B")
}

fn unescape(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut plain = parts.next()?.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        plain.push(char::from(u8::from_str_radix(code, 16).ok()?));
        plain.push_str(rest);
    }
    Some(plain)
}

fn value(key: &'static str, reason: impl ToString) -> MetadataError {
    MetadataError::Value { key, reason: reason.to_string() }
}

/// How the names of netbe's user properties begin.
const MODULE: &str = "netbe:";
pub(super) const UUID: &str = "netbe:uuid";
const CREATED: &str = "netbe:created";
const LAYOUT: &str = "netbe:layout";
const ROLE: &str = "netbe:role";
const EXPORT: &str = "netbe:export";
/// On a data set below the root: it belongs to the machine.
pub(super) const DATA: &str = "netbe:data";
/// ZFS takes no longer value (zfsprops(7)).
pub(super) const MAX_VALUE: usize = 8191;
/// The first half of every snapshot's identity: `netbe@` and two zeros.
const SNAPSHOT: u64 = 0x6e65_7462_6540_0000;

#[cfg(test)]
mod test {
    use super::*;
    use crate::zfs::listing::Value;

    fn root() -> DataSet {
        DataSet {
            name: "tank/be/head".into(),
            guid: 5,
            creation: 1_700_000_000,
            origin: None,
            mountpoint: "/".into(),
            mountable: true,
            locked: false,
            key: None,
            sharenfs: "off".into(),
            used: 0,
            referenced: 0,
            written: 0,
        }
    }

    fn properties(pairs: &[(&str, &str)], source: Source) -> Properties {
        let value = |text: &str| Value { text: text.to_owned(), source };
        pairs.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect()
    }

    fn parsed(properties: &Properties) -> Environment {
        let root = root();
        let uuid = uuid(properties).unwrap().unwrap_or_else(|| identity(3, root.guid));
        read(&"head".parse().unwrap(), uuid, &root, properties, &[], None).unwrap()
    }

    fn rich() -> Environment {
        let mut environment = parsed(&Properties::new());
        environment.uuid = Uuid::from_u128(77);
        environment.role = Role::Template;
        environment.layout = Layout::FreeBsd;
        environment.settings.set("os", Some("FreeBSD")).unwrap();
        environment.export = ExportSettings {
            shared: true,
            read_only: true,
            insecure: true,
            manage_gids: true,
            maproot: Some(Identity::root()),
            mapall: Some("5:6:7".parse().unwrap()),
            networks: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()],
            machines: vec!["desk;100%".into(), "x".into()],
        };
        environment
    }

    fn written(source: Source) -> Properties {
        let written = write(&rich()).unwrap();
        let pairs: Vec<_> = written.iter().map(|(key, text)| (&**key, &**text)).collect();
        properties(&pairs, source)
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(parsed(&written(Source::Local)), rich());
    }

    #[test]
    fn what_is_not_shared_keeps_how_it_was() {
        let mut export = rich().export;
        export.shared = false;
        export.read_only = false;
        assert_eq!(parse_export(&render_export(&export)), Some(export));
    }

    #[test]
    fn an_environment_of_bectl_is_used_as_it_is() {
        let found = parsed(&Properties::new());
        assert_eq!(found.role, Role::Environment);
        assert_eq!(found.uuid, Uuid::from_u64_pair(3, 5));
        assert_eq!(found.created.to_string(), "2023-11-14T22:13:20Z");
        assert!(!found.export.shared);
    }

    #[test]
    fn what_came_by_a_stream_is_off_and_not_shared() {
        let found = parsed(&written(Source::Received));
        assert_eq!(found.role, Role::Off);
        assert!(!found.export.shared);
        assert_eq!(found.uuid, Uuid::from_u64_pair(3, 5));
        // What is known about it is kept.
        assert_eq!(found.settings.value("os"), Some("FreeBSD"));
    }

    #[test]
    fn what_came_by_a_stream_is_not_shared_by_a_role_given_here() {
        let mut all = written(Source::Received);
        all.extend(properties(&[(ROLE, "template")], Source::Local));
        let found = parsed(&all);
        assert_eq!((found.role, found.export), (Role::Template, ExportSettings::default()));
    }

    #[test]
    fn a_pool_can_have_a_default_for_what_bectl_makes() {
        let found = parsed(&properties(&[(EXPORT, "ro;net=10.0.0.0/8")], Source::Inherited));
        assert!(found.export.shared && found.export.read_only);
    }

    #[test]
    fn a_restriction_that_is_not_understood_is_no_permission() {
        for text in ["rw;sec=krb5p", "on", "rw;net=10", "machine=%zz", "maproot=toor"] {
            assert_eq!(parse_export(text), None, "{text}");
        }
    }
}
