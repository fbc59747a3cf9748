//! The open tables and where they stand, written one batch at a time: apply, sync, answer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::OpenError;
use super::batch::{Batch, Outcome, Room};
use super::engine::{Changes, Engine, plain};
use super::events::{Cursor, Entry};
use super::keys::Keys;
use super::writer::{Request, Shared};
use crate::idempotency::Terms;
use crate::store::{StoreError, UnixMillis};

/// Event records that one batch removes at most, so that a long trim does not hold up increments.
const MAX_TRIM: usize = 512;

/// What the writer holds while the store works.
pub(super) struct Tables {
    engine: Arc<Engine>,
    cursor: Cursor,
    keys: Keys,
}

impl Tables {
    pub(super) fn open(directory: &Path, terms: &Terms) -> Result<Self, OpenError> {
        let engine = Engine::open(directory)?;
        let cursor = engine.cursor()?;
        let keys = Keys::open(&engine, terms)
            .map_err(|error| OpenError::Engine(PathBuf::from(directory), error))?;
        Ok(Self {
            engine: Arc::new(engine),
            cursor,
            keys,
        })
    }

    pub(super) fn engine(&self) -> Arc<Engine> {
        self.engine.clone()
    }

    pub(super) fn cursor(&self) -> Cursor {
        self.cursor
    }

    pub(super) fn key_bytes(&self) -> [u64; 2] {
        self.keys.bytes()
    }

    /// The engine alone, when the tables are given up.
    pub(super) fn into_engine(self) -> Arc<Engine> {
        self.engine
    }

    /// Writes one batch and answers it. An error says why the tables cannot be written any more.
    pub(super) fn write(
        &mut self,
        shared: &Shared,
        now: UnixMillis,
        events: Option<u64>,
        requests: &mut Vec<Request>,
    ) -> Result<(), Arc<str>> {
        self.turn_keys(requests, now);
        let room = events.map(|limit| Room {
            limit,
            left: limit.saturating_sub(self.cursor.last - self.cursor.trimmed),
        });
        let mut batch = Batch::new(&self.engine, &self.keys, now, room);
        let mut answers: Vec<_> = requests
            .iter()
            .map(|request| batch.apply(&request.increment))
            .collect();
        let Outcome {
            mut changes,
            events,
            states,
        } = batch.finish();
        let mut cursor = self.cursor;
        if !events.is_empty() {
            let entry = Entry {
                log: cursor.log,
                first: cursor.last + 1,
                timestamp: now.0,
                events,
            };
            cursor.last += entry.events.len() as u64;
            changes.add_entry(cursor.last, &entry);
        }
        self.trim(shared, &mut changes, &mut cursor);
        if cursor != self.cursor {
            changes.set_cursor(&cursor);
        }
        let written = match changes.commit() {
            Ok(()) => {
                self.cursor = cursor;
                self.keys.set_states(states);
                shared.wrote(cursor, self.keys.bytes());
                Ok(())
            }
            Err(error) => {
                let why: Arc<str> = plain(&error).into();
                // Repeats too: their first answer may be in this very batch.
                let failed = failure(&error, &why);
                answers
                    .iter_mut()
                    .filter(|answer| answer.is_ok())
                    .for_each(|answer| *answer = Err(failed.clone()));
                Err(why)
            }
        };
        for (request, answer) in requests.drain(..).zip(answers) {
            // Whoever hung up does not need an answer; likewise below.
            let _ = request.reply.send(answer);
        }
        written
    }

    /// Where it is time to, starts new generations for the keys that are about to come. Requests that need one that cannot be
    /// made are refused.
    fn turn_keys(&mut self, requests: &mut Vec<Request>, now: UnixMillis) {
        for pool in self.keys.pools_mut() {
            let origin = pool.origin();
            let used = |request: &Request| {
                let key = request.increment.key.as_ref();
                key.is_some_and(|key| key.origin() == origin)
            };
            if !requests.iter().any(used) {
                continue;
            }
            if let Err(error) = pool.turn(&self.engine, now) {
                for request in requests.extract_if(.., |request| used(request)) {
                    let _ = request.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Drops keys past their retention of pools that nobody uses.
    pub(super) fn forget(&mut self, shared: &Shared, now: UnixMillis) {
        if let Err(error) = self.keys.forget(&self.engine, now) {
            tracing::warn!(%error, "idempotency keys cannot be dropped now");
        }
        shared.wrote(self.cursor, self.keys.bytes());
    }

    pub(super) fn trim_is_due(&self, shared: &Shared) -> bool {
        shared.trimmed().min(self.cursor.last) > self.cursor.trimmed
    }

    fn trim(&self, shared: &Shared, changes: &mut Changes<'_>, cursor: &mut Cursor) {
        if !self.trim_is_due(shared) {
            return;
        }
        let mark = shared.trimmed().min(self.cursor.last);
        match self.engine.entry_keys(cursor.trimmed + 1..=mark, MAX_TRIM) {
            Ok(keys) => {
                keys.iter().for_each(|last| changes.remove_entry(*last));
                // Fewer than asked for: the rest of the range is part of a record that stays for now.
                let through = if keys.len() < MAX_TRIM {
                    Some(mark)
                } else {
                    keys.last().copied()
                };
                cursor.trimmed = through.unwrap_or(mark);
            }
            Err(error) => {
                tracing::warn!(%error, "events cannot be trimmed now");
                // Tried again at the next call, rather than for ever.
                shared.untrim(cursor.trimmed);
            }
        }
    }
}

/// A failed commit: known not to have happened only when the engine refused it before it wrote anything.
fn failure(error: &fjall::Error, why: &Arc<str>) -> StoreError {
    let text: Arc<str> = format!("the embedded store cannot be written: {why}").into();
    match error {
        fjall::Error::Poisoned => StoreError::Unavailable(text),
        _ => StoreError::OutcomeUnknown(text),
    }
}
