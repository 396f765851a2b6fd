//! Reads jail.conf(5) as jail(8) does: with variables, with what stands outside of any jail, with `+=`, and with
//! several files of which one includes the others.

use std::collections::{BTreeMap, BTreeSet};

use super::Parameter;
use crate::rule::{At, Reading, Rule};

/// A jail as all files together define it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Found {
    /// The file, by its place among those that were read.
    pub file: usize,
    /// The line where its definition begins.
    pub line: usize,
    /// Its name.
    pub name: String,
    /// What is said of it, each parameter once, with the line where it was said last and the file of that.
    pub parameters: Vec<(usize, At<Parameter>)>,
}

impl Found {
    /// The values of a parameter; empty where it is only switched on.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&(usize, At<Parameter>)> {
        self.parameters.iter().find(|(_, at)| at.value.name == name)
    }

    /// The values of a parameter, if it is there.
    #[must_use]
    pub fn values(&self, name: &str) -> &[String] {
        self.get(name).map_or(&[], |(_, at)| at.value.values.as_slice())
    }

    /// Whether a parameter is switched on, as `vnet` or `vnet = true`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        let off = |value: &String| ["false", "0", "no"].contains(&value.as_str());
        self.get(name).is_some_and(|(_, at)| !at.value.values.iter().any(off))
    }
}

/// Reads the jails of files. What stands outside of any jail holds in its own file, and where that file includes
/// others in all of them.
///
/// Each reading is that of the file in the same place.
#[must_use]
pub fn read(texts: &[&str]) -> Vec<Reading<Found>> {
    let mut readings: Vec<Reading<Found>> = texts.iter().map(|_| Reading::default()).collect();
    let mut files = Vec::new();
    for (text, reading) in texts.iter().zip(&mut readings) {
        let mut statements = Vec::new();
        if let Err((line, message)) = Lexer::new(text).all().and_then(|tokens| {
            Parser { tokens: tokens.into_iter().peekable() }.all(&mut statements)
        }) {
            reading.report(line, Rule::Syntax, message);
        }
        files.push(statements);
    }
    let includes = |file: &Vec<Statement>| file.iter().any(|one| matches!(one, Statement::Include));
    let shared: Vec<usize> =
        files.iter().enumerate().filter(|(_, file)| includes(file)).map(|(at, _)| at).collect();
    let (mut left, mut budget) = (MOST, Budget(MOST_TEXT));
    for (own, statements) in files.iter().enumerate() {
        let (mut names, mut seen) = (Vec::new(), BTreeSet::new());
        for statement in statements {
            let Statement::Jail { line, name, .. } = statement else { continue };
            if !name.contains('*') && seen.insert(name.as_str()) {
                names.push((*line, name.as_str()));
            }
        }
        for (line, name) in names {
            let before = shared.iter().filter(|file| **file != own);
            let order = before.chain([&own]);
            let mut all = Parameters::default();
            for file in order {
                for statement in files.get(*file).into_iter().flatten() {
                    left = left.saturating_sub(1);
                    statement.apply(*file, name, &mut all);
                }
            }
            let Some(reading) = readings.get_mut(own) else { continue };
            if left == 0 {
                let message =
                    "the files have more jails and parameters than netbe reads: give fewer files";
                reading.report(line, Rule::Unread, message);
                return readings;
            }
            let mut parameters = Vec::new();
            for (key, (file, at)) in &all.0 {
                if key.starts_with('$') {
                    continue;
                }
                match all.values(name, &at.value, &mut budget) {
                    _ if budget.0 == 0 => {
                        let message =
                            "the variables expand to more text than netbe reads: write the values";
                        reading.report(line, Rule::Unread, message);
                        return readings;
                    }
                    Ok(values) => {
                        let value = Parameter { name: key.clone(), values };
                        parameters.push((*file, At { line: at.line, value }));
                    }
                    Err(message) if *file == own => {
                        reading.report(at.line, Rule::Syntax, format!("{name}: {message}"));
                    }
                    Err(message) => {
                        reading.report(line, Rule::Syntax, format!("{name}: {message}"));
                    }
                }
            }
            let name = name.to_owned();
            reading.add(line, Found { file: own, line, name, parameters });
        }
    }
    readings
}

/// What a file says.
enum Statement {
    Include,
    Jail { line: usize, name: String, parameters: Vec<At<Assignment>> },
    Parameter(At<Assignment>),
}

struct Assignment {
    /// The parameter, or with a dollar sign the variable.
    name: String,
    appends: bool,
    values: Values,
}

