//! What a boot environment is for, and what else is written down about it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::NativeChange;

/// What a boot environment is for.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Role {
    /// The system of one machine.
    Client,
    /// A system to boot.
    #[default]
    Environment,
    /// Nothing yet: it came from another host, whose decisions do not bind this one. It is neither
    /// shared nor booted until its administrator here gives it a role.
    Off,
    /// A system that others are made from.
    Template,
}

impl Role {
    /// Every role, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Environment, Self::Template, Self::Client, Self::Off];

    /// The name that is typed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Environment => "be",
            Self::Off => "off",
            Self::Template => "template",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, RoleError> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(RoleError)
    }
}

/// Why text is not a role.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("no such role: write be, template, client or off")]
pub struct RoleError;

/// Something that is decided about a boot environment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Decision {
    /// Whether a data set stays with the machine when its boot environment changes.
    Data {
        /// Where it is below the root.
        dataset: String,
        /// Whether it stays.
        data: bool,
    },
    /// A property of the file system.
    Native(NativeChange),
    /// What the environment is for.
    Role(Role),
    /// A free setting.
    Setting {
        /// Its key.
        key: String,
        /// Its value; `None` takes it away.
        value: Option<String>,
    },
}

impl fmt::Display for Decision {
    /// Writes it as it is typed: `role=template`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data { dataset, data: true } => write!(f, "data={dataset}"),
            Self::Data { dataset, data: false } => write!(f, "system={dataset}"),
            Self::Native(NativeChange { property, value }) => {
                write!(f, "{property}={}", value.as_deref().unwrap_or(""))
            }
            Self::Role(role) => write!(f, "role={role}"),
            Self::Setting { key, value } => write!(f, "{key}={}", value.as_deref().unwrap_or("")),
        }
    }
}

/// Free settings of a boot environment, which travel with it: `os`, `release`, `arch` …
///
/// On ZFS each is the user property `netbe:KEY`, whose rules (zfsprops(7)) hold everywhere.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// The value of a key.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Gives a key a value, or takes it away.
    pub fn set(&mut self, key: &str, value: Option<&str>) -> Result<(), SettingError> {
        check_key(key)?;
        match value {
            Some(value) => {
                check_value(value)?;
                self.0.insert(key.to_owned(), value.to_owned());
            }
            None => {
                self.0.remove(key);
            }
        }
        Ok(())
    }

    /// All keys and their values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

fn check_key(key: &str) -> Result<(), SettingError> {
    let plain = |byte: u8| {
        byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || matches!(byte, b':' | b'-' | b'.' | b'_')
    };
    let begins = key.starts_with(|first: char| first.is_ascii_lowercase());
    if !begins || key.len() > MAX_KEY || !key.bytes().all(plain) {
        return Err(SettingError::Key);
    }
    if OWN_KEYS.contains(&key) {
        return Err(SettingError::Own);
    }
    Ok(())
}

fn check_value(value: &str) -> Result<(), SettingError> {
    if value.len() > MAX_VALUE {
        return Err(SettingError::Long(value.len()));
    }
    if value.chars().any(char::is_control) {
        return Err(SettingError::Control);
    }
    Ok(())
}

/// Why a setting is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SettingError {
    /// The value has a control character such as a line feed.
    #[error("a setting's value has no control characters: write one line")]
    Control,
    /// The key has other characters than ZFS takes.
    #[error("not a setting: write small letters, digits and : - . _, a letter first, at most {max}", max = MAX_KEY)]
    Key,
    /// The value is longer than ZFS takes.
    #[error("a setting's value of {0} bytes is too long: write at most {max}", max = MAX_VALUE)]
    Long(usize),
    /// netbe keeps something else under that key.
    #[error("netbe uses that setting itself: choose another name")]
    Own,
}

/// Keys under which netbe keeps what has a type of its own.
pub(crate) const OWN_KEYS: [&str; 8] =
    ["created", "data", "export", "layout", "origin", "role", "schema", "uuid"];
/// Leaves room for `netbe:` in the 256 bytes of a property's name.
const MAX_KEY: usize = 64;
/// ZFS takes no longer value (zfsprops(7)).
const MAX_VALUE: usize = 8192;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn every_role_is_read_back_from_its_name() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
        }
        assert_eq!("data".parse::<Role>(), Err(RoleError));
    }

    #[test]
    fn settings_are_what_zfs_would_take() {
        let mut settings = Settings::default();
        for key in ["os", "a.b-c_d:e", "x9"] {
            settings.set(key, Some("FreeBSD 14.3; büro")).unwrap();
            assert_eq!(settings.value(key), Some("FreeBSD 14.3; büro"));
        }
        settings.set("os", None).unwrap();
        assert_eq!(settings.value("os"), None);
        for key in ["", "Os", "9x", "a b", "a=b", "é", &"x".repeat(65)] {
            assert_eq!(settings.set(key, Some("")), Err(SettingError::Key), "{key}");
        }
        assert_eq!(settings.set("uuid", Some("")), Err(SettingError::Own));
        assert_eq!(settings.set("os", Some("a\nb")), Err(SettingError::Control));
        assert_eq!(settings.set("os", Some(&"x".repeat(8193))), Err(SettingError::Long(8193)));
    }
}
