//! The upstream's own tests: a fault that is not made proves nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::content;
use super::super::http::{Answer, exchange, send};
use super::super::package::Package;
use super::{Gate, Kind, LINK_ID, Origin, Reply, SECRET_ENCODED};

fn get(origin: &Origin, target: &str, headers: &[(&str, &str)]) -> Answer {
    send(origin.address, "GET", target, headers, None)
}

fn origin() -> Origin {
    Origin::new(Package::new().file("a/one.txt", 1000))
}

fn token(origin: &Origin) -> String {
    let target = format!("/v1/links/{LINK_ID}?secret={SECRET_ENCODED}");
    let link = get(origin, &target, &[]).expect(200);
    link["package_token"].as_str().unwrap().to_string()
}

fn address(origin: &Origin) -> String {
    let token = token(origin);
    let target = "/v1/packages/PACKAGE1/files/F1/download";
    let answer = get(origin, target, &[("X-Package-Token", &token)]).expect(200);
    let url = answer["url"].as_str().unwrap();
    url.strip_prefix(origin.base()).unwrap().to_string()
}

/// The body of an answer as bytes, since content is no text.
fn body(origin: &Origin, range: &str) -> (String, Vec<u8>) {
    let target = address(origin);
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nRange: {range}\r\n\r\n");
    let answer = exchange(origin.address, &request);
    let split = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(answer[..split].to_vec()).unwrap();
    (head, answer[split + 4..].to_vec())
}

#[test]
fn the_four_calls_lead_to_the_bytes() {
    let origin = origin();
    let token = token(&origin);
    let files = get(
        &origin,
        "/v1/packages/PACKAGE1/files",
        &[("X-Package-Token", &token)],
    );
    assert_eq!(files.expect(200)[0]["name"], "one.txt");
    let (head, bytes) = body(&origin, "bytes=10-19");
    assert!(head.starts_with("HTTP/1.1 206"), "{head}");
    assert!(head.contains("Content-Range: bytes 10-19/1000"), "{head}");
    assert_eq!(bytes, content::bytes(1, 1000)[10..20]);
    assert_eq!(origin.served(), 10);
    assert_eq!(origin.requests(Kind::Bytes)[0].range, Some((10, Some(19))));
    assert!(body(&origin, "bytes=1000-").0.starts_with("HTTP/1.1 416"));
}

#[test]
fn secrets_passwords_tokens_and_addresses_are_checked() {
    let origin = origin();
    let wrong = format!("/v1/links/{LINK_ID}?secret=wrong");
    get(&origin, &wrong, &[]).expect(404);
    let old = token(&origin);
    origin.revoke_token();
    let listing = "/v1/packages/PACKAGE1/files";
    get(&origin, listing, &[("X-Package-Token", &old)]).expect(401);
    get(&origin, listing, &[("X-Package-Token", &token(&origin))]).expect(200);
    origin.require_password("p");
    let right = format!("/v1/links/{LINK_ID}?secret={SECRET_ENCODED}");
    get(&origin, &right, &[]).expect(403);
    get(&origin, &right, &[("X-Link-Password", "p")]).expect(200);
}

