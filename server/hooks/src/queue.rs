//! Events whose hooks are still to be run: a bounded queue in which a machine's events stay in order, while those of
//! another machine pass a hook that hangs.

use std::collections::{BTreeSet, HashSet, VecDeque};

use crate::Event;

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<Event>,
    /// The machines whose hooks run.
    busy: HashSet<String>,
    lost: Lost,
}

/// Events that found no room since all of them had some.
#[derive(Debug, Default)]
struct Lost {
    count: u64,
    /// The first of the machines that they are of.
    machines: BTreeSet<String>,
    /// Whether it was said that there are some.
    said: bool,
}

impl Queue {
    /// Takes an event. One of the same kind that waits for the same machine is replaced if nothing happened between
    /// them. A machine that has more events waiting than it may loses the first of them that comes again later, so that
    /// one whose hooks hang takes no room from others, and the last of each kind is told: what `up` made, `lost` removes.
    /// Without room an event of a machine without a name has to go, this one or another.
    pub(crate) fn push(&mut self, event: Event) {
        let before = self.waiting.iter_mut().rev().find(|before| before.machine == event.machine);
        if let Some(before) = before.filter(|before| before.event == event.event) {
            *before = event;
            return;
        }
        let own = |waiting: &&Event| waiting.machine == event.machine;
        let drops = if self.waiting.iter().filter(own).count() >= MOST_OF_ONE {
            Some(self.first_repeated(&event))
        } else if self.waiting.len() >= MOST {
            let stranger = self.waiting.iter().rposition(|waiting| !waiting.named);
            let Some(stranger) = stranger.filter(|_| event.named) else {
                self.lost.note(&event);
                return;
            };
            Some(stranger)
        } else {
            None
        };
        if let Some(dropped) = drops.and_then(|at| self.waiting.remove(at)) {
            self.lost.note(&dropped);
        }
        self.waiting.push_back(event);
    }

    /// The first event of a machine none of whose hooks run. [`Queue::done`] has to follow.
    pub(crate) fn take(&mut self) -> Option<Event> {
        let next = self.waiting.iter().position(|event| !self.busy.contains(&event.machine))?;
        let event = self.waiting.remove(next)?;
        self.busy.insert(event.machine.clone());
        Some(event)
    }

    /// The hooks of an event of this machine have ended.
    pub(crate) fn done(&mut self, machine: &str) {
        self.busy.remove(machine);
    }

    /// Takes what waits: it will not be run.
    pub(crate) fn drop_all(&mut self) -> Vec<Event> {
        self.waiting.drain(..).collect()
    }

    /// Where the first event of the machine of `new` waits after which another one of its kind comes.
    fn first_repeated(&self, new: &Event) -> usize {
        let all = self.waiting.iter().enumerate();
        let own: Vec<_> = all.filter(|(_, event)| event.machine == new.machine).collect();
        let comes_again = |(at, event): &&(usize, &Event)| {
            event.event == new.event
                || own.iter().any(|(later, other)| later > at && other.event == event.event)
        };
        // There are fewer kinds than events that may wait.
        own.iter().find(comes_again).or_else(|| own.first()).map_or(0, |(at, _)| *at)
    }

    /// That events were dropped, in a sentence: once when the first is, and how many there were once nothing waits any
    /// more, or with `ends`.
    pub(crate) fn say_lost(&mut self, ends: bool) -> Option<String> {
        if self.lost.count == 0 {
            return None;
        }
        if ends || self.waiting.is_empty() {
            let Lost { count, machines, .. } = std::mem::take(&mut self.lost);
            let events = if count == 1 { "event was" } else { "events were" };
            let named = machines.into_iter().collect::<Vec<_>>().join(", ");
            return Some(format!("{count} {events} dropped, and had no hooks run, of {named}"));
        }
        if std::mem::replace(&mut self.lost.said, true) {
            return None;
        }
        let named = self.lost.machines.first().map(String::as_str).unwrap_or_default();
        Some(format!(
            "more events wait for their hooks than may, and some are dropped, of {named} first: `netbe hooks log` shows \
             which hooks take long"
        ))
    }
}

