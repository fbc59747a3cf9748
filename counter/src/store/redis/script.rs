//! Increments with idempotency keys: the script that counts a batch of them once, and what it answers.
//!
//! A reply that says "error" for the whole script came before anything was counted if it is one of those that Redis gives
//! before it runs a script or at its first write; after any other the outcome is unknown.

use redis::{Cmd, Script, ServerError, Value};

use super::pipeline::Request;
use super::{redis_key, reply};
use crate::id::CounterId;
use crate::idempotency::{Origin, Term};
use crate::store::remember::Record;
use crate::store::{Counted, StoreError, UnixMillis};

const SOURCE: &str = include_str!("increment.lua");
/// What a key takes in Redis beside its text: the entry of the hash, the record, the table's free places, the allocator's.
/// The measurement is in docs/counting.md.
const BYTES_PER_KEY: u64 = 110;
/// Errors after which nothing was counted.
const BEFORE_ANYTHING: [&str; 14] = [
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
    "WRONGTYPE",
];

/// The script with the terms for the keys of one origin.
#[derive(Clone)]
pub(super) struct Once {
    origin: Origin,
    term: Term,
    /// Braces, so that in a cluster everything the script touches can be made to share a slot.
    state: String,
    hash: String,
}

/// What the script said.
pub(super) enum Said {
    /// An answer to each request, and the bytes that keys take now.
    Answers(Vec<Result<Counted, StoreError>>, u64),
    /// The same answer to all of them.
    Refused(StoreError),
    /// This server does not know the script: nothing was done.
    Unknown,
}

impl Once {
    pub(super) fn new(origin: Origin, term: Term) -> Self {
        Self {
            origin,
            term,
            state: format!("{{highpress}}:keys:{}", origin.label()),
            hash: Script::new(SOURCE).get_hash().to_owned(),
        }
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// The call by the script's hash.
    pub(super) fn by_hash(&self, requests: &[Request]) -> Cmd {
        self.call("EVALSHA", &self.hash, requests)
    }

    /// The call with the script itself, which the server then knows.
    pub(super) fn by_source(&self, requests: &[Request]) -> Cmd {
        self.call("EVAL", SOURCE, requests)
    }

    fn call(&self, command: &str, script: &str, requests: &[Request]) -> Cmd {
        let mut call = redis::cmd(command);
        call.arg(script).arg(1 + requests.len()).arg(&self.state);
        for request in requests {
            call.arg(redis_key(&request.increment.counter));
        }
        call.arg(self.term.millis())
            .arg(self.term.memory)
            .arg(BYTES_PER_KEY);
        for Request { increment, .. } in requests {
            let field = increment
                .key
                .as_ref()
                .map(|key| key.field(&increment.counter));
            call.arg(field.unwrap_or_default());
        }
        for Request { increment, .. } in requests {
            call.arg(increment.delta);
        }
        call
    }

    /// Reads the reply to a call with these requests.
    pub(super) fn read(&self, requests: &[Request], value: &Value) -> Said {
        match value {
            Value::ServerError(error) if error.code() == "NOSCRIPT" => Said::Unknown,
            Value::ServerError(error) => Said::Refused(refused(error)),
            Value::Array(answers) => self
                .answers(requests, answers)
                .unwrap_or_else(|| Said::Refused(nonsense())),
            _ => Said::Refused(nonsense()),
        }
    }

    fn answers(&self, requests: &[Request], answers: &[Value]) -> Option<Said> {
        let [bytes, answers @ ..] = answers else {
            return None;
        };
        let bytes = text(bytes)?.parse().ok()?;
        if answers.len() != requests.len() {
            return None;
        }
        let read = |(request, answer): (&Request, &Value)| {
            let increment = &request.increment;
            self.answer(&increment.counter, increment.delta, text(answer)?)
        };
        let answers = requests.iter().zip(answers).map(read);
        Some(Said::Answers(answers.collect::<Option<_>>()?, bytes))
    }

    /// The answer to one item; `None` if it is none.
    fn answer(
        &self,
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
            return Some(Err(StoreError::KeysFull {
                origin: self.origin,
                memory: self.term.memory,
            }));
        }
        let Record { value, at, .. } = record(text)?;
        Some(Ok(Counted {
            value,
            at,
            replayed: false,
        }))
    }
}

/// `VALUE DELTA TIME`, as the script remembers it.
fn record(text: &str) -> Option<Record> {
    let mut numbers = text.split(' ').map(|n| reply::integer(n.as_bytes()));
    let record = Record {
        value: numbers.next()??,
        delta: numbers.next()??,
        at: UnixMillis(numbers.next()??),
    };
    numbers.next().is_none().then_some(record)
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        _ => None,
    }
}

fn refused(error: &ServerError) -> StoreError {
    let (code, details) = (error.code(), error.details().unwrap_or_default());
    let why = format!("Redis refused: {code} {details}");
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
