//! Manual pages: which there are, and that mandoc(1) takes them as they are.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::bench::Bench;

#[test]
fn help_of_a_verb_is_shown_by_its_words() {
    let bench = Bench::new();
    for verb in [&["list"][..], &["machine"], &["machine", "add"], &["show", "fstab"]] {
        let help = bench.prints(&[&["help"], verb].concat());
        assert_eq!(help, bench.prints(&[verb, &["--help"]].concat()));
        let (own, all) = help.split_once("\nOptions of every verb:\n").unwrap();
        assert!(all.contains("--state") && all.contains("--quiet") && all.contains("--verbose"));
        assert!(!own.contains("--state"), "{own}");
    }
    assert_eq!(bench.prints(&["help"]), bench.prints(&["--help"]));
    bench.refuses(&["help", "dance"], "there is no verb dance: `netbe --help` lists them");
}

#[test]
fn there_is_a_page_for_every_verb_and_for_the_file() {
    let bench = Bench::new();
    let pages = tempfile::tempdir().unwrap();
    bench.silent(&["man", "--into", pages.path().to_str().unwrap()]);
    let names: BTreeSet<String> = fs::read_dir(pages.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in ["netbe.8", "netbe-bootnfs.8", "netbe-machine-add.8", "netbe.toml.5"] {
        assert!(names.contains(name), "{name}: {names:?}");
    }
    // What a page refers to is there.
    for name in &names {
        let text = fs::read_to_string(pages.path().join(name)).unwrap();
        for line in text.lines().filter(|line| line.ends_with("(8)")) {
            let other = line.replace('\\', "").replace('(', ".").replace(')', "");
            assert!(names.contains(&other), "{name}: {other}");
        }
    }
    let read = |name: &str| fs::read_to_string(pages.path().join(name)).unwrap();
    let synopsis = ".SH SYNOPSIS\nnetbe machine remove [OPTIONS] <NAME>\n.SH DESCRIPTION\n";
    assert!(read("netbe-machine-remove.8").contains(synopsis));
    for name in names.iter().filter(|name| name.ends_with(".8")) {
        for section in ["ENVIRONMENT", "FILES", "EXIT STATUS", "SEE ALSO"] {
            assert!(read(name).contains(&format!(".SH {section}\n")), "{name} has no {section}");
        }
    }
    assert!(read("netbe-list.8").contains(".SH EXAMPLES\n\\fBnetbe list "));
    assert_eq!(bench.prints(&["man"]), read("netbe.8"));
    assert_eq!(bench.prints(&["man", "machine", "add"]), read("netbe-machine-add.8"));
    assert_eq!(bench.prints(&["man", "netbe.toml"]), read("netbe.toml.5"));
    bench.refuses(
        &["man", "machine", "dance"],
        "there is no verb machine dance: `netbe --help` lists them",
    );
}

#[test]
fn every_flag_of_one_letter_has_a_word_too() {
    let bench = Bench::new();
    let written = tempfile::tempdir().unwrap();
    bench.silent(&["reference", written.path().to_str().unwrap()]);
    let text = fs::read_to_string(written.path().join("commands.md")).unwrap();
    let letters: Vec<&str> = text.lines().filter(|line| line.starts_with("| `-")).collect();
    assert!(letters.len() > 200, "only {} flags were found", letters.len());
    for flag in letters {
        assert!(flag.starts_with("| `--") || flag.contains(", --"), "{flag}");
    }
}

#[test]
fn mandoc_has_nothing_to_warn_of() {
    if Command::new("mandoc").arg("-h").output().is_err() {
        println!("skipped: mandoc is not installed");
        return;
    }
    let bench = Bench::new();
    let pages = tempfile::tempdir().unwrap();
    bench.silent(&["man", "--into", pages.path().to_str().unwrap()]);
    let mut files: Vec<_> =
        fs::read_dir(pages.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut lint = Command::new("mandoc");
    let output = lint.args(["-T", "lint", "-W", "warning"]).args(&files).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_reference_is_what_the_program_says() {
    let bench = Bench::new();
    let written = tempfile::tempdir().unwrap();
    bench.silent(&["reference", written.path().to_str().unwrap()]);
    // Where the tests run need not be where they were built.
    let told = std::env::var_os("CARGO_MANIFEST_DIR");
    let package = told.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let kept = package.parent().unwrap().join("docs/reference");
    for name in ["commands.md", "netbe.toml.md"] {
        let text = fs::read_to_string(written.path().join(name)).unwrap();
        let differs = fs::read_to_string(kept.join(name)).ok().as_ref() != Some(&text);
        assert!(
            !differs,
            "docs/reference/{name} is old: run `cargo run -p netbe -- reference docs/reference` and commit them"
        );
    }
}

/// The keys that there are, as it is told where another one stands.
fn keys(text: &str) -> BTreeSet<String> {
    let bench = Bench::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let (sentence, _) = bench.fails(&["serve", "-n", "-f", file.path().to_str().unwrap()]);
    let known = sentence.split_once(": write ").unwrap().1;
    let known = known.trim_start_matches("one of ").replace(" or ", ", ");
    known.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_page_of_the_file_has_every_key_and_no_other() {
    let tables = [
        "",
        "[subnets.a]\n",
        "[machines.a]\n",
        "[hooks]\n",
        "[hooks.steps.\"up/10-dns\"]\n",
        "[[hooks.webhooks]]\n",
        "[consul]\n",
        "[consul.services.www]\n",
    ];
    let texts = tables.map(|table| format!("{table}no_such_key = 1"));
    let known: BTreeSet<String> = texts.iter().flat_map(|text| keys(text)).collect();
    assert!(known.len() > 20, "{known:?}");
    let page = Bench::new().prints(&["man", "netbe.toml"]);
    let items = page.lines().filter_map(|line| line.strip_prefix(".It Cm "));
    let described: BTreeSet<String> = items.map(str::to_owned).collect();
    assert_eq!(described, known);
}

/// What bash offers for the last of these words.
fn completed(bench: &Bench, words: &[&str]) -> Vec<String> {
    let script = bench.state().join("completion.bash");
    fs::write(&script, bench.prints(&["completion", "bash"])).unwrap();
    let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let line = format!(
        "netbe() {{ {} \"$@\"; }}; . {}; COMP_WORDS=({}); COMP_CWORD={}; \
         _netbe_and_names netbe '' ''; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        crate::bench::netbe().display(),
        script.display(),
        words.join(" "),
        words.len() - 1,
    );
    let output = bench.command("/bin/bash", &["-c", &line]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_names() {
    if !std::path::Path::new("/bin/bash").exists() {
        println!("skipped: bash is not installed");
        return;
    }
    let bench = Bench::with_head();
    bench.silent(&["snapshot", "head@monday"]);
    bench.silent(&["snapshot", "head@tuesday"]);
    bench.silent(&["machine", "add", "--mac=52:54:00:00:00:01", "heart"]);
    let offered = completed(&bench, &["netbe", "destroy", "he"]);
    assert!(offered.contains(&"head".to_owned()) && offered.contains(&"heart".to_owned()));
    let offered = completed(&bench, &["netbe", "destroy", "head", "@"]);
    assert!(offered.contains(&"monday".to_owned()) && offered.contains(&"tuesday".to_owned()));
    let offered = completed(&bench, &["netbe", "destroy", "head", "@", "mo"]);
    assert!(offered.contains(&"monday".to_owned()) && !offered.contains(&"tuesday".to_owned()));
    assert!(completed(&bench, &["netbe", "li"]).contains(&"list".to_owned()));
    assert_eq!(bench.prints(&["names", "none"]), "");
    assert_eq!(bench.prints(&["names", "--", "head@t"]), "head@tuesday\n");
}
