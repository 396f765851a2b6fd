//! iPXE scripts.
//!
//! iPXE splits lines at white space and expands `${…}`; it knows no quotes and no escapes. What it
//! would act on is refused in addresses and arguments, where it must not be changed, and replaced in
//! messages, where a name that looks odd must not keep a machine from booting.

use std::net::Ipv4Addr;

use crate::ConfigError;
use crate::error::{limit, refuse};

/// What the script tells the person in front of the machine, and what it does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Script {
    /// The server, by address or name.
    pub server: String,
    /// The machine, by name or address.
    pub machine: String,
    /// The boot environment.
    pub environment: String,
    /// What ties the requests of this boot together in the server's log, if it keeps one.
    pub boot: Option<String>,
    /// What it does.
    pub action: Action,
}

/// What a script does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Runs FreeBSD's `loader.efi` and hands it what it would ask DHCP for.
    Loader {
        /// Its URL.
        url: String,
        /// The NFS server of its root.
        server: Ipv4Addr,
        /// The root's path there.
        path: String,
        /// More words for its environment and the kernel's, as `name=value`.
        variables: Vec<String>,
    },
    /// Loads a kernel and runs it.
    Kernel {
        /// The kernel's URL.
        kernel: String,
        /// The initial RAM disk's URL.
        initrd: Option<String>,
        /// The kernel's command line; words are separated by single spaces.
        arguments: String,
    },
    /// Boots nothing: shows why for ten seconds.
    Refuse {
        /// Why, in a sentence.
        message: String,
        /// What comes after that.
        then: Then,
    },
    /// Boots nothing yet: shows why, and after three seconds runs what is then at a URL.
    Wait {
        /// Why, in a sentence.
        message: String,
        /// The URL of the next script.
        url: String,
    },
}

/// What a machine does that boots nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Then {
    /// It starts from the beginning, and asks again.
    Restart,
    /// Its firmware goes on to what it would boot without a network.
    NextDevice,
}

/// The text of a script.
///
/// When a step fails, the script says so and begins again after ten seconds, so that a machine
/// without a screen comes up when its server does; a key press gives a shell instead.
pub fn render(script: &Script) -> Result<String, ConfigError> {
    if let Action::Refuse { message, then } = &script.action {
        return refusal(script, message, *then);
    }
    let boot = script.boot.as_ref().map(|boot| format!(" (boot {})", plain(boot)));
    let heading = format!(
        "netbe {}: {} boots {}{}",
        plain(&script.server),
        plain(&script.machine),
        plain(&script.environment),
        boot.unwrap_or_default()
    );
    let mut lines = vec!["#!ipxe".to_owned(), String::new(), ":start".to_owned()];
    lines.push(format!("echo {heading}"));
    match &script.action {
        Action::Kernel { kernel, initrd, arguments } => {
            let arguments = words("the kernel argument", arguments)?;
            // Without it a kernel that UEFI starts does not find the RAM disk: iPXE shows that as a
            // file of this name.
            let named = initrd.as_ref().map_or("", |_| "initrd=initrd");
            let line = [&["kernel", url(kernel)?, named], arguments.as_slice()].concat();
            let line: Vec<&str> = line.into_iter().filter(|word| !word.is_empty()).collect();
            lines.push(format!("{} || goto failed", line.join(" ")));
            if let Some(initrd) = initrd {
                lines.push(format!("initrd --name initrd {} || goto failed", url(initrd)?));
            }
            lines.push("boot || goto failed".to_owned());
        }
        Action::Loader { url: loader, server, path, variables } => {
            // The loader takes none of the addresses unless all four are there and not zero
            // (efi_env_net_params of stand/efi/libefi/efinet.c), and needs no router to reach us.
            lines.push(format!(
                "isset ${{netX/gateway}} && set gw ${{netX/gateway}} || set gw {server}"
            ));
            let mut line = format!(
                "chain --autofree {} ipaddr=${{netX/ip}} netmask=${{netX/netmask}} gatewayip=${{gw}} \
                 serverip={server}",
                url(loader)?
            );
            for option in std::iter::once(&format!("rootpath={path}")).chain(variables) {
                line += &format!(" {}", load_option(option)?);
            }
            lines.push(format!("{line} || goto failed"));
        }
        Action::Refuse { .. } => {}
        Action::Wait { message, url: next } => {
            lines.push(format!("echo {}", plain(message)));
            lines.push("sleep 3".to_owned());
            // In its place, so that waiting for long does not pile scripts up.
            lines.push(format!("chain --replace --autofree {} || goto failed", url(next)?));
        }
    }
    lines.push(String::new());
    lines.push(":failed".to_owned());
    lines.push(format!("echo netbe: booting {} failed", plain(&script.environment)));
    lines.push("imgfree ||".to_owned());
    lines.push(format!("{PROMPT} && shell || sleep 1"));
    lines.push("goto start".to_owned());
    for line in &lines {
        limit("a line", line, FORMAT, LINE)?;
    }
    lines.push(String::new());
    Ok(lines.join("\n"))
}

