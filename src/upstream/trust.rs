//! Whom we trust to vouch for a server: the roots that are compiled in, the system's, and those of
//! `--ca-file`.
//!
//! There are up to two agents for https: one that trusts the system and `--ca-file`, asked first,
//! and one that trusts the roots compiled in. Both are made when first needed: an agent that never
//! meets https holds no roots.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use ureq::tls::{Certificate, PemItem, parse_pem};
use webpki_roots::TLS_SERVER_ROOTS;

use super::pinned;
use super::tls::TlsConnector;
use crate::base::permission::explained;

/// Where distributions keep their bundle; the first that is there is taken.
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
];

/// Larger bundles are refused, in bytes.
const MAX_BUNDLE: u64 = 8 * 1024 * 1024;

/// The certificates of a PEM file.
///
/// # Errors
/// A text for the user if it cannot be read or has none.
pub fn read(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let mut pem = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BUNDLE + 1).read_to_end(&mut pem))
        .map_err(|error| {
            format!(
                "{} cannot be read: {}",
                path.display(),
                explained(&error, path)
            )
        })?;
    if pem.len() as u64 > MAX_BUNDLE {
        return Err(format!("{} is larger than 8 MiB", path.display()));
    }
    // Bundles hold comments and, sometimes, what cannot be parsed; the rest of them is still good.
    let certificates: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(format!(
            "{} holds no certificate in PEM form",
            path.display()
        ));
    }
    Ok(certificates)
}

/// Trusts the system's certificates and those given, of which one may be a server's own. None if
/// there are none of either.
pub fn local(given: &[Certificate<'static>]) -> Option<TlsConnector> {
    let system = SYSTEM_BUNDLES
        .iter()
        .find_map(|path| read(Path::new(path)).ok())
        .unwrap_or_default();
    if system.is_empty() && given.is_empty() {
        return None;
    }
    let all = system.iter().chain(given);
    let all = all.map(|certificate| CertificateDer::from(certificate.der().to_vec()));
    let mut roots = RootCertStore::empty();
    // Those that cannot be parsed are left out; the others are still good.
    roots.add_parsable_certificates(all);
    let provider = Arc::new(ring::default_provider());
    let pinned = match given {
        [] => None,
        _ => pinned::config(roots.clone(), given, provider.clone()),
    };
    let config = pinned.unwrap_or_else(|| authorities(roots, provider));
    Some(TlsConnector::new(config))
}

/// Trusts the authorities that are compiled in.
pub fn bundled() -> TlsConnector {
    let roots = RootCertStore {
        roots: TLS_SERVER_ROOTS.to_vec(),
    };
    let provider = Arc::new(ring::default_provider());
    TlsConnector::new(authorities(roots, provider))
}

fn authorities(roots: RootCertStore, provider: Arc<CryptoProvider>) -> ClientConfig {
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring offers what both versions of TLS need")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_wrong_with_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        assert!(read(&path).unwrap_err().contains("cannot be read"));
        std::fs::write(&path, "no certificate").unwrap();
        assert!(read(&path).unwrap_err().contains("holds no certificate"));
    }
}
