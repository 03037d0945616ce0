//! Which proxy leads to a host: as the command line or the environment says it.
//!
//! The environment's variables are those that curl and others know: `https_proxy`, `http_proxy`,
//! `all_proxy` and `no_proxy`, in small or in capital letters.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;

use percent_encoding::percent_decode_str;

use crate::base::base64;
use crate::base::secret::Secret;

/// How a proxy is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// CONNECT for https (RFC 9110, 9.3.6), whole addresses for http (RFC 9112, 3.2.2).
    Http,
    /// RFC 1928; host names are looked up here.
    Socks5,
    /// RFC 1928; host names are looked up by the proxy.
    Socks5Names,
}

/// One proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy {
    pub kind: Kind,
    /// A name, or an address without brackets.
    pub host: String,
    pub port: u16,
    pub user: Option<(String, Secret)>,
}

/// Without user and password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", authority(&self.host, self.port))
    }
}

impl Proxy {
    /// What `Proxy-Authorization` says (RFC 7617).
    pub fn authorization(&self) -> Option<Secret> {
        let (user, password) = self.user.as_ref()?;
        let pair = format!("{user}:{}", password.reveal());
        Some(Secret::new(format!(
            "Basic {}",
            base64::encode(pair.as_bytes())
        )))
    }
}

/// `host:port`, as it is written in addresses.
pub fn authority(host: &str, port: u16) -> String {
    match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// All proxies, and the hosts that are asked without.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    https: Option<Proxy>,
    http: Option<Proxy>,
    without: Vec<Without>,
}

/// Hosts that are asked without a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Without {
    All,
    /// This name and those below it, at one port or any.
    Name(String, Option<u16>),
    /// The addresses that begin with so many bits of this one.
    Addresses(IpAddr, u32),
}

impl Proxies {
    /// What `flag` says, for all hosts; where it says nothing, what the environment does. `none`
    /// is no proxy at all.
    ///
    /// # Errors
    /// What cannot be understood, and where it stands; never a password.
    pub fn read(
        flag: Option<&str>,
        env: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Proxies, String> {
        let of_env = |name: &str| {
            [name.to_owned(), name.to_uppercase()]
                .into_iter()
                .find_map(|name| {
                    let value = env(&name)?.into_string().ok()?;
                    (!value.trim().is_empty()).then_some((name, value))
                })
        };
        let proxy = |name: &str| {
            let found = of_env(name).or_else(|| of_env("all_proxy"));
            let parse = |(name, value): (String, String)| {
                parse(value.trim()).map_err(|what| format!("{name}: {what}"))
            };
            found.map(parse).transpose()
        };
        let (https, http) = match flag {
            Some("none") => (None, None),
            Some(flag) => {
                let one = parse(flag)?;
                (Some(one.clone()), Some(one))
            }
            None => (proxy("https_proxy")?, proxy("http_proxy")?),
        };
        let without = of_env("no_proxy").map(|(_, list)| exceptions(&list));
        Ok(Proxies {
            https,
            http,
            without: without.unwrap_or_default(),
        })
    }

    /// The proxy that leads to this host; None if it is asked directly.
    pub fn leading_to(&self, is_https: bool, host: &str, port: u16) -> Option<&Proxy> {
        let proxy = match is_https {
            true => self.https.as_ref(),
            false => self.http.as_ref(),
        };
        proxy.filter(|_| !self.without.iter().any(|without| without.has(host, port)))
    }

    /// Each proxy, with what it is for.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &Proxy)> {
        let named = [("https", &self.https), ("http", &self.http)];
        named
            .into_iter()
            .filter_map(|(name, proxy)| Some((name, proxy.as_ref()?)))
    }
}

fn parse(text: &str) -> Result<Proxy, String> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let (kind, default) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (Kind::Http, 80),
        "socks5" | "socks" => (Kind::Socks5, 1080),
        "socks5h" => (Kind::Socks5Names, 1080),
        _ => {
            return Err("a proxy's address begins with http://, socks5:// or socks5h://".into());
        }
    };
    let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, rest),
    };
    let user = user.map(|user| {
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        (plain(user), Secret::new(plain(password)))
    });
    let (host, port) = host_and_port(place)
        .ok_or("a proxy's address is http://HOST:PORT or http://USER:PASSWORD@HOST:PORT")?;
    Ok(Proxy {
        kind,
        host: host.to_owned(),
        port: port.unwrap_or(default),
        user,
    })
}

/// Takes `host`, `host:port`, `[v6]` and `[v6]:port` apart.
fn host_and_port(place: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, port.strip_prefix(':'))
        }
        None => match place.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let is_host = |c: char| !c.is_control() && !c.is_whitespace();
    let port = port.filter(|port| !port.is_empty());
    let port = port.map(|port| port.parse().ok().filter(|&port| port != 0));
    match port {
        Some(None) => None,
        port if !host.is_empty() && host.chars().all(is_host) => Some((host, port.flatten())),
        _ => None,
    }
}

