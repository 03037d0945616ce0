//! The bytes: a signed address, a part of what it leads to, and the body as it comes.

use std::fmt;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use ureq::http::header::{
    CONNECTION, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED, TRANSFER_ENCODING,
};
use ureq::http::{Response, Version};
use ureq::{Body, BodyReader, Error};

use super::call_context::{self, AbortReason, Context, LentSocket, Watch};
use super::content_digest::{self, Expected};
use super::direct::{self, IdleSockets};
use super::exchange::{self, Exchange, Headers, Redirects};
use super::fault::{self, Fault};
use super::permits::{Permit, Purpose};
use super::pipeline::PipeliningBlocklist;
use super::{refusal, web_page};
use crate::base::copy_buffer::{self, Chunk, CopyBuffer};
use crate::base::url::{self, Url};

/// Longer addresses are refused, in bytes; signed ones have one to three thousand.
const MAX_ADDRESS: usize = 16 * 1024;

/// With so much of a body at hand, more of it is not waited for, in bytes.
const ENOUGH: usize = 128 << 10;

/// So much of a body is looked at to tell what it is, in bytes.
const PEEK: usize = 256;

/// What a time stands behind where it takes the place of an entity tag, which begins with a quote
/// or `W/`.
const MODIFIED: &str = "Last-Modified: ";

/// Longer entity tags are left out, in bytes.
const MAX_ETAG: usize = 1024;

/// Where a file's bytes are. Its query is a credential, so `Debug` shows the host only.
#[derive(Clone)]
pub struct Address {
    url: Arc<Url>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.url, f)
    }
}

impl Address {
    /// Takes an address that the API at `api` gave. Plain http is for servers of one's own: where
    /// the API itself is reached by plain http or on this machine.
    ///
    /// # Errors
    /// Malformed, where it is no address that bytes may be fetched from.
    pub(super) fn new(url: Url, api: &Url) -> Result<Address, Fault> {
        if url.request_len() > MAX_ADDRESS {
            return Err(unusable("it is longer than 16 KiB"));
        }
        if !url.secure && api.secure && !api.is_loopback() {
            return Err(unusable("it is not https"));
        }
        Ok(Address { url: Arc::new(url) })
    }

    /// Takes an address from its text.
    ///
    /// # Errors
    /// As for [`Address::new`].
    pub(super) fn parse(text: &str, api: &Url) -> Result<Address, Fault> {
        if text.len() > MAX_ADDRESS {
            return Err(unusable("it is longer than 16 KiB"));
        }
        let url =
            Url::parse(&url::encoded(text.as_bytes())).map_err(|why| unusable(&why.to_string()))?;
        Address::new(url, api)
    }

    /// What to ask the server of `other` for, if this is at the same.
    fn target_beside(&self, other: &Address) -> Option<String> {
        self.url.same_origin(&other.url).then(|| self.url.target())
    }
}

#[cfg(test)]
impl Address {
    /// The path, for tests that tell addresses apart.
    pub(super) fn path(&self) -> &str {
        &self.url.path
    }
}

fn unusable(why: &str) -> Fault {
    Fault::Malformed(format!(
        "the server gave an address that cannot be used: {why}"
    ))
}

/// What part of the file is coming.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Status 200: all of it. `length` is None if the server does not say.
    Whole { length: Option<u64> },
    /// Status 206: the bytes from `start` up to, not including, `end`; `total` is the whole file's
    /// size, where known. It is for the caller to see whether that is what was asked for.
    Part {
        start: u64,
        end: u64,
        total: Option<u64>,
    },
}

