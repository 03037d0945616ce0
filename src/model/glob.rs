//! Patterns that choose files by their path inside a package.
//!
//! | written | matches |
//! | --- | --- |
//! | `?` | one character, `/` excepted |
//! | `*` | any characters, `/` excepted |
//! | `**` | any characters; `**/` as a whole component also none at all |
//! | `[a-z]`, `[!a-z]` | one character of these, or none of these; never `/` |
//! | `{a,b}` | either |
//! | `\` | the next character as it is |
//!
//! A pattern without `/` is matched with the last component of the path, at any depth; any other
//! with the whole path, a `/` at its beginning aside. One that ends in `/` matches everything
//! below. Case counts.
//!
//! A pattern is compiled to a list of steps, its length a small multiple of the pattern's, and all
//! ways through it are followed at the same time: the time is at most pattern times path, whatever
//! either says.

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

/// Bytes of a pattern.
const LONGEST: usize = 4096;
/// Braces within braces.
const DEEPEST: usize = 16;

/// What is no pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Where it goes wrong, in characters from 1 on.
    pub column: usize,
    /// What is wrong there, for a user.
    pub message: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at column {}", self.message, self.column)
    }
}

impl std::error::Error for Malformed {}

/// A pattern, ready to be matched with paths.
#[derive(Debug, Clone)]
pub struct Pattern {
    steps: Vec<Step>,
    /// Whether it is about the last component only.
    last_only: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Char(char),
    /// Any character but `/`.
    One,
    Any,
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// Goes on at either.
    Split(usize, usize),
    Jump(usize),
    End,
}

impl Step {
    fn takes(&self, found: char) -> bool {
        match self {
            Step::Char(wanted) => *wanted == found,
            Step::One => found != '/',
            Step::Any => true,
            Step::Class { negated, ranges } => {
                let within = ranges
                    .iter()
                    .any(|&(from, to)| (from..=to).contains(&found));
                found != '/' && within != *negated
            }
            Step::Split(..) | Step::Jump(_) | Step::End => false,
        }
    }
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it first, and where.
    pub fn parse(text: &str) -> Result<Pattern, Malformed> {
        let wrong = |column, message| Err(Malformed { column, message });
        if text.is_empty() {
            return wrong(1, "the pattern is empty");
        }
        if text.len() > LONGEST {
            return wrong(
                1,
                "the pattern is longer than 4096 bytes, which is as long as one can be,",
            );
        }
        let body = text.strip_prefix('/').filter(|body| !body.is_empty());
        let mut parser = Parser {
            chars: body.unwrap_or(text).chars().peekable(),
            column: usize::from(body.is_some()),
            steps: Vec::new(),
            component_start: true,
            has_slash: body.is_some(),
            ends_in_slash: false,
        };
        parser.sequence(0)?;
        if parser.ends_in_slash {
            // At least one character below.
            parser.steps.push(Step::Any);
            parser.any_run();
        }
        parser.steps.push(Step::End);
        Ok(Pattern {
            steps: parser.steps,
            last_only: !parser.has_slash,
        })
    }

    /// Whether it matches a path inside a package, its components separated by `/`.
    pub fn matches(&self, path: &str) -> bool {
        let text = match self.last_only {
            true => path.rsplit('/').next().unwrap_or(path),
            false => path,
        };
        let mut now = Places::new(self.steps.len());
        let mut next = Places::new(self.steps.len());
        now.enter(0, &self.steps);
        for found in text.chars() {
            for &at in &now.list {
                if self.steps[at].takes(found) {
                    next.enter(at + 1, &self.steps);
                }
            }
            std::mem::swap(&mut now, &mut next);
            next.clear();
            if now.list.is_empty() {
                return false;
            }
        }
        let ends = |&at: &usize| matches!(self.steps[at], Step::End);
        now.list.iter().any(ends)
    }
}

/// The steps that can be next, each once.
struct Places {
    list: Vec<usize>,
    is_there: Vec<bool>,
    /// Steps still to be looked at.
    open: Vec<usize>,
    /// Everything set in `is_there`.
    touched: Vec<usize>,
}

impl Places {
    fn new(steps: usize) -> Places {
        Places {
            list: Vec::new(),
            is_there: vec![false; steps],
            open: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// Adds a step, and those that are reached from there without a character.
    fn enter(&mut self, at: usize, steps: &[Step]) {
        self.open.push(at);
        while let Some(at) = self.open.pop() {
            if std::mem::replace(&mut self.is_there[at], true) {
                continue;
            }
            self.touched.push(at);
            match steps[at] {
                Step::Split(one, other) => self.open.extend([one, other]),
                Step::Jump(to) => self.open.push(to),
                _ => self.list.push(at),
            }
        }
    }

    fn clear(&mut self) {
        for at in self.touched.drain(..) {
            self.is_there[at] = false;
        }
        self.list.clear();
    }
}

struct Parser<'a> {
    chars: Peekable<Chars<'a>>,
    /// Of the character that was read last, from 1 on.
    column: usize,
    steps: Vec<Step>,
    /// Whether a component begins here.
    component_start: bool,
    has_slash: bool,
    ends_in_slash: bool,
}

impl Parser<'_> {
    fn next(&mut self) -> Option<char> {
        let next = self.chars.next()?;
        self.column += 1;
        Some(next)
    }

