//! Variables of FreeBSD's loader and kernel (kenv(1)), and how DHCP carries them.
//!
//! The loader (stand/libsa/bootp.c) takes them out of two kinds of site options: 250 to 254 hold one
//! `NAME=VALUE` each, 246 to 249 lists as in `NAME=VALUE;NAME=VALUE`. It does not join split options
//! (RFC 3396), so that each of them ends after 255 bytes.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use bootcfg::loader;
pub use bootcfg::loader::{MAX_READ_SIZE, READ_SIZE};
use serde::{Deserialize, Serialize};

/// A variable: its name and its value.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Variable {
    name: String,
    value: String,
}

impl Variable {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value; empty when the variable is set to nothing.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether it has a loader ask for more by one READ than it can receive.
    fn reads_more_than(&self, most: u32) -> bool {
        self.name == READ_SIZE && loader::number(&self.value).is_some_and(|size| size > most)
    }

    /// The variable of a name and a value that are known to be ones.
    pub(crate) fn known(name: &str, value: impl fmt::Display) -> Self {
        Self { name: name.to_owned(), value: value.to_string() }
    }
}

impl FromStr for Variable {
    type Err = KenvError;

    fn from_str(text: &str) -> Result<Self, KenvError> {
        let (name, value) = text.split_once('=').ok_or_else(|| KenvError::Form(text.to_owned()))?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.is_empty() || !name.chars().all(allowed) {
            return Err(KenvError::Name(name.to_owned()));
        }
        // What loader.conf(5) cannot quote is refused for DHCP too, so that a variable is one by
        // every loader.
        let bad = |c: char| !matches!(c, ' '..='~') || "\"\\$".contains(c);
        if value.contains(bad) {
            return Err(KenvError::Value(name.to_owned()));
        }
        if text.len() > MAX_OPTION {
            return Err(KenvError::Long(name.to_owned()));
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl TryFrom<String> for Variable {
    type Error = KenvError;

    fn try_from(text: String) -> Result<Self, KenvError> {
        text.parse()
    }
}

impl From<Variable> for String {
    fn from(variable: Variable) -> Self {
        variable.to_string()
    }
}

impl From<loader::Variable> for Variable {
    fn from(variable: loader::Variable) -> Self {
        Self { name: variable.name, value: variable.value }
    }
}

impl From<&Variable> for loader::Variable {
    fn from(variable: &Variable) -> Self {
        Self { name: variable.name.clone(), value: variable.value.clone() }
    }
}

/// Puts a machine's own variables before the ones that we give every machine: by the same name its
/// own counts, but for one that would have its loader read more at once than `read_size`.
#[must_use]
pub fn overlaid(given: Vec<Variable>, own: &[Variable], read_size: u32) -> Vec<Variable> {
    let mut variables = given;
    // A record may be older than the knowledge that such a machine would not boot, and its network one of
    // smaller packets.
    for variable in own.iter().filter(|variable| !variable.reads_more_than(read_size)) {
        match variables.iter_mut().find(|known| known.name == variable.name) {
            Some(known) => known.value.clone_from(&variable.value),
            None => variables.push(variable.clone()),
        }
    }
    variables
}

/// The options that carry the variables, by code and value, the first variable first.
///
/// As many as can have an option of their own; the others share the lists. A value with a semicolon
/// cannot stand in a list.
///
/// # Errors
///
/// They do not fit.
pub fn pack(variables: &[Variable]) -> Result<Vec<(u8, Vec<u8>)>, KenvError> {
    let alone = variables.iter().filter(|variable| variable.value.contains(';')).count();
    let mut free = SINGLES.len().checked_sub(alone).ok_or(KenvError::Semicolons)?;
    let (mut singles, mut lists) = (Vec::new(), Vec::<Vec<u8>>::new());
    for variable in variables {
        let text = variable.to_string().into_bytes();
        let is_alone = variable.value.contains(';');
        if is_alone || free > 0 {
            free = if is_alone { free } else { free.saturating_sub(1) };
            singles.push(text);
            continue;
        }
        let fits = |list: &&mut Vec<u8>| list.len() + 1 + text.len() <= MAX_OPTION;
        if let Some(list) = lists.iter_mut().find(fits) {
            list.push(b';');
            list.extend(text);
        } else if lists.len() < LISTS.len() {
            lists.push(text);
        } else {
            return Err(KenvError::Many);
        }
    }
    Ok(SINGLES.into_iter().zip(singles).chain(LISTS.into_iter().zip(lists)).collect())
}

/// Makes sure that a machine's own variables fit into one DHCP message beside what else stands there,
/// whatever its boot environment is called.
///
/// # Errors
///
/// They do not, or one is there twice.
pub fn check(own: &[Variable]) -> Result<(), KenvError> {
    for (at, variable) in own.iter().enumerate() {
        if own.iter().skip(at + 1).any(|other| other.name == variable.name) {
            return Err(KenvError::Twice(variable.name.clone()));
        }
    }
    if own.iter().map(|variable| variable.to_string().len()).sum::<usize>() > MAX_OWN {
        return Err(KenvError::Many);
    }
    let path = format!("/{}", "x".repeat(MAX_PATH - 1));
    let mut given = nfs_root(Ipv4Addr::BROADCAST, &path, &[0; 64]);
    given.push(Variable::known(READ_SIZE, MAX_READ_SIZE));
    pack(&overlaid(given, own, MAX_READ_SIZE)).map(drop)
}

/// Makes sure that no variable has a loader ask for more than one frame holds.
///
/// # Errors
///
/// One does: its loader would wait for ever.
pub fn check_read_size(own: &[Variable]) -> Result<(), KenvError> {
    match own.iter().find(|variable| variable.reads_more_than(MAX_READ_SIZE)) {
        Some(variable) => Err(KenvError::ReadSize(variable.value.clone())),
        None => Ok(()),
    }
}

/// The variables by which a kernel mounts its root when no loader has fetched the root's handle by
/// NFS, the most needed first: an old loader reads no further than 312 bytes.
#[must_use]
pub fn nfs_root(server: Ipv4Addr, path: &str, handle: &[u8]) -> Vec<Variable> {
    loader::nfs_root(server, path, handle).into_iter().map(Variable::from).collect()
}

/// Why variables are not accepted.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KenvError {
    /// It is no assignment.
    #[error("{0:?} is not a variable: write NAME=VALUE")]
    Form(String),
    /// One is too long for an option.
    #[error("the variable {0} is too long: write at most 255 bytes for name, = and value")]
    Long(String),
    /// All together are too long.
    #[error("the variables do not fit into DHCP's options: write at most 512 bytes of them")]
    Many,
    /// The name cannot be one.
    #[error("{0:?} is not a variable's name: write letters, digits, dots, hyphens and underscores")]
    Name(String),
    /// A READ of that size is answered by fragments.
    #[error(
        "nfs.read_size={0} stops FreeBSD's loader, which cannot put IP fragments together: write at \
         most {MAX_READ_SIZE}"
    )]
    ReadSize(String),
    /// Too many cannot stand in a list.
    #[error("at most five variables can have a semicolon in their value")]
    Semicolons,
    /// A name stands there twice.
    #[error("the variable {0} is set twice: remove one of the two")]
    Twice(String),
    /// The value cannot be written for every loader.
    #[error(
        "the value of {0} cannot be given to FreeBSD's loader: write printable ASCII without double \
         quotes, backslashes and dollar signs"
    )]
    Value(String),
}

