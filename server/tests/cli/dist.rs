//! What packages install: the port's list of files, the rc.d script, the systemd unit.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::bench::netbe;

const PREFIX: &str = "/usr/local";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn port(file: &str) -> String {
    fs::read_to_string(root().join("server/dist/freebsd").join(file)).unwrap()
}

/// The commands of a target of the Makefile, with its variables put in.
fn recipe(target: &str, stage: &Path) -> String {
    let makefile = port("Makefile");
    let rest = makefile.split_once(&format!("\n{target}:\n")).unwrap().1;
    let lines = rest.lines().take_while(|line| line.starts_with('\t'));
    let mut script =
        lines.map(|line| line.trim_start_matches(['\t', '@'])).collect::<Vec<_>>().join("\n");
    for (name, value) in [
        ("STAGEDIR", stage.to_str().unwrap()),
        ("PREFIX", PREFIX),
        ("WRKSRC", root().to_str().unwrap()),
        ("MKDIR", "mkdir -p"),
        ("INSTALL_DATA", "install -m 444"),
        ("LN", "ln"),
        ("MV", "mv"),
    ] {
        script = script.replace(&format!("${{{name}}}"), value);
    }
    assert!(!script.contains("${"), "{script}");
    script
}

/// The files below a directory, as a list of packed files has them.
fn installed(below: &Path, prefix: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            installed(&path, prefix, found);
            continue;
        }
        let name = path.strip_prefix(prefix).unwrap().to_str().unwrap();
        // The framework packs pages; a sample is copied to its name without the suffix.
        found.insert(match name {
            _ if name.starts_with("share/man/") => format!("{name}.gz"),
            _ if name.ends_with(".sample") => format!("@sample {name}"),
            _ => name.to_owned(),
        });
    }
}

#[test]
fn the_ports_list_has_what_its_makefile_installs() {
    let stage = tempfile::tempdir().unwrap();
    let prefix = stage.path().join(PREFIX.trim_start_matches('/'));
    // What USES=cargo does by itself: `cargo install` of the package in CARGO_INSTALL_PATH. A copy is busy
    // as long as a program that another test is starting has it open for writing.
    fs::create_dir_all(prefix.join("bin")).unwrap();
    symlink(netbe(), prefix.join("bin/netbe")).unwrap();
    let script = recipe("post-install", stage.path());
    let output = Command::new("sh").args(["-e", "-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut found = BTreeSet::new();
    installed(&prefix, &prefix, &mut found);
    let list = port("pkg-plist");
    let listed: Vec<&str> = list.lines().collect();
    let mut sorted = listed.clone();
    sorted.sort_by_key(|line| line.trim_start_matches("@sample "));
    assert_eq!(listed, sorted, "pkg-plist is sorted by name");
    let listed: BTreeSet<String> = listed.into_iter().map(str::to_owned).collect();
    assert_eq!(listed, found);
}

#[test]
fn the_port_is_written_as_the_porters_handbook_asks() {
    let makefile = port("Makefile");
    let version = env!("CARGO_PKG_VERSION");
    assert!(makefile.contains(&format!("DISTVERSION=\t{version}\n")), "{makefile}");
    // Chapter 15: the order of the blocks, each behind an empty line.
    let names = [
        "PORTNAME",
        "DISTVERSION",
        "CATEGORIES",
        "MAINTAINER",
        "COMMENT",
        "LICENSE",
        "USES",
        "USE_RC_SUBR",
        "CARGO_BUILD_ARGS",
        "SUB_FILES",
        "\npost-install:",
        ".include <bsd.port.mk>\n",
    ];
    let at = names.map(|name| makefile.find(name).unwrap_or_else(|| panic!("{name}")));
    assert!(at.is_sorted(), "{at:?}");
    assert!(makefile.ends_with("\n.include <bsd.port.mk>\n"));
    let comment = makefile.lines().find_map(|line| line.strip_prefix("COMMENT=\t")).unwrap();
    assert!(
        comment.len() <= 70 && !comment.ends_with('.') && !comment.starts_with("A "),
        "{comment}"
    );
    for line in makefile.lines() {
        assert!(!line.ends_with([' ', '\t']), "{line:?}");
        let variable = line
            .split_once('=')
            .filter(|(name, _)| name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
        assert!(variable.is_none_or(|(_, value)| value.starts_with('\t')), "a tab after =: {line}");
        assert!(!line.starts_with(' '), "{line:?}");
    }
    let description = port("pkg-descr");
    assert!(description.lines().all(|line| line.len() <= 80), "{description}");
    assert!(description.ends_with(".\n") && description.lines().count() <= 24);
    let message = port("files/pkg-message.in");
    assert!(message.starts_with("[\n{ type: install\n  message: <<EOM\n"), "{message}");
    assert!(message.ends_with("\nEOM\n}\n]\n"), "{message}");
    // Only what the framework replaces stands between percent signs.
    for file in ["files/pkg-message.in", "files/netbe.in", "files/netbe_guest.in"] {
        let text = port(file);
        assert!(text.split("%%").skip(1).step_by(2).all(|name| name == "PREFIX"), "{file}");
    }
}

/// What stands for rc.subr(8): as much of its order of things as the script depends on. It reads
/// `netbe_...` from the environment, and shows what would be run.
const RC_SUBR: &str = r#"
load_rc_config() { :; }
check_pidfile() { [ -f "$1" ] && [ "$2" = "$EXPECT_PROGRAM" ] && cat "$1"; }
run_rc_command() {
	rc_flags=${netbe_flags}
	case $1 in
	start)
		case $netbe_enable in [Yy][Ee][Ss]) ;; *) echo 'not enabled'; return 0;; esac
		[ -z "$start_precmd" ] || $start_precmd || return 1
		echo "log: $NETBE_LOG"
		printf 'run:'
		eval "printf ' [%s]' $command $rc_flags $command_args"
		echo ;;
	stop) echo "TERM and wait: $pidfile $procname" ;;
	*)
		case " $extra_commands " in *" $1 "*) eval "\$${1}_cmd" ;; *) return 64 ;; esac ;;
	esac
}
"#;

