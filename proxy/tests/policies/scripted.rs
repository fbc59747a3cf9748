//! A gateway before scripted backends: one cluster `c`, and the counter's methods (and, for calls that are not safe to
//! repeat, a library's) over it.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;
use testkit::backend::{Answer, Backend, Seen};
use testkit::mesh::Gateway;
use testkit::{Http1, Metrics, Response};

/// A call that is safe to repeat.
pub(crate) const READ: &str = "/api/v1/counter/a/like";
/// A call that its service knows by a key.
pub(crate) const INCREMENT: &str = "/api/v1/counter/increment";
/// A call that nothing is known of.
pub(crate) const CREATE: &str = "/v1/shelves/1/books";

/// UNAVAILABLE.
pub(crate) fn unavailable() -> Answer {
    status("14")
}

/// A status without a message.
pub(crate) fn status(code: &str) -> Answer {
    Answer::trailers_only(&[("grpc-status", code)])
}

/// OK, with an empty message.
pub(crate) fn ok() -> Answer {
    Answer::message(b"")
}

/// A backend that always answers so.
pub(crate) async fn always(answer: Answer) -> Backend {
    Backend::start(move |_: &Seen| answer.clone()).await
}

/// A gateway before these backends. `cluster` and `route` are further entries of their maps.
pub(crate) struct Mesh {
    pub(crate) gateway: Gateway,
    descriptors: tempfile::NamedTempFile,
    addresses: Vec<SocketAddr>,
}

impl Mesh {
    pub(crate) async fn start(backends: &[&Backend], cluster: &str, route: &str) -> Self {
        let addresses: Vec<_> = backends.iter().map(|backend| backend.address()).collect();
        Self::at(addresses, cluster, route).await
    }

    /// The same, not by turns.
    pub(crate) async fn balanced(backends: &[&Backend], policy: &str, cluster: &str) -> Self {
        let cluster = format!("{cluster}, load_balancing: {{ policy: {policy} }}");
        Self::start(backends, &cluster, "").await
    }

    pub(crate) async fn at(addresses: Vec<SocketAddr>, cluster: &str, route: &str) -> Self {
        let descriptors = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(descriptors.path(), library()).unwrap();
        let text = text(&addresses, descriptors.path(), cluster, route);
        Self {
            gateway: Gateway::start(&text).await,
            descriptors,
            addresses,
        }
    }

    /// Reloads with other policies.
    pub(crate) fn configure(&self, cluster: &str, route: &str) {
        self.gateway.configure(&text(
            &self.addresses,
            self.descriptors.path(),
            cluster,
            route,
        ));
    }

    /// Further backends, from the next configuration on.
    pub(crate) fn add(&mut self, backends: &[&Backend]) {
        let more = backends.iter().map(|backend| backend.address());
        self.addresses.extend(more);
    }

    /// A further address, from the next configuration on.
    pub(crate) fn add_address(&mut self, address: SocketAddr) {
        self.addresses.push(address);
    }

    /// No such backend any more, from the next configuration on.
    pub(crate) fn remove(&mut self, backend: &Backend) {
        self.addresses.retain(|one| *one != backend.address());
    }

    pub(crate) async fn client(&self) -> Http1 {
        Http1::connect(self.gateway.http()).await
    }

    /// Reads one after the other; their statuses.
    pub(crate) async fn reads(&self, count: usize) -> Vec<u16> {
        let mut client = self.client().await;
        let mut statuses = Vec::with_capacity(count);
        for _ in 0..count {
            statuses.push(client.get(READ).await.status);
        }
        statuses
    }

    /// Increments once.
    pub(crate) async fn increment(&self, headers: &[(&str, &str)]) -> Response {
        let json = [&[("content-type", "application/json")], headers].concat();
        let body = br#"{"resourceId": "a", "counterType": "like"}"#;
        let mut client = self.client().await;
        client.request("POST", INCREMENT, &json, Some(body)).await
    }

    /// Asks for something that must not happen twice.
    pub(crate) async fn create(&self) -> Response {
        self.client().await.post_text(CREATE, "{}").await
    }

    /// What `/clusters` says of the cluster.
    pub(crate) async fn cluster(&self) -> Value {
        let mut admin = Http1::connect(self.gateway.admin()).await;
        let json = [("accept", "application/json")];
        let page = admin.request("GET", "/clusters", &json, None).await;
        page.json()[0].clone()
    }

    /// What it says of one endpoint.
    pub(crate) async fn endpoint(&self, index: usize) -> Value {
        self.cluster().await["endpoints"][index].clone()
    }

    /// A counter of the cluster, with one more label.
    pub(crate) async fn counted(&self, name: &str, label: (&str, &str)) -> u64 {
        let metrics = Metrics::scrape(self.gateway.admin()).await;
        metrics.counter_value(name, &[("cluster", "c"), label])
    }
}

fn text(addresses: &[SocketAddr], descriptors: &Path, cluster: &str, route: &str) -> String {
    let by_turns = if cluster.contains("load_balancing") {
        ""
    } else {
        "load_balancing: { policy: round_robin },"
    };
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| format!("\"{address}\""))
        .collect();
    format!(
        r#"
listeners: [{{ address: 127.0.0.1:0 }}]
admin: {{ address: 127.0.0.1:0 }}
threads: 2
descriptors: [builtin, {{ file: {descriptors} }}]
clusters:
  - {{ name: c, protocol: grpc, {by_turns} endpoints: {{ static: [{endpoints}] }}, {cluster} }}
routes:
  - {{ name: all, transcode: {{ services: [counter.CounterService, library.v1.Library] }}, to: c, timeout: 5s, {route} }}
"#,
        descriptors = descriptors.display(),
        endpoints = endpoints.join(", "),
    )
}

/// The descriptors of a service that says nothing about being called twice.
fn library() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/gateway");
    testkit::descriptors::compiled(&folder, "library.proto")
}