    fn next_is(&mut self, wanted: char) -> bool {
        let found = self.chars.peek() == Some(&wanted);
        if found {
            self.next();
        }
        found
    }

    fn wrong<T>(&self, column: usize, message: &'static str) -> Result<T, Malformed> {
        Err(Malformed { column, message })
    }

    /// Up to the end or, within braces, up to a comma or a closing brace, which is left there.
    fn sequence(&mut self, depth: usize) -> Result<(), Malformed> {
        while let Some(&next) = self.chars.peek() {
            if depth > 0 && matches!(next, ',' | '}') {
                return Ok(());
            }
            self.next();
            self.item(next, depth)?;
        }
        Ok(())
    }

    fn item(&mut self, character: char, depth: usize) -> Result<(), Malformed> {
        let begins = std::mem::replace(&mut self.component_start, false);
        self.ends_in_slash = false;
        match character {
            '?' => self.steps.push(Step::One),
            '*' => self.star(begins),
            '[' => self.class()?,
            '{' => self.either(begins, depth)?,
            '}' => {
                return self.wrong(
                    self.column,
                    "there is no { to this }, or it needs a \\ before it",
                );
            }
            '\\' => {
                let column = self.column;
                let Some(literal) = self.next() else {
                    return self.wrong(column, "nothing follows the \\");
                };
                self.literal(literal, depth);
            }
            literal => self.literal(literal, depth),
        }
        Ok(())
    }

    fn literal(&mut self, literal: char, depth: usize) {
        if literal == '/' {
            self.has_slash = true;
            self.component_start = true;
            self.ends_in_slash = depth == 0;
        }
        self.steps.push(Step::Char(literal));
    }

    fn star(&mut self, begins: bool) {
        if !self.next_is('*') {
            self.run(Step::One);
            return;
        }
        while self.next_is('*') {}
        if begins && self.chars.peek() == Some(&'/') {
            self.next();
            let split = self.steps.len();
            self.steps.push(Step::End);
            self.any_run();
            self.literal('/', 0);
            // `a/**/` is about what is below, not about `a/` itself.
            self.ends_in_slash = self.chars.peek().is_none();
            self.steps[split] = Step::Split(split + 1, self.steps.len());
        } else {
            self.any_run();
        }
    }

    fn any_run(&mut self) {
        self.run(Step::Any);
    }

    /// Any number of what this step takes.
    fn run(&mut self, step: Step) {
        let at = self.steps.len();
        self.steps.push(Step::Split(at + 1, at + 3));
        self.steps.push(step);
        self.steps.push(Step::Jump(at));
    }

    fn either(&mut self, begins: bool, depth: usize) -> Result<(), Malformed> {
        let column = self.column;
        if depth == DEEPEST {
            return self.wrong(column, "there are too many braces within braces");
        }
        let mut ends = Vec::new();
        loop {
            let split = self.steps.len();
            self.steps.push(Step::End);
            self.component_start = begins;
            self.sequence(depth + 1)?;
            match self.next() {
                Some(',') => {
                    ends.push(self.steps.len());
                    self.steps.push(Step::End);
                    self.steps[split] = Step::Split(split + 1, self.steps.len());
                }
                Some(_) => {
                    self.steps[split] = Step::Jump(split + 1);
                    break;
                }
                None => return self.wrong(column, "there is no } to this {"),
            }
        }
        let after = self.steps.len();
        for end in ends {
            self.steps[end] = Step::Jump(after);
        }
        self.component_start = false;
        self.ends_in_slash = false;
        Ok(())
    }

    fn class(&mut self) -> Result<(), Malformed> {
        let column = self.column;
        let negated = self.next_is('!');
        let mut ranges = Vec::new();
        loop {
            let Some(first) = self.next() else {
                return self.wrong(column, "there is no ] to this [");
            };
            // As in a shell: one that comes first is meant.
            if first == ']' && !ranges.is_empty() {
                break;
            }
            let start = self.column;
            let from = self.in_class(first, column)?;
            let mut ahead = self.chars.clone();
            let is_range = ahead.next() == Some('-') && !matches!(ahead.next(), None | Some(']'));
            let to = if is_range {
                self.next();
                let last = self.next().unwrap_or(from);
                self.in_class(last, column)?
            } else {
                from
            };
            if from > to {
                return self.wrong(start, "the range is the wrong way round");
            }
            ranges.push((from, to));
        }
        self.steps.push(Step::Class { negated, ranges });
        Ok(())
    }

