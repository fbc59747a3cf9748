//! Settings of the services in Consul: over their file, below flags and environment, followed, and honest about restarts.

use std::path::Path;

use serde_json::Value;
use testkit::wait::{PATIENCE, eventually};
use testkit::{Consul, Http1, Metrics, Program, Running};

use super::setup::proxy;

const COUNTER: &str = "high-go-press/config/prod/counter";

fn counter(consul: &Consul, directory: &Path) -> Program {
    Program::new("highpress-counter")
        .args(["--admin", "127.0.0.1:0", "--consul", &consul.url()])
        .args(["--listen", "127.0.0.1:0"])
        .dir(directory)
}

async fn status(service: &Running) -> Value {
    let mut admin = Http1::connect(service.address("admin")).await;
    let json = [("accept", "application/json")];
    admin.request("GET", "/status", &json, None).await.json()
}

async fn expect_settings(service: &Running, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(what, PATIENCE, async || {
        let settings = status(service).await["settings"].clone();
        if is(&settings) {
            Ok(settings)
        } else {
            Err(settings.to_string())
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_beats_the_file_and_a_change_is_applied_or_named() {
    let mut consul = Consul::server().await;
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("counter.yaml"),
        "store: embedded:file\ndrain_timeout: 7s\n",
    )
    .unwrap();
    consul.put_key(COUNTER, "store: memory\n").await;
    let start = || counter(&consul, directory.path()).args(["--config", "counter.yaml"]);
    let service = start().start().await;
    let first = status(&service).await;
    assert_eq!(first["store"], "memory", "{first}");
    assert_eq!(first["settings"]["key"], COUNTER);

    // The log is louder at once; where to listen is not changed behind anybody's back.
    consul
        .put_key(
            COUNTER,
            "store: memory\nlog: debug\ndrain_timeout: 9s\nredis_timeout: 3s\nlisten: 127.0.0.1:1\n",
        )
        .await;
    let settings = expect_settings(&service, "the change to be seen", |settings| {
        settings["restart_needed"] == serde_json::json!(["redis_timeout"])
    })
    .await;
    assert_eq!(settings["note"], "needs a restart: redis_timeout");
    service.line_with("needs a restart: redis_timeout").await;
    service.line_with("applied=\"drain_timeout, log\"").await;

    consul
        .put_key(COUNTER, "store: memory\nlog: loud=loud\nredis_timout: 3s\n")
        .await;
    let settings = expect_settings(&service, "the mistakes to be shown", |settings| {
        !settings["rejected"].is_null()
    })
    .await;
    let problems = settings["rejected"]["problems"].to_string();
    assert!(
        problems.contains(&format!("kv:{COUNTER}:2: log:")),
        "{problems}"
    );
    assert!(
        problems.contains(&format!("kv:{COUNTER}:3: redis_timout: unknown key")),
        "{problems}"
    );
    let metrics = Metrics::scrape(service.address("admin")).await;
    assert_eq!(metrics.value("highpress_settings_rejected", &[]), Some(1.0));
    service.line_with("refused, the last good ones stay").await;
    service.line_with("DEBUG service_kit::centre").await;

    // Not even a restart takes what is bad: what was kept counts, and with Consul away too.
    service.kill().await;
    let service = start().start().await;
    assert!(!status(&service).await["settings"]["rejected"].is_null());
    service.kill().await;
    consul.kill().await;
    let service = counter(&consul, directory.path())
        .args(["--config", "counter.yaml"])
        .start()
        .await;
    let kept = status(&service).await;
    assert_eq!(kept["store"], "memory", "{kept}");
    service
        .line_with("the settings in Consul are not known yet")
        .await;
    assert!(
        kept["settings"]["consul"]
            .as_str()
            .unwrap()
            .starts_with("away")
            || kept["settings"]["consul"] == "starting"
    );
    consul.restart().await;
    consul.put_key(COUNTER, "store: embedded:elsewhere\n").await;
    let settings = expect_settings(&service, "the change to be seen", |settings| {
        settings["rejected"].is_null()
            && !settings["restart_needed"].to_string().is_empty()
            && settings["restart_needed"].to_string().contains("store")
    })
    .await;
    assert!(
        settings["note"].as_str().unwrap().contains("store"),
        "{settings}"
    );
    eventually("the versions to be in the history", PATIENCE, async || {
        let keys = consul
            .keys("high-go-press/config-history/prod/counter/")
            .await;
        if keys.len() >= 3 {
            Ok(())
        } else {
            Err(format!("{keys:?}"))
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_consul_says_what_it_waits_for_and_serves() {
    let mut consul = Consul::absent();
    let directory = tempfile::tempdir().unwrap();
    let service = counter(&consul, directory.path())
        .args(["--store", "memory", "--env", "staging"])
        .start()
        .await;
    let settings = status(&service).await["settings"].clone();
    assert_eq!(settings["key"], "high-go-press/config/staging/counter");
    assert!(
        settings["waiting_for"]
            .as_str()
            .unwrap()
            .contains(&consul.url()),
        "{settings}"
    );
    consul.restart().await;
    expect_settings(&service, "Consul to be heard", |settings| {
        settings["waiting_for"].is_null()
    })
    .await;
    // Flags beat the key.
    consul
        .put_key(
            "high-go-press/config/staging/counter",
            "store: embedded:x\nlog: debug\n",
        )
        .await;
    let settings = expect_settings(&service, "the key to be seen", |settings| {
        settings["modify_index"].is_u64()
    })
    .await;
    assert_eq!(
        settings["restart_needed"],
        serde_json::json!([]),
        "{settings}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_validates_as_the_service_would() {
    let consul = Consul::dev().await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("counter.yaml");
    let set = async |text: &str, service: &str| {
        std::fs::write(&path, text).unwrap();
        proxy()
            .args([
                "config",
                "--consul",
                &consul.url(),
                "--service",
                service,
                "set",
            ])
            .arg(&path)
            .run()
            .await
    };
    // Built beside the gateway, as they are installed.
    let _ = (
        Program::new("highpress-counter"),
        Program::new("highpress-analytics"),
    );
    let ended = set("drain_timeout: soon\nstoer: memory\n", "counter").await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
    for line in [":1: drain_timeout: ", ":2: stoer: unknown key"] {
        assert!(
            ended.output.contains(&format!("{}{line}", path.display())),
            "{}",
            ended.output
        );
    }
    let ended = set("drain_timeout: 5s\n", "counter").await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
    assert_eq!(
        consul.key(COUNTER).await.as_deref(),
        Some("drain_timeout: 5s\n")
    );
    let ended = set("store: memory\n", "analytics").await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
    let ended = set("drain_timeout: 5s\n", "analytics").await;
    assert_eq!(ended.status.code(), Some(0), "{}", ended.output);
}
