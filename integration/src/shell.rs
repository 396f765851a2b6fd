//! A shell in a guest, on a serial line of its own: one command after the other, each with its output and its
//! exit status, so that one boot serves many questions.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::failure::{During, Failure, ensure};
use crate::interrupt::wait_for;
use crate::process::last_lines;

/// What a guest runs to give its second serial line to a [`Shell`]; it ends with the shell.
pub(crate) const SHELL: &str = "
exec </dev/ttyS1 >/dev/ttyS1 2>&1
stty raw -echo
exec sh
";

/// A guest's shell.
#[derive(Debug)]
pub(crate) struct Shell {
    line: UnixStream,
    commands: u32,
}

impl Shell {
    /// A shell at the other end of this line, which may not be there yet.
    pub(crate) fn at(line: &Path) -> Result<Self, Failure> {
        let line = UnixStream::connect(line).during(line.display())?;
        line.set_read_timeout(Some(GLANCE)).during("a serial line")?;
        Ok(Self { line, commands: 0 })
    }

    /// Whether it has answered, or does soon: it is asked each time, for a serial line forgets what comes
    /// before anybody has it open.
    pub(crate) fn answers(&mut self) -> Result<bool, Failure> {
        self.line.write_all(QUESTION.as_bytes()).during("a serial line")?;
        let since = Instant::now();
        let mut heard = Vec::new();
        while since.elapsed() < PATIENCE {
            self.hear(&mut heard)?;
            if String::from_utf8_lossy(&heard).contains(ANSWER) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes what has come, if something comes within [`GLANCE`].
    fn hear(&mut self, heard: &mut Vec<u8>) -> Result<(), Failure> {
        let mut bytes = [0; 4096];
        match self.line.read(&mut bytes) {
            Ok(0) => Err(Failure::said("the guest is off")),
            Ok(length) => {
                heard.extend(bytes.iter().take(length));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error).during("a serial line"),
        }
    }

    /// Runs a command, which reads nothing, to its end, however that is.
    pub(crate) fn finish(&mut self, command: &str, limit: Duration) -> Result<Answer, Failure> {
        self.commands += 1;
        let (begin, end) =
            (format!("[begin {}]\n", self.commands), format!("[end {} ", self.commands));
        let number = self.commands;
        // A command need not end its last line.
        let words = format!(
            "echo '[begin {number}]'; {{\n{command}\n}} </dev/null; printf '\\n[end {number} %s]\\n' $?\n"
        );
        self.line.write_all(words.as_bytes()).during("a serial line")?;
        let mut heard = Vec::new();
        wait_for(&format!("the end of {command:?} in the guest"), limit, || {
            self.hear(&mut heard)?;
            Ok(answer(&String::from_utf8_lossy(&heard), &begin, &end))
        })
        .map_err(|failure| {
            let heard = String::from_utf8_lossy(&heard).into_owned();
            failure
                .retold(|words| format!("{words}; until then it said: {}", last_lines(&heard, 30)))
        })
    }

    /// Runs a command that has to succeed; gives what it wrote.
    pub(crate) fn run(&mut self, command: &str, limit: Duration) -> Result<String, Failure> {
        let Answer { status, output } = self.finish(command, limit)?;
        ensure(status == 0, || format!("{command:?} in the guest: status {status}: {output}"))?;
        Ok(output)
    }

    /// Has the guest write everything to its disks and begin anew, which ends the shell: nothing can be run
    /// in it then. It has to be kept until the guest is off, for QEMU forgets what it has not yet handed over
    /// when the line is closed.
    pub(crate) fn reboot(&mut self) -> Result<(), Failure> {
        self.line.write_all(b"sync; busybox reboot -f\n").during("a serial line")
    }

    /// Ends the shell, and with it what the guest was to do.
    pub(crate) fn exit(mut self) -> Result<(), Failure> {
        self.line.write_all(b"exit 0\n").during("a serial line")
    }
}

/// How a command in a guest ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    /// Its exit status.
    pub(crate) status: i32,
    /// What it wrote.
    pub(crate) output: String,
}

/// What was heard between two words, once the second is there with a status.
fn answer(heard: &str, begin: &str, end: &str) -> Option<Answer> {
    let (_before, rest) = heard.split_once(begin)?;
    let (output, rest) = rest.rsplit_once(&format!("\n{end}"))?;
    let (status, _after) = rest.split_once("]\n")?;
    Some(Answer { status: status.parse().ok()?, output: output.to_owned() })
}

/// Asks whether a shell is there. A terminal that repeats it gives no [`ANSWER`], and half of it begins
/// nothing that goes on over its line.
const QUESTION: &str = "echo lab:$((6*7))\n";
const ANSWER: &str = "lab:42\n";
/// How long an answer may take until the question is asked again.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long one look at the line takes.
const GLANCE: Duration = Duration::from_millis(20);

#[cfg(test)]
mod test {
    use std::os::unix::net::UnixListener;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn an_answer_is_whole_or_none() {
        let told = |heard| answer(heard, "[begin 2]\n", "[end 2 ");
        assert_eq!(told("noise\n[begin 2]\none\ntwo\n\n[end 2 0"), None);
        let whole = told("noise\n[begin 2]\none\ntwo\n\n[end 2 7]\nmore").unwrap();
        assert_eq!(whole, Answer { status: 7, output: "one\ntwo\n".to_owned() });
        assert_eq!(told("[begin 2]\n\n[end 2 0]\n").unwrap().output, "");
        assert_eq!(told("[begin 1]\n\n[end 1 0]\n"), None);
    }

    #[test]
    fn a_shell_tells_output_and_status_of_each_command() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("line");
        let listener = UnixListener::bind(&path).unwrap();
        let mut shell = Shell::at(&path).unwrap();
        let (line, _address) = listener.accept().unwrap();
        let ends = (line.try_clone().unwrap(), line);
        let mut sh = Command::new("sh")
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(ends.0)))
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(ends.1)))
            .spawn()
            .unwrap();
        let limit = Duration::from_secs(60);
        wait_for("the shell", limit, || Ok(shell.answers()?.then_some(()))).unwrap();
        // What was lost of a question, and an answer that comes late, are no part of what follows.
        shell.line.write_all(b"ab:$((6*7))\n").unwrap();
        shell.line.write_all(QUESTION.as_bytes()).unwrap();
        assert_eq!(shell.run("x=1; echo one; echo two", limit).unwrap(), "one\ntwo\n");
        // What a command leaves behind in the shell is there for the next, and its output need not be a line.
        assert_eq!(shell.run("cat; printf %s $x", limit).unwrap(), "1");
        assert_eq!(shell.finish("(exit 3)", limit).unwrap().status, 3);
        let failure = shell.run("echo why; false", limit).unwrap_err().to_string();
        assert!(failure.contains("status 1: why"), "{failure}");
        shell.exit().unwrap();
        assert!(sh.wait().unwrap().success());
    }
}
