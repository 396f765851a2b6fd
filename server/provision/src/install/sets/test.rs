use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::ops::Range;
use std::sync::mpsc;

use super::*;

/// Something that is not the same everywhere.
fn contents() -> Vec<u8> {
    (0..200_000_u32).flat_map(u32::to_be_bytes).collect()
}

fn list(contents: &[u8]) -> String {
    let sum = Sum(Sha256::digest(contents).into());
    format!("base.txz\t{sum}\t1\tbase\t\"Base\"\ton\n")
}

fn base() -> Vec<String> {
    vec!["base".to_owned()]
}

fn whole(set: &mut Set) -> Vec<u8> {
    let mut bytes = Vec::new();
    set.file.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Answers one request after the other, each with the part of `contents` that it is to end with.
/// Returns its address, and where it tells which range it was asked for.
fn server(contents: Vec<u8>, ends: Vec<usize>) -> (String, mpsc::Receiver<Option<usize>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for end in ends {
            let (stream, _) = listener.accept().unwrap();
            tell.send(answer(stream, &contents, end)).unwrap();
        }
    });
    (url, told)
}

fn answer(mut stream: TcpStream, contents: &[u8], end: usize) -> Option<usize> {
    let mut start = None;
    for line in BufReader::new(&stream).lines() {
        let line = line.unwrap().to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            start = range.trim_end_matches('-').parse().ok();
        }
        if line.is_empty() {
            break;
        }
    }
    let all = contents.len();
    let Range { start: from, .. } = start.unwrap_or(0)..all;
    let status = match start {
        Some(from) => {
            format!("206 Partial Content\r\nContent-Range: bytes {from}-{}/{all}", all - 1)
        }
        None => "200 OK".to_owned(),
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", all - from);
    stream.write_all(head.as_bytes()).unwrap();
    // curl may hang up on what it does not want.
    let _ = stream.write_all(&contents[from.min(end)..end]);
    start
}

#[test]
fn a_set_is_opened_at_its_beginning_once_it_is_verified() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("base.txz"), contents()).unwrap();
    std::fs::write(dir.path().join("MANIFEST"), list(&contents())).unwrap();
    let source = SetSource::Directory(dir.path().to_owned());
    let mut sets = gather(&source, None, &base(), Path::new("/nowhere")).unwrap();
    assert_eq!(whole(&mut sets[0]), contents());
}

#[test]
fn one_flipped_bit_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut bad = contents();
    bad[100_000] ^= 1;
    std::fs::write(dir.path().join("base.txz"), bad).unwrap();
    std::fs::write(dir.path().join("MANIFEST"), list(&contents())).unwrap();
    let source = SetSource::Directory(dir.path().to_owned());
    let error = gather(&source, None, &base(), Path::new("/nowhere")).unwrap_err();
    assert!(matches!(error, InstallError::Differs { .. }), "{error}");
}

#[test]
fn a_list_of_ones_own_is_believed_before_that_of_the_place() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("base.txz"), contents()).unwrap();
    std::fs::write(dir.path().join("MANIFEST"), list(&contents())).unwrap();
    std::fs::write(dir.path().join("pinned"), list(b"another release")).unwrap();
    let source = SetSource::Directory(dir.path().to_owned());
    let pinned = dir.path().join("pinned");
    let error = gather(&source, Some(&pinned), &base(), Path::new("/nowhere")).unwrap_err();
    assert!(matches!(error, InstallError::Differs { .. }), "{error}");
}

#[test]
fn a_set_that_is_a_fifo_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let mode = Mode::RUSR;
    let path = dir.path().join("base.txz");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    std::fs::write(dir.path().join("MANIFEST"), list(b"")).unwrap();
    let source = SetSource::Directory(dir.path().to_owned());
    assert!(gather(&source, None, &base(), Path::new("/nowhere")).is_err());
}

#[test]
fn a_transfer_that_breaks_off_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let list_file = dir.path().join("MANIFEST");
    std::fs::write(&list_file, list(&contents())).unwrap();
    let (url, asked) = server(contents(), vec![300_000, 800_000]);
    let cache = dir.path().join("cache");
    let mut sets = gather(&SetSource::Url(url), Some(&list_file), &base(), &cache).unwrap();
    assert_eq!(whole(&mut sets[0]), contents());
    assert_eq!(asked.recv().unwrap(), None);
    assert_eq!(asked.recv().unwrap(), Some(300_000));
    // It is not fetched again, by nobody: there is no server any more.
    let source = SetSource::Url("http://127.0.0.1:9".to_owned());
    let mut sets = gather(&source, Some(&list_file), &base(), &cache).unwrap();
    assert_eq!(whole(&mut sets[0]), contents());
}

#[test]
fn what_was_left_of_a_transfer_is_gone_on_with_by_the_next_command() {
    let dir = tempfile::tempdir().unwrap();
    let list_file = dir.path().join("MANIFEST");
    std::fs::write(&list_file, list(&contents())).unwrap();
    let cache = dir.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    let sum = Sum(Sha256::digest(contents()).into());
    std::fs::write(cache.join(format!("{sum}.part")), &contents()[..500_000]).unwrap();
    let (url, asked) = server(contents(), vec![800_000]);
    let mut sets = gather(&SetSource::Url(url), Some(&list_file), &base(), &cache).unwrap();
    assert_eq!(whole(&mut sets[0]), contents());
    assert_eq!(asked.recv().unwrap(), Some(500_000));
}

#[test]
fn what_another_command_fetches_is_waited_for_and_not_fetched_again() {
    let dir = tempfile::tempdir().unwrap();
    let list_file = dir.path().join("MANIFEST");
    std::fs::write(&list_file, list(&contents())).unwrap();
    let cache = dir.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    let path = cache.join(Sum(Sha256::digest(contents()).into()).to_string());
    let claim = download::claim(&path.with_extension("part"), "base.txz").unwrap();
    // There is no server: who fetches fails.
    let source = SetSource::Url("http://127.0.0.1:9".to_owned());
    let second = std::thread::spawn(move || gather(&source, Some(&list_file), &base(), &cache));
    // Long enough for it to come to where it waits; if it does not, this proves less, and still holds.
    std::thread::sleep(std::time::Duration::from_millis(300));
    std::fs::write(&path, contents()).unwrap();
    drop(claim);
    assert_eq!(whole(&mut second.join().unwrap().unwrap()[0]), contents());
}

#[test]
fn what_was_fetched_and_differs_is_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let list_file = dir.path().join("MANIFEST");
    std::fs::write(&list_file, list(b"another release")).unwrap();
    let (url, _asked) = server(contents(), vec![800_000]);
    let cache = dir.path().join("cache");
    let error = gather(&SetSource::Url(url), Some(&list_file), &base(), &cache).unwrap_err();
    assert!(matches!(error, InstallError::Differs { .. }), "{error}");
    let left: Vec<_> =
        std::fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.iter().all(|path| path.extension().is_some_and(|end| end == "lock")), "{left:?}");
}

#[test]
fn a_set_that_is_not_listed_is_told_before_anything_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("MANIFEST"), list(b"")).unwrap();
    let source = SetSource::Url("http://127.0.0.1:9".to_owned());
    let names = ["base".to_owned(), "lib32".to_owned()];
    let listed = dir.path().join("MANIFEST");
    let error = gather(&source, Some(&listed), &names, dir.path()).unwrap_err();
    assert!(matches!(error, InstallError::Unlisted { .. }), "{error}");
}
