//! Which part of a list is asked for: the query parameters of the downloads and of a download's
//! files, and the `Link` to the part that follows (RFC 8288).

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::answer::Answer;
use super::error::ApiError;
use crate::base::suggest;
use crate::model::download::{SUMMARY_FIELDS, Summary};
use crate::model::selection::{Pattern, Scratch};
use crate::model::state::State;
use crate::model::table::{FileState, Shown};

/// Entries of a part, at the most.
pub const MAX_ENTRIES: usize = 10_000;
/// Characters of a download's identifier.
const ID_LENGTH: usize = 26;

/// Which downloads, and what of them.
#[derive(Debug, Default)]
pub struct Downloads {
    /// All where there are none.
    pub states: Option<Vec<State>>,
    /// 1 to [`MAX_ENTRIES`]; all without.
    pub limit: Option<usize>,
    /// Only those with a greater identifier.
    pub after: Option<String>,
    /// The fields to be kept; all without.
    pub fields: Option<Vec<&'static str>>,
    /// Path and query up to `after`, for the `Link`.
    pub target: String,
}

impl Downloads {
    pub fn wants(&self, state: State) -> bool {
        let states = self.states.as_deref();
        states.is_none_or(|states| states.contains(&state))
    }

    /// A summary, or what is asked for of it.
    pub fn put(&self, summary: &Summary<'_>, out: &mut Vec<u8>) -> serde_json::Result<()> {
        let Some(fields) = &self.fields else {
            return serde_json::to_writer(out, summary);
        };
        let mut value = serde_json::to_value(summary)?;
        if let Value::Object(object) = &mut value {
            object.retain(|name, _| fields.contains(&name.as_str()));
        }
        serde_json::to_writer(out, &value)
    }
}

/// Which files of a download.
#[derive(Debug, Default)]
pub struct Files {
    /// Whether none are to be shown.
    pub hidden: bool,
    /// 1 to [`MAX_ENTRIES`]; all without.
    pub limit: Option<usize>,
    /// The identifier of the file before the first one; it must be one of the package's.
    pub after: Option<String>,
    /// All where there are none.
    pub states: Option<Vec<FileState>>,
    pub pattern: Option<Pattern>,
    /// As for [`Downloads`].
    pub target: String,
}

impl Files {
    /// Whether anything but the whole list is asked for.
    pub fn is_choice(&self) -> bool {
        self.hidden
            || self.limit.is_some()
            || self.after.is_some()
            || self.states.is_some()
            || self.pattern.is_some()
    }

    /// Whether this is one of the files that are asked for, wherever the part begins.
    /// The pattern is matched with the path inside the package, as listed: without the package's
    /// own folder, if there is one (`in_folder`).
    pub fn wants(&self, file: &Shown<'_>, in_folder: bool, scratch: &mut Scratch) -> bool {
        let states = self.states.as_deref();
        states.is_none_or(|states| states.contains(&file.state))
            && self.pattern.as_ref().is_none_or(|pattern| {
                let inside = match file.path.split_once('/') {
                    Some((_, inside)) if in_folder => inside,
                    _ => &file.path,
                };
                let listed = file.original_path.as_deref();
                pattern.matches(listed.unwrap_or(inside), scratch)
            })
    }
}

/// Says how many entries there are in all, and where the next part is.
pub fn describe(answer: &mut Answer, total: usize, next: Option<String>) {
    answer
        .fields
        .push(("X-Total-Count", total.to_string().into()));
    if let Some(next) = next {
        answer.fields.push(("Link", next.into()));
    }
}

/// The `Link` to the part after `last`; `target` is path and query without `name`.
pub fn next_part(target: &str, name: &str, last: &str) -> String {
    /// What needs no encoding in a query (RFC 3986, 2.3).
    const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    let joint = if target.contains('?') { '&' } else { '?' };
    let last = utf8_percent_encode(last, ENCODED);
    format!("<{target}{joint}{name}={last}>; rel=\"next\"")
}

