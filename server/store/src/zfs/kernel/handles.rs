//! Answers to questions about data sets by libzfs, which is what zfs(8) itself asks: so the tables are the
//! same, but no program with its twenty libraries is started for each.
//!
//! Without it zfs(8) answers. Each question has a handle of its own, so that nothing of what an
//! earlier one saw of a pool is told again.

#![expect(unsafe_code, reason = "calls into the C library")]

use std::ffi::{CStr, CString, c_int, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::libzfs::{
    DEFAULT, FILE_SYSTEM, INHERITED, Iterate, LOCAL, Library, RECEIVED, SNAPSHOT, TEMPORARY, VOLUME,
};
use super::{Answer, aside, programs};
use crate::zfs::command::{Failure, Refusal};
use crate::zfs::listing::{About, COLUMNS, Depth, Kinds, LOOK, Question};

/// Whether libzfs can be loaded.
pub(in crate::zfs) fn are_there() -> bool {
    library().is_some()
}

/// libzfs, if it can be loaded and is to be asked.
fn library() -> Option<&'static Library> {
    let programs_only = super::PROGRAMS_ONLY.load(std::sync::atomic::Ordering::Relaxed);
    if programs_only { None } else { Library::get() }
}

/// Answers a question about data sets.
pub(in crate::zfs) fn ask(question: Question) -> Answer {
    let (task, limit) = (format!("look at {}", question.names.join(" ")), question.limit);
    let asked = question.clone();
    match with_session(&task, limit, move |session| session.answer(&asked)) {
        Some(Ok(answer)) => Ok(answer),
        Some(Err(late)) => Err(late),
        None => programs::ask(question),
    }
}

/// Asks for properties of a pool; gives their values, a line for each.
pub(in crate::zfs) fn ask_pool(properties: &'static str, pool: &str) -> Result<String, Failure> {
    let name = pool.to_owned();
    let answer = with_session(&format!("look at {pool}"), LOOK, move |session| {
        session.pool(&name, properties)
    });
    match answer {
        Some(answer) => answer?,
        None => programs::ask_pool(properties, pool),
    }
}

/// Asks libzfs. `None` if there is none, if it cannot be begun with, or if others have it for long.
///
/// As with programs, nothing more is asked while one that came too late still waits in the kernel.
fn with_session<T: Send + 'static>(
    task: &str,
    limit: Duration,
    look: impl FnOnce(&Session) -> T + Send + 'static,
) -> Option<Result<T, Failure>> {
    let library = library()?;
    let turn = match Turn::wait(limit.min(QUEUE)) {
        Ok(turn) => turn?,
        Err(Stuck) => {
            let said = "an earlier question still waits inside the kernel".to_owned();
            let (task, refusal) = (task.to_owned(), Refusal::Hangs);
            return Some(Err(Failure { task, refusal, said }));
        }
    };
    let running = Arc::downgrade(&turn.alive);
    let answer = aside::ask(task, limit, move || {
        let _turn = turn;
        Session::begin(library).map(|session| look(&session))
    });
    if answer.as_ref().is_err_and(|failure| failure.refusal == Refusal::Hangs) {
        *LATE.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }
    answer.transpose()
}

/// The right to be in libzfs, whose tables of properties are global, and written whenever a handle is made.
struct Turn {
    /// Lives as long as its thread is in libzfs.
    alive: Arc<()>,
}

/// Whoever has the turn waits in the kernel, and nobody waits for it any more.
struct Stuck;

/// Who came too late the last time.
static LATE: Mutex<Weak<()>> = Mutex::new(Weak::new());
/// Whether somebody has the turn.
static TAKEN: Mutex<bool> = Mutex::new(false);
static FREE: Condvar = Condvar::new();

impl Turn {
    /// Waits for others, of other pools too: zfs(8) does not wait for them. `None` if that takes too long.
    fn wait(limit: Duration) -> Result<Option<Self>, Stuck> {
        if LATE.lock().unwrap_or_else(PoisonError::into_inner).strong_count() > 0 {
            return Err(Stuck);
        }
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = FREE.wait_timeout_while(taken, limit, |taken| *taken);
        let (mut taken, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Ok(None);
        }
        *taken = true;
        Ok(Some(Self { alive: Arc::new(()) }))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = false;
        FREE.notify_one();
    }
}

