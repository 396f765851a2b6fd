//! The hidden verb that writes docs/reference: every verb and every key of netbe.toml, from what the
//! program itself knows of them.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use clap::{Arg, Args, Command};

use super::man::CONFIGURATION;
use super::{Failure, Reply, command};

/// Write the reference of commands and of netbe.toml, as Markdown.
#[derive(Args, Debug)]
#[command(hide = true)]
pub(crate) struct Reference {
    /// The directory: commands.md and netbe.toml.md are written into it.
    into: PathBuf,
}

impl Reference {
    pub(crate) fn run(&self) -> Result<Reply, Failure> {
        for (name, text) in [("commands.md", commands()), ("netbe.toml.md", configuration())] {
            let path = self.into.join(name);
            fs::write(&path, text).map_err(|error| {
                Failure::could_not(format_args!("{} cannot be written: {error}", path.display()))
            })?;
        }
        Ok(Reply::done())
    }
}

/// The reference of all verbs.
fn commands() -> String {
    let mut netbe = command("netbe");
    netbe.build();
    let mut text = format!("# Commands\n\n{GENERATED}\n\n## Options of every verb\n\n");
    let global = |arg: &&Arg| arg.is_global_set();
    text += &options(netbe.get_arguments().filter(global));
    write_verbs(&mut text, &netbe, "netbe");
    tidy(&text)
}

fn write_verbs(text: &mut String, parent: &Command, name: &str) {
    for verb in parent.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        if verb.get_name() == "help" {
            continue;
        }
        let name = format!("{name} {}", verb.get_name());
        let _ = write!(text, "\n## {name}\n\n{}\n", about(verb));
        let aliases: Vec<_> =
            verb.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
        if !aliases.is_empty() {
            let _ = write!(text, "\nAlias: {}.\n", aliases.join(", "));
        }
        if verb.has_subcommands() {
            write_verbs(text, verb, &name);
            continue;
        }
        let usage = verb.clone().render_usage().to_string();
        let usage = usage.trim().trim_start_matches("Usage: ");
        let _ = write!(text, "\n```text\n{usage}\n```\n");
        let own = |arg: &&Arg| !arg.is_global_set() && !arg.is_hide_set() && arg.get_id() != "help";
        let options = options(verb.get_arguments().filter(own));
        if !options.is_empty() {
            let _ = write!(text, "\n{options}");
        }
    }
}

fn about(verb: &Command) -> String {
    let about = verb.get_long_about().or_else(|| verb.get_about());
    let about = about.map_or_else(String::new, ToString::to_string);
    let mut text = about.trim_end().to_owned();
    if !text.is_empty() && !text.ends_with('.') {
        text.push('.');
    }
    text
}

/// A table of arguments, or nothing if there are none.
fn options<'a>(args: impl Iterator<Item = &'a Arg>) -> String {
    let rows: String =
        args.map(|arg| format!("| {} | {} |\n", spelling(arg), meaning(arg))).collect();
    if rows.is_empty() { rows } else { format!("| argument | meaning |\n|---|---|\n{rows}") }
}

/// An argument as it is typed.
fn spelling(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    let takes = arg.get_action().takes_values();
    let value: String = names.iter().filter(|_| takes).map(|name| format!(" {name}")).collect();
    if arg.is_positional() {
        return format!("`{}`", value.trim_start()).replace('|', "\\|");
    }
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let typed: Vec<_> = short.into_iter().chain(long).collect();
    // A cell ends at a bar, also inside a code span.
    format!("`{}{value}`", typed.join(", ")).replace('|', "\\|")
}

fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help());
    let mut text = help.map_or_else(String::new, ToString::to_string).replace('\n', " ");
    // The same on all hosts.
    for own in ["/var/db/netbe]", "/var/lib/netbe]"] {
        text = text.replace(own, "/var/lib/netbe, on FreeBSD /var/db/netbe]");
    }
    if !text.ends_with('.') {
        text.push('.');
    }
    if !arg.is_hide_possible_values_set() && arg.get_action().takes_values() {
        let values = arg.get_possible_values();
        let values: Vec<_> = values
            .iter()
            .filter(|value| !value.is_hide_set())
            .map(|value| match value.get_help() {
                Some(help) => format!("`{}` ({help})", value.get_name()),
                None => format!("`{}`", value.get_name()),
            })
            .collect();
        if !values.is_empty() {
            let _ = write!(text, " Values: {}.", values.join(", "));
        }
    }
    let defaults = arg.get_default_values().iter().filter_map(|value| value.to_str());
    let defaults = defaults.filter(|value| !value.is_empty());
    let defaults: Vec<_> = defaults.map(|value| format!("`{value}`")).collect();
    if !defaults.is_empty() && arg.get_action().takes_values() {
        let _ = write!(text, " Default: {}.", defaults.join(", "));
    }
    if let Some(variable) = arg.get_env().and_then(|variable| variable.to_str()) {
        let _ = write!(text, " Environment: `{variable}`.");
    }
    text.replace('|', "\\|")
}

