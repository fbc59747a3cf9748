//! Increments by script: one call counts a batch of them, with their idempotency keys and their events, and what it answers.
//!
//! A reply that says "error" for the whole script came before anything was counted if it is one of those that Redis gives
//! before it runs a script or at its first write; after any other the outcome is unknown.

use std::sync::atomic::{AtomicU32, Ordering};

use redis::{Cmd, Script, ServerError, Value};

use super::call::{self, Group};
use super::pipeline::Request;
use super::reply;
use crate::id::CounterId;
use crate::idempotency::{Origin, Term, Terms};
use crate::store::remember::Record;
use crate::store::{Counted, StoreError, UnixMillis};

const SOURCE: &str = include_str!("increment.lua");
/// What a key takes in Redis beside its text: the entry of the hash, the record, the table's free places, the allocator's.
/// The measurement is in docs/counting.md.
pub(super) const BYTES_PER_KEY: u64 = 110;
/// Errors after which nothing was counted.
const BEFORE_ANYTHING: [&str; 15] = [
    "ASK",
    "BUSY",
    "CLUSTERDOWN",
    "CROSSSLOT",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "MOVED",
    "NOAUTH",
    "NOREPLICAS",
    "NOSCRIPT",
    "OOM",
    "READONLY",
    "TRYAGAIN",
    "WRONGTYPE",
];

/// The terms of all calls.
pub(super) struct Calls {
    keys: Terms,
    /// None if increments leave no events.
    outbox: Option<OutboxTerms>,
    script: ServerScript,
}

/// A script and the name that a server knows it by.
pub(super) struct ServerScript {
    pub(super) source: &'static str,
    pub(super) hash: String,
}

impl ServerScript {
    pub(super) fn new(source: &'static str) -> Self {
        let hash = Script::new(source).get_hash().to_owned();
        Self { source, hash }
    }
}

/// The terms of the outbox.
pub(super) struct OutboxTerms {
    /// How many shards a place has: what this Redis remembers, once it has said so.
    shards: AtomicU32,
    /// Events that all places together may hold.
    pub(super) limit: u64,
}

impl OutboxTerms {
    pub(super) fn new(shards: u32, limit: u64) -> Self {
        Self {
            shards: AtomicU32::new(shards),
            limit,
        }
    }

    pub(super) fn shards(&self) -> u32 {
        self.shards.load(Ordering::Relaxed)
    }
}

/// Increments that one call takes: with keys of this origin, or without.
pub(super) type Kind = Option<Origin>;

/// What the script said.
pub(super) enum Said {
    /// An answer to each request.
    Answers(Vec<Result<Counted, StoreError>>),
    /// The same answer to all of them.
    Refused(StoreError),
    /// This server does not know the script, or knows another number of shards: nothing was done, ask again.
    Again,
}

impl Calls {
    pub(super) fn new(keys: Terms, outbox: Option<OutboxTerms>) -> Self {
        Self {
            keys,
            outbox,
            script: ServerScript::new(SOURCE),
        }
    }

    pub(super) fn outbox(&self) -> Option<&OutboxTerms> {
        self.outbox.as_ref()
    }

    /// The call by the script's hash.
    pub(super) fn by_hash(&self, group: &Group, room: Room, server: &str) -> Cmd {
        self.call(["EVALSHA", &self.script.hash], group, room, server)
    }

    /// The call with the script itself, which the server then knows.
    pub(super) fn by_source(&self, group: &Group, room: Room, server: &str) -> Cmd {
        self.call(["EVAL", self.script.source], group, room, server)
    }

    fn call(&self, script: [&str; 2], group: &Group, room: Room, server: &str) -> Cmd {
        let mut call = redis::cmd(script[0]);
        call.arg(script[1]);
        let origin = group.kind.unwrap_or(Origin::Client);
        let retention = self.keys.of(origin).millis();
        let terms = call::Terms {
            retention,
            room,
            server,
        };
        group.write(&mut call, &terms);
        call
    }

    /// Puts groups in order for the shards that there are.
    pub(super) fn arrange(&self, groups: &mut Vec<Group>) {
        let shards = self.outbox.as_ref().map_or(0, OutboxTerms::shards);
        call::arrange(groups, shards);
    }

    /// Reads the reply to a group's call.
    pub(super) fn read(&self, group: &Group, value: &Value) -> Said {
        match value {
            Value::ServerError(error) if error.code() == "NOSCRIPT" => Said::Again,
            Value::ServerError(error) if error.code() == "SHARDS" => self.learn_shards(error),
            Value::ServerError(error) => Said::Refused(refused(error)),
            Value::BulkString(_) => text(value)
                .and_then(|answers| self.answers(group, answers))
                .unwrap_or_else(|| Said::Refused(nonsense())),
            _ => Said::Refused(nonsense()),
        }
    }

