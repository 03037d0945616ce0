//! Where the API listens: several addresses, Unix sockets, TLS; and how `haul` asks it there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Output;

use rustix::process::Signal;

use crate::support::PATIENCE;
use crate::support::process::{Running, haul, run};
use crate::support::tls::Authority;

/// `haul health`, asked of that server.
fn health(server: &str, more: &[&str]) -> Output {
    let mut command = haul();
    command.args(["health", "--server", server]).args(more);
    command.output().unwrap()
}

fn assert_healthy(output: &Output) {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(output.stdout, b"ok\n");
}

/// An agent in this folder, and its ready lines, one for each address.
fn serve(folder: &Path, args: &[&str], listen: &[&str]) -> (Running, Vec<String>) {
    let mut command = haul();
    command
        .arg("serve")
        .arg("--state-dir")
        .arg(folder.join("state"));
    command.args(args);
    for address in listen {
        command.args(["--listen", address]);
    }
    let running = Running::start(&mut command);
    let lines = listen.iter().map(|_| {
        let line = running.stdout.line();
        let line = line.unwrap_or_else(|| panic!("{}", running.stderr.rest()));
        line.strip_prefix("listening on ").unwrap().to_owned()
    });
    let lines = lines.collect();
    (running, lines)
}

/// What a plain request is answered.
fn plain(mut stream: impl Read + Write, fields: &str) -> String {
    let request = format!("GET /api/v1/downloads HTTP/1.1\r\n{fields}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn token(folder: &Path) -> String {
    let path = folder.join("token");
    std::fs::write(&path, "s3cret\n").unwrap();
    path.to_str().unwrap().to_owned()
}

fn address(url: &str, scheme: &str) -> SocketAddr {
    let address = url.strip_prefix(scheme).unwrap();
    address.strip_prefix("://").unwrap().parse().unwrap()
}

#[test]
fn several_addresses_at_once_and_no_scheme_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    let (_running, urls) = serve(
        folder.path(),
        &[],
        &["127.0.0.1:0", "[::1]:0", "127.0.0.2:0"],
    );
    for url in &urls {
        let bare = url.strip_prefix("http://").unwrap();
        assert_healthy(&health(bare, &[]));
        assert_healthy(&health(url, &[]));
    }
}

#[test]
fn callers_by_a_socket_need_no_token_and_any_host_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("haul.sock");
    // One that nobody listens on any more.
    drop(UnixListener::bind(&socket).unwrap());
    let url = format!("unix:{}", socket.display());
    let token = token(folder.path());
    let args = ["--token-file", &token];
    let (mut running, urls) = serve(folder.path(), &args, &[&url, "127.0.0.1:0"]);
    assert_eq!(urls[0], url);
    let found = std::fs::metadata(&socket).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o660);
    assert_healthy(&health(&url, &[]));
    let by_socket = plain(
        UnixStream::connect(&socket).unwrap(),
        "Host: any.example\r\n",
    );
    assert!(by_socket.starts_with("HTTP/1.1 200 "), "{by_socket}");
    // Nobody can say of a request that it came by the socket.
    let tcp = TcpStream::connect(address(&urls[1], "http")).unwrap();
    let by_tcp = plain(tcp, "Host: localhost\r\nHaul-Local: 1\r\n");
    assert!(by_tcp.starts_with("HTTP/1.1 401 "), "{by_tcp}");
    let refused = health(&urls[1], &[]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    // A second agent does not take it away.
    let mut second = haul();
    second.args(["serve", "--listen", &url, "--state-dir"]);
    let second = run(second.arg(folder.path().join("second")));
    assert_eq!(second.code(), Some(1));
    assert_healthy(&health(&url, &[]));
    running.signal(Signal::TERM);
    assert!(running.wait_exit().success());
    assert!(!socket.exists());
    assert_eq!(health(&url, &[]).status.code(), Some(1));
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("precious");
    std::fs::write(&path, "text").unwrap();
    let mut command = haul();
    command.args(["serve", "--listen", &format!("unix:{}", path.display())]);
    let finished = run(command.arg("--state-dir").arg(folder.path().join("state")));
    assert_eq!(finished.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
}

#[test]
fn tls_with_a_certificate_that_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca = authority.save(folder.path());
    let ca = ca.to_str().unwrap();
    let (cert, key) = authority.save_server("127.0.0.1", folder.path());
    let args = [
        "--tls-cert",
        cert.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ];
    let (running, urls) = serve(folder.path(), &args, &["127.0.0.1:0"]);
    // Somebody who connects and says nothing holds up nobody.
    let _silent = TcpStream::connect(address(&urls[0], "https")).unwrap();
    assert_healthy(&health(&urls[0], &["--ca-file", ca]));
    let unknown = health(&urls[0], &[]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    let hint = plain(
        TcpStream::connect(address(&urls[0], "https")).unwrap(),
        "Host: a\r\n",
    );
    assert!(
        hint.starts_with("HTTP/1.1 400 ") && hint.contains("https://"),
        "{hint}"
    );
    let other = Authority::new();
    let other_folder = tempfile::tempdir().unwrap();
    let other_ca = other.save(other_folder.path());
    other.save_server("127.0.0.1", folder.path());
    running.signal(Signal::HUP);
    let end = std::time::Instant::now() + PATIENCE;
    while health(&urls[0], &["--ca-file", other_ca.to_str().unwrap()])
        .status
        .code()
        != Some(0)
    {
        assert!(std::time::Instant::now() < end, "{}", running.stderr.text());
    }
    // One that cannot be used changes nothing.
    std::fs::write(&cert, "nothing").unwrap();
    running.signal(Signal::HUP);
    assert_healthy(&health(
        &urls[0],
        &["--ca-file", other_ca.to_str().unwrap()],
    ));
}

#[test]
fn a_token_in_the_open_is_warned_of() {
    let folder = tempfile::tempdir().unwrap();
    let token = token(folder.path());
    let (mut running, urls) = serve(folder.path(), &["--token-file", &token], &["0.0.0.0:0"]);
    let port = address(&urls[0], "http").port();
    assert_healthy(&health(
        &format!("127.0.0.1:{port}"),
        &["--token-file", &token],
    ));
    running.signal(Signal::TERM);
    assert!(running.wait_exit().success());
    let log = running.stderr.rest();
    assert_eq!(log.matches("unencrypted").count(), 1, "{log}");
}

#[test]
fn a_certificate_that_is_not_there_is_said_to_be_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.pem");
    let mut command = haul();
    command.args(["serve", "--listen", "127.0.0.1:0", "--state-dir"]);
    command.arg(folder.path().join("state"));
    for flag in ["--tls-cert", "--tls-key"] {
        command.arg(flag).arg(&path);
    }
    let end = run(&mut command);
    assert_ne!(end.code(), Some(0));
    assert!(
        end.stderr.contains("no such file") && !end.stderr.contains("os error"),
        "{end:?}"
    );
}
