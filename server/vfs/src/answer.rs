//! Replaces the attributes in the results of a tree's operations.

use crate::{
    Access, Attr, DirEnd, Found, FsError, FsStat, Limits, Linked, Made, Read, Renamed, Wcc, Written,
};

/// A result of an operation of a [`Tree`](crate::Tree).
pub trait Answer: Sized {
    /// Returns the result with `replace` applied to all attributes in it, or the first error of
    /// `replace`.
    fn map_attr(self, replace: &impl Fn(Attr) -> Result<Attr, FsError>) -> Result<Self, FsError>;
}

impl Answer for Attr {
    fn map_attr(self, replace: &impl Fn(Self) -> Result<Self, FsError>) -> Result<Self, FsError> {
        replace(self)
    }
}

impl Answer for Wcc {
    fn map_attr(self, replace: &impl Fn(Attr) -> Result<Attr, FsError>) -> Result<Self, FsError> {
        Ok(Self { before: replace(self.before)?, after: replace(self.after)? })
    }
}

impl Answer for Found {
    fn map_attr(self, replace: &impl Fn(Attr) -> Result<Attr, FsError>) -> Result<Self, FsError> {
        Ok(Self { attr: replace(self.attr)?, dir: replace(self.dir)?, ..self })
    }
}

impl Answer for Made {
    fn map_attr(self, replace: &impl Fn(Attr) -> Result<Attr, FsError>) -> Result<Self, FsError> {
        Ok(Self { attr: replace(self.attr)?, dir: self.dir.map_attr(replace)?, ..self })
    }
}

impl Answer for Renamed {
    fn map_attr(self, replace: &impl Fn(Attr) -> Result<Attr, FsError>) -> Result<Self, FsError> {
        Ok(Self { from: self.from.map_attr(replace)?, to: self.to.map_attr(replace)? })
    }
}

impl Answer for Linked {
    fn map_attr(self, replace: &impl Fn(Attr) -> Result<Attr, FsError>) -> Result<Self, FsError> {
        Ok(Self { attr: replace(self.attr)?, dir: self.dir.map_attr(replace)? })
    }
}

impl Answer for Read {
    fn map_attr(self, replace: &impl Fn(Attr) -> Result<Attr, FsError>) -> Result<Self, FsError> {
        Ok(Self { attr: replace(self.attr)?, ..self })
    }
}

impl Answer for Written {
    fn map_attr(self, replace: &impl Fn(Attr) -> Result<Attr, FsError>) -> Result<Self, FsError> {
        Ok(Self { wcc: self.wcc.map_attr(replace)?, ..self })
    }
}

impl Answer for DirEnd {
    fn map_attr(self, replace: &impl Fn(Attr) -> Result<Attr, FsError>) -> Result<Self, FsError> {
        Ok(Self { attr: replace(self.attr)?, ..self })
    }
}

impl Answer for (Access, Attr) {
    fn map_attr(self, replace: &impl Fn(Attr) -> Result<Attr, FsError>) -> Result<Self, FsError> {
        Ok((self.0, replace(self.1)?))
    }
}

impl Answer for (Vec<u8>, Attr) {
    fn map_attr(self, replace: &impl Fn(Attr) -> Result<Attr, FsError>) -> Result<Self, FsError> {
        Ok((self.0, replace(self.1)?))
    }
}

/// There are no attributes in it.
impl Answer for FsStat {
    fn map_attr(self, _replace: &impl Fn(Attr) -> Result<Attr, FsError>) -> Result<Self, FsError> {
        Ok(self)
    }
}

/// There are no attributes in it.
impl Answer for Limits {
    fn map_attr(self, _replace: &impl Fn(Attr) -> Result<Attr, FsError>) -> Result<Self, FsError> {
        Ok(self)
    }
}
