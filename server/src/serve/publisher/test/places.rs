//! Directories that somebody has replaced behind the server.

use std::ops::ControlFlow;

use tokio::time::timeout;
use vfs::{Caller, EntryDetail};
use wire::codec::Codec as _;
use wire::mount3::{self, DirPath, MntRes, MountStat};

use super::*;
use crate::boot::Booter;
use crate::nfs::export::bench::{Client, STRANGER, open_to_all};
use crate::nfs::mount::Mount;

/// MNT of `/be/head` by somebody who may, while the store is looked at whenever MNT asks for it. Gives the
/// names in the directory that the handle is of.
fn mounted(bench: &Bench) -> Result<Vec<String>, MountStat> {
    let boots = Arc::clone(&bench.publisher.boots) as Arc<dyn Booter>;
    let exports = &bench.publisher.exports;
    let program = Arc::new(Mount::new(Arc::clone(exports), boots, Arc::new(SystemClock)));
    let ended = AtomicBool::new(false);
    let results = thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            let runtime = runtime.unwrap();
            while !ended.load(Ordering::Relaxed) {
                let reported = exports.suspects().reported();
                let asked = runtime
                    .block_on(async { timeout(Duration::from_millis(20), reported).await.is_ok() });
                if asked {
                    bench.publisher.look_again();
                }
            }
        });
        let client = Client::at(STRANGER);
        let results = client.results(&program, mount3::VERSION, 1, &DirPath(b"/be/head"));
        ended.store(true, Ordering::Relaxed);
        results
    });
    let handle = match MntRes::from_bytes(&results).unwrap() {
        MntRes::Ok { handle, .. } => handle.0,
        MntRes::Fail(status) => return Err(status),
    };
    let (export, view, root) = exports.open(handle).unwrap();
    let resolved = export.files.seen(view).resolve(&root).unwrap();
    let mut names = Vec::new();
    let listed = resolved.run(|tree, dir| {
        tree.readdir(&Caller::ROOT, dir, 0, EntryDetail::Name, &mut |entry| {
            names.push(String::from_utf8(entry.name.to_vec()).unwrap());
            ControlFlow::Continue(())
        })
    });
    listed.expect("the handle is stale");
    names.retain(|name| !name.starts_with('.'));
    names.sort();
    Ok(names)
}

fn share_head(bench: &Bench) {
    let shared = ExportSettings { insecure: true, ..open_to_all() };
    bench.store.set_export(&name("head"), shared).unwrap();
    bench.publisher.publish(Scope::Named(&[name("head")])).unwrap();
}

#[test]
fn a_directory_that_was_removed_and_made_again_is_mounted_as_it_is_now() {
    let bench = Bench::new();
    share_head(&bench);
    for name in ["first", "second"] {
        fs::remove_dir_all(bench.path("be/head")).unwrap();
        fs::create_dir(bench.path("be/head")).unwrap();
        fs::write(bench.path("be/head").join(name), "").unwrap();
        assert_eq!(mounted(&bench), Ok(vec![name.to_owned()]));
    }
    assert_eq!(bench.publisher.unserved(), [""; 0]);
}

#[test]
fn a_directory_that_was_moved_away_is_not_served_when_another_has_its_place() {
    let bench = Bench::new();
    share_head(&bench);
    let before = bench.publisher.exports.root_handle(bench.uuid("head")).unwrap();
    fs::rename(bench.path("be/head"), bench.path("aside")).unwrap();
    fs::create_dir(bench.path("be/head")).unwrap();
    fs::write(bench.path("be/head/restored"), "").unwrap();
    bench.publisher.look_again();
    assert_ne!(bench.publisher.exports.root_handle(bench.uuid("head")), Some(before));
    assert_eq!(mounted(&bench), Ok(vec!["restored".to_owned()]));
    // What was not touched is not opened again, and keeps its handles.
    assert_eq!(bench.answers()[1..], [SERVED; 2]);
}

#[test]
fn a_directory_that_was_removed_is_refused_and_its_name_told() {
    let bench = Bench::new();
    share_head(&bench);
    fs::remove_dir_all(bench.path("be/head")).unwrap();
    assert_eq!(mounted(&bench), Err(MountStat::Io));
    assert!(bench.is_told("`netbe destroy -f head`"));
    assert_eq!(bench.answers(), [WAITS, SERVED, SERVED]);
}
