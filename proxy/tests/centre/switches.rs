//! Switches by hand that gateways share: all follow, at once, through restarts and while Consul is away.

use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::http_backend::{HttpBackend, ok};
use testkit::program::Ended;
use testkit::wait::{PATIENCE, eventually};
use testkit::{Consul, Http1};

use super::setup::{Gateway, KEY, proxy};

const SWITCHES: &str = "high-go-press/switches/prod/gateway";

async fn switch(gateway: &Gateway, args: &[&str]) -> Ended {
    let admin = format!("http://{}", gateway.program.address("admin"));
    proxy()
        .arg("switch")
        .args(args)
        .args(["--admin", &admin])
        .run()
        .await
}

async fn answer(gateway: &Gateway) -> String {
    let mut client = Http1::connect(gateway.program.address("http")).await;
    client.get("/").await.text()
}

async fn expect_answer(gateway: &Gateway, expected: &str) {
    eventually(&format!("{expected} to answer"), PATIENCE, async || {
        let answer = answer(gateway).await;
        if answer == expected {
            Ok(())
        } else {
            Err(answer)
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_gateways_of_a_key_follow_a_switch() {
    let mut consul = Consul::server().await;
    let named = |name: &'static str| HttpBackend::start(move |_| ok(name));
    let (new, monolith) = (named("new").await, named("monolith").await);
    let cluster = |name: &str, at: std::net::SocketAddr| {
        format!("  - {{ name: {name}, protocol: http1, endpoints: {{ static: [\"{at}\"] }} }}\n")
    };
    let text = format!(
        "listeners: [{{ address: \"127.0.0.1:0\" }}]\nadmin: {{ address: \"127.0.0.1:0\" }}\nthreads: 1\n\
         consul: {{ address: \"{}\", kv: {KEY} }}\nclusters:\n{}{}\
         routes: [{{ name: all, match: {{ path_prefix: / }}, to: new }}]\n",
        consul.url(),
        cluster("new", new.address()),
        cluster("monolith", monolith.address()),
    );
    let (one, two) = (Gateway::start(&text).await, Gateway::start(&text).await);
    assert_eq!(
        (answer(&one).await.as_str(), answer(&two).await.as_str()),
        ("new", "new")
    );
    let started = Instant::now();
    let ended = switch(&one, &["all", "monolith"]).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
    assert_eq!(answer(&one).await, "monolith");
    expect_answer(&two, "monolith").await;
    assert!(
        started.elapsed() < Duration::from_secs(8),
        "{:?}",
        started.elapsed()
    );
    let switched = |now: &Value| now["switches"][0]["cluster"] == "monolith";
    two.config_with("the switch", switched).await;
    let kept = consul.key(SWITCHES).await.unwrap();
    assert!(kept.contains("\"cluster\": \"monolith\""), "{kept}");
    // What is on the disk says the same, so the commands that read it do.
    let mesh = two.directory.path().join("mesh.yaml").display().to_string();
    let routes = proxy().args(["routes", &mesh]).run().await;
    assert!(routes.output.contains("switched"), "{}", routes.output);

    // Undone at the other one, while the first one is away.
    one.program.kill().await;
    let ended = switch(&two, &["all", "--back"]).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
    assert_eq!(answer(&two).await, "new");
    let one = Gateway::start_in(one.directory, &text).await;
    assert_eq!(answer(&one).await, "new");
    let ended = switch(&one, &["all", "--back"]).await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);

    // Consul is away: nothing is switched that the others would not hear of, and what was switched holds after a start.
    let ended = switch(&one, &["all", "monolith"]).await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
    expect_answer(&two, "monolith").await;
    consul.kill().await;
    let ended = switch(&two, &["all", "new"]).await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
    assert!(
        ended.output.contains(SWITCHES) && ended.output.contains("nothing was switched"),
        "{}",
        ended.output
    );
    two.program.kill().await;
    let two = Gateway::start_in(two.directory, &text).await;
    assert_eq!(answer(&two).await, "monolith");
    consul.restart().await;
    eventually(
        "a switch to be taken again",
        PATIENCE + PATIENCE,
        async || {
            let ended = switch(&two, &["all", "--back"]).await;
            if ended.status.success() {
                Ok(())
            } else {
                Err(ended.output)
            }
        },
    )
    .await;
    expect_answer(&one, "new").await;
}
