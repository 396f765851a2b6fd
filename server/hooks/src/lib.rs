//! What netbe tells others of what happens to its machines: programs of the administrator (hooks),
//! webhooks, and Consul.
//!
//! An [`Event`] says what happened. The hooks of an event are one [transaction](mod@transaction): programs in order,
//! each with a time-out and further attempts, and those before undone when one fails. The server does none of
//! that: it tells a process of its own ([`runner`]), started before the server gave up its privileges, and
//! waits for nothing. Commands that start and stop guests call [`run`], and go by what comes of it.

mod cbsd;
pub mod client;
pub mod consul;
pub mod directory;
mod event;
mod file;
mod queue;
pub mod record;
pub mod runner;
pub mod settings;
pub mod transaction;
pub mod webhook;

use std::path::Path;

pub use event::{Event, Occasion, OccasionError};
pub use file::Untrusted;
pub use settings::Settings;

use directory::DirectoryError;
use record::Records;
use transaction::{Action, Outcome, Transcript};

/// Runs the hooks of an event as one transaction, notes in the state directory what came of it, and returns when
/// the last one has ended. Without hooks it does nothing. `is_over` is asked whether what is run for an action is to
/// end before its time ([`transaction::run`]).
///
/// What is to be done behind it is done if this succeeds: a machine whose `prestart` hooks fail is not
/// started. Then those that had run were undone. After the fact, as at `poststart`, a failure is told, and
/// nothing else is to be undone.
///
/// # Errors
///
/// A hook failed, or one may not be run: then none was.
pub fn run(
    settings: &Settings,
    state: &Path,
    event: &Event,
    is_over: &dyn Fn(Action) -> bool,
) -> Result<(), HookError> {
    let steps = directory::steps(settings, event)?;
    if steps.is_empty() {
        return Ok(());
    }
    let transcript = transaction::run(&steps, event, is_over);
    Records::in_state(state).note(&transcript);
    outcome(&transcript)
}

/// What came of a transaction, as an error if it failed.
fn outcome(transcript: &Transcript) -> Result<(), HookError> {
    match &transcript.outcome {
        Outcome::Done => Ok(()),
        Outcome::Failed { step, reason } => {
            Err(HookError::Failed { step: step.clone(), reason: reason.clone() })
        }
        Outcome::Refused { reason } => Err(HookError::Refused(reason.clone())),
    }
}

/// Why the hooks of an event did not all succeed.
#[derive(Debug, thiserror::Error)]
pub enum HookError {
    /// They cannot be read, or must not be run.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// One failed; those before it were undone.
    #[error("the hook {step} failed: {reason}; `netbe hooks log` shows its output")]
    Failed {
        /// Which.
        step: String,
        /// How.
        reason: String,
    },
    /// They were not run.
    #[error("{0}")]
    Refused(String),
}
