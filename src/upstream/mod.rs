//! The upstream server: the four calls that lead from a package link to a file's bytes.
//!
//! Blocking, over kept-alive connections. Every call can be stopped while it is blocked, see
//! [`Watch`]. Nothing here retries, except for one thing that is no attempt: a request on a
//! kept-alive connection that the server had closed in the meantime.

mod agents;
mod call_context;
mod connection;
mod content_digest;
mod cookies;
mod dial;
mod direct;
mod exchange;
mod fault;
mod fetch;
mod host_limit;
mod hosts;
mod json;
mod listing;
mod obs_fold;
mod permits;
mod pinned;
mod pipeline;
pub mod proxy;
mod refusal;
pub mod session;
#[cfg(test)]
mod tests;
pub mod tls;
pub mod trust;
mod tunnel;
mod web_page;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use ureq::Error;
use ureq::http::HeaderName;
use ureq::http::header::HeaderValue;

use self::agents::Agents;
use self::call_context::Context;
use self::exchange::{Answer, Exchange, Headers, Redirects};
use self::json::Text;
use self::permits::Purpose;
use self::pipeline::PipeliningBlocklist;
use crate::base::secret::Secret;
use crate::base::url::Url;
use crate::model::link::Link;
use crate::model::listing::Listed;

pub use self::call_context::Watch;
pub use self::connection::Unresolved;
pub use self::content_digest::Expected;
pub use self::dial::Outlet;
pub use self::fault::{Fault, Rejection};
pub use self::fetch::{Address, Content, Fetched, differs};

const PACKAGE_TOKEN: HeaderName = HeaderName::from_static("x-package-token");
const LINK_PASSWORD: HeaderName = HeaderName::from_static("x-link-password");

/// Longer passwords and tokens do not fit into a header, in bytes.
const MAX_HEADER: usize = 16 * 1024;

/// Longer package names are cut, in bytes.
const MAX_NAME: usize = 1024;

/// Everything but the unreserved characters (RFC 3986, 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What an error of a call means and what to do about it, fit to be shown; `url` is where the call
/// went.
pub fn explain(error: Error, url: &Url) -> String {
    fault::from_ureq(error, url).to_string()
}

/// How a client is set up.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections that are kept alive after calls that have read them themselves: as many as there
    /// are threads.
    pub connections: usize,
    /// So long without a byte is a timeout.
    pub silence: Duration,
    /// A PEM file with roots to trust beside the system's and those compiled in.
    pub ca_file: Option<PathBuf>,
    /// Whether a server that has proved itself gets several requests at once.
    pub pipelining: bool,
    /// By way of which proxies, and from which address.
    pub outlet: Outlet,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            connections: 16,
            silence: Duration::from_secs(30),
            ca_file: None,
            pipelining: true,
            outlet: Outlet::default(),
        }
    }
}

/// What a link leads to.
#[derive(Debug, Clone)]
pub struct Package {
    pub package_id: String,
    /// As the sender wrote it, at most 1 KiB.
    pub name: Option<String>,
    /// None if the server gave none, which no server of MASV's does: the next calls may then go
    /// without one.
    pub token: Option<Secret>,
    /// When the link expires, as the server wrote it, where it says so.
    pub expires_at: Option<String>,
}

/// A package at its server.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The API's base, as in `Link::api`.
    pub api: &'a str,
    pub package_id: &'a str,
    /// Sent as `X-Package-Token`; an empty one is not sent.
    pub token: &'a Secret,
}

/// A client. Threads may share one, but each is faster with one of its own.
pub struct Client {
    exchange: Exchange,
}

impl Client {
    /// # Errors
    /// A text for the user if `ca_file` cannot be used.
    pub fn new(options: Options) -> Result<Client, String> {
        let given = match &options.ca_file {
            Some(path) => trust::read(path)?,
            None => Vec::new(),
        };
        Ok(Client {
            exchange: Exchange::new(Agents::new(
                options.connections,
                options.silence,
                given,
                PipeliningBlocklist::new(!options.pipelining),
                options.outlet,
            )),
        })
    }

    /// Another client with connections of its own; everything else they share.
    pub fn another(&self) -> Client {
        Client {
            exchange: Exchange::new(self.exchange.agents.another()),
        }
    }

    /// Gives back what only kept-alive connections need. For when nothing is under way; a call that
    /// is goes on.
    pub fn rest(&self) {
        self.exchange.agents.rest();
    }

