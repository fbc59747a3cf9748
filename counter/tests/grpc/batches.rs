//! What shares a call of the script: many increments of one counter, repeats of a key, other bodies under it, and what Redis
//! refuses. Nobody may notice with whom a batch was shared, and its events are those of what was counted.

use std::collections::{BTreeMap, HashSet};

use testkit::topic::{Sum, read, sums};
use testkit::wait::{PATIENCE, within};
use testkit::{Kafka, Redis};
use tokio::task::JoinSet;
use tonic::Code;

use super::events;
use super::idempotency_redis::start;
use super::setup::{Key, add_once, connect, get, reason};

/// Increments of one counter that share a batch may be one command for Redis: each caller is told its own exact count, and at the
/// end of the range some are refused and the others are not.
#[tokio::test]
async fn increments_of_one_counter_in_a_batch_have_each_its_own_count() {
    const CALLS: i64 = 300;
    let redis = Redis::start().await;
    let counter = start(&redis).await;
    let client = connect(&counter).await;
    let edges = [0, 99_999_999_999_990, (1 << 53) - 4, i64::MAX - 10];
    for (name, begun) in ["zero", "digits", "doubles", "end"].into_iter().zip(edges) {
        let key = format!("counter:{name}:like");
        redis.command(&["SET", &key, &begun.to_string()]).await;
        // Stopped, so that they gather; the first one is a batch of its own.
        redis.command(&["CLIENT", "PAUSE", "100", "ALL"]).await;
        let mut calls = JoinSet::new();
        for n in 0..CALLS {
            let client = client.clone();
            calls.spawn(async move {
                let key = format!("{name}-{n}");
                add_once(&client, name, "like", 1, Key::client(&key)).await
            });
        }
        let room = i64::MAX.checked_sub(begun).unwrap().min(CALLS);
        let mut values = Vec::new();
        for answer in within("all answers", PATIENCE, calls.join_all()).await {
            match answer {
                Ok((answer, replayed)) => {
                    assert!(!replayed);
                    values.push(answer.current_value);
                }
                Err(error) => assert_eq!(error.code(), Code::OutOfRange, "{error:?}"),
            }
        }
        values.sort_unstable();
        let expected: Vec<i64> = (1..=room).map(|n| begun + n).collect();
        assert_eq!(values, expected, "from {begun} on");
        assert_eq!(get(&client, name, "like").await.unwrap(), begun + room);
    }
}

/// More of one counter than any run is long, each key twice, some with another body, and a counter beside it that is none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_of_everything_counts_each_key_once() {
    const KEYS: usize = 120;
    let mut kafka = Kafka::stopped();
    let redis = Redis::start().await;
    redis.command(&["SET", "counter:text:like", "many"]).await;
    let counter = events::start(&redis.url(), &kafka, "events", &[]).await;
    let client = connect(&counter).await;
    // Stopped, so that they gather; the first one is a batch of its own.
    redis.command(&["CLIENT", "PAUSE", "100", "ALL"]).await;
    let mut calls = JoinSet::new();
    for n in 0..KEYS {
        let deltas: &[i64] = if n % 10 == 0 { &[1, 2, 1] } else { &[1, 1] };
        for delta in deltas.iter().copied() {
            let (client, key) = (client.clone(), format!("key-{n}"));
            calls.spawn(async move {
                let answer = add_once(&client, "hot", "like", delta, Key::client(&key)).await;
                let refused = add_once(&client, "text", "like", delta, Key::client(&key)).await;
                assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
                (n, delta, answer)
            });
        }
    }
    let mut counted = BTreeMap::new();
    let (mut repeats, mut reused) = (Vec::new(), Vec::new());
    for (n, delta, answer) in within("all answers", PATIENCE, calls.join_all()).await {
        match answer {
            Ok((answer, false)) => {
                let first = counted.insert(n, (delta, answer.current_value));
                assert_eq!(first, None, "key {n} was counted twice");
            }
            Ok((answer, true)) => repeats.push((n, (delta, answer.current_value))),
            Err(error) => {
                assert_eq!(reason(&error), "IDEMPOTENCY_KEY_REUSED", "{error:?}");
                reused.push((n, delta));
            }
        }
    }
    assert_eq!(counted.len(), KEYS);
    for (n, repeat) in repeats {
        assert_eq!(repeat, counted[&n], "the first answer of key {n}");
    }
    for (n, delta) in reused {
        assert_ne!(delta, counted[&n].0, "key {n}");
    }
    let values: HashSet<i64> = counted.values().map(|(_, value)| *value).collect();
    assert_eq!(values.len(), KEYS, "no two were told the same count");
    let total: i64 = counted.values().map(|(delta, _)| delta).sum();
    assert_eq!(get(&client, "hot", "like").await.unwrap(), total);
    kafka.restart().await;
    events::sent(&counter).await;
    let sums = sums(&read(&kafka, "events").await);
    let hot = Sum {
        events: KEYS as u64,
        deltas: total,
        last: total,
    };
    assert_eq!(sums["hot:like"], hot);
    assert_eq!(sums.len(), 1, "what was refused has no event: {sums:?}");
}
