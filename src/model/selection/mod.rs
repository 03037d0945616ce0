//! Which files of a package are wanted.

mod pattern;

use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::model::listing::Listed;
pub use pattern::{Pattern, PatternError, Scratch};

/// Identifiers in a selection, at most.
pub const MAX_FILE_IDS: usize = 30_000;
/// Patterns of each kind in a selection, at most.
pub const MAX_PATTERNS: usize = 1_000;

/// A choice of files, as it was asked for. The empty one chooses all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// Only these files; all where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub file_ids: Vec<String>,
    /// Only files that one of these matches; all where there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
    /// No file that one of these matches.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude: Vec<String>,
}

/// Selections are equal where they choose the same by the same words, in whatever order.
impl PartialEq for Selection {
    fn eq(&self, other: &Selection) -> bool {
        fn set(list: &[String]) -> BTreeSet<&String> {
            list.iter().collect()
        }
        set(&self.file_ids) == set(&other.file_ids)
            && set(&self.include) == set(&other.include)
            && set(&self.exclude) == set(&other.exclude)
    }
}

impl Eq for Selection {}

impl Selection {
    /// Whether nothing is left out.
    pub fn is_all(&self) -> bool {
        self.file_ids.is_empty() && self.include.is_empty() && self.exclude.is_empty()
    }

    /// Makes it ready to look at a listing.
    ///
    /// # Errors
    /// A malformed pattern, and what is wrong with it.
    pub fn compile(&self) -> Result<Chooser, (String, PatternError)> {
        let compile = |patterns: &[String]| -> Result<Vec<Pattern>, (String, PatternError)> {
            let compiled = patterns
                .iter()
                .map(|text| Pattern::new(text).map_err(|error| (text.clone(), error)));
            compiled.collect()
        };
        let wanted = self.file_ids.iter().map(|id| (id.clone(), false)).collect();
        Ok(Chooser {
            is_all: self.is_all(),
            wanted,
            include: compile(&self.include)?,
            exclude: compile(&self.exclude)?,
            scratch: Scratch::default(),
        })
    }
}

/// The summary of a selection, as the API answers it.
#[derive(Debug, Serialize)]
pub struct SelectionSummary<'a> {
    /// How many; 0 if files are not chosen by their identifiers.
    file_ids: usize,
    include: &'a [String],
    exclude: &'a [String],
}

impl<'a> From<&'a Selection> for SelectionSummary<'a> {
    fn from(selection: &'a Selection) -> SelectionSummary<'a> {
        SelectionSummary {
            file_ids: selection.file_ids.len(),
            include: &selection.include,
            exclude: &selection.exclude,
        }
    }
}

/// Looks at the entries of one listing.
#[derive(Debug)]
pub struct Chooser {
    is_all: bool,
    /// Whether the listing has each of the wanted identifiers.
    wanted: HashMap<String, bool>,
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    scratch: Scratch,
}

impl Chooser {
    /// Whether an entry is wanted: a file by identifier and patterns; a folder where nothing is
    /// left out, or where a pattern asks for it and none is against it.
    pub fn wants(&mut self, listed: &Listed) -> bool {
        match (self.is_all, listed.kind.as_str()) {
            (true, _) => true,
            (_, "file") => self.wants_file(listed),
            (_, "directory") => {
                let path = listed.full_path();
                let scratch = &mut self.scratch;
                let mut any = |patterns: &[Pattern]| {
                    let mut patterns = patterns.iter();
                    patterns.any(|pattern| pattern.matches_folder(&path, scratch))
                };
                self.wanted.is_empty() && any(&self.include) && !any(&self.exclude)
            }
            _ => false,
        }
    }

    fn wants_file(&mut self, listed: &Listed) -> bool {
        if !self.wanted.is_empty() {
            match self.wanted.get_mut(&listed.id) {
                Some(found) => *found = true,
                None => return false,
            }
        }
        if self.include.is_empty() && self.exclude.is_empty() {
            return true;
        }
        let path = listed.full_path();
        let scratch = &mut self.scratch;
        let mut any = |patterns: &[Pattern]| {
            let mut patterns = patterns.iter();
            patterns.any(|pattern| pattern.matches(&path, scratch))
        };
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }

    /// The first of the selection's identifiers that the listing did not have.
    pub fn first_missing<'a>(&self, selection: &'a Selection) -> Option<&'a str> {
        let mut ids = selection.file_ids.iter();
        ids.find(|id| self.wanted.get(*id) == Some(&false))
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn entry(id: &str, kind: &str, path: &str, name: &str) -> Listed {
        Listed {
            id: id.into(),
            kind: kind.into(),
            path: Some(path.into()),
            name: name.into(),
            ..Listed::default()
        }
    }

    #[test]
    fn identifiers_and_patterns_must_both_hold() {
        let selection = Selection {
            file_ids: list(&["F1", "F2", "F9"]),
            include: list(&["*.mov"]),
            exclude: list(&["old/"]),
        };
        let mut chooser = selection.compile().unwrap();
        assert!(chooser.wants(&entry("F1", "file", "clips", "a.mov")));
        assert!(!chooser.wants(&entry("F2", "file", "/old/", "a.mov")));
        assert!(!chooser.wants(&entry("F3", "file", "clips", "a.mov")));
        assert_eq!(chooser.first_missing(&selection), Some("F9"));
    }

    #[test]
    fn folders_come_with_everything_or_with_a_pattern_for_them() {
        let folder = entry("D", "directory", "clips", "empty");
        let wants = |file_ids: &[&str], include: &[&str], exclude: &[&str]| {
            let selection = Selection {
                file_ids: list(file_ids),
                include: list(include),
                exclude: list(exclude),
            };
            selection.compile().unwrap().wants(&folder)
        };
        assert!(wants(&[], &[], &[]));
        assert!(wants(&[], &["clips/"], &[]));
        assert!(!wants(&[], &["clips/"], &["empty"]));
        assert!(!wants(&[], &["*.mov"], &[]));
        assert!(!wants(&[], &[], &["*.mov"]));
        assert!(!wants(&["D"], &[], &[]));
    }

    #[test]
    fn order_and_repetition_make_no_other_selection() {
        let one = Selection {
            file_ids: list(&["a", "b"]),
            ..Selection::default()
        };
        let mut other = one.clone();
        other.file_ids = list(&["b", "a", "b"]);
        assert_eq!(one, other);
        other.include = list(&["a"]);
        assert_ne!(one, other);
    }
}
