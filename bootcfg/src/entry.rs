//! What a loader boots: one kernel, with what is said about it on the machine's screen.

use crate::error::refuse;
use crate::{ConfigError, Serial};

/// A kernel, and for whom it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BootEntry {
    /// The server, by address or name.
    pub server: String,
    /// The machine, by name or address.
    pub machine: String,
    /// The boot environment.
    pub environment: String,
    /// What ties the requests of this boot together in the server's log, if it keeps one.
    pub boot: Option<String>,
    /// Where the kernel is, in the loader's own words.
    pub kernel: String,
    /// Where the initial RAM disk is, in the loader's own words.
    pub initrd: Option<String>,
    /// The kernel's command line; words are separated by single spaces.
    pub arguments: String,
    /// The serial port that the loader talks by beside the screen.
    pub serial: Option<Serial>,
}

impl BootEntry {
    /// What the machine shows before it boots: letters, digits and a few signs, nothing that a loader
    /// would act on.
    pub(crate) fn heading(&self) -> String {
        let boot = self.boot.as_ref().map(|boot| format!(" (boot {})", plain(boot)));
        format!(
            "netbe {}: {} boots {}{}",
            plain(&self.server),
            plain(&self.machine),
            plain(&self.environment),
            boot.unwrap_or_default()
        )
    }
}

/// Text for a screen: any other sign becomes a question mark.
pub(crate) fn plain(text: &str) -> String {
    let shown = |c: char| c.is_ascii_alphanumeric() || " .,:;/()_-@+".contains(c);
    text.chars().map(|c| if shown(c) { c } else { '?' }).collect()
}

/// The place of a file as one word that no loader takes for anything else.
pub(crate) fn place<'a>(place: &'a str, format: &'static str) -> Result<&'a str, ConfigError> {
    let what = "the place of a file";
    let reason = "letters, digits and the signs . : / ( ) , _ - ~ % + are possible";
    let fits = |c: char| c.is_ascii_alphanumeric() || ".:/(),_-~%+".contains(c);
    refuse(what, place, format, reason, |c| !fits(c))?;
    if place.is_empty() || place.starts_with('-') {
        return Err(ConfigError::Character { what, value: place.to_owned(), format, reason });
    }
    Ok(place)
}

#[cfg(test)]
pub(crate) mod test {
    use super::*;

    pub(crate) fn entry(arguments: &str) -> BootEntry {
        BootEntry {
            server: "10.0.0.1".into(),
            machine: "desk".into(),
            environment: "debian".into(),
            boot: Some("0123456789abcdef".into()),
            kernel: "http://10.0.0.1/b/1/kernel".into(),
            initrd: Some("http://10.0.0.1/b/1/initrd".into()),
            arguments: arguments.into(),
            serial: None,
        }
    }

    #[test]
    fn a_heading_holds_nothing_that_a_loader_acts_on() {
        let hostile =
            BootEntry { machine: "a\nb'$".into(), environment: "x#\"é".into(), ..entry("rw") };
        assert_eq!(hostile.heading(), "netbe 10.0.0.1: a?b?? boots x??? (boot 0123456789abcdef)");
    }

    #[test]
    fn a_place_is_one_word() {
        assert_eq!(place("(http,10.0.0.1)/b/1/kernel", "x"), Ok("(http,10.0.0.1)/b/1/kernel"));
        for bad in ["", "-a", "a b", "a'b", "a\nb", "a$b", "a#b"] {
            assert!(place(bad, "x").is_err(), "{bad:?}");
        }
    }
}
