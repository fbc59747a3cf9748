//! A map of counts and a map of first answers: what any store must say, with time in the test's hands.

use std::collections::HashMap;

use proptest::prelude::*;

use crate::id::CounterId;
use crate::idempotency::{IdempotencyKey, Origin, Term, Terms};
use crate::store::{Counted, Increment, StoreError, UnixMillis};

pub(crate) fn id(key: &str) -> CounterId {
    CounterId::from_key(key).unwrap()
}

pub(crate) fn add(counter: &str, delta: i64) -> Increment {
    Increment {
        counter: id(counter),
        delta,
        key: None,
    }
}

pub(crate) fn once(counter: &str, delta: i64, key: &str, origin: Origin) -> Increment {
    Increment {
        key: Some(IdempotencyKey::new(key, origin).unwrap()),
        ..add(counter, delta)
    }
}

/// A second for clients' keys, 100 ms for gateways'.
pub(crate) fn terms(memory: u64) -> Terms {
    let term = |millis| Term {
        retention: std::time::Duration::from_millis(millis),
        memory,
    };
    Terms {
        client: term(1000),
        gateway: term(100),
    }
}

/// One increment of a generated sequence.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// Milliseconds since the one before.
    pub(crate) pause: i64,
    counter: u8,
    key: Option<(u8, bool)>,
    delta: i64,
}

pub(crate) fn call() -> impl Strategy<Value = Call> {
    let delta = prop_oneof![6 => 1i64..=2, 1 => Just(i64::MAX), 1 => Just(i64::MIN)];
    let pause = prop_oneof![6 => Just(0i64), 2 => 1i64..150, 1 => 500i64..2500];
    let key = prop::option::weighted(0.8, (0u8..3, any::<bool>()));
    (pause, 0u8..2, key, delta).prop_map(|(pause, counter, key, delta)| Call {
        pause,
        counter,
        key,
        delta,
    })
}

impl Call {
    pub(crate) fn increment(&self) -> Increment {
        let name = format!("r{}:like", self.counter);
        match self.key {
            None => add(&name, self.delta),
            Some((key, client)) => {
                let origin = if client {
                    Origin::Client
                } else {
                    Origin::Gateway
                };
                once(&name, self.delta, &format!("k{key}"), origin)
            }
        }
    }
}

/// The counts and the first answers: value, delta, time.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) counts: HashMap<CounterId, i64>,
    first: HashMap<(u8, u8, bool), (i64, i64, i64)>,
}

impl Model {
    /// Holds what a store said against what it had to say.
    pub(crate) fn check(&mut self, now: i64, call: &Call, got: &Result<Counted, StoreError>) {
        let Call {
            counter,
            key,
            delta,
            ..
        } = *call;
        let known = key.and_then(|(key, client)| {
            let retention = if client { 1000 } else { 100 };
            self.first
                .get(&(counter, key, client))
                .filter(|(.., at)| now - at < retention)
        });
        let count = self.counts.entry(call.increment().counter).or_insert(0);
        match (known, count.checked_add(delta)) {
            (Some((_, was, _)), _) if *was != delta => {
                assert!(matches!(got, Err(StoreError::KeyReused { .. })), "{got:?}");
            }
            (Some((value, _, at)), _) => {
                let expected = Counted {
                    value: *value,
                    at: UnixMillis(*at),
                    replayed: true,
                };
                assert_eq!(*got.as_ref().unwrap(), expected);
            }
            (None, None) => assert!(matches!(got, Err(StoreError::Overflow { .. })), "{got:?}"),
            (None, Some(sum)) => {
                *count = sum;
                if let Some((key, client)) = key {
                    self.first.insert((counter, key, client), (sum, delta, now));
                }
                let expected = Counted {
                    value: sum,
                    at: UnixMillis(now),
                    replayed: false,
                };
                assert_eq!(*got.as_ref().unwrap(), expected);
            }
        }
    }
}
