//! The verbs that are disturbed.

use super::Medium;

/// A verb, and what there is when it is run.
pub(super) struct Verb {
    /// What is made for it beside what each has.
    pub(super) prepared: &'static str,
    /// Its words, which the shell reads.
    pub(super) words: &'static str,
    /// What a person does about what it may leave between before and after: that is whole, and `netbe list` or
    /// `netbe machine list` shows it.
    pub(super) then: &'static str,
    /// On what it is tried: elsewhere it is refused.
    pub(super) on: &'static [Medium],
}

const fn verb(prepared: &'static str, words: &'static str) -> Verb {
    Verb { prepared, words, then: "", on: &[Medium::Dir, Medium::Btrfs, Medium::Zfs] }
}

impl Verb {
    const fn then(self, then: &'static str) -> Self {
        Self { then, ..self }
    }

    const fn on(self, on: &'static [Medium]) -> Self {
        Self { on, ..self }
    }
}

pub(super) const VERBS: &[Verb] = &[
    verb("", "create -l linux new"),
    verb("", "clone head@1 new"),
    verb("", "snapshot head@3"),
    verb("", "rename copy moved"),
    verb("", "promote copy"),
    verb("", "rollback -r head@1"),
    verb("", "destroy copy"),
    verb("", "destroy head@2"),
    verb("", "set note=-x head"),
    verb("", "set sync=always head"),
    verb("", "set compression=zstd head").on(&[Medium::Btrfs, Medium::Zfs]),
    verb("", "set quota=1G head").on(&[Medium::Zfs]),
    verb("", "sharenfs --ro head"),
    verb("netbe send head@1 >input", "receive new <input"),
    verb(
        "netbe send head@1 | netbe receive got; netbe send -i @1 head@2 >input",
        "receive got <input",
    ),
    verb(
        "netbe send head@1 | netbe receive got; netbe send -i @1 head@2 >input",
        "receive -F got <input",
    ),
    verb("within head 'mkdir -p etc root usr/local var; echo x >etc/rc.conf'", "thin head"),
    verb("within head 'tar -cf \"$HERE/input\" .'", "install -l flat -o tar -p input new"),
    verb("", "machine add --mac=02:00:00:00:00:07 desk"),
    verb(DESK, "machine rename desk tower"),
    verb(
        "netbe machine add --mac=02:00:00:00:00:07 desk",
        "sharepxe --machine=desk --root=own head",
    )
    .then("netbe sharepxe --machine=desk --root=own head"),
    verb(DESK, "machine reset desk").then(ONE_ROOT),
    verb(DESK, "upgrade desk head").then(ONE_ROOT),
    verb(DESK, "machine keep desk kept"),
];

/// Of two roots the one goes that the machine is not to boot.
const ONE_ROOT: &str = "netbe destroy desk-head-2 || netbe destroy desk-head";

const DESK: &str = "netbe machine add --mac=02:00:00:00:00:07 desk
netbe sharepxe --machine=desk --root=own head
within desk-head 'echo mine >home/own'; within head 'echo new >home/news'";
