//! The four calls over real sockets, as a downloader makes them and as others might.

mod bytes;
mod connection;
mod link;
mod listing;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::Value;
use tempfile::TempDir;

use super::*;

/// A folder that is shared, and a client without any cleverness.
struct Fixture {
    dir: TempDir,
    share: Option<Share>,
}

struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }
}

impl Fixture {
    fn new(change: impl FnOnce(&Path, &mut Options)) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options {
            dir: dir.path().to_owned(),
            listen: "127.0.0.1:0".parse().unwrap(),
            name: None,
            password: None,
            link_id: Some("LINK_ID".into()),
            secret: Some(Secret::new("s&cret ä")),
            public_url: None,
            address_lifetime: Duration::from_secs(3600),
        };
        change(dir.path(), &mut options);
        let share = Some(Share::start(options).unwrap());
        Fixture { dir, share }
    }

    fn share(&self) -> &Share {
        self.share.as_ref().unwrap()
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.share().address()).unwrap();
        let limit = Some(Duration::from_secs(20));
        socket.set_read_timeout(limit).unwrap();
        socket
    }

    /// Sends one request and reads until the connection ends.
    fn ask(&self, method: &str, target: &str, headers: &str) -> Reply {
        let mut socket = self.connect();
        write!(
            socket,
            "{method} {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}\r\n"
        )
        .unwrap();
        read_reply(&mut socket)
    }

    fn get(&self, target: &str, headers: &str) -> Reply {
        self.ask("GET", target, headers)
    }

    /// The link as a path of the API.
    fn resolve(&self, headers: &str) -> Reply {
        let link = self.share().link();
        let query = link.split_once('?').unwrap().1;
        self.get(&format!("/v1/links/LINK_ID?{query}"), headers)
    }

    /// The package's identifier and a header with its token.
    fn enter(&self) -> (String, String) {
        let link = self.resolve("").json();
        let token = link["package_token"].as_str().unwrap();
        let package = link["package_id"].as_str().unwrap().to_owned();
        (package, format!("X-Package-Token: {token}\r\n"))
    }

    fn list(&self) -> Vec<Value> {
        let (package, token) = self.enter();
        let reply = self.get(&format!("/v1/packages/{package}/files"), &token);
        assert_eq!(reply.status, 200);
        reply.json().as_array().unwrap().clone()
    }

    /// The path and query of a file's bytes.
    fn address(&self, name: &str) -> String {
        let list = self.list();
        let entry = list.iter().find(|entry| entry["name"] == name).unwrap();
        let (package, token) = self.enter();
        let id = entry["id"].as_str().unwrap();
        let reply = self.get(
            &format!("/v1/packages/{package}/files/{id}/download"),
            &token,
        );
        let url = reply.json()["url"].as_str().unwrap().to_owned();
        let base = format!("http://{}", self.share().address());
        url.strip_prefix(&base).unwrap().to_owned()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(share) = self.share.take() {
            share.stop();
        }
    }
}

fn read_reply(socket: &mut TcpStream) -> Reply {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut body = bytes.split_off(end + 4);
    if head.contains("Transfer-Encoding: chunked") {
        body = unchunk(&body);
    }
    Reply {
        status: head[9..12].parse().unwrap(),
        head,
        body,
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|w| w == b"\r\n").unwrap();
        let size = std::str::from_utf8(&rest[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let chunk = &rest[line + 2..];
        assert_eq!(&chunk[size..size + 2], b"\r\n");
        if size == 0 {
            assert_eq!(chunk.len(), 2, "nothing follows the last chunk");
            return body;
        }
        body.extend_from_slice(&chunk[..size]);
        rest = &chunk[size + 2..];
    }
}

fn names(list: &[Value]) -> Vec<String> {
    list.iter()
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap().to_owned();
            format!("{} {}|{}", text("kind"), text("path"), text("name"))
        })
        .collect()
}
