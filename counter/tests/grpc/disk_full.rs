//! A disk that takes no more: nothing acknowledged is lost, nothing is lost silently, and it goes on when there is room again.
//!
//! The limit on file sizes (`prlimit --fsize`) plays the full disk: writes fail in the same place, and it needs no privileges.

use std::process::Command;

use testkit::wait::{PATIENCE, eventually};
use testkit::{Http1, Program, Running};
use tonic::Code;

use super::setup::{Client, Store, add, connect, get, reason, start};

/// The program, with the signal ignored that a write beyond the limit brings.
async fn start_limited(store: &Store) -> Running {
    Program::at("sh")
        .args([
            "-c",
            "trap '' XFSZ; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_highpress-counter"),
        ])
        .args([
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--store",
            &store.flag(),
        ])
        .start()
        .await
}

fn limit_files(counter: &Running, bytes: &str) {
    let pid = counter.pid().to_string();
    let fsize = format!("--fsize={bytes}:unlimited");
    let status = Command::new("prlimit")
        .args(["--pid", &pid, &fsize])
        .status()
        .unwrap();
    assert!(status.success(), "prlimit: {status}");
}

async fn readyz(counter: &Running) -> (u16, String) {
    let page = Http1::connect(counter.address("admin"))
        .await
        .get("/readyz")
        .await;
    (page.status, page.text())
}

/// Increments until one fails; how many were acknowledged.
async fn until_an_error(client: &Client) -> (i64, tonic::Status) {
    let mut acknowledged = 0;
    loop {
        match add(client, "a", "like", 1).await {
            Ok(_) => acknowledged += 1,
            Err(error) => return (acknowledged, error),
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_recovers() {
    let store = Store::embedded();
    let counter = start_limited(&store).await;
    let client = connect(&counter).await;
    for _ in 0..5 {
        add(&client, "a", "like", 1).await.unwrap();
    }
    let (mut acknowledged, mut sent) = (5, 5);
    for _ in 0..2 {
        limit_files(&counter, "256");
        let (more, error) = until_an_error(&client).await;
        assert_eq!(
            (error.code(), reason(&error).as_str()),
            (Code::Unavailable, "OUTCOME_UNKNOWN"),
            "{error:?}"
        );
        (acknowledged, sent) = (acknowledged + more, sent + more + 1);
        eventually("/readyz to say so", PATIENCE, async || {
            // Each attempt either fails at once or breaks the reopened store again.
            let _ = add(&client, "b", "like", 1).await;
            match readyz(&counter).await {
                (503, text) if text.contains("embedded store") => Ok(()),
                (_, text) => Err(text),
            }
        })
        .await;
        limit_files(&counter, "unlimited");
        eventually("the store to take increments again", PATIENCE, async || {
            add(&client, "c", "like", 1)
                .await
                .map_err(|error| error.to_string())
        })
        .await;
        assert_eq!(readyz(&counter).await.0, 200);
        let count = get(&client, "a", "like").await.unwrap();
        assert!(
            (acknowledged..=sent).contains(&count),
            "{acknowledged} acknowledged, {sent} sent, {count} counted"
        );
        (acknowledged, sent) = (count, count);
    }
    counter.kill().await;
    let counter = start(&store).await;
    assert_eq!(
        get(&connect(&counter).await, "a", "like").await.unwrap(),
        acknowledged
    );
}
