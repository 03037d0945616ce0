//! What can go wrong upstream, and how what ureq reports becomes one of it.
//!
//! Messages are made here, from what is known to be harmless. Texts of ureq, rustls and serde are
//! never passed on: they may repeat what was sent or received, and that may be a credential.

use std::fmt;
use std::io;
use std::time::Duration;

use ureq::Error;

use super::call_context::AbortReason;
use crate::base::system_words::words;
use crate::base::url::Url;

/// Why a call to the upstream server failed. No text of it ever holds a secret, a token or an
/// address's query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The watch's `stop` was set.
    Stopped,
    /// May pass by itself: no network, 5xx, 408, 429, timeouts, resets, short bodies.
    Transient {
        message: String,
        /// What the server asked for (`Retry-After`), an hour at the most.
        retry_after: Option<Duration>,
    },
    /// An API call was answered 401 or 403, without a reason.
    Unauthorized,
    /// An API call was answered 401 or 403, for this reason of the server's, fit to be shown.
    Forbidden(String),
    /// An API call was answered 404.
    NotFound,
    /// An API call was answered 410.
    Gone,
    /// Any 4xx on an address, and any other 4xx on an API call; never 408 or 429.
    Refused(Rejection),
    /// An answer that the protocol does not allow; the text says what.
    Malformed(String),
}

/// A 4xx answer, and what the server says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub status: u16,
    /// Fit to be shown.
    pub words: Option<String>,
}

impl Rejection {
    /// One that says no more than its status.
    pub fn of(status: u16) -> Rejection {
        Rejection {
            status,
            words: None,
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.status)?;
        match &self.words {
            Some(words) => write!(f, ": {words}"),
            None => Ok(()),
        }
    }
}

impl Fault {
    /// A transient fault without a wish of the server.
    pub fn transient(message: impl Into<String>) -> Fault {
        Fault::Transient {
            message: message.into(),
            retry_after: None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Stopped => f.write_str("stopped"),
            Fault::Transient { message, .. } | Fault::Malformed(message) => f.write_str(message),
            Fault::Unauthorized => f.write_str("the server asks for a password or a fresh token"),
            Fault::Forbidden(reason) => write!(f, "the server refuses: {reason}"),
            Fault::NotFound => f.write_str("the server knows no such package"),
            Fault::Gone => f.write_str("the link has expired or was deleted"),
            Fault::Refused(answer) => write!(f, "the server refused ({answer})"),
        }
    }
}

impl std::error::Error for Fault {}

/// Whether a handshake failed because nobody we trust vouches for the certificate.
pub fn is_unknown_issuer(error: &Error) -> bool {
    certificate_problem(error).is_some_and(|why| why.starts_with("UnknownIssuer"))
}

/// What is wrong with the server's certificate. rustls is not ours to match on; its text is how it
/// tells.
fn certificate_problem(error: &Error) -> Option<String> {
    let text = match error {
        Error::Rustls(error) => error.to_string(),
        // Handshakes go through io::Read, which wraps the error.
        Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => error.to_string(),
        _ => return None,
    };
    let why = text.strip_prefix("invalid peer certificate: ")?;
    Some(why.chars().filter(|c| !c.is_control()).take(200).collect())
}

/// The fault that an error of ureq stands for; `url` is where the call went.
pub fn from_ureq(error: Error, url: &Url) -> Fault {
    let host = url.authority();
    if let Some(why) = certificate_problem(&error) {
        return Fault::transient(certificate_advice(&host, &why));
    }
    match error {
        Error::Io(error) => from_io(&error, &host),
        Error::Rustls(_) | Error::Tls(_) => Fault::transient(no_tls(&host)),
        Error::HostNotFound => Fault::transient(format!("{host} cannot be found")),
        Error::LargeResponseHeader(..) => {
            Fault::Malformed(format!("{host} sent a response head of more than 32 KiB"))
        }
        Error::BadUri(_) | Error::Http(_) => {
            Fault::Malformed(format!("{host}: its address cannot be requested"))
        }
        // The error's type is that of a crate below ureq, so its text has to tell.
        Error::Protocol(error) if error.to_string().contains("too many headers") => {
            Fault::Malformed(format!("{host} sent an answer with more than 128 headers"))
        }
        Error::Protocol(_) => Fault::transient(format!("{host} did not answer in HTTP")),
        _ => Fault::transient(format!("{host}: the connection failed")),
    }
}