/// A script that boots nothing. It does not begin again by itself: what it shows may not hold any more.
fn refusal(script: &Script, message: &str, then: Then) -> Result<String, ConfigError> {
    let (says, does) = match then {
        Then::Restart => ("Restarting", "reboot"),
        Then::NextDevice => ("Going on to the next boot device", "exit 1"),
    };
    let heading = format!("netbe: {} boots nothing", plain(&script.machine));
    let lines = [
        "#!ipxe".to_owned(),
        String::new(),
        format!("echo {heading}"),
        format!("echo {}", plain(message)),
        format!("{KEY} {says} in 10 seconds; press s for a shell. && shell ||"),
        does.to_owned(),
        String::new(),
    ];
    for line in &lines {
        limit("a line", line, FORMAT, LINE)?;
    }
    Ok(lines.join("\n"))
}

/// An address as one word.
fn url(url: &str) -> Result<&str, ConfigError> {
    let reason = "encode spaces and signs other than those of URLs as %20 and so on";
    let bad = |c: char| !c.is_ascii_graphic() || "\"'<>\\^`{|}#".contains(c);
    refuse("the URL", url, FORMAT, reason, bad)?;
    if url.is_empty() || url.starts_with('-') {
        let (what, value) = ("the URL", url.to_owned());
        return Err(ConfigError::Character { what, value, format: FORMAT, reason: "it is none" });
    }
    Ok(url)
}

/// A word `name=value` for the environment of `loader.efi`, which has 128 bytes for each
/// (`parse_args` of stand/efi/loader/main.c) and cuts a root path at a colon.
fn load_option(option: &str) -> Result<&str, ConfigError> {
    let what = "the load option";
    let reason = "it is name=value without spaces, colons and signs beyond ASCII";
    refuse(what, option, FORMAT, reason, |c| !c.is_ascii_graphic() || c == ':')?;
    let named = option.split_once('=').is_some_and(|(name, _)| !name.is_empty());
    if !named || words(what, option)?.len() != 1 {
        return Err(ConfigError::Character {
            what,
            value: option.to_owned(),
            format: FORMAT,
            reason,
        });
    }
    limit(what, option, FORMAT, LOAD_OPTION)?;
    Ok(option)
}