/// A list with commas or spaces between; what makes no sense in it is no host's name.
fn exceptions(list: &str) -> Vec<Without> {
    let words = list.split([',', ' ']).map(str::trim);
    let words = words.filter(|word| !word.is_empty());
    words.map(Without::parse).collect()
}

impl Without {
    fn parse(word: &str) -> Without {
        if word == "*" {
            return Without::All;
        }
        let (address, bits) = match word.split_once('/') {
            Some((address, bits)) => (address, bits.parse().ok()),
            None => (word, None),
        };
        if let Ok(address) = address.trim_matches(['[', ']']).parse() {
            let whole = if matches!(address, IpAddr::V4(_)) {
                32
            } else {
                128
            };
            return Without::Addresses(address, bits.unwrap_or(whole).min(whole));
        }
        let (name, port) = host_and_port(word).unwrap_or((word, None));
        let name = name.trim_start_matches("*.").trim_matches('.');
        Without::Name(name.to_ascii_lowercase(), port)
    }

    fn has(&self, host: &str, port: u16) -> bool {
        let host = host.trim_matches(['[', ']']).trim_end_matches('.');
        match self {
            Without::All => true,
            Without::Name(name, only) => {
                let host = host.to_ascii_lowercase();
                let below = host.strip_suffix(name.as_str());
                below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
                    && only.is_none_or(|only| only == port)
            }
            Without::Addresses(network, bits) => match (network, host.parse()) {
                (IpAddr::V4(network), Ok(IpAddr::V4(host))) => {
                    let differs = network.to_bits() ^ host.to_bits();
                    differs.leading_zeros() >= *bits
                }
                (IpAddr::V6(network), Ok(IpAddr::V6(host))) => {
                    let differs = network.to_bits() ^ host.to_bits();
                    differs.leading_zeros() >= *bits
                }
                _ => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(flag: Option<&str>, env: &[(&str, &str)]) -> Result<Proxies, String> {
        let look = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Proxies::read(flag, &look)
    }

    fn via(proxies: &Proxies, is_https: bool, host: &str) -> Option<String> {
        let port = if is_https { 443 } else { 80 };
        proxies
            .leading_to(is_https, host, port)
            .map(ToString::to_string)
    }

    #[test]
    fn the_flag_wins_and_small_letters_come_first() {
        let env = [
            ("https_proxy", "http://one:3128"),
            ("HTTPS_PROXY", "http://two:3128"),
            ("ALL_PROXY", "socks5h://three"),
            ("NO_PROXY", "example.com"),
        ];
        let proxies = of(None, &env).unwrap();
        assert_eq!(via(&proxies, true, "a.b").as_deref(), Some("one:3128"));
        assert_eq!(via(&proxies, false, "a.b").as_deref(), Some("three:1080"));
        let proxies = of(Some("http://four"), &env).unwrap();
        assert_eq!(via(&proxies, false, "a.b").as_deref(), Some("four:80"));
        assert_eq!(via(&proxies, true, "www.example.com"), None);
        assert_eq!(of(Some("none"), &env).unwrap().all().count(), 0);
        assert_eq!(of(None, &[("HTTPS_PROXY", " ")]).unwrap().all().count(), 0);
    }

    #[test]
    fn addresses_of_proxies() {
        let proxy = parse("http://us%40er:p%3Ass@[::1]:8080/").unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("::1", 8080));
        let known = proxy.authorization().unwrap();
        assert_eq!(known.reveal(), "Basic dXNAZXI6cDpzcw==");
        assert_eq!(proxy.to_string(), "[::1]:8080");
        assert!(!format!("{proxy:?}").contains("p:ss"));
        assert_eq!(parse("proxy.lan:3128").unwrap().kind, Kind::Http);
        assert_eq!(parse("SOCKS5://p").unwrap().kind, Kind::Socks5);
        for wrong in [
            "https://p",
            "ftp://p",
            "http://",
            "http://p:x",
            "http://p:0",
            "a b",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        let secret = of(None, &[("https_proxy", "ftp://u:s3cret@p")]).unwrap_err();
        assert!(
            secret.contains("https_proxy") && !secret.contains("s3cret"),
            "{secret}"
        );
    }

    #[test]
    fn hosts_without_a_proxy() {
        let list = "localhost, .example.com,*.lan,10.0.0.0/8 fd00::/8,192.168.1.7,box:9090";
        let env = [("all_proxy", "http://p"), ("no_proxy", list)];
        let proxies = of(None, &env).unwrap();
        for direct in [
            "localhost",
            "example.com",
            "A.Example.com.",
            "nas.lan",
            "10.1.2.3",
            "[fd00::5]",
            "192.168.1.7",
        ] {
            assert_eq!(via(&proxies, true, direct), None, "{direct}");
        }
        for led in [
            "anexample.com",
            "11.0.0.1",
            "192.168.1.8",
            "box",
            "2001:db8::1",
        ] {
            assert!(via(&proxies, true, led).is_some(), "{led}");
        }
        assert!(proxies.leading_to(false, "box", 9090).is_none());
        let all = of(None, &[("all_proxy", "http://p"), ("no_proxy", "*")]).unwrap();
        assert_eq!(via(&all, true, "a"), None);
    }
}
