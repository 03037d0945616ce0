//! The transport under ureq: a TCP line that heeds the watch.
//!
//! ureq's own timeouts stay off: with one set it changes the socket's timeout at each read, one
//! more system call. Here the socket's timeout is set once, and is short; the silence is counted by
//! whoever it wakes.
//!
//! What a byte costs: the kernel copies it into the line's input buffer, ureq copies it from there
//! into the caller's. ureq's body reader offers no way around its buffer, so reads are as large as
//! that ([`INPUT_BUFFER`]); the module `direct` goes around both where it can. Under TLS the module
//! `tls` takes the bytes from here, and has a pair of buffers of its own for ureq.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::call_context::{
    self, AbortReason, LentSocket, Peer, Silence, classify_io_error, is_slice_end,
};
use super::dial::{Outlet, dial};
use super::direct::{self, IdleSockets, is_quiet};
use super::pipeline::PipeliningBlocklist;
use super::proxy::{Kind, Proxy};
use super::tunnel;
use crate::base::secret::Secret;

/// The most that one read takes from a socket, in bytes. Over loopback 4 GiB take 33,000 reads and
/// 0.7 s of CPU time with it; half of it doubles the reads, and twice as much outgrows the cache in
/// which the second copy is cheap: both are slower.
pub const INPUT_BUFFER: usize = 128 * 1024;

/// The same below TLS, which takes a record at a time: more only takes memory.
const TLS_INPUT_BUFFER: usize = 32 * 1024;

/// A request goes out in writes of at most this, and no line of its head may be longer, in bytes.
pub const OUTPUT_BUFFER: usize = 32 * 1024;

/// Opens lines.
#[derive(Debug)]
pub struct Dialer {
    /// So long without a byte is a timeout.
    pub silence: Duration,
    /// Connections that come back from calls which read them themselves.
    pub parked: Arc<IdleSockets>,
    pub outlet: Arc<Outlet>,
    /// Hosts that are asked one thing at a time.
    pub one_by_one: Arc<PipeliningBlocklist>,
}

impl Connector for Dialer {
    type Out = Line;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Line>, Error> {
        let host = details.uri.host().ok_or(Error::HostNotFound)?;
        let (default, input) = match details.needs_tls() {
            true => (443, TLS_INPUT_BUFFER),
            false => (80, INPUT_BUFFER),
        };
        let peer = (host.to_owned(), details.uri.port_u16().unwrap_or(default));
        let proxies = &self.outlet.proxies;
        let proxy = proxies.leading_to(details.needs_tls(), &peer.0, peer.1);
        // A tunnel is asked of a proxy for TLS only: many refuse others.
        let forwarder = proxy.filter(|proxy| proxy.kind == Kind::Http && !details.needs_tls());
        if forwarder.is_some() {
            self.one_by_one.keep(&place(details));
        }
        Ok(Some(Line {
            stream: self.stream(&peer, proxy, forwarder.is_some())?,
            forwarded: forwarder.map(|proxy| Forwarded::new(proxy, details)),
            peer,
            buffers: LazyBuffers::new(input, OUTPUT_BUFFER),
            silence: self.silence,
            busy: false,
        }))
    }
}

/// Host and port, as they are written in the address.
fn place(details: &ConnectionDetails) -> String {
    let place = details.uri.authority();
    place.map_or(String::new(), ToString::to_string)
}

impl Dialer {
    fn stream(
        &self,
        peer: &Peer,
        proxy: Option<&Proxy>,
        is_forwarded: bool,
    ) -> io::Result<Arc<TcpStream>> {
        if !call_context::context(|context| context.force_new_connection)
            && let Some(stream) = self.parked.take(peer)
        {
            return Ok(stream);
        }
        call_context::context(|context| context.connected = true);
        let (host, port) = (peer.0.as_str(), peer.1);
        let stream = match proxy {
            Some(proxy) if is_forwarded => tunnel::to_proxy(proxy, &self.outlet),
            Some(proxy) => tunnel::open(proxy, &self.outlet, host, port, self.silence),
            None => dial(host, port, self.outlet.from),
        };
        stream.map(Arc::new)
    }
}

/// What a proxy wants to be told with each request that it forwards.
#[derive(Debug)]
struct Forwarded {
    /// Goes before the path: the scheme, the host and the port (RFC 9112, 3.2.2).
    place: String,
    authorization: Option<Secret>,
}

