//! The gateway: HTTP/JSON at the door, gRPC inside.

pub mod edge;
pub mod upstream;