    /// Step 1: asks what a link leads to.
    ///
    /// # Errors
    /// `Unauthorized`: a password is needed, or this one is wrong. `Forbidden`: for a reason that
    /// the server tells. `NotFound`: no such link. `Gone`: expired or deleted.
    pub fn resolve(
        &self,
        link: &Link,
        password: Option<&Secret>,
        watch: &Watch,
    ) -> Result<Package, Fault> {
        let mut url = api_url(&link.api, &["links", &link.id])?;
        url.query = Some(format!(
            "secret={}",
            utf8_percent_encode(link.secret.reveal(), RESERVED)
        ));
        let mut headers = Headers::default();
        if let Some(password) = password {
            // A password that no header can carry is not the one that the sender chose.
            headers
                .secret
                .push((LINK_PASSWORD, header(password).ok_or(Fault::Unauthorized)?));
        }
        under(watch, || {
            let answer = self.answered(url, headers, Redirects::Follow)?;
            if matches!(answer.response.status().as_u16(), 401 | 403) {
                let reason = refusal::reason(answer);
                return Err(reason.map_or(Fault::Unauthorized, Fault::Forbidden));
            }
            if matches!(answer.response.status().as_u16(), 404 | 409 | 425) {
                return Err(self.not_yet_or_refused(answer));
            }
            let answer = self.expect_ok(answer)?;
            package(json::object(answer, "the server's answer about the link")?)
        })
    }

    /// Step 2: hands each element of the package's listing to `each`, in order, as it comes.
    ///
    /// # Errors
    /// What `each` refuses ends the call as `Malformed` with its text.
    pub fn list(
        &self,
        place: &Place<'_>,
        watch: &Watch,
        each: &mut dyn FnMut(Listed) -> Result<(), String>,
    ) -> Result<(), Fault> {
        let url = api_url(place.api, &["packages", place.package_id, "files"])?;
        let headers = token_header(place.token)?;
        under(watch, || {
            let Answer {
                mut response, url, ..
            } = self.api(url, headers, Redirects::Follow)?;
            json::refuse_encoded(&response, "the list of files")?;
            // A long listing may take its time.
            call_context::context(|context| context.limit = None);
            let lost = |error| fault::from_ureq(Error::from(error), &url);
            let body = call_context::Reading(response.body_mut().as_reader());
            listing::read(body, &url.authority(), lost, each)
        })
    }

    /// Step 3: asks where a file's bytes are. `next` are the files that this thread will ask for
    /// right after it.
    ///
    /// # Errors
    /// `Unauthorized`: the token is too old. `NotFound`, `Gone`, `Refused`: the file is not to be
    /// had.
    pub fn address<'a>(
        &self,
        place: &Place<'_>,
        file_id: &str,
        next: impl Iterator<Item = &'a str>,
        watch: &Watch,
    ) -> Result<Address, Fault> {
        let url = download_url(place, file_id)?;
        let follow = next
            .map_while(|file_id| download_url(place, file_id).ok())
            .map(|url| url.target())
            .take(self.exchange.most_along(&url, Purpose::Api))
            .collect();
        let headers = token_header(place.token)?;
        let api = url.clone();
        under(watch, || {
            call_context::context(|context| context.follow = follow);
            let answer = self.exchange.get(
                Arc::new(url),
                headers,
                Redirects::Answer,
                Some(Purpose::Api),
            )?;
            let answer = self.expect_ok(answer)?;
            if exchange::is_redirect(answer.response.status()) {
                let target = exchange::redirect_target(&answer.response, &answer.url)?;
                answer.drain();
                return Address::new(target, &api);
            }
            let found: AddressAnswer =
                json::object(answer, "the server's answer about a file's address")?;
            let Some(Text(url)) = found.url else {
                return Err(Fault::Malformed(
                    "the server gave no address for a file".to_owned(),
                ));
            };
            Address::parse(&url, &api)
        })
    }

    /// Step 4: asks an address for its bytes, or for `part` of them. None of our headers is sent
    /// there. `next` are the addresses that this thread will ask for all of their bytes right after
    /// it.
    ///
    /// # Errors
    /// `Refused` for any 4xx but 408 and 429. `Malformed` for a part that does not say which it is.
    pub fn fetch<'a>(
        &self,
        address: &Address,
        part: Option<Range<u64>>,
        next: impl Iterator<Item = &'a Address>,
        watch: &Watch,
    ) -> Result<Fetched, Fault> {
        fetch::fetch(&self.exchange, address, part, next, watch)
    }

    /// A call to the API. Only 200, and a redirect that the caller wants to see, come back as an
    /// answer.
    fn api(&self, url: Url, headers: Headers, redirects: Redirects) -> Result<Answer, Fault> {
        let answer = self.answered(url, headers, redirects)?;
        let refused = answer.response.status().is_client_error();
        if refused && web_page::is_declared(answer.response.headers()) {
            // The API speaks JSON, also where it refuses.
            return Err(web_page::fault(&answer.url.authority()));
        }
        self.expect_ok(answer)
    }

    fn answered(&self, url: Url, headers: Headers, redirects: Redirects) -> Result<Answer, Fault> {
        self.exchange.get(Arc::new(url), headers, redirects, None)
    }

    /// A link may not be active yet: the sender has not finished.
    fn not_yet_or_refused(&self, answer: Answer) -> Fault {
        let (status, host) = (answer.response.status().as_u16(), answer.url.authority());
        match refusal::reason(answer) {
            Some(words) if refusal::says_not_yet(&words) => {
                Fault::transient(format!("{host}: the link is not active yet: {words}"))
            }
            _ if status == 404 => Fault::NotFound,
            words => Fault::Refused(Rejection { status, words }),
        }
    }

    fn expect_ok(&self, answer: Answer) -> Result<Answer, Fault> {
        let status = answer.response.status();
        if status == 200 || exchange::is_redirect(status) {
            return Ok(answer);
        }
        Err(match status.as_u16() {
            401 | 403 => refusal::reason(answer).map_or(Fault::Unauthorized, Fault::Forbidden),
            404 => {
                answer.drain();
                Fault::NotFound
            }
            410 => {
                answer.drain();
                Fault::Gone
            }
            _ => refusal::fault(answer),
        })
    }
}