/// libzfs for one question.
struct Session {
    library: &'static Library,
    handle: *mut c_void,
}

impl Session {
    fn begin(library: &'static Library) -> Option<Self> {
        // SAFETY: it takes nothing; nobody else is in libzfs.
        let handle = unsafe { (library.libzfs_init)() };
        // Where there is no module zfs(8) says so.
        (!handle.is_null()).then_some(Self { library, handle })
    }

    fn answer(&self, question: &Question) -> (String, Option<Failure>) {
        let (mut table, mut refused) = (String::new(), None);
        for name in &question.names {
            let told = self
                .open(name, question.kinds)
                .and_then(|set| self.tell(&set, question, 0, &mut table));
            refused = told.err().or(refused);
        }
        (table, refused)
    }

    /// Tells of a data set, and of what is below it as far as is asked.
    fn tell(
        &self,
        set: &DataSet<'_>,
        question: &Question,
        depth: usize,
        table: &mut String,
    ) -> Result<(), Failure> {
        let wanted = match question.kinds {
            Kinds::All => true,
            Kinds::FileSystems => set.kind() == FILE_SYSTEM,
            Kinds::Snapshots => set.kind() == SNAPSHOT,
        };
        if wanted {
            set.describe(&question.about, depth, table);
        }
        let deeper = match question.depth {
            Depth::All => true,
            Depth::Children => depth < 1,
            Depth::One => false,
        };
        if !deeper || set.kind() == SNAPSHOT {
            return Ok(());
        }
        // What is right below the last that is looked at is snapshots alone.
        let last = question.depth == Depth::Children && question.kinds == Kinds::Snapshots;
        if set.kind() == FILE_SYSTEM && !last {
            for below in self.below(set, self.library.zfs_iter_filesystems)? {
                self.tell(&below, question, depth + 1, table)?;
            }
        }
        if question.kinds != Kinds::FileSystems {
            for below in self.snapshots(set)? {
                self.tell(&below, question, depth + 1, table)?;
            }
        }
        Ok(())
    }

    fn open(&self, name: &str, kinds: Kinds) -> Result<DataSet<'_>, Failure> {
        let kinds = match kinds {
            Kinds::FileSystems => FILE_SYSTEM,
            Kinds::All | Kinds::Snapshots => FILE_SYSTEM | SNAPSHOT | VOLUME,
        };
        let text = CString::new(name).unwrap_or_default();
        // SAFETY: the handle and the name live until it returns.
        let raw = unsafe { (self.library.zfs_open)(self.handle, text.as_ptr(), kinds) };
        if raw.is_null() { Err(self.failure(name)) } else { Ok(self.data_set(raw)) }
    }

    const fn data_set(&self, raw: *mut c_void) -> DataSet<'_> {
        DataSet { library: self.library, raw, session: PhantomData }
    }

    fn below(&self, set: &DataSet<'_>, iterate: Iterate) -> Result<Vec<DataSet<'_>>, Failure> {
        self.collect(set, |found| {
            // SAFETY: the data set is alive, and `found` is what `collect_one` takes it for.
            unsafe { iterate(set.raw, collect_one, found) }
        })
    }

    fn snapshots(&self, set: &DataSet<'_>) -> Result<Vec<DataSet<'_>>, Failure> {
        self.collect(set, |found| {
            // SAFETY: as above; without limits of transaction groups.
            unsafe { (self.library.zfs_iter_snapshots)(set.raw, 0, collect_one, found, 0, 0) }
        })
    }

    fn collect(
        &self,
        set: &DataSet<'_>,
        iterate: impl FnOnce(*mut c_void) -> c_int,
    ) -> Result<Vec<DataSet<'_>>, Failure> {
        let mut found: Vec<*mut c_void> = Vec::new();
        let status = iterate((&raw mut found).cast());
        let found = found.into_iter().map(|raw| self.data_set(raw)).collect();
        if status == 0 { Ok(found) } else { Err(self.failure(&set.name())) }
    }

    fn pool(&self, name: &str, properties: &str) -> Result<String, Failure> {
        let text = CString::new(name).unwrap_or_default();
        // SAFETY: the handle and the name live until it returns.
        let pool = unsafe { (self.library.zpool_open_canfail)(self.handle, text.as_ptr()) };
        if pool.is_null() {
            return Err(self.failure(name));
        }
        let mut table = String::new();
        for property in properties.split(',') {
            let mut value = vec![0; LONGEST];
            let property = CString::new(property).unwrap_or_default();
            // SAFETY: the pool is open; no more is written than there is room for.
            let status = unsafe {
                let property = (self.library.zpool_name_to_prop)(property.as_ptr());
                let (start, room) = (value.as_mut_ptr().cast(), value.len());
                (self.library.zpool_get_prop)(pool, property, start, room, ptr::null_mut(), 1)
            };
            table.push_str(if status == 0 { text_of(&value) } else { "-".into() }.as_ref());
            table.push('\n');
        }
        // SAFETY: nobody has the pool any more.
        unsafe { (self.library.zpool_close)(pool) };
        Ok(table)
    }

    /// What was refused, in the words of zfs(8).
    fn failure(&self, name: &str) -> Failure {
        // SAFETY: the texts belong to the handle, and are copied.
        let said = unsafe {
            let action = CStr::from_ptr((self.library.libzfs_error_action)(self.handle));
            let why = CStr::from_ptr((self.library.libzfs_error_description)(self.handle));
            format!("{}: {}", action.to_string_lossy(), why.to_string_lossy())
        };
        Failure { task: format!("look at {name}"), refusal: Refusal::of(&said, &[]), said }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: all that was opened by it is closed: it borrows the session.
        unsafe { (self.library.libzfs_fini)(self.handle) };
    }
}

