//! Environments whose tree is not there any more, as far as a client has seen: somebody has removed it by
//! hand, or put another in its place. Who publishes environments has to look.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use uuid::Uuid;

/// The environments that nobody has looked at since.
#[derive(Debug, Default)]
pub struct Suspects {
    environments: Mutex<HashSet<Uuid>>,
    named: Notify,
}

impl Suspects {
    /// Names an environment that is served.
    pub fn name(&self, environment: Uuid) {
        self.environments.lock().unwrap_or_else(PoisonError::into_inner).insert(environment);
        self.named.notify_one();
    }

    /// Ends when one was named since it last did.
    pub fn named(&self) -> Notified<'_> {
        self.named.notified()
    }

    /// Those that were named since the last look.
    pub fn take(&self) -> HashSet<Uuid> {
        std::mem::take(&mut self.environments.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
