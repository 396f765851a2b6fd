//! FreeBSD's exports(5), for a boot environment that mountd(8) is to export.

mod read;

use std::fmt;
use std::net::IpAddr;

use crate::ConfigError;
use crate::error::refuse;

pub(crate) use read::prefix_of;
pub use read::read;

/// One line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Line {
    /// Directories that may be mounted.
    Export(Export),
    /// The root of what NFSv4 shows; it exports nothing by itself.
    Version4 {
        /// The directory.
        root: String,
        /// Options, of which only the security flavours count.
        options: Options,
        /// Who may speak NFSv4.
        clients: Clients,
    },
}

/// Directories, how they are exported, and to whom.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Export {
    /// The directories, all of one file system.
    pub paths: Vec<String>,
    /// How.
    pub options: Options,
    /// To whom.
    pub clients: Clients,
}

/// How directories are exported.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// Whether nothing may be written.
    pub read_only: bool,
    /// Whom the superuser of a client acts as: a user, or `uid:gid:…`.
    pub maproot: Option<String>,
    /// Whom every user of a client acts as.
    pub mapall: Option<String>,
    /// Whether every directory of the file system may be mounted.
    pub all_directories: bool,
    /// The security flavours; `sys` where there is none.
    pub security: Vec<String>,
    /// Options that change nothing of the above: `quiet`, `index=FILE`.
    pub other: Vec<String>,
}

/// To whom something is exported.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Clients {
    /// To everybody that no other line names.
    Everybody,
    /// To hosts or netgroups.
    Hosts(Vec<String>),
    /// To a network by its name in networks(5).
    Named(String),
    /// To a network.
    Network(Network),
}

/// A network by its first address and the length of its prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network(pub IpAddr, pub u8);

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

impl Network {
    /// Whether an address is in it.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        let bits = |address: IpAddr, length: u8| match address {
            IpAddr::V4(address) => {
                let hidden = 32_u32.saturating_sub(length.into());
                u128::from(address.to_bits().checked_shr(hidden).unwrap_or(0))
            }
            IpAddr::V6(address) => {
                let hidden = 128_u32.saturating_sub(length.into());
                address.to_bits().checked_shr(hidden).unwrap_or(0)
            }
        };
        self.0.is_ipv4() == address.is_ipv4() && bits(self.0, self.1) == bits(address, self.1)
    }
}

/// What the data sets of a boot environment are to mountd(8), which takes a network once for each file
/// system, and in one line all directories of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Datasets {
    /// File systems of their own.
    FileSystems,
    /// Directories of one file system.
    Directories,
}

/// The lines for a boot environment whose root is `root`: one for each file system, the root first,
/// and each as often as there are networks, of which a line can name only one.
#[must_use]
pub fn nested(
    root: &str,
    datasets: &[String],
    are: Datasets,
    options: &Options,
    networks: &[Network],
) -> Vec<Line> {
    let base = root.trim_end_matches('/');
    let below = datasets.iter().map(|dataset| format!("{base}/{dataset}"));
    let paths = std::iter::once(root.to_owned()).chain(below);
    let file_systems: Vec<Vec<String>> = match are {
        Datasets::FileSystems => paths.map(|path| vec![path]).collect(),
        Datasets::Directories => vec![paths.collect()],
    };
    let clients: Vec<Clients> = if networks.is_empty() {
        vec![Clients::Everybody]
    } else {
        networks.iter().copied().map(Clients::Network).collect()
    };
    let line = |paths: &Vec<String>, clients: &Clients| {
        let (paths, options, clients) = (paths.clone(), options.clone(), clients.clone());
        Line::Export(Export { paths, options, clients })
    };
    let lines = |paths| clients.iter().map(move |clients| line(paths, clients));
    file_systems.iter().flat_map(lines).collect()
}

/// The text of an exports file.
pub fn render(lines: &[Line]) -> Result<String, ConfigError> {
    lines.iter().map(line).collect()
}

