//! How soon rankings know of what was counted while Kafka was away: the relay sends it within a second of its return. After an outage
//! that outlasts the session of analytics (6 s) the group waits that long once more for the members that it knew.

use std::time::Duration;

use proto::analytics::TopCountersRequest;
use proto::analytics::analytics_service_client::AnalyticsServiceClient;
use testkit::{Kafka, Program, Redis, Running, eventually};
use tokio::time::Instant;
use tonic::transport::Channel;

use super::events::start;
use super::setup::{add, connect};

/// From when the broker takes part in its cluster again: the session of 6 s, and room for a busy machine.
const SOON: Duration = Duration::from_secs(15);

/// An instance of analytics that reads this topic, and its directory.
pub(crate) async fn analytics(kafka: &Kafka, topic: &str) -> (Running, tempfile::TempDir) {
    let data = tempfile::tempdir().unwrap();
    let analytics = Program::new("highpress-analytics")
        .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
        .args(["--source", &kafka.url(topic), "--data"])
        .arg(data.path());
    (analytics.start().await, data)
}

/// Waits until the ranking has this counter with this value.
async fn ranked(analytics: &AnalyticsServiceClient<Channel>, resource: &str, value: i64) {
    let request = TopCountersRequest {
        counter_type: "like".to_owned(),
        limit: Some(1000),
        period: "all".to_owned(),
        ..TopCountersRequest::default()
    };
    eventually(&format!("{resource} to be ranked"), SOON, async || {
        let top = analytics.clone().get_top_counters(request.clone()).await;
        let top = top.map_err(|status| status.to_string())?.into_inner();
        let found = top
            .counters
            .iter()
            .find(|found| found.resource_id == resource);
        match found.map(|found| found.value) {
            Some(found) if found == value => Ok(()),
            other => Err(format!("{other:?}, not {value}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_counted_meanwhile_is_ranked_soon_after_kafka_is_back() {
    let (mut kafka, redis) = (Kafka::start().await, Redis::start().await);
    let counter = start(&redis.url(), &kafka, "events", &[]).await;
    let client = connect(&counter).await;
    let (running, _data) = analytics(&kafka, "events").await;
    let url = format!("http://{}", running.address("grpc"));
    let rankings = AnalyticsServiceClient::connect(url).await.unwrap();
    add(&client, "before", "like", 1).await.unwrap();
    ranked(&rankings, "before", 1).await;
    // Killed and hung, for less and for more than connections wait until they are tried again.
    for (round, away) in (1..).zip([0, 500, 3000, 8000]) {
        for hung in [false, true] {
            if hung {
                kafka.freeze().await;
            } else {
                kafka.kill().await;
            }
            let (name, before) = (format!("meanwhile-{hung}"), Instant::now());
            add(&client, &name, "like", 1).await.unwrap();
            assert!(before.elapsed() < Duration::from_secs(1), "it did not wait");
            tokio::time::sleep(Duration::from_millis(away)).await;
            if hung {
                kafka.thaw();
            } else {
                kafka.restart().await;
            }
            let back = Instant::now();
            super::events::sent(&counter).await;
            let sent = back.elapsed();
            ranked(&rankings, &name, round).await;
            let took = back.elapsed();
            eprintln!(
                "away for {away} ms, hung {hung}: sent {sent:.1?}, ranked {took:.1?} after it was back"
            );
        }
    }
}
