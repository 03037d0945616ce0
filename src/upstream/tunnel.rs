//! A connection through a proxy: CONNECT (RFC 9110, 9.3.6), or SOCKS5 (RFC 1928, and RFC 1929 for
//! user and password).

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use super::call_context::{AbortReason, Silence, check, classify_io_error};
use super::dial::{self, Outlet};
use super::proxy::{Kind, Proxy, authority};

/// The head of a proxy's answer is at most so long, in bytes.
const MAX_HEAD: usize = 16 << 10;

/// A stream to the host at the proxy's other side.
///
/// # Errors
/// An [`AbortReason`] that says what the proxy made of it, or as for [`dial::dial`].
pub fn open(
    proxy: &Proxy,
    outlet: &Outlet,
    host: &str,
    port: u16,
    silence: Duration,
) -> io::Result<TcpStream> {
    let stream = to_proxy(proxy, outlet)?;
    let mut line = Line {
        stream: &stream,
        silence,
    };
    match proxy.kind {
        Kind::Http => connect(&mut line, proxy, host, port)?,
        Kind::Socks5 | Kind::Socks5Names => socks5(&mut line, proxy, host, port)?,
    }
    Ok(stream)
}

/// A stream to the proxy itself.
///
/// # Errors
/// As for [`dial::dial`], with the proxy blamed.
pub fn to_proxy(proxy: &Proxy, outlet: &Outlet) -> io::Result<TcpStream> {
    dial::dial(&proxy.host, proxy.port, outlet.from).map_err(|error| {
        let reason = error.get_ref().and_then(|inner| inner.downcast_ref());
        match reason {
            Some(AbortReason::Stopped | AbortReason::Late | AbortReason::NoSuchAddress) => error,
            _ => AbortReason::ProxyUnreachable.into(),
        }
    })
}

/// The connection while the proxy is spoken to.
struct Line<'a> {
    stream: &'a TcpStream,
    silence: Duration,
}

impl Line<'_> {
    fn send(&mut self, mut left: &[u8]) -> io::Result<()> {
        let mut silence = Silence::new(self.silence);
        while !left.is_empty() {
            check()?;
            match self.stream.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => left = &left[written..],
                Err(error) => classify_io_error(error, &mut silence)?,
            }
        }
        Ok(())
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let mut silence = Silence::new(self.silence);
        let mut at = 0;
        while at < buffer.len() {
            check()?;
            match self.stream.read(&mut buffer[at..]) {
                Ok(0) => return Err(AbortReason::NoProxy.into()),
                Ok(read) => at += read,
                Err(error) => classify_io_error(error, &mut silence)?,
            }
        }
        Ok(())
    }
}

fn connect(line: &mut Line<'_>, proxy: &Proxy, host: &str, port: u16) -> io::Result<()> {
    let place = authority(host, port);
    let mut request = format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n");
    if let Some(authorization) = proxy.authorization() {
        request += &format!("Proxy-Authorization: {}\r\n", authorization.reveal());
    }
    request += "\r\n";
    line.send(request.as_bytes())?;
    // Byte by byte, since what follows the head is the host's; it is short, and comes once.
    let mut head = Vec::with_capacity(256);
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        line.receive(&mut byte)?;
        head.push(byte[0]);
        if head.len() > MAX_HEAD {
            return Err(AbortReason::NoProxy.into());
        }
    }
    match status(&head) {
        Some(200..=299) => Ok(()),
        Some(407) => Err(AbortReason::ProxyLocked.into()),
        Some(status) => Err(AbortReason::ProxyRefused(status).into()),
        None => Err(AbortReason::NoProxy.into()),
    }
}

/// The status of an answer's first line (RFC 9112, 4).
fn status(head: &[u8]) -> Option<u16> {
    let rest = head.strip_prefix(b"HTTP/1.")?;
    let digits = str::from_utf8(rest.get(2..5)?).ok()?;
    digits.parse().ok()
}

/// "No authentication", and "user and password" (RFC 1928, 3).
const OPEN: u8 = 0;
const PASSWORD: u8 = 2;

fn socks5(line: &mut Line<'_>, proxy: &Proxy, host: &str, port: u16) -> io::Result<()> {
    match &proxy.user {
        Some(_) => line.send(&[5, 2, OPEN, PASSWORD])?,
        None => line.send(&[5, 1, OPEN])?,
    }
    let mut choice = [0; 2];
    line.receive(&mut choice)?;
    match (choice, &proxy.user) {
        ([5, OPEN], _) => {}
        ([5, PASSWORD], Some((user, password))) => sign_in(line, user, password.reveal())?,
        ([5, _], _) => return Err(AbortReason::ProxyLocked.into()),
        _ => return Err(AbortReason::NoProxy.into()),
    }
    let mut request = vec![5, 1, 0];
    request.extend(target(proxy.kind, host, port)?);
    request.extend(port.to_be_bytes());
    line.send(&request)?;
    let mut answer = [0; 4];
    line.receive(&mut answer)?;
    match answer {
        [5, 0, ..] => {}
        [5, why, ..] => return Err(AbortReason::ProxyRefused(why.into()).into()),
        _ => return Err(AbortReason::NoProxy.into()),
    }
    // The address that the proxy speaks from is of no use.
    let length = match answer[3] {
        1 => 4,
        4 => 16,
        _ => {
            let mut length = [0];
            line.receive(&mut length)?;
            length[0].into()
        }
    };
    line.receive(&mut vec![0; length + 2])
}

/// RFC 1929.
fn sign_in(line: &mut Line<'_>, user: &str, password: &str) -> io::Result<()> {
    let mut request = vec![1];
    for word in [user, password] {
        let length = u8::try_from(word.len()).map_err(|_| AbortReason::ProxyLocked)?;
        request.push(length);
        request.extend(word.as_bytes());
    }
    line.send(&request)?;
    let mut answer = [0; 2];
    line.receive(&mut answer)?;
    match answer[1] {
        0 => Ok(()),
        _ => Err(AbortReason::ProxyLocked.into()),
    }
}

/// The host as RFC 1928, 5 has it.
fn target(kind: Kind, host: &str, port: u16) -> io::Result<Vec<u8>> {
    let bare = host.trim_matches(['[', ']']);
    let address = match (bare.parse::<IpAddr>(), kind) {
        (Ok(address), _) => address,
        // One has to be chosen: fewer networks are without IPv4 than without IPv6.
        (Err(_), Kind::Socks5) => {
            let all = dial::addresses(bare, port)?;
            let first = all.iter().find(|address| address.is_ipv4());
            first.unwrap_or(&all[0]).ip()
        }
        (Err(_), _) => {
            let length = u8::try_from(bare.len()).map_err(|_| io::ErrorKind::NotFound)?;
            return Ok([&[3, length], bare.as_bytes()].concat());
        }
    };
    Ok(match address {
        IpAddr::V4(address) => [&[1], address.octets().as_slice()].concat(),
        IpAddr::V6(address) => [&[4], address.octets().as_slice()].concat(),
    })
}
