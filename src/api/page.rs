//! The page for people, and the fence around it.
//!
//! It is one file with its style and its script inside. The policy that is sent with it names
//! both by their hashes, so that a browser runs nothing else, whatever a name that a sender
//! chose may try.

use std::fmt::Write;
use std::sync::OnceLock;

use ring::digest::{SHA256, digest};

use super::answer::{Answer, Body};
use super::packed::PAGE;
use crate::base::base64;

/// The page.
pub fn answer() -> Answer {
    static POLICY: OnceLock<String> = OnceLock::new();
    let page = PAGE.text();
    let policy = POLICY.get_or_init(|| policy(&page));
    Answer {
        content_type: "text/html; charset=utf-8",
        fields: vec![
            ("Content-Security-Policy", policy.as_str().into()),
            ("X-Frame-Options", "DENY".into()),
            ("Referrer-Policy", "no-referrer".into()),
        ],
        body: Body::Whole(page.into_bytes()),
        ..Answer::json(200, Vec::new())
    }
}

/// The page may use its own style and script, talk to this agent, and nothing more (CSP Level 3).
/// Its icon is in the page itself, as a `data:` address.
fn policy(page: &str) -> String {
    let style = sources(page, "<style>", "</style>");
    let script = sources(page, "<script>", "</script>");
    format!(
        "default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; \
         img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// The hashes of everything that stands between such tags; `'none'` where nothing does.
fn sources(page: &str, open: &str, close: &str) -> String {
    let mut sources = String::new();
    let mut rest = page;
    while let Some((inner, after)) = rest
        .split_once(open)
        .and_then(|(_, from)| from.split_once(close))
    {
        let hash = base64::encode(digest(&SHA256, inner.as_bytes()).as_ref());
        let space = if sources.is_empty() { "" } else { " " };
        write!(sources, "{space}'sha256-{hash}'").expect("writing to memory cannot fail");
        rest = after;
    }
    if sources.is_empty() {
        sources.push_str("'none'");
    }
    sources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_between_the_tags_is_allowed_by_its_hash() {
        // printf %s 'a{}' | openssl dgst -sha256 -binary | base64
        let policy = policy("<style>a{}</style><p>x");
        let hash = "'sha256-X1RutGBrXCt9KkSaXMK7tHftWiRscFHOhxsS8tv8hBk='";
        assert!(policy.contains(&format!("style-src {hash};")), "{policy}");
        assert!(policy.contains("script-src 'none';"), "{policy}");
    }

    /// What the policy would forbid: a handler or a style in a tag, anything from elsewhere.
    #[test]
    fn the_page_keeps_to_its_policy() {
        let page = PAGE.text();
        let markup: String = page
            .split("<script>")
            .map(|part| part.split_once("</script>").map_or(part, |(_, rest)| rest))
            .collect();
        for forbidden in [
            " style=",
            " onclick=",
            " onsubmit=",
            "<script ",
            "<style ",
            "<base",
            "<iframe",
        ] {
            assert!(!markup.contains(forbidden), "{forbidden}");
        }
        assert!(page.len() <= 60_000, "{} bytes", page.len());
    }
}
