//! Package links, and the API that each link host maps to.

use std::fmt;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use crate::base::secret::Secret;
use crate::base::url::{Url, UrlError};

/// Longer links are refused unread, in bytes.
const MAX_LINK: usize = 8 * 1024;

/// The hosts that lead to MASV, and where.
const BUILT_IN: [&str; 2] = ["https://get.massive.app", "https://get.massive.io"];
const BUILT_IN_API: &str = "https://api.massive.app/v1";

/// Hosts below these are pages that take uploads.
const PORTALS: [&str; 2] = [".portal.massive.app", ".portal.massive.io"];

/// A package link that was taken apart.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Link {
    /// The link without its secret, as it may be shown.
    pub public: String,
    /// The API base it maps to, without a trailing slash: `https://api.massive.app/v1`.
    pub api: String,
    /// The link's identifier.
    pub id: String,
    pub secret: Secret,
}

/// Why a text is no link that can be downloaded from. Neither the text nor its secret is repeated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkError {
    /// No package link; the text says why.
    Invalid(String),
    /// A link to a server that no origin is known for: its scheme, host and port.
    UnsupportedHost(String),
}

impl fmt::Display for LinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkError::Invalid(why) => write!(f, "This is not a package link: {why}."),
            LinkError::UnsupportedHost(server) => write!(
                f,
                "Links to {server} are not supported: a package link begins with \
                 https://get.massive.app/ \
                 or https://get.massive.io/ (for a haul share or another server of your own, add \
                 --origin {server}={server}/v1)."
            ),
        }
    }
}

impl std::error::Error for LinkError {}

/// The link hosts that are known, each with its API.
#[derive(Debug, Clone)]
pub struct Origins {
    pairs: Vec<Origin>,
}

#[derive(Debug, Clone)]
struct Origin {
    link: Url,
    /// The link base's path without a trailing slash; empty at the root.
    prefix: String,
    api: String,
}

impl Default for Origins {
    fn default() -> Origins {
        let built_in = |base: &str| Origin {
            link: Url::parse(base).expect("the built-in link bases are URLs"),
            prefix: String::new(),
            api: BUILT_IN_API.to_owned(),
        };
        Origins {
            pairs: BUILT_IN.into_iter().map(built_in).collect(),
        }
    }
}

impl Origins {
    /// Adds `LINK_BASE=API_BASE`, each http or https with an optional port and path. A later pair
    /// wins over an earlier one with the same link base.
    ///
    /// # Errors
    /// A text for the user if it is no such pair.
    pub fn add(&mut self, pair: &str) -> Result<(), String> {
        let (link, api) = pair.split_once('=').ok_or(
            "an origin is written LINK_BASE=API_BASE, for example \
             http://127.0.0.1:9090=http://127.0.0.1:9090/v1",
        )?;
        let link =
            base(link).map_err(|why| format!("the origin's link base cannot be used: {why}"))?;
        let api =
            base(api).map_err(|why| format!("the origin's API base cannot be used: {why}"))?;
        self.pairs.push(Origin {
            prefix: link.path.trim_end_matches('/').to_owned(),
            api: api.for_request().trim_end_matches('/').to_owned(),
            link,
        });
        Ok(())
    }

    /// Takes a link apart: checks URL syntax and scheme first, then the host, then id and secret.
    ///
    /// # Errors
    /// `Invalid` and `UnsupportedHost`, each fit to be shown.
    pub fn parse(&self, url: &str) -> Result<Link, LinkError> {
        let url = url.trim();
        if url.len() > MAX_LINK {
            return Err(invalid("it is longer than 8 KiB"));
        }
        let url = match Url::parse(url) {
            Ok(url) => url,
            // `https://get.massive.app@elsewhere/` is a link to elsewhere, and told so.
            Err(UrlError::Userinfo) => {
                if let Some(url) = without_userinfo(url) {
                    self.origin(&url)?;
                }
                return Err(invalid(&UrlError::Userinfo.to_string()));
            }
            Err(why) => return Err(invalid(&why.to_string())),
        };
        let origin = self.origin(&url)?;
        let raw = link_id(&url, origin)?;
        let id =
            decoded(raw).ok_or_else(|| invalid("its identifier is not percent-encoded UTF-8"))?;
        if !is_component(&id) {
            return Err(invalid("its identifier has characters that none can have"));
        }
        let secret = secret(url.query.as_deref().unwrap_or_default())?;
        Ok(Link {
            public: format!("{}{}/{raw}", origin.link.origin(), origin.prefix),
            api: origin.api.clone(),
            id,
            secret: Secret::new(secret),
        })
    }

