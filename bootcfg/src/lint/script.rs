//! Rules of scripts of the shell that make templates, jails and boot environments.

use std::collections::BTreeSet;

use super::site::{Findings, In};
use super::{Kind, Source};
use crate::rule::Rule;
use crate::shell::{self, Command};

pub(super) fn check(sources: &[Source], findings: &mut Findings) {
    let scripts: Vec<Script<'_>> = sources
        .iter()
        .enumerate()
        .filter(|(_, source)| source.kind == Kind::Script)
        .map(|(index, source)| Script {
            here: In { source: index, file: source.name.as_str(), line: 0, value: () },
            text: &source.text,
            commands: shell::commands(&source.text).unwrap_or_default(),
        })
        .collect();
    let set: BTreeSet<&str> = scripts.iter().flat_map(|script| script.sets()).collect();
    for script in &scripts {
        for command in &script.commands {
            let words: Vec<&str> = command.iter().map(|word| word.text.as_str()).collect();
            let line = command.first().map_or(1, |word| word.line);
            if let Some((rule, message)) = one(&words) {
                findings.add(&script.here.beside(line, ()), rule, message);
            }
            unset(script, command, &set, findings);
        }
        script.lines(findings);
        script.environments(findings);
        alldirs(script, sources, findings);
    }
}

struct Script<'s> {
    here: In<'s, ()>,
    text: &'s str,
    commands: Vec<Command>,
}

impl<'s> Script<'s> {
    /// The variables that it sets.
    fn sets(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for command in &self.commands {
            let words: Vec<&str> = command.iter().map(|word| word.text.as_str()).collect();
            for word in &words {
                names.extend(
                    word.split_once('=')
                        .map(|(name, _)| name)
                        .filter(|name| crate::rcconf::is_name(name)),
                );
            }
            if let Some(at) = words
                .iter()
                .position(|word| ["for", "read", "export", "local", "getopts"].contains(word))
            {
                names.extend(
                    words
                        .iter()
                        .skip(at.saturating_add(1))
                        .copied()
                        .filter(|word| crate::rcconf::is_name(word)),
                );
            }
        }
        names
    }