#[derive(Clone, Debug)]
enum Piece {
    Plain(String),
    Variable(String),
}

impl Statement {
    fn apply(&self, file: usize, jail: &str, all: &mut Parameters) {
        match self {
            Self::Include => {}
            Self::Parameter(assignment) => all.set(file, assignment),
            Self::Jail { name, parameters, .. } if matches(name, jail) => {
                parameters.iter().for_each(|assignment| all.set(file, assignment));
            }
            Self::Jail { .. } => {}
        }
    }
}

/// Whether a pattern means a jail: component by component, a star at the end one or more of them.
fn matches(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.split('.').peekable(), name.split('.'));
    while let Some(part) = pattern.next() {
        match name.next() {
            Some(_) if part == "*" && pattern.peek().is_none() => return true,
            Some(own) if part == "*" || part == own => {}
            _ => return false,
        }
    }
    name.next().is_none()
}

/// What is said of one jail, before variables are put in.
#[derive(Default)]
struct Parameters(BTreeMap<String, (usize, At<Values>)>);

/// Values, each of pieces.
type Values = Vec<Vec<Piece>>;

impl Parameters {
    fn set(&mut self, file: usize, At { line, value }: &At<Assignment>) {
        let new = (file, At { line: *line, value: value.values.clone() });
        match self.0.get_mut(&value.name) {
            Some((_, known)) if value.appends && known.value.len() < MOST_VALUES => {
                known.value.extend(value.values.iter().cloned());
            }
            _ => {
                // `allow.nomount` takes `allow.mount` back.
                if let Some(other) = negated(&value.name) {
                    self.0.remove(&other);
                }
                self.0.insert(value.name.clone(), new);
            }
        }
    }

    fn values(
        &self,
        jail: &str,
        values: &[Vec<Piece>],
        budget: &mut Budget,
    ) -> Result<Vec<String>, String> {
        let mut found = Vec::new();
        for pieces in values {
            // A variable alone brings all of its values.
            if let [Piece::Variable(name)] = pieces.as_slice() {
                found.extend(self.variable(jail, name, 0, budget)?);
            } else {
                found.push(self.text(jail, pieces, 0, budget)?);
            }
        }
        if found.iter().map(String::len).sum::<usize>() > LONGEST {
            return Err("the value is longer than any that jail(8) needs".to_owned());
        }
        Ok(found)
    }

    fn text(
        &self,
        jail: &str,
        pieces: &[Piece],
        depth: usize,
        budget: &mut Budget,
    ) -> Result<String, String> {
        budget.spend(CALL)?;
        let mut text = String::new();
        for piece in pieces {
            let before = text.len();
            match piece {
                Piece::Plain(plain) => text += plain,
                Piece::Variable(name) => {
                    match self.variable(jail, name, depth, budget)?.as_slice() {
                        [one] => text += one,
                        _ => {
                            return Err(format!("${name} is a list, and stands inside of a value"));
                        }
                    }
                }
            }
            budget.spend(text.len().saturating_sub(before))?;
            if text.len() > LONGEST {
                return Err("the value is longer than any that jail(8) needs".to_owned());
            }
        }
        Ok(text)
    }

    fn variable(
        &self,
        jail: &str,
        name: &str,
        depth: usize,
        budget: &mut Budget,
    ) -> Result<Vec<String>, String> {
        budget.spend(CALL)?;
        if depth > DEEPEST {
            return Err(format!("the variable {name} refers to itself: write the value"));
        }
        let found = self.0.get(&format!("${name}")).or_else(|| self.0.get(name));
        let Some((_, at)) = found else {
            return match name {
                "name" => Ok(vec![jail.to_owned()]),
                _ => Err(format!("no variable is called {name}: set ${name}, or write the value")),
            };
        };
        let values = at.value.iter();
        values.map(|pieces| self.text(jail, pieces, depth.saturating_add(1), budget)).collect()
    }
}

/// What putting in variables may still cost, for all files together.
struct Budget(usize);

impl Budget {
    /// Takes so much; what was too much leaves nothing.
    fn spend(&mut self, cost: usize) -> Result<(), String> {
        self.0 = self.0.saturating_sub(cost);
        if self.0 == 0 { Err("the variables expand to too much text".to_owned()) } else { Ok(()) }
    }
}

