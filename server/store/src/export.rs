//! What a boot environment's owner decided about sharing it over NFS.

use std::fmt;
use std::str::FromStr;

use crate::Network;

/// Who may use a boot environment over NFS, and as whom.
///
/// This is only the decision as it was made; the server enforces it on every call.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExportSettings {
    /// Whether it is shared at all. A machine whose root it is reaches it in any case.
    pub shared: bool,
    /// Whether everybody sees it read-only.
    pub read_only: bool,
    /// Whom the superuser of a client acts as; without it, as nobody.
    pub maproot: Option<Identity>,
    /// Whom every user of a client acts as.
    pub mapall: Option<Identity>,
    /// The networks that may use it.
    pub networks: Vec<Network>,
    /// The machines, by name, that may use it from any network.
    pub machines: Vec<String>,
    /// Whether calls from ports of 1024 and above are accepted: any user of a client can send those.
    pub insecure: bool,
    /// Whether a user's groups are those that this host knows, not the sixteen that a client can send.
    pub manage_gids: bool,
}

/// A user and groups by number, as in exports(5): `uid:gid:gid…`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Identity {
    /// The user.
    pub uid: u32,
    /// The groups; the first is the one that new files get.
    pub gids: Vec<u32>,
}

impl Identity {
    /// The superuser.
    #[must_use]
    pub fn root() -> Self {
        Self { uid: 0, gids: vec![0] }
    }

    /// The user that owns nothing (65534 on Linux and FreeBSD alike).
    #[must_use]
    pub fn nobody() -> Self {
        Self { uid: NOBODY, gids: vec![NOBODY] }
    }
}

impl FromStr for Identity {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let number = |part: &str| {
            let digits = part.bytes().all(|digit| digit.is_ascii_digit());
            part.parse().ok().filter(|_| digits).ok_or(IdentityError)
        };
        let mut parts = text.split(':');
        let uid = number(parts.next().unwrap_or_default())?;
        let gids = parts.map(number).collect::<Result<Vec<u32>, _>>()?;
        if gids.is_empty() || gids.len() > MAX_GROUPS {
            return Err(IdentityError);
        }
        Ok(Self { uid, gids })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.uid)?;
        self.gids.iter().try_for_each(|gid| write!(f, ":{gid}"))
    }
}

/// Why text is not a user with its groups.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("not a user with its groups: write uid:gid, as in 1001:1001, with at most 17 groups")]
pub struct IdentityError;

const NOBODY: u32 = 65_534;

/// AUTH_SYS carries a group and at most 16 more (RFC 5531, appendix A).
const MAX_GROUPS: usize = 17;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn identities_are_read_back_as_written() {
        for text in ["0:0", "65534:65534", "1001:1001:5:20"] {
            assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
        }
        assert_eq!(Identity::root().to_string(), "0:0");
        assert_eq!(Identity::nobody().to_string(), "65534:65534");
    }

    #[test]
    fn an_identity_without_a_group_or_with_too_many_is_refused() {
        let crowd = format!("1{}", ":1".repeat(18));
        for text in ["", "0", "root", "0:", ":0", "0:+1", "4294967296:0", &crowd] {
            assert_eq!(text.parse::<Identity>(), Err(IdentityError), "{text}");
        }
    }
}
