//! The documents name files and tests; here it is seen that they exist.
//!
//! A path is a code span that begins with a folder of the project. A test is a code span in the last
//! column of a table that has a column `test`: the name of a test function, of a fact of the contract,
//! or of a case of the lab, which has a space in it.

#![cfg(test)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_path_in_the_documents_exists() {
    let mut paths = 0;
    for (document, text) in documents() {
        for span in prose(&text).flat_map(code_spans) {
            let begins = FOLDERS.iter().any(|folder| span.starts_with(folder));
            if begins && !span.contains([' ', '*']) {
                assert!(root().join(span).exists(), "{}: no {span}", document.display());
                paths += 1;
            }
        }
    }
    assert!(paths > 100, "only {paths} paths were found");
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let mut links = 0;
    for (document, text) in documents() {
        let folder = document.parent().unwrap();
        let targets = prose(&text).flat_map(|line| line.split("](").skip(1));
        for target in targets.filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap();
            if !file.is_empty() && !file.contains("://") {
                assert!(folder.join(file).exists(), "{}: no {target}", document.display());
                links += 1;
            }
        }
    }
    assert!(links > 10, "only {links} links were found");
}

#[test]
fn every_heading_that_a_link_names_exists() {
    let mut links = 0;
    for (document, text) in documents() {
        let folder = document.parent().unwrap();
        let targets = prose(&text).flat_map(|line| line.split("](").skip(1));
        for target in targets.filter_map(|rest| rest.split(')').next()) {
            let Some((file, heading)) = target.split_once('#') else { continue };
            if target.contains("://") {
                continue;
            }
            let linked = if file.is_empty() { document.clone() } else { folder.join(file) };
            let linked = fs::read_to_string(linked).unwrap();
            let mut headings = prose(&linked).filter(|line| line.starts_with('#')).map(anchor);
            assert!(headings.any(|own| own == heading), "{}: no {target}", document.display());
            links += 1;
        }
    }
    assert!(links > 5, "only {links} links were found");
}

#[test]
fn every_verb_that_a_sentence_names_exists() {
    // The reference is what the program says (`the_reference_is_what_the_program_says`).
    let reference = fs::read_to_string(root().join("docs/reference/commands.md")).unwrap();
    let verbs = reference.lines().filter_map(|line| line.strip_prefix("## netbe "));
    let mut known: BTreeSet<&str> = verbs.filter_map(|words| words.split(' ').next()).collect();
    let aliases = reference.lines().filter_map(|line| line.strip_prefix("Alias: `"));
    known.extend(aliases.filter_map(|rest| rest.split('`').next()));
    // Not in the reference: the one that prints help, and the ones that are hidden.
    known.extend(["help", "names", "reference"]);
    let sources = files(&root().join("server"), "rs").into_iter();
    let sources = sources.chain(files(&root().join("bootcfg"), "rs"));
    let read = |path: PathBuf| (path.clone(), fs::read_to_string(path).unwrap());
    let mut named = 0;
    for (file, text) in sources.map(read).chain(documents()) {
        // A sentence may go on in the next line of the source.
        let joined = text.replace("\\\n", "").replace("\n", " ");
        for rest in joined.split("`netbe ").skip(1) {
            let verb = rest.trim_start().trim_start_matches("/// ");
            let verb: String = verb.chars().take_while(char::is_ascii_lowercase).collect();
            assert!(
                verb.is_empty() || known.contains(verb.as_str()),
                "{}: no {verb}",
                file.display()
            );
            named += 1;
        }
    }
    assert!(named > 300, "only {named} verbs were found");
}

#[test]
fn every_test_in_the_documents_exists() {
    let known = tests();
    for (document, text) in documents() {
        for row in rows(&text) {
            for test in code_spans(row.test) {
                assert!(known.contains(test), "{}: no test {test}", document.display());
            }
        }
    }
}

#[test]
fn what_is_done_has_a_file_and_a_test() {
    let pages = files(&root().join("docs/protocols"), "md");
    let index = fs::read_to_string(root().join("docs/protocols.md")).unwrap();
    let mut total = 0;
    for page in pages {
        let name = page.file_name().unwrap().to_str().unwrap();
        assert!(
            index.contains(&format!("](protocols/{name})")),
            "protocols.md has no link to {name}"
        );
        let text = fs::read_to_string(&page).unwrap();
        let rows: Vec<Row<'_>> = rows(&text).collect();
        assert!(!rows.is_empty(), "{name}: no rows");
        total += rows.len();
        check_rows(rows);
    }
    assert!(total > 150, "only {total} rows were found");
}

/// Each row has a state, one file, and a test if it is done.
fn check_rows(rows: Vec<Row<'_>>) {
    for Row { state, file, test, line } in rows {
        assert_eq!(code_spans(file).count(), 1, "one file: {line}");
        let has_test = code_spans(test).next().is_some();
        assert!(has_test || test == "–", "a test or a dash: {line}");
        let is_done = ["done", "deviation"].iter().any(|word| state.starts_with(word));
        assert!(has_test || !is_done, "done without a test: {line}");
        let words = ["done", "deviation", "partly", "refused", "not done"];
        assert!(words.iter().any(|word| state.starts_with(word)), "a state: {line}");
    }
}

/// A row of a table of protocols.
struct Row<'t> {
    state: &'t str,
    file: &'t str,
    test: &'t str,
    line: &'t str,
}

/// The rows of the tables with the columns section, what it asks, state, file, test.
fn rows(text: &str) -> impl Iterator<Item = Row<'_>> {
    prose(text).filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix('|')?.split('|').map(str::trim).collect();
        match cells[..] {
            [_, _, "state" | "---", ..] => None,
            [_, _, state, file, test, ""] => Some(Row { state, file, test, line }),
            _ => None,
        }
    })
}

/// The lines outside of fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// What a link to a heading says behind `#`: small letters and digits, with hyphens for spaces.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// What stands between backticks.
fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The names of all tests: functions, facts of the contract, cases of the lab.
fn tests() -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for file in files(&root(), "rs") {
        let text = fs::read_to_string(&file).unwrap();
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
            let name = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            if let Some(name) = name.filter(|_| is_test) {
                known.insert(name.split(['(', '<']).next().unwrap().to_owned());
                is_test = false;
            }
            let is_case = file.parent().is_some_and(|folder| folder.ends_with("src/cases"));
            let cases = line.split("Case::new(\"").skip(1).filter(|_| is_case);
            known.extend(cases.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
            let is_contract = file.ends_with("fixtures/src/contract.rs");
            let fact = line.split_once("::").filter(|_| is_contract);
            known.extend(fact.map(|(_, fact)| fact.to_owned()));
        }
    }
    known
}

/// The documents, with their text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut paths = files(&root().join("docs"), "md");
    paths.push(root().join("README.md"));
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        (path, text)
    };
    paths.into_iter().map(read).collect()
}

/// The files below a folder whose names end so; what cargo made is left out.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|own| own == extension) {
            found.push(path);
        }
    }
    found
}

fn root() -> PathBuf {
    // Where the tests run need not be where they were built.
    let told = std::env::var_os("CARGO_MANIFEST_DIR");
    let package = told.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().unwrap().to_owned()
}

/// What a path of the project begins with.
const FOLDERS: [&str; 5] = ["server/", "bootcfg/", "fixtures/", "integration/", "docs/"];
