//! A gateway that hands calls of gRPC on to a backend.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use testkit::h2c::H2c;
use testkit::mesh::Gateway;
use testkit::stream_backend::{Cancelled, StreamBackend, StreamCall};

pub(super) struct Mesh {
    pub(super) backend: StreamBackend,
    pub(super) gateway: Gateway,
}

/// A gateway whose route has these further keys. It knows nothing of the backend's methods.
pub(super) async fn mesh<F>(
    route: &str,
    handler: impl Fn(StreamCall) -> F + Send + Sync + 'static,
) -> Mesh
where
    F: Future<Output = Result<(), Cancelled>> + Send + 'static,
{
    let backend = StreamBackend::start(handler).await;
    let gateway = Gateway::start(&config(&backend.address().to_string(), route)).await;
    Mesh { backend, gateway }
}

pub(super) fn config(backend: &str, route: &str) -> String {
    format!(
        r#"
listeners: [{{ address: 127.0.0.1:0 }}]
admin: {{ address: 127.0.0.1:0 }}
descriptors: [builtin]
clusters:
  - {{ name: library, protocol: grpc, endpoints: {{ static: ["{backend}"] }} }}
routes:
  - {{ name: library, match: {{ path_prefix: /library.v1.Library/ }}, to: library{route} }}
  - {{ name: counters, match: {{ path_prefix: /counter.CounterService/ }}, to: library{route} }}
"#
    )
}

/// A gateway that transcodes a service of the descriptors that are built in, with these further options; `further` keys are its
/// cluster's.
pub(super) async fn transcoding(
    service: &str,
    (options, further): (&str, &str),
    backend: &StreamBackend,
) -> Gateway {
    let address = backend.address();
    Gateway::start(&format!(
        r#"
listeners: [{{ address: 127.0.0.1:0 }}]
admin: {{ address: 127.0.0.1:0 }}
descriptors: [builtin]
clusters:
  - {{ name: backend, protocol: grpc, endpoints: {{ static: ["{address}"] }}{further} }}
routes:
  - {{ name: transcoded, transcode: {{ services: [{service}]{options} }}, to: backend }}
"#
    ))
    .await
}

pub(super) fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

impl Mesh {
    pub(super) async fn client(&self) -> H2c {
        H2c::connect(self.gateway.http()).await
    }
}

/// Answers with the message that came, and the name of the method as metadata.
pub(super) async fn echo(mut call: StreamCall) -> Result<(), Cancelled> {
    let path = call.path.clone();
    while let Some(message) = call.message().await? {
        call.begin_with(&[("x-method", &path), ("x-bin", "AAEC")])?;
        call.send(&message).await?;
    }
    call.finish_with(0, "", &[("x-trailer", "late")])
}
