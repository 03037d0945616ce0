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
use super::dial::dial;
use super::direct::{self, IdleSockets, is_quiet};

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
        Ok(Some(Line {
            stream: self.stream(&peer)?,
            peer,
            buffers: LazyBuffers::new(input, OUTPUT_BUFFER),
            silence: self.silence,
            busy: false,
        }))
    }
}

impl Dialer {
    fn stream(&self, peer: &Peer) -> io::Result<Arc<TcpStream>> {
        if !call_context::context(|context| context.force_new_connection)
            && let Some(stream) = self.parked.take(peer)
        {
            return Ok(stream);
        }
        call_context::context(|context| context.connected = true);
        dial(&peer.0, peer.1).map(Arc::new)
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
}

impl Transport for Line {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        let mut left = &self.buffers.output()[..amount];
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
