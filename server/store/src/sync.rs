//! What is on stable storage when a machine is answered: the property `sync` of ZFS (zfsprops(7)), where the
//! file system of a store has none of that name. Then it is written down, and the server goes by it.

use std::str::FromStr;

use crate::{Environment, Native, NativeChange, NativeValue, Settings, StoreError};

/// What is on stable storage when a change of files is answered.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SyncMode {
    /// What the protocol says; or ZFS decides.
    #[default]
    Standard,
    /// All.
    Always,
    /// Nothing.
    Disabled,
}

impl SyncMode {
    /// Every value.
    pub const ALL: [Self; 3] = [Self::Standard, Self::Always, Self::Disabled];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Always => "always",
            Self::Disabled => "disabled",
        }
    }

    /// What is written down about an environment.
    pub(crate) fn written(environment: &Environment) -> Self {
        environment.settings.value(SYNC).and_then(|word| word.parse().ok()).unwrap_or_default()
    }
}

impl FromStr for SyncMode {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|known| known.as_str() == word).ok_or(())
    }
}

/// A change of `sync` that is to be written down.
pub(crate) struct Change(Option<Option<String>>);

impl Change {
    /// Takes it out of changes of properties of the file system.
    pub(crate) fn take(natives: &mut Vec<NativeChange>) -> Self {
        let of_sync = |change: &mut NativeChange| change.property.as_str() == SYNC;
        Self(natives.extract_if(.., of_sync).last().map(|change| change.value))
    }

    /// None.
    pub(crate) const fn none() -> Self {
        Self(None)
    }

    /// Writes it down.
    pub(crate) fn make(self, settings: &mut Settings) -> Result<(), StoreError> {
        let Some(value) = self.0 else { return Ok(()) };
        if value.as_deref().is_some_and(|word| word.parse::<SyncMode>().is_err()) {
            let why = "write standard, always or disabled".to_owned();
            return Err(StoreError::Property { property: SYNC, why });
        }
        Ok(settings.set(SYNC, value.as_deref())?)
    }
}

/// The property as it is shown.
pub(crate) fn shown(environment: &Environment) -> Option<NativeValue> {
    let source = if environment.settings.value(SYNC).is_some() { "local" } else { "default" };
    let value = SyncMode::written(environment).as_str().to_owned();
    Native::of(SYNC).map(|property| NativeValue { property, value, source: source.to_owned() })
}

/// The name of the property, and where it is written down.
pub(crate) const SYNC: &str = "sync";
