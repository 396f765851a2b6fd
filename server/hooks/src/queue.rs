//! Events whose hooks are still to be run: a bounded queue in which a machine's events stay in order, while those of
//! another machine pass a hook that hangs.

use std::collections::{HashSet, VecDeque};

use crate::Event;

/// The queue.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    waiting: VecDeque<Event>,
    /// The machines whose hooks run.
    busy: HashSet<String>,
    /// Events that found no room since that was last asked.
    lost: u64,
}

impl Queue {
    /// Takes an event. One of the same kind that waits for the same machine is replaced if nothing happened between
    /// them. Without room an event of a machine without a name has to go, this one or another.
    pub(crate) fn push(&mut self, event: Event) {
        let before = self.waiting.iter_mut().rev().find(|before| before.machine == event.machine);
        if let Some(before) = before.filter(|before| before.event == event.event) {
            *before = event;
            return;
        }
        if self.waiting.len() >= MOST {
            self.lost += 1;
            let stranger = self.waiting.iter().rposition(|waiting| !waiting.named);
            match stranger.filter(|_| event.named) {
                Some(stranger) => drop(self.waiting.remove(stranger)),
                None => return,
            }
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

    /// Events that found no room since that was last asked.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

/// Events that wait, at most.
const MOST: usize = 1024;

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
        assert_eq!(queue.take_lost(), 11);
        assert_eq!(queue.waiting.len(), MOST);
        assert_eq!(queue.waiting.back().unwrap().machine, "web1");
    }
}
