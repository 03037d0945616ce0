//! An HTTP answer, from its parts to the bytes on the line.
//!
//! Answers are written to the request's raw writer rather than as tiny_http responses: head
//! and body leave in one write, and an answer that breaks off in the middle can be told from
//! a whole one (tiny_http's chunk encoder ends the body properly even after an error).

use std::borrow::Cow;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::SystemTime;

/// Renders the next slice of a body into the (empty) buffer; false once there is no more.
/// May block, as an event stream does; what it returns is sent at once.
pub type Slices = Box<dyn FnMut(&mut Vec<u8>) -> bool + Send>;

/// What follows the head.
pub enum Body {
    /// In memory, sent with its length.
    Whole(Vec<u8>),
    /// Rendered as it goes, sent in chunks.
    Sliced(Slices),
}

/// The answer to one request: status, headers, body.
pub struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    /// Header fields beside those that every answer has.
    pub fields: Vec<(&'static str, Cow<'static, str>)>,
    pub body: Body,
}

impl Answer {
    /// A JSON answer that lies in memory.
    pub fn json(status: u16, body: Vec<u8>) -> Answer {
        Answer {
            status,
            content_type: "application/json",
            fields: Vec::new(),
            body: Body::Whole(body),
        }
    }

    /// Sends the client to another path, for good.
    pub fn redirect(path: &str) -> Answer {
        let mut answer = Answer::json(308, b"{}".to_vec());
        answer.fields.push(("Location", path.to_owned().into()));
        answer
    }

    /// Bytes of the body that lie in memory; None if it is rendered as it goes.
    pub fn length(&self) -> Option<usize> {
        match &self.body {
            Body::Whole(body) => Some(body.len()),
            Body::Sliced(_) => None,
        }
    }

    /// The status line and the header fields, the empty line included.
    pub fn head(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(512 + self.length().filter(|&n| n < 65536).unwrap_or(0));
        let put = "writing to memory cannot fail";
        write!(
            head,
            "HTTP/1.1 {} {}\r\nDate: {}\r\nContent-Type: {}\r\nCache-Control: \
             no-store\r\nX-Content-Type-Options: nosniff\r\n",
            self.status,
            reason(self.status),
            httpdate::HttpDate::from(SystemTime::now()),
            self.content_type,
        )
        .expect(put);
        for (name, value) in &self.fields {
            write!(head, "{name}: {value}\r\n").expect(put);
        }
        match self.length() {
            Some(length) => write!(head, "Content-Length: {length}\r\n\r\n"),
            None => write!(head, "Transfer-Encoding: chunked\r\n\r\n"),
        }
        .expect(put);
        head
    }

    /// Writes the answer; without its body where `head_only`, as HEAD asks for.
    ///
    /// # Errors
    /// What `out` reports: mostly that the reader has gone.
    pub fn send(self, head_only: bool, out: &mut dyn Write) -> io::Result<()> {
        let mut head = self.head();
        match self.body {
            _ if head_only => out.write_all(&head)?,
            Body::Whole(body) if body.len() < 65536 => {
                head.extend_from_slice(&body);
                out.write_all(&head)?;
            }
            Body::Whole(body) => {
                out.write_all(&head)?;
                out.write_all(&body)?;
            }
            Body::Sliced(slices) => {
                out.write_all(&head)?;
                // The first slice of an event stream may be long in coming.
                out.flush()?;
                send_slices(slices, out)?;
            }
        }
        out.flush()
    }
}

/// Writes slices as chunks (RFC 9112, 7.1), each at once.
fn send_slices(mut slices: Slices, out: &mut dyn Write) -> io::Result<()> {
    let (mut slice, mut chunk) = (Vec::new(), Vec::new());
    loop {
        slice.clear();
        let Ok(more) = catch_unwind(AssertUnwindSafe(|| slices(&mut slice))) else {
            log::error!("an answer broke off: its rendering panicked");
            // This is no chunk size, so the client knows that the body is not whole.
            out.write_all(b"!\r\n")?;
            return out.flush();
        };
        chunk.clear();
        if !slice.is_empty() {
            write!(chunk, "{:x}\r\n", slice.len())?;
            chunk.extend_from_slice(&slice);
            chunk.extend_from_slice(b"\r\n");
        }
        if !more {
            chunk.extend_from_slice(b"0\r\n\r\n");
        }
        out.write_all(&chunk)?;
        out.flush()?;
        if !more {
            return Ok(());
        }
    }
}

/// The status's name in RFC 9110 (and RFC 4918 and 6585).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}
