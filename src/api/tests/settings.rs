//! Reading and changing the settings.

use super::*;
use crate::model::settings::SettingsOverrides;

const SETTINGS: &str = "/api/v1/settings";

fn put(api: &Api, body: &str) -> Reply {
    let fields = "Content-Type: application/json\r\n";
    api.client().ask("PUT", SETTINGS, fields, Some(body))
}

#[test]
fn all_of_them_are_shown() {
    let reply = Api::start().ask("GET", SETTINGS);
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.json(),
        serde_json::json!({"rate_limit": null, "workers": 16, "schedule": [],
            "effective_rate_limit": null})
    );
}

#[test]
fn a_part_is_changed_and_all_are_answered() {
    let api = Api::start();
    let reply = put(&api, r#"{"rate_limit":1000}"#);
    assert_eq!(
        (reply.status, reply.json()["rate_limit"].as_u64()),
        (200, Some(1000))
    );
    let window = r#"{"days":["mon","thu"],"from":"00:00","to":"24:00","rate_limit":7}"#;
    let reply = put(&api, &format!(r#"{{"workers":3,"schedule":[{window}]}}"#));
    let json = reply.json();
    assert_eq!(json["rate_limit"], 1000);
    assert_eq!(json["workers"], 3);
    assert_eq!(json["schedule"][0]["utc_offset"], "+00:00");
    // The agent of these tests lives on Thursday, 1970-01-01.
    assert_eq!(json["effective_rate_limit"], 7);
    assert_eq!(put(&api, "{}").json(), json);
    assert_eq!(api.ask("GET", SETTINGS).json(), json);
    let reply = put(&api, r#"{"rate_limit":0,"schedule":[]}"#);
    assert!(reply.json()["effective_rate_limit"].is_null());
}

#[test]
fn what_is_not_understood_changes_nothing_and_is_named() {
    let api = Api::start();
    for (body, code, hint) in [
        ("", "invalid_json", "empty"),
        ("{", "invalid_json", "line 1"),
        ("[]", "invalid_request", "object"),
        (r#"{"rate":1}"#, "invalid_request", "rate_limit, workers"),
        (
            r#"{"effective_rate_limit":1}"#,
            "invalid_request",
            "rate_limit",
        ),
        (r#"{"rate_limit":"10X"}"#, "invalid_request", "rate_limit"),
        (r#"{"rate_limit":-1}"#, "invalid_request", "rate_limit"),
        (r#"{"rate_limit":true}"#, "invalid_request", "rate_limit"),
        (r#"{"workers":0}"#, "invalid_request", "1 to 256"),
        (r#"{"workers":257}"#, "invalid_request", "1 to 256"),
        (r#"{"workers":null}"#, "invalid_request", "workers"),
        (r#"{"schedule":{}}"#, "invalid_request", "schedule"),
        (
            r#"{"schedule":[{"days":["mon"]}]}"#,
            "invalid_request",
            "from",
        ),
        (
            r#"{"workers":2,"rate_limit":"x"}"#,
            "invalid_request",
            "rate_limit",
        ),
        (r#"{"workers":2,"workers":3}"#, "invalid_request", "twice"),
    ] {
        let reply = put(&api, body);
        assert_eq!(reply.error(), (400, code.into()), "{body}");
        let message = reply.json()["error"]["message"].to_string();
        assert!(message.contains(hint), "{body}: {message}");
    }
    assert_eq!(
        *api.agent.said.lock().unwrap(),
        SettingsOverrides::default()
    );
}

#[test]
fn the_body_must_be_json_and_the_method_one_of_two() {
    let api = Api::start();
    let reply = api
        .client()
        .ask("PUT", SETTINGS, "Content-Type: text/plain\r\n", Some("{}"));
    assert_eq!(reply.error(), (415, "unsupported_media_type".into()));
    for method in ["POST", "DELETE", "PATCH"] {
        let reply = api.ask(method, SETTINGS);
        assert_eq!(reply.error(), (405, "method_not_allowed".into()));
        assert_eq!(reply.field("Allow"), Some("GET, HEAD, PUT"));
    }
    let reply = api.ask("GET", "/api/v1/settings?x=1");
    assert_eq!(reply.error(), (400, "invalid_parameter".into()));
}

#[test]
fn settings_that_cannot_be_saved_are_refused() {
    let api = Api::start();
    api.agent
        .refuse(crate::agent::Refusal::StateUnwritable("full".into()));
    let reply = put(&api, r#"{"workers":2}"#);
    assert_eq!(reply.error(), (507, "insufficient_storage".into()));
}
