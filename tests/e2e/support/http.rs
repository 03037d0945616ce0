//! A small HTTP client that sends exactly what a test says, odd requests included.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

use super::PATIENCE;

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub text: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The body, which must be JSON and say so.
    pub fn json(&self) -> Value {
        let kind = self.header("content-type").unwrap_or("none");
        assert!(
            kind.starts_with("application/json"),
            "type {kind}: {self:?}"
        );
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The body of an answer that must have this status.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }

    /// Asserts an error of the contract's shape, with nothing beside it.
    pub fn assert_error(&self, status: u16, code: &str) {
        let body = self.expect(status);
        assert_eq!(body["error"]["code"], code, "{body}");
        let message = body["error"]["message"].as_str().unwrap_or_default();
        assert!(message.len() > 5, "a message for a user: {body}");
        assert_eq!(keys(&body), ["error"], "{body}");
        assert_eq!(keys(&body["error"]), ["code", "message"], "{body}");
    }
}

/// The sorted names of an object's fields.
pub fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object
        .as_object()
        .unwrap_or_else(|| panic!("not an object: {object}"))
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

/// One request on a connection of its own. `Host` and `Content-Length` are added where missing.
pub fn send(
    to: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Answer {
    let has = |name: &str| {
        headers
            .iter()
            .any(|(key, _)| key.eq_ignore_ascii_case(name))
    };
    let mut head = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
    if !has("host") {
        head += &format!("Host: {to}\r\n");
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if let Some(body) = body.filter(|_| !has("content-length")) {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    raw(to, &format!("{head}\r\n{}", body.unwrap_or_default()))
}

/// Sends `request` as it is, and reads one answer.
pub fn raw(to: SocketAddr, request: &str) -> Answer {
    let answer = exchange(to, request);
    parse(&answer).unwrap_or_else(|| {
        panic!(
            "no HTTP answer to {request:?}: {:?}",
            String::from_utf8_lossy(&answer)
        )
    })
}

/// Sends `request` as it is, and reads until the other side closes.
pub fn exchange(to: SocketAddr, request: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    // A refusal may come, and the connection end, before all was sent.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let mut chunk = [0; 16 * 1024];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return answer,
            Ok(length) => answer.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return answer,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => panic!("waiting for an answer to {request:.200?}: {error}"),
        }
        if is_whole(&answer) {
            return answer;
        }
    }
}

/// Whether an answer with a length is there to its last byte; one without ends with the connection.
fn is_whole(answer: &[u8]) -> bool {
    let Some(split) = head_end(answer) else {
        return false;
    };
    let head = String::from_utf8_lossy(&answer[..split]).to_lowercase();
    head.lines()
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|length| length.trim().parse::<usize>().ok())
        .is_some_and(|length| answer.len() >= split + 4 + length)
}

fn head_end(answer: &[u8]) -> Option<usize> {
    answer.windows(4).position(|four| four == b"\r\n\r\n")
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let split = head_end(answer)?;
    let head = String::from_utf8(answer[..split].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_string()))
        .collect();
    let body = &answer[split + 4..];
    let chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value.contains("chunked"));
    let body = if chunked {
        unchunk(body)?
    } else {
        body.to_vec()
    };
    Some(Answer {
        status,
        headers,
        text: String::from_utf8(body).ok()?,
    })
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..line]).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(line + 2..line + 2 + size)?);
        rest = rest.get(line + 4 + size..)?;
    }
}

#[test]
fn chunked_answers_are_put_together() {
    let answer =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n";
    assert_eq!(parse(answer).unwrap().text, "abcde");
    assert!(parse(&answer[..answer.len() - 9]).is_none());
}
