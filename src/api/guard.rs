//! Who may ask: the `Host`, the `Origin` and the token of a request.
//!
//! A browser on this machine can be made to send requests here by any page that it shows.
//! It cannot be made to lie about `Host` and `Origin`, nor to send a token that it does not know.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::RwLock;
use std::time::Instant;

use ring::hmac;

use super::attempts::Attempts;
use super::error::ApiError;
use crate::base::locks;
use crate::base::secret::Secret;

/// What the gate tells of a request that came by a Unix socket.
pub const LOCAL_FIELD: &str = "Haul-Local";
/// The same as a line of the head.
pub const LOCAL_LINE: &[u8] = b"Haul-Local: 1\r\n";

/// The field by which the gate tells where a request over TCP comes from: an IP address.
pub const PEER_FIELD: &str = "Haul-Peer";

/// The rules for who may call: `Host`, `Origin` and token.
pub struct Guard {
    listen: Vec<IpAddr>,
    token: Option<RwLock<TokenCheck>>,
    attempts: Attempts,
}

/// Compares tokens by their HMACs under a key of this process, so that neither the time taken
/// nor the length tells anything about the right one.
struct TokenCheck {
    key: hmac::Key,
    tag: hmac::Tag,
}

impl TokenCheck {
    fn new(token: &Secret) -> Result<TokenCheck, ring::error::Unspecified> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &ring::rand::SystemRandom::new())?;
        let tag = hmac::sign(&key, token.reveal().as_bytes());
        Ok(TokenCheck { key, tag })
    }

    fn accepts(&self, presented: &str) -> bool {
        hmac::verify(&self.key, presented.as_bytes(), self.tag.as_ref()).is_ok()
    }
}

impl Guard {
    /// A guard for requests to these addresses.
    ///
    /// # Errors
    /// The system has no random numbers to give.
    pub fn new(
        listen: impl Into<Vec<IpAddr>>,
        token: Option<&Secret>,
    ) -> Result<Guard, ring::error::Unspecified> {
        let token = token.map(TokenCheck::new).transpose()?.map(RwLock::new);
        Ok(Guard {
            listen: listen.into(),
            token,
            attempts: Attempts::default(),
        })
    }

    /// Asks for another token from now on, where one is asked for.
    ///
    /// # Errors
    /// The system has no random numbers to give.
    pub fn change_token(&self, token: &Secret) -> Result<(), ring::error::Unspecified> {
        let check = TokenCheck::new(token)?;
        if let Some(current) = &self.token {
            *locks::write(current) = check;
        }
        Ok(())
    }

    /// Checks the site that a request is sent to, and the one that sends it.
    ///
    /// # Errors
    /// `forbidden_host`, `forbidden_origin`.
    pub fn check_site(&self, host: Option<&str>, origin: Option<&str>) -> Result<(), ApiError> {
        if self.token.is_none() && !host.is_some_and(|host| self.is_ours(host)) {
            return Err(ApiError::new(
                403,
                "forbidden_host",
                "haul answers at localhost and at its own address only; \
                 start it with --token-file to use another name",
            ));
        }
        self.check_origin(host, origin)
    }

    /// Checks the site that a request is sent by. All that is asked of a caller by a Unix socket.
    ///
    /// # Errors
    /// `forbidden_origin`.
    pub fn check_origin(&self, host: Option<&str>, origin: Option<&str>) -> Result<(), ApiError> {
        if let Some(origin) = origin
            && !host.is_some_and(|host| is_origin_of(origin, host))
        {
            return Err(ApiError::forbidden_origin());
        }
        Ok(())
    }

    /// Checks the token, where one is asked for, of a request that comes `from` there.
    ///
    /// # Errors
    /// `unauthorized`; `too_many_attempts` where it was not looked at.
    pub fn check_token(
        &self,
        authorization: Option<&str>,
        from: Option<IpAddr>,
    ) -> Result<(), ApiError> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        let unauthorized = || {
            ApiError::new(
                401,
                "unauthorized",
                "this needs the API token: send Authorization: Bearer and the token",
            )
        };
        let given = bearer(authorization).ok_or_else(unauthorized)?;
        let now = Instant::now();
        if from.is_some_and(|from| !self.attempts.may_try(from, now)) {
            return Err(ApiError::too_many_attempts());
        }
        if accepts(token, given) {
            return Ok(());
        }
        if let Some(from) = from {
            self.attempts.failed(from, now);
        }
        Err(unauthorized())
    }

    /// Whether a page that was loaded from this host is on this machine. The port is free: it
    /// is another one behind a forwarded port, and rebinding plays with names, not ports.
    fn is_ours(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else {
            return false;
        };
        // With its dot the name is absolute (RFC 1034, 3.1).
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let address = match name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
            Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            None => name.parse().ok().map(IpAddr::V4),
        };
        address.is_some_and(|address| {
            address.to_canonical().is_loopback()
                || self
                    .listen
                    .iter()
                    .any(|own| address.to_canonical() == own.to_canonical())
        })
    }
}

fn accepts(token: &RwLock<TokenCheck>, given: &str) -> bool {
    let token = locks::read(token);
    token.accepts(given)
}

/// The host of `host[:port]`; None if the port is none.
fn without_port(host: &str) -> Option<&str> {
    let name_end = match host.rfind(']') {
        Some(bracket) => bracket + 1,
        None => host.find(':').unwrap_or(host.len()),
    };
    let (name, rest) = host.split_at(name_end);
    match rest.strip_prefix(':') {
        None => rest.is_empty().then_some(name),
        Some("") => Some(name),
        Some(port) => {
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            (digits && port.parse::<u16>().is_ok()).then_some(name)
        }
    }
}