#[derive(Deserialize)]
struct LinkAnswer {
    package_id: Option<Text>,
    name: Option<Text>,
    package_token: Option<Text>,
    expires_at: Option<Text>,
    /// What the server's own answers about links call it.
    expiry: Option<Text>,
}

#[derive(Deserialize)]
struct AddressAnswer {
    url: Option<Text>,
}

/// Runs `call` with its watch installed on this thread.
fn under<T>(watch: &Watch, call: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    let mut context = Context {
        watch: Some(watch.clone()),
        ..Context::default()
    };
    call_context::under(&mut context, call)
}

fn package(answer: LinkAnswer) -> Result<Package, Fault> {
    let text = |value: Option<Text>| value.map(|Text(text)| text).filter(|text| !text.is_empty());
    let package_id = text(answer.package_id).ok_or_else(|| {
        Fault::Malformed("the server's answer about the link names no package".to_owned())
    })?;
    if !is_sound(&package_id) {
        return Err(unusable_id());
    }
    let token = text(answer.package_token).map(Secret::new);
    if token.as_ref().is_some_and(|token| header(token).is_none()) {
        return Err(unusable_token());
    }
    let name = text(answer.name).map(|mut name| {
        let ends = name.char_indices().map(|(at, c)| at + c.len_utf8());
        let end = ends.take_while(|&end| end <= MAX_NAME).last();
        name.truncate(end.unwrap_or_default());
        name
    });
    Ok(Package {
        package_id,
        name,
        token,
        expires_at: text(answer.expires_at)
            .or(text(answer.expiry))
            .filter(|text| text.len() <= 64),
    })
}

/// Whether an identifier can stand in a path: not empty, at most 1 KiB, without control characters,
/// and without a `..`, which some server on the way might resolve after decoding.
fn is_sound(id: &str) -> bool {
    let dots = |part: &str| part == "." || part == "..";
    !id.is_empty()
        && id.len() <= 1024
        && !id.contains(char::is_control)
        && !id.split(['/', '\\']).any(dots)
}

fn unusable_id() -> Fault {
    Fault::Malformed("the server gave an identifier that cannot be used".to_owned())
}

fn unusable_token() -> Fault {
    Fault::Malformed("the server gave a token that cannot be sent".to_owned())
}

/// The API's base with `parts` below it, each percent-encoded.
fn api_url(api: &str, parts: &[&str]) -> Result<Url, Fault> {
    let mut url = Url::parse(api)
        .map_err(|why| Fault::Malformed(format!("the API's address cannot be used: {why}")))?;
    url.path.truncate(url.path.trim_end_matches('/').len());
    // There is one for every file: it is to grow once.
    url.path
        .reserve(parts.iter().map(|part| 1 + part.len()).sum());
    for part in parts {
        if !is_sound(part) {
            return Err(unusable_id());
        }
        url.path.push('/');
        url.path.extend(utf8_percent_encode(part, RESERVED));
    }
    Ok(url)
}

/// Where a file's address is to be had.
fn download_url(place: &Place<'_>, file_id: &str) -> Result<Url, Fault> {
    api_url(
        place.api,
        &["packages", place.package_id, "files", file_id, "download"],
    )
}

fn token_header(token: &Secret) -> Result<Headers, Fault> {
    let mut headers = Headers::default();
    if !token.reveal().is_empty() {
        headers
            .secret
            .push((PACKAGE_TOKEN, header(token).ok_or_else(unusable_token)?));
    }
    Ok(headers)
}

/// A secret as a header's value; None if it is too long or has control characters. Other scripts
/// go as UTF-8.
fn header(secret: &Secret) -> Option<HeaderValue> {
    let bytes = secret.reveal().as_bytes();
    let mut value = HeaderValue::from_bytes(bytes)
        .ok()
        .filter(|_| bytes.len() <= MAX_HEADER)?;
    value.set_sensitive(true);
    Some(value)
}
