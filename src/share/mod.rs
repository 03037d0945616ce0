//! `haul share`: a folder offered as a package, over the same protocol that haul downloads from.
//!
//! The folder is walked at the start and again when its link is resolved, so a package is what the
//! folder held at that moment. Regular files and empty folders are listed; symbolic links are
//! neither listed nor followed. A name that is not UTF-8 is listed in a form that can be shown, and
//! in base64. Whoever has the link (and the password) gets the files and nothing else.

mod answer;
mod beneath;
mod calls;
mod catalog;
mod digests;
mod http;
mod listing;
mod range;
mod server;
mod sign;

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::base::secret::Secret;
use crate::base::system_words::words;

use calls::Package;
use catalog::{Catalog, LeftOut};
use digests::Digests;
use server::Server;
use sign::{Signer, random_hex};

/// What a query can hold as it is (RFC 3986, section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What to share and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder; a symbolic link to one will do.
    pub dir: PathBuf,
    /// Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The package's name; the folder's if there is none.
    pub name: Option<String>,
    pub password: Option<Secret>,
    /// Letters, digits, `-`, `_`, `.` and `~`; random if there is none.
    pub link_id: Option<String>,
    /// Random if there is none.
    pub secret: Option<Secret>,
    /// How others reach this server, without a slash at its end; `http://` and the address where
    /// there is none.
    pub public_url: Option<String>,
    /// How long the address of a file's bytes is good for at least, in whole seconds; twice as long
    /// at most.
    pub address_lifetime: Duration,
}

/// Why a folder cannot be shared.
#[derive(Debug)]
pub enum ShareError {
    /// The folder cannot be read.
    Folder(PathBuf, io::Error),
    /// The address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The system gave no random numbers.
    Random,
}

impl fmt::Display for ShareError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShareError::Folder(dir, error) => {
                write!(f, "cannot share the folder {dir:?}: {}", words(error))
            }
            ShareError::Listen(address, error) => write!(
                f,
                "cannot listen on {address}: {}; try another --listen address",
                words(error)
            ),
            ShareError::Random => f.write_str("the system gave no random numbers"),
        }
    }
}

impl std::error::Error for ShareError {}

impl From<ring::error::Unspecified> for ShareError {
    fn from(_: ring::error::Unspecified) -> ShareError {
        ShareError::Random
    }
}

/// A folder that is being shared.
pub struct Share {
    server: Server,
    link: String,
    /// What the link and the API's addresses begin with.
    base: String,
}

impl Share {
    /// Walks the folder and starts to serve it.
    ///
    /// # Errors
    /// The folder cannot be read, or the address cannot be listened on.
    pub fn start(options: Options) -> Result<Share, ShareError> {
        let unreadable = |error| ShareError::Folder(options.dir.clone(), error);
        let root = open_root(&options.dir).map_err(unreadable)?;
        let link_id = match options.link_id.clone() {
            Some(id) => id,
            None => random_hex(16)?,
        };
        let secret = match options.secret.clone() {
            Some(secret) => secret,
            None => Secret::new(random_hex(16)?),
        };
        let catalog = Catalog::scan(&root, &link_id).map_err(unreadable)?;
        warn(&catalog.left_out);
        log::info!("{} entries, {} bytes", catalog.len(), catalog.bytes);
        let signer = Signer::new()?;
        let (mut link, mut link_base) = (String::new(), String::new());
        let server = Server::start(options.listen, |address| {
            let base = options
                .public_url
                .clone()
                .unwrap_or_else(|| local_base(address));
            let escaped = utf8_percent_encode(secret.reveal(), ESCAPED);
            link = format!("{base}/{link_id}?secret={escaped}");
            link_base.clone_from(&base);
            let package = Package {
                root,
                name: options
                    .name
                    .clone()
                    .unwrap_or_else(|| name_of(&options.dir)),
                link_id,
                secret,
                password: options.password.clone(),
                base,
                address_lifetime: options.address_lifetime,
                signer,
                catalog: RwLock::new(Arc::new(catalog)),
                walking: Mutex::new(()),
                digests: Digests::default(),
            };
            Box::new(move |request| package.answer(request))
        })
        .map_err(|error| ShareError::Listen(options.listen, error))?;
        Ok(Share {
            server,
            link,
            base: link_base,
        })
    }

    /// The link, secret included: what to give to the receiver.
    pub fn link(&self) -> String {
        self.link.clone()
    }

    /// The command that fetches the package into the current folder, secret included.
    pub fn command(&self) -> String {
        let (link, base) = (&self.link, &self.base);
        format!("haul get --origin {base}={base}/v1 '{link}'")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Closes every connection; returns when all is quiet.
    pub fn stop(self) {
        self.server.stop();
    }
}

fn open_root(dir: &Path) -> io::Result<OwnedFd> {
    let root = File::open(dir)?;
    match root.metadata()?.is_dir() {
        true => Ok(root.into()),
        false => Err(io::ErrorKind::NotADirectory.into()),
    }
}

/// The folder's own name, wherever `dir` points.
fn name_of(dir: &Path) -> String {
    let whole = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    match whole.file_name() {
        Some(name) => name.to_string_lossy().into_owned(),
        None => "package".into(),
    }
}

/// `http://` and an address that this machine can reach: "all addresses" is none.
fn local_base(mut address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        log::warn!("the link names this machine only; --public-url says how others reach it");
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

fn warn(left_out: &LeftOut) {
    for (count, what) in [
        (left_out.links, "symbolic links"),
        (left_out.special, "sockets, pipes and devices"),
        (left_out.unreadable, "things that cannot be read"),
    ] {
        if count > 0 {
            log::warn!("left out of the package: {count} {what}");
        }
    }
}
