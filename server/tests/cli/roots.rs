//! Roots of machines: made, found again, reset, kept, compared.

use std::fs;
use std::path::Path;

use crate::bench::Bench;
use crate::living::BOOT;

/// A site with a template `head` that has a system's identity, and a machine `desk`.
fn with_template() -> Bench {
    let bench = Bench::new();
    bench.silent(&["create", "head"]);
    let root = bench.root("head");
    for (path, text) in [
        ("etc/hostname", "template\n"),
        ("etc/machine-id", "0123\n"),
        ("etc/ssh/ssh_host_rsa_key", "secret"),
        ("etc/motd", "hello\n"),
        ("boot/vmlinuz", "kernel"),
    ] {
        fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        fs::write(root.join(path), text).unwrap();
    }
    bench.silent(&["machine", "add", "--mac=02:00:00:00:00:07", "desk"]);
    bench
}

/// The same, with a root of its own for the machine.
fn with_own() -> Bench {
    let bench = with_template();
    bench.prints(&["sharepxe", "--machine=desk", "--root=own", "head"]);
    bench
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path).unwrap()
}

fn names(bench: &Bench) -> Vec<String> {
    let list = bench.prints(&["list", "-H"]);
    list.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

fn snapshots(bench: &Bench) -> usize {
    let list = bench.prints(&["list", "-H", "-s"]);
    list.lines().filter(|line| line.starts_with("head@netbe-")).count()
}

/// What the machine boots, as its record says.
fn boots(bench: &Bench) -> String {
    let shown = bench.prints(&["machine", "show", "desk"]);
    let line = shown.lines().find_map(|line| line.strip_prefix("environment = "));
    line.unwrap().trim_matches('"').to_owned()
}

#[test]
fn a_root_of_its_own_is_made_when_it_is_assigned() {
    let bench = with_template();
    let told = bench.prints(&["sharepxe", "--machine=desk", "--root=own", "head"]);
    assert!(told.starts_with("desk boots desk-head, a clone of head@netbe-"), "{told}");
    for path in ["/etc/hostname", "/etc/machine-id", "/etc/ssh/ssh_host_rsa_key"] {
        assert!(told.contains(&format!("reset {path}\n")), "{told}");
    }
    let root = bench.root("desk-head");
    assert_eq!(
        (read(root.join("etc/hostname")), read(root.join("etc/machine-id"))),
        ("desk\n".into(), String::new())
    );
    assert!(!root.join("etc/ssh/ssh_host_rsa_key").exists());
    assert_eq!(read(bench.root("head").join("etc/hostname")), "template\n");
    assert_eq!(
        (boots(&bench), names(&bench)),
        ("desk-head".into(), vec!["desk-head".into(), "head".into()])
    );
}

#[test]
fn a_root_that_is_there_is_assigned_and_not_made_again() {
    let bench = with_own();
    fs::write(bench.root("desk-head").join("etc/motd"), "mine\n").unwrap();
    bench.silent(&["sharepxe", "--machine=desk", "--root=own", "head"]);
    bench.silent(&["sharepxe", "--machine=desk", "desk-head"]);
    assert_eq!(read(bench.root("desk-head").join("etc/motd")), "mine\n");
    assert_eq!((boots(&bench), names(&bench).len()), ("desk-head".into(), 2));
}

#[test]
fn machines_with_one_template_share_its_snapshot_until_it_changes() {
    let bench = with_own();
    bench.prints(&[
        "machine",
        "add",
        "--mac=02:00:00:00:00:08",
        "--environment=head",
        "--root=own",
        "lab",
    ]);
    assert_eq!(snapshots(&bench), 1);
    fs::write(bench.root("head").join("etc/motd"), "new\n").unwrap();
    bench.prints(&[
        "machine",
        "add",
        "--mac=02:00:00:00:00:09",
        "--environment=head",
        "--root=own",
        "bar",
    ]);
    assert_eq!(snapshots(&bench), 2);
}

#[test]
fn what_a_machine_changed_is_shown() {
    let bench = with_own();
    fs::write(bench.root("desk-head").join("etc/new"), "mine\n").unwrap();
    let diff = bench.prints(&["machine", "diff", "-H", "desk"]);
    let lines: Vec<&str> = diff.lines().collect();
    assert!(lines.contains(&"+\tF\t/etc/new") && lines.contains(&"M\tF\t/etc/hostname"), "{diff}");
    assert!(!diff.contains("motd"), "{diff}");
}

#[test]
fn a_reset_root_is_as_its_template_was_and_has_the_machines_name() {
    let bench = with_own();
    fs::write(bench.root("desk-head").join("etc/motd"), "mine\n").unwrap();
    fs::write(bench.root("head").join("etc/motd"), "of today\n").unwrap();
    bench.prints(&["machine", "reset", "desk"]);
    assert_eq!(
        (boots(&bench), names(&bench)),
        ("desk-head-2".into(), vec!["desk-head-2".into(), "head".into()])
    );
    assert_eq!(read(bench.root("desk-head-2").join("etc/motd")), "hello\n");
    bench.prints(&["machine", "reset", "desk"]);
    assert_eq!((boots(&bench), names(&bench).len()), ("desk-head".into(), 2));
}

/// Has everything fail that writes down what a machine boots, and only that.
fn write_nothing_down(bench: &Bench) {
    let lock = bench.state().join("change.lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(lock).unwrap();
}

#[test]
fn a_root_that_cannot_be_written_down_leaves_nothing() {
    let bench = with_own();
    bench.silent(&["snapshot", "head@next"]);
    fs::write(bench.root("head").join("etc/motd"), "next\n").unwrap();
    bench.silent(&["machine", "add", "--mac=02:00:00:00:00:08", "--root=own", "lap"]);
    write_nothing_down(&bench);
    for arguments in [
        &["machine", "reset", "desk"][..],
        &["upgrade", "desk", "head"],
        &["activate", "desk", "head@next"],
        &["sharepxe", "--machine=lap", "head"],
    ] {
        let (why, status) = bench.fails(arguments);
        assert!(why.contains("change.lock") && status == 2, "{why}");
        assert_eq!(names(&bench), ["desk-head", "head"], "{arguments:?}");
    }
    assert_eq!(boots(&bench), "desk-head");
}

#[test]
fn what_cannot_be_made_is_not_assigned() {
    let bench = with_template();
    // With the machine's in front it is longer than a name can be.
    let long = "h".repeat(200);
    bench.silent(&["clone", "head", &long]);
    let before = bench.prints(&["machine", "show", "desk"]);
    let (why, _) = bench.fails(&["sharepxe", "--machine=desk", "--root=own", &long]);
    assert!(why.contains("long"), "{why}");
    assert_eq!(bench.prints(&["machine", "show", "desk"]), before);
    let (why, _) = bench.fails(&["machine", "set", "--root=own", "--environment", &long, "desk"]);
    assert!(why.contains("long"), "{why}");
    assert_eq!(bench.prints(&["machine", "show", "desk"]), before);
}

#[test]
fn a_copy_is_kept_that_is_nobodys() {
    let bench = with_own();
    bench.silent(&["machine", "keep", "desk", "kept"]);
    assert_eq!(read(bench.root("kept").join("etc/hostname")), "desk\n");
    bench.prints(&["machine", "reset", "desk"]);
    assert!(names(&bench).contains(&"kept".to_owned()), "{:?}", names(&bench));
    bench.refuses(
        &["machine", "keep", "desk", "kept"],
        "kept exists already: choose another name, or destroy it first",
    );
}

#[test]
fn a_template_of_a_root_has_nothing_that_tells_the_machine() {
    let bench = with_own();
    fs::write(bench.root("desk-head").join("etc/ssh/ssh_host_rsa_key"), "desk's").unwrap();
    fs::write(bench.root("desk-head").join("etc/motd"), "improved\n").unwrap();
    let reset = bench.prints(&["machine", "promote", "desk", "better"]);
    assert!(reset.contains("reset /etc/ssh/ssh_host_rsa_key\n"), "{reset}");
    assert!(!bench.root("better").join("etc/ssh/ssh_host_rsa_key").exists());
    assert_eq!(read(bench.root("better").join("etc/motd")), "improved\n");
    assert_eq!(read(bench.root("desk-head").join("etc/ssh/ssh_host_rsa_key")), "desk's");
    let told = bench.prints(&["sharepxe", "--machine=desk", "--root=own", "better"]);
    assert!(told.starts_with("desk boots desk-better, a clone of better@netbe-"), "{told}");
}

#[test]
fn data_sets_that_are_marked_get_a_place_that_all_roots_of_a_machine_share() {
    let bench = Bench::new();
    bench.silent(&["create", "-l", "linux", "head"]);
    bench.silent(&["set", "data=home", "data=var/log", "head"]);
    bench.silent(&["machine", "add", "--mac=02:00:00:00:00:07", "desk"]);
    bench.prints(&["sharepxe", "--machine=desk", "--root=own", "head"]);
    assert_eq!(names(&bench), ["desk-data", "desk-head", "head"]);
    bench.refuses(
        &["destroy", "desk-data"],
        "desk-data contains the data of desk: destroy with -f if nobody needs the data any more",
    );
    bench.prints(&["machine", "reset", "desk"]);
    assert_eq!(names(&bench), ["desk-data", "desk-head-2", "head"]);
    bench.silent(&["machine", "keep", "desk", "kept"]);
    bench.prints(&["sharepxe", "--machine=desk", "--root=own", "kept"]);
    assert_eq!(names(&bench), ["desk-data", "desk-head-2", "desk-kept", "head", "kept"]);
}

#[test]
fn a_snapshot_is_cloned_or_refused() {
    let bench = with_template();
    bench.silent(&["snapshot", "head@monday"]);
    fs::write(bench.root("head").join("etc/motd"), "of today\n").unwrap();
    bench.cannot(
        &["sharepxe", "--machine=desk", "head@monday"],
        "head@monday is a snapshot, which cannot boot: give --root own or fresh, for a clone of it",
    );
    let told = bench.prints(&["sharepxe", "--machine=desk", "--root=own", "head@monday"]);
    assert!(told.starts_with("desk boots desk-head, a clone of head@monday\n"), "{told}");
    assert_eq!(read(bench.root("desk-head").join("etc/motd")), "hello\n");
}

#[test]
fn a_fresh_root_is_not_made_before_it_is_booted() {
    let bench = with_template();
    bench.silent(&["sharepxe", "--machine=desk", "--root=fresh", "head"]);
    assert_eq!((boots(&bench), names(&bench)), ("head".into(), vec!["head".into()]));
    bench.refuses(&["machine", "diff", "desk"], "desk has not booted yet");
    bench.refuses(
        &["machine", "reset", "desk"],
        "desk has no root of its own: give it one with `netbe sharepxe --machine desk --root own BE`",
    );
}

/// While a machine runs on one root, a DISCOVER in its name has another one made.
#[test]
fn the_root_on_which_a_machine_runs_is_meant_and_not_a_newer_one() {
    let bench = with_template();
    for name in ["desk-head", "desk-head-2"] {
        bench.prints(&["sharepxe", "--machine=desk", "--root=own", "head"]);
        fs::write(bench.root(name).join("etc/motd"), name).unwrap();
        let path = bench.state().join(format!("store/meta/{name}.toml"));
        fs::write(&path, read(&path) + "fresh = \"true\"\n").unwrap();
        bench.silent(&["sharepxe", "--machine=desk", "--root=fresh", "head"]);
    }
    bench.silent(&["machine", "keep", "desk", "newest"]);
    assert_eq!(read(bench.root("newest").join("etc/motd")), "desk-head-2");
    let list: serde_json::Value = serde_json::from_str(&bench.prints(&["list", "-j"])).unwrap();
    let uuid = |name| {
        let mut listed = list.as_array().unwrap().iter();
        listed.find(|environment| environment["name"] == name).unwrap()["uuid"].as_str().unwrap()
    };
    let boots = bench.state().join("boots");
    fs::create_dir_all(&boots).unwrap();
    let ran = |mac: &str, name| {
        let record = BOOT.replace("52:54:00:00:00:01", mac).replace("UUID", uuid(name));
        fs::write(boots.join(format!("{}.json", mac.replace(':', "-"))), record).unwrap();
    };
    ran("52:54:00:00:00:01", "desk-head");
    bench.silent(&["machine", "keep", "desk", "kept"]);
    assert_eq!(read(bench.root("kept").join("etc/motd")), "desk-head");
    ran("52:54:00:00:00:02", "desk-head-2");
    bench.refuses(
        &["machine", "diff", "desk"],
        "desk may run on any of its roots desk-head, desk-head-2: shut it down, or name the root in `netbe \
         clone` or `netbe diff`",
    );
}

#[test]
fn what_a_killed_command_left_is_cleared_away() {
    let bench = with_template();
    bench.leave_half("head", "desk-head");
    bench.prints(&["sharepxe", "--machine=desk", "--root=own", "head"]);
    assert_eq!(names(&bench), ["desk-head", "head"]);
}

#[test]
fn a_copy_has_its_name_when_it_has_nothing_more_of_the_machine() {
    let bench = with_own();
    bench.leave_half("head", "better");
    bench.prints(&["machine", "promote", "desk", "better"]);
    bench.prints(&["clone", "--reset-identity", "desk-head", "other"]);
    bench.silent(&["machine", "keep", "desk", "kept"]);
    assert_eq!(names(&bench), ["better", "desk-head", "head", "kept", "other"]);
    for name in ["better", "kept", "other"] {
        let told = bench.prints(&["get", "-H", "all", name]);
        assert!(!told.contains("machine\tdesk") && !told.contains("draft"), "{told}");
    }
    bench.refuses(
        &["clone", "--reset-identity", "head", "other"],
        "other exists already: choose another name, or destroy it first",
    );
    assert_eq!(names(&bench).len(), 5);
}

#[test]
fn a_template_may_be_called_as_the_data_are() {
    let bench = Bench::new();
    bench.silent(&["create", "-l", "linux", "data"]);
    bench.silent(&["set", "data=home", "data"]);
    bench.silent(&["machine", "add", "--mac=02:00:00:00:00:07", "desk"]);
    bench.prints(&["sharepxe", "--machine=desk", "--root=own", "data"]);
    assert_eq!(names(&bench), ["data", "desk-data", "desk-data-2"]);
    assert_eq!(boots(&bench), "desk-data");
}

#[test]
fn a_clone_of_nobodys_loses_its_identity_only_if_told_to() {
    let bench = with_template();
    bench.silent(&["clone", "head", "same"]);
    assert_eq!(read(bench.root("same").join("etc/machine-id")), "0123\n");
    let reset = bench.prints(&["clone", "--reset-identity", "head", "other"]);
    assert_eq!(reset, "reset /etc/machine-id\nreset /etc/ssh/ssh_host_rsa_key\n");
    assert_eq!(read(bench.root("other").join("etc/hostname")), "template\n");
}

#[test]
fn a_template_that_is_renamed_is_still_known() {
    let bench = with_own();
    bench.silent(&["rename", "head", "base"]);
    assert!(bench.prints(&["machine", "diff", "-H", "desk"]).contains("/etc/hostname"));
    bench.prints(&["machine", "reset", "desk"]);
    assert_eq!(boots(&bench), "desk-base");
}

#[test]
fn a_root_is_found_by_what_its_template_is_called_now() {
    let bench = with_own();
    bench.silent(&["rename", "head", "base"]);
    bench.silent(&["sharepxe", "--machine=desk", "--root=own", "base"]);
    assert_eq!((boots(&bench), names(&bench).len()), ("desk-head".into(), 2));
    bench.silent(&["clone", "base", "head"]);
    let told = bench.prints(&["activate", "desk", "head"]);
    assert!(told.starts_with("desk boots desk-head-2, a clone of head@netbe-"), "{told}");
}

/// The same machine, in netbe.toml as the last server noted it, in the place of its record.
fn configured(bench: &Bench, environment: &str) {
    bench.silent(&["machine", "remove", "desk"]);
    let record = format!(
        "[machines.desk]\nmacs = [\"02:00:00:00:00:07\"]\nroot = \"own\"\n\
         environment = \"{environment}\"\n"
    );
    fs::write(bench.state().join("configured.toml"), record).unwrap();
}

#[test]
fn a_machine_of_the_configuration_file_is_reset_without_a_word_in_it() {
    let bench = with_own();
    configured(&bench, "head");
    let told = bench.prints(&["machine", "reset", "desk"]);
    assert!(told.starts_with("desk boots desk-head-2, a clone of head@netbe-"), "{told}");
    assert_eq!(names(&bench), ["desk-head-2", "head"]);
}

#[test]
fn what_a_machine_of_the_configuration_file_boots_is_changed_there_and_nothing_is_made() {
    let bench = with_own();
    configured(&bench, "desk-head");
    bench.silent(&["clone", "head", "next"]);
    fs::write(bench.root("next").join("etc/motd"), "new\n").unwrap();
    let fixed = "machine desk is defined in netbe.toml: change it there";
    for words in [
        &["machine", "reset", "desk"][..],
        &["activate", "desk", "next"],
        &["activate", "-t", "desk", "next"],
        &["upgrade", "desk", "next"],
    ] {
        bench.refuses(words, fixed);
    }
    let dry = bench.run(&["upgrade", "-n", "desk", "next"]);
    assert!(dry.out.contains("take      /etc/motd\n"), "{dry:?}");
    assert_eq!((dry.err, dry.status), (format!("netbe: {fixed}\n"), Some(1)));
    assert_eq!(names(&bench), ["desk-head", "head", "next"]);
    assert!(!bench.prints(&["list", "-H", "-s"]).contains("next@"));
}

#[test]
fn the_root_of_a_machine_of_the_configuration_file_is_not_destroyed_by_oversight() {
    let bench = with_own();
    configured(&bench, "head");
    bench.refuses(
        &["destroy", "desk-head"],
        "desk boots desk-head: assign another with `netbe sharepxe`, or destroy with -f",
    );
    bench.silent(&["destroy", "-f", "desk-head"]);
}

#[test]
fn what_a_root_was_made_from_is_not_taken_away_by_oversight() {
    let bench = with_template();
    for snapshot in ["head@first", "head@second"] {
        bench.silent(&["snapshot", snapshot]);
    }
    bench.prints(&["sharepxe", "--machine=desk", "--root=own", "head@second"]);
    let reason = "desk-head was cloned from head@second: without head@second, desk can be neither reset nor \
                  upgraded";
    for (verb, words) in [
        ("destroy", &["destroy", "head"][..]),
        ("destroy", &["destroy", "head@second"]),
        ("roll back", &["rollback", "-r", "head@first"]),
    ] {
        let sentence = format!("{reason}; {verb} with -f if nobody needs it");
        bench.refuses(words, &sentence);
    }
    bench.silent(&["destroy", "head@first"]);
    bench.silent(&["destroy", "-f", "head"]);
    assert_eq!(names(&bench), ["desk-head"]);
}

#[test]
fn a_template_that_nobody_was_made_from_any_more_is_destroyed() {
    let bench = with_own();
    bench.silent(&["machine", "remove", "desk"]);
    bench.silent(&["destroy", "head"]);
    assert_eq!(names(&bench), ["desk-head"]);
}

#[test]
fn the_list_has_the_name_that_an_origin_has_now() {
    let bench = with_own();
    bench.silent(&["rename", "head", "base"]);
    let list = bench.prints(&["list", "-H", "-o", "name,role,origin", "desk-head"]);
    let fields: Vec<&str> = list.split('\t').collect();
    assert_eq!(fields[..2], ["desk-head", "client"]);
    assert!(fields[2].starts_with("base@netbe-"), "{list}");
    let surveyed = bench.prints(&["list", "-H", "-s", "desk-head"]);
    assert!(surveyed.contains("\tbase@netbe-"), "{surveyed}");
}

#[test]
fn the_history_tells_a_command_of_many_steps_in_one_line() {
    let bench = with_own();
    let told = |words: &[&str]| {
        let history = bench.prints(words);
        let rows = history.lines().map(|line| line.split('\t').skip(2).take(2).collect());
        rows.map(|row: Vec<&str>| row.join(" ")).collect::<Vec<_>>()
    };
    let commands = [
        "create flat head",
        "machine add --mac=02:00:00:00:00:07 desk",
        "sharepxe --machine=desk --root=own head",
    ];
    assert_eq!(told(&["history", "-H"]), commands);
    let all = told(&["history", "-H", "-a"]);
    let own = told(&["history", "-H", "desk-head"]);
    assert!(own[0].starts_with("clone head@netbe-") && own[0].ends_with(" desk-head"), "{own:?}");
    assert!(own[1].starts_with("set machine=desk template=head@netbe-"), "{own:?}");
    assert!(own.len() == 2 && own.iter().all(|row| all.contains(row)), "{own:?} {all:?}");
    bench.fails(&["activate", "desk", "nothing"]);
    let last = bench.prints(&["history", "-H", "desk"]);
    let last = last.lines().last().unwrap();
    assert!(last.contains("failed: there is no boot environment nothing"), "{last}");
}
