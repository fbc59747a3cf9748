//! What every store does alike: counting, reading, refusing.

use std::time::SystemTime;

use tokio::task::JoinSet;
use tonic::Code;

use super::setup::{Store, add, batch, connect, get, name, reason, start, violations};

fn now() -> i64 {
    let since = SystemTime::UNIX_EPOCH
        .elapsed()
        .expect("the clock is right");
    i64::try_from(since.as_secs()).expect("the clock is right")
}

#[tokio::test]
async fn increments_and_reads() {
    for store in Store::each().await {
        let counter = start(&store).await;
        let client = connect(&counter).await;
        assert_eq!(
            get(&client, "article_001", "like").await.unwrap(),
            0,
            "never written is 0"
        );
        let before = now();
        let first = add(&client, "article_001", "like", 0).await.unwrap();
        assert_eq!(
            (first.success, first.current_value),
            (true, 1),
            "a delta of 0 means 1"
        );
        assert_eq!(
            (first.resource_id.as_str(), first.counter_type.as_str()),
            ("article_001", "like")
        );
        assert!((before..=now()).contains(&first.timestamp), "{first:?}");
        assert_eq!(
            add(&client, "article_001", "like", 41)
                .await
                .unwrap()
                .current_value,
            42
        );
        assert_eq!(
            add(&client, "article_001", "like", -50)
                .await
                .unwrap()
                .current_value,
            -8
        );
    }
}

#[tokio::test]
async fn names_and_batches() {
    for store in Store::each().await {
        let counter = start(&store).await;
        let client = connect(&counter).await;
        let before = now();
        add(&client, "article_001", "like", -8).await.unwrap();
        assert_eq!(
            add(&client, "article_001", "view", 3)
                .await
                .unwrap()
                .current_value,
            3
        );
        // Names that look alike in one string are still two counters.
        assert_eq!(add(&client, "a:b", "c", 5).await.unwrap().current_value, 5);
        assert_eq!(
            add(&client, "übung 👍 {x}", "größe", 7)
                .await
                .unwrap()
                .current_value,
            7
        );
        let answer = client
            .clone()
            .get_counter(name("article_001", "like"))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answer.current_value, -8);
        assert!((before..=now()).contains(&answer.updated_at), "{answer:?}");
        let items = [
            ("a:b", "c"),
            ("nobody", "like"),
            ("article_001", "like"),
            ("a:b", "c"),
            ("übung 👍 {x}", "größe"),
        ];
        assert_eq!(batch(&client, &items).await.unwrap(), [5, 0, -8, 5, 7]);
    }
}

#[tokio::test]
async fn an_overflow_is_refused_and_changes_nothing() {
    for store in Store::each().await {
        let counter = start(&store).await;
        let client = connect(&counter).await;
        for (resource, edge, over) in [("top", i64::MAX, 1), ("bottom", i64::MIN, -1)] {
            assert_eq!(
                add(&client, resource, "like", edge)
                    .await
                    .unwrap()
                    .current_value,
                edge
            );
            let error = add(&client, resource, "like", over).await.unwrap_err();
            assert_eq!(error.code(), Code::OutOfRange, "{error:?}");
            assert_eq!(reason(&error), "COUNTER_OVERFLOW");
            assert!(
                error.message().contains("nothing was changed"),
                "{}",
                error.message()
            );
            assert_eq!(
                get(&client, resource, "like").await.unwrap(),
                edge,
                "{}",
                store.flag()
            );
        }
        // Back from the edge, and over the whole range in one step.
        assert_eq!(
            add(&client, "bottom", "like", i64::MAX)
                .await
                .unwrap()
                .current_value,
            -1
        );
        assert_eq!(
            add(&client, "top", "like", i64::MIN)
                .await
                .unwrap()
                .current_value,
            -1
        );
    }
}

/// Names that break the rules, with what is said of them.
fn bad_names<'a>(
    long_id: &'a str,
    long_type: &'a str,
) -> Vec<(&'a str, &'a str, Vec<&'static str>)> {
    vec![
        ("", "like", vec!["resource_id: must not be empty"]),
        ("a", "", vec!["counter_type: must not be empty"]),
        (
            "",
            "",
            vec![
                "resource_id: must not be empty",
                "counter_type: must not be empty",
            ],
        ),
        (
            long_id,
            "like",
            vec!["resource_id: must not be longer than 256 bytes"],
        ),
        (
            "a",
            long_type,
            vec!["counter_type: must not be longer than 64 bytes"],
        ),
        (
            "a\nb",
            "like",
            vec!["resource_id: must not contain control characters"],
        ),
        (
            "a\u{85}b",
            "like",
            vec!["resource_id: must not contain control characters"],
        ),
        (
            "a",
            "li:ke",
            vec!["counter_type: must not contain `:`, `{` or `}`"],
        ),
        (
            "a",
            "{like}",
            vec!["counter_type: must not contain `:`, `{` or `}`"],
        ),
    ]
}

