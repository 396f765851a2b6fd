//! The groups of users as this host knows them, for exports whose clients' lists do not count.

use std::collections::HashMap;
use std::ffi::CString;
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{Uid, User, getgrouplist};
use vfs::{FsError, Wait};

/// What this host says of users' groups, remembered for a minute.
///
/// The host may ask a directory service, which may not answer: no more than a few calls wait for that at a time, one
/// for each user, and who was known before keeps what he had meanwhile.
pub struct Groups {
    users: Mutex<Users>,
    /// That somebody was asked for.
    told: Condvar,
    look_up: LookUp,
}

/// Asks this host for all groups of a user, whom it may not know.
type LookUp = Box<dyn Fn(u32) -> Result<Option<Arc<[u32]>>, Errno> + Send + Sync>;

#[derive(Default)]
struct Users {
    known: HashMap<u32, Known>,
    /// The users for whom the host is being asked, and since when.
    asked: HashMap<u32, Instant>,
    /// Whether it was said that the host cannot tell, and it has told nothing since.
    is_failing: bool,
}

/// What is known of a user.
#[derive(Clone, Default)]
struct Known {
    /// His groups, and when the host told them; `None` if it does not know him.
    groups: Option<(Arc<[u32]>, Instant)>,
    /// Until when the host is not asked again.
    until: Option<Instant>,
    /// Whether the host has said anything of him at all.
    is_told: bool,
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
        Self { users: Mutex::default(), told: Condvar::new(), look_up: Box::new(look_up) }
    }

    /// All groups of a user; `None` if this host does not know him.
    ///
    /// # Errors
    ///
    /// [`FsError::WouldWait`] if the host has to be asked, which may take as long as a directory service
    /// does, and `wait` forbids that. [`FsError::Busy`] if it cannot tell now and has not before: the client
    /// is to come again.
    pub fn of(&self, uid: u32, wait: Wait, now: Instant) -> Result<Option<Arc<[u32]>>, FsError> {
        let mut users = self.lock();
        if let Some(known) = users.known.get(&uid)
            && known.until.is_some_and(|until| now < until)
        {
            return known.answer();
        }
        if let Some(since) = users.asked.get(&uid).copied() {
            let known = users.known.get(&uid).cloned().unwrap_or_default();
            // Another call asks already, and most hosts tell at once.
            let left = PATIENCE.saturating_sub(now.saturating_duration_since(since));
            if known.is_told || left.is_zero() {
                return known.answer();
            }
            if wait == Wait::No {
                return Err(FsError::WouldWait);
            }
            let is_asked = |users: &mut Users| users.asked.contains_key(&uid);
            let waited = self.told.wait_timeout_while(users, left, is_asked);
            let (users, _) = waited.unwrap_or_else(PoisonError::into_inner);
            return users.known.get(&uid).cloned().unwrap_or_default().answer();
        }
        if users.asked.len() >= MAX_ASKED {
            return users.known.get(&uid).cloned().unwrap_or_default().answer();
        }
        if wait == Wait::No {
            return Err(FsError::WouldWait);
        }
        users.asked.insert(uid, now);
        drop(users);
        let told = (self.look_up)(uid);
        let known = self.lock().note(uid, told, now);
        self.told.notify_all();
        known.answer()
    }

    fn lock(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn answer(&self) -> Result<Option<Arc<[u32]>>, FsError> {
        let groups = self.groups.as_ref().map(|(groups, _)| Arc::clone(groups));
        if self.is_told { Ok(groups) } else { Err(FsError::Busy) }
    }
}

