//! Answers, and how they go out: a head, then nothing, a text, a listing in chunks, or a file.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::TcpStream;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::SendFlags;

use super::catalog::Catalog;
use super::http::{Method, Request, reason};
use super::listing;

/// As much as one system call is asked to send, so that a changed file is noticed before its end.
const SLICE: u64 = 1024 * 1024;

/// What a request is answered with.
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Body,
}

/// What follows the head.
pub enum Body {
    Json(String),
    Listing(Arc<Catalog>),
    /// `len` bytes of a file from `start`.
    Bytes {
        file: File,
        start: u64,
        len: u64,
    },
}

impl Answer {
    pub fn json(status: u16, value: &serde_json::Value) -> Answer {
        Answer {
            status,
            headers: vec![("Content-Type", "application/json".into())],
            body: Body::Json(value.to_string()),
        }
    }

    /// An error in the form of haul's own API.
    pub fn error(status: u16, code: &str, message: &str) -> Answer {
        let error = serde_json::json!({"error": {"code": code, "message": message}});
        Answer::json(status, &error)
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.headers.push((name, value.into()));
        self
    }

    /// Sends the answer.
    ///
    /// # Errors
    /// The connection is of no use any more and must be closed, since the other side could take
    /// the next answer for the rest of this one. That holds for a file that changed on the way too.
    pub fn send(self, socket: &TcpStream, request: &Request, keep: bool) -> io::Result<()> {
        let chunked = !request.is_old;
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        let date = httpdate::fmt_http_date(std::time::SystemTime::now());
        head.push_str(&format!("Date: {date}\r\n"));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match &self.body {
            Body::Json(text) => head.push_str(&format!("Content-Length: {}\r\n", text.len())),
            Body::Bytes { len, .. } => head.push_str(&format!("Content-Length: {len}\r\n")),
            Body::Listing(_) if chunked => head.push_str("Transfer-Encoding: chunked\r\n"),
            Body::Listing(_) => {}
        }
        if !keep {
            head.push_str("Connection: close\r\n");
        }
        head.push_str("\r\n");
        if request.method == Method::Head {
            return (&*socket).write_all(head.as_bytes());
        }
        match self.body {
            Body::Json(text) => (&*socket).write_all((head + &text).as_bytes()),
            Body::Listing(catalog) => {
                (&*socket).write_all(head.as_bytes())?;
                listing::send(&catalog, &mut &*socket, chunked)
            }
            Body::Bytes { len: 0, .. } => (&*socket).write_all(head.as_bytes()),
            Body::Bytes { file, start, len } => {
                send_head(socket, head.as_bytes())?;
                send_file(socket, &file, start, len)
            }
        }
    }
}

/// Sends a head that shares its packet with what follows.
fn send_head(socket: &TcpStream, mut head: &[u8]) -> io::Result<()> {
    while !head.is_empty() {
        match rustix::net::send(socket, head, SendFlags::MORE | SendFlags::NOSIGNAL) {
            Ok(sent) => head = &head[sent..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sends a part of a file, from the page cache straight to the socket.
fn send_file(socket: &TcpStream, file: &File, start: u64, len: u64) -> io::Result<()> {
    let before = stamp(file)?;
    let (mut at, end) = (start, start + len);
    while at < end {
        let slice = SLICE.min(end - at);
        if at + slice == end && stamp(file)? != before {
            return Err(changed());
        }
        match rustix::fs::sendfile(socket, file, Some(&mut at), slice as usize) {
            Ok(0) => return Err(changed()),
            // `at` has moved already.
            Ok(_) | Err(Errno::INTR) => {}
            // Some file systems cannot do this.
            Err(Errno::INVAL | Errno::NOSYS) => copy(socket, file, &mut at, slice)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The same by way of a buffer.
fn copy(mut socket: &TcpStream, file: &File, at: &mut u64, slice: u64) -> io::Result<()> {
    let mut buffer = vec![0; slice.min(64 * 1024) as usize];
    let got = file.read_at(&mut buffer, *at)?;
    if got == 0 {
        return Err(changed());
    }
    socket.write_all(&buffer[..got])?;
    *at += got as u64;
    Ok(())
}

/// What changes when a file's content does.
fn stamp(file: &File) -> io::Result<(u64, i64, i64)> {
    let meta = file.metadata()?;
    Ok((meta.len(), meta.mtime(), meta.mtime_nsec()))
}

fn changed() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the file changed while it was sent")
}
