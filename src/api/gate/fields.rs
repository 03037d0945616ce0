//! The header fields of a request, as far as they matter.

use super::chunked::is_text;
use super::head::{Framing, malformed};
use crate::api::error::ApiError;

/// The fields that matter, here or behind the gate; all others are left out.
#[derive(Default)]
pub struct Fields<'a> {
    pub host: Option<&'a [u8]>,
    origin: Option<&'a [u8]>,
    authorization: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    last_event_id: Option<&'a [u8]>,
    /// A list, which may be on several lines.
    accept_encoding: Vec<&'a [u8]>,
    length: Option<u64>,
    transfer_coding: Option<&'a [u8]>,
    pub keep_alive: Option<bool>,
    pub expects_continue: bool,
}

impl<'a> Fields<'a> {
    /// Takes in one line.
    ///
    /// # Errors
    /// 400 for a malformed line, 417 for an unknown expectation.
    pub fn read(&mut self, line: &'a [u8]) -> Result<(), ApiError> {
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            return Err(malformed("a header line is folded"));
        }
        let colon = line
            .iter()
            .position(|&byte| byte == b':')
            .ok_or_else(|| malformed("a header line has no colon"))?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
            return Err(malformed(
                "a header field's name has a character that none has",
            ));
        }
        if !value.iter().all(|&byte| is_text(byte)) {
            return Err(malformed("a header field has a control character"));
        }
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        if is("host") {
            once(&mut self.host, value)
        } else if is("origin") {
            once(&mut self.origin, value)
        } else if is("authorization") {
            once(&mut self.authorization, value)
        } else if is("content-type") {
            once(&mut self.content_type, value)
        } else if is("last-event-id") {
            once(&mut self.last_event_id, value)
        } else if is("accept-encoding") {
            self.accept_encoding.push(value);
            Ok(())
        } else if is("transfer-encoding") {
            once(&mut self.transfer_coding, value)
        } else if is("content-length") {
            self.read_length(value)
        } else if is("connection") {
            self.read_connection(value);
            Ok(())
        } else if is("expect") {
            self.read_expect(value)
        } else {
            Ok(())
        }
    }

    fn read_length(&mut self, value: &[u8]) -> Result<(), ApiError> {
        for one in value.split(|&byte| byte == b',') {
            let one = one.trim_ascii();
            if one.is_empty() || !one.iter().all(u8::is_ascii_digit) {
                return Err(malformed("its Content-Length is no number"));
            }
            let length = one.iter().fold(0_u64, |sum, digit| {
                sum.saturating_mul(10)
                    .saturating_add(u64::from(digit - b'0'))
            });
            if self
                .length
                .replace(length)
                .is_some_and(|other| other != length)
            {
                return Err(malformed("it has two different Content-Lengths"));
            }
        }
        Ok(())
    }

    fn read_connection(&mut self, value: &[u8]) {
        for option in value.split(|&byte| byte == b',') {
            let option = option.trim_ascii();
            if option.eq_ignore_ascii_case(b"close") {
                self.keep_alive = Some(false);
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive.get_or_insert(true);
            }
        }
    }

    fn read_expect(&mut self, value: &[u8]) -> Result<(), ApiError> {
        if !value.eq_ignore_ascii_case(b"100-continue") {
            let message = "haul knows no expectation but 100-continue";
            return Err(ApiError::new(417, "expectation_failed", message));
        }
        self.expects_continue = true;
        Ok(())
    }

    /// How the body is framed, all fields considered; `modern` is HTTP/1.1.
    ///
    /// # Errors
    /// 400 for a framing that two readers could see differently, 501 for an unknown coding.
    pub fn framing(&self, modern: bool) -> Result<Framing, ApiError> {
        match (self.transfer_coding, self.length) {
            (None, length) => Ok(Framing::Length(length.unwrap_or(0))),
            (Some(_), Some(_)) => Err(malformed("it has a length and a transfer coding")),
            (Some(_), None) if !modern => Err(malformed("HTTP/1.0 has no transfer codings")),
            (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
            (Some(_), None) => {
                let message = "haul knows no transfer coding but chunked";
                Err(ApiError::new(501, "not_implemented", message))
            }
        }
    }

    /// Appends the fields that the API looks at.
    ///
    /// # Errors
    /// 400 where one is not ASCII.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), ApiError> {
        let accepted = self.accept_encoding.join(&b", "[..]);
        let accepted = Some(&accepted[..]).filter(|list| !list.is_empty() && list.is_ascii());
        for (name, value) in [
            ("Accept-Encoding: ", accepted),
            ("Host: ", self.host),
            ("Origin: ", self.origin),
            ("Authorization: ", self.authorization),
            ("Content-Type: ", self.content_type),
            ("Last-Event-ID: ", self.last_event_id),
        ] {
            let Some(value) = value else { continue };
            if !value.is_ascii() {
                return Err(malformed("a header field is not ASCII"));
            }
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(value);
            out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }
}

fn once<'a>(field: &mut Option<&'a [u8]>, value: &'a [u8]) -> Result<(), ApiError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(malformed("a header field is there twice")),
    }
}

/// Whether a method's or a field's name can have this character (RFC 9110, 5.6.2).
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
