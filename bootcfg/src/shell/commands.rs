//! Reads a script for sh(1) as the commands in it, as far as that goes without running it.

/// A command: its words, without what is redirected.
pub type Command = Vec<Word>;

/// A word of a command.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Word {
    /// The line where it begins, from 1.
    pub line: usize,
    /// What it says, without its quotes.
    pub text: String,
    /// Whether the shell would put something else in: a variable, or the output of a command.
    pub expands: bool,
}

/// The commands of a script, in the order of its text, with keywords as ordinary words.
///
/// Nothing is expanded, and the texts behind `<<` are taken for commands. The error is the line of
/// a quote or bracket that is never closed.
pub fn commands(text: &str) -> Result<Vec<Command>, usize> {
    let mut scanner = Scanner {
        chars: text.chars().peekable(),
        line: 1,
        word: None,
        command: Vec::new(),
        commands: Vec::new(),
        redirected: false,
    };
    while let Some(c) = scanner.next() {
        scanner.character(c)?;
    }
    scanner.end_command();
    Ok(scanner.commands)
}

struct Scanner<'t> {
    chars: std::iter::Peekable<std::str::Chars<'t>>,
    line: usize,
    word: Option<Word>,
    command: Command,
    commands: Vec<Command>,
    /// The next word is a file that something is redirected to or from.
    redirected: bool,
}

impl Scanner<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.chars.next();
        self.line += usize::from(c == Some('\n'));
        c
    }

    fn character(&mut self, c: char) -> Result<(), usize> {
        match c {
            ' ' | '\t' | '\r' => self.end_word(),
            '\n' | ';' | '|' | '(' | ')' | '&' => self.end_command(),
            '#' if self.word.is_none() => {
                while self.chars.peek().is_some_and(|&c| c != '\n') {
                    self.next();
                }
            }
            '<' | '>' => {
                // The number before it is a descriptor's: `2>/dev/null`.
                let number = |word: &Word| word.text.chars().all(|c| c.is_ascii_digit());
                if self.word.as_ref().is_some_and(number) {
                    self.word = None;
                }
                self.end_word();
                while self.chars.next_if(|&c| "<>&|".contains(c)).is_some() {}
                self.redirected = true;
            }
            '\'' => self.single()?,
            '"' => self.double()?,
            '\\' => match self.next() {
                Some('\n') | None => {}
                Some(escaped) => self.word().text.push(escaped),
            },
            '$' | '`' => self.expansion(c)?,
            plain => self.word().text.push(plain),
        }
        Ok(())
    }

    fn single(&mut self) -> Result<(), usize> {
        let begin = self.line;
        self.word();
        loop {
            match self.next().ok_or(begin)? {
                '\'' => return Ok(()),
                inner => self.word().text.push(inner),
            }
        }
    }

    fn double(&mut self) -> Result<(), usize> {
        let begin = self.line;
        self.word();
        loop {
            match self.next().ok_or(begin)? {
                '"' => return Ok(()),
                '\\' => match self.next().ok_or(begin)? {
                    '\n' => {}
                    escaped @ ('"' | '\\' | '$' | '`') => self.word().text.push(escaped),
                    other => self.word().text.extend(['\\', other]),
                },
                expansion @ ('$' | '`') => self.expansion(expansion)?,
                inner => self.word().text.push(inner),
            }
        }
    }

    /// Takes what the shell would replace as it is written: `$name`, `${…}`, `$(…)` or "`…`".
    fn expansion(&mut self, first: char) -> Result<(), usize> {
        let begin = self.line;
        let word = self.word();
        word.expands = true;
        word.text.push(first);
        let (open, close) = match (first, self.chars.peek()) {
            ('`', _) => (None, '`'),
            (_, Some('(')) => (Some('('), ')'),
            (_, Some('{')) => (Some('{'), '}'),
            _ => return Ok(()),
        };
        let mut depth = usize::from(open.is_none());
        loop {
            let c = self.next().ok_or(begin)?;
            self.word().text.push(c);
            if Some(c) == open {
                depth += 1;
            } else if c == close {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Ok(());
                }
            } else if c == '\\' {
                let escaped = self.next().ok_or(begin)?;
                self.word().text.push(escaped);
            }
        }
    }

    fn word(&mut self) -> &mut Word {
        let line = self.line;
        self.word.get_or_insert_with(|| Word { line, text: String::new(), expands: false })
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        if !std::mem::take(&mut self.redirected) {
            self.command.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        self.redirected = false;
        if !self.command.is_empty() {
            self.commands.push(std::mem::take(&mut self.command));
        }
    }
}

#[cfg(test)]
mod test {
    use proptest::prelude::*;

    use super::*;
    use crate::shell;

    fn words(text: &str) -> Vec<Vec<String>> {
        let commands = commands(text).unwrap();
        commands
            .into_iter()
            .map(|words| words.into_iter().map(|word| word.text).collect())
            .collect()
    }

    #[test]
    fn commands_end_where_the_shell_ends_them() {
        assert_eq!(
            words("a 'b c'; d \\\n e && f 2>/dev/null x || (g > h.txt) | i # j k\n# l\nm&n#o"),
            [
                vec!["a", "b c"],
                vec!["d", "e"],
                vec!["f", "x"],
                vec!["g"],
                vec!["i"],
                vec!["m"],
                vec!["n#o"]
            ]
        );
    }

    #[test]
    fn words_know_their_line_and_whether_they_expand() {
        let words = commands("a \\\n  -e x=$y 'z$'\n").unwrap().swap_remove(0);
        let facts: Vec<_> = words.iter().map(|word| (word.line, word.expands)).collect();
        assert_eq!(facts, [(1, false), (2, false), (2, true), (2, false)]);
    }

    #[test]
    fn what_the_shell_replaces_is_one_word() {
        assert_eq!(
            words("a x=$(b; c (d)) \"y `e | f` z\" ${g;h} i"),
            [["a", "x=$(b; c (d))", "y `e | f` z", "${g;h}", "i"]]
        );
        assert_eq!(commands("a\n$(b"), Err(2));
    }

    #[test]
    fn an_open_quote_is_told_by_its_line() {
        assert_eq!(commands("a\nb 'c\nd"), Err(2));
        assert_eq!(commands("\"\\"), Err(1));
    }

    proptest! {
        #[test]
        fn every_command_is_read_back(list in prop::collection::vec("[^\u{0}]{0,12}", 1..6)) {
            let text = shell::lines(&list, "    ").unwrap();
            let read = commands(&text).unwrap();
            prop_assert_eq!(read.len(), 1);
            prop_assert!(read[0].iter().all(|word| !word.expands));
            let texts: Vec<_> = read[0].iter().map(|word| word.text.clone()).collect();
            prop_assert_eq!(texts, list);
        }

        #[test]
        fn nothing_that_is_read_panics(text in "[ -~\n\t]{0,60}") {
            let _ = commands(&text);
        }
    }
}