/// A data set or a snapshot that libzfs has opened.
struct DataSet<'a> {
    library: &'static Library,
    raw: *mut c_void,
    session: PhantomData<&'a Session>,
}

impl DataSet<'_> {
    fn kind(&self) -> c_int {
        // SAFETY: it is open.
        unsafe { (self.library.zfs_get_type)(self.raw) }
    }

    fn name(&self) -> String {
        // SAFETY: the text belongs to it, and is copied.
        let name = unsafe { CStr::from_ptr((self.library.zfs_get_name)(self.raw)) };
        name.to_string_lossy().into_owned()
    }

    /// Adds what is asked about it to a table.
    fn describe(&self, about: &About, depth: usize, table: &mut String) {
        let name = self.name();
        let mut line = |fields: [&str; 4]| {
            table.push_str(&fields.join("\t"));
            table.push('\n');
        };
        match about {
            About::Columns(columns) => {
                let columns = columns.split(',').map(|column| self.value(column));
                let columns =
                    columns.map(|value| value.map_or_else(|| "-".to_owned(), |(text, _)| text));
                table.push_str(&columns.collect::<Vec<_>>().join("\t"));
                table.push('\n');
            }
            About::Properties(which) => {
                for property in which.split(',') {
                    let (value, source) = self.value(property).unwrap_or_else(none);
                    line([&name, property, &value, &source]);
                }
            }
            About::Set(which) => {
                for (property, value, source) in self.set(|name| which == "all" || which == name) {
                    line([&name, &property, &value, &source]);
                }
            }
            About::Described { roots, below } => {
                let columns: Vec<&str> =
                    COLUMNS.split(',').filter(|column| *column != "name").collect();
                for property in &columns {
                    if let Some((value, source)) = self.value(property) {
                        line([&name, property, &value, &source]);
                    }
                }
                let wanted =
                    |name: &str| !columns.contains(&name) && (depth <= *roots || name == *below);
                for (property, value, source) in self.set(wanted) {
                    line([&name, &property, &value, &source]);
                }
            }
        }
    }

    /// A native property as a text, and where that comes from.
    fn value(&self, property: &str) -> Option<(String, String)> {
        let name = CString::new(property).ok()?;
        let (mut value, mut from) = (vec![0_u8; LONGEST], vec![0_u8; LONGEST_NAME]);
        let mut source = 0;
        // SAFETY: it is open; no more is written than there is room for.
        let status = unsafe {
            let property = (self.library.zfs_name_to_prop)(name.as_ptr());
            if property < 0 {
                return None;
            }
            let (start, room) = (value.as_mut_ptr().cast(), value.len());
            let (origin, length) = (from.as_mut_ptr().cast(), from.len());
            (self.library.zfs_prop_get)(
                self.raw,
                property,
                start,
                room,
                &raw mut source,
                origin,
                length,
                1,
            )
        };
        let source = match source {
            DEFAULT => "default".to_owned(),
            TEMPORARY => "temporary".to_owned(),
            LOCAL => "local".to_owned(),
            INHERITED => format!("inherited from {}", text_of(&from)),
            RECEIVED => "received".to_owned(),
            _none => "-".to_owned(),
        };
        (status == 0).then(|| (text_of(&value), source))
    }

    /// Its properties that are not as they are by themselves, by name, value and source: those of users, and
    /// native ones that it has itself.
    fn set(&self, wanted: impl Fn(&str) -> bool) -> Vec<(String, String, String)> {
        let own = self.name();
        // SAFETY: the list belongs to the data set, which is open while this borrows it.
        let all = unsafe { properties((self.library.zfs_get_all_props)(self.raw)) };
        let mut set = Vec::new();
        for (property, value, source) in all.into_iter().filter(|(name, ..)| wanted(name)) {
            let source = match source.as_str() {
                "$recvd" => "received".to_owned(),
                source if source == own => "local".to_owned(),
                source => format!("inherited from {source}"),
            };
            if property.contains(':') {
                set.extend(value.map(|value| (property, value, source)));
            } else if !source.starts_with("inherited") && self.is_shown(&property) {
                // zfs(8) gives it in words, and says more exactly where it comes from.
                let value = self.value(&property);
                let value = value.filter(|(_, source)| source == "local" || source == "received");
                set.extend(value.map(|(value, source)| (property, value, source)));
            }
        }
        set
    }

    /// Whether zfs(8) shows a native property.
    fn is_shown(&self, property: &str) -> bool {
        let Ok(name) = CString::new(property) else { return false };
        // SAFETY: numbers of properties are what it takes.
        unsafe {
            let property = (self.library.zfs_name_to_prop)(name.as_ptr());
            property >= 0 && (self.library.zfs_prop_visible)(property) != 0
        }
    }
}

