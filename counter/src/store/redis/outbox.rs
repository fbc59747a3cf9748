//! The outbox in Redis: streams that the relay reads and trims, and the leases by which relays share them.
//!
//! A place has a stream a shard, `{TAG}:outbox:N`, beside the hash `{TAG}:outbox` that counts what was written and sent. An
//! entry of a stream is the batch of one script: `NAME FIRST`, then for each event the key of the counter and
//! `VALUE DELTA TIME`, a line each; ids have no control characters.

use std::sync::Arc;

use async_trait::async_trait;
use redis::Value;

use super::lanes::Lanes;
use super::pipeline::Shared;
use super::script::{self, ServerScript};
use super::{PREFIX, reply};
use crate::outbox::{Chunk, Entry, Lines, Outbox, Position, Trim, Unsent};
use crate::store::{StoreError, UnixMillis};

const TRIM: &str = include_str!("trim.lua");
const LEASE: &str = include_str!("lease.lua");
/// How long a relay keeps its shards without a sign of life.
const LEASE_MILLIS: u64 = 3000;

/// The outbox of a store in Redis.
pub(super) struct RedisOutbox {
    pub(super) lanes: Arc<Lanes>,
    pub(super) shared: Arc<Shared>,
    trim: ServerScript,
    lease: ServerScript,
}

impl std::fmt::Debug for RedisOutbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedisOutbox")
    }
}

impl RedisOutbox {
    pub(super) fn new(lanes: Arc<Lanes>, shared: Arc<Shared>) -> Self {
        Self {
            lanes,
            shared,
            trim: ServerScript::new(TRIM),
            lease: ServerScript::new(LEASE),
        }
    }

    fn alone(&self) -> bool {
        self.shared.places.count() == 1
    }

    /// How many shards are shared among relays: in a cluster groups of slots.
    fn leases(&self) -> u32 {
        match self.shared.calls.outbox() {
            Some(outbox) if self.alone() => outbox.shards(),
            _ => CLUSTER_LEASES,
        }
    }

    /// The place and the number there of a shard: in a cluster a slot's only one.
    fn find(&self, shard: u32) -> (usize, u32) {
        if self.alone() {
            return (0, shard);
        }
        (shard as usize, 0)
    }

    async fn share(&self, owner: &str, millis: u64) -> Result<Vec<u32>, StoreError> {
        let place = self.shared.places.of(LEASES);
        let mut lease = self.lanes.lease(place)?;
        let shards = self.leases();
        let value = lease
            .run(
                &self.lease,
                &[LEASES],
                &[owner, &millis.to_string(), &shards.to_string()],
            )
            .await
            .inspect_err(|error| self.lanes.told(&lease, error))?;
        numbers(&value).ok_or_else(nonsense)
    }

    /// What is written and not sent in these places; each is told what it has.
    async fn count(&self, places: &[usize]) -> Result<Vec<(usize, u64)>, StoreError> {
        let mut found = Vec::new();
        let servers = self.lanes.by_server(places);
        let there: usize = servers.iter().map(|(_, places)| places.len()).sum();
        if there < places.len() {
            // What is in the others is not known, and no guess is as good.
            return Err(StoreError::Unavailable("Redis is away".into()));
        }
        for (mut lease, places) in servers {
            for places in places.chunks(COUNT_AT_ONCE) {
                let mut commands = redis::Pipeline::with_capacity(places.len());
                for place in places {
                    commands
                        .cmd("HGETALL")
                        .arg(self.shared.places.get(*place).outbox());
                }
                let answers = lease.read_all(&commands).await?;
                for (place, answer) in places.iter().zip(&answers) {
                    if let Value::ServerError(error) = answer {
                        let error = reply::refused("outbox", error);
                        self.lanes.told(&lease, &error);
                        return Err(error);
                    }
                    let unsent = unsent(answer);
                    let place_there = self.shared.places.get(*place);
                    place_there.set_unsent(unsent);
                    if unsent > 0 {
                        found.push((*place, unsent));
                    }
                }
            }
        }
        Ok(found)
    }

    fn all(&self) -> Vec<usize> {
        (0..self.shared.places.count()).collect()
    }