/// How much FreeBSD's loader may read at once where packets of `mtu` bytes go through whole: what one of
/// them holds, as it cannot put fragments together.
///
/// No more than on an Ethernet of 1500 bytes: a loader drives the card with its firmware's means. No less
/// than 1024, as a loader takes nothing less (`NFSREAD_MIN_SIZE` in stand/libsa/nfs.c).
#[must_use]
pub fn read_size(mtu: u32) -> u32 {
    mtu.saturating_sub(READ_OVERHEAD).clamp(MIN_READ_SIZE, MAX_READ_SIZE)
}

/// The least that a loader reads at once.
const MIN_READ_SIZE: u32 = 1024;

/// What a reply to a READ has beside its data: 28 bytes are IP's and UDP's, and 128 the call's.
const READ_OVERHEAD: u32 = 28 + 128;

/// The longest path of a root that is told by a variable.
pub const MAX_PATH: usize = 100;

/// Options for one variable each.
const SINGLES: [u8; 5] = [250, 251, 252, 253, 254];

/// Options for lists of variables.
const LISTS: [u8; 4] = [246, 247, 248, 249];

/// Bytes in an option.
const MAX_OPTION: usize = 255;

/// Bytes of a machine's own variables: with what else a machine is told, an Ethernet frame is full.
const MAX_OWN: usize = 512;

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;

    fn variables(texts: &[&str]) -> Vec<Variable> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// The variables that the loader finds in options, by its own rules.
    fn loaded(options: &[(u8, Vec<u8>)]) -> Vec<String> {
        let text = |value: &[u8]| String::from_utf8(value.to_vec()).unwrap();
        let split = |(code, value): &(u8, Vec<u8>)| match code {
            246..=249 => text(value).split(';').map(str::to_owned).collect(),
            250..=254 => vec![text(value)],
            _ => panic!("option {code} carries no variable"),
        };
        options.iter().flat_map(split).collect()
    }

    #[test]
    fn a_few_variables_have_an_option_each() {
        let options = pack(&variables(&["a=1", "b=", "c=x y"])).unwrap();
        let expected: [(u8, &[u8]); 3] = [(250, b"a=1"), (251, b"b="), (252, b"c=x y")];
        assert_eq!(options, expected.map(|(code, value)| (code, value.to_vec())));
    }

    #[test]
    fn more_variables_share_lists() {
        let options = pack(&variables(&["a=1", "b=2", "c=3", "d=4", "e=5", "f=6", "g=7"])).unwrap();
        assert_eq!(options.last(), Some(&(246, b"f=6;g=7".to_vec())));
    }

    #[test]
    fn a_value_with_a_semicolon_is_in_no_list() {
        let texts = ["a=1", "b=2", "c=3", "d=4", "e=5", "f=6", "g=7;8"];
        let options = pack(&variables(&texts)).unwrap();
        assert!(options.contains(&(254, b"g=7;8".to_vec())), "{options:?}");
        let six = ["a=;", "b=;", "c=;", "d=;", "e=;", "f=;"];
        assert_eq!(pack(&variables(&six)), Err(KenvError::Semicolons));
    }

    #[test]
    fn a_machines_own_value_counts() {
        let given = variables(&["a=1", "b=2"]);
        let both = overlaid(given, &variables(&["c=3", "a=4"]), MAX_READ_SIZE);
        assert_eq!(both, variables(&["a=4", "b=2", "c=3"]));
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        let refusal = |text: &str| text.parse::<Variable>().unwrap_err();
        assert_eq!(refusal("a"), KenvError::Form("a".to_owned()));
        for text in ["=1", "a b=1", "a;b=1", "\u{e4}=1"] {
            assert!(matches!(refusal(text), KenvError::Name(_)), "{text}");
        }
        for text in ["a=\"", "a=\\", "a=$b", "a=\n", "a=\u{e4}"] {
            assert_eq!(refusal(text), KenvError::Value("a".to_owned()));
        }
        assert!(matches!(refusal(&format!("a={}", "x".repeat(254))), KenvError::Long(_)));
    }

    #[test]
    fn a_machine_has_as_many_as_one_message_holds() {
        let long = |name: char, len| format!("{name}={}", "x".repeat(len));
        let (a, b, c) = (long('a', 253), long('b', 253), long('c', 5));
        assert_eq!(check(&variables(&[&a, &b])), Ok(()));
        assert_eq!(check(&variables(&[&a, &b, &c])), Err(KenvError::Many));
        assert_eq!(check(&variables(&["a=1", "a=2"])), Err(KenvError::Twice("a".to_owned())));
    }

    #[test]
    fn no_loader_is_told_to_read_more_than_a_frame_holds() {
        let most = variables(&["nfs.read_size=1344"]);
        assert_eq!(check_read_size(&most), Ok(()));
        let hexadecimal = variables(&["nfs.read_size=0x2000"]);
        assert!(check_read_size(&hexadecimal).is_err(), "strtol(3) takes it");
        let more = variables(&["nfs.read_size=1345"]);
        assert_eq!(check_read_size(&more), Err(KenvError::ReadSize("1345".to_owned())));
        assert_eq!(overlaid(most.clone(), &more, MAX_READ_SIZE), most);
        let least = variables(&["nfs.read_size=1024"]);
        assert_eq!(overlaid(most.clone(), &least, MAX_READ_SIZE), least);
        // What a larger network allows is too much in a smaller one.
        assert_eq!(overlaid(least.clone(), &most, 1244), least);
    }

    #[test]
    fn a_loader_reads_what_one_packet_of_its_network_holds() {
        for (mtu, size) in [(1500, 1344), (9000, 1344), (1400, 1244), (1180, 1024), (576, 1024)] {
            assert_eq!(read_size(mtu), size, "{mtu}");
        }
    }

    #[test]
    fn the_handle_comes_first() {
        let root = nfs_root(Ipv4Addr::new(10, 0, 0, 1), "/be/head", &[0xab, 1]);
        assert_eq!(
            loaded(&pack(&root).unwrap()),
            [
                "boot.nfsroot.nfshandle=Xab01X",
                "boot.nfsroot.nfshandlelen=2",
                "boot.nfsroot.server=10.0.0.1",
                "boot.nfsroot.options=nolockd",
                "boot.nfsroot.path=/be/head",
            ]
        );
    }

    proptest! {
        #[test]
        fn what_is_packed_is_loaded_as_it_was(
            values in prop::collection::vec("[ -!#%-\\[\\]-~]{0,80}", 0..16)
        ) {
            let texts = values.iter().enumerate().map(|(at, value)| format!("v{at}={value}"));
            let variables = texts.map(|text| text.parse().unwrap()).collect::<Vec<Variable>>();
            if let Ok(options) = pack(&variables) {
                prop_assert!(options.iter().all(|(_, value)| value.len() <= MAX_OPTION));
                let mut found = loaded(&options);
                let mut given = variables.iter().map(ToString::to_string).collect::<Vec<_>>();
                found.sort();
                given.sort();
                prop_assert_eq!(found, given);
            }
        }
    }
}
