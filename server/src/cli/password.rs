//! Passwords, from where nobody else reads them: never from a command's arguments, which every user of the
//! host can see and which the history keeps.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use super::Failure;

/// The first line of a file.
pub(super) fn from_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let failed = |error: io::Error| {
        Failure::could_not(format_args!("{} cannot be read: {error}", path.display()))
    };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let password = line(&mut file).map_err(failed)?;
    checked(password, &path.display().to_string())
}

/// What is typed twice on a terminal without being shown, or else the first line of standard input.
pub(super) fn ask(what: &str) -> Result<Vec<u8>, Failure> {
    let stdin = io::stdin();
    let failed =
        |error: io::Error| Failure::could_not(format_args!("no password can be read: {error}"));
    if !stdin.is_terminal() {
        let password = line(&mut stdin.lock()).map_err(failed)?;
        return checked(password, "standard input");
    }
    let first = typed(&format!("{what}: ")).map_err(failed)?;
    let password = checked(first, "what was typed")?;
    if typed("Once more: ").map_err(failed)? != password {
        return Err(Failure::could_not("the two passwords differ: nothing was changed"));
    }
    Ok(password)
}

fn line(source: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    source.take(MAX + 1).read_until(b'\n', &mut line)?;
    while line.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
        line.pop();
    }
    Ok(line)
}

fn checked(password: Vec<u8>, whence: &str) -> Result<Vec<u8>, Failure> {
    if password.is_empty() {
        return Err(Failure::could_not(format_args!("{whence} has no password in its first line")));
    }
    if password.len() as u64 > MAX || password.contains(&0) {
        return Err(Failure::could_not(format_args!(
            "the password in {whence} has a NUL, or more than {MAX} bytes"
        )));
    }
    Ok(password)
}

/// A line that is typed, and not shown.
fn typed(prompt: &str) -> io::Result<Vec<u8>> {
    let _silent = Silent::begin()?;
    io::stderr().write_all(prompt.as_bytes())?;
    let mut typed = Vec::new();
    let mut stdin = io::stdin().lock();
    loop {
        let mut byte = [0];
        let count = stdin.read(&mut byte)?;
        match byte {
            // Ctrl-C, and Ctrl-D or the end of the terminal.
            _ if count == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            [0x03 | 0x04] => {
                io::stderr().write_all(b"\n")?;
                return Err(io::Error::other("interrupted"));
            }
            [b'\n' | b'\r'] => break,
            [0x08 | 0x7f] => drop(typed.pop()),
            // Ctrl-U.
            [0x15] => typed.clear(),
            [byte] => typed.push(byte),
        }
        if typed.len() as u64 > MAX {
            break;
        }
    }
    io::stderr().write_all(b"\n")?;
    Ok(typed)
}

/// A terminal that shows nothing and interprets no key, until this is dropped.
struct Silent(Termios);

impl Silent {
    fn begin() -> io::Result<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(stdin.as_fd())?;
        let mut silent = before.clone();
        silent.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(stdin.as_fd(), OptionalActions::Flush, &silent)?;
        Ok(Self(before))
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        // A terminal that is gone has no use for it.
        let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Flush, &self.0);
    }
}

/// The longest password, in bytes: PAM takes no more.
const MAX: u64 = 511;

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn a_password_is_the_first_line() {
        let read = |text: &[u8]| checked(line(&mut &text[..]).unwrap(), "x").ok();
        assert_eq!(read(b"a b \r\nnext\n"), Some(b"a b ".to_vec()));
        assert_eq!(read(b"secret"), Some(b"secret".to_vec()));
        for bad in [&b""[..], b"\nsecond\n", b"a\0b\n", &[b'x'; 513]] {
            assert_eq!(read(bad), None);
        }
    }
}
