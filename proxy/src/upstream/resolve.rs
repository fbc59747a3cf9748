//! Addresses of endpoints that are named, not numbered: looked up when they are configured, again every now
//! and then, and when a connection to them fails. A name without an address makes its endpoint unusable; an
//! address that was good stays in use while lookups fail.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use super::endpoint::Endpoint;

/// Between lookups of a name that has addresses.
const REFRESH: Duration = Duration::from_secs(30);
/// Between lookups of a name that has none, and the least time between any two.
const RETRY: Duration = Duration::from_secs(1);
/// A resolver that does not answer must not end the series.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps the endpoint's addresses fresh until it is retired.
pub(crate) fn keep_resolved(endpoint: &Arc<Endpoint>, runtime: &Handle) {
    runtime.spawn(run(Arc::downgrade(endpoint)));
}

async fn run(endpoint: Weak<Endpoint>) {
    while let Some(endpoint) = endpoint.upgrade().filter(|endpoint| !endpoint.is_retired()) {
        let found = look_up(&endpoint).await;
        let pause = if found.is_ok() { REFRESH } else { RETRY };
        match found {
            Ok(addresses) => endpoint.resolved(addresses),
            Err(why) => endpoint.unresolved(&why),
        }
        sleep(RETRY).await;
        if pause > RETRY {
            // Whatever disturbs the endpoint ends the pause; a long one is cut so that a dropped endpoint is noticed.
            let _ = timeout(pause - RETRY, endpoint.disturbed.notified()).await;
        }
    }
}

async fn look_up(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, String> {
    let (host, port) = (endpoint.address().host(), endpoint.address().port());
    let found = timeout(LOOKUP_TIMEOUT, lookup_host((host, port))).await;
    let mut addresses: Vec<_> = found
        .map_err(|_| "the resolver does not answer".to_owned())?
        .map_err(|error| error.to_string())?
        .collect();
    // Resolvers rotate their answers; a stable order shows whether anything has changed.
    addresses.sort_unstable_by_key(|address| (address.is_ipv6(), *address));
    addresses.dedup();
    if addresses.is_empty() {
        return Err("the name has no address".to_owned());
    }
    Ok(addresses)
}
