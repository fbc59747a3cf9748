//! The one thread that writes: takes what waits, applies it as one batch, syncs once, answers all.
//!
//! When a write fails, nobody knows how much of it reached the disk: the batch is answered "outcome unknown", the tables are
//! closed and opened again (which replays or cuts off what is torn) until that works, and increments are refused meanwhile.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use service_kit::{Readiness, ReadinessGuard};
use tokio::sync::{oneshot, watch};

use super::engine::{Changes, Engine, plain};
use super::events::{Cursor, Entry, StoredEvent};
use super::{Events, closed};
use crate::id::CounterId;
use crate::store::{Counted, Increment, StoreError, UnixMillis};

/// Increments in one batch at most.
const MAX_BATCH: usize = 2048;
/// Event records that one batch removes at most, so that a long trim does not hold up increments.
const MAX_TRIM: usize = 512;
/// How often a broken store is opened again.
const REOPEN_INTERVAL: Duration = Duration::from_millis(500);

type Answer = Result<Counted, StoreError>;

/// An increment and who waits for it.
pub(super) struct Request {
    pub(super) increment: Increment,
    pub(super) reply: oneshot::Sender<Answer>,
}

/// What the writer is told.
pub(super) enum Command {
    Increment(Request),
    /// Look at the trim mark.
    Trim,
    Close,
}

/// What the writer shares with readers.
pub(super) struct Shared {
    /// None while the store is broken, and after it was closed.
    engine: ArcSwapOption<Engine>,
    pub(super) last_event: watch::Sender<u64>,
    pub(super) closed: watch::Sender<bool>,
    trim_mark: AtomicU64,
    /// The log's identity.
    pub(super) log: u64,
}

impl Shared {
    pub(super) fn new(engine: Engine, cursor: Cursor) -> Self {
        Self {
            engine: ArcSwapOption::from_pointee(engine),
            last_event: watch::Sender::new(cursor.last),
            closed: watch::Sender::new(false),
            trim_mark: AtomicU64::new(cursor.trimmed),
            log: cursor.log,
        }
    }

    pub(super) fn engine(&self) -> Result<Arc<Engine>, StoreError> {
        self.engine.load_full().ok_or_else(|| {
            if *self.closed.borrow() {
                return closed();
            }
            StoreError::Unavailable(
                "the embedded store is being repaired after a failed write".into(),
            )
        })
    }

    pub(super) fn trimmed(&self) -> u64 {
        self.trim_mark.load(Ordering::Relaxed)
    }

    pub(super) fn trim_up_to(&self, sequence: u64) {
        self.trim_mark.fetch_max(sequence, Ordering::Relaxed);
    }
}

/// The writer.
pub(super) struct Writer {
    directory: PathBuf,
    commands: Receiver<Command>,
    shared: Arc<Shared>,
    events: Events,
    cursor: Cursor,
    readiness: Readiness,
    state: State,
}

enum State {
    Working(Arc<Engine>),
    /// With the tables that failed until the last reader has let go of them.
    Broken {
        old: Option<Arc<Engine>>,
        why: Arc<str>,
        guard: ReadinessGuard,
    },
}

impl Writer {
    pub(super) fn new(
        directory: PathBuf,
        commands: Receiver<Command>,
        shared: Arc<Shared>,
        events: Events,
        cursor: Cursor,
        readiness: Readiness,
    ) -> Self {
        let state = match shared.engine.load_full() {
            Some(engine) => State::Working(engine),
            None => State::Broken {
                old: None,
                why: "not opened".into(),
                guard: readiness.guard("embedded store"),
            },
        };
        Self {
            directory,
            commands,
            shared,
            events,
            cursor,
            readiness,
            state,
        }
    }

    pub(super) fn run(mut self) {
        let mut requests = Vec::new();
        loop {
            let go_on = self.take(&mut requests);
            self.handle(&mut requests);
            if !go_on {
                break;
            }
        }
        self.shared.closed.send_replace(true);
        self.shared.engine.store(None);
    }

