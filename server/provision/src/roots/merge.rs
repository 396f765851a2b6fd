//! Configuration of three systems made one: what a template was, what a machine made of it, and what
//! the template is now.
//!
//! Files go in, and what is to be done with each comes out, so that it can be shown first. Only what
//! both have changed is read for that, if it may be text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hostfs::{Entry, EntryKind, Flags};
use serde::{Deserialize, Serialize};

use super::{form, identity};

/// The configuration of a system, by path without a slash at the beginning.
pub type Files = BTreeMap<PathBuf, Item>;

/// A file of a configuration.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Item {
    /// What it is, and whose.
    #[serde(with = "form::Entry")]
    pub entry: Entry,
    /// What is in it, if it is a regular file.
    pub content: Option<Content>,
    /// The SHA-256 of its extended attributes, access control lists among them, if it has any.
    pub extended: Option<[u8; 32]>,
    /// The same of its access control lists alone.
    pub list: Option<[u8; 32]>,
}

/// What is in a file, told apart from anything else.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Content {
    /// How much that is, in bytes.
    pub length: u64,
    /// Its SHA-256.
    pub digest: [u8; 32],
}

/// The texts of a file in the old template, the machine and the new template; empty where there is none.
pub type Texts = [Vec<u8>; 3];

/// What becomes of a file that is not the same in all three.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Step {
    /// The file.
    #[serde(with = "form::path")]
    pub path: PathBuf,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of a file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Fate {
    /// Both have changed it, each in its way: the machine's is kept, and the other lies beside it.
    Conflict {
        /// The machine's, unless it has none.
        own: Option<Item>,
        /// What lies beside it.
        beside: Beside,
    },
    /// The machine's is kept, or stays removed.
    Kept(Option<Item>),
    /// Both have changed it, in different places.
    Merged {
        /// Whose extended attributes it has.
        extended: Side,
        /// Mode, owner, group and flags.
        #[serde(with = "form::Entry")]
        entry: Entry,
        /// What is in it.
        text: Text,
    },
    /// The new template's is taken, or its removal: the machine had not touched it.
    Taken,
}

/// What is in a merged file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Text {
    /// This.
    Merged(Vec<u8>),
    /// What the new template has in it.
    New,
    /// What the machine has in it.
    Own,
}

/// One of the two whose changes are merged.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Side {
    /// The new template.
    New,
    /// The machine.
    Own,
}

/// What lies beside a machine's file that could not be merged.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Beside {
    /// Both versions, with marks where they differ.
    Marked(Vec<u8>),
    /// Nothing: the new template has none.
    Nothing,
    /// The new template's, with everything in it if it is a directory.
    Theirs,
}

/// Decides about every file that is not the same in all three, in the order of paths. `texts` reads
/// one in all three.
pub fn merge<E>(
    base: &Files,
    own: &Files,
    new: &Files,
    texts: impl FnMut(&Path) -> Result<Texts, E>,
) -> Result<Vec<Step>, E> {
    let mut paths: Vec<&PathBuf> = base.keys().chain(own.keys()).chain(new.keys()).collect();
    paths.sort();
    paths.dedup();
    let mut steps = Vec::new();
    Three { base, own, new, texts, rest: MAX_TEXTS }.forest(&paths, &mut steps)?;
    Ok(steps)
}

/// The three versions.
struct Three<'a, T> {
    base: &'a Files,
    own: &'a Files,
    new: &'a Files,
    texts: T,
    /// How much text may still be read, in bytes.
    rest: u64,
}

