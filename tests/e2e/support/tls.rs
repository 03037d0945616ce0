//! Certificates as good and as bad as a test wants them, made when it runs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

/// Whoever vouches for servers.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// What is wrong with a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    None,
    Expired,
    NotYet,
}

impl Authority {
    pub fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// As `openssl req -x509` makes one for a server of this name, the mark of an authority
    /// included.
    pub fn self_signed(name: &str, flaw: Flaw) -> Authority {
        let mut params = CertificateParams::new([name.to_string()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        apply(flaw, &mut params);
        let key = KeyPair::generate().unwrap();
        Authority(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Writes its certificate into a folder, as `--ca-file` wants it.
    pub fn save(&self, folder: &Path) -> PathBuf {
        let path = folder.join("authority.pem");
        let text = STANDARD.encode(self.0.der());
        let lines = text.as_bytes().chunks(64);
        let lines: Vec<_> = lines.map(|line| str::from_utf8(line).unwrap()).collect();
        let body = lines.join("\n");
        let pem = format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        std::fs::write(&path, pem).unwrap();
        path
    }

    /// Writes a certificate for this name or address and its key into a folder, as PEM.
    pub fn save_server(&self, name: &str, folder: &Path) -> (PathBuf, PathBuf) {
        let params = CertificateParams::new([name.to_string()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let (cert_path, key_path) = (folder.join("server.pem"), folder.join("server.key"));
        std::fs::write(&cert_path, pem("CERTIFICATE", certificate.der())).unwrap();
        std::fs::write(&key_path, pem("PRIVATE KEY", &key.serialize_der())).unwrap();
        (cert_path, key_path)
    }

    /// A server of this name or address, with a certificate of this authority.
    pub fn server(&self, name: &str) -> Arc<ServerConfig> {
        self.flawed(name, Flaw::None)
    }

    pub fn flawed(&self, name: &str, flaw: Flaw) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new([name.to_string()]).unwrap();
        apply(flaw, &mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        config(certificate.der(), &key)
    }

    /// A server that shows the authority's certificate and has another's key.
    pub fn with_key_of(&self, other: &Authority) -> Arc<ServerConfig> {
        let key = PrivatePkcs8KeyDer::from(other.0.key().serialize_der());
        let provider = rustls::crypto::ring::default_provider();
        let key = provider.key_provider.load_private_key(key.into()).unwrap();
        let chain = vec![self.0.der().clone()];
        let shown = rustls::sign::SingleCertAndKey::from(CertifiedKey::new(chain, key));
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(shown));
        Arc::new(config)
    }

    /// A server that shows the authority's own certificate, as hasty setups do.
    pub fn itself(&self) -> Arc<ServerConfig> {
        config(self.0.der(), self.0.key())
    }
}

fn apply(flaw: Flaw, params: &mut CertificateParams) {
    match flaw {
        Flaw::None => {}
        Flaw::Expired => params.not_after = date_time_ymd(2020, 2, 2),
        Flaw::NotYet => params.not_before = date_time_ymd(3000, 1, 1),
    }
}

fn config(certificate: &CertificateDer<'static>, key: &KeyPair) -> Arc<ServerConfig> {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into());
    Arc::new(config.unwrap())
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64);
    let lines: Vec<_> = lines.map(|line| str::from_utf8(line).unwrap()).collect();
    format!(
        "-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n",
        lines.join("\n")
    )
}
