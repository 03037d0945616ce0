//! The four calls of the upstream protocol, from a request to an answer.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use serde_json::json;

use crate::base::digest::hex;
use crate::base::locks;
use crate::base::secret::Secret;

use super::answer::{Answer, Body};
use super::beneath;
use super::catalog::Catalog;
use super::digests::Digests;
use super::http::{Method, Request};
use super::listing::rfc3339;
use super::range::{self, Part};
use super::sign::{Purpose, Signer, now, number};

/// How long a package token is good for, in seconds.
const TOKEN_LIFETIME: u64 = 3600;
/// When a link says that it expires, in seconds from now: it is good while the server runs, and
/// the protocol has no word for that.
const LINK_LIFETIME: u64 = 30 * 86_400;

/// A shared folder and what it takes to serve it.
pub struct Package {
    pub root: OwnedFd,
    pub name: String,
    pub link_id: String,
    pub secret: Secret,
    pub password: Option<Secret>,
    /// The base of the addresses that are handed out.
    pub base: String,
    /// An address is good for so long, and at most for twice as long.
    pub address_lifetime: Duration,
    pub signer: Signer,
    pub catalog: RwLock<Arc<Catalog>>,
    /// Held by the one that walks the folder.
    pub walking: Mutex<()>,
    pub digests: Digests,
}

impl Package {
    /// Answers a request.
    pub fn answer(&self, request: &Request) -> Answer {
        if request.method == Method::Other {
            return Answer::error(
                405,
                "method_not_allowed",
                "only GET and HEAD are served here",
            )
            .with("Allow", "GET, HEAD");
        }
        let components = request.components();
        let components: Vec<&str> = components.iter().map(String::as_str).collect();
        match components[..] {
            ["v1", "links", link] => self.resolve(request, link),
            ["v1", "packages", package, "files"] => self
                .check_token(request, package)
                .unwrap_or_else(|| self.list()),
            ["v1", "packages", package, "files", file, "download"] => self
                .check_token(request, package)
                .unwrap_or_else(|| self.address(file)),
            ["data", file] => self.bytes(request, file),
            _ => not_found("there is nothing here; give the link to a download agent such as haul"),
        }
    }

    /// The package's identifier: the same after a restart with the same link.
    fn package_id(&self) -> String {
        let hash = ring::digest::digest(&ring::digest::SHA256, self.link_id.as_bytes());
        hex(&hash.as_ref()[..16])
    }

    fn resolve(&self, request: &Request, link: &str) -> Answer {
        let secret = request.parameter("secret").unwrap_or_default();
        // Both are looked at, and the answer is one, so that nobody can tell a link from no link.
        let known = self.signer.same(link.as_bytes(), self.link_id.as_bytes());
        let open = self.signer.same(&secret, self.secret.reveal().as_bytes());
        if !(known & open) {
            return not_found("there is no such link");
        }
        if let Some(password) = &self.password {
            let Some(given) = request.header("x-link-password") else {
                return Answer::error(401, "link_password_required", "this link needs a password");
            };
            if !self.signer.same(given, password.reveal().as_bytes()) {
                return Answer::error(403, "link_password_wrong", "the password is wrong");
            }
        }
        self.walk_again();
        let catalog = self.catalog();
        log::info!("the link was resolved for {}", request.peer);
        let expiry = i64::try_from((now() + LINK_LIFETIME) * 1000).unwrap_or(i64::MAX);
        let package = self.package_id();
        let token = self.signer.token(&package, now() + TOKEN_LIFETIME);
        let answer = json!({
            "id": self.link_id,
            "name": self.name,
            "package_id": package,
            "package_size": catalog.bytes,
            "package_token": token,
            "expiry": rfc3339(expiry),
            "sender_email": "",
            "recipient_email": "",
            "branding": {},
        });
        Answer::json(200, &answer).with("Cache-Control", "no-store")
    }

    /// Walks the folder again, so that the package is what the folder holds now.
    fn walk_again(&self) {
        let _walking = locks::lock(&self.walking);
        if self.catalog().is_fresh() {
            return;
        }
        match Catalog::scan(&self.root, &self.link_id) {
            Ok(catalog) => {
                let mut current = locks::write(&self.catalog);
                *current = Arc::new(catalog);
            }
            Err(error) => log::warn!("the folder cannot be read again: {error}"),
        }
    }

    fn catalog(&self) -> Arc<Catalog> {
        locks::read(&self.catalog).clone()
    }

    /// A refusal, unless the request may see this package.
    fn check_token(&self, request: &Request, package: &str) -> Option<Answer> {
        let token = request.text("x-package-token").unwrap_or_default();
        if !self.signer.token_is_good(package, token) {
            let message = "the package token is missing, wrong or too old: resolve the link again";
            return Some(Answer::error(401, "unauthorized", message));
        }
        (package != self.package_id()).then(|| not_found("there is no such package"))
    }

    fn list(&self) -> Answer {
        Answer {
            status: 200,
            headers: vec![("Content-Type", "application/json".into())],
            body: Body::Listing(self.catalog()),
        }
    }