/// A place for the script where everything it names is below a directory, with a stand-in for netbe that
/// is only to check.
struct Rc {
    dir: tempfile::TempDir,
}

impl Rc {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("rc.subr"), RC_SUBR).unwrap();
        fs::create_dir_all(at("bin")).unwrap();
        fs::create_dir_all(at("etc")).unwrap();
        let netbe = "#!/bin/sh\n\
            for last; do :; done\n\
            [ \"$last\" = -n ] || exit 9\n\
            case \"$*\" in *--store*) case \"$5\" in *\\ store) ;; *) exit 8;; esac;; esac\n\
            if [ -f \"${0%/bin/*}/mistake\" ]; then echo 'netbe: a mistake' >&2; exit 2; fi\n\
            echo what would be served\n";
        fs::write(at("bin/netbe"), netbe).unwrap();
        fs::set_permissions(at("bin/netbe"), fs::Permissions::from_mode(0o755)).unwrap();
        let base = dir.path().to_str().unwrap();
        let script = port("files/netbe.in")
            .replace("%%PREFIX%%", base)
            .replace(". /etc/rc.subr", &format!(". {base}/rc.subr"))
            .replace("/var/run", base)
            .replace("/var/db", base);
        fs::write(at("script"), script).unwrap();
        Self { dir }
    }

    fn base(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    fn run(&self, verb: &str, settings: &[(&str, &str)]) -> Output {
        let mut command = Command::new("sh");
        command.arg(self.dir.path().join("script")).arg(verb).env_clear();
        command
            .env("PATH", "/usr/bin:/bin")
            .env("EXPECT_PROGRAM", self.dir.path().join("bin/netbe"));
        command.envs(settings.iter().copied()).output().unwrap()
    }
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn the_rc_script_starts_netbe_below_a_supervisor() {
    let rc = Rc::new();
    assert_eq!(out(&rc.run("start", &[])), "not enabled\n");
    let base = rc.base();
    let store = format!("dir:{base}/Tom's store");
    fs::write(rc.dir.path().join("etc/netbe.toml"), "").unwrap();
    let settings = [
        ("netbe_enable", "YES"),
        ("netbe_store", &store),
        ("netbe_flags", "--mode passive --loaders 'two words'"),
        ("netbe_log", "debug"),
    ];
    let output = rc.run("start", &settings);
    let expected = format!(
        "/usr/sbin/daemon -f -r -R 5 -P {base}/netbe.supervisor.pid -p {base}/netbe.pid -S -T netbe \
         {base}/bin/netbe serve --state {base}/netbe --store STORE -f {base}/etc/netbe.toml --mode passive \
         --loaders WORDS"
    );
    let expected = expected.split(' ').map(|word| match word {
        "STORE" => format!(" [{store}]"),
        "WORDS" => " [two words]".to_owned(),
        word => format!(" [{word}]"),
    });
    let expected = format!("log: debug\nrun:{}\n", expected.collect::<String>());
    assert_eq!(out(&output), expected, "{}", String::from_utf8_lossy(&output.stderr));
    // A mistake is told once, and nothing is started.
    fs::write(rc.dir.path().join("mistake"), "").unwrap();
    let output = rc.run("start", &settings);
    assert_eq!((out(&output).as_str(), output.status.code()), ("", Some(1)));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "netbe: a mistake\n");
}

