//! Patterns for paths inside a package.
//!
//! A pattern is compiled into a small automaton whose states are all followed at once, so that no
//! pattern takes more time than its length times the path's, whatever is in it.

use std::fmt;

/// Longer patterns are refused, in characters.
pub const LONGEST: usize = 4096;

/// What is wrong with a pattern, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternError {
    /// The character that cannot be read, counted from 1.
    pub column: usize,
    pub what: &'static str,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at column {}", self.what, self.column)
    }
}

impl std::error::Error for PatternError {}

#[derive(Debug)]
enum Step {
    Literal(char),
    /// Any character but a slash.
    One,
    /// One of these, or with `true` any other; never a slash.
    Class(bool, Vec<(char, char)>),
    /// Any number of characters; slashes too where `true`.
    Many(bool),
    /// Goes on at each of these steps.
    Fork(Vec<usize>),
}

/// A compiled pattern.
#[derive(Debug)]
pub struct Pattern {
    steps: Vec<Step>,
    /// It has a slash, and so is matched against the whole path.
    is_path: bool,
    /// It ends in `/` or in `/**`: an empty folder itself is matched, too.
    is_below: bool,
}

/// Memory that one match after the other uses.
#[derive(Debug, Default)]
pub struct Scratch {
    now: Vec<usize>,
    next: Vec<usize>,
    todo: Vec<usize>,
    seen: Vec<u32>,
    round: u32,
}

impl Pattern {
    /// Reads a pattern: `?`, `*`, `**`, `[a-z]`, `[!a-z]`, `{a,b}`, and `\` before a literal. A
    /// `**/` that begins a component also stands for nothing, as elsewhere: `a/**/b` matches `a/b`.
    ///
    /// # Errors
    /// The first thing that is malformed.
    pub fn new(text: &str) -> Result<Pattern, PatternError> {
        let chars: Vec<char> = text.chars().take(LONGEST + 1).collect();
        if chars.len() > LONGEST {
            return Err(error(LONGEST, "it is longer than 4096 characters"));
        }
        if chars.is_empty() {
            return Err(error(0, "it is empty"));
        }
        // One at the very beginning says that the whole path is meant.
        let from_top = chars.len() > 1 && chars[0] == '/';
        let mut compiler = Compiler {
            chars,
            at: usize::from(from_top),
            steps: Vec::new(),
            groups: Vec::new(),
            begins: true,
            is_path: from_top,
        };
        compiler.compile()?;
        let Compiler {
            mut steps, is_path, ..
        } = compiler;
        let mut is_below = matches!(steps[..], [.., Step::Literal('/'), Step::Many(true)]);
        if matches!(steps.last(), Some(Step::Literal('/'))) {
            steps.push(Step::Many(true));
            is_below = true;
        }
        Ok(Pattern {
            steps,
            is_path,
            is_below,
        })
    }

    /// Whether it matches a file's path inside the package.
    pub fn matches(&self, path: &str, scratch: &mut Scratch) -> bool {
        self.run(path.chars(), path, scratch)
    }

    /// Whether it matches a folder's path inside the package.
    pub fn matches_folder(&self, path: &str, scratch: &mut Scratch) -> bool {
        self.matches(path, scratch)
            || (self.is_below && self.run(path.chars().chain(['/']), path, scratch))
    }

    fn run(&self, whole: impl Iterator<Item = char>, path: &str, scratch: &mut Scratch) -> bool {
        if self.is_path {
            return scratch.run(&self.steps, whole);
        }
        let last = path.rsplit('/').next().unwrap_or(path);
        scratch.run(&self.steps, last.chars())
    }
}

impl Scratch {
    fn run(&mut self, steps: &[Step], text: impl Iterator<Item = char>) -> bool {
        if self.seen.len() <= steps.len() {
            self.seen.resize(steps.len() + 1, 0);
        }
        self.now.clear();
        self.begin_round();
        self.enter(steps, 0);
        std::mem::swap(&mut self.now, &mut self.next);
        for c in text {
            if self.now.is_empty() {
                return false;
            }
            self.begin_round();
            for index in 0..self.now.len() {
                let at = self.now[index];
                let to = match steps.get(at) {
                    Some(Step::Literal(literal)) if *literal == c => at + 1,
                    Some(Step::One) if c != '/' => at + 1,
                    Some(Step::Class(other, ranges)) if c != '/' => {
                        let listed = ranges.iter().any(|&(from, to)| (from..=to).contains(&c));
                        if listed == *other {
                            continue;
                        }
                        at + 1
                    }
                    Some(Step::Many(slashes)) if *slashes || c != '/' => at,
                    _ => continue,
                };
                self.enter(steps, to);
            }
            std::mem::swap(&mut self.now, &mut self.next);
        }
        self.now.contains(&steps.len())
    }

    fn begin_round(&mut self) {
        self.next.clear();
        self.round = self.round.checked_add(1).unwrap_or_else(|| {
            self.seen.fill(0);
            1
        });
    }