/// Arguments as the words that iPXE makes of them.
fn words<'a>(what: &'static str, text: &'a str) -> Result<Vec<&'a str>, ConfigError> {
    let reason = "iPXE would act on a control character, ${, || or &&, or a word beginning with #";
    let character =
        || ConfigError::Character { what, value: text.to_owned(), format: FORMAT, reason };
    refuse(what, text, FORMAT, reason, char::is_control)?;
    if text.contains("${") {
        return Err(character());
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.iter().any(|word| word.starts_with('#') || matches!(*word, "||" | "&&")) {
        return Err(character());
    }
    Ok(words)
}

/// A message: what iPXE would act on, and what its console cannot show, becomes a question mark.
fn plain(text: &str) -> String {
    let shown = |c: char| c.is_ascii_graphic() && !"${}|&#".contains(c);
    text.chars().map(|c| if c == ' ' || shown(c) { c } else { '?' }).collect()
}

const FORMAT: &str = "an iPXE script";
/// The kernel's command line on x86 is at most 2,048 bytes; with room for the URL before it.
const LINE: usize = 3072;
/// A load option without its NUL.
const LOAD_OPTION: usize = 127;
/// 0x73 is the key `s`.
const KEY: &str = "prompt --key 0x73 --timeout 10000";
const PROMPT: &str =
    "prompt --key 0x73 --timeout 10000 Trying again in 10 seconds; press s for a shell.";

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;

    fn script(action: Action) -> Script {
        Script {
            server: "10.0.0.1".into(),
            machine: "desk".into(),
            environment: "debian".into(),
            boot: Some("0123456789abcdef".into()),
            action,
        }
    }

    fn kernel(arguments: &str) -> Script {
        script(Action::Kernel {
            kernel: "http://10.0.0.1/b/1/kernel".into(),
            initrd: Some("http://10.0.0.1/b/1/initrd".into()),
            arguments: arguments.into(),
        })
    }

    /// Reads a script as iPXE does: lines, words, `||`; gives back what it would do.
    fn read(text: &str) -> Option<Action> {
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("#!ipxe"));
        let mut found = None;
        for line in lines {
            let mut words = line.split_whitespace();
            let command = words.next();
            let words: Vec<&str> = words.take_while(|word| *word != "||").collect();
            let ours = matches!(command, Some("prompt" | "isset" | "chain"));
            assert!(ours || words.iter().all(|word| !word.contains("${") && *word != "&&"));
            match (command, &mut found) {
                (Some("kernel"), _) => {
                    let has_initrd = words.get(1) == Some(&"initrd=initrd");
                    found = Some(Action::Kernel {
                        kernel: words[0].to_owned(),
                        initrd: None,
                        arguments: words[if has_initrd { 2 } else { 1 }..].join(" "),
                    });
                }
                (Some("initrd"), Some(Action::Kernel { initrd, .. })) => {
                    assert_eq!(words[..2], ["--name", "initrd"]);
                    *initrd = Some(words[2].to_owned());
                }
                (Some("chain"), _) => {
                    let network = "ipaddr=${netX/ip} netmask=${netX/netmask} gatewayip=${gw}";
                    assert_eq!(words[2..5].join(" "), network);
                    assert!(words[5..].iter().all(|word| !word.contains("${")));
                    found = Some(Action::Loader {
                        url: words[1].to_owned(),
                        server: words[5].strip_prefix("serverip=")?.parse().ok()?,
                        path: words[6].strip_prefix("rootpath=")?.to_owned(),
                        variables: words[7..].iter().map(|&word| word.to_owned()).collect(),
                    });
                }
                _ => {}
            }
        }
        found
    }

    #[test]
    fn a_linux_kernel_is_loaded_with_its_ram_disk() {
        let text = render(&kernel("root=/dev/nfs rw")).unwrap();
        assert_eq!(
            text,
            "#!ipxe\n\n\
             :start\n\
             echo netbe 10.0.0.1: desk boots debian (boot 0123456789abcdef)\n\
             kernel http://10.0.0.1/b/1/kernel initrd=initrd root=/dev/nfs rw || goto failed\n\
             initrd --name initrd http://10.0.0.1/b/1/initrd || goto failed\n\
             boot || goto failed\n\n\
             :failed\n\
             echo netbe: booting debian failed\n\
             imgfree ||\n\
             prompt --key 0x73 --timeout 10000 Trying again in 10 seconds; press s for a shell. \
             && shell || sleep 1\n\
             goto start\n"
        );
    }

    #[test]
    fn a_kernel_without_a_ram_disk_is_not_told_of_one() {
        let action =
            Action::Kernel { kernel: "http://a/k".into(), initrd: None, arguments: "rw".into() };
        let text = render(&script(action)).unwrap();
        assert!(text.contains("\nkernel http://a/k rw || goto failed\nboot "), "{text}");
    }

    fn loader(path: &str, variables: &[&str]) -> Script {
        script(Action::Loader {
            url: "http://10.0.0.1/b/1/loader.efi".into(),
            server: Ipv4Addr::new(10, 0, 0, 1),
            path: path.into(),
            variables: variables.iter().map(|&word| word.to_owned()).collect(),
        })
    }

    #[test]
    fn freebsds_loader_is_handed_four_addresses_and_its_root() {
        let text = render(&loader("/be/free", &["boot.nfsroot.options=nolockd"])).unwrap();
        let handed = "\nisset ${netX/gateway} && set gw ${netX/gateway} || set gw 10.0.0.1\n\
             chain --autofree http://10.0.0.1/b/1/loader.efi ipaddr=${netX/ip} \
             netmask=${netX/netmask} gatewayip=${gw} serverip=10.0.0.1 rootpath=/be/free \
             boot.nfsroot.options=nolockd || goto failed\n";
        assert!(text.contains(handed), "{text}");
    }

    #[test]
    fn load_options_that_the_loader_would_misread_are_refused() {
        let long = format!("a={}", "x".repeat(126));
        for option in ["a", "=b", "a=b c", "a=b:c", "a=é", "a=${x}", &long] {
            assert!(render(&loader("/be/free", &[option])).is_err(), "{option:?}");
        }
        for path in ["/a b", "/a:b", &"/x".repeat(60)] {
            assert!(render(&loader(path, &[])).is_err(), "{path:?}");
        }
    }

    #[test]
    fn a_refusal_is_shown_and_what_comes_then_is_said() {
        let refuse = |then| {
            let message = "no boot environment is set for 52:54:00:12:34:56".to_owned();
            render(&script(Action::Refuse { message, then })).unwrap()
        };
        assert_eq!(
            refuse(Then::Restart),
            "#!ipxe\n\n\
             echo netbe: desk boots nothing\n\
             echo no boot environment is set for 52:54:00:12:34:56\n\
             prompt --key 0x73 --timeout 10000 Restarting in 10 seconds; press s for a shell. \
             && shell ||\nreboot\n"
        );
        let next = refuse(Then::NextDevice);
        assert!(next.contains(" Going on to the next boot device in 10 seconds;"), "{next}");
        assert!(next.ends_with("\nexit 1\n"), "{next}");
    }

    #[test]
    fn what_ipxe_would_act_on_is_refused_in_arguments() {
        for arguments in ["a ${net0/ip}", "a || reboot", "a && b", "a #b", "a\nreboot", "a\0"] {
            assert!(render(&kernel(arguments)).is_err(), "{arguments:?}");
        }
        assert!(render(&kernel("a=b||c d#e $f")).is_ok());
    }

    #[test]
    fn names_cannot_add_commands() {
        let hostile = Script {
            environment: "x\nreboot ${y} || z".into(),
            machine: "é#".into(),
            ..kernel("rw")
        };
        let text = render(&hostile).unwrap();
        assert!(text.contains("echo netbe 10.0.0.1: ?? boots x?reboot ??y? ?? z (boot"), "{text}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back_or_was_refused(
            url in prop_oneof!["http://[a-z0-9.:/%_-]{1,20}", "[ -~]{0,20}"], initrd in prop::option::of(prop_oneof!["/[!-~]{1,9}", "http://[a-z/]{1,9}"]), arguments in "\\PC{0,40}",
            name in "\\PC{0,20}", chain: bool, server: u32, path in "/[!-~é ]{0,9}",
            variables in prop::collection::vec("[a-z]{1,3}=[!-~]{0,5}", 0..3),
        ) {
            let arguments = arguments.split_whitespace().collect::<Vec<_>>().join(" ");
            let action = if chain {
                Action::Loader { url, server: server.into(), path, variables }
            } else {
                Action::Kernel { kernel: url, initrd, arguments }
            };
            let script = Script { environment: name, ..script(action.clone()) };
            if let Ok(text) = render(&script) {
                prop_assert_eq!(read(&text), Some(action));
            }
        }
    }
}