    /// When the oldest event of these places was counted: entries are named after their time.
    async fn oldest(&self, places: &[usize]) -> Result<Option<UnixMillis>, StoreError> {
        let shards = if self.alone() { self.leases() } else { 1 };
        let mut oldest = None::<UnixMillis>;
        for (mut lease, places) in self.lanes.by_server(places) {
            let mut commands = redis::Pipeline::new();
            for place in places {
                let place = self.shared.places.get(place);
                for shard in 0..shards {
                    let range = place.stream(shard);
                    commands
                        .cmd("XRANGE")
                        .arg(range)
                        .arg("-")
                        .arg("+")
                        .arg("COUNT")
                        .arg(1);
                }
            }
            for answer in lease.read_all(&commands).await? {
                let first = entries(&answer).and_then(|entries| entries.into_iter().next());
                let at = first
                    .and_then(|entry| i64::try_from(entry.position.0).ok())
                    .map(UnixMillis);
                oldest = oldest.into_iter().chain(at).min();
            }
        }
        Ok(oldest)
    }
}

/// Leases of a cluster: groups of slots.
const CLUSTER_LEASES: u32 = 64;
const LEASES: &str = "{highpress}:outbox:leases";
/// Places that are asked what they have in one round trip.
const COUNT_AT_ONCE: usize = 1024;

#[async_trait]
impl Outbox for RedisOutbox {
    async fn unsent(&self) -> Result<Unsent, StoreError> {
        let found = self.count(&self.all()).await?;
        let events = found.iter().map(|(_, events)| events).sum();
        let places: Vec<usize> = found.into_iter().map(|(place, _)| place).collect();
        let oldest = self.oldest(&places).await?;
        Ok(Unsent { events, oldest })
    }

    async fn lease(&self, owner: &str) -> Result<Vec<u32>, StoreError> {
        let mine = self.share(owner, LEASE_MILLIS).await?;
        if self.alone() {
            return Ok(mine);
        }
        // Of the slots that are its own, those in which something waits.
        let is_mine = |slot: &usize| mine.contains(&(*slot as u32 % CLUSTER_LEASES));
        let slots: Vec<usize> = self.all().into_iter().filter(is_mine).collect();
        let found = self.count(&slots).await?;
        Ok(found.into_iter().map(|(slot, _)| slot as u32).collect())
    }

    async fn leave(&self, owner: &str) -> Result<(), StoreError> {
        self.share(owner, 0).await.map(|_| ())
    }

    async fn read(
        &self,
        shard: u32,
        after: Option<Position>,
        max: usize,
    ) -> Result<Chunk, StoreError> {
        let (place, shard) = self.find(shard);
        let mut lease = self.lanes.lease(place)?;
        let server = lease.server();
        let place = self.shared.places.get(place);
        let start = after.map_or_else(|| "-".to_owned(), next);
        let mut commands = redis::Pipeline::new();
        commands
            .cmd("XRANGE")
            .arg(place.stream(shard))
            .arg(start)
            .arg("+")
            .arg("COUNT")
            .arg(max);
        let durable = self.shared.durable.as_ref();
        if let Some(durable) = durable {
            durable.append_to(&mut commands, &place);
        }
        let answers = lease.read_all(&commands).await?;
        let (answer, waited) = answers.split_first().ok_or_else(nonsense)?;
        if let Value::ServerError(error) = answer {
            let error = reply::refused(&place.stream(shard), error);
            self.lanes.told(&lease, &error);
            return Err(error);
        }
        let entries = entries(answer).ok_or_else(nonsense)?;
        // What the replicas do not have yet may be lost, and must not be known outside before.
        if let Some(error) = durable.and_then(|durable| durable.missing(waited))
            && !entries.is_empty()
        {
            return Err(error);
        }
        Ok(Chunk { entries, server })
    }

    async fn trim(&self, shard: u32, through: &Trim) -> Result<(), StoreError> {
        let (place, shard) = self.find(shard);
        let mut lease = self.lanes.lease(place)?;
        let place = self.shared.places.get(place);
        let keys = [place.outbox(), &*place.stream(shard)];
        let arguments = [
            shard.to_string(),
            next(through.position),
            through.last.to_string(),
        ];
        lease
            .run(&self.trim, &keys, &arguments.each_ref().map(String::as_str))
            .await
            .map(|_| ())
            .inspect_err(|error| self.lanes.told(&lease, error))
    }
}