    /// Enters a step, and those that are reached from it without a character, each once a round.
    fn enter(&mut self, steps: &[Step], step: usize) {
        self.todo.push(step);
        while let Some(step) = self.todo.pop() {
            if std::mem::replace(&mut self.seen[step], self.round) == self.round {
                continue;
            }
            match steps.get(step) {
                Some(Step::Fork(ways)) => self.todo.extend(ways),
                Some(Step::Many(_)) => {
                    self.next.push(step);
                    self.todo.push(step + 1);
                }
                _ => self.next.push(step),
            }
        }
    }
}

/// An open `{`.
struct Group {
    opened_at: usize,
    fork: usize,
    /// The ends of its alternatives, which all go on behind it.
    ends: Vec<usize>,
    begins: bool,
}

struct Compiler {
    chars: Vec<char>,
    at: usize,
    steps: Vec<Step>,
    groups: Vec<Group>,
    /// Whether a component begins here.
    begins: bool,
    is_path: bool,
}

fn error(index: usize, what: &'static str) -> PatternError {
    PatternError {
        column: index + 1,
        what,
    }
}

impl Compiler {
    fn compile(&mut self) -> Result<(), PatternError> {
        while let Some(&c) = self.chars.get(self.at) {
            let index = self.at;
            self.at += 1;
            match c {
                '?' => self.push(Step::One),
                '*' => self.stars(),
                '[' => self.class(index)?,
                '{' => self.open(index),
                ',' if !self.groups.is_empty() => self.alternative(),
                '}' => self.close(index)?,
                '\\' => {
                    let literal = self.chars.get(self.at).copied();
                    let literal = literal.ok_or(error(index, "nothing follows the backslash"))?;
                    self.at += 1;
                    self.literal(literal);
                }
                c => self.literal(c),
            }
        }
        match self.groups.last() {
            Some(group) => Err(error(group.opened_at, "the brace { is not closed")),
            None => Ok(()),
        }
    }

    fn push(&mut self, step: Step) {
        self.steps.push(step);
        self.begins = false;
    }

    fn literal(&mut self, c: char) {
        self.push(Step::Literal(c));
        if c == '/' {
            self.begins = true;
            self.is_path = true;
        }
    }

    fn stars(&mut self) {
        let first = self.at;
        while self.chars.get(self.at) == Some(&'*') {
            self.at += 1;
        }
        let any_depth = self.at > first;
        if any_depth && self.begins && self.chars.get(self.at) == Some(&'/') {
            self.at += 1;
            let here = self.steps.len();
            self.push(Step::Fork(vec![here + 1, here + 3]));
            self.push(Step::Many(true));
            self.literal('/');
        } else {
            self.push(Step::Many(any_depth));
        }
    }

    fn class(&mut self, opened_at: usize) -> Result<(), PatternError> {
        let other = matches!(self.chars.get(self.at), Some('!'));
        self.at += usize::from(other);
        let mut ranges = Vec::new();
        loop {
            let from_at = self.at;
            // A bracket that would close an empty class is one of its characters.
            if self.chars.get(self.at) == Some(&']') && !ranges.is_empty() {
                self.at += 1;
                break;
            }
            let from = self.class_character(opened_at)?;
            let is_range = self.chars.get(self.at) == Some(&'-')
                && self.chars.get(self.at + 1).is_some_and(|&c| c != ']');
            let mut to = from;
            if is_range {
                self.at += 1;
                to = self.class_character(opened_at)?;
            }
            if from > to {
                return Err(error(from_at, "the range ends before it begins"));
            }
            ranges.push((from, to));
        }
        self.push(Step::Class(other, ranges));
        Ok(())
    }

    fn class_character(&mut self, opened_at: usize) -> Result<char, PatternError> {
        if self.chars.get(self.at) == Some(&'\\') {
            self.at += 1;
        }
        let c = self.chars.get(self.at).copied();
        self.at += 1;
        c.ok_or(error(opened_at, "the bracket [ is not closed"))
    }

    fn open(&mut self, opened_at: usize) {
        let fork = self.steps.len();
        self.steps.push(Step::Fork(vec![fork + 1]));
        self.groups.push(Group {
            opened_at,
            fork,
            ends: Vec::new(),
            begins: self.begins,
        });
    }

    fn alternative(&mut self) {
        let end = self.steps.len();
        self.steps.push(Step::Fork(Vec::new()));
        if let Some(group) = self.groups.last_mut() {
            group.ends.push(end);
            self.begins = group.begins;
            if let Step::Fork(ways) = &mut self.steps[group.fork] {
                ways.push(end + 1);
            }
        }
    }

