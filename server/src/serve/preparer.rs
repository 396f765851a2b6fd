//! Carries out the orders of boots on threads of its own, so that no DHCP client waits for a disk.
//!
//! What is spent is written down by a thread that does nothing else: a crash while many roots are made
//! must not boot it twice. Roots are made by a few workers, all of one machine by the same one, in the
//! order in which they were ordered.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::sync::{Weak, mpsc};
use std::thread;

use crate::boot::Order;
use crate::site::machine::MachineName;

/// Carries out what boots order.
pub(super) trait Orders: Send + Sync + 'static {
    /// Carries out an order. May wait for a disk, but for [`Order::Ask`].
    fn carry_out(&self, order: Order);
}

/// Starts the threads; they end with who carries out.
pub(super) fn start(orders: mpsc::Receiver<Order>, server: &Weak<impl Orders>) -> io::Result<()> {
    let spending = worker("spent", server)?;
    let making = (0..WORKERS).map(|_| worker("roots", server));
    let making = making.collect::<io::Result<Vec<_>>>()?;
    let server = Weak::clone(server);
    let machines = RandomState::new();
    let of = move |machine: &MachineName| {
        let worker = usize::try_from(machines.hash_one(machine) % WORKERS).unwrap_or_default();
        making.get(worker).cloned()
    };
    let work = move || {
        for order in orders {
            let worker = match &order {
                Order::Make { machine, .. } | Order::Retire { machine } => of(machine),
                Order::Spent { .. } => Some(spending.clone()),
                Order::Ask { .. } => {
                    let Some(server) = server.upgrade() else { return };
                    server.carry_out(order);
                    continue;
                }
            };
            if let Some(worker) = worker {
                // They end only with the server.
                let _ = worker.send(order);
            }
        }
    };
    thread::Builder::new().name("orders".to_owned()).spawn(work).map(drop)
}

/// Starts a thread that carries out orders, one after the other.
fn worker(name: &str, server: &Weak<impl Orders>) -> io::Result<mpsc::Sender<Order>> {
    let (sender, orders) = mpsc::channel();
    let server = Weak::clone(server);
    let work = move || {
        for order in orders {
            let Some(server) = server.upgrade() else { return };
            server.carry_out(order);
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(work)?;
    Ok(sender)
}

/// Workers that make roots. A file system makes one clone at a time, but a machine's root is also
/// filled with what is its own, published, and an older one destroyed.
const WORKERS: u64 = 3;

#[cfg(test)]
mod test {
    use std::sync::{Arc, Condvar, Mutex};

    use super::*;
    use crate::boot::decide::Awaited;

    /// Carries out orders, but makes no root before the test says so.
    #[derive(Default)]
    struct Fake {
        done: Mutex<Vec<Order>>,
        making: Mutex<usize>,
        may_make: Mutex<bool>,
        changed: Condvar,
    }

    impl Orders for Fake {
        fn carry_out(&self, order: Order) {
            if matches!(order, Order::Make { .. }) {
                *self.making.lock().unwrap() += 1;
                self.changed.notify_all();
                let mut may_make = self.may_make.lock().unwrap();
                while !*may_make {
                    may_make = self.changed.wait(may_make).unwrap();
                }
            }
            self.done.lock().unwrap().push(order);
            self.changed.notify_all();
        }
    }

    impl Fake {
        fn wait_for(&self, count: usize) -> Vec<Order> {
            let mut done = self.done.lock().unwrap();
            while done.len() < count {
                done = self.changed.wait(done).unwrap();
            }
            done.clone()
        }
    }

    fn make(machine: &str) -> Order {
        let root = Awaited { template: "base".to_owned(), fresh: true };
        Order::Make { machine: machine.parse().unwrap(), root }
    }

    #[test]
    fn what_is_spent_does_not_wait_for_roots_and_several_are_made_at_once() {
        let fake = Arc::new(Fake::default());
        let (orders, ordered) = mpsc::channel();
        start(ordered, &Arc::downgrade(&fake)).unwrap();
        for number in 0..50 {
            orders.send(make(&format!("web{number}"))).unwrap();
        }
        let spent = Order::Spent { machine: "web1".parse().unwrap(), once: "next".to_owned() };
        orders.send(spent.clone()).unwrap();
        assert_eq!(fake.wait_for(1), [spent]);
        let mut making = fake.making.lock().unwrap();
        while *making < 2 {
            making = fake.changed.wait(making).unwrap();
        }
        drop(making);
        *fake.may_make.lock().unwrap() = true;
        fake.changed.notify_all();
        assert_eq!(fake.wait_for(51).len(), 51);
    }

    #[test]
    fn orders_of_one_machine_are_carried_out_in_order() {
        let fake = Arc::new(Fake { may_make: Mutex::new(true), ..Fake::default() });
        let (orders, ordered) = mpsc::channel();
        start(ordered, &Arc::downgrade(&fake)).unwrap();
        let given = [make("web1"), Order::Retire { machine: "web1".parse().unwrap() }];
        for order in given.iter().cycle().take(40) {
            orders.send(order.clone()).unwrap();
        }
        let expected: Vec<_> = given.iter().cycle().take(40).cloned().collect();
        assert_eq!(fake.wait_for(40), expected);
    }
}
