//! One GET and its answer: which agent sends it, what a pooled connection may cost, redirects, statuses.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use ureq::http::header::{
    CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
    TRANSFER_ENCODING,
};
use ureq::http::{Request, Response, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::transport::{ConnectionDetails, Connector, RustlsConnector, Transport};
use ureq::{Agent, Body, Error};

use super::direct::Parked;
use super::fault::{self, Fault};
use super::line::{Dialer, INPUT_BUFFER, OUTPUT_BUFFER, Unresolved};
use super::pipeline::{MOST_AHEAD, OneByOne, Pipelining};
use super::trust;
use super::watch::{self, Cut};
use crate::url::Url;

/// Redirects that one call follows.
const MOST_REDIRECTS: usize = 5;

/// Response heads larger than this are refused, in bytes.
const LARGEST_HEAD: usize = 32 * 1024;

/// A body that nobody wants is read up to here, so that its connection can serve again, in bytes.
const WORTH_DRAINING: u64 = 8 * 1024;

/// And for so long.
pub const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Connections that a thread keeps alive: it talks to the API and to a storage server or two.
const KEPT_ALIVE: usize = 4;

/// Connections unused for so long are not used again. Servers close theirs after a minute or so.
const IDLE_AGE: Duration = Duration::from_secs(60);

/// The longest wait that a server can ask for.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// What is sent beside the request line.
#[derive(Clone, Default)]
pub struct Headers {
    /// Credentials: they go to the first request's scheme, host and port, and nowhere else.
    pub secret: Vec<(HeaderName, HeaderValue)>,
    /// `Range`, for whoever answers in the end.
    pub range: Option<HeaderValue>,
}

/// What to do with a redirect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Redirects {
    Follow,
    /// The caller wants to see it.
    Answer,
}

/// An answer and the URL that gave it, which is another than was asked where redirects were followed.
pub struct Answer {
    pub response: Response<Body>,
    pub url: Arc<Url>,
}

/// One thread's agents, with the connections that it keeps alive, and what it has in common with the other threads.
pub struct Exchange {
    common: Arc<Common>,
    agents: Mutex<Agents>,
    /// Requests that are on their way ahead of their turn.
    ahead: AtomicUsize,
}

/// What all threads share.
struct Common {
    silence: Duration,
    given: Vec<Certificate<'static>>,
    /// Where calls that read a plain connection themselves leave it.
    parked: Arc<Parked>,
    tls: Mutex<Tls>,
    /// Hosts whose certificate only the roots compiled in vouch for.
    bundled_hosts: Mutex<Vec<String>>,
    one_by_one: Arc<OneByOne>,
}

/// Roots are some megabytes; each set is made when it is first needed, and forgotten when nobody needs it.
#[derive(Default)]
struct Tls {
    /// Inside: None where there are no roots but those compiled in.
    local: Option<Option<Trust>>,
    bundled: Option<Trust>,
}

#[derive(Clone)]
struct Trust {
    roots: RootCerts,
    connector: Arc<RustlsConnector>,
}

impl Trust {
    fn new(roots: RootCerts) -> Trust {
        Trust {
            roots,
            connector: Arc::default(),
        }
    }
}

#[derive(Default)]
struct Agents {
    plain: Option<Agent>,
    local: Option<Agent>,
    bundled: Option<Agent>,
}

impl Exchange {
    /// `connections` is how many are kept that calls have read themselves.
    pub fn new(
        connections: usize,
        silence: Duration,
        given: Vec<Certificate<'static>>,
        one_by_one: OneByOne,
    ) -> Exchange {
        Exchange {
            common: Arc::new(Common {
                silence,
                given,
                parked: Arc::new(Parked::new(connections, IDLE_AGE)),
                tls: Mutex::default(),
                bundled_hosts: Mutex::default(),
                one_by_one: Arc::new(one_by_one),
            }),
            agents: Mutex::default(),
            ahead: AtomicUsize::new(0),
        }
    }

    /// Another, for another thread, with connections of its own.
    pub fn another(&self) -> Exchange {
        Exchange {
            common: self.common.clone(),
            agents: Mutex::default(),
            ahead: AtomicUsize::new(0),
        }
    }

    /// Where calls that read a plain connection themselves leave it.
    pub fn parked(&self) -> &Arc<Parked> {
        &self.common.parked
    }

    /// How many others the next request may take along: none while some are on their way.
    pub fn most_along(&self) -> usize {
        match self.ahead.load(Ordering::Relaxed) {
            0 => MOST_AHEAD,
            _ => 0,
        }
    }

    /// Hosts that are asked one thing at a time.
    pub fn one_by_one(&self) -> &Arc<OneByOne> {
        &self.common.one_by_one
    }

    /// Closes the connections that nobody uses, those of other threads apart, and forgets the roots, which is some
    /// megabytes. Both come back with the next request; those under way go on.
    pub fn rest(&self) {
        let agents = std::mem::take(&mut *self.agents());
        let tls = std::mem::take(&mut *self.common.tls());
        // Closing may take a moment, and needs no lock.
        drop((agents, tls));
        self.common.parked.close();
    }

