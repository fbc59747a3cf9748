//! Ports inside the mesh: the usual ones, or free ones when somebody has them already.
//!
//! Two meshes, or a mesh and a separate service, can run on one machine without a flag. An address that somebody chose is
//! never moved: then it is an error that names the flag.

use std::io;
use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::net::TcpListener;

use crate::cli::Wanted;

/// Binds what is wanted.
pub(crate) async fn bind(what: &'static str, wanted: Wanted) -> anyhow::Result<TcpListener> {
    let Wanted {
        address,
        movable,
        flag,
    } = wanted;
    match TcpListener::bind(address).await {
        Err(error) if movable && is_taken(&error) => {
            let listener = TcpListener::bind(any_port(address))
                .await
                .with_context(|| format!("no free port for {what}"))?;
            tracing::info!(taken = %address, instead = %listener.local_addr()?, "port is taken: {what} moves");
            Ok(listener)
        }
        bound => bound.with_context(|| format!("{flag}: cannot listen on {address} for {what}")),
    }
}

/// The address, or any port of its host if it is taken: for those who bind it themselves.
pub(crate) async fn free(what: &'static str, address: SocketAddr) -> SocketAddr {
    match TcpListener::bind(address).await {
        Err(error) if is_taken(&error) => {
            tracing::info!(taken = %address, "port is taken: {what} moves to a free one");
            any_port(address)
        }
        // Whatever else is wrong with it shows when it is bound in earnest.
        _ => address,
    }
}

fn any_port(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip(), 0)
}

fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}
