//! Cookies of one chain of redirects (RFC 6265): some storage sets one and sends the client back to
//! where it came from.
//!
//! They live as long as the call. Nothing is kept, and none is sent to another site than the one
//! that set it.

use ureq::http::header::{HeaderMap, HeaderValue, SET_COOKIE};

use crate::base::url::Url;

/// So many are kept of one chain.
const MAX_COOKIES: usize = 20;
/// Servers refuse requests with longer heads, in bytes.
const MAX_HEADER: usize = 6 * 1024;
/// Longer ones are left out, in bytes.
const MAX_LENGTH: usize = 4096;

/// The cookies that a chain of redirects has set.
#[derive(Default)]
pub struct Cookies(Vec<Cookie>);

struct Cookie {
    name: String,
    value: String,
    domain: String,
    /// Without a `Domain` it is for that very host.
    host_only: bool,
    path: String,
    secure: bool,
}

impl Cookies {
    /// Takes in what an answer of `url` sets.
    pub fn take(&mut self, headers: &HeaderMap, url: &Url) {
        for cookie in headers.get_all(SET_COOKIE) {
            let Some((cookie, expired)) = cookie.to_str().ok().and_then(|text| read(text, url))
            else {
                continue;
            };
            let is_same = |known: &Cookie| {
                (&known.name, &known.domain, &known.path)
                    == (&cookie.name, &cookie.domain, &cookie.path)
            };
            self.0.retain(|known| !is_same(known));
            if !expired && self.0.len() < MAX_COOKIES {
                self.0.push(cookie);
            }
        }
    }

    /// The `Cookie` header for a request to `url`. None if there is nothing to send.
    pub fn header(&self, url: &Url) -> Option<HeaderValue> {
        let fitting = self.0.iter().filter(|cookie| cookie.is_for(url));
        let mut room = MAX_HEADER;
        let pairs = fitting.map(|cookie| format!("{}={}", cookie.name, cookie.value));
        let pairs: Vec<String> = pairs
            .take_while(|pair| {
                let fits = pair.len() + 2 <= room;
                room = room.saturating_sub(pair.len() + 2);
                fits
            })
            .collect();
        let mut value = HeaderValue::try_from(pairs.join("; ")).ok()?;
        value.set_sensitive(true);
        (!pairs.is_empty()).then_some(value)
    }
}

impl Cookie {
    fn is_for(&self, url: &Url) -> bool {
        let is_below = url.host.strip_suffix(&self.domain);
        let host = match is_below {
            Some("") => true,
            Some(rest) => !self.host_only && rest.ends_with('.'),
            None => false,
        };
        let path = url.path.strip_prefix(&self.path).is_some_and(|rest| {
            rest.is_empty() || self.path.ends_with('/') || rest.starts_with('/')
        });
        host && path && (url.secure || !self.secure)
    }
}

/// One `Set-Cookie` (RFC 6265, 5.2), and whether it takes the cookie back. None if it is to be
/// ignored.
fn read(text: &str, url: &Url) -> Option<(Cookie, bool)> {
    let mut parts = text.split(';').map(str::trim);
    let (name, value) = parts.next()?.split_once('=')?;
    let (name, value) = (name.trim(), value.trim());
    if name.is_empty() || text.len() > MAX_LENGTH {
        return None;
    }
    let folder = url.path.rfind('/').filter(|&end| end > 0);
    let mut cookie = Cookie {
        name: name.into(),
        value: value.into(),
        domain: url.host.clone(),
        host_only: true,
        path: url.path[..folder.unwrap_or(1)].into(),
        secure: false,
    };
    let mut expired = false;
    for part in parts {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let value = value.trim();
        match key.trim().to_ascii_lowercase().as_str() {
            "domain" => {
                let domain = value.trim_start_matches('.').to_ascii_lowercase();
                if domain.is_empty() {
                    continue;
                }
                // Only its own site's, and never a whole top-level domain's.
                let rest = url.host.strip_suffix(&domain)?;
                let is_site = rest.is_empty() || (rest.ends_with('.') && domain.contains('.'));
                (is_site && !is_address(url)).then_some(())?;
                (cookie.domain, cookie.host_only) = (domain, false);
            }
            "path" if value.starts_with('/') => cookie.path = value.into(),
            "secure" => cookie.secure = true,
            "max-age" => expired |= value.parse::<i64>().is_ok_and(|age| age <= 0),
            "expires" => {
                let date = httpdate::parse_http_date(value);
                expired |= date.is_ok_and(|date| date <= std::time::SystemTime::now());
            }
            _ => {}
        }
    }
    Some((cookie, expired))
}

/// An address has no domains above it.
fn is_address(url: &Url) -> bool {
    url.host.starts_with('[') || url.host.parse::<std::net::Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is sent to `to` after `from` has set these.
    fn sent(set: &[&str], from: &str, to: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        for cookie in set {
            headers.append(SET_COOKIE, HeaderValue::from_str(cookie).unwrap());
        }
        let mut cookies = Cookies::default();
        cookies.take(&headers, &Url::parse(from).unwrap());
        let header = cookies.header(&Url::parse(to).unwrap())?;
        Some(header.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_cookie_goes_back_to_its_own_site_only() {
        let from = "https://a.store.example/x/y";
        for (set, to, expected) in [
            ("s=1", "https://a.store.example/x/z", Some("s=1")),
            ("s=1", "https://a.store.example/other", None),
            ("s=1; Path=/", "https://a.store.example/other", Some("s=1")),
            ("s=1; Path=/", "https://store.example/", None),
            (
                "s=1; Path=/; Domain=store.example",
                "https://b.store.example/",
                Some("s=1"),
            ),
            (
                "s=1; Path=/; Domain=store.example",
                "https://badstore.example/",
                None,
            ),
            ("s=1; Path=/; Domain=example", "https://b.example/", None),
            (
                "s=1; Path=/; Domain=elsewhere.example",
                "https://elsewhere.example/",
                None,
            ),
            ("s=1; Path=/; Secure", "http://a.store.example/", None),
            ("s=1; Path=/; Max-Age=0", "https://a.store.example/", None),
            ("s=1; Path=/a", "https://a.store.example/ab", None),
            ("=1; Path=/", "https://a.store.example/", None),
        ] {
            assert_eq!(sent(&[set], from, to).as_deref(), expected, "{set} to {to}");
        }
        let two = ["s=1; Path=/", "t=2; Path=/", "s=3; Path=/"];
        assert_eq!(
            sent(&two, from, "https://a.store.example/").as_deref(),
            Some("t=2; s=3")
        );
    }

    #[test]
    fn an_address_shares_no_cookies_and_a_flood_has_an_end() {
        assert_eq!(
            sent(
                &["s=1; Path=/; Domain=0.1"],
                "http://127.0.0.1/",
                "http://10.0.0.1/"
            ),
            None
        );
        let many: Vec<String> = (0..100)
            .map(|number| format!("c{number}=1; Path=/"))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let header = sent(&many, "http://h.example/", "http://h.example/").unwrap();
        assert_eq!(header.split(';').count(), MAX_COOKIES);
    }
}