#[test]
fn addresses_expire_or_serve_once() {
    let origin = origin();
    let first = address(&origin);
    origin.expire_addresses();
    assert_eq!(get(&origin, &first, &[]).status, 403);
    origin.one_shot_addresses();
    let second = address(&origin);
    let request = format!("GET {second} HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert!(exchange(origin.address, &request).starts_with(b"HTTP/1.1 200"));
    assert!(exchange(origin.address, &request).starts_with(b"HTTP/1.1 403"));
}

#[test]
fn bodies_are_cut_where_asked() {
    let origin = origin();
    for bytes in [0, 1, 7] {
        origin.always(Kind::Bytes, Reply::cut(bytes));
        let (head, body) = body(&origin, "bytes=0-999");
        assert!(head.contains("Content-Length: 1000"), "{head}");
        assert_eq!(body.len() as u64, bytes);
    }
    origin.always(Kind::Other, Reply::hang_up());
    let request = "GET /x HTTP/1.1\r\n\r\n";
    assert_eq!(exchange(origin.address, request), b"");
}

#[test]
fn a_reset_is_a_reset() {
    let origin = origin();
    origin.always(Kind::Link, Reply::reset(3));
    let mut stream = TcpStream::connect(origin.address).unwrap();
    stream
        .write_all(b"GET /v1/links/x HTTP/1.1\r\n\r\n")
        .unwrap();
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn ranges_are_answered_wrongly_where_asked() {
    let origin = origin();
    let whole = content::bytes(1, 1000);
    origin.always(Kind::Bytes, Reply::ignore_range());
    let (head, bytes) = body(&origin, "bytes=10-19");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert_eq!(bytes, whole);
    origin.always(Kind::Bytes, Reply::shifted(5));
    let (head, bytes) = body(&origin, "bytes=10-19");
    assert!(head.contains("bytes 15-19/1000"), "{head}");
    assert_eq!(bytes, whole[15..20]);
    origin.always(Kind::Bytes, Reply::total(7));
    assert!(body(&origin, "bytes=0-1").0.contains("bytes 0-1/7"));
    origin.always(Kind::Bytes, Reply::etag("\"new\""));
    assert!(body(&origin, "bytes=0-1").0.contains("ETag: \"new\""));
    origin.always(Kind::Bytes, Reply::resized(-990));
    assert!(body(&origin, "bytes=0-99").0.contains("bytes 0-9/10"));
    origin.always(Kind::Bytes, Reply::content_of(9));
    let (head, bytes) = body(&origin, "bytes=0-9");
    assert!(head.contains("ETag: \"etag-9\""), "{head}");
    assert_eq!(bytes, content::bytes(9, 10));
}

#[test]
fn silence_lasts_until_the_gate_opens() {
    let origin = origin();
    let gate = Gate::new();
    origin.always(Kind::Bytes, Reply::stall_after(4, &gate));
    let target = address(&origin);
    let mut stream = TcpStream::connect(origin.address).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
    origin.await_served(4);
    assert!(!origin.is_idle_within(Duration::from_millis(50)));
    gate.open();
    origin.await_served(1000);
    assert!(origin.is_idle_within(Duration::from_secs(30)));
    assert_eq!(origin.peak(), 1);
}

#[test]
fn json_is_halved_and_replaced_and_redirected() {
    let origin = origin();
    let target = format!("/v1/links/{LINK_ID}?secret={SECRET_ENCODED}");
    origin.first(1, Kind::Link, Reply::half());
    let half = get(&origin, &target, &[]);
    assert_eq!(half.status, 200);
    assert!(serde_json::from_str::<Value>(&half.text).is_err());
    get(&origin, &target, &[]).expect(200);
    origin.heal(Kind::Link);
    origin.always(Kind::Listing, Reply::redirect("http://elsewhere/"));
    let there = get(&origin, "/v1/packages/PACKAGE1/files", &[]);
    assert_eq!(
        (there.status, there.header("location")),
        (302, Some("http://elsewhere/"))
    );
}

#[test]
fn a_throttled_line_takes_its_time() {
    let origin = Origin::new(Package::new().file("a", 100_000));
    origin.throttle(500_000);
    let start = Instant::now();
    assert_eq!(body(&origin, "bytes=0-99999").1.len(), 100_000);
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(180), "{took:?}");
}

#[test]
fn nobody_listens_until_the_origin_comes_up() {
    let mut origin = Origin::down(Package::new());
    assert!(TcpStream::connect(origin.address).is_err());
    origin.come_up();
    assert_eq!(get(&origin, "/nothing", &[]).status, 404);
    assert_eq!(origin.count(Kind::Other), 1);
}

#[test]
fn a_body_may_be_made_while_it_is_sent() {
    let origin = origin();
    let made = Reply::made(|out| (0..30_000).try_for_each(|number| write!(out, "{number},")));
    origin.always(Kind::Link, made);
    let text = get(&origin, "/v1/links/LINK1", &[]).text;
    assert!(
        text.starts_with("0,1,2,") && text.ends_with(",29999,"),
        "{} bytes",
        text.len()
    );
}