/// An answer with bytes. Dropping it before its end closes the connection.
pub struct Fetched {
    pub content: Content,
    /// The entity tag as it was sent, quotes included; else, behind its name, `Last-Modified`.
    pub etag: Option<String>,
    /// What the server says of the whole file's content.
    pub expected: Option<Expected>,
    body: Option<BodyReader<'static>>,
    /// Bytes still to come, if that is known.
    left: Option<u64>,
    /// What ended the body, if that has not been told yet.
    fault: Option<Fault>,
    /// The end of the body is known without another read.
    counted: bool,
    /// The end of the body is told by chunks.
    chunked: bool,
    /// More came than the head had said.
    longer: bool,
    /// Bytes that were looked at and not read yet.
    peeked: Vec<u8>,
    /// The head says that it is a web page.
    says_page: bool,
    /// How the body is encoded (RFC 9110, 8.4), where it is.
    encoding: Option<String>,
    url: Arc<Url>,
    context: Context,
    /// The connection, where ureq has let go of it.
    lent: Option<LentSocket>,
    parked: Arc<IdleSockets>,
    one_by_one: Arc<PipeliningBlocklist>,
    /// Held until the last byte has come.
    permit: Option<Permit>,
}

impl fmt::Debug for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched")
            .field("content", &self.content)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Fetched {
    /// Fills the front of `buf` with what has come, and waits where nothing has; 0 is the end of
    /// the body. Heeds the watch of the `fetch` that this came from, on whichever thread it is
    /// read. With the last byte the connection goes back to the pool.
    ///
    /// # Errors
    /// Transient, also for a body that ends too early; `Stopped`.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize, Fault> {
        if buf.is_empty() {
            return Ok(0);
        }
        if !self.peeked.is_empty() {
            let count = buf.len().min(self.peeked.len());
            buf[..count].copy_from_slice(&self.peeked[..count]);
            self.peeked.drain(..count);
            return Ok(count);
        }
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        if self.left == Some(0) {
            self.finish();
            return Ok(0);
        }
        let room = self.left.map_or(buf.len(), |left| {
            usize::try_from(left).unwrap_or(usize::MAX).min(buf.len())
        });
        if let Some(lent) = &self.lent {
            let read = call_context::under(&mut self.context, || lent.read(&mut buf[..room]));
            return self.got(read);
        }
        let Some(body) = &mut self.body else {
            return match self.left {
                None => Ok(0),
                Some(_) => Err(self.too_short()),
            };
        };
        self.context.overhead = 0;
        match call_context::under(&mut self.context, || body.read(&mut buf[..room])) {
            Ok(0) => {
                self.body = None;
                self.left.map_or(Ok(0), |_| Err(self.too_short()))
            }
            Ok(read) => {
                self.left = self.left.map(|left| left - read as u64);
                if self.left == Some(0) && self.counted {
                    self.finish();
                }
                Ok(read)
            }
            Err(error) if self.context.eager && is_dry(&error) => Ok(0),
            Err(_) if self.context.lent.is_some() => {
                self.body = None;
                self.lent = self.context.lent.take();
                self.read(buf)
            }
            Err(error) => {
                self.body = None;
                // Whoever reads on after an error must not take it for the end.
                self.left = Some(self.left.unwrap_or(u64::MAX));
                Err(fault::from_ureq(Error::from(error), &self.url))
            }
        }
    }

    /// Whether this looks like a web page in the place of a file of this name, which has another
    /// size or one that is not told. The body can still be read from its beginning.
    pub fn is_page_instead_of(&mut self, name: &str) -> bool {
        let sized = match self.content {
            Content::Whole { length } => length.is_some(),
            Content::Part { .. } => return false,
        };
        if sized && self.says_page {
            return true;
        }
        if !sized && web_page::is_name_of_one(name) {
            return false;
        }
        if self.peeked.is_empty() {
            let mut begin = vec![0; PEEK];
            let read = self.read(&mut begin).unwrap_or_else(|fault| {
                self.fault = Some(fault);
                0
            });
            begin.truncate(read);
            self.peeked = begin;
        }
        web_page::begins(&self.peeked) && (sized || self.says_page)
    }

    /// The fault that a web page stands for.
    pub fn page_fault(&self) -> Fault {
        web_page::fault(&self.url.authority())
    }

    /// Why the size is not the listed one; `otherwise` where nothing is known of it.
    pub fn explain_size(&self, otherwise: &str) -> String {
        match &self.encoding {
            Some(encoding) => format!(
                "the server has encoded the file ({encoding}) although it was asked not to, and \
                 its size is not the listed one"
            ),
            None => otherwise.to_owned(),
        }
    }

    /// The answer is not what was asked for. It may be another's: its server is asked one thing at
    /// a time from now on.
    pub fn doubt(&self) {
        self.one_by_one.add(&self.url.authority());
    }

    /// Whether the body, which is at its end, was longer than its head had said.
    pub fn is_longer(&self) -> bool {
        self.longer
    }

    /// Whether the end of the body is told by what comes with it (RFC 9112, 7.1), so that a body
    /// which breaks off is a fault rather than a short one.
    pub fn is_framed(&self) -> bool {
        self.chunked
    }

    /// As [`Fetched::read`], up to `most` bytes into the worker's hold, and without a copy of the
    /// bytes in this process where that can be.
    ///
    /// # Errors
    /// As [`Fetched::read`].
    pub fn load(&mut self, buffer: &mut CopyBuffer, most: usize) -> Result<Chunk, Fault> {
        if self.peeked.is_empty()
            && let (Some(lent), Some(left @ 1..)) = (&self.lent, self.left)
            && let Some(pipe) = buffer.pipe()
        {
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            let most = most.min(left).min(copy_buffer::PIPE);
            let moved = call_context::under(&mut self.context, || lent.splice(pipe, most));
            return self.got(moved).map(Chunk::Pipe);
        }
        let buffer = buffer.buffer(most);
        let mut filled = self.read(buffer)?;
        // TLS comes a record of 16 KiB at a time, and a write costs as much for one as for several.
        while self.url.secure && filled > 0 && filled < ENOUGH.min(buffer.len()) {
            match self.read_more(&mut buffer[filled..]) {
                0 => break,
                more => filled += more,
            }
        }
        Ok(Chunk::Buffer(0, filled))
    }

    /// As [`Fetched::read`], but only what has come already; 0 if that is nothing. An error is
    /// kept for the next read.
    fn read_more(&mut self, room: &mut [u8]) -> usize {
        if self.left == Some(0) {
            return 0;
        }
        self.context.eager = true;
        let read = self.read(room);
        self.context.eager = false;
        read.unwrap_or_else(|fault| {
            self.fault = Some(fault);
            0
        })
    }

    /// Takes note of what came straight from the socket.
    fn got(&mut self, read: io::Result<usize>) -> Result<usize, Fault> {
        match read {
            Ok(read @ 1..) => {
                self.left = self.left.map(|left| left - read as u64);
                if self.left == Some(0) {
                    self.lent
                        .take()
                        .into_iter()
                        .for_each(|lent| self.parked.park(lent));
                    self.permit = None;
                }
                Ok(read)
            }
            Ok(_) => {
                self.lent = None;
                Err(self.too_short())
            }
            Err(error) => {
                self.lent = None;
                Err(fault::from_ureq(Error::from(error), &self.url))
            }
        }
    }

    /// ureq gives a connection back in the read after the last byte. Where the length was declared
    /// that read touches no socket.
    fn finish(&mut self) {
        if let Some(mut body) = self.body.take() {
            self.context.limit = Some(Instant::now() + exchange::DRAIN_TIME);
            self.context.whole = true;
            // All that was wanted is here; if more comes, the connection is closed by the drop.
            let more = call_context::under(&mut self.context, || body.read(&mut [0; 1]));
            self.longer |= matches!(more, Ok(1..));
            self.context.whole = false;
        }
        self.permit = None;
    }

    fn too_short(&self) -> Fault {
        Fault::transient(format!(
            "{} closed the connection before the last byte",
            self.url.authority()
        ))
    }
}

