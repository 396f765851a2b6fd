//! Reads a jail.conf(5) as netbe writes it: without variables.

use std::iter::Peekable;
use std::str::Chars;

use super::{Definition, Parameter};
use crate::At;
use crate::rule::{Reading, Rule};

/// Reads the definitions of a jail.conf without variables; ends at the first mistake.
#[must_use]
pub fn read(text: &str) -> Reading<Definition> {
    let mut reading = Reading::default();
    let parsed = Tokens { rest: text.chars().peekable(), line: 1 }.all().and_then(|tokens| {
        let mut tokens = tokens.into_iter();
        while let Some(At { line, value }) = tokens.next() {
            reading.add(line, definition(line, value, &mut tokens)?);
        }
        Ok(())
    });
    if let Err((line, message)) = parsed {
        reading.report(line, Rule::Syntax, message);
    }
    reading
}

/// What a jail.conf is made of.
#[derive(Debug, Eq, PartialEq)]
enum Token {
    Mark(char),
    Word(String),
}

/// A line, and what is wrong there.
type Mistake = (usize, &'static str);

fn definition(
    line: usize,
    name: Token,
    tokens: &mut impl Iterator<Item = At<Token>>,
) -> Result<Definition, Mistake> {
    let begun = tokens.next().map(|token| token.value);
    let (Token::Word(name), Some(Token::Mark('{'))) = (name, begun) else {
        return Err((line, "a jail's name and { are expected here"));
    };
    let mut parameters = Vec::new();
    loop {
        let at = match tokens.next() {
            Some(At { value: Token::Mark('}'), .. }) => return Ok(Definition { name, parameters }),
            Some(at) => at,
            None => return Err((line, "the { of this jail is never closed")),
        };
        let Token::Word(name) = at.value else {
            return Err((at.line, "a parameter is expected here"));
        };
        let mut values = Vec::new();
        // Before the first value stands =, before others a comma.
        let mut before = '=';
        loop {
            match tokens.next().map(|token| token.value) {
                Some(Token::Mark(';')) => break,
                Some(Token::Mark(mark)) if mark == before => {}
                _ => return Err((at.line, "this parameter does not end in ;")),
            }
            match tokens.next().map(|token| token.value) {
                Some(Token::Word(value)) => values.push(value),
                _ => return Err((at.line, "this parameter lacks a value")),
            }
            before = ',';
        }
        parameters.push(Parameter { name, values });
    }
}

/// The lexer of jail(8), without variables and the C-style names of characters.
struct Tokens<'t> {
    rest: Peekable<Chars<'t>>,
    line: usize,
}

impl Tokens<'_> {
    fn all(mut self) -> Result<Vec<At<Token>>, Mistake> {
        let mut tokens = Vec::new();
        // Pieces without anything between them are one word.
        let mut word: Option<At<Token>> = None;
        while let Some(c) = self.next() {
            let piece = match c {
                '\'' | '"' => self.quoted(c)?,
                '\\' => self.escaped()?.to_string(),
                '$' => return Err((self.line, VARIABLE)),
                ',' | ';' | '=' | '{' | '}' | '#' | ' ' | '\t' | '\r' | '\n' => {
                    tokens.extend(word.take());
                    if c == '#' {
                        self.skip_line();
                    } else if !c.is_whitespace() {
                        tokens.push(At { line: self.line, value: Token::Mark(c) });
                    }
                    continue;
                }
                '/' if matches!(self.rest.peek(), Some('/' | '*')) => {
                    tokens.extend(word.take());
                    self.skip_comment()?;
                    continue;
                }
                other => other.to_string(),
            };
            match &mut word {
                Some(At { value: Token::Word(text), .. }) => *text += &piece,
                Some(_) | None => word = Some(At { line: self.line, value: Token::Word(piece) }),
            }
        }
        tokens.extend(word);
        Ok(tokens)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        self.line = self.line.saturating_add(usize::from(c == '\n'));
        Some(c)
    }

    fn quoted(&mut self, quote: char) -> Result<String, Mistake> {
        let begun = self.line;
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err((begun, "the quote that begins here is never closed")),
                Some(c) if c == quote => return Ok(text),
                Some('$') if quote == '"' => return Err((self.line, VARIABLE)),
                Some('\\') => text.push(self.escaped()?),
                Some(c) => text.push(c),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, Mistake> {
        let line = self.line;
        match self.next() {
            Some(c) if !c.is_ascii_alphanumeric() && c != '\n' => Ok(c),
            _ => Err((line, "netbe does not read what is written with this backslash")),
        }
    }

    fn skip_line(&mut self) {
        while self.rest.next_if(|c| *c != '\n').is_some() {}
    }

    fn skip_comment(&mut self) -> Result<(), Mistake> {
        let begun = self.line;
        if self.next() == Some('/') {
            self.skip_line();
            return Ok(());
        }
        loop {
            match self.next() {
                Some('*') if self.rest.next_if_eq(&'/').is_some() => return Ok(()),
                Some(_) => {}
                None => return Err((begun, "the comment that begins here is never closed")),
            }
        }
    }
}

const VARIABLE: &str = "netbe does not read variables: write the value";
