//! TLS to Consul, by rustls: whom to believe, and what to show of oneself.
//!
//! The files are read when a connection is opened and something about them has changed, so a renewed certificate needs no restart;
//! one that cannot be read leaves in use what was read before. Refused: a server whose certificate is not for the name that it is
//! reached by. There is no switch that turns that off.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// What TLS to Consul is made of; all of it may be absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFiles {
    /// The certificates (PEM) of whom to believe; `None`: those that the system believes.
    pub ca: Option<PathBuf>,
    /// A certificate to show, and what belongs to it (PEM).
    pub cert: Option<PathBuf>,
    /// Its key (PEM).
    pub key: Option<PathBuf>,
    /// The name that Consul's certificate has to be for, instead of the address's host: `server.dc1.consul`.
    pub server_name: Option<String>,
}

/// Why there is no TLS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read, or has nothing in it that is wanted.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A certificate without a key, or the other way round.
    #[error("a certificate needs its key and a key its certificate: give both or neither")]
    Half,
    /// The system believes nobody.
    #[error("the system has no certificates of authorities: name a file of them")]
    NoRoots,
    /// Not a name.
    #[error("`{0}` is not a name that a certificate can be for")]
    Name(String),
    /// What was read does not fit together.
    #[error("{0}")]
    Config(String),
}

/// The files with what was read from them.
#[derive(Debug, Default)]
pub(crate) struct Tls {
    files: TlsFiles,
    read: Mutex<Option<Read>>,
}

#[derive(Debug)]
struct Read {
    /// When each file was written.
    written: Vec<Option<SystemTime>>,
    config: Arc<ClientConfig>,
}

impl TlsFiles {
    /// Whether all is there.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), TlsError> {
        if let Some(name) = &self.server_name {
            server_name(name)?;
        }
        self.read().map(|_| ())
    }

    fn read(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let wrong = |error: rustls::Error| TlsError::Config(error.to_string());
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(wrong)?
            .with_root_certificates(self.roots()?);
        let mut config = match (&self.cert, &self.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let key_der = PrivateKeyDer::from_pem_file(key).map_err(|why| bad(key, why))?;
                let chain = certificates(cert)?;
                builder
                    .with_client_auth_cert(chain, key_der)
                    .map_err(wrong)?
            }
            _ => return Err(TlsError::Half),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|why| bad(path, why))?;
                }
            }
            None => {
                // Of the system's, some may be too old to be understood.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err(TlsError::NoRoots);
                }
            }
        }
        Ok(roots)
    }

    fn written(&self) -> Vec<Option<SystemTime>> {
        let written = |path: &Option<PathBuf>| path.as_ref()?.metadata().ok()?.modified().ok();
        [&self.ca, &self.cert, &self.key].map(written).to_vec()
    }
}

impl Tls {
    pub(crate) fn new(files: TlsFiles) -> Self {
        Self {
            files,
            read: Mutex::default(),
        }
    }

    /// As the files have it now, or had it when they could last be read.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let written = self.files.written();
        let mut read = self.read.lock();
        if let Some(known) = read.as_ref().filter(|known| known.written == written) {
            return Ok(known.config.clone());
        }
        let config = match (self.files.read(), read.as_ref()) {
            (Ok(config), _) => config,
            (Err(why), Some(known)) => {
                tracing::warn!(%why, "the files for TLS to Consul cannot be read any more: those read before stay in use");
                known.config.clone()
            }
            (Err(why), None) => return Err(why),
        };
        let config = read.insert(Read { written, config }).config.clone();
        Ok(config)
    }

    /// The name that the certificate of `host` has to be for.
    pub(crate) fn server_name(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        server_name(self.files.server_name.as_deref().unwrap_or(host))
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name(name.to_owned()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = read.map_err(|why| bad(path, why))?;
    if found.is_empty() {
        return Err(bad(path, "there is no certificate (PEM) in it"));
    }
    Ok(found)
}

fn bad(path: &Path, why: impl ToString) -> TlsError {
    TlsError::File {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let with = |ca: &Path, cert: Option<&Path>, server_name: Option<&str>| TlsFiles {
            ca: Some(ca.to_owned()),
            cert: cert.map(Path::to_owned),
            key: None,
            server_name: server_name.map(str::to_owned),
        };
        let why = with(&path, None, None).check().unwrap_err().to_string();
        assert!(why.contains("ca.pem"), "{why}");
        std::fs::write(&path, "no certificate").unwrap();
        let why = with(&path, None, None).check().unwrap_err().to_string();
        assert!(why.contains("ca.pem"), "{why}");
        assert_eq!(
            with(&path, None, Some("a b")).check(),
            Err(TlsError::Name("a b".to_owned()))
        );
    }
}
