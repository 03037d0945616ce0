//! https: an authority of one's own, certificates that are not to be trusted, and no step down to
//! http.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::thread;

use rustls::ServerConfig;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::agent::{Agent, Setup, row};
use crate::support::namespace::Namespace;
use crate::support::origin::{Kind, Origin, Reply, SECRET, SECRET_ENCODED, TOKEN};
use crate::support::package::Package;
use crate::support::rig::Rig;
use crate::support::tls::{Authority, Flaw};
use crate::support::tree;

/// What `Origin` listens on.
const HOST: &str = "127.0.0.1";

fn package() -> Package {
    let package = Package::new().file("camera/large.mov", 9 << 20);
    package.file("empty", 0).many(5, 2000)
}

fn two() -> Package {
    Package::new().file("good", 5000).file("bad", 5000)
}

/// An upstream over TLS and what an agent needs to know of it.
struct Secure {
    origin: Origin,
    home: TempDir,
    args: Vec<String>,
}

impl Secure {
    /// `--ca-file` names the authority that vouches for the upstream.
    fn new(package: Package) -> Secure {
        let authority = Authority::new();
        Secure::of(package, authority.server(HOST), Some(&authority))
    }

    fn of(package: Package, server: Arc<ServerConfig>, trusted: Option<&Authority>) -> Secure {
        Secure::named(HOST, package, server, trusted)
    }

    fn named(
        name: &str,
        package: Package,
        server: Arc<ServerConfig>,
        trusted: Option<&Authority>,
    ) -> Secure {
        let home = tempfile::tempdir().unwrap();
        let mut args = Vec::new();
        if let Some(authority) = trusted {
            let path = authority.save(home.path());
            args.extend(["--ca-file".to_string(), path.to_str().unwrap().to_string()]);
        }
        let origin = Origin::secure(name, package, server);
        Secure { origin, home, args }
    }

    fn setup(&self) -> Setup {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        Setup::new().origin(&self.origin).args(&args)
    }

    /// Gives up soon.
    fn hasty(mut self) -> Secure {
        self.args.extend(["--retry-for".into(), "1".into()]);
        self
    }

    fn rig(self) -> Rig {
        let agent = self.setup().start();
        Rig::of(agent, self.origin, self.home)
    }
}

#[test]
fn a_package_arrives_whole() {
    let rig = Secure::new(package()).rig();
    let id = rig.create();
    let record = rig.complete(&id);
    assert_eq!(
        record["link"],
        rig.origin.public_link(),
        "it begins with https"
    );
    // More than one connection at a time, and each range on a secure one.
    assert!(rig.origin.peak() > 1);
    assert!(rig.origin.served() >= rig.origin.package().size());
}

#[test]
fn a_transfer_goes_on_where_it_was() {
    let mut rig = Secure::new(package()).rig();
    rig.origin.throttle(8 << 20);
    let id = rig.create();
    rig.origin.await_served(4 << 20);
    rig.agent.kill9();
    rig.agent.restart();
    rig.origin.unthrottle();
    rig.complete(&id);
    let extra = rig.origin.served() - rig.origin.package().size();
    assert!(extra < 4 << 20, "{extra} bytes were fetched again");
}

#[test]
fn broken_connections_are_gone_on_from() {
    let rig = Secure::new(package()).rig();
    let reset = |seen: &crate::support::origin::Seen| match seen.nth_of_file {
        1 => Reply::reset(1000),
        2 => Reply::cut(900),
        3 => Reply::hang_up(),
        _ => Reply::serve(),
    };
    rig.origin.on(Kind::Bytes, reset);
    let id = rig.create();
    rig.complete(&id);
}

/// Asks for the package of an upstream that must not be trusted; the record in the end.
fn distrusted(secure: Secure) -> Value {
    let rig = secure.hasty().rig();
    let id = rig.create();
    let record = rig.agent.wait_state(&id, "error");
    assert_eq!(
        record["error"]["code"], "upstream_unavailable",
        "{record:#}"
    );
    assert_eq!(record["error"]["recoverable"], true, "{record:#}");
    // Neither the secret nor a byte of ours went to whoever this is.
    for kind in Kind::ALL {
        assert_eq!(rig.origin.count(kind), 0);
    }
    assert_eq!(tree::paths(&rig.dst()), Vec::<String>::new());
    record
}

