//! One connection to the upstream: requests in, answers out, with the faults that were asked for.

use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::super::content;
use super::Shared;
use super::ledger::{Kind, Seen};
use super::line::Line;
use super::reply::{Framing, Reply, Writer};
use super::seat::Seat;
use super::world::Truth;

/// Answers requests until either side ends the connection.
pub(super) fn converse(shared: &Shared, line: &Line) -> io::Result<()> {
    let mut input = BufReader::new(line);
    while let Some(seen) = read_request(&mut input)? {
        if line.is_new_handshake() {
            shared.handshakes.fetch_add(1, Ordering::SeqCst);
        }
        let seen = shared.ledger.arrive(seen);
        let seat = Seat::take(shared, &seen);
        let reply = match &seat {
            Some(_) => shared.reply_to(&seen),
            None => Reply::status(429).header("Retry-After", "1"),
        };
        let active = Active::begin(shared, &seen);
        let keep = answer(shared, line, &seen, &reply, seat.as_ref());
        drop(active);
        if !keep? {
            if reply.reset {
                line.reset_at_end()?;
            }
            return Ok(());
        }
    }
    Ok(())
}

fn read_request(input: &mut impl BufRead) -> io::Result<Option<Seen>> {
    let mut line = String::new();
    if input.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let target = line.split(' ').nth(1).unwrap_or_default().to_string();
    let mut headers = Vec::new();
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.push((name.to_lowercase(), value.trim().to_string())),
            None => break,
        }
    }
    let (kind, file) = classify(&target);
    let mut seen = Seen {
        kind,
        at: Instant::now(),
        target,
        headers,
        file,
        range: None,
        nth: 0,
        nth_of_file: 0,
    };
    seen.range = seen.header("range").and_then(parse_range);
    Ok(Some(seen))
}

fn classify(target: &str) -> (Kind, Option<String>) {
    let path = target.split('?').next().unwrap_or_default();
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts[..] {
        ["v1", "links", _] => (Kind::Link, None),
        ["v1", "packages", _, "files"] => (Kind::Listing, None),
        ["v1", "packages", _, "files", id, "download"] => (Kind::Address, Some(id.into())),
        ["bytes", id] => (Kind::Bytes, Some(id.into())),
        _ => (Kind::Other, None),
    }
}

fn parse_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let last = match last {
        "" => None,
        last => Some(last.parse().ok()?),
    };
    Some((first.parse().ok()?, last))
}

/// Counts a request for bytes as long as it is being answered.
struct Active<'a>(Option<&'a Shared>);

impl Active<'_> {
    fn begin<'a>(shared: &'a Shared, seen: &Seen) -> Active<'a> {
        if seen.kind != Kind::Bytes {
            return Active(None);
        }
        shared.ledger.note(|tally| {
            tally.active += 1;
            tally.peak = tally.peak.max(tally.active);
        });
        Active(Some(shared))
    }
}

impl Drop for Active<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.ledger.note(|tally| tally.active -= 1);
        }
    }
}

enum Body {
    Text(String),
    Content {
        file: String,
        seed: u64,
        from: u64,
        length: u64,
    },
}

impl Body {
    fn len(&self) -> u64 {
        match self {
            Body::Text(text) => text.len() as u64,
            Body::Content { length, .. } => *length,
        }
    }
}

