//! Networks that reach servers through a proxy only: real ones, of HTTP and of SOCKS5.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::agent::{Agent, Setup};
use crate::support::forward::Forward;
use crate::support::nginx::free_address;
use crate::support::origin::{Kind, Origin};
use crate::support::package::Package;
use crate::support::process::{Running, haul, run};
use crate::support::rig::Rig;
use crate::support::tls::Authority;

fn package() -> Package {
    Package::new().file("large.mov", 9 << 20).many(40, 2000)
}

/// A server of https, and the arguments by which an agent trusts it.
fn secure() -> (Origin, TempDir, Vec<String>) {
    let (authority, home) = (Authority::new(), tempfile::tempdir().unwrap());
    let path = authority.save(home.path());
    let args = vec!["--ca-file".into(), path.to_str().unwrap().into()];
    let origin = Origin::secure("127.0.0.1", package(), authority.server("127.0.0.1"));
    (origin, home, args)
}

/// An agent with this environment and these arguments beside the origin's.
fn agent(origin: &Origin, env: &[String], args: &[String]) -> Agent {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let wrapper: Vec<String> = std::iter::once("env".to_owned())
        .chain(env.to_vec())
        .collect();
    Setup::new()
        .origin(origin)
        .args(&args)
        .wrapper(&wrapper)
        .start()
}

fn arrives(agent: Agent, origin: Origin) -> Rig {
    let rig = Rig::of(agent, origin, tempfile::tempdir().unwrap());
    let id = rig.create();
    rig.complete(&id);
    rig
}

fn place(origin: &Origin) -> String {
    let base = origin.base();
    base.split_once("://").unwrap().1.to_owned()
}

#[test]
fn https_goes_through_the_proxy_that_the_environment_names() {
    let Some(proxy) = Forward::http(free_address(), "") else {
        return;
    };
    let (origin, _home, args) = secure();
    let env = [format!("https_proxy=http://{}", proxy.address)];
    let rig = arrives(agent(&origin, &env, &args), origin);
    let tunnel = format!("CONNECT {}", place(&rig.origin));
    assert!(proxy.log().contains(&tunnel), "{}", proxy.log());
}

#[test]
fn plain_http_is_forwarded_to_one_who_knows_the_password() {
    let Some(proxy) = Forward::http(free_address(), "BasicAuth nas Tr3s.ur") else {
        return;
    };
    let origin = Origin::new(package());
    let args = [
        "--proxy".into(),
        format!("http://nas:Tr3s%2Eur@{}", proxy.address),
    ];
    let rig = arrives(agent(&origin, &[], &args), origin);
    let forwarded = format!("GET http://{}/", place(&rig.origin));
    assert!(proxy.log().contains(&forwarded), "{}", proxy.log());
    assert!(!proxy.log().contains("): CONNECT"), "{}", proxy.log());
    assert!(!rig.agent.logs().contains("Tr3s"), "a password in the log");
    let seen = rig.origin.requests(Kind::Bytes);
    let told = |name: &str| seen.iter().any(|seen| seen.header(name).is_some());
    assert!(
        !told("proxy-authorization"),
        "the proxy's password went to the server"
    );
}

/// The record's error, while it waits.
fn error(rig: &Rig) -> Value {
    let id = rig.create();
    let waits = |record: &Value| record["error"]["retry_at"].is_string();
    let record = rig.agent.wait(&id, "an error that passes", waits);
    record["error"]["message"].clone()
}

#[test]
fn a_proxy_that_does_not_know_us_or_does_not_connect_is_told_as_that() {
    let locked = Forward::http(free_address(), "BasicAuth nas secret");
    let narrow = Forward::http(free_address(), "ConnectPort 1");
    let (Some(locked), Some(narrow)) = (locked, narrow) else {
        return;
    };
    for (address, words) in [
        (locked.address, "the proxy wants a user and a password"),
        (
            narrow.address,
            "the proxy does not connect to it (status 403)",
        ),
        (free_address(), "the proxy cannot be reached"),
    ] {
        let (origin, _home, args) = secure();
        let env = [format!("ALL_PROXY={address}")];
        let agent = agent(&origin, &env, &args);
        let rig = Rig::of(agent, origin, tempfile::tempdir().unwrap());
        let message = error(&rig);
        assert!(message.as_str().unwrap().contains(words), "{message}");
    }
    let origin = Origin::new(package());
    let env = [format!("http_proxy=http://{}", locked.address)];
    let rig = Rig::of(
        agent(&origin, &env, &[]),
        origin,
        tempfile::tempdir().unwrap(),
    );
    let message = error(&rig);
    assert!(
        message
            .as_str()
            .unwrap()
            .contains("wants a user and a password"),
        "{message}"
    );
    assert_eq!(rig.origin.requests(Kind::Link).len(), 0);
}

