//! Who may ask, and what is never told.

use std::cell::RefCell;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::support::agent::{Agent, DOWNLOADS, Setup, one};
use crate::support::http::{self, Answer};
use crate::support::origin::{Kind, Origin, Reply, SECRET, SECRET_ENCODED, TOKEN};
use crate::support::package::Package;
use crate::support::process::{Running, run};

const API_TOKEN: &str = "api-token-0123456789abcdef";
const PASSWORD: &str = "open-sesame-4711";

fn get(agent: &Agent, headers: &[(&str, &str)]) -> Answer {
    http::send(agent.address, "GET", DOWNLOADS, headers, None)
}

fn plain() -> Agent {
    Setup::new().start()
}

/// An agent with a token, and the folder that its file is in.
fn guarded(content: &str, args: &[&str]) -> (Agent, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, content).unwrap();
    let setup = Setup::new().args(&["--token-file", file.to_str().unwrap()]);
    (setup.args(args).start(), dir)
}

/// The same, for an agent that knows an upstream.
fn guarded_for(origin: &Origin) -> (Agent, tempfile::TempDir) {
    let pair = format!("{}={}", origin.base(), origin.api());
    guarded(API_TOKEN, &["--origin", &pair])
}

#[test]
fn only_our_own_names_are_a_host() {
    let agent = plain();
    let port = agent.address.port();
    for host in ["localhost", "127.0.0.1", "[::1]", "LocalHost"] {
        get(&agent, &[("Host", &format!("{host}:{port}"))]).expect(200);
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:80",
        "192.168.1.1",
        "",
        "localhost@evil.example",
    ] {
        let answer = get(&agent, &[("Host", host)]);
        assert_eq!(answer.status, 403, "{host}: {answer:?}");
        answer.assert_error(403, "forbidden_host");
    }
}

#[test]
fn a_request_without_a_host_is_refused() {
    let agent = plain();
    let request = format!("GET {DOWNLOADS} HTTP/1.1\r\nConnection: close\r\n\r\n");
    let answer = http::raw(agent.address, &request);
    assert!((400..500).contains(&answer.status), "{answer:?}");
}

#[test]
fn only_our_own_origin_may_ask() {
    let agent = plain();
    let own = format!("http://{}", agent.address);
    get(&agent, &[("Origin", &own)]).expect(200);
    let https = format!("https://{}1", agent.address);
    let other_port = "http://127.0.0.1:1";
    for origin in [
        "http://evil.example",
        "null",
        "",
        &https,
        other_port,
        "http://localhost",
    ] {
        let answer = get(&agent, &[("Origin", origin)]);
        assert_eq!(answer.status, 403, "{origin}: {answer:?}");
        answer.assert_error(403, "forbidden_origin");
    }
}

#[test]
fn a_foreign_origin_changes_nothing() {
    let origin = Origin::new(Package::new());
    let agent = Agent::of(&origin);
    let dir = tempfile::tempdir().unwrap();
    let order = json!({"url": origin.link(), "dst_folder": dir.path()}).to_string();
    let headers = [
        ("Origin", "http://evil.example"),
        ("Content-Type", "application/json"),
    ];
    let answer = http::send(agent.address, "POST", DOWNLOADS, &headers, Some(&order));
    answer.assert_error(403, "forbidden_origin");
    assert_eq!(origin.count(Kind::Link), 0);
    assert_eq!(agent.ids(), Vec::<String>::new());
}

#[test]
fn no_answer_invites_other_origins() {
    let agent = plain();
    for method in ["GET", "OPTIONS"] {
        let headers = [("Origin", "http://evil.example")];
        let answer = http::send(agent.address, method, DOWNLOADS, &headers, None);
        assert_eq!(answer.header("access-control-allow-origin"), None);
        assert!(answer.status >= 400, "{answer:?}");
    }
}

#[test]
fn a_token_is_asked_for_everywhere() {
    let (agent, _dir) = guarded(&format!("{API_TOKEN}\nsecond line\n"), &[]);
    let pause = format!("{}/pause", one("x"));
    let calls = [
        ("GET", DOWNLOADS),
        ("POST", DOWNLOADS),
        ("DELETE", DOWNLOADS),
        ("GET", "/api/v1/downloads/x"),
        ("DELETE", "/api/v1/downloads/x"),
        ("POST", &pause),
    ];
    let longer = format!("Bearer {API_TOKEN}x");
    let shorter = format!("Bearer {}", &API_TOKEN[..API_TOKEN.len() - 1]);
    let basic = format!("Basic {API_TOKEN}");
    let both = format!("Bearer {API_TOKEN}\tsecond line");
    for (method, target) in calls {
        let answer = http::send(agent.address, method, target, &[], None);
        answer.assert_error(401, "unauthorized");
        for value in [
            &longer,
            &shorter,
            &basic,
            &both,
            "Bearer ",
            "Bearer second line",
        ] {
            let headers = [("Authorization", value)];
            let answer = http::send(agent.address, method, target, &headers, None);
            answer.assert_error(401, "unauthorized");
        }
    }
    let right = format!("Bearer {API_TOKEN}");
    get(&agent, &[("Authorization", &right)]).expect(200);
}