fn is_dry(error: &io::Error) -> bool {
    let cut = error.get_ref().and_then(|inner| inner.downcast_ref());
    matches!(cut, Some(AbortReason::Dry))
}

/// Asks `address` for its bytes, or for a part of them. `next` are the addresses that this thread
/// will ask for all of their bytes right after it.
pub(super) fn fetch<'a>(
    exchange: &Exchange,
    address: &Address,
    part: Option<Range<u64>>,
    next: impl Iterator<Item = &'a Address>,
    watch: &Watch,
) -> Result<Fetched, Fault> {
    let follow = match part {
        None => next
            .map_while(|next| next.target_beside(address))
            .take(exchange.most_along(&address.url, Purpose::Bytes))
            .collect(),
        // They would be asked for the same part.
        Some(_) => Vec::new(),
    };
    let headers = Headers {
        range: part.map(range_header).transpose()?,
        ..Headers::default()
    };
    let mut context = Context {
        watch: Some(watch.clone()),
        follow,
        ..Context::default()
    };
    let (answer, content) = call_context::under(&mut context, || {
        let counted = Some(Purpose::Bytes);
        let answer = exchange.get(address.url.clone(), headers, Redirects::Follow, counted)?;
        if let Some(content) = content(&answer.response, &answer.url)? {
            return Ok((answer, content));
        }
        Err(refusal::fault(answer))
    })?;
    // The body may take as long as it likes, if only it moves.
    context.limit = None;
    let etag = etag(answer.response.headers());
    let is_whole = matches!(content, Content::Whole { .. });
    let expected = content_digest::expected(answer.response.headers(), &answer.url, is_whole);
    let declared = exchange::declared_length(&answer.response);
    let left = match content {
        Content::Whole { length } => length,
        Content::Part { start, end, .. } => Some(end - start),
    };
    context.lend = !answer.url.secure
        && !answer.response.headers().contains_key(TRANSFER_ENCODING)
        && stays_open(&answer.response)
        && declared.is_some_and(|length| length >= direct::LARGE && left == Some(length));
    let chunked = is_chunked(answer.response.headers());
    let says_page = web_page::is_declared(answer.response.headers());
    let encoding = exchange::encoding(answer.response.headers());
    Ok(Fetched {
        content,
        etag,
        expected,
        body: Some(answer.response.into_body().into_reader()),
        left,
        fault: None,
        counted: declared.is_some(),
        chunked,
        longer: false,
        peeked: Vec::new(),
        says_page,
        encoding,
        url: answer.url,
        context,
        lent: None,
        parked: exchange.agents.parked().clone(),
        one_by_one: exchange.agents.one_by_one().clone(),
        permit: answer.permit,
    })
}

