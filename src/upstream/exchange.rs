//! One GET and its answer: what a pooled connection may cost, redirects, statuses.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ureq::http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, COOKIE, DATE, HeaderMap, HeaderName, HeaderValue, LOCATION,
    RETRY_AFTER,
};
use ureq::http::{Request, Response, StatusCode};
use ureq::{Agent, Body, Error};

use super::agents::Agents;
use super::call_context::{self, AbortReason, PROXY_WANTS};
use super::cookies::Cookies;
use super::fault::{self, Fault};
use super::permits::{Permit, Purpose};
use super::pipeline::MAX_AHEAD;
use crate::base::url::{self, Url};

/// Redirects that one call follows.
const MAX_REDIRECTS: usize = 10;

/// A body that nobody wants is read up to here, so that its connection can serve again, in bytes.
const WORTH_DRAINING: u64 = 8 * 1024;

/// And for so long.
pub const DRAIN_TIME: Duration = Duration::from_secs(1);

/// The longest wait that a server can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What is sent beside the request line.
#[derive(Clone, Default)]
pub struct Headers {
    /// Credentials: they go to the first request's scheme, host and port, and nowhere else.
    pub secret: Vec<(HeaderName, HeaderValue)>,
    /// `Range`, sent to every host on the way.
    pub range: Option<HeaderValue>,
    /// What the redirects before have set.
    pub cookies: Option<HeaderValue>,
}

/// What to do with a redirect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Redirects {
    Follow,
    /// The caller wants to see it.
    Answer,
}

/// An answer and the URL that gave it, which is another than was asked where redirects were
/// followed.
pub struct Answer {
    pub response: Response<Body>,
    pub url: Arc<Url>,
    /// Held for as long as the answer is being read, where its purpose is counted.
    pub permit: Option<Permit>,
}

impl Answer {
    /// See [`drain`].
    pub fn drain(self) {
        drain(self.response);
    }
}

/// One thread's requests.
pub struct Exchange {
    pub agents: Agents,
    /// Requests that are on their way ahead of their turn.
    ahead: AtomicUsize,
    /// Tells its thread from the others.
    thread: usize,
}

static THREADS: AtomicUsize = AtomicUsize::new(0);

