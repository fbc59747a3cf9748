//! Schemas that differ in a method, and what is seen of a gateway that learns them.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use testkit::Http1;
use testkit::mesh::Gateway;
use testkit::reflection::Reflection;
use testkit::wait::{PATIENCE, eventually};

/// The descriptor set of an `orders.Orders` with these methods, each a `GET /v1/orders/{id}/NAME`, and these fields.
pub(crate) fn orders(methods: &[&str], fields: &str) -> Vec<u8> {
    let rpc = |name: &&str| {
        format!(
            "rpc {name}(Order) returns (Order) {{ option (google.api.http) = {{ get: \"/v1/orders/{{id}}/{path}\" }}; }}\n",
            path = name.to_lowercase()
        )
    };
    let rpcs: String = methods.iter().map(rpc).collect();
    let text = format!(
        "syntax = \"proto3\";\npackage orders;\nimport \"google/api/annotations.proto\";\n\
         service Orders {{\n{rpcs}}}\nmessage Order {{ string id = 1; {fields} }}\n"
    );
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("orders.proto"), text).unwrap();
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../proto/proto");
    let mut compiler = protox::Compiler::new([folder.path(), &proto]).unwrap();
    compiler
        .include_imports(true)
        .open_file("orders.proto")
        .expect("it compiles");
    compiler.encode_file_descriptor_set()
}

/// What a well-behaved backend says of itself.
pub(crate) fn v1(set: &[u8]) -> Reflection {
    Reflection {
        versions: vec!["v1"],
        set: set.to_vec(),
        ..Reflection::default()
    }
}

/// A gateway that learns the services of `orders` from a source, and passes the rest to a page of its own.
pub(crate) fn config(source: &str, backend: SocketAddr, more: &str) -> String {
    format!(
        r#"
listeners: [{{ address: "127.0.0.1:0" }}]
admin: {{ address: "127.0.0.1:0" }}
threads: 1
{more}
descriptors: [builtin, {{ {source} }}]
clusters:
  - {{ name: orders, protocol: grpc, endpoints: {{ static: ["{backend}"] }} }}
  - {{ name: counter, protocol: grpc, endpoints: {{ static: ["127.0.0.1:1"] }} }}
routes:
  - name: counters
    transcode: {{ services: [counter.CounterService], profile: phase1 }}
    to: counter
  - name: orders
    match: {{ path_prefix: /v1/orders/ }}
    transcode: {{ services: [orders.Orders] }}
    to: orders
  - name: elsewhere
    match: {{ path_prefix: / }}
    redirect: {{ host: example.com }}
"#
    )
}

pub(crate) async fn get(gateway: &Gateway, path: &str) -> (u16, String) {
    let mut client = Http1::connect(gateway.http()).await;
    let answer = client.get(path).await;
    (answer.status, answer.text())
}

pub(crate) async fn admin(gateway: &Gateway, path: &str) -> (u16, String) {
    let mut client = Http1::connect(gateway.admin()).await;
    let answer = client
        .request("GET", path, &[("accept", "application/json")], None)
        .await;
    (answer.status, answer.text())
}

pub(crate) async fn json(gateway: &Gateway, path: &str) -> Value {
    serde_json::from_str(&admin(gateway, path).await.1).unwrap()
}

/// Waits until a path is answered with this status.
pub(crate) async fn answers(gateway: &Gateway, path: &str, status: u16) {
    eventually(&format!("{path} answers {status}"), PATIENCE, || async {
        match get(gateway, path).await {
            (found, _) if found == status => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// Waits until `/readyz` says something.
pub(crate) async fn waits_for(gateway: &Gateway, what: &str) {
    eventually(&format!("/readyz says {what}"), PATIENCE, || async {
        match admin(gateway, "/readyz").await {
            (503, text) if text.contains(what) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

pub(crate) async fn ready(gateway: &Gateway) {
    eventually("it is ready", PATIENCE, || async {
        match admin(gateway, "/readyz").await {
            (200, _) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
