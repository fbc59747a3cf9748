//! The store in memory against a plain model, with time in the test's hands.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;
use crate::store::tests::model::{Model, add, call, id, once, terms};

#[test]
fn overflow_changes_nothing() {
    let store = MemoryStore::new(Terms::default());
    let at = |increment| store.increment_at(UnixMillis(1), increment);
    assert_eq!(at(add("a:like", i64::MAX)).unwrap().value, i64::MAX);
    let error = at(once("a:like", 1, "k", Origin::Client)).unwrap_err();
    assert!(
        matches!(error, StoreError::Overflow { delta: 1, .. }),
        "{error}"
    );
    assert_eq!(store.read(&id("a:like")), i64::MAX);
    assert_eq!(store.remembered(), [0, 0], "a refusal takes no room");
    assert_eq!(at(add("a:like", i64::MIN)).unwrap().value, -1);
    assert!(at(add("a:like", i64::MIN)).is_err());
}

#[test]
fn at_the_bound_new_keys_are_refused_and_none_is_forgotten() {
    let store = MemoryStore::new(terms(1000));
    let send = |n: i64, at| {
        store.increment_at(
            UnixMillis(at),
            once("a:like", n, &format!("key-{n}"), Origin::Client),
        )
    };
    let room = (1..).take_while(|n| send(*n, 1).is_ok()).count() as i64;
    assert!((5..12).contains(&room), "{room} keys in 1000 bytes");
    let sum = room * (room + 1) / 2;
    assert_eq!(
        store.read(&id("a:like")),
        sum,
        "the refused one is not counted"
    );
    for n in 1..=room {
        let again = send(n, 999).unwrap();
        assert_eq!((again.replayed, again.value), (true, n * (n + 1) / 2));
    }
    let full = send(100, 999).unwrap_err();
    assert!(
        matches!(
            full,
            StoreError::KeysFull {
                origin: Origin::Client,
                memory: 1000
            }
        ),
        "{full}"
    );
    // Others are not held up by it.
    assert!(
        store
            .increment_at(UnixMillis(999), add("a:like", 1))
            .is_ok()
    );
    let gateways = once("a:like", 1, "g", Origin::Gateway);
    assert!(store.increment_at(UnixMillis(999), gateways).is_ok());
    // A turn alone gives no room back, two do.
    assert!(send(100, 1500).is_err());
    assert!(send(100, 2600).is_ok());
}

#[tokio::test]
async fn an_idle_store_forgets_when_it_is_asked_to() {
    let store = MemoryStore::new(terms(1 << 20));
    store
        .increment_at(UnixMillis(1), once("a:like", 1, "k", Origin::Client))
        .unwrap();
    assert!(store.remembered()[0] > 0);
    store.forget().await;
    assert_eq!(store.remembered(), [0, 0]);
}

proptest! {
    /// Any sequence of increments and repeats says what a map of counts and a map of first answers says.
    #[test]
    fn repeats_get_the_first_answer_until_the_retention_ends(calls in prop::collection::vec(call(), 1..120)) {
        let (store, mut model) = (MemoryStore::new(terms(1 << 20)), Model::default());
        let mut now = 1_700_000_000_000;
        for call in calls {
            now += call.pause;
            let got = store.increment_at(UnixMillis(now), call.increment());
            model.check(now, &call, &got);
        }
        for (counter, count) in &model.counts {
            prop_assert_eq!(store.read(counter), *count);
        }
    }
}