    fn lines(&self, findings: &mut Findings) {
        let stops = self.commands.iter().any(|command| {
            let words: Vec<&str> = command.iter().map(|word| word.text.as_str()).collect();
            matches!(words.as_slice(), ["set", flags, ..] if flags.starts_with('-') && flags.contains('e'))
        });
        let releases = self.text.contains("}-RELEASE") || self.text.contains("_ver-RELEASE");
        let mut loops = 0_usize;
        for (index, line) in self.text.lines().enumerate() {
            let at = self.here.beside(index.saturating_add(1), ());
            let line = line.trim();
            if line.starts_with('#') {
                continue;
            }
            if line.contains("zfs clone ")
                && !stops
                && !["||", "&&", "if "].iter().any(|sign| line.contains(sign))
            {
                let message =
                    "the script goes on when this clone fails: add `|| exit`, or `set -e` above";
                findings.add(&at, Rule::Unchecked, message);
            }
            if releases && let Some(release) = release_in(line) {
                let message = format!(
                    "{release} is written out, and the script has another release in a variable: write the variable"
                );
                findings.add(&at, Rule::ReleaseDiffers, message);
            }
            let listed = line.contains("ls -")
                && line.split("ls -").nth(1).is_some_and(|rest| {
                    rest.split_whitespace().next().is_some_and(|flags| flags.contains('l'))
                        && rest.contains('|')
                });
            if listed {
                let message = "the output of ls cannot be parsed reliably: read the link with readlink, and \
                               skip links that are already right";
                findings.add(&at, Rule::LsParsed, message);
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.starts_with(&["while", "getopts"]) {
                loops = 1;
            } else if loops > 0 {
                if line.starts_with("done") {
                    loops = 0;
                } else if line.split([';', ' ']).any(|word| word == "shift") {
                    let message = "shift inside this loop loses arguments in bash: shift once after it, by \
                                   OPTIND - 1";
                    findings.add(&at, Rule::GetoptsShift, message);
                }
            }
        }
    }

    /// The loop of be(8): what is created has to be what is used, installed, and done when it is tested.
    fn environments(&self, findings: &mut Findings) {
        let of = |verb: &str| -> Vec<(usize, &str)> {
            let found = self.commands.iter().filter_map(|command| {
                let words: Vec<&str> = command.iter().map(|word| word.text.as_str()).collect();
                let at = words.iter().position(|word| ["be", "netbe"].contains(word))?;
                let is = words.get(at.saturating_add(1)) == Some(&verb);
                is.then_some(())?;
                let line = command.first().map_or(1, |word| word.line);
                words.last().map(|last| (line, *last))
            });
            found.collect()
        };
        let created = of("create");
        if created.is_empty() {
            return;
        }
        let known: BTreeSet<&str> =
            created.iter().chain(&of("clone")).map(|(_, name)| *name).collect();
        for (line, name) in of("jail").into_iter().chain(of("bootnfs")).chain(of("sharenfs")) {
            let at = self.here.beside(line, ());
            if !known.contains(name) {
                let (_, made) = created.first().copied().unwrap_or_default();
                let message =
                    format!("{name} is used, and {made} is what was made: write one name");
                findings.add(&at, Rule::BeName, message);
            }
            let written =
                self.text.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim_end();
            let waits = self
                .commands
                .iter()
                .any(|command| command.first().is_some_and(|word| word.text == "wait"));
            if written.ends_with('&') && !written.ends_with("&&") && !waits {
                let message = "the next command starts before this one has started: wait for it";
                findings.add(&at, Rule::Unchecked, message);
            }
        }
        if of("install").is_empty() && of("receive").is_empty() && !of("jail").is_empty() {
            for (line, name) in created {
                let message = format!(
                    "{name} is created empty, and nothing is installed before it runs: add `be install`"
                );
                findings.add(&self.here.beside(line, ()), Rule::Unchecked, message);
            }
        }
    }
}

/// What is wrong with a command by itself.
fn one(words: &[&str]) -> Option<(Rule, String)> {
    match words {
        ["rsync", .., from, to] => {
            let (source, copy) =
                (from.rsplit('/').next()?, to.trim_end_matches('/').rsplit('/').next()?);
            (!source.is_empty() && source == copy).then(|| {
                let message = format!(
                    "rsync makes {to}/{source} of this: write {from}/ with a slash at its end"
                );
                (Rule::RsyncSlash, message)
            })
        }
        ["ln", flags, target, link] if flags.starts_with('-') && flags.contains('s') => {
            let depth = link.trim_start_matches("./").matches('/').count();
            let relative = !target.starts_with(['/', '.', '$']) && !link.starts_with(['/', '$']);
            (relative && depth > 0 && target.ends_with(&format!("/{link}"))).then(|| {
                let message = format!(
                    "a relative link is read from its own directory, and leads to nothing there: write {}{target}",
                    "../".repeat(depth)
                );
                (Rule::LinkInside, message)
            })
        }
        ["mount", rest @ ..] => {
            let at = rest.windows(2).position(|pair| pair == ["-t", "zfs"])?;
            let set = rest.get(at.saturating_add(2))?;
            set.starts_with('/').then(|| {
                let message = format!("{set} is a directory, and mount(8) takes a data set: write its name, as in zroot/ROOT/head");
                (Rule::MountDataset, message)
            })
        }
        ["bsdconfig", "script", ..] => {
            let message =
                "bsdconfig does something else with a script: write `bsdinstall script`".to_owned();
            Some((Rule::Bsdinstall, message))
        }
        ["zfs", "set", property, set]
            if property.starts_with("sharenfs=") && *property != "sharenfs=off" =>
        {
            let parts: Vec<&str> = set.split('/').collect();
            (parts.contains(&"ROOT")).then(|| {
                let message = format!(
                    "{set} is a boot environment, whose mount point is /: ZFS would share the root of this server \
                     with everybody: set it off, and share with `netbe sharenfs --network`"
                );
                (Rule::Sharenfs, message)
            })
        }
        _ => words.iter().find_map(|word| partitions(word)),
    }
}

/// The list of bsdinstall(8): a size, a type and a mount point for each partition.
fn partitions(word: &str) -> Option<(Rule, String)> {
    let list = word.strip_prefix("PARTITIONS=")?;
    let inner = list.split_once('{').map_or(list, |(_, rest)| rest).trim_end_matches('}');
    for part in inner.split(',') {
        let fields: Vec<&str> = part.split_whitespace().filter(|field| *field != "\\").collect();
        if let [only] = fields.as_slice()
            && only.starts_with('/')
        {
            let message =
                format!("the comma before {only} makes a partition of it: leave the comma out");
            return Some((Rule::Partitions, message));
        }
    }
    None
}

/// A release that is written out, as `14.2-RELEASE`.
fn release_in(line: &str) -> Option<String> {
    let before = line.split("-RELEASE").next().filter(|before| before.len() < line.len())?;
    let digits: String =
        before.chars().rev().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let digits: String = digits.chars().rev().collect();
    (digits.contains('.') && digits.starts_with(|c: char| c.is_ascii_digit()))
        .then(|| format!("{digits}-RELEASE"))
}

/// A path that begins with a variable which no given script sets becomes one from the root of this host.
fn unset(script: &Script<'_>, command: &Command, set: &BTreeSet<&str>, findings: &mut Findings) {
    if set.is_empty() {
        return;
    }
    for word in command.iter().filter(|word| word.expands) {
        let Some(rest) = word.text.strip_prefix("/$") else { continue };
        let name: String = rest
            .trim_start_matches('{')
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        let given =
            name.chars().all(|c| c.is_ascii_digit()) || ["HOME", "PWD"].contains(&name.as_str());
        if !given && !set.contains(name.as_str()) {
            let message = format!(
                "no file sets {name}, and without it this path begins at the root of the host: write the variable that is set"
            );
            findings.add(&script.here.beside(word.line, ()), Rule::Unset, message);
        }
    }
}

/// `-alldirs` is for the root of a file system: what a script makes with mkdir(1) is none.
fn alldirs(script: &Script<'_>, sources: &[Source], findings: &mut Findings) {
    let words: Vec<Vec<&str>> = script
        .commands
        .iter()
        .map(|command| command.iter().map(|word| word.text.as_str()).collect())
        .collect();
    let made: Vec<&str> = words
        .iter()
        .filter(|words| words.first() == Some(&"mkdir"))
        .flat_map(|words| words.iter().skip(1).copied())
        .collect();
    for (index, source) in
        sources.iter().enumerate().filter(|(_, source)| source.kind == Kind::Exports)
    {
        for at in crate::exports::read(&source.text).entries {
            let crate::exports::Line::Export(export) = at.value else { continue };
            for path in export.paths.iter().filter(|_| export.options.all_directories) {
                let inside =
                    |made: &&str| *made == path || super::site::below(made, path).is_some();
                let mounted = words.iter().any(|words| {
                    words.first().is_some_and(|word| ["zfs", "mount"].contains(word))
                        && words.iter().any(|word| word.ends_with(path.as_str()))
                });
                if made.iter().any(inside) && !mounted {
                    let here =
                        In { source: index, file: source.name.as_str(), line: at.line, value: () };
                    let message = format!(
                        "{} makes {path} a directory of another file system, and mountd refuses -alldirs for it: make it a data \
                         set, or leave -alldirs out",
                        script.here.file
                    );
                    findings.add(&here, Rule::ExportsAlldirs, message);
                }
            }
        }
    }
}
