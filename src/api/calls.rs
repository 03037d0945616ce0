//! From a request to the call it means: path, method, query, content type, JSON, in this order.

use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::error::ApiError;
use super::routes::{self, Endpoint};
use super::{fields, listing, options, settings};
use crate::agent::Which;
use crate::base::secret::Secret;
use crate::base::suggest;
use crate::model::request::{IfExists, RequestOptions};
use crate::model::settings::SettingsOverrides;
use crate::model::state::State;

/// Seconds that a long poll can ask for at the most.
const MAX_WAIT: u64 = 60;

/// One call of the API, with everything that the request says about it.
#[derive(Debug)]
pub enum Call {
    /// The page for people.
    Page,
    Metrics,
    /// The list of calls.
    Index,
    Health,
    OpenApi,
    /// The stream of events, after the one with this number where it is known.
    Events {
        after: Option<u64>,
    },
    /// The summaries of downloads.
    List(listing::Downloads),
    /// One download, at once or once its state has changed.
    Details {
        id: String,
        /// Seconds to wait for a change, 0 to [`MAX_WAIT`].
        wait: u64,
        files: listing::Files,
    },
    Create(NewDownload),
    Pause(String),
    Resume(String),
    Verify(String),
    /// Pause (`to` is `Paused`) or resume (`Transferring`) every download in one of these states.
    ChangeAll {
        from: Vec<State>,
        to: State,
    },
    Delete {
        which: Which,
        remove_files: bool,
    },
    Settings,
    ChangeSettings(SettingsOverrides),
    SetPriority {
        id: String,
        /// From -1000 to 1000.
        priority: i32,
    },
    Inspect {
        /// Holds the link's secret.
        url: Secret,
        password: Option<Secret>,
    },
}

/// The fields of a POST to /downloads, their types checked and nothing else.
#[derive(Debug)]
pub struct NewDownload {
    /// Holds the link's secret.
    pub url: Secret,
    pub dst_folder: String,
    pub password: Option<Secret>,
    pub if_exists: IfExists,
    pub options: RequestOptions,
}

/// A request as far as its call depends on it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub method: &'a str,
    /// Path and query, percent-encoded.
    pub target: &'a str,
    /// The same as it was asked for, the base path included.
    pub whole_target: &'a str,
    pub content_type: Option<&'a str>,
    pub last_event_id: Option<&'a str>,
    pub body: &'a [u8],
}

/// Reads the call out of a request.
///
/// # Errors
/// `not_found`, `method_not_allowed`, `invalid_parameter`, `unsupported_media_type`,
/// `invalid_json`, `invalid_request`.
pub fn read(asked: Asked<'_>) -> Result<Call, ApiError> {
    let (path, query) = match asked.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (asked.target, None),
    };
    let routes::Found { route, download_id } = routes::find(asked.method, path)?;
    let query = Query::read(query, route.query)?;
    let delete = |which| {
        // Of whatever type: 415 is for those that send something.
        no_fields(asked.body)?;
        let remove_files = query.remove_files.unwrap_or(false);
        Ok(Call::Delete {
            which,
            remove_files,
        })
    };
    match route.endpoint {
        Endpoint::Page => Ok(Call::Page),
        Endpoint::Metrics => Ok(Call::Metrics),
        Endpoint::Index => Ok(Call::Index),
        Endpoint::Health => Ok(Call::Health),
        Endpoint::OpenApi => Ok(Call::OpenApi),
        Endpoint::Events => Ok(Call::Events {
            // What is no number of ours is not remembered: the stream begins anew.
            after: asked.last_event_id.and_then(|id| id.parse().ok()),
        }),
        Endpoint::Create => create(asked).map(Call::Create),
        Endpoint::List => Ok(Call::List(listing::Downloads {
            states: query.states,
            target: listing::without(asked.whole_target, "after"),
            ..query.downloads
        })),
        Endpoint::DeleteMany => delete(Which::States(query.states.unwrap_or(State::ALL.to_vec()))),
        Endpoint::Details => Ok(Call::Details {
            id: download_id,
            wait: query.wait.unwrap_or(0),
            files: listing::Files {
                hidden: query.files == Some(false),
                target: listing::without(asked.whole_target, "files_after"),
                ..query.chosen_files
            },
        }),
        Endpoint::DeleteOne => delete(Which::One(download_id)),
        Endpoint::Pause => no_body(asked).map(|()| Call::Pause(download_id)),
        Endpoint::Resume => no_body(asked).map(|()| Call::Resume(download_id)),
        Endpoint::Verify => no_body(asked).map(|()| Call::Verify(download_id)),
        Endpoint::PauseMany => {
            change_all(asked, query.states, &[State::Transferring], State::Paused)
        }
        Endpoint::ResumeMany => {
            change_all(asked, query.states, &[State::Paused], State::Transferring)
        }
        Endpoint::Change => change(asked).map(|priority| Call::SetPriority {
            id: download_id,
            priority,
        }),
        Endpoint::Inspect => inspect(asked),
        Endpoint::Settings => Ok(Call::Settings),
        Endpoint::ChangeSettings => json_body(asked)
            .and_then(settings::read)
            .map(Call::ChangeSettings),
    }
}

