//! Whether boot environments can boot.

use std::fs;

use crate::bench::Bench;

fn with_freebsd() -> Bench {
    let bench = Bench::with_head();
    let boot = bench.root("head").join("boot/kernel");
    fs::create_dir_all(&boot).unwrap();
    for file in ["kernel", "../pxeboot", "../loader.efi"] {
        fs::write(boot.join(file), "x").unwrap();
    }
    bench
}

#[test]
fn what_boots_is_said_and_exits_with_0() {
    let bench = with_freebsd();
    let text = "NAME  SYSTEM   BIOS   UEFI\nhead  FreeBSD  boots  boots\n";
    assert_eq!(bench.prints(&["check", "head"]), text);
    assert_eq!(bench.prints(&["check"]), text);
}

#[test]
fn what_does_not_boot_is_said_and_exits_with_1() {
    let bench = with_freebsd();
    fs::remove_file(bench.root("head").join("boot/pxeboot")).unwrap();
    let outcome = bench.run(&["check", "head"]);
    assert_eq!(outcome.status, Some(1));
    assert_eq!(outcome.err, "netbe: 1 of 1 cannot boot: head (by BIOS)\n");
    let finding = "head does not boot by BIOS: /boot/pxeboot is missing: install another \
                   environment with the sets base and kernel\n";
    assert!(outcome.out.ends_with(finding), "{}", outcome.out);
    let json = bench.run(&["check", "-j"]).out;
    assert!(json.contains("\"bios\": false") && json.contains("\"severity\": \"bios\""), "{json}");
}

#[test]
fn a_machine_that_is_to_boot_what_is_not_there_is_named() {
    let bench = with_freebsd();
    bench.silent(&["machine", "add", "--mac", "58:9c:fc:00:00:01", "desk"]);
    bench.silent(&["sharepxe", "--machine", "desk", "head"]);
    bench.silent(&["destroy", "-f", "head"]);
    let outcome = bench.run(&["check"]);
    assert_eq!(outcome.status, Some(1));
    assert!(outcome.out.contains("desk boots head, and there is no such environment"));
}
