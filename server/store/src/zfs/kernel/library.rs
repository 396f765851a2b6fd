//! Changes by libzfs_core, without starting a program.
//!
//! The kernel takes properties as numbers where zfs(8) takes words. Only those that netbe itself sets,
//! and a few more, are known here: a data set with others is made by zfs(8).

use std::ffi::CString;
use std::io;
use std::ptr;

use nvpair::NvList;
use rustix::io::Errno;
use zfs_core::{DataSetType, Error, Zfs};

use super::libzfs::Library;
use super::{Settings, aside, programs};
use crate::zfs::command::{Failure, LIMIT, Refusal};

/// Makes a file system.
pub(in crate::zfs) fn create(dataset: &str, settings: &Settings) -> Result<(), Failure> {
    let Some(numbers) = numbers(settings) else { return programs::create(dataset, settings) };
    let name = dataset.to_owned();
    let work = move |zfs: &Zfs| zfs.create(&*name, DataSetType::Zfs, &list(&numbers)?);
    ask(&format!("create {dataset}"), work)
}

/// Makes a file system out of a snapshot.
pub(in crate::zfs) fn clone(
    snapshot: &str,
    dataset: &str,
    settings: &Settings,
) -> Result<(), Failure> {
    let Some(numbers) = numbers(settings) else {
        return programs::clone(snapshot, dataset, settings);
    };
    let (from, to) = (snapshot.to_owned(), dataset.to_owned());
    ask(&format!("clone {snapshot} {dataset}"), move |zfs| {
        let mut properties = list(&numbers)?;
        zfs.clone_dataset(&*to, &*from, &mut properties)
    })
}

/// Gives a data set, and all below it, another name.
pub(in crate::zfs) fn rename(from: &str, to: &str) -> Result<(), Failure> {
    let (old, new) = (from.to_owned(), to.to_owned());
    ask(&format!("rename {from} {to}"), move |zfs| zfs.rename(&*old, &*new))
}

/// Makes snapshots of several data sets of one pool, all at one instant.
pub(in crate::zfs) fn snapshot(snapshots: &[String]) -> Result<(), Failure> {
    let task = format!("snapshot {}", snapshots.join(" "));
    let all = snapshots.to_vec();
    ask(&task, move |zfs| match zfs.snapshot(all.iter().map(String::as_str)) {
        Ok(()) => Ok(()),
        Err(Error::Io { source }) => Err(source),
        // One is enough to say why.
        Err(Error::List { source }) => Err(source
            .iter()
            .next()
            .map_or_else(|| io::Error::other("it was refused"), |(_name, error)| error)),
    })
}

/// Destroys snapshots, each with the last of its clones. Should this process be killed, some of them may be
/// left as they are: what an intent tells of them is done again.
pub(in crate::zfs) fn defer(snapshots: &[String]) -> Option<Result<(), Failure>> {
    let library = Library::get()?;
    let all = snapshots.to_vec();
    Some(ask(&format!("destroy {}", snapshots.join(" ")), move |_open| {
        let mut list = NvList::try_new_unique_names()?;
        for snapshot in &all {
            list.insert(&*text(snapshot)?, &())?;
        }
        destroy_deferred(library, &mut list)
    }))
}

/// Destroys the snapshots that this list names. (The function for that of the crate zfs-core makes a list of a
/// null pointer when the kernel gives none with an error.)
#[expect(unsafe_code, reason = "a call into the C library")]
fn destroy_deferred(library: &Library, list: &mut NvList) -> io::Result<()> {
    let mut refused = ptr::null_mut();
    // SAFETY: the list is alive and borrowed by nobody else; what is given for it is freed once.
    let status = unsafe {
        let destroy = library.lzc_destroy_snaps;
        let status = destroy(list.as_mut_ptr().cast(), 1, &raw mut refused);
        nvpair_sys::nvlist_free(refused.cast());
        status
    };
    if status == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(status)) }
}

/// Brings what was written to a pool to its disks.
pub(in crate::zfs) fn sync(pool: &str) -> Result<(), Failure> {
    let name = pool.to_owned();
    ask(&format!("sync {pool}"), move |zfs| zfs.sync(&*name, false))
}

/// Asks the kernel, which may wait for the disks of a pool.
fn ask(
    task: &str,
    work: impl FnOnce(&Zfs) -> io::Result<()> + Send + 'static,
) -> Result<(), Failure> {
    let answer = aside::ask(task, LIMIT, || Zfs::new().and_then(|zfs| work(&zfs)))?;
    answer.map_err(|error| {
        let (task, refusal) = (task.to_owned(), refusal(&error));
        // As zfs(8) says it: whoever shows it to people takes the name out of the quotation marks.
        let said = format!("cannot {}", error_text(&task, &error));
        Failure { task, refusal, said }
    })
}

