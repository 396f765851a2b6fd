//! What systemd needs to run a boot environment as a container (systemd-nspawn(1)): how it is run, where its root
//! is mounted, and the address of its interface.

use std::net::Ipv4Addr;

use crate::conf::File;
use crate::error::{interface, limit, refuse};
use crate::unit::{self, Section};
use crate::{ConfigError, Mac};

/// A container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Container {
    /// Its name, for machinectl(1), and its host name.
    pub name: String,
    /// Where its root comes from.
    pub root: Source,
    /// Whether nothing may be written to its root.
    pub read_only: bool,
    /// The bridge of this host that its interface belongs to; without one the host routes for it.
    pub bridge: Option<String>,
    /// Its Ethernet address: without it, systemd derives one from the host's identity, and another host's is
    /// another.
    pub mac: Option<Mac>,
    /// Whether its users are others than the host's of the same numbers.
    pub private_users: bool,
}

/// Where the root of a container comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Source {
    /// A directory of this host.
    Directory(String),
    /// An NFS export.
    Nfs {
        /// The server.
        server: Ipv4Addr,
        /// What is exported.
        path: String,
    },
}

/// The files of a container, by their paths from the host's root: `machinectl start` runs it then, and
/// `machinectl enable` with the host.
pub fn files(container: &Container) -> Result<Vec<File>, ConfigError> {
    let name = checked(&container.name)?;
    let root = format!("/var/lib/machines/{name}");
    let network = format!("/etc/systemd/nspawn/{name}.network");
    let file = |path: &str, sections: &[Section]| {
        let text = unit::render(sections)?;
        Ok::<_, ConfigError>(File { path: path.trim_start_matches('/').to_owned(), text })
    };
    let mut files = vec![
        file(&format!("/etc/systemd/nspawn/{name}.nspawn"), &settings(container, &network)?)?,
        file(
            &format!("/etc/systemd/system/{}", unit::of_path(&root, "mount")),
            &mount(container, &root)?,
        )?,
        file(
            &format!("/etc/systemd/system/systemd-nspawn@{name}.service.d/netbe.conf"),
            &drop_in(container, &root),
        )?,
    ];
    if let Some(mac) = container.mac {
        files.push(file(&network, &host0(mac))?);
    }
    Ok(files)
}

/// The command that runs a container on the terminal that it is started on, without files of systemd's:
/// SIGTERM has its system shut down (systemd-nspawn(1), `--kill-signal`). Where it has an Ethernet address,
/// `network` is the file with the text of [`network`], which lies on this host while it runs.
///
/// `register` says whether systemd is to know it: then machinectl(1) lists it, as part of the unit that the
/// command is run in.
pub fn command(
    container: &Container,
    network: Option<&str>,
    register: bool,
) -> Result<Vec<String>, ConfigError> {
    let name = checked(&container.name)?;
    let Source::Directory(root) = &container.root else {
        let (what, reason) = ("the root", "mount it first");
        return Err(ConfigError::Character {
            what,
            value: name.to_owned(),
            format: FORMAT,
            reason,
        });
    };
    absolute(root)?;
    let users = if container.private_users { "pick" } else { "no" };
    let mut words: Vec<String> = [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        "--keep-unit",
        "--settings=no",
        "--link-journal=no",
    ]
    .map(str::to_owned)
    .to_vec();
    words.extend([
        format!("--register={}", if register { "yes" } else { "no" }),
        format!("--machine={name}"),
        format!("--directory={root}"),
        format!("--private-users={users}"),
    ]);
    if container.private_users {
        words.push("--private-users-ownership=map".to_owned());
    }
    if container.read_only {
        words.push("--read-only".to_owned());
    }
    match &container.bridge {
        Some(bridge) => {
            interface(bridge, FORMAT, true)?;
            words.push(format!("--network-bridge={bridge}"));
        }
        None => words.push("--network-veth".to_owned()),
    }
    if let Some(file) = network {
        absolute(file)?;
        // A colon ends a path there, unless it is behind a backslash.
        let file = file.replace('\\', "\\\\").replace(':', "\\:");
        words.push(format!("--bind-ro={file}:/run/systemd/network/05-{name}.network"));
    }
    Ok(words)
}

/// What a container with this Ethernet address reads of its interface, as [`command`] takes it.
pub fn network(mac: Mac) -> Result<String, ConfigError> {
    unit::render(&host0(mac))
}