/// Pauses or resumes those in the states that were said, else in `usual`.
fn change_all(
    asked: Asked<'_>,
    states: Option<Vec<State>>,
    usual: &[State],
    to: State,
) -> Result<Call, ApiError> {
    no_body(asked)?;
    let from = states.unwrap_or_else(|| usual.to_vec());
    Ok(Call::ChangeAll { from, to })
}

#[derive(Default)]
struct Query {
    states: Option<Vec<State>>,
    remove_files: Option<bool>,
    wait: Option<u64>,
    downloads: listing::Downloads,
    files: Option<bool>,
    chosen_files: listing::Files,
}

impl Query {
    /// Reads the parameters; whatever is not understood whole is refused, since guessing
    /// wrong on a DELETE cannot be undone.
    fn read(query: Option<&str>, known: &[&str]) -> Result<Query, ApiError> {
        let mut read = Query::default();
        let Some(query) = query.filter(|query| !query.is_empty()) else {
            return Ok(read);
        };
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = percent_decode_str(name).decode_utf8_lossy();
            let value = percent_decode_str(value).decode_utf8_lossy();
            if !known.contains(&name.as_ref()) {
                return Err(ApiError::invalid_parameter(match known {
                    [] => format!(
                        "this call takes no query parameters, and so no {}",
                        suggest::shown(&name)
                    ),
                    _ => format!(
                        "there is no query parameter {}; {}this call takes {}",
                        suggest::shown(&name),
                        fields::meant(&name, known),
                        known.join(" and ")
                    ),
                }));
            }
            let again = match name.as_ref() {
                "states" => read.states.replace(states(&value)?).is_some(),
                "wait" => read.wait.replace(seconds(&value)?).is_some(),
                "remove_files" => read.remove_files.replace(boolean(&name, &value)?).is_some(),
                "files" => read.files.replace(boolean(&name, &value)?).is_some(),
                _ => read.choice(&name, &value)?,
            };
            if again {
                return Err(ApiError::invalid_parameter(format!(
                    "the query parameter {name} is there twice"
                )));
            }
        }
        Ok(read)
    }
}

impl Query {
    /// Reads a parameter that chooses a part of a list; whether it was there before.
    fn choice(&mut self, name: &str, value: &str) -> Result<bool, ApiError> {
        let (list, files) = (&mut self.downloads, &mut self.chosen_files);
        Ok(match name {
            "limit" => list.limit.replace(listing::limit(name, value)?).is_some(),
            "after" => list.after.replace(listing::download_id(value)?).is_some(),
            "fields" => list.fields.replace(listing::fields(value)?).is_some(),
            "files_limit" => files.limit.replace(listing::limit(name, value)?).is_some(),
            "files_after" => files.after.replace(value.to_owned()).is_some(),
            "file_states" => files.states.replace(listing::file_states(value)?).is_some(),
            // The last one of the table; a test asks for each.
            _ => files.pattern.replace(listing::pattern(value)?).is_some(),
        })
    }
}