impl Drop for DataSet<'_> {
    fn drop(&mut self) {
        // SAFETY: nobody has it any more.
        unsafe { (self.library.zfs_close)(self.raw) };
    }
}

/// The properties in a list of lists that have a source: name, value if that is a text, and source.
///
/// # Safety
///
/// The list is null, or one of libzfs's that is alive.
unsafe fn properties(list: *mut c_void) -> Vec<(String, Option<String>, String)> {
    let mut found = Vec::new();
    if list.is_null() {
        return found;
    }
    let list: *mut nvpair_sys::nvlist_t = list.cast();
    let mut pair = ptr::null_mut();
    loop {
        // SAFETY: the list is alive, the pair is one of it or null; texts belong to the list and are copied.
        unsafe {
            pair = nvpair_sys::nvlist_next_nvpair(list, pair);
            if pair.is_null() {
                return found;
            }
            let name = CStr::from_ptr(nvpair_sys::nvpair_name(pair)).to_string_lossy().into_owned();
            let mut inner = ptr::null_mut();
            if nvpair_sys::nvpair_value_nvlist(pair, &raw mut inner) != 0 {
                continue;
            }
            let text = |key: &CStr| {
                let mut text = ptr::null_mut();
                let status = nvpair_sys::nvlist_lookup_string(inner, key.as_ptr(), &raw mut text);
                (status == 0).then(|| CStr::from_ptr(text).to_string_lossy().into_owned())
            };
            if let Some(source) = text(c"source") {
                found.push((name, text(c"value"), source));
            }
        }
    }
}

/// Takes a data set that an iteration has found.
extern "C" fn collect_one(raw: *mut c_void, found: *mut c_void) -> c_int {
    let found: *mut Vec<*mut c_void> = found.cast();
    // SAFETY: it is the vector that `collect` has lent, and nobody else has it meanwhile.
    unsafe { (*found).push(raw) };
    0
}

fn none() -> (String, String) {
    ("-".to_owned(), "-".to_owned())
}

/// What stands before the first zero.
fn text_of(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// How long to wait for others: as long as many data sets take to be told of.
const QUEUE: Duration = Duration::from_secs(5);
/// Room for a value: that of Linux's zfs(8), ZFS_MAXPROPLEN.
const LONGEST: usize = 4096;
/// Room for the name of a data set, ZFS_MAX_DATASET_NAME_LEN.
const LONGEST_NAME: usize = 256;
