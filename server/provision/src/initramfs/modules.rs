//! A kernel's modules, as depmod(8) wrote them down in a boot environment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use hostfs::{Inside, InsideError};

use super::packed::{ENDINGS, unpack};
use super::{Drivers, InitramfsError};

/// The modules of one kernel.
#[derive(Clone, Debug)]
pub(super) struct Index {
    release: String,
    directory: String,
    /// By name: the module's path, and the paths of those that it needs.
    modules: BTreeMap<String, (String, Vec<String>)>,
    builtin: BTreeSet<String>,
    /// What a module wants to be there without needing it (modules.softdep).
    wishes: BTreeMap<String, Vec<String>>,
    aliases: String,
}

/// A module, ready to be loaded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Module {
    /// Its name, with underscores.
    pub(super) name: String,
    /// Its contents, unpacked.
    pub(super) content: Vec<u8>,
    needs: Vec<String>,
}

/// A file that a driver loads into its card.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Firmware {
    /// Its path below `/lib/firmware`.
    pub(super) name: String,
    /// Its contents, unpacked.
    pub(super) content: Vec<u8>,
}

impl Index {
    /// Reads what depmod wrote.
    pub(super) fn read(inside: &Inside, release: &str) -> Result<Self, InitramfsError> {
        let places = ["/lib/modules", "/usr/lib/modules"];
        let places = places.map(|place| format!("{place}/{release}"));
        let is_there = |place: &String| inside.metadata(place).is_ok_and(|found| found.is_dir());
        let directory = places
            .into_iter()
            .find(is_there)
            .ok_or_else(|| InitramfsError::NoModules(release.to_owned()))?;
        let text = |name: &str| {
            let bytes = inside.read_small(format!("{directory}/{name}"), MAX_INDEX)?;
            Ok::<_, InsideError>(String::from_utf8_lossy(&bytes).into_owned())
        };
        let dep = text("modules.dep").map_err(|error| match error {
            InsideError::Missing(_) => InitramfsError::NoIndex(release.to_owned()),
            InsideError::Attributes(_)
            | InsideError::Io { .. }
            | InsideError::NotDirectory(_)
            | InsideError::NotFile(_)
            | InsideError::TooLarge { .. }
            | InsideError::TooMany { .. } => error.into(),
        })?;
        let lines = dep.lines().filter_map(|line| line.split_once(':'));
        let modules = lines.map(|(path, needs)| {
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            (name_of(path), (path.to_owned(), needs))
        });
        let modules = modules.collect();
        // A kernel with nothing built in, or without wishes, lacks these files.
        let builtin = text("modules.builtin").unwrap_or_default().lines().map(name_of).collect();
        let wishes = text("modules.softdep").unwrap_or_default().lines().filter_map(wish).collect();
        let aliases = text("modules.alias").unwrap_or_default();
        Ok(Self { release: release.to_owned(), directory, modules, builtin, wishes, aliases })
    }

    /// Whether there is something of that name, as a module or in the kernel itself.
    pub(super) fn has(&self, name: &str) -> bool {
        self.modules.contains_key(name) || self.builtin.contains(name)
    }

    /// Whether it is in the kernel itself.
    pub(super) fn has_built_in(&self, name: &str) -> bool {
        self.builtin.contains(name)
    }

    /// The names of the modules that `drivers` stands for and that are there.
    pub(super) fn drivers(&self, drivers: Drivers) -> Vec<String> {
        let named = drivers.names().filter(|name| self.has(name)).map(str::to_owned);
        let placed = self.modules.iter().filter(|(_, (path, _))| drivers.has_place(path));
        named.chain(placed.map(|(name, _)| name.clone())).collect()
    }

    /// Reads modules and all that they need, sorted by name; what is built in is left out.
    pub(super) fn gather(
        &self,
        inside: &Inside,
        wanted: impl IntoIterator<Item = String>,
    ) -> Result<Vec<Module>, InitramfsError> {
        let mut left: Vec<String> = wanted.into_iter().collect();
        let mut found = BTreeMap::new();
        let mut size = 0;
        while let Some(name) = left.pop() {
            if found.contains_key(&name) {
                continue;
            }
            let Some((path, needs)) = self.modules.get(&name) else { continue };
            let needs: Vec<String> = needs.iter().map(|path| name_of(path)).collect();
            left.extend(needs.iter().cloned());
            left.extend(self.wishes.get(&name).into_iter().flatten().cloned());
            let content = load(inside, &format!("{}/{path}", self.directory))?;
            size += content.len();
            if size > MAX_TOTAL {
                return Err(InitramfsError::Large);
            }
            found.insert(name.clone(), Module { name, content, needs });
        }
        Ok(found.into_values().collect())
    }

