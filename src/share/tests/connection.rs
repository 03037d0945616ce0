//! Connections: keep-alive, nonsense, start and stop.

use super::*;

#[test]
fn requests_follow_each_other_on_one_connection() {
    let fixture = Fixture::new(|dir, _| fs::write(dir.join("a"), "abc").unwrap());
    let address = fixture.address("a");
    let mut socket = fixture.connect();
    // Both at once: the second is read from what came with the first.
    let one = format!("GET {address} HTTP/1.1\r\n\r\n");
    let two = format!(
        "HEAD {address} HTTP/1.1\r\n\r\nGET {address} HTTP/1.1\r\nConnection: close\r\n\r\n"
    );
    socket.write_all((one + &two).as_bytes()).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3);
    assert_eq!(text.matches("\r\n\r\nabc").count(), 2);
}

#[test]
fn what_is_no_request_is_refused() {
    let fixture = Fixture::new(|_, _| {});
    let say = |bytes: &[u8]| {
        let mut socket = fixture.connect();
        socket.write_all(bytes).unwrap();
        read_reply(&mut socket).status
    };
    assert_eq!(say(b"nonsense\r\n\r\n"), 400);
    assert_eq!(say(&[b'x'; 20_000]), 400);
    assert_eq!(
        say(b"POST / HTTP/1.1\r\nContent-Length: 999999999999999\r\n\r\nx"),
        405
    );
    assert_eq!(say(b"GET /x HTTP/1.0\r\n\r\n"), 404);
    let post = fixture.ask("DELETE", "/v1/links/LINK_ID", "");
    assert_eq!(post.header("allow"), Some("GET, HEAD"));
}

#[test]
fn stopping_ends_transfers_and_frees_the_address() {
    let mut fixture = Fixture::new(|dir, _| {
        File::create(dir.join("f"))
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
    });
    let address = fixture.address("f");
    let mut socket = fixture.connect();
    write!(socket, "GET {address} HTTP/1.1\r\n\r\n").unwrap();
    let mut start = [0; 1000];
    socket.read_exact(&mut start).unwrap();
    let idle = fixture.connect();
    let share = fixture.share.take().unwrap();
    let listened = share.address();
    let began = std::time::Instant::now();
    share.stop();
    assert!(began.elapsed() < Duration::from_secs(3));
    assert!(TcpStream::connect(listened).is_err());
    drop(idle);
}

#[test]
fn what_cannot_be_shared_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let start = |path: &Path, listen: &str| {
        let options = Options {
            dir: path.to_owned(),
            listen: listen.parse().unwrap(),
            name: None,
            password: None,
            link_id: None,
            secret: None,
            public_url: None,
            address_lifetime: Duration::from_secs(1),
        };
        Share::start(options)
    };
    let text = |result: Result<Share, ShareError>| result.err().unwrap().to_string();
    assert!(text(start(&dir.path().join("none"), "127.0.0.1:0")).contains("none"));
    fs::write(dir.path().join("f"), "").unwrap();
    assert!(text(start(&dir.path().join("f"), "127.0.0.1:0")).contains("directory"));
    let first = start(dir.path(), "127.0.0.1:0").unwrap();
    let taken = first.address().to_string();
    assert!(text(start(dir.path(), &taken)).contains("--listen"));
    let second = start(dir.path(), "127.0.0.1:0").unwrap();
    assert_ne!(first.link(), second.link());
    first.stop();
    second.stop();
}