/// The answer's status where the connection comes from another of this machine's addresses.
fn status_from(address: &str, agent: &Agent, token: &str) -> String {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let from: std::net::SocketAddr = format!("{address}:0").parse().unwrap();
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &from).unwrap();
    connect(&socket, &agent.address).unwrap();
    let mut stream = TcpStream::from(socket);
    let host = agent.address;
    let head = format!("GET {DOWNLOADS} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n");
    write!(stream, "{head}Authorization: Bearer {token}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer[9..12].to_owned()
}

#[test]
fn a_token_cannot_be_found_by_trying() {
    let (agent, _dir) = guarded(API_TOKEN, &[]);
    let begun = Instant::now();
    let mut refused = 0;
    for number in 0..200 {
        let token = format!("Bearer guess-{number}");
        // Nobody says for itself where it comes from.
        let spoofed = format!("192.0.2.{number}");
        let answer = get(
            &agent,
            &[("Authorization", &token), ("Haul-Peer", &spoofed)],
        );
        if answer.status == 429 {
            answer.assert_error(429, "too_many_attempts");
            assert_eq!(answer.header("retry-after"), Some("1"));
            refused += 1;
        } else {
            answer.assert_error(401, "unauthorized");
        }
    }
    let looked_at = 50 + begun.elapsed().as_secs() + 1;
    assert!(200 - refused <= looked_at, "{refused} refused");
    // Not even the right one is looked at, or trying would go on; from elsewhere it is.
    assert_eq!(status_from("127.0.0.9", &agent, API_TOKEN), "200");
    get(&agent, &[]).assert_error(401, "unauthorized");
    // Within seconds it is again.
    let right = format!("Bearer {API_TOKEN}");
    let end = begun + Duration::from_secs(30);
    while get(&agent, &[("Authorization", &right)]).status != 200 {
        assert!(Instant::now() < end);
    }
}

#[test]
fn with_a_token_any_host_will_do_but_not_any_origin() {
    let (agent, _dir) = guarded(API_TOKEN, &[]);
    let right = format!("Bearer {API_TOKEN}");
    let headers = [("Authorization", &right as &str), ("Host", "nas.example")];
    get(&agent, &headers).expect(200);
    let foreign = [headers[0], headers[1], ("Origin", "http://evil.example")];
    get(&agent, &foreign).assert_error(403, "forbidden_origin");
    let own = [headers[0], headers[1], ("Origin", "http://nas.example")];
    get(&agent, &own).expect(200);
}

#[test]
fn other_addresses_than_loopback_need_a_token() {
    let setup = Setup::new().args(&["--listen", "0.0.0.0:0"]);
    let end = run(&mut setup.command());
    assert!(end.code().is_some_and(|code| code != 0), "{end:?}");
    assert!(end.stderr.contains("--token-file"), "{end:?}");
    assert_eq!(end.stdout, "");
    let (agent, _dir) = guarded(API_TOKEN, &["--listen", "0.0.0.0:0"]);
    let local = format!("127.0.0.1:{}", agent.address.port());
    let local = local.parse().unwrap();
    let answer = http::send(local, "GET", DOWNLOADS, &[], None);
    answer.assert_error(401, "unauthorized");
}

#[test]
fn a_token_file_that_is_empty_or_missing_opens_no_door() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    fs::write(&empty, "\n").unwrap();
    for file in [empty, dir.path().join("missing")] {
        let setup = Setup::new().args(&["--token-file", file.to_str().unwrap()]);
        let end = run(&mut setup.command());
        assert!(end.code().is_some_and(|code| code != 0), "{end:?}");
        assert_eq!(end.stdout, "", "{end:?}");
    }
}

/// Sends requests with the token, and remembers everything that was told.
struct Ear(RefCell<Vec<String>>);

impl Ear {
    fn ask(&self, agent: &Agent, method: &str, target: &str, body: Option<&str>) -> Answer {
        let bearer = format!("Bearer {API_TOKEN}");
        let headers = [
            ("Authorization", &bearer as &str),
            ("Content-Type", "application/json"),
        ];
        let answer = http::send(agent.address, method, target, &headers, body);
        self.hear(format!("{:?} {}", answer.headers, answer.text));
        answer
    }

    fn hear(&self, text: String) {
        self.0.borrow_mut().push(text);
    }

