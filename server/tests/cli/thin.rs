//! Templates split into a base and a skeleton.

use std::fs;
use std::os::unix::fs::symlink;

use crate::bench::Bench;

/// A site with a small system `head`.
fn system() -> Bench {
    let bench = Bench::new();
    bench.silent(&["create", "head"]);
    let root = bench.root("head");
    for path in ["bin", "etc/ssl", "tmp", "usr/local/bin", "usr/share/certs", "var/unbound"] {
        fs::create_dir_all(root.join(path)).unwrap();
    }
    for path in ["bin/sh", ".profile", "usr/share/certs/A.pem"] {
        fs::write(root.join(path), path).unwrap();
    }
    fs::create_dir(root.join("root")).unwrap();
    fs::hard_link(root.join(".profile"), root.join("root/.profile")).unwrap();
    symlink("../../usr/share/certs/A.pem", root.join("etc/ssl/cert.pem")).unwrap();
    symlink("../var/unbound", root.join("etc/unbound")).unwrap();
    bench
}

#[test]
fn a_plan_is_printed_and_nothing_is_done() {
    let bench = system();
    let plan = bench.prints(&["thin", "-n", "-H", "head"]);
    for line in [
        "move\t/etc\t/skeleton/etc",
        "create\t/skeleton/home\t755",
        "link\t/usr/local\t../skeleton/usr/local",
        "rewrite\t/etc/ssl/cert.pem\t\"../../usr/share/certs/A.pem\" becomes \
         \"../../../usr/share/certs/A.pem\"",
        "copy\t/.profile\tno longer one with /root/.profile",
    ] {
        assert!(plan.lines().any(|other| other == line), "{line}: {plan}");
    }
    assert!(!plan.contains("unbound"), "{plan}");
    assert_eq!(bench.prints(&["list", "-H"]).lines().count(), 1);
}

#[test]
fn a_template_is_split_once_and_proved_any_time() {
    let bench = system();
    bench.silent(&["thin", "head"]);
    for again in [&["thin", "head"][..], &["thin", "-n", "head"]] {
        assert_eq!(
            bench.prints(again),
            "head is split already, into head-base and head-skeleton: nothing was changed\n"
        );
    }
    let proof = "head-base with head-skeleton: 8 links checked, the split breaks none; 0 led nowhere \
                 before\n";
    assert_eq!(bench.prints(&["thin", "--check", "head"]), proof);
    let link = bench.root("head-skeleton").join("etc/ssl/cert.pem");
    fs::remove_file(&link).unwrap();
    symlink("../../usr/share/certs/A.pem", &link).unwrap();
    bench.refuses(
        &["thin", "--check", "head"],
        "head-base with head-skeleton: /etc/ssl/cert.pem leads nowhere: it says \
         \"../../usr/share/certs/A.pem\", let it say \"../../../usr/share/certs/A.pem\"",
    );
}

#[test]
fn a_jails_fstab_has_its_base_first() {
    let bench = system();
    bench.silent(&["thin", "head"]);
    bench.silent(&["clone", "head-skeleton", "web"]);
    let root = |name| bench.root(name).display().to_string();
    assert_eq!(
        bench.prints(&["thin", "--fstab", "/jails/web", "web"]),
        format!(
            "{} /jails/web nullfs ro 0 0\n{} /jails/web/skeleton nullfs rw 0 0\n",
            root("head-base"),
            root("web")
        )
    );
    for shared in ["head", "head-skeleton"] {
        bench.refuses(
            &["thin", "--fstab", "/jails/web", shared],
            &format!(
                "{shared} belongs to no jail: run `netbe clone head-skeleton JAIL`, and name the clone"
            ),
        );
    }
    bench.cannot(
        &["thin", "--fstab", "jails/web", "web"],
        "\"jails/web\" is not absolute: write the whole path of the jail's root on the host",
    );
}