impl<E, T: FnMut(&Path) -> Result<Texts, E>> Three<'_, T> {
    /// Decides about trees, of which each begins with its root.
    fn forest(&mut self, mut paths: &[&PathBuf], steps: &mut Vec<Step>) -> Result<(), E> {
        while let [root, rest @ ..] = paths {
            let below = rest.iter().take_while(|path| path.starts_with(root)).count();
            let (below, others) = rest.split_at(below);
            self.tree(root, below, steps)?;
            paths = others;
        }
        Ok(())
    }

    /// Decides about a name, and what is below it. A file or a link on the one side and a directory on
    /// the other are one name that was changed as a whole: nothing of the one goes into the other.
    fn tree(&mut self, path: &PathBuf, below: &[&PathBuf], steps: &mut Vec<Step>) -> Result<(), E> {
        let [base, own, new] = [self.base, self.own, self.new].map(|files| files.get(path));
        let mut inside = Vec::new();
        let fate = match (own, new) {
            (Some(own), Some(new)) if is_dir(own) && is_dir(new) => {
                self.forest(below, &mut inside)?;
                directory(base.filter(|base| is_dir(base)), own, new)
            }
            (Some(dir), new) if is_dir(dir) => {
                let unchanged = same(self.base, self.own, path);
                if unchanged || base == new || (new.is_none() && base.is_some_and(is_dir)) {
                    self.forest(below, &mut inside)?;
                    // The template's directory has come and gone with what is in it.
                    let touched = if unchanged { Fate::Taken } else { Fate::Kept(own.cloned()) };
                    (new.is_some() || base == new).then_some(touched)
                } else {
                    inside.extend(below.iter().filter_map(|path| {
                        let own = Some(self.own.get(*path)?.clone());
                        Some(Step { path: (*path).clone(), fate: Fate::Kept(own) })
                    }));
                    Some(conflict(own, new))
                }
            }
            (own, Some(dir)) if is_dir(dir) => {
                if own == base {
                    self.forest(below, &mut inside)?;
                    own.map(|_| Fate::Taken)
                } else if own.is_none() && base.is_some_and(is_dir) {
                    self.forest(below, &mut inside)?;
                    let gone = |step: &Step| step.fate == Fate::Kept(None);
                    inside.iter().all(gone).then_some(Fate::Kept(None))
                } else if same(self.base, self.new, path) {
                    Some(Fate::Kept(own.cloned()))
                } else {
                    Some(conflict(own, new))
                }
            }
            (own, new) => {
                self.forest(below, &mut inside)?;
                self.file(path, base, own, new)?
            }
        };
        steps.extend(fate.map(|fate| Step { path: path.clone(), fate }));
        steps.append(&mut inside);
        Ok(())
    }

    /// Decides about a name at which neither the machine nor the new template has a directory.
    fn file(
        &mut self,
        path: &Path,
        base: Option<&Item>,
        own: Option<&Item>,
        new: Option<&Item>,
    ) -> Result<Option<Fate>, E> {
        if own == new {
            return Ok(None);
        }
        if identity::is_of_machine(path) {
            return Ok(Some(Fate::Kept(own.cloned())));
        }
        if own == base || DERIVED.iter().any(|derived| path == Path::new(derived)) {
            return Ok(Some(Fate::Taken));
        }
        if new == base {
            return Ok(Some(Fate::Kept(own.cloned())));
        }
        let (Some(own), Some(new)) = (own, new) else { return Ok(Some(conflict(own, new))) };
        self.both(path, base, own, new).map(Some)
    }

    /// Merges what both have changed: what is in it line by line, if that is text.
    fn both(
        &mut self,
        path: &Path,
        base: Option<&Item>,
        own: &Item,
        new: &Item,
    ) -> Result<Fate, E> {
        let before = base.and_then(|base| base.content.as_ref());
        let (Some(mine), Some(theirs)) = (&own.content, &new.content) else {
            return Ok(conflict(Some(own), Some(new)));
        };
        let (entry, extended) = attributes(base, own, new);
        if mine == theirs || Some(theirs) == before {
            return Ok(if extended == Side::Own || own.extended == new.extended {
                Fate::Kept(Some(Item { entry, ..own.clone() }))
            } else {
                Fate::Merged { entry, extended, text: Text::Own }
            });
        }
        if Some(mine) == before {
            return Ok(Fate::Merged { entry, extended, text: Text::New });
        }
        let lengths = [before, Some(mine), Some(theirs)].map(|one| one.map_or(0, |one| one.length));
        let long = lengths.iter().any(|length| *length > MAX_TEXT);
        let Some(rest) = self.rest.checked_sub(lengths.iter().sum()).filter(|_| !long) else {
            return Ok(conflict(Some(own), Some(new)));
        };
        self.rest = rest;
        let texts = (self.texts)(path)?;
        if texts.iter().any(|text| text.contains(&0)) {
            return Ok(conflict(Some(own), Some(new)));
        }
        let [old, mine, theirs] = texts;
        Ok(match diffy::merge_bytes(&old, &mine, &theirs) {
            Ok(text) => Fate::Merged { entry, extended, text: Text::Merged(text) },
            Err(marked) => {
                Fate::Conflict { own: Some(own.clone()), beside: Beside::Marked(marked) }
            }
        })
    }
}

