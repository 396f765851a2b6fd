//! The record of boot environments that somebody destroyed or took out of use.
//!
//! The handles of these environments alone are stale, also after a restart and while the store is
//! away. Any other environment that is not in the store may come back.

use std::collections::HashSet;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::site::state::{Kind, State, StateError};

/// The record of one environment.
#[derive(Debug, Deserialize, Serialize)]
struct Record {
    /// What it was called, for whoever reads the file.
    name: String,
    /// Seconds since 1970.
    at: u64,
}

/// Notes that an environment is gone.
///
/// # Errors
///
/// The record cannot be written.
pub fn remember(state: &dyn State, environment: Uuid, name: &str) -> Result<(), StateError> {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let record = Record { name: name.to_owned(), at };
    let text = serde_json::to_vec(&record).unwrap_or_default();
    state.store(Kind::Gone, &environment.to_string(), &text)
}

/// Notes that an environment is there again.
///
/// # Errors
///
/// The record cannot be removed.
pub fn forget(state: &dyn State, environment: Uuid) -> Result<(), StateError> {
    state.remove(Kind::Gone, &environment.to_string()).map(drop)
}

/// Whether an environment is gone. A record that cannot be read says so by being there.
///
/// # Errors
///
/// The state cannot be read.
pub fn is_gone(state: &dyn State, environment: Uuid) -> Result<bool, StateError> {
    state.load(Kind::Gone, &environment.to_string()).map(|record| record.is_some())
}

/// All environments that are gone. Of very many the oldest are forgotten: roots for one boot go every
/// day, and nobody has lived on them for long.
///
/// # Errors
///
/// The records cannot be listed, or one cannot be removed.
pub fn all(state: &dyn State) -> Result<HashSet<Uuid>, StateError> {
    let names = state.names(Kind::Gone)?;
    let mut gone: Vec<Uuid> = names.iter().filter_map(|name| name.parse().ok()).collect();
    if gone.len() > MAX_RECORDS {
        let at = |environment: &Uuid| {
            let record = state.load(Kind::Gone, &environment.to_string()).ok().flatten();
            record.and_then(|text| serde_json::from_slice::<Record>(&text).ok()).map(|one| one.at)
        };
        gone.sort_by_cached_key(|environment| std::cmp::Reverse(at(environment)));
        for old in gone.split_off(MAX_RECORDS) {
            forget(state, old)?;
        }
    }
    Ok(gone.into_iter().collect())
}

/// Environments that are remembered to be gone.
const MAX_RECORDS: usize = super::MAX_GONE;

#[cfg(test)]
mod test {
    use super::*;
    use crate::site::state::StateDir;

    #[test]
    fn what_is_gone_is_remembered_until_it_is_there_again() {
        let scratch = tempfile::tempdir().unwrap();
        let one = Uuid::from_u128(1);
        let state = StateDir::open(scratch.path()).unwrap();
        assert!(!is_gone(&state, one).unwrap());
        remember(&state, one, "head").unwrap();
        let again = StateDir::open(scratch.path()).unwrap();
        assert!(is_gone(&again, one).unwrap());
        assert_eq!(all(&again).unwrap(), [one].into());
        forget(&again, one).unwrap();
        assert_eq!(all(&again).unwrap(), HashSet::new());
    }

    #[test]
    fn of_very_many_the_oldest_are_forgotten() {
        let scratch = tempfile::tempdir().unwrap();
        let state = StateDir::open(scratch.path()).unwrap();
        let count = u128::try_from(MAX_RECORDS).unwrap() + 2;
        for number in 0..count {
            let at = u64::try_from(count - number).unwrap();
            let text = serde_json::to_vec(&Record { name: "x".to_owned(), at }).unwrap();
            // Nobody waits for a disk here.
            let name = format!("gone/{}.json", Uuid::from_u128(number));
            std::fs::write(state.path().join(name), text).unwrap();
        }
        let kept = all(&state).unwrap();
        assert_eq!(kept.len(), MAX_RECORDS);
        assert!(kept.contains(&Uuid::from_u128(0)) && !kept.contains(&Uuid::from_u128(count - 1)));
        assert_eq!(all(&state).unwrap(), kept);
    }
}
