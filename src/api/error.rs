//! The API's errors: their status, their code, and a message fit to be shown to a user.

use serde::Serialize;

use super::answer::Answer;
use crate::agent::Refusal;
use crate::model::link::LinkError;
use crate::model::state::State;

/// Every code with its status, as the API's description lists them.
pub const CODES: &[(u16, &str)] = &[
    (400, "invalid_json"),
    (400, "invalid_request"),
    (400, "invalid_link"),
    (400, "unsupported_link_host"),
    (400, "invalid_destination"),
    (400, "invalid_parameter"),
    (401, "unauthorized"),
    (403, "link_password_required"),
    (403, "link_password_wrong"),
    (403, "link_refused"),
    (403, "forbidden_host"),
    (403, "forbidden_origin"),
    (404, "download_not_found"),
    (404, "link_not_found"),
    (404, "not_found"),
    (405, "method_not_allowed"),
    (408, "request_timeout"),
    (409, "invalid_transition"),
    (409, "duplicate_download"),
    (410, "link_expired"),
    (413, "body_too_large"),
    (415, "unsupported_media_type"),
    (417, "expectation_failed"),
    (429, "too_many_attempts"),
    (431, "headers_too_large"),
    (500, "internal_error"),
    (501, "not_implemented"),
    (502, "upstream_unavailable"),
    (503, "shutting_down"),
    (503, "overloaded"),
    (505, "http_version_not_supported"),
    (507, "insufficient_storage"),
];

/// An answer of 4xx or 5xx. Whoever returns one has changed nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The HTTP status, 400 to 599.
    pub status: u16,
    /// The machine-readable name, as listed in the API's documentation.
    pub code: &'static str,
    /// What was wrong and what to do; never holds a secret or the caller's URL.
    pub message: String,
    /// The download that is in the way, for `duplicate_download`.
    pub download_id: Option<String>,
    /// The methods that would do, for `method_not_allowed`.
    pub allow: Option<String>,
    /// Seconds to wait, for `upstream_unavailable` and `too_many_attempts`.
    pub retry_after: Option<u64>,
}

impl ApiError {
    /// An error without any of the rarer parts; status and code are one of [`CODES`].
    pub fn new(status: u16, code: &'static str, message: impl Into<String>) -> ApiError {
        debug_assert!(CODES.contains(&(status, code)), "{status} {code}");
        ApiError {
            status,
            code,
            message: message.into(),
            download_id: None,
            allow: None,
            retry_after: None,
        }
    }

    /// 400 `invalid_request`: the request is understood by nobody as it stands.
    pub fn invalid_request(message: impl Into<String>) -> ApiError {
        ApiError::new(400, "invalid_request", message)
    }

    /// 400 `invalid_parameter`: something about the query.
    pub fn invalid_parameter(message: impl Into<String>) -> ApiError {
        ApiError::new(400, "invalid_parameter", message)
    }

    /// 404 `not_found`: no such path.
    pub fn not_found() -> ApiError {
        let message = "there is nothing at this path; GET /api/v1 lists the calls";
        ApiError::new(404, "not_found", message)
    }

    /// 405 `method_not_allowed`; `allow` names the methods that would do.
    pub fn method_not_allowed(allow: String) -> ApiError {
        let message = format!("this path does not take that method; it takes {allow}");
        ApiError {
            allow: Some(allow),
            ..ApiError::new(405, "method_not_allowed", message)
        }
    }

    /// 403 `forbidden_origin`.
    pub fn forbidden_origin() -> ApiError {
        let message = "haul does not take requests from web pages of other sites; \
                       use haul's own page, or a program that is no browser";
        ApiError::new(403, "forbidden_origin", message)
    }

    /// 429 `too_many_attempts`: a token that was not looked at.
    pub fn too_many_attempts() -> ApiError {
        let message = "too many wrong tokens came from your address: wait a minute, then send the \
                       right one, the first line of the agent's token file";
        ApiError {
            retry_after: Some(1),
            ..ApiError::new(429, "too_many_attempts", message)
        }
    }