/// Whether the server keeps the connection for the next request, as HTTP/1.1 does unless it says
/// otherwise.
fn stays_open(response: &Response<Body>) -> bool {
    let closes = response.headers().get_all(CONNECTION).iter().any(|value| {
        value
            .as_bytes()
            .to_ascii_lowercase()
            .windows(5)
            .any(|word| word == b"close")
    });
    response.version() == Version::HTTP_11 && !closes
}

/// Whether the body comes in chunks, the last of which says that it is over.
fn is_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    codings.next_back().is_some_and(|codings| {
        let codings = codings.as_bytes().to_ascii_lowercase();
        codings.trim_ascii_end().ends_with(b"chunked")
    })
}

/// `bytes=a-b`, both inclusive (RFC 9110, 14.2).
fn range_header(part: Range<u64>) -> Result<HeaderValue, Fault> {
    if part.is_empty() {
        return Err(Fault::Malformed(
            "an empty part cannot be asked for".to_owned(),
        ));
    }
    let text = format!("bytes={}-{}", part.start, part.end - 1);
    Ok(HeaderValue::try_from(text).expect("digits and a dash can stand in a header"))
}

/// What a good answer brings; None if the status is another.
fn content(
    response: &ureq::http::Response<ureq::Body>,
    url: &Url,
) -> Result<Option<Content>, Fault> {
    let declared = exchange::declared_length(response);
    match response.status().as_u16() {
        200 => Ok(Some(Content::Whole { length: declared })),
        206 => {
            let range = response
                .headers()
                .get(CONTENT_RANGE)
                .and_then(|value| value.to_str().ok());
            let bad = |why| Fault::Malformed(format!("{} sent a part {why}", url.authority()));
            let content = range.and_then(content_range).ok_or_else(|| {
                bad(match is_multipart(response.headers()) {
                    true => "as one of several (multipart/byteranges), though one was asked for",
                    false => "without saying which (Content-Range)",
                })
            })?;
            match content {
                Content::Part { start, end, .. }
                    if declared.is_some_and(|length| length != end - start) =>
                {
                    Err(bad("whose Content-Length contradicts its Content-Range"))
                }
                content => Ok(Some(content)),
            }
        }
        _ => Ok(None),
    }
}