/// The parameter that a boolean one takes back: `allow.mount` for `allow.nomount`, and the other way round.
fn negated(name: &str) -> Option<String> {
    let (head, last) = name.rsplit_once('.').map_or(("", name), |(head, last)| (head, last));
    let other = last.strip_prefix("no").map_or_else(|| format!("no{last}"), str::to_owned);
    (!name.starts_with('$')).then(
        || {
            if head.is_empty() { other } else { format!("{head}.{other}") }
        },
    )
}

enum Token {
    /// One of `{ } ; ,`, or `=`, or `+` for `+=`.
    Mark(char),
    Word(Vec<Piece>),
}

struct Lexer<'t> {
    rest: std::iter::Peekable<std::str::Chars<'t>>,
    line: usize,
    tokens: Vec<At<Token>>,
    word: Option<At<Vec<Piece>>>,
}

impl<'t> Lexer<'t> {
    fn new(text: &'t str) -> Self {
        Self { rest: text.chars().peekable(), line: 1, tokens: Vec::new(), word: None }
    }

    fn all(mut self) -> Result<Vec<At<Token>>, Mistake> {
        while let Some(c) = self.next() {
            match c {
                ' ' | '\t' | '\r' | '\n' => self.end_word(),
                '{' | '}' | ';' | ',' | '=' => self.mark(c),
                '+' if self.rest.next_if_eq(&'=').is_some() => self.mark('+'),
                '#' => self.skip_line(),
                '/' if self.rest.next_if_eq(&'/').is_some() => self.skip_line(),
                '/' if self.rest.next_if_eq(&'*').is_some() => self.skip_comment()?,
                '\'' => {
                    let begun = self.line;
                    self.push("");
                    loop {
                        match self.next().ok_or_else(|| (begun, OPEN.to_owned()))? {
                            '\'' => break,
                            '\\' => self.escaped()?,
                            c => self.push(c.encode_utf8(&mut [0; 4])),
                        }
                    }
                }
                '"' => {
                    let begun = self.line;
                    self.push("");
                    loop {
                        match self.next().ok_or_else(|| (begun, OPEN.to_owned()))? {
                            '"' => break,
                            '\\' => self.escaped()?,
                            '$' => self.variable()?,
                            c => self.push(c.encode_utf8(&mut [0; 4])),
                        }
                    }
                }
                '$' => self.variable()?,
                '\\' => self.escaped()?,
                c => self.push(c.encode_utf8(&mut [0; 4])),
            }
        }
        self.end_word();
        Ok(self.tokens)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        self.line = self.line.saturating_add(usize::from(c == '\n'));
        Some(c)
    }

    fn pieces(&mut self) -> &mut Vec<Piece> {
        let line = self.line;
        &mut self.word.get_or_insert_with(|| At { line, value: Vec::new() }).value
    }

    fn push(&mut self, more: &str) {
        match self.pieces().last_mut() {
            Some(Piece::Plain(text)) => text.push_str(more),
            _ => self.pieces().push(Piece::Plain(more.to_owned())),
        }
    }

    fn mark(&mut self, mark: char) {
        self.end_word();
        self.tokens.push(At { line: self.line, value: Token::Mark(mark) });
    }

    fn end_word(&mut self) {
        let word = self.word.take();
        self.tokens.extend(word.map(|At { line, value }| At { line, value: Token::Word(value) }));
    }

    fn variable(&mut self) -> Result<(), Mistake> {
        let begun = self.line;
        let mut name = String::new();
        if self.rest.next_if_eq(&'{').is_some() {
            loop {
                match self.next() {
                    Some('}') => break,
                    Some('\n' | '{') | None => {
                        return Err((begun, "a ${ without its }".to_owned()));
                    }
                    Some(c) => name.push(c),
                }
            }
        } else {
            let plain = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
            while let Some(c) = self.rest.next_if(plain) {
                name.push(c);
            }
        }
        if name.is_empty() {
            self.push("$");
        } else {
            self.pieces().push(Piece::Variable(name));
        }
        Ok(())
    }