impl Forwarded {
    fn new(proxy: &Proxy, details: &ConnectionDetails) -> Forwarded {
        Forwarded {
            place: format!("http://{}", place(details)),
            authorization: proxy.authorization(),
        }
    }

    /// A request's beginning as the proxy wants it.
    fn amend(&self, request: &[u8]) -> Vec<u8> {
        let method = request.iter().position(|&byte| byte == b' ');
        let line = request.windows(2).position(|two| two == b"\r\n");
        let (Some(method), Some(line)) = (method, line) else {
            return request.to_vec();
        };
        let (method, rest) = request.split_at(method + 1);
        let (target, headers) = rest.split_at(line + 2 - method.len());
        let mut amended = [method, self.place.as_bytes(), target].concat();
        if let Some(authorization) = &self.authorization {
            let header = format!("Proxy-Authorization: {}\r\n", authorization.reveal());
            amended.extend(header.as_bytes());
        }
        amended.extend(headers);
        amended
    }
}

/// Finds nothing: ureq asks its resolver for each request, also where a pooled connection will
/// serve it. A [`Dialer`] looks addresses up itself, for new connections only, and a Unix socket
/// has none.
#[derive(Debug)]
pub struct Unresolved;

impl Resolver for Unresolved {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}

/// One TCP connection.
#[derive(Debug)]
pub struct Line {
    stream: Arc<TcpStream>,
    peer: Peer,
    buffers: LazyBuffers,
    silence: Duration,
    /// A request was sent since the connection was last looked at.
    busy: bool,
    forwarded: Option<Forwarded>,
}

impl Transport for Line {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        let mut left = &self.buffers.output()[..amount];
        let amended = match &self.forwarded {
            Some(forwarded) if !self.busy => forwarded.amend(left),
            _ => Vec::new(),
        };
        if !amended.is_empty() {
            left = &amended;
        }
        let mut silence = Silence::new(self.silence);
        self.busy = true;
        call_context::check().map_err(io::Error::from)?;
        while !left.is_empty() {
            match (&*self.stream).write(left) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(written) => {
                    left = &left[written..];
                    silence.over();
                }
                Err(error) => classify_io_error(error, &mut silence)?,
            }
        }
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        call_context::check().map_err(io::Error::from)?;
        if self.buffers.input().is_empty() && self.lend() {
            return Err(io::Error::from(AbortReason::LentSocket).into());
        }
        let (patience, prompt) =
            call_context::context(|context| (context.patience, context.prompt));
        if prompt {
            // Only an answer that comes sooner.
            let _ = sockopt::set_tcp_quickack(&*self.stream, true);
        }
        let mut silence =
            Silence::new(patience.map_or(self.silence, |patience| patience.min(self.silence)));
        let room = self.buffers.input_append_buf();
        let eager = call_context::context(|context| context.eager);
        loop {
            let read = if eager {
                direct::read_now(&self.stream, room)
            } else {
                (&*self.stream).read(room)
            };
            match read {
                Ok(read) => {
                    self.buffers.input_appended(read);
                    call_context::came(read).map_err(io::Error::from)?;
                    return Ok(read > 0);
                }
                Err(error) if eager && is_slice_end(&error) => {
                    return Err(io::Error::from(AbortReason::Dry).into());
                }
                Err(error) => classify_io_error(error, &mut silence)?,
            }
        }
    }

    /// Called when a connection goes back to the pool and when it is taken out. Anything to read in
    /// between, the end included, means that it can serve no further request. It is looked for only
    /// on the way out, since that look sees all that the first would have seen: a system call less
    /// for each request.
    fn is_open(&mut self) -> bool {
        if std::mem::take(&mut self.busy) {
            return true;
        }
        if call_context::context(|context| context.force_new_connection) {
            return false;
        }
        is_quiet(&self.stream)
    }
}

impl Line {
    /// Lends the socket to the call that is under way, if it wants it.
    fn lend(&self) -> bool {
        call_context::context(|context| {
            if context.lend {
                context.lent = Some(LentSocket {
                    stream: self.stream.clone(),
                    peer: self.peer.clone(),
                    silence: self.silence,
                });
            }
            context.lend
        })
    }
}
