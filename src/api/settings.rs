//! The settings: from a PUT's body to what it says.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::ApiError;
use super::fields;
use crate::model::settings::SettingsOverrides;

const NAMES: [&str; 7] = [
    "rate_limit",
    "workers",
    "schedule",
    "manifest",
    "verify_rate",
    "verify_every_days",
    "windows_names",
];

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
            "manifest" if value == "none" => said.manifest = Some(None),
            "manifest" => said.manifest = Some(field(&name, value)?),
            "verify_rate" => said.verify_rate = Some(field(&name, value)?),
            "verify_every_days" => said.verify_every_days = Some(field(&name, value)?),
            "windows_names" => said.windows_names = Some(field(&name, value)?),
            _ => return Err(fields::unknown(&name, &NAMES, "settings are")),
        }
    }
    Ok(said)
}

fn field<T: DeserializeOwned>(name: &str, value: Value) -> Result<T, ApiError> {
    serde_json::from_value(value)
        .map_err(|error| ApiError::invalid_request(format!("\"{name}\": {error}")))
}
