use std::cell::RefCell;

use tempfile::TempDir;

use super::*;
use crate::fault::test::killed_after;

/// Notes what it is asked to settle, and fails at what is called `stuck`.
#[derive(Debug, Default)]
struct Noting {
    settled: RefCell<Vec<String>>,
    kept: RefCell<Vec<Uuid>>,
}

impl Keeper<String> for Noting {
    fn keep(&self, intent: &Intent<String>, _text: &str) -> Result<(), StoreError> {
        self.kept.borrow_mut().push(intent.uuid);
        Ok(())
    }

    fn forget(&self, intent: &Intent<String>) -> Result<(), StoreError> {
        self.kept.borrow_mut().retain(|uuid| *uuid != intent.uuid);
        Ok(())
    }

    fn remedy(&self, intent: Uuid) -> String {
        format!("take {intent} away where it is kept")
    }

    fn settle(&self, intent: &Intent<String>) -> Result<(), StoreError> {
        self.settled.borrow_mut().extend(intent.steps.iter().cloned());
        match intent.steps.iter().any(|step| step == "stuck") {
            true => Err(StoreError::Unsupported("it is stuck")),
            false => Ok(()),
        }
    }
}

fn intent(step: &str) -> Intent<String> {
    let head = Concerned { name: "head".to_owned(), uuid: Uuid::from_u128(7) };
    Intent::new("destroy", vec![head], vec![step.to_owned()])
}

fn journal(dir: &TempDir) -> Journal {
    Journal::open(dir.path().join("journal")).unwrap()
}

fn files(dir: &TempDir) -> usize {
    fs::read_dir(dir.path().join("journal")).unwrap().count()
}

fn sweep(dir: &TempDir, keeper: &Noting, tries: Tries) -> Vec<Pending> {
    journal(dir).sweep(keeper, dir.path(), None, tries).unwrap()
}

/// On btrfs the lock of a record need not reach the disk before it.
#[test]
fn a_record_that_was_being_written_when_the_power_was_lost_goes() {
    let (dir, keeper) = (TempDir::new().unwrap(), Noting::default());
    let new = journal(&dir).folder.join(format!("{}{NEW}", Uuid::from_u128(1)));
    fs::write(new, "{\"uuid\":").unwrap();
    assert_eq!(sweep(&dir, &keeper, Tries::Few), []);
    assert_eq!((files(&dir), keeper.settled.borrow().len()), (0, 0));
}

/// Nothing waits for the record of what is made at one instant.
#[test]
fn a_record_of_which_only_the_name_reached_the_disk_goes() {
    let (dir, keeper) = (TempDir::new().unwrap(), Noting::default());
    fs::write(journal(&dir).folder.join(format!("{}.json", Uuid::from_u128(1))), "").unwrap();
    assert_eq!(sweep(&dir, &keeper, Tries::Few), []);
    assert_eq!((files(&dir), keeper.settled.borrow().len()), (0, 0));
}

#[test]
fn what_comes_to_its_end_leaves_nothing_and_is_not_settled() {
    let (dir, keeper) = (TempDir::new().unwrap(), Noting::default());
    let open = journal(&dir).begin(&keeper, intent("a"), Holders::Programs).unwrap();
    assert_eq!((files(&dir), keeper.kept.borrow().len()), (2, 1));
    // Its process lives.
    assert_eq!(sweep(&dir, &keeper, Tries::Once), []);
    open.end();
    assert_eq!((files(&dir), keeper.kept.borrow().len()), (0, 0));
    assert!(keeper.settled.borrow().is_empty());
}

#[test]
fn what_fails_is_settled_at_once() {
    let (dir, keeper) = (TempDir::new().unwrap(), Noting::default());
    drop(journal(&dir).begin(&keeper, intent("a"), Holders::Programs).unwrap());
    assert_eq!(*keeper.settled.borrow(), ["a"]);
    assert_eq!((files(&dir), keeper.kept.borrow().len()), (0, 0));
}

/// At every point: nothing is written down, or it is settled by the next, or it was ended.
#[test]
fn what_is_killed_is_settled_by_the_next_wherever_it_came_to() {
    let verb = |dir: &TempDir, keeper: &Noting| {
        let mut open = journal(dir).begin(keeper, intent("undo"), Holders::Programs).unwrap();
        open.turn(vec!["complete".to_owned()]).unwrap();
        open.end();
    };
    let mut seen = Vec::new();
    for passed in 0.. {
        let (dir, keeper) = (TempDir::new().unwrap(), Noting::default());
        let ended = killed_after(passed, || verb(&dir, &keeper)).is_some();
        assert_eq!(sweep(&dir, &keeper, Tries::Few), []);
        assert_eq!((files(&dir), keeper.kept.borrow().len()), (0, 0), "after {passed}");
        seen.push(keeper.settled.borrow().join(" "));
        if ended {
            break;
        }
    }
    seen.dedup();
    // Nothing yet, undone, completed, ended.
    assert_eq!(seen, ["", "undo", "complete", ""]);
}

