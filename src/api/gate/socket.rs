//! Sockets that callers come by: TCP, TLS over it, and Unix.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::tls::Certificate;
use crate::base::listen::Address;

/// A connection.
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.shutdown(how),
            Socket::Unix(stream) => stream.shutdown(how),
        }
    }

    /// A write that brings nothing on for this long fails. Small writes leave at once.
    pub fn prepare(&self, write_time: Duration) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(write_time))
            }
            Socket::Unix(stream) => stream.set_write_timeout(Some(write_time)),
        }
    }

    pub fn set_nonblocking(&self, on: bool) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.set_nonblocking(on),
            Socket::Unix(stream) => stream.set_nonblocking(on),
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Socket::Tcp(stream) => stream.as_fd(),
            Socket::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for &Socket {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&mut &*stream).read(room),
            Socket::Unix(stream) => (&mut &*stream).read(room),
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => (&mut &*stream).write(bytes),
            Socket::Unix(stream) => (&mut &*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How a connection is spoken on.
#[derive(Clone)]
pub enum Door {
    Plain,
    /// Whoever may open the Unix socket: they need no token.
    Local,
    Tls(Arc<Certificate>),
}

/// Where connections come in. A Unix socket's file goes when this is dropped.
pub struct Listener {
    socket: Listening,
    pub door: Door,
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf, (u64, u64)),
}

impl Listener {
    /// Listens there. `tls` is for TCP, `group` is who may open a Unix socket beside its owner.
    ///
    /// # Errors
    /// The address is taken or not ours; the socket's file cannot be made.
    pub fn bind(
        address: &Address,
        tls: Option<&Arc<Certificate>>,
        group: Option<u32>,
    ) -> io::Result<Listener> {
        let (socket, door) = match address {
            Address::Tcp(address) => {
                let door = tls.map_or(Door::Plain, |tls| Door::Tls(tls.clone()));
                (Listening::Tcp(TcpListener::bind(address)?), door)
            }
            Address::Unix(path) => (bind_unix(path, group)?, Door::Local),
        };
        let listener = Listener { socket, door };
        // A connection can go between poll and accept.
        match &listener.socket {
            Listening::Tcp(socket) => socket.set_nonblocking(true)?,
            Listening::Unix(socket, ..) => socket.set_nonblocking(true)?,
        }
        Ok(listener)
    }

    pub fn accept(&self) -> io::Result<Socket> {
        match &self.socket {
            Listening::Tcp(socket) => socket.accept().map(|(stream, _)| Socket::Tcp(stream)),
            Listening::Unix(socket, ..) => socket.accept().map(|(stream, _)| Socket::Unix(stream)),
        }
    }

    /// The TCP address with the real port; None for a Unix socket.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Listening::Tcp(socket) => socket.local_addr().ok(),
            Listening::Unix(..) => None,
        }
    }

    /// As a client would write it.
    pub fn url(&self) -> String {
        match (&self.socket, &self.door) {
            (Listening::Unix(_, path, _), _) => format!("unix:{}", path.display()),
            (Listening::Tcp(socket), door) => {
                let scheme = match door {
                    Door::Tls(_) => "https",
                    Door::Plain | Door::Local => "http",
                };
                let address = socket.local_addr().map(|address| address.to_string());
                format!("{scheme}://{}", address.unwrap_or_default())
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Listening::Tcp(socket) => socket.as_fd(),
            Listening::Unix(socket, ..) => socket.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Listening::Unix(_, path, made) = &self.socket
            && identity(path).is_ok_and(|found| found == *made)
            && let Err(error) = fs::remove_file(path)
        {
            log::warn!("{} could not be removed: {error}", path.display());
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Binds under another name first: nobody finds the socket before its mode and group are right, and
/// an old one is replaced in one step.
fn bind_unix(path: &Path, group: Option<u32>) -> io::Result<Listening> {
    make_way(path)?;
    let random = u32::from_le_bytes(crate::base::id::random());
    let draft = path.with_file_name(format!(".{random:08x}"));
    let socket = UnixListener::bind(&draft)?;
    let placed = (|| {
        let mode = |mode| fs::set_permissions(&draft, fs::Permissions::from_mode(mode));
        mode(0o600)?;
        if let Some(group) = group {
            std::os::unix::fs::chown(&draft, None, Some(group))?;
        }
        mode(0o660)?;
        fs::rename(&draft, path)?;
        identity(path)
    })();
    match placed {
        Ok(made) => Ok(Listening::Unix(socket, path.to_owned(), made)),
        Err(error) => {
            let _ = fs::remove_file(&draft);
            Err(error)
        }
    }
}

/// Whether the path is free, or has a socket that nobody listens on any more.
fn make_way(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            let message = "there is a file of that name which is no socket";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another program listens there",
        )),
    }
}