fn is_dir(item: &Item) -> bool {
    item.entry.kind == EntryKind::Directory
}

/// Whether a name and all that is below it are the same in two versions.
fn same(one: &Files, other: &Files, path: &PathBuf) -> bool {
    below(one, path).eq(below(other, path))
}

fn below<'a>(files: &'a Files, path: &'a PathBuf) -> impl Iterator<Item = (&'a PathBuf, &'a Item)> {
    files.range::<PathBuf, _>(path..).take_while(move |(known, _)| known.starts_with(path))
}

fn conflict(own: Option<&Item>, new: Option<&Item>) -> Fate {
    let beside = if new.is_some() { Beside::Theirs } else { Beside::Nothing };
    Fate::Conflict { own: own.cloned(), beside }
}

/// Decides about a directory that both still have, apart from what is in it.
fn directory(base: Option<&Item>, own: &Item, new: &Item) -> Option<Fate> {
    let (entry, extended) = attributes(base, own, new);
    let listed = if extended == Side::Own { own.extended } else { new.extended };
    (entry != new.entry || listed != new.extended).then(|| {
        match entry == own.entry && listed == own.extended {
            true => Fate::Kept(Some(own.clone())),
            false => Fate::Merged { entry, extended, text: Text::New },
        }
    })
}

/// Mode, owner, group and flags: of each, what the machine made of it, else what the new template has; and whose
/// extended attributes go with that.
///
/// The mode of a file with an access control list shows its mask in the place of the group (acl(5)), so that neither
/// says anything without the other: where the lists differ, both are the machine's or both the new template's, the
/// machine's if it has changed one of them.
fn attributes(base: Option<&Item>, own: &Item, new: &Item) -> (Entry, Side) {
    let base = base.unwrap_or(new);
    let old = &base.entry;
    let chosen = own.entry.mode != old.mode && own.list != new.list;
    let side = if own.extended != base.extended || chosen { Side::Own } else { Side::New };
    let changed = |field: fn(&Entry) -> u32| {
        let (old, own, new) = (field(old), field(&own.entry), field(&new.entry));
        if own == old { new } else { own }
    };
    let mode = match side {
        _ if own.list == new.list => changed(|entry| entry.mode),
        Side::Own => own.entry.mode,
        Side::New => new.entry.mode,
    };
    let entry = Entry {
        kind: new.entry.kind.clone(),
        mode,
        uid: changed(|entry| entry.uid),
        gid: changed(|entry| entry.gid),
        flags: Flags::from_bits(changed(|entry| entry.flags.bits())),
    };
    (entry, side)
}

/// What a system computes from other files and from what is installed: only the new template's fits.
const DERIVED: [&str; 2] = ["etc/ld.so.cache", "etc/udev/hwdb.bin"];

/// The longest text that is merged, in bytes: how long that takes grows faster than the text.
const MAX_TEXT: u64 = 1 << 18;

/// How much text of one upgrade is merged, in bytes: more than any administrator has edited.
const MAX_TEXTS: u64 = 64 << 20;

#[cfg(test)]
mod test {
    use sha2::{Digest, Sha256};

    use super::*;

    fn item(text: &str) -> Item {
        let kind = EntryKind::File;
        let entry = Entry { kind, mode: 0o644, uid: 0, gid: 0, flags: Flags::default() };
        let length = u64::try_from(text.len()).unwrap();
        let content = Some(Content { length, digest: Sha256::digest(text).into() });
        Item { entry, content, extended: None, list: None }
    }

