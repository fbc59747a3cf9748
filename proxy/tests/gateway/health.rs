//! `/api/v1/health` says what is true now, without a request that has to find out first.

use std::time::Duration;

use testkit::mesh::{self, Gateway};
use testkit::{Http1, eventually};

#[tokio::test]
async fn a_counter_that_dies_between_requests_makes_the_gateway_unhealthy() {
    let counter = mesh::counter("memory").await;
    let address = counter.address("grpc");
    let gateway = Gateway::start(&mesh::phase1(address, address)).await;
    let mut client = Http1::connect(gateway.http()).await;
    assert_eq!(client.get("/api/v1/counter/a/like").await.status, 200);
    assert_eq!(client.get("/api/v1/health").await.status, 200);
    counter.kill().await;
    let http = gateway.http();
    let unhealthy = eventually("health to be 503", Duration::from_secs(20), || async {
        let answer = Http1::connect(http).await.get("/api/v1/health").await;
        if answer.status == 503 {
            Ok(answer.json())
        } else {
            Err(answer.text())
        }
    })
    .await;
    assert_eq!(unhealthy["data"]["status"], "unhealthy");
}