/// The environment by which systemd 255 and later give a container its Ethernet address.
#[must_use]
pub fn variable(mac: Mac) -> (&'static str, String) {
    (MAC_VARIABLE, mac.to_string())
}

/// The `.nspawn` file (systemd.nspawn(5)).
fn settings(container: &Container, network: &str) -> Result<Vec<Section>, ConfigError> {
    // The unit systemd-nspawn@.service has -U, by which systemd would give all files of the tree to other users, for
    // good, where it cannot map them: the same tree may be a machine's root.
    let users = if container.private_users { "pick" } else { "no" };
    let exec = Section::new("Exec", &[("Boot", "yes"), ("PrivateUsers", users)]);
    let mut files = Section::new("Files", &[]);
    if container.private_users {
        files = files.with("PrivateUsersOwnership", "map");
    }
    if container.read_only {
        files = files.with("ReadOnly", "yes");
    }
    if container.mac.is_some() {
        let name = network.rsplit('/').next().unwrap_or(network);
        // What is in /run is in memory: the tree stays as it is.
        files = files.with("BindReadOnly", format!("{network}:/run/systemd/network/05-{name}"));
    }
    let mut link = Section::new("Network", &[("Private", "yes"), ("VirtualEthernet", "yes")]);
    if let Some(bridge) = &container.bridge {
        interface(bridge, FORMAT, true)?;
        link = link.with("Bridge", bridge);
    }
    let sections = [exec, files, link].into_iter().filter(|section| !section.settings.is_empty());
    Ok(sections.collect())
}

/// The unit that mounts the root where systemd looks for containers (systemd.mount(5)).
fn mount(container: &Container, at: &str) -> Result<Vec<Section>, ConfigError> {
    let unit = Section::new("Unit", &[])
        .with("Description", format!("Root of the container {}", container.name));
    let mount = match &container.root {
        Source::Directory(path) => {
            absolute(path)?;
            Section::new("Mount", &[])
                .with("What", unit::literal(path))
                .with("Where", at)
                .with("Type", "none")
                // With the data sets that are mounted in it.
                .with("Options", "rbind")
        }
        Source::Nfs { server, path } => {
            absolute(path)?;
            let access = if container.read_only { "ro" } else { "rw" };
            Section::new("Mount", &[])
                .with("What", unit::literal(&format!("{server}:{path}")))
                .with("Where", at)
                .with("Type", "nfs")
                .with("Options", format!("vers=3,tcp,nolock,{access},_netdev"))
        }
    };
    Ok(vec![unit, mount])
}

/// What is added to the unit that runs it.
fn drop_in(container: &Container, at: &str) -> Vec<Section> {
    let unit = Section::new("Unit", &[]).with("RequiresMountsFor", at);
    let mut sections = vec![unit];
    if let Some(mac) = container.mac {
        // Read by systemd 255 and later; those before have the address by the file that is bound into the container.
        let variable = format!("{MAC_VARIABLE}={mac}");
        sections.push(Section::new("Service", &[]).with("Environment", variable));
    }
    sections
}

/// What systemd-networkd in the container does with its interface (systemd.network(5)).
fn host0(mac: Mac) -> Vec<Section> {
    vec![
        Section::new("Match", &[("Name", "host0")]),
        Section::new("Link", &[]).with("MACAddress", mac.to_string()),
        Section::new("Network", &[("DHCP", "yes"), ("LinkLocalAddressing", "yes")]),
        // By its Ethernet address, as firmware and other systems ask: else it would be two clients.
        Section::new("DHCPv4", &[("ClientIdentifier", "mac"), ("UseHostname", "no")]),
    ]
}

/// A name that machinectl(1) takes: that of a host.
fn checked(name: &str) -> Result<&str, ConfigError> {
    let reason = "a container's name has small letters, digits, hyphens and dots, and begins and ends with \
                  a letter or digit: rename it";
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    refuse("the name", name, FORMAT, reason, |c| !plain(c))?;
    let whole = |part: &str| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-');
    if !name.split('.').all(whole) {
        let (what, value) = ("the name", name.to_owned());
        return Err(ConfigError::Character { what, value, format: FORMAT, reason });
    }
    limit("the name", name, FORMAT, 64)?;
    Ok(name)
}