impl Exchange {
    pub fn new(agents: Agents) -> Exchange {
        Exchange {
            agents,
            ahead: AtomicUsize::new(0),
            thread: THREADS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// How many others the next request may take along: none while some are on their way, nor to a
    /// host that limits requests.
    pub fn most_along(&self, url: &Url, purpose: Purpose) -> usize {
        if self.agents.permits().is_limited(&url.authority(), purpose) {
            return 0;
        }
        match self.ahead.load(Ordering::Relaxed) {
            0 => MAX_AHEAD,
            _ => 0,
        }
    }

    /// Sends a GET and follows its redirects. Runs under the caller's context, and leaves a limit
    /// there that a slow answer's head, or the rest of a small answer, ends at. Where the request
    /// is `counted`, it waits until its host is likely to take it.
    ///
    /// # Errors
    /// Transport faults; a redirect that leads nowhere, in circles, or from https to http is
    /// malformed.
    pub fn get(
        &self,
        mut url: Arc<Url>,
        mut headers: Headers,
        redirects: Redirects,
        counted: Option<Purpose>,
    ) -> Result<Answer, Fault> {
        let mut cookies = Cookies::default();
        for _ in 0..=MAX_REDIRECTS {
            let permit = counted
                .map(|purpose| self.permit(&url, purpose))
                .transpose()?;
            let limit = Instant::now() + 2 * self.agents.silence() + Duration::from_secs(20);
            call_context::context(|context| context.limit = Some(limit));
            let response = self.send(&url, &headers);
            let ahead = call_context::context(|context| {
                context.follow.clear();
                context.ahead
            });
            self.ahead.store(ahead, Ordering::Relaxed);
            let response = response?;
            if let Some(permit) = &permit {
                note_answer(permit, &response);
            }
            if redirects == Redirects::Answer || !is_redirect(response.status()) {
                return Ok(Answer {
                    response,
                    url,
                    permit,
                });
            }
            let target = redirect_target(&response, &url)?;
            cookies.take(response.headers(), &url);
            headers.cookies = cookies.header(&target);
            drain(response);
            if !target.same_origin(&url) {
                headers.secret.clear();
            }
            url = Arc::new(target);
        }
        Err(Fault::Malformed(format!(
            "{} redirected more than {MAX_REDIRECTS} times",
            url.authority()
        )))
    }

    fn permit(&self, url: &Url, purpose: Purpose) -> Result<Permit, Fault> {
        let watch = call_context::context(|context| context.watch.clone()).unwrap_or_default();
        let permits = self.agents.permits();
        permits.acquire(url.authority(), purpose, self.thread, &watch)
    }

    fn send(&self, url: &Url, headers: &Headers) -> Result<Response<Body>, Fault> {
        let request = || request(url, headers);
        let result = if url.secure {
            self.send_secure(url, &request)
        } else {
            attempt(&self.agents.plain(), &request)
        };
        result.map_err(|error| fault::from_ureq(error, url))
    }

    fn send_secure(&self, url: &Url, request: &MakeRequest<'_>) -> Result<Response<Body>, Error> {
        let local = match self.agents.bundled_hosts().has(&url.host) {
            true => None,
            false => self.agents.local(),
        };
        let Some(local) = local else {
            return attempt(&self.agents.bundled(), request);
        };
        match attempt(&local, request) {
            Err(error) if fault::is_unknown_issuer(&error) => {
                // Where neither knows the issuer, the first answer is as good as the second.
                let response = attempt(&self.agents.bundled(), request).map_err(|_| error)?;
                self.agents.bundled_hosts().add(&url.host);
                Ok(response)
            }
            result => result,
        }
    }
}

/// Tells whether the host took the request, or has too many of them.
fn note_answer(permit: &Permit, response: &Response<Body>) {
    match response.status().as_u16() {
        429 | 503 => permit.refused(retry_after(response.headers(), SystemTime::now())),
        _ => permit.answered(),
    }
}

/// Makes a request, anew for each attempt.
type MakeRequest<'a> = dyn Fn() -> Result<Request<()>, Error> + 'a;

fn request(url: &Url, headers: &Headers) -> Result<Request<()>, Error> {
    let mut request = Request::get(url.for_request()).body(())?;
    for (name, value) in &headers.secret {
        request.headers_mut().insert(name, value.clone());
    }
    if let Some(cookies) = &headers.cookies {
        request.headers_mut().insert(COOKIE, cookies.clone());
    }
    if let Some(range) = &headers.range {
        request
            .headers_mut()
            .insert(ureq::http::header::RANGE, range.clone());
    }
    Ok(request)
}

/// Sends a request. A server may close a kept-alive connection at the moment in which we use it
/// again: then there is an error before any byte of an answer, which says nothing about the server,
/// and the request is sent once more on a new connection.
fn attempt(agent: &Agent, request: &MakeRequest<'_>) -> Result<Response<Body>, Error> {
    call_context::context(|context| {
        (context.connected, context.answered) = (false, false);
        context.overhead = 0;
    });
    let result = agent.run(request()?);
    let stale = matches!(&result, Err(error) if is_disconnect(error))
        && call_context::context(|context| !context.connected && !context.answered);
    if !stale {
        return result;
    }
    call_context::context(|context| context.force_new_connection = true);
    let result = agent.run(request()?);
    call_context::context(|context| context.force_new_connection = false);
    result
}

fn is_disconnect(error: &Error) -> bool {
    let Error::Io(error) = error else {
        return false;
    };
    let cut = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<AbortReason>());
    cut.is_none_or(|cut| *cut == AbortReason::Reset)
}

/// Whether a status sends the client elsewhere (RFC 9110, 15.4). 300, 304 and 305 do not.
pub fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a redirect leads.
///
/// # Errors
/// Malformed if it leads nowhere, or from https to http.
pub fn redirect_target(response: &Response<Body>, from: &Url) -> Result<Url, Fault> {
    let bad = |why: &str| Fault::Malformed(format!("{} sent a redirect {why}", from.authority()));
    let location = response
        .headers()
        .get(LOCATION)
        .ok_or_else(|| bad("without a Location"))?;
    let target = from
        .join(&url::encoded(location.as_bytes()))
        .map_err(|why| bad(&format!("that cannot be followed: {why}")))?;
    if from.secure && !target.secure {
        return Err(bad("from https to http"));
    }
    Ok(target)
}

/// Reads a body that nobody wants, if it is small, so that the connection can be used again. Runs
/// under the caller's context.
pub fn drain(mut response: Response<Body>) {
    if response
        .body()
        .content_length()
        .is_some_and(|length| length > WORTH_DRAINING)
    {
        return;
    }
    let limit = Instant::now() + DRAIN_TIME;
    let before = call_context::context(|context| context.limit.replace(limit));
    let mut rest = response.body_mut().as_reader().take(WORTH_DRAINING);
    // Whether it worked shows in the pool only.
    let _ = std::io::copy(&mut rest, &mut std::io::sink());
    call_context::context(|context| context.limit = before);
}

/// The body's length, where the server declared it.
pub fn declared_length(response: &Response<Body>) -> Option<u64> {
    let length = response.body().content_length();
    // Where a length of 0 was declared ureq knows of no body, and so of no length.
    let nothing = || {
        response
            .headers()
            .get(CONTENT_LENGTH)
            .is_some_and(|length| length == "0")
    };
    length.or_else(|| nothing().then_some(0))
}

/// `Content-Encoding`, fit to be shown; None if the bytes are those of the file.
pub fn encoding(headers: &HeaderMap) -> Option<String> {
    let text = headers.get(CONTENT_ENCODING)?.to_str().ok()?.trim();
    let shown: String = text.chars().take(40).collect();
    let is_plain = shown.is_empty() || shown.eq_ignore_ascii_case("identity");
    (!is_plain).then_some(shown)
}

/// The transient fault that a status stands for, if it stands for one.
pub fn transient_status(response: &Response<Body>, url: &Url) -> Option<Fault> {
    let status = response.status();
    let transient = status.is_server_error() || matches!(status.as_u16(), 407 | 408 | 429);
    // RFC 6585, 6: what a portal answers that wants a sign-in.
    let question = match status.as_u16() {
        511 => ": does this network want a sign-in?",
        _ => "",
    };
    let host = url.authority();
    transient.then(|| Fault::Transient {
        message: match status.as_u16() {
            407 => format!("{host}: {PROXY_WANTS}"),
            _ => format!("{host} answered {status}{question}"),
        },
        retry_after: retry_after(response.headers(), SystemTime::now()),
    })
}

/// `Retry-After`: seconds or a date (RFC 9110, 10.2.3), an hour at the most. A date is one of the
/// server's clock, so it is held against that, where the answer tells it (`Date`): ours may be
/// wrong by years.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // Too many digits for a number are a very long time.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let told = headers.get(DATE).and_then(|date| date.to_str().ok());
        let told = told.and_then(|date| httpdate::parse_http_date(date).ok());
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(told.unwrap_or(now)).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_forms_of_retry_after() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (text, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(3600)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Sun, 06 Nov 2044 08:00:00 GMT", Some(3600)),
            ("-5", None),
            ("soon", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(text));
            assert_eq!(
                retry_after(&headers, now),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }

    #[test]
    fn a_date_to_retry_at_is_one_of_the_servers_clock() {
        let ours = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let wait = |date: &'static str, after: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(DATE, HeaderValue::from_static(date));
            headers.insert(RETRY_AFTER, HeaderValue::from_static(after));
            retry_after(&headers, ours).unwrap().as_secs()
        };
        let after = "Mon, 23 Nov 2026 10:00:30 GMT";
        assert_eq!(wait("Mon, 23 Nov 2026 10:00:00 GMT", after), 30);
        assert_eq!(wait("Mon, 23 Nov 2026 11:00:00 GMT", after), 0);
        assert_eq!(wait("no date", after), 3600);
        assert_eq!(wait("Mon, 23 Nov 2026 10:00:00 GMT", "7"), 7);
    }
}
