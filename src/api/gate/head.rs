//! A request's head: found, checked strictly, and written anew for the server behind the gate.
//!
//! Whatever two readers could take for two different requests is refused (RFC 9112, 11.2):
//! bare line ends, folded lines, spaces before a colon, two lengths, a length beside chunks.

use super::fields::{Fields, is_token};
use crate::api::error::ApiError;

/// Header fields of one request.
const MAX_FIELDS: usize = 100;

/// How a request's body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Bytes; 0 if there is no body.
    Length(u64),
    Chunked,
}

/// What the gate needs to know of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// HTTP/1.1 or later; else 1.0.
    pub modern: bool,
    /// Whether the client wants the connection to go on.
    pub keep_alive: bool,
    /// Whether the answer has no body, as with HEAD.
    pub head_only: bool,
    /// Whether the client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    pub framing: Framing,
}

/// Looks for a head's end, from where it left off.
#[derive(Debug, Default)]
pub struct Scan {
    looked_at: usize,
    line_start: usize,
}

impl Scan {
    /// Whether it has not seen anything yet.
    pub fn is_new(&self) -> bool {
        self.looked_at == 0
    }

    /// The length of the head that `data` begins with, its empty line included; None while it
    /// is not all there. `data` is what it was before, and more.
    ///
    /// # Errors
    /// A line feed without a carriage return before it.
    pub fn end(&mut self, data: &[u8]) -> Result<Option<usize>, ApiError> {
        while let Some(found) = data[self.looked_at..]
            .iter()
            .position(|&byte| byte == b'\n')
        {
            let line_end = self.looked_at + found;
            if line_end == self.line_start || data[line_end - 1] != b'\r' {
                return Err(malformed("a line does not end in CR LF"));
            }
            let empty = line_end - self.line_start == 1;
            self.looked_at = line_end + 1;
            self.line_start = self.looked_at;
            if empty {
                return Ok(Some(self.looked_at));
            }
        }
        self.looked_at = data.len();
        Ok(None)
    }
}

/// 400 for what is no HTTP request.
pub fn malformed(what: &str) -> ApiError {
    ApiError::invalid_request(format!("this is not a proper HTTP request: {what}"))
}

/// Reads a whole head, and appends to `out` the one to pass on: the request line and the
/// fields that the API looks at, each once. Length and empty line are still to follow.
///
/// # Errors
/// 400 for what is malformed; 417, 431, 501, 505 for what is not served.
pub fn parse(head: &[u8], out: &mut Vec<u8>) -> Result<Head, ApiError> {
    let mut lines = head
        .strip_suffix(b"\r\n\r\n")
        .ok_or_else(|| malformed("its head has no end"))?
        .split(|&byte| byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let request = lines.next().unwrap_or_default();
    let line = RequestLine::parse(request)?;
    let mut fields = Fields::default();
    for (at, line) in lines.enumerate() {
        if at == MAX_FIELDS {
            return Err(head_too_large());
        }
        fields.read(line)?;
    }
    if line.modern && fields.host.is_none() && line.authority.is_none() {
        return Err(malformed("it has no Host"));
    }
    // RFC 9112, 3.2.2: an absolute target's authority stands for the Host.
    fields.host = line.authority.or(fields.host);
    line.write(out);
    fields.write(out)?;
    Ok(Head {
        modern: line.modern,
        keep_alive: fields.keep_alive.unwrap_or(line.modern),
        head_only: line.method == b"HEAD",
        expects_continue: fields.expects_continue && line.modern,
        framing: fields.framing(line.modern)?,
    })
}

/// 431: more head than the gate puts up with.
pub fn head_too_large() -> ApiError {
    let message = "the request's header fields are too large";
    ApiError::new(431, "headers_too_large", message)
}

struct RequestLine<'a> {
    method: &'a [u8],
    /// Path and query.
    target: &'a [u8],
    authority: Option<&'a [u8]>,
    modern: bool,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8]) -> Result<RequestLine<'a>, ApiError> {
        let mut parts = line.split(|&byte| byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(malformed("its first line is not METHOD TARGET VERSION"));
        };
        if method.is_empty() || !method.iter().all(|&byte| is_token(byte)) {
            return Err(malformed("its method has a character that none has"));
        }
        let modern = match version {
            b"HTTP/1.0" => false,
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'1'..=b'9'] => true,
            [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9'] => {
                let message = "haul speaks HTTP/1.1 and HTTP/1.0";
                return Err(ApiError::new(505, "http_version_not_supported", message));
            }
            _ => return Err(malformed("its version is none")),
        };
        if target.iter().any(|&byte| byte < b' ' || byte == 0x7f) {
            return Err(malformed("its target has a control character"));
        }
        let (authority, target) = split_target(target)?;
        Ok(RequestLine {
            method,
            target,
            authority,
            modern,
        })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.method);
        out.push(b' ');
        if !self.target.starts_with(b"/") && self.target != b"*" {
            out.push(b'/');
        }
        for &byte in self.target {
            if byte.is_ascii() {
                out.push(byte);
            } else {
                // Not allowed raw, but sent by some, and its meaning is plain.
                out.push(b'%');
                for half in [byte >> 4, byte & 15] {
                    out.push(b"0123456789ABCDEF"[usize::from(half)]);
                }
            }
        }
        out.extend_from_slice(b" HTTP/1.1\r\n");
    }
}

