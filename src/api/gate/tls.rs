//! TLS in front of the gate: what a client sends is decrypted on its connection's own thread and
//! handed on to the gate over a pair of sockets, so that the gate's limits and deadlines hold as
//! they do for plain connections. A slow handshake holds up nobody else.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use super::limits::Limits;
use super::wait;
use crate::base::listen::TlsFiles;
use crate::base::locks;
use crate::base::permission::explained;

/// The first byte of a TLS connection: a record of a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 0x16;
/// Bytes that are on their way to a client at the most.
const MAX_UNSENT: usize = 64 << 10;

/// The certificate that is shown to clients.
pub struct Certificate {
    files: TlsFiles,
    config: RwLock<Arc<ServerConfig>>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// A text for the user: which file cannot be used, and why.
    pub fn read(files: TlsFiles) -> Result<Certificate, String> {
        let config = RwLock::new(Arc::new(load(&files)?));
        Ok(Certificate { files, config })
    }

    /// Reads the files again. Connections that are there already go on as they are.
    ///
    /// # Errors
    /// As for [`Certificate::read`]; what was read before still holds then.
    pub fn reload(&self) -> Result<(), String> {
        let config = Arc::new(load(&self.files)?);
        *locks::write(&self.config) = config;
        Ok(())
    }

    fn current(&self) -> Arc<ServerConfig> {
        let config = self.config.read();
        config.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn load(files: &TlsFiles) -> Result<ServerConfig, String> {
    let (cert, key) = (&files.cert, &files.key);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|error| {
            format!(
                "the certificate {cert:?} cannot be read: {}",
                why(&error, cert)
            )
        })?;
    if chain.is_empty() {
        return Err(format!("{cert:?} holds no certificate in PEM form"));
    }
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("the key {key:?} cannot be read: {}", why(&error, key)))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|error| format!("{cert:?} and {key:?} do not go together: {error}"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Why a PEM file cannot be used.
fn why(error: &pem::Error, path: &Path) -> String {
    match error {
        pem::Error::Io(error) => explained(error, path),
        other => other.to_string(),
    }
}

/// Waits for the first byte: whether TLS is spoken. None if nothing comes.
pub fn is_spoken(client: &TcpStream, limits: &Limits) -> Option<bool> {
    let deadline = Instant::now() + limits.head_time;
    let mut first = [0];
    match wait::readable(client, deadline) {
        Ok(true) => match client.peek(&mut first) {
            Ok(1) => Some(first[0] == HANDSHAKE),
            _ => None,
        },
        _ => None,
    }
}

/// Passes bytes on between a client, over TLS, and the gate, until both have said everything or one
/// has gone.
///
/// # Errors
/// The client broke off, took too long or does not speak TLS properly: there is nobody to be told.
pub fn pump(
    certificate: &Certificate,
    client: &TcpStream,
    inner: &UnixStream,
    limits: &Limits,
) -> io::Result<()> {
    client.set_nonblocking(true)?;
    inner.set_nonblocking(true)?;
    let mut tls = ServerConnection::new(certificate.current()).map_err(io::Error::other)?;
    tls.set_buffer_limit(Some(MAX_UNSENT));
    let mut pump = Pump {
        tls,
        client,
        inner,
        decrypted: Vec::new(),
        client_ended: false,
        inner_ended: false,
        write_time: limits.write_time,
        written_at: Instant::now(),
    };
    pump.run(Instant::now() + limits.head_time)?;
    linger(client, inner, limits.linger_time)
}

struct Pump<'a> {
    tls: ServerConnection,
    client: &'a TcpStream,
    inner: &'a UnixStream,
    /// What the gate has not taken yet.
    decrypted: Vec<u8>,
    client_ended: bool,
    inner_ended: bool,
    write_time: Duration,
    /// When the client last took something, or had nothing to take.
    written_at: Instant,
}

impl Pump<'_> {
    fn run(&mut self, handshake_end: Instant) -> io::Result<()> {
        while !self.inner_ended || self.tls.wants_write() {
            let shaking = self.tls.is_handshaking();
            let mut deadline = shaking.then_some(handshake_end);
            if self.tls.wants_write() {
                let stuck = self.written_at + self.write_time;
                deadline = Some(deadline.map_or(stuck, |other| other.min(stuck)));
            } else {
                self.written_at = Instant::now();
            }
            let mut of_client = PollFlags::empty();
            of_client.set(PollFlags::OUT, self.tls.wants_write());
            let reads = !self.client_ended && self.decrypted.is_empty();
            of_client.set(PollFlags::IN, reads);
            let mut of_inner = PollFlags::empty();
            of_inner.set(PollFlags::OUT, !self.decrypted.is_empty());
            let takes = !shaking && !self.inner_ended && !self.tls.wants_write();
            of_inner.set(PollFlags::IN, takes);
            if shaking && self.client_ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            // One that nothing is wanted of is left out: its end would be told without end.
            let mut sources = Vec::with_capacity(2);
            if !of_client.is_empty() {
                sources.push(PollFd::new(self.client, of_client));
            }
            if !of_inner.is_empty() {
                sources.push(PollFd::new(self.inner, of_inner));
            }
            if wait::any(&mut sources, deadline)? == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.turn(reads, takes)?;
        }
        Ok(())
    }