/// The reference of netbe.toml: its manual page, whose keys are those that the server reads.
fn configuration() -> String {
    let mut text = format!("# netbe.toml\n\n{GENERATED}\n");
    let mut literal = false;
    // Whether the next words continue a line.
    let mut open = false;
    // Of lists in lists.
    let mut depth = 0_usize;
    for line in CONFIGURATION.lines() {
        let (request, rest) = line.split_once(' ').unwrap_or((line, ""));
        match request {
            ".Bd" => {
                text += "\n\n```toml\n";
                literal = true;
            }
            ".Ed" => {
                text += "```\n";
                (literal, open) = (false, false);
            }
            _ if literal => text += &format!("{line}\n"),
            ".Sh" | ".Ss" => {
                let title = sentence_case(rest);
                let level = if request == ".Sh" { "##" } else { "###" };
                let _ = write!(text, "\n\n{level} {title}\n\n");
                open = false;
            }
            ".It" => {
                let indent = "  ".repeat(depth.saturating_sub(1));
                let _ = write!(text, "\n{indent}- {}: ", inline(rest));
                open = false;
            }
            ".Pp" => {
                text += "\n\n";
                open = false;
            }
            ".Bl" | ".El" => {
                depth = if request == ".Bl" { depth + 1 } else { depth.saturating_sub(1) };
                text += "\n";
                open = false;
            }
            ".Dd" | ".Dt" | ".Os" => {}
            _ => {
                let words = match request {
                    ".Nm" if rest.is_empty() => "`netbe.toml`".to_owned(),
                    ".Nd" => format!("– {rest}"),
                    _ if request.starts_with('.') => inline(line.trim_start_matches('.')),
                    _ => line.replace("\\(dq", "\"").replace("\\&", ""),
                };
                if open {
                    text.push(' ');
                }
                text += &words;
                open = true;
            }
        }
    }
    tidy(&text)
}

/// A line of mdoc(7), without its dot, as Markdown: words behind a macro are one code span up to
/// punctuation.
fn inline(line: &str) -> String {
    let mut words = line.split(' ');
    if let Some(reference) = line.strip_prefix("Xr ") {
        let mut words = reference.split(' ');
        let (page, section) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        return format!("{page}({section}){}", words.collect::<String>());
    }
    let (mut text, mut span) = (String::new(), Vec::new());
    // The macro itself is not shown.
    words.next();
    for word in words.chain([""]) {
        if !matches!(word, "" | "," | "." | ":" | ";") {
            span.push(word.replace("\\(dq", "\""));
            continue;
        }
        if !span.is_empty() {
            let gap = if text.is_empty() { "" } else { " " };
            let _ = write!(text, "{gap}`{}`", span.join(" "));
            span.clear();
        }
        text += word;
    }
    text
}

/// `NAME` as `Name`.
fn sentence_case(title: &str) -> String {
    if title.chars().any(char::is_lowercase) {
        return title.to_owned();
    }
    let lower = title.to_lowercase();
    let mut chars = lower.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// One empty line between paragraphs, no spaces at the end of a line, and lines that a person can read.
fn tidy(text: &str) -> String {
    let mut tidy = String::new();
    let mut empty = false;
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() {
            empty = true;
            continue;
        }
        if empty && !tidy.is_empty() {
            tidy.push('\n');
        }
        empty = false;
        wrap(line, &mut tidy);
    }
    tidy
}

/// Adds a line of Markdown, broken between words where it is long; tables and code spans are not broken.
fn wrap(line: &str, text: &mut String) {
    let words = line.trim_start();
    let indent = line.len() - words.len();
    let hanging = if words.starts_with("- ") { indent + 2 } else { indent };
    let mut width = indent;
    text.push_str(&" ".repeat(indent));
    let mut in_code = false;
    for (at, word) in words.split(' ').enumerate() {
        let length = word.chars().count();
        let may_break = at > 0 && !in_code && !words.starts_with('|');
        if may_break && width + 1 + length > WIDTH {
            text.push('\n');
            text.push_str(&" ".repeat(hanging));
            width = hanging;
        } else if at > 0 {
            text.push(' ');
            width += 1;
        }
        text.push_str(word);
        width += length;
        in_code ^= word.matches('`').count() % 2 == 1;
    }
    text.push('\n');
}

/// How wide a line of text is.
const WIDTH: usize = 118;

/// The sentence that keeps people from editing the files.
const GENERATED: &str = "`netbe reference docs/reference` writes this file. Change the source instead: the doc \
                         comments in `server/src/cli`, or `docs/man/netbe.toml.5`.";
