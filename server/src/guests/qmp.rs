//! QEMU's power button, by its machine protocol (QEMU, docs/interop/qmp-spec.rst).

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// Presses the power button of the guest whose QEMU listens on this socket. Its system may need long to
/// switch itself off, or not listen at all.
///
/// # Errors
///
/// QEMU is not there, or does not answer as QEMU does.
pub(crate) fn press_power_button(monitor: &Path) -> io::Result<()> {
    let mut stream = connect(monitor)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut answers = BufReader::new(stream.try_clone()?);
    answer(&mut answers, "QMP")?;
    for command in ["qmp_capabilities", "system_powerdown"] {
        stream.write_all(format!("{{\"execute\":\"{command}\"}}\n").as_bytes())?;
        answer(&mut answers, "return")?;
    }
    Ok(())
}

/// Connects to a QEMU that may have been started only now.
fn connect(monitor: &Path) -> io::Result<UnixStream> {
    for _ in 0..TRIES {
        if let Ok(stream) = UnixStream::connect(monitor) {
            return Ok(stream);
        }
        thread::sleep(PAUSE);
    }
    UnixStream::connect(monitor)
}

/// Reads up to the message with this key; what comes between are events.
fn answer(from: &mut BufReader<UnixStream>, key: &str) -> io::Result<()> {
    for _ in 0..MESSAGES {
        let mut line = Vec::new();
        from.by_ref().take(LONGEST).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let message: Value = serde_json::from_slice(&line)?;
        if message.get(key).is_some() {
            return Ok(());
        }
        if let Some(error) = message.get("error") {
            return Err(io::Error::other(format!("QEMU refuses: {error}")));
        }
    }
    Err(io::Error::other(format!("QEMU does not say {key:?}")))
}

/// How often it is tried to connect, and the time between: for two seconds.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);
/// How long QEMU may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much is read of one message, and of how many.
const LONGEST: u64 = 64 << 10;
const MESSAGES: u32 = 64;

#[cfg(test)]
mod test {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What QEMU is sent by who presses the button while it says these lines, one for each that it reads.
    fn told(says: &'static [&'static str]) -> (io::Result<()>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("monitor");
        let listener = UnixListener::bind(&path).unwrap();
        let qemu = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut heard = Vec::new();
            for words in says {
                stream.write_all(words.as_bytes()).unwrap();
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    break;
                }
                heard.push(line.trim().to_owned());
            }
            heard
        });
        (press_power_button(&path), qemu.join().unwrap())
    }

    #[test]
    fn the_button_is_pressed_among_events() {
        let (pressed, heard) = told(&[
            "{\"QMP\": {\"version\": {}}}\r\n",
            "{\"return\": {}}\r\n",
            "{\"event\": \"RESET\"}\r\n{\"event\": \"POWERDOWN\"}\r\n{\"return\": {}}\r\n",
        ]);
        pressed.unwrap();
        assert_eq!(
            heard,
            ["{\"execute\":\"qmp_capabilities\"}", "{\"execute\":\"system_powerdown\"}"]
        );
    }

    #[test]
    fn what_is_not_qemu_is_an_error() {
        for says in
            [&["hello\n"][..], &["{\"QMP\": {}}\n", "{\"error\": {\"desc\": \"no\"}}\n"], &[]]
        {
            told(says).0.unwrap_err();
        }
    }
}
