//! What every store does alike with idempotency keys: a model to hold against one, and interleavings of repeats.

#![allow(clippy::unwrap_used, clippy::expect_used)]

pub(super) mod model;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use service_kit::Readiness;
use testkit::Redis;
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::model::{id, once};
use super::*;
use crate::idempotency::{Origin, Term, Terms};
use crate::store::embedded::Events;
use crate::store::redis::RedisOptions;

/// A key of a counter, what it adds, and how often it is sent.
type Sent = (u8, u8, i64, usize);

/// Sends everything at once, in the order that `order` gives, and checks that each key counted once.
async fn each_key_counts_once(store: Arc<dyn Store>, round: usize, sent: &[Sent], order: &[usize]) {
    let mut calls: Vec<_> = sent
        .iter()
        .flat_map(|call| std::iter::repeat_n(*call, call.3))
        .collect();
    for (at, swap) in order.iter().enumerate() {
        let (at, swap) = (at % calls.len(), swap % calls.len());
        calls.swap(at, swap);
    }
    let mut tasks = JoinSet::new();
    for (counter, key, delta, _) in calls {
        let store = store.clone();
        let name = format!("{round}-{counter}:like");
        let increment = once(&name, delta, &format!("k{key}"), Origin::Client);
        tasks.spawn(async move { ((counter, key), store.increment(increment).await.unwrap()) });
    }
    let mut answers = HashMap::<_, Vec<Counted>>::new();
    for (key, counted) in tasks.join_all().await {
        answers.entry(key).or_default().push(counted);
    }
    let mut sums = HashMap::new();
    for (counter, key, delta, copies) in sent {
        let answers = &answers[&(*counter, *key)];
        assert_eq!(answers.len(), *copies);
        let first = answers.iter().filter(|answer| !answer.replayed).count();
        assert_eq!(first, 1, "counted once: {answers:?}");
        let same =
            |answer: &Counted| (answer.value, answer.at) == (answers[0].value, answers[0].at);
        assert!(answers.iter().all(same), "one answer for all: {answers:?}");
        *sums.entry(*counter).or_insert(0) += delta;
    }
    for (counter, sum) in sums {
        assert_eq!(
            store
                .get(&id(&format!("{round}-{counter}:like")))
                .await
                .unwrap(),
            sum
        );
    }
}

fn sent() -> impl Strategy<Value = (Vec<Sent>, Vec<usize>)> {
    let deltas = prop_oneof![-3i64..=3, Just(1 << 60), Just(-(1 << 60))]
        .prop_filter("not 0", |delta| *delta != 0);
    let calls = prop::collection::btree_map((0u8..3, 0u8..6), (deltas, 1usize..6), 1..8);
    let calls = calls.prop_map(|calls| {
        let call = |((counter, key), (delta, copies))| (counter, key, delta, copies);
        calls.into_iter().map(call).collect::<Vec<Sent>>()
    });
    (calls, prop::collection::vec(any::<usize>(), 40))
}

/// Runs some cases of [`sent`] against a store; the counters of each case are new.
fn interleavings(runtime: &tokio::runtime::Runtime, cases: u32, store: Arc<dyn Store>) {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(cases));
    let round = std::cell::Cell::new(0);
    runner
        .run(&sent(), |(sent, order)| {
            round.set(round.get() + 1);
            let check = each_key_counts_once(store.clone(), round.get(), &sent, &order);
            runtime
                .block_on(async { tokio::time::timeout(Duration::from_secs(20), check).await })
                .expect("the store answers");
            Ok(())
        })
        .unwrap();
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn repeats_in_memory_count_once_however_they_interleave() {
    interleavings(
        &runtime(),
        200,
        Arc::new(MemoryStore::new(Terms::default())),
    );
}

#[test]
fn repeats_on_disk_count_once_however_they_interleave() {
    let runtime = runtime();
    let directory = tempfile::tempdir().unwrap();
    let open = EmbeddedStore::open(
        directory.path(),
        Events::Off,
        Terms::default(),
        Readiness::new(),
    );
    let store = runtime.block_on(open).unwrap();
    interleavings(&runtime, 60, Arc::new(store));
}

