//! A name server that fails takes nobody out; a name that is suddenly not there is held back for a while.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::server::{Mood, Server};
use super::setup::{Gateway, counter_at, grpc};

async fn following(server: &Server, port: u16) -> Gateway {
    let resolver = server.address;
    Gateway::start(&format!(
        "{{ name: \"counter.internal:{port}\", resolvers: [\"{resolver}\"] }}"
    ))
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_known_last_goes_on_serving_when_dns_fails() {
    let server = Server::start().await;
    let one = counter_at("127.0.0.1:0").await;
    server.host("counter.internal", 0, &[grpc(&one).ip()]);
    let gateway = following(&server, grpc(&one).port()).await;
    gateway.expect_known(&[grpc(&one)]).await;
    gateway.expect_dns(true).await;
    for (mood, word) in [
        (Mood::ServFail, "Server Failure"),
        (Mood::Silent, "no answer within"),
    ] {
        let failed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        server.mood(mood);
        gateway.expect_dns(false).await;
        let line = gateway.program.line_with(word).await;
        assert!(line.contains("what is known goes on being used"), "{line}");
        let since = gateway
            .metric("highpress_dns_since_timestamp_seconds")
            .await;
        let since = since.unwrap() - failed.as_secs_f64();
        assert!((-0.1..12.0).contains(&since), "{since}");
        assert_eq!(gateway.read().await, 200);
        server.mood(Mood::Answer);
        gateway.expect_dns(true).await;
        gateway.program.line_with("DNS answers again").await;
    }
    assert!(gateway.metric("highpress_dns_failures_total").await >= Some(2.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_suddenly_not_there_is_held_back() {
    let server = Server::start().await;
    let one = counter_at("127.0.0.1:0").await;
    server.host("counter.internal", 0, &[grpc(&one).ip()]);
    let gateway = following(&server, grpc(&one).port()).await;
    gateway.expect_known(&[grpc(&one)]).await;
    server.host("counter.internal", 0, &[]);
    gateway.program.line_with("held back").await;
    let gone = Instant::now();
    let held = gateway.endpoints().await[0].to_string();
    assert!(held.contains("it vanished from DNS"), "{held}");
    assert_eq!(gateway.read().await, 200);
    gateway.expect_known(&[]).await;
    let held_for = gone.elapsed().as_secs_f64();
    assert!((8.0..13.0).contains(&held_for), "{held_for}");
    assert_eq!(gateway.read().await, 503);
    server.host("counter.internal", 0, &[grpc(&one).ip()]);
    gateway.expect_known(&[grpc(&one)]).await;
    assert_eq!(gateway.read().await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_dns_takes_what_is_kept_on_disk() {
    let server = Server::start().await;
    let one = counter_at("127.0.0.1:0").await;
    let port = grpc(&one).port();
    server.host("counter.internal", 0, &[grpc(&one).ip()]);
    let gateway = following(&server, port).await;
    gateway.expect_known(&[grpc(&one)]).await;
    let Gateway { program, directory } = gateway;
    let file = directory.path().join("data/discovery/counter.json");
    testkit::wait::eventually(
        "the endpoints on disk",
        Duration::from_secs(5),
        async || {
            if file.is_file() {
                Ok(())
            } else {
                Err("no file")
            }
        },
    )
    .await;
    program.kill().await;
    server.mood(Mood::Silent);
    let dns = format!(
        "{{ name: \"counter.internal:{port}\", resolvers: [\"{}\"] }}",
        server.address
    );
    let again = Gateway::start_in(directory, &dns).await;
    assert_eq!(again.read().await, 200);
    again.program.line_with("kept on disk").await;
}
