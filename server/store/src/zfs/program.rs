//! Changes to several data sets at one instant, as channel programs (zfs-program(8)).
//!
//! A channel program runs inside one transaction group: a loss of power leaves all of it or nothing.
//! What fails half-way is not undone, so each first asks whether every change would succeed.

use super::command::{Failure, Task};

/// A change of one property.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Change {
    /// The data set.
    pub(super) dataset: String,
    /// The user property.
    pub(super) property: String,
    /// What it shall say; without it, it is no longer set here.
    pub(super) value: Option<String>,
}

/// Sets and takes away user properties.
pub(super) fn set(pool: &str, changes: &[Change]) -> Result<(), Failure> {
    let mut argv = Vec::new();
    for Change { dataset, property, value } in changes {
        let operation = if value.is_some() { "set" } else { "inherit" };
        argv.extend([operation, dataset, property, value.as_deref().unwrap_or_default()]);
    }
    run(pool, SET, &argv)
}

/// Makes each of these data sets what its origin depends on.
pub(super) fn promote(pool: &str, datasets: &[&str]) -> Result<(), Failure> {
    run(pool, PROMOTE, datasets)
}

/// Destroys the snapshots `newer` of the data sets, newest first, and makes the data sets what they
/// were at their newest snapshot then. Nothing of them may be mounted.
pub(super) fn rollback(pool: &str, newer: &[String], datasets: &[&str]) -> Result<(), Failure> {
    let destroys = newer.iter().flat_map(|snapshot| ["destroy", snapshot.as_str()]);
    let rollbacks = datasets.iter().flat_map(|dataset| ["rollback", dataset]);
    let argv: Vec<&str> = destroys.chain(rollbacks).collect();
    run(pool, ROLLBACK, &argv)
}

fn run(pool: &str, script: &str, argv: &[&str]) -> Result<(), Failure> {
    if argv.is_empty() {
        return Ok(());
    }
    let script = [REFUSE, script].concat();
    // The default limits are for ten million instructions and ten MiB: enough for thousands of sets.
    Task::zfs("program").arg(pool).arg("-").args(argv).feed(script.as_bytes()).map(|_json| ())
}

/// Ends the program with an error in the words of zfs(8), by the number that the kernel gave:
/// errno(3) of Linux and of FreeBSD where they differ.
const REFUSE: &str = r#"
local words = {
    [2] = "dataset does not exist", [16] = "dataset is busy", [17] = "dataset already exists",
    [28] = "out of space", [69] = "quota exceeded", [122] = "quota exceeded",
}
local function refuse(name, number)
    if number ~= 0 then
        error("cannot change '" .. name .. "': " .. (words[number] or ("error " .. number)))
    end
end
"#;

const SET: &str = r#"
local argv = (...)["argv"]
for i = 1, #argv, 4 do
    local name, property, value = argv[i + 1], argv[i + 2], argv[i + 3]
    if argv[i] == "set" then
        refuse(name, zfs.check.set_prop(name, property, value))
    end
end
for i = 1, #argv, 4 do
    local name, property, value = argv[i + 1], argv[i + 2], argv[i + 3]
    if argv[i] == "set" then
        refuse(name, zfs.sync.set_prop(name, property, value))
    else
        refuse(name, zfs.sync.inherit(name, property))
    end
end
"#;

const PROMOTE: &str = r#"
local argv = (...)["argv"]
for _, name in ipairs(argv) do
    local number, conflicts = zfs.check.promote(name)
    if conflicts ~= nil and #conflicts > 0 then
        error("cannot promote '" .. name .. "': snapshot " .. conflicts[1] .. " already exists")
    end
    refuse(name, number)
end
for _, name in ipairs(argv) do
    refuse(name, (zfs.sync.promote(name)))
end
"#;

const ROLLBACK: &str = r#"
local argv = (...)["argv"]
for i = 1, #argv, 2 do
    if argv[i] == "destroy" then
        refuse(argv[i + 1], zfs.check.destroy(argv[i + 1]))
    end
end
for i = 1, #argv, 2 do
    if argv[i] == "rollback" then
        refuse(argv[i + 1], zfs.check.rollback(argv[i + 1]))
    end
end
for i = 1, #argv, 2 do
    if argv[i] == "destroy" then
        refuse(argv[i + 1], zfs.sync.destroy(argv[i + 1]))
    end
end
for i = 1, #argv, 2 do
    if argv[i] == "rollback" then
        refuse(argv[i + 1], zfs.sync.rollback(argv[i + 1]))
    end
end
"#;