#[test]
fn what_stays_is_tried_some_times_then_shown_until_somebody_asks() {
    let (dir, keeper) = (TempDir::new().unwrap(), Noting::default());
    drop(journal(&dir).begin(&keeper, intent("stuck"), Holders::Programs).unwrap());
    for tries in [2, 3, 4, 5, 5, 5] {
        let [left] = &sweep(&dir, &keeper, Tries::Few)[..] else { panic!() };
        assert_eq!((left.tries, left.error.as_deref()), (tries, Some("it is stuck")));
        assert_eq!((left.verb.as_str(), left.environments[0].name.as_str()), ("destroy", "head"));
    }
    assert_eq!(keeper.settled.borrow().len(), 5);
    assert_eq!(sweep(&dir, &keeper, Tries::None)[0].tries, 5);
    assert_eq!(sweep(&dir, &keeper, Tries::Once)[0].tries, 6);
}

#[test]
fn half_a_record_is_shown_and_nothing_is_done_by_it() {
    let (dir, keeper) = (TempDir::new().unwrap(), Noting::default());
    let whole = serde_json::to_string(&intent("a")).unwrap();
    let folder = journal(&dir).folder;
    let uuid = Uuid::new_v4();
    fs::write(folder.join(format!("{uuid}.json")), &whole[..whole.len() / 2]).unwrap();
    let [left] = &sweep(&dir, &keeper, Tries::Once)[..] else { panic!() };
    assert_eq!((left.uuid, left.environments.len()), (uuid, 0));
    let error = left.error.as_ref().unwrap();
    assert!(error.contains("cannot be read"), "{error}");
    assert!(error.ends_with(&format!("then take {uuid} away where it is kept")), "{error}");
    assert!(keeper.settled.borrow().is_empty());
}

/// Before its record is whole a process has done nothing.
#[test]
fn a_lock_without_a_record_is_removed() {
    let (dir, keeper) = (TempDir::new().unwrap(), Noting::default());
    let (folder, uuid) = (journal(&dir).folder, Uuid::new_v4());
    fs::write(folder.join(uuid.to_string()), "").unwrap();
    fs::write(folder.join(format!("{uuid}.new")), "{\"uuid\"").unwrap();
    assert_eq!(sweep(&dir, &keeper, Tries::Few), []);
    assert_eq!(files(&dir), 0);
}

#[test]
fn a_record_that_is_kept_elsewhere_is_taken_over_unless_its_process_lives() {
    let (dir, keeper) = (TempDir::new().unwrap(), Noting::default());
    let text = |intent: &Intent<String>| Ok(Some(serde_json::to_string(intent).unwrap()));
    let left = intent("elsewhere");
    journal(&dir).adopt(left.uuid, || text(&left)).unwrap();
    // It came to its end since it was seen.
    journal(&dir).adopt(Uuid::new_v4(), || Ok(None)).unwrap();
    let living = journal(&dir).begin(&keeper, intent("alive"), Holders::Programs).unwrap();
    journal(&dir).adopt(living.uuid(), || panic!("it is known")).unwrap();
    assert_eq!(sweep(&dir, &keeper, Tries::Few), []);
    assert_eq!(*keeper.settled.borrow(), ["elsewhere"]);
    living.end();
    assert_eq!(files(&dir), 0);
}

/// The spare record has its block already, and is there again when it is not needed any more.
#[test]
fn the_spare_record_is_read_as_any_other_and_kept() {
    let dir = TempDir::new().unwrap();
    let journal = journal(&dir);
    journal.keep_spare();
    let (spare, uuid) = (journal.folder.join(SPARE), Uuid::new_v4());
    for text in [serde_json::to_string(&intent("a long step")).unwrap(), "{}".to_owned()] {
        fs::rename(&spare, journal.folder.join("x")).unwrap();
        drop(Journal::fill(&journal.folder.join("x"), &text).unwrap());
        fs::rename(journal.folder.join("x"), journal.record(uuid)).unwrap();
        assert_eq!(journal.read(uuid).unwrap().unwrap().trim_end(), text);
        journal.remove(uuid).unwrap();
        assert_eq!(fs::metadata(&spare).unwrap().len(), ROOM as u64);
    }
}

#[test]
fn what_somebody_works_on_is_not_settled_meanwhile() {
    let (dir, keeper) = (TempDir::new().unwrap(), Noting::default());
    let verb = || journal(&dir).begin(&keeper, intent("a"), Holders::Programs).unwrap();
    assert!(killed_after(2, || verb().end()).is_none());
    let head = lock::try_hold(dir.path(), "head").unwrap();
    assert_eq!(sweep(&dir, &keeper, Tries::Once).len(), 1);
    // But by who has it locked.
    let name = "head".parse().unwrap();
    let other = "other".parse().unwrap();
    let swept = |name| journal(&dir).sweep(&keeper, dir.path(), Some(name), Tries::Once).unwrap();
    assert!(swept(&other).len() == 1 && keeper.settled.borrow().is_empty());
    assert_eq!(swept(&name), []);
    drop(head);
    assert_eq!(*keeper.settled.borrow(), ["a"]);
}
