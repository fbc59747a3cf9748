//! Finding out when an unreachable endpoint can be reached again: attempts with jittered waits, so that it is
//! neither hammered nor left alone for long once it is back. One probe per endpoint, on the runtime of the
//! worker that found it unreachable, which keeps the connection that the probe made.

use std::sync::{Arc, Weak};
use std::time::Duration;

use mesh_config::model::Protocol;
use resilience::backoff::{Backoff, Waits};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::connection;
use super::endpoint::Endpoint;

/// The first wait is at most this long.
const BASE: Duration = Duration::from_millis(50);
/// No wait is longer: a backend that is back has traffic within a second.
const MAX: Duration = Duration::from_millis(800);

/// The waits between attempts to connect.
pub(crate) fn waits() -> Waits {
    const BACKOFF: Backoff = match Backoff::new(BASE, MAX) {
        Ok(backoff) => backoff,
        Err(_) => panic!("a base above the maximum"),
    };
    BACKOFF.waits(fastrand::Rng::new())
}

/// Looks once whether anything takes connections at a new endpoint, so that one that is down is known before a
/// request finds out. Runs on `runtime`, which is no worker's: the connection is closed again.
pub(crate) fn first_look(endpoint: &Arc<Endpoint>, runtime: &Handle) {
    let looking = Arc::downgrade(endpoint);
    runtime.spawn(async move {
        let Some(endpoint) = looking.upgrade() else {
            return;
        };
        confirm(&endpoint).await;
    });
}

/// Connects once, and closes again: an endpoint that takes no connection is unreachable from now on.
pub(crate) async fn confirm(endpoint: &Arc<Endpoint>) {
    if endpoint.socket_addr().is_some()
        && let Err(why) = attempt(endpoint, None).await
    {
        endpoint.unreachable(None, &why);
    }
}

/// Starts a probe; it ends when the endpoint is reachable, retired or gone. Without a worker, the connection
/// that succeeds is closed again.
pub(crate) fn start(endpoint: &Arc<Endpoint>, worker: Option<usize>) {
    let running = Running(Arc::downgrade(endpoint));
    tokio::spawn(async move {
        let mut waits = waits();
        loop {
            sleep(waits.after_failure()).await;
            let Some(endpoint) = running.0.upgrade() else {
                return;
            };
            if !endpoint.is_unreachable() {
                endpoint.probe_ended();
                // Somebody may have found it unreachable again before the line above.
                if !endpoint.is_unreachable() || !endpoint.claim_probe() {
                    return;
                }
            }
            if let Err(why) = attempt(&endpoint, worker).await {
                endpoint.still_unreachable(&why);
            }
        }
    });
}

/// Finds out at once what became of an endpoint whose last connection broke, after it had lived for `lived`:
/// requests keep away from where requests have just failed, so none of them would.
pub(crate) fn reconnect(endpoint: &Arc<Endpoint>, worker: usize, lived: Duration) {
    // One that breaks every connection is not to be hammered.
    let most = if lived < MAX { MAX } else { BASE };
    let wait = most.mul_f64(fastrand::f64());
    let endpoint = Arc::downgrade(endpoint);
    let reconnecting = async move {
        sleep(wait).await;
        if let Some(endpoint) = endpoint.upgrade() {
            endpoint.lane(worker).connect(&endpoint, worker);
        }
    };
    // When a whole runtime ends, its connections do too, and nobody is left to connect again.
    if let Ok(runtime) = Handle::try_current() {
        runtime.spawn(reconnecting);
    }
}

async fn attempt(endpoint: &Arc<Endpoint>, worker: Option<usize>) -> Result<(), String> {
    let cluster = endpoint.cluster().ok_or("the cluster was removed")?;
    let address = endpoint
        .socket_addr()
        .ok_or("the host name has no address")?;
    let limit = cluster.connect_timeout();
    let Some(worker) = worker.filter(|_| endpoint.protocol() == Protocol::Grpc) else {
        let connected = timeout(limit, TcpStream::connect(address)).await;
        connected
            .map_err(|_| format!("no connection within {limit:?}"))?
            .map_err(|error| error.to_string())?;
        endpoint.reachable();
        return Ok(());
    };
    let reserved = cluster
        .reserve_connection(endpoint)
        .ok_or("the limit of connections is reached")?;
    match connection::open(address, limit).await {
        Ok(opened) => {
            endpoint
                .lane(worker)
                .opened(endpoint, worker, opened, reserved);
            Ok(())
        }
        Err(error) => Err(error.to_string()),
    }
}

/// Says that the probe is over, however it ended.
struct Running(Weak<Endpoint>);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(endpoint) = self.0.upgrade() {
            endpoint.probe_ended();
        }
    }
}