impl Users {
    /// Takes note of what the host said of a user, or that it could not.
    fn note(&mut self, uid: u32, told: Result<Option<Arc<[u32]>>, Errno>, now: Instant) -> Known {
        self.asked.remove(&uid);
        let before = self.known.get(&uid).cloned().unwrap_or_default();
        let was_known = before
            .groups
            .as_ref()
            .is_some_and(|(_, since)| now.saturating_duration_since(*since) < KEPT);
        let known = match told {
            // A service that does not run may say of everybody that there is no such user.
            Ok(None) if was_known => Known { until: Some(now + PAUSE), ..before },
            Ok(groups) => {
                self.is_failing = false;
                let groups = groups.map(|groups| (groups, now));
                Known { groups, until: Some(now + REMEMBERED), is_told: true }
            }
            Err(error) => {
                if !mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(
                        "this host cannot tell the groups of users now, of user {uid} first: {error}; users that \
                         are known keep theirs, and calls of others wait"
                    );
                }
                Known { until: Some(now + PAUSE), ..before }
            }
        };
        // A client can name any number of users, of which the host knows few. Who is forgotten is only asked for again.
        if self.known.len() >= MAX_USERS && !self.known.contains_key(&uid) {
            self.known.retain(|_, known| known.groups.is_some());
            if self.known.len() >= MAX_USERS {
                self.known.clear();
            }
        }
        self.known.insert(uid, known.clone());
        known
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
/// How long the groups of a user count of whom the host says later that it does not know him.
const KEPT: Duration = Duration::from_secs(600);
/// How long the host is left alone about a user whom it could not tell.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a call waits for what another call asks.
const PATIENCE: Duration = Duration::from_secs(1);
/// Calls that wait for the host at a time.
const MAX_ASKED: usize = 4;
const MAX_USERS: usize = 4096;

#[cfg(test)]
mod test {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

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
        assert_eq!(groups.of(ALICE, Wait::No, later), all, "the host is left alone for a while");
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        let (failing, _) = bench();
        assert_eq!(failing.of(7, Wait::Yes, now), Ok(None));
        assert_eq!(failing.of(ALICE, Wait::Yes, now), Err(FsError::Busy));
        assert_eq!(failing.of(ALICE, Wait::No, now), Err(FsError::Busy));
        assert_eq!(failing.of(ALICE, Wait::No, now + PAUSE), Err(FsError::WouldWait));
    }

    #[test]
    fn a_user_whom_the_host_knew_is_not_unknown_at_once() {
        let gone = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&gone);
        let groups = Groups::by(move |_| {
            Ok((count.fetch_add(1, Ordering::Relaxed) == 0).then(|| Arc::from([100])))
        });
        let now = Instant::now();
        let all = groups.of(ALICE, Wait::Yes, now);
        assert_eq!(groups.of(ALICE, Wait::Yes, now + REMEMBERED), all);
        assert_eq!(groups.of(ALICE, Wait::Yes, now + KEPT), Ok(None));
        assert_eq!(gone.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn a_host_that_hangs_keeps_few_calls_and_nobody_who_is_known() {
        let (hangs, goes_on) = (Arc::new(Mutex::new(())), Arc::new(AtomicUsize::new(0)));
        let (gate, begun) = (Arc::clone(&hangs), Arc::clone(&goes_on));
        let groups = Arc::new(Groups::by(move |uid| {
            if begun.fetch_add(1, Ordering::Relaxed) > 0 {
                drop(gate.lock());
            }
            Ok(Some(Arc::from([uid])))
        }));
        let now = Instant::now();
        let all = groups.of(ALICE, Wait::Yes, now);
        let later = now + REMEMBERED;
        let held = hangs.lock().unwrap();
        let uids = 0..u32::try_from(MAX_ASKED).unwrap();
        let calls: Vec<_> = [ALICE]
            .into_iter()
            .chain(uids.skip(1))
            .map(|uid| {
                let groups = Arc::clone(&groups);
                let asks = thread::spawn(move || groups.of(uid, Wait::Yes, later));
                (uid, asks)
            })
            .collect();
        while goes_on.load(Ordering::Relaxed) <= MAX_ASKED {
            thread::yield_now();
        }
        assert_eq!(groups.of(ALICE, Wait::No, later), all);
        assert_eq!(groups.of(1, Wait::Yes, later + PATIENCE), Err(FsError::Busy));
        assert_eq!(groups.of(77, Wait::Yes, later), Err(FsError::Busy), "no more calls wait");
        drop(held);
        for (uid, call) in calls {
            assert_eq!(call.join().unwrap(), Ok(Some(Arc::from([uid]))));
        }
        assert_eq!(groups.of(77, Wait::Yes, later), Ok(Some(Arc::from([77]))));
    }

    #[test]
    fn a_client_that_names_many_users_takes_no_more_memory_than_for_some_thousand() {
        let (groups, _) = bench();
        let now = Instant::now();
        for uid in 2000..2000 + 3 * u32::try_from(MAX_USERS).unwrap() {
            groups.of(uid, Wait::Yes, now).unwrap();
        }
        assert!(groups.lock().known.len() <= MAX_USERS);
    }

    #[test]
    fn this_host_knows_the_superuser_and_not_everybody() {
        let groups = Groups::of_host();
        let now = Instant::now();
        assert!(groups.of(0, Wait::Yes, now).unwrap().unwrap().contains(&0));
        assert_eq!(groups.of(4_294_000_000, Wait::Yes, now), Ok(None));
    }
}
