//! The lifecycle of one boot environment's export: a state machine without I/O.
//!
//! | state | NFS | ends by |
//! |---|---|---|
//! | serving | answers | a hold, a closed or unlisted tree, a decision |
//! | held: a command works on the tree | `NFS3ERR_JUKEBOX` | the command's end |
//! | waiting: the store does not show it | `NFS3ERR_JUKEBOX` | its files being opened, a decision |
//! | gone: somebody destroyed it or took it out of use | `NFS3ERR_STALE` | its being served again |
//!
//! A client never asks again for what is stale (RFC 1813 §2.6), so that only [`Event::Ended`], a
//! decision that somebody took, makes an environment gone. No error does, and no listing.

use std::sync::Arc;

/// Why an environment waits, as a sentence for the administrator.
pub type Reason = Arc<str>;

/// Something that happened to an environment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event<E> {
    /// Its files were closed, and can be opened again only later.
    Closed(Reason),
    /// Somebody destroyed it or took it out of use.
    Ended,
    /// What is written down about it, or its files, could not be read just now. What is open of it
    /// stays in service.
    Failed(Reason),
    /// A command begins to work on its tree.
    Held,
    /// Its files were opened.
    Opened(E),
    /// A command that held it has ended.
    Resumed,
    /// The store did not name it.
    Unlisted(Reason),
}

/// The state machine of one environment's export.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lifecycle<E> {
    phase: Phase<E>,
    /// How many commands hold it.
    holds: u32,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Phase<E> {
    Open(E),
    Waiting(Reason),
    Gone,
}

