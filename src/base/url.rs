//! Absolute http and https URLs: taken apart, checked, and resolved against one another (RFC 3986).
//!
//! Everything that is read here comes from outside. What is ambiguous, and so could mean one host
//! to us and another one to somebody else (user names, backslashes, control characters), is
//! refused.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv6Addr};

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What a query may hold only percent-encoded: the query percent-encode set of the URL standard
/// (1.3). All else goes out as it was given, since signatures depend on it. `%` itself stays: it
/// was encoded by the URL's author.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>');

/// The same for a path: the path percent-encode set.
const PATH: &AsciiSet = &QUERY.add(b'?').add(b'^').add(b'`').add(b'{').add(b'}');

/// The longest scheme, with what follows it: `https://`.
const MAX_SCHEME: usize = 8;
/// The longest port, with what goes before it: `:65535`.
const MAX_PORT: usize = 6;

/// An address as a server sends it, as the text of a URL: spaces around it are left out, and those
/// inside, and bytes beyond ASCII, are percent-encoded, as browsers do.
pub fn encoded(address: &[u8]) -> String {
    let trimmed = address.trim_ascii();
    let mut text = String::with_capacity(trimmed.len());
    for &byte in trimmed {
        match byte {
            b' ' | 0x80.. => write!(text, "%{byte:02X}").expect("memory takes every text"),
            _ => text.push(byte.into()),
        }
    }
    text
}

/// An absolute URL. Its query may be a credential, so `Debug` shows no more than the origin.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    /// https rather than http.
    pub secure: bool,
    /// Lower case; an IPv6 address stands in brackets.
    pub host: String,
    /// None for the scheme's default.
    pub port: Option<u16>,
    /// Begins with `/`; as it was given.
    pub path: String,
    /// Without the `?`; as it was given.
    pub query: Option<String>,
}

/// Why a text is no URL that we use. The text itself is never repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlError {
    Scheme,
    Characters,
    Userinfo,
    Host,
    Port,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UrlError::Scheme => "it does not begin with https:// or http://",
            UrlError::Characters => {
                "it has spaces, backslashes or control characters, which no URL may have"
            }
            UrlError::Userinfo => "it has a user name before the host",
            UrlError::Host => "its host is missing or is no host name",
            UrlError::Port => "its port is no number from 1 to 65535",
        })
    }
}

impl Url {
    /// Takes an absolute URL apart; a `#fragment` is dropped.
    ///
    /// # Errors
    /// Another scheme than http and https, and whatever is ambiguous.
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        if text.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(UrlError::Characters);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let secure = match scheme {
            s if s.eq_ignore_ascii_case("https") => true,
            s if s.eq_ignore_ascii_case("http") => false,
            _ => return Err(UrlError::Scheme),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at(end);
        let (host, port) = host_and_port(authority)?;
        let (path, query) = path_and_query(rest);
        Ok(Url {
            secure,
            host,
            port: port.filter(|&port| port != default_port(secure)),
            path: if path.is_empty() { "/" } else { path }.to_owned(),
            query: query.map(str::to_owned),
        })
    }

    /// Resolves a reference, such as a redirect's `Location`, against this URL (RFC 3986, 5.2).
    ///
    /// # Errors
    /// As for [`Url::parse`].
    pub fn join(&self, reference: &str) -> Result<Url, UrlError> {
        let scheme_end = reference.find(':');
        let path_begin = reference.find(['/', '?', '#']).unwrap_or(reference.len());
        if scheme_end.is_some_and(|end| end < path_begin) {
            return Url::parse(reference);
        }
        if reference.starts_with("//") {
            let scheme = if self.secure { "https:" } else { "http:" };
            return Url::parse(&format!("{scheme}{reference}"));
        }
        if reference.contains(|c: char| c.is_control() || c.is_whitespace() || c == '\\') {
            return Err(UrlError::Characters);
        }
        let (path, query) = path_and_query(reference);
        let (path, query) = if path.is_empty() {
            (self.path.clone(), query.or(self.query.as_deref()))
        } else if path.starts_with('/') {
            (without_dots(path), query)
        } else {
            let folder = &self.path[..=self.path.rfind('/').unwrap_or(0)];
            (without_dots(&format!("{folder}{path}")), query)
        };
        Ok(Url {
            path,
            query: query.map(str::to_owned),
            ..self.clone()
        })
    }

