//! Words of zfs(8) and bectl(8) that mean something here by another name, or need not be said.

/// What is to be said here in the place of a flag that zfs(8) or bectl(8) has for a verb: the rest of a
/// sentence.
pub(super) fn flag(verb: &str, flag: &str) -> Option<&'static str> {
    let known = FLAGS.iter().find(|(of, known, _)| *known == flag && of.contains(&verb));
    known.map(|(_, _, ours)| *ours)
}

/// The verb here for one of zfs(8), bectl(8) or a shell.
pub(super) fn verb(word: &str) -> Option<&'static str> {
    VERBS.iter().find(|(known, _)| *known == word).map(|(_, ours)| *ours)
}

type Flag = (&'static [&'static str], &'static str, &'static str);

/// Verbs, a flag that others have for them, and what is said of it here.
const FLAGS: [Flag; 30] = [
    (&["create", "clone", "snapshot", "rename"], "-r", WHOLE),
    (&["destroy"], "-r", "leave it out: snapshots go with their boot environment"),
    (&["destroy"], "-R", "did you mean `netbe promote CLONE`, which makes clones independent?"),
    (&["destroy"], "-F", "did you mean -f?"),
    (&["destroy"], "-o", "leave it out, and destroy the origin by its name"),
    (&["destroy"], "-d", "leave it out: destroying what is in use is refused unless you give -f"),
    (&["create", "clone", "snapshot", "receive"], "-o", PROPERTIES),
    (&["create", "clone", "rename"], "-p", "leave it out: names have no parent data sets"),
    (&["create"], "-V", "leave it out: boot environments are file systems, and have no volumes"),
    (&["create", "rename", "receive"], "-u", "leave it out: `netbe mount` alone mounts"),
    (&["list"], "-t", "did you mean -s, which lists snapshots too?"),
    (&["list"], "-r", "did you mean -a, which lists data sets too?"),
    (&["list"], "-d", "did you mean -a, which lists data sets too?"),
    (&["get"], "-r", "leave it out: a boot environment has its properties as a whole"),
    (&["get"], "-s", "did you mean -o property,value,source?"),
    (&["rollback"], "-R", "did you mean -r, and `netbe promote CLONE` for clones?"),
    (&["rollback"], "-F", "did you mean -f?"),
    (&["send"], "-R", WHOLE),
    (&["send"], "-r", WHOLE),
    (&["send"], "-I", "did you mean -i, once for each snapshot between?"),
    (&["send"], "-p", "leave it out: properties go with every stream"),
    (&["send"], "-c", STORED),
    (&["send"], "-L", STORED),
    (&["send"], "-e", STORED),
    (&["send"], "-w", "leave it out: encrypted data are sent raw by themselves"),
    (&["receive"], "-d", "leave it out: give the name of the boot environment"),
    (&["receive"], "-s", "leave it out: a stream that breaks off leaves nothing"),
    (&["unmount", "mount"], "-a", "leave it out: give the name of the boot environment"),
    (&["mount"], "-o", "leave it out: snapshots are mounted read-only, devices do not work"),
    (&["activate"], "-r", "leave it out: it takes effect at the machine's next boot"),
];

const WHOLE: &str = "leave it out: data sets are always taken as a whole";
const STORED: &str = "leave it out: blocks go as they are stored where that can be";
const PROPERTIES: &str = "did you mean `netbe set NAME=VALUE BE`?";

/// Words of others, and the verb here.
const VERBS: [(&str, &str); 19] = [
    ("add", "machine add"),
    ("attach", "console"),
    ("bookmark", "snapshot"),
    ("cp", "clone"),
    ("delete", "destroy"),
    ("events", "log"),
    ("export", "send"),
    ("import", "receive"),
    ("inherit", "set NAME="),
    ("ls", "list"),
    ("mv", "rename"),
    ("remove", "destroy"),
    ("restore", "rollback"),
    ("rm", "destroy"),
    ("share", "sharenfs"),
    ("poweroff", "stop"),
    ("shutdown", "stop"),
    ("unjail", "stop"),
    ("unshare", "sharenfs --off"),
];