    /// The `modules.dep` of just these modules, which lie side by side.
    pub(super) fn dependencies(modules: &[Module]) -> String {
        let mut text = String::new();
        for Module { name, needs, .. } in modules {
            let _ = write!(text, "{name}.ko:");
            for need in needs {
                let _ = write!(text, " {need}.ko");
            }
            text.push('\n');
        }
        text
    }

    /// The `modules.alias` of just these modules: by it the kernel finds a device's driver.
    pub(super) fn aliases(&self, modules: &[Module]) -> String {
        let names: BTreeSet<&str> = modules.iter().map(|module| module.name.as_str()).collect();
        let mut text = String::new();
        for line in self.aliases.lines() {
            let target = line.strip_prefix("alias ").and_then(|line| line.rsplit_once(' '));
            if target.is_some_and(|(_, target)| names.contains(plain(target).as_str())) {
                text += line;
                text.push('\n');
            }
        }
        text
    }

    /// The kernel's release.
    pub(super) fn release(&self) -> &str {
        &self.release
    }

    /// Where the modules are in the boot environment.
    pub(super) fn directory(&self) -> &str {
        &self.directory
    }
}

/// The firmware that modules ask for and that the boot environment has, sorted by name.
pub(super) fn firmware(
    inside: &Inside,
    modules: &[Module],
) -> Result<Vec<Firmware>, InitramfsError> {
    let names: BTreeSet<&str> = modules.iter().flat_map(firmware_of).collect();
    let mut found = Vec::new();
    let mut size = 0;
    for name in names {
        let paths = ENDINGS.map(|ending| format!("/lib/firmware/{name}{ending}"));
        let is_file = |path: &&String| inside.metadata(path).is_ok_and(|found| found.is_file());
        // Most drivers know several versions, or do without.
        let Some(path) = paths.iter().find(is_file) else { continue };
        let content = load(inside, path)?;
        size += content.len();
        if size > MAX_TOTAL {
            return Err(InitramfsError::Large);
        }
        found.push(Firmware { name: name.to_owned(), content });
    }
    Ok(found)
}

/// The names of firmware in a module's `.modinfo`: strings that end in NUL, `firmware=NAME` each.
fn firmware_of(module: &Module) -> impl Iterator<Item = &str> {
    let words = module.content.split(|&byte| byte == 0);
    let names = words.filter_map(|word| word.strip_prefix(b"firmware="));
    names.filter_map(|name| std::str::from_utf8(name).ok()).filter(|name| {
        let part = |part: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+,".contains(&byte);
            !matches!(part, "" | "." | "..") && part.bytes().all(plain)
        };
        name.split('/').all(part)
    })
}

fn load(inside: &Inside, path: &str) -> Result<Vec<u8>, InitramfsError> {
    let bytes = inside.read_small(path, MAX_FILE)?;
    unpack(path, bytes, MAX_FILE).map_err(|source| {
        let path = path.to_owned();
        InitramfsError::Packed { path, source }
    })
}

/// A module's name by its path: the file's, with underscores and without what follows `.ko`.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    plain(file.split(".ko").next().unwrap_or(file))
}

fn plain(name: &str) -> String {
    name.replace('-', "_")
}

/// A line of modules.softdep: `softdep r8169 pre: realtek post: x`.
fn wish(line: &str) -> Option<(String, Vec<String>)> {
    let mut words = line.strip_prefix("softdep ")?.split_whitespace();
    let name = plain(words.next()?);
    Some((name, words.filter(|word| !word.ends_with(':')).map(plain).collect()))
}

/// The largest list of depmod's: a distribution's `modules.alias` has about 1.5 MiB.
const MAX_INDEX: usize = 16 << 20;
/// The largest module or firmware.
const MAX_FILE: usize = 64 << 20;
/// The most of either in one RAM disk: it has to fit into a machine's memory twice.
const MAX_TOTAL: usize = 256 << 20;