/// Whether the body is a list of parts (RFC 9110, 14.6).
fn is_multipart(headers: &HeaderMap) -> bool {
    let kind = headers.get(ureq::http::header::CONTENT_TYPE);
    kind.is_some_and(|kind| {
        let kind = kind.as_bytes().to_ascii_lowercase();
        kind.starts_with(b"multipart/byteranges")
    })
}

/// `bytes a-b/total` (RFC 9110, 14.4); None if it is not that or contradicts itself.
fn content_range(text: &str) -> Option<Content> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u64>().ok()).flatten()
    };
    let (unit, rest) = text.trim().split_once(' ')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (start, end) = (number(first)?, number(last)?.checked_add(1)?);
    let total = if total == "*" {
        None
    } else {
        Some(number(total)?)
    };
    let sound = start < end && total.is_none_or(|total| end <= total);
    sound.then_some(Content::Part { start, end, total })
}

/// What tells one content of a file from another: its entity tag or, if there is none, when it
/// was changed last (RFC 9110, 8.8), behind [`MODIFIED`].
fn etag(headers: &HeaderMap) -> Option<String> {
    let short = |name| {
        let text = headers.get(name)?.to_str().ok()?;
        (text.len() <= MAX_ETAG).then_some(text)
    };
    let modified = || short(LAST_MODIFIED).map(|date| format!("{MODIFIED}{date}"));
    short(ETAG).map(str::to_owned).or_else(modified)
}

/// Whether two answers are of different contents. A tag and a time say nothing of each other.
pub fn differs(known: &str, told: &str) -> bool {
    known.starts_with(MODIFIED) == told.starts_with(MODIFIED) && known != told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_content_ranges_and_refuses_contradictions() {
        let part = |start, end, total| Some(Content::Part { start, end, total });
        for (text, content) in [
            ("bytes 0-99/200", part(0, 100, Some(200))),
            ("Bytes 5-5/6", part(5, 6, Some(6))),
            ("bytes 10-19/*", part(10, 20, None)),
            ("bytes */200", None),
            ("bytes 5-4/200", None),
            ("bytes 0-200/200", None),
            ("bytes 0-99", None),
            ("bytes +0-99/200", None),
            ("bytes 0-18446744073709551615/*", None),
            ("items 0-99/200", None),
            ("", None),
        ] {
            assert_eq!(content_range(text), content, "{text}");
        }
    }

    #[test]
    fn an_address_is_https_or_from_a_server_of_ones_own() {
        let parse = |text, api| Address::parse(text, &Url::parse(api).unwrap());
        assert!(parse("https://cdn.example/a?sig=1", "https://api.example").is_ok());
        assert!(parse("http://cdn.example/a", "http://api.example").is_ok());
        assert!(parse("http://cdn.example/a", "https://localhost:1").is_ok());
        assert!(parse("http://cdn.example/a", "https://127.0.0.1").is_ok());
        for address in [
            "http://cdn.example/a?sig=1",
            "http://127.0.0.1/a",
            "https://u:p@cdn.example/a",
            "ftp://cdn.example/a",
            "file:///etc/passwd",
            "/a",
            "",
        ] {
            let fault = parse(address, "https://api.example").unwrap_err();
            assert!(
                matches!(&fault, Fault::Malformed(why) if !why.contains("sig=1")),
                "{address}"
            );
        }
        let long = format!("https://cdn.example/{}", "a".repeat(MAX_ADDRESS));
        assert!(parse(&long, "https://api.example").is_err());
    }
}
