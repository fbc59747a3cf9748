//! `GET /api/v1/health` and the operators' views.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{Client, Expected};
use crate::http1::Http1;

/// The paths of the operators' views.
pub const VIEWS: [&str; 6] = [
    "pools",
    "object-pools",
    "grpc-pools",
    "kafka",
    "metrics/stats",
    "services/health",
];

/// Healthy while a counter backend is usable.
pub async fn healthy(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let version = Http1::connect(gateway)
        .await
        .get("/api/v1/health")
        .await
        .json()["data"]["version"]
        .clone();
    assert!(
        version.as_str().is_some_and(|version| !version.is_empty()),
        "version is {version}"
    );
    let data = json!({ "status": "healthy", "service": "gateway", "timestamp": "NOW", "version": version });
    client.get("/api/v1/health", &Expected::Data(data)).await;
    client.done();
}

/// Each view is there, enveloped, and says something.
pub async fn views(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    for view in VIEWS {
        let path = format!("/api/v1/system/{view}");
        let answer = Http1::connect(gateway).await.get(&path).await;
        let body = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        let fields = body["data"]
            .as_object()
            .is_some_and(|data| !data.is_empty());
        let full = fields || body["data"].as_array().is_some_and(|data| !data.is_empty());
        let envelope =
            body["status"] == "success" && body.as_object().is_some_and(|body| body.len() == 2);
        let json = answer.header("content-type") == Some("application/json; charset=utf-8");
        if answer.status != 200 || !full || !envelope || !json {
            client.note(
                &path,
                "expected 200 and a success envelope around data",
                &answer,
            );
        }
    }
    client.done();
}

/// `services/health` names the counter service's instance.
///
/// # Panics
/// When it does not.
pub async fn instances(gateway: SocketAddr, counter: SocketAddr) {
    let view = Http1::connect(gateway)
        .await
        .get("/api/v1/system/services/health")
        .await
        .text();
    assert!(
        view.contains(&counter.to_string()),
        "{counter} is not in {view}"
    );
}
