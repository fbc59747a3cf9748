//! The embedded store against a plain map, across restarts, and its event log.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod keys;

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::store::tests::model::{add, id};

async fn open(directory: &TempDir, events: Events) -> EmbeddedStore {
    EmbeddedStore::open(directory.path(), events, Terms::default(), Readiness::new())
        .await
        .unwrap()
}

#[tokio::test]
async fn counts_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, Events::Off).await;
    assert_eq!(store.increment(add("a:like", 41)).await.unwrap().value, 41);
    assert_eq!(store.increment(add("a:like", 1)).await.unwrap().value, 42);
    drop(store);
    let store = open(&directory, Events::Off).await;
    assert_eq!(
        store
            .get_many(vec![id("b:like"), id("a:like"), id("a:like")])
            .await
            .unwrap(),
        [0, 42, 42]
    );
}

#[tokio::test]
async fn overflow_changes_nothing_and_leaves_no_event() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, Events::On).await;
    store.increment(add("a:like", i64::MAX)).await.unwrap();
    let (over, other) = tokio::join!(
        store.increment(add("a:like", 1)),
        store.increment(add("b:like", 5))
    );
    assert!(
        matches!(over, Err(StoreError::Overflow { delta: 1, .. })),
        "{over:?}"
    );
    assert_eq!(other.unwrap().value, 5);
    assert_eq!(store.get(&id("a:like")).await.unwrap(), i64::MAX);
    let events = store.events().unwrap().read_after(0, 10).await.unwrap();
    assert_eq!(
        events.iter().map(|event| event.delta).collect::<Vec<_>>(),
        [i64::MAX, 5]
    );
}

#[tokio::test]
async fn a_directory_belongs_to_one_store_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let _store = open(&directory, Events::Off).await;
    let error = EmbeddedStore::open(
        directory.path(),
        Events::Off,
        Terms::default(),
        Readiness::new(),
    )
    .await
    .unwrap_err();
    assert!(matches!(error, OpenError::InUse(_)), "{error}");
}

#[tokio::test]
async fn events_stand_in_order_without_gaps_and_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(open(&directory, Events::On).await);
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..300 {
        let store = store.clone();
        tasks.spawn(async move {
            store
                .increment(add(&format!("r{}:like", n % 7), n + 1))
                .await
                .unwrap()
        });
    }
    tasks.join_all().await;
    let before = store.events().unwrap().read_after(0, 1000).await.unwrap();
    assert_eq!(
        before
            .iter()
            .map(|event| event.sequence)
            .collect::<Vec<_>>(),
        (1..=300).collect::<Vec<_>>()
    );
    let mut counts = HashMap::new();
    for event in &before {
        let count = counts.entry(event.resource_id.clone()).or_insert(0);
        *count += event.delta;
        assert_eq!(
            event.new_value, *count,
            "events of a counter stand in the order in which they happened"
        );
    }
    drop(store);
    let store = open(&directory, Events::On).await;
    let log = store.events().unwrap();
    assert_eq!(log.last(), 300);
    assert_eq!(
        log.read_after(0, 1000).await.unwrap(),
        before,
        "the same ids and contents"
    );
    assert_eq!(log.read_after(298, 1000).await.unwrap(), before[298..]);
}

#[tokio::test]
async fn trimmed_events_are_gone_and_numbers_are_not_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, Events::On).await;
    for _ in 0..5 {
        store.increment(add("a:like", 1)).await.unwrap();
    }
    let log = store.events().unwrap();
    log.trim(5);
    let trimmed = async {
        while !log.read_after(0, 10).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), trimmed)
        .await
        .expect("the trim happens while the store is idle");
    drop(store);
    let store = open(&directory, Events::On).await;
    store.increment(add("a:like", 1)).await.unwrap();
    let events = store.events().unwrap().read_after(0, 10).await.unwrap();
    assert_eq!(
        (events.len(), events[0].sequence, events[0].new_value),
        (1, 6, 6)
    );
}

#[tokio::test]
async fn waiting_ends_with_an_event_or_with_the_store() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory, Events::On).await;
    let log = store.events().unwrap();
    let waiting = tokio::spawn({
        let log = log.clone();
        async move { log.wait_after(0).await }
    });
    store.increment(add("a:like", 1)).await.unwrap();
    waiting.await.unwrap().unwrap();
    let waiting = tokio::spawn(async move { log.wait_after(1).await });
    tokio::task::yield_now().await;
    drop(store);
    waiting.await.unwrap().unwrap_err();
}

#[derive(Debug, Clone)]
enum Step {
    Add(Vec<(u8, i64)>),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let delta =
        prop_oneof![4 => -5i64..=5, 1 => Just(i64::MAX), 1 => Just(i64::MIN), 1 => any::<i64>()];
    let adds = prop::collection::vec((0u8..4, delta), 1..12).prop_map(Step::Add);
    prop::collection::vec(prop_oneof![5 => adds, 1 => Just(Step::Restart)], 1..8)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// One after another, the store says what a map with checked addition says, whatever batches they end up in.
    #[test]
    fn behaves_like_a_map(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let mut store = open(&directory, Events::On).await;
            let mut model = HashMap::<u8, i64>::new();
            let mut events = 0;
            for step in steps {
                match step {
                    Step::Restart => {
                        drop(store);
                        store = open(&directory, Events::On).await;
                    }
                    Step::Add(adds) => {
                        for (counter, delta) in adds {
                            let got = store.increment(add(&format!("r{counter}:like"), delta)).await;
                            let count = model.entry(counter).or_insert(0);
                            if let Some(sum) = count.checked_add(delta) {
                                *count = sum;
                                events += 1;
                                assert_eq!(got.unwrap().value, sum);
                            } else {
                                assert!(matches!(got, Err(StoreError::Overflow { .. })));
                            }
                        }
                    }
                }
                for (counter, count) in &model {
                    assert_eq!(store.get(&id(&format!("r{counter}:like"))).await.unwrap(), *count);
                }
                assert_eq!(store.events().unwrap().last(), events);
            }
        });
    }
}
