//! The optional fields of a POST to /downloads that say which files are wanted, and how.

use serde_json::Value;

use super::error::ApiError;
use crate::model::manifest::Manifest;
use crate::model::request::RequestOptions;
use crate::model::selection::{MAX_FILE_IDS, MAX_PATTERNS, PatternError};

/// The fields' names.
pub const NAMES: [&str; 12] = [
    "create_package_folder",
    "file_ids",
    "include",
    "exclude",
    "priority",
    "uid",
    "gid",
    "bypass_package_quarantine",
    "chunk_size",
    "verify",
    "manifest",
    "windows_names",
];

/// The largest integer that every JSON reader has exactly (RFC 8259, 6).
const EXACT: f64 = 9_007_199_254_740_991.0;
/// Bytes of a range: 1 MiB to 1 GiB.
const CHUNKS: (i64, i64) = (1 << 20, 1 << 30);
/// The highest means "leave it" to chown(2).
const HIGHEST_ID: i64 = u32::MAX as i64 - 1;

/// Takes a field's value; null stands for a field that is not there. False: there is no such field.
///
/// # Errors
/// `invalid_request` for a value that is of the wrong type, or outside its range.
pub fn take(options: &mut RequestOptions, name: &str, value: Value) -> Result<bool, ApiError> {
    if value.is_null() && NAMES.contains(&name) {
        return Ok(true);
    }
    let selection = &mut options.selection;
    let id = |value| integer(name, value, 0, HIGHEST_ID).map(|id| Some(id as u32));
    match name {
        "create_package_folder" => options.create_package_folder = Some(boolean(name, &value)?),
        "file_ids" => selection.file_ids = file_ids(value)?,
        "include" => selection.include = patterns(name, value)?,
        "exclude" => selection.exclude = patterns(name, value)?,
        "priority" => options.priority = priority(&value)?,
        "uid" => options.uid = id(&value)?,
        "gid" => options.gid = id(&value)?,
        "bypass_package_quarantine" => {
            options.bypass_package_quarantine = Some(boolean(name, &value)?);
        }
        "chunk_size" => {
            let bytes = integer(name, &value, CHUNKS.0, CHUNKS.1)?;
            options.chunk_size = Some(bytes.unsigned_abs());
        }
        "manifest" => {
            options.manifest = manifest(&value)?;
            options.no_manifest = options.manifest.is_none();
        }
        "windows_names" => options.windows_names = Some(boolean(name, &value)?),
        "verify" => options.verify = Some(boolean(name, &value)?),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Looks at what can be wrong with the fields beside their types.
///
/// # Errors
/// `invalid_request` for a malformed pattern.
pub fn check(options: &RequestOptions) -> Result<(), ApiError> {
    let compiled = options.selection.compile();
    let malformed = |(pattern, error): (String, PatternError)| {
        let pattern: String = pattern.chars().take(200).collect();
        ApiError::invalid_request(format!("the pattern {pattern:?} is malformed: {error}"))
    };
    compiled.map(drop).map_err(malformed)
}

/// A download's priority.
///
/// # Errors
/// `invalid_request` for what is no whole number from -1000 to 1000.
pub fn priority(value: &Value) -> Result<i32, ApiError> {
    integer("priority", value, -1000, 1000).map(|number| number as i32)
}

/// None for `none`. What is no text is no name.
fn manifest(value: &Value) -> Result<Option<Manifest>, ApiError> {
    let refused = |what| ApiError::invalid_request(format!("\"manifest\" {what}"));
    Manifest::or_none(value.as_str().unwrap_or_default()).map_err(refused)
}

fn boolean(name: &str, value: &Value) -> Result<bool, ApiError> {
    let refused = || ApiError::invalid_request(format!("\"{name}\" must be true or false"));
    value.as_bool().ok_or_else(refused)
}

/// A whole number; `3.0` is one (RFC 8259, 6).
fn integer(name: &str, value: &Value, least: i64, most: i64) -> Result<i64, ApiError> {
    let float = || {
        let number = value.as_f64()?;
        (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
    };
    value
        .as_i64()
        .or_else(float)
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            ApiError::invalid_request(format!(
                "\"{name}\" must be a whole number, {least} to {most}"
            ))
        })
}

fn strings(name: &str, value: Value, most: usize) -> Result<Vec<String>, ApiError> {
    let refused = || {
        ApiError::invalid_request(format!(
            "\"{name}\" must be a list of strings, {most} at the most"
        ))
    };
    let Value::Array(values) = value else {
        return Err(refused());
    };
    if values.len() > most {
        return Err(refused());
    }
    let texts = values.into_iter().map(|value| match value {
        Value::String(text) => Some(text),
        _ => None,
    });
    texts.collect::<Option<_>>().ok_or_else(refused)
}

fn patterns(name: &str, value: Value) -> Result<Vec<String>, ApiError> {
    strings(name, value, MAX_PATTERNS)
}

fn file_ids(value: Value) -> Result<Vec<String>, ApiError> {
    let ids = strings("file_ids", value, MAX_FILE_IDS)?;
    match ids.is_empty() {
        false => Ok(ids),
        true => Err(ApiError::invalid_request(
            "\"file_ids\" is empty; leave it out for all files",
        )),
    }
}
