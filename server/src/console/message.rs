//! The forms in which machines say something: syslog as in RFC 5424 §6 and as in RFC 3164 §4.1, and
//! Linux's netconsole, plain and extended (`Documentation/networking/netconsole.rst`).
//!
//! Everything is taken: what has no form is text.

/// A line that a machine said.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Line {
    /// How grave it is, from 0 (emergency) to 7 (debug), if it says so.
    pub(super) severity: Option<u8>,
    /// Who says it; empty for a kernel that does not say.
    pub(super) program: String,
    /// What it says.
    pub(super) text: String,
}

impl Line {
    /// Whether a kernel says that it stops: Linux's, and FreeBSD's.
    pub(super) fn is_panic(&self) -> bool {
        let text = self.text.trim_start();
        let text = match text.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
            Some((_time, rest)) => rest,
            None => text,
        };
        let is_kernel = matches!(self.program.as_str(), "" | "kernel");
        is_kernel && (text.starts_with("Kernel panic - ") || text.starts_with("panic: "))
    }
}

/// The lines in a datagram, at most [`LINES`] of them.
pub(super) fn parse(datagram: &[u8]) -> Vec<Line> {
    let text = String::from_utf8_lossy(datagram);
    let text = text.trim_matches(['\0', '\n', '\r', ' ']);
    let (severity, rest) = priority(text);
    let first = match severity {
        Some(_) => rfc_5424(rest).or_else(|| rfc_3164(rest)).unwrap_or_else(|| plain(rest)),
        None => extended(text).unwrap_or_else(|| plain(text)),
    };
    let Line { severity: own, program, text } = first;
    let severity = severity.or(own);
    // netconsole sends several lines at once, and a dictionary behind the first (`\n KEY=value`).
    let lines = text.split('\n').map(|line| line.trim_end_matches('\r'));
    let lines = lines.filter(|line| !line.trim().is_empty()).take(LINES);
    let said = lines.map(|line| Line {
        severity,
        program: program.chars().take(PROGRAM).collect(),
        text: line.chars().take(TEXT).collect(),
    });
    said.collect()
}

/// `<PRI>`: facility times eight and severity (RFC 5424 §6.2.1).
fn priority(text: &str) -> (Option<u8>, &str) {
    let number = text.strip_prefix('<').and_then(|rest| rest.split_once('>'));
    let number = number.filter(|(number, _)| (1..=3).contains(&number.len()));
    let number = number.and_then(|(number, rest)| Some((number.parse::<u8>().ok()?, rest)));
    match number.filter(|(number, _)| *number <= 191) {
        Some((number, rest)) => (Some(number % 8), rest),
        None => (None, text),
    }
}

/// `1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA [MSG]`.
fn rfc_5424(text: &str) -> Option<Line> {
    let rest = text.strip_prefix("1 ")?;
    let mut words = rest.splitn(6, ' ');
    let (_time, _host, program) = (words.next()?, words.next()?, words.next()?);
    let (_process, _id, rest) = (words.next()?, words.next()?, words.next()?);
    let message = structured(rest)?.trim_start_matches(' ').trim_start_matches('\u{feff}');
    let program = if program == "-" { "" } else { program };
    Some(Line { program: program.to_owned(), text: message.to_owned(), severity: None })
}

/// What follows STRUCTURED-DATA: `-`, or elements in brackets whose values escape `"`, `\` and `]`.
fn structured(text: &str) -> Option<&str> {
    if let Some(rest) = text.strip_prefix('-') {
        return Some(rest);
    }
    let (mut quoted, mut escaped, mut inside) = (false, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '[' if !quoted && !inside => inside = true,
            ']' if !quoted && inside => inside = false,
            _ if !inside => return text.get(at..),
            _ => {}
        }
    }
    (!inside && !quoted).then_some("")
}

/// `Mmm dd hh:mm:ss [HOSTNAME] TAG: MSG`; what daemons on one host send has no HOSTNAME.
fn rfc_3164(text: &str) -> Option<Line> {
    let time = text.get(..16)?;
    let is_time = time.bytes().enumerate().all(|(at, byte)| match at {
        3 | 6 | 15 => byte == b' ',
        9 | 12 => byte == b':',
        0..3 => byte.is_ascii_alphabetic(),
        4 => byte == b' ' || byte.is_ascii_digit(),
        _ => byte.is_ascii_digit(),
    });
    if !is_time {
        return None;
    }
    Some(tagged(text.get(16..)?))
}