fn line(line: &Line) -> Result<String, ConfigError> {
    let (mut text, paths, options, clients) = match line {
        Line::Export(Export { paths, options, clients }) => {
            (String::new(), paths.as_slice(), options, clients)
        }
        Line::Version4 { root, options, clients } => {
            ("V4: ".to_owned(), std::slice::from_ref(root), options, clients)
        }
    };
    for path in paths {
        check(path)?;
    }
    if paths.is_empty() {
        return Err(wrong("the path", "", "write at least one"));
    }
    text += &paths.join(" ");
    for word in written(options)? {
        text += &format!(" -{word}");
    }
    match clients {
        Clients::Everybody => {}
        Clients::Hosts(hosts) => {
            for host in hosts {
                let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:%".contains(c);
                let reason = "it is a name or an address";
                refuse("the host", host, FORMAT, reason, |c| !plain(c))?;
                if host.is_empty() || host.starts_with('-') || host == "V4:" {
                    return Err(wrong("the host", host, reason));
                }
                text += &format!(" {host}");
            }
            if hosts.is_empty() {
                return Err(wrong("the host", "", "without one, everybody could mount it"));
            }
        }
        Clients::Named(name) => {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            let reason = "it is a name in networks(5)";
            refuse("the network", name, FORMAT, reason, |c| !plain(c))?;
            if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
                return Err(wrong("the network", name, reason));
            }
            text += &format!(" -network {name}");
        }
        Clients::Network(network) => text += &format!(" -network {network}"),
    }
    text.push('\n');
    Ok(text)
}

/// Options without their hyphens.
fn written(options: &Options) -> Result<Vec<String>, ConfigError> {
    let Options { read_only, maproot, mapall, all_directories, security, other } = options;
    let mut words = Vec::new();
    words.extend(all_directories.then(|| "alldirs".to_owned()));
    words.extend(read_only.then(|| "ro".to_owned()));
    for (option, user) in [("maproot", maproot), ("mapall", mapall)] {
        let Some(user) = user else { continue };
        let reason = "write a name or uid:gid";
        let bad = |c: char| !c.is_ascii_alphanumeric() && !"-_.:$".contains(c);
        refuse("the user", user, FORMAT, reason, bad)?;
        if user.is_empty() {
            return Err(wrong("the user", user, reason));
        }
        words.push(format!("{option}={user}"));
    }
    for flavour in security {
        if !["krb5", "krb5i", "krb5p", "sys"].contains(&flavour.as_str()) {
            return Err(wrong("the security flavour", flavour, "write sys, krb5, krb5i or krb5p"));
        }
    }
    if !security.is_empty() {
        words.push(format!("sec={}", security.join(":")));
    }
    for option in other {
        let known = ["public", "quiet", "tls", "tlscert", "tlscertuser", "webnfs"];
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let index = option.strip_prefix("index=").filter(|file| !file.is_empty());
        if !known.contains(&option.as_str()) && !index.is_some_and(|file| file.chars().all(plain)) {
            return Err(wrong("the option", option, "mountd does not know it"));
        }
        words.push(option.clone());
    }
    Ok(words)
}

fn check(path: &str) -> Result<(), ConfigError> {
    // mountd(8) takes quotes and backslashes apart to find words, and then hands the text to
    // statfs(2) as it stands in the file: no way to write them leads to the directory.
    let reason = "mountd cannot read spaces, quotes, backslashes or # in a path: rename it";
    let bad = |c: char| c.is_whitespace() || c.is_control() || "'\"\\#".contains(c);
    refuse("the path", path, FORMAT, reason, bad)?;
    let mut parts = path.split('/').skip(1);
    let whole = path == "/" || !path.ends_with('/');
    if !path.starts_with('/') || !whole || parts.any(|part| part == "." || part == "..") {
        return Err(wrong("the path", path, "it is absolute, without . and .. and a last slash"));
    }
    Ok(())
}

fn wrong(what: &'static str, value: &str, reason: &'static str) -> ConfigError {
    ConfigError::Character { what, value: value.to_owned(), format: FORMAT, reason }
}

