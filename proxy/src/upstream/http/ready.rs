//! A connection to a backend that speaks HTTP, opened before the backend takes requests: whichever lane of the worker opens one next gets it,
//! in whatever pool of pingora's it stays afterwards.
//!
//! It waits for a moment only. A backend may close what says nothing, and a request on a connection that is just being closed could not be
//! known to be unseen. Refused: handing out what is closed already, or what the backend has spoken on by itself.

use std::io;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::upstream::cluster::{Cluster, Reservation};
use crate::upstream::endpoint::Endpoint;

/// How long it waits for a request. Backends bound the wait for a first request by ten seconds and more.
const WAIT: Duration = Duration::from_secs(5);

/// The connection of one worker to one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Ready(Mutex<Option<Opened>>);

/// A connection that nobody uses yet.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(super) socket: TcpStream,
    pub(super) reservation: Reservation,
}

impl Ready {
    /// Opens it, on the worker's own runtime, and lets go of it after a moment if no request wants it.
    pub(crate) async fn open(cluster: &Arc<Cluster>, endpoint: &Arc<Endpoint>, worker: usize) {
        let Some(address) = endpoint.socket_addr() else {
            return;
        };
        let Some(reservation) = cluster.reserve_connection(endpoint) else {
            return;
        };
        let patience = cluster.connect_timeout();
        let why = match timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                let opened = Opened {
                    socket,
                    reservation,
                };
                endpoint.ready(worker).keep(opened);
                let endpoint = Arc::clone(endpoint);
                tokio::spawn(async move {
                    sleep(WAIT).await;
                    endpoint.ready(worker).let_go();
                });
                return;
            }
            Ok(Err(why)) => why.to_string(),
            Err(_) => format!("no connection within {patience:?}"),
        };
        endpoint.unreachable(Some(worker), &why);
    }

    fn keep(&self, opened: Opened) {
        *self.0.lock() = Some(opened);
    }

    /// The connection, if there is one that can be used.
    pub(super) fn take(&self) -> Option<Opened> {
        let opened = self.0.lock().take();
        opened.filter(|opened| is_quiet(&opened.socket))
    }

    /// Closes it.
    pub(crate) fn let_go(&self) {
        drop(self.0.lock().take());
    }
}

/// Whether a connection is open, and nothing has come on it.
fn is_quiet(socket: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    let peeked = SockRef::from(socket).peek(&mut byte);
    peeked.is_err_and(|why| why.kind() == io::ErrorKind::WouldBlock)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn only_what_is_open_and_silent_is_handed_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pair = async || {
            let socket = TcpStream::connect(address).await.unwrap();
            (socket, listener.accept().await.unwrap().0)
        };
        let (silent, _peer) = pair().await;
        assert!(is_quiet(&silent));
        let (closed, peer) = pair().await;
        drop(peer);
        closed.readable().await.unwrap();
        assert!(!is_quiet(&closed));
        let (spoken, mut peer) = pair().await;
        peer.write_all(b"x").await.unwrap();
        spoken.readable().await.unwrap();
        assert!(!is_quiet(&spoken));
    }
}
