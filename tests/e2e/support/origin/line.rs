//! A connection's line, in the clear or over TLS: one thread reads and writes it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::{HandshakeKind, ServerConfig, ServerConnection, Stream};

pub(super) struct Line {
    socket: TcpStream,
    tls: Option<Mutex<ServerConnection>>,
    /// Its handshake is counted.
    counted: AtomicBool,
}

impl Line {
    pub fn new(socket: TcpStream, config: Option<&Arc<ServerConfig>>) -> Line {
        let tls = config.map(|config| ServerConnection::new(config.clone()).unwrap());
        Line {
            socket,
            tls: tls.map(Mutex::new),
            counted: AtomicBool::new(false),
        }
    }

    /// Whether, as it seems for the first time, it began with a whole handshake, not with one that
    /// an earlier connection's took the place of. Never in the clear.
    pub fn is_new_handshake(&self) -> bool {
        let kind = |tls: &Mutex<ServerConnection>| tls.lock().unwrap().handshake_kind();
        let kind = self.tls.as_ref().and_then(kind);
        kind.is_some_and(|kind| kind != HandshakeKind::Resumed)
            && !self.counted.swap(true, Ordering::Relaxed)
    }

    /// Dropping it is a reset from now on.
    pub fn reset_at_end(&self) -> io::Result<()> {
        Ok(rustix::net::sockopt::set_socket_linger(
            &self.socket,
            Some(Duration::ZERO),
        )?)
    }
}

impl Read for &Line {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &self.tls {
            None => (&self.socket).read(buf),
            Some(tls) => Stream::new(&mut *tls.lock().unwrap(), &mut &self.socket).read(buf),
        }
    }
}

impl Write for &Line {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &self.tls {
            None => (&self.socket).write(buf),
            Some(tls) => Stream::new(&mut *tls.lock().unwrap(), &mut &self.socket).write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &self.tls {
            None => (&self.socket).flush(),
            Some(tls) => Stream::new(&mut *tls.lock().unwrap(), &mut &self.socket).flush(),
        }
    }
}
