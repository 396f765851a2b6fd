use proptest::prelude::*;

use super::*;

/// In the manner of the common file and the two jails of a VNET and nullfs set-up.
const COMMON: &str = "exec.start = \"/bin/sh /etc/rc\";\nexec.clean; mount.devfs; vnet;\n\
    host.hostname = \"${name}\";\npath = \"/jails/${name}-nullfs-base\";\n\
    $gateway = \"192.168.7.101\"; $bridge = igc0bridge; $epair = \"epair${id}\";\n\
    vnet.interface = \"${epair}b\";\nexec.prestart += \"ifconfig ${epair} create up\";\n\
    exec.start += \"ifconfig ${epair}b ${ip} up\";\nexec.start += \"route add default ${gateway}\";\n\
    mount.fstab = \"/jails/${name}-nullfs-base.fstab\";\n.include \"/etc/jail.conf.d/*.conf\";\n";
const DEV: &str = "dev { $id = \"253\"; $ip = \"192.168.7.${id}/24\"; }\n";

#[test]
fn a_jail_of_an_included_file_has_what_the_including_one_says() {
    let readings = read(&[COMMON, DEV]);
    assert!(readings.iter().all(|reading| reading.diagnostics.is_empty()), "{readings:?}");
    assert_eq!(readings[0].entries, []);
    let dev = &readings[1].entries[0].value;
    assert_eq!((dev.name.as_str(), dev.file, dev.line), ("dev", 1, 1));
    assert_eq!(dev.values("vnet.interface"), ["epair253b"]);
    assert_eq!(dev.values("path"), ["/jails/dev-nullfs-base"]);
    assert_eq!(
        dev.values("exec.start"),
        [
            "/bin/sh /etc/rc",
            "ifconfig epair253b 192.168.7.253/24 up",
            "route add default 192.168.7.101"
        ]
    );
    assert!(dev.has("vnet") && !dev.has("persist"));
    // Without the common file nobody knows what it is.
    assert!(!read(&[DEV])[0].entries[0].value.has("vnet"));
}

#[test]
fn wildcards_before_are_defaults_and_behind_are_overrides() {
    let text = "* { a = 1; b = 1; }\nx.y { a = 2; b = 2; allow.mount; }\nx.* { b = 3; allow.nomount; }\nx { }\n";
    let jails = read(&[text]).remove(0).whole().unwrap();
    assert_eq!(
        (jails[0].values("a"), jails[0].values("b")),
        (&["2".into()][..], &["3".into()][..])
    );
    assert!(jails[0].has("allow.nomount") && !jails[0].has("allow.mount"));
    assert_eq!((jails[1].name.as_str(), jails[1].values("a")), ("x", &["1".into()][..]));
}

#[test]
fn texts_are_those_of_jail() {
    let text = "a { b = 'x$y' , \"\\x41\\102\\n\", c'd'\"e\"; $l = 1, 2; f = $l; // g\n h $name; }";
    let a = read(&[text]).remove(0).whole().unwrap().remove(0);
    assert_eq!(a.values("b"), ["x$y", "AB\n", "cde"]);
    assert_eq!((a.values("f"), a.values("h")), (&["1".into(), "2".into()][..], &["a".into()][..]));
}

#[test]
fn mistakes_have_their_line() {
    for (text, line) in [
        ("a {\n b = $c; }", 2),
        ("a {\n b = \"$c\"; $c = $d; $d = $c; }", 2),
        ("a {\n $l = 1, 2; b = \"x$l\"; }", 2),
        ("\na {", 2),
        ("a {\n b = \"c\n", 2),
        ("a { b = ; }", 1),
        ("{ }", 1),
        ("/* x", 1),
    ] {
        let wrong = &read(&[text])[0].diagnostics;
        assert_eq!((wrong.len(), wrong[0].line), (1, line), "{text}: {wrong:?}");
    }
}

#[test]
fn what_grows_without_end_is_refused() {
    let doubling: String =
        (0..30).map(|n| format!("$v{n} = \"${{v{}}}${{v{}}}\";\n", n + 1, n + 1)).collect();
    let text = format!("a {{ {doubling} $v30 = \"xxxxxxxx\"; b = \"$v0\"; }}");
    assert_eq!(read(&[&text])[0].diagnostics.len(), 1);
    let many: String = (0..4000).map(|n| format!("p{n} = 1; j{n} {{ }}\n")).collect();
    assert!(read(&[&many])[0].diagnostics.iter().any(|wrong| wrong.rule == Rule::Unread));
}

#[test]
fn what_takes_long_or_much_to_put_in_is_refused_once() {
    let deep: String =
        (1..32).map(|n| format!("$v{n} = \"{}\";\n", format!("$v{}", n - 1).repeat(4))).collect();
    let deep = format!("a {{ $v0 = \"\"; {deep} b = \"$v31\"; }}");
    let many = vec!["\"$big\""; 100_000].join(", ");
    let big = "x".repeat(60_000);
    let lists = format!("$big = {big}; $l = {many};\na {{ b = $l; }}\nc {{ b = $l; }}");
    for text in [deep, lists] {
        let wrong = &read(&[&text])[0].diagnostics;
        assert_eq!(
            wrong.iter().map(|wrong| wrong.rule).collect::<Vec<_>>(),
            [Rule::Unread],
            "{wrong:?}"
        );
    }
    // A large site is no such file.
    let jails: String = (0..500).map(|n| format!("j{n} {{ $n = {n}; }}\n")).collect();
    let site = format!(
        "$dir = /jails; * {{ path = \"$dir/$name\"; exec.start = \"ifconfig e$n up\"; }}\n{jails}"
    );
    assert_eq!(read(&[&site])[0].diagnostics, []);
}

proptest! {
    #[test]
    fn what_netbe_writes_is_read_alike(
        name in "[a-z][a-z0-9-]{0,3}",
        parameters in prop::collection::btree_map("[a-z._]{1,6}", prop::collection::vec("[ -~ä]{0,6}", 0..3), 0..4),
    ) {
        let parameters = parameters.into_iter().map(|(name, values)| Parameter { name, values });
        let definition = super::super::Definition { name, parameters: parameters.collect() };
        let Ok(text) = super::super::render(std::slice::from_ref(&definition)) else { return Ok(()) };
        let found = read(&[&text]).remove(0).whole().unwrap().remove(0);
        prop_assert_eq!(&found.name, &definition.name);
        for Parameter { name, values } in &definition.parameters {
            let takes_back = definition.parameters.iter().any(|other| negated(&other.name).as_ref() == Some(name));
            if !takes_back {
                prop_assert_eq!(found.values(name), values.as_slice());
            }
        }
    }

    #[test]
    fn nothing_that_is_read_panics(
        text in "([ -~\n]|[a-c] \\{|\\};|\\$[a-c]|\\$\\{|\\.include|[a-c]=){0,40}", other in "[a-c{}=;$\"\\\\ ]{0,30}",
    ) {
        let _ = read(&[&text, &other]);
    }
}
