//! Descriptors of services that the gateway has never seen, and a gateway that has them from a file.

use std::net::SocketAddr;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::mesh::Gateway;

/// A gateway before one backend, whose services it knows from a file.
pub struct Described {
    /// The gateway.
    pub gateway: Gateway,
    _descriptors: NamedTempFile,
}

/// The descriptor set of a file in that folder, its imports included; annotations may be imported.
///
/// # Panics
/// If it does not compile.
#[must_use]
pub fn compiled(folder: &Path, file: &str) -> Vec<u8> {
    let annotations = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/proto");
    let includes = [folder, &annotations];
    let mut compiler = protox::Compiler::new(includes).expect("the folders are there");
    compiler
        .include_imports(true)
        .open_file(file)
        .unwrap_or_else(|why| panic!("{file} does not compile: {why}"));
    // Not by way of prost-types, which would drop the annotations.
    compiler.encode_file_descriptor_set()
}

/// A gateway that transcodes these services, with further options behind their list; `route` are further keys of the route.
pub async fn transcoding(
    descriptors: &[u8],
    (services, route): (&str, &str),
    backend: SocketAddr,
) -> Described {
    let file = NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), descriptors).expect("room for the descriptors");
    let path = file.path().display();
    let gateway = Gateway::start(&format!(
        r#"
listeners: [{{ address: 127.0.0.1:0 }}]
admin: {{ address: 127.0.0.1:0 }}
descriptors: [{{ file: {path} }}]
clusters:
  - {{ name: backend, protocol: grpc, endpoints: {{ static: ["{backend}"] }} }}
routes:
  - {{ name: transcoded, transcode: {{ services: {services} }}, to: backend{route} }}
"#
    ))
    .await;
    Described {
        gateway,
        _descriptors: file,
    }
}
