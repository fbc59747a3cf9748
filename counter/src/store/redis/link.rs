//! The connection to a server of Redis: kept up in the background, lent to whoever has a command, never used for one twice.
//!
//! `Up` while a connection is there that answered PING; `Down` with the reason otherwise, and then calls fail at once. A command
//! that takes too long takes the connection down with it: on a connection that hangs, nothing else would be answered either. So
//! does one that a replica refused where there may be another primary.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, RedisError, Value};
use service_kit::{Readiness, ReadinessGuard};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::connect::{Connected, Seek};
use super::reply;
use super::script::ServerScript;
use crate::store::StoreError;

/// Time to find the server, connect, log in and be answered.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Pauses between attempts: doubling, with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that lived this long has earned short pauses again.
const SETTLED: Duration = Duration::from_secs(5);

/// Keeps the connection up as long as it lives.
pub(super) struct Link {
    lender: Lender,
    /// One task; it ends when this is dropped.
    _keeper: JoinSet<()>,
}

/// Lends the connection.
#[derive(Clone)]
pub(super) struct Lender(Arc<ArcSwap<State>>);

enum State {
    Up(Lease),
    Down(Arc<str>),
}

/// A connection that was up when it was lent.
#[derive(Clone)]
pub(super) struct Lease {
    connection: MultiplexedConnection,
    /// Told when the connection turns out to hang.
    hangs: Arc<Notify>,
    /// Told when the server refused a write because it is a replica.
    demoted: Arc<Notify>,
    /// Tells this history of data from any other; empty while it is not known.
    server: Arc<ArcSwap<String>>,
}

impl Link {
    pub(super) fn start(seek: Seek, timeout: Duration, readiness: Readiness) -> Self {
        let lender = Lender(Arc::new(ArcSwap::from_pointee(State::Down(
            "not connected yet".into(),
        ))));
        // Taken here and not in the task, which may run later than somebody asks.
        let guard = readiness.guard(seek.to_string());
        let mut keeper = JoinSet::new();
        keeper.spawn(keep_up(seek, timeout, lender.clone(), readiness, guard));
        Self {
            lender,
            _keeper: keeper,
        }
    }

    pub(super) fn lender(&self) -> Lender {
        self.lender.clone()
    }
}

impl Lender {
    /// The connection, or why there is none.
    pub(super) fn lease(&self) -> Result<Lease, StoreError> {
        match &**self.0.load() {
            State::Up(lease) => Ok(lease.clone()),
            State::Down(why) => Err(StoreError::Unavailable(
                format!("Redis is away: {why}").into(),
            )),
        }
    }

    fn down(&self, why: &str) {
        self.0.store(Arc::new(State::Down(why.into())));
    }
}

impl Lease {
    /// One command that changes nothing.
    pub(super) async fn read(&mut self, command: &Cmd) -> Result<Value, StoreError> {
        let result = self.connection.send_packed_command(command).await;
        self.noticed(result).map_err(|error| {
            StoreError::Unavailable(format!("Redis did not answer: {error}").into())
        })
    }

    /// Commands that change nothing, in one round trip.
    pub(super) async fn read_all(&mut self, commands: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let result = self
            .connection
            .send_packed_commands(commands, 0, commands.len())
            .await;
        self.noticed(result).map_err(|error| {
            StoreError::Unavailable(format!("Redis did not answer: {error}").into())
        })
    }

    /// Commands that change something, in one round trip: an error leaves open which of them were carried out.
    pub(super) async fn write_all(
        &mut self,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        let result = self
            .connection
            .send_packed_commands(commands, 0, commands.len())
            .await;
        self.noticed(result).map_err(|error| {
            StoreError::OutcomeUnknown(format!("Redis did not answer: {error}").into())
        })
    }

    /// A script; an error leaves open whether it was carried out.
    pub(super) async fn run(
        &mut self,
        script: &ServerScript,
        keys: &[&str],
        arguments: &[&str],
    ) -> Result<Value, StoreError> {
        let call = |command: &str, script: &str| {
            let mut call = redis::cmd(command);
            call.arg(script).arg(keys.len()).arg(keys).arg(arguments);
            call
        };
        let value = self.read(&call("EVALSHA", &script.hash)).await?;
        let value = match value {
            Value::ServerError(error) if error.code() == "NOSCRIPT" => {
                self.read(&call("EVAL", script.source)).await?
            }
            value => value,
        };
        match value {
            Value::ServerError(error) => Err(reply::refused(keys.first().unwrap_or(&""), &error)),
            value => Ok(value),
        }
    }

    /// Which history of data the server has: changes when it starts, and when another one takes over.
    pub(super) fn server(&self) -> Arc<String> {
        self.server.load_full()
    }

    /// Takes note of what the server refused.
    pub(super) fn told(&self, error: &StoreError) {
        if reply::was_refused_with(error, "READONLY") {
            // Whatever is written next is written to another history.
            self.server.store(Arc::default());
            self.demoted.notify_one();
        }
    }

    fn noticed<T>(&self, result: Result<T, RedisError>) -> Result<T, RedisError> {
        if result.as_ref().is_err_and(RedisError::is_timeout) {
            self.hangs.notify_one();
        }
        result
    }
}

/// Connects, waits for the connection's end, connects again.
async fn keep_up(
    seek: Seek,
    command_timeout: Duration,
    lender: Lender,
    readiness: Readiness,
    guard: ReadinessGuard,
) {
    let name = seek.to_string();
    let mut pause = FIRST_PAUSE;
    let mut waiting = Some(guard);
    let mut told = None;
    loop {
        let why = match timeout(CONNECT_TIMEOUT, seek.connect(command_timeout)).await {
            Ok(Ok(connected)) => {
                tracing::info!(store = %name, server = %connected.node, "connected");
                let since = Instant::now();
                let lent = lend(connected, &lender);
                // Only now: whoever hears that it is ready may call at once.
                (waiting, told) = (None, None);
                let why = lent.ended(&seek).await;
                if since.elapsed() >= SETTLED {
                    pause = FIRST_PAUSE;
                }
                why.to_owned()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {CONNECT_TIMEOUT:?}"),
        };
        lender.down(&why);
        let guard = waiting.get_or_insert_with(|| readiness.guard(&*name));
        guard.rename(format!("{name}: {why}"));
        if told.as_ref() != Some(&why) {
            tracing::warn!(store = %name, %why, "Redis is away; trying again until it is back");
            told = Some(why);
        }
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What tells the end of a connection that was lent out. What is in flight then fails, because the driver ends.
struct Lent {
    lease: Lease,
    driver: JoinSet<()>,
}

fn lend(connected: Connected, lender: &Lender) -> Lent {
    let lease = Lease {
        connection: connected.connection,
        hangs: Arc::default(),
        demoted: Arc::default(),
        server: Arc::new(ArcSwap::new(connected.server)),
    };
    lender.0.store(Arc::new(State::Up(lease.clone())));
    Lent {
        lease,
        driver: connected.driver,
    }
}

impl Lent {
    /// Returns when the connection breaks, hangs or leads to a replica, with which it was.
    async fn ended(mut self, seek: &Seek) -> &'static str {
        loop {
            tokio::select! {
                _ = self.driver.join_next() => return "the connection broke",
                () = self.lease.hangs.notified() => return "a command was not answered in time",
                () = self.lease.demoted.notified() => {
                    if seek.may_find_another() {
                        return "it is a replica now (READONLY)";
                    }
                    if let Ok(role) = super::connect::role(&mut self.lease.connection).await {
                        self.lease.server.store(role.server);
                    }
                }
            }
        }
    }
}