fn states(value: &str) -> Result<Vec<State>, ApiError> {
    let mut states = Vec::new();
    for name in value.split(',') {
        let known = State::ALL.map(State::name);
        let state =
            State::from_name(name).ok_or_else(|| listing::no_such(name, "states", &known))?;
        if !states.contains(&state) {
            states.push(state);
        }
    }
    Ok(states)
}

fn boolean(name: &str, value: &str) -> Result<bool, ApiError> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(ApiError::invalid_parameter(format!(
            "{name} must be true or false"
        ))),
    }
}

fn seconds(value: &str) -> Result<u64, ApiError> {
    Some(value)
        .filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|value| value.parse().ok())
        .filter(|&seconds| seconds <= MAX_WAIT)
        .ok_or_else(|| {
            ApiError::invalid_parameter(format!(
                "wait must be a whole number of seconds, 0 to {MAX_WAIT}"
            ))
        })
}

/// Whether the content type is JSON; parameters such as a charset do not matter.
fn is_json(content_type: Option<&str>) -> bool {
    content_type
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"))
}

/// For calls that take no body: an empty one will do, and so will `{}`.
fn no_body(asked: Asked<'_>) -> Result<(), ApiError> {
    if asked.body.is_empty() {
        return Ok(());
    }
    if !is_json(asked.content_type) {
        return Err(ApiError::unsupported_media_type());
    }
    no_fields(asked.body)
}

fn no_fields(body: &[u8]) -> Result<(), ApiError> {
    if body.is_empty() {
        return Ok(());
    }
    match fields::read(body)?.first() {
        None => Ok(()),
        Some((name, _)) => Err(ApiError::invalid_request(format!(
            "this call takes no fields, and so no {}: leave the body empty",
            suggest::shown(name)
        ))),
    }
}

/// For calls that take one.
fn json_body(asked: Asked<'_>) -> Result<&[u8], ApiError> {
    // Without a body there is nothing whose type could be wrong.
    let untyped = asked.body.is_empty() && asked.content_type.is_none();
    if !is_json(asked.content_type) && !untyped {
        return Err(ApiError::unsupported_media_type());
    }
    Ok(asked.body)
}

fn create(asked: Asked<'_>) -> Result<NewDownload, ApiError> {
    let (mut url, mut dst_folder, mut password) = (None, None, None);
    let mut if_exists = IfExists::default();
    let mut options = RequestOptions::default();
    for (name, value) in fields::read(json_body(asked)?)? {
        match (name.as_str(), value) {
            ("url", Value::String(text)) => url = Some(Secret::new(text)),
            ("dst_folder", Value::String(text)) => dst_folder = Some(text),
            ("password" | "if_exists", Value::Null) => {}
            ("password", Value::String(text)) => password = checked_password(text)?,
            ("if_exists", Value::String(text)) => if_exists = policy(&text)?,
            ("url" | "dst_folder" | "password" | "if_exists", _) => {
                return Err(ApiError::invalid_request(format!(
                    "\"{name}\" must be a string"
                )));
            }
            (_, value) => {
                if !options::take(&mut options, &name, value)? {
                    let known = ["url", "dst_folder", "password", "if_exists"];
                    let known: Vec<&str> = known.into_iter().chain(options::NAMES).collect();
                    return Err(fields::unknown(&name, &known, "a download takes"));
                }
            }
        }
    }
    options::check(&options)?;
    let missing = |name| ApiError::invalid_request(format!("the field \"{name}\" is missing"));
    Ok(NewDownload {
        url: url.ok_or_else(|| missing("url"))?,
        dst_folder: dst_folder.ok_or_else(|| missing("dst_folder"))?,
        password,
        if_exists,
        options,
    })
}

