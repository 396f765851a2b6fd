//! What is wrong with files that belong together: exports(5), fstab(5), loader.conf(5), rc.conf(5)
//! and the scripts that start bhyve(8) guests.
//!
//! Each file is read as its own reader does it, and then compared with the others: the root that a
//! guest is told to mount has to be exported, to it, under that name, by that server. What a file
//! does not say, or only a shell knows, is no finding.

mod exports;
mod fstab;
mod guest;
mod kernel;
mod rcconf;
mod site;

use std::str::FromStr;

use crate::rule::Rule;
use crate::{bhyve, loader};
use site::{Findings, Site};

/// A file to be looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    /// What it is called in findings.
    pub name: String,
    /// How it is read.
    pub kind: Kind,
    /// What is in it.
    pub text: String,
}

/// Something wrong with a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The rule that is broken.
    pub rule: Rule,
    /// What is wrong and what to write, in one sentence without a full stop or control characters.
    pub message: String,
}

/// How a file is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// FreeBSD's exports(5).
    Exports,
    /// fstab(5).
    Fstab,
    /// loader.conf(5).
    Loader,
    /// rc.conf(5).
    RcConf,
    /// A script with calls of bhyveload(8) and bhyve(8).
    Script,
}

/// Names all findings, in the order of the files and their lines.
#[must_use]
pub fn lint(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Findings::default();
    let site = Site::read(sources, &mut findings);
    exports::check(&site, &mut findings);
    fstab::check(&site, &mut findings);
    kernel::check(&site, &mut findings);
    guest::check(&site, &mut findings);
    rcconf::check(&site, &mut findings);
    findings.sorted()
}

impl Kind {
    /// The kind that a file has by its name, or else by what is in it.
    #[must_use]
    pub fn of(name: &str, text: &str) -> Option<Self> {
        Self::by_name(name).or_else(|| Self::by_content(text))
    }

    fn by_name(name: &str) -> Option<Self> {
        let mut parts = name.rsplit('/');
        let (file, folder) = (parts.next()?, parts.next().unwrap_or_default());
        let is = |word: &str| {
            file == word
                || file.strip_prefix(word).is_some_and(|rest| rest.starts_with(['.', '-']))
                || file.strip_suffix(word).is_some_and(|rest| rest.ends_with(['.', '-']))
        };
        let kinds = [
            (is("exports"), Self::Exports),
            (is("fstab"), Self::Fstab),
            (is("loader.conf") || folder == "loader.conf.d", Self::Loader),
            (is("rc.conf") || folder == "rc.conf.d", Self::RcConf),
            (is("sh"), Self::Script),
        ];
        kinds.into_iter().find(|(fits, _)| *fits).map(|(_, kind)| kind)
    }

    fn by_content(text: &str) -> Option<Self> {
        if text.starts_with("#!") || !bhyve::read(text).entries.is_empty() {
            return Some(Self::Script);
        }
        let plain = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let first = text.lines().map(str::trim).find(plain)?;
        let words: Vec<&str> = first.split_whitespace().collect();
        let kind = words.get(2).copied().unwrap_or_default();
        let types = ["nfs", "nfs4", "nullfs", "tmpfs", "ufs", "zfs", "mfs", "swap", "procfs"];
        let variables = loader::read(text).entries;
        let of_loader = |name: &str| name.contains('.') || name.ends_with("_load");
        if words.len() >= 4 && types.contains(&kind) {
            Some(Self::Fstab)
        } else if first.starts_with("V4:") || first.starts_with('/') {
            Some(Self::Exports)
        } else if variables.iter().any(|variable| of_loader(&variable.value.name)) {
            Some(Self::Loader)
        } else {
            (!crate::rcconf::read(text).entries.is_empty()).then_some(Self::RcConf)
        }
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        match text {
            "exports" => Ok(Self::Exports),
            "fstab" => Ok(Self::Fstab),
            "loader" => Ok(Self::Loader),
            "rcconf" => Ok(Self::RcConf),
            "script" => Ok(Self::Script),
            _ => Err(UnknownKind(text.to_owned())),
        }
    }
}

/// The word for a kind of file is not known.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is no kind of file: write exports, fstab, loader, rcconf or script")]
pub struct UnknownKind(String);

#[cfg(test)]
mod test;
