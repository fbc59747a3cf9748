//! The one thread that writes: takes what waits, has it written as one batch.
//!
//! When a write fails, nobody knows how much of it reached the disk: the batch is answered "outcome unknown", the tables are
//! closed and opened again (which replays or cuts off what is torn) until that works, and increments are refused meanwhile.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use service_kit::{Readiness, ReadinessGuard};
use tokio::sync::{oneshot, watch};

use super::batch::Answer;
use super::engine::Engine;
use super::events::Cursor;
use super::tables::Tables;
use super::{Events, closed};
use crate::idempotency::{Origin, Terms};
use crate::store::{Increment, StoreError, UnixMillis};

/// Increments in one batch at most.
const MAX_BATCH: usize = 2048;
/// How often a broken store is opened again.
const REOPEN_INTERVAL: Duration = Duration::from_millis(500);

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
    /// Look for idempotency keys past their retention.
    Forget,
    Close,
}

/// What the writer shares with readers.
pub(super) struct Shared {
    /// None while the store is broken, and after it was closed.
    engine: ArcSwapOption<Engine>,
    pub(super) last_event: watch::Sender<u64>,
    pub(super) closed: watch::Sender<bool>,
    trim_mark: AtomicU64,
    key_bytes: [AtomicU64; Origin::ALL.len()],
    /// The log's identity.
    pub(super) log: u64,
}

impl Shared {
    pub(super) fn new(tables: &Tables) -> Self {
        let cursor = tables.cursor();
        Self {
            engine: ArcSwapOption::new(Some(tables.engine())),
            last_event: watch::Sender::new(cursor.last),
            closed: watch::Sender::new(false),
            trim_mark: AtomicU64::new(cursor.trimmed),
            key_bytes: tables.key_bytes().map(AtomicU64::new),
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

    /// Gives up a trim: up to here it was done.
    pub(super) fn untrim(&self, trimmed: u64) {
        self.trim_mark.store(trimmed, Ordering::Relaxed);
    }

    pub(super) fn key_bytes(&self) -> [u64; Origin::ALL.len()] {
        self.key_bytes
            .each_ref()
            .map(|bytes| bytes.load(Ordering::Relaxed))
    }

    /// Tells where the tables stand now.
    pub(super) fn wrote(&self, cursor: Cursor, key_bytes: [u64; Origin::ALL.len()]) {
        self.last_event
            .send_if_modified(|last| std::mem::replace(last, cursor.last) != cursor.last);
        for (told, bytes) in self.key_bytes.iter().zip(key_bytes) {
            told.store(bytes, Ordering::Relaxed);
        }
    }
}

/// What a store is opened with.
pub(super) struct Place {
    pub(super) directory: PathBuf,
    pub(super) events: Events,
    pub(super) terms: Terms,
    pub(super) readiness: Readiness,
}

/// The writer.
pub(super) struct Writer {
    place: Place,
    commands: Receiver<Command>,
    shared: Arc<Shared>,
    state: State,
    forget: bool,
}

enum State {
    Working(Tables),
    /// With the tables that failed until the last reader has let go of them.
    Broken {
        old: Option<Arc<Engine>>,
        why: Arc<str>,
        guard: ReadinessGuard,
    },
}

impl Writer {
    pub(super) fn new(
        place: Place,
        commands: Receiver<Command>,
        shared: Arc<Shared>,
        tables: Tables,
    ) -> Self {
        Self {
            place,
            commands,
            shared,
            state: State::Working(tables),
            forget: false,
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
            State::Working(ref tables) if tables.trim_is_due(&self.shared) => {
                self.commands.try_recv().ok()
            }
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
                Command::Forget => self.forget = true,
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
        match &mut self.state {
            State::Working(tables) => {
                let now = UnixMillis::now();
                if std::mem::take(&mut self.forget) {
                    tables.forget(&self.shared, now);
                }
                let limit = self.place.events.limit();
                if let Err(why) = tables.write(&self.shared, now, limit, requests) {
                    self.broke(why);
                }
            }
            State::Broken { why, .. } => {
                let error = StoreError::Unavailable(
                    format!("the embedded store cannot be written: {why}").into(),
                );
                for request in requests.drain(..) {
                    // Whoever hung up does not need an answer.
                    let _ = request.reply.send(Err(error.clone()));
                }
                self.reopen();
            }
        }
    }

    fn broke(&mut self, why: Arc<str>) {
        tracing::error!(directory = %self.place.directory.display(), %why, "the embedded store failed; opening it again");
        let guard = self.place.readiness.guard(format!("embedded store: {why}"));
        self.shared.engine.store(None);
        let state = State::Broken {
            old: None,
            why,
            guard,
        };
        if let State::Working(tables) = std::mem::replace(&mut self.state, state)
            && let State::Broken { old, .. } = &mut self.state
        {
            *old = Some(tables.into_engine());
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
        match Tables::open(&self.place.directory, &self.place.terms) {
            Ok(tables) => {
                tracing::info!(directory = %self.place.directory.display(), "the embedded store works again");
                self.shared.wrote(tables.cursor(), tables.key_bytes());
                self.shared.engine.store(Some(tables.engine()));
                self.state = State::Working(tables);
            }
            Err(error) => {
                *why = error.to_string().into();
                guard.rename(format!("embedded store: {why}"));
            }
        }
    }
}