    fn merged(text: &str) -> Option<Fate> {
        let extended = Side::New;
        let text = Text::Merged(text.into());
        Some(Fate::Merged { entry: item("").entry, extended, text })
    }

    /// What becomes of a file that is so in the old template, the machine and the new template.
    fn fate(path: &str, three: [Option<&str>; 3]) -> Option<Fate> {
        let files = |text: Option<&str>| {
            text.map(|text| (PathBuf::from(path), item(text))).into_iter().collect::<Files>()
        };
        let [base, own, new] = three.map(files);
        let texts = |_: &Path| Ok::<_, ()>(three.map(|text| text.unwrap_or_default().into()));
        let mut steps = merge(&base, &own, &new, texts).unwrap();
        assert!(steps.len() <= 1);
        steps.pop().map(|step| step.fate)
    }

    #[test]
    fn what_one_side_changed_is_as_that_side_has_it() {
        let kept = |text| Some(Fate::Kept(Some(item(text))));
        assert_eq!(fate("etc/motd", [Some("a"), Some("a"), Some("a")]), None);
        assert_eq!(fate("etc/motd", [Some("a"), Some("a"), Some("b")]), Some(Fate::Taken));
        assert_eq!(fate("etc/motd", [Some("a"), Some("a"), None]), Some(Fate::Taken));
        assert_eq!(fate("etc/motd", [None, None, Some("b")]), Some(Fate::Taken));
        assert_eq!(fate("etc/motd", [Some("a"), Some("b"), Some("a")]), kept("b"));
        assert_eq!(fate("etc/motd", [None, Some("b"), None]), kept("b"));
        assert_eq!(fate("etc/motd", [Some("a"), None, Some("a")]), Some(Fate::Kept(None)));
        assert_eq!(fate("etc/motd", [Some("a"), Some("b"), Some("b")]), None);
        assert_eq!(fate("etc/motd", [Some("a"), None, None]), None);
    }

    #[test]
    fn different_lines_are_merged() {
        let (old, own, new) = ("a\nb\nc\nd\ne\n", "A\nb\nc\nd\ne\n", "a\nb\nc\nd\nE\n");
        let found = fate("etc/rc.conf", [Some(old), Some(own), Some(new)]);
        assert_eq!(found, merged("A\nb\nc\nd\nE\n"));
    }

    #[test]
    fn the_same_line_is_a_conflict_and_nothing_of_it_is_lost() {
        let found = fate("etc/rc.conf", [Some("a\n"), Some("mine\n"), Some("theirs\n")]);
        let Some(Fate::Conflict { own: Some(own), beside: Beside::Marked(beside) }) = found else {
            panic!("{found:?}");
        };
        let marked = String::from_utf8(beside).unwrap();
        assert_eq!(own, item("mine\n"));
        assert!(marked.contains("mine\n") && marked.contains("theirs\n"), "{marked}");
    }

    #[test]
    fn what_is_no_text_is_not_merged() {
        let found = fate("etc/db", [Some("a\0\n"), Some("b\0\n"), Some("a\0\nc\n")]);
        let own = Some(item("b\0\n"));
        assert_eq!(found, Some(Fate::Conflict { own, beside: Beside::Theirs }));
    }

    #[test]
    fn removed_by_one_and_changed_by_the_other_is_a_conflict() {
        let conflict =
            |own: Option<&str>, beside| Some(Fate::Conflict { own: own.map(item), beside });
        let (nothing, theirs) = (Beside::Nothing, Beside::Theirs);
        assert_eq!(fate("etc/x", [Some("a"), Some("b"), None]), conflict(Some("b"), nothing));
        assert_eq!(fate("etc/x", [Some("a"), None, Some("b")]), conflict(None, theirs));
    }

    #[test]
    fn a_machine_stays_who_it_is() {
        for path in ["etc/machine-id", "etc/ssh/ssh_host_rsa_key", "etc/hostname"] {
            let kept = Some(Fate::Kept(Some(item("own"))));
            assert_eq!(fate(path, [Some("old"), Some("own"), Some("new")]), kept, "{path}");
        }
        assert_eq!(fate("etc/hostid", [Some("old"), None, Some("new")]), Some(Fate::Kept(None)));
    }

