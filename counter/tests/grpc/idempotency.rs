//! Idempotency keys, with every store: a repeat gets the first answer, another increment with the key is refused, the room for
//! keys has a bound, and nothing of it is lost when the program is killed.

use std::collections::HashMap;
use std::time::Duration;

use testkit::wait::{PATIENCE, eventually, within};
use testkit::{Metrics, Running};
use tokio::task::JoinSet;
use tonic::Code;

use super::setup::{
    Key, Store, add, add_once, connect, get, on_free_ports, reason, start, violations,
};

#[tokio::test]
async fn a_repeat_gets_the_first_answer() {
    for store in Store::each().await {
        let counter = start(&store).await;
        let client = connect(&counter).await;
        let (first, replayed) = add_once(&client, "a", "like", 5, Key::client("k1"))
            .await
            .unwrap();
        assert_eq!(
            (first.current_value, replayed),
            (5, false),
            "{}",
            store.flag()
        );
        add(&client, "a", "like", 100).await.unwrap();
        let (second, replayed) = add_once(&client, "a", "like", 5, Key::client("k1"))
            .await
            .unwrap();
        assert_eq!((&second, replayed), (&first, true), "{}", store.flag());
        assert_eq!(get(&client, "a", "like").await.unwrap(), 105);
        // Another key, another counter, another type: another increment.
        for (resource, kind, key) in [
            ("a", "like", "k2"),
            ("b", "like", "k1"),
            ("a", "view", "k1"),
        ] {
            let (_, replayed) = add_once(&client, resource, kind, 5, Key::client(key))
                .await
                .unwrap();
            assert!(!replayed, "{resource} {kind} {key} with {}", store.flag());
        }
        // No delta is a delta of 1.
        let (first, _) = add_once(&client, "c", "like", 0, Key::client("k"))
            .await
            .unwrap();
        let (second, replayed) = add_once(&client, "c", "like", 1, Key::client("k"))
            .await
            .unwrap();
        assert_eq!((&second, replayed), (&first, true));
    }
}

#[tokio::test]
async fn a_key_used_for_another_delta_is_the_callers_error() {
    for store in Store::each().await {
        let counter = start(&store).await;
        let client = connect(&counter).await;
        add_once(&client, "a", "like", 0, Key::client("k"))
            .await
            .unwrap();
        let error = add_once(&client, "a", "like", 2, Key::client("k"))
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), reason(&error).as_str()),
            (Code::InvalidArgument, "IDEMPOTENCY_KEY_REUSED"),
            "{error:?}"
        );
        assert!(error.message().contains("nothing was changed"), "{error:?}");
        assert_eq!(
            get(&client, "a", "like").await.unwrap(),
            1,
            "{}",
            store.flag()
        );
        assert!(
            add_once(&client, "a", "like", 1, Key::client("k"))
                .await
                .unwrap()
                .1
        );
    }
}

#[tokio::test]
async fn values_and_deltas_are_exact_over_the_whole_range() {
    for store in Store::each().await {
        let counter = start(&store).await;
        let client = connect(&counter).await;
        let odd = (1 << 53) + 1;
        for (key, delta, value) in [
            ("k1", odd, odd),
            ("k2", 1, odd + 1),
            ("k3", i64::MAX - odd - 1, i64::MAX),
        ] {
            for replay in [false, true] {
                let (answer, replayed) = add_once(&client, "top", "like", delta, Key::client(key))
                    .await
                    .unwrap();
                assert_eq!(
                    (answer.current_value, replayed),
                    (value, replay),
                    "{}",
                    store.flag()
                );
            }
        }
        let error = add_once(&client, "top", "like", 1, Key::client("k4"))
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), reason(&error).as_str()),
            (Code::OutOfRange, "COUNTER_OVERFLOW")
        );
        // A key that counted nothing is not used up.
        let back = add_once(&client, "top", "like", i64::MIN, Key::client("k4"))
            .await
            .unwrap();
        assert_eq!(
            (back.0.current_value, back.1),
            (-1, false),
            "{}",
            store.flag()
        );
        // A delta that differs beyond what a double holds is another one.
        let error = add_once(&client, "top", "like", odd - 1, Key::client("k1"))
            .await
            .unwrap_err();
        assert_eq!(reason(&error), "IDEMPOTENCY_KEY_REUSED");
    }
}

