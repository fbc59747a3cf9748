//! A listener that hands its connections to tasks, which end with it.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Listens there and serves each connection by `serve`; gives the address that was bound, and what to abort.
///
/// # Panics
/// If the address is taken.
pub(crate) async fn accept<F>(
    address: SocketAddr,
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> (SocketAddr, JoinHandle<()>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(address).await.expect("a free port");
    let address = listener.local_addr().expect("a bound address");
    let running = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(serve(stream));
        }
    });
    (address, running)
}