#[test]
fn the_rc_script_stops_the_supervisor_and_reloads_netbe_itself() {
    let rc = Rc::new();
    let base = rc.base();
    assert_eq!(
        out(&rc.run("stop", &[])),
        format!("TERM and wait: {base}/netbe.supervisor.pid /usr/sbin/daemon\n")
    );
    let output = rc.run("reload", &[]);
    assert_eq!((out(&output).as_str(), output.status.code()), ("netbe is not running.\n", Some(1)));
    // The one who gets SIGHUP tells of it.
    let heard = rc.dir.path().join("heard");
    let script = format!(
        "trap 'echo heard > {}; exit' HUP; echo ready; while :; do sleep 0.05; done",
        heard.display()
    );
    let mut netbe = Command::new("sh")
        .args(["-c", &script])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Read::read_exact(netbe.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    fs::write(rc.dir.path().join("netbe.pid"), netbe.id().to_string()).unwrap();
    let output = rc.run("reload", &[]);
    assert!(output.status.success(), "{output:?}");
    assert!(netbe.wait().unwrap().success());
    assert_eq!(fs::read_to_string(heard).unwrap(), "heard\n");
}

#[test]
fn the_rc_script_is_ordered_behind_what_netbe_needs() {
    let script = port("files/netbe.in");
    let header = |word: &str| {
        let prefix = format!("# {word}: ");
        script.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap().to_owned()
    };
    assert_eq!(header("PROVIDE"), "netbe");
    let needs = header("REQUIRE");
    // Behind rpcbind: the one who comes first has port 111.
    for needed in ["LOGIN", "FILESYSTEMS", "rpcbind"] {
        assert!(needs.split(' ').any(|word| word == needed), "{needed}: {needs}");
    }
    assert_eq!(header("KEYWORD"), "shutdown");
    assert!(!script.contains("KILL") && !script.contains("kill -9"), "netbe ends by itself");
}

#[test]
fn the_unit_serves_checks_and_reloads() {
    let unit = fs::read_to_string(root().join("server/dist/linux/netbe.service")).unwrap();
    for line in [
        "ExecStartPre=/usr/bin/netbe serve -n $NETBE_FLAGS",
        "ExecStart=/usr/bin/netbe serve $NETBE_FLAGS",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "Restart=on-failure",
        "StartLimitIntervalSec=300",
        "StartLimitBurst=5",
        "KillMode=mixed",
        "WantedBy=multi-user.target",
    ] {
        assert!(unit.lines().any(|own| own == line), "{line}");
    }
    let file = tempfile::tempdir().unwrap();
    // systemd looks for the programs too.
    let path = file.path().join("netbe.service");
    fs::write(&path, unit.replace("/usr/bin/netbe", netbe().to_str().unwrap())).unwrap();
    let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(&path).output() else {
        println!("skipped: systemd-analyze is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr);
    // The pages are not installed here.
    let own = |line: &&str| line.contains("netbe.service:") && !line.contains("Command 'man ");
    assert_eq!(said.lines().find(own), None);
}