/// The state of an environment's export.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State<'a, E> {
    /// Calls are answered.
    Serving(&'a E),
    /// A command works on it.
    Held,
    /// Its files cannot be had just now.
    Waiting(&'a Reason),
    /// Somebody destroyed it or took it out of use; only a later decision brings it back.
    Gone,
}

impl<E> Lifecycle<E> {
    /// An environment of which nothing is known but that it exists.
    #[must_use]
    pub const fn unknown(reason: Reason) -> Self {
        Self { phase: Phase::Waiting(reason), holds: 0 }
    }

    /// The state of the export.
    pub const fn state(&self) -> State<'_, E> {
        match (&self.phase, self.holds) {
            (Phase::Gone, _) => State::Gone,
            (Phase::Open(export), 0) => State::Serving(export),
            (Phase::Waiting(reason), 0) => State::Waiting(reason),
            (Phase::Open(_) | Phase::Waiting(_), _) => State::Held,
        }
    }

    /// What is open of it, whether it is served or held.
    pub const fn open(&self) -> Option<&E> {
        match &self.phase {
            Phase::Open(export) => Some(export),
            Phase::Waiting(_) | Phase::Gone => None,
        }
    }

    /// Whether a command holds it.
    pub const fn is_held(&self) -> bool {
        self.holds > 0
    }

    /// Takes an event; returns the export that is not open any more because of it.
    pub fn take(&mut self, event: Event<E>) -> Option<E> {
        let next = match event {
            Event::Held => {
                self.holds = self.holds.saturating_add(1);
                return None;
            }
            Event::Resumed => {
                self.holds = self.holds.saturating_sub(1);
                return None;
            }
            // A listing from before the hold; nothing of it may be open below the command.
            Event::Opened(export) if self.holds > 0 => return Some(export),
            Event::Opened(export) => Phase::Open(export),
            Event::Ended => Phase::Gone,
            Event::Failed(_) if self.open().is_some() => return None,
            Event::Closed(_) | Event::Failed(_) | Event::Unlisted(_) if self.phase_is_gone() => {
                return None;
            }
            Event::Closed(reason) | Event::Failed(reason) | Event::Unlisted(reason) => {
                Phase::Waiting(reason)
            }
        };
        match std::mem::replace(&mut self.phase, next) {
            Phase::Open(export) => Some(export),
            Phase::Waiting(_) | Phase::Gone => None,
        }
    }

    const fn phase_is_gone(&self) -> bool {
        matches!(self.phase, Phase::Gone)
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn why(text: &str) -> Reason {
        Reason::from(text)
    }

    /// An environment to which this has happened.
    fn after(events: impl IntoIterator<Item = Event<u8>>) -> Lifecycle<u8> {
        let mut lifecycle = Lifecycle::unknown(why("never heard of"));
        for event in events {
            lifecycle.take(event);
        }
        lifecycle
    }

    /// Every event, and which of them is a decision.
    fn events() -> [Event<u8>; 7] {
        [
            Event::Closed(why("away")),
            Event::Ended,
            Event::Failed(why("broken")),
            Event::Held,
            Event::Opened(2),
            Event::Resumed,
            Event::Unlisted(why("unlisted")),
        ]
    }

    #[test]
    fn nothing_but_a_decision_makes_an_environment_gone() {
        // Every sequence of four events.
        for number in 0..events().len().pow(4) {
            let chosen = (0..4).map(|place| {
                let all = events();
                all[number / all.len().pow(place) % all.len()].clone()
            });
            let chosen: Vec<_> = chosen.collect();
            let gone = after(chosen.clone()).state() == State::Gone;
            assert!(!gone || chosen.contains(&Event::Ended), "{chosen:?}");
        }
    }

    #[test]
    fn what_is_open_is_served_on_while_the_store_cannot_be_read() {
        let lifecycle = after([Event::Opened(1), Event::Failed(why("broken"))]);
        assert_eq!(lifecycle.state(), State::Serving(&1));
        let lifecycle = after([Event::Failed(why("broken"))]);
        assert_eq!(lifecycle.state(), State::Waiting(&why("broken")));
    }

    #[test]
    fn what_no_listing_names_waits_until_it_is_opened_again() {
        let mut lifecycle = after([Event::Opened(1)]);
        assert_eq!(lifecycle.take(Event::Unlisted(why("unlisted"))), Some(1));
        assert_eq!(lifecycle.state(), State::Waiting(&why("unlisted")));
        assert_eq!(lifecycle.take(Event::Opened(2)), None);
        assert_eq!(lifecycle.state(), State::Serving(&2));
    }

    #[test]
    fn a_hold_that_is_undone_serves_what_was_open() {
        let mut lifecycle = after([Event::Opened(1), Event::Held]);
        assert_eq!(lifecycle.state(), State::Held);
        assert_eq!(lifecycle.take(Event::Resumed), None);
        assert_eq!(lifecycle.state(), State::Serving(&1));
    }

    #[test]
    fn nothing_is_opened_under_a_hold() {
        let mut lifecycle = after([Event::Opened(1), Event::Held]);
        assert_eq!(lifecycle.take(Event::Closed(why("held"))), Some(1));
        assert_eq!(lifecycle.take(Event::Opened(2)), Some(2));
        assert_eq!((lifecycle.state(), lifecycle.open()), (State::Held, None));
        lifecycle.take(Event::Held);
        lifecycle.take(Event::Resumed);
        assert_eq!(lifecycle.state(), State::Held, "another command still works on it");
        lifecycle.take(Event::Resumed);
        assert_eq!(lifecycle.state(), State::Waiting(&why("held")));
    }

    #[test]
    fn what_was_destroyed_stays_gone_until_it_is_served_again() {
        let mut lifecycle = after([Event::Opened(1), Event::Held, Event::Ended, Event::Resumed]);
        for event in [Event::Failed(why("x")), Event::Unlisted(why("x")), Event::Closed(why("x"))] {
            lifecycle.take(event);
            assert_eq!(lifecycle.state(), State::Gone);
        }
        lifecycle.take(Event::Opened(2));
        assert_eq!(lifecycle.state(), State::Serving(&2));
    }
}
