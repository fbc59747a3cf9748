//! What clients see when the services behind the gateway are away.

use std::net::SocketAddr;

use serde_json::Value;

use super::{Client, Expected};
use crate::http1::Http1;

/// Counter calls while no counter backend answers.
pub async fn counter(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let away = Expected::Error(503, "Counter service unavailable");
    let counter = r#"{"resource_id":"a","counter_type":"like"}"#;
    client
        .post("/api/v1/counter/increment", counter, &away)
        .await;
    client.get("/api/v1/counter/a/like", &away).await;
    client
        .post(
            "/api/v1/counter/batch",
            format!(r#"{{"items":[{counter}]}}"#),
            &away,
        )
        .await;
    // What is wrong in itself is still the caller's mistake.
    client
        .post("/api/v1/counter/increment", "not json", &Expected::Invalid)
        .await;
    client.done();
}

/// The hot list while analytics does not answer.
pub async fn analytics(gateway: SocketAddr) {
    let mut client = Client::new(gateway);
    let away = Expected::Error(503, "Analytics service unavailable");
    client.get("/api/v1/counter/hot/like", &away).await;
    client
        .get("/api/v1/counter/hot/like?limit=abc", &Expected::Invalid)
        .await;
    client.done();
}

/// The health of a gateway without a counter backend.
///
/// # Panics
/// When it is not 503 and `unhealthy`.
pub async fn unhealthy(gateway: SocketAddr) -> Result<(), String> {
    let answer = Http1::connect(gateway).await.get("/api/v1/health").await;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let said = body["data"]["status"] == "unhealthy" && body["data"]["service"] == "gateway";
    if answer.status == 503 && said {
        Ok(())
    } else {
        Err(format!("{} {body}", answer.status))
    }
}
