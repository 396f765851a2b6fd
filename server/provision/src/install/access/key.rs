//! Public keys of ssh(1), one on a line, as `ssh-keygen` writes them.

use serde::{Deserialize, Serialize};

/// A public key with which somebody logs in.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct SshKey(String);

impl SshKey {
    /// All keys of a file; lines that are empty or begin with `#` say nothing.
    pub fn all(text: &str) -> Result<Vec<Self>, KeyError> {
        if text.contains("PRIVATE KEY") {
            return Err(KeyError::Private);
        }
        let lines = text.lines().map(str::trim).zip(1..);
        let lines = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        let keys = lines.map(|(line, number)| Self::parse(line).ok_or(KeyError::Line(number)));
        let keys = keys.collect::<Result<Vec<Self>, _>>()?;
        if keys.is_empty() { Err(KeyError::None) } else { Ok(keys) }
    }

    /// Whether text is meant to be a key, and not the name of a file.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        text.split_once(' ').is_some_and(|(kind, _)| KINDS.contains(&kind))
    }

    /// Whether an authorized_keys(5) has a key in it, with options or without.
    pub(super) fn is_in(text: &[u8]) -> bool {
        String::from_utf8_lossy(text).lines().map(str::trim).any(|line| {
            !line.starts_with('#')
                && line.split_ascii_whitespace().any(|word| KINDS.contains(&word))
        })
    }

    pub(super) fn line(&self) -> &str {
        &self.0
    }

    /// `KIND BASE64 COMMENT`, as in authorized_keys(5), without options.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let kind = words.next().filter(|kind| KINDS.contains(kind))?;
        let key = words.next().and_then(decoded)?;
        // RFC 4253 §6.6: it begins with the length of its kind, and its kind.
        let rest = key.strip_prefix(&[0, 0, 0][..]).and_then(|rest| rest.split_first());
        let named = rest.is_some_and(|(len, rest)| {
            usize::from(*len) == kind.len()
                && rest.starts_with(kind.as_bytes())
                && rest.len() > kind.len() + 32
        });
        (named && !line.contains(char::is_control)).then(|| Self(line.to_owned()))
    }
}

/// The bytes that Base64 (RFC 4648 §4) stands for.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let body = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - body.len() > 2 {
        return None;
    }
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(text.len()), 0_u32, 0);
    for byte in body.bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held).to_be_bytes()[3]);
        }
    }
    Some(bytes)
}

/// Why text is no public key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeyError {
    /// A line is none: its number, from 1. Its text may be a secret, as in a file of passwords.
    #[error("line {0} is not a public ssh key: write it as in id_ed25519.pub, KIND BASE64 COMMENT")]
    Line(usize),
    /// There is none.
    #[error("there is no public key in it")]
    None,
    /// It is the secret half.
    #[error("it is a private key: name the file with the public key, which ends with .pub")]
    Private,
}

/// The kinds that OpenSSH knows, without certificates and what it has given up.
const KINDS: [&str; 7] = [
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "sk-ssh-ed25519@openssh.com",
    "ssh-ed25519",
    "ssh-rsa",
];

#[cfg(test)]
mod test {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";

    #[test]
    fn keys_are_read_as_they_stand_in_a_file() {
        let text = format!("# mine\n\n{KEY} me@desk\r\n{KEY}\n");
        let keys = SshKey::all(&text).unwrap();
        assert_eq!(
            keys.iter().map(SshKey::line).collect::<Vec<_>>(),
            [&format!("{KEY} me@desk"), KEY]
        );
        assert!(SshKey::is_meant(KEY) && !SshKey::is_meant("/root/.ssh/ssh-rsa key"));
    }

    #[test]
    fn what_is_no_public_key_is_told() {
        let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n";
        assert_eq!(SshKey::all(private), Err(KeyError::Private));
        assert_eq!(SshKey::all("# none\n"), Err(KeyError::None));
        let other = KEY.replace("ssh-ed25519 ", "ssh-rsa ");
        let (cut, odd) = (&KEY[..40], KEY.replace('9', "*"));
        for bad in
            ["ssh-ed25519", cut, &odd, &other, "no-pty ssh-ed25519 AAAA", &format!("{KEY}\tx\u{7}")]
        {
            assert_eq!(SshKey::all(&format!("{KEY}\n\n{bad}")), Err(KeyError::Line(3)), "{bad}");
        }
        let said = SshKey::all("sesame").unwrap_err().to_string();
        assert!(
            said.starts_with("line 1 is not a public ssh key") && !said.contains("sesame"),
            "{said}"
        );
    }

    #[test]
    fn a_file_has_a_key_in_it_or_none() {
        assert!(SshKey::is_in(format!("# x\nno-pty {KEY}\n").as_bytes()));
        assert!(!SshKey::is_in(format!("\n#{KEY}\n").as_bytes()));
    }
}
