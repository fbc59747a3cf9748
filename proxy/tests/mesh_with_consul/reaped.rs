//! What is killed and does not come back is forgotten by Consul itself, after the minute that everybody registers with.

use std::time::Duration;

use testkit::mesh::Gateway;
use testkit::wait::{PATIENCE, eventually};
use testkit::{Consul, Program};
use tokio::time::Instant;

use super::mesh::config;

/// The least that Consul knows.
const MINUTE: Duration = Duration::from_secs(60);
/// A TTL of 5 s, the minute, and Consul's reaper, which looks every 30 s; and as much again for a slow machine.
const LATEST: Duration = Duration::from_secs(130);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_killed_is_reaped_after_a_minute() {
    let consul = Consul::dev().await;
    let data = tempfile::tempdir().expect("a directory");
    let service = |name: &str| {
        Program::new(name)
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(["--consul", &consul.url()])
            .dir(data.path())
    };
    let counter = service("highpress-counter").args(["--store", "memory"]);
    let counter = counter.start().await;
    let analytics = service("highpress-analytics").start().await;
    let gateway = Gateway::start(&config(&consul, "")).await;
    let services = ["counter", "analytics", "gateway"].map(|name| format!("high-go-press-{name}"));
    for name in &services {
        eventually(
            &format!("{name} in Consul"),
            PATIENCE,
            async || match consul.instances(name).await.len() {
                1 => Ok(()),
                other => Err(other),
            },
        )
        .await;
    }
    for program in [&counter, &analytics, &gateway.program] {
        program.kill().await;
    }
    let killed = Instant::now();
    for name in &services {
        eventually(
            &format!("{name} to be reaped"),
            LATEST,
            async || match consul.instances(name).await {
                none if none.is_empty() => Ok(()),
                some => Err(format!("{some:?} after {:?}", killed.elapsed())),
            },
        )
        .await;
        let after = killed.elapsed();
        assert!(after > MINUTE, "{name} was gone after {after:?}");
        eprintln!("{name} was reaped after {after:?}");
    }
}