    fn agents(&self) -> MutexGuard<'_, Agents> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plain(&self) -> Agent {
        let mut agents = self.agents();
        let plain = &mut agents.plain;
        let make = || {
            self.common
                .agent(self.common.parked.clone(), Trust::new(RootCerts::WebPki))
        };
        plain.get_or_insert_with(make).clone()
    }

    fn local(&self) -> Option<Agent> {
        let mut agents = self.agents();
        if agents.local.is_none() {
            agents.local = Some(self.common.secure_agent(self.common.local_trust()?));
        }
        agents.local.clone()
    }

    fn bundled(&self) -> Agent {
        let mut agents = self.agents();
        let bundled = &mut agents.bundled;
        let make = || self.common.secure_agent(self.common.bundled_trust());
        bundled.get_or_insert_with(make).clone()
    }

    /// Sends a GET and follows its redirects. Runs under the caller's context, and leaves a limit there that
    /// a slow answer's head, or the rest of a small answer, ends at.
    ///
    /// # Errors
    /// Transport faults; a redirect that leads nowhere, in circles, or from https to http is malformed.
    pub fn get(
        &self,
        mut url: Arc<Url>,
        mut headers: Headers,
        redirects: Redirects,
    ) -> Result<Answer, Fault> {
        for _ in 0..=MOST_REDIRECTS {
            let limit = Instant::now() + 2 * self.common.silence + Duration::from_secs(20);
            watch::context(|context| context.limit = Some(limit));
            let response = self.send(&url, &headers);
            let ahead = watch::context(|context| {
                context.follow.clear();
                context.ahead
            });
            self.ahead.store(ahead, Ordering::Relaxed);
            let response = response?;
            if redirects == Redirects::Answer || !is_redirect(response.status()) {
                return Ok(Answer { response, url });
            }
            let target = redirect_target(&response, &url)?;
            drain(response);
            if !target.same_origin(&url) {
                headers.secret.clear();
            }
            url = Arc::new(target);
        }
        Err(Fault::Malformed(format!(
            "{} redirected more than {MOST_REDIRECTS} times",
            url.authority()
        )))
    }

    fn send(&self, url: &Url, headers: &Headers) -> Result<Response<Body>, Fault> {
        let request = request(url, headers)?;
        let result = if url.secure {
            self.send_secure(url, &request)
        } else {
            attempt(&self.plain(), &request)
        };
        result.map_err(|error| fault::from_ureq(error, url))
    }

    fn send_secure(&self, url: &Url, request: &Request<()>) -> Result<Response<Body>, Error> {
        let local = match self.common.is_bundled_host(&url.host) {
            true => None,
            false => self.local(),
        };
        let Some(local) = local else {
            return attempt(&self.bundled(), request);
        };
        match attempt(&local, request) {
            Err(error) if fault::is_unknown_issuer(&error) => {
                // Where neither knows the issuer, the first answer is as good as the second.
                let response = attempt(&self.bundled(), request).map_err(|_| error)?;
                self.common.remember_bundled_host(&url.host);
                Ok(response)
            }
            result => result,
        }
    }
}

impl Common {
    fn tls(&self) -> MutexGuard<'_, Tls> {
        self.tls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn local_trust(&self) -> Option<Trust> {
        let mut tls = self.tls();
        let make = || trust::local_roots(&self.given).map(Trust::new);
        tls.local.get_or_insert_with(make).clone()
    }

    fn bundled_trust(&self) -> Trust {
        let mut tls = self.tls();
        let make = || Trust::new(RootCerts::WebPki);
        tls.bundled.get_or_insert_with(make).clone()
    }

    /// Nobody reads a TLS connection but rustls: none is lent, and so none is parked.
    fn secure_agent(&self, trust: Trust) -> Agent {
        self.agent(Arc::new(Parked::new(0, IDLE_AGE)), trust)
    }

    fn agent(&self, parked: Arc<Parked>, trust: Trust) -> Agent {
        let silence = self.silence;
        agent(Dialer { silence, parked }, trust, self.one_by_one.clone())
    }

    fn is_bundled_host(&self, host: &str) -> bool {
        let hosts = self
            .bundled_hosts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        hosts.iter().any(|known| known == host)
    }

    fn remember_bundled_host(&self, host: &str) {
        let mut hosts = self
            .bundled_hosts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // It only saves a handshake: a few hosts are enough, and a hostile listing could name many.
        if hosts.len() < 64 && !hosts.iter().any(|known| known == host) {
            hosts.push(host.to_owned());
        }
    }
}