/// `[HOSTNAME] TAG[PID]: MSG`.
fn tagged(text: &str) -> Line {
    let tag = |text: &str| {
        let (tag, rest) = text.split_once(": ").or_else(|| Some((text.strip_suffix(':')?, "")))?;
        let name =
            tag.split('[').next().filter(|name| !name.is_empty() && name.len() <= PROGRAM)?;
        (!tag.contains(' ')).then(|| (name.to_owned(), rest.to_owned()))
    };
    let behind = text.split_once(' ').map(|(_host, rest)| rest);
    match tag(text).or_else(|| tag(behind?)) {
        Some((program, text)) => Line { program, text, severity: None },
        None => plain(text),
    }
}

/// `LEVEL,SEQUENCE,MICROSECONDS,FLAGS[,...];TEXT`, as netconsole sends with `+`.
fn extended(text: &str) -> Option<Line> {
    let (head, rest) = text.split_once(';')?;
    let mut fields = head.split(',');
    let level: u32 = fields.next()?.parse().ok()?;
    let sequence = fields.next()?.parse::<u64>();
    let time = fields.next()?.parse::<u64>();
    fields.next().filter(|_| sequence.is_ok() && time.is_ok())?;
    // A dictionary follows in lines that begin with a space.
    let text = rest.split("\n ").next().unwrap_or(rest).to_owned();
    let severity = u8::try_from(level % 8).ok();
    Some(Line { severity, program: "kernel".to_owned(), text })
}

fn plain(text: &str) -> Line {
    Line { text: text.to_owned(), ..Line::default() }
}

/// Lines that one datagram may have.
const LINES: usize = 64;

/// Characters of a line that are kept.
const TEXT: usize = 1024;

/// Characters of a program's name (RFC 5424 §6.2.5).
const PROGRAM: usize = 48;

#[cfg(test)]
mod test {
    use super::*;

    fn line(severity: Option<u8>, program: &str, text: &str) -> Line {
        Line { severity, program: program.to_owned(), text: text.to_owned() }
    }

    #[track_caller]
    fn reads(datagram: &str, severity: Option<u8>, program: &str, text: &str) {
        assert_eq!(parse(datagram.as_bytes()), [line(severity, program, text)], "{datagram}");
    }

    #[test]
    fn both_forms_of_syslog_are_read() {
        // The examples of RFC 5424 §6.5 and RFC 3164 §5.4.
        let text =
            "<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - 'su root' failed";
        reads(text, Some(2), "su", "'su root' failed");
        let text = "<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 \
                    [exampleSDID@32473 iut=\"3\" eventSource=\"a\\\"]\"][second@1 x=\"y\"] An event";
        reads(text, Some(5), "evntslog", "An event");
        let text = "<34>Oct 11 22:14:15 mymachine su: 'su root' failed for lonvick on /dev/pts/8";
        reads(text, Some(2), "su", "'su root' failed for lonvick on /dev/pts/8");
        reads("<13>Feb  5 17:32:18 sshd[42]: hello", Some(5), "sshd", "hello");
        reads("<0>Kernel panic - not syncing", Some(0), "", "Kernel panic - not syncing");
    }

    #[test]
    fn netconsole_is_read_plain_and_extended() {
        reads("[    3.1] eth0: link up\n", None, "", "[    3.1] eth0: link up");
        let text = "4,1034,97812,-;VFS: Unable to mount root fs\n SUBSYSTEM=block\n";
        reads(text, Some(4), "kernel", "VFS: Unable to mount root fs");
        let both = parse(b"one\ntwo\n\n");
        assert_eq!(both, [line(None, "", "one"), line(None, "", "two")]);
    }

    #[test]
    fn a_panic_is_told_from_what_only_speaks_of_one() {
        let panic = |text: &str| parse(text.as_bytes())[0].is_panic();
        assert!(panic("[   12.3] Kernel panic - not syncing: No working init found."));
        assert!(panic("0,12,345,-;Kernel panic - not syncing: VFS"));
        assert!(panic("<2>Nov 22 17:00:00 kernel: panic: vm_fault"));
        assert!(!panic("<14>Nov 22 17:00:00 web1 app: Kernel panic - ha"));
        assert!(!panic("[ 1.0] a Kernel panic - no"));
    }

    #[test]
    fn whatever_comes_is_bounded_text() {
        let mut seed = 7_u64;
        for length in 0..3000 {
            let bytes = (0..length % 600).map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                b"<>1234567890[]\"\\ ,;:\n-\xff\0a"[usize::try_from(seed >> 33).unwrap() % 25]
            });
            for line in parse(&bytes.collect::<Vec<_>>()) {
                assert!(line.text.chars().count() <= TEXT && line.program.len() <= 4 * PROGRAM);
            }
        }
        assert_eq!(parse(&[b'\n'; 8192]), []);
        assert_eq!(parse(&b"x\n".repeat(4096)).len(), LINES);
        assert_eq!(parse(&[b'x'; 8192])[0].text.len(), TEXT);
    }
}