fn absolute(path: &str) -> Result<(), ConfigError> {
    if path.starts_with('/') {
        return Ok(());
    }
    let (what, reason) = ("the root", "write its whole path, from the slash on");
    Err(ConfigError::Character { what, value: path.to_owned(), format: FORMAT, reason })
}

const MAC_VARIABLE: &str = "SYSTEMD_NSPAWN_NETWORK_MAC";
const FORMAT: &str = "a file of systemd-nspawn";

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;

    fn web() -> Container {
        Container {
            name: "web-1".into(),
            root: Source::Directory("/srv/netbe/be/web-1/tree".into()),
            read_only: false,
            bridge: Some("br0".into()),
            mac: Some(Mac([2, 1, 2, 3, 4, 5])),
            private_users: false,
        }
    }

    fn shown(container: &Container) -> String {
        crate::conf::render(&files(container).unwrap()).unwrap()
    }

    #[test]
    fn a_container_has_its_root_its_bridge_and_its_address() {
        let text = "==> etc/systemd/nspawn/web-1.nspawn <==
[Exec]
Boot=yes
PrivateUsers=no

[Files]
BindReadOnly=/etc/systemd/nspawn/web-1.network:/run/systemd/network/05-web-1.network

[Network]
Private=yes
VirtualEthernet=yes
Bridge=br0

==> etc/systemd/system/var-lib-machines-web\\x2d1.mount <==
[Unit]
Description=Root of the container web-1

[Mount]
What=/srv/netbe/be/web-1/tree
Where=/var/lib/machines/web-1
Type=none
Options=rbind

==> etc/systemd/system/systemd-nspawn@web-1.service.d/netbe.conf <==
[Unit]
RequiresMountsFor=/var/lib/machines/web-1

[Service]
Environment=SYSTEMD_NSPAWN_NETWORK_MAC=02:01:02:03:04:05

==> etc/systemd/nspawn/web-1.network <==
[Match]
Name=host0

[Link]
MACAddress=02:01:02:03:04:05

[Network]
DHCP=yes
LinkLocalAddressing=yes

[DHCPv4]
ClientIdentifier=mac
UseHostname=no
";
        assert_eq!(shown(&web()), text);
    }

    #[test]
    fn a_root_may_come_by_nfs_and_be_read_only() {
        let (server, path) = (Ipv4Addr::new(10, 0, 0, 1), "/be/100%".to_owned());
        let root = Source::Nfs { server, path };
        let text = shown(&Container { root, read_only: true, ..web() });
        let mount = "What=10.0.0.1:/be/100%%\nWhere=/var/lib/machines/web-1\nType=nfs\n\
                     Options=vers=3,tcp,nolock,ro,_netdev\n";
        assert!(text.contains(mount), "{text}");
        assert!(text.contains("[Files]\nReadOnly=yes\n"), "{text}");
    }

    #[test]
    fn a_plain_container_needs_three_files() {
        let container = Container { mac: None, bridge: None, private_users: true, ..web() };
        let files = files(&container).unwrap();
        assert_eq!(files.len(), 3);
        assert!(
            files[0].text.contains("PrivateUsers=pick\n\n[Files]\nPrivateUsersOwnership=map\n")
        );
        assert!(!files[0].text.contains("Bridge") && !files[2].text.contains("MAC"));
    }

    #[test]
    fn what_systemd_takes_for_something_else_is_refused() {
        for name in ["", "-a", "a-", "a..b", "A", "a/b", "a b", "a%b", &"x".repeat(65)] {
            assert!(files(&Container { name: name.to_owned(), ..web() }).is_err(), "{name}");
        }
        let root = |path: &str| Container { root: Source::Directory(path.into()), ..web() };
        for path in ["srv", "/a\nWhere=/", "/a\\", "/a "] {
            assert!(files(&root(path)).is_err(), "{path}");
        }
        assert!(files(&Container { bridge: Some("a b".into()), ..web() }).is_err());
    }

    proptest! {
        #[test]
        fn every_file_is_read_back(
            name in "[a-z0-9.-]{1,9}", path in crate::guest::strategy::path(), mac: Option<[u8; 6]>,
        ) {
            let root = Source::Directory(path);
            if let Ok(files) = files(&Container { name, root, mac: mac.map(Mac), ..web() }) {
                for file in files {
                    let sections = unit::read(&file.text).whole().unwrap();
                    prop_assert_eq!(unit::render(&sections).unwrap(), file.text);
                }
            }
        }
    }
}
