//! Web pages in the place of what was asked for: hotels, hospitals and firewalls answer so until
//! somebody signs in, and proxies when something is wrong with them. They say nothing about the
//! package.

use ureq::http::header::{CONTENT_TYPE, HeaderMap};

use super::fault::Fault;

/// How a page begins, in lower case.
const BEGINNINGS: [&[u8]; 8] = [
    b"<!doctype html",
    b"<html",
    b"<head",
    b"<body",
    b"<title",
    b"<meta",
    b"<script",
    b"<!--",
];

/// The fault that a page stands for: it passes when the network lets the request through.
pub fn fault(host: &str) -> Fault {
    Fault::transient(format!(
        "{host} answered with a web page: does this network want a sign-in?"
    ))
}

/// Whether an answer is said to be a page.
pub fn is_declared(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind
        .unwrap_or_default()
        .split(';')
        .next()
        .unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    kind == "text/html" || kind == "application/xhtml+xml"
}

/// Whether a body begins as a page does.
pub fn begins(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let body = body.trim_ascii_start();
    BEGINNINGS.iter().any(|beginning| {
        let begin = body.get(..beginning.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(beginning))
    })
}

/// Whether a file of this name may well be a page, so that an answer which begins like one says
/// nothing.
pub fn is_name_of_one(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    let extension = extension.unwrap_or_default().to_ascii_lowercase();
    matches!(
        extension.as_str(),
        "htm" | "html" | "xhtml" | "shtml" | "mht" | "mhtml"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_known_by_its_beginning() {
        for page in [
            "<!DOCTYPE html>",
            " \r\n<HTML lang=en>",
            "\u{feff}<html>",
            "<script>",
        ] {
            assert!(begins(page.as_bytes()), "{page}");
        }
        for other in [
            "",
            "<",
            "<?xml version='1.0'?><svg/>",
            "{\"a\":1}",
            "<htm",
            "RIFF",
        ] {
            assert!(!begins(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_page_is_known_by_its_type() {
        let declared = |kind: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, kind.parse().unwrap());
            is_declared(&headers)
        };
        assert!(declared("text/html") && declared("Text/HTML; charset=utf-8"));
        assert!(!declared("application/octet-stream") && !declared("text/plain"));
        assert!(is_name_of_one("index.HTML") && !is_name_of_one("html"));
    }
}
