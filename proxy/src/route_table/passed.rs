//! What descriptors tell of the methods that clients call through a row that hands calls of gRPC on.

use std::sync::Arc;

use mesh_config::model::PathMatch;
use transcode::{Codec, Idempotency};

use crate::grpc::Messages;
use crate::upstream::Method;

/// A method of gRPC that clients may call through a row that hands calls on.
#[derive(Debug)]
pub struct PassedMethod {
    /// Full name of its service.
    pub service: String,
    /// Its name.
    pub name: String,
    /// The method's prepared request head.
    pub method: Method,
    /// The client and the server send a stream.
    pub streams: (bool, bool),
    /// Twice is as once.
    pub idempotent: bool,
    /// It changes nothing.
    pub safe: bool,
    /// The metadata key by which the service knows a repeated call.
    pub dedupe: Option<String>,
    /// What clients of Connect send and get as JSON.
    pub(crate) messages: Messages,
}

/// The methods of a schema that stand at paths which a route takes.
pub(super) fn methods(codec: &Arc<Codec>, path: &PathMatch) -> Vec<PassedMethod> {
    let taken = |called: &str| match path {
        PathMatch::Any | PathMatch::Regex(_) => true,
        PathMatch::Exact(path) => path == called,
        PathMatch::Prefix(prefix) => called.starts_with(prefix.as_str()),
    };
    let services = codec.schema().services();
    let all =
        services.flat_map(|service| service.methods.iter().map(move |method| (service, method)));
    all.filter_map(|(service, method)| {
        let called = format!("/{}/{}", service.full_name, method.name);
        Some(PassedMethod {
            service: service.full_name.clone(),
            name: method.name.clone(),
            method: Method::new(&called).ok().filter(|_| taken(&called))?,
            streams: (method.client_streaming, method.server_streaming),
            idempotent: method.idempotency != Idempotency::Unknown,
            safe: method.idempotency == Idempotency::NoSideEffects,
            dedupe: method.dedupe.clone(),
            messages: Messages {
                codec: Arc::clone(codec),
                input: method.input,
                output: method.output,
            },
        })
    })
    .collect()
}
