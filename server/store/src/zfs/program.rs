//! Changes to several data sets at one instant, as channel programs (zfs-program(8)).
//!
//! A channel program runs inside one transaction group: a loss of power leaves all of it or nothing.
//! What fails half-way is not undone, so each first asks whether every change would succeed, as far as
//! that can be asked.

use super::command::Failure;
use super::kernel;

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

/// Destroys snapshots, and file systems and volumes of which nothing else is left then, in this order.
///
/// Before any of it is destroyed it is asked whether somebody has it, or clones depend on it.
pub(super) fn destroy(pool: &str, names: &[String]) -> Result<(), Failure> {
    run(pool, DESTROY, &words(names))
}

/// Destroys snapshots, each with the last of its clones.
pub(super) fn destroy_with_clones(pool: &str, snapshots: &[String]) -> Result<(), Failure> {
    kernel::defer(snapshots).unwrap_or_else(|| run(pool, DEFER, &words(snapshots)))
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
    kernel::run(pool, &[BEGIN, script].concat(), argv)
}

fn words<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<&'a str> {
    names.into_iter().map(String::as_str).collect()
}

/// Ends the program with an error in the words of zfs(8), by the number that the kernel gave:
/// errno(3) of Linux and of FreeBSD where they differ.
const BEGIN: &str = r#"
local argv = (...)["argv"]
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
for i = 1, #argv, 4 do
    local name, property, value = argv[i + 1], argv[i + 2], argv[i + 3]
    if argv[i] == "set" then
        refuse(name, zfs.check.set_prop(name, property, value))
    end
end
for i = 1, #argv, 4 do
    local name, property, value = argv[i + 1], argv[i + 2], argv[i + 3]
    local number
    if argv[i] == "set" then
        number = zfs.sync.set_prop(name, property, value)
    else
        number = zfs.sync.inherit(name, property)
    end
    refuse(name, number)
end
"#;

const PROMOTE: &str = r#"
for _, name in ipairs(argv) do
    local number, conflicts = zfs.check.promote(name)
    if conflicts ~= nil and #conflicts > 0 then
        error("cannot promote '" .. name .. "': snapshot '" .. conflicts[1] .. "' already exists")
    end
    refuse(name, number)
end
for _, name in ipairs(argv) do
    refuse(name, (zfs.sync.promote(name)))
end
"#;

/// Of a file system that has children or snapshots it cannot be asked whether it could be destroyed
/// without them: with snapshots it is always busy, and then a rollback is refused only to what is mounted,
/// or open, or being sent.
const DESTROY: &str = r#"
words[17] = "it has dependents"
local cloned
for _, name in ipairs(argv) do
    local number = zfs.check.destroy(name)
    if string.find(name, "@", 1, true) then
        if number == 17 then
            cloned = name
        else
            refuse(name, number)
        end
    elseif number == 16 and (zfs.list.snapshots(name)() == nil or zfs.check.rollback(name) == 16) then
        refuse(name, number)
    end
end
if cloned then
    refuse(cloned, 17)
end
for _, name in ipairs(argv) do
    refuse(name, zfs.sync.destroy(name))
end
"#;

const DEFER: &str = r#"
for _, name in ipairs(argv) do
    refuse(name, zfs.sync.destroy({name, defer = true}))
end
"#;

const ROLLBACK: &str = r#"
for i = 1, #argv, 2 do
    local check = zfs.check[argv[i]]
    refuse(argv[i + 1], check(argv[i + 1]))
end
for i = 1, #argv, 2 do
    local change = zfs.sync[argv[i]]
    refuse(argv[i + 1], change(argv[i + 1]))
end
"#;
