//! Each procedure over a tree in memory, called as the engine calls it.

mod attr;
mod dir;
mod export;
mod file;
mod fs;
mod hang;
mod hostile;
mod list;
mod nested;
mod session;
mod wait;

use std::sync::Arc;

use fixtures::MemFs;
use vfs::{Handle, Tree as _};
use wire::codec::Codec;
use wire::nfs3::{DirOp, FileHandle, Filename, FsArgs, PROGRAM, Procedure, VERSION};

use super::Nfs3;
use crate::boot::Booter;
use crate::clock::Clock;
use crate::net::rpc::{Call, Outcome, Program as _, Progress};
use crate::nfs::export::WireHandle;
use crate::nfs::export::bench::{Client, ROOT, Site};
use crate::site::machine::View;

/// A server of one export, `/be/head`.
struct Bench {
    site: Site,
    tree: Arc<MemFs>,
    nfs: Arc<Nfs3>,
    client: Client,
}

impl Bench {
    fn new(tree: MemFs) -> Self {
        let tree = Arc::new(tree);
        let site = Site::new(&tree);
        Self::of(site, tree)
    }

    fn of(site: Site, tree: Arc<MemFs>) -> Self {
        let nfs = Arc::new(Nfs3::new(
            Arc::clone(&site.exports),
            Arc::clone(&site.booter) as Arc<dyn Booter>,
            Arc::clone(&site.clock) as Arc<dyn Clock>,
        ));
        Self { site, tree, nfs, client: Client::machine() }
    }

    /// The same server, called by somebody else.
    fn by(self, client: Client) -> Self {
        Self { client, ..self }
    }

    /// The wire handle of what is at `path`.
    fn at(&self, path: &str) -> WireHandle {
        self.sealed(&self.tree.at(path))
    }

    fn root(&self) -> WireHandle {
        self.sealed(&self.tree.root())
    }

    fn sealed(&self, handle: &Handle) -> WireHandle {
        let export = self.site.exports.of(ROOT).unwrap();
        self.site.exports.seal(&export, View::Joined, handle)
    }

    /// Calls a procedure and decodes its results. They are kept until the test ends.
    fn call<'a, R: Codec<'static>>(&self, procedure: Procedure, args: &impl Codec<'a>) -> R {
        R::from_bytes(self.bytes(procedure, args).leak()).unwrap()
    }

    /// A call as the engine makes it.
    fn call_of<'a>(&self, procedure: u32, args: &'a [u8]) -> Call<'a> {
        Call {
            version: VERSION,
            procedure,
            credential: self.client.credential.clone(),
            peer: self.client.peer,
            local: self.client.peer,
            transport: self.client.transport,
            back: None,
            args,
        }
    }

    fn bytes<'a>(&self, procedure: Procedure, args: &impl Codec<'a>) -> Vec<u8> {
        self.client.results(&self.nfs, VERSION, procedure.number(), args)
    }
}

fn fh(handle: &WireHandle) -> FileHandle<'_> {
    FileHandle(handle.as_bytes())
}

fn fs(handle: &WireHandle) -> FsArgs<'_> {
    FsArgs { object: fh(handle) }
}

fn op<'a>(dir: &'a WireHandle, name: &'a str) -> DirOp<'a> {
    DirOp { dir: fh(dir), name: Filename(name.as_bytes()) }
}

#[test]
fn null_does_nothing() {
    let bench = Bench::new(MemFs::new());
    assert!(bench.bytes(Procedure::Null, &()).is_empty());
}

#[test]
fn there_is_no_procedure_22() {
    let bench = Bench::new(MemFs::new());
    let (outcome, _) = bench.client.call(&bench.nfs, VERSION, 22, &[]);
    assert_eq!(outcome, Outcome::ProcUnavail);
}

#[test]
fn what_must_not_run_twice_is_what_changes_something() {
    let bench = Bench::new(MemFs::new());
    let once = (0..24).filter(|number| bench.nfs.keeps_reply(&bench.call_of(*number, &[])));
    assert_eq!(once.collect::<Vec<u32>>(), [2, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!((bench.nfs.number(), bench.nfs.versions()), (PROGRAM, &[3][..]));
}