fn error_text(task: &str, error: &io::Error) -> String {
    let (verb, names) = task.split_once(' ').unwrap_or((task, ""));
    // Of several names the last is that which is made.
    let name = names.rsplit(' ').next().unwrap_or(names);
    format!("{verb} '{name}': {error}")
}

/// What an error of the kernel means: those of libzfs_core.h, as lib/libzfs takes them.
fn refusal(error: &io::Error) -> Refusal {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::BUSY) => Refusal::Busy,
        Some(Errno::EXIST) => Refusal::Exists,
        Some(Errno::NOENT) => Refusal::Missing,
        Some(Errno::NOSPC | Errno::DQUOT) => Refusal::Full,
        Some(Errno::PERM) => Refusal::Denied,
        // What it would be made in is encrypted, and its key is not there.
        Some(Errno::ACCESS) => Refusal::Key,
        Some(Errno::AGAIN) => Refusal::Suspended,
        _ => Refusal::Other,
    }
}

/// A property as the kernel takes it.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Value {
    Number(u64),
    Text(String),
}

/// The properties as the kernel takes them; `None` if one is not known here.
fn numbers(settings: &Settings) -> Option<Vec<(String, Value)>> {
    settings.iter().map(|(name, value)| Some((name.clone(), number(name, value)?))).collect()
}

/// The numbers stand in include/sys/fs/zfs.h and in module/zcommon/zfs_prop.c, the same on Linux and on
/// FreeBSD; they are in every stream and cannot change.
fn number(name: &str, value: &str) -> Option<Value> {
    let index = match (name, value) {
        ("atime" | "canmount" | "devices" | "exec" | "readonly" | "relatime" | "setuid", "off") => {
            0
        }
        ("atime" | "canmount" | "devices" | "exec" | "readonly" | "relatime" | "setuid", "on") => 1,
        ("canmount", "noauto") => 2,
        ("acltype", "off" | "noacl") => 0,
        ("acltype", "posix" | "posixacl") => 1,
        ("xattr", "off") => 0,
        ("xattr", "dir") => 1,
        ("xattr", "sa") => 2,
        ("mountpoint", _) => return Some(Value::Text(value.to_owned())),
        // Those of users have no meaning to the kernel.
        (name, _) if name.contains(':') => return Some(Value::Text(value.to_owned())),
        _ => return None,
    };
    Some(Value::Number(index))
}

fn list(settings: &[(String, Value)]) -> io::Result<NvList> {
    let mut list = NvList::try_new_unique_names()?;
    for (name, value) in settings {
        let name = text(name)?;
        match value {
            Value::Number(number) => insert(&mut list, &name, *number)?,
            Value::Text(value) => list.insert(&*name, &*text(value)?)?,
        }
    }
    Ok(list)
}

/// Inserts a number, for which the crate nvpair has no function.
#[expect(unsafe_code, reason = "a call into the C library")]
fn insert(list: &mut NvList, name: &CString, number: u64) -> io::Result<()> {
    // SAFETY: the list is alive and borrowed by nobody else; the name ends with a zero, and is copied.
    let status =
        unsafe { nvpair_sys::nvlist_add_uint64(list.as_mut_ptr().cast(), name.as_ptr(), number) };
    if status == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(status)) }
}

fn text(text: &str) -> io::Result<CString> {
    // The crates' own conversion panics at a zero.
    CString::new(text).map_err(io::Error::other)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn properties_are_numbers_where_the_kernel_wants_them() {
        assert_eq!(number("canmount", "noauto"), Some(Value::Number(2)));
        assert_eq!(number("setuid", "off"), Some(Value::Number(0)));
        assert_eq!(number("mountpoint", "/a b"), Some(Value::Text("/a b".to_owned())));
        assert_eq!(number("netbe:role", "be"), Some(Value::Text("be".to_owned())));
        assert_eq!(number("compression", "lz4"), None);
        assert_eq!(number("atime", "perhaps"), None);
    }

    #[test]
    fn a_refusal_names_what_was_to_be_made() {
        let error = io::Error::from_raw_os_error(Errno::EXIST.raw_os_error());
        assert_eq!(refusal(&error), Refusal::Exists);
        let said = error_text("clone tank/be/a@x tank/be/b", &error);
        assert!(said.starts_with("clone 'tank/be/b': "), "{said}");
    }
}