impl Lost {
    fn note(&mut self, event: &Event) {
        self.count += 1;
        if self.machines.len() < NAMED {
            self.machines.insert(event.machine.clone());
        }
    }
}

/// Events that wait, at most.
const MOST: usize = 1024;
/// Events of one machine that wait, at most.
const MOST_OF_ONE: usize = 32;
/// Machines that are named when events were dropped.
const NAMED: usize = 8;

#[cfg(test)]
mod test {
    use super::*;
    use crate::Occasion;

    fn event(machine: &str, occasion: Occasion) -> Event {
        Event::new(occasion, machine)
    }

    #[test]
    fn a_machines_events_stay_in_order_and_pass_those_of_another() {
        let mut queue = Queue::default();
        queue.push(event("web1", Occasion::Leased));
        queue.push(event("web1", Occasion::Up));
        queue.push(event("web2", Occasion::Leased));
        let next = |queue: &mut Queue| queue.take().map(|event| (event.machine, event.event));
        assert_eq!(next(&mut queue), Some(("web1".to_owned(), Occasion::Leased)));
        assert_eq!(next(&mut queue), Some(("web2".to_owned(), Occasion::Leased)));
        assert_eq!(next(&mut queue), None);
        queue.done("web1");
        assert_eq!(next(&mut queue), Some(("web1".to_owned(), Occasion::Up)));
    }

    #[test]
    fn the_same_again_takes_the_place_of_what_waits() {
        let mut queue = Queue::default();
        for text in ["first", "second"] {
            queue.push(Event { text: text.to_owned(), ..event("web1", Occasion::Refused) });
        }
        assert_eq!(queue.take().unwrap().text, "second");
        assert_eq!(queue.take(), None);
    }

    #[test]
    fn strangers_take_no_room_from_machines_with_a_name() {
        let mut queue = Queue::default();
        for number in 0..MOST + 10 {
            queue.push(Event { named: false, ..event(&number.to_string(), Occasion::Refused) });
        }
        queue.push(event("web1", Occasion::Up));
        assert_eq!(queue.lost.count, 11);
        assert_eq!(queue.waiting.len(), MOST);
        assert_eq!(queue.waiting.back().unwrap().machine, "web1");
    }

    #[test]
    fn a_machine_whose_hooks_hang_takes_no_room_from_others_and_that_is_said_once() {
        let mut queue = Queue::default();
        queue.push(event("web1", Occasion::Up));
        let hangs = queue.take().unwrap();
        let mut said = Vec::new();
        for number in 0..MOST {
            let occasion = if number % 2 == 0 { Occasion::Lost } else { Occasion::Up };
            queue.push(Event { text: number.to_string(), ..event("web1", occasion) });
            said.extend(queue.say_lost(false));
        }
        let [said] = <[_; 1]>::try_from(said).unwrap();
        assert!(said.contains("some are dropped, of web1 first"), "{said}");
        assert_eq!(queue.waiting.len(), MOST_OF_ONE);
        assert_eq!(queue.waiting.back().unwrap().text, (MOST - 1).to_string(), "the last are kept");
        for number in 0..MOST {
            let occasion = if number % 2 == 0 { Occasion::Leased } else { Occasion::Refused };
            queue.push(event("web1", occasion));
        }
        let waits = |occasion| queue.waiting.iter().any(|event| event.event == occasion);
        assert!(waits(Occasion::Lost) && waits(Occasion::Up), "the last of each kind is told");
        assert_eq!(queue.waiting.len(), MOST_OF_ONE);
        queue.push(event("web2", Occasion::Up));
        assert_eq!(queue.take().unwrap().machine, "web2");
        queue.done("web2");
        queue.done(&hangs.machine);
        while let Some(event) = queue.take() {
            assert_eq!(queue.say_lost(false).is_some(), queue.waiting.is_empty());
            queue.done(&event.machine);
        }
        assert_eq!(queue.say_lost(true), None);
        let dropped = Event { text: String::new(), ..event("web1", Occasion::Up) };
        queue.lost.note(&dropped);
        let words = "1 event was dropped, and had no hooks run, of web1";
        assert_eq!(queue.say_lost(true).as_deref(), Some(words));
    }
}