    /// Does whatever can be done now; none of it waits.
    fn turn(&mut self, reads: bool, takes: bool) -> io::Result<()> {
        if self.tls.wants_write() && now(self.tls.write_tls(&mut &*self.client))?.is_some() {
            self.written_at = Instant::now();
        }
        if reads {
            match now(self.tls.read_tls(&mut &*self.client))? {
                Some(0) => self.client_ended = true,
                Some(_) => self.decrypt()?,
                None => {}
            }
            if self.client_ended && self.decrypted.is_empty() {
                let _ = self.inner.shutdown(Shutdown::Write);
            }
        }
        if !self.decrypted.is_empty()
            && let Some(count) = now((&mut &*self.inner).write(&self.decrypted))?
        {
            self.decrypted.drain(..count);
            if self.client_ended && self.decrypted.is_empty() {
                let _ = self.inner.shutdown(Shutdown::Write);
            }
        }
        if takes && !self.tls.wants_write() {
            self.encrypt()?;
        }
        Ok(())
    }

    fn decrypt(&mut self) -> io::Result<()> {
        if let Err(error) = self.tls.process_new_packets() {
            // The client is told, if it listens.
            let _ = self.tls.write_tls(&mut &*self.client);
            return Err(io::Error::other(error));
        }
        let mut room = [0; 4096];
        loop {
            match self.tls.reader().read(&mut room) {
                Ok(0) => self.client_ended = true,
                Ok(count) => {
                    self.decrypted.extend_from_slice(&room[..count]);
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.client_ended = true,
            }
            return Ok(());
        }
    }

    fn encrypt(&mut self) -> io::Result<()> {
        let mut room = [0; 16 << 10];
        match now((&mut &*self.inner).read(&mut room))? {
            Some(0) => {
                self.inner_ended = true;
                self.tls.send_close_notify();
            }
            Some(count) => self.tls.writer().write_all(&room[..count])?,
            None => {}
        }
        Ok(())
    }
}

/// What was done at once; None if it would have had to wait.
fn now(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Ok(count) => Ok(Some(count)),
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Reads on for a moment, so that the client gets to read what was sent last: closing with unread
/// bytes would reset the connection (RFC 9112, 9.6). Ends with the gate's end of the connection.
fn linger(client: &TcpStream, inner: &UnixStream, time: Duration) -> io::Result<()> {
    client.shutdown(Shutdown::Write)?;
    let deadline = Instant::now() + time;
    let mut room = [0; 4096];
    loop {
        let mut sources = [
            PollFd::new(client, PollFlags::IN),
            PollFd::new(inner, PollFlags::empty()),
        ];
        let ready = wait::any(&mut sources, Some(deadline))?;
        if ready == 0 || Instant::now() >= deadline {
            return Ok(());
        }
        match now((&mut &*client).read(&mut room))? {
            Some(0) => return Ok(()),
            Some(_) => {}
            // The gate's end has gone.
            None => return Ok(()),
        }
    }
}
