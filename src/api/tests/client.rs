//! A client that sees every byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

pub struct Client {
    pub stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status and error code, after a look at what every error has.
    pub fn error(&self) -> (u16, String) {
        assert_eq!(self.field("Content-Type"), Some("application/json"));
        let error = &self.json()["error"];
        assert!(!error["message"].as_str().unwrap().is_empty());
        (self.status, error["code"].as_str().unwrap().to_owned())
    }
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Client {
            stream,
            read: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).unwrap();
    }

    pub fn ask(&mut self, method: &str, path: &str, fields: &str, body: Option<&str>) -> Reply {
        let length = body.map_or(String::new(), |body| {
            format!("Content-Length: {}\r\n", body.len())
        });
        self.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}{length}\r\n{}",
            body.unwrap_or_default()
        ));
        self.reply(method == "HEAD")
    }

    /// Reads until there are `count` bytes; false at the end.
    fn want(&mut self, count: usize) -> bool {
        let mut buffer = [0; 4096];
        while self.read.len() < count {
            match self.stream.read(&mut buffer).unwrap() {
                0 => return false,
                n => self.read.extend_from_slice(&buffer[..n]),
            }
        }
        true
    }

    fn line(&mut self) -> String {
        let mut looked = 0;
        loop {
            if let Some(at) = self.read[looked..].windows(2).position(|w| w == b"\r\n") {
                let line: Vec<u8> = self.read.drain(..looked + at + 2).collect();
                return String::from_utf8(line[..line.len() - 2].to_vec()).unwrap();
            }
            looked = self.read.len().saturating_sub(1);
            assert!(self.want(self.read.len() + 1), "the answer broke off");
        }
    }

    /// Reads an answer's head.
    pub fn head(&mut self) -> Reply {
        self.reply(true)
    }

    /// Reads one answer by its framing.
    pub fn reply(&mut self, head_only: bool) -> Reply {
        let mut head = String::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            head.push_str(&line);
            head.push('\n');
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply {
            status,
            head,
            body: Vec::new(),
        };
        if head_only || status == 100 {
            return reply;
        }
        if let Some(length) = reply.field("Content-Length") {
            let length = length.parse().unwrap();
            assert!(self.want(length), "the body broke off");
            reply.body = self.read.drain(..length).collect();
        } else if reply.field("Transfer-Encoding").is_some() {
            while let Some(chunk) = self.chunk() {
                reply.body.extend(chunk);
            }
        } else {
            reply.body = self.rest();
        }
        reply
    }

    /// Reads one chunk; None for the last.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = usize::from_str_radix(&self.line(), 16).unwrap();
        assert!(self.want(size + 2), "a chunk broke off");
        let chunk: Vec<u8> = self.read.drain(..size).collect();
        assert_eq!(self.line(), "");
        (size > 0).then_some(chunk)
    }

    /// Everything up to the end of the connection, which must come without a reset.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.want(self.read.len() + 1) {}
        std::mem::take(&mut self.read)
    }

    /// Whether the server hung up, politely or not, and said nothing before.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}
