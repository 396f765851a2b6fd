//! Verbs about the program itself: completion for shells, and help.

use clap::Args;
use clap_complete::Shell;
use store::Point;

use super::{Failure, Reply, Site, command, machine};

/// Print a completion script for a shell.
///
/// bash and fish complete names of boot environments, snapshots and machines too.
#[derive(Args, Debug)]
pub(crate) struct Completion {
    /// The shell.
    shell: Shell,
}

impl Completion {
    pub(crate) fn run(&self) -> Result<Reply, Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut command("netbe"), "netbe", &mut text);
        let text = String::from_utf8(text).map_err(Failure::could_not)?;
        // Shell is non-exhaustive; those that are not named here complete verbs and flags alone.
        let names = if self.shell == Shell::Bash {
            BASH
        } else if self.shell == Shell::Fish {
            FISH
        } else {
            ""
        };
        Ok(Reply::text(text).and(names))
    }
}

/// Print the names that a word may be the beginning of, for completion scripts.
#[derive(Args, Debug)]
pub(crate) struct Names {
    /// What is typed of it.
    word: Option<String>,
}

impl Names {
    pub(crate) fn run(&self, site: &Site) -> Result<Reply, Failure> {
        let word = self.word.as_deref().unwrap_or_default();
        let mut names = Vec::new();
        // Whoever completes a word changes nothing, and is told nothing where nothing can be read.
        let mut site = site.clone();
        site.dry = true;
        if let Ok(store) = site.open() {
            let snapshots = word.split_once('@').and_then(|(name, _)| name.parse().ok());
            names = match snapshots {
                Some(name) => {
                    let kept = store.snapshots(&name).unwrap_or_default().into_iter();
                    kept.map(|kept| Point::snapshot(&name, &kept.name).to_string()).collect()
                }
                None => {
                    let listed = store.list()?.environments.into_iter();
                    listed.map(|environment| environment.name.to_string()).collect()
                }
            };
        }
        if site.state().exists()
            && let Ok(roster) = site.open_state().and_then(|state| machine::roster(&state))
        {
            names.extend(roster.iter().map(|(name, _)| name.to_string()));
        }
        names.retain(|name| name.starts_with(word));
        names.sort();
        names.dedup();
        Ok(Reply::text(names.into_iter().map(|name| name + "\n").collect::<String>()))
    }
}

/// What follows clap's own script: names beside verbs and flags. bash breaks words at `@`, so what stands
/// before that is put in front for the question and left out of the answers.
const BASH: &str = r#"
_netbe_and_names() {
    _netbe "$@"
    local word="${COMP_WORDS[COMP_CWORD]}" front="" name
    [[ ${COMP_CWORD} -ge 2 && ${word} != -* ]] || return 0
    if [[ ${word} == @ && ${COMP_CWORD} -ge 3 ]]; then
        front="${COMP_WORDS[COMP_CWORD-1]}@" word=""
    elif [[ ${COMP_WORDS[COMP_CWORD-1]} == @ && ${COMP_CWORD} -ge 4 ]]; then
        front="${COMP_WORDS[COMP_CWORD-2]}@"
    fi
    while IFS= read -r name; do
        COMPREPLY+=("${name#"${front}"}")
    done < <(netbe names -- "${front}${word}" 2>/dev/null)
}
complete -F _netbe_and_names -o bashdefault -o default netbe
"#;
const FISH: &str = r#"
complete -c netbe -n "not __fish_netbe_needs_command" -f -a "(netbe names -- (commandline -ct) 2>/dev/null)"
"#;

/// Print the help of a verb: `netbe help machine add` is `netbe machine add --help`.
#[derive(Args, Debug)]
pub(crate) struct Help {
    /// The verb.
    verb: Vec<String>,
}

impl Help {
    pub(crate) fn run(&self) -> Result<Reply, Failure> {
        let netbe = command("netbe");
        let mut found = &netbe;
        for verb in &self.verb {
            found = found.find_subcommand(verb).ok_or_else(|| unknown(&self.verb))?;
        }
        let words = ["netbe"].into_iter().chain(self.verb.iter().map(String::as_str));
        // clap knows the terminal's width and colours.
        match command("netbe").try_get_matches_from(words.chain(["--help"])) {
            Err(help) => help.print().map(|()| Reply::done()).map_err(Failure::could_not),
            Ok(_) => Ok(Reply::done()),
        }
    }
}

/// Why there is no help and no page.
pub(super) fn unknown(verb: &[String]) -> Failure {
    let typed = verb.join(" ");
    Failure::no(format_args!("there is no verb {typed}: `netbe --help` lists them"))
}