#[test]
fn a_download_goes_on_when_its_proxy_is_there_again() {
    let address = free_address();
    let (origin, _home, args) = secure();
    let env = [format!("https_proxy={address}")];
    let agent = agent(&origin, &env, &args);
    let rig = Rig::of(agent, origin, tempfile::tempdir().unwrap());
    let id = rig.create();
    let Some(_proxy) = Forward::http(address, "") else {
        return;
    };
    rig.complete(&id);
}

#[test]
fn socks_with_and_without_a_password() {
    let open = Forward::socks(None);
    let locked = Forward::socks(Some(("nas", "s:cret")));
    let (Some(open), Some(locked)) = (open, locked) else {
        return;
    };
    let through = [
        (&open, format!("socks5://{}", open.address)),
        (&open, format!("socks5h://{}", open.address)),
        (&locked, format!("socks5://nas:s%3Acret@{}", locked.address)),
    ];
    for (proxy, url) in through {
        let (origin, _home, mut args) = secure();
        args.extend(["--proxy".into(), url]);
        let rig = arrives(agent(&origin, &[], &args), origin);
        let port = rig.origin.base().rsplit_once(':').unwrap().1.to_owned();
        let connected = format!("connected to 127.0.0.1:{port}");
        assert!(proxy.log().contains(&connected), "{}", proxy.log());
    }
    let (origin, _home, mut args) = secure();
    args.extend(["--proxy".into(), format!("socks5://{}", locked.address)]);
    let rig = Rig::of(
        agent(&origin, &[], &args),
        origin,
        tempfile::tempdir().unwrap(),
    );
    let message = error(&rig);
    assert!(
        message
            .as_str()
            .unwrap()
            .contains("wants a user and a password"),
        "{message}"
    );
}

#[test]
fn hosts_that_need_no_proxy_are_asked_without() {
    let nowhere = free_address();
    let origin = Origin::new(package());
    let env = [
        format!("http_proxy={nowhere}"),
        "no_proxy=127.0.0.0/8".into(),
    ];
    let rig = arrives(agent(&origin, &env, &[]), origin);
    drop(rig);
    let origin = Origin::new(package());
    let env = [format!("http_proxy={nowhere}")];
    arrives(
        agent(&origin, &env, &["--proxy".into(), "none".into()]),
        origin,
    );
}

#[test]
fn what_is_no_proxys_address_is_refused_without_its_password() {
    let mut command = haul();
    command.args(["serve", "--state-dir", "/nowhere", "--proxy"]);
    let end = run(command.arg("ftp://user:s3cret@box"));
    assert_eq!(end.code(), Some(2));
    assert!(
        end.stderr.contains("--proxy: a proxy's address"),
        "{}",
        end.stderr
    );
    assert!(!end.stderr.contains("s3cret"), "{}", end.stderr);
}

#[test]
fn connections_come_from_the_address_that_was_asked_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let home = tempfile::tempdir().unwrap();
    let mut command = haul();
    command.args([
        "get",
        "--bind",
        "127.0.0.77",
        "--origin",
        &format!("{base}={base}/v1"),
    ]);
    command
        .arg(format!("{base}/LINK1?secret=x"))
        .arg(home.path().join("in"));
    let _running = Running::start(command.env("HOME", home.path()));
    let (mut caller, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), "127.0.0.77".parse::<IpAddr>().unwrap());
    assert!(caller.read(&mut [0; 10]).unwrap() > 0);
    let elsewhere: SocketAddr = "192.0.2.1:1".parse().unwrap();
    let mut command = haul();
    command.args([
        "get",
        "--bind",
        &elsewhere.ip().to_string(),
        "--retry-for",
        "1",
    ]);
    command.args(["--origin", &format!("{base}={base}/v1")]);
    command
        .arg(format!("{base}/LINK1?secret=x"))
        .arg(home.path().join("there"));
    let end = run(command.env("HOME", home.path()));
    // It may have the address a moment later.
    assert_eq!(end.code(), Some(1), "{}", end.stderr);
    assert!(end.stderr.contains("--bind"), "{}", end.stderr);
}