/// The smallest id after this one.
fn next(Position(millis, sequence): Position) -> String {
    match sequence.checked_add(1) {
        Some(sequence) => format!("{millis}-{sequence}"),
        None => format!("{}-0", millis.saturating_add(1)),
    }
}

fn nonsense() -> StoreError {
    StoreError::Broken("Redis gave an answer of the wrong kind to the relay".into())
}

fn numbers(value: &Value) -> Option<Vec<u32>> {
    let Value::Array(values) = value else {
        return None;
    };
    let number = |value: &Value| match value {
        Value::Int(number) => u32::try_from(*number).ok(),
        _ => None,
    };
    values.iter().map(number).collect()
}

/// Written less sent, over all shards of a place.
fn unsent(value: &Value) -> u64 {
    let fields = match value {
        Value::Array(fields) => fields,
        _ => return 0,
    };
    let sum = |prefix: &str| -> u64 {
        let number = |pair: &[Value]| match pair {
            [name, number] => script::text(name)?
                .starts_with(prefix)
                .then(|| script::text(number)?.parse::<u64>().ok())?,
            _ => None,
        };
        fields.chunks(2).filter_map(number).sum()
    };
    sum("seq:").saturating_sub(sum("sent:"))
}

/// The answer to `XRANGE`.
fn entries(value: &Value) -> Option<Vec<Entry>> {
    let Value::Array(entries) = value else {
        return None;
    };
    entries.iter().map(entry).collect()
}

fn entry(value: &Value) -> Option<Entry> {
    let Value::Array(parts) = value else {
        return None;
    };
    let [id, Value::Array(fields)] = parts.as_slice() else {
        return None;
    };
    let (millis, sequence) = script::text(id)?.split_once('-')?;
    let position = Position(millis.parse().ok()?, sequence.parse().ok()?);
    let [_, text] = fields.as_slice() else {
        return None;
    };
    let text: Box<str> = script::text(text)?.into();
    let mut lines = text.split('\n');
    let (outbox, first) = lines.next()?.split_once(' ')?;
    let (outbox, first) = (outbox.into(), first.parse().ok()?);
    let begin = text.as_ptr().addr();
    let mut events = Vec::new();
    while let Some(key) = lines.next() {
        let key = key.strip_prefix(PREFIX)?;
        let record = script::record(lines.next()?)?;
        let start = key.as_ptr().addr() - begin;
        events.push((start..start + key.len(), record));
    }
    let mut lines = Lines::new(text);
    for (key, record) in events {
        lines.push(key, record.delta, record.value, record.at.0);
    }
    Some(Entry {
        position,
        outbox,
        first,
        lines,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_entry_is_read_as_the_script_writes_it() {
        let text = "0f.2 41\ncounter:a:b:like\n7 -1 1700000000123\ncounter:é:view\n9007199254740993 5 1700000000123";
        let value = Value::Array(vec![
            Value::BulkString(b"1700000000123-4".to_vec()),
            Value::Array(vec![
                Value::BulkString(b"e".to_vec()),
                Value::BulkString(text.into()),
            ]),
        ]);
        let entry = entry(&value).unwrap();
        assert_eq!(entry.position, Position(1_700_000_000_123, 4));
        assert_eq!(
            (&*entry.outbox, entry.first, entry.last()),
            ("0f.2", 41, 42)
        );
        let events: Vec<_> = entry
            .events()
            .map(|event| (event.key, event.delta, event.new_value, event.sequence))
            .collect();
        assert_eq!(
            events,
            [
                ("a:b:like", -1, 7, 41),
                ("é:view", 5, 9_007_199_254_740_993, 42)
            ]
        );
    }

    #[test]
    fn the_next_position_is_after_this_one_and_before_any_later() {
        assert_eq!(next(Position(5, 0)), "5-1");
        assert_eq!(next(Position(5, u64::MAX)), "6-0");
    }
}
