//! What a suite said of its tests, and whether that is what was known before.

use std::collections::{BTreeMap, BTreeSet};

use crate::failure::{Failure, ensure};
use crate::process::last_lines;
use crate::suite::Tally;

/// What came of the tests of a suite.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Report {
    passed: u32,
    /// The names of those that failed, with what was said of them.
    failed: BTreeMap<String, String>,
    skipped: BTreeSet<String>,
}

impl Report {
    /// Compares with the list of what is known to fail or to be skipped, `NAME: REASON` in each line.
    ///
    /// A test that is known to fail counts as skipped: nothing is learned from it.
    pub(super) fn compare(&self, known: &str) -> Result<Tally, Failure> {
        let known: BTreeMap<&str, &str> = known
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(": "))
            .collect();
        let mut wrong = Vec::new();
        let mut failures: u32 = 0;
        for (name, said) in &self.failed {
            if let Some(reason) = known.get(name.as_str()) {
                println!("      known to fail: {name}: {reason}");
            } else {
                failures += 1;
                wrong.push(format!("{name} failed: {said}"));
            }
        }
        let unknown = |name: &&String| !known.contains_key(name.as_str());
        wrong.extend(self.skipped.iter().filter(unknown).map(|name| format!("{name} was skipped")));
        let happened = |name: &str| self.failed.contains_key(name) || self.skipped.contains(name);
        let gone = known.keys().filter(|name| !happened(name));
        wrong.extend(gone.map(|name| format!("{name} is listed and did not fail: take it out")));
        ensure(wrong.is_empty(), || wrong.join("\n"))?;
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Ok(Tally {
            passed: self.passed,
            failed: failures,
            skipped: count(self.failed.len() + self.skipped.len()),
        })
    }
}

/// Reads what fsx said: one word at its end, or why it stopped.
pub(super) fn fsx(said: &str) -> Result<Report, Failure> {
    ensure(said.trim_end().ends_with("All operations completed A-OK!"), || {
        format!("fsx stopped:\n{}", last_lines(said, 30))
    })?;
    Ok(Report { passed: 1, ..Report::default() })
}

/// Reads what pjdfstest said: a line for each test, that ends in its result, and the reason below.
///
/// Of a test that was run again the last result counts.
pub(super) fn pjdfstest(said: &str) -> Result<Report, Failure> {
    let mut report = Report::default();
    let mut passed = BTreeSet::new();
    let mut lines = said.lines().peekable();
    while let Some(line) = lines.next() {
        let mut words = line.split_whitespace();
        let (Some(name), Some(result), None) = (words.next(), words.next(), words.next()) else {
            continue;
        };
        let name = name.to_owned();
        match result {
            "ok" => {
                report.skipped.remove(&name);
                passed.insert(name);
            }
            "skipped" => {
                report.skipped.insert(name);
            }
            "FAILED" => {
                report.skipped.remove(&name);
                let reason = lines.peek().copied().unwrap_or_default().trim();
                report.failed.insert(name, reason.to_owned());
            }
            _reason => {}
        }
    }
    report.passed = u32::try_from(passed.len()).unwrap_or(u32::MAX);
    complete(report, said, |total| said.contains(&format!(", {total} total")))
}

/// Reads what nfstest said: a line for each test, that begins with its result.
pub(super) fn nfstest(said: &str) -> Result<Report, Failure> {
    let mut report = Report::default();
    for line in said.lines().map(str::trim) {
        if line.starts_with("PASS: ") {
            report.passed += 1;
        } else if let Some(test) = line.strip_prefix("FAIL: ") {
            // Behind the name of some stands how many variants of it failed.
            let name = test.split_once(" (").map_or(test, |(name, _counts)| name);
            report.failed.insert(name.to_owned(), test.to_owned());
        }
    }
    complete(report, said, |total| said.contains(&format!("\n{total} tests (")))
}

/// The report, if the suite ended and has as many tests as it told of.
fn complete(report: Report, said: &str, told: impl Fn(usize) -> bool) -> Result<Report, Failure> {
    let passed = usize::try_from(report.passed).unwrap_or(usize::MAX);
    let total = passed + report.failed.len() + report.skipped.len();
    ensure(total > 0 && told(total), || {
        format!("{total} tests were read, which the suite does not say:\n{}", last_lines(said, 30))
    })?;
    Ok(report)
}

#[cfg(test)]
mod test {
    use super::*;

    const PJDFSTEST: &str = "\
chflags::unchanged                     skipped
\trequires features: chflags
chmod::ctime                           ok
unlink::open_file_not_freed            FAILED
\tassertion failed: free

Summary: 1 failed, 1 skipped, 1 passed, 0 expected failures, 3 total
";

    #[test]
    fn the_results_of_pjdfstest_are_read() {
        let report = pjdfstest(PJDFSTEST).unwrap();
        assert_eq!(report.passed, 1);
        assert_eq!(report.failed["unlink::open_file_not_freed"], "assertion failed: free");
        assert!(report.skipped.contains("chflags::unchanged"));
    }

    #[test]
    fn a_test_that_was_skipped_may_be_run_again() {
        let again = "chflags::unchanged    ok\n\nSummary: 0 failed, 1 total\n";
        let report = pjdfstest(&[PJDFSTEST, again].concat()).unwrap();
        assert_eq!((report.passed, report.skipped.len(), report.failed.len()), (2, 0, 1));
    }

    #[test]
    fn the_results_of_nfstest_are_read() {
        let said = "*** Verify POSIX API open()\n\
            \x20   PASS: open - opens (2 passed, 0 failed)\n\
            \x20   FAIL: open - refuses (1 passed, 1 failed)\n\n2 tests (1 passed, 1 failed)\n";
        let report = nfstest(said).unwrap();
        assert_eq!(report.passed, 1);
        assert_eq!(report.failed["open - refuses"], "open - refuses (1 passed, 1 failed)");
    }

    #[test]
    fn a_suite_that_did_not_end_is_no_result() {
        let cut = PJDFSTEST.split_once("\nSummary").unwrap().0;
        assert!(pjdfstest(cut).is_err());
        assert!(nfstest("    PASS: open - opens\n").is_err());
        assert!(fsx("ERROR miscompare").is_err());
    }

    #[test]
    fn what_is_known_is_no_failure_and_counts_as_skipped() {
        let known = "# why\nchflags::unchanged: Linux has none\n\
            unlink::open_file_not_freed: renamed\n";
        let tally = pjdfstest(PJDFSTEST).unwrap().compare(known).unwrap();
        assert_eq!(tally, Tally { passed: 1, failed: 0, skipped: 2 });
    }

    #[test]
    fn what_is_new_and_what_is_gone_are_failures() {
        let known = "chflags::unchanged: Linux has none\nchmod::ctime: once\n";
        let failure = pjdfstest(PJDFSTEST).unwrap().compare(known).unwrap_err().to_string();
        assert!(failure.contains("unlink::open_file_not_freed failed: assertion"), "{failure}");
        assert!(failure.contains("chmod::ctime is listed and did not fail"), "{failure}");
    }
}