    /// 415 `unsupported_media_type`.
    pub fn unsupported_media_type() -> ApiError {
        let message = "the body must be JSON: send it with Content-Type: application/json";
        ApiError::new(415, "unsupported_media_type", message)
    }

    /// 413 `body_too_large`; `limit` in bytes.
    pub fn body_too_large(limit: usize) -> ApiError {
        let message = format!(
            "the request's body is larger than {limit} bytes; send only the fields that this call \
             takes"
        );
        ApiError::new(413, "body_too_large", message)
    }

    /// 503 `overloaded`: the system gives no more.
    pub fn overloaded() -> ApiError {
        let message = "haul is out of descriptors, memory or threads; try again in a moment";
        ApiError::new(503, "overloaded", message)
    }

    /// 503 `overloaded`: as many watch as can.
    pub fn crowded() -> ApiError {
        let message = "as many event streams or long polls are open as there can be; close some, or ask without waiting";
        ApiError::new(503, "overloaded", message)
    }

    /// 503 `shutting_down`.
    pub fn shutting_down() -> ApiError {
        let message = "haul is shutting down; try again once it has been started again";
        ApiError::new(503, "shutting_down", message)
    }

    /// 500 `internal_error`: a fault in haul itself.
    pub fn internal() -> ApiError {
        let message = "haul made a mistake while answering; its log has more";
        ApiError::new(500, "internal_error", message)
    }

    /// The body in the API's error format.
    pub fn body(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Outer<'a> {
            error: Inner<'a>,
        }
        #[derive(Serialize)]
        struct Inner<'a> {
            code: &'a str,
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            download_id: Option<&'a str>,
        }
        let error = Inner {
            code: self.code,
            message: &self.message,
            download_id: self.download_id.as_deref(),
        };
        serde_json::to_vec(&Outer { error }).expect("strings can be written to memory")
    }
}

impl From<ApiError> for Answer {
    fn from(error: ApiError) -> Answer {
        let mut answer = Answer::json(error.status, error.body());
        if let Some(allow) = error.allow {
            answer.fields.push(("Allow", allow.into()));
        }
        if let Some(seconds) = error.retry_after {
            answer
                .fields
                .push(("Retry-After", seconds.to_string().into()));
        }
        if error.status == 401 {
            // RFC 9110, 11.6.1: a 401 names the scheme that is asked for.
            answer.fields.push(("WWW-Authenticate", "Bearer".into()));
        }
        answer
    }
}

impl From<LinkError> for ApiError {
    fn from(error: LinkError) -> ApiError {
        let code = match &error {
            LinkError::Invalid(_) => "invalid_link",
            LinkError::UnsupportedHost(_) => "unsupported_link_host",
        };
        ApiError::new(400, code, error.to_string())
    }
}

