//! Makes the roots that boots order, in a thread of its own: nobody who asks for an address waits for
//! a disk.

use std::io;
use std::sync::{Weak, mpsc};
use std::thread;

use super::appliance::Appliance;
use crate::boot::Order;

/// Starts the thread; it ends with the appliance.
pub(super) fn start(orders: mpsc::Receiver<Order>, appliance: Weak<Appliance>) -> io::Result<()> {
    let work = move || {
        for order in orders {
            let Some(appliance) = appliance.upgrade() else { return };
            match order {
                Order::Make { machine, root } => {
                    let made = appliance.make_root(&machine, &root);
                    appliance.boots().prepared(&machine, made.as_deref().map_err(Clone::clone));
                }
                Order::Spent { machine, once } => {
                    if let Err(error) = appliance.spend(&machine, &once) {
                        tracing::error!("{machine} may boot {once} more than once: {error}");
                    }
                }
            }
        }
    };
    thread::Builder::new().name("roots".to_owned()).spawn(work).map(drop)
}