/// The priority that a PATCH sets.
fn change(asked: Asked<'_>) -> Result<i32, ApiError> {
    let mut priority = None;
    for (name, value) in fields::read(json_body(asked)?)? {
        match name.as_str() {
            "priority" => priority = Some(options::priority(&value)?),
            _ => {
                return Err(fields::unknown(
                    &name,
                    &["priority"],
                    "what can be changed is",
                ));
            }
        }
    }
    priority.ok_or_else(|| ApiError::invalid_request("the field \"priority\" is missing"))
}

fn inspect(asked: Asked<'_>) -> Result<Call, ApiError> {
    let (mut url, mut password) = (None, None);
    for (name, value) in fields::read(json_body(asked)?)? {
        match (name.as_str(), value) {
            ("url", Value::String(text)) => url = Some(Secret::new(text)),
            ("password", Value::Null) => {}
            ("password", Value::String(text)) => password = checked_password(text)?,
            ("url" | "password", _) => {
                return Err(ApiError::invalid_request(format!(
                    "\"{name}\" must be a string"
                )));
            }
            _ => {
                return Err(fields::unknown(
                    &name,
                    &["url", "password"],
                    "to look into a package takes",
                ));
            }
        }
    }
    let url = url.ok_or_else(|| ApiError::invalid_request("the field \"url\" is missing"))?;
    Ok(Call::Inspect { url, password })
}

/// An empty password is none, as from a form that was not filled in. It travels in a header
/// field, which control characters cannot.
fn checked_password(text: String) -> Result<Option<Secret>, ApiError> {
    if text.chars().any(char::is_control) {
        return Err(ApiError::invalid_request(
            "\"password\" must not contain control characters",
        ));
    }
    Ok(Some(text).filter(|text| !text.is_empty()).map(Secret::new))
}

fn policy(text: &str) -> Result<IfExists, ApiError> {
    match text {
        "rename" => Ok(IfExists::Rename),
        "overwrite" => Ok(IfExists::Overwrite),
        "skip" => Ok(IfExists::Skip),
        _ => Err(ApiError::invalid_request(
            "\"if_exists\" must be rename, overwrite or skip",
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::base::test_strategies;

    const BODIES: &[&str] = &[
        "",
        r#"{"url":"https://get.massive.app/A?secret=b","dst_folder":"/in"}"#,
        r#"{"url":"https://get.massive.app/A?secret=b","dst_folder":"/in","password":"\u00e9","if_exists":"overwrite"}"#,
    ];
    const TARGETS: &[&str] = &[
        "/api/v1/downloads",
        "/api/v1/downloads?states=complete%2Cerror&remove_files=true",
        "/api/v1/downloads/01M84KQ5TV97SDPX23N95RP0H1/pause",
        "/api/v1/downloads/01M84KQ5TV97SDPX23N95RP0H1?remove_files=false",
        "/",
    ];

    proptest! {
        #[test]
        fn hostile_requests_are_read_or_refused(
            target in test_strategies::near(TARGETS),
            body in test_strategies::near(BODIES),
            method in select(vec!["GET", "HEAD", "POST", "DELETE", "PUT", ""]),
            typed: bool,
        ) {
            let target = String::from_utf8_lossy(&target);
            let asked = Asked {
                last_event_id: None,
                method,
                target: &target,
                whole_target: &target,
                content_type: typed.then_some("application/json"),
                body: &body,
            };
            // A DELETE of everything is never read into what says something else.
            if let Ok(Call::Delete { which: Which::States(states), .. }) = read(asked)
                && states.len() == State::ALL.len()
            {
                let query = target.split_once('?').map_or("", |(_, query)| query);
                let all = ["transferring", "paused", "complete", "error"];
                let decoded = percent_decode_str(query).decode_utf8_lossy().into_owned();
                prop_assert!(!query.contains("states") || all.iter().all(|state| decoded.contains(state)), "{target}");
            }
        }
    }
}
