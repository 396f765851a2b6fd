//! The groups of users as this host knows them, for exports whose clients' lists do not count.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{Uid, User, getgrouplist};
use vfs::{FsError, Wait};

/// What this host says of users' groups, remembered for a minute.
pub struct Groups {
    known: Mutex<HashMap<u32, Known>>,
    look_up: LookUp,
}

/// Asks this host for all groups of a user, whom it may not know.
type LookUp = Box<dyn Fn(u32) -> Result<Option<Arc<[u32]>>, Errno> + Send + Sync>;

/// What was said of a user, and when.
struct Known {
    groups: Option<Arc<[u32]>>,
    since: Instant,
}

impl Groups {
    /// As this host's list of users has them: files, or what nsswitch.conf(5) names.
    #[must_use]
    pub fn of_host() -> Self {
        Self::by(of_host)
    }

    fn by(
        look_up: impl Fn(u32) -> Result<Option<Arc<[u32]>>, Errno> + Send + Sync + 'static,
    ) -> Self {
        Self { known: Mutex::default(), look_up: Box::new(look_up) }
    }

    /// All groups of a user; `None` if this host does not know him.
    ///
    /// # Errors
    ///
    /// [`FsError::WouldWait`] if the host has to be asked, which may take as long as a directory service
    /// does, and `wait` forbids that. [`FsError::Busy`] if it cannot tell now and was not asked before:
    /// the client is to come again.
    pub fn of(&self, uid: u32, wait: Wait, now: Instant) -> Result<Option<Arc<[u32]>>, FsError> {
        let fresh = |known: &&Known| now.saturating_duration_since(known.since) < REMEMBERED;
        if let Some(known) = self.lock().get(&uid).filter(fresh) {
            return Ok(known.groups.clone());
        }
        if wait == Wait::No {
            return Err(FsError::WouldWait);
        }
        match (self.look_up)(uid) {
            Ok(groups) => {
                self.remember(uid, Known { groups: groups.clone(), since: now });
                Ok(groups)
            }
            Err(error) => {
                tracing::warn!("this host cannot tell the groups of user {uid} now: {error}");
                // Who is known keeps what he had until the host answers again.
                let mut known = self.lock();
                let known = known.get_mut(&uid).ok_or(FsError::Busy)?;
                known.since = now;
                Ok(known.groups.clone())
            }
        }
    }

    fn remember(&self, uid: u32, told: Known) {
        let mut known = self.lock();
        // A client can name any number of users. Who is forgotten is only asked for again.
        if known.len() >= MAX_USERS && !known.contains_key(&uid) {
            known.clear();
        }
        known.insert(uid, told);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_host(uid: u32) -> Result<Option<Arc<[u32]>>, Errno> {
    let Some(user) = User::from_uid(Uid::from_raw(uid))? else { return Ok(None) };
    let name = CString::new(user.name).map_err(|_| Errno::EINVAL)?;
    let groups = getgrouplist(&name, user.gid)?;
    Ok(Some(groups.into_iter().map(nix::unistd::Gid::as_raw).collect()))
}

/// As long as FreeBSD's nfsuserd(8) by default.
const REMEMBERED: Duration = Duration::from_secs(60);
const MAX_USERS: usize = 4096;

#[cfg(test)]
mod test {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const ALICE: u32 = 1001;

    /// Groups of a host that knows Alice, in thirty groups, and fails from the second time it is asked for
    /// her on; with how often it was asked.
    fn bench() -> (Groups, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let groups = Groups::by(move |uid| {
            let earlier = count.fetch_add(1, Ordering::Relaxed);
            match uid {
                ALICE if earlier > 0 => Err(Errno::EIO),
                ALICE => Ok(Some((100..130).collect())),
                _ => Ok(None),
            }
        });
        (groups, asked)
    }

    #[test]
    fn who_is_asked_for_is_remembered_for_a_minute() {
        let (groups, asked) = bench();
        let now = Instant::now();
        assert_eq!(groups.of(ALICE, Wait::No, now), Err(FsError::WouldWait));
        assert_eq!(asked.load(Ordering::Relaxed), 0);
        let all = groups.of(ALICE, Wait::Yes, now).unwrap().unwrap();
        assert_eq!((all.len(), all.last()), (30, Some(&129)));
        assert_eq!(groups.of(ALICE, Wait::No, now), Ok(Some(all)));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        assert_eq!(groups.of(ALICE, Wait::No, now + REMEMBERED), Err(FsError::WouldWait));
    }

    #[test]
    fn a_user_keeps_his_groups_while_the_host_cannot_tell_them() {
        let (groups, asked) = bench();
        let now = Instant::now();
        let all = groups.of(ALICE, Wait::Yes, now);
        let later = now + REMEMBERED;
        assert_eq!(groups.of(ALICE, Wait::Yes, later), all);
        assert_eq!(groups.of(ALICE, Wait::No, later), all);
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        let (failing, _) = bench();
        assert_eq!(failing.of(7, Wait::Yes, now), Ok(None));
        assert_eq!(failing.of(ALICE, Wait::Yes, now), Err(FsError::Busy));
    }

    #[test]
    fn a_client_that_names_many_users_takes_no_more_memory_than_for_some_thousand() {
        let (groups, _) = bench();
        let now = Instant::now();
        for uid in 2000..2000 + 3 * u32::try_from(MAX_USERS).unwrap() {
            groups.of(uid, Wait::Yes, now).unwrap();
        }
        assert!(groups.lock().len() <= MAX_USERS);
    }

    #[test]
    fn this_host_knows_the_superuser_and_not_everybody() {
        let groups = Groups::of_host();
        let now = Instant::now();
        assert!(groups.of(0, Wait::Yes, now).unwrap().unwrap().contains(&0));
        assert_eq!(groups.of(4_294_000_000, Wait::Yes, now), Ok(None));
    }
}