fn assert_says(record: &Value, parts: &[&str]) {
    let message = record["error"]["message"].as_str().unwrap();
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn an_authority_that_nobody_knows_is_refused_with_the_advice_to_name_it() {
    let server = Authority::new().server(HOST);
    assert_says(
        &distrusted(Secure::of(two(), server, None)),
        &[HOST, "--ca-file"],
    );
}

#[test]
fn another_authority_than_the_one_named_is_refused() {
    let server = Authority::new().server(HOST);
    let other = Authority::new();
    assert_says(
        &distrusted(Secure::of(two(), server, Some(&other))),
        &[HOST, "--ca-file"],
    );
}

/// As `openssl req -x509` makes them, and as curl takes them.
#[test]
fn a_self_signed_certificate_that_is_named_is_trusted_for_its_name() {
    let server = Authority::self_signed(HOST, Flaw::None);
    let rig = Secure::of(package(), server.itself(), Some(&server)).rig();
    let id = rig.create();
    rig.complete(&id);
    assert!(rig.origin.peak() > 1);
}

#[test]
fn a_self_signed_certificate_that_is_named_is_for_its_own_name_only() {
    let server = Authority::self_signed("another.example", Flaw::None);
    let record = distrusted(Secure::of(two(), server.itself(), Some(&server)));
    assert_says(&record, &[HOST, "for another name"]);
    assert!(!record.to_string().contains("another.example"));
}

#[test]
fn a_self_signed_certificate_that_is_named_has_to_be_in_its_time() {
    for (flaw, part) in [
        (Flaw::Expired, "has expired"),
        (Flaw::NotYet, "not valid yet"),
    ] {
        let server = Authority::self_signed(HOST, flaw);
        let record = distrusted(Secure::of(two(), server.itself(), Some(&server)));
        assert_says(&record, &[HOST, part, "clock"]);
    }
}

#[test]
fn another_self_signed_certificate_than_the_one_named_is_refused() {
    let server = Authority::self_signed(HOST, Flaw::None);
    let twin = Authority::self_signed(HOST, Flaw::None);
    let record = distrusted(Secure::of(two(), server.itself(), Some(&twin)));
    assert_says(&record, &[HOST, "--ca-file"]);
}

/// The key makes the server, not the certificate, which everybody can have.
#[test]
fn a_certificate_that_is_named_without_its_key_is_refused() {
    let server = Authority::self_signed(HOST, Flaw::None);
    let other = Authority::self_signed(HOST, Flaw::None);
    distrusted(Secure::of(two(), server.with_key_of(&other), Some(&server)));
}

#[test]
fn an_authority_that_is_not_named_is_explained_in_the_place_of_a_server() {
    let authority = Authority::self_signed(HOST, Flaw::None);
    let other = Authority::new();
    let record = distrusted(Secure::of(two(), authority.itself(), Some(&other)));
    assert_says(&record, &[HOST, "authority"]);
}

#[test]
fn a_certificate_for_another_name_is_refused_and_its_names_are_not_repeated() {
    let authority = Authority::new();
    let server = authority.server("another.example");
    let record = distrusted(Secure::of(two(), server, Some(&authority)));
    assert_says(&record, &[HOST, "for another name"]);
    assert!(!record.to_string().contains("another.example"));
}

#[test]
fn a_certificate_out_of_its_time_is_refused_with_a_word_about_the_clock() {
    let authority = Authority::new();
    for (flaw, part) in [
        (Flaw::Expired, "has expired"),
        (Flaw::NotYet, "not valid yet"),
    ] {
        let server = authority.flawed(HOST, flaw);
        let record = distrusted(Secure::of(two(), server, Some(&authority)));
        assert_says(&record, &[HOST, part, "clock"]);
    }
}

#[test]
fn a_server_that_speaks_plain_http_is_told_apart() {
    let plain = TcpListener::bind((HOST, 0)).unwrap();
    let base = format!("https://{}", plain.local_addr().unwrap());
    // As servers answer what they cannot read. It ends with the process, which is a socket's least.
    thread::spawn(move || {
        for stream in plain.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n");
        }
    });
    let pair = format!("{base}={base}/v1");
    let agent = Setup::new()
        .args(&["--origin", &pair, "--retry-for", "1"])
        .start();
    let dir = tempfile::tempdir().unwrap();
    let order = json!({"url": format!("{base}/LINK1?secret=s"), "dst_folder": dir.path()});
    let id = agent.order(&order).expect(201)["download_id"].clone();
    let record = agent.wait_state(id.as_str().unwrap(), "error");
    assert_says(&record, &[HOST, "is it a server for https?"]);
}

#[test]
fn get_says_what_is_wrong_with_a_certificate_too() {
    let secure = Secure::of(two(), Authority::new().server(HOST), None);
    let mut command = crate::support::process::haul();
    let origin = format!("{}={}", secure.origin.base(), secure.origin.api());
    command.args(["get", &secure.origin.link()]);
    command.arg(secure.home.path().join("in"));
    command.args(["--retry-for", "1", "--origin", &origin]);
    command.env("HOME", secure.home.path());
    let finished = crate::support::process::run(&mut command);
    assert_eq!(finished.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.contains("--ca-file"), "{finished:?}");
}