#[test]
fn a_jail_is_defined_by_its_whole_system_or_by_its_mounts() {
    let bench = system();
    let whole = bench.prints(&["show", "jail", "--address=10.0.0.5", "--interface=em0", "head"]);
    let root = bench.root("head").display().to_string();
    assert!(whole.starts_with(&format!("head {{\n    path = \"{root}\";\n")), "{whole}");
    assert!(
        whole.contains("\n    interface = \"em0\";\n    ip4.addr = \"10.0.0.5\";\n"),
        "{whole}"
    );
    assert!(!whole.contains("mount.fstab"), "{whole}");
    bench.silent(&["thin", "head"]);
    assert_eq!(bench.run(&["show", "jail", "head"]).status, Some(0), "it stays as it is");
    bench.silent(&["clone", "head-skeleton", "web"]);
    let web = bench.prints(&["show", "jail", "--root=/jails/web/", "web"]);
    let lines = "    path = \"/jails/web\";\n    host.hostname = \"web\";\n    \
                 mount.fstab = \"/jails/web.fstab\";\n    mount.devfs;\n";
    assert!(web.contains(lines), "{web}");
    assert_eq!(bootcfg::jail::read(&web).whole().unwrap()[0].name, "web");
    for half in ["web", "head-base"] {
        bench.refuses(
            &["show", "jail", half],
            &format!(
                "{half} is half of a system: say --root with the directory where base and skeleton \
                 come together"
            ),
        );
    }
    bench.refuses(
        &["show", "jail", "--root=/jails/web", "head-base"],
        "head-base belongs to no jail: run `netbe clone head-skeleton JAIL`, and name the clone",
    );
}

#[test]
fn an_update_is_told_of_everybody_who_uses_the_base() {
    let bench = system();
    bench.silent(&["thin", "head"]);
    bench.silent(&["clone", "head-skeleton", "web"]);
    bench.silent(&["machine", "add", "desk", "--mac", "52:54:00:00:00:01"]);
    bench.silent(&["sharepxe", "--machine", "desk", "head-base"]);
    let (table, words) = ("head-base\tdesk\t-\nhead-skeleton\t-\t-\nweb\t-\t-\n", "no snapshot");
    let asked = bench.run(&["thin", "--touches", "-H", "head-base"]);
    assert_eq!((asked.out.as_str(), asked.status), (table, Some(1)));
    assert!(asked.err.contains(words), "{}", asked.err);
    bench.silent(&["snapshot", "head-base@before"]);
    fs::write(bench.root("head-base").join("usr/share/certs/A.pem"), "new and longer").unwrap();
    let told = "/etc/ssl/cert.pem leads to /usr/share/certs/A.pem, which has changed";
    assert_eq!(
        bench.prints(&["thin", "--touches", "-H", "head-base"]),
        format!("head-base\tdesk\t-\nhead-skeleton\t-\t{told}\nweb\t-\t{told}\n")
    );
}

#[test]
fn a_base_stays_as_long_as_it_has_skeletons() {
    let bench = system();
    bench.silent(&["thin", "head"]);
    bench.silent(&["clone", "head-skeleton", "web"]);
    let refused =
        "head-base is the base of head-skeleton, web: destroy those first, or destroy with -f";
    bench.refuses(&["destroy", "head-base"], refused);
    bench.refuses(&["destroy", "-n", "head-base"], refused);
    // What it was made from, and what was made for one jail, it does not need.
    bench.silent(&["destroy", "web"]);
    bench.silent(&["destroy", "head"]);
    bench.silent(&["destroy", "head-skeleton"]);
    bench.silent(&["destroy", "head-base"]);
    assert_eq!(bench.prints(&["list", "-H"]), "");
}

#[test]
fn what_cannot_be_split_is_refused_in_one_sentence() {
    let bench = Bench::new();
    bench.silent(&["create", "empty"]);
    bench.refuses(
        &["thin", "empty"],
        "empty cannot be split: it has no \"etc\": install a system into it first",
    );
    bench.refuses(
        &["thin", "--check", "empty"],
        "empty is neither a base nor a skeleton: `netbe thin NAME` splits a template into both",
    );
}