#[tokio::test]
async fn keys_that_break_the_rules_are_named() {
    let counter = start(&Store::Memory).await;
    let client = connect(&counter).await;
    let long = "k".repeat(129);
    for key in ["", " ", "a b", &long] {
        let error = add_once(&client, "a", "like", 1, Key::client(key))
            .await
            .unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        let expected = ["idempotency-key: must be 1 to 128 visible ASCII characters"];
        assert_eq!(violations(&error), expected, "{key:?}");
    }
    let error = add_once(&client, "", "like", 1, Key::client(""))
        .await
        .unwrap_err();
    assert_eq!(
        violations(&error).len(),
        2,
        "everything wrong at once: {error:?}"
    );
    assert_eq!(get(&client, "a", "like").await.unwrap(), 0);
    let longest = &long[1..];
    assert!(
        add_once(&client, "a", "like", 1, Key::client(longest))
            .await
            .is_ok()
    );
    assert!(
        add_once(&client, "a", "like", 1, Key::client(longest))
            .await
            .unwrap()
            .1
    );
}

/// After the retention a key is as good as new: the same call counts again.
#[tokio::test]
async fn keys_are_forgotten_after_their_retention_by_origin() {
    for store in Store::each().await {
        let counter = on_free_ports()
            .args([
                "--store",
                &store.flag(),
                "--idempotency-gateway-retention",
                "2s",
            ])
            .start()
            .await;
        let client = connect(&counter).await;
        for key in [Key::client("k"), Key::gateway("k")] {
            assert!(!add_once(&client, "a", "like", 1, key).await.unwrap().1);
            assert!(add_once(&client, "a", "like", 1, key).await.unwrap().1);
        }
        eventually(
            "the gateway's key to be forgotten",
            PATIENCE,
            async || match add_once(&client, "a", "like", 1, Key::gateway("k"))
                .await
                .unwrap()
            {
                (_, false) => Ok(()),
                (_, true) => Err("replayed"),
            },
        )
        .await;
        assert!(
            add_once(&client, "a", "like", 1, Key::client("k"))
                .await
                .unwrap()
                .1
        );
        assert_eq!(
            get(&client, "a", "like").await.unwrap(),
            3,
            "{}",
            store.flag()
        );
    }
}

#[tokio::test]
async fn at_the_bound_clients_keys_are_refused_and_counted() {
    for store in Store::each().await {
        let counter = on_free_ports()
            .args(["--store", &store.flag(), "--idempotency-memory", "4KiB"])
            .start()
            .await;
        let client = connect(&counter).await;
        let mut known = 0;
        let error = loop {
            let key = format!("key-{known}");
            match add_once(&client, "a", "like", 1, Key::client(&key)).await {
                Ok(_) => known += 1,
                Err(error) => break error,
            }
            assert!(known < 100, "more keys than fit: {}", store.flag());
        };
        assert!(known > 10, "{known} keys in 4 KiB");
        assert_eq!(
            (error.code(), reason(&error).as_str()),
            (Code::ResourceExhausted, "IDEMPOTENCY_KEYS_FULL"),
            "{error:?}"
        );
        assert_eq!(
            get(&client, "a", "like").await.unwrap(),
            known,
            "{}",
            store.flag()
        );
        // Nothing is forgotten for it, and others go on.
        for n in 0..known {
            let key = format!("key-{n}");
            assert!(
                add_once(&client, "a", "like", 1, Key::client(&key))
                    .await
                    .unwrap()
                    .1
            );
        }
        assert!(
            add_once(&client, "a", "like", 1, Key::gateway("g"))
                .await
                .is_ok()
        );
        assert!(add(&client, "a", "like", 1).await.is_ok());
        the_metrics_tell_of(&counter, known).await;
    }
}

