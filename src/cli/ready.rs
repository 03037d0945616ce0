//! Says that the agent takes calls: on stdout, and to the service manager that started it, if it
//! asked for that.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};

/// Says it. A service manager that does not listen is only warned of.
///
/// # Errors
/// Stdout is closed.
pub fn announce(urls: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for url in urls {
        writeln!(out, "listening on {url}")?;
    }
    out.flush()?;
    if let Some(socket) = std::env::var_os("NOTIFY_SOCKET")
        && let Err(error) = notify(&socket)
    {
        log::warn!("the service manager cannot be told that haul is ready: {error}");
    }
    Ok(())
}

/// The protocol of sd_notify(3): a datagram to a socket with a path, or with an abstract name after
/// an `@`.
fn notify(socket: &OsStr) -> io::Result<()> {
    let address = match socket.as_bytes() {
        [b'@', name @ ..] => UnixAddr::from_abstract_name(name)?,
        _ => UnixAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> Vec<u8> {
        let mut text = vec![0; 64];
        let length = socket.recv(&mut text).unwrap();
        text.truncate(length);
        text
    }

    #[test]
    fn the_service_manager_hears_by_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        notify(path.as_os_str()).unwrap();
        assert_eq!(heard(&socket), b"READY=1");
    }

    #[test]
    fn the_service_manager_hears_by_an_abstract_name() {
        let name = format!("haul-test-{}", std::process::id());
        let address = UnixAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        notify(OsStr::new(&format!("@{name}"))).unwrap();
        assert_eq!(heard(&socket), b"READY=1");
    }

    #[test]
    fn nobody_there_is_an_error() {
        assert!(notify(OsStr::new("/nowhere/notify")).is_err());
    }
}