#[test]
fn repeats_in_redis_count_once_however_they_interleave() {
    let runtime = runtime();
    let redis = runtime.block_on(Redis::start());
    let store = runtime.block_on(async {
        let readiness = Readiness::new();
        let target = redis.url().parse().unwrap();
        let store = RedisStore::start(
            target,
            RedisOptions {
                timeout: Duration::from_secs(5),
                ..RedisOptions::default()
            },
            readiness.clone(),
        );
        readiness.ready().await;
        store
    });
    interleavings(&runtime, 60, Arc::new(store));
}

/// Sends keys for some retentions on end, new ones and repeats, and checks each answer against what the time allows. What was
/// sent less than a retention before its repeat was answered is replayed; what was answered more than one before its repeat
/// was sent is counted again; between the two, either is right.
async fn keys_live_for_their_retention(store: Arc<dyn Store>, retention: Duration) {
    let begun = Instant::now();
    let mut known = Vec::<(Instant, Instant, Counted)>::new();
    let send = async |n: usize| {
        let increment = once("lives:like", 1, &format!("k{n}"), Origin::Client);
        let sent = Instant::now();
        let counted = store.increment(increment).await.unwrap();
        (sent, Instant::now(), counted)
    };
    let (mut replays, mut again) = (0, 0);
    while begun.elapsed() < retention * 6 {
        known.push(send(known.len()).await);
        // The latest ones, and some that are older the longer this goes on.
        for n in (0..known.len()).rev().step_by(1 + known.len() / 8) {
            let (first_sent, first_answered, first) = known[n];
            let (sent, answered, counted) = send(n).await;
            if counted.replayed {
                assert_eq!((counted.value, counted.at), (first.value, first.at));
                assert!(
                    sent - first_answered <= retention + Duration::from_millis(2),
                    "kept too long"
                );
                replays += 1;
            } else {
                assert!(
                    answered - first_sent + Duration::from_millis(2) >= retention,
                    "forgotten early"
                );
                known[n] = (sent, answered, counted);
                again += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(
        replays > 20 && again > 5,
        "{replays} replays, {again} counted again"
    );
    let firsts = i64::try_from(known.len() + again).unwrap();
    assert_eq!(store.get(&id("lives:like")).await.unwrap(), firsts);
}

const SHORT: Term = Term {
    retention: Duration::from_millis(300),
    memory: 1 << 20,
};
const SHORT_TERMS: Terms = Terms {
    client: SHORT,
    gateway: SHORT,
};

#[tokio::test]
async fn keys_on_disk_live_for_their_retention() {
    let directory = tempfile::tempdir().unwrap();
    let open = EmbeddedStore::open(directory.path(), Events::Off, SHORT_TERMS, Readiness::new());
    keys_live_for_their_retention(Arc::new(open.await.unwrap()), SHORT.retention).await;
}

#[tokio::test]
async fn keys_in_redis_live_for_their_retention() {
    let redis = Redis::start().await;
    let readiness = Readiness::new();
    let options = RedisOptions {
        timeout: Duration::from_secs(5),
        keys: SHORT_TERMS,
        ..RedisOptions::default()
    };
    let store = RedisStore::start(redis.url().parse().unwrap(), options, readiness.clone());
    readiness.ready().await;
    let store = Arc::new(store);
    keys_live_for_their_retention(store.clone(), SHORT.retention).await;
    assert!(store.remembered()[0] > 0);
    // Idle for two retentions, it forgets them all.
    let forgotten = async {
        while store.remembered() != [0, 0] {
            tokio::time::sleep(Duration::from_millis(20)).await;
            store.forget().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), forgotten)
        .await
        .expect("an idle Redis forgets the keys");
    assert_eq!(
        redis.command(&["DBSIZE"]).await,
        ":2",
        "the count, and where the keys stand"
    );
}
