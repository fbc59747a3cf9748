//! The kit's broker is a real one: topics, cuts, kills.

use std::time::Duration;

use testkit::Kafka;
use tokio::net::TcpStream;

#[tokio::test]
async fn topics_survive_a_kill_and_a_frozen_broker_goes_on() {
    let mut kafka = Kafka::start().await;
    // Kafka refuses to cut what is only compacted.
    kafka
        .create_topic("events", 3, &[("cleanup.policy", "compact,delete")])
        .await;
    assert_eq!(kafka.offsets("events").await, vec![0..0; 3]);

    kafka.kill().await;
    assert!(TcpStream::connect(kafka.address()).await.is_err());
    kafka.restart().await;
    assert_eq!(kafka.offsets("events").await, vec![0..0; 3]);

    kafka.delete_before("events", 1, 0).await;
    kafka.freeze().await;
    let asked = tokio::time::timeout(Duration::from_millis(300), kafka.offsets("events")).await;
    assert!(asked.is_err(), "a frozen broker answered {asked:?}");
    kafka.thaw();
    assert_eq!(kafka.offsets("events").await, vec![0..0; 3]);
    kafka.stop().await;
}
