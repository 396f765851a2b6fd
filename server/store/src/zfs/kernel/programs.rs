//! Questions and changes by zfs(8): a program is started for each.

use super::{Answer, Settings};
use crate::zfs::command::{Failure, Task};
use crate::zfs::listing::{About, Depth, Kinds, LOOK, Question};

/// Answers a question about data sets.
pub(in crate::zfs) fn ask(question: Question) -> Answer {
    let Question { about, kinds, depth, names, limit } = question;
    let quads = ["-o", "name,property,value,source"];
    let set = ["-s", "local,received,inherited"];
    let (task, which) = match about {
        About::Columns(columns) => (Task::zfs("list").option("-o", columns), None),
        About::Properties(which) => (Task::zfs("get").flags(quads), Some(which)),
        About::Set(which) => (Task::zfs("get").flags(quads).flags(set), Some(which)),
        About::Described { .. } => (Task::zfs("get").flags(quads), Some("all".to_owned())),
    };
    let kinds = match kinds {
        Kinds::All => "filesystem,volume,snapshot",
        Kinds::FileSystems => "filesystem",
        Kinds::Snapshots => "snapshot",
    };
    let depth: &[_] = match depth {
        Depth::All => &["-r"],
        Depth::Children => &["-d", "1"],
        Depth::One => &["-d", "0"],
    };
    let task = task.flags(["-H", "-p", "-t", kinds]).flags(depth.iter().copied());
    task.operands(which).operands(names).limit(limit).run_on()
}

/// Asks for properties of a pool; gives their values, a line for each.
pub(in crate::zfs) fn ask_pool(properties: &str, pool: &str) -> Result<String, Failure> {
    let ask = Task::zpool("get").flags(["-H", "-p", "-o", "value"]).limit(LOOK);
    ask.operands([properties, pool]).run()
}

/// Brings what was written to a pool to its disks.
pub(in crate::zfs) fn sync(pool: &str) -> Result<(), Failure> {
    silent(Task::zpool("sync").operand(pool))
}

/// Makes a file system.
pub(in crate::zfs) fn create(dataset: &str, settings: &Settings) -> Result<(), Failure> {
    silent(with(Task::zfs("create"), settings).operand(dataset))
}

/// Makes a file system out of a snapshot.
pub(in crate::zfs) fn clone(
    snapshot: &str,
    dataset: &str,
    settings: &Settings,
) -> Result<(), Failure> {
    silent(with(Task::zfs("clone"), settings).operands([snapshot, dataset]))
}

/// Gives a data set, and all below it, another name.
pub(in crate::zfs) fn rename(from: &str, to: &str) -> Result<(), Failure> {
    // -u: nothing is mounted or unmounted on the way, least of all on this host's own root.
    silent(Task::zfs("rename").flags(["-u"]).operands([from, to]))
}

/// Makes snapshots of several data sets of one pool, all at one instant.
pub(in crate::zfs) fn snapshot(snapshots: &[String]) -> Result<(), Failure> {
    silent(Task::zfs("snapshot").operands(snapshots))
}

/// Runs a channel program with the arguments `argv`.
///
/// In a process of its own even where there is the library: a channel program whose process is killed
/// stops at its next hundredth instruction (zcp_lua_counthook() in module/zfs/zcp.c), half done. So a
/// kill of netbe leaves it alone, what a terminal sends does not reach it, and it has all the time that
/// its pool takes: one that has lost its disks does it when they are back.
pub(in crate::zfs) fn run(pool: &str, program: &str, argv: &[&str]) -> Result<(), Failure> {
    // The default limits are for ten million instructions and ten MiB: enough for thousands of sets.
    let task = Task::zfs("program").uninterrupted().operands([pool, "-"]).operands(argv);
    task.feed(program.as_bytes()).map(|_json| ())
}

fn with(task: Task, settings: &Settings) -> Task {
    settings.iter().fold(task, |task, (name, value)| task.property(name, value))
}

fn silent(task: Task) -> Result<(), Failure> {
    task.run().map(|_silence| ())
}