/// What to do about a certificate. Its own texts, such as the names in it, are the peer's and are
/// not repeated.
fn certificate_advice(host: &str, why: &str) -> String {
    let of = format!("the certificate of {host}");
    let is = |parts: &[&str]| parts.iter().any(|part| why.contains(part));
    if is(&["UnknownIssuer"]) {
        return format!(
            "{of} was issued by nobody who is trusted; if it is your own server, name its \
             certificate authority with --ca-file"
        );
    }
    // The usual reason: an authority that was made anew under its old name.
    if is(&["BadSignature"]) {
        return format!(
            "{of} was not issued by the authority of that name which is trusted here; if it is \
             your own server, name its present \
             certificate authority with --ca-file"
        );
    }
    // A self-signed certificate that is an authority at the same time, as openssl makes them.
    if is(&["CaUsedAsEndEntity"]) {
        return format!(
            "{of} is that of an authority; if it is your own server, name this very certificate \
             with --ca-file, or \
             give the server one that this authority issued"
        );
    }
    if is(&["not valid for name", "NotValidForName"]) {
        return format!(
            "{of} is for another name; use the address that it was issued for, or give the server \
             one for this"
        );
    }
    if is(&["certificate expired", "Expired"]) {
        return format!(
            "{of} has expired; its server needs a new one, unless this machine's clock is wrong"
        );
    }
    if is(&["not valid yet", "NotValidYet"]) {
        return format!("{of} is not valid yet; look whether this machine's clock is right");
    }
    let name: String = why
        .chars()
        .take_while(char::is_ascii_alphanumeric)
        .collect();
    format!("{of} is not valid ({name}); whoever runs the server can mend that")
}

fn no_tls(host: &str) -> String {
    format!("{host}: the TLS connection failed; is it a server for https?")
}

fn from_io(error: &io::Error, host: &str) -> Fault {
    if let Some(cut) = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<AbortReason>())
    {
        return match cut {
            AbortReason::Stopped => Fault::Stopped,
            cut => Fault::transient(format!("{host}: {cut}")),
        };
    }
    Fault::transient(match error.kind() {
        io::ErrorKind::NotFound => format!("{host} cannot be found; is there a network?"),
        io::ErrorKind::UnexpectedEof => format!("{host} closed the connection too early"),
        io::ErrorKind::InvalidData => no_tls(host),
        // Only the system's own texts are known to be harmless.
        _ => match error.raw_os_error() {
            Some(code) => format!("{host}: {}", words(&io::Error::from_raw_os_error(code))),
            None => format!("{host}: the connection failed"),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_handshake(text: &str) -> (bool, String) {
        // As rustls words it, and as ureq hands it on from a handshake.
        let error = Error::Io(io::Error::new(io::ErrorKind::InvalidData, text.to_owned()));
        let url = Url::parse("https://own.example/x?sig=s3cret").unwrap();
        (
            is_unknown_issuer(&error),
            from_ureq(error, &url).to_string(),
        )
    }

    #[test]
    fn a_certificate_that_nobody_vouches_for_brings_the_advice_to_name_ca_file() {
        let (unknown, text) = of_handshake("invalid peer certificate: UnknownIssuer");
        assert!(
            unknown && text.contains("own.example") && text.contains("--ca-file"),
            "{text}"
        );
        let (unknown, text) =
            of_handshake("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))");
        assert!(!unknown && text.contains("--ca-file"), "{text}");
        let (unknown, text) = of_handshake("invalid peer certificate: Expired");
        assert!(
            !unknown && text.contains("expired") && !text.contains("--ca-file"),
            "{text}"
        );
        let (_, text) = of_handshake("invalid peer certificate: Revoked since <b>today</b>");
        assert!(text.contains("(Revoked)"), "{text}");
    }

    #[test]
    fn texts_of_others_are_not_repeated() {
        for kind in [
            io::ErrorKind::InvalidData,
            io::ErrorKind::Other,
            io::ErrorKind::NotFound,
        ] {
            let url = Url::parse("https://own.example/x?sig=s3cret").unwrap();
            let fault = from_ureq(Error::Io(io::Error::new(kind, "s3cret")), &url);
            assert!(!format!("{fault} {fault:?}").contains("s3cret"));
        }
    }
}