/// Takes `http://authority` off an absolute target.
fn split_target(target: &[u8]) -> Result<(Option<&[u8]>, &[u8]), ApiError> {
    if target.starts_with(b"/") || target == b"*" {
        return Ok((None, target));
    }
    let scheme = b"http://";
    let absolute =
        target.len() > scheme.len() && target[..scheme.len()].eq_ignore_ascii_case(scheme);
    if !absolute {
        return Err(malformed("its target does not begin with a slash"));
    }
    let rest = &target[scheme.len()..];
    let end = rest
        .iter()
        .position(|&byte| matches!(byte, b'/' | b'?' | b'#'))
        .unwrap_or(rest.len());
    Ok((Some(&rest[..end]), &rest[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<(Head, String), u16> {
        let mut out = Vec::new();
        let head = parse(text.as_bytes(), &mut out).map_err(|error| error.status)?;
        Ok((head, String::from_utf8(out).unwrap()))
    }

    #[test]
    fn only_what_the_api_looks_at_is_passed_on() {
        let (head, out) = read(
            "POST /api/v1/d?a=b HTTP/1.1\r\nhOST:  a:1 \r\nX-Other: é\r\nconnection: Keep-Alive\r\n\
             content-type: application/json\r\nContent-Length: 5, 5\r\nExpect: \
             100-Continue\r\n\r\n",
        )
        .unwrap();
        assert_eq!(
            out,
            "POST /api/v1/d?a=b HTTP/1.1\r\nHost: a:1\r\nContent-Type: application/json\r\n"
        );
        assert_eq!(
            head,
            Head {
                modern: true,
                keep_alive: true,
                head_only: false,
                expects_continue: true,
                framing: Framing::Length(5),
            }
        );
    }

    #[test]
    fn old_clients_close_unless_they_ask_not_to() {
        assert!(!read("GET / HTTP/1.0\r\n\r\n").unwrap().0.keep_alive);
        let text = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        assert!(read(text).unwrap().0.keep_alive);
        let text = "GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close\r\n\r\n";
        assert!(!read(text).unwrap().0.keep_alive);
    }

    #[test]
    fn absolute_and_raw_targets_are_made_plain() {
        let (_, out) = read("GET http://b:2/x?y HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(out, "GET /x?y HTTP/1.1\r\nHost: b:2\r\n");
        let (_, out) = read("GET http://b?y HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(out, "GET /?y HTTP/1.1\r\nHost: b\r\n");
        let (_, out) = read("GET /é HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(out, "GET /%C3%A9 HTTP/1.1\r\nHost: a\r\n");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for fields in [
            "",
            "Host: a\r\nHost: a\r\n",
            "Host: é\r\n",
            "Host : a\r\n",
            "Host: a\r\n folded\r\n",
            "Host: a\r\nX: a\rb\r\n",
            "Host: a\r\nX: \0\r\n",
            "Host: a\r\n: x\r\n",
            "Host: a\r\nno colon\r\n",
            "Host: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n",
            "Host: a\r\nContent-Length: 1, 2\r\n",
            "Host: a\r\nContent-Length: +1\r\n",
            "Host: a\r\nContent-Length: 0x1\r\n",
            "Host: a\r\nContent-Length:\r\n",
            "Host: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ] {
            let text = format!("POST / HTTP/1.1\r\n{fields}\r\n");
            assert_eq!(read(&text), Err(400), "{fields:?}");
        }
        for line in [
            "",
            "GET",
            "GET /",
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 ",
            " GET / HTTP/1.1",
            "G@T / HTTP/1.1",
            "GET / http/1.1",
            "GET x HTTP/1.1",
            "GET /\u{1} HTTP/1.1",
            "CONNECT a:1 HTTP/1.1",
        ] {
            assert_eq!(
                read(&format!("{line}\r\nHost: a\r\n\r\n")),
                Err(400),
                "{line:?}"
            );
        }
    }

    #[test]
    fn what_is_not_served_has_its_own_status() {
        let of = |text: &str| read(text).err();
        assert_eq!(of("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), Some(505));
        assert_eq!(
            of("GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n"),
            Some(417)
        );
        let text = "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
        assert_eq!(of(text), Some(501));
        let many = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(100)
        );
        assert_eq!(of(&many), Some(431));
        let huge = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n";
        assert_eq!(read(huge).unwrap().0.framing, Framing::Length(u64::MAX));
    }

    #[test]
    fn a_head_ends_at_its_empty_line_however_it_arrives() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest";
        let mut scan = Scan::default();
        let end = (0..=text.len()).find_map(|at| scan.end(&text[..at]).unwrap());
        assert_eq!(end, Some(text.len() - 4));
        assert_eq!(Scan::default().end(text).unwrap(), end);
        for bad in ["GET / HTTP/1.1\n", "\n", "a\r\n\n"] {
            assert!(Scan::default().end(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_heads_never_panic_nor_smuggle(text in "[ -~\r\n\t]{0,200}") {
            let mut out = Vec::new();
            let whole = format!("GET /{text}\r\n\r\n");
            if parse(whole.as_bytes(), &mut out).is_ok() {
                prop_assert!(!out.windows(2).any(|pair| pair[0] != b'\r' && pair[1] == b'\n'));
                prop_assert!(!out.windows(4).any(|four| four == b"\r\n\r\n"));
            }
        }
    }
}
