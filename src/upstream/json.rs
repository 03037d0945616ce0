//! JSON answers: small ones as a whole, strings of any make, and faults that do not repeat what was
//! sent.

use std::borrow::Cow;
use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Visitor};
use serde_json::error::Category;
use ureq::http::Response;
use ureq::{Body, Error};

use super::exchange::{self, Answer};
use super::fault::{self, Fault};
use super::{call_context, web_page};

/// Larger answers are refused, in bytes.
const MAX_ANSWER: u64 = 1024 * 1024;

/// A string. Half of a surrogate pair, which some systems' file names have and serde refuses, and
/// bytes that are no UTF-8 become U+FFFD: a name that cannot be kept is mended, not a reason to
/// refuse a package.
#[derive(Debug)]
pub struct Text(pub String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text, D::Error> {
        struct TextVisitor;
        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Text, E> {
                Ok(Text(text.to_owned()))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Text, E> {
                Ok(Text(match String::from_utf8_lossy(bytes) {
                    Cow::Borrowed(text) => text.to_owned(),
                    Cow::Owned(text) => text,
                }))
            }
        }
        // serde_json gives strings as bytes unchecked.
        deserializer.deserialize_bytes(TextVisitor)
    }
}

/// Reads a small answer, an object; `what` names it for the user.
///
/// # Errors
/// Transient if the body was cut short, malformed where it is not what it should be.
pub fn object<T: DeserializeOwned>(answer: Answer, what: &str) -> Result<T, Fault> {
    let Answer {
        mut response, url, ..
    } = answer;
    refuse_encoded(&response, what)?;
    let mut body = Vec::new();
    let declared = exchange::declared_length(&response);
    let mut reader = call_context::Reading(response.body_mut().as_reader());
    let most = declared.unwrap_or(u64::MAX).min(MAX_ANSWER + 1);
    let read = reader.by_ref().take(most).read_to_end(&mut body);
    // ureq gives the connection back in the read after the last byte.
    let read = read.and_then(|_| {
        let whole = declared == Some(body.len() as u64);
        call_context::context(|context| context.whole = whole);
        reader.read(&mut [0; 1])
    });
    call_context::context(|context| context.whole = false);
    if let Err(error) = read {
        return Err(fault::from_ureq(Error::from(error), &url));
    }
    if body.len() as u64 > MAX_ANSWER {
        return Err(Fault::Malformed(format!("{what} is larger than 1 MiB")));
    }
    if web_page::begins(&body)
        || (web_page::is_declared(response.headers()) && !body.trim_ascii_start().starts_with(b"{"))
    {
        return Err(web_page::fault(&url.authority()));
    }
    // serde would take an array for a struct.
    if body
        .trim_ascii_start()
        .first()
        .is_some_and(|&first| first != b'{')
    {
        return Err(Fault::Malformed(format!("{what} is not a JSON object")));
    }
    serde_json::from_slice(&body).map_err(|error| self::fault(&error, what))
}

/// # Errors
/// Malformed if the body is compressed, which nothing here asks for.
pub fn refuse_encoded(response: &Response<Body>, what: &str) -> Result<(), Fault> {
    match exchange::encoding(response.headers()) {
        Some(encoding) => Err(Fault::Malformed(format!(
            "{what} is encoded ({encoding}), although the server was asked not to"
        ))),
        None => Ok(()),
    }
}

/// What an error of serde stands for: a body that may have been cut short can be whole the next
/// time.
pub fn fault(error: &serde_json::Error, what: &str) -> Fault {
    match error.classify() {
        Category::Eof => Fault::transient(format!("{what} was cut short")),
        Category::Syntax | Category::Io => Fault::Malformed(format!(
            "{what} is not JSON (line {}, column {})",
            error.line(),
            error.column()
        )),
        Category::Data => Fault::Malformed(format!(
            "{what} is not as the protocol says (line {}, column {})",
            error.line(),
            error.column()
        )),
    }
}
