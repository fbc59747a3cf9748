//! The connection to a store: kept up in the background, lent to whoever has a question.
//!
//! While there is none, who asks is told so at once. A question that is not answered in time takes the
//! connection down, because nothing else would be answered on it either. Going away and coming back are one line
//! in the log each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use mesh_config::model::RedisUrl;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, IntoConnectionInfo as _, RedisError, Script};
use service_kit::{Readiness, ReadinessGuard};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Time to connect, log in and load the script.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Pauses between attempts: doubling, with jitter.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that lived this long has earned short pauses again.
const SETTLED: Duration = Duration::from_secs(5);

/// Keeps the connection up as long as it lives.
pub(super) struct Link {
    shared: Arc<Shared>,
    /// One task; it ends when this is dropped.
    _keeper: JoinSet<()>,
}

struct Shared {
    name: String,
    lease: ArcSwapOption<Lease>,
    /// Whether the log knows that it is away.
    away: AtomicBool,
}

/// A connection that was up when it was lent.
#[derive(Clone)]
pub(super) struct Lease {
    pub(super) connection: MultiplexedConnection,
    /// Told when the connection turns out to hang.
    pub(super) hangs: Arc<Notify>,
}

// === impl Link ===

impl Link {
    pub(super) fn start(
        url: &RedisUrl,
        script: Arc<Script>,
        runtime: &Handle,
        readiness: &Readiness,
    ) -> Self {
        let shared = Arc::new(Shared {
            name: url.to_string(),
            lease: ArcSwapOption::empty(),
            away: AtomicBool::new(false),
        });
        // Ready once it is known whether it is there: a gateway that has to do without is ready too.
        let guard = readiness.guard(format!("an answer of the rate limit store {url}"));
        let keep = Keeper {
            shared: shared.clone(),
            url: url.clone(),
            script,
        };
        let mut keeper = JoinSet::new();
        keeper.spawn_on(keep.keep_up(guard), runtime);
        Self {
            shared,
            _keeper: keeper,
        }
    }

    /// The connection, if there is one.
    pub(super) fn lease(&self) -> Option<Lease> {
        self.shared.lease.load().as_deref().cloned()
    }

    pub(super) fn name(&self) -> &str {
        &self.shared.name
    }

    pub(super) fn is_up(&self) -> bool {
        self.shared.lease.load().is_some() && !self.shared.away.load(Relaxed)
    }

    pub(super) fn answered(&self) {
        self.shared.back();
    }

    pub(super) fn away(&self, why: &str) {
        self.shared.away(why);
    }
}

// === impl Shared ===

impl Shared {
    fn away(&self, why: &str) {
        if !self.away.swap(true, Relaxed) {
            tracing::warn!(
                store = self.name,
                why,
                "the rate limit store is away: `when_away` decides until it is back"
            );
        }
    }

    fn back(&self) {
        if self.away.load(Relaxed) && self.away.swap(false, Relaxed) {
            tracing::info!(store = self.name, "the rate limit store is back");
        }
    }
}

/// What the connection is made of.
struct Keeper {
    shared: Arc<Shared>,
    url: RedisUrl,
    script: Arc<Script>,
}

/// A connection with the task that drives it.
struct Connected {
    connection: MultiplexedConnection,
    driver: JoinSet<()>,
}

// === impl Keeper ===

impl Keeper {
    /// Connects, waits for the connection's end, connects again. `first` is dropped after the first attempt.
    async fn keep_up(self, first: ReadinessGuard) {
        let mut first = Some(first);
        let mut pause = FIRST_PAUSE;
        loop {
            let connected = timeout(CONNECT_TIMEOUT, self.connect()).await;
            let why = match connected {
                Ok(Ok(connected)) => {
                    let since = Instant::now();
                    let why = connected.serve(&self.shared, &mut first).await;
                    if since.elapsed() >= SETTLED {
                        pause = FIRST_PAUSE;
                    }
                    why.to_owned()
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {CONNECT_TIMEOUT:?}"),
            };
            self.shared.lease.store(None);
            self.shared.away(&why);
            first = None;
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    async fn connect(&self) -> Result<Connected, RedisError> {
        let info = self.url.expose().into_connection_info()?;
        let stream = TcpStream::connect(self.url.address().to_string()).await?;
        stream.set_nodelay(true)?;
        // Every question has its own patience.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let (mut connection, drive) =
            MultiplexedConnection::new_with_config(info.redis_settings(), stream, config).await?;
        let mut driver = JoinSet::new();
        driver.spawn(drive);
        // Refused while Redis loads its data or wants a password. Without it, questions load it themselves.
        self.script
            .prepare_invoke()
            .load_async(&mut connection)
            .await?;
        Ok(Connected { connection, driver })
    }
}

// === impl Connected ===

impl Connected {
    /// Lends the connection out until it breaks or hangs. What is asked on it then fails, because the driver ends.
    async fn serve(mut self, shared: &Shared, first: &mut Option<ReadinessGuard>) -> &'static str {
        let hangs = Arc::new(Notify::new());
        let lease = Lease {
            connection: self.connection,
            hangs: hangs.clone(),
        };
        shared.lease.store(Some(Arc::new(lease)));
        shared.back();
        *first = None;
        tokio::select! {
            _ = self.driver.join_next() => "the connection broke",
            () = hangs.notified() => "it does not answer in time",
        }
    }
}
