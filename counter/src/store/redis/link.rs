//! The connection to Redis: kept up in the background, lent to whoever has a command, never used for one twice.
//!
//! `Up` while a connection is there that answered PING; `Down` with the reason otherwise, and then calls fail at once. A command
//! that takes too long takes the connection down with it: on a connection that hangs, nothing else would be answered either.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, Pipeline, RedisError, Value};
use service_kit::{Readiness, ReadinessGuard};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::Target;
use crate::store::StoreError;

/// Time to connect, log in and be answered.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Pauses between attempts: doubling, with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that lived this long has earned short pauses again.
const SETTLED: Duration = Duration::from_secs(5);
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);

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
}

impl Link {
    pub(super) fn start(target: Target, timeout: Duration, readiness: Readiness) -> Self {
        let lender = Lender(Arc::new(ArcSwap::from_pointee(State::Down(
            "not connected yet".into(),
        ))));
        // Taken here and not in the task, which may run later than somebody asks.
        let guard = readiness.guard(format!("{target:?}"));
        let mut keeper = JoinSet::new();
        keeper.spawn(keep_up(target, timeout, lender.clone(), readiness, guard));
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

    fn noticed<T>(&self, result: Result<T, RedisError>) -> Result<T, RedisError> {
        if result.as_ref().is_err_and(RedisError::is_timeout) {
            self.hangs.notify_one();
        }
        result
    }
}

/// Connects, waits for the connection's end, connects again.
async fn keep_up(
    target: Target,
    command_timeout: Duration,
    lender: Lender,
    readiness: Readiness,
    guard: ReadinessGuard,
) {
    let address = format!("{target:?}");
    let mut pause = FIRST_PAUSE;
    let mut waiting = Some(guard);
    let mut told = None;
    loop {
        let why = match timeout(CONNECT_TIMEOUT, connect(&target, command_timeout)).await {
            Ok(Ok(connected)) => {
                tracing::info!(store = %address, "connected");
                let since = Instant::now();
                let lent = connected.lend(&lender);
                // Only now: whoever hears that it is ready may call at once.
                (waiting, told) = (None, None);
                let why = lent.ended().await;
                if since.elapsed() >= SETTLED {
                    pause = FIRST_PAUSE;
                }
                why.to_owned()
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {CONNECT_TIMEOUT:?}"),
        };
        lender.down(&why);
        let guard = waiting.get_or_insert_with(|| readiness.guard(&*address));
        guard.rename(format!("{address}: {why}"));
        if told.as_ref() != Some(&why) {
            tracing::warn!(store = %address, %why, "Redis is away; trying again until it is back");
            told = Some(why);
        }
        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// A connection with the task that drives it.
struct Connected {
    connection: MultiplexedConnection,
    driver: JoinSet<()>,
}

/// What tells the end of a connection that was lent out. What is in flight then fails, because the driver ends.
struct Lent {
    driver: JoinSet<()>,
    hangs: Arc<Notify>,
}

impl Connected {
    fn lend(self, lender: &Lender) -> Lent {
        let hangs = Arc::new(Notify::new());
        let lease = Lease {
            connection: self.connection,
            hangs: hangs.clone(),
        };
        lender.0.store(Arc::new(State::Up(lease)));
        Lent {
            driver: self.driver,
            hangs,
        }
    }
}

impl Lent {
    /// Returns when the connection breaks or hangs, with which it was.
    async fn ended(mut self) -> &'static str {
        tokio::select! {
            _ = self.driver.join_next() => "the connection broke",
            () = self.hangs.notified() => "a command was not answered in time",
        }
    }
}

async fn connect(target: &Target, command_timeout: Duration) -> Result<Connected, RedisError> {
    let stream = TcpStream::connect(target.address()).await?;
    set_options(&stream)?;
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(command_timeout));
    let (mut connection, drive) =
        MultiplexedConnection::new_with_config(target.0.redis_settings(), stream, config).await?;
    let mut driver = JoinSet::new();
    driver.spawn(drive);
    // Refused while Redis loads its data or wants a password.
    redis::cmd("PING").exec_async(&mut connection).await?;
    Ok(Connected { connection, driver })
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(TCP_KEEPALIVE))
}