/// What to say of a link that is refused in the server's own words.
fn refused_link(reason: &str) -> String {
    format!("the server refuses the link: {reason}; ask the sender, or try again later")
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        let new = |status, code, message: &str| ApiError::new(status, code, message);
        match refusal {
            Refusal::Impossible(why) => ApiError::invalid_request(why),
            Refusal::UpstreamUnavailable {
                message,
                retry_after,
            } => ApiError {
                retry_after: retry_after.map(|wait| wait.as_millis().div_ceil(1000) as u64),
                ..new(
                    502,
                    "upstream_unavailable",
                    &format!("the link cannot be looked into now: {message}; try again later"),
                )
            },
            Refusal::InvalidDestination(why) => new(400, "invalid_destination", &why),
            Refusal::LinkPasswordRequired => new(
                403,
                "link_password_required",
                "this link needs a password; send it as \"password\"",
            ),
            Refusal::LinkPasswordWrong => new(
                403,
                "link_password_wrong",
                "the link's password is wrong; ask the sender for the right one",
            ),
            Refusal::LinkRefused(reason) => new(403, "link_refused", &refused_link(&reason)),
            Refusal::LinkNotFound => new(
                404,
                "link_not_found",
                "there is no package behind this link; check that it was copied whole",
            ),
            Refusal::LinkExpired => new(
                410,
                "link_expired",
                "this link has expired or was deleted; ask the sender for a new one",
            ),
            Refusal::DownloadNotFound => new(
                404,
                "download_not_found",
                "there is no download with this identifier; GET /api/v1/downloads lists them",
            ),
            Refusal::InvalidTransition { state, action } => new(
                409,
                "invalid_transition",
                &format!(
                    "a download in state \"{state}\" cannot be {action}; {}",
                    instead(state)
                ),
            ),
            Refusal::Duplicate { download_id } => ApiError {
                message: format!(
                    "this link is going into this folder already, as download {download_id}; \
                     let that one end or delete it first, or choose another folder"
                ),
                download_id: Some(download_id),
                ..new(409, "duplicate_download", "")
            },
            Refusal::ShuttingDown => ApiError::shutting_down(),
            Refusal::StateUnwritable(why) => new(507, "insufficient_storage", &why),
        }
    }
}

/// What can be done where a download in this state can be neither paused nor resumed.
fn instead(state: State) -> &'static str {
    match state {
        State::Complete => "it is whole; to fetch it once more, add its link again",
        State::Error => "nothing of it moves; resume or delete it",
        State::Transferring | State::Paused => "look at it again, and repeat the call if need be",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_row_in_the_table() {
        let transition = Refusal::InvalidTransition {
            state: State::Complete,
            action: "paused",
        };
        let duplicate = Refusal::Duplicate {
            download_id: "01A".into(),
        };
        let rows = [
            (
                Refusal::InvalidDestination("x".into()),
                400,
                "invalid_destination",
            ),
            (Refusal::LinkPasswordRequired, 403, "link_password_required"),
            (Refusal::LinkPasswordWrong, 403, "link_password_wrong"),
            (Refusal::LinkRefused("x".into()), 403, "link_refused"),
            (Refusal::LinkNotFound, 404, "link_not_found"),
            (Refusal::LinkExpired, 410, "link_expired"),
            (Refusal::DownloadNotFound, 404, "download_not_found"),
            (transition, 409, "invalid_transition"),
            (duplicate, 409, "duplicate_download"),
            (Refusal::ShuttingDown, 503, "shutting_down"),
            (
                Refusal::StateUnwritable("x".into()),
                507,
                "insufficient_storage",
            ),
        ];
        for (refusal, status, code) in rows {
            let error = ApiError::from(refusal);
            assert_eq!((error.status, error.code), (status, code));
            assert!(!error.message.is_empty(), "{code}");
        }
    }

    #[test]
    fn what_is_refused_comes_with_advice() {
        let transition = |state, action| Refusal::InvalidTransition { state, action }.into();
        let duplicate = Refusal::Duplicate {
            download_id: "01A".into(),
        };
        let cases: [(ApiError, &str); 5] = [
            (transition(State::Complete, "paused"), "add its link again"),
            (transition(State::Error, "paused"), "resume or delete"),
            (duplicate.into(), "delete it first"),
            (ApiError::body_too_large(7), "send only"),
            (ApiError::forbidden_origin(), "haul's own page"),
        ];
        for (error, advice) in cases {
            assert!(error.message.contains(advice), "{}", error.message);
        }
    }

    #[test]
    fn a_duplicate_names_the_download_in_the_way() {
        let refusal = Refusal::Duplicate {
            download_id: "01A".into(),
        };
        let body: serde_json::Value =
            serde_json::from_slice(&ApiError::from(refusal).body()).unwrap();
        assert_eq!(body["error"]["download_id"], "01A");
        let body: serde_json::Value =
            serde_json::from_slice(&ApiError::not_found().body()).unwrap();
        assert!(body["error"].get("download_id").is_none());
    }
}