const FORMAT: &str = "exports";

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::guest::strategy;

    fn as_root() -> Options {
        Options { maproot: Some("root".into()), ..Options::default() }
    }

    fn one(path: &str) -> Vec<Line> {
        nested(path, &[], Datasets::FileSystems, &as_root(), &[])
    }

    fn lan() -> Network {
        Network("192.168.2.0".parse().unwrap(), 24)
    }

    #[test]
    fn the_slides_layout_has_ten_lines_without_usr_and_var() {
        let datasets = strategy::head().root.datasets;
        let lines = nested("/ROOT/head", &datasets, Datasets::FileSystems, &as_root(), &[lan()]);
        let text = render(&lines).unwrap();
        assert_eq!(text.lines().count(), 10);
        assert!(text.starts_with(
            "/ROOT/head -maproot=root -network 192.168.2.0/24\n\
             /ROOT/head/tmp -maproot=root -network 192.168.2.0/24\n"
        ));
        assert!(!text.contains("/usr -") && !text.contains("/var -"));
    }

    #[test]
    fn each_network_has_its_own_line() {
        let other = Network("fd00::".parse().unwrap(), 8);
        let text =
            |are| render(&nested("/a", &["b".into()], are, &as_root(), &[lan(), other])).unwrap();
        assert_eq!(
            text(Datasets::FileSystems),
            "/a -maproot=root -network 192.168.2.0/24\n/a -maproot=root -network fd00::/8\n\
             /a/b -maproot=root -network 192.168.2.0/24\n/a/b -maproot=root -network fd00::/8\n"
        );
        assert_eq!(
            text(Datasets::Directories),
            "/a /a/b -maproot=root -network 192.168.2.0/24\n\
             /a /a/b -maproot=root -network fd00::/8\n"
        );
    }

    #[test]
    fn paths_that_mountd_misreads_are_refused_with_the_reason() {
        let hostile =
            ["/a b", "/a\tb", "/a\\040b", "/\"a\"", "/a#b", "/a/../b", "a", "/a\nb", "-a"];
        for path in hostile {
            let error = render(&one(path)).unwrap_err();
            assert!(matches!(error, ConfigError::Character { what: "the path", .. }), "{path:?}");
        }
        assert!(render(&one("/a b")).unwrap_err().to_string().contains("mountd cannot read"));
    }

    #[test]
    fn networks_know_their_addresses() {
        assert!(lan().contains("192.168.2.202".parse().unwrap()));
        assert!(!lan().contains("192.168.3.1".parse().unwrap()));
        assert!(!lan().contains("::1".parse().unwrap()));
        assert!(Network("::".parse().unwrap(), 0).contains("fd00::1".parse().unwrap()));
    }

    fn clients() -> impl Strategy<Value = Clients> {
        let v4 = (any::<u32>(), 0_u8..=32)
            .prop_map(|(bits, length)| Network(std::net::Ipv4Addr::from(bits).into(), length));
        let v6 = (any::<u128>(), 0_u8..=128)
            .prop_map(|(bits, length)| Network(std::net::Ipv6Addr::from(bits).into(), length));
        prop_oneof![
            Just(Clients::Everybody),
            prop::collection::vec("[ -~]{1,2}|[a-z][a-z0-9.-]{0,8}", 0..3).prop_map(Clients::Hosts),
            "[ -~]{1,3}|[a-z-]{1,8}".prop_map(Clients::Named),
            v4.prop_map(Clients::Network),
            v6.prop_map(Clients::Network),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            paths in prop::collection::vec(strategy::path(), 1..3),
            (read_only, all_directories, v4) in any::<(bool, bool, bool)>(),
            maproot in prop::option::of("[ -~]{0,6}"),
            mapall in prop::option::of("[0-9]{1,4}(:[0-9]{1,4}){1,3}"),
            security in prop::sample::subsequence(vec!["sys", "krb5", "krb5p"], 0..=3),
            other in prop::collection::vec("quiet|index=[ -~]{0,4}|[a-z]{2,6}", 0..2),
            clients in clients(),
        ) {
            let security = security.into_iter().map(str::to_owned).collect();
            let options = Options { read_only, maproot, mapall, all_directories, security, other };
            let line = if v4 {
                Line::Version4 { root: paths[0].clone(), options, clients }
            } else {
                Line::Export(Export { paths, options, clients })
            };
            if let Ok(text) = render(std::slice::from_ref(&line)) {
                prop_assert_eq!(read(&text).whole(), Ok(vec![line]));
            }
        }

        #[test]
        fn nothing_that_is_read_panics(text in "[ -~\t\n]{0,80}|/[a -]{0,6}(-(ro|network|mask)[=, ][0-9./ ]{0,9}){0,3}") {
            let _ = read(&text);
        }
    }
}
