//! Finding a host and connecting to it, such that neither outlasts the watch.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, ipproto, socket_with, sockopt,
};

use super::call_context::{self, AbortReason, SLICE};
use super::proxy::Proxies;
use crate::base::places::Places;

/// For one host with all its addresses; name lookup has the same again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// More addresses of one host are not tried.
const MAX_ADDRESSES: usize = 16;

/// A lookup cannot be interrupted, only abandoned; so many may be under way, abandoned ones
/// included.
const MAX_LOOKUPS: usize = 64;

static LOOKUPS: Places = Places::new(MAX_LOOKUPS);

/// How this machine reaches others.
#[derive(Debug, Clone, Default)]
pub struct Outlet {
    pub proxies: Proxies,
    /// The address of this machine that connections come from; None where the system chooses.
    pub from: Option<IpAddr>,
}

/// A connected, blocking socket whose reads and writes return after [`SLICE`] at the latest. It
/// comes `from` this address of the machine's where one is given.
///
/// # Errors
/// A [`AbortReason`], `NotFound` where there is no such host, or the last address's error.
pub fn dial(host: &str, port: u16, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let mut addresses = addresses(host, port)?;
    if let Some(from) = from {
        addresses.retain(|address| address.is_ipv4() == from.is_ipv4());
        if addresses.is_empty() {
            return Err(AbortReason::NoSuchAddress.into());
        }
    }
    let stream = race(&addresses, from)?;
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(SLICE))?;
    stream.set_write_timeout(Some(SLICE))?;
    Ok(stream)
}

/// The host's addresses, one at least.
///
/// # Errors
/// A [`AbortReason`], or `NotFound`.
pub fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    // localhost is always this machine (RFC 6761, 6.3).
    if bare == "localhost" {
        let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok(both.map(|address| SocketAddr::new(address, port)).into());
    }
    lookup(bare.to_owned(), port)
}

fn lookup(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let too_many = || io::Error::other("too many name lookups are waiting for an answer");
    let place = LOOKUPS.take().ok_or_else(too_many)?;
    let (answer, answers) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("lookup".to_owned())
        // The C library's resolver keeps its packets on the stack.
        .stack_size(256 * 1024)
        .spawn(move || {
            let _place = place;
            let found = (host.as_str(), port)
                .to_socket_addrs()
                .map(|found| found.take(MAX_ADDRESSES).collect::<Vec<_>>());
            // Nobody listens any more when the caller has given up.
            let _ = answer.send(found);
        })?;
    let give_up = Instant::now() + CONNECT_TIMEOUT;
    loop {
        call_context::check()?;
        match answers.recv_timeout(SLICE) {
            Ok(Ok(found)) if !found.is_empty() => return Ok(found),
            // The C library's texts differ and say no more than this.
            Ok(_) => return Err(io::ErrorKind::NotFound.into()),
            Err(RecvTimeoutError::Timeout) if Instant::now() < give_up => {}
            Err(RecvTimeoutError::Timeout) => return Err(AbortReason::ConnectTimeout.into()),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(io::Error::other("the name lookup failed"));
            }
        }
    }
}

/// Tries the addresses one after the other, a new one each time a slice has passed or one has
/// failed, and takes the first that answers (RFC 8305, 5), so that a dead IPv6 route costs a
/// quarter of a second and not the whole timeout.
fn race(addresses: &[SocketAddr], from: Option<IpAddr>) -> io::Result<TcpStream> {
    let give_up = Instant::now() + CONNECT_TIMEOUT;
    let mut failure = io::Error::from(io::ErrorKind::ConnectionRefused);
    let mut waiting = addresses.iter();
    let mut trying: Vec<OwnedFd> = Vec::new();
    loop {
        call_context::check()?;
        if let Some(address) = waiting.next() {
            match begin(address, from) {
                Ok(Begun::Connected(socket)) => return Ok(socket.into()),
                Ok(Begun::Connecting(socket)) => trying.push(socket),
                Err(Errno::ADDRNOTAVAIL) if from.is_some() => {
                    failure = AbortReason::NoSuchAddress.into();
                }
                Err(error) => failure = error.into(),
            }
        }
        if trying.is_empty() {
            if waiting.len() == 0 {
                return Err(failure);
            }
            continue;
        }
        if Instant::now() >= give_up {
            return Err(AbortReason::ConnectTimeout.into());
        }
        for at in answered(&trying)?.into_iter().rev() {
            let socket = trying.swap_remove(at);
            match sockopt::socket_error(&socket)? {
                Ok(()) => return Ok(socket.into()),
                Err(error) => failure = error.into(),
            }
        }
    }
}

enum Begun {
    Connected(OwnedFd),
    Connecting(OwnedFd),
}

fn begin(address: &SocketAddr, from: Option<IpAddr>) -> Result<Begun, Errno> {
    let family = if address.is_ipv6() {
        AddressFamily::INET6
    } else {
        AddressFamily::INET
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    if let Some(from) = from {
        bind(&socket, &SocketAddr::new(from, 0))?;
    }
    match connect(&socket, address) {
        Ok(()) => Ok(Begun::Connected(socket)),
        Err(Errno::INPROGRESS | Errno::INTR) => Ok(Begun::Connecting(socket)),
        Err(error) => Err(error),
    }
}

/// The places of those sockets that have connected or failed, after one slice at most.
fn answered(trying: &[OwnedFd]) -> io::Result<Vec<usize>> {
    let slice = Timespec::try_from(SLICE).expect("a quarter of a second fits");
    let mut sockets: Vec<PollFd<'_>> = trying
        .iter()
        .map(|socket| PollFd::new(socket, PollFlags::OUT))
        .collect();
    match poll(&mut sockets, Some(&slice)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let done = |socket: &PollFd<'_>| !socket.revents().is_empty();
    Ok((0..sockets.len())
        .filter(|&at| done(&sockets[at]))
        .collect())
}