/// What the keys came to: as many known as replayed, one refused.
async fn the_metrics_tell_of(counter: &Running, known: i64) {
    let metrics = Metrics::scrape(counter.address("admin")).await;
    let keys = |origin, outcome| {
        let labels = [("origin", origin), ("outcome", outcome)];
        metrics.counter_value("highpress_idempotency_keys_total", &labels)
    };
    assert_eq!(keys("client", "remembered"), known as u64);
    assert_eq!(keys("client", "replayed"), known as u64);
    assert_eq!(keys("client", "refused"), 1);
    assert_eq!(keys("client", "reused"), 0);
    assert_eq!(keys("gateway", "remembered"), 1);
    let bytes = metrics.value(
        "highpress_idempotency_memory_bytes",
        &[("origin", "client")],
    );
    assert!(
        bytes.is_some_and(|bytes| (2000.0..=4096.0).contains(&bytes)),
        "{bytes:?}"
    );
}

/// Many callers with few keys, all at once: each key counts once, and everybody hears the same of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_repeats_count_once() {
    for store in Store::each().await {
        let counter = start(&store).await;
        let clients = [connect(&counter).await, connect(&counter).await];
        let mut tasks = JoinSet::new();
        for n in 0..400 {
            let client = clients[n % 2].clone();
            tasks.spawn(async move {
                let key = n % 20;
                let name = format!("key-{key}");
                let answer = add_once(&client, "a", "like", 1, Key::client(&name))
                    .await
                    .unwrap();
                (key, answer)
            });
        }
        let answers = within("400 answers", PATIENCE, tasks.join_all()).await;
        assert_eq!(
            get(&clients[0], "a", "like").await.unwrap(),
            20,
            "{}",
            store.flag()
        );
        let mut of_key = HashMap::<_, Vec<_>>::new();
        for (key, (answer, replayed)) in answers {
            of_key.entry(key).or_default().push((answer, replayed));
        }
        for answers in of_key.values() {
            let firsts = answers.iter().filter(|(_, replayed)| !replayed).count();
            assert_eq!(firsts, 1, "{answers:?}");
            assert!(
                answers.iter().all(|(answer, _)| *answer == answers[0].0),
                "{answers:?}"
            );
        }
    }
}

/// Every caller repeats what was not answered, under the same key, while the program is killed again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_killed_under_load_counts_every_key_once() {
    let mut redis = Store::each().await;
    for store in &mut redis[1..] {
        let mut counter = start(store).await;
        let (mut done, mut round) = (0, 0);
        while round < 4 {
            let client = connect(&counter).await;
            let mut tasks = JoinSet::new();
            for n in 0..200 {
                let client = client.clone();
                let key = format!("{}", done + n);
                tasks.spawn(async move {
                    add_once(&client, "a", "like", 1, Key::client(&key))
                        .await
                        .is_ok()
                });
            }
            // Somewhere in the middle: after a number of answers that differs from round to round.
            for _ in 0..(round * 60) {
                tasks.join_next().await;
            }
            counter.kill().await;
            within("calls to end with the program", PATIENCE, tasks.join_all()).await;
            counter = start(store).await;
            let client = connect(&counter).await;
            for n in 0..200 {
                let key = format!("{}", done + n);
                add_once(&client, "a", "like", 1, Key::client(&key))
                    .await
                    .unwrap();
            }
            (done, round) = (done + 200, round + 1);
            let count = get(&client, "a", "like").await.unwrap();
            assert_eq!(count, done, "after {round} kills of {}", store.flag());
        }
        let client = connect(&counter).await;
        let (answer, replayed) = add_once(&client, "a", "like", 1, Key::client("0"))
            .await
            .unwrap();
        assert!(replayed && answer.current_value <= 200, "{answer:?}");
    }
}

#[tokio::test]
async fn wrong_terms_are_refused_by_name() {
    let ended = on_free_ports()
        .args([
            "--idempotency-retention",
            "0s",
            "--idempotency-memory",
            "much",
        ])
        .env("HIGHPRESS_IDEMPOTENCY_GATEWAY_RETENTION", "soon")
        .run();
    let ended = within("the program to end", Duration::from_secs(10), ended).await;
    assert_eq!(ended.status.code(), Some(2), "{}", ended.output);
    for expected in [
        "--idempotency-retention: ",
        "--idempotency-memory: ",
        "HIGHPRESS_IDEMPOTENCY_GATEWAY_RETENTION: ",
    ] {
        assert!(
            ended.output.contains(expected),
            "{expected} in {}",
            ended.output
        );
    }
}