#[tokio::test]
async fn ids_that_break_the_rules_are_named() {
    let counter = start(&Store::Memory).await;
    let client = connect(&counter).await;
    let long_id = "x".repeat(257);
    let long_type = "x".repeat(65);
    for (resource, kind, expected) in bad_names(&long_id, &long_type) {
        for error in [
            add(&client, resource, kind, 1).await.unwrap_err(),
            get(&client, resource, kind).await.unwrap_err(),
        ] {
            assert_eq!(error.code(), Code::InvalidArgument);
            assert_eq!(violations(&error), expected);
        }
    }
    let longest = (&long_id[1..], &long_type[1..]);
    assert_eq!(
        add(&client, longest.0, longest.1, 2)
            .await
            .unwrap()
            .current_value,
        2
    );
    assert_eq!(batch(&client, &[longest]).await.unwrap(), [2]);
}

#[tokio::test]
async fn batches_have_limits_and_name_the_wrong_items() {
    let counter = start(&Store::Memory).await;
    let client = connect(&counter).await;
    let error = batch(&client, &[]).await.unwrap_err();
    assert_eq!(
        (error.code(), violations(&error)),
        (
            Code::InvalidArgument,
            vec!["items: must not be empty".to_owned()]
        )
    );
    let error = batch(&client, &[("a", "like"), ("", "like"), ("b", "x:y")])
        .await
        .unwrap_err();
    let expected = [
        "items[1].resource_id: must not be empty",
        "items[2].counter_type: must not contain `:`, `{` or `}`",
    ];
    assert_eq!(
        (error.code(), violations(&error)),
        (Code::InvalidArgument, expected.map(str::to_owned).to_vec())
    );
    assert_eq!(
        batch(&client, &vec![("a", "like"); 1000])
            .await
            .unwrap()
            .len(),
        1000
    );
    let error = batch(&client, &vec![("a", "like"); 1001])
        .await
        .unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let error = batch(&client, &vec![("", "like"); 1000]).await.unwrap_err();
    assert_eq!(
        violations(&error).last().unwrap(),
        "items: have 980 more such problems"
    );
}

#[tokio::test]
async fn a_batch_of_a_thousand_comes_back_whole() {
    for store in Store::each().await {
        let counter = start(&store).await;
        let client = connect(&counter).await;
        for n in 0..50 {
            add(&client, &format!("r{n}"), "like", n + 1).await.unwrap();
        }
        let names: Vec<String> = (0..1000).map(|n| format!("r{}", n % 100)).collect();
        let items: Vec<_> = names.iter().map(|name| (name.as_str(), "like")).collect();
        let expected: Vec<i64> = (0..1000)
            .map(|n| n % 100)
            .map(|n| if n < 50 { n + 1 } else { 0 })
            .collect();
        assert_eq!(
            batch(&client, &items).await.unwrap(),
            expected,
            "{}",
            store.flag()
        );
    }
}

/// 100,000 increments over 64 tasks, 4 connections and 10 counters are 100,000.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_concurrent_increments_are_counted_exactly() {
    const TASKS: usize = 64;
    const TOTAL: usize = 100_000;
    for store in Store::each().await {
        let counter = start(&store).await;
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(connect(&counter).await);
        }
        let mut tasks = JoinSet::new();
        for task in 0..TASKS {
            let client = clients[task % clients.len()].clone();
            tasks.spawn(async move {
                for n in (task..TOTAL).step_by(TASKS) {
                    add(&client, &format!("r{}", n % 10), "like", 1)
                        .await
                        .expect("an increment under load");
                }
            });
        }
        tasks.join_all().await;
        let names: Vec<String> = (0..10).map(|n| format!("r{n}")).collect();
        let items: Vec<_> = names.iter().map(|name| (name.as_str(), "like")).collect();
        assert_eq!(
            batch(&clients[0], &items).await.unwrap(),
            [10_000; 10],
            "{}",
            store.flag()
        );
    }
}
