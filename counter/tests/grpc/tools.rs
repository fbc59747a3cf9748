//! The tools `audit`, `migrate` and `export`, on stores in use.

use testkit::topic::{read, sums};
use testkit::wait::PATIENCE as LONG;
use testkit::{Kafka, Redis};

use super::events::{sent, start};
use super::kafka_away::analytics;
use super::setup::{Client, Store, add, connect, program};

/// Runs a tool; its exit status and what it wrote.
async fn tool(arguments: &[&str]) -> (Option<i32>, String) {
    let ended = program().args(arguments).run().await;
    (ended.status.code(), ended.output)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_from_before_are_announced_and_what_differs_is_told() {
    let (kafka, redis) = (Kafka::start().await, Redis::start().await);
    for n in 0..600 {
        redis
            .command(&["SET", &format!("counter:old{n}:like"), "41"])
            .await;
    }
    redis
        .command(&["SET", "counter:huge:like", "9007199254740993"])
        .await;
    let counter = start(&redis.url(), &kafka, "events", &[]).await;
    let client = connect(&counter).await;
    for _ in 0..5 {
        add(&client, "new", "like", 2).await.unwrap();
        add(&client, "old7", "like", 1).await.unwrap();
    }
    sent(&counter).await;
    let (url, events) = (redis.url(), kafka.url("events"));
    let audit = [
        "audit", "--store", &url, "--events", &events, "--list", "1000",
    ];
    let (status, said) = tool(&audit).await;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("old8:like: count 41; no event yet"), "{said}");
    assert!(!said.contains("old7:like:"), "{said}");

    let (status, said) = tool(&["migrate", "--store", &url]).await;
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("602 counters taken, 0 refused"), "{said}");
    sent(&counter).await;
    let (status, said) = tool(&audit).await;
    assert_eq!(status, Some(0), "{said}");
    let messages = read(&kafka, "events").await;
    let announced = messages
        .iter()
        .find(|message| message.key == "huge:like")
        .unwrap()
        .value();
    assert_eq!(
        (&announced["delta"], &announced["source"]),
        (&0.into(), &"migrate".into())
    );
    assert_eq!(announced["new_value"], 9_007_199_254_740_993_i64);
    assert_eq!(sums(&messages).len(), 602);

    redis.command(&["SET", "counter:new:like", "9"]).await;
    let (status, said) = tool(&audit).await;
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("new:like: count 9; its events come to 10"),
        "{said}"
    );
}

fn contains(said: &str, lines: &[&str]) {
    for line in lines {
        assert!(said.contains(line), "{line} is missing in:\n{said}");
    }
}

async fn keep_busy(client: Client) {
    loop {
        add(&client, "busy", "view", 1).await.unwrap();
    }
}