/// Nothing of ours is told to anybody who listens in the clear.
fn assert_untouched(plain: &Origin) {
    for kind in Kind::ALL {
        assert_eq!(plain.count(kind), 0, "{:?}", plain.requests(kind));
    }
}

/// A call that all files need, answered with a redirect out of https.
fn assert_stays_secure(kind: Kind, path: &str) {
    let plain = Origin::new(two());
    let rig = Secure::new(two()).rig();
    let location = format!("{}{path}", plain.base());
    rig.origin.always(kind, Reply::redirect(&location));
    let id = rig.create();
    let record = rig.agent.wait_state(&id, "error");
    assert_eq!(record["error"]["code"], "protocol_error", "{record:#}");
    assert_says(&record, &["redirect", "from https to http"]);
    assert_untouched(&plain);
    for secret in [SECRET, SECRET_ENCODED, TOKEN] {
        assert!(!record.to_string().contains(secret), "{record:#}");
        assert!(!rig.agent.logs().contains(secret));
    }
    rig.origin.heal(kind);
    rig.agent.resume(&id).expect(200);
    rig.complete(&id);
}

#[test]
fn a_link_that_redirects_to_plain_http_is_refused() {
    let path = format!("/v1/links/LINK1?secret={SECRET_ENCODED}");
    assert_stays_secure(Kind::Link, &path);
}

#[test]
fn a_listing_that_redirects_to_plain_http_is_refused() {
    assert_stays_secure(Kind::Listing, "/v1/packages/PACKAGE1/files");
}

#[test]
fn a_file_that_redirects_to_plain_http_is_refused_and_the_others_arrive() {
    for kind in [Kind::Address, Kind::Bytes] {
        let plain = Origin::new(two());
        let rig = Secure::new(two()).rig();
        let location = plain.issue_address("F2");
        rig.origin.on(kind, move |seen| match seen.is_for("F2") {
            true => Reply::redirect(&location),
            false => Reply::serve(),
        });
        let id = rig.create();
        let record = rig.agent.wait_state(&id, "error");
        assert_eq!(record["error"]["code"], "file_failed", "{record:#}");
        rig.assert_file(&record, "F1");
        let bad = row(&record, "F2");
        assert_eq!(bad["error"]["code"], "protocol_error", "{bad}");
        assert_says(&bad, &["redirect", "from https to http"]);
        assert_untouched(&plain);
        assert!(!rig.dst().join("bad").exists());
        rig.origin.heal(kind);
        rig.agent.resume(&id).expect(200);
        rig.complete(&id);
    }
}

/// An upstream that is not on this machine by its name, as far as the agent can tell.
fn own_example(package: Package) -> Option<(Secure, Agent)> {
    let hosts = tempfile::tempdir().unwrap();
    let path = hosts.path().join("hosts");
    fs::write(&path, "127.0.0.1 localhost own.example\n").unwrap();
    let script = format!("mount --bind '{}' /etc/hosts", path.display());
    let namespace = Namespace::new(&script)?;
    let authority = Authority::new();
    let server = authority.server("own.example");
    let secure = Secure::named("own.example", package, server, Some(&authority));
    let agent = secure.setup().wrapper(&namespace.enter()).start();
    Some((secure, agent))
}

#[test]
fn an_address_in_plain_http_is_refused_where_the_api_is_https() {
    let Some((secure, agent)) = own_example(two()) else {
        return;
    };
    let plain = Origin::new(two());
    let answer = json!({"url": plain.issue_address("F2")}).to_string();
    secure
        .origin
        .on(Kind::Address, move |seen| match seen.is_for("F2") {
            true => Reply::json(&answer),
            false => Reply::serve(),
        });
    let dst = secure.home.path().join("in");
    let id = agent.create(&secure.origin, &dst);
    let record = agent.wait_state(&id, "error");
    let bad = row(&record, "F2");
    assert_eq!(bad["error"]["code"], "protocol_error", "{bad}");
    assert_says(&bad, &["not https"]);
    assert_untouched(&plain);
    let good = secure.origin.entry("F1");
    tree::assert_file(&dst.join("good"), good.seed, good.size);
}

/// A whole handshake costs as much as some files.
#[test]
fn thousands_of_files_take_two_handshakes_for_each_worker_at_the_most() {
    let mut secure = Secure::new(Package::new().many(3000, 1000));
    secure.args.extend(["--workers".into(), "8".into()]);
    let rig = secure.rig();
    let id = rig.create();
    rig.complete(&id);
    let handshakes = rig.origin.handshakes();
    assert!((1..=16).contains(&handshakes), "{handshakes} handshakes");
}
