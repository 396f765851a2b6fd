//! FreeBSD's exports(5), for a boot environment that mountd(8) is to export.

use std::fmt;
use std::net::IpAddr;

use crate::ConfigError;
use crate::error::refuse;

/// One line: a directory, how it is exported, and to whom.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Export {
    /// The directory: the root of a file system.
    pub path: String,
    /// Whether nothing may be written.
    pub read_only: bool,
    /// Whom the superuser of a client acts as: a user, or `uid:gid:…`.
    pub maproot: Option<String>,
    /// Whom every user of a client acts as.
    pub mapall: Option<String>,
    /// The network that may mount it; everybody without one.
    pub network: Option<Network>,
}

/// A network by its first address and the length of its prefix.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Network(pub IpAddr, pub u8);

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, self.1)
    }
}

/// The lines for a boot environment: one for each data set that holds files, the root first, and
/// each as often as there are networks, of which a line can name only one.
///
/// `template` says how; its path is the root's and its network is not used.
#[must_use]
pub fn nested(template: &Export, datasets: &[String], networks: &[Network]) -> Vec<Export> {
    let base = template.path.trim_end_matches('/');
    let below = datasets.iter().map(|dataset| format!("{base}/{dataset}"));
    let paths = std::iter::once(template.path.clone()).chain(below);
    let networks: Vec<_> =
        if networks.is_empty() { vec![None] } else { networks.iter().copied().map(Some).collect() };
    paths
        .flat_map(|path| networks.iter().map(move |&network| (path.clone(), network)))
        .map(|(path, network)| Export { path, network, ..template.clone() })
        .collect()
}

/// The text of an exports file.
pub fn render(exports: &[Export]) -> Result<String, ConfigError> {
    exports.iter().map(line).collect()
}

/// Reads the text of an exports file, in the forms that [`render`] writes and with `-mask`.
pub fn parse(text: &str) -> Result<Vec<Export>, ConfigError> {
    let mut exports = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let wrong = |reason| ConfigError::Syntax { line: index + 1, reason };
        let mut words = line.split_whitespace();
        let Some(path) = words.next().filter(|path| !path.starts_with('#')) else { continue };
        let mut export = Export {
            path: path.to_owned(),
            read_only: false,
            maproot: None,
            mapall: None,
            network: None,
        };
        while let Some(word) = words.next() {
            let mut value = || match word.split_once('=') {
                Some((_, value)) => Ok(value.to_owned()),
                None => words.next().map(str::to_owned).ok_or_else(|| wrong("a value is missing")),
            };
            match word.split('=').next() {
                Some("-ro") => export.read_only = true,
                Some("-maproot") => export.maproot = Some(value()?),
                Some("-mapall") => export.mapall = Some(value()?),
                Some("-network") => {
                    export.network = Some(network(&value()?).ok_or_else(|| wrong("no network"))?);
                }
                Some("-mask") => {
                    let mask = value()?.parse().ok().and_then(prefix);
                    let mask = mask.ok_or_else(|| wrong("no mask"))?;
                    let network = export.network.as_mut();
                    network.ok_or_else(|| wrong("a mask without a network"))?.1 = mask;
                }
                _ => return Err(wrong("an option is not known")),
            }
        }
        exports.push(export);
    }
    Ok(exports)
}

