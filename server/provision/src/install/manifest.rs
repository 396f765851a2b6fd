//! MANIFEST: the list of a FreeBSD release's distribution sets (release/scripts/make-manifest.sh).
//!
//! Each line has, between tabs, a file's name, its SHA-256, and what an installer shows. Nothing
//! signs it: it is as trustworthy as the place that it comes from.

use std::collections::BTreeMap;

use super::InstallError;

/// The sets of a release and their sums.
#[derive(Debug)]
pub(super) struct Manifest(BTreeMap<String, Sum>);

/// A SHA-256.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Sum(pub(super) [u8; 32]);

impl Manifest {
    /// Reads a list.
    pub(super) fn parse(text: &str) -> Result<Self, InstallError> {
        let mut sums = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            let wrong = |reason| InstallError::Manifest { line: index + 1, reason };
            let mut fields = line.split('\t');
            let name = fields.next().unwrap_or_default();
            if name.is_empty() && fields.clone().next().is_none() {
                continue;
            }
            if name.is_empty() || name.starts_with('.') || name.contains(['/', '\0']) {
                return Err(wrong("it does not begin with the name of a file"));
            }
            let sum = fields.next().and_then(Sum::parse);
            let sum = sum.ok_or_else(|| wrong("its second field is not a SHA-256"))?;
            if sums.insert(name.to_owned(), sum).is_some_and(|other| other != sum) {
                return Err(wrong("it gives another SHA-256 for a file than an earlier line"));
            }
        }
        Ok(Self(sums))
    }

    /// The sum of a file.
    pub(super) fn sum(&self, file: &str) -> Result<Sum, InstallError> {
        self.0.get(file).copied().ok_or_else(|| {
            let sets: Vec<_> = self.0.keys().map(String::as_str).collect();
            InstallError::Unlisted { file: file.to_owned(), listed: sets.join(", ") }
        })
    }
}

impl Sum {
    fn parse(text: &str) -> Option<Self> {
        let mut sum = [0; 32];
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        for (index, byte) in sum.iter_mut().enumerate() {
            let digits = text.get(2 * index..2 * index + 2)?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        Some(Self(sum))
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod test {
    use super::*;

    const SUM: &str = "00ffb0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8";

    #[test]
    fn a_releases_list_is_read() {
        let text = format!("base.txz\t{SUM}\t29943\tbase\t\"Base system (MANDATORY)\"\ton\n");
        let manifest = Manifest::parse(&text).unwrap();
        assert_eq!(manifest.sum("base.txz").unwrap().to_string(), SUM);
        let error = manifest.sum("lib32.txz").unwrap_err();
        assert_eq!(error.to_string(), "the MANIFEST lists no lib32.txz: it lists base.txz");
    }

    #[test]
    fn lines_that_list_nothing_are_refused() {
        let other = SUM.replace("00ff", "00fe");
        for text in [
            "<html>".to_owned(),
            format!("../base.txz\t{SUM}"),
            "base.txz\t00ff".to_owned(),
            format!("base.txz\t+{}", &SUM[1..]),
            format!("base.txz\t{SUM}\nbase.txz\t{other}"),
        ] {
            assert!(matches!(Manifest::parse(&text), Err(InstallError::Manifest { .. })), "{text}");
        }
    }
}