    fn address(&self, file: &str) -> Answer {
        let catalog = self.catalog();
        if catalog.find(file).is_none_or(|entry| entry.is_folder) {
            return not_found("there is no such file in this package");
        }
        let expires = expiry(now(), self.address_lifetime.as_secs());
        let signature = self.signer.sign(Purpose::Address, file, expires);
        let base = &self.base;
        let url = format!("{base}/data/{file}?expires={expires}&signature={signature}");
        Answer::json(200, &json!({ "url": url })).with("Cache-Control", "no-store")
    }

    fn bytes(&self, request: &Request, id: &str) -> Answer {
        let text = |name| String::from_utf8(request.parameter(name).unwrap_or_default());
        let signed = match (text("expires"), text("signature")) {
            (Ok(expires), Ok(signature)) => number(&expires).is_some_and(|expires| {
                self.signer
                    .verify(Purpose::Address, id, expires, &signature)
            }),
            _ => false,
        };
        if !signed {
            let message = "this address is not ours or has expired: ask for a fresh one";
            return Answer::error(403, "access_denied", message);
        }
        let catalog = self.catalog();
        let Some(entry) = catalog.find(id).filter(|entry| !entry.is_folder) else {
            return not_found("the file is gone");
        };
        self.file(request, entry.path, entry.name)
            .unwrap_or_else(|error| {
                let path = String::from_utf8_lossy(entry.path);
                let name = String::from_utf8_lossy(entry.name);
                log::warn!("cannot send {name:?} in {path:?}: {error}");
                unreadable(&error)
            })
    }

    fn file(&self, request: &Request, path: &[u8], name: &[u8]) -> io::Result<Answer> {
        let file = beneath::file(&self.root, path, name)?;
        let meta = file.metadata()?;
        let modified = meta.modified()?;
        let size = meta.len();
        let etag = format!(
            "\"{size:x}-{:x}.{:x}-{:x}\"",
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ino()
        );
        let part = part(request, size, &etag, modified);
        if part == Part::Unsatisfiable {
            let message = "the range lies beyond the file's end";
            let answer = Answer::error(416, "range_not_satisfiable", message);
            return Ok(answer.with("Content-Range", format!("bytes */{size}")));
        }
        let mut headers = vec![
            ("Content-Type", "application/octet-stream".to_owned()),
            ("Accept-Ranges", "bytes".to_owned()),
            ("ETag", etag),
        ];
        // Before 1970 there is no date that the header could carry; httpdate would panic.
        let since = modified.duration_since(SystemTime::UNIX_EPOCH);
        if since.is_ok_and(|since| since.as_secs() < 253_402_300_800) {
            headers.push(("Last-Modified", httpdate::fmt_http_date(modified)));
        }
        match self.digests.of(&file) {
            Ok(Some(digest)) => headers.push(("Repr-Digest", digest)),
            Ok(None) => {}
            // The bytes themselves will say what is wrong.
            Err(error) => log::debug!("no digest of a file: {error}"),
        }
        let (status, start, len) = match part {
            Part::Range { start, len } => {
                let last = start + len - 1;
                headers.push(("Content-Range", format!("bytes {start}-{last}/{size}")));
                (206, start, len)
            }
            _ => (200, 0, size),
        };
        Ok(Answer {
            status,
            headers,
            body: Body::Bytes { file, start, len },
        })
    }
}

/// The part that the request asks for. Ranges are for GET only (RFC 9110, section 14.2).
fn part(request: &Request, size: u64, etag: &str, modified: SystemTime) -> Part {
    let Some(range) = request
        .text("range")
        .filter(|_| request.method == Method::Get)
    else {
        return Part::Whole;
    };
    match request.header("if-range") {
        Some(condition)
            if !std::str::from_utf8(condition)
                .is_ok_and(|condition| range::if_range_holds(condition, etag, modified)) =>
        {
            Part::Whole
        }
        _ => range::parse(range, size),
    }
}

/// When an address that is given out `now` expires. It is the same for all who ask within one
/// lifetime, so that a cache before the server knows a file by its address.
fn expiry(now: u64, lifetime: u64) -> u64 {
    match now.checked_div(lifetime) {
        Some(passed) => passed.saturating_add(2).saturating_mul(lifetime),
        None => now,
    }
}

fn not_found(message: &str) -> Answer {
    Answer::error(404, "not_found", message)
}

fn unreadable(error: &io::Error) -> Answer {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            Answer::error(403, "access_denied", "the sender may not read this file")
        }
        // Out of descriptors, say: worth another attempt.
        _ if error.raw_os_error().is_some_and(is_passing) => {
            Answer::error(503, "unavailable", "too much is going on here; try again")
        }
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => not_found("the file is gone"),
        // O_NOFOLLOW met a symbolic link.
        _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            not_found("the file is gone")
        }
        _ => Answer::error(
            500,
            "unreadable",
            "the file cannot be read at the sender's side",
        ),
    }
}

fn is_passing(code: i32) -> bool {
    [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN]
        .iter()
        .any(|errno| errno.raw_os_error() == code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_good_for_one_lifetime_to_two_and_the_same_for_many() {
        assert_eq!(expiry(1000, 0), 1000);
        for now in 3600..7200 {
            assert_eq!(expiry(now, 3600), 10_800);
        }
        assert_eq!(expiry(7200, 3600), 14_400);
        assert_eq!(expiry(u64::MAX, 7), u64::MAX);
    }
}