    fn origin(&self, url: &Url) -> Result<&Origin, LinkError> {
        let on_host = || self.pairs.iter().filter(|pair| pair.link.same_origin(url));
        if on_host().next().is_none() {
            let known_secure = self
                .pairs
                .iter()
                .any(|pair| pair.link.secure && pair.link.host == url.host);
            if PORTALS.iter().any(|portal| url.host.ends_with(portal)) {
                return Err(invalid("this page takes uploads; ask for a download link"));
            }
            return Err(if !url.secure && known_secure {
                invalid(
                    "it must begin with https://, since its secret is not to cross the network in the clear",
                )
            } else {
                LinkError::UnsupportedHost(url.origin())
            });
        }
        // The longest base that fits; of two equal ones the later, which max_by_key returns.
        on_host()
            .filter(|pair| below(&url.path, &pair.prefix).is_some())
            .max_by_key(|pair| pair.prefix.len())
            .ok_or_else(|| invalid("its path does not lead to a package"))
    }
}

fn without_userinfo(url: &str) -> Option<Url> {
    let (scheme, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest[..end].rsplit('@').next()?;
    Url::parse(&format!("{scheme}://{host}{}", &rest[end..])).ok()
}

/// Whether `text` can stand as one component of a URL's path once it is percent-encoded: not empty,
/// at most 1 KiB, not `.` or `..`, which cannot be encoded, and without `/`, `\` and control
/// characters, which some servers decode too early.
pub fn is_component(text: &str) -> bool {
    let bad = |c: char| c.is_control() || c == '/' || c == '\\';
    !text.is_empty() && text.len() <= 1024 && text != "." && text != ".." && !text.contains(bad)
}

fn invalid(why: &str) -> LinkError {
    LinkError::Invalid(why.to_owned())
}

fn base(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|why| why.to_string())?;
    if url.query.is_some() || text.contains('#') {
        return Err("it has a query or a fragment".to_owned());
    }
    Ok(url)
}

/// What follows `prefix` and a slash in `path`.
fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix)?.strip_prefix('/')
}

/// The identifier as given.
fn link_id<'a>(url: &'a Url, origin: &Origin) -> Result<&'a str, LinkError> {
    let rest = below(&url.path, &origin.prefix).unwrap_or_default();
    let id = rest.strip_suffix('/').unwrap_or(rest);
    if id.is_empty() {
        return Err(invalid("it names no package after the host"));
    }
    if id.contains('/') {
        return Err(invalid("its path goes on after the package's identifier"));
    }
    Ok(id)
}

/// The link's one secret. The same one given twice is no harm; two different ones would have to be
/// guessed between.
fn secret(query: &str) -> Result<String, LinkError> {
    let mut values = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("secret="));
    let first = values.next().unwrap_or_default();
    if values.any(|other| other != first) {
        return Err(invalid("it has more than one secret"));
    }
    let secret =
        decoded(first).ok_or_else(|| invalid("its secret is not percent-encoded UTF-8"))?;
    if secret.is_empty() {
        return Err(invalid(
            "its secret is missing: copy the whole link, with everything after the “?”",
        ));
    }
    if secret.contains(char::is_control) {
        return Err(invalid("its secret has control characters"));
    }
    Ok(secret)
}