fn line(export: &Export) -> Result<String, ConfigError> {
    // mountd(8) takes quotes and backslashes apart to find words, and then hands the text to
    // statfs(2) as it stands in the file: no way to write them leads to the directory.
    let reason = "mountd cannot read spaces, quotes, backslashes or # in a path: rename it";
    let bad =
        |letter: char| letter.is_whitespace() || letter.is_control() || "'\"\\#".contains(letter);
    refuse("the path", &export.path, FORMAT, reason, bad)?;
    let mut parts = export.path.split('/').skip(1);
    if !export.path.starts_with('/') || parts.any(|part| part == "." || part == "..") {
        let reason = "it is absolute and without . and ..";
        let (what, value) = ("the path", export.path.clone());
        return Err(ConfigError::Character { what, value, format: FORMAT, reason });
    }
    let mut text = export.path.clone();
    if export.read_only {
        text += " -ro";
    }
    for (option, user) in [("maproot", &export.maproot), ("mapall", &export.mapall)] {
        let Some(user) = user else { continue };
        let bad = |letter: char| !letter.is_ascii_alphanumeric() && !"-_.:$".contains(letter);
        refuse("the user", user, FORMAT, "write a name or uid:gid", bad)?;
        if user.is_empty() {
            let (what, value) = ("the user", String::new());
            let reason = "write a name or uid:gid";
            return Err(ConfigError::Character { what, value, format: FORMAT, reason });
        }
        text += &format!(" -{option}={user}");
    }
    if let Some(network) = export.network {
        text += &format!(" -network {network}");
    }
    text.push('\n');
    Ok(text)
}

fn network(text: &str) -> Option<Network> {
    let Some((address, prefix)) = text.split_once('/') else {
        // Only until its mask follows.
        return Some(Network(text.parse().ok()?, 32));
    };
    Some(Network(address.parse().ok()?, prefix.parse().ok()?))
}

fn prefix(mask: std::net::Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    let ones = bits.leading_ones();
    let whole = bits.checked_shl(ones).unwrap_or(0) == 0;
    u8::try_from(ones).ok().filter(|_| whole)
}

const FORMAT: &str = "exports";

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::guest::strategy;

    fn template(path: &str) -> Export {
        Export {
            path: path.to_owned(),
            read_only: false,
            maproot: Some("root".into()),
            mapall: None,
            network: None,
        }
    }

    fn lan() -> Network {
        Network("192.168.2.0".parse().unwrap(), 24)
    }

    #[test]
    fn the_slides_layout_has_ten_lines_without_usr_and_var() {
        let datasets = strategy::head().root.datasets;
        let text = render(&nested(&template("/ROOT/head"), &datasets, &[lan()])).unwrap();
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
        let text = render(&nested(&template("/a"), &["b".into()], &[lan(), other])).unwrap();
        assert_eq!(
            text,
            "/a -maproot=root -network 192.168.2.0/24\n/a -maproot=root -network fd00::/8\n\
             /a/b -maproot=root -network 192.168.2.0/24\n/a/b -maproot=root -network fd00::/8\n"
        );
    }

    #[test]
    fn paths_that_mountd_misreads_are_refused_with_the_reason() {
        for path in ["/a b", "/a\tb", "/a\\040b", "/\"a\"", "/a#b", "/a/../b", "a", "/a\nb"] {
            let error = render(&[template(path)]).unwrap_err();
            assert!(matches!(error, ConfigError::Character { what: "the path", .. }), "{path:?}");
        }
        assert!(
            render(&[template("/a b")]).unwrap_err().to_string().contains("mountd cannot read")
        );
    }

    #[test]
    fn the_slides_own_form_with_a_mask_is_read() {
        let line = "/ROOT/head -maproot=root -network 192.168.2.0 -mask 255.255.255.0\n";
        let expected = Export { network: Some(lan()), ..template("/ROOT/head") };
        assert_eq!(parse(line), Ok(vec![expected]));
        assert!(parse("/a -mask 255.0.255.0").is_err());
        assert!(parse("/a -frobnicate").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            path in strategy::path(),
            read_only: bool,
            maproot in prop::option::of("[ -~]{0,6}"),
            mapall in prop::option::of("[0-9]{1,4}(:[0-9]{1,4}){1,3}"),
            v4 in prop::option::of((any::<u32>(), 0_u8..=32)),
        ) {
            let network = v4.map(|(address, prefix)| {
                Network(std::net::Ipv4Addr::from(address).into(), prefix)
            });
            let export = Export { path, read_only, maproot, mapall, network };
            if let Ok(text) = render(std::slice::from_ref(&export)) {
                prop_assert_eq!(parse(&text), Ok(vec![export]));
            }
        }
    }
}