    fn close(&mut self, index: usize) -> Result<(), PatternError> {
        let group = self.groups.pop();
        let group = group.ok_or(error(
            index,
            "the brace } closes nothing (write \\} for itself)",
        ))?;
        let behind = self.steps.len();
        for end in group.ends {
            self.steps[end] = Step::Fork(vec![behind]);
        }
        self.begins = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::test_strategies;

    fn matches(pattern: &str, path: &str) -> bool {
        let pattern = Pattern::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        pattern.matches(path, &mut Scratch::default())
    }

    #[test]
    fn every_sign_means_what_the_api_page_says() {
        for (pattern, path, expected) in [
            ("a.mov", "a.mov", true),
            ("a.mov", "clips/day 1/a.mov", true),
            ("a.mov", "clips/A.mov", false),
            ("?.mov", "clips/é.mov", true),
            ("?.mov", ".mov", false),
            ("*.mov", "clips/a.mov", true),
            ("*.mov", "clips/a.mov.txt", false),
            ("clips/*", "clips/a.mov", true),
            ("clips/*", "clips/day 1/a.mov", false),
            ("clips/*", "old/clips/a.mov", false),
            ("clips/?a", "clips//a", false),
            ("clips/**", "clips/day 1/a.mov", true),
            ("clips**mov", "clips/day 1/a.mov", false),
            ("**/a.mov", "a.mov", true),
            ("**/a.mov", "x/y/a.mov", true),
            ("**/a.mov", "x/ya.mov", false),
            ("x/**/a", "x/a", true),
            ("x/**/a", "x/y/z/a", true),
            ("**", "x/y", true),
            ("clips/", "clips/day 1/a.mov", true),
            ("clips/", "old/clips/a.mov", false),
            ("clips/", "clips", false),
            ("[a-c]1", "b1", true),
            ("[a-c]1", "d1", false),
            ("[!a-c]1", "d1", true),
            ("[!a-c]1", "b1", false),
            ("x[!a]y", "x/y", false),
            ("[]]", "]", true),
            ("[a-]", "-", true),
            (r"[\]a]", "]", true),
            ("{a,b}.mov", "b.mov", true),
            ("{a,b}.mov", "c.mov", false),
            ("x{,y}", "x", true),
            ("x{,y}", "xy", true),
            ("{a/*,b{c,d}}", "a/1", true),
            ("{a/*,b{c,d}}", "bd", true),
            ("a,b", "a,b", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            (r"\{a\}", "{a}", true),
            ("]", "]", true),
            ("/a", "a", true),
            ("/a", "b/a", false),
            ("/a/", "a/b", true),
            ("a**/c", "ab/c", true),
            ("a**/c", "c", false),
            ("*/b/", "a/b/c", true),
            ("*/b/", "b/c", false),
            ("a/**/", "a/b/c", true),
            ("a/**/", "b/a/c", false),
            ("[^a]", "^", true),
            ("{a/b,c}", "c", true),
            ("{a/b,c}", "x/c", false),
            ("{**/a,b}", "x/a", true),
            ("{**/a,b}", "x/b", false),
        ] {
            assert_eq!(matches(pattern, path), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn empty_folders_are_matched_by_what_is_below_them_too() {
        for (pattern, path, expected) in [
            ("empty", "clips/empty", true),
            ("clips/", "clips", true),
            ("clips/**", "clips", true),
            ("clips/", "clips/empty", true),
            ("clips/*", "clips", false),
            ("*.mov", "clips", false),
        ] {
            let found = Pattern::new(pattern)
                .unwrap()
                .matches_folder(path, &mut Scratch::default());
            assert_eq!(found, expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn what_is_malformed_is_named_with_its_column() {
        for (pattern, column) in [
            ("", 1),
            ("ab[", 3),
            ("ab[c-", 3),
            ("é[!]", 2),
            ("[z-a]", 2),
            ("a{b,c", 2),
            ("a{b,{c}", 2),
            ("ab}", 3),
            ("ab\\", 3),
            ("[\\", 1),
            ("/a}", 3),
            ("é[z-a]", 3),
        ] {
            assert_eq!(
                Pattern::new(pattern).unwrap_err().column,
                column,
                "{pattern}"
            );
        }
        assert!(Pattern::new(&"a".repeat(LONGEST)).is_ok());
        assert!(Pattern::new(&"é".repeat(LONGEST + 1)).is_err());
    }

    /// A matcher that goes back would not end within the lifetime of the sun.
    #[test]
    fn hostile_patterns_end() {
        let path = "a".repeat(4000);
        assert!(!matches(&format!("{}b", "*a".repeat(500)), &path));
        assert!(!matches(&format!("{}b", "**".repeat(500)), &path));
        assert!(!matches(&format!("{}b", "{a,a*,*a}".repeat(200)), &path));
        let nested = format!("{}a{}", "{a,".repeat(900), "}".repeat(900));
        assert!(!matches(&nested, &path));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_at_one_of_its_columns(
            text in test_strategies::near(&["{a,b}/**/[!a-c]?*\\*", "clips/", "**/x"]),
            path in "[ab/*]{0,12}",
        ) {
            let text = String::from_utf8_lossy(&text);
            match Pattern::new(&text) {
                Ok(pattern) => drop(pattern.matches(&path, &mut Scratch::default())),
                Err(error) => prop_assert!((1..=text.chars().count().max(1)).contains(&error.column)),
            }
        }

        #[test]
        fn what_is_escaped_matches_itself_alone(name in "[a-c*?{}\\[\\],!\\\\-]{1,8}", other in "[a-c*?]{1,8}") {
            let escaped: String = name.chars().flat_map(|c| ['\\', c]).collect();
            prop_assert!(matches(&escaped, &name));
            prop_assert_eq!(matches(&escaped, &other), name == other);
        }
    }
}