    /// Takes note of an error that tells how many shards there are.
    pub(super) fn told(&self, error: &StoreError) {
        let StoreError::Unavailable(why) = error else {
            return;
        };
        let shards = why
            .strip_prefix(reply::REFUSED)
            .and_then(|rest| rest.strip_prefix("SHARDS "));
        if let (Some(outbox), Some(Ok(shards @ 1..=64))) = (&self.outbox, shards.map(str::parse)) {
            outbox.shards.store(shards, Ordering::Relaxed);
        }
    }

    /// The number of shards is fixed when an outbox is made, whatever this version would make.
    fn learn_shards(&self, error: &ServerError) -> Said {
        let shards = error.details().and_then(|shards| shards.parse().ok());
        match (&self.outbox, shards) {
            (Some(outbox), Some(shards @ 1..=64)) => {
                outbox.shards.store(shards, Ordering::Relaxed);
                Said::Again
            }
            _ => Said::Refused(StoreError::Unavailable(
                "the outbox in Redis was made by another version".into(),
            )),
        }
    }

    /// A line for the places, and one for each item.
    fn answers(&self, group: &Group, answers: &str) -> Option<Said> {
        let mut lines = answers.split('\n');
        let (bytes, unsent) = lines.next()?.split_once(' ')?;
        if let Some(origin) = group.kind {
            group.place.set_bytes(origin, bytes.parse().ok()?);
        }
        if !unsent.is_empty() {
            group.place.set_unsent(unsent.parse().ok()?);
        }
        let read = |request: &Request| {
            let increment = &request.increment;
            self.answer(
                group.kind,
                &increment.counter,
                increment.delta,
                lines.next()?,
            )
        };
        let answers = group.requests.iter().map(read).collect::<Option<_>>()?;
        lines.next().is_none().then_some(Said::Answers(answers))
    }

    /// The answer to one item; `None` if it is none.
    fn answer(
        &self,
        kind: Kind,
        counter: &CounterId,
        delta: i64,
        text: &str,
    ) -> Option<Result<Counted, StoreError>> {
        if let Some(known) = text.strip_prefix('=') {
            return Some(record(known)?.answer(counter, delta));
        }
        if let Some(error) = text.strip_prefix('?') {
            let (code, details) = error.split_once(' ').unwrap_or((error, ""));
            return Some(Err(reply::not_incremented(counter, delta, code, details)));
        }
        if text == "#" {
            let origin = kind?;
            return Some(Err(StoreError::KeysFull {
                origin,
                memory: self.keys.of(origin).memory,
            }));
        }
        if text == "!" {
            let limit = self.outbox.as_ref()?.limit;
            return Some(Err(StoreError::OutboxFull { limit }));
        }
        let Record { value, at, .. } = record(text)?;
        Some(Ok(Counted {
            value,
            at,
            replayed: false,
        }))
    }

    /// The room that a place has if the others hold so much.
    pub(super) fn room(&self, group: &Group, others: Others) -> Room {
        let term: Term = self.keys.of(group.kind.unwrap_or(Origin::Client));
        let bytes = group.kind.map_or(0, |origin| others.bytes[origin as usize]);
        let limit = self.outbox.as_ref().map(|outbox| outbox.limit);
        let events = limit.map(|limit| limit.saturating_sub(others.unsent));
        Room {
            keys: term.memory.saturating_sub(bytes),
            events: events.filter(|events| !others.are_none || !group.place.has_plenty(*events)),
        }
    }
}

/// What a place may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) keys: u64,
    /// None if there is no outbox, or if it need not be looked at: it was seen lately to have plenty.
    pub(super) events: Option<u64>,
}

/// What the other places hold.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Others {
    pub(super) bytes: [u64; Origin::ALL.len()],
    pub(super) unsent: u64,
    /// Whether there is no other place.
    pub(super) are_none: bool,
}

/// `VALUE DELTA TIME`, as the script remembers it.
pub(super) fn record(text: &str) -> Option<Record> {
    let mut numbers = text.split(' ').map(|n| reply::integer(n.as_bytes()));
    let record = Record {
        value: numbers.next()??,
        delta: numbers.next()??,
        at: UnixMillis(numbers.next()??),
    };
    numbers.next().is_none().then_some(record)
}

pub(super) fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

fn refused(error: &ServerError) -> StoreError {
    let (code, details) = (error.code(), error.details().unwrap_or_default());
    let why = format!("{}{code} {details}", reply::REFUSED);
    if BEFORE_ANYTHING.contains(&code) {
        StoreError::Unavailable(why.into())
    } else {
        StoreError::OutcomeUnknown(why.into())
    }
}

/// It may have counted what it does not know how to tell.
fn nonsense() -> StoreError {
    StoreError::OutcomeUnknown("Redis gave an answer of the wrong kind".into())
}
