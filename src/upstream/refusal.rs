//! Why a server refuses something, in its own words.
//!
//! A link may want a password, but it may as well be used up, not active yet, or open to signed-in
//! users only. A server that has something to say about it says so in the `message` or `error` of a
//! JSON answer. A storage server puts a word for it into the `<Code>` of an XML answer.

use std::io::Read;

use serde_json::Value;

use super::call_context;
use super::exchange::{self, Answer};
use super::fault::{Fault, Rejection};

/// Larger answers are not looked at, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;
/// Longer words are cut, in characters.
const MAX_WORDS: usize = 300;

/// Words that say no more than the status does; a single word never does.
const EMPTY_WORDS: [&str; 8] = [
    "access denied",
    "access forbidden",
    "authentication required",
    "not allowed",
    "not authorised",
    "not authorized",
    "permission denied",
    "unauthorized access",
];

/// The server's reason, fit to be shown. None if it gives none, or speaks of a password.
pub fn reason(answer: Answer) -> Option<String> {
    let mut body = Vec::new();
    let mut response = answer.response;
    let reader = call_context::Reading(response.body_mut().as_reader());
    reader.take(MAX_ANSWER).read_to_end(&mut body).ok()?;
    reason_in(&body)
}

/// The fault that an answer stands for which brings nothing, whoever was asked.
pub fn fault(answer: Answer) -> Fault {
    let status = answer.response.status();
    if let Some(fault) = exchange::transient_status(&answer.response, &answer.url) {
        answer.drain();
        return fault;
    }
    if status.is_client_error() {
        return Fault::Refused(Rejection {
            status: status.as_u16(),
            words: reason(answer),
        });
    }
    let host = answer.url.authority();
    answer.drain();
    Fault::Malformed(format!("{host} answered {status}"))
}

/// Whether the server's words say that a link will be good later.
pub fn says_not_yet(words: &str) -> bool {
    let words = words.to_lowercase();
    let signs = [
        "not yet",
        "not ready",
        "not active",
        "inactive",
        "has not finished",
        "not finished",
        "still uploading",
        "being uploaded",
        "in progress",
    ];
    // As in "not finalized yet".
    let denies_yet = words.split_once("not ").is_some_and(|(_, rest)| {
        rest.split(['.', ';'])
            .next()
            .is_some_and(|rest| rest.ends_with(" yet"))
    });
    denies_yet || signs.iter().any(|sign| words.contains(sign))
}

/// The `Code` of a storage server's answer, such as `AccessDenied` (S3) or `AuthenticationFailed`
/// (Azure).
fn storage_code(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("<Error>")?.1.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_word = (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric());
    is_word.then(|| code.to_owned())
}

fn reason_in(body: &[u8]) -> Option<String> {
    if let Some(code) = storage_code(body) {
        return Some(code);
    }
    let answer: Value = serde_json::from_slice(body).ok()?;
    let text = |value: &Value| value.as_str().map(displayable);
    let words = ["message", "error"].into_iter().find_map(|key| {
        let value = answer.get(key)?;
        text(value).or_else(|| text(value.get("message")?))
    })?;
    let small = words.to_lowercase();
    let small = small.trim_end_matches(['.', '!']);
    let of_password = ["password", "passphrase", "passcode"];
    let says_more = small.contains(' ')
        && !EMPTY_WORDS.contains(&small)
        && !of_password.iter().any(|word| small.contains(word));
    says_more.then_some(words)
}

/// Without what could hide or reorder text: control characters and those that set the direction of
/// writing.
fn displayable(text: &str) -> String {
    let hides = |c: char| {
        c.is_control()
            || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let spaced = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c });
    let kept: String = spaced.filter(|&c| !hides(c)).take(MAX_WORDS).collect();
    kept.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_will_be_good_later_is_told_from_one_that_was() {
        for words in [
            "Not yet active",
            "The package is not finalized yet.",
            "still uploading",
        ] {
            assert!(says_not_yet(words), "{words}");
        }
        for words in [
            "not found",
            "It is not the first yet another link has expired",
            "yet not here",
        ] {
            assert!(!says_not_yet(words), "{words}");
        }
    }

    #[test]
    fn the_servers_own_words_are_the_reason() {
        for (body, expected) in [
            (
                r#"{"message":"Download limit reached."}"#,
                Some("Download limit reached."),
            ),
            (r#"{"error":"link is inactive"}"#, Some("link is inactive")),
            (
                r#"{"error":{"code":"x","message":"sign in first"}}"#,
                Some("sign in first"),
            ),
            (r#"{"message":"a\u0000b\u202ec\nd"}"#, Some("abc d")),
            (r#"{"message":"This link needs a Password"}"#, None),
            (r#"{"message":"Forbidden"}"#, None),
            (r#"{"message":"Unauthorized."}"#, None),
            (r#"{"message":"Access denied!"}"#, None),
            (r#"{"message":""}"#, None),
            (r#"{"message":7}"#, None),
            ("[]", None),
            ("<html>", None),
            (
                "<?xml version=\"1.0\"?>\n<Error><Code>AccessDenied</Code><Message>x</Message></Error>",
                Some("AccessDenied"),
            ),
            ("<Error><Code>&lt;b&gt;</Code></Error>", None),
            ("<Error><Code></Code></Error>", None),
            ("<p><Code>Word</Code></p>", None),
        ] {
            assert_eq!(reason_in(body.as_bytes()).as_deref(), expected, "{body}");
        }
        let long = format!(r#"{{"message":"a {}"}}"#, "é".repeat(1000));
        assert_eq!(
            reason_in(long.as_bytes()).unwrap().chars().count(),
            MAX_WORDS
        );
    }
}
