//! Walking over all counters in Redis, and announcing them: for tools, beside the service.
//!
//! `SCAN` of every primary: a key that is there all the time is met at least once.

use redis::Value;

use super::link::Lease;
use super::script::{self, ServerScript};
use super::{PREFIX, RedisStore, counts, get, redis_key, reply};
use crate::id::CounterId;
use crate::outbox::partition;
use crate::store::StoreError;

const ANNOUNCE: &str = include_str!("announce.lua");
/// Keys that one step looks at.
const STEP: usize = 1000;

/// Some of the counters.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    pub(crate) counts: Vec<(CounterId, i64)>,
    /// Keys that were looked at, roughly.
    pub(crate) keys: u64,
    /// Keys that begin like a counter's and are none.
    pub(crate) strange: u64,
}

/// A walk over all counters.
pub(crate) struct Scan {
    servers: Vec<Lease>,
    cursor: String,
}

impl RedisStore {
    /// How many keys there are.
    pub(crate) async fn size(&self) -> Result<u64, StoreError> {
        let mut sum = 0;
        for (mut lease, _) in self.lanes.by_server(&self.all_places()) {
            if let Value::Int(keys) = lease.read(&redis::cmd("DBSIZE")).await? {
                sum += keys.unsigned_abs();
            }
        }
        Ok(sum)
    }

    /// Begins a walk.
    pub(crate) fn scan(&self) -> Scan {
        let servers = self.lanes.by_server(&self.all_places());
        Scan {
            servers: servers.into_iter().map(|(lease, _)| lease).collect(),
            cursor: "0".to_owned(),
        }
    }

    fn all_places(&self) -> Vec<usize> {
        (0..self.shared.places.count()).collect()
    }

    /// Announces counters by events of delta 0, after bringing in what a source has of them; their counts, or what is wrong.
    pub(crate) async fn announce(
        &self,
        items: Vec<(CounterId, Option<i64>)>,
    ) -> Result<Vec<(CounterId, Result<i64, String>)>, StoreError> {
        let mut by_place = std::collections::BTreeMap::<usize, Vec<_>>::new();
        for item in items {
            by_place.entry(self.place(&item.0)?).or_default().push(item);
        }
        let mut answers = Vec::new();
        for (number, items) in by_place {
            let values = match self.announce_in(number, &items).await {
                // The number of shards that this Redis has is known now.
                Err(error) if reply::was_refused_with(&error, "SHARDS") => {
                    self.announce_in(number, &items).await?
                }
                values => values?,
            };
            for ((counter, _), value) in items.into_iter().zip(values) {
                let text = script::text(&value).unwrap_or("? no answer");
                let count = match text.strip_prefix('?') {
                    Some(why) => Err(why.to_owned()),
                    None => text.parse().map_err(|_| format!("{text:?} is no count")),
                };
                answers.push((counter, count));
            }
        }
        Ok(answers)
    }

    async fn announce_in(
        &self,
        number: usize,
        items: &[(CounterId, Option<i64>)],
    ) -> Result<Vec<Value>, StoreError> {
        let place = self.shared.places.get(number);
        let mut lease = self.lanes.lease(number)?;
        let shards = self
            .shared
            .calls
            .outbox()
            .map_or(0, |outbox| outbox.shards());
        let imported = place.imported();
        let keys: Vec<String> = [place.outbox().to_owned(), imported]
            .into_iter()
            .chain(items.iter().map(|(counter, _)| redis_key(counter)))
            .collect();
        // A byte each, below 64.
        let route = |(counter, _): &(CounterId, _)| {
            char::from(partition(counter.key().as_bytes(), shards) as u8)
        };
        let routes: String = items.iter().map(route).collect();
        let value = |(_, value): &(CounterId, Option<i64>)| {
            value.map(|value| value.to_string()).unwrap_or_default()
        };
        let arguments: Vec<String> = [
            shards.to_string(),
            format!("{:016x}", fastrand::u64(..)),
            lease.server().to_string(),
            routes,
        ]
        .into_iter()
        .chain(items.iter().map(value))
        .collect();
        let (keys, arguments): (Vec<&str>, Vec<&str>) = (
            keys.iter().map(String::as_str).collect(),
            arguments.iter().map(String::as_str).collect(),
        );
        let answer = lease
            .run(&ServerScript::new(ANNOUNCE), &keys, &arguments)
            .await;
        match answer {
            Ok(Value::Array(values)) if values.len() == items.len() => Ok(values),
            Ok(_) => Err(StoreError::Broken(
                "Redis gave an answer of the wrong kind".into(),
            )),
            Err(error) => {
                self.shared.calls.told(&error);
                Err(error)
            }
        }
    }
}

impl Scan {
    /// The next piece; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Piece>, StoreError> {
        let Some(lease) = self.servers.last_mut() else {
            return Ok(None);
        };
        let mut step = redis::cmd("SCAN");
        step.arg(&self.cursor)
            .arg("MATCH")
            .arg(format!("{PREFIX}*"));
        let answer = lease.read(step.arg("COUNT").arg(STEP)).await?;
        let (cursor, keys) = page(&answer).ok_or_else(|| {
            StoreError::Broken("Redis gave an answer of the wrong kind to SCAN".into())
        })?;
        let mut piece = Piece {
            keys: STEP as u64,
            ..Piece::default()
        };
        let id = |key: &String| CounterId::from_key(key.strip_prefix(PREFIX)?).ok();
        let known: Vec<(CounterId, String)> = keys
            .iter()
            .filter_map(|key| Some((id(key)?, key.clone())))
            .collect();
        piece.strange = (keys.len() - known.len()) as u64;
        let mut each = redis::Pipeline::with_capacity(known.len());
        for (_, key) in &known {
            each.add_command(get(key));
        }
        if !known.is_empty() {
            for ((counter, key), value) in known.into_iter().zip(lease.read_all(&each).await?) {
                match counts(&[key], vec![value]) {
                    Ok(count) => piece
                        .counts
                        .extend(count.into_iter().map(|count| (counter.clone(), count))),
                    Err(StoreError::NotACount { .. }) => piece.strange += 1,
                    Err(error) => return Err(error),
                }
            }
        }
        if cursor == "0" {
            self.servers.pop();
        }
        self.cursor = cursor;
        Ok(Some(piece))
    }
}

fn page(answer: &Value) -> Option<(String, Vec<String>)> {
    let Value::Array(parts) = answer else {
        return None;
    };
    let [cursor, Value::Array(keys)] = parts.as_slice() else {
        return None;
    };
    let bytes = |value: &Value| match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        _ => None,
    };
    Some((bytes(cursor)?, keys.iter().filter_map(bytes).collect()))
}