    /// Waits for something to do, then takes all that waits. False when the store closes.
    fn take(&mut self, requests: &mut Vec<Request>) -> bool {
        let mut next = match self.state {
            State::Working(_) if self.trim_is_due() => self.commands.try_recv().ok(),
            State::Working(_) => self.commands.recv().ok().or(Some(Command::Close)),
            State::Broken { .. } => match self.commands.recv_timeout(REOPEN_INTERVAL) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Command::Close),
            },
        };
        while let Some(command) = next {
            match command {
                // Nobody waits for it any more: then it must not be counted either.
                Command::Increment(request) if request.reply.is_closed() => {}
                Command::Increment(request) => requests.push(request),
                Command::Trim => {}
                Command::Close => return false,
            }
            if requests.len() >= MAX_BATCH {
                break;
            }
            next = self.commands.try_recv().ok();
        }
        true
    }

    fn handle(&mut self, requests: &mut Vec<Request>) {
        match &self.state {
            State::Working(engine) => {
                let engine = engine.clone();
                self.write(&engine, requests);
            }
            State::Broken { why, .. } => {
                let error = StoreError::Unavailable(
                    format!("the embedded store cannot be written: {why}").into(),
                );
                for request in requests.drain(..) {
                    // Whoever hung up does not need an answer; likewise below.
                    let _ = request.reply.send(Err(error.clone()));
                }
                self.reopen();
            }
        }
    }

    /// One batch: apply, sync, answer.
    fn write(&mut self, engine: &Arc<Engine>, requests: &mut Vec<Request>) {
        let now = UnixMillis::now();
        let mut batch = Batch::new(engine, now);
        let keep_events = self.events == Events::On;
        let mut answers: Vec<_> = requests
            .iter()
            .map(|request| batch.apply(&request.increment, keep_events))
            .collect();
        let (mut changes, stored) = batch.into_changes();
        let mut cursor = self.cursor;
        if !stored.is_empty() {
            let entry = Entry {
                log: cursor.log,
                first: cursor.last + 1,
                timestamp: now.0,
                events: stored,
            };
            cursor.last += entry.events.len() as u64;
            changes.add_entry(cursor.last, &entry);
        }
        self.trim(engine, &mut changes, &mut cursor);
        if cursor != self.cursor {
            changes.set_cursor(&cursor);
        }
        match changes.commit() {
            Ok(()) => {
                self.cursor = cursor;
                self.shared
                    .last_event
                    .send_if_modified(|last| std::mem::replace(last, cursor.last) != cursor.last);
            }
            Err(error) => {
                let why: Arc<str> = plain(&error).into();
                let failed = failure(&error, &why);
                answers
                    .iter_mut()
                    .filter(|answer| answer.is_ok())
                    .for_each(|answer| *answer = Err(failed.clone()));
                self.broke(why);
            }
        }
        for (request, answer) in requests.drain(..).zip(answers) {
            let _ = request.reply.send(answer);
        }
    }

    fn trim_is_due(&self) -> bool {
        self.shared
            .trim_mark
            .load(Ordering::Relaxed)
            .min(self.cursor.last)
            > self.cursor.trimmed
    }

    fn trim(&self, engine: &Engine, changes: &mut Changes<'_>, cursor: &mut Cursor) {
        if !self.trim_is_due() {
            return;
        }
        let mark = self
            .shared
            .trim_mark
            .load(Ordering::Relaxed)
            .min(self.cursor.last);
        match engine.entry_keys(cursor.trimmed + 1..=mark, MAX_TRIM) {
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
                self.shared
                    .trim_mark
                    .store(cursor.trimmed, Ordering::Relaxed);
            }
        }
    }

    fn broke(&mut self, why: Arc<str>) {
        tracing::error!(directory = %self.directory.display(), %why, "the embedded store failed; opening it again");
        let guard = self.readiness.guard(format!("embedded store: {why}"));
        self.shared.engine.store(None);
        let state = State::Broken {
            old: None,
            why,
            guard,
        };
        if let State::Working(engine) = std::mem::replace(&mut self.state, state)
            && let State::Broken { old, .. } = &mut self.state
        {
            *old = Some(engine);
        }
    }

    fn reopen(&mut self) {
        let State::Broken { old, why, guard } = &mut self.state else {
            return;
        };
        // The directory is locked until the last reader has let go and the old tables are closed.
        if let Some(engine) = old.take() {
            match Arc::try_unwrap(engine) {
                Ok(engine) => drop(engine),
                Err(engine) => {
                    *old = Some(engine);
                    return;
                }
            }
        }
        let opened =
            Engine::open(&self.directory).and_then(|engine| Ok((engine.cursor()?, engine)));
        match opened {
            Ok((cursor, engine)) => {
                tracing::info!(directory = %self.directory.display(), "the embedded store works again");
                let engine = Arc::new(engine);
                self.cursor = cursor;
                self.shared.last_event.send_replace(cursor.last);
                self.shared.engine.store(Some(engine.clone()));
                self.state = State::Working(engine);
            }
            Err(error) => {
                *why = error.to_string().into();
                guard.rename(format!("embedded store: {why}"));
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

/// Increments applied in order, on top of what is stored.
struct Batch<'a, 'r> {
    engine: &'a Engine,
    now: UnixMillis,
    values: HashMap<&'r CounterId, i64>,
    events: Vec<StoredEvent>,
}

impl<'a, 'r> Batch<'a, 'r> {
    fn new(engine: &'a Engine, now: UnixMillis) -> Self {
        Self {
            engine,
            now,
            values: HashMap::new(),
            events: Vec::new(),
        }
    }

    fn apply(&mut self, increment: &'r Increment, keep_event: bool) -> Answer {
        let Increment { counter, delta } = increment;
        let current = match self.values.get(counter) {
            Some(value) => *value,
            None => self.engine.count(counter)?,
        };
        let value = current
            .checked_add(*delta)
            .ok_or_else(|| StoreError::Overflow {
                key: counter.key().into(),
                delta: *delta,
            })?;
        self.values.insert(counter, value);
        if keep_event {
            self.events.push(StoredEvent {
                key: counter.key().to_owned(),
                delta: *delta,
                new_value: value,
            });
        }
        Ok(Counted {
            value,
            at: self.now,
        })
    }

    /// Each counter is written once, however often it was incremented.
    fn into_changes(self) -> (Changes<'a>, Vec<StoredEvent>) {
        let mut changes = self.engine.changes();
        for (counter, value) in &self.values {
            changes.set_count(counter, *value);
        }
        (changes, self.events)
    }
}