    /// Whether both lead to the same scheme, host and port.
    pub fn same_origin(&self, other: &Url) -> bool {
        self.secure == other.secure && self.host == other.host && self.port == other.port
    }

    /// Whether the host is this machine by name or address.
    pub fn is_loopback(&self) -> bool {
        let bare = self.host.trim_matches(['[', ']']);
        bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// `host` or `host:port`, fit to be shown.
    pub fn authority(&self) -> String {
        let mut text = String::with_capacity(self.host.len() + MAX_PORT);
        self.write_authority(&mut text);
        text
    }

    /// `https://host:port`, fit to be shown.
    pub fn origin(&self) -> String {
        let mut text = String::with_capacity(self.host.len() + MAX_SCHEME + MAX_PORT);
        self.write_origin(&mut text);
        text
    }

    /// The whole URL for a request, query included; what no request line may hold is
    /// percent-encoded.
    pub fn for_request(&self) -> String {
        // There is one for every small file: it is to be one piece of memory.
        let mut text = String::with_capacity(self.request_len());
        self.write_origin(&mut text);
        self.write_target(&mut text);
        text
    }

    /// At least how many bytes [`Url::for_request`] has; as many, but for the scheme and the port.
    pub fn request_len(&self) -> usize {
        self.host.len() + MAX_SCHEME + MAX_PORT + self.target_len()
    }

    /// Path and query, as they stand in a request's first line (RFC 9112, 3.2.1).
    pub fn target(&self) -> String {
        let mut text = String::with_capacity(self.target_len());
        self.write_target(&mut text);
        text
    }

    fn target_len(&self) -> usize {
        let len = |text: &str, set| utf8_percent_encode(text, set).map(str::len).sum::<usize>();
        let query = self.query.as_deref();
        len(&self.path, PATH) + query.map_or(0, |query| 1 + len(query, QUERY))
    }

    fn write_origin(&self, text: &mut String) {
        text.push_str(if self.secure { "https://" } else { "http://" });
        self.write_authority(text);
    }

    fn write_authority(&self, text: &mut String) {
        text.push_str(&self.host);
        if let Some(port) = self.port {
            write!(text, ":{port}").expect("memory takes every text");
        }
    }

    fn write_target(&self, text: &mut String) {
        text.extend(utf8_percent_encode(&self.path, PATH));
        if let Some(query) = &self.query {
            text.push('?');
            text.extend(utf8_percent_encode(query, QUERY));
        }
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/…", self.origin())
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

fn host_and_port(authority: &str) -> Result<(String, Option<u16>), UrlError> {
    if authority.contains('@') {
        return Err(UrlError::Userinfo);
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(UrlError::Host)?;
            let address: Ipv6Addr = address.parse().map_err(|_| UrlError::Host)?;
            let port = match port.strip_prefix(':') {
                Some(port) => port,
                None if port.is_empty() => "",
                None => return Err(UrlError::Port),
            };
            (format!("[{address}]"), port)
        }
        None => {
            let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
            if !is_host_name(host) {
                return Err(UrlError::Host);
            }
            (host.to_ascii_lowercase(), port)
        }
    };
    if port.is_empty() {
        return Ok((host, None));
    }
    // u16's own parser would take a leading plus sign.
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    match port.parse() {
        Ok(number) if digits && number > 0 => Ok((host, Some(number))),
        _ => Err(UrlError::Port),
    }
}

/// Names of at most 253 bytes (RFC 1035, 2.3.4), underscores tolerated. Other scripts come in as
/// punycode.
fn is_host_name(host: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    !host.is_empty()
        && host.len() <= 253
        && host.bytes().all(fits)
        && !host.starts_with('.')
        && !host.contains("..")
}

fn path_and_query(rest: &str) -> (&str, Option<&str>) {
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    }
}

/// Removes `.` and `..` (RFC 3986, 5.2.4) from an absolute path.
fn without_dots(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_url_apart() {
        let url = Url::parse("HTTPS://Get.Massive.App:443/a/b?x=1#top").unwrap();
        assert!(url.secure);
        assert_eq!(url.host, "get.massive.app");
        assert_eq!(url.port, None);
        assert_eq!(url.path, "/a/b");
        assert_eq!(url.query.as_deref(), Some("x=1"));
        assert_eq!(url.for_request(), "https://get.massive.app/a/b?x=1");
        let url = Url::parse("http://[::1]:9090").unwrap();
        assert_eq!((url.path.as_str(), url.port), ("/", Some(9090)));
        assert_eq!(url.for_request(), "http://[::1]:9090/");
    }

    #[test]
    fn refuses_what_is_no_url_or_is_ambiguous() {
        for (text, error) in [
            ("ftp://a/", UrlError::Scheme),
            ("https:/a/", UrlError::Scheme),
            ("a", UrlError::Scheme),
            ("https://a\\b/", UrlError::Characters),
            ("https://a/\u{0}", UrlError::Characters),
            ("https://a/b c", UrlError::Characters),
            ("https://a@b/", UrlError::Userinfo),
            ("https:///x", UrlError::Host),
            ("https://a..b/", UrlError::Host),
            ("https://ä.example/", UrlError::Host),
            ("https://[::g]/", UrlError::Host),
            ("https://[::1/", UrlError::Host),
            ("https://[::1]x/", UrlError::Port),
            ("https://a:0/", UrlError::Port),
            ("https://a:+1/", UrlError::Port),
            ("https://a:65536/", UrlError::Port),
        ] {
            assert_eq!(Url::parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn resolves_references_as_the_rfc_shows() {
        // RFC 3986, 5.4, where it applies to http.
        let base = Url::parse("http://a/b/c/d;p?q").unwrap();
        for (reference, whole) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y#s", "http://a/b/c/g?y"),
            ("", "http://a/b/c/d;p?q"),
            ("#s", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../..", "http://a/"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("./g/.", "http://a/b/c/g/"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("https://z/y", "https://z/y"),
        ] {
            assert_eq!(
                base.join(reference).unwrap().for_request(),
                whole,
                "{reference}"
            );
        }
        assert_eq!(base.join("ftp://x/"), Err(UrlError::Scheme));
        assert_eq!(base.join("/a\\b"), Err(UrlError::Characters));
    }

    #[test]
    fn what_a_browser_sends_as_it_is_goes_out_byte_for_byte() {
        let signed = "http://h/a|b'c!$&()*+,;=:@~%7C%zz?q=a|b'c^d`e{f}g[h]&i=\u{e9}";
        let sent = signed.replace('\u{e9}', "%C3%A9");
        assert_eq!(Url::parse(signed).unwrap().for_request(), sent);
        let url = Url::parse("http://h/a^b`c{d}e\"f<g>?\"<>").unwrap();
        assert_eq!(url.target(), "/a%5Eb%60c%7Bd%7De%22f%3Cg%3E?%22%3C%3E");
        assert_eq!(url.target().len(), url.target_len());
    }

    #[test]
    fn an_address_may_hold_spaces_and_bytes_beyond_ascii() {
        assert_eq!(encoded(b" http://h/a b?c d "), "http://h/a%20b?c%20d");
        assert_eq!(encoded("/\u{e9}".as_bytes()), "/%C3%A9");
        assert_eq!(encoded(b"/\xe9"), "/%E9");
    }

    #[test]
    fn shows_no_more_than_the_origin() {
        let url = Url::parse("https://cdn.example:8443/file?signature=abc").unwrap();
        assert_eq!(format!("{url:?}"), "https://cdn.example:8443/…");
    }
}
