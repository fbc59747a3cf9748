//! Connections to backends that speak HTTP, as pingora's pools open and keep them, within the cluster's limits.
//!
//! Pingora does not say how many connections it has, but it connects through a function of ours and tells when a
//! connection is gone, from a pool or from a request: so each one holds its reservation exactly as long as it is.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mesh_config::model::Protocol;
use pingora_core::connectors::L4Connect;
use pingora_core::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora_core::protocols::l4::stream::Stream;
use pingora_core::upstreams::peer::{HttpPeer, Tracer, Tracing};
use pingora_core::{Error, ErrorType};
use pingora_error::OkOrErr;
use tokio::net::TcpStream;

use super::farewell::{self, Open};
use super::ready::Opened;
use crate::upstream::cluster::{Cluster, HTTP2_STREAMS};
use crate::upstream::endpoint::Endpoint;

/// How long an idle connection to a backend is kept for the next request.
pub(crate) const POOL_IDLE: Duration = Duration::from_secs(60);
/// How long a backend may be silent in the middle of an answer, or leave what it is sent unread.
pub(crate) const SILENCE: Duration = Duration::from_secs(300);
/// What pingora is told when a limit on connections is reached.
const FULL: ErrorType = ErrorType::new("the limit of connections is reached");

/// Opens a connection to an endpoint if the limits let it.
#[derive(Debug)]
struct Door {
    cluster: Arc<Cluster>,
    endpoint: Arc<Endpoint>,
    /// Who opens it.
    worker: usize,
    held: Held,
}

/// What the connection that is opened by this try holds, if one is.
#[derive(Clone, Debug, Default)]
struct Held(Arc<farewell::Held>);

/// The endpoint as pingora wants it; a connection is to be there within `patience`.
pub(crate) fn peer(
    cluster: &Arc<Cluster>,
    (endpoint, worker): (&Arc<Endpoint>, usize),
    address: SocketAddr,
    patience: Duration,
) -> HttpPeer {
    let config = cluster.config();
    let held = Held::default();
    let mut peer = HttpPeer::new(address, false, String::new());
    let options = &mut peer.options;
    options.total_connection_timeout = Some(patience.min(config.connect_timeout.get()));
    options.read_timeout = Some(SILENCE);
    options.write_timeout = Some(SILENCE);
    options.idle_timeout = Some(POOL_IDLE);
    options.tracer = Some(Tracer(Box::new(held.clone())));
    options.custom_l4 = Some(Arc::new(Door {
        cluster: Arc::clone(cluster),
        endpoint: Arc::clone(endpoint),
        worker,
        held,
    }));
    if config.protocol == Protocol::Http2 {
        options.set_http_version(2, 2);
        options.max_h2_streams = HTTP2_STREAMS;
    }
    peer
}

/// Whether a connection was not even tried, because a limit is reached.
pub(crate) fn is_full(error: &Error) -> bool {
    *error.root_etype() == FULL
}

/// Whether it was the endpoint that did not take a connection.
pub(crate) fn is_unreachable(error: &Error) -> bool {
    matches!(
        error.root_etype(),
        ErrorType::ConnectTimedout
            | ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
    )
}

/// Why no connection came about, in few words.
pub(crate) fn why(error: &Error) -> String {
    match error.root_cause().downcast_ref::<io::Error>() {
        Some(why) => why.to_string(),
        None if *error.root_etype() == ErrorType::ConnectTimedout => "no connection in time".into(),
        None => error.root_etype().as_str().into(),
    }
}

#[async_trait]
impl L4Connect for Door {
    async fn connect(&self, address: &PeerAddr) -> pingora_core::Result<Stream> {
        let address = address.as_inet();
        let address = address.or_err(ErrorType::ConnectError, "not an address of TCP")?;
        let Opened {
            socket,
            reservation,
        } = match self.endpoint.ready(self.worker).take() {
            Some(opened) => opened,
            None => self.open(*address).await?,
        };
        *self.held.0.lock() = Some(Open {
            _reservation: reservation,
            socket: socket.as_raw_fd(),
        });
        self.endpoint.sockets.add(&self.held.0);
        Ok(socket.into())
    }
}

impl Door {
    async fn open(&self, address: SocketAddr) -> pingora_core::Result<Opened> {
        let reservation = self.cluster.reserve_connection(&self.endpoint);
        let reservation = reservation.ok_or_else(|| Error::new(FULL))?;
        let socket = TcpStream::connect(address).await;
        let socket = socket.map_err(|why| {
            Error::because(cause(&why), format!("cannot connect to {address}"), why)
        })?;
        Ok(Opened {
            socket,
            reservation,
        })
    }
}

fn cause(why: &io::Error) -> ErrorType {
    match why.kind() {
        io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            ErrorType::ConnectNoRoute
        }
        io::ErrorKind::TimedOut => ErrorType::ConnectTimedout,
        _ => ErrorType::ConnectError,
    }
}

impl Tracing for Held {
    fn on_connected(&self) {}

    fn on_disconnected(&self) {
        self.0.lock().take();
    }

    fn boxed_clone(&self) -> Box<dyn Tracing> {
        Box::new(self.clone())
    }
}