/// Percent-decoded; None if a `%` is not followed by two digits or the bytes are no UTF-8.
fn decoded(text: &str) -> Option<String> {
    let mut after = text.split('%').skip(1);
    let whole =
        after.all(|rest| rest.len() >= 2 && rest.bytes().take(2).all(|b| b.is_ascii_hexdigit()));
    if !whole {
        return None;
    }
    let text = percent_decode_str(text).decode_utf8().ok()?;
    Some(text.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(url: &str) -> Result<Link, LinkError> {
        Origins::default().parse(url)
    }

    fn why(url: &str) -> String {
        match parse(url) {
            Err(LinkError::Invalid(why)) => why,
            other => panic!("{url}: {other:?}"),
        }
    }

    #[test]
    fn both_domains_lead_to_the_same_api() {
        for host in ["get.massive.app", "get.massive.io"] {
            let link = parse(&format!("https://{host}/ABC?secret=s3")).unwrap();
            assert_eq!(link.api, "https://api.massive.app/v1");
            assert_eq!(link.id, "ABC");
            assert_eq!(link.secret.reveal(), "s3");
            assert_eq!(link.public, format!("https://{host}/ABC"));
        }
    }

    #[test]
    fn a_page_that_takes_uploads_is_told_from_a_link() {
        for host in ["crew.portal.massive.io", "crew.portal.massive.app"] {
            let why = why(&format!("https://{host}/ABC?secret=s3"));
            assert!(why.contains("takes uploads"), "{why}");
        }
        let other = parse("https://portal.massive.example/ABC?secret=s3");
        assert!(matches!(other, Err(LinkError::UnsupportedHost(_))));
    }

    #[test]
    fn tolerates_what_mail_and_browsers_do_to_links() {
        for url in [
            "  https://get.massive.app/ABC?secret=s3\n",
            "https://GET.Massive.APP/ABC?secret=s3",
            "HTTPS://get.massive.app:443/ABC?secret=s3",
            "https://get.massive.app/ABC/?secret=s3",
            "https://get.massive.app/ABC?utm=1&secret=s3&x",
            "https://get.massive.app/ABC?secret=s3#top",
            "https://get.massive.app/ABC?secret=s3&secret=s3",
            "https://get.massive.app/%41BC?secret=%733",
        ] {
            let link = parse(url).unwrap();
            assert_eq!(
                (link.id.as_str(), link.secret.reveal()),
                ("ABC", "s3"),
                "{url}"
            );
            assert!(link.public.starts_with("https://get.massive.app/"), "{url}");
            assert!(!link.public.contains('?'), "{url}");
        }
    }

    #[test]
    fn a_plus_sign_in_the_secret_stays_one() {
        assert_eq!(
            parse("https://get.massive.app/A?secret=a+b%20c")
                .unwrap()
                .secret
                .reveal(),
            "a+b c"
        );
    }

    #[test]
    fn refuses_links_without_id_or_secret() {
        for url in [
            "https://get.massive.app/?secret=s3",
            "https://get.massive.app?secret=s3",
            "https://get.massive.app//?secret=s3",
        ] {
            assert!(why(url).contains("names no package"), "{url}");
        }
        for url in [
            "https://get.massive.app/A",
            "https://get.massive.app/A?secret=",
            "https://get.massive.app/A?secret",
            "https://get.massive.app/A?Secret=x",
            "https://get.massive.app/A#secret=x",
        ] {
            assert!(why(url).contains("secret is missing"), "{url}");
        }
    }

    #[test]
    fn refuses_what_is_ambiguous_or_no_link() {
        for url in [
            "",
            "get.massive.app/A?secret=s3",
            "ftp://get.massive.app/A?secret=s3",
            "https://user:pw@get.massive.app/A?secret=s3",
            "https://get.massive.app\\A?secret=s3",
            "https://get.massive.app/A\u{7}?secret=s3",
            "https://get.massive.app/A/B?secret=s3",
            "https://get.massive.app/A//?secret=s3",
            "https://get.massive.app/A%2FB?secret=s3",
            "https://get.massive.app/..?secret=s3",
            "https://get.massive.app/%2E%2e?secret=s3",
            "https://get.massive.app/.?secret=s3",
            "https://get.massive.app/A%00?secret=s3",
            "https://get.massive.app/A%ff?secret=s3",
            "https://get.massive.app/A%4?secret=s3",
            "https://get.massive.app/A?secret=%zz",
            "https://get.massive.app/A?secret=%0a",
            "https://get.massive.app/A?secret=a&secret=b",
        ] {
            assert!(!why(url).is_empty(), "{url}");
        }
        let long = format!("https://get.massive.app/A?secret={}", "s".repeat(MAX_LINK));
        assert!(why(&long).contains("8 KiB"));
    }

    #[test]
    fn looks_at_the_scheme_then_the_host_then_the_rest() {
        assert!(why("http://get.massive.app/A?secret=s3").contains("https://"));
        for url in [
            "https://example.org/",
            "http://example.org/A?secret=s3",
            "https://get.massive.app:8443/",
        ] {
            assert!(
                matches!(parse(url), Err(LinkError::UnsupportedHost(_))),
                "{url}"
            );
        }
        assert_eq!(
            parse("https://Example.org:81/A").unwrap_err(),
            LinkError::UnsupportedHost("https://example.org:81".to_owned())
        );
        assert!(matches!(
            parse("ftp://example.org/"),
            Err(LinkError::Invalid(_))
        ));
    }

    #[test]
    fn origins_can_be_added_with_ports_and_paths() {
        let mut origins = Origins::default();
        origins
            .add("http://127.0.0.1:9090=http://127.0.0.1:9090/api//")
            .unwrap();
        origins
            .add("https://example.org/get/=https://api.example.org")
            .unwrap();
        let link = origins.parse("http://127.0.0.1:9090/A?secret=s").unwrap();
        assert_eq!(
            (link.api.as_str(), link.public.as_str()),
            ("http://127.0.0.1:9090/api", "http://127.0.0.1:9090/A")
        );
        let link = origins
            .parse("https://example.org/get/A/?secret=s")
            .unwrap();
        assert_eq!(
            (link.api.as_str(), link.public.as_str()),
            ("https://api.example.org", "https://example.org/get/A")
        );
        assert!(matches!(
            origins.parse("https://example.org/A?secret=s"),
            Err(LinkError::Invalid(_))
        ));
        assert!(matches!(
            origins.parse("https://example.org/getA?secret=s"),
            Err(LinkError::Invalid(_))
        ));
        origins
            .add("https://get.massive.app=http://[::1]:1/v1")
            .unwrap();
        assert_eq!(
            origins
                .parse("https://get.massive.app/A?secret=s")
                .unwrap()
                .api,
            "http://[::1]:1/v1"
        );
    }

    #[test]
    fn bad_origins_are_explained() {
        let mut origins = Origins::default();
        for (pair, part) in [
            ("http://a", "LINK_BASE=API_BASE"),
            ("a=http://b", "link base"),
            ("http://a=ftp://b", "API base"),
            ("http://a=http://u@b", "user name"),
            ("http://a=http://b?x", "query"),
            ("http://a:99999=http://b", "port"),
        ] {
            let message = origins.add(pair).unwrap_err();
            assert!(message.contains(part), "{pair}: {message}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(url in "\\PC{0,80}", tail in ".{0,60}") {
            let _ = parse(&url);
            let _ = parse(&format!("https://get.massive.app/{tail}"));
            let _ = parse(&format!("https://get.massive.app{tail}/A?secret=x"));
        }

        #[test]
        fn any_secret_survives_and_is_never_shown(id in "[a-z0-9-]{1,20}", secret in "[A-Z+/=%&# é]{3,40}") {
            let sent: String = percent_encoding::utf8_percent_encode(&secret, percent_encoding::NON_ALPHANUMERIC).to_string();
            let link = parse(&format!("https://get.massive.app/{id}?a=b&secret={sent}")).unwrap();
            prop_assert_eq!(link.secret.reveal(), &secret);
            prop_assert!(!link.public.contains(&secret) && !link.public.contains(&sent));
            let debug = format!("{link:?}");
            prop_assert!(!debug.contains(&secret));
            let refused = parse(&format!("https://example.org/{id}?secret={sent}")).unwrap_err().to_string();
            prop_assert!(!refused.contains(&secret) && !refused.contains(&sent));
        }
    }
}