    #[test]
    fn what_is_computed_from_what_is_installed_is_the_new_templates() {
        let found = fate("etc/ld.so.cache", [Some("a"), Some("b"), Some("c")]);
        assert_eq!(found, Some(Fate::Taken));
    }

    #[test]
    fn a_mode_that_one_changed_goes_with_what_the_other_put_into_it() {
        let with = |mode, text| {
            let item = Item { entry: Entry { mode, ..item("").entry }, ..item(text) };
            Files::from([(PathBuf::from("etc/x"), item)])
        };
        let (old, new) = (with(0o644, "a\0"), with(0o644, "b\0"));
        let none = |_: &Path| Err(());
        let steps = merge(&old, &with(0o600, "a\0"), &new, none).unwrap();
        let entry = Entry { mode: 0o600, ..item("").entry };
        assert_eq!(
            steps[0].fate,
            Fate::Merged { entry: entry.clone(), extended: Side::New, text: Text::New }
        );
        let steps = merge(&old, &new, &with(0o600, "a\0"), none).unwrap();
        assert_eq!(steps[0].fate, Fate::Kept(Some(Item { entry, ..item("b\0") })));
    }

    #[test]
    fn a_mode_and_the_list_whose_mask_it_shows_are_of_one_side() {
        let (old, none, own, new) = (Some([1; 32]), None, Some([2; 32]), Some([3; 32]));
        let with = |mode, list: Option<[u8; 32]>, text| {
            let entry = Entry { mode, ..item("").entry };
            Files::from([(
                PathBuf::from("etc/x"),
                Item { entry, extended: list, list, ..item(text) },
            )])
        };
        let fate = |three: [Files; 3]| {
            let [base, own, new] = three;
            merge(&base, &own, &new, |_: &Path| Err(())).unwrap().pop().unwrap().fate
        };
        let entry = |mode| Entry { mode, ..item("").entry };
        let kept = |mode, list, text| {
            Fate::Kept(Some(Item { entry: entry(mode), extended: list, list, ..item(text) }))
        };
        let merged = |mode, extended, text| Fate::Merged { entry: entry(mode), extended, text };
        // The template takes back what it allowed, and the machine changed the text only.
        let three = [with(0o640, old, "a"), with(0o640, old, "b"), with(0o600, none, "a")];
        assert_eq!(fate(three), merged(0o600, Side::New, Text::Own));
        let three = [with(0o644, none, "a"), with(0o644, none, "b"), with(0o640, new, "a")];
        assert_eq!(fate(three), merged(0o640, Side::New, Text::Own));
        // The machine has a list of its own, whether the mode shows it or not.
        for mode in [0o644, 0o664] {
            let three = [with(0o644, none, "a"), with(mode, own, "a"), with(0o644, none, "b")];
            assert_eq!(fate(three), merged(mode, Side::Own, Text::New));
            let three = [with(0o644, none, "a"), with(mode, own, "a"), with(0o600, new, "a")];
            assert_eq!(fate(three), kept(mode, own, "a"));
        }
        // It has closed the file, and the template's list would open it.
        let three = [with(0o644, none, "a"), with(0o600, none, "a"), with(0o664, new, "a")];
        assert_eq!(fate(three), kept(0o600, none, "a"));
    }

    #[test]
    fn no_more_text_is_read_than_anybody_has_edited() {
        let text = |letter: &str| letter.repeat(1 << 18);
        let files = |letter: &str| {
            (0..200).map(|number| (format!("etc/{number}").into(), item(&text(letter)))).collect()
        };
        let (own, new): (Files, Files) = (files("a"), files("b"));
        let mut read = 0;
        let steps = merge(&Files::new(), &own, &new, |_| {
            read += 1;
            Ok::<_, ()>([String::new(), text("a"), text("b")].map(String::into_bytes))
        });
        assert_eq!((steps.unwrap().len(), read), (200, 128));
    }
}
