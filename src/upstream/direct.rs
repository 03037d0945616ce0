//! Large bodies without ureq in the middle: the caller reads the socket itself.
//!
//! ureq's body reader copies every byte from its own buffer into the caller's. Where a body comes
//! by plain http and its length is known, that copy buys nothing. So once ureq has handed out what
//! it had buffered, its transport lends the socket to the call (see `line`), ureq lets go of the
//! connection, and the rest of the body is read, or spliced, straight from the socket. With the
//! last byte the connection is between two answers again: it is parked here, and the dialer takes
//! it from here.

use std::io;
use std::net::TcpStream;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustix::pipe::{SpliceFlags, splice};

use super::call_context::{self, LentSocket, Peer, Silence, classify_io_error};
use crate::base::locks;

/// Smaller bodies stay with ureq, in bytes: for them a connection that changes hands costs more
/// than a copy.
pub const LARGE: u64 = 512 << 10;

impl LentSocket {
    /// Reads into the front of `room`; 0 is the end of the connection. Heeds the watch of the
    /// thread's context.
    ///
    /// # Errors
    /// The socket's and the watch's.
    pub fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        self.patiently(|stream| recv(stream, &mut *room, RecvFlags::empty()).map(|(read, _)| read))
    }

    /// Moves up to `most` bytes into a pipe, which must have room; 0 is the end of the connection.
    ///
    /// # Errors
    /// The socket's and the watch's.
    pub fn splice(&self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        self.patiently(|stream| splice(stream, None, pipe, None, most, SpliceFlags::MOVE))
    }

    fn patiently(
        &self,
        mut read: impl FnMut(&TcpStream) -> Result<usize, Errno>,
    ) -> io::Result<usize> {
        call_context::check()?;
        let mut silence = Silence::new(self.silence);
        loop {
            match read(&self.stream) {
                Ok(read) => return Ok(read),
                Err(error) => classify_io_error(error.into(), &mut silence)?,
            }
        }
    }
}

/// Reads what has come already.
///
/// # Errors
/// The socket's; `EAGAIN` where nothing has.
pub fn read_now(stream: &TcpStream, room: &mut [u8]) -> io::Result<usize> {
    let (read, _) = recv(stream, room, RecvFlags::DONTWAIT)?;
    Ok(read)
}

/// Whether a connection that nobody uses can serve a request: anything to read, its end included,
/// says that it cannot.
pub fn is_quiet(stream: &TcpStream) -> bool {
    let mut byte = [0; 1];
    let peeked = recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(peeked, Err(Errno::AGAIN))
}

/// Connections between two answers, newest last.
#[derive(Debug)]
pub struct IdleSockets {
    most: usize,
    idle_age: Duration,
    idle: Mutex<Vec<(Peer, Instant, Arc<TcpStream>)>>,
}

impl IdleSockets {
    /// Keeps up to `most` connections for so long.
    pub fn new(most: usize, idle_age: Duration) -> IdleSockets {
        IdleSockets {
            most,
            idle_age,
            idle: Mutex::default(),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Peer, Instant, Arc<TcpStream>)>> {
        locks::lock(&self.idle)
    }

    /// Takes a connection back whose last answer was read to its end.
    pub fn park(&self, lent: LentSocket) {
        let now = Instant::now();
        let mut idle = self.idle();
        idle.retain(|(_, since, _)| now.duration_since(*since) < self.idle_age);
        if idle.len() >= self.most && !idle.is_empty() {
            idle.remove(0);
        }
        idle.push((lent.peer, now, lent.stream));
    }

    /// Closes every connection that is kept.
    pub fn close(&self) {
        let idle = std::mem::take(&mut *self.idle());
        drop(idle);
    }

    /// The connection to that peer that was used last, if one can still serve.
    pub fn take(&self, peer: &Peer) -> Option<Arc<TcpStream>> {
        loop {
            let mut idle = self.idle();
            let at = idle.iter().rposition(|(whose, _, _)| whose == peer)?;
            let (_, since, stream) = idle.remove(at);
            drop(idle);
            if since.elapsed() < self.idle_age && is_quiet(&stream) {
                return Some(stream);
            }
        }
    }
}
