//! An instance that registers itself: it says how it is, comes back when it is forgotten, changes what it says, and leaves.

use std::time::{Duration, Instant};

use consul::{Announced, Check, Error, Health, Instances, Registrar, Vitals, Watch, Weights};
use testkit::Consul;
use testkit::consul::MANAGEMENT;
use tokio::sync::watch;

use super::setup::*;

#[tokio::test]
async fn an_instance_says_how_it_is_comes_back_and_leaves() {
    let mut consul = Consul::dev().await;
    let (vitals, receiver) = watch::channel(Vitals::Critical("starting".to_owned()));
    let ttl = Check::Ttl(Duration::from_secs(2));
    let mut registrar = Registrar::start(client(&consul), registration("s", ttl), receiver);
    expect(&consul, "s", Some("critical")).await;
    vitals.send_replace(Vitals::Passing);
    assert!(registrar.told(PATIENCE).await);
    expect(&consul, "s", Some("passing")).await;
    // It stays so for longer than its time to live.
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(consul.instances("s").await[0].1, "passing");
    }
    consul.kill().await;
    consul.restart().await;
    expect(&consul, "s", Some("passing")).await;

    vitals.send_replace(Vitals::Critical("draining".to_owned()));
    let asked = Instant::now();
    assert!(registrar.told(PATIENCE).await);
    assert!(
        asked.elapsed() < Duration::from_millis(500),
        "{:?}",
        asked.elapsed()
    );
    expect(&consul, "s", Some("critical")).await;
    registrar.leave(PATIENCE).await;
    expect(&consul, "s", None).await;
}

#[tokio::test]
async fn an_instance_that_consul_checks_by_itself_goes_out_of_traffic_at_once_too() {
    let mut consul = Consul::dev().await;
    let admin = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", admin.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = admin.accept().await {
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
        }
    });
    let check = Check::Http {
        url,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
    };
    let (vitals, receiver) = watch::channel(Vitals::Passing);
    let mut registrar = Registrar::start(client(&consul), registration("s", check), receiver);
    expect(&consul, "s", Some("passing")).await;
    vitals.send_replace(Vitals::Critical("draining".to_owned()));
    assert!(registrar.told(PATIENCE).await);
    expect(&consul, "s", Some("critical")).await;
    vitals.send_replace(Vitals::Passing);
    expect(&consul, "s", Some("passing")).await;
    consul.kill().await;
    consul.restart().await;
    expect(&consul, "s", Some("passing")).await;
    registrar.leave(PATIENCE).await;
    expect(&consul, "s", None).await;
}

#[tokio::test]
async fn an_instance_on_a_client_agent_is_seen_through_the_server() {
    let server = Consul::server().await;
    let agent = server.client("worker-1").await;
    let (_vitals, receiver) = watch::channel(Vitals::Passing);
    let ttl = Check::Ttl(Duration::from_secs(5));
    let registrar = Registrar::start(client(&agent), registration("s", ttl), receiver);
    expect(&server, "s", Some("passing")).await;
    let mut watch = Watch::new(client(&server), service("s"));
    let found = until(&mut watch, "the instance", |found| found.list.len() == 1).await;
    assert_eq!(found.list[0].node, "worker-1");
    registrar.leave(PATIENCE).await;
    until(&mut watch, "its end", |found| found.list.is_empty()).await;
}

#[tokio::test]
async fn the_way_to_consul_tells_the_own_address() {
    let consul = Consul::absent();
    let address = client(&consul).local_address().await.unwrap();
    assert!(address.is_loopback());
    let error = client(&consul).get("k").await.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert!(
        with_token(&consul, Some(MANAGEMENT))
            .get("k")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn tags_and_weights_change_while_it_is_registered() {
    let consul = Consul::dev().await;
    let (_vitals, receiver) = watch::channel(Vitals::Passing);
    let ttl = Check::Ttl(Duration::from_secs(2));
    let registrar = Registrar::start(client(&consul), registration("s", ttl), receiver);
    expect(&consul, "s", Some("passing")).await;
    let mut watch = Watch::new(client(&consul), service("s"));
    until(&mut watch, "the instance", |found| found.list.len() == 1).await;
    registrar.announcer().send_replace(Announced {
        tags: vec!["v2".to_owned(), "blue".to_owned()],
        weights: Weights {
            passing: 7,
            warning: 1,
        },
    });
    let changed = |found: &Instances| {
        let one = &found.list[0];
        *one.tags == ["v2", "blue"] && one.weights.passing == 7
    };
    let found = until(&mut watch, "what is announced now", changed).await;
    assert_eq!(found.list.len(), 1, "it is the same instance");
    assert_eq!(health(&found)[0].1, &Health::Passing);
    registrar.leave(PATIENCE).await;
}
