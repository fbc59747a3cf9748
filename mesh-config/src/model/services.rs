//! The services of a process that has all of the mesh in it.

use std::net::SocketAddr;

/// Where the services serve, as far as it is said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Services {
    /// The counter.
    pub counter: Service,
    /// Analytics.
    pub analytics: Service,
}

/// The ports of one service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Service {
    /// Its gRPC port.
    pub listen: Option<SocketAddr>,
    /// Its admin port.
    pub admin: Option<SocketAddr>,
}
