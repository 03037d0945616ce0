//! HTTP/1.1 heads, as little of it as serving files takes (RFC 9112): bounded, and strict about
//! everything that could make two readers disagree.

use std::net::SocketAddr;

/// A request's head may have this many bytes.
pub const HEAD_LIMIT: usize = 16 * 1024;
/// A request may have this many headers.
const HEADERS_LIMIT: usize = 100;

/// How a request asks. Other methods are read, so that they can be refused properly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Other,
}

/// A request's head.
#[derive(Debug)]
pub struct Request {
    pub method: Method,
    /// Percent-encoded, as it came; begins with a slash.
    pub path: String,
    /// What follows the question mark; empty if there is nothing.
    pub query: String,
    headers: Vec<(String, Vec<u8>)>,
    /// HTTP/1.0, which knows no chunks.
    pub is_old: bool,
    pub peer: SocketAddr,
}

impl Request {
    /// Takes apart a head, without the empty line at its end.
    /// None if it is no head: the connection is of no use after that.
    pub fn parse(head: &[u8], peer: SocketAddr) -> Option<Request> {
        let mut lines = head
            .split(|&byte| byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let mut words = std::str::from_utf8(lines.next()?).ok()?.split(' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let is_old = match version {
            "HTTP/1.1" => false,
            "HTTP/1.0" => true,
            _ => return None,
        };
        let headers = lines.map(header).collect::<Option<Vec<_>>>()?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        (headers.len() <= HEADERS_LIMIT && path.starts_with('/')).then(|| Request {
            method: match method {
                "GET" => Method::Get,
                "HEAD" => Method::Head,
                _ => Method::Other,
            },
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            is_old,
            peer,
        })
    }

    /// A header's value by its lower-case name; None if there is none or more than one.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Some(value),
            _ => None,
        }
    }

    /// The same, where it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.header(name)?).ok()
    }

    /// A parameter of the query, percent-decoded; None if there is none or more than one.
    pub fn parameter(&self, name: &str) -> Option<Vec<u8>> {
        let mut values = self
            .query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter(|(key, _)| *key == name);
        match (values.next(), values.next()) {
            (Some((_, value)), None) => Some(decode(value)),
            _ => None,
        }
    }

    /// The path's components, percent-decoded; those that are not UTF-8 become what no name is.
    pub fn components(&self) -> Vec<String> {
        let decoded = |part| String::from_utf8(decode(part)).unwrap_or_else(|_| "\0".into());
        self.path.split('/').skip(1).map(decoded).collect()
    }

    /// Whether something follows the head. No call here takes a body, so none is ever read.
    pub fn has_body(&self) -> bool {
        let empty = |(key, value): &(String, Vec<u8>)| match key.as_str() {
            "content-length" => value == b"0",
            "transfer-encoding" => false,
            _ => true,
        };
        !self.headers.iter().all(empty)
    }

    /// Whether another request may follow on this connection.
    pub fn keeps_alive(&self) -> bool {
        let close = self.text("connection").is_some_and(|value| {
            value
                .split(',')
                .any(|token| token.trim().eq_ignore_ascii_case("close"))
        });
        !close && !self.is_old && !self.has_body()
    }
}

fn header(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
    let token = |&byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    let visible = |&byte: &u8| byte == b'\t' || (byte >= b' ' && byte != 0x7f);
    if name.is_empty() || !name.iter().all(token) || !value.iter().all(visible) {
        return None;
    }
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    Some((name, value.to_vec()))
}

fn decode(text: &str) -> Vec<u8> {
    percent_encoding::percent_decode_str(text).collect()
}

/// Where a head ends: (its length without the empty line, with it).
pub fn end_of_head(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(at) = bytes[from..].iter().position(|&byte| byte == b'\n') {
        let newline = from + at;
        match &bytes[newline + 1..] {
            [b'\n', ..] => return Some((newline, newline + 2)),
            [b'\r', b'\n', ..] => return Some((newline, newline + 3)),
            _ => from = newline + 1,
        }
    }
    None
}

/// What a status is called.
pub fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        416 => "Range Not Satisfiable",
        503 => "Service Unavailable",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(head: &str) -> Option<Request> {
        Request::parse(head.as_bytes(), "127.0.0.1:1".parse().unwrap())
    }

    #[test]
    fn a_head_is_taken_apart() {
        let request = parse("GET /a%20b/c?x=1%2B&y HTTP/1.1\r\nHost: h\r\nX-A:  \u{e4} ").unwrap();
        assert_eq!(request.method, Method::Get);
        assert_eq!(request.components(), ["a b", "c"]);
        assert_eq!(request.parameter("x").unwrap(), b"1+");
        assert_eq!(request.parameter("y"), None);
        assert_eq!(request.text("x-a"), Some("\u{e4}"));
        assert!(request.keeps_alive() && !request.has_body());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for head in [
            "",
            "GET /",
            "GET / HTTP/2",
            "GET  / HTTP/1.1",
            "GET / HTTP/1.1 x",
            "GET x HTTP/1.1",
            "GET / HTTP/1.1\r\n folded: x",
            "GET / HTTP/1.1\r\nHost : h",
            "GET / HTTP/1.1\r\nnone",
            "GET / HTTP/1.1\r\nA: b\rc",
            "GET /\u{e4} HTTP/1.1",
            "GET / HTTP/1.1\r\n: x",
        ] {
            assert!(parse(head).is_none(), "{head:?}");
        }
        assert!(parse(&format!("GET / HTTP/1.1{}", "\r\nA: b".repeat(101))).is_none());
        let twice = parse("GET /?a=1&a=2 HTTP/1.1\r\nA: 1\r\nA: 2").unwrap();
        assert!(twice.header("a").is_none() && twice.parameter("a").is_none());
    }

    #[test]
    fn when_a_connection_is_kept() {
        assert!(!parse("GET / HTTP/1.0").unwrap().keeps_alive());
        assert!(
            !parse("GET / HTTP/1.1\r\nConnection: x, Close")
                .unwrap()
                .keeps_alive()
        );
        let body = parse("POST / HTTP/1.1\r\nContent-Length: 1").unwrap();
        assert!(body.has_body() && !body.keeps_alive());
        assert!(
            parse("GET / HTTP/1.1\r\nTransfer-Encoding: chunked")
                .unwrap()
                .has_body()
        );
        assert!(
            !parse("GET / HTTP/1.1\r\nContent-Length: 0")
                .unwrap()
                .has_body()
        );
    }

    #[test]
    fn the_end_of_a_head() {
        assert_eq!(end_of_head(b"a\r\nb\r\n\r\nc"), Some((5, 8)));
        assert_eq!(end_of_head(b"a\n\nc"), Some((1, 3)));
        assert_eq!(end_of_head(b"a\r\nb\r\n\r"), None);
        assert_eq!(end_of_head(b""), None);
    }
}
