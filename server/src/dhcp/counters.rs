//! How many messages came to what.

use super::reply::{Action, Silence};

/// How many messages came to what, since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// All that were received.
    pub received: u64,
    /// Answered.
    pub answered: u64,
    /// Not DHCP, or not from a client.
    pub garbage: u64,
    /// Got no address because none was left.
    pub exhausted: u64,
    /// Chose another server.
    pub lost: u64,
}

impl Counters {
    pub(super) fn count(&mut self, action: &Action) {
        let counter = match action {
            Action::Commit(commit) if commit.reply.is_some() => &mut self.answered,
            Action::Send(_) => &mut self.answered,
            Action::Silence(Silence::Garbage) => &mut self.garbage,
            Action::Silence(Silence::Exhausted) => &mut self.exhausted,
            Action::Silence(Silence::OtherServer(_)) => &mut self.lost,
            Action::Commit(_)
            | Action::Silence(
                Silence::Failed
                | Silence::NotOurs
                | Silence::Nothing
                | Silence::Passive
                | Silence::Unknown,
            ) => return,
        };
        *counter = counter.saturating_add(1);
    }
}
