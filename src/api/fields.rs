//! The fields of a JSON object, a field that is there twice refused: whoever read the first
//! and whoever read the last would have seen different requests.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::error::ApiError;

/// Reads the fields of the object in their order.
///
/// # Errors
/// `invalid_json` for what is no JSON, `invalid_request` for what is no object or has a
/// field twice.
pub fn read(body: &[u8]) -> Result<Vec<(String, Value)>, ApiError> {
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
    let twice = !fields.iter().all(|(name, _)| names.insert(name));
    if twice {
        return Err(ApiError::invalid_request(
            "a field is there twice; give each one once",
        ));
    }
    Ok(fields)
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