fn agent(dialer: Dialer, trust: Trust, one_by_one: Arc<OneByOne>) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(concat!("haul/", env!("CARGO_PKG_VERSION")))
        // Sizes and ranges are those of the stored bytes.
        .accept_encoding("identity")
        .max_response_header_size(LARGEST_HEAD)
        .input_buffer_size(INPUT_BUFFER)
        .output_buffer_size(OUTPUT_BUFFER)
        .max_idle_connections(KEPT_ALIVE)
        .max_idle_connections_per_host(KEPT_ALIVE)
        .max_idle_age(IDLE_AGE)
        .tls_config(TlsConfig::builder().root_certs(trust.roots).build())
        .build();
    let connector = dialer
        .chain(Shared(trust.connector))
        .chain(Pipelining(one_by_one));
    Agent::with_parts(config, connector, Unresolved)
}

/// A connector that several agents have in common, and with it the roots and the sessions that it knows.
#[derive(Debug)]
struct Shared<C>(Arc<C>);

impl<In: Transport, C: Connector<In>> Connector<In> for Shared<C> {
    type Out = C::Out;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<C::Out>, Error> {
        self.0.connect(details, chained)
    }
}

fn request(url: &Url, headers: &Headers) -> Result<Request<()>, Fault> {
    let mut request = Request::get(url.for_request()).body(()).map_err(|_| {
        Fault::Malformed(format!(
            "{}: its address cannot be requested",
            url.authority()
        ))
    })?;
    for (name, value) in &headers.secret {
        request.headers_mut().insert(name, value.clone());
    }
    if let Some(range) = &headers.range {
        request
            .headers_mut()
            .insert(ureq::http::header::RANGE, range.clone());
    }
    Ok(request)
}

/// Sends a request. A server may close a kept-alive connection at the moment in which we use it again: then there is an error
/// before any byte of an answer, which says nothing about the server, and the request is sent once more on a new connection.
fn attempt(agent: &Agent, request: &Request<()>) -> Result<Response<Body>, Error> {
    watch::context(|context| {
        (context.connected, context.answered) = (false, false);
        context.overhead = 0;
    });
    let result = agent.run(request.clone());
    let stale = matches!(&result, Err(error) if is_disconnect(error))
        && watch::context(|context| !context.connected && !context.answered);
    if !stale {
        return result;
    }
    watch::context(|context| context.shun_pool = true);
    let result = agent.run(request.clone());
    watch::context(|context| context.shun_pool = false);
    result
}

fn is_disconnect(error: &Error) -> bool {
    let Error::Io(error) = error else {
        return false;
    };
    let cut = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Cut>());
    cut.is_none_or(|cut| *cut == Cut::Reset)
}

/// Whether a status sends the client elsewhere (RFC 9110, 15.4). 300, 304 and 305 do not.
pub fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a redirect leads.
///
/// # Errors
/// Malformed where it leads nowhere, or from https to http.
pub fn redirect_target(response: &Response<Body>, from: &Url) -> Result<Url, Fault> {
    let bad = |why: &str| Fault::Malformed(format!("{} sent a redirect {why}", from.authority()));
    let location = response
        .headers()
        .get(LOCATION)
        .ok_or_else(|| bad("without a Location"))?;
    // Header bytes beyond ASCII are tolerated where they are UTF-8; the request percent-encodes them.
    let location = std::str::from_utf8(location.as_bytes()).map_err(|_| bad("that is no URL"))?;
    let target = from
        .join(location)
        .map_err(|why| bad(&format!("that cannot be followed: {why}")))?;
    if from.secure && !target.secure {
        return Err(bad("from https to http"));
    }
    Ok(target)
}

/// Reads a body that nobody wants, if it is small, so that the connection can be used again. Runs under the caller's context.
pub fn drain(mut response: Response<Body>) {
    if response
        .body()
        .content_length()
        .is_some_and(|length| length > WORTH_DRAINING)
    {
        return;
    }
    let limit = Instant::now() + DRAIN_TIME;
    let before = watch::context(|context| context.limit.replace(limit));
    let mut rest = response.body_mut().as_reader().take(WORTH_DRAINING);
    // Whether it worked shows in the pool only.
    let _ = std::io::copy(&mut rest, &mut std::io::sink());
    watch::context(|context| context.limit = before);
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

/// Whether the end of the body is told by the protocol, rather than by the end of the connection.
pub fn is_delimited(response: &Response<Body>) -> bool {
    declared_length(response).is_some() || response.headers().contains_key(TRANSFER_ENCODING)
}

/// The transient fault that a status stands for, if it stands for one.
pub fn transient_status(response: &Response<Body>, url: &Url) -> Option<Fault> {
    let status = response.status();
    let transient = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
    transient.then(|| Fault::Transient {
        message: format!("{} answered {status}", url.authority()),
        retry_after: retry_after(response.headers(), SystemTime::now()),
    })
}

/// `Retry-After`: seconds or a date (RFC 9110, 10.2.3), an hour at the most. A date is one of the server's clock, so it is held against
/// that, where the answer tells it (`Date`): ours may be wrong by years.
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
    Some(wait.min(LONGEST_RETRY_AFTER))
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