    /// What a backslash makes of what is behind it, in the style of C (jaillex.l).
    fn escaped(&mut self) -> Result<(), Mistake> {
        let line = self.line;
        let c = match self.next().ok_or_else(|| (line, "a backslash ends the file".to_owned()))? {
            '\n' => return Ok(()),
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'x' => self.number("", 16, 2).unwrap_or('x'),
            c @ '0'..='7' => self.number(c.encode_utf8(&mut [0; 4]), 8, 2).unwrap_or(c),
            c => c,
        };
        self.push(c.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    /// A character by its number, with so many more digits.
    fn number(&mut self, begun: &str, base: u32, more: usize) -> Option<char> {
        let mut digits = begun.to_owned();
        for _ in 0..more {
            digits.extend(self.rest.next_if(|c| c.is_digit(base)));
        }
        u32::from_str_radix(&digits, base).ok().and_then(char::from_u32)
    }

    fn skip_line(&mut self) {
        self.end_word();
        while self.rest.next_if(|c| *c != '\n').is_some() {}
    }

    fn skip_comment(&mut self) -> Result<(), Mistake> {
        self.end_word();
        let begun = self.line;
        loop {
            match self.next() {
                Some('*') if self.rest.next_if_eq(&'/').is_some() => return Ok(()),
                Some(_) => {}
                None => {
                    return Err((begun, "the comment that begins here is never closed".to_owned()));
                }
            }
        }
    }
}

struct Parser {
    tokens: std::iter::Peekable<std::vec::IntoIter<At<Token>>>,
}

impl Parser {
    fn all(mut self, statements: &mut Vec<Statement>) -> Result<(), Mistake> {
        while let Some(At { line, value }) = self.tokens.next() {
            let word = match value {
                Token::Mark(';') => continue,
                Token::Mark(mark) => {
                    return Err((line, format!("{mark} stands where a name is expected")));
                }
                Token::Word(word) => word,
            };
            if self.next_is('{') {
                let [Piece::Plain(name)] = word.as_slice() else {
                    return Err((line, "a jail's name has no variables".to_owned()));
                };
                let mut parameters = Vec::new();
                loop {
                    match self.tokens.next() {
                        Some(At { value: Token::Mark('}'), .. }) => break,
                        Some(At { value: Token::Mark(';'), .. }) => {}
                        Some(At { line, value: Token::Word(word) }) => {
                            parameters.push(At { line, value: self.assignment(line, word)? });
                        }
                        Some(At { line, .. }) => {
                            return Err((line, "a parameter is expected here".to_owned()));
                        }
                        None => return Err((line, format!("the {{ of {name} is never closed"))),
                    }
                }
                statements.push(Statement::Jail { line, name: name.clone(), parameters });
                continue;
            }
            let assignment = self.assignment(line, word)?;
            statements.push(if assignment.name == ".include" {
                Statement::Include
            } else {
                Statement::Parameter(At { line, value: assignment })
            });
        }
        Ok(())
    }

    fn next_is(&mut self, mark: char) -> bool {
        let is = |at: &At<Token>| matches!(at.value, Token::Mark(found) if found == mark);
        self.tokens.next_if(is).is_some()
    }

    /// What stands behind a name, to its semicolon; the one before a closing brace is needed too.
    fn assignment(&mut self, line: usize, name: Vec<Piece>) -> Result<Assignment, Mistake> {
        let name = match name.as_slice() {
            [Piece::Plain(name)] => name.clone(),
            [Piece::Variable(name)] => format!("${name}"),
            _ => return Err((line, "a parameter's name has no variables in it".to_owned())),
        };
        let appends = self.next_is('+');
        let assigned = appends || self.next_is('=');
        let mut values = Vec::new();
        loop {
            match self.tokens.next() {
                Some(At { value: Token::Word(word), .. }) => values.push(word),
                Some(At { value: Token::Mark(';'), .. }) if values.is_empty() && !assigned => break,
                Some(At { line, .. }) => return Err((line, format!("{name} lacks a value here"))),
                None => return Err((line, format!("{name} does not end in ;"))),
            }
            match self.tokens.next() {
                Some(At { value: Token::Mark(';'), .. }) => break,
                Some(At { value: Token::Mark(','), .. }) => {}
                _ => return Err((line, format!("{name} does not end in ;"))),
            }
        }
        Ok(Assignment { name, appends, values })
    }
}

/// A line, and what is wrong there.
type Mistake = (usize, String);

const OPEN: &str = "the quote that begins here is never closed";
/// How deep variables stand in each other.
const DEEPEST: usize = 32;
/// The most bytes of a parameter.
const LONGEST: usize = 64 * 1024;
/// The most values of a parameter.
const MOST_VALUES: usize = 1024;
/// The most statements that are applied to jails, for all files together.
const MOST: usize = 1_000_000;
/// The most bytes that variables make, for all files together.
const MOST_TEXT: usize = 64 * 1024 * 1024;
/// What it costs to look at a value, in bytes: an empty one takes time too.
const CALL: usize = 64;

#[cfg(test)]
mod test;
