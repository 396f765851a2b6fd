//! What a verb is about to do: said before it is done with -v, and instead of being done with -n.

use std::fmt::Display;

use clap::Args;
use provision::terminal;

use super::{Reply, Site};

/// The flag of verbs that change something.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Dry {
    /// Change nothing: print what would be done, or why it would be refused.
    #[arg(short = 'n', long)]
    dry_run: bool,
}

impl Dry {
    /// Whether nothing may be changed.
    pub(crate) const fn is_dry(self) -> bool {
        self.dry_run
    }

    /// Says what is about to be done, in words as `create head`. With -n that is the reply, and the verb
    /// ends with it.
    pub(crate) fn instead(self, site: &Site, deed: impl Display) -> Option<Reply> {
        self.instead_of(site, &[deed])
    }

    /// The same, of several steps.
    pub(crate) fn instead_of(self, site: &Site, deeds: &[impl Display]) -> Option<Reply> {
        tell(site, deeds)
    }
}

/// Says what is about to be done. With -n that is the reply, and the verb ends with it.
pub(super) fn tell(site: &Site, deeds: &[impl Display]) -> Option<Reply> {
    if site.dry {
        let lines = deeds.iter().map(|deed| format!("would {deed}\n"));
        return Some(Reply::text(lines.collect::<String>()));
    }
    if site.is_verbose() {
        deeds.iter().for_each(|deed| terminal::say(&deed.to_string()));
    }
    None
}