/// Whether the connection goes on.
fn answer(
    shared: &Shared,
    to: &Line,
    seen: &Seen,
    reply: &Reply,
    seat: Option<&Seat<'_>>,
) -> io::Result<bool> {
    if let Some(gate) = &reply.hold_head {
        gate.pass();
    }
    if reply.no_head {
        return Ok(false);
    }
    if let Some(write) = &reply.raw {
        let mut out = BufWriter::with_capacity(64 * 1024, to);
        write(&mut out)?;
        out.flush()?;
        return Ok(false);
    }
    if let Some(write) = &reply.made {
        return answer_made(to, write);
    }
    let (status, mut headers, body) = match &reply.instead {
        Some(instead) => (instead.status, Vec::new(), Body::Text(instead.body.clone())),
        None => rightly(shared, seen, reply),
    };
    headers.extend(reply.headers.iter().cloned());
    let framing = match reply.framing {
        Framing::Length => format!("Content-Length: {}", body.len()),
        Framing::Chunks => "Transfer-Encoding: chunked".into(),
        Framing::Close => "Connection: close".into(),
    };
    let mut head = format!("HTTP/1.1 {status} Told\r\n{framing}\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut out = to;
    out.write_all(format!("{head}\r\n").as_bytes())?;
    let whole = match reply.framing {
        Framing::Chunks => {
            let whole = send_body(shared, Chunked(to), &body, reply, seat)?;
            if whole {
                out.write_all(b"0\r\n\r\n")?;
                out.flush()?;
            }
            whole
        }
        _ => send_body(shared, to, &body, reply, seat)?,
    };
    Ok(whole && !reply.reset && reply.framing != Framing::Close)
}

/// Sends what is made meanwhile, in chunks (RFC 9112, 7.1), and ends the connection.
fn answer_made(mut to: &Line, write: &Writer) -> io::Result<bool> {
    to.write_all(b"HTTP/1.1 200 Told\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    let mut body = BufWriter::with_capacity(64 * 1024, Chunked(to));
    write(&mut body)?;
    body.flush()?;
    to.write_all(b"0\r\n\r\n")?;
    to.flush()?;
    Ok(false)
}

struct Chunked<'a>(&'a Line);

impl Write for Chunked<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        write!(self.0, "{:x}\r\n", buf.len())?;
        self.0.write_all(buf)?;
        self.0.write_all(b"\r\n")?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

type Head = (u16, Vec<(String, String)>, Body);

fn rightly(shared: &Shared, seen: &Seen, reply: &Reply) -> Head {
    let truth = shared.world.lock().unwrap().answer(&shared.base, seen);
    let json = vec![("Content-Type".to_string(), "application/json".to_string())];
    match truth {
        Truth::Refusal(status) => (status, json, Body::Text("{\"message\":\"no\"}".into())),
        Truth::Json(mut text) => {
            if reply.half {
                text.truncate(text.len() / 2);
            }
            (200, json, Body::Text(text))
        }
        Truth::Content(file) => {
            let mut head = content_of(shared, seen, reply, file);
            if let Body::Content { length, .. } = &mut head.2 {
                *length += reply.overrun;
            }
            head
        }
    }
}

fn content_of(shared: &Shared, seen: &Seen, reply: &Reply, file: String) -> Head {
    let (listed, truth) = {
        let world = shared.world.lock().unwrap();
        let entry = world.package.find(&file);
        (entry.size, entry.seed)
    };
    let size = listed.checked_add_signed(reply.resize).unwrap();
    let seed = reply.seed.unwrap_or(truth);
    let etag = reply.etag.clone().unwrap_or(format!("\"etag-{seed}\""));
    let total = reply.total.unwrap_or(size);
    let header = |name: &str, value: String| (name.to_string(), value);
    let mut headers = vec![
        header("Content-Type", "application/octet-stream".into()),
        header("Accept-Ranges", "bytes".into()),
        header("ETag", etag.clone()),
    ];
    let whole = |from, length| Body::Content {
        file: file.clone(),
        seed,
        from,
        length,
    };
    let unchanged = seen.header("if-range").is_none_or(|known| known == etag);
    let Some((first, last)) = seen.range.filter(|_| unchanged && !reply.ignore_range) else {
        return (200, headers, whole(0, size));
    };
    if first >= size {
        headers.push(header("Content-Range", format!("bytes */{total}")));
        return (416, headers, Body::Text(String::new()));
    }
    let first = (first + reply.shift).min(size - 1);
    let last = last.unwrap_or(size - 1).min(size - 1).max(first);
    headers.push(header(
        "Content-Range",
        format!("bytes {first}-{last}/{total}"),
    ));
    (206, headers, whole(first, last - first + 1))
}

/// Whether all of it was sent.
fn send_body(
    shared: &Shared,
    mut to: impl Write,
    body: &Body,
    reply: &Reply,
    seat: Option<&Seat<'_>>,
) -> io::Result<bool> {
    let end = reply.cut.map_or(body.len(), |cut| cut.min(body.len()));
    let mut sent = 0;
    let mut held = reply.hold_body.clone();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if held.as_ref().is_some_and(|(after, _)| *after <= sent) {
            held.take().unwrap().1.pass();
        }
        let until = held.as_ref().map_or(end, |(after, _)| end.min(*after));
        let length = (until - sent).min(shared.pace.chunk() as u64) as usize;
        if length == 0 {
            to.flush()?;
            return Ok(sent == body.len());
        }
        let chunk = &mut buffer[..length];
        match body {
            Body::Text(text) => {
                chunk.copy_from_slice(&text.as_bytes()[sent as usize..sent as usize + length]);
            }
            Body::Content { seed, from, .. } => content::fill(*seed, from + sent, chunk),
        }
        shared.pace.send(length);
        if sent + length as u64 == end {
            seat.inspect(|seat| seat.leave());
        }
        // Counted first and taken back where it fails: what was received is always counted.
        if let Body::Content { file, .. } = body {
            shared.ledger.count_served(file, length as i64);
        }
        if let Err(error) = to.write_all(chunk) {
            if let Body::Content { file, .. } = body {
                shared.ledger.count_served(file, -(length as i64));
            }
            return Err(error);
        }
        sent += length as u64;
    }
}
