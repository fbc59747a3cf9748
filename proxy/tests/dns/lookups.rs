//! What an answer means: addresses, families, priorities, weights, and how long it is true.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::wait::{PATIENCE, eventually};

use super::server::Server;
use super::setup::{Gateway, counter_at, grpc};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_addresses_are_several_endpoints_and_are_looked_up_again_in_time() {
    let server = Server::start().await;
    let one = counter_at("127.0.0.1:0").await;
    let port = grpc(&one).port();
    let two = counter_at(&format!("127.0.0.2:{port}")).await;
    server.host("counter.internal", 0, &[grpc(&one).ip()]);
    let resolver = server.address;
    let gateway = Gateway::start(&format!(
        "{{ name: \"counter.internal:{port}\", resolvers: [\"{resolver}\"] }}"
    ))
    .await;
    gateway.expect_known(&[grpc(&one)]).await;
    assert_eq!(gateway.read().await, 200);
    // It lives for no time at all, and is asked for once a second (both families) all the same.
    let (asked, begun) = (server.asked(), Instant::now());
    server.host("counter.internal", 0, &[grpc(&one).ip(), grpc(&two).ip()]);
    gateway.expect_known(&[grpc(&one), grpc(&two)]).await;
    assert!(
        begun.elapsed() < Duration::from_secs(4),
        "{:?}",
        begun.elapsed()
    );
    eventually("six more questions", PATIENCE, async || {
        match server.asked() - asked {
            0..6 => Err(server.asked()),
            _ => Ok(()),
        }
    })
    .await;
    let rate = (server.asked() - asked) as f64 / begun.elapsed().as_secs_f64();
    assert!(rate < 3.5, "{rate} questions a second");
    assert_eq!(gateway.metric("highpress_dns_up").await, Some(1.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_life_is_cut_and_a_short_one_is_stretched() {
    let server = Server::start().await;
    let one = counter_at("127.0.0.1:0").await;
    let port = grpc(&one).port();
    server.host("long.internal", 86_400, &[grpc(&one).ip()]);
    let resolver = server.address;
    let of = |bounds: &str| {
        format!(
            "{{ name: \"long.internal:{port}\", type: a, resolvers: [\"{resolver}\"], {bounds} }}"
        )
    };
    let cut = Gateway::start(&of("max_ttl: 1s")).await;
    cut.expect_known(&[grpc(&one)]).await;
    server.host("long.internal", 86_400, &["127.0.0.3".parse().unwrap()]);
    cut.expect_known(&[SocketAddr::new("127.0.0.3".parse().unwrap(), port)])
        .await;
    drop(cut);
    server.host("long.internal", 0, &[grpc(&one).ip()]);
    let asked = server.asked();
    let stretched = Gateway::start(&of("min_ttl: 30s")).await;
    stretched.expect_known(&[grpc(&one)]).await;
    server.host("long.internal", 0, &["127.0.0.3".parse().unwrap()]);
    tokio::time::sleep(Duration::from_secs(3)).await;
    stretched.expect_known(&[grpc(&one)]).await;
    assert_eq!(server.asked() - asked, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_have_tiers_and_weights() {
    let server = Server::start().await;
    let (one, two, spare) = (
        counter_at("127.0.0.1:0").await,
        counter_at("127.0.0.1:0").await,
        counter_at("127.0.0.1:0").await,
    );
    let port = |counter| grpc(counter).port();
    server.host("a.internal", 5, &["127.0.0.1".parse().unwrap()]);
    server.srv(
        "_counter._tcp.internal",
        0,
        &[
            (10, 3, port(&one), "a.internal."),
            (10, 0, port(&two), "a.internal."),
            (70, 5, port(&spare), "a.internal."),
        ],
    );
    let resolver = server.address;
    let gateway = Gateway::start(&format!(
        "{{ name: _counter._tcp.internal, type: srv, resolvers: [\"{resolver}\"] }}"
    ))
    .await;
    gateway
        .expect_known(&[grpc(&one), grpc(&two), grpc(&spare)])
        .await;
    let endpoints = gateway.endpoints().await;
    let of = |counter| {
        let address = grpc(counter).to_string();
        let one = endpoints
            .iter()
            .find(|one| one["address"] == address)
            .unwrap();
        (one["weight"].as_u64().unwrap(), one.to_string())
    };
    assert_eq!((of(&one).0, of(&two).0, of(&spare).0), (3, 1, 5));
    assert!(of(&spare).1.contains("\"priority\":1"), "{}", of(&spare).1);
    assert_eq!(gateway.read().await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn literal_addresses_and_localhost_need_no_server() {
    let one = counter_at("127.0.0.1:0").await;
    let port = grpc(&one).port();
    // Nobody answers there.
    let nobody = "resolvers: [\"127.0.0.1:1\"]";
    let literal = Gateway::start(&format!("\"127.0.0.1:{port}\"")).await;
    literal.expect_known(&[grpc(&one)]).await;
    assert_eq!(literal.read().await, 200);
    let local = Gateway::start(&format!(
        "{{ name: \"localhost:{port}\", type: a, {nobody} }}"
    ))
    .await;
    local.expect_known(&[grpc(&one)]).await;
    assert_eq!(local.read().await, 200);
    // With both families, what does not listen on one of them is out, and no request notices.
    let both = Gateway::start(&format!("\"localhost:{port}\"")).await;
    eventually("a read", PATIENCE, async || match both.read().await {
        200 => Ok(()),
        status => Err(status),
    })
    .await;
    for _ in 0..20 {
        assert_eq!(both.read().await, 200);
    }
}