/// A request's target without the parameter `name`, fit to stand between angle brackets.
pub fn without(target: &str, name: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut kept = String::new();
    for &byte in path.as_bytes() {
        put_byte(&mut kept, byte);
    }
    let mut joint = '?';
    let others = query.split('&').filter(|pair| {
        let own = pair.split('=').next().unwrap_or_default();
        !pair.is_empty() && percent_encoding::percent_decode_str(own).decode_utf8_lossy() != name
    });
    for pair in others {
        kept.push(joint);
        joint = '&';
        pair.bytes().for_each(|byte| put_byte(&mut kept, byte));
    }
    kept
}

fn put_byte(out: &mut String, byte: u8) {
    match byte.is_ascii_graphic() && !b"<>\"\\^`{|}".contains(&byte) {
        true => out.push(char::from(byte)),
        // Writing to a String cannot fail.
        false => drop(write!(out, "%{byte:02X}")),
    }
}

/// # Errors
/// `invalid_parameter`: no whole number from 1 to [`MAX_ENTRIES`].
pub fn limit(name: &str, value: &str) -> Result<usize, ApiError> {
    Some(value)
        .filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|value| value.parse().ok())
        .filter(|number| (1..=MAX_ENTRIES).contains(number))
        .ok_or_else(|| {
            let message = format!("{name} must be a whole number, 1 to {MAX_ENTRIES}");
            ApiError::invalid_parameter(message)
        })
}

/// # Errors
/// `invalid_parameter`: this cannot be a download's identifier. One whose download is gone will do.
pub fn download_id(value: &str) -> Result<String, ApiError> {
    let fits = (1..=ID_LENGTH).contains(&value.len());
    if !fits || !value.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(ApiError::invalid_parameter(
            "after must be a download's identifier",
        ));
    }
    Ok(value.to_ascii_uppercase())
}

/// # Errors
/// `invalid_parameter`: a field that no summary has.
pub fn fields(value: &str) -> Result<Vec<&'static str>, ApiError> {
    let known = |name: &str| SUMMARY_FIELDS.iter().copied().find(|&field| field == name);
    let field = |name: &str| known(name).ok_or_else(|| no_such(name, "fields", SUMMARY_FIELDS));
    value.split(',').map(field).collect()
}

/// # Errors
/// `invalid_parameter`: a state that no file has.
pub fn file_states(value: &str) -> Result<Vec<FileState>, ApiError> {
    let state = |name: &str| {
        FileState::from_name(name).ok_or_else(|| no_such(name, "file_states", &FileState::NAMES))
    };
    value.split(',').map(state).collect()
}

/// A word in the list that is a parameter's value, which is none of those that it may have.
pub fn no_such(word: &str, parameter: &str, known: &[&str]) -> ApiError {
    let meant = suggest::nearest(word, known).map(|known| format!("; did you mean {known}?"));
    ApiError::invalid_parameter(format!(
        "{parameter} cannot have {}{} It must be a comma separated list of {}",
        suggest::shown(word),
        meant.as_deref().unwrap_or("."),
        known.join(", ")
    ))
}

/// # Errors
/// `invalid_parameter`: what is wrong with the pattern, and where.
pub fn pattern(value: &str) -> Result<Pattern, ApiError> {
    Pattern::new(value)
        .map_err(|error| ApiError::invalid_parameter(format!("files_match: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_word_is_named_with_what_was_perhaps_meant() {
        for (error, said) in [
            (
                fields("download_id,nam").unwrap_err(),
                "\"nam\"; did you mean name?",
            ),
            (file_states("done").unwrap_err(), "\"done\". It must be"),
        ] {
            let message = error.message;
            assert!(message.contains(said), "{message}");
        }
    }

    #[test]
    fn the_next_part_is_asked_for_with_everything_else_as_it_was() {
        let target = "/api/v1/downloads?limit=2&%61fter=01A&states=paused,error&x=<>";
        assert_eq!(
            next_part(&without(target, "after"), "after", "a b&"),
            "</api/v1/downloads?limit=2&states=paused,error&x=%3C%3E&after=a%20b%26>; rel=\"next\""
        );
        assert_eq!(
            next_part(&without("/d?after=x", "after"), "after", "y"),
            "</d?after=y>; rel=\"next\""
        );
    }
}
