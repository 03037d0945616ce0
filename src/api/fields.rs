//! The fields of a JSON object, a field that is there twice refused: a reader of the first
//! and a reader of the last would have seen different requests.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::error::ApiError;
use crate::base::suggest;

/// Reads the fields of the object in their order.
///
/// # Errors
/// `invalid_json` for what is no JSON, `invalid_request` for what is no object or has a
/// field twice.
pub fn read(body: &[u8]) -> Result<Vec<(String, Value)>, ApiError> {
    // Some tools on Windows write a byte order mark first.
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    if body.is_empty() {
        return Err(invalid_json("the body is empty; it must be a JSON object"));
    }
    let Ok(text) = str::from_utf8(body) else {
        return Err(invalid_json("the body is not UTF-8"));
    };
    let value: Value = serde_json::from_str(text).map_err(|error| {
        invalid_json(&format!(
            "the body is not JSON: see line {}, column {}",
            error.line(),
            error.column()
        ))
    })?;
    if !value.is_object() {
        return Err(ApiError::invalid_request(
            "the body must be a JSON object, in curly brackets",
        ));
    }
    let Fields(fields) = serde_json::from_str(text)
        .map_err(|_| ApiError::invalid_request("the body must be a JSON object"))?;
    // A body may hold a hundred thousand of them: each is looked up, not compared with all before.
    let mut names = HashSet::with_capacity(fields.len());
    if let Some((name, _)) = fields.iter().find(|(name, _)| !names.insert(name)) {
        return Err(ApiError::invalid_request(format!(
            "the field {} is there twice; give it once",
            suggest::shown(name)
        )));
    }
    Ok(fields)
}

/// The refusal of a field that a call does not know; `what` says what the fields are of.
pub fn unknown(name: &str, known: &[&str], what: &str) -> ApiError {
    ApiError::invalid_request(format!(
        "there is no field {}; {}{what} {}",
        suggest::shown(name),
        meant(name, known),
        known.join(", ")
    ))
}

/// What was perhaps meant, as the middle of a message; empty if nothing is near.
pub fn meant(name: &str, known: &[&str]) -> String {
    suggest::nearest(name, known).map_or(String::new(), |near| format!("did you mean {near:?}? "))
}

fn invalid_json(message: &str) -> ApiError {
    ApiError::new(400, "invalid_json", message)
}

struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Fields, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    fields.push(entry);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}
