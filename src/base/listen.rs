//! Where the API listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// One place that callers can connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// Port 0 stands for any free one.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// The certificate and the key of the TCP listeners: PEM files, which are read again when asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, the server's own certificate first.
    pub cert: PathBuf,
    pub key: PathBuf,
}
