//! The settings: from a PUT's body to what it says.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::ApiError;
use super::fields;
use crate::model::settings::SettingsOverrides;

/// Reads what is to be set; what is not there stays as it is.
///
/// # Errors
/// `invalid_json`, `invalid_request`.
pub fn read(body: &[u8]) -> Result<SettingsOverrides, ApiError> {
    let mut said = SettingsOverrides::default();
    for (name, value) in fields::read(body)? {
        match name.as_str() {
            "rate_limit" => said.rate_limit = Some(field(&name, value)?),
            "workers" => said.workers = Some(field(&name, value)?),
            "schedule" => said.schedule = Some(field(&name, value)?),
            _ => {
                let known = ["rate_limit", "workers", "schedule"];
                return Err(fields::unknown(&name, &known, "settings are"));
            }
        }
    }
    Ok(said)
}

fn field<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, ApiError> {
    serde_json::from_value(value)
        .map_err(|error| ApiError::invalid_request(format!("\"{name}\": {error}")))
}
