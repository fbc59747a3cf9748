//! TLS to Redis, by rustls. It refuses servers whose certificate nobody vouches for or that is for another name; nothing turns
//! that off. The authorities are read at each connection, so a new file needs no restart.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::target::TlsChoice;

/// Makes a connection a secure one to the server of this name.
pub(super) async fn handshake(
    choice: &TlsChoice,
    host: &str,
    stream: TcpStream,
) -> io::Result<TlsStream<TcpStream>> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots(choice)?)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await
}

fn roots(choice: &TlsChoice) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match &choice.ca {
        Some(path) => {
            let bad = |why: &dyn std::fmt::Display| unreadable(path, why);
            for certificate in CertificateDer::pem_file_iter(path).map_err(|why| bad(&why))? {
                let certificate = certificate.map_err(|why| bad(&why))?;
                roots.add(certificate).map_err(|why| bad(&why))?;
            }
        }
        None => {
            // Of the system's, some may be too old to be understood.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if roots.is_empty() {
        return Err(io::Error::other(
            "there are no certificates of authorities: name a file of them with ?ca=",
        ));
    }
    Ok(roots)
}

fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {why}", path.display()))
}