    fn assert_heard_none_of(&self, secrets: &[&str]) {
        for text in self.0.borrow().iter() {
            for secret in secrets {
                let at = text.find(secret);
                let line = at.map(|at| text[..at].matches('\n').count());
                let line = line.and_then(|number| text.lines().nth(number));
                assert_eq!(line, None, "{secret} is told");
            }
        }
    }
}

#[test]
fn secrets_are_in_no_answer_no_log_and_no_command_line() {
    let origin = Origin::new(Package::new().file("a", 1000).file("b", 1000));
    origin.require_password(PASSWORD);
    let (mut agent, dir) = guarded_for(&origin);
    let ear = Ear(RefCell::default());
    let order = |folder: &str, password: &str| {
        let folder = dir.path().join(folder);
        json!({"url": origin.link(), "dst_folder": folder, "password": password}).to_string()
    };
    let post = |agent: &Agent, body: &str| ear.ask(agent, "POST", DOWNLOADS, Some(body));
    // Refused, wrong, transient, failed: each has a message that could tell too much.
    post(&agent, &order("x", "wrong-pass-0815")).expect(403);
    post(&agent, &order("x", PASSWORD).replace("http:", "htp:")).expect(400);
    post(&agent, &order("x", PASSWORD)[1..]).expect(400);
    let faults = [Reply::status(503), Reply::hang_up(), Reply::half()];
    for (folder, fault) in ["0", "1", "2"].into_iter().zip(faults) {
        origin.always(Kind::Link, fault);
        post(&agent, &order(folder, PASSWORD));
    }
    origin.heal(Kind::Link);
    origin.on(Kind::Bytes, |seen| match seen.is_for("F2") {
        true => Reply::status(404),
        false => Reply::serve(),
    });
    origin.first(1, Kind::Listing, Reply::status(401));
    let last = post(&agent, &order("last", PASSWORD)).expect(201);
    let target = one(last["download_id"].as_str().unwrap());
    origin.await_requests(Kind::Bytes, 2);
    ear.ask(&agent, "GET", &target, None).expect(200);
    ear.ask(&agent, "GET", DOWNLOADS, None).expect(200);
    let command_line = fs::read(format!("/proc/{}/cmdline", agent.pid())).unwrap();
    ear.hear(String::from_utf8(command_line).unwrap());
    agent.terminate();
    agent.restart();
    ear.ask(&agent, "GET", &target, None).expect(200);
    agent.terminate();
    ear.hear(agent.logs());
    ear.hear(agent.stdout());
    let passwords = [PASSWORD, "wrong-pass-0815"];
    ear.assert_heard_none_of(&passwords);
    ear.assert_heard_none_of(&[SECRET, SECRET_ENCODED, TOKEN, API_TOKEN]);
}

#[test]
fn half_a_request_keeps_nobody_waiting() {
    let agent = plain();
    let mut open = Vec::new();
    for _ in 0..30 {
        let mut stream = TcpStream::connect(agent.address).unwrap();
        stream.write_all(b"GET /api/v1/downl").unwrap();
        open.push(stream);
    }
    get(&agent, &[]).expect(200);
}

#[test]
fn the_agent_runs_no_other_program() {
    let agent = plain();
    get(&agent, &[]).expect(200);
    let tasks = format!("/proc/{}/task", agent.pid());
    for task in fs::read_dir(tasks).unwrap() {
        let children = task.unwrap().path().join("children");
        // A thread may have ended meanwhile.
        let children = fs::read_to_string(children).unwrap_or_default();
        assert_eq!(children, "");
    }
}

#[test]
fn share_hides_its_secret_from_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = crate::support::process::haul();
    share(&mut command, dir.path());
    let mut running = Running::start(&mut command);
    let link = running.stdout.line().unwrap();
    let secret = link.split_once("secret=").unwrap().1.to_string();
    let address = link.strip_prefix("http://").unwrap();
    let address = address.split('/').next().unwrap().parse().unwrap();
    let target = format!("/v1/links/X?secret={secret}");
    let answer = http::raw(
        address,
        &format!("GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"),
    );
    assert!(answer.status >= 400, "{answer:?}");
    // Only once it has ended is all of its log there.
    running.signal(Signal::TERM);
    running.wait_exit();
    let text = running.stderr.rest();
    // What the user is told, as on stdout, is no log.
    let (told, log): (Vec<&str>, Vec<&str>) = text
        .lines()
        .partition(|line| line.starts_with("To fetch it: "));
    assert_eq!(told.len(), 1, "{text}");
    assert!(log.iter().all(|line| !line.contains(&secret)), "{text}");
}

fn share(command: &mut Command, dir: &std::path::Path) {
    command
        .arg("share")
        .arg(dir)
        .args(["--listen", "127.0.0.1:0"])
        .env("RUST_LOG", "debug");
}
