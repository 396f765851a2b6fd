//! Units of systemd that mount a boot environment on a Linux host (systemd.mount(5), systemd.automount(5)).

use crate::conf::File;
use crate::fstab::Entry;
use crate::unit::{self, Section};
use crate::{ConfigError, error};

/// When a unit mounts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When {
    /// With the host.
    Boot,
    /// When somebody looks into the directory first.
    Use,
}

/// The units that mount these entries below a directory of the host, by their paths from its root. Mounts in one
/// another are ordered by systemd itself, by their paths.
pub fn units(entries: &[Entry], below: &str, when: When) -> Result<Vec<File>, ConfigError> {
    let below = below.trim_end_matches('/');
    let reason = "it is absolute, without . or .. and without control characters";
    error::refuse("the directory", below, FORMAT, reason, char::is_control)?;
    let mut files = Vec::new();
    for entry in entries {
        let at = match entry.file.trim_end_matches('/') {
            "" => below.to_owned(),
            file => format!("{below}{file}"),
        };
        let odd = |part: &str| part == "." || part == "..";
        if !at.starts_with('/') || at.split('/').any(odd) {
            return Err(wrong("the directory", &at, reason));
        }
        let network = ["nfs", "nfs4"].contains(&entry.kind.as_str());
        let mut options = entry.options.clone();
        if network {
            options.push("_netdev".to_owned());
        }
        let mut about = Section::new("Unit", &[]).with("Description", unit::literal(&entry.spec));
        if network {
            about =
                about.with("After", "network-online.target").with("Wants", "network-online.target");
        }
        let mount = Section::new("Mount", &[])
            .with("What", unit::literal(&entry.spec))
            .with("Where", unit::literal(&at))
            .with("Type", entry.kind.as_str())
            .with("Options", unit::literal(&options.join(",")));
        let wanted = if network { "remote-fs.target" } else { "local-fs.target" };
        let install = Section::new("Install", &[("WantedBy", wanted)]);
        let file = |suffix: &str, sections: &[Section]| {
            let path = format!("etc/systemd/system/{}", unit::of_path(&at, suffix));
            // A name of a file has 255 bytes.
            let name = path.rsplit('/').next().unwrap_or_default();
            error::limit("the unit's name", name, FORMAT, 255)?;
            Ok::<_, ConfigError>(File { path, text: unit::render(sections)? })
        };
        match when {
            When::Boot => files.push(file("mount", &[about, mount, install])?),
            When::Use => {
                files.push(file("mount", &[about.clone(), mount])?);
                let auto = Section::new("Automount", &[]).with("Where", unit::literal(&at));
                let about =
                    Section::new("Unit", &[]).with("Description", unit::literal(&entry.spec));
                files.push(file("automount", &[about, auto, install])?);
            }
        }
    }
    Ok(files)
}

fn wrong(what: &'static str, value: &str, reason: &'static str) -> ConfigError {
    ConfigError::Character { what, value: value.to_owned(), format: FORMAT, reason }
}

const FORMAT: &str = "a unit of systemd";

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::fstab::{self, Dialect};
    use crate::guest::strategy;

    #[test]
    fn the_name_of_a_unit_is_that_of_its_directory() {
        let mut root = strategy::head().root;
        root.datasets.truncate(1);
        root.view = crate::View::Split;
        let entries = fstab::whole(&root, Dialect::Linux);
        let files = units(&entries, "/srv/my head/", When::Boot).unwrap();
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "etc/systemd/system/srv-my\\x20head.mount",
                "etc/systemd/system/srv-my\\x20head-tmp.mount"
            ]
        );
        assert_eq!(
            files[1].text,
            "[Unit]\nDescription=192.168.2.1:/ROOT/head/tmp\nAfter=network-online.target\n\
             Wants=network-online.target\n\n[Mount]\nWhat=192.168.2.1:/ROOT/head/tmp\n\
             Where=/srv/my head/tmp\nType=nfs\nOptions=rw,vers=3,proto=tcp,nolock,noatime,_netdev\n\n\
             [Install]\nWantedBy=remote-fs.target\n"
        );
        let files = units(&entries, "/srv/head", When::Use).unwrap();
        assert_eq!(files.len(), 4);
        assert!(files[1].path.ends_with("srv-head.automount"));
        assert!(files[1].text.contains("[Automount]\nWhere=/srv/head\n"), "{}", files[1].text);
        assert!(!files[0].text.contains("[Install]"), "{}", files[0].text);
    }

    #[test]
    fn hostile_directories_are_refused() {
        let entries = fstab::whole(&strategy::head().root, Dialect::Linux);
        for odd in ["srv", "/a/../b", "/a\nb", "/a\\", "/./a", &format!("/{}", "x".repeat(300))] {
            assert!(units(&entries, odd, When::Boot).is_err(), "{odd:?}");
        }
    }

    proptest! {
        #[test]
        fn units_are_read_back_to_the_entries_that_they_mount(
            guest in strategy::guest(), below in "(/[ -~&&[^/]]{1,6}){1,3}",
        ) {
            let entries = fstab::whole(&guest.root, Dialect::Linux);
            let Ok(files) = units(&entries, &below, When::Boot) else { return Ok(()) };
            for (file, entry) in files.iter().zip(&entries) {
                let sections = unit::read(&file.text).whole().unwrap();
                let mount = sections.iter().find(|section| section.name == "Mount").unwrap();
                let of = |name: &str| {
                    let (_, value) = mount.settings.iter().find(|(known, _)| known == name).unwrap();
                    value.replace("%%", "%")
                };
                prop_assert_eq!(of("What"), entry.spec.clone());
                let at = of("Where");
                prop_assert_eq!(file.path.rsplit_once("system/").unwrap().1, unit::of_path(&at, "mount"));
            }
        }
    }
}
