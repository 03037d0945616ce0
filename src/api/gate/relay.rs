//! An answer on its way back: from tiny_http's socket to the client's, by its framing.

use std::io::Write;

use rustix::event::{PollFd, PollFlags};

use super::chunked::Chunked;
use super::head::Head;
use super::socket::Socket;
use super::wait;
use crate::api::backend::{UPSTREAM_BUFFER, Upstream};

/// Bytes of an answer's head.
const MAX_HEAD: usize = 16 << 10;

/// Why an answer did not get through.
pub enum Broken {
    /// The server broke off. Where the head is not out yet the client can be told.
    Upstream { head_sent: bool },
    /// The client has gone.
    Client,
}

/// How an answer's body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// What an answer's head says.
struct AnswerHead {
    /// Bytes, the empty line included.
    length: usize,
    framing: Framing,
    /// An event stream: it can be silent for long, and nobody else notices when its reader goes.
    events: bool,
}

/// How an answer went.
pub struct Relayed {
    /// Whether the client's connection is good for another request.
    pub keep_client: bool,
    /// Whether the server's is.
    pub keep_upstream: bool,
}

/// Waits for the answer and copies it to the client. `scratch` is free to use.
///
/// # Errors
/// See [`Broken`].
pub fn relay(
    upstream: &mut Upstream,
    client: &Socket,
    request: &Head,
    keep_client: bool,
    scratch: &mut Vec<u8>,
) -> Result<Relayed, Broken> {
    let head = read_head(upstream, client, request)?;
    let decode = head.framing == Framing::Chunked && !request.modern;
    let keep_client = keep_client && head.framing != Framing::UntilClose && !decode;
    scratch.clear();
    write_head(
        &upstream.inbox.data()[..head.length],
        request,
        keep_client,
        decode,
        scratch,
    );
    upstream.inbox.consume(head.length);
    let mut copy = Copy {
        upstream,
        client,
        // A client may close its half after the request and still read an answer that ends.
        gone: match head.events {
            true => PollFlags::RDHUP,
            false => PollFlags::empty(),
        },
        out: scratch,
    };
    match head.framing {
        Framing::None => copy.flush()?,
        Framing::Length(length) => copy.length(length)?,
        Framing::Chunked => copy.chunks(decode)?,
        Framing::UntilClose => copy.until_close()?,
    }
    let keep_upstream = head.framing != Framing::UntilClose && upstream.inbox.data().is_empty();
    Ok(Relayed {
        keep_client,
        keep_upstream,
    })
}

fn read_head(
    upstream: &mut Upstream,
    client: &Socket,
    request: &Head,
) -> Result<AnswerHead, Broken> {
    let broken = Broken::Upstream { head_sent: false };
    loop {
        let data = upstream.inbox.data();
        if let Some(end) = data.windows(4).position(|four| four == b"\r\n\r\n") {
            return parse_head(&data[..end + 4], request).ok_or(broken);
        }
        if data.len() >= MAX_HEAD {
            return Err(broken);
        }
        wait_for(upstream, client, PollFlags::empty())?;
        match upstream.inbox.fill(&mut &upstream.stream, MAX_HEAD) {
            Ok(0) | Err(_) => return Err(broken),
            Ok(_) => {}
        }
    }
}

/// Waits until the server has something, or the client has gone.
fn wait_for(upstream: &Upstream, client: &Socket, gone: PollFlags) -> Result<(), Broken> {
    let mut sources = [
        PollFd::new(&upstream.stream, PollFlags::IN),
        PollFd::new(client, gone),
    ];
    if wait::any(&mut sources, None).is_err() || sources[0].revents().is_empty() {
        return Err(Broken::Client);
    }
    Ok(())
}

