//! Data on its way from a file to a socket without a copy: FreeBSD has no splice(2) from files, so that
//! everything is copied.

use std::io;
use std::os::fd::BorrowedFd;

/// A pipe with data for a socket; there is none.
#[derive(Debug)]
pub(crate) enum Pipe {}

impl Pipe {
    /// None: the data have to be copied.
    pub(crate) const fn for_range(_offset: u64, _len: usize) -> Option<Self> {
        None
    }

    /// Where data are put in.
    pub(crate) const fn writer(&self) -> Option<BorrowedFd<'_>> {
        match *self {}
    }

    /// Takes note that so many bytes were put in.
    pub(crate) const fn put(&mut self, _len: usize) {
        match *self {}
    }

    /// Bytes that are in it.
    pub(crate) const fn len(&self) -> usize {
        match *self {}
    }

    /// Moves as much as a stream's socket takes.
    pub(crate) const fn send(&mut self, _socket: BorrowedFd<'_>, _more: bool) -> io::Result<usize> {
        match *self {}
    }
}
