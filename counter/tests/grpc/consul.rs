//! The program in a real Consul: known while it serves, critical when it is not ready, gone when it has gone.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::wait::{PATIENCE, eventually};
use testkit::{Consul, Http1, Program, Redis, Running};

use tokio::time::Instant;

use super::setup::{add, connect, on_free_ports, program};

const SERVICE: &str = "high-go-press-counter";

fn counter(consul: &Consul) -> Program {
    on_free_ports()
        .args(["--store", "memory", "--consul", &consul.url()])
        .args(["--tags", "v1,blue", "--weight", "3"])
}

/// Waits for instances of these statuses, in the order of the alphabet.
async fn expect(consul: &Consul, patience: Duration, expected: &[&str]) {
    let what = format!("instances {expected:?} in Consul");
    eventually(&what, patience, async || {
        let found = consul.instances(SERVICE).await;
        let mut statuses: Vec<&str> = found.iter().map(|(_, status)| status.as_str()).collect();
        statuses.sort_unstable();
        if statuses == expected {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await;
}

async fn definition(consul: &Consul) -> Value {
    let found = consul.get(&format!("/v1/health/service/{SERVICE}")).await;
    found[0]["Service"].clone()
}

#[tokio::test]
async fn an_instance_is_registered_with_what_others_need_to_know() {
    let consul = Consul::dev().await;
    let one = counter(&consul).start().await;
    let two = counter(&consul).start().await;
    expect(&consul, PATIENCE, &["passing", "passing"]).await;
    let ids = consul.instances(SERVICE).await;
    assert_ne!(ids[0].0, ids[1].0);
    assert!(two.stop_within(PATIENCE).await.success());
    expect(&consul, PATIENCE, &["passing"]).await;

    let service = definition(&consul).await;
    assert_eq!(service["Address"], "127.0.0.1");
    assert_eq!(service["Port"], one.address("grpc").port());
    assert_eq!(service["Tags"], json!(["v1", "blue"]));
    assert_eq!(service["Weights"]["Passing"], 3);
    let admin = one.address("admin").port().to_string();
    assert_eq!(service["Meta"]["admin_port"], admin);
    assert!(service["Meta"]["version"].as_str().is_some());
    let checks = consul.get("/v1/agent/checks").await;
    let check = &checks[format!("service:{}", service["ID"].as_str().unwrap())];
    assert_eq!(check["Type"], "ttl", "{checks}");
    let metrics = testkit::Metrics::scrape(one.address("admin")).await;
    let up = [("what", "registration"), ("state", "current")];
    assert_eq!(metrics.value("highpress_consul_up", &up), Some(1.0));
}

#[tokio::test]
async fn what_is_advertised_is_what_was_said() {
    let consul = Consul::dev().await;
    let _wild = program()
        .args(["--listen", "0.0.0.0:0", "--admin", "127.0.0.1:0"])
        .args(["--store", "memory", "--consul", &consul.url()])
        .start()
        .await;
    expect(&consul, PATIENCE, &["passing"]).await;
    assert_eq!(definition(&consul).await["Address"], "127.0.0.1");

    let other = Consul::dev().await;
    let _named = counter(&other)
        .args(["--advertise", "counter.internal:7"])
        .start()
        .await;
    expect(&other, PATIENCE, &["passing"]).await;
    let service = definition(&other).await;
    assert_eq!(
        (&service["Address"], &service["Port"]),
        (&json!("counter.internal"), &json!(7))
    );
}

#[tokio::test]
async fn a_drain_is_critical_at_once_and_then_gone() {
    let consul = Consul::dev().await;
    let counter = counter(&consul).start().await;
    expect(&consul, PATIENCE, &["passing"]).await;
    let client = connect(&counter).await;
    let path = format!("/v1/health/service/{SERVICE}");
    let index = consul.index(&path).await;
    counter.terminate();
    let asked = Instant::now();
    // What a watch sees next is an instance that is critical, not one that is gone.
    let (seen, _) = consul.blocking(&path, index).await;
    assert!(
        asked.elapsed() < Duration::from_secs(1),
        "{:?}",
        asked.elapsed()
    );
    let checks = seen[0]["Checks"].to_string();
    assert!(
        checks.contains("critical") && checks.contains("not ready: drain"),
        "{checks}"
    );
    // It still serves: who has not noticed yet loses nothing.
    assert!(add(&client, "a", "like", 1).await.is_ok());
    assert!(counter.exit_within(PATIENCE).await.success());
    expect(&consul, Duration::from_secs(1), &[]).await;
    assert!(
        counter.logs().contains("deregistered"),
        "{}",
        counter.logs()
    );
}

#[tokio::test]
async fn a_killed_instance_is_critical_soon_and_reaped_later() {
    let consul = Consul::dev().await;
    let counter = counter(&consul).start().await;
    expect(&consul, PATIENCE, &["passing"]).await;
    counter.kill().await;
    expect(&consul, Duration::from_secs(7), &["critical"]).await;
    // After a minute, and Consul looks every half.
    expect(&consul, Duration::from_secs(110), &[]).await;
}

#[tokio::test]
async fn an_agent_that_asks_itself_finds_out_sooner_and_a_drain_is_critical_at_once() {
    let consul = Consul::dev().await;
    let counter = counter(&consul).args(["--check", "grpc"]).start().await;
    expect(&consul, PATIENCE, &["passing"]).await;
    let checks = consul.get("/v1/agent/checks").await;
    let id = definition(&consul).await["ID"].as_str().unwrap().to_owned();
    let check = &checks[format!("service:{id}")];
    assert_eq!(
        (&check["Type"], &check["Interval"]),
        (&json!("grpc"), &json!("2s")),
        "{checks}"
    );
    counter.kill().await;
    expect(&consul, Duration::from_secs(5), &["critical"]).await;

    let other = self::counter(&consul)
        .args(["--check", "grpc"])
        .start()
        .await;
    expect(&consul, PATIENCE, &["critical", "passing"]).await;
    let path = format!("/v1/health/service/{SERVICE}");
    let index = consul.index(&path).await;
    let asked = Instant::now();
    other.terminate();
    let (seen, _) = consul.blocking(&path, index).await;
    assert!(
        asked.elapsed() < Duration::from_secs(1) && seen.to_string().contains("not ready: drain"),
        "{seen}"
    );
    assert!(other.exit_within(PATIENCE).await.success());
    expect(&consul, PATIENCE, &["critical"]).await;
}

#[tokio::test]
async fn an_agent_that_forgot_an_instance_is_told_again() {
    let mut consul = Consul::dev().await;
    let counter = counter(&consul).start().await;
    expect(&consul, PATIENCE, &["passing"]).await;
    consul.kill().await;
    counter
        .line_with("Consul cannot be told of this instance")
        .await;
    assert_eq!(ready(&counter).await, 200, "it serves all the same");
    consul.restart().await;
    let back = Instant::now();
    expect(&consul, PATIENCE, &["passing"]).await;
    assert!(
        back.elapsed() < Duration::from_secs(3),
        "{:?}",
        back.elapsed()
    );
    counter.line_with("registered again").await;
}

#[tokio::test]
async fn consul_away_holds_up_neither_start_nor_end() {
    let mut consul = Consul::absent();
    let started = Instant::now();
    let counter = counter(&consul).start().await;
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(ready(&counter).await, 200);
    consul.restart().await;
    expect(&consul, PATIENCE, &["passing"]).await;
    consul.freeze().await;
    let ended = Instant::now();
    assert!(counter.stop_within(PATIENCE).await.success());
    assert!(
        ended.elapsed() < Duration::from_secs(5),
        "{:?}",
        ended.elapsed()
    );
    consul.thaw();
}

#[tokio::test]
async fn an_instance_that_waits_for_its_store_is_critical_and_says_why() {
    let consul = Consul::dev().await;
    let mut redis = Redis::stopped();
    let _counter = on_free_ports()
        .args(["--store", &redis.url(), "--consul", &consul.url()])
        .start()
        .await;
    expect(&consul, PATIENCE, &["critical"]).await;
    // The agent tells the catalogue of a new reason only with a new status; what it knows itself is always fresh.
    eventually("the reason", PATIENCE, async || {
        let checks = consul.get("/v1/agent/checks").await.to_string();
        if checks.contains("not ready: redis://") {
            Ok(())
        } else {
            Err(checks)
        }
    })
    .await;
    redis.restart().await;
    expect(&consul, PATIENCE, &["passing"]).await;
}

#[tokio::test]
async fn a_missing_right_is_named_in_the_log_and_the_token_is_not() {
    let consul = Consul::with_acls().await;
    let secret = consul.token("key_prefix \"\" { policy = \"read\" }").await;
    let counter = counter(&consul)
        .env("HIGHPRESS_CONSUL_TOKEN", &secret)
        .start()
        .await;
    let line = counter.line_with("`service:write`").await;
    assert!(line.contains(SERVICE), "{line}");
    assert!(!counter.logs().contains(&secret));
    assert_eq!(ready(&counter).await, 200);
}

async fn ready(counter: &Running) -> u16 {
    let mut admin = Http1::connect(counter.address("admin")).await;
    admin.get("/readyz").await.status
}