fn parse_head(head: &[u8], request: &Head) -> Option<AnswerHead> {
    let text = str::from_utf8(head).ok()?;
    let mut lines = text.split("\r\n");
    let status: u16 = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let mut framing = Framing::UntilClose;
    let mut events = false;
    for line in lines {
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        if name.eq_ignore_ascii_case("content-length") {
            framing = Framing::Length(value.parse().ok()?);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Framing::Chunked;
        } else if name.eq_ignore_ascii_case("content-type") {
            events = value.starts_with("text/event-stream");
        }
    }
    if request.head_only || status < 200 || status == 204 || status == 304 {
        framing = Framing::None;
    }
    Some(AnswerHead {
        length: head.len(),
        framing,
        events,
    })
}

/// The head as the client gets it: the same, and whether the connection goes on where that
/// is not what the client's version implies.
fn write_head(head: &[u8], request: &Head, keep: bool, decode: bool, out: &mut Vec<u8>) {
    if keep && request.modern {
        out.extend_from_slice(head);
        return;
    }
    let coding = b"transfer-encoding:";
    for line in head[..head.len() - 2].split_inclusive(|&byte| byte == b'\n') {
        let is_coding =
            line.len() >= coding.len() && line[..coding.len()].eq_ignore_ascii_case(coding);
        if !(decode && is_coding) {
            out.extend_from_slice(line);
        }
    }
    out.extend_from_slice(match keep {
        true => b"Connection: keep-alive\r\n\r\n",
        false => b"Connection: close\r\n\r\n",
    });
}

/// A body being copied. `out` holds what is to be written next: first the head, so that it
/// leaves in one write with the body's beginning.
struct Copy<'a> {
    upstream: &'a mut Upstream,
    client: &'a Socket,
    /// What tells that the client has gone, beside errors.
    gone: PollFlags,
    out: &'a mut Vec<u8>,
}

impl Copy<'_> {
    fn flush(&mut self) -> Result<(), Broken> {
        let mut client = self.client;
        client.write_all(self.out).map_err(|_| Broken::Client)?;
        self.out.clear();
        Ok(())
    }

    /// Waits for more of the body; false at the server's end.
    fn more(&mut self) -> Result<bool, Broken> {
        wait_for(self.upstream, self.client, self.gone)?;
        let upstream = &mut *self.upstream;
        match upstream.inbox.fill(&mut &upstream.stream, UPSTREAM_BUFFER) {
            Ok(count) => Ok(count > 0),
            Err(_) => Err(Broken::Upstream { head_sent: true }),
        }
    }

    /// As [`Copy::more`], where the server's end comes too early.
    fn must_have_more(&mut self) -> Result<(), Broken> {
        match self.more()? {
            true => Ok(()),
            false => Err(Broken::Upstream { head_sent: true }),
        }
    }

    fn length(mut self, mut left: u64) -> Result<(), Broken> {
        loop {
            let data = self.upstream.inbox.data();
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
            self.out.extend_from_slice(&data[..here]);
            self.upstream.inbox.consume(here);
            left -= here as u64;
            self.flush()?;
            if left == 0 {
                return Ok(());
            }
            self.must_have_more()?;
        }
    }

    fn chunks(mut self, decode: bool) -> Result<(), Broken> {
        let mut chunked = Chunked::default();
        loop {
            let data = self.upstream.inbox.data();
            let out = &mut *self.out;
            let advanced = chunked.advance(data, |piece| {
                if decode {
                    out.extend_from_slice(piece);
                }
            });
            let Ok(used) = advanced else {
                // The head may not be out yet; the client is to see that something was coming.
                self.flush()?;
                return Err(Broken::Upstream { head_sent: true });
            };
            if !decode {
                self.out.extend_from_slice(&data[..used]);
            }
            self.upstream.inbox.consume(used);
            self.flush()?;
            if chunked.is_done() {
                return Ok(());
            }
            self.must_have_more()?;
        }
    }

    fn until_close(mut self) -> Result<(), Broken> {
        loop {
            let data = self.upstream.inbox.data();
            self.out.extend_from_slice(data);
            let count = data.len();
            self.upstream.inbox.consume(count);
            self.flush()?;
            if !self.more()? {
                return Ok(());
            }
        }
    }
}
