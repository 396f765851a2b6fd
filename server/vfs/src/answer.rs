//! What trees answer, as values in which the attributes can be replaced.

use crate::{
    Access, Attr, DirEnd, Found, FsError, FsStat, Limits, Linked, Made, Read, Renamed, Wcc, Written,
};

/// What an operation of a tree answers.
pub trait Answer: Sized {
    /// The same answer with all attributes in it replaced; the first error that a replacement makes.
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