    /// A character of a class, which may follow a `\`.
    fn in_class(&mut self, character: char, column: usize) -> Result<char, Malformed> {
        if character != '\\' {
            return Ok(character);
        }
        match self.next() {
            Some(literal) => Ok(literal),
            None => self.wrong(column, "there is no ] to this ["),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        let parsed = Pattern::parse(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        parsed.matches(path)
    }

    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        for path in yes {
            assert!(matches(pattern, path), "{pattern} and {path}");
        }
        for path in no {
            assert!(!matches(pattern, path), "{pattern} and {path}");
        }
    }

    #[test]
    fn without_a_slash_it_is_about_the_last_component() {
        check(
            "*.mov",
            &["a.mov", "x/y/a.mov", ".mov"],
            &["a.MOV", "a.mov/b"],
        );
        check("a?c", &["abc", "d/aéc"], &["ac", "a/c", "abbc"]);
        check("**", &["a", "a/b"], &[]);
        check("name", &["name", "d/name"], &["name/d", "names"]);
    }

    #[test]
    fn with_a_slash_it_is_about_the_whole_path() {
        check(
            "a/*.mov",
            &["a/b.mov"],
            &["b.mov", "x/a/b.mov", "a/b/c.mov"],
        );
        check("/a", &["a"], &["b/a"]);
        check(
            "a/**/b",
            &["a/b", "a/x/b", "a/x/y/b"],
            &["ab", "xa/b", "a/xb"],
        );
        check("**/b", &["b", "x/y/b"], &["xb", "x/yb"]);
        check("a/**", &["a/b", "a/b/c"], &["a", "ab"]);
        check("a**/c", &["a/c", "ab/c", "a/b/c"], &["c", "ac"]);
    }

    #[test]
    fn what_ends_in_a_slash_is_about_everything_below() {
        check("a/", &["a/b", "a/b/c"], &["a", "b/a/c", "ab/c", "a/"]);
        check("*/b/", &["a/b/c"], &["a/b", "b/c"]);
        check("a/**/", &["a/b", "a/b/c"], &["a", "b/a/c"]);
    }

    #[test]
    fn classes() {
        check("[a-c]x", &["ax", "cx"], &["dx", "x", "-x"]);
        check("[!a-c]x", &["dx", "!x"], &["ax", "x"]);
        check("a/[!x]b", &["a/cb"], &["a//b", "a/xb"]);
        check("[]a]", &["]", "a"], &["b"]);
        check("[a-]", &["a", "-"], &["b"]);
        check(r"[\]\\-]", &["]", "\\", "-"], &["a"]);
        check("[^a]", &["^", "a"], &["b"]);
    }

    #[test]
    fn braces_and_literals() {
        check(
            "*.{mov,mp4}",
            &["a.mov", "d/a.mp4"],
            &["a.mp", "a.{mov,mp4}"],
        );
        check("{a,b{c,d}}x", &["ax", "bcx", "bdx"], &["bx", "acx"]);
        check("a{,b}", &["a", "ab"], &["abb"]);
        check("{a/b,c}", &["a/b", "c"], &["x/c", "b"]);
        check("{**/a,b}", &["a", "x/a", "b"], &["x/b"]);
        check(r"\*\{a,b\}", &["*{a,b}"], &["x{a,b}"]);
        check("a,b]", &["a,b]"], &["a"]);
    }

    #[test]
    fn what_is_malformed_is_told_with_its_column() {
        for (text, column) in [
            ("", 1),
            ("ab[c", 3),
            ("[]", 1),
            ("[!]", 1),
            ("é[z-a]", 3),
            ("{a,{b}", 1),
            ("a}", 2),
            ("/a}", 3),
            ("ab\\", 3),
            ("[\\", 1),
        ] {
            let error = Pattern::parse(text).expect_err(text);
            assert_eq!(error.column, column, "{text}: {error}");
        }
        assert!(Pattern::parse(&"{".repeat(100)).is_err());
        assert!(Pattern::parse(&"a".repeat(LONGEST + 1)).is_err());
    }

    #[test]
    fn hostile_patterns_take_bounded_work() {
        // With a matcher that goes back these would not end within a lifetime.
        let path = "a".repeat(4000);
        assert!(!matches(&format!("{}b", "*a".repeat(1000)), &path));
        assert!(!matches(&format!("{}b", "{a,a,a}".repeat(500)), &path));
        let nested = format!("{}x{}", "{*,".repeat(DEEPEST), "}".repeat(DEEPEST));
        assert!(matches(&nested, &path));
    }

    proptest! {
        #[test]
        fn nothing_panics(pattern in "[ab/*?\\[\\]{},!\\\\-]{0,20}", path in "[ab/]{0,12}") {
            if let Ok(pattern) = Pattern::parse(&pattern) {
                pattern.matches(&path);
            }
        }

        #[test]
        fn a_literal_matches_itself(path in "[a-c?*{}\\[\\]/]{1,10}[a-c]") {
            let escaped: String = path.chars().flat_map(|c| ['\\', c]).collect();
            // An escaped slash at the beginning is one like any other.
            prop_assume!(!path.starts_with('/'));
            prop_assert!(Pattern::parse(&escaped).unwrap().matches(&path));
        }
    }
}