/// Whether a page of this origin was loaded from this host and port: over http or https, since a
/// proxy that ends TLS may stand before. A default port may be left out on either side.
fn is_origin_of(origin: &str, host: &str) -> bool {
    let Some((scheme, site)) = origin.split_once("://") else {
        return false;
    };
    let default = match scheme.to_ascii_lowercase().as_str() {
        "http" => "80",
        "https" => "443",
        _ => return false,
    };
    let (Some(site), Some(host)) = (site_of(site, default), site_of(host, default)) else {
        return false;
    };
    !host.0.is_empty() && site == host
}

/// Host and port of `host[:port]`, the host in lower case and without a final dot.
fn site_of<'a>(host: &'a str, default: &'a str) -> Option<(String, &'a str)> {
    let name = without_port(host)?;
    let port = host[name.len()..].trim_start_matches(':');
    let name = name.strip_suffix('.').unwrap_or(name);
    let port = if port.is_empty() { default } else { port };
    Some((name.to_ascii_lowercase(), port))
}

/// The token of `Bearer TOKEN` (RFC 6750, 2.1); the scheme's case does not matter.
fn bearer(authorization: Option<&str>) -> Option<&str> {
    let (scheme, token) = authorization?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start_matches(' '))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(result: Result<(), ApiError>) -> &'static str {
        result.err().map_or("", |error| error.code)
    }

    impl Guard {
        fn check(
            &self,
            host: Option<&str>,
            origin: Option<&str>,
            authorization: Option<&str>,
        ) -> Result<(), ApiError> {
            self.check_site(host, origin)?;
            self.check_token(authorization, None)
        }
    }

    fn open() -> Guard {
        Guard::new(["127.0.0.1".parse().unwrap()], None).unwrap()
    }

    #[test]
    fn without_a_token_only_this_machine_is_a_host() {
        for host in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]",
            "[::1]:8080",
            "localhost:",
            "localhost.",
            "localhost.:8080",
        ] {
            assert_eq!(code(open().check(Some(host), None, None)), "", "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost:8080:80",
            "localhost:x",
            "localhost:99999",
            "localhost:+80",
            "a@localhost",
            "10.0.0.1",
            "[::2]",
            "::1",
            "[::1",
            "[::1]x",
            "0.0.0.0",
            "2130706433",
        ] {
            let result = open().check(Some(host), None, None);
            assert_eq!(code(result), "forbidden_host", "{host}");
        }
        assert_eq!(code(open().check(None, None, None)), "forbidden_host");
    }

    #[test]
    fn the_listening_address_is_a_host() {
        let guard = Guard::new(["192.168.1.5".parse().unwrap()], None).unwrap();
        assert_eq!(code(guard.check(Some("192.168.1.5:8080"), None, None)), "");
    }

    #[test]
    fn a_default_port_counts_as_absent() {
        let token = Secret::new("s3cret");
        let guard = Guard::new(["0.0.0.0".parse().unwrap()], Some(&token)).unwrap();
        let check = |host, origin| guard.check_site(Some(host), Some(origin)).is_ok();
        for (host, origin) in [
            ("nas.example", "https://nas.example"),
            ("nas.example:443", "https://nas.example"),
            ("nas.example", "https://nas.example:443"),
            ("nas.example:80", "http://nas.example"),
            ("NAS.example.", "https://nas.example"),
            ("[::1]:8443", "https://[::1]:8443"),
        ] {
            assert!(check(host, origin), "{host} {origin}");
        }
        for (host, origin) in [
            ("nas.example", "https://nas.example:8443"),
            ("nas.example:80", "https://nas.example"),
            ("nas.example:8080", "https://nas.example"),
            ("nas.example", "https://nas.example.evil"),
            ("", "https://"),
        ] {
            assert!(!check(host, origin), "{host} {origin}");
        }
    }

    #[test]
    fn an_origin_must_be_ours_to_the_letter() {
        let check = |origin| code(open().check(Some("localhost:8080"), Some(origin), None));
        assert_eq!(check("http://localhost:8080"), "");
        assert_eq!(check("HTTP://LOCALHOST:8080"), "");
        assert_eq!(check("https://localhost:8080"), "");
        assert_eq!(check("http://localhost.:8080"), "");
        for origin in [
            "null",
            "",
            "http://localhost",
            "https://localhost",
            "ftp://localhost:8080",
            "http://evil.example",
            "http://127.0.0.1:8080",
            "http://localhost:8080/",
            "é",
        ] {
            assert_eq!(check(origin), "forbidden_origin", "{origin}");
        }
    }

    #[test]
    fn with_a_token_any_host_will_do_but_not_any_origin() {
        let token = Secret::new("s3cret");
        let guard = Guard::new(["0.0.0.0".parse().unwrap()], Some(&token)).unwrap();
        let check =
            |origin, authorization| code(guard.check(Some("nas.example"), origin, authorization));
        assert_eq!(check(None, Some("Bearer s3cret")), "");
        assert_eq!(check(None, Some("bearer  s3cret")), "");
        assert_eq!(check(Some("http://nas.example"), Some("Bearer s3cret")), "");
        assert_eq!(
            check(Some("http://evil.example"), Some("Bearer s3cret")),
            "forbidden_origin"
        );
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer s3cre",
            "Basic s3cret",
            "Bearer s3cret ",
        ] {
            assert_eq!(check(None, Some(wrong)), "unauthorized", "{wrong}");
        }
        assert_eq!(check(None, None), "unauthorized");
    }
}
