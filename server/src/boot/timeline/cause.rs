//! The causes of failures that can be told from the network, each a word that stays.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What keeps a machine from going on.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Another machine uses its address.
    AddressInUse,
    /// It was refused the address that it asked for.
    AddressRefused,
    /// Large frames are lost on the way.
    FramesLost,
    /// A file that it needs is not there.
    FileMissing,
    /// It may not have a file that it asked for.
    FileRefused,
    /// A file of the host cannot be read.
    FileUnreadable,
    /// It took the address that another DHCP server gave.
    ForeignServer,
    /// Its requests by HTTP do not arrive.
    HttpBlocked,
    /// Its kernel is empty or no kernel.
    KernelBroken,
    /// Its kernel said that it stops.
    KernelPanicked,
    /// Its kernel was sent and nothing came from it.
    KernelSilent,
    /// Its loader is empty or no program.
    LoaderBroken,
    /// Its loader is for other firmware.
    LoaderForeign,
    /// Its loader was sent whole and asked for nothing.
    LoaderSilent,
    /// It starts again and again.
    Looping,
    /// It ran, and is silent.
    Lost,
    /// A mount was refused.
    MountRefused,
    /// Nothing was ever heard of it.
    NeverHeard,
    /// It mounted its root and no call for a file came.
    NfsBlocked,
    /// A call for a file was refused.
    NfsRefused,
    /// No address was left for it, or it could not be given one.
    NoAddress,
    /// Its root holds no first program.
    NoInit,
    /// Its system has an address and did not mount its root.
    NoMount,
    /// It asks for an address and is offered none.
    NotOffered,
    /// It was offered an address and did not take it.
    OfferUnanswered,
    /// It writes to a root that it may only read.
    ReadOnlyRoot,
    /// It boots nothing from here, for a reason.
    Refused,
    /// Its script was sent, and it asked for no kernel.
    ScriptSilent,
    /// It used its root, never ran, and fell silent.
    Stopped,
    /// It refuses the terms of every transfer.
    TermsRefused,
    /// It does not acknowledge the terms of a transfer.
    TermsUnanswered,
    /// Its requests by TFTP do not arrive.
    TftpBlocked,
    /// A transfer ended before the file's end.
    TransferFailed,
    /// Two machines have its Ethernet address.
    TwoMachines,
    /// It was not heard of since the server was started.
    Unheard,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The words that serde writes, so that they stand in one place.
        self.serialize(f)
    }
}