/// Counts, events and rankings, while the mesh counts on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_audit_holds_rankings_against_counts() {
    let (kafka, redis) = (Kafka::start().await, Redis::start().await);
    let counter = start(&redis.url(), &kafka, "events", &[]).await;
    let client = connect(&counter).await;
    let (analytics, _data) = analytics(&kafka, "events").await;
    // More than a page of the ranking, two types, and what stands at 0 or below.
    for n in 0..1200 {
        add(&client, &format!("r{n}"), "like", n % 7 - 3)
            .await
            .unwrap();
    }
    for kind in ["like", "view"] {
        add(&client, "a:b", kind, i64::MAX).await.unwrap();
    }
    let busy = tokio::spawn(keep_busy(client));
    let (url, events) = (redis.url(), kafka.url("events"));
    let grpc = analytics.address("grpc").to_string();
    let audit = [
        "audit",
        "--store",
        &url,
        "--events",
        &events,
        "--analytics",
        &grpc,
    ];
    let (status, said) = tool(&audit).await;
    busy.abort();
    assert_eq!(status, Some(0), "{said}");
    contains(
        &said,
        &[
            "counters             1203",
            "ranked               1203  exact",
        ],
    );

    // Somebody has changed a count past the service, and taken another away.
    redis.command(&["SET", "counter:r8:like", "5"]).await;
    redis.command(&["DEL", "counter:r9:like"]).await;
    let (status, said) = tool(&audit).await;
    assert_eq!(status, Some(1), "{said}");
    let lines = [
        "different               2",
        "r8:like: count 5; its events come to -2; -2 in the ranking",
        "r9:like: count 0; its events come to -1; -1 in the ranking",
    ];
    contains(&said, &lines);
    let alone = ["audit", "--store", &url, "--analytics", &grpc];
    let (status, said) = tool(&alone).await;
    assert_eq!(status, Some(1), "{said}");
    assert!(
        said.contains("r8:like: count 5; -2 in the ranking"),
        "{said}"
    );

    analytics.stop_within(LONG).await;
    let (status, said) = tool(&alone).await;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains(&format!("analytics at {grpc}")), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_brought_in_while_both_sides_count() {
    let (old, new) = (Redis::start().await, Redis::start().await);
    let kafka = Kafka::stopped();
    old.command(&["SET", "counter:a:like", "9223372036854775000"])
        .await;
    old.command(&["SET", "counter:b,\"c\":like", "-3"]).await;
    old.command(&["RPUSH", "counter:list:like", "1"]).await;
    let counter = start(&new.url(), &kafka, "events", &[]).await;
    let client = connect(&counter).await;
    add(&client, "a", "like", 7).await.unwrap();
    let (from, to) = (old.url(), new.url());
    let bring = ["migrate", "--from", &from, "--store", &to];
    for (old_count, new_count) in [
        ("9223372036854775000", 9_223_372_036_854_775_007_i64),
        ("9223372036854775100", 9_223_372_036_854_775_107_i64),
    ] {
        old.command(&["SET", "counter:a:like", old_count]).await;
        // Twice is as good as once.
        for _ in 0..2 {
            let (status, said) = tool(&bring).await;
            assert_eq!(status, Some(0), "{said}");
            assert!(
                said.contains("2 counters taken, 0 refused, 1 entries"),
                "{said}"
            );
        }
        assert_eq!(
            new.command(&["GET", "counter:a:like"]).await,
            new_count.to_string()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_exported_is_brought_in_elsewhere() {
    let (redis, third) = (Redis::start().await, Redis::start().await);
    redis
        .command(&["SET", "counter:a:like", "9223372036854775107"])
        .await;
    redis.command(&["SET", "counter:b,\"c\":like", "-3"]).await;
    let to = redis.url();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("counts.csv").display().to_string();
    let (status, said) = tool(&["export", "--store", &to, "--out", &file]).await;
    assert_eq!(status, Some(0), "{said}");
    let mut lines: Vec<String> = std::fs::read_to_string(&file)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    lines[1..].sort_unstable();
    assert_eq!(
        lines,
        [
            "resource_id,counter_type,value",
            "\"b,\"\"c\"\"\",like,-3",
            "a,like,9223372036854775107"
        ]
    );

    let url = third.url();
    let (status, said) = tool(&["migrate", "--from", &file, "--store", &url]).await;
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(third.command(&["GET", "counter:b,\"c\":like"]).await, "-3");
    // What cannot be brought in is named, and the rest is.
    third.command(&["DEL", "counter:a:like"]).await;
    third.command(&["RPUSH", "counter:a:like", "1"]).await;
    std::fs::write(
        &file,
        "resource_id,counter_type,value\na,like,1\nb,like,2\n",
    )
    .unwrap();
    let (status, said) = tool(&["migrate", "--from", &file, "--store", &url]).await;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("a:like: WRONGTYPE"), "{said}");
    assert_eq!(third.command(&["GET", "counter:b:like"]).await, "2");
}

#[tokio::test]
async fn an_embedded_store_is_exported_when_the_service_has_ended() {
    let store = Store::embedded();
    let counter = super::setup::start(&store).await;
    add(&connect(&counter).await, "a", "like", 5).await.unwrap();
    let (status, said) = tool(&["export", "--store", &store.flag()]).await;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("has to be stopped"), "{said}");
    counter.stop_within(testkit::wait::PATIENCE).await;
    let (status, said) = tool(&["export", "--store", &store.flag()]).await;
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("a,like,5"), "{said}");
    // A store that is not there is refused, not made.
    let nowhere = format!("{}/mistyped", store.flag());
    let (status, said) = tool(&["export", "--store", &nowhere]).await;
    assert_eq!(status, Some(2), "{said}");
    assert!(said.contains("there is no store in"), "{said}");
    assert!(!said.contains("counters written"), "{said}");
}

#[tokio::test]
async fn mistakes_have_status_2_and_help_teaches() {
    for arguments in [
        &["audit", "--store", "memory", "--events", "kafka://a:1/t"][..],
        &["audit", "--store", "redis://127.0.0.1:1"],
        &["migrate"],
        &[
            "audit",
            "--store",
            "redis://127.0.0.1:1",
            "--events",
            "pigeons",
        ],
        &["migrate", "--store", "embedded:x"],
        &["migrate", "--store", "redis://127.0.0.1:1", "--silent"],
        &["export", "--stroe", "x"],
    ] {
        let (status, said) = tool(arguments).await;
        assert_eq!(status, Some(2), "{arguments:?}: {said}");
    }
    let (status, said) = tool(&["migrate", "--help"]).await;
    assert_eq!(status, Some(0));
    assert!(
        said.contains("highpress-counter migrate --store redis://mesh:6379 --from counts.csv"),
        "{said}"
    );
}
